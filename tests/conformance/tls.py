#!/usr/bin/env python3
"""Holds the TLS of the real binary to what docs/tls.md says of it.

    target/peers/tls/bin/python tests/conformance/tls.py target/debug/sealward           `make test-conformance`
    target/peers/tls/bin/python tests/conformance/tls.py target/debug/sealward --write   writes the page's table anew

One server with a listener for every policy and kind of key is asked by sslyze (its
command line; nothing of it is imported), by OpenSSL 3.5, and by hellos put together
by hand, for what sslyze can't find out here: see NOTES. Each finding is compared with
EXPECTED, and the whole table with the page. Exit code 1 when anything differs.
"""

import base64
import itertools
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time

sys.dont_write_bytecode = True

from OpenSSL import SSL  # noqa: E402

import hello  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tls.md"
BEGIN, END = "<!-- findings: written by tests/conformance/tls.py --write -->", "<!-- /findings -->"
PATIENCE = 60  # seconds for the server to listen, on a busy machine
DEADLINE = 600  # seconds for everything

# What there is to choose, by what it comes to. No policy at all is the default.
KINDS = {
    "tls13": [None, "tls13", "ELBSecurityPolicy-TLS13-1-3-2021-06", "ELBSecurityPolicy-TLS13-1-3-PQ-2025-09"],
    "tls12": ["tls12"],
    "Res": ["ELBSecurityPolicy-TLS13-1-2-Res-2021-06", "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"],
}
KEYS = ["ECDSA", "RSA"]
LABELS = {"tls13": "`tls13`", "tls12": "`tls12`", "Res": "`…-1-2-Res-…`"}

SUITES13 = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES12 = ["AES_256_GCM_SHA384", "AES_128_GCM_SHA256", "CHACHA20_POLY1305_SHA256"]
CURVES = ["x25519", "secp256r1", "secp384r1"]
KEPT_OUT = "refused, protocol_version"
HYBRID = "X25519MLKEM768 where the client lists it first, by a second hello; else x25519"

# What sslyze says, and what that is worth here.
NOTES = {
    "¹": "sslyze asks this by OpenSSL 1.0.2, which has neither TLS 1.3 nor the extended master secret: it is refused "
    "before anything else is looked at, and sslyze draws its conclusion from that.",
    "²": "sslyze concludes this from TLS 1.3 being there, and asks nothing.",
    "³": "sslyze takes a new ticket for a sign that the old one was refused; here each resumption brings a new one.",
}


def expected(kind, key):
    """Finding: what sslyze says, what the others say; `None` where it isn't theirs to say."""
    tls12 = kind != "tls13"
    suites12 = [f"TLS_ECDHE_{key}_WITH_{suite}" for suite in SUITES12]
    if kind == "Res":
        suites12.pop()
    # What its OpenSSL 1.0.2 hasn't got, it asks for by 1.1.1, and gets.
    seen12 = [f"{suite} ¹" for suite in suites12 if "CHACHA20" in suite] or "refused ¹"

    def of_tls12(others):
        return others if tls12 else None

    return {
        "SSL 2.0": ("refused", None),
        "SSL 3.0": ("refused", KEPT_OUT),
        "TLS 1.0": ("refused", KEPT_OUT),
        "TLS 1.1": ("refused", KEPT_OUT),
        "TLS 1.2": (seen12, suites12) if tls12 else ("refused", KEPT_OUT),
        "TLS 1.3": (sorted(SUITES13), SUITES13),
        "groups, TLS 1.2": (None, of_tls12(CURVES)),
        "groups, TLS 1.3": (CURVES, ["X25519MLKEM768", *CURVES]),
        "group with OpenSSL 3.5": (None, "X25519MLKEM768"),
        "group of a client with a share for x25519 alone": (None, HYBRID),
        "0-RTT": ("no", None),
        "sessions by ticket, TLS 1.3": (None, "resumed, with a new X25519MLKEM768"),
        "sessions by ticket, TLS 1.2": ("0 of 5 ³" if tls12 else "TLS 1.3 only", of_tls12("resumed")),
        "sessions by id, TLS 1.2": ("0 of 5" if tls12 else "TLS 1.3 only", of_tls12("not resumed")),
        "extended master secret": ("taken ²", of_tls12("without it: refused, handshake_failure")),
        "renegotiation by the client": ("refused ¹", of_tls12("refused, no renegotiation")),
        "secure renegotiation (RFC 5746)": ("yes ¹", of_tls12("announced")),
        "compression": ("none ¹", f"{'never chosen; alone' if tls12 else 'offered'}: refused, illegal_parameter"),
        "TLS_FALLBACK_SCSV": ("yes ¹", of_tls12("passed over; the answer bears the mark of a downgrade")),
        "signatures over SHA-1 alone": (None, of_tls12("refused, handshake_failure")),
        "Heartbleed": ("no ²", of_tls12("extension not taken; a heartbeat: refused, decode_error")),
        "CCS injection": ("no ²", of_tls12("refused, unexpected_message")),
        "ROBOT": ("no RSA key exchange ¹", of_tls12("RSA key exchange alone: refused, handshake_failure")),
        "ALPN": (None, "h2, then http/1.1; neither offered: refused, no application protocol"),
        "a name that no certificate has": (None, "the first certificate"),
        "certificate": (f"trusted by the CA, in order, {'P-256' if key == 'ECDSA' else 'RSA 2048'}, SHA-256", None),
        "OCSP stapling": ("no", None),
        "client certificates": ("not asked for", None),
    }


