#!/usr/bin/env python3
"""What a catalogue adds to small uploads: `make bench-catalog`.

    benches/catalog/uploads.py SEALWARD RESULTS.json

One Sealward without a catalogue, one with `url = "sqlite:catalog.db"` and one that has
`freshness = "enforce"` too, on folders beside RESULTS.json, so that what is acknowledged lies on
a real disk; a GiB of it is needed. Each of the latter takes turns with the first, by itself; what
counts is the ratio of the second's p50 to the first's, round by round, in the median: a disk's
mood changes within seconds, and changes both. Exit code 1 where the goal is missed or nothing can
be told, 2 where a program is missing. By the environment: ROUNDS=7, SECONDS=3 for each turn,
CONNECTIONS=32, BYTES=4096.
"""

import base64
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request

sys.dont_write_bytecode = True

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))

import measure  # noqa: E402
import proxies  # noqa: E402


def setting(name, usual):
    return int(os.environ.get(name) or usual)


ROUNDS = setting("ROUNDS", 7)
SECONDS = setting("SECONDS", 3)
CONNECTIONS = setting("CONNECTIONS", 32)
BYTES = setting("BYTES", 4096)
PROCESSES = 2  # that upload: one would be held back by its own interpreter
PATIENCE = 30  # seconds that anything may take longer than it should
GOAL = 1.15

CATALOG = '[catalog]\nurl = "sqlite:catalog.db"\n'
# By name: what is added to the class, and to the end.
WAYS = {
    "no catalogue": ("", ""),
    "SQLite": ("", CATALOG),
    'SQLite, freshness = "enforce"': ('freshness = "enforce"\n', CATALOG),
}
BASE, JUDGED = list(WAYS)[:2]

CONFIG = """
[[listener]]
bind = "127.0.0.1:{port}"
tls = {{ source = {{ files = {{ cert = "../cert.pem", key = "../key.pem" }} }} }}
[keys]
provider = "local"
keyring = "keyring.json"
[[class]]
name = "records"
directory = "objects"
{of_class}[[route]]
path = "/"
seal = {{ class = "records" }}
[identity]
tokens = "tokens.json"
[admin]
bind = "127.0.0.1:{admin}"
[log]
level = "warn"
{rest}"""


class Failed(Exception):
    """What makes the figures worth nothing."""


