"""How the peers that PyPI has are configured and started: envoy, caddy and rclone."""

import json
import subprocess

from place import GO, Up
from proxies import PATIENCE, THREADS, Server, free_port


def envoy(place, _):
    port = free_port()
    host, _, upstream = place.address().partition(":")

    def typed(name, **fields):
        return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **fields}

    def at(host, port):
        return {"socket_address": {"address": host, "port_value": int(port)}}

    pair = {name: {"filename": str(place.folder / file)} for name, file in
            [("certificate_chain", "cert.pem"), ("private_key", "key.pem")]}  # fmt: skip
    tls = typed(
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [pair],
        },
    )
    # By default a request may take 15 seconds.
    route = {"match": {"prefix": "/"}, "route": {"cluster": "sink", "timeout": "0s"}}
    router = {"name": "router", "typed_config": typed("filters.http.router.v3.Router")}
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        codec_type="HTTP1",
        stat_prefix="bench",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[router],
    )
    chain = {
        "filters": [{"name": "http", "typed_config": manager}],
        "transport_socket": {"name": "tls", "typed_config": tls},
    }
    endpoint = {"endpoint": {"address": at(host, upstream)}}
    cluster = {
        "name": "sink",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "sink", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "tls", "address": at("127.0.0.1", port), "filter_chains": [chain]}
    config = place.folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [place.tools["envoy"], "-c", config, "--concurrency", THREADS, "-l", "error", "--disable-hot-restart"]
    return Up(Server("envoy", place.folder, command, [port]), "/plain/", "plain/")


def caddy(place, _):
    port = free_port()
    config = place.folder / "Caddyfile"
    config.write_text(f"""
{{
  admin off
  auto_https off
  persist_config off
  log default {{
    level ERROR
  }}
  servers {{
    protocols h1 h2
  }}
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls {place.folder}/cert.pem {place.folder}/key.pem
  reverse_proxy {place.address()} {{
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
""")
    home = {name: str(place.folder / "caddy") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    command = [place.tools["caddy"], "run", "--adapter", "caddyfile", "--config", config]
    return Up(Server("caddy", place.folder, command, [port], {**GO, **home}), "/plain/", "plain/")


def rclone(name):
    """Behind `rclone serve`, a crypt over the sink. Names stay as they are, so that sizes can be asked.

    It asks for SSE-KMS, as Sealward does: then it takes no entity tag for an MD5, which the sink's aren't.
    """

    def start(place, _):
        port, tool = free_port(), place.tools["rclone"]
        said = subprocess.run([tool, "obscure", "bench"], capture_output=True, text=True, check=True, timeout=PATIENCE)
        config = place.folder / "rclone.conf"
        config.write_text(f"""
[sink]
type = s3
provider = Other
endpoint = {place.sink.s3}
region = us-east-1
access_key_id = AKIAEXAMPLE
secret_access_key = secret
force_path_style = true
no_check_bucket = true
list_version = 2
server_side_encryption = aws:kms
[sealed]
type = crypt
remote = sink:rclone
password = {said.stdout.strip()}
filename_encryption = off
directory_name_encryption = false
suffix = none
""")
        # Its bucket, or folder, is there once something is in it.
        place.sink.put("rclone/files/.made", b"")
        # Without --auth-key it asks for no signature.
        command = [tool, "--config", config, "--log-level", "ERROR", "serve", name, "--addr", f"127.0.0.1:{port}"]
        command += ["--cert", place.folder / "cert.pem", "--key", place.folder / "key.pem", "sealed:"]
        home = {"HOME": str(place.folder), "XDG_CACHE_HOME": str(place.folder / "rclone-cache")}
        server = Server(f"rclone-{name}", place.folder, command, [port], {**GO, **home})
        return Up(server, "/files/", "rclone/files/", sealed=True)

    return start