# --- the server ---------------------------------------------------------------


def run(*command, **environment):
    environment = {**os.environ, **environment}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def make_certificates(folder):
    """A CA and a P-256 pair by the project's own script, and an RSA pair of that CA."""
    run(ROOT / "certs" / "make-dev-certs.sh", str(folder))
    profile = ["-config", str(ROOT / "certs" / "server.cnf")]
    names = "DNS:localhost,IP:127.0.0.1,IP:::1"
    key, request, leaf = folder / "rsa-key.pem", folder / "rsa.csr", folder / "rsa.pem"
    run("openssl", "req", "-new", "-sha256", "-newkey", "rsa:2048", "-nodes", *profile, "-keyout", str(key), "-out",
        str(request), SEALWARD_SAN=names)
    run("openssl", "x509", "-req", "-sha256", "-days", "90", "-in", str(request), "-CA", str(folder / "ca.pem"),
        "-CAkey", str(folder / "ca-key.pem"), "-set_serial", "2", "-extfile", profile[1], "-extensions", "extensions",
        "-out", str(leaf), SEALWARD_SAN=names)
    return {"ECDSA": ("server.pem", "server-key.pem"), "RSA": ("rsa.pem", "rsa-key.pem")}


def configuration(listeners, pairs):
    text = ""
    for _, policy, key in listeners:
        cert, private = pairs[key]
        policy = f'policy = "{policy}", ' if policy else ""
        source = f'source = {{ files = {{ cert = "tls/{cert}", key = "tls/{private}" }} }}'
        text += f'[[listener]]\nbind = "127.0.0.1:0"\ntls = {{ {policy}{source} }}\n'
    return text + """
[[route]]
path = "/files/"
public = true
seal = { class = "files" }
[[class]]
name = "files"
directory = "objects"
[keys]
provider = "local"
keyring = "keyring.json"
[admin]
bind = "127.0.0.1:0"
[log]
format = "json"
"""


