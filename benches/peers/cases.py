"""What the peers' benchmark measures: each case is a piece of work that the systems do in turn."""

import contextlib
import time
from dataclasses import dataclass, replace

import measure
import systems
from asks import CHUNK, CONNECTIONS, Asker
from load import Failed
from place import Place
from proxy import note, setting, spent

ROUNDS = setting("ROUNDS", 5)
SIZE = setting("MIB", 1024) << 20
SECONDS = setting("SECONDS", 5)
DEADLINE = setting("DEADLINE", 5400)
SHAKES = setting("SHAKES", 3000)
MIDDLE = min(SIZE, 64 << 20)
SMALL = 4096
NAMES = 4096  # of small objects
AT_ONCE = 512
TRIES = 15
GIB, MIB = 1 << 30, 1 << 20
FIGURES = ["mib_s", "cpu_s_per_gib", "req_s", "cpu_us_per_req", "p50_ms", "p99_ms", "rss_mib"]


class Ground:
    """The sink, the clients, and what has been put there to be read."""

    def __init__(self, folder, sink, tools):
        self.until = time.monotonic() + DEADLINE
        self.place, self.sink = Place(folder, sink, tools), sink
        self.asker = Asker(folder, sink, self.remaining)
        self.filled = set()

    def remaining(self):
        return self.until - time.monotonic()


class World(Ground):
    """What all cases need, and what lies there to be read."""

    def __init__(self, folder, sink, tools):
        super().__init__(folder, sink, tools)
        self.large, self.middle = self.asker.file("large", SIZE), self.asker.file("middle", MIDDLE)
        self.small = self.asker.file("small", SMALL)

    def fill(self, up, what):
        """Has the system put what it'll be asked for, if nobody has who puts it there in the same way."""
        if not what or (up.stored, what) in self.filled:
            return
        if what == "small":
            self.asker.many(up, "small-", NAMES, CONNECTIONS, SMALL)
            for number in range(NAMES):
                self.asker.landed(up, f"small-{number}", SMALL)
        else:
            file, names = (self.large, ["large"]) if what == "large" else (self.middle, middles())
            self.asker.curls(up, [[("PUT", name, file) for name in names]])
            for name in names:
                self.asker.landed(up, name, file.stat().st_size)
        self.filled.add((up.stored, what))


def middles():
    return [f"middle-{number}" for number in range(8)]


