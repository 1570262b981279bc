"""What the soak stands on: Sealward as in production, before the sink of benches/peers, an app and a database."""

import os
import pathlib
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import proxies
from load import Failed
from stories import KIB, LARGE_ANSWER, MIB, SMALL_ANSWER, Matter
from store import opener
from systems import ready

HERE = pathlib.Path(__file__).resolve().parent
BUCKET = "soak"
IDLE = 60  # seconds, as the server has them: how long a connection may be without a request
POOL = 8  # connections to the catalogue at most
UPSTREAMS = ("app", "up")
PATIENCE = 30

# `turn` is 0 or 1: each configuration that is taken up differs from the one before in what can be taken up, one
# target of the app comes and goes with it, and so does its upstream.
CONFIG = """
[[listener]]
bind = "127.0.0.1:{port}"
tls = {{ source = {{ files = {{ cert = "cert.pem", key = "key.pem" }} }} }}
[keys]
provider = "kms"
[[class]]
name = "records"
kms_key = "{key}"
bucket = "{bucket}"
prefix = "records/"
exclusive = true
[[class]]
name = "guarded"
kms_key = "{key}"
bucket = "{bucket}"
prefix = "guarded/"
freshness = "enforce"
[[upstream]]
name = "app"
targets = [{targets}]
idle_timeout = "{idle}s"
deregistration_delay = "10s"
[upstream.health]
path = "/small"
[[upstream]]
name = "up"
targets = ["http://127.0.0.1:{sink}"]
[[quota]]
name = "plenty"
by = "caller"
requests = {requests}
concurrent = 10000
[[route]]
path = "/app/"
public = true
quotas = ["plenty"]
compress = true
[route.forward]
upstream = "app"
rewrite = {{ pattern = "^/app/", to = "/" }}
response = {{ set = {{ x-turn = "{turn}" }} }}
[[route]]
path = "/up/"
forward = {{ upstream = "up" }}
[[route]]
path = "/files/"
seal = {{ class = "records" }}
[[route]]
path = "/guarded/"
seal = {{ class = "guarded" }}
[identity]
tokens = "tokens.json"
[catalog]
{catalog}
[limits]
connections = 4096
buffer_memory = "64MiB"
[admin]
bind = "127.0.0.1:{admin}"
[log]
format = "json"
[log.access]
path = "access.log"
"""


def renewed(folder, number):
    """Another certificate and its key, of the authority that clients know."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for command in [
        ["req", "-new", *key, "-keyout", "next.key", "-out", "next.csr", "-subj", "/CN=localhost", "-config", "ca.cnf"],
        ["x509", "-req", "-in", "next.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", str(1000 + number)]
        + ["-days", "2", "-out", "next.pem", "-extfile", "ca.cnf", "-extensions", "leaf"],
    ]:
        command = [proxies.program("openssl"), *command]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise Failed(f"openssl {command[1]}: {done.stderr.strip()[-300:]}")
    # One after the other, as most tools do.
    os.replace(folder / "next.key", folder / "key.pem")
    os.replace(folder / "next.pem", folder / "cert.pem")
    return number


# ---- The catalogue ---------------------------------------------------------------------------


def postgres():
    """Where PostgreSQL's programs are, if they are anywhere."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = proxies.program("initdb")
    found = [path.parent for path in found] or ([pathlib.Path(on_path).resolve().parent] if on_path else [])
    return found[-1] if found else None


