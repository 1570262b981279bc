"""What the peers' benchmark asks of a system, and how it knows that it was done.

Each way of asking returns what it counted, or raises Failed: every status is looked at, and the
sink is asked for every byte that it must have taken or given.
"""

import json
import os
import re
import subprocess
import sys
import time

import load
from load import Failed

CONNECTIONS = 32
CHUNK = 256 << 10  # a frame of Sealward's, as it comes
# Requests are made before anything is timed, each thread's its own: wrk must be cheap.
SCRIPT = """
local threads, made, at = 0, {}, 0
local before, after
function setup(thread)
  thread:set("own", threads)
  threads = threads + 1
end
function init(args)
  local kind, path, count, size, token = args[1], args[2], tonumber(args[3]), tonumber(args[4]), args[5]
  local each = count / 2
  local body = string.rep("s", size)
  for number = own * each, own * each + each - 1 do
    local headers = {}
    if token then headers["Authorization"] = "Bearer " .. token end
    if kind == "put" then
      -- Each under a name of its own, as uploads mostly are.
      local whole = wrk.format("PUT", path .. "@", headers, body)
      local from, to = string.find(whole, "@", 1, true)
      before, after = string.sub(whole, 1, from - 1) .. own .. "-", string.sub(whole, to + 1)
      return
    elseif kind == "again" then
      made[#made + 1] = wrk.format("PUT", path .. number, headers, body)
    elseif kind == "get" then
      made[#made + 1] = wrk.format("GET", path .. number, headers)
    else
      headers["Range"] = string.format("bytes=%d-%d", number * size, number * size + size - 1)
      made[#made + 1] = wrk.format("GET", path, headers)
    end
  end
end
function request()
  at = at + 1
  if before then return before .. at .. after end
  return made[(at - 1) % #made + 1]
end
"""


