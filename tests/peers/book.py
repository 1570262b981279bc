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

    <!-- before: NAME -->   what the page takes for given, one of BEFORE below
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

import collections
import concurrent.futures
import ctypes
import fcntl
import functools
import html.parser
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

PATIENCE = 120  # seconds for a page on a busy machine
PORTS = (8443, 9464)

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

# What an operator has: certificates, a keyring, a token in curl.conf, a catalogue; and two objects.
SITE = """
umask 077
certs/make-dev-certs.sh tls
cat >sealward.toml <<'END'
[[listener]]
bind = "0.0.0.0:8443"
tls = { source = { files = { cert = "tls/server.pem", key = "tls/server-key.pem" } } }

[keys]
provider = "local"
keyring = "keyring.json"

[[class]]
name = "records"
directory = "objects"

[[route]]
path = "/files/"
seal = { class = "records" }

[catalog]
url = "sqlite:catalog.db"

[identity]
tokens = "tokens.json"
END
key="$(head -c 32 /dev/urandom | base64)"
printf '{"namespace": "example", "name": "2026-11", "wrapping_key": "%s"}\\n' "$key" >keyring.json
token="$(sealward token new ops --config sealward.toml)"
printf 'cacert = "tls/ca.pem"\\nheader = "Authorization: Bearer %s"\\n' "$token" >curl.conf
mkdir plain
for name in one two; do echo "$name" >"plain/$name"; done
sealward adopt --config sealward.toml --class records --from plain
"""

# What a page takes for given, as sh. Its output isn't the page's.
BEFORE = {
    # Nothing runs any more.
    "stop": "book-stop",
    # `dev` runs, holds two objects, and this is its folder.
    "dev": """
sealward dev
echo 'hello, sealed world' | curl -sSf -K .sealward/curl.conf -T - https://127.0.0.1:8443/files/hello.txt
printf 'ward,bed\\n1\\n' | curl -sSf -K .sealward/curl.conf -T - https://127.0.0.1:8443/files/reports/2026-11.csv
cd .sealward
""",
    "site": SITE,
    # The same, and it serves; one of the objects was damaged, and asked for. What it logs is the
    # journal, where systemd has a word of its own first.
    "journal": f"""
{SITE}
printf '\\n[log]\\nformat = "json"\\n' >>sealward.toml
echo 'Started sealward.service - Sealward.' >"$BOOK/journal"
sealward serve --config sealward.toml 2>>"$BOOK/journal" &
until sealward health; do sleep 0.1; done
echo more >>objects/one.sealed
for name in one two; do curl -sS -K curl.conf "https://localhost:8443/files/$name"; done
""",
    # Some plain files, of which one is called `a`.
    "originals": "book-stop\nmkdir -p originals\nprintf 'hi\\n' >originals/a\nprintf 'ho\\n' >originals/b",
    # Nothing runs any more, and the catalogue's database is gone.
    "lost": "book-stop\nrm catalog.db*",
    # What stood in sealward.toml, and a catalogue.
    "catalogue": """
book-stop
printf '\\n[catalog]\\nurl = "sqlite:catalog.db"\\n' >>sealward.toml
sealward catalog rebuild --config sealward.toml --class records
""",
    # The official SDK's Python is the one at hand.
    "sdk": 'PATH="$BOOK_PEERS/esdk/bin:$PATH"',
    # A keyring, and a file to be sealed.
    "peers": "cp tests/fixtures/not-secret-keyring-primary.json k.json\nprintf 'hi\\n' >plain",
    # KMS and S3 by a stand-in, with a key, its alias, and a bucket: see `stand_in`.
    "aws": ":",
}

