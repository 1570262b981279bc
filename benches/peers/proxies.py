"""How the app behind and each proxy before it is configured, started and ended.

All proxies do the same: TLS 1.3 of one certificate in front, plain HTTP/1.1 over kept
connections behind, X-Forwarded-For and -Proto written, nothing logged, two threads.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
THREADS = 2
PATIENCE = 20  # seconds for a server to listen
SMALL = 1024  # bytes of the small answer
KEPT = 600  # seconds that an idle connection is kept by every proxy
CONNECTIONS = 16_384

# Where Debian keeps servers isn't on everybody's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])


def program(name):
    return shutil.which(name, path=PATH)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process and its children, in a group of their own that ends with this."""

    def __init__(self, name, folder, command, ports, environment=None):
        self.name, self.ports = name, ports
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def __enter__(self):
        try:
            self.listening()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for way, seconds in [(signal.SIGTERM, 3), (signal.SIGKILL, 10)]:
            try:
                os.killpg(self.pid, way)
            except ProcessLookupError:
                pass
            try:
                self.child.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                pass
        # Workers whose master is gone, if any are left.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @property
    def pid(self):
        return self.child.pid

    @property
    def port(self):
        return self.ports[0]

    def listening(self):
        until = time.monotonic() + PATIENCE
        for port in self.ports:
            while True:
                if self.child.poll() is not None or time.monotonic() > until:
                    words = self.log.read_text(errors="replace").strip()[-800:]
                    raise RuntimeError(f"{self.name} doesn't listen on port {port}: {words or 'it says nothing'}")
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.02)


def certificate(folder):
    """One of ECDSA P-256, valid for a day, and its key; and both in one file, as haproxy wants them."""
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-keyout", "key.pem", "-out", "cert.pem", "-days", "1", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"},
        timeout=60,
    )
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())


# Whoever starts it as root would have workers of another user, who may not read the folder.
NGINX = """
daemon off; pid {folder}/{name}.pid; error_log stderr error; {user}
worker_processes {workers}; events {{ worker_connections {connections}; }}
http {{
  access_log off; default_type application/octet-stream;
  # Never ends a connection by itself, by a count least of all.
  keepalive_requests 1000000000; keepalive_timeout {kept}s; client_header_timeout {kept}s; client_max_body_size 0;
  client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
{rest}
}}
"""


def nginx(folder, name, workers, ports, rest):
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / f"{name}.conf"
    config.write_text(
        NGINX.format(
            folder=folder, name=name, user=user, workers=workers, connections=CONNECTIONS, kept=KEPT, rest=rest
        )
    )
    # `-e`: before it has read where else, it would write to the system's own log.
    return Server(name, folder, [program("nginx"), "-p", folder, "-e", "stderr", "-c", config], ports)


def start_app(folder):
    """A small answer out of memory, and a file by sendfile."""
    port = free_port()
    rest = f"""
  sendfile on; tcp_nopush on;
  server {{
    listen 127.0.0.1:{port};
    location = /small {{ return 200 "{"x" * SMALL}"; }}
    location / {{ root {folder}/served; }}
  }}"""
    return nginx(folder, "app", 1, [port], rest)


def start_sink(folder):
    """What takes uploads, below /up/."""
    port = free_port()
    return Server("sink", folder, [sys.executable, HERE / "sink.py", port], [port])


def start_sealward(folder, app, sink, binary):
    port, admin = free_port(), free_port()
    config = folder / "sealward.toml"
    config.write_text(f"""
[[listener]]
bind = "127.0.0.1:{port}"
tls = {{ source = {{ files = {{ cert = "cert.pem", key = "key.pem" }} }} }}
[[upstream]]
name = "app"
targets = ["http://127.0.0.1:{app}"]
[[upstream]]
name = "sink"
targets = ["http://127.0.0.1:{sink}"]
[[route]]
path = "/"
public = true
forward = {{ upstream = "app" }}
[[route]]
path = "/up/"
public = true
forward = {{ upstream = "sink" }}
[limits]
connections = {CONNECTIONS}
header_timeout = "{KEPT}s"
idle_timeout = "{KEPT}s"
[admin]
bind = "127.0.0.1:{admin}"
[log]
level = "warn"
""")
    command = [binary, "serve", "--config", config]
    return Server("sealward", folder, command, [port], {"TOKIO_WORKER_THREADS": str(THREADS)})


def start_nginx(folder, app, sink, _):
    """On its first port as it comes; on its second without buffers, for what is large."""
    ports = [free_port(), free_port()]
    server = """
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.3;
    proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    {more}
    location / {{ proxy_pass http://app; }}
    location /up/ {{ proxy_pass http://sink; }}
  }}"""
    rest = f"""
  upstream app {{ server 127.0.0.1:{app}; keepalive 256; keepalive_requests 1000000000; }}
  upstream sink {{ server 127.0.0.1:{sink}; keepalive 256; keepalive_requests 1000000000; }}"""
    for port, more in zip(ports, ["", "proxy_buffering off; proxy_request_buffering off;"]):
        rest += server.format(port=port, folder=folder, more=more)
    return nginx(folder, "nginx", THREADS, ports, rest)


def start_haproxy(folder, app, sink, _):
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(f"""
global
  nbthread {THREADS}
  maxconn {CONNECTIONS}
  no strict-limits
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client {KEPT}s
  timeout server {KEPT}s
  timeout http-request {KEPT}s
  timeout http-keep-alive {KEPT}s
frontend tls
  bind 127.0.0.1:{port} ssl crt {folder}/both.pem
  http-request set-header X-Forwarded-Proto https
  use_backend sink if {{ path_beg /up/ }}
  default_backend app
backend app
  server app 127.0.0.1:{app}
backend sink
  server sink 127.0.0.1:{sink}
""")
    return Server("haproxy", folder, [program("haproxy"), "-db", "-f", config], [port])


# In the order of the table. Each is called with the folder, the app's port, the sink's, and Sealward's binary.
START = {"sealward": start_sealward, "nginx": start_nginx, "haproxy": start_haproxy}


def versions(binary):
    said = {}
    for name, command in {
        "sealward": [binary, "--version"],
        "nginx": [program("nginx"), "-v"],
        "haproxy": [program("haproxy"), "-v"],
        "openssl": [program("openssl"), "version"],
    }.items():
        if command[0]:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            said[name] = (done.stdout + done.stderr).strip().splitlines()[0]
    return said