class Postgres:
    """A server of its own, spoken to over TLS with a password."""

    def __init__(self, folder):
        programs = postgres()
        # Its user has to reach it, and the folder of all else is nobody's but ours.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-postgres-"))
        self.port, self.password = proxies.free_port(), secrets.token_hex(16)
        names = {"sink.pem": "server.pem", "sink.key": "server.key"}
        for name, own in names.items():
            shutil.copy(folder / name, self.folder / own)
        (self.folder / "server.key").chmod(0o600)
        (self.folder / "password").write_text(self.password)
        (self.folder / "hba").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        as_owner = []
        if os.geteuid() == 0:
            # It refuses to run as root.
            users = {user.pw_name: user for user in pwd.getpwall()}
            owner = users.get("postgres") or users["nobody"]
            for path in [self.folder, *self.folder.iterdir()]:
                os.chown(path, owner.pw_uid, owner.pw_gid)
            as_owner = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        data = self.folder / "data"
        making = [*as_owner, programs / "initdb", "--username=sealward", "--auth=scram-sha-256", "--encoding=UTF8"]
        making += ["--locale=C", "--no-sync", f"--pwfile={self.folder / 'password'}", "--pgdata", data]
        done = subprocess.run(making, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            self.__exit__()
            raise Failed(f"initdb: {done.stderr.strip()[-500:]}")
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder}
        certificate, key = self.folder / "server.pem", self.folder / "server.key"
        settings |= {"ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key}
        # What the machine's disk is up to isn't to be seen in the load.
        settings |= {"hba_file": self.folder / "hba", "fsync": "off", "shared_buffers": "32MB"}
        command = [*as_owner, programs / "postgres", "-D", data]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.server = proxies.Server("postgres", self.folder, command, [self.port])

    def __enter__(self):
        try:
            self.server.__enter__()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if server := getattr(self, "server", None):
            server.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def section(self):
        url = f"postgres://sealward:{self.password}@localhost:{self.port}/postgres"
        return f'url = "{url}"\ntls = {{ roots = "ca.pem" }}\nconnections = {POOL}\n'


class File:
    """SQLite, in a file beside all else."""

    port = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def section(self):
        return f'url = "sqlite:catalog.db"\nconnections = {POOL}\n'


CATALOGUES = {"postgres": Postgres, "sqlite": lambda _: File()}


# ---- The app ---------------------------------------------------------------------------------


def start_app(folder):
    """Two doors to the same small and large answers."""
    served = folder / "served"
    served.mkdir()
    matter = Matter(LARGE_ANSWER)
    (served / "small").write_bytes(SMALL_ANSWER)
    (served / "large").write_bytes(matter.piece(0, LARGE_ANSWER))
    (served / "text").write_text(bytes(matter.piece(0, 64 * KIB)).hex())
    ports = [proxies.free_port(), proxies.free_port()]
    listens = "".join(f"listen 127.0.0.1:{port};" for port in ports)
    rest = f"server {{ {listens} location / {{ root {served}; }} }}"
    return proxies.nginx(folder, "app", 1, ports, rest)


# ---- Sealward --------------------------------------------------------------------------------


class Site:
    """The server under load, what it is configured by, and what it speaks to."""

    def __init__(self, stack, folder, binary, sink, catalogue):
        self.folder, self.binary, self.sink, self.turn = folder, binary, sink, 0
        self.port, self.admin, self.renewals, self.reloads = proxies.free_port(), proxies.free_port(), 0, 0
        self.catalogue = stack.enter_context(CATALOGUES[catalogue](folder))
        self.app = stack.enter_context(start_app(folder))
        self.up = stack.enter_context(proxies.start_sink(folder))
        renewed(folder, 0)
        self.configure()
        token = [binary, "token", "new", "soak", "--tokens", folder / "tokens.json"]
        done = subprocess.run(token, capture_output=True, text=True, check=True, timeout=PATIENCE)
        self.token = done.stdout.strip()
        self.server = proxies.Server("sealward", folder, self.command(), [self.port, self.admin], self.environment())
        stack.enter_context(self.server)
        ready(self.server, self.admin)

    def command(self):
        return [self.binary, "serve", "--config", "sealward.toml"]

    def environment(self):
        return {
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": self.sink.key.split(":")[3],
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ENDPOINT_URL_KMS": self.sink.kms,
            "AWS_ENDPOINT_URL_S3": self.sink.s3_tls,
            # In place of the system's authorities.
            "SSL_CERT_FILE": str(self.folder / "ca.pem"),
        }

    @property
    def pid(self):
        return self.server.pid

    def ports(self):
        """What is at the other end of a connection, by its port; below zero our own."""
        named = {-self.port: "client", -self.admin: "admin", self.up.port: "app"}
        named |= {port: "app" for port in self.app.ports}
        for address, kind in [(self.sink.s3_tls, "s3"), (self.sink.kms, "kms")]:
            named.setdefault(int(re.search(r":(\d+)$", address)[1]), kind)
        return named | ({self.catalogue.port: "catalogue"} if self.catalogue.port else {})

    def configure(self):
        doors = self.app.ports[: 1 + self.turn]
        text = CONFIG.format(
            port=self.port, admin=self.admin, key=self.sink.key, bucket=BUCKET, sink=self.up.port,
            targets=", ".join(f'"http://127.0.0.1:{port}"' for port in doors), idle=60 + self.turn,
            requests=100_000 + self.turn, turn=self.turn, catalog=self.catalogue.section(),
        )  # fmt: skip
        following = self.folder / "sealward.toml.next"
        following.write_text(text)
        os.replace(following, self.folder / "sealward.toml")

    def reload(self):
        """Another configuration; the access log is moved away, as those who rotate it do."""
        self.turn = 1 - self.turn
        self.reloads += 1
        self.configure()
        (self.folder / "access.log").rename(self.folder / "access.log.1")
        os.kill(self.pid, signal.SIGHUP)

    def renew(self):
        self.renewals = renewed(self.folder, self.renewals + 1)

    def unfinished(self):
        """Uploads in parts that the store has been left with."""
        with opener().open(f"{self.sink.s3}/{BUCKET}?uploads", timeout=PATIENCE) as answer:
            root = xml.etree.ElementTree.fromstring(answer.read())
        return [node.findtext("{*}Key") or node.findtext("Key") for node in root.iter() if node.tag.endswith("Upload")]

    def end(self):
        """Its exit code, and how many seconds it took to end, after SIGTERM."""
        begun = time.monotonic()
        self.server.child.send_signal(signal.SIGTERM)
        try:
            code = self.server.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        return code, time.monotonic() - begun


def python(environment):
    """The interpreter that has h2, of target/peers."""
    for name in ("esdk", "apps", "aws"):
        found = environment.parent / name / "bin" / "python"
        if found.is_file():
            return found
    return None


