#!/usr/bin/env python3
"""One process of clients: it asks until its input says `end`, and then tells what came of it.

    client.py < one line of JSON: the role, the port, the token, the folder, how many at once
              < any other line, or the end of input, ends it

Prints "ready" before it begins, and in the end a line of JSON: how often each kind of request was
made, how many clients left as they meant to, what failed in which words, and what stands under
the names that it has put.
"""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

import stories  # noqa: E402
from stories import KIB, MIB, UNKNOWN, Story, Unexpected, judge  # noqa: E402
from wire import PATIENCE, Gone, Http1, Plug, abandon  # noqa: E402

WORDS = 10
MOST_FAILED = 1000  # after which there is nothing more to be learnt


class Tally:
    """What came of it all; for every thread of the process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.kinds, self.left, self.failed, self.words = {}, 0, 0, []
        self.slowest, self.connections, self.serials = {}, 0, set()
        self.stop = threading.Event()

    def made(self, kind, seconds, left=False):
        with self.lock:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            self.slowest[kind] = max(self.slowest.get(kind, 0), seconds)
            self.left += left

    def fails(self, told, words):
        with self.lock:
            self.failed += 1
            if len(self.words) < WORDS:
                self.words.append(f"{time.strftime('%H:%M:%S')} {told}: {words}")
            if self.failed >= MOST_FAILED:
                self.stop.set()

    def connected(self, stream):
        with self.lock:
            self.connections += 1
            self.serials.add((stream.getpeercert() or {}).get("serialNumber", "none"))


class Lane:
    """A story, and who keeps the count of it."""

    def __init__(self, story, tally):
        self.story, self.tally = story, tally
        self.work, self.asked, self.begun = story.work(), None, 0.0

    def next(self, answer=None):
        """The next request; the answer to the last one is judged."""
        while True:
            try:
                if answer is not None:
                    judge(self.asked, answer)
                    seconds = time.monotonic() - self.begun
                    self.tally.made(self.asked.kind, seconds, left=self.asked.leaves is not None)
                ask = self.work.send(answer)
            except StopIteration:
                self.work, answer = self.story.work(), None
                continue
            except (Unexpected, ValueError, KeyError, TypeError) as error:
                self.fails(f"{type(error).__name__}: {error}", answer)
                answer = None
                continue
            self.asked, self.begun = ask, time.monotonic()
            return ask

    def fails(self, words, answer=None):
        ask = self.asked
        known = f" (request {answer.headers.get('x-request-id')})" if answer and answer.headers else ""
        self.tally.fails(f"{ask.kind} {ask.method} {ask.path}{known}", words)
        self.story.doubts(ask)
        self.work = self.story.work()


# ---- Clients of HTTP/1.1 ---------------------------------------------------------------------


def goes_on(lane, client, fresh=False):
    """Asks one thing after the other until it is told to end."""
    ask = lane.next()
    while not lane.tally.stop.is_set():
        answer = None
        try:
            answer = client.ask(ask)
        except (OSError, Gone, ValueError) as error:
            lane.fails(f"{type(error).__name__}: {error}")
            client.close()
        if fresh:
            client.close()
            # Handshakes alone would take both cores.
            lane.tally.stop.wait(0.02)
        ask = lane.next(answer)
    client.close()


def kept_connections(settings, tally, told):
    """Each client on a connection that it keeps."""
    clients = []
    for number in range(settings["at_once"]):
        route = settings["routes"][number % len(settings["routes"])]
        story = getattr(stories, settings["story"])(f"{settings['name']}-{number}", route)
        told.append(story)
        plug = Plug(settings, tally, "http/1.1")
        clients.append(threading.Thread(target=goes_on, args=(Lane(story, tally), Http1(plug, number))))
    together(clients)


def visitors(settings, tally, told):
    """Each request on a connection of its own, by a full handshake; and some that break one off."""
    clients = []
    for number in range(settings["at_once"]):
        story = stories.Visitor(f"{settings['name']}-{number}", settings["routes"][0])
        told.append(story)
        plug = Plug(settings, tally, "http/1.1")
        clients.append(threading.Thread(target=goes_on, args=(Lane(story, tally), Http1(plug, number), True)))
    clients.append(threading.Thread(target=passers_by, args=(settings, tally)))
    together(clients)


def passers_by(settings, tally):
    """Connections that end before they are any: without a word, within a record, and with what isn't TLS."""
    chance = random.Random(settings["name"])
    hello = bytes.fromhex("160301020001000200010203")
    while not tally.stop.wait(0.1):
        begun = time.monotonic()
        try:
            stream = socket.create_connection(("127.0.0.1", settings["port"]), PATIENCE)
            stream.sendall(chance.choice([b"", hello, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"]))
            abandon(stream, chance)
            tally.made("left-handshake", time.monotonic() - begun, left=True)
        except OSError as error:
            tally.fails("left-handshake", error)


def idlers(settings, tally, told):
    """Connections that ask once and are ended by the server, which does so cleanly."""
    clients = [threading.Thread(target=idles, args=(settings, tally, number)) for number in range(settings["at_once"])]
    together(clients)


def idles(settings, tally, number):
    lane = Lane(stories.Idler(f"{settings['name']}-{number}"), tally)
    client = Http1(Plug(settings, tally, "http/1.1"), number)
    # Not all at the same time.
    tally.stop.wait(random.Random(number).random() * settings["idle"])
    ask = lane.next()
    while not tally.stop.is_set():
        try:
            lane.begun = time.monotonic()
            ask = lane.next(client.ask(ask))
            waits(client.stream, tally, settings["idle"])
        except (OSError, Gone) as error:
            lane.fails(f"{type(error).__name__}: {error}")
            ask = lane.next()
        client.close()


def waits(stream, tally, idle):
    """Until the server ends the connection, which it mustn't do long before or after its time."""
    begun = time.monotonic()
    stream.settimeout(1)
    while not tally.stop.is_set():
        try:
            came = stream.recv(1)
        except TimeoutError:
            if time.monotonic() - begun > idle + 20:
                raise Gone(f"a connection without a request is still there after {idle + 20} s") from None
            continue
        waited = time.monotonic() - begun
        if came or waited < idle - 5:
            raise Gone(f"after {waited:.1f} s without a request came {came!r}")
        return tally.made("ended-idle", waited)


def together(clients):
    for client in clients:
        client.start()
    for client in clients:
        client.join()


# ---- curl ------------------------------------------------------------------------------------


class Curl(Story):
    """What curl puts and reads, several at once on one new connection of HTTP/2."""

    SIZES = (0, 4 * KIB, 4 * KIB, 100 * KIB, MIB, 6 * MIB)
    most = 8 * MIB


def curls(settings, tally, told):
    story = Curl(settings["name"])
    told.append(story)
    place = os.path.join(settings["folder"], settings["name"])
    os.mkdir(place)
    names = [story.name(number) for number in range(len(story.SIZES))]
    while not tally.stop.wait(0.5):
        pieces = {name: story.matter.piece(story.chance.randrange(MIB), size) for name, size in zip(names, story.SIZES)}
        statuses = {"200"} if all(story.known.get(name) for name in names) else {"200", "201"}
        for number, name in enumerate(names):
            story.known[name] = UNKNOWN
            with open(os.path.join(place, f"up-{number}"), "wb") as file:
                file.write(pieces[name])
        transfers = [("-T", os.path.join(place, f"up-{number}")) for number in range(len(names))]
        if not curl(settings, tally, place, "curl-put", names, transfers, statuses):
            continue
        for number, name in enumerate(names):
            with open(os.path.join(place, f"out-{number}"), "rb") as file:
                story.known[name] = stories.Known(0, len(pieces[name]), json.load(file)["etag"])
        if not curl(settings, tally, place, "curl-get", names, [()] * len(names), {"200"}):
            continue
        for number, name in enumerate(names):
            with open(os.path.join(place, f"out-{number}"), "rb") as file:
                if file.read() != pieces[name]:
                    tally.fails(f"curl-get {name}", "other bytes came than were put")


def curl(settings, tally, place, kind, names, transfers, statuses):
    """Whether all of them went as they must; what comes is in `out-NUMBER`."""
    command = ["curl", "--disable", "-sS", "--http2", "--parallel", "--noproxy", "*", "-4", "--max-time", str(PATIENCE)]
    command += ["--cacert", os.path.join(settings["folder"], "ca.pem"), "--config", "-"]
    command += ["-w", "%{http_code} %{http_version} %{filename_effective} %{errormsg}\\n"]
    for number, (name, how) in enumerate(zip(names, transfers)):
        out = os.path.join(place, f"out-{number}")
        command += [*how, "-o", out, f"https://localhost:{settings['port']}{name}"]
        # curl makes no file for an answer without a byte.
        open(out, "wb").close()
    begun = time.monotonic()
    header = f'header = "Authorization: Bearer {settings["token"]}"\n'
    done = subprocess.run(command, input=header, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    lines = [line.split(" ", 3) for line in done.stdout.splitlines()]
    good = [line for line in lines if line[0] in statuses and line[1] == "2"]
    for _ in good:
        tally.made(kind, time.monotonic() - begun)
    for line in lines:
        if line not in good:
            tally.fails(f"{kind} {names[int(line[2].rpartition('-')[2])]}", " ".join(line))
    if done.returncode or len(good) < len(names):
        if len(good) == len(lines):
            tally.fails(kind, f"curl exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        return False
    return True


# ---- HTTP/2 ----------------------------------------------------------------------------------


def http2(settings, tally, told):
    # Not of the standard library, and here alone.
    import multiplexed

    own = [getattr(stories, name)(f"{settings['name']}-{number}") for number, name in enumerate(settings["lanes"])]
    told += own
    multiplexed.run(Plug(settings, tally, "h2"), [Lane(story, tally) for story in own], tally)


ROLES = {"kept": kept_connections, "visitors": visitors, "idlers": idlers, "curls": curls, "http2": http2}


def names(told):
    """What stands under each name: its size and tag, nothing, or who knows."""
    found = {}
    for story in told:
        for path, known in story.known.items():
            found[path] = "unknown" if known is UNKNOWN else known and [known.size, known.etag]
    return found


def main():
    settings = json.loads(sys.stdin.readline())
    tally, told = Tally(), []

    def hear():
        sys.stdin.readline()
        tally.stop.set()

    # A thread that dies of what nobody thought of has failed too.
    threading.excepthook = lambda died: tally.fails(settings["name"], f"{died.exc_type.__name__}: {died.exc_value}")
    threading.Thread(target=hear, daemon=True).start()
    print("ready", flush=True)
    try:
        ROLES[settings["role"]](settings, tally, told)
    except Exception as error:  # noqa: BLE001: whatever it is, it is told, and the rest with it
        tally.fails(settings["name"], f"{type(error).__name__}: {error}")
    report = {"kinds": tally.kinds, "left": tally.left, "failed": tally.failed, "words": tally.words}
    report |= {"slowest": tally.slowest, "connections": tally.connections, "serials": sorted(tally.serials)}
    print(json.dumps({**report, "names": names(told)}), flush=True)


if __name__ == "__main__":
    main()