SEALWARD = r"""#!/bin/sh
case "$1" in serve | dev) ;; *) exec "$BOOK_SEALWARD" "$@" ;; esac
for word; do case "$word" in -h | --help) exec "$BOOK_SEALWARD" "$@" ;; esac; done
# A shell without job control gives what it runs by `&` this for its input, and the page itself none.
if [ /dev/stdin -ef /dev/null ]; then
    echo $$ >>"$BOOK/servers"
    exec "$BOOK_SEALWARD" "$@"
fi
said="$(mktemp "$BOOK/said.XXXXXX")"
"$BOOK_SEALWARD" "$@" >"$said" 2>"$said.log" </dev/null &
server=$!
echo "$server" >>"$BOOK/servers"
until grep -qs 'metrics  http' "$said" || grep -qs serving "$said.log"; do
    kill -0 "$server" 2>/dev/null || { cat "$said" "$said.log"; wait "$server"; exit; }
    sleep 0.05
done
cat "$said"
"""

STOP = r"""#!/bin/sh
touch "$BOOK/servers"
while read -r server; do kill "$server" 2>/dev/null || :; done <"$BOOK/servers"
while read -r server; do while kill -0 "$server" 2>/dev/null; do sleep 0.05; done; done <"$BOOK/servers"
"""

CARGO = r"""#!/bin/sh
command="$1"
case "$command" in
    run)
        while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
        shift
        exec sealward "$@" ;;
    build)
        folder=debug
        for word; do [ "$word" != --release ] || folder=release; done
        mkdir -p "target/$folder"
        ln -sf "$BOOK_SEALWARD" "target/$folder/sealward" ;;
    *) echo "the book's cargo doesn't know $command: tests/peers/book.py" >&2; exit 1 ;;
esac
"""

MAKE = r"""#!/bin/sh
unset MAKEFLAGS MAKELEVEL MFLAGS
PATH="$BOOK_PATH" exec make --dry-run --directory "$BOOK_ROOT" "$@" >/dev/null
"""


JOURNALCTL = r"""#!/bin/sh
exec cat "$BOOK/journal"
"""

PROGRAMS = {"sealward": SEALWARD, "book-stop": STOP, "cargo": CARGO, "make": MAKE, "journalctl": JOURNALCTL}


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


# --- The pages -----------------------------------------------------------------


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


# --- Running -------------------------------------------------------------------


def own_network():
    """A network of this process alone, with nothing but a loopback; whether that could be had."""
    new_user, new_network = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(new_network) != 0:
        if libc.unshare(new_user | new_network) != 0:
            return False
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    up, set_flags = 0x41, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", up))
    return True


def networks():
    """Whether pages can have networks of their own."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if own_network() else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def free(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lay_out(root, folder, peers, sealward):
    """A checkout that was built, and may be written to. No command reads the sources."""
    without = shutil.ignore_patterns("target", ".git", ".sealward", "__pycache__", "src", "benches", "fuzz", "book")
    shutil.copytree(root, folder, ignore=without)
    (folder / "target/debug").mkdir(parents=True)
    (folder / "target/peers").symlink_to(peers)
    (folder / "target/debug/sealward").symlink_to(sealward)


def stand_in(root, peers, environment):
    """moto, with what config/sealward-aws.toml names; and what tells the page where it is."""
    environment.update(
        AWS_ACCESS_KEY_ID="stand-in",
        AWS_SECRET_ACCESS_KEY="not-a-secret-at-all",
        AWS_REGION="eu-west-1",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
        AWS_EC2_METADATA_DISABLED="true",
    )
    admin = subprocess.Popen(
        [peers / "aws/bin/python", root / "tests/peers/aws_admin.py", "moto"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    environment["AWS_ENDPOINT_URL"] = json.loads(admin.stdout.readline())["endpoint"]

    def does(**job):
        admin.stdin.write(json.dumps(job) + "\n")
        admin.stdin.flush()
        answer = json.loads(admin.stdout.readline())
        assert answer["ok"], answer
        return answer

    key = does(do="key")["arn"]
    does(do="alias", name="alias/records", arn=key)
    does(do="bucket", name="records-bucket", encryption=key, versioned=True)
    environment["RECORDS_KEY"] = key
    return admin


def script(found):
    """All of a page as one script; each block's output goes to a file of its number."""
    lines = ["set -e"]
    for number, block in enumerate(found):
        lines.append(f'echo {number} >"$BOOK/at"')
        before = block.of("before")
        if before:
            lines.append('exec >"$BOOK/before" 2>&1')
            lines += [BEFORE[name].strip() for name in before]
        for kind, how in (("file", ">"), ("add", ">>")):
            lines += [f'cat "$BOOK/{number}.file" {how}{name}' for name in block.of(kind)]
        if block.language == "sh":
            lines.append(f'exec >"$BOOK/{number}" 2>&1\n{block.text}')
    return "\n".join(lines) + "\n"


