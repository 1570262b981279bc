"""From what perf recorded to stacks that can be read: whole, with what was inlined, and named briefly."""

import bisect
import collections
import functools
import pathlib
import re
import struct
import subprocess
from typing import NamedTuple

# A thread's first frames: a stack that ends in another is cut.
ROOTS = ("clone3", "__clone", "_start", "__libc_start")
# By so many of its last frames it is seen how a cut stack goes on in others.
CONTEXT = 4
DEEPEST = 400

CRYPTO = re.compile(r"(aws_lc|crc|ring\b|sha\d)")
COPIES = re.compile(r"mem(move|cpy|set)\b")
ALLOCATOR = re.compile(r"(_rjem|__r(ust|dl|g)_\w*alloc|do_rallocx|(c|m|re)alloc\b|free\b|tcache_|arena_|tikv_jemalloc)")
# How a thread comes to a task, and a task to what it does.
SCAFFOLD = re.compile(
    r"clone|_*libc_start|_?start(_thread)?\b|main$|std::(sys|thread|panic|rt\b)|core::(future|ops|pin|task|panic)"
    r"|alloc::boxed|tokio::(runtime::(task|scheduler|context|runtime|coop|blocking)|task|macros|loom|util)"
    r"|tracing::instrument|futures_(core|util)|hyper_util::rt"
)
ENTRY = re.compile(r"(entry_|do_syscall|(__)?x64_sys|__sys_|__do_sys|__se_sys|ksys_)")
TYPE = re.compile(r"\b[A-Z]\w*::")
FUNCTION = re.compile(r"\s*(?:pub(?:\([^)]*\))? |default |const |async |unsafe |extern \S+ )*fn (\w+)")


class Frame(NamedTuple):
    name: str
    kind: str


class Raw(NamedTuple):
    """As perf tells it: in the kernel by the address itself, else by where it is in its file."""

    address: int
    symbol: str
    file: str

    @property
    def kernel(self):
        return self.address >> 63


class Stacks:
    """Of one process: how often each stack was seen, its thread's name and then from the root on."""

    def __init__(self, said, binary):
        seen = list(samples(said))
        self.count = len(seen)
        self.cut, self.lost = completed(seen)
        self.inlined = bool(inlined := inlines(seen, binary))
        self.found = collections.Counter()
        for thread, raw in seen:
            self.found[tuple(readable(thread, raw, inlined))] += 1


def samples(said):
    """Of each sample its thread's name and its frames, the innermost first."""
    for block in said.split("\n\n"):
        head, *lines = block.strip("\n").split("\n")
        frames = [Raw(int(found[1], 16), found[2], found[3]) for found in map(LINE.match, lines) if found]
        # Where a stack is cut, something follows that is no address.
        while frames and frames[-1].symbol == "[unknown]":
            frames.pop()
        if frames:
            yield head.rsplit(None, 1)[0], frames


LINE = re.compile(r"\s+([0-9a-f]+) (.+) \((.*)\)$")


# ---- Whole stacks ----------------------------------------------------------------------------


def completed(seen):
    """Lengthens in place what was cut, as the other stacks go on that have the same calls where it ends: no
    more than 64 KiB of a stack can be had, and futures make frames larger than that. Says how many were cut,
    and how many of those still are."""
    after = collections.defaultdict(collections.Counter)
    for _, frames in seen:
        for at in range(len(frames) - 1):
            for length in range(1, min(CONTEXT, at + 1) + 1):
                after[tuple(frames[at + 1 - length : at + 1])][frames[at + 1]] += 1
    cut = lost = 0
    for _, frames in seen:
        if whole(frames):
            continue
        cut += 1
        while not whole(frames) and len(frames) < DEEPEST:
            known = (after.get(tuple(frames[-length:])) for length in range(min(CONTEXT, len(frames)), 0, -1))
            if not (next_ones := next(filter(None, known), None)):
                break
            frames.append(next_ones.most_common(1)[0][0])
        lost += not whole(frames)
    return cut, lost