class Way:
    """A Sealward of its own, and the clients that upload to it."""

    def __init__(self, stack, folder, binary, name):
        of_class, rest = WAYS[name]
        place = folder / f"way-{list(WAYS).index(name)}"
        place.mkdir()
        port, admin = proxies.free_port(), proxies.free_port()
        self.name, self.admin, self.uploads = name, admin, 0
        (place / "sealward.toml").write_text(CONFIG.format(port=port, admin=admin, of_class=of_class, rest=rest))
        key = {"namespace": "bench", "name": "key-1", "wrapping_key": base64.b64encode(os.urandom(32)).decode()}
        (place / "keyring.json").write_text(json.dumps(key))
        token = [binary, "token", "new", "bench", "--tokens", place / "tokens.json"]
        token = subprocess.run(token, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()
        command = [binary, "serve", "--config", "sealward.toml"]
        stack.enter_context(proxies.Server("sealward", place, command, [port, admin]))
        each = CONNECTIONS // PROCESSES
        self.clients = []
        for process in range(PROCESSES):
            client = subprocess.Popen(
                [sys.executable, HERE / "put.py", str(port), str(each), str(BYTES), folder],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.callback(end, client)
            tell(client, f"{token}\n{process * each}")
            self.clients.append(client)
        for client in self.clients:
            if hear(client, PATIENCE) != "ready":
                raise Failed(f"{name}: a client isn't ready")

    def turn(self, prefix, seconds):
        """How many milliseconds each upload took, in order of that."""
        for client in self.clients:
            tell(client, f"{prefix} {seconds}")
        times = sorted(took for client in self.clients for took in json.loads(hear(client, seconds + PATIENCE)))
        self.uploads += len(times)
        return {"p50": percentile(times, 50), "p99": percentile(times, 99), "rate": len(times) / seconds}

    def recorded(self):
        """As many records as there were uploads, or what was measured is something else."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        found = re.search(r'^sealward_catalog_records_total\{outcome="written"\} (\S+)$', text, re.M)
        written = float(found[1]) if found else 0
        if written < self.uploads:
            raise Failed(f"{self.name}: {self.uploads} uploads, and {written:.0f} records")


def end(client):
    client.kill()
    client.communicate()


def tell(client, line):
    client.stdin.write(f"{line}\n")
    client.stdin.flush()


def hear(client, seconds):
    """The next line of a client, which must come in time."""
    ready, _, _ = select.select([client.stdout], [], [], seconds)
    line = client.stdout.readline().strip() if ready else ""
    if not line:
        client.kill()
        raise Failed(f"a client says nothing more: {client.stderr.read().strip()[-300:]}")
    return line


def percentile(ordered, which):
    return ordered[min(len(ordered) - 1, len(ordered) * which // 100)]


def ratio(rounds, base):
    """Of p50, each round's: the median, the least and the most."""
    each = [one["p50"] / other["p50"] for one, other in zip(rounds, base)]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def report(rounds, beside):
    """Prints the table, and returns it: of each way its rounds, and those of none in turn with them."""
    print(f"{f'{BYTES} bytes up, {CONNECTIONS} connections':<40}{'p50 ms':>9}{'p99 ms':>9}{'1/s':>9}   p50 to none")
    rows = []
    for name in WAYS:
        row = {key: statistics.median(one[key] for one in rounds[name]) for key in ("p50", "p99", "rate")}
        line = f"{name:<40}{row['p50']:>9.2f}{row['p99']:>9.2f}{row['rate']:>9,.0f}"
        if name != BASE:
            row["ratio"] = ratio(rounds[name], beside[name])
            line += "   {median:.3f} ({least:.3f} to {most:.3f})".format(**row["ratio"])
        if name == JUDGED:
            row["verdict"] = "met" if row["ratio"]["median"] <= GOAL else "not met"
            line += f"  goal {GOAL}: {row['verdict']}"
        print(line)
        rows.append({"name": name, **row, "rounds": rounds[name]})
    return rows


def main():
    binary, results = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    if not binary.is_file() or not proxies.program("openssl"):
        print(f"bench-catalog: {binary} or openssl isn't there", file=sys.stderr)
        sys.exit(2)
    # Either way all that was started is ended on the way out; a background job of a shell would ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine = measure.machine()
    print(f"{machine['cpus']} x {machine['model']}, Linux {machine['kernel']}; {ROUNDS} rounds of {SECONDS} s each")
    results.parent.mkdir(parents=True, exist_ok=True)
    rounds, beside = {name: [] for name in WAYS}, {}
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="bench-catalog-", dir=results.parent)
        folder = pathlib.Path(stack.enter_context(folder))
        proxies.certificate(folder)
        ways = [Way(stack, folder, binary, name) for name in WAYS]
        machine["busy"] = measure.busy(1)
        if machine["busy"] > 0.1:
            print(f"Something else runs here, on {machine['busy']:.0%} of the processors: latencies are worth little.")
        for way in ways[1:]:
            label = list(WAYS).index(way.name)
            for number in range(ROUNDS + 1):
                # The first is for what is made but once: folders, keys, code that was never run.
                seconds = SECONDS if number else 1
                pair = [one.turn(f"{label}-{number}", seconds) for one in (ways[0], way)]
                if number:
                    rounds[BASE].append(pair[0])
                    rounds[way.name].append(pair[1])
            beside[way.name] = rounds[BASE][-ROUNDS:]
        ways[list(WAYS).index(JUDGED)].recorded()
    rows = report(rounds, beside)
    settings = {"rounds": ROUNDS, "seconds": SECONDS, "connections": CONNECTIONS, "bytes": BYTES, "goal": GOAL}
    results.write_text(json.dumps({"machine": machine, "settings": settings, "rows": rows}, indent=1) + "\n")
    sys.exit(any(row.get("verdict") == "not met" for row in rows))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (Failed, RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"bench-catalog: {error}")
