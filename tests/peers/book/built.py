"""The book as mdBook made it."""

import html.parser
import os
import pathlib
import urllib.parse

from pages import summary


class Reader(html.parser.HTMLParser):
    """The ids of a page, where it leads, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.add(value)
            elif name == "href" and tag == "a":
                self.links.append(value)
            elif name in ("href", "src") and tag in ("link", "script", "img", "iframe"):
                self.loads.append(value)


def html_faults(root, built):
    faults = []
    for page in summary(root):
        if not (built / page).with_suffix(".html").is_file():
            faults.append(f"{page}: mdBook made no page of it")
    # What isn't found is anywhere, so its links are from the server's root.
    files = [path for path in built.rglob("*.html") if path.name != "404.html"]
    readers = {path: Reader(path.read_text()) for path in files}
    count = 0
    for path, reader in readers.items():
        name = path.relative_to(built)
        if "{{#" in path.read_text():
            faults.append(f"{name}: something wasn't taken in")
        for target in reader.links + reader.loads:
            address = urllib.parse.urlsplit(target)
            if address.scheme or address.netloc:
                if target in reader.loads:
                    faults.append(f"{name} loads {target}: the book has to be whole by itself")
                continue
            count += 1
            other = path if not address.path else path.parent / urllib.parse.unquote(address.path)
            other = pathlib.Path(os.path.normpath(other))
            if other.is_dir():
                other /= "index.html"
            if not other.is_file() or built not in other.parents:
                faults.append(f"{name}: {target} leads nowhere")
            elif address.fragment and other in readers:
                if urllib.parse.unquote(address.fragment) not in readers[other].ids:
                    faults.append(f"{name}: {target} names nothing there")
    print(f"{len(files)} pages, {count} links within the book")
    if count < 100:
        faults.append("the reader of links reads nothing")
    return faults
