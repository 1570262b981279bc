#!/usr/bin/env python3
"""Uploads or downloads over many connections at once, which are all there before the first of them asks.

    crowd.py PORT METHOD PATH NAMES COUNT CONNECTIONS SIZE SECONDS

The first line of input is the token, or empty. It says how many connections are there, and waits for
a line before it begins; so who measures leaves the handshakes out. A connection that is done takes
the next number, until there were COUNT or so many SECONDS are over; the object's name is PATH and the
number, of NAMES in turn. Pieces go out in turn too, so that as many uploads are under way as there are
connections. Then it tells what came of it; every answer must be of success, and as long as it should.

It waits by epoll and leaves encryption to OpenSSL: a client that needs more than what it measures
would be measured instead. What it needed itself, it tells.
"""

import json
import re
import select
import ssl
import sys
import time

import load

PIECE = 64 << 10
RECORD = 16 << 10  # what TLS hands over at once, at most
PATIENCE = 120  # seconds in which nothing happens on any connection
NOTHING = memoryview(b"")
ZEROS = memoryview(bytes(PIECE))
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")


class Unasked(Exception):
    """An answer that isn't what was asked for."""


class Connection:
    """One of them, and the object that it is at."""

    def __init__(self, stream):
        stream.setblocking(False)
        self.stream, self.room = stream, memoryview(bytearray(RECORD))
        self.going, self.left = NOTHING, 0

    def begin(self, head, size):
        """An upload has `size`; what is small goes out with its head, at once."""
        first = min(size, PIECE)
        self.going, self.left = memoryview(head + ZEROS[:first]), size - first
        self.head, self.more = b"", 0

    def send(self):
        """A piece, or as much of it as is taken now; whether there is nothing left to send."""
        try:
            while self.going:
                self.going = self.going[self.stream.send(self.going) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return False
        some = min(self.left, PIECE)
        self.going, self.left = ZEROS[:some], self.left - some
        return not some

    def receive(self, wanted):
        """A piece, or as much of it as has come; whether the answer is whole. A body has `wanted` bytes."""
        try:
            for _ in range(PIECE // RECORD):
                came = self.stream.recv_into(self.room)
                if not came:
                    raise Unasked("a connection was ended")
                if self.take(came, wanted):
                    return True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return False

    def take(self, came, wanted):
        if self.head is None:
            self.more -= came
        else:
            self.head += self.room[:came]
            head, end, rest = self.head.partition(b"\r\n\r\n")
            if not end:
                return False
            length = LENGTH.search(head + b"\r\n")
            # Where a body has another form, none is wanted.
            found = int(length[1]) if length else 0
            if head[9:11] != b"20" or (wanted is not None and found != wanted) or b"chunked" in head.lower():
                raise Unasked(f"answered {head[:300]!r}")
            self.head, self.more = None, found - len(rest)
        if self.more < 0:
            raise Unasked("more came than was told of")
        return not self.more


class Crowd:
    """All of them."""

    def __init__(self, method, path, names, size, fields):
        self.method, self.path, self.names, self.fields = method, path, names, fields
        self.sent, self.wanted = (size, None) if method == "PUT" else (0, size)
        self.times, self.begun = [], {}
        self.waits = select.epoll()

    def begin(self, connection, number):
        head = f"{self.method} {self.path}{number % self.names} HTTP/1.1\r\n{self.fields}\r\n".encode()
        connection.begin(head, self.sent)
        self.begun[connection] = time.perf_counter()
        return self.goes(connection)

    def goes(self, connection):
        """Sends; what it then waits for."""
        return select.EPOLLIN if connection.send() else select.EPOLLOUT

    def work(self, streams, count, seconds):
        by = {stream.fileno(): Connection(stream) for stream in streams}
        until, number = time.perf_counter() + seconds, 0
        for_what = {}
        for own, connection in by.items():
            for_what[own] = self.begin(connection, number)
            self.waits.register(own, for_what[own])
            number += 1
        under_way = len(by)
        while under_way:
            events = self.waits.poll(PATIENCE)
            if not events:
                raise Unasked(f"nothing happens on {under_way} connections")
            for own, _ in events:
                connection, before = by[own], for_what[own]
                if before == select.EPOLLOUT:
                    after = self.goes(connection)
                elif not connection.receive(self.wanted):
                    continue
                else:
                    now = time.perf_counter()
                    self.times.append((now - self.begun[connection]) * 1000)
                    if number >= count or now > until:
                        self.waits.unregister(own)
                        under_way -= 1
                        continue
                    after = self.begin(connection, number)
                    number += 1
                if after != before:
                    for_what[own] = after
                    self.waits.modify(own, after)


def main():
    port, names, count, connections, size = (int(sys.argv[at]) for at in (1, 4, 5, 6, 7))
    method, path, seconds = sys.argv[2], sys.argv[3], float(sys.argv[8])
    fields = "Host: localhost\r\n" + (f"Content-Length: {size}\r\n" if method == "PUT" else "")
    if token := sys.stdin.readline().strip():
        fields += f"Authorization: Bearer {token}\r\n"
    crowd = Crowd(method, path, names, size, fields)
    context = load.context()
    # No more of them than there is to do.
    streams = [load.connect(context, port) for _ in range(min(connections, count))]
    print(len(streams), flush=True)
    sys.stdin.readline()
    begun, cpu = time.perf_counter(), time.process_time()
    crowd.work(streams, count, seconds)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    times = sorted(crowd.times)
    report = {"made": len(times), "seconds": took, "cpu": cpu, "p50": times[len(times) // 2]}
    print(json.dumps({**report, "p99": times[min(len(times) - 1, len(times) * 99 // 100)]}), flush=True)
    # Until who measures has looked: the ends of connections aren't what is measured.
    sys.stdin.readline()


if __name__ == "__main__":
    try:
        main()
    except (OSError, Unasked) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
