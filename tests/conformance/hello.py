"""Hellos put together by hand, and what a server answers to them.

A TLS library sends what it would itself agree to, and no library sends all of it: one
has no extended master secret, the next no compression and no old suite. These hellos
offer whatever they are told to. No key is ever agreed on: what a server chooses stands
in its first, plain messages.
"""

import os
import socket
import struct

PATIENCE = 10  # seconds for a server on a busy machine

SSL30, TLS10, TLS11, TLS12, TLS13 = 0x0300, 0x0301, 0x0302, 0x0303, 0x0304
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, HEARTBEAT = 20, 21, 22, 24
SERVER_HELLO, SERVER_KEY_EXCHANGE, SERVER_HELLO_DONE = 2, 12, 14
X25519, X25519MLKEM768 = 0x001D, 0x11EC
RENEGOTIATION_SCSV, FALLBACK_SCSV = 0x00FF, 0x5600

SUITES = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
# Every block in which suites were ever assigned, but for the signal in one that is none.
ALL_SUITES = [
    high << 8 | low
    for high in (0x13, 0x00, 0xC0, 0xC1, 0xCC, 0xD0)
    for low in range(256)
    if high << 8 | low != RENEGOTIATION_SCSV
]
# Those whose key is encrypted to the certificate's: AES, 3DES and RC4, by CBC, GCM and CCM.
RSA_SUITES = [0x0004, 0x0005, 0x000A, 0x002F, 0x0035, 0x003C, 0x003D, 0x009C, 0x009D, 0xC09C, 0xC09D, 0xC0A0, 0xC0A1]
GROUPS = {X25519MLKEM768: "X25519MLKEM768", X25519: "x25519", 0x0017: "secp256r1", 0x0018: "secp384r1"}
# The hybrids, ours and others', their drafts; then elliptic curves, finite fields and ML-KEM alone.
ALL_GROUPS = [0x11EC, 0x11EB, 0x11ED, 0x6399, 0x639A, *range(1, 0x0280), 0xFF01, 0xFF02]
SHA1_SCHEMES = [0x0201, 0x0203]
ALL_SCHEMES = [
    *(0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806),
    *(0x0809, 0x080A, 0x080B, 0x0401, 0x0501, 0x0601, 0x0301, 0x0303),
    *SHA1_SCHEMES,
]
ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    40: "handshake_failure",
    47: "illegal_parameter",
    50: "decode_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    120: "no_application_protocol",
}
# The end of the random of a server that has TLS 1.3 and is asked for 1.2 (RFC 8446, section 4.1.3).
DOWNGRADED = b"DOWNGRD\1"
# The whole random of one that asks for another hello (the same section).
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class Refused(Exception):
    """The server's alert by its name, or "closed"."""


def vector(width, body):
    return len(body).to_bytes(width, "big") + body


def words(values):
    return b"".join(struct.pack(">H", value) for value in values)


def extension(number, body=b""):
    return struct.pack(">H", number) + vector(2, body)


def client_hello(
    version=TLS12, suites=ALL_SUITES, groups=ALL_GROUPS, shares=(), schemes=ALL_SCHEMES, ems=True, compression=b"\0",
    more=(),
):
    """A hello for `version`. `shares` are the groups it has a key for: a curve X25519 alone can be."""
    extensions = [
        extension(0, vector(2, b"\0" + vector(2, b"localhost"))),
        extension(10, vector(2, words(groups))),
        extension(11, vector(1, b"\0")),
        extension(13, vector(2, words(schemes))),
        *more,
    ]
    if ems:
        extensions.append(extension(23))
    if version == TLS13:
        keys = b"".join(words([group]) + vector(2, os.urandom(32)) for group in shares)
        extensions += [extension(43, vector(1, words([TLS13]))), extension(45, b"\1\1"), extension(51, vector(2, keys))]
    body = struct.pack(">H", min(version, TLS12)) + os.urandom(32) + vector(1, os.urandom(32))
    body += vector(2, words(suites)) + vector(1, compression) + vector(2, b"".join(extensions))
    return b"\1" + vector(3, body)


