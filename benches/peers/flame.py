#!/usr/bin/env python3
"""Draws where Sealward's processor time goes in one case of the peers' benchmark: `make flame CASE=put-4k`.

    benches/peers/flame.py SEALWARD SINK ENVIRONMENT CASE OUT.svg

SINK is the bench `sink`, ENVIRONMENT where PyPI's programs are, and CASE one of cases.py; what it
does is done again until eight seconds are over. Prints a table beside. By the environment: what
cases.py has of it (but SECONDS=8), and STACKS, a file for the folded stacks. Needs Linux's perf and
the right to look at the whole machine; exit code 2 where that, or a program, is missing. What was
inlined is told by addr2line of binutils, and belongs to its caller where there is none.

The whole machine is sampled, and Sealward taken out of it: to follow one process perf does something
at every switch to and from it, which made 4 KiB uploads a quarter dearer, none of it Sealward's.
What runs with interrupts off is seen where they come on again, as a rule in `_raw_spin_unlock…`.
"""

import collections
import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from xml.sax.saxutils import escape

sys.dont_write_bytecode = True
# One run of wrk is the whole of it.
os.environ["SECONDS"] = os.environ.get("SECONDS") or "8"

import cases  # noqa: E402
import measure  # noqa: E402
import proxies  # noqa: E402
import systems  # noqa: E402
from load import Failed  # noqa: E402
from stacks import COPIES, Stacks  # noqa: E402
from store import Sink  # noqa: E402

