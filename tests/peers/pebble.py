#!/usr/bin/env python3
"""An ACME authority: pebble, which Let's Encrypt make for tests of clients.

    pebble.py --tls-port N --http-port M [--validity SECONDS]

Starts pebble on free ports of the loopback interface, with a resolver that gives
127.0.0.1 for every name, and has it validate tls-alpn-01 on port N and http-01 on
port M. Certificates live for --validity seconds (pebble's own default is five years).

Prints {"directory": URL, "root": FILE, "management": URL} once the directory answers;
`root` is the CA behind the certificate of pebble's own API, new each time and not the
one that issues: that is the job `root`. Then takes one JSON job per line on stdin and
answers with one line each: {"ok": true, ...} or {"ok": false, "code": ..., "error": ...}.
The end of stdin, or a SIGTERM, is the end of all of it; a SIGKILL would leave pebble behind.

pebble's own settings are taken from the environment: PEBBLE_WFE_NONCEREJECT (5, the
percentage of good nonces that it refuses), PEBBLE_AUTHZREUSE (0 here, 50 as pebble would
have it; at 0 one order in a hundred still finds its name proven), PEBBLE_CHAIN_LENGTH,
PEBBLE_ALTERNATE_ROOTS, PEBBLE_VA_ALWAYS_VALID and others.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

CERTIFICATES = pathlib.Path(__file__).resolve().parents[2] / "certs" / "make-dev-certs.sh"
HOST = "127.0.0.1"
PATIENCE = 60  # seconds for a program to answer on a busy machine
TIMEOUT = 10  # seconds for one answer of pebble's
TAKEN = "address already in use"
# What the address of "ready.test" is, and the four bytes that every answer has.
QUESTION = b"\x5e\xa1\1\0\0\1\0\0\0\0\0\0\5ready\4test\0\0\1\0\1"
ANSWER = b"\0\4" + socket.inet_aton(HOST)


class Port:
    """A port that nobody else is given, also while pebble isn't there to listen on it:
    bound but not listening, it refuses connections."""

    def __init__(self):
        self.holder = None
        self.place = (HOST, 0)
        self.keep()
        self.place = self.holder.getsockname()
        self.address = "{}:{}".format(*self.place)

    def keep(self):
        if not self.holder:
            self.holder = socket.socket()
            self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.holder.bind(self.place)

    def lend(self):
        # Linux lets a server listen beside the holder; others need it out of the way.
        if sys.platform != "linux":
            self.holder.close()
            self.holder = None


class Program:
    """A process in a group of its own, so that all of it ends. What it says goes to
    the end of `log`."""

    running = []

    def __init__(self, log, command, **environment):
        path = shutil.which(command[0])
        if not path:
            raise SystemExit(f"{command[0]} isn't there: `make test` sees to it")
        self.log = log
        self.before = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                [path, *command[1:]], env={**environment, **os.environ}, cwd=log.parent, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )
        self.running.append(self)

    def said(self):
        """What this process has said, not those before it."""
        return self.log.read_bytes()[self.before:].decode(errors="replace")

    def wait_for(self, ready):
        """Until `ready()`; gives False when the process gives up, or a port is taken."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answers = ready()  # which may be another's answer, if the port is
            if self.child.poll() is not None or TAKEN in self.said():
                return False
            if answers:
                return True
            time.sleep(0.02)
        return False

    def end(self):
        for sent in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):  # a paused one hears nothing else
            try:
                os.killpg(self.child.pid, sent)
                if sent != signal.SIGCONT:
                    self.child.wait(3)
                    break
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.running.remove(self)


class Resolver:
    """Gives 127.0.0.1 for every name."""

    def __init__(self, folder):
        for left in reversed(range(5)):  # another may take the port before it does
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind((HOST, 0))
                self.address = "{}:{}".format(*free.getsockname())
            # Nothing but DNS. Its management it can't do without; port 0 is out of everybody's way.
            command = ["pebble-challtestsrv", "-dns01", self.address, "-management", f"{HOST}:0"]
            for off in ("-defaultIPv6", "-http01", "-https01", "-tlsalpn01"):
                command += [off, ""]
            self.program = Program(folder / "resolver.log", command)
            if self.program.wait_for(self.answers):
                return
            self.program.end()
            said = self.program.said()
            if not left or TAKEN not in said:
                raise RuntimeError(f"the resolver doesn't answer:\n{said[-4000:]}")

    def answers(self):
        host, port = self.address.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.5)
            try:
                asking.connect((host, int(port)))
                asking.send(QUESTION)
                return ANSWER in asking.recv(512)
            except OSError:
                return False