class Talk:
    """One connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.flight = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, body):
        self.socket.sendall(struct.pack(">BH", kind, TLS12) + vector(2, body))

    def read(self, length):
        piece = b""
        while len(piece) < length:
            try:
                more = self.socket.recv(length - len(piece))
            except ConnectionError:
                more = b""
            if not more:
                raise Refused("closed")
            piece += more
        return piece

    def record(self):
        """The next record's kind and body; an alert is a refusal."""
        kind, _, length = struct.unpack(">BHH", self.read(5))
        body = self.read(length)
        if kind == ALERT:
            raise Refused(ALERTS.get(body[1], f"alert {body[1]}"))
        return kind, body

    def message(self):
        """The next handshake message's type and body."""
        while len(self.flight) < 4 or len(self.flight) < 4 + int.from_bytes(self.flight[1:4], "big"):
            kind, body = self.record()
            if kind != HANDSHAKE:
                raise Refused(f"a record of type {kind}")
            self.flight += body
        end = 4 + int.from_bytes(self.flight[1:4], "big")
        kind, body, self.flight = self.flight[0], self.flight[4:end], self.flight[end:]
        return kind, body

    def until(self, wanted):
        """The body of the next message of type `wanted`."""
        while True:
            kind, body = self.message()
            if kind == wanted:
                return body

    def server_hello(self, **offer):
        """What the server says to a hello of `offer`."""
        self.send(HANDSHAKE, client_hello(**offer))
        return ServerHello(self.until(SERVER_HELLO))


class ServerHello:
    """Its fields, and its extensions by number."""

    def __init__(self, body):
        self.random = body[2:34]
        at = 35 + body[34]
        self.suite, self.compression = struct.unpack_from(">HB", body, at)
        self.extensions = {}
        rest = body[at + 5:]
        while rest:
            number, length = struct.unpack_from(">HH", rest)
            self.extensions[number], rest = rest[4:4 + length], rest[4 + length:]

    def group(self):
        """The group of TLS 1.3 that was chosen, or asked for by a retry."""
        return struct.unpack_from(">H", self.extensions[51])[0]

    def retry(self):
        return self.random == RETRY


def ask(port, **offer):
    """The ServerHello to one hello, on a connection of its own."""
    with Talk(port) as talk:
        return talk.server_hello(**offer)


def eliminated(question, candidates):
    """Everything that is ever chosen out of `candidates`, the first choice first: what was
    chosen is taken away, until nothing is left to choose."""
    chosen = []
    while True:
        try:
            one = question([candidate for candidate in candidates if candidate not in chosen])
        except Refused:
            return chosen
        if one in chosen or one not in candidates:
            raise ValueError(f"{one:#06x} was not offered")
        chosen.append(one)


def suites(port, version):
    """The suites taken, in the server's own order."""
    def one(offered):
        return ask(port, version=version, suites=offered, shares=[X25519]).suite
    return [SUITES.get(suite, f"{suite:#06x}") for suite in eliminated(one, ALL_SUITES)]


def groups13(port, candidates=ALL_GROUPS):
    """The groups of TLS 1.3, in the order in which they are chosen out of `candidates`."""
    def one(offered):
        return ask(port, version=TLS13, groups=offered).group()
    return [GROUPS.get(group, f"{group:#06x}") for group in eliminated(one, candidates)]


def groups12(port, candidates=ALL_GROUPS):
    """The same of TLS 1.2, where a ServerKeyExchange names the group."""
    def one(offered):
        with Talk(port) as talk:
            talk.server_hello(groups=offered)
            exchange = talk.until(SERVER_KEY_EXCHANGE)
            if exchange[0] != 3:
                raise ValueError(f"curve type {exchange[0]}")
            return struct.unpack_from(">H", exchange, 1)[0]
    return [GROUPS.get(group, f"{group:#06x}") for group in eliminated(one, candidates)]


def after_the_flight(port, kind, body, more=()):
    """How the server takes a record that has no place after its ServerHelloDone."""
    with Talk(port) as talk:
        talk.server_hello(more=more)
        talk.until(SERVER_HELLO_DONE)
        talk.send(kind, body)
        return f"answered with a record of type {talk.record()[0]}"
