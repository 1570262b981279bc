"""The pages: their blocks and what these mean, links, the table of contents."""

import collections
import os
import re
import urllib.parse

from ground import BEFORE

TEXT = {"json", "text", "toml", "python", "sql", "yaml", "ini", "hcl"}
# What a line of text mustn't begin with. `sealward` as a word of prose has no command behind it.
COMMAND = re.compile(
    r"\s*(\$ |# sealward |sudo |cargo |make [a-z]|curl -|docker |podman |kubectl |helm |aws [a-z]|terraform |systemctl "
    r"|journalctl |mdbook |python3? |pip |git [a-z]|apt(-get)? |openssl "
    r"|sealward (dev|serve|check|seal|open|inspect|reencrypt|verify|adopt|objects|catalog|token|completions)\b)"
)
MARK = re.compile(r"<!-- (before|file|add|not run): (.+?) -->$")
FENCE = re.compile(r"(```+|~~~+)\s*(\S*)(.*)$")
LINK = re.compile(r"\]\(([^)\s]+)\)")


class Block:
    """A fenced block, with the comments above it."""

    def __init__(self, page, line, language, marks, below):
        self.page, self.line, self.language, self.marks = page, line, language, marks
        # Whether nothing stands between it and the block before.
        self.below = below
        self.lines = []

    @property
    def text(self):
        return "".join(f"{line}\n" for line in self.lines)

    def of(self, kind):
        return [words for mark, words in self.marks if mark == kind]

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page, text):
    """The blocks of a page, and what is wrong with how it is written."""
    found, faults, marks = [], [], []
    block, fence, indent, bare = None, "", 0, False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        opening = FENCE.match(stripped)
        if block is not None:
            if opening and opening[1].startswith(fence) and not opening[2]:
                found.append(block)
                block, bare = None, True
            else:
                block.lines.append(line[indent:] if not line[:indent].strip() else line)
        elif opening:
            block = Block(page, number, opening[2], marks, bare and not marks)
            fence, indent, marks = opening[1], len(line) - len(line.lstrip()), []
        elif mark := MARK.match(stripped):
            marks.append((mark[1], mark[2]))
        elif stripped:
            faults += [f"{page}:{number - 1}: no block is below the comment `{kind}`" for kind, _ in marks]
            marks, bare = [], False
    if block is not None:
        faults.append(f"{block}: the block isn't closed")
    return found, faults


def judged(found):
    """What is wrong with the blocks of a page."""
    faults = []
    for at, block in enumerate(found):
        fault = lambda words, block=block: faults.append(f"{block}: {words}")
        shown = block.below and found[at - 1].language == "sh"
        if block.language == "console":
            if len(block.of("not run")) != 1:
                fault("a console block isn't run; say why above it: <!-- not run: WHY -->")
        elif block.language != "sh":
            if block.language not in TEXT:
                fault(f"`{block.language}` isn't one of sh, console, {', '.join(sorted(TEXT))}")
            commands = [line for line in block.lines if COMMAND.match(line)]
            if commands and not (shown or block.of("file") or block.of("add")):
                fault(f"a command that nothing runs: {commands[0].strip()}")
        if block.of("not run") and block.language != "console":
            fault("only a console block isn't run")
        if (block.of("file") or block.of("add")) and block.language in ("sh", "console"):
            fault("commands aren't a file")
        for name in block.of("before"):
            if name not in BEFORE:
                fault(f"nothing is known of `{name}`; there are {', '.join(sorted(BEFORE))}")
    return faults


def summary(root):
    """The pages in their order, from the root."""
    return LINK.findall((root / "book/SUMMARY.md").read_text())


def anchors(text):
    """Those of a page's headings, as mdBook and the forges make them."""
    found, fenced = {}, False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.startswith("#"):
            title = re.sub(r"\]\([^)]*\)|\[", "", line.lstrip("#").strip().lower())
            name = "".join("-" if c.isspace() else c for c in title if c.isalnum() or c.isspace() or c in "-_")
            count = found.get(name, 0)
            found[name] = count + 1
            yield f"{name}-{count}" if count else name


def prose(text):
    """A page without its blocks."""
    inside, kept = False, []
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def astray(root, pages, page, text):
    """Links that lead nowhere, here or in the book."""
    for target in re.findall(r"\{\{#include ([^}:]+)", text):
        if not (root / os.path.dirname(page) / target).is_file():
            yield f"{page}: {target} isn't there to be taken in"
    for target in LINK.findall(prose(text)):
        address = urllib.parse.urlsplit(target)
        if address.scheme or address.netloc:
            continue
        path = os.path.normpath(os.path.join(os.path.dirname(page), address.path)) if address.path else page
        if not (root / path).exists():
            yield f"{page}: {target} isn't there"
        elif (root / path).is_dir():
            yield f"{page}: {target} is a folder, which the book can't show: name a file of it"
        elif path.endswith(".md"):
            if path not in pages:
                yield f"{page}: {target} is no page of the book: book/SUMMARY.md has to name it"
            elif address.fragment and address.fragment not in anchors((root / path).read_text()):
                yield f"{page}: {target} names no heading"
        elif not (root / "book" / path).exists():
            yield f"{page}: {target} isn't in the book: link book/{path}, or its folder, to it"


def check(root):
    pages = summary(root)
    faults = [f"book/SUMMARY.md names {page} twice" for page in set(pages) if pages.count(page) > 1]
    there = sorted(str(path.relative_to(root)) for path in (root / "docs").rglob("*.md"))
    faults += [f"book/SUMMARY.md doesn't name {page}" for page in there if page not in pages]
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    shown = collections.Counter()
    for page in pages:
        if not (root / "book" / page).is_file():
            faults.append(f"book/SUMMARY.md: {page} isn't there")
            continue
        text = (root / page).read_text()
        found, wrong = blocks(page, text)
        faults += wrong + judged(found) + list(astray(root, pages, page, text))
        shown.update(why for block in found for why in block.of("not run"))
        for target in re.findall(r"`make ([a-z-]+)", prose(text)):
            if target not in targets:
                faults.append(f"{page}: the Makefile has no `make {target}`")
    for why, count in sorted(shown.items()):
        print(f"{count:3} not run: {why}")
        faults += [f"not run: {why}: there is no {test}" for test in re.findall(r"`(tests/[^`]+)`", why)
                   if not (root / test).exists()]
    print(f"{len(pages)} pages; {sum(shown.values())} blocks are shown only")
    return faults
