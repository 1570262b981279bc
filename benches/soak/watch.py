"""What is looked at while the soak runs and after it: memory, descriptors, sockets, metrics, the log."""

import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import threading
import time

from stories import MIB
from store import opener

PROC = pathlib.Path("/proc")
LINE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$', re.M)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
CLOSE_WAIT, LISTENS = "08", "0A"
BLOCK = 10  # seconds that are taken together for an error: a second's memory resembles that of the one before
MOST_POINTS = 600  # whose pairs are looked at
KEPT = 64 * MIB  # of the log on disk
PAGE = 4096


# ---- The metrics -----------------------------------------------------------------------------


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text):
        self.families = collections.defaultdict(list)
        for name, labels, value in LINE.findall(text):
            self.families[name].append((dict(LABEL.findall(labels)), float(value)))

    def sum(self, name, **labels):
        """Of all that have these labels; a value that is a set holds any of it."""

        def fits(told):
            return all(told.get(key) in (want if isinstance(want, set) else {want}) for key, want in labels.items())

        return sum(value for told, value in self.families[name] if fits(told))

    def told(self, name, label):
        """The family's values by one of its labels."""
        found = collections.Counter()
        for labels, value in self.families[name]:
            found[labels.get(label, "")] += value
        return dict(found)


def scrape(admin):
    with opener().open(f"http://127.0.0.1:{admin}/metrics", timeout=20) as answer:
        return Scrape(answer.read().decode())


# ---- The process, as /proc has it ------------------------------------------------------------


def status(pid):
    """Bytes of memory, and how many threads."""
    found = dict(line.split(":", 1) for line in (PROC / str(pid) / "status").read_text().splitlines())
    memory = {name: int(found[name].split()[0]) << 10 for name in ("VmRSS", "RssAnon", "RssFile", "VmHWM")}
    return {**memory, "Threads": int(found["Threads"])}