# A sample has 64 KiB of stack, the most there is and less than some need: twice 299 of them a second
# for eight seconds are 300 MB.
LOOK = ["record", "-q", "-N", "-a", "-e", "cpu-clock", "-F", "299", "--call-graph", "dwarf,65528", "--max-size=400M"]
LEAST_SECONDS = 8
PATIENCE = 120  # seconds for perf to end
LEAST = 0.003  # of the whole, or it isn't drawn
MOST = 60_000  # bytes; more is drawn a little less finely
# A frame that has so much of its time in one other of its kind is left out.
PASSED_ON = 0.9
WIDTH, ROW, HEAD, LETTER = 1000, 17, 44, 6.5
KINDS = {"ours": "Sealward", "library": "libraries", "crypto": "cryptography", "memory": "memory", "kernel": "kernel"}
# Legible on white and on black.
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1f2328; pointer-events: none } .h { font-size: 14px; font-weight: 600 }
.o { fill: #9ecbff } .l { fill: #d8dee4 } .c { fill: #aee3b5 } .m { fill: #e5bdf0 } .k { fill: #f7c99b }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 }
.o { fill: #1f5391 } .l { fill: #424a53 } .c { fill: #246b33 } .m { fill: #6b3a80 } .k { fill: #80501f } }
"""


class Refused(Exception):
    """What is missing for a look."""


# ---- What is seen ----------------------------------------------------------------------------


def prepare(binary, sink, environment, title):
    """The programs there are; what can't be done without is named before anything is begun."""
    if title not in cases.CASES or cases.CASES[title].anew:
        known = ", ".join(name for name, case in cases.CASES.items() if not case.anew)
        raise Refused(f"there is no case {title} to be drawn, but {known}")
    if missing := [name for name in ("perf", "openssl", "curl", "wrk") if not proxies.program(name)]:
        raise Refused(f"not found: {', '.join(missing)} (Debian's package of perf is linux-perf)")
    for built in (binary, sink):
        if not built.is_file():
            raise Refused(f"{built} isn't there: make flame builds it")
    tried = subprocess.run(["perf", *LOOK, "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        paranoid = pathlib.Path("/proc/sys/kernel/perf_event_paranoid")
        level = paranoid.read_text().strip() if paranoid.is_file() else "not there"
        words = " ".join(tried.stderr.split())[:300]
        raise Refused(f"perf is refused (kernel.perf_event_paranoid is {level}; root may): {words}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return systems.tools(binary, environment)


def seen(world, up, case, binary):
    """The stacks of Sealward while the case is worked on, and the seconds that it took."""
    data = world.place.folder / "perf.data"
    # Deaf to what ends us: it's told by itself, and writes down what it has.
    perf = subprocess.Popen(
        ["perf", *LOOK, "-o", data], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    begun, figures = time.monotonic(), {}
    try:
        while time.monotonic() - begun < LEAST_SECONDS and perf.poll() is None:
            world.sink.reset()
            try:
                figures = case.work(world, up)
            finally:
                world.sink.clear(f"{up.stored}run-")
        seconds = time.monotonic() - begun
    finally:
        if perf.poll() is None:
            perf.send_signal(signal.SIGINT)
        try:
            words = perf.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            perf.kill()
            words = perf.communicate()[1]
    print("  ".join(f"{name} {value:.5g}" for name, value in figures.items()))
    wanted = [f"--pid={up.pid}", "-F", "comm,tid,ip,sym,dso", "--no-inline", "--max-stack=512"]
    told = subprocess.run(
        ["perf", "script", "-i", data, *wanted], capture_output=True, text=True, errors="replace",
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    if told.returncode or not told.stdout.strip():
        raise Failed(f"perf saw nothing: {words.strip()[-300:]} {told.stderr.strip()[-300:]}")
    return Stacks(told.stdout, binary), seconds


# ---- What is told ----------------------------------------------------------------------------


def share(stack):
    """Which of the table's columns a sample is of."""
    kind, name = stack[-1].kind, stack[-1].name
    if kind == "memory":
        return "copying" if COPIES.match(name) else "allocator"
    return {"kernel": "kernel", "crypto": "crypto"}.get(kind, "rest")


def tell(stacks, seconds):
    shares, own = collections.Counter(), collections.Counter()
    for stack, count in stacks.found.items():
        shares[share(stack)] += count
        own[stack[-1].name] += count
    print(f"{stacks.count} samples in {seconds:.1f} s{'' if stacks.inlined else '; addr2line is missing'}.", end=" ")
    cut, lost = stacks.cut / stacks.count, stacks.lost / stacks.count
    print(f"Of the stacks {cut:.0%} were cut, and all but {lost:.1%} completed from others.")
    columns = ["kernel", "crypto", "copying", "allocator", "rest"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    print(f"| {' | '.join(f'{shares[name] / stacks.count:.1%}' for name in columns)} |")
    print("\n| by itself | |\n|---|---|")
    for name, count in own.most_common(10):
        print(f"| {name} | {count / stacks.count:.1%} |")
    if not shares["kernel"]:
        print("\nNothing of the kernel was seen, which perf may have no leave to look at.")


def folded(stacks):
    return "".join(f"{';'.join(frame.name for frame in stack)} {count}\n" for stack, count in stacks.found.items())


# ---- What is drawn ---------------------------------------------------------------------------


class Box:
    """A frame, and those that it called, as one tree of all stacks."""

    def __init__(self, frame):
        self.frame, self.total, self.called = frame, 0, {}

    def shown(self, least):
        """Those it called that are seen, each or what it only passes on to; the largest first."""
        for box in sorted(self.called.values(), key=lambda box: -box.total):
            while box.frame.kind == self.frame.kind != "ours" and (inner := box.passes_on()):
                box = inner
            if box.total >= least:
                yield box

    def passes_on(self):
        """The one that it has nearly all of its time from, where that is of its kind."""
        one = max(self.called.values(), key=lambda box: box.total, default=None)
        return one if one and one.total >= PASSED_ON * self.total and one.frame.kind == self.frame.kind else None


def tree(stacks):
    root = Box(next(iter(stacks.found))[0]._replace(name="all"))
    for stack, count in stacks.found.items():
        box = root
        box.total += count
        for frame in stack:
            box = box.called.setdefault(frame, Box(frame))
            box.total += count
    return root


def label(name, width):
    """As many of the last parts of a name as there's room for."""
    room = int((width - 4) / LETTER)
    parts = name.split("::")
    for at in range(len(parts)):
        if len(shorter := "::".join(parts[at:])) <= room:
            return shorter
    return f"{parts[-1][: room - 1]}…" if room >= 5 else ""


def placed(box, least, left, depth):
    """Boxes with where they are, in samples from the left and rows from the bottom."""
    yield box, left, depth
    for inner in box.shown(least):
        yield from placed(inner, least, left, depth + 1)
        left += inner.total


def drawn(root, title, least):
    _, *boxes = placed(root, least * root.total, 0, -1)
    high = max(depth for _, _, depth in boxes) + 1
    end = HEAD + high * ROW
    lines = [f'<text x="0" y="14" class="h">{escape(title)}</text>']
    left = 0
    for kind, words in KINDS.items():
        lines.append(f'<rect x="{left}" y="24" width="11" height="11" class="{kind[0]}"/>')
        lines.append(f'<text x="{left + 15}" y="33">{words}</text>')
        left += 35 + round(len(words) * LETTER)
    for box, begin, depth in boxes:
        x, width = WIDTH * begin / root.total, WIDTH * box.total / root.total
        y = end - (depth + 1) * ROW
        lines.append(f"<g><title>{escape(box.frame.name)} {box.total / root.total:.1%}</title>")
        shape = f'x="{x:.1f}" y="{y}" width="{width - 0.5:.1f}" height="{ROW - 1}" class="{box.frame.kind[0]}"'
        words = escape(label(box.frame.name, width))
        words = f'<text x="{x + 3:.1f}" y="{y + 12}">{words}</text>' if words else ""
        lines.append(f"<rect {shape}/>{words}</g>")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {end}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *lines, "</svg>", ""])


def draw(stacks, title):
    root, least = tree(stacks), LEAST
    while len((svg := drawn(root, title, least)).encode()) > MOST:
        least *= 1.1
    return svg


def main():
    binary, sink, environment, picture = (pathlib.Path(sys.argv[at]).absolute() for at in (1, 2, 3, 5))
    title, binary = sys.argv[4], binary.resolve()
    tools = prepare(binary, sink, environment, title)
    # Either way all that was started is ended on the way out; a background job of a shell would ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if (busy := measure.busy(1)) > 0.1:
        print(f"Something else runs here, on {busy:.0%} of the processors.")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flame-")))
        proxies.certificate(folder)
        world, case = cases.World(folder, stack.enter_context(Sink(folder, sink)), tools), cases.CASES[title]
        up = stack.enter_context(systems.START["sealward"][0](world.place, case.way))
        world.asker.prove(up)
        world.fill(up, case.needs)
        stacks, seconds = seen(world, up, case, binary)
    tell(stacks, seconds)
    svg = draw(stacks, f"Where Sealward's processor time goes: {title}")
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(svg)
    print(f"\n{sys.argv[5]}: {len(svg.encode())} bytes")
    if beside := os.environ.get("STACKS"):
        pathlib.Path(beside).write_text(folded(stacks))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Refused as refused:
        print(f"flame: {refused}", file=sys.stderr)
        sys.exit(2)
    except (Failed, RuntimeError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"flame: {error}")
