#!/usr/bin/env python3
"""Uploads small objects over kept connections, and tells how long each took.

    put.py PORT CONNECTIONS SIZE FOLDER

The first line of input is the token, the second the number of the first connection. Prints
"ready" once every connection is there. Then each line is PREFIX SECONDS: for so long each
connection uploads one object after the other, PREFIX in each name, and a line of JSON says how
many milliseconds each took. Requests are made once and sent in one write: http.client would need
as much of a processor as the server does.
"""

import json
import re
import socket
import ssl
import sys
import threading
import time


class Client:
    """One connection, and its thread's work."""

    def __init__(self, context, port, token, number, body):
        self.number, self.body = number, body
        self.head = f"Host: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        plain = socket.create_connection(("127.0.0.1", port), 10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = context.wrap_socket(plain, server_hostname="localhost")

    def work(self, prefix, until, times, failed):
        try:
            at = 0
            while time.monotonic() < until:
                # A folder for each connection, which the first round makes.
                line = f"PUT /{self.number}/{prefix}-{at} HTTP/1.1\r\n".encode()
                begun = time.perf_counter()
                self.stream.sendall(line + self.head + self.body)
                status = self.answer()
                times.append((time.perf_counter() - begun) * 1000)
                if status != 201:
                    raise RuntimeError(f"answered {status}")
                at += 1
        except (OSError, RuntimeError) as error:
            failed.append(str(error))

    def answer(self):
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.more()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)\ncontent-length: *(\d+)", head)[1])
        while len(body) < length:
            body += self.more()
        return int(head.split(b" ", 2)[1])

    def more(self):
        got = self.stream.recv(16 << 10)
        if not got:
            raise RuntimeError("a connection was ended")
        return got


def main():
    port, connections, size = map(int, sys.argv[1:4])
    context = ssl.create_default_context(cafile=f"{sys.argv[4]}/cert.pem")
    token = sys.stdin.readline().strip()
    own = int(sys.stdin.readline())
    body = bytes(at * 31 % 251 for at in range(size))
    clients = [Client(context, port, token, own + number, body) for number in range(connections)]
    print("ready", flush=True)
    for line in sys.stdin:
        prefix, seconds = line.split()
        until, times, failed = time.monotonic() + float(seconds), [], []
        threads = [threading.Thread(target=client.work, args=(prefix, until, times, failed)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise SystemExit(f"{len(failed)} of {connections} connections failed: {failed[0]}")
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
