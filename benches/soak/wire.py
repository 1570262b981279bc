"""How clients of the soak connect, send and read: HTTP/1.1, and what HTTP/2 has in common with it."""

import os
import random
import socket
import ssl
import struct

from stories import KIB, MIB, Answer

PIECE = 256 * KIB
PATIENCE = 60  # seconds in which not a byte goes or comes
KEPT = 2 * MIB  # of an answer that isn't compared as it comes
RESET = struct.pack("ii", 1, 0)


class Gone(Exception):
    """The connection ended where it mustn't."""


class Plug:
    """How a connection is made."""

    def __init__(self, settings, tally, protocol):
        self.port, self.token, self.tally = settings["port"], settings["token"], tally
        self.context = ssl.create_default_context(cafile=os.path.join(settings["folder"], "ca.pem"))
        self.context.set_alpn_protocols([protocol])

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self.context.wrap_socket(plain, server_hostname="localhost")
        self.tally.connected(stream)
        return stream

    def authority(self):
        return f"localhost:{self.port}"


def abandon(stream, chance):
    """Leaves: by a FIN that no end of TLS goes before, or by a reset."""
    if chance.random() < 0.5:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    stream.close()


class Http1:
    """One client, whose connection is kept."""

    def __init__(self, plug, seed):
        self.plug, self.stream, self.kept = plug, None, b""
        self.room = memoryview(bytearray(PIECE))
        self.chance = random.Random(seed)

    def close(self):
        if self.stream:
            self.stream.close()
        self.stream, self.kept = None, b""

    def leave(self):
        abandon(self.stream, self.chance)
        self.stream, self.kept = None, b""
        return Answer()

    def ask(self, ask):
        if not self.stream:
            self.stream = self.plug.connect()
        self.stream.sendall(self.head(ask).encode())
        if ask.headers.get("expect"):
            status, headers = self.hear(interim=True)
            if status != 100:
                return self.read(ask, status, headers)
        if ask.body is not None:
            self.send(ask)
            if ask.leaves is not None:
                return self.leave()
        return self.read(ask, *self.hear())

    def head(self, ask):
        lines = [f"{ask.method} {ask.path} HTTP/1.1", f"host: {self.plug.authority()}"]
        if ask.token:
            lines.append(f"authorization: Bearer {self.plug.token}")
        if ask.chunked:
            lines.append("transfer-encoding: chunked")
        elif ask.body is not None:
            lines.append(f"content-length: {len(ask.body)}")
        lines += [f"{name}: {value}" for name, value in ask.headers.items()]
        return "\r\n".join(lines) + "\r\n\r\n"

    def send(self, ask):
        body = ask.body if ask.leaves is None else ask.body[: ask.leaves]
        for at in range(0, len(body), PIECE):
            piece = body[at : at + PIECE]
            if ask.chunked:
                self.stream.sendall(b"%x\r\n" % len(piece))
                self.stream.sendall(piece)
                self.stream.sendall(b"\r\n")
            else:
                self.stream.sendall(piece)
        if ask.chunked and ask.leaves is None:
            self.stream.sendall(b"0\r\n\r\n")

    def more(self):
        came = self.stream.recv(64 * KIB)
        if not came:
            raise Gone("the connection was ended")
        self.kept += came

    def line(self, end=b"\r\n"):
        while (at := self.kept.find(end)) < 0:
            self.more()
        line, self.kept = self.kept[:at], self.kept[at + len(end) :]
        return line

    def hear(self, interim=False):
        """Status and headers, past what is interim unless that is awaited."""
        while True:
            first, *rest = self.line(b"\r\n\r\n").decode("latin-1").split("\r\n")
            status = int(first.split(" ", 2)[1])
            headers = {}
            for line in rest:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            if status >= 200 or interim:
                return status, headers

    def read(self, ask, status, headers):
        taker = Taker(ask, status, headers)
        bare = ask.method == "HEAD" or status in (204, 304)
        if bare:
            pass
        elif "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self.line().split(b";")[0], 16):
                if self.take(taker, size):
                    return self.leave()
                self.line()
            self.line()
        elif self.take(taker, int(headers.get("content-length", 0))):
            return self.leave()
        if headers.get("connection", "").lower() == "close":
            self.close()
        return taker.answer

    def take(self, taker, left):
        """The next `left` bytes of a body; whether the client has seen enough."""
        while left:
            if self.kept:
                piece, self.kept = self.kept[:left], self.kept[left:]
            else:
                came = self.stream.recv_into(self.room, min(left, PIECE))
                if not came:
                    raise Gone(f"the connection was ended {left} bytes before the end of the body")
                piece = self.room[:came]
            left -= len(piece)
            if taker.takes(piece):
                return True
        return False


class Taker:
    """An answer as it comes."""

    def __init__(self, ask, status, headers):
        self.ask, self.answer = ask, Answer(status, headers)
        # What isn't an answer of that kind is kept, for its words.
        self.compared = ask.wants is not None and status in ask.statuses
        # Who leaves has to see a good head first.
        self.leaves = ask.leaves if ask.body is None and status in ask.statuses else None

    def takes(self, piece):
        """Whether the client has seen enough."""
        answer = self.answer
        if self.compared:
            answer.same = answer.same and self.ask.wants[answer.length : answer.length + len(piece)] == piece
        elif answer.length < KEPT:
            answer.body += bytes(piece)
        answer.length += len(piece)
        return self.leaves is not None and answer.length >= self.leaves
