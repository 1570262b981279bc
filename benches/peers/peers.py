#!/usr/bin/env python3
"""Sealward beside nginx, haproxy, envoy, caddy and rclone, all before one S3: `make bench-peers`.

    benches/peers/peers.py SEALWARD SINK ENVIRONMENT RESULTS.json

SINK is the bench `sink`, ENVIRONMENT where PyPI's programs are. The systems take turns, on one
machine and within one run; what counts is the ratio of Sealward's median to the other's. Only
nginx and haproxy are asked in the ways that TLS to the sink needs. Exit code 1 where a goal is
missed or void, 2 where what can't be done without is missing. A peer that isn't there is named,
and void. By the environment: PEERS and CASES with commas between (see systems.py and cases.py),
ROUNDS=5, MIB=1024 for large bodies, SECONDS=5 for small ones, SHAKES=3000, DEADLINE=5400 in
seconds. Takes three quarters of an hour, and 8 GiB of memory.
"""

import contextlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import cases  # noqa: E402
import figures  # noqa: E402
import load  # noqa: E402
import measure  # noqa: E402
import proxies  # noqa: E402
import systems  # noqa: E402
from proxy import chosen, note  # noqa: E402
from store import Sink  # noqa: E402


def prepare(binary, sink, environment):
    """The programs there are; what can't be done without is named before anything is begun."""
    missing = [name for name in ("nginx", "openssl", "curl", "wrk") if not proxies.program(name)]
    if missing:
        # Debian's packages are called as the programs are.
        print(f"bench-peers: not found: {', '.join(missing)}: apt-get install {' '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    for built in (binary, sink):
        if not built.is_file():
            print(f"bench-peers: {built} isn't there: make bench-peers builds it", file=sys.stderr)
            sys.exit(2)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return systems.tools(binary, environment)


def measured(world, titles, names, absent, write):
    """The rows of every case, told and written as they come."""
    rows = []
    figures.head()
    for title in titles:
        found, void = cases.rounds(world, title, [name for name in names if name not in absent])
        note("")
        for name in cases.who(cases.CASES[title], names):
            row = figures.row(name, title, found.get(name), void.get(name) or absent.get(name))
            figures.tell(row)
            rows.append(row)
        sys.stdout.flush()
        write(rows)
    return rows


def main():
    binary, sink, environment, results = (pathlib.Path(argument).absolute() for argument in sys.argv[1:5])
    titles, names = chosen("CASES", cases.CASES), chosen("PEERS", systems.START)
    if "nginx" in names and "nginx-buffered" not in names:
        # Or it would be judged by the dearer of its ways.
        names.insert(names.index("nginx") + 1, "nginx-buffered")
    tools = prepare(binary, sink, environment)
    # Either way all that was started is ended on the way out; a background job of a shell would ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine, versions, broken = measure.machine(), *systems.versions(tools)
    print(f"{machine['cpus']} x {machine['model']}, Linux {machine['kernel']}; {'; '.join(versions.values())}")
    print(f"TLS 1.3, {load.SUITE}, {load.GROUP}, ECDSA P-256; medians of {cases.ROUNDS} rounds")
    absent = {name: broken.get(systems.START[name][1]) for name in names if systems.START[name][1] not in versions}
    absent = {name: why or f"there is no {systems.START[name][1]}" for name, why in absent.items()}
    for name, why in absent.items():
        print(f"without {name}: {why}")
    results.parent.mkdir(parents=True, exist_ok=True)

    def write(rows):
        results.write_text(json.dumps(rows, indent=1) + "\n")

    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peers-")))
        proxies.certificate(folder)
        world = cases.World(folder, stack.enter_context(Sink(folder, sink)), tools)
        if (busy := measure.busy(1)) > 0.1:
            print(f"Something else runs here, on {busy:.0%} of the processors: latencies are worth little.")
        rows = measured(world, titles, names, absent, write)
    figures.short(rows, names)
    told = figures.judged(rows, titles, names, absent)
    figures.verdicts(told)
    sys.exit(any(one["verdict"] in ("not met", "void") for one in told))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (load.Failed, RuntimeError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench-peers: {error}")