class Asker:
    """The clients, what they need of files, and the sink that is asked what came of it."""

    def __init__(self, folder, sink, remaining):
        self.folder, self.sink, self.clients = folder, sink, load.Clients(folder, remaining)
        (folder / "asks.lua").write_text(SCRIPT + load.REPORT)
        self.named = 0

    def file(self, name, size):
        """Of zeros that take no room on disk, and in memory before anybody is timed."""
        path = self.folder / name
        with open(path, "w+b") as file:
            file.truncate(size)
            while file.read(1 << 20):
                pass
        return path

    def fresh(self, count):
        """Names that nobody had before."""
        self.named += count
        return [f"run-{number}" for number in range(self.named - count, self.named)]

    def prove(self, up):
        """That it agrees on what all do, passes bytes as they are, and seals them if it should."""
        for port in {up.port(False), up.port(True)}:
            self.clients.pinned(port)
        body, back = os.urandom(300_000), self.folder / "back"
        (self.folder / "proof").write_bytes(body)
        self.curls(up, [[("PUT", "proof", self.folder / "proof")]])
        self.landed(up, "proof", len(body))
        if (body[:64] in self.sink.held(f"{up.stored}proof")) == up.sealed:
            raise Failed("what it stored is plain and should be sealed, or the other way round")
        for which, wanted in [((), body), (("-r", f"{CHUNK}-{CHUNK + 99}"), body[CHUNK : CHUNK + 100])]:
            self.curls(up, [[("GET", "proof", back)]], *which)
            if back.read_bytes() != wanted:
                raise Failed(f"what came back isn't what was sent {' '.join(which)}".strip())

    def curl(self, up):
        # A body goes out at once, unasked.
        told = [*self.clients.curl(), "-H", "Expect:"]
        return [*told, "-H", f"Authorization: Bearer {up.token}"] if up.token else told

    def curls(self, up, processes, *more):
        """Milliseconds that each transfer took: a curl for each of `processes`, all at once, each with its
        transfers one after the other on one connection; a transfer is a method, a name, and a file."""
        form = "%{http_code} %{size_upload} %{size_download} %{time_total}\\n"
        running = []
        for transfers in processes:
            command = [*self.curl(up), *more, "-w", form]
            for method, name, file in transfers:
                url = f"https://localhost:{up.port(True)}{up.path}{name}"
                command += ["-T", file, "-o", os.devnull, url] if method == "PUT" else ["-o", file, url]
            running.append(self.clients.start(*command))
        times = []
        for transfers, said in zip(processes, self.clients.ends(running, 120)):
            lines = said.splitlines()
            if len(lines) != len(transfers):
                raise Failed(f"of {len(transfers)} transfers curl tells of {len(lines)}")
            for (method, name, file), line in zip(transfers, lines):
                status, sent, _, took = line.split()
                # rclone's S3 server says 200 of a range; its bytes are counted all the same.
                if status not in (("200", "201", "204") if method == "PUT" else ("200", "206")):
                    raise Failed(f"{method} {name}: status {status}")
                if method == "PUT" and int(sent) != file.stat().st_size:
                    raise Failed(f"PUT {name}: {sent} bytes were sent")
                times.append(float(took) * 1000)
        return times

    def downloads(self, up, names, size):
        """As `curls`, a list of names for each process; what came is counted by the length it must have."""
        form = "%{http_code} %{size_download} %{time_total}\\n"
        running = []
        for of_one in names:
            command = [*self.curl(up), "-w", form]
            for name in of_one:
                command += ["-o", os.devnull, f"https://localhost:{up.port(True)}{up.path}{name}"]
            running.append(self.clients.start(*command))
        times = []
        for of_one, said in zip(names, self.clients.ends(running, 120)):
            lines = [line.split() for line in said.splitlines()]
            if [line[:2] for line in lines] != [["200", str(size)]] * len(of_one):
                raise Failed(f"of {len(of_one)} objects of {size} bytes came (status, bytes): {said.strip()}")
            times += [float(line[2]) * 1000 for line in lines]
        return times

    def range(self, up, name, begin, size):
        """Milliseconds from the request to its last byte, the connection being there."""
        form = "%{http_code} %{size_download} %{time_pretransfer} %{time_total}"
        url = f"https://localhost:{up.port(True)}{up.path}{name}"
        command = [*self.curl(up), "-r", f"{begin}-{begin + size - 1}", "-o", os.devnull, "-w", form, url]
        status, came, before, total = self.clients.run(*command).split()
        if status not in ("200", "206") or int(came) != size:
            raise Failed(f"a range of {size} bytes came to {came}, status {status}")
        return (float(total) - float(before)) * 1000

    def first_byte(self, up, name):
        """Milliseconds to the answer's first byte; the rest is left, since what takes it is full."""
        url = f"https://localhost:{up.port(True)}{up.path}{name}"
        child = self.clients.start(*self.curl(up), "-o", "/dev/full", "-w", "%{http_code} %{time_starttransfer}", url)
        try:
            said, words = child.communicate(timeout=load.SLACK)
        except subprocess.TimeoutExpired as late:
            raise Failed("the first byte took too long") from late
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()
        # 23: it couldn't write.
        if child.returncode != 23 or not said.startswith("200 "):
            raise Failed(f"the first byte: curl exited with {child.returncode}: {said} {words.strip()[-200:]}")
        return float(said.split()[1]) * 1000

    def wrk(self, up, kind, name, count, size, seconds):
        """Many small requests: what wrk reports."""
        large = kind == "range"
        command = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", "asks.lua"]
        command += [f"https://localhost:{up.port(large)}/", "--", kind, f"{up.path}{name}", count, size]
        said = self.clients.run(*command, *([up.token] if up.token else []), seconds=seconds)
        found = re.search(r"^REPORT (.*)$", said, re.M)
        if not found:
            raise Failed(f"wrk reports nothing: {said[-300:]}")
        report = json.loads(found[1])
        if report["failed"] or not report["requests"]:
            raise Failed(f"{report['failed']} requests failed, {report['requests']} were answered")
        # Heads differ by a few bytes; of each connection one answer may be half there.
        least = 0 if kind in ("put", "again") else size
        if not 0 <= report["bytes"] - report["requests"] * least <= (report["requests"] + CONNECTIONS) * 2048 + (
            CONNECTIONS * size
        ):
            raise Failed(f"{report['requests']} answers of {least} bytes came to {report['bytes']} bytes")
        return report

    def many(self, up, name, count, connections, size):
        arguments = [up.port(size > 64 << 10), f"{up.path}{name}", count, connections, size]
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "many.py")
        child = self.clients.start(sys.executable, script, *arguments)
        report = json.loads(self.clients.end(child, 240, f"{up.token}\n"))
        if report["made"] != count:
            raise Failed(f"of {count} uploads {report['made']} were made")
        return report

    def landed(self, up, name, size):
        """The sink has it, as long as it must be."""
        stored = self.sink.size(f"{up.stored}{name}")
        if stored is None or not fits(up, stored, size, 1):
            raise Failed(f"of {name}, {size} bytes, the sink holds {stored}")

    def settled(self, up, takes=0, gives=0, count=1, slack=0):
        """The sink failed in nothing since it was reset, and took or gave at least so many bytes in `count`
        objects; `slack` requests may have ended with their clients."""
        until = time.monotonic() + 5
        while True:
            counts = self.sink.counts()
            written = counts["puts"] + counts["completed"]
            came = counts["put_bytes"] + counts["part_bytes"]
            if written >= count or not takes or time.monotonic() > until:
                break
            time.sleep(0.02)
        if counts["failed"] > slack:
            raise Failed(f"the sink failed in {counts['failed']} requests")
        if takes:
            each = takes // count
            # What a client left is counted, or not.
            right = fits(up, came, each * written, written) or abs(came - each * written) <= slack * each
            if written < count or came < takes or not right:
                raise Failed(f"of {count} objects and {takes} bytes the sink took {written} and {came}")
        if gives and counts["get_bytes"] < gives:
            raise Failed(f"of {gives} bytes the sink gave {counts['get_bytes']}")
        return counts


def fits(up, stored, size, objects):
    """As long as what was sent, or as sealing makes it: less than a hundredth and 64 KiB for each more."""
    return size <= stored < size * 1.01 + objects * (64 << 10) if up.sealed else stored == size