class Server:
    """The binary in a folder of its own, in a process group of its own; gone at the end, whatever happened."""

    def __init__(self, binary, folder, listeners):
        self.folder = folder
        for name in ("tls", "objects"):
            (folder / name).mkdir(mode=0o700)
        pairs = make_certificates(folder / "tls")
        (folder / "keyring.json").touch(0o600)
        wrapping_key = base64.b64encode(os.urandom(32)).decode()
        keyring = {"namespace": "conformance", "name": "one", "wrapping_key": wrapping_key}
        (folder / "keyring.json").write_text(json.dumps(keyring))
        (folder / "sealward.toml").write_text(configuration(listeners, pairs))
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [binary, "serve", "--config", str(folder / "sealward.toml")], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, sent)
                self.child.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
            return

    def ports(self):
        """Those of the listeners, in their order, once it serves."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.child.poll() is None:
            for line in self.log.read_text().splitlines(keepends=True):
                # The last line may not be whole yet.
                said = json.loads(line) if line.startswith("{") and line.endswith("\n") else {}
                if said.get("message") == "serving":
                    return [int(address.rsplit(":", 1)[1]) for address in said["listeners"].strip("[]").split(",")]
            time.sleep(0.05)
        sys.stderr.write(self.log.read_text()[-4000:])
        raise SystemExit("the server doesn't serve")


# --- sslyze -------------------------------------------------------------------

COMMANDS = {
    "sslv2": "ssl_2_0_cipher_suites",
    "sslv3": "ssl_3_0_cipher_suites",
    "tlsv1": "tls_1_0_cipher_suites",
    "tlsv1_1": "tls_1_1_cipher_suites",
    "tlsv1_2": "tls_1_2_cipher_suites",
    "tlsv1_3": "tls_1_3_cipher_suites",
    "compression": "tls_compression",
    "early_data": "tls_1_3_early_data",
    "reneg": "session_renegotiation",
    "resum": "session_resumption",
    "fallback": "tls_fallback_scsv",
    "heartbleed": "heartbleed",
    "openssl_ccs": "openssl_ccs_injection",
    "robot": "robot",
    "elliptic_curves": "elliptic_curves",
    "ems": "tls_extended_master_secret",
    "certinfo": "certificate_info",
}


def scan(ports, ca, folder):
    """What sslyze says of each port: its version, and the results by port."""
    out = folder / "sslyze.json"
    # -W: it warns of certificates in its own collection.
    command = [sys.executable, "-W", "ignore", "-m", "sslyze", "--quiet", "--json_out", str(out)]
    command += ["--mozilla_config", "disable", "--certinfo_ca_file", str(ca), "--sni", "localhost"]
    command += [f"--{option}" for option in COMMANDS] + [f"127.0.0.1:{port}" for port in ports]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode or not out.exists():
        raise SystemExit(f"sslyze ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    answer = json.loads(out.read_text())
    results = {}
    for found in answer["server_scan_results"]:
        port = found["server_location"]["port"]
        if found["scan_status"] != "COMPLETED":
            raise SystemExit(f"sslyze did not finish with {port}: {found['connectivity_error_trace']}")
        for name in COMMANDS.values():
            attempt = found["scan_result"][name]
            if attempt["status"] != "COMPLETED":
                raise SystemExit(f"sslyze's {name} of {port}: {attempt['error_reason']}\n{attempt['error_trace']}")
        results[port] = found
    return answer["sslyze_version"], results


def by_sslyze(found):
    results = {name: found["scan_result"][name]["result"] for name in COMMANDS.values()}

    def suites(version):
        result = results[f"{version}_cipher_suites"]
        accepted = sorted(one["cipher_suite"]["name"] for one in result["accepted_cipher_suites"])
        if bool(accepted) != result["is_tls_version_supported"]:
            return "contradicts itself"
        return accepted or "refused"

    def resumed(way):
        result, total = results["session_resumption"], f"{way}_attempted_resumptions_count"
        if result[f"{way}_resumption_result"] == "SERVER_IS_TLS_1_3_ONLY":
            return "TLS 1.3 only"
        return f"{result[f'{way}_successful_resumptions_count']} of {result[total]}"

    def yes(result):
        return "yes" if result else "no"

    curves = results["elliptic_curves"]["supported_curves"] or []
    renegotiation = results["session_renegotiation"]
    accepted = renegotiation["is_vulnerable_to_client_renegotiation_dos"]
    accepted = accepted or renegotiation["client_renegotiations_success_count"] > 0
    robot = results["robot"]["robot_result"]
    chains = results["certificate_info"]["certificate_deployments"]
    asked = found["connectivity_result"]["client_auth_requirement"]
    return {
        "SSL 2.0": suites("ssl_2_0"),
        "SSL 3.0": suites("ssl_3_0"),
        "TLS 1.0": suites("tls_1_0"),
        "TLS 1.1": suites("tls_1_1"),
        "TLS 1.2": suites("tls_1_2"),
        "TLS 1.3": suites("tls_1_3"),
        "groups, TLS 1.3": sorted(curve["name"].replace("X", "x") for curve in curves),
        "0-RTT": yes(results["tls_1_3_early_data"]["supports_early_data"]),
        "sessions by ticket, TLS 1.2": resumed("tls_ticket"),
        "sessions by id, TLS 1.2": resumed("session_id"),
        "extended master secret": "taken" if results["tls_extended_master_secret"]["supports_ems_extension"] else "no",
        "renegotiation by the client": "accepted" if accepted else "refused",
        "secure renegotiation (RFC 5746)": yes(renegotiation["supports_secure_renegotiation"]),
        "compression": "deflate" if results["tls_compression"]["supports_compression"] else "none",
        "TLS_FALLBACK_SCSV": yes(results["tls_fallback_scsv"]["supports_fallback_scsv"]),
        "Heartbleed": yes(results["heartbleed"]["is_vulnerable_to_heartbleed"]),
        "CCS injection": yes(results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]),
        "ROBOT": "no RSA key exchange" if robot == "NOT_VULNERABLE_RSA_NOT_SUPPORTED" else robot,
        "certificate": certificate(chains),
        "OCSP stapling": yes(any(chain["ocsp_response"] for chain in chains)),
        "client certificates": "not asked for" if asked == "DISABLED" else asked,
    }


def certificate(deployments):
    if len(deployments) != 1:
        return f"{len(deployments)} chains"
    [chain] = deployments
    leaf = chain["received_certificate_chain"][0]
    ours = [path for path in chain["path_validation_results"] if path["trust_store"]["name"].startswith("Supplied CA")]
    trusted = len(ours) == 1 and ours[0]["was_validation_successful"]
    names = leaf["subject_alternative_name"]
    if names["dns_names"] != ["localhost"] or sorted(names["ip_addresses"]) != ["127.0.0.1", "::1"]:
        return f"for {names}"
    public = leaf["public_key"]
    key = "P-256" if public["ec_curve_name"] == "secp256r1" else f"RSA {public['key_size']}"
    words = ["trusted by the CA" if trusted else "not trusted by the CA"]
    words += ["in order" if chain["received_chain_has_valid_order"] else "out of order"]
    return ", ".join([*words, key, leaf["signature_hash_algorithm"]["name"].upper().replace("SHA", "SHA-")])


# --- OpenSSL 3.5, and hellos by hand -------------------------------------------


class Client:
    """OpenSSL's client for one version, or any."""

    def __init__(self, port, ca, version=0, alpn=(), tickets=True):
        self.port, self.shown = port, 0
        self.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.context.set_min_proto_version(version)
        self.context.set_max_proto_version(version)
        self.context.load_verify_locations(str(ca))
        self.context.set_verify(SSL.VERIFY_PEER, self.judge)
        if alpn:
            self.context.set_alpn_protos(list(alpn))
        if not tickets:
            self.context.set_options(SSL.OP_NO_TICKET)

    def judge(self, _connection, _certificate, _error, _depth, good):
        self.shown += 1
        return good

    def connect(self, name=b"localhost", session=None):
        self.shown = 0
        connection = SSL.Connection(self.context, socket.create_connection(("127.0.0.1", self.port)))
        connection.set_connect_state()
        connection.set_tlsext_host_name(name)
        if session:
            connection.set_session(session)
        connection.do_handshake()
        return connection

    def resumption(self):
        """Whether a second connection resumes the first, and its group."""
        first = self.connect()
        # The tickets of TLS 1.3 come with the answer.
        first.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        if not first.recv(1024).startswith(b"HTTP/1.1 "):
            return "no answer", None
        second = self.connect(session=first.get_session())
        # Whose certificate wasn't shown was known.
        return "not resumed" if self.shown else "resumed", second.get_group_name()