def run_page(root, sealward, peers, page):
    """Runs a page's commands; what went wrong, and how many blocks ran."""
    found, faults = blocks(page, (root / page).read_text())
    faults += judged(found)
    ran = sum(block.language == "sh" for block in found)
    if faults or not ran:
        return faults, 0
    with tempfile.TemporaryDirectory(prefix="book-") as at:
        at = pathlib.Path(at)
        folder, book = at / "page", at / "book"
        (book / "bin").mkdir(parents=True)
        lay_out(root, folder, peers, sealward)
        for name, text in PROGRAMS.items():
            path = book / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        for number, block in enumerate(found):
            if block.language != "sh":
                (book / f"{number}.file").write_text(block.text)
        (book / "script").write_text(script(found))
        path = os.environ["PATH"]
        environment = {
            "PATH": f"{book}/bin:{path}:/usr/sbin:/sbin",
            "HOME": str(folder),
            "TMPDIR": str(at),
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "BOOK": str(book),
            "BOOK_PATH": path,
            "BOOK_ROOT": str(root),
            "BOOK_PEERS": str(peers),
            "BOOK_SEALWARD": str(sealward),
        }
        wants_aws = any("aws" in block.of("before") for block in found)
        admin = stand_in(root, peers, environment) if wants_aws else None
        try:
            faults += shell(found, folder, book, environment)
        finally:
            if admin is not None:
                admin.stdin.close()
                admin.wait()
    return faults, ran