def descriptors(pid, ports):
    """How many there are of each kind, by what is at the other end; `ports` are kinds of remote ports, and
    under None the listener's own. And how many sockets are in CLOSE-WAIT."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
            parts = line.split()
            local, remote = (int(parts[at].rpartition(":")[2], 16) for at in (1, 2))
            sockets[parts[9]] = (local, remote, parts[3])
    kinds, half = collections.Counter(), 0
    for entry in os.scandir(PROC / str(pid) / "fd"):
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue
        inode = target[8:-1] if target.startswith("socket:[") else None
        if inode in sockets:
            local, remote, state = sockets[inode]
            half += state == CLOSE_WAIT
            kinds["listener" if state == LISTENS else ports.get(-local) or ports.get(remote) or "other socket"] += 1
        elif inode:
            kinds["other socket"] += 1
        elif "catalog.db" in target:
            kinds["catalogue"] += 1
        else:
            kinds[target.partition(":")[0] if ":" in target else "file"] += 1
    return dict(kinds), half


# ---- Once a second ---------------------------------------------------------------------------


class Watch(threading.Thread):
    """Looks once a second, until it is told to end."""

    def __init__(self, pid, admin, ports):
        super().__init__(daemon=True)
        self.pid, self.admin, self.ports = pid, admin, ports
        self.samples, self.missed, self.over = [], [], threading.Event()

    def run(self):
        begun = time.monotonic()
        due = begun
        while not self.over.wait(max(0, due - time.monotonic())):
            try:
                self.samples.append({"t": time.monotonic() - begun, **look(self.pid, self.admin, self.ports)})
            except OSError as error:
                self.missed.append(str(error))
            due = max(due + 1, time.monotonic())

    def end(self):
        self.over.set()
        self.join()


def look(pid, admin, ports):
    """All that is sampled, in bytes and counts."""
    told, process = scrape(admin), status(pid)
    kinds, half = descriptors(pid, ports)
    return {
        "rss": process["VmRSS"],
        "anonymous": process["RssAnon"],
        "told_rss": told.sum("process_resident_memory_bytes"),
        "threads": process["Threads"],
        "descriptors": sum(kinds.values()),
        "kinds": kinds,
        "close_wait": half,
        "connections": told.sum("sealward_connections"),
        "app_connections": told.sum("sealward_upstream_connections"),
        "app_requests": told.sum("sealward_upstream_requests_in_flight"),
        "uploads": told.sum("sealward_uploads_in_flight"),
        "buffers": told.sum("sealward_buffer_memory_bytes", state="used"),
        "buffers_kept": told.sum("sealward_buffer_memory_bytes", state="kept"),
        "catalogue_used": told.sum("sealward_catalog_connections", state="used"),
        "catalogue_idle": told.sum("sealward_catalog_connections", state="idle"),
        "spooled": told.sum("sealward_catalog_spool_records"),
    }


# ---- Slopes ----------------------------------------------------------------------------------


def slopes(samples, key, after):
    """MiB a minute after so many seconds: least squares with its standard error, and Theil's and Sen's."""
    points = [(one["t"] / 60, one[key] / MIB) for one in samples if one["t"] >= after]
    if len(points) < 3:
        # The load came to an early end: no growth can be told, and so no goal is met.
        return dict.fromkeys(("slope", "error", "theil_sen", "least", "level"), float("nan")) | {"points": len(points)}
    blocks = collections.defaultdict(list)
    for minute, size in points:
        blocks[int(minute * 60 / BLOCK)].append((minute, size))
    means = [tuple(statistics.fmean(values) for values in zip(*block)) for block in blocks.values()]
    slope, level = line(points)
    thin = points[:: -(-len(points) // MOST_POINTS)]
    pairs = [
        (size - before) / (minute - since)
        for at, (minute, size) in enumerate(thin)
        for since, before in thin[:at]
    ]  # fmt: skip
    return {
        "slope": slope,
        "error": error_of(means),
        "theil_sen": statistics.median(pairs),
        "least": slope_of_least(blocks.values()),
        "level": level,
        "points": len(points),
    }


def line(points):
    """The slope, and where the line is at the first point."""
    xs, ys = zip(*points)
    slope, intercept = statistics.linear_regression(xs, ys)
    return slope, intercept + slope * xs[0]


def error_of(points):
    """The standard error of the slope through `points`."""
    if len(points) < 3:
        return float("inf")
    xs, ys = zip(*points)
    slope, intercept = statistics.linear_regression(xs, ys)
    rest = sum((y - intercept - slope * x) ** 2 for x, y in points)
    middle = statistics.fmean(xs)
    return (rest / (len(points) - 2) / sum((x - middle) ** 2 for x in xs)) ** 0.5


def slope_of_least(blocks):
    """Of each block the least: what is held, without what comes and goes with requests."""
    points = [min(block, key=lambda point: point[1]) for block in blocks]
    return line(points)[0] if len(points) > 1 else float("inf")


# ---- The log ---------------------------------------------------------------------------------


class Log:
    """What the server says, read as it grows: every warning and error is counted by its words."""

    def __init__(self, path):
        self.path, self.at, self.rest = path, 0, b""
        self.counts, self.first = collections.Counter(), {}
        self.level = re.compile(rb'"level":"(WARN|ERROR)"')

    def read(self):
        with open(self.path, "rb") as file:
            file.seek(self.at)
            while piece := file.read(MIB):
                self.at += len(piece)
                *lines, self.rest = (self.rest + piece).split(b"\n")
                for text in lines:
                    # What isn't JSON is no line of the log: a panic's words, say.
                    if self.level.search(text) or not text.startswith(b"{"):
                        self.keep(text.decode(errors="replace"))
        self.spare()

    def keep(self, text):
        words = text
        try:
            told = json.loads(text)
            words = f"{told.get('level')} {told.get('target')}: {told.get('message')}"
            if status := told.get("status"):
                words += f" {told.get('method')} {told.get('route')} {status}"
        except (ValueError, AttributeError):
            pass
        self.counts[words] += 1
        self.first.setdefault(words, text[:2000])

    def spare(self):
        """Gives back the disk under all but the end of it; the server writes on where it was."""
        length = max(0, self.at - KEPT) // PAGE * PAGE
        if length:
            command = ["fallocate", "--punch-hole", "--offset", "0", "--length", str(length), str(self.path)]
            subprocess.run(command, capture_output=True, check=False, timeout=60)

    def lines_of(self, ids):
        """The lines that name any of these requests, as far as they are there still."""
        found = []
        with open(self.path, "rb") as file:
            file.seek(max(0, self.at - KEPT) // PAGE * PAGE)
            for text in file:
                if any(one.encode() in text for one in ids):
                    found.append(text.decode(errors="replace").strip()[:2000])
        return found
