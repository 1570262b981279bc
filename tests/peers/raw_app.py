#!/usr/bin/env python3
"""An app that keeps its connections, and tells how many there were and what was on them.

    raw_app.py http1                      HTTP/1.1, one request after the other
    raw_app.py http2 STREAMS [CERT KEY]   HTTP/2 that takes so many streams at once on each
                                          connection: by prior knowledge, or over TLS

Prints its port, and ends with its stdin. The path of a request says what is answered:

    /hold      `held`, when it is told so; with `?last` that is the end of the connection
    /both      `whole`, in chunks; and a Content-Length says that it is shorter
    /unasked   `asked`, and another answer behind it that nobody asked for
    /old?n=N   N bytes by HTTP/1.0: no length, and the end of the connection;
               by RST with `&how=reset`
    others     `connection N`, the number of the connection among all that came

On each line of its stdin it does as that says, and then prints what it has seen, as one line of
JSON: `connections` that came, streams beyond those it takes that it `refused`, and requests that
are `held` now.

    seen     nothing else
    go       answers what is held
    shut     lets no handshake go on that comes from now on
    open     lets them go on again

The peculiar answers are those of HTTP/1. Its bytes are written by hand: no library would.
"""

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
import urllib.parse

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

# More streams than anybody opens.
ANY = 1 << 20


class App:
    def __init__(self):
        self.connections = self.refused = self.held = 0
        self.go = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    def came(self):
        self.connections += 1
        return self.connections

    async def hold(self):
        go = self.go
        self.held += 1
        try:
            await go.wait()
        finally:
            self.held -= 1

    def do(self, word):
        if word == "go":
            # Those that come later wait for the next.
            self.go.set()
            self.go = asyncio.Event()
        elif word == "shut":
            self.open.clear()
        elif word == "open":
            self.open.set()

    def seen(self):
        return json.dumps({"connections": self.connections, "refused": self.refused, "held": self.held})


class Http1:
    def __init__(self, app, reader, writer):
        self.app, self.reader, self.writer = app, reader, writer
        self.number = app.came()

    async def serve(self):
        try:
            while await self.answer(await self.reader.readuntil(b"\r\n\r\n")):
                await self.writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writer.close()

    async def answer(self, head):
        """Whether there may be another request."""
        path, _, query = head.split(b" ")[1].decode().partition("?")
        if path == "/hold":
            await self.app.hold()
            last = query.startswith("last")
            self.say(said("held\n", "connection: close" if last else "connection: keep-alive"))
            return not last
        if path == "/both":
            self.say(said("6\r\nwhole\n\r\n0\r\n\r\n", "transfer-encoding: chunked", length=3))
        elif path == "/unasked":
            self.say(said("asked\n") + said("unasked\n"))
        elif path == "/old":
            query = dict(urllib.parse.parse_qsl(query))
            self.say(b"HTTP/1.0 200 OK\r\nx-app: old\r\n\r\n" + bytes(int(query["n"])))
            if query.get("how") == "reset":
                await self.writer.drain()
                self.reset()
            return False
        else:
            self.say(said(f"connection {self.number}\n"))
        return True

    def say(self, data):
        self.writer.write(data)

    def reset(self):
        at_once = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.writer.transport.abort()


def said(text, *fields, length=None):
    """An answer of HTTP/1.1."""
    length = len(text) if length is None else length
    return "\r\n".join(["HTTP/1.1 200 OK", f"content-length: {length}", *fields, "", text]).encode()


class Http2(asyncio.Protocol):
    def __init__(self, app, number, streams):
        self.app, self.number, self.streams = app, number, streams
        self.answers = {}
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport):
        self.transport = transport
        most = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
        self.http.local_settings = h2.settings.Settings(client=False, initial_values={most: self.streams})
        self.http.initiate_connection()
        # Who can't know that yet is refused a stream: the library would end the connection.
        self.http.local_settings = h2.settings.Settings(client=False, initial_values={most: ANY})
        self.flush()

    def flush(self):
        self.transport.write(self.http.data_to_send())

    def data_received(self, data):
        for event in self.http.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.request(event.stream_id, dict(event.headers)[":path"])
            elif isinstance(event, h2.events.StreamReset) and event.stream_id in self.answers:
                self.answers[event.stream_id].cancel()
            elif isinstance(event, h2.events.DataReceived):
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()

    def request(self, stream, path):
        if len(self.answers) >= self.streams:
            self.app.refused += 1
            self.http.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        answer = asyncio.ensure_future(self.answer(stream, path))
        self.answers[stream] = answer
        answer.add_done_callback(lambda _: self.answers.pop(stream))

    async def answer(self, stream, path):
        text = f"connection {self.number}\n"
        if path.partition("?")[0] == "/hold":
            await self.app.hold()
            text = "held\n"
        self.http.send_headers(stream, [(":status", "200"), ("content-length", str(len(text)))])
        self.http.send_data(stream, text.encode(), end_stream=True)
        self.flush()

    def connection_lost(self, _):
        for answer in self.answers.values():
            answer.cancel()


async def accept_http2(app, listener, streams, pair):
    loop = asyncio.get_running_loop()
    context = None
    if pair:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*pair)
        context.set_alpn_protocols(["h2"])

    async def serve(connection):
        number = app.came()
        await app.open.wait()
        try:
            await loop.connect_accepted_socket(lambda: Http2(app, number, streams), connection, ssl=context)
        except OSError:
            pass  # The other side has left before there was anything to say.

    serving = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = asyncio.ensure_future(serve(connection))
        serving.add(one)
        one.add_done_callback(serving.discard)


async def main():
    app, loop = App(), asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    if sys.argv[1] == "http1":
        app.serving = await asyncio.start_server(lambda *streams: Http1(app, *streams).serve(), sock=listener)
    else:
        app.serving = asyncio.ensure_future(accept_http2(app, listener, int(sys.argv[2]), sys.argv[3:]))
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        app.do(line.strip())
        print(app.seen(), flush=True)
    # Whoever is still held would be waited for.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