def refusal(error):
    """OpenSSL's words for an alert, without its own for where that came from."""
    words = error.args[0][0][2] if error.args and error.args[0] else "closed"
    for lead in ("tlsv1 alert ", "ssl/tls alert ", "sslv3 alert "):
        words = words.removeprefix(lead)
    return f"refused, {words}"


def attempt(question):
    """What `question` brings, or why nothing."""
    try:
        return question()
    except hello.Refused as refused:
        return f"refused, {refused}"
    except SSL.Error as error:
        return refusal(error)
    except (OSError, LookupError, ValueError, struct.error) as error:
        return f"failed: {error!r}"


def by_others(port, ca, tls12):
    def of_version(version):
        # None at all: then by which alert.
        return hello.suites(port, version) or hello.ask(port, version=version).suite

    questions = {
        "SSL 3.0": lambda: of_version(hello.SSL30),
        "TLS 1.0": lambda: of_version(hello.TLS10),
        "TLS 1.1": lambda: of_version(hello.TLS11),
        "TLS 1.2": lambda: of_version(hello.TLS12),
        "TLS 1.3": lambda: of_version(hello.TLS13),
        "groups, TLS 1.3": lambda: hello.groups13(port),
        "group with OpenSSL 3.5": lambda: Client(port, ca).connect().get_group_name(),
        "group of a client with a share for x25519 alone": lambda: hybrid(port),
        "sessions by ticket, TLS 1.3": lambda: "{}, with a new {}".format(*Client(port, ca).resumption()),
        "compression": lambda: hello.ask(port, version=hello.TLS13, shares=[hello.X25519], compression=b"\1\0").suite,
        "ALPN": lambda: alpn(port, ca),
        "a name that no certificate has": lambda: stranger(Client(port, ca)),
    }
    if tls12:
        old = SSL.TLS1_2_VERSION
        beat = hello.extension(15, b"\1")
        questions |= {
            "groups, TLS 1.2": lambda: hello.groups12(port),
            "sessions by ticket, TLS 1.2": lambda: Client(port, ca, old).resumption()[0],
            "sessions by id, TLS 1.2": lambda: Client(port, ca, old, tickets=False).resumption()[0],
            "extended master secret": lambda: hello.ask(port, ems=False).suite,
            "renegotiation by the client": lambda: renegotiation(Client(port, ca, old)),
            "secure renegotiation (RFC 5746)": lambda: announced(port),
            "compression": lambda: hello.ask(port, compression=b"\1").compression,
            "TLS_FALLBACK_SCSV": lambda: fallback(port),
            "signatures over SHA-1 alone": lambda: hello.ask(port, schemes=hello.SHA1_SCHEMES).suite,
            "Heartbleed": lambda: hello.after_the_flight(port, hello.HEARTBEAT, b"\1\x40\0", [beat]),
            "CCS injection": lambda: hello.after_the_flight(port, hello.CHANGE_CIPHER_SPEC, b"\1"),
            "ROBOT": lambda: hello.ask(port, suites=hello.RSA_SUITES).suite,
        }
    found = {finding: attempt(question) for finding, question in questions.items()}
    # Refusals say of what.
    found["compression"] = f"offered: {found['compression']}"
    if tls12:
        found["ROBOT"] = f"RSA key exchange alone: {found['ROBOT']}"
        found["extended master secret"] = f"without it: {found['extended master secret']}"
        chosen = attempt(lambda: hello.ask(port, compression=b"\1\0").compression)
        found["compression"] = found["compression"].replace("offered", "alone")
        found["compression"] = f"{'never chosen' if chosen == 0 else chosen}; {found['compression']}"
        taken = attempt(lambda: 15 in hello.ask(port, more=[beat]).extensions)
        taken = "not taken" if taken is False else "taken" if taken is True else taken
        found["Heartbleed"] = f"extension {taken}; a heartbeat: {found['Heartbleed']}"
    return found


