#!/usr/bin/env python3
"""How cost grows with uploads at once and with objects' size: `make bench-growth`.

    benches/peers/growth.py SEALWARD SINK ENVIRONMENT RESULTS.json

Sealward and nginx, unbuffered, before the sink of `make bench-peers`, and as that is; what comes down,
nginx passes on in its buffered way too. `put-1m-at-64` is 64 objects of 1 MiB at once, until there were
a GiB; `put-8m` is objects of 8 MiB over one connection, for a while. Through the sizes a line is laid,
so much for an object and so much for a byte, and what isn't on it shows; so does what becomes dearer by
being more at once. All is asked by one client, crowd.py, whose own cost is told beside. CPU is of requests
alone: connections are there before.

Exit code 1 where a row is void, 2 where what can't be done without is missing. By the environment: PEERS
(see systems.py), CASES, ROUNDS=5, SECONDS=2 for objects of one size, MIB=1024 for what is at once,
CONNECTIONS=1 for sizes, DEADLINE=5400 in seconds. Takes half an hour, and 9 GiB of memory.
"""

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial

sys.dont_write_bytecode = True

import bends  # noqa: E402
import cases  # noqa: E402
import load  # noqa: E402
import measure  # noqa: E402
import proxies  # noqa: E402
import systems  # noqa: E402
from bends import AT_ONCE, CROWDS, SIZES, crowded  # noqa: E402
from cases import GIB, MIB, Case  # noqa: E402
from load import Failed  # noqa: E402
from peers import prepare  # noqa: E402
from proxy import chosen, note, setting  # noqa: E402
from store import Sink  # noqa: E402

SECONDS = setting("SECONDS", 2)
AT_ONCE_BYTES = setting("MIB", 1024) << 20
CONNECTIONS = setting("CONNECTIONS", 1)
LIES = "lies-"  # how the names begin of what is there to be read
MOST_BYTES = 4 * GIB  # that the sink is given at once to hold
MOST_NAMES, NAMES_BYTES = 1024, 64 * MIB  # of what is there to be read, if it isn't one alone
SLOWEST = 8 * MIB  # bytes a second, or it has failed


class World(cases.Ground):
    """What all cases need, but for what lies there to be read."""

    def fill(self, up, what):
        """Has the system put what it'll be asked for, if nobody has who puts it there in the same way."""
        if not what or (up.stored, what) in self.filled:
            return
        self.filled.add((up.stored, what))
        count, size = names(what), SIZES[what]
        self.crowd(up, "PUT", f"{LIES}{what}-", count, min(count, 8), size)
        for number in range(count):
            self.asker.landed(up, f"{LIES}{what}-{number}", size)

    def empty(self):
        """Of all that lay there: the largest would be too much beside the next."""
        for stored in {stored for stored, _ in self.filled}:
            self.sink.clear(f"{stored}{LIES}")
        self.filled.clear()

    def crowd(self, up, method, name, count, connections, size, seconds=0, named=0):
        """What crowd.py reports, and the CPU seconds that the system needed for it."""
        clients = self.asker.clients
        script = pathlib.Path(__file__).resolve().with_name("crowd.py")
        # Without a time it ends when all is done.
        arguments = [method, f"{up.path}{name}", named or count, count, connections, size, seconds or cases.DEADLINE]
        child = clients.start(sys.executable, script, up.port(True), *arguments)
        most = load.SLACK + 2 * seconds + (size * (connections if seconds else count)) / SLOWEST
        try:
            said = ask(child, up.token, load.SLACK + connections / 10)
            if said != min(connections, count):
                raise Failed(f"of {connections} connections {said} are there")
            before = clock(up.pid)
            report = ask(child, "", max(0.1, min(most, self.remaining())))
            cpu = clock(up.pid) - before
            clients.end(child, text="\n")
        finally:
            if child.poll() is None:
                child.kill()
            child.communicate()
        if cpu <= 0:
            raise Failed("the CPU time it took can't be told: a process is gone")
        return report, cpu


def ask(child, line, seconds):
    """What a child says to a line, as JSON."""
    with contextlib.suppress(BrokenPipeError):  # of one that has ended, and said why
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    said = child.stdout.readline() if ready else ""
    if not said:
        child.kill()
        words = child.communicate()[1].strip()[-300:]
        raise Failed(f"crowd.py says nothing within {seconds:.0f} s" if not ready else f"crowd.py: {words}")
    return json.loads(said)


def clock(pid):
    """CPU seconds of a process and its children, from the clock that the kernel has for each: what nginx
    needs for few small requests are a few of the hundredths that /proc counts."""
    total = 0
    for one in measure.family(pid):
        with contextlib.suppress(OSError):
            # As clock_getcpuclockid(3) makes it: by the scheduler, of all threads.
            total += time.clock_gettime(~one << 3 | 2)
    return total


