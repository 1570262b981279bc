#!/usr/bin/env python3
"""A second reader of the sealed format, written from docs/object-format.md alone.

    reader.py inspect IN                            the header as JSON; needs no key
    reader.py open --keyring FILE [--keyring FILE2] IN [OUT]
              [--vault V --class C --key K]         also demands that the message id is bound to these
              [--metadata BASE64]                   also opens the sealed metadata beside it
    reader.py batch                                 one JSON job per line, one answer per line

It shares no code with Sealward or with the official SDK; beside Python's own
library it takes AES-GCM from `cryptography`. Clear before fast: it holds the
message in memory. A job of `batch`: {"id", "op": "open"|"inspect", "in", "out",
"keyrings": [...], "binding": [vault, class, key], "metadata": base64}.
"""

import argparse
import base64
import hashlib
import hmac
import json
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_HEADER = 64 << 10
MAX_DATA_KEYS = 16
MAX_FRAME_LENGTH = 4 << 20
SUITE = 0x0478
END = 0xFFFFFFFF


class Refused(Exception):
    """Why the bytes are no message that we believe."""


class Cursor:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, length):
        piece = self.data[self.at : self.at + length]
        if len(piece) != length:
            raise Refused("the message ends early")
        self.at += length
        return piece

    def number(self, length):
        return int.from_bytes(self.take(length), "big")

    def field(self):
        return self.take(self.number(2))