class Pebble:
    """pebble, which may come and go. All it knows goes with it: accounts, orders, and
    the CA that it issues by."""

    def __init__(self, folder, resolver, tls_port, http_port, validity):
        made = subprocess.run([CERTIFICATES, folder], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(f"no certificate for pebble:\n{made.stderr}")
        self.root = folder / "ca.pem"
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.root))
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
        self.log = folder / "pebble.log"
        self.resolver = resolver
        self.validity = validity
        self.api, self.admin = Port(), Port()
        self.config = folder / "pebble.json"
        config = {
            "listenAddress": self.api.address,
            "managementListenAddress": self.admin.address,
            "certificate": str(folder / "server.pem"),
            "privateKey": str(folder / "server-key.pem"),
            "tlsPort": tls_port,
            "httpPort": http_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
        if validity is not None:
            config["certificateValidityPeriod"] = validity
        self.config.write_text(json.dumps({"pebble": config}, indent=2))
        self.directory = f"https://{self.api.address}/dir"
        self.management = f"https://{self.admin.address}"
        self.program = None
        self.start()

    def get(self, url):
        with self.opener.open(url, timeout=TIMEOUT) as answer:
            return answer.read().decode()

    def answers(self):
        try:
            return bool(self.get(self.directory) and self.get(f"{self.management}/roots/0"))
        except OSError:
            return False

    def start(self):
        if self.program:
            raise RuntimeError("pebble is there")
        self.api.lend()
        self.admin.lend()
        program = Program(
            self.log, ["pebble", "-config", self.config, "-dnsserver", self.resolver.address],
            PEBBLE_VA_NOSLEEP="1", PEBBLE_AUTHZREUSE="0",
        )
        if not program.wait_for(self.answers):
            program.end()
            raise RuntimeError(f"pebble doesn't answer:\n{program.said()[-4000:]}")
        # An older one would issue for five years without a word.
        if self.validity is not None and f"validity period of {self.validity} seconds" not in program.said():
            program.end()
            raise RuntimeError(f"this pebble doesn't issue for {self.validity} seconds; 2.4 or later can")
        self.program = program

    def stop(self):
        if not self.program:
            raise RuntimeError("pebble isn't there")
        self.program.end()
        self.program = None
        self.api.keep()
        self.admin.keep()

    def signal(self, sent):
        if not self.program:
            raise RuntimeError("pebble isn't there")
        os.killpg(self.program.child.pid, sent)


class Jobs:
    """Every job is a method."""

    def __init__(self, pebble):
        self.pebble = pebble

    def root(self):
        """The CA that issues. It is another one after each `start`."""
        return {"pem": self.pebble.get(f"{self.pebble.management}/roots/0")}

    def stop(self):
        """pebble is away: connections are refused."""
        self.pebble.stop()

    def start(self):
        """It is back on the same ports, having forgotten everything."""
        self.pebble.start()

    def pause(self):
        """It hangs: connections are taken, and nothing is answered."""
        self.pebble.signal(signal.SIGSTOP)

    def resume(self):
        """It goes on as if nothing had been, knowing all that it knew."""
        self.pebble.signal(signal.SIGCONT)

    def orders(self):
        """What has been asked of it, and what came of that, over all its lives."""
        log = self.pebble.log.read_text(errors="replace")
        serials = re.findall(r"Issued certificate serial (\S+) for order", log)
        return {
            "accounts": len(re.findall(r"There are now \d+ accounts", log)),
            "orders": log.count("Added order"),
            "refused": log.count("INVALID by completed challenge"),
            "certificates": len(serials),
            "serials": serials,
        }

    def log(self):
        """All that it has said, for whoever looks into a test that failed."""
        return {"text": self.pebble.log.read_text(errors="replace")}


def end(number, _frame):
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def main():
    parser = argparse.ArgumentParser(description="An ACME authority for tests.")
    parser.add_argument("--tls-port", type=int, required=True, help="where tls-alpn-01 is validated")
    parser.add_argument("--http-port", type=int, required=True, help="where http-01 is validated")
    parser.add_argument("--validity", type=int, help="seconds a certificate lives")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, end)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            pebble = Pebble(folder, Resolver(folder), **vars(arguments))
            first = {"directory": pebble.directory, "root": str(pebble.root), "management": pebble.management}
            print(json.dumps(first), flush=True)
            jobs = Jobs(pebble)
            for line in sys.stdin:
                job = json.loads(line)
                try:
                    answer = {"ok": True, **(getattr(jobs, job.pop("do"))(**job) or {})}
                except Exception as error:  # every failure is an answer; the next job goes on
                    answer = {"ok": False, "code": type(error).__name__, "error": str(error)}
                print(json.dumps(answer), flush=True)
        finally:
            for program in list(Program.running):
                program.end()


if __name__ == "__main__":
    main()