def hybrid(port):
    def chosen(*groups):
        answer = hello.ask(port, version=hello.TLS13, groups=groups, shares=[hello.X25519])
        return hello.GROUPS.get(answer.group()), "by a second hello" if answer.retry() else "at once"

    first, last = chosen(hello.X25519MLKEM768, hello.X25519), chosen(hello.X25519, hello.X25519MLKEM768)
    wanted = ("X25519MLKEM768", "by a second hello"), ("x25519", "at once")
    return HYBRID if (first, last) == wanted else f"{first} where the client lists it first; else {last}"


def announced(port):
    answer = hello.ask(port, suites=[*hello.ALL_SUITES, hello.RENEGOTIATION_SCSV])
    return "announced" if answer.extensions.get(0xFF01) == b"\0" else "not announced"


def fallback(port):
    answer = hello.ask(port, suites=[*hello.ALL_SUITES, hello.FALLBACK_SCSV])
    mark = "the mark" if answer.random.endswith(hello.DOWNGRADED) else "no mark"
    return f"passed over; the answer bears {mark} of a downgrade"


def alpn(port, ca):
    offers = ([b"http/1.1", b"h2"], [b"http/1.1"], [])
    chosen = [Client(port, ca, alpn=offer).connect().get_alpn_proto_negotiated() for offer in offers]
    if chosen != [b"h2", b"http/1.1", b""]:
        return f"{chosen} of {offers}"
    neither = attempt(lambda: Client(port, ca, alpn=[b"spdy/3"]).connect().get_alpn_proto_negotiated())
    return f"h2, then http/1.1; neither offered: {neither}"


def renegotiation(client):
    connection = client.connect()
    connection.renegotiate()
    connection.do_handshake()
    return "accepted" if connection.total_renegotiations() else "passed over"


def stranger(client):
    def serial(name):
        return client.connect(name).get_peer_certificate().get_serial_number()

    return "the first certificate" if serial(b"localhost") == serial(b"none.example") else "another certificate"


# --- the table ----------------------------------------------------------------