def text(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("a text isn't UTF-8") from None


def read_context(data):
    if not data:
        return {}
    cursor, pairs, last = Cursor(data), {}, None
    count = cursor.number(2)
    if count == 0:
        raise Refused("an encryption context with a count of zero")
    for _ in range(count):
        key, value = cursor.field(), cursor.field()
        if last is not None and key <= last:
            raise Refused("the encryption context's keys are out of order or double")
        last = key
        pairs[text(key)] = text(value)
    if cursor.at != len(data):
        raise Refused("bytes follow the encryption context's last entry")
    return pairs


class Header:
    def __init__(self, data):
        cursor = Cursor(data[:MAX_HEADER])
        version = cursor.number(1)
        if version != 2:
            raise Refused(f"format version {version}; only 2 is read")
        suite = cursor.number(2)
        if suite != SUITE:
            raise Refused(f"algorithm suite 0x{suite:04x}; only 0x0478 is read")
        self.message_id = cursor.take(32)
        self.context_bytes = cursor.field()
        self.context = read_context(self.context_bytes)
        count = cursor.number(2)
        if not 1 <= count <= MAX_DATA_KEYS:
            raise Refused(f"{count} encrypted data keys")
        self.data_keys = [(cursor.field(), cursor.field(), cursor.field()) for _ in range(count)]
        content_type = cursor.number(1)
        if content_type != 2:
            raise Refused(f"content type {content_type}; only 2, framed, is read")
        self.frame_length = cursor.number(4)
        if not 1 <= self.frame_length <= MAX_FRAME_LENGTH:
            raise Refused(f"frames of {self.frame_length} bytes")
        self.commitment = cursor.take(32)
        self.signed = data[: cursor.at]
        self.tag = cursor.take(16)
        self.length = cursor.at

    def described(self, total):
        return {
            "suite": f"0x{SUITE:04x}",
            "message_id": self.message_id.hex(),
            "encryption_context": self.context,
            "data_keys": [{"provider": text(provider), "key": key_name(info)} for provider, info, _ in self.data_keys],
            "frame_length": self.frame_length,
            "header_length": self.length,
            "plaintext_length": plaintext_length(total, self.length, self.frame_length),
        }


def key_name(info):
    """An ARN as it is; of a Raw AES key's info the name before tag and iv lengths."""
    if info[-20:-12] == (128).to_bytes(4, "big") + (12).to_bytes(4, "big"):
        info = info[:-20]
    return text(info)


def plaintext_length(total, header, frame):
    """Computed from lengths alone; only the final frame proves it."""
    if total < header + 40:
        raise Refused("too short for a final frame")
    regular, rest = divmod(total - header - 40, frame + 32)
    if rest > frame:
        raise Refused("no message has this length")
    return regular * frame + rest


def hkdf(data_key, salt, info, length=32):
    """RFC 5869 with SHA-512, written out: one block is enough."""
    pseudo_random = hmac.new(salt, data_key, hashlib.sha512).digest()
    return hmac.new(pseudo_random, info + b"\x01", hashlib.sha512).digest()[:length]


def unwrap(header, keyrings):
    for provider, info, ciphertext in header.data_keys:
        for keyring in keyrings:
            name = keyring["name"].encode()
            prefix = name + (128).to_bytes(4, "big") + (12).to_bytes(4, "big")
            if provider != keyring["namespace"].encode() or info[:-12] != prefix or len(ciphertext) != 48:
                continue
            key = base64.b64decode(keyring["wrapping_key"], validate=True)
            try:
                return AESGCM(key).decrypt(info[-12:], ciphertext, header.context_bytes)
            except InvalidTag:
                continue
    raise Refused("no encrypted data key is ours")


def decrypt(key, iv, ciphertext, aad, what):
    try:
        return AESGCM(key).decrypt(iv, ciphertext, aad)
    except InvalidTag:
        raise Refused(f"{what} does not verify") from None


def open_message(data, keyrings, binding=None, metadata=None):
    header = Header(data)
    if binding is not None and not bound(header.message_id, *binding):
        raise Refused("the message id is bound to another object")
    data_key = unwrap(header, keyrings)

    if not hmac.compare_digest(hkdf(data_key, header.message_id, b"COMMITKEY"), header.commitment):
        raise Refused("the data key does not commit to this message")
    key = hkdf(data_key, header.message_id, SUITE.to_bytes(2, "big") + b"DERIVEKEY")
    decrypt(key, bytes(12), header.tag, header.signed, "the header")

    report = header.described(len(data))
    if metadata is not None:
        report["metadata"] = open_metadata(header, data[: header.length], data_key, metadata)

    cursor, plaintext, sequence = Cursor(data, header.length), [], 0
    while True:
        sequence += 1
        number = cursor.number(4)
        final = number == END
        if final:
            number = cursor.number(4)
        if number != sequence:
            raise Refused(f"frame {number} stands where {sequence} should")
        iv = cursor.take(12)
        if iv != bytes(8) + sequence.to_bytes(4, "big"):
            raise Refused(f"the iv of frame {sequence} isn't its number")
        length = cursor.number(4) if final else header.frame_length
        if length > header.frame_length:
            raise Refused("a final frame longer than a frame")
        label = b"AWSKMSEncryptionClient Final Frame" if final else b"AWSKMSEncryptionClient Frame"
        aad = header.message_id + label + sequence.to_bytes(4, "big") + length.to_bytes(8, "big")
        plaintext.append(decrypt(key, iv, cursor.take(length + 16), aad, f"frame {sequence}"))
        if final:
            break
    if cursor.at != len(data):
        raise Refused("bytes follow the final frame")
    report["frames"] = sequence
    return report, b"".join(plaintext)


def bound(message_id, vault, class_, key):
    digest = hashlib.sha256(b"sealward-mid-v1\0" + message_id[:16])
    for part in (vault, class_, key):
        part = part.encode()
        digest.update(len(part).to_bytes(2, "big") + part)
    return hmac.compare_digest(digest.digest()[:16], message_id[16:])


def open_metadata(header, header_bytes, data_key, metadata):
    sealed = base64.b64decode(metadata, validate=True)
    if len(sealed) < 28:
        raise Refused("sealed metadata too short")
    key = hkdf(data_key, header.message_id, b"sealward-metadata-v1")
    aad = header.message_id + hashlib.sha256(header_bytes).digest()
    return json.loads(decrypt(key, sealed[:12], sealed[12:], aad, "the metadata"))


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def run(job):
    with open(job["in"], "rb") as file:
        data = file.read()
    if job["op"] == "inspect":
        return Header(data).described(len(data))
    keyrings = [load(path) for path in job["keyrings"]]
    report, plaintext = open_message(data, keyrings, job.get("binding"), job.get("metadata"))
    if job.get("out"):
        with open(job["out"], "wb") as file:
            file.write(plaintext)
    return report


def batch():
    for line in sys.stdin:
        if not line.strip():
            continue
        answer = {}
        try:
            job = json.loads(line)
            answer["id"] = job.get("id")
            answer.update(run(job), ok=True)
        except (Refused, KeyError, ValueError, OSError) as error:
            answer.update(ok=False, error=f"{type(error).__name__}: {error}")
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description="An independent reader of Sealward's format.")
    commands = parser.add_subparsers(dest="op", required=True)
    commands.add_parser("inspect").add_argument("in")
    command = commands.add_parser("open")
    command.add_argument("--keyring", dest="keyrings", action="append", required=True)
    for name in ("vault", "class", "key"):
        command.add_argument(f"--{name}")
    command.add_argument("--metadata")
    command.add_argument("in")
    command.add_argument("out", nargs="?")
    commands.add_parser("batch")
    job = vars(parser.parse_args())
    if job["op"] == "batch":
        return batch()
    binding = [job.get(name) for name in ("vault", "class", "key")]
    if any(part is not None for part in binding):
        if None in binding:
            parser.error("--vault, --class and --key go together")
        job["binding"] = binding
    try:
        print(json.dumps(run(job), ensure_ascii=False, indent=2))
    except (Refused, ValueError, OSError) as error:
        print(f"reader.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
