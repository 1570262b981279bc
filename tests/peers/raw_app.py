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
    /refuse?after=N&times=M
               the first M with just that path are refused, each once N bytes of its body have
               come; for others, how long the whole body is, and its SHA-256
    /goodbye?after=N&times=M
               the same, but the connection says goodbye: what came before on it is answered
               still, that request and what comes behind it is left undone
    others     `connection N`, the number of the connection among all that came

On each line of its stdin it does as that says, and then prints what it has seen, as one line of
JSON: `connections` that came, streams that it `refused`, those beyond what it takes among them,
connections that have said `goodbyes`, and requests that are `held` now.

    seen     nothing else
    go       answers what is held
    one      answers one of what is held on each connection
    bye      says goodbye on every connection: what has come is answered still, then it ends
    shut     lets no handshake go on that comes from now on
    open     lets them go on again

`/both`, `/unasked` and `/old` are HTTP/1's, written by hand: no library would. What refuses or
says goodbye is HTTP/2's, by prior knowledge.
"""

import asyncio
import collections
import hashlib
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
from hyperframe.frame import GoAwayFrame

# More streams than anybody opens.
ANY = 1 << 20


class App:
    def __init__(self):
        self.connections = self.refused = self.goodbyes = 0
        # What each that is held waits for, and the number of its connection.
        self.held = {}
        # How often each path has come that may be left undone.
        self.undone = collections.Counter()
        # Connections of HTTP/2 that are open.
        self.talking = set()
        self.open = asyncio.Event()
        self.open.set()

    def came(self):
        self.connections += 1
        return self.connections

    async def hold(self, number):
        go = asyncio.Event()
        self.held[go] = number
        try:
            await go.wait()
        finally:
            self.held.pop(go, None)

    def release(self, those):
        # Gone at once: who asks next what is held is told what is left.
        for go in those:
            del self.held[go]
            go.set()

    def leaves(self, path, times):
        """Whether another request for `path` is to be left undone."""
        self.undone[path] += 1
        return self.undone[path] <= times

    def do(self, word):
        if word == "go":
            self.release(list(self.held))
        elif word == "one":
            self.release({number: go for go, number in self.held.items()}.values())
        elif word == "bye":
            for connection in list(self.talking):
                connection.goodbye(connection.newest)
        elif word == "shut":
            self.open.clear()
        elif word == "open":
            self.open.set()

    def seen(self):
        counts = {"connections": self.connections, "refused": self.refused, "goodbyes": self.goodbyes}
        return json.dumps(counts | {"held": len(self.held)})


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
            await self.app.hold(self.number)
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


class Request:
    """One of HTTP/2 that is neither answered nor left undone."""

    def __init__(self, path):
        self.path = path
        self.where, _, query = path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        # How much of its body has come when it is left undone, if it is.
        self.undone_after = None
        self.came, self.digest, self.whole = 0, hashlib.sha256(), asyncio.Event()
        self.answer = None

    def take(self, data):
        self.came += len(data)
        self.digest.update(data)

    def is_undone(self):
        return self.undone_after is not None and self.came >= self.undone_after


class Http2(asyncio.Protocol):
    def __init__(self, app, number, streams):
        self.app, self.number, self.streams = app, number, streams
        self.requests = {}
        self.newest = 0
        # The last stream that anything is done for, once it has said goodbye.
        self.last = None
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport):
        self.transport = transport
        self.app.talking.add(self)
        most = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
        self.http.local_settings = h2.settings.Settings(client=False, initial_values={most: self.streams})
        self.http.initiate_connection()
        # Who can't know that yet is refused a stream: the library would end the connection.
        self.http.local_settings = h2.settings.Settings(client=False, initial_values={most: ANY})
        self.flush()

    def flush(self):
        data = self.http.data_to_send()
        if not self.is_over():
            self.transport.write(data)

    def data_received(self, data):
        for event in self.http.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.begin(event.stream_id, Request(dict(event.headers)[":path"]))
                continue
            stream = getattr(event, "stream_id", None)
            request = self.requests.get(stream)
            if isinstance(event, h2.events.DataReceived):
                self.http.acknowledge_received_data(event.flow_controlled_length, stream)
                if request:
                    request.take(event.data)
                    self.leave(stream, request)
            elif request and isinstance(event, h2.events.StreamEnded):
                request.whole.set()
            elif request and isinstance(event, h2.events.StreamReset):
                self.forget(stream)
        self.flush()

    def begin(self, stream, request):
        self.newest = stream
        if self.last is not None:
            return
        if len(self.requests) >= self.streams:
            self.refuse(stream)
            return
        times, after = (int(request.query.get(name, 0)) for name in ("times", "after"))
        if request.where in ("/refuse", "/goodbye") and self.app.leaves(request.path, times):
            request.undone_after = after
        request.answer = asyncio.ensure_future(self.answer(stream, request))
        self.requests[stream] = request
        self.leave(stream, request)

    def leave(self, stream, request):
        """Leaves it undone, if it is time."""
        if not request.is_undone():
            return
        if request.where == "/goodbye":
            self.goodbye(max(0, stream - 2))
        else:
            self.refuse(stream)
            self.forget(stream)

    def forget(self, stream):
        self.requests.pop(stream).answer.cancel()
        self.end()

    def refuse(self, stream):
        self.app.refused += 1
        self.http.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        self.flush()

    def goodbye(self, last):
        if self.last is not None:
            return
        self.app.goodbyes += 1
        self.flush()
        # By hand: the library would say nothing more itself.
        self.transport.write(GoAwayFrame(0, last_stream_id=last).serialize())
        self.last = last
        for stream in [stream for stream in self.requests if stream > last]:
            self.forget(stream)
        self.end()

    def is_over(self):
        return self.last is not None and not self.requests

    def end(self):
        if self.is_over():
            # Not closed: with something unread the other side might not hear what was said.
            self.transport.write_eof()

    async def answer(self, stream, request):
        text = f"connection {self.number}\n"
        if request.where == "/hold":
            await self.app.hold(self.number)
            text = "held\n"
        elif request.where in ("/refuse", "/goodbye"):
            await request.whole.wait()
            text = f"{request.came} {request.digest.hexdigest()}\n"
        self.http.send_headers(stream, [(":status", "200"), ("content-length", str(len(text)))])
        self.http.send_data(stream, text.encode(), end_stream=True)
        self.flush()
        del self.requests[stream]
        self.end()

    def connection_lost(self, _):
        self.app.talking.discard(self)
        for request in self.requests.values():
            request.answer.cancel()


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
