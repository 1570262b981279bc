#!/usr/bin/env python3
"""An app that reads what it is sent, throws it away, and answers with how many bytes that were.

    sink.py PORT

Every byte of a body is read into one small buffer, before the answer: nginx would answer first.
"""

import socket
import sys
import threading

PIECE = 256 << 10


def serve(connection):
    buffer = memoryview(bytearray(PIECE))
    kept = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in kept:
                if not (more := connection.recv(64 << 10)):
                    return
                kept += more
            head, _, kept = kept.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
            if b"transfer-encoding" in fields:
                connection.sendall(b"HTTP/1.1 411 Length Required\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                return
            length = int(fields.get(b"content-length", 0))
            if fields.get(b"expect"):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            read = min(len(kept), length)
            kept = kept[read:]
            while read < length:
                got = connection.recv_into(buffer, min(PIECE, length - read))
                if not got:
                    return
                read += got
            said = str(read).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
