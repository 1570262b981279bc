#!/usr/bin/env python3
"""An app that does what real ones do on a bad day, or waits for a word to go on.

Prints its port, and ends with its stdin. The path of a request says what becomes of it:

    /length?how=W       a third of the body that its Content-Length promises, then the end
    /chunked?how=W      some chunks, then the end without the last one
    /die?after=N&how=W  takes N bytes of the request's body, then the end without an answer
    /early?status=S     takes 64 KiB of it, answers, and ends
    /apart?status=S     the same, but the answer's body goes 300 ms after its head
    /take               takes the body whole, and answers `LENGTH SHA-256` and each trailer
    /late               the same, but after 64 KiB it takes nothing until a /go
    /sips               the same, but it takes little at a time
    /eager              the same, but the answer's head goes out before any of it is taken
    /silent             takes the body whole, and then nothing for as long as the other side is there
    /steps?n=N          N events, each but the first after another /go
    /beats?n=N          N events, 300 ms apart
    /stall              one event, and then nothing for as long as the other side is there

`how` is `close`, or `reset` for an end by RST. It answers these by itself:

    /seen               a line for each request that is over, as METHOD PATH BODY-BYTES HOW-IT-ENDED,
                        and one with `begun` as soon as 64 KiB of a body, or its end, have come
    /go                 lets one go on that waits

HTTP by hand, on raw sockets: no library for it would do these things.
"""

import hashlib
import os
import socket
import struct
import sys
import threading
import time
import urllib.parse

FIRST = 64 << 10
PART = 300_000
SIP = 1 << 20
BETWEEN_SIPS = 0.1  # seconds
APART = 0.3  # seconds
PATIENCE = 60  # seconds for a word to go on
SEEN = []
GO = threading.Semaphore(0)


class Gone(Exception):
    """The other side ended before its request did."""


class Ended(Exception):
    """We have ended it."""


class Request:
    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""
        self.taken = 0
        self.hash = hashlib.sha256()
        self.trailers = []
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.method, target, _ = head[0].split(" ")
        self.path, _, query = target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        self.pieces = self.body()

    # What comes.

    def more(self):
        got = self.connection.recv(256 << 10)
        if not got:
            raise Gone
        self.buffer += got

    def until(self, end):
        while end not in self.buffer:
            self.more()
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def exactly(self, length):
        while length:
            if not self.buffer:
                self.more()
            piece, self.buffer = self.buffer[:length], self.buffer[length:]
            length -= len(piece)
            yield piece

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            while length := int(self.until(b"\r\n").partition(b";")[0], 16):
                yield from self.exactly(length)
                self.until(b"\r\n")
            while trailer := self.until(b"\r\n"):
                self.trailers.append(trailer.decode("latin-1"))
        else:
            yield from self.exactly(int(self.headers.get("content-length", 0)))

    def take(self, enough=None):
        """Takes `enough` of the body, or all of it."""
        for piece in self.pieces:
            begun, self.taken = self.taken, self.taken + len(piece)
            self.hash.update(piece)
            if begun < FIRST <= self.taken:
                self.saw("begun")
            if enough is not None and self.taken >= enough:
                return
        if self.taken < FIRST:
            self.saw("begun")

    def saw(self, end):
        SEEN.append(f"{self.method} {self.path} {self.taken} {end}")

    # What goes.

    def send(self, data):
        self.connection.sendall(data)

    def head(self, status, *fields):
        self.send("\r\n".join([f"HTTP/1.1 {status} Said", "connection: close", *fields, "", ""]).encode())

    def stream(self):
        self.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, status, text, apart=0):
        self.head(status, f"content-length: {len(text)}")
        time.sleep(apart)
        self.send(text.encode())

    def end(self):
        if self.query.get("how") == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Ended

    def wait(self):
        """Until the other side goes."""
        try:
            while self.connection.recv(1 << 10):
                pass
        except OSError:
            pass
        raise Gone

    # What is asked for.

    def length(self):
        self.head(200, f"content-length: {3 * PART}")
        self.send(bytes(PART))
        self.end()

    def chunked(self):
        self.head(200, "transfer-encoding: chunked")
        for _ in range(3):
            self.chunk(bytes(PART // 3))
        self.end()

    def die(self):
        self.take(int(self.query["after"]))
        self.end()

    def early(self):
        self.take(FIRST)
        self.answer(self.query["status"], "no more\n")
        self.end()

    def apart(self):
        self.take(FIRST)
        self.answer(self.query["status"], "no more\n", APART)
        self.end()

    def whole(self):
        self.take()
        text = "".join(f"{trailer}\n" for trailer in self.trailers)
        self.answer(200, f"{self.taken} {self.hash.hexdigest()}\n{text}")

    def late(self):
        self.take(FIRST)
        self.may_go()
        self.whole()

    def sips(self):
        # What lies in the system's buffers is taken by nobody, and looks as if it were.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FIRST)
        length = int(self.headers["content-length"])
        while self.taken < length:
            self.take(self.taken + SIP)
            time.sleep(BETWEEN_SIPS)
        self.whole()

    def eager(self):
        self.stream()
        self.take()
        self.chunk(f"{self.taken} {self.hash.hexdigest()}\n".encode())
        self.chunk(b"")

    def silent(self):
        self.take()
        self.wait()

    def may_go(self):
        if not GO.acquire(timeout=PATIENCE):
            raise Ended

    def events(self, between):
        self.stream()
        for at in range(int(self.query["n"])):
            if at:
                between()
            self.chunk(b"data: %d\n\n" % at)
        self.chunk(b"")

    def steps(self):
        self.events(self.may_go)

    def beats(self):
        self.events(lambda: time.sleep(0.3))

    def stall(self):
        self.stream()
        self.chunk(b"data: 0\n\n")
        self.wait()

    def seen(self):
        self.answer(200, "".join(f"{line}\n" for line in SEEN))

    def go(self):
        GO.release()
        self.answer(200, "")

    DOES = {
        f"/{name}": does
        for name, does in {
            "length": length, "chunked": chunked, "die": die, "early": early, "apart": apart, "take": whole,
            "late": late, "sips": sips, "eager": eager, "silent": silent, "steps": steps, "beats": beats,
            "stall": stall, "seen": seen, "go": go,
        }.items()
    }


def serve(connection):
    with connection:
        try:
            request = Request(connection)
        except (Gone, OSError):
            return
        try:
            Request.DOES.get(request.path, lambda request: request.answer(404, ""))(request)
            how = "whole"
        except Ended:
            how = "ended"
        except (Gone, OSError):
            how = "left"
        if request.path not in ("/seen", "/go"):
            request.saw(how)


def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
