#!/usr/bin/env python3
"""Sealward as a reverse proxy beside nginx and haproxy: `make bench-proxy`.

    benches/peers/proxy.py SEALWARD RESULTS.json

The three take turns, on one machine and within one run; what counts is the ratio, round by
round, of Sealward's figure to nginx's. Exit code 1 where a goal is missed or a row is void,
2 where a program is missing. By the environment: ROUNDS=5, CASES and PROXIES with commas
between (see table.py and proxies.py), MIB=1024 for large bodies, SECONDS=5 for small ones,
SHAKES=3000, IDLE=10000, DEADLINE=480 in seconds.
"""

import contextlib
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import load  # noqa: E402
import measure  # noqa: E402
import proxies  # noqa: E402
import table  # noqa: E402
from table import OTHER_WAY  # noqa: E402


def setting(name, usual):
    return int(os.environ.get(name) or usual)


ROUNDS = setting("ROUNDS", 5)
SIZE = setting("MIB", 1024) << 20
SECONDS = setting("SECONDS", 5)
SHAKES = setting("SHAKES", 3000)
IDLE = setting("IDLE", 10_000)
DEADLINE = setting("DEADLINE", 480)
PROCESSES = 2  # that shake hands or hold connections
SETTLE = 2  # seconds before memory is read


class World:
    """What all cases need: the folder, the app behind, the clients and the proxies."""

    def __init__(self, stack, binary, names):
        self.binary, self.names, self.until = binary, names, time.monotonic() + DEADLINE
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-proxy-")))
        proxies.certificate(self.folder)
        (self.folder / "served").mkdir()
        self.large = self.folder / "served" / "large"
        with open(self.large, "w+b") as large:
            large.truncate(SIZE)  # zeros that take no room on disk
            # In memory before anybody is timed, which else the first would pay for.
            while large.read(1 << 20):
                pass
        self.clients = load.Clients(self.folder, self.remaining)
        self.app = stack.enter_context(proxies.start_app(self.folder)).port
        self.sink = stack.enter_context(proxies.start_sink(self.folder)).port

    def remaining(self):
        return self.until - time.monotonic()

    def start(self, name):
        """A fresh one, which has shown what it agrees on and that it passes requests on."""
        return proxies.START[name](self.folder, self.app, self.sink, self.binary)

    def prove(self, server):
        for port in server.ports:
            self.clients.pinned(port)
            self.clients.answer_size(port, "/small", proxies.SMALL)


def spent(server, work):
    """What `work` returned, the CPU seconds that the proxy needed for it, and the seconds it took."""
    before, begun = measure.cpu(server.pid), time.monotonic()
    found = work()
    cpu, wall = measure.cpu(server.pid) - before, time.monotonic() - begun
    if cpu <= 0:
        raise load.Failed("the CPU time it took can't be told: too little was asked, or a process is gone")
    return found, cpu, wall


def small_get(world, server, port):
    report, cpu, _ = spent(server, lambda: world.clients.gets(port, SECONDS, proxies.SMALL))
    each = cpu / report["requests"] * 1e6
    return {"cpu": each, "p50": report["p50"], "p99": report["p99"], "rate": report["requests"] / SECONDS}


def large(world, server, work):
    _, cpu, wall = spent(server, work)
    return {"cpu": cpu * (1 << 30) / SIZE, "wall": wall * (1 << 30) / SIZE}


def down(world, server, port):
    return large(world, server, lambda: world.clients.download(port, SIZE))


def up(world, server, port):
    return large(world, server, lambda: world.clients.upload(port, SIZE, world.large))


def handshake(world, server, port):
    made, cpu, _ = spent(server, lambda: world.clients.shakes(port, SHAKES, PROCESSES))
    return {"cpu": cpu / made * 1e6, "rate": made / cpu}


def idle(world, name):
    """Of a fresh proxy: what came before would have left its memory behind."""
    with world.start(name) as server:
        world.prove(server)
        time.sleep(SETTLE)
        before = measure.resident(server.pid)
        with world.clients.hold(server.port, IDLE, PROCESSES) as held:
            held.wait()
            time.sleep(SETTLE)
            idle = measure.resident(server.pid)
            held.get()
            time.sleep(SETTLE)
            kept = measure.resident(server.pid)
    mib = 1 << 20
    more = {"idle": (idle - before) / mib, "kept": (kept - before) / mib}
    return {**more, "idle_total": idle / mib, "kept_total": kept / mib}


