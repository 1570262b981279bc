#!/usr/bin/env python3
"""Minutes of mixed load on the release binary: `make soak`.

    benches/soak/soak.py SEALWARD SINK ENVIRONMENT RESULTS.json

Sealward stands as in production: TLS in front, KMS and S3 behind (SINK, the bench `sink`), a
catalogue, apps, an access log, metrics that are scraped every second. As many clients at all times
put, read, list, share and remove, over HTTP/1.1 and HTTP/2, on kept connections and new ones; some
leave in the middle, and some idle until they are told to go. The configuration is reloaded every 20
seconds, the certificate renewed every minute. Every status and every byte of an answer is looked at.

The goals: memory grows by less than 1 MiB a minute after the first; no request failed; and once
the clients are gone and idle connections have had their time, no descriptor, connection, thread,
buffer or unfinished upload is left. Exit code 1 where one is missed, 2 where a program is missing. By the
environment: MINUTES=5, CATALOGUE=postgres or sqlite (by default PostgreSQL where there is one).
ENVIRONMENT is where PyPI's programs are, beside which is the one that has Python's h2.
"""

import contextlib
import json
import os
import pathlib
import re
import resource
import select
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.dont_write_bytecode = True

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent / "peers"))

import ground  # noqa: E402
import measure  # noqa: E402
import proxies  # noqa: E402
import stories  # noqa: E402
import verdict  # noqa: E402
import watch  # noqa: E402
from load import Failed  # noqa: E402
from proxy import note, setting  # noqa: E402
from store import Sink  # noqa: E402

MINUTES = setting("MINUTES", 5)
WARM = 60  # seconds that count for nothing
RELOAD, RENEW, LOOK = 20, 60, 5
SOON = 30  # seconds for what was asked of the server to be seen
LAST = 180  # seconds for a client to come to the end of what it is at
# Connections to apps are kept for 60 s and looked at every 10; the SDK's for 90, and looked at as rarely.
SETTLE = 210

# What a process of clients has told that says nothing any more.
NOTHING = {"kinds": {}, "left": 0, "slowest": {}, "connections": 0, "serials": [], "names": {}}