def shell(found, folder, book, environment):
    """The page's script from its beginning to the end of all that it started."""
    # What loses its parent becomes ours, so that its end is seen.
    child_subreaper = 36
    ctypes.CDLL(None).prctl(child_subreaper, 1, 0, 0, 0)
    # Neither a terminal nor /dev/null: see SEALWARD.
    nothing = os.open(book / "nothing", os.O_RDONLY | os.O_CREAT)
    page = subprocess.Popen(
        ["sh", book / "script"], cwd=folder, env=environment, stdin=nothing,
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
    )
    os.close(nothing)
    late = threading.Timer(PATIENCE, os.killpg, (page.pid, signal.SIGKILL))
    late.start()
    ended = {}
    while page.pid not in ended:
        pid, status = os.waitpid(-1, 0)
        ended[pid] = os.waitstatus_to_exitcode(status)
    page.returncode = ended[page.pid]
    late.cancel()

    at = int((book / "at").read_text())
    faults = []
    if page.returncode != 0:
        output = book / str(at)
        words = output if output.exists() else book / "before"
        how = "was still at it" if page.returncode == -signal.SIGKILL else f"ended with {page.returncode}"
        faults.append(f"{found[at]}: {how}:\n{words.read_text(errors='replace')}")
    else:
        for number, block in enumerate(found):
            if block.below and found[number - 1].language == "sh" and block.language in ("json", "text"):
                got = (book / str(number - 1)).read_text(errors="replace")
                if not resembles(block, got):
                    faults.append(f"{block}: that isn't what is printed:\n{got}")

    servers = book / "servers"
    for pid in map(int, servers.read_text().split() if servers.exists() else ()):
        faults += ending(found[0].page, pid, ended)
    try:
        os.killpg(page.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return faults


def ending(page, pid, ended):
    """Ends a server that the page has left, and says where any ended badly."""
    until = time.monotonic() + PATIENCE
    try:
        os.kill(pid, signal.SIGTERM)
        while pid not in ended and time.monotonic() < until:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                ended[pid] = os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
    except (ProcessLookupError, ChildProcessError):
        pass  # its shell has seen its end
    code = ended.get(pid, 0)
    return [] if code == 0 else [f"{page}: a server ended with {code}"]


def resembles(block, got):
    """Whether `got` ends as the block shows it."""
    if block.language == "json":
        shown, printed = documents(block.text), documents(got)
        return len(printed) >= len(shown) > 0 and all(map(alike, shown, printed[-len(shown):]))
    lines = iter(got.splitlines())
    shown = [line for line in block.lines if line.strip(" …")]
    return bool(shown) and all(any(begins(line, other) for other in lines) for line in shown)


def documents(text):
    """The JSON objects in it."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        try:
            document, at = decoder.raw_decode(text, at)
            found.append(document)
        except json.JSONDecodeError:
            at += 1
    return found


def alike(shown, got):
    """Whether one is shown for the other: what has digits in it is another each time."""
    if isinstance(shown, dict):
        return isinstance(got, dict) and shown.keys() == got.keys() and all(alike(shown[k], got[k]) for k in shown)
    if isinstance(shown, list):
        return isinstance(got, list) and bool(shown) == bool(got) and all(map(alike, shown, got))
    if isinstance(shown, str) and re.search(r"[\d…]", shown):
        return isinstance(got, str)
    return shown == got


def begins(shown, got):
    """Whether the one line begins with the other's words, digits within a word aside; `…` is anything."""
    words = ([word if word.isdigit() else re.sub(r"\d+", "0", word) for word in line.split()] for line in (shown, got))
    shown, got = words
    return len(got) >= len(shown) and all("…" in word or word == other for word, other in zip(shown, got))


def unknown(root, sealward, pages):
    """Commands of the program amid prose, of which its help doesn't know a word or an option."""

    @functools.cache
    def asked(words):
        return subprocess.run([sealward, *words, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout

    faults, count = [], 0
    for page in pages:
        # A span may go on in the next line, and none in the next paragraph.
        for paragraph in prose((root / page).read_text()).split("\n\n"):
            for span in re.findall(r"`sealward\s+([^`]+)`", paragraph):
                path, shown = (), f"{page}: `sealward {' '.join(span.split())}`"
                for word in span.split():
                    commands = re.findall(r"^  ([a-z]+) ", asked(path).partition("\nCommands:\n")[2], re.MULTILINE)
                    if word.startswith("-"):
                        if not re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}(?![\w-])", asked(path)):
                            faults.append(f"{shown}: there is no {word}")
                    elif word in commands:
                        path += (word,)
                    elif commands:
                        faults.append(f"{shown}: there is no command {word}")
                        break
                count += 1
    print(f"{count} commands amid prose")
    return faults


def run(root, sealward, peers, pages):
    apart = networks()
    turn = open(__file__, encoding="utf-8")
    if not apart:
        # Another run of this checkout is waited for.
        fcntl.flock(turn, fcntl.LOCK_EX)
        taken = [port for port in PORTS if not free(port)]
        if taken:
            return [f"port {taken[0]} is taken, and there can be no network of our own (unshare): free it"]

    def one(page):
        command = [sys.executable, __file__, "page", root, sealward, peers, page, "apart" if apart else "here"]
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False)
        if done.returncode != 0:
            return page, [f"{page}: its runner ended with {done.returncode}"], 0, time.monotonic() - begun
        answer = json.loads(done.stdout)
        return page, answer["faults"], answer["ran"], time.monotonic() - begun

    faults, count = unknown(root, sealward, pages), 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1) if apart else 1) as pool:
        for page, wrong, ran, seconds in pool.map(one, pages):
            faults += wrong
            count += ran
            if ran:
                print(f"{seconds:6.1f} s  {ran:3} blocks  {page}")
    print(f"{count} blocks were run")
    if not count:
        faults.append("there was nothing to run")
    return faults


# --- The book as it was built --------------------------------------------------


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