def names(what):
    return max(1, min(MOST_NAMES, NAMES_BYTES // SIZES[what]))


def put(world, up, what, count, connections, seconds):
    size, name = SIZES[what], f"{world.asker.fresh(1)[0]}-"
    report, cpu = world.crowd(up, "PUT", name, count, connections, size, seconds)
    for number in range(report["made"]):
        world.asker.landed(up, f"{name}{number}", size)
    world.asker.settled(up, takes=size * report["made"], count=report["made"])
    return told(report, cpu, size, 0 if seconds else count)


def get(world, up, what, count, connections, seconds):
    size = SIZES[what]
    report, cpu = world.crowd(up, "GET", f"{LIES}{what}-", count, connections, size, seconds, names(what))
    world.asker.settled(up, gives=size * report["made"])
    return told(report, cpu, size, 0 if seconds else count)


def told(report, cpu, size, count):
    """A round's figures; where nobody looked at the time, `count` must have been made."""
    made = report["made"]
    if count and made != count:
        raise Failed(f"of {count} objects {made} were asked for")
    return {
        "made": made,
        "mib_s": made * size / MIB / report["seconds"],
        "cpu_s_per_gib": cpu * GIB / (made * size),
        "cpu_us_per_req": cpu / made * 1e6,
        "p50_ms": report["p50"],
        "p99_ms": report["p99"],
        "client_s_per_gib": report["cpu"] * GIB / (made * size),
        "client_us_per_req": report["cpu"] / made * 1e6,
    }


def case(way, what, count, connections, seconds):
    work = partial(WORK[way], what=what, count=count, connections=connections, seconds=seconds)
    return Case(work, what if way == "get" else "", twice=way == "get")


WORK = {"put": put, "get": get}
CASES = {}
for way in WORK:
    for what in CROWDS:
        for at_once in AT_ONCE:
            count = max(at_once, AT_ONCE_BYTES // SIZES[what])
            CASES[crowded(way, what, at_once)] = case(way, what, count, at_once, 0)
    for what, size in SIZES.items():
        count = max(1, MOST_BYTES // size)
        CASES[f"{way}-{what}"] = case(way, what, count, min(count, CONNECTIONS), SECONDS)


def main():
    binary, sink, environment, results = (pathlib.Path(argument).absolute() for argument in sys.argv[1:5])
    titles, wanted = chosen("CASES", CASES), ["sealward", "nginx"]
    if os.environ.get("PEERS"):
        wanted = chosen("PEERS", systems.START)
    if "nginx" in wanted and "nginx-buffered" not in wanted:
        wanted.insert(wanted.index("nginx") + 1, "nginx-buffered")
    tools = prepare(binary, sink, environment)
    # As in peers.py.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine, versions, broken = measure.machine(), *systems.versions(tools)
    if missing := [name for name in wanted if systems.START[name][1] not in versions]:
        why = broken.get(systems.START[missing[0]][1], "its program isn't there")
        sys.exit(f"bench-growth: {missing[0]}: {why}; leave it out of PEERS")
    versions = {name: words for name, words in versions.items() if name in {systems.START[one][1] for one in wanted}}
    print(f"{machine['cpus']} x {machine['model']}, Linux {machine['kernel']}; {'; '.join(versions.values())}")
    print(f"TLS 1.3, {load.SUITE}, {load.GROUP}, ECDSA P-256; medians of {cases.ROUNDS} rounds")
    results.parent.mkdir(parents=True, exist_ok=True)
    settings = {"rounds": cases.ROUNDS, "seconds": SECONDS, "at_once_bytes": AT_ONCE_BYTES, "connections": CONNECTIONS}
    rows = []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-growth-")))
        proxies.certificate(folder)
        world = World(folder, stack.enter_context(Sink(folder, sink)), tools)
        if (busy := measure.busy(1)) > 0.1:
            print(f"Something else runs here, on {busy:.0%} of the processors: latencies are worth little.")
        bends.head()
        for title in titles:
            found, void = cases.rounds(world, title, wanted, CASES[title])
            world.empty()
            note("")
            for name in cases.who(CASES[title], wanted):
                rows.append(bends.row(name, title, found.get(name), void.get(name)))
                bends.tell(rows[-1])
            sys.stdout.flush()
            whole = {"machine": machine, "versions": versions, "settings": settings, "rows": rows}
            whole |= {"lines": bends.lines(rows), "crowds": bends.crowds(rows)}
            results.write_text(json.dumps(whole, indent=1) + "\n")
    bends.show(whole)
    sys.exit(any(one["void"] for one in rows))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (load.Failed, RuntimeError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench-growth: {error}")