class Crew:
    """A process of clients."""

    def __init__(self, name, interpreter, site, **settings):
        self.name = name
        settings |= {"name": name, "port": site.port, "token": site.token, "folder": str(site.folder)}
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.child = subprocess.Popen(
            [interpreter, HERE / "client.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        self.say(json.dumps(settings))
        if self.hear(SOON) != "ready":
            raise Failed(f"{name} isn't ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()

    def say(self, line):
        with contextlib.suppress(BrokenPipeError):  # of one that has ended, and said why
            self.child.stdin.write(f"{line}\n")
            self.child.stdin.flush()

    def hear(self, seconds):
        ready, _, _ = select.select([self.child.stdout], [], [], seconds)
        line = self.child.stdout.readline().strip() if ready else ""
        if not line:
            self.child.kill()
            words = self.child.communicate()[1].strip()[-500:]
            raise Failed(f"{self.name} says nothing more: {words or 'not even why'}")
        return line

    def over(self):
        """Whether it has given up, before anybody told it to end."""
        return self.child.poll() is not None


def crews(stack, site, with_h2):
    """All the clients there are at once; which kinds of requests each must have made."""
    own, both = sys.executable, ["/files/", "/guarded/"]
    wanted = {
        "small-1": (own, {"role": "kept", "story": "Small", "at_once": 4, "routes": both}, stories.Small.kinds),
        "small-2": (own, {"role": "kept", "story": "Small", "at_once": 4, "routes": both}, stories.Small.kinds),
        "large": (own, {"role": "kept", "story": "Large", "at_once": 2, "routes": both}, stories.Large.kinds),
        "leavers": (own, {"role": "kept", "story": "Leaver", "at_once": 2, "routes": both}, stories.Leaver.kinds),
        "visitors": (
            own, {"role": "visitors", "at_once": 2, "routes": both}, (*stories.Visitor.kinds, "left-handshake"),
        ),
        "idlers": (own, {"role": "idlers", "at_once": 40, "idle": ground.IDLE}, (*stories.Idler.kinds, "ended-idle")),
        "curl": (own, {"role": "curls"}, ("curl-put", "curl-get")),
        "http2": (
            with_h2, {"role": "http2", "lanes": ["Small", "Small", "Small", "Leaver", "Large"]},
            {*stories.Small.kinds, *stories.Leaver.kinds, *stories.Large.kinds},
        ),
    }  # fmt: skip
    started = {}
    for name, (interpreter, settings, kinds) in wanted.items():
        started[name] = stack.enter_context(Crew(name, interpreter, site, **settings)), kinds
    return started


class Run:
    """The minutes of load, and what is done to the server meanwhile."""

    def __init__(self, site, started, log):
        self.site, self.started, self.log = site, started, log
        self.faults = []

    def go(self):
        begun = time.monotonic()
        due = {self.reload: begun + RELOAD, self.renew: begun + RENEW, self.look: begun + LOOK}
        steps = {self.reload: RELOAD, self.renew: RENEW, self.look: LOOK}
        until = begun + MINUTES * 60
        while (now := time.monotonic()) < until:
            what = min(due, key=due.get)
            if due[what] > now:
                time.sleep(min(due[what], until) - now)
                continue
            due[what] += steps[what]
            what()
            if over := [crew.name for crew in self.crews() if crew.over()]:
                self.fault(f"{', '.join(over)} gave up, having seen too much fail")
                return
            left = until - time.monotonic()
            note(f"{max(0, left):.0f} s to go, {len(self.faults)} faults of the server's own course")

    def crews(self):
        return [crew for crew, _ in self.started.values()]

    def look(self):
        if self.site.server.child.poll() is not None:
            words = self.site.server.log.read_text(errors="replace")[-2000:]
            raise Failed(f"sealward has ended with {self.site.server.child.returncode}: {words}")
        self.log.read()

    def reload(self):
        before = reloads(self.site)
        self.site.reload()
        self.until("a reload is taken up", lambda: reloads(self.site) > before)
        with contextlib.suppress(FileNotFoundError):
            (self.site.folder / "access.log.1").unlink()

    def renew(self):
        before = published(self.site)
        self.site.renew()
        self.until("a certificate is published", lambda: published(self.site) > before)

    def fault(self, words):
        self.faults.append(f"{time.strftime('%H:%M:%S')} {words}")

    def rest(self):
        """With the configuration that it had before."""
        if self.site.turn:
            self.reload()

    def until(self, words, holds):
        """What isn't seen in time is a fault; the load goes on."""
        last = time.monotonic() + SOON
        while not holds():
            if time.monotonic() > last:
                self.fault(f"not within {SOON} s: {words}")
                return
            time.sleep(0.1)


def reloads(site):
    return watch.scrape(site.admin).sum("sealward_config_reloads_total", outcome="taken")


def published(site):
    return watch.scrape(site.admin).sum("sealward_certificate_loads_total", outcome="published")


def ended(started):
    """What each process of clients has to tell, having ended what it was at."""
    for crew, _ in started.values():
        crew.say("end")
    until, reports = time.monotonic() + LAST, {}
    for name, (crew, _) in started.items():
        try:
            reports[name] = json.loads(crew.hear(max(1, until - time.monotonic())))
        except (Failed, ValueError) as error:
            # What others have to tell isn't lost for it.
            words = f"{time.strftime('%H:%M:%S')} {error}"
            reports[name] = {**NOTHING, "failed": 1, "words": [words]}
    return reports


class Reader:
    """Who asks for lists, as any client does."""

    def __init__(self, site):
        context = ssl.create_default_context(cafile=str(site.folder / "ca.pem"))
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        self.site, self.opener = site, urllib.request.build_opener(*handlers)

    def page(self, route, query):
        address = f"https://localhost:{self.site.port}{route}?list&{query}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {self.site.token}"})
        with self.opener.open(request, timeout=SOON) as answer:
            return json.load(answer)

    def all(self):
        """Every name there is, with size and tag, as the store has them."""
        found = {}
        for route in ("/files/", "/guarded/"):
            after = ""
            while after is not None:
                page = self.page(route, f"limit=1000{after}")
                found |= {f"{route}{one['key']}": [one["size"], one["etag"]] for one in page["objects"]}
                after = f"&after={page['next']}" if page["next"] else None
        return found


def strays(reports, found):
    """Names under which something else stands than clients know of."""
    known = {path: what for report in reports.values() for path, what in report["names"].items()}
    wrong = [path for path, what in known.items() if what != "unknown" and found.get(path) != what]
    return sorted(set(wrong) | (set(found) - set(known)))


def settled(site, before):
    """What is left once all of it is gone that has to go, or the time for that is over; and after how many
    seconds each thing was last too much."""
    begun, reader, waited = time.monotonic(), Reader(site), {}
    while True:
        now = watch.look(site.pid, site.admin, site.ports())
        left = verdict.leftovers(now, before, site.unfinished())
        waits = [name for name, (there, most) in left.items() if there > most]
        took = time.monotonic() - begun
        waited |= dict.fromkeys(waits, took)
        if not waits or took > SETTLE:
            return now, left, {"all": took, **waited}
        if waits == ["catalogue connections in use"]:
            # They are counted as one is taken, and nobody takes any now: whoever asks is counted alone.
            reader.page("/files/", "limit=1&order=newest")
        note(f"{took:.0f} s after the last client; still too much: {', '.join(waits)}")
        time.sleep(0.5)


def prepare(binary, sink, environment):
    """The interpreter that has h2; what can't be done without is named before anything is begun."""
    missing = [name for name in ("nginx", "openssl", "curl") if not proxies.program(name)]
    for built in (binary, sink):
        if not built.is_file():
            missing.append(str(built))
    with_h2 = ground.python(environment)
    if not with_h2:
        missing.append(f"{environment.parent}/esdk, which `make peers` lays out")
    if missing:
        print(f"soak: not found: {', '.join(missing)}: make soak sees to it", file=sys.stderr)
        sys.exit(2)
    if MINUTES < 2:
        print("soak: MINUTES is 2 at least: the first counts for nothing", file=sys.stderr)
        sys.exit(2)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return with_h2


def soak(stack, folder, binary, sink, with_h2, catalogue):
    """All there is to tell."""
    site = ground.Site(stack, folder, binary, stack.enter_context(Sink(folder, sink)), catalogue)
    log = watch.Log(site.server.log)
    before = watch.look(site.pid, site.admin, site.ports())
    watching = watch.Watch(site.pid, site.admin, site.ports())
    with contextlib.ExitStack() as clients:
        started = crews(clients, site, with_h2)
        watching.start()
        run = Run(site, started, log)
        run.go()
        watching.end()
        run.rest()
        reports = ended(started)
    after, left, took = settled(site, before)
    found = Reader(site).all()
    final = verdict.totals(watch.scrape(site.admin))
    code, ending = site.end()
    log.read()
    # Each begins with its time: the first of all.
    words = [f"{word[:8]} {name}{word[8:]}" for name, report in reports.items() for word in report["words"]]
    words = run.faults + sorted(words)[:10]
    ids = set(re.findall(r"\(request ([0-9a-f-]{36})\)", " ".join(words)))
    told = {
        "machine": measure.machine(), "minutes": MINUTES, "catalogue": catalogue, "goals": [],
        "failed": sum(report["failed"] for report in reports.values()) + len(run.faults),
        "words": words, "lines": log.lines_of(ids) if ids else [],
        "unmade": [f"{name}: {kind}" for name, (_, kinds) in started.items() for kind in sorted(kinds)
                   if not reports[name]["kinds"].get(kind)],
        "strays": strays(reports, found), "left_early": sum(report["left"] for report in reports.values()),
        "connections": sum(report["connections"] for report in reports.values()),
        "serials": sorted({serial for report in reports.values() for serial in report["serials"]}),
        "reloads": site.reloads, "renewals": site.renewals, "metrics": final, "missed": watching.missed,
        "log": dict(log.counts), "log_first": log.first, "before": before, "after": after, "left": left,
        "settled": took, "exit": code, "ended": ending, "samples": columns(watching.samples),
        "clients": {name: {key: one for key, one in report.items() if key != "names"}
                    for name, report in reports.items()},
    }  # fmt: skip
    told |= {key: watch.slopes(watching.samples, key, WARM) for key in verdict.SAMPLED}
    told["goals"] = verdict.verdicts(told)
    return told


def columns(samples):
    """A list for each thing that was looked at."""
    return {key: [round(one[key], 2) for one in samples] for key in samples[0] if key != "kinds"}


def main():
    binary, sink, environment, results = (pathlib.Path(argument).absolute() for argument in sys.argv[1:5])
    with_h2 = prepare(binary, sink, environment)
    catalogue = os.environ.get("CATALOGUE") or ("postgres" if ground.postgres() else "sqlite")
    # Either way all that was started is ended on the way out; a background job of a shell would ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine = measure.machine()
    print(f"{machine['cpus']} x {machine['model']}, Linux {machine['kernel']}; {MINUTES} minutes, on {catalogue}")
    results.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        told = soak(stack, folder, binary, sink, with_h2, catalogue)
    results.write_text(json.dumps(told, indent=1) + "\n")
    note("")
    verdict.show(told)
    sys.exit(not all(met for *_, met in told["goals"]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (Failed, RuntimeError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"soak: {error}")
