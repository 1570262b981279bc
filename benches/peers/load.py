#!/usr/bin/env python3
"""What is asked of a proxy: each way of asking returns what it counted, or raises Failed.

    load.py shake PORT COUNT     as many full handshakes, one after the other
    load.py hold PORT COUNT      as many connections, held; each line of input is a GET on every one

Every client is OpenSSL, and told one cipher suite and one group by its own configuration
file: so all proxies are asked for the same.
"""

import json
import os
import re
import select
import socket
import ssl
import subprocess
import sys

SUITE = "TLS_AES_256_GCM_SHA384"
GROUP = "X25519"
CONNECTIONS = 64
SLACK = 20  # seconds that anything may take longer than it should

# Says more than wrk does by itself, and exactly.
REPORT = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nREPORT {"requests": %d, "bytes": %d, "failed": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


class Failed(Exception):
    """A request, a handshake or a connection that didn't come to what it should."""


class Clients:
    """Where clients find their configuration, and by when all must be done."""

    def __init__(self, folder, remaining):
        self.folder, self.remaining = folder, remaining
        config = folder / "clients.cnf"
        config.write_text(
            "openssl_conf = pinned\n[pinned]\nssl_conf = ssl\n[ssl]\nsystem_default = clients\n[clients]\n"
            f"MinProtocol = TLSv1.3\nMaxProtocol = TLSv1.3\nCiphersuites = {SUITE}\nGroups = {GROUP}\n"
        )
        (folder / "report.lua").write_text(REPORT)
        self.environment = {**os.environ, "OPENSSL_CONF": str(config), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *command):
        command = [str(part) for part in command]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.folder, env=self.environment, start_new_session=True,
        )  # fmt: skip

    def end(self, child, seconds=0, text=None):
        """What it said; it is given `seconds`, and killed whatever comes."""
        try:
            out, err = child.communicate(text, timeout=max(0.1, min(seconds + SLACK, self.remaining())))
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{child.args[0]} took too long") from late
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()
        if child.returncode:
            raise Failed(f"{child.args[0]} exited with {child.returncode}: {(err or out).strip()[-300:]}")
        return out

    def run(self, *command, seconds=0):
        return self.end(self.start(*command), seconds)

    def ourselves(self, *arguments):
        return self.start(sys.executable, os.path.abspath(__file__), *arguments)

    def pinned(self, port):
        """Proves what a proxy agrees on with a client told so, and by which kind of key it signs."""
        said = self.start("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost")
        said = self.end(said, text="")
        # In the words of OpenSSL 3.0, and of later ones.
        wanted = [f"New, TLSv1.3, Cipher is {SUITE}$", f"(Server|Peer) Temp Key: {GROUP}\\b"]
        for words in [*wanted, "Peer signature type: (ECDSA|ecdsa_secp256r1_sha256)$"]:
            if not re.search(words, said, re.M):
                raise Failed(f"what port {port} agrees on isn't `{words}`")

    def gets(self, port, seconds, size):
        """Small answers of `size` bytes over kept connections for so long: how many, p50 and p99 in ms."""
        url = f"https://localhost:{port}/small"
        whole = self.answer_size(port, "/small", size)
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", "report.lua", url]
        said = self.run(*command, seconds=seconds)
        found = re.search(r"^REPORT (.*)$", said, re.M)
        if not found:
            raise Failed(f"wrk reports nothing: {said[-300:]}")
        report = json.loads(found[1])
        if report["failed"] or not report["requests"]:
            raise Failed(f"{report['failed']} requests failed, {report['requests']} were answered")
        # At the end one answer of each connection may be half there.
        beyond = report["bytes"] - report["requests"] * whole
        if not 0 <= beyond <= CONNECTIONS * whole:
            raise Failed(f"{report['requests']} answers of {whole} bytes came to {report['bytes']} bytes")
        return report

    def answer_size(self, port, path, size):
        """How many bytes an answer has, head and all; its body has `size`."""
        form = "%{http_code} %{size_header} %{size_download}"
        said = self.run(*self.curl(), "-o", os.devnull, "-w", form, f"https://localhost:{port}{path}")
        status, head, body = map(int, said.split())
        if (status, body) != (200, size):
            raise Failed(f"{path}: status {status} with {body} bytes in place of {size}")
        return head + body

    @staticmethod
    def curl():
        # The name is what SNI has; nothing is looked up for it.
        return ["curl", "--disable", "-sS", "--http1.1", "--insecure", "--noproxy", "*", "-4", "--max-time", "120"]

    def download(self, port, size):
        self.answer_size(port, "/large", size)

    def upload(self, port, size, file):
        form = " %{http_code} %{size_upload}"
        command = [*self.curl(), "-H", "Expect:", "-T", file, "-w", form, f"https://localhost:{port}/up/large"]
        said = self.run(*command, seconds=60).split()
        # The sink's own count, and curl's.
        if said != [str(size), "200", str(size)]:
            raise Failed(f"of {size} bytes sent came (read, status, sent): {' '.join(said)}")

    def shakes(self, port, count, processes):
        """Full handshakes, each on a connection of its own."""
        each = count // processes
        running = [self.ourselves("shake", port, each) for _ in range(processes)]
        made = sum(int(said) for said in self.ends(running, 60))
        if made != each * processes:
            raise Failed(f"{made} of {each * processes} handshakes were made")
        return made

    def ends(self, running, seconds):
        try:
            return [self.end(child, seconds) for child in running]
        finally:
            for child in running:
                if child.poll() is None:
                    child.kill()

    def hold(self, port, count, processes):
        return Held(self, port, count, processes)


