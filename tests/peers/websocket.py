#!/usr/bin/env python3
"""A WebSocket app, and a client of one.

    websocket.py serve                 an echo; prints its port, ends with its stdin
    websocket.py talk URL CA [HOLD]    says things and compares what comes back; prints `good`.
                                       With HOLD it first prints `open`, then waits for the end
                                       of stdin (or of the connection) in place of talking.
"""

import asyncio
import os
import ssl
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def stdin_ends():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def app():
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await stdin_ends()


async def talk(url, ca, hold):
    context = ssl.create_default_context(cafile=ca)
    async with connect(url, ssl=context, max_size=None, proxy=None) as connection:
        if hold:
            print("open", flush=True)
            await asyncio.wait(
                [asyncio.ensure_future(stdin_ends()), asyncio.ensure_future(connection.wait_closed())],
                return_when=asyncio.FIRST_COMPLETED,
            )
            # The thread that waits for our input would be waited for.
            os._exit(0)
        for size in (0, 1, 125, 126, 65536, 1 << 20):
            for message in ("x" * size, bytes(size)):
                await connection.send(message)
                assert await connection.recv() == message, size
        await (await connection.ping())
    print("good", flush=True)


def main():
    if sys.argv[1] == "serve":
        asyncio.run(app())
    else:
        asyncio.run(talk(sys.argv[2], sys.argv[3], len(sys.argv) > 4))


if __name__ == "__main__":
    main()
