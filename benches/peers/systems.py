"""How each system of the peers' benchmark is configured and started before the sink.

All do the same in front: TLS 1.3 of one certificate, two threads, nothing logged; behind, kept
connections of HTTP/1.1 to the sink. Who passes on passes `/plain/…` as it is, and has the client
speak S3 to the sink; Sealward and rclone seal, and speak it themselves. Settings that aren't here
are as they come. Which of a system's ways is meant, what comes after the case's name says:
"-tls" (TLS to the sink), "-nocache" (a data key for each message), "-32m" (of buffers).
"""

import os
import subprocess
import time
import urllib.error

import proxies
import store
from load import Failed
from others import caddy, envoy, rclone
from place import Up
from proxies import CONNECTIONS, KEPT, PATIENCE, THREADS, Server, free_port


def sealward(place, way):
    folder = place.folder / f"sealward-{way or 'plain'}"
    folder.mkdir(exist_ok=True)
    port, admin = free_port(), free_port()
    keys = "max_messages = 1\nunwrapped_entries = 1\n" if way == "nocache" else ""
    limits = '[limits]\nbuffer_memory = "32MiB"\n' if way == "32m" else ""
    # What each has a data key of its own for is read back by the same way alone.
    bucket = "sealward-nocache" if way == "nocache" else "sealward"
    (folder / "sealward.toml").write_text(f"""
[[listener]]
bind = "127.0.0.1:{port}"
tls = {{ source = {{ files = {{ cert = "../cert.pem", key = "../key.pem" }} }} }}
[keys]
provider = "kms"
{keys}
[[class]]
name = "records"
kms_key = "{place.sink.key}"
bucket = "{bucket}"
[[route]]
path = "/files/"
seal = {{ class = "records" }}
[identity]
tokens = "tokens.json"
{limits}
[admin]
bind = "127.0.0.1:{admin}"
[log]
level = "warn"
""")
    binary = place.tools["sealward"]
    (folder / "tokens.json").unlink(missing_ok=True)
    token = [binary, "token", "new", "bench", "--tokens", folder / "tokens.json"]
    token = subprocess.run(token, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()
    environment = {
        "TOKIO_WORKER_THREADS": str(THREADS),
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": place.sink.key.split(":")[3],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL_KMS": place.sink.kms,
        "AWS_ENDPOINT_URL_S3": place.sink.s3_tls if way == "tls" else place.sink.s3,
        # In place of the system's authorities.
        "SSL_CERT_FILE": str(place.folder / "ca.pem"),
    }
    server = Server("sealward", folder, [binary, "serve", "--config", "sealward.toml"], [port, admin], environment)
    return Up(server, "/files/", f"{bucket}/", sealed=True, token=token, ready=lambda: ready(server, admin))


def ready(server, admin):
    """It has proved its keys and its bucket; it listens before."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with store.opener().open(f"http://127.0.0.1:{admin}/readyz", timeout=PATIENCE):
                return
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace")
        except OSError as error:
            words = str(error)
        if server.child.poll() is not None or time.monotonic() > until:
            log = server.log.read_text(errors="replace").strip()[-500:]
            raise RuntimeError(f"sealward isn't ready: {words} {log}")
        time.sleep(0.02)


def nginx(place, way, name="nginx"):
    """On its first port as it comes; on its second without buffers, for what is large."""
    ports = [free_port(), free_port()]
    secure = "https" if way == "tls" else "http"
    # As its users verify: an authority, the name, and sessions kept for the next connection.
    more = "" if way != "tls" else (
        f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {place.folder}/ca.pem; proxy_ssl_name localhost;"
        " proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on;"
    )  # fmt: skip
    rest = f"  upstream sink {{ server {place.address(way)}; keepalive 256; keepalive_requests 1000000000; }}\n"
    for port, buffers in zip(ports, ["", "proxy_buffering off; proxy_request_buffering off;"]):
        rest += f"""
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {place.folder}/cert.pem; ssl_certificate_key {place.folder}/key.pem; ssl_protocols TLSv1.3;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
    {buffers} {more}
    location / {{ proxy_pass {secure}://sink; }}
  }}"""
    server = proxies.nginx(place.folder, name, THREADS, ports, rest)
    return Up(server, "/plain/", "plain/", large=ports[1])


def nginx_buffered(place, way):
    """As it comes for large bodies too: what goes out may be cheaper so."""
    up = nginx(place, way, "nginx-buffered")
    up.large = 0
    return up


def haproxy(place, way):
    port = free_port()
    config = place.folder / "haproxy.cfg"
    secure = f" ssl verify required ca-file {place.folder}/ca.pem sni str(localhost)" if way == "tls" else ""
    config.write_text(f"""
global
  nbthread {THREADS}
  maxconn {CONNECTIONS}
  no strict-limits
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client {KEPT}s
  timeout server {KEPT}s
frontend tls
  bind 127.0.0.1:{port} ssl crt {place.folder}/both.pem
  default_backend sink
backend sink
  server sink {place.address(way)}{secure}
""")
    command = [place.tools["haproxy"], "-db", "-f", config]
    return Up(Server("haproxy", place.folder, command, [port]), "/plain/", "plain/")


# In the order of the table: how each is started, the program it is of, and its ways.
START = {
    "sealward": (sealward, "sealward", ["", "tls", "nocache", "32m"]),
    "nginx": (nginx, "nginx", ["", "tls"]),
    "nginx-buffered": (nginx_buffered, "nginx", ["", "tls"]),
    "haproxy": (haproxy, "haproxy", ["", "tls"]),
    "envoy": (envoy, "envoy", [""]),
    "caddy": (caddy, "caddy", [""]),
    "rclone-s3": (rclone("s3"), "rclone", [""]),
    "rclone-webdav": (rclone("webdav"), "rclone", [""]),
}


def tools(binary, environment):
    """Where each program is: Debian's, and those that PyPI has, below `environment`."""
    found = {name: proxies.program(name) for name in ("nginx", "haproxy")}
    found |= {name: next(environment.glob(f"bin/{name}"), None) for name in ("caddy", "rclone")}
    found["envoy"] = next(environment.glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
    found["sealward"] = binary if binary.is_file() else None
    return {name: str(path) for name, path in found.items() if path}


def versions(found):
    """What each says it is, and of those that don't run, why."""
    said, broken = {}, {}
    for name, path in found.items():
        asked = {"nginx": "-v", "haproxy": "-v", "caddy": "version", "rclone": "version"}.get(name, "--version")
        try:
            done = subprocess.run([path, asked], capture_output=True, text=True, timeout=PATIENCE, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            broken[name] = str(error)
            continue
        words = (done.stdout + done.stderr).strip()
        if done.returncode or not words:
            broken[name] = f"exited with {done.returncode}: {words[-300:]}"
            continue
        first = words.splitlines()[0].replace(path, name).strip()
        said[name] = first if name in first.lower() else f"{name} {first}"
    return said, broken