RUN = {"small-get": small_get, "down-1g": down, "up-1g": up, "handshake": handshake}


def rounds(world, case):
    """By proxy: the figures of each round, or what made it void."""
    found, void = {}, {}

    def attempt(label, work):
        if label in void:
            return
        if world.remaining() < 0:
            void[label] = f"not done within {DEADLINE} s"
            return
        try:
            found.setdefault(label, []).append(work())
        except (load.Failed, RuntimeError) as error:
            void[label] = str(error)

    if case == "idle-10k":
        for name in world.names:
            attempt(name, lambda name=name: idle(world, name))
        return found, void
    with contextlib.ExitStack() as stack:
        ways = []
        for name in world.names:
            server = stack.enter_context(world.start(name))
            world.prove(server)
            ways.append((name, server, server.port))
            if name == "nginx" and case in table.TWICE:
                ways.append((OTHER_WAY, server, server.ports[1]))
        for number in range(ROUNDS):
            note(f"{case}: round {number + 1} of {ROUNDS}")
            for label, server, port in ways:
                attempt(label, lambda server=server, port=port: RUN[case](world, server, port))
    return found, void


def note(words):
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


def chosen(name, known):
    names = [one.strip() for one in os.environ.get(name, "").split(",") if one.strip()] or list(known)
    if unknown := [one for one in names if one not in known]:
        sys.exit(f"{name}: there is no {unknown[0]}; there are {', '.join(known)}")
    return [one for one in known if one in names]


def prepare(binary, cases, names):
    """Names whatever can't be done without, before anything is begun."""
    wanted = {"nginx", "openssl", "curl"} | {name for name in names if name != "sealward"}
    if "small-get" in cases:
        wanted.add("wrk")
    # Debian's packages are called as the programs are.
    missing = [name for name in sorted(wanted) if not proxies.program(name)]
    if missing:
        print(f"bench-proxy: not found: {', '.join(missing)}: apt-get install {' '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    if "sealward" in names and not binary.is_file():
        print(f"bench-proxy: {binary} isn't there: cargo build --release", file=sys.stderr)
        sys.exit(2)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if "idle-10k" in cases and hard != resource.RLIM_INFINITY and hard < IDLE + 500:
        words = f"bench-proxy: {IDLE} idle connections need as many files, and {hard} are allowed:"
        print(f"{words} raise `ulimit -Hn`, or set IDLE", file=sys.stderr)
        sys.exit(2)


def main():
    binary, results = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    cases, names = chosen("CASES", table.CASES), chosen("PROXIES", proxies.START)
    prepare(binary, cases, names)
    # Either way all that was started is ended on the way out; a background job of a shell would ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine, versions = measure.machine(), proxies.versions(binary)
    print(f"{machine['cpus']} x {machine['model']}, Linux {machine['kernel']}; {'; '.join(versions.values())}")
    print(f"TLS 1.3, {load.SUITE}, {load.GROUP}, ECDSA P-256; medians of {ROUNDS} rounds, idle connections once")
    rows = []
    with contextlib.ExitStack() as stack:
        world = World(stack, binary, names)
        machine["busy"] = measure.busy(1)
        if machine["busy"] > 0.1:
            print(f"Something else runs here, on {machine['busy']:.0%} of the processors: latencies are worth little.")
        table.head()
        for case in cases:
            found, void = rounds(world, case)
            note("")
            of_case = table.rows(case, found, void)
            for row in of_case:
                table.tell(row)
            for label, words in void.items():
                print(f"  void: {label}: {words}")
            sys.stdout.flush()
            rows += of_case
    if any(OTHER_WAY in row["median"] for row in rows):
        print("* is the better of nginx's two ways, which ratios are taken to")
    settings = {"rounds": ROUNDS, "bytes": SIZE, "seconds": SECONDS, "shakes": SHAKES, "idle": IDLE}
    settings |= {"suite": load.SUITE, "group": load.GROUP, "threads": proxies.THREADS, "small": proxies.SMALL}
    whole = {"machine": machine, "versions": versions, "settings": settings, "rows": rows}
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(whole, indent=1) + "\n")
    # Void is worth no more than missed, of whichever proxy it is.
    sys.exit(any(row["void"] or row["verdict"] in ("not met", "void") for row in rows))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (load.Failed, RuntimeError) as error:
        sys.exit(f"bench-proxy: {error}")