def whole(frames):
    # A kernel's thread has no stack of a user's.
    return frames[-1].symbol.startswith(ROOTS) or bool(frames[-1].kernel)


# ---- What was inlined ------------------------------------------------------------------------


def inlines(seen, binary):
    """By address: names of the functions that were inlined there, the outermost first."""
    addresses = sorted({raw.address for _, frames in seen for raw in frames if raw.file == str(binary)})
    where = [virtual(address, loaded(binary)) for address in addresses]
    try:
        said = subprocess.run(
            ["addr2line", "-e", str(binary), "-i", "-f", "-C", "-a"], input="\n".join(map(hex, where)),
            capture_output=True, text=True, timeout=600, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    found, chain = [], []
    for line in said.splitlines():
        if line.startswith("0x"):
            found.append(chain := [])
        else:
            chain.append(line)
    # The last of each is the function that the symbol names.
    return {address: names(chain[:-2], binary.stat().st_mtime) for address, chain in zip(addresses, found)}


@functools.cache
def loaded(binary):
    """What of an ELF file of 64 bits is loaded: offsets in the file, sizes, addresses."""
    with open(binary, "rb") as file:
        head = file.read(64)
        begin, (size, count) = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<HH", head, 54)
        file.seek(begin)
        parts = [struct.unpack("<IIQQQQQQ", file.read(size)[:56]) for _ in range(count)]
    return sorted((part[2], part[5], part[3]) for part in parts if part[0] == 1)


def virtual(offset, parts):
    begin, size, address = parts[bisect.bisect(parts, (offset, 1 << 64, 0)) - 1]
    return offset - begin + address if offset < begin + size else offset


def names(chain, built):
    """Of pairs of lines, a function's name and where in a file it is, the innermost pair first."""
    found = []
    for name, place in zip(chain[::2], chain[1::2]):
        if not (room := module(place)):
            continue
        name = name.partition("<")[0]
        # A closure goes by the function it is in; of the innermost addr2line says the symbol instead.
        if name.startswith(("{", "<")) or "::" in name or not name:
            name = within(place, built)
        if name:
            found.insert(0, f"{room}::{name}")
    return found


def module(place):
    """Of a place in a source file in Rust, the crate and its modules; not of the standard library."""
    path = place.partition(":")[0]
    if not path.endswith(".rs") or path.startswith(("/rustc/", "/rust/")) or "/library/" in path:
        return ""
    crate = re.search(r"/([A-Za-z][\w-]*?)-\d+\.\d[^/]*/(?:src/)?(.+)\.rs$", path)
    ours = re.search(r"/src/(.+)\.rs$", path)
    if not crate and not ours:
        return ""
    parts = [crate[1].replace("-", "_"), *crate[2].split("/")] if crate else ["sealward", *ours[1].split("/")]
    return "::".join(part for part in parts if part not in ("lib", "mod", "main"))


@functools.cache
def source(path, built):
    """The lines of what was built then; none where it isn't at hand, or was changed since."""
    try:
        path = pathlib.Path(path)
        return path.read_text(errors="replace").splitlines() if path.stat().st_mtime <= built else []
    except OSError:
        return []


def within(place, built):
    """The function that a line is in."""
    path, _, line = place.split(" ")[0].rpartition(":")
    above = reversed(source(path, built)[: int(line) if line.isdigit() else 0])
    return next((found[1] for found in map(FUNCTION.match, above) if found), "")


# ---- Names -----------------------------------------------------------------------------------


def readable(thread, raw, inlined):
    """The frames of one stack from the root on, without those that only lead from one to the next."""
    frames = [Frame(re.sub(r"[-\d]+$", "", thread) + " threads", "library")]
    kind, waiting = "", None
    for one in reversed(raw):
        if one.kernel:
            name = re.sub(r"\.(isra|part|constprop|cold)\b.*", "", one.symbol)
            if kind != "kernel" and waiting:
                frames.append(waiting)
            kind, waiting = "kernel", None
            if not ENTRY.match(name):
                add(frames, Frame(name, kind))
            continue
        for name in [one.symbol, *inlined.get(one.address, [])]:
            kind, frame = told(name, kind)
            if not frame:
                continue
            # Kept if it is the last of the user's: what it does by itself is its own.
            waiting = frame if SCAFFOLD.match(frame.name) else None
            if not waiting:
                add(frames, frame)
    if waiting:
        frames.append(waiting)
    return frames


def add(frames, frame):
    """Unless it is a closure of the last one, or inlined into it, which doesn't tell of what type it is."""
    last = frames[-1]
    if last.kind != frame.kind or re.sub(TYPE, "", last.name) != re.sub(TYPE, "", frame.name):
        frames.append(frame)


def told(symbol, before):
    """The kind that a function is of, which is the caller's where that is cryptography, and how it's drawn."""
    name = brief(symbol)
    if COPIES.match(name):
        return "memory", Frame(name, "memory")
    if before == "memory":
        return before, None
    if ALLOCATOR.match(name.rpartition("::")[2]) or ALLOCATOR.match(name):
        return "memory", Frame(allocation(name), "memory")
    if before == "crypto" or CRYPTO.match(name):
        return "crypto", Frame(name, "crypto")
    kind = "ours" if "sealward::" in symbol else "library"
    return kind, Frame(name.removeprefix("sealward::"), kind)


def allocation(name):
    for part, word in [("ralloc", "realloc"), ("realloc", "realloc"), ("dalloc", "free"), ("free", "free")]:
        if part in name:
            return word
    return "free" if "dealloc" in name else "malloc"


@functools.cache
def brief(symbol):
    """`<A<X> as B>::c::{{closure}}::h0123…` is `A::c`."""
    symbol = re.sub(r"::h[0-9a-f]{16}$", "", symbol)
    if dropped := re.match(r"core::ptr::drop_in_place(?:::)?<(.*)>$", symbol):
        inner = re.sub(r"::\{+[^{}]*\}+", "", dropped[1])
        inner = re.sub(r"(\w+::)+(?=\w)", "", inner)
        return f"drop {inner if len(inner) <= 40 else inner[:39] + '…'}"
    name = re.sub(r"::\{+[^{}]*\}+", "", bare(symbol))
    name = re.sub(r"^aws_lc_\d+_\d+_\d+_", "aws_lc::", name)
    # As libc has them: by which instructions, and for whom.
    name = re.sub(r"(@.*|_(avx|evex|sse)\d*\w*(erms|movbe)?)$", "", name) if name.startswith("_") else name
    return re.sub(r"^(__GI_+|__libc_|__(?=mem|str|write|send|recv))", "", name)


def bare(name):
    """Without parameters of types, and of a trait's function the type that it is of."""
    made, at = "", 0
    while at < len(name):
        if name[at] != "<":
            made += name[at]
            at += 1
            continue
        to = closing(name, at)
        inside = name[at + 1 : to]
        if not made:
            of, *trait = outer(inside, " as ")
            made = bare(of.lstrip("&*[(")).removeprefix("mut ").removeprefix("dyn ")
            # Of any type there is.
            made = bare(trait[0]).rpartition("::")[2] if trait and len(made) == 1 else made
        elif inside.startswith("impl "):
            made += bare(outer(inside[5:], " for ")[-1]).rpartition("::")[2]
        else:
            made = made.removesuffix("::")
        at = to + 1
    return made


def closing(name, at):
    depth = 0
    for here in range(at, len(name)):
        if name[here] == "<":
            depth += 1
        elif name[here] == ">" and name[here - 1] != "-":
            depth -= 1
            if not depth:
                return here
    return len(name)


def outer(name, word):
    """Split at the first `word` that isn't within brackets."""
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">" and name[at - 1] != "-")
        if not depth and name.startswith(word, at):
            return [name[:at], name[at + len(word) :]]
    return [name]