class Held:
    """Connections that are held until the end of this."""

    def __init__(self, clients, port, count, processes):
        self.clients, self.each = clients, count // processes
        self.holders = [clients.ourselves("hold", port, self.each) for _ in range(processes)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for holder in self.holders:
            holder.kill()
            holder.communicate()

    def wait(self):
        """Until every connection is there, or has its answer."""
        for holder in self.holders:
            ready, _, _ = select.select([holder.stdout], [], [], max(0.1, min(120, self.clients.remaining())))
            said = holder.stdout.readline().strip() if ready else "nothing in time"
            if said != str(self.each):
                # Only one that has ended has said why.
                words = holder.stderr.read().strip()[-300:] if ready and not said else ""
                raise Failed(f"{self.each} connections were to be held; the holder says: {said} {words}")

    def get(self):
        """One small GET on each of them, which shows besides that none was ended."""
        for holder in self.holders:
            holder.stdin.write("get\n")
            holder.stdin.flush()
        self.wait()


# ---- What runs as a process of its own -------------------------------------------------------


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def connect(made, port):
    plain = socket.create_connection(("127.0.0.1", port), 10)
    # Or the goodbye waits for an ACK of what went before it, which some servers delay by 40 ms.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = made.wrap_socket(plain, server_hostname="localhost")
    # Without a session of before to resume, all are full; the configuration is proved to hold here too.
    if stream.session_reused or stream.version() != "TLSv1.3" or stream.cipher()[0] != SUITE:
        raise SystemExit(f"{stream.version()} {stream.cipher()} resumed: {stream.session_reused}")
    return stream


def shake(port, count):
    made = context()
    for _ in range(count):
        stream = connect(made, port)
        # Both ends say so, and the tickets are read: a reset might come before the server is done.
        try:
            stream.unwrap().close()
        except (ssl.SSLError, ConnectionResetError):
            stream.close()
    print(count)


def hold(port, count):
    made = context()
    streams = [connect(made, port) for _ in range(count)]
    print(count, flush=True)
    for _ in sys.stdin:
        for stream in streams:
            stream.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer:
                if not (more := stream.recv(16 << 10)):
                    raise SystemExit("a connection was ended")
                answer += more
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)\ncontent-length: *(\d+)", head)[1])
            while len(body) < length:
                if not (more := stream.recv(16 << 10)):
                    raise SystemExit("a connection was ended")
                body += more
            if not head.startswith(b"HTTP/1.1 200 ") or len(body) != length:
                raise SystemExit(f"answered {head[:100]!r}")
        print(count, flush=True)


if __name__ == "__main__":
    {"shake": shake, "hold": hold}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
