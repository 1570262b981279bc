#!/usr/bin/env python3
"""Uploads over many connections at once, which are all there before the first of them sends.

    many.py PORT PATH COUNT CONNECTIONS SIZE

The first line of input is the token, or empty. Each connection uploads one object after the
other, PATH and a number its name, COUNT in all; pieces go out in turn, so that what is under
way at once is as many uploads as there are connections. Prints how many came to be and how many
milliseconds each took; every answer must be of success.
"""

import asyncio
import json
import sys
import time

import load

PIECE = 64 << 10
PATIENCE = 120  # seconds for one upload


class Client:
    """One connection."""

    def __init__(self, port, path, head, size):
        self.port, self.path, self.head, self.piece, self.size = port, path, head, bytes(PIECE), size

    async def connect(self, context):
        to = asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")
        self.reader, self.writer = await asyncio.wait_for(to, PATIENCE)
        # No more than that waits here: what a proxy doesn't take isn't sent.
        self.writer.transport.set_write_buffer_limits(PIECE)

    async def upload(self, number):
        begun = time.perf_counter()
        self.writer.write(f"PUT {self.path}{number} HTTP/1.1\r\n{self.head}\r\n".encode())
        left = self.size
        while left:
            some = min(left, PIECE)
            self.writer.write(self.piece if some == PIECE else self.piece[:some])
            await self.writer.drain()
            left -= some
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.lower().split(":", 1) for line in head.split("\r\n")[1:-2])
        if "content-length" in fields:
            await self.reader.readexactly(int(fields["content-length"]))
        elif "transfer-encoding" in fields:
            while (await self.reader.readuntil(b"\r\n")).strip() != b"0":
                pass
            await self.reader.readuntil(b"\r\n")
        if head.split(" ", 2)[1] not in ("200", "201", "204"):
            raise RuntimeError(f"answered {head[:60]!r}")
        return (time.perf_counter() - begun) * 1000

    async def uploads(self, numbers):
        return [await asyncio.wait_for(self.upload(number), PATIENCE) for number in numbers]


async def work(port, path, count, connections, size, token):
    head = f"Host: localhost\r\nContent-Length: {size}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    context = load.context()
    clients = [Client(port, path, head, size) for _ in range(connections)]
    # A few at a time: a listener's queue is shorter than that.
    for at in range(0, connections, 32):
        await asyncio.gather(*(client.connect(context) for client in clients[at : at + 32]))
    begun = time.perf_counter()
    lists = await asyncio.gather(
        *(client.uploads(range(own, count, connections)) for own, client in enumerate(clients))
    )
    seconds = time.perf_counter() - begun
    times = sorted(took for of_one in lists for took in of_one)
    for client in clients:
        client.writer.transport.abort()
    return {
        "made": len(times),
        "seconds": seconds,
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, len(times) * 99 // 100)],
    }


def main():
    port, count, connections, size = (int(sys.argv[at]) for at in (1, 3, 4, 5))
    token = sys.stdin.readline().strip()
    print(json.dumps(asyncio.run(work(port, sys.argv[2], count, connections, size, token))))


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, EOFError, TimeoutError, asyncio.TimeoutError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