def plain(value):
    """A cell without the marks of notes."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.rstrip(" " + "".join(NOTES)) if isinstance(value, str) else value


def compare(label, wanted, sslyze, others):
    """A line for each finding that isn't as expected: the page's table holds what is expected."""
    differences = []
    for finding in {**wanted, **sslyze, **others}:
        for who, found, cell_of in zip(("sslyze", "others"), (sslyze, others), wanted.get(finding, (None, None))):
            found, expectation = found.get(finding), plain(cell_of)
            if finding.startswith("groups") and isinstance(found, list) and isinstance(expectation, list):
                # Their order is the client's.
                found, expectation = sorted(found), sorted(expectation)
            if found != expectation:
                differences.append(f"{label}: {finding}, {who}: found {cell(found)!r}, expected {cell(expectation)!r}")
    return differences


def where(places):
    """A cell for kinds of policies and keys."""
    if {key for _, key in places} != set(KEYS):
        [key] = {key for _, key in places}
        return f"{where({(kind, each) for kind, _ in places for each in KEYS})}, {key}"
    kinds = [kind for kind in KINDS if (kind, KEYS[0]) in places]
    if len(kinds) == len(KINDS):
        return "all"
    return "those with TLS 1.2" if kinds == ["tls12", "Res"] else "; ".join(LABELS[kind] for kind in kinds)


def rows():
    """Finding, where, sslyze's cell and the others'."""
    tables = {(kind, key): expected(kind, key) for kind in KINDS for key in KEYS}
    for finding in tables["tls12", "ECDSA"]:
        cells = {}
        for place, table in tables.items():
            sslyze, others = map(cell, table[finding])
            # Without TLS 1.2 nothing is left to ask, and sslyze's conclusion says nothing.
            if others or not tables["tls12", "ECDSA"][finding][1]:
                cells.setdefault((sslyze, others), set()).add(place)
        for at, ((sslyze, others), places) in enumerate(cells.items()):
            yield "" if at else finding, where(places), sslyze, others


def cell(value):
    if isinstance(value, list):
        return ", ".join(value)
    return value or ""


def markdown():
    lines = ["| | policies | sslyze | OpenSSL 3.5, and hellos by hand |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    notes = ["\n".join(textwrap.wrap(f"{mark} {text}", 96)) for mark, text in NOTES.items()]
    return "\n\n".join(["\n".join(lines), *notes])


def show():
    widths = (31, 21, 47, 50)
    for row in rows():
        columns = [textwrap.wrap(text.replace("`", ""), width) for text, width in zip(row, widths)]
        for line in itertools.zip_longest(*columns, fillvalue=""):
            print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


def page(write):
    """What is wrong with the page's table; nothing after it was written."""
    text = PAGE.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        return [f"docs/tls.md has no place for the findings: {BEGIN} … {END}"]
    wanted = f"{head}{BEGIN}\n{markdown()}\n{END}{tail}"
    if write:
        PAGE.write_text(wanted)
    elif text != wanted:
        return ["docs/tls.md has another table: run this again with --write, and read what it wrote"]
    return []


def main():
    arguments = [one for one in sys.argv[1:] if one != "--write"]
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    [binary] = arguments
    if not os.access(binary, os.X_OK):
        raise SystemExit(f"{binary} can't be run: `cargo build` makes it")
    for ending in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        # By way of `finally`, so that the server ends too.
        signal.signal(ending, lambda number, _: sys.exit(f"ended by {signal.Signals(number).name}"))
    signal.alarm(DEADLINE)
    listeners = [(kind, policy, key) for kind, policies in KINDS.items() for policy in policies for key in KEYS]
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with Server(os.path.abspath(binary), folder, listeners) as server:
            ca = folder / "tls" / "ca.pem"
            ports = server.ports()
            version, found = scan(ports, ca, folder)
            for (kind, policy, key), port in zip(listeners, ports, strict=True):
                others = by_others(port, ca, kind != "tls13")
                label = f"{policy or 'no policy'}, {key}"
                differences += compare(label, expected(kind, key), by_sslyze(found[port]), others)
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()
    print(f"{len(listeners)} listeners, asked by sslyze {version}, {openssl} and hellos by hand\n")
    show()
    print("\n" + "\n".join(f"{mark} {text}" for mark, text in NOTES.items()))
    differences += page("--write" in sys.argv and not differences)
    if differences:
        print("\nNot so:\n  " + "\n  ".join(differences))
        raise SystemExit(1)
    print("\nall as expected, and as docs/tls.md says")


if __name__ == "__main__":
    main()