def moved(size, cpu, wall, times):
    times = sorted(times)
    return {
        "mib_s": size / MIB / wall,
        "cpu_s_per_gib": cpu * GIB / size,
        "p50_ms": middle(times),
        "p99_ms": times[min(len(times) - 1, len(times) * 99 // 100)],
    }


def middle(times):
    return sorted(times)[len(times) // 2]


def asked(report, cpu, seconds, size):
    """Of wrk's report; `size` bytes went with each request."""
    count = report["requests"]
    return {
        "mib_s": count * size / MIB / seconds,
        "cpu_s_per_gib": cpu * GIB / (count * size),
        "req_s": count / seconds,
        "cpu_us_per_req": cpu / count * 1e6,
        "p50_ms": report["p50"],
        "p99_ms": report["p99"],
    }


def put(world, up, file, processes):
    """Each of them puts as often, one object after the other."""
    asker, size = world.asker, file.stat().st_size
    transfers = [[("PUT", name, file) for name in asker.fresh(SIZE // size // processes)] for _ in range(processes)]
    names = [name for of_one in transfers for _, name, _ in of_one]
    times, cpu, wall = spent(up, lambda: asker.curls(up, transfers))
    for name in names:
        asker.landed(up, name, size)
    asker.settled(up, takes=size * len(names), count=len(names))
    return moved(size * len(names), cpu, wall, times)


def put_large(world, up):
    return put(world, up, world.large, 1)


def put_middle(world, up):
    return put(world, up, world.middle, processes_of_middle())


def processes_of_middle():
    """Eight, unless so little is asked for that it isn't as many objects."""
    return min(8, SIZE // MIDDLE)


def get_large(world, up):
    return get(world, up, [["large"]], SIZE)


def get_middle(world, up):
    count = processes_of_middle()
    return get(world, up, [[name] * (SIZE // MIDDLE // count) for name in middles()[:count]], MIDDLE)


def get(world, up, names, size):
    times, cpu, wall = spent(up, lambda: world.asker.downloads(up, names, size))
    world.asker.settled(up, gives=size * len(times))
    return moved(size * len(times), cpu, wall, times)


def put_small(world, up):
    report, cpu, _ = spent(up, lambda: world.asker.wrk(up, "put", "run-", NAMES, SMALL, SECONDS))
    count = report["requests"]
    world.asker.settled(up, takes=count * SMALL, count=count, slack=CONNECTIONS)
    return asked(report, cpu, SECONDS, SMALL)


def put_again(world, up):
    report, cpu, _ = spent(up, lambda: world.asker.wrk(up, "again", "small-", NAMES, SMALL, SECONDS))
    world.asker.settled(up, takes=report["requests"] * SMALL, count=report["requests"], slack=CONNECTIONS)
    return asked(report, cpu, SECONDS, SMALL)


def get_small(world, up):
    report, cpu, _ = spent(up, lambda: world.asker.wrk(up, "get", "small-", NAMES, SMALL, SECONDS))
    world.asker.settled(up, gives=report["requests"] * SMALL, slack=CONNECTIONS)
    return asked(report, cpu, SECONDS, SMALL)


def ranges(world, up):
    report, cpu, _ = spent(up, lambda: world.asker.wrk(up, "range", "large", SIZE // CHUNK, CHUNK, SECONDS))
    world.asker.settled(up, gives=report["requests"] * CHUNK, slack=CONNECTIONS)
    return asked(report, cpu, SECONDS, CHUNK)


def cold(world, up):
    """The first request of one that was just started, for what nobody asked it for."""
    took = world.asker.range(up, "large", SIZE // CHUNK // 2 * CHUNK, CHUNK)
    world.asker.settled(up, gives=CHUNK)
    return {"p50_ms": took, "p99_ms": took}


def handshake(world, up):
    made, cpu, wall = spent(up, lambda: world.asker.clients.shakes(up.port(False), SHAKES, 2))
    return {"req_s": made / wall, "cpu_us_per_req": cpu / made * 1e6}


def first_byte(world, up):
    times = sorted(world.asker.first_byte(up, "large") for _ in range(TRIES))
    return {"p50_ms": middle(times), "p99_ms": times[-1]}


def put_at_once(world, up):
    name, size = f"{world.asker.fresh(1)[0]}-", MIB
    report, cpu, _ = spent(up, lambda: world.asker.many(up, name, AT_ONCE, AT_ONCE, size))
    world.asker.settled(up, takes=size * AT_ONCE, count=AT_ONCE)
    figures = moved(size * AT_ONCE, cpu, report["seconds"], [report["p50"]])
    return {**figures, "p99_ms": report["p99"]}


@dataclass(frozen=True)
class Case:
    """What is done, and what must lie there before."""

    work: object
    needs: str = ""
    # nginx is asked in both its ways.
    twice: bool = False
    # Of one that was just started, each time.
    anew: bool = False
    way: str = ""
    names: tuple = tuple(systems.START)


CASES = {
    "put-1g": Case(put_large),
    "get-1g": Case(get_large, "large", twice=True),
    "put-8x64m": Case(put_middle),
    "get-8x64m": Case(get_middle, "middle", twice=True),
    "put-4k": Case(put_small),
    "put-4k-again": Case(put_again, "small"),
    "get-4k": Case(get_small, "small"),
    "range-256k": Case(ranges, "large", twice=True),
    "handshake": Case(handshake),
    "ttfb-1g": Case(first_byte, "large"),
    "put-512": Case(put_at_once),
    "range-256k-cold": Case(cold, "large", anew=True, names=("sealward", "nginx")),
}
CASES |= {f"{name}-32m": replace(CASES[name], way="32m") for name in ("put-8x64m", "put-512")}
for base in ("put-1g", "get-1g", "put-8x64m", "get-8x64m", "put-4k", "get-4k"):
    CASES[f"{base}-tls"] = replace(CASES[base], way="tls")
CASES |= {f"{name}-nocache": replace(CASES[name], way="nocache") for name in ("put-4k", "get-4k")}


def who(case, names):
    """Of `names`, those that the case is of."""
    ways = {name: ways for name, (_, _, ways) in systems.START.items()}
    names = [name for name in names if name in case.names and case.way in ways[name]]
    return [name for name in names if case.twice or name != "nginx-buffered"]


def rounds(world, title, names, case=None):
    """By system: the figures of each round, and what made some of them void; of a case of one's own, or ours."""
    case, found, void = case or CASES[title], {}, {}

    def attempt(name, work):
        if name in void:
            return None
        try:
            if world.remaining() < 0:
                raise Failed(f"not done within {DEADLINE} s")
            return work()
        except (Failed, RuntimeError, OSError) as error:
            void[name] = str(error)
            return None

    def started(name):
        return systems.START[name][0](world.place, case.way)

    def filling(name):
        with started(name) as up:
            world.asker.prove(up)
            world.fill(up, case.needs)

    def once(name, up):
        world.sink.reset()
        try:
            figures = case.work(world, up)
        finally:
            # Or the sink would grow by everything that is ever put.
            world.sink.clear(f"{up.stored}run-")
        figures["rss_mib"] = measure.peak(up.pid) / MIB
        found.setdefault(name, []).append(figures)

    def anew(name):
        with started(name) as up:
            once(name, up)

    for name in who(case, names):
        note(f"{title}: {name} gets ready")
        attempt(name, lambda name=name: filling(name))
    with contextlib.ExitStack() as stack:
        running = {}
        for name in who(case, names) if not case.anew else []:
            running[name] = attempt(name, lambda name=name: stack.enter_context(started(name)))
        for number in range(ROUNDS):
            for name in who(case, names):
                note(f"{title}: round {number + 1} of {ROUNDS}, {name}")
                attempt(name, lambda name=name: anew(name) if case.anew else once(name, running[name]))
    return {name: runs for name, runs in found.items() if name not in void}, void
