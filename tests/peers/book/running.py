"""Every command of a page, run."""

import concurrent.futures
import ctypes
import fcntl
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from alike import resembles
from ground import BEFORE, PROGRAMS, free, lay_out, networks, stand_in
from pages import blocks, judged, prose

PATIENCE = 120  # seconds for a page on a busy machine
PORTS = (8443, 9464)
# What is run again for each page.
BOOK = pathlib.Path(__file__).with_name("book.py")


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
    # Neither a terminal nor /dev/null: see SEALWARD in ground.py.
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
    turn = open(BOOK, encoding="utf-8")
    if not apart:
        # Another run of this checkout is waited for.
        fcntl.flock(turn, fcntl.LOCK_EX)
        taken = [port for port in PORTS if not free(port)]
        if taken:
            return [f"port {taken[0]} is taken, and there can be no network of our own (unshare): free it"]

    def one(page):
        command = [sys.executable, BOOK, "page", root, sealward, peers, page, "apart" if apart else "here"]
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
