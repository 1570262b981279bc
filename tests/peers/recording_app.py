#!/usr/bin/env python3
"""An app that writes down every request it believes it sees.

    recording_app.py        prints its port; on each line of stdin, such as `take`, prints
                            what it has seen since the last, as one line of JSON; ends with
                            its stdin

What it has seen is a list of `{"connection": n, "line": "GET / HTTP/1.1", "headers": [...]}`
when a head has come, and of `{"connection": n, "whole": true, "body": "..."}` when that
request has ended, or with `"whole": false` when the connection did before. Bytes are told as
Latin-1. It answers each whole request with 200.

It reads as gullible apps do: lines may end in LF alone, blanks may stand around a name, a
size ends where it is no number any more. Where both say how long a body is, the chunks win.
"""

import json
import re
import socket
import sys
import threading

END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class Broken(Exception):
    """The connection ended in the middle of a request."""


class Reader:
    def __init__(self, connection):
        self.connection, self.buffer = connection, b""

    def more(self):
        try:
            piece = self.connection.recv(65536)
        except OSError:
            piece = b""
        self.buffer += piece
        return bool(piece)

    def head(self):
        """The next head; None where the connection ends before one has begun."""
        while True:
            self.buffer = self.buffer.lstrip(b"\r\n")
            found = END_OF_HEAD.search(self.buffer)
            if found:
                head, self.buffer = self.buffer[: found.start()], self.buffer[found.end() :]
                return head
            if not self.more():
                return self.rest()

    def rest(self):
        rest, self.buffer = self.buffer, b""
        return rest or None

    def line(self):
        while b"\n" not in self.buffer:
            if not self.more():
                raise Broken
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def exactly(self, length):
        while len(self.buffer) < length:
            if not self.more():
                raise Broken
        bytes_, self.buffer = self.buffer[:length], self.buffer[length:]
        return bytes_

    def chunks(self):
        body = b""
        while True:
            size = re.match(rb"\s*(?:0x)?([0-9a-f]*)", self.line(), re.IGNORECASE)[1]
            size = int(size or b"0", 16)
            if size == 0:
                while self.line():
                    pass
                return body
            body += self.exactly(size)
            self.line()


def length_of(headers):
    """`chunked`, or a number."""
    length = 0
    for header in headers:
        name, _, value = header.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"transfer-encoding" and b"chunked" in value.lower():
            return "chunked"
        if name == b"content-length":
            digits = re.match(rb"\d*", value)[0]
            length = int(digits or b"0")
    return length


class App:
    def __init__(self):
        self.seen, self.lock, self.connections = [], threading.Lock(), 0

    def note(self, **event):
        with self.lock:
            self.seen.append(event)

    def take(self):
        with self.lock:
            seen, self.seen = self.seen, []
        return seen

    def serve(self, connection):
        with self.lock:
            self.connections += 1
            number = self.connections
        with connection:
            reader = Reader(connection)
            while (head := reader.head()) is not None:
                line, *headers = re.split(rb"\r?\n", head)
                self.note(
                    connection=number,
                    line=line.decode("latin-1"),
                    headers=[header.decode("latin-1") for header in headers],
                )
                length = length_of(headers)
                try:
                    body = reader.chunks() if length == "chunked" else reader.exactly(length)
                except Broken:
                    self.note(connection=number, whole=False, body="")
                    return
                self.note(connection=number, whole=True, body=body.decode("latin-1"))
                last = line.endswith(b"HTTP/1.0")
                if not answer(connection, line, last) or last:
                    return


def answer(connection, line, last):
    body = b"" if line.startswith(b"HEAD ") else b"seen\n"
    ending = b"Connection: close\r\n" if last else b""
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + ending + b"\r\n" + body)
    except OSError:
        return False
    return True


def main():
    app = App()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)

    def accept():
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=app.serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    for _ in sys.stdin:
        print(json.dumps(app.take()), flush=True)


if __name__ == "__main__":
    main()
