#!/usr/bin/env python3
"""Reads the book, runs every command in it, and looks through what mdBook made of it.

    book.py check ROOT                          marks, links, the table of contents; runs nothing
    book.py run ROOT SEALWARD PEERS [PAGE...]   every command of these pages, or of all
    book.py html ROOT BUILT                     pages, links and anchors of `mdbook build`, in BUILT

ROOT is a checkout: book/SUMMARY.md names the pages, and book/ links to what they link to. PEERS is
target/peers. Faults go to standard error, one a line, with exit code 1.

What a page's blocks mean:

    ```sh        is run as it stands, by `sh -e`, and has to succeed. A page is one shell in a new
                 folder that looks like a checkout. A ```json or ```text right below is what it
                 prints: JSON has to have its keys, its numbers, and the strings that have no digit;
                 a line of text is the beginning of one that is printed, digits within a word aside.
    ```console   is shown only. Above it stands `<!-- not run: WHY -->`.
    other        is text: no line of it may be a command.

and three more comments, each right above a block:

    <!-- before: NAME -->   what the page takes for given, one of BEFORE in ground.py
    <!-- file: NAME -->     the block is that file from here on, in the page's folder
    <!-- add: NAME -->      the block is added to it

What isn't as a reader has it:

- `sealward serve` and `sealward dev` come back once they serve; what they print is shown until then.
  With `&` they are what they are. All have to end well, at the latest with the page.
- `cargo run -- …` runs the binary at hand, and `cargo build` puts it where cargo would. Neither compiles.
- `journalctl` shows what the server of `before: journal` has logged.
- `make …` is read by make as far as to know what it would do (`make -n`): `make test` is what runs this.
- `sealward` commands amid prose aren't run: the program's help has to know their words and options.
- Each page has a network of its own, so that no port is anybody else's. Where that can't be had, the
  pages take turns on this machine's.
"""

import json
import pathlib
import sys

# No folder of compiled modules beside the sources.
sys.dont_write_bytecode = True

from built import html_faults
from ground import own_network
from pages import check, summary
from running import run, run_page


def main():
    arguments = sys.argv[1:]
    what, root = arguments[0], pathlib.Path(arguments[1]).resolve()
    if what == "check":
        faults = check(root)
    elif what == "html":
        faults = html_faults(root, pathlib.Path(arguments[2]).resolve())
    elif what == "run":
        sealward, peers = (pathlib.Path(path).absolute() for path in arguments[2:4])
        faults = run(root, sealward, peers, arguments[4:] or summary(root))
    else:
        sealward, peers = map(pathlib.Path, arguments[2:4])
        if arguments[5] == "apart" and not own_network():
            raise SystemExit("no network could be had")
        faults, ran = run_page(root, sealward, peers, arguments[4])
        print(json.dumps({"faults": faults, "ran": ran}))
        return
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
