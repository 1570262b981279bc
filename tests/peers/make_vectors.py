#!/usr/bin/env python3
"""Writes tests/vectors with the official SDK, then has reader.py open every one.

    target/peers/esdk/bin/python tests/peers/make_vectors.py

The vectors are committed. Keys and message ids are drawn fresh by the SDK, so a
new run writes other bytes with the same meaning: run it only to change the set,
and then take over docs/object-format.md's worked example too.

index.json: {"plaintext_rule", "vectors": [{"file", "keyrings", "readers",
"context", "frame_length", "length", "suite", "expect", ...}]}. `keyrings` sealed
it; any one of them opens it. `expect` is "open", or "refuse" with `reason`, a
word of this file's REASONS. Names are relative to tests/.
"""

import hashlib
import json
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path.insert(0, HERE)

import aws_encryption_sdk.internal.utils as sdk_utils  # noqa: E402

import esdk  # noqa: E402
import reader  # noqa: E402

# The Python SDK writes frame lengths that are multiples of 128 only (it takes the
# cipher's block size in bits for bytes), but reads any, as the format allows.
# The check is off here so that frames of 1 and 16 bytes come from the SDK as well.
sdk_utils.validate_frame_length = lambda frame_length, algorithm: None

PRIMARY = "fixtures/not-secret-keyring-primary.json"
SECOND = "fixtures/not-secret-keyring-second.json"
STRANGER = "fixtures/not-secret-keyring-stranger.json"
PLAIN = {}
# Sorted by UTF-8 bytes "z" comes before "é", and the two-code-unit "𐀀" after "｡":
# both orders differ from that of a language that sorts by UTF-16 or by locale.
RICH = {
    "sealward-class": "records",
    "sealward-vault": "records",
    "z": "last of ASCII",
    "é": "naïve café",
    "｡": "U+FF61",
    "𐀀": "U+10000",
    "鍵": "値 with spaces = and equals",
    "empty value": "",
}

REASONS = {
    "suite": "a suite other than 0x0478, named in the error",
    "version": "message format version 1",
    "not-framed": "content type 1",
    "key": "no encrypted data key is one of ours",
    "truncated": "the message ends before or inside its final frame",
    "trailing": "bytes follow the final frame",
    "frame": "a frame does not verify, or stands in another's place",
    "header": "the header does not verify",
    "commitment": "the commitment is not that of the data key",
    "iv": "a frame's iv is not its sequence number",
    "length": "a final frame longer than the frame length",
    "context": "the serialised encryption context is not in its one form",
    "caps": "over a limit of the reader",
}


def plaintext(length):
    """The rule: byte i = (i * 31 + 7) mod 251."""
    return bytes((i * 31 + 7) % 251 for i in range(length))


class Writer:
    def __init__(self, folder):
        self.folder = folder
        self.vectors = []
        os.makedirs(folder, exist_ok=True)
        for old in os.listdir(folder):
            os.unlink(os.path.join(folder, old))

    def path(self, name):
        return os.path.join(self.folder, f"{name}.bin")

    def seal(self, name, length, frame_length, context=None, keyrings=(PRIMARY,), suite="0x0478", **more):
        scratch = self.path("scratch")
        with open(scratch, "wb") as file:
            file.write(plaintext(length))
        job = {
            "keyrings": [os.path.join(TESTS, keyring) for keyring in keyrings],
            "frame_length": frame_length,
            "context": context or {},
            "suite": suite,
            "in": scratch,
            "out": self.path(name),
        }
        esdk.seal(job)
        os.unlink(scratch)
        self.add(name, length, frame_length, context, keyrings, suite, **more)

    def add(self, name, length, frame_length, context=None, keyrings=(PRIMARY,), suite="0x0478", **more):
        data = self.read(name)
        entry = {
            "name": name,
            "file": f"vectors/{name}.bin",
            "keyrings": list(keyrings),
            "suite": suite,
            "frame_length": frame_length,
            "context": context or {},
            "length": length,
            "sealed_length": len(data),
            "sealed_sha256": hashlib.sha256(data).hexdigest(),
            "by": "aws-encryption-sdk 4.0.7",
            "expect": "open",
        }
        entry.update(more)
        assert entry["expect"] == "open" or entry["reason"] in REASONS
        self.vectors.append(entry)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def damaged(self, name, source, change, reason, note, **more):
        """`source` with `change` applied: to be refused, though the SDK wrote it well."""
        base = next(vector for vector in self.vectors if vector["name"] == source)
        data = bytearray(self.read(source))
        data = bytes(change(data, reader.Header(bytes(data))) or data)
        assert data != self.read(source)
        with open(self.path(name), "wb") as file:
            file.write(data)
        settings = {"by": f"changed from {source}", "expect": "refuse", "reason": reason, "note": note, **more}
        self.add(name, base["length"], base["frame_length"], base["context"], base["keyrings"], **settings)


def good(writer):
    for frame in (1, 16, 4096):
        lengths = sorted({0, 1, frame - 1, frame, frame + 1, 3 * frame})
        for length in lengths:
            rich = length in (0, frame + 1)
            two = length in (1, 3 * frame) and frame != 4096
            writer.seal(
                f"frame-{frame}-length-{length}",
                length,
                frame,
                RICH if rich else {"purpose": "vector"} if length == frame else PLAIN,
                (PRIMARY, SECOND) if two else (PRIMARY,),
            )
    writer.seal("frame-65536-length-1", 1, 65536, RICH, (PRIMARY, SECOND))
    writer.seal("frame-65536-length-65537", 65537, 65536, PLAIN)
    writer.seal("frame-262144-length-300", 300, 262144, {"purpose": "default frame length"})
    writer.seal("frame-4194304-length-5", 5, 4194304, PLAIN, note="the largest frame length that is read")
    writer.seal("second-key-only", 100, 64, {"purpose": "vector"}, (SECOND,))
    full_final_frame(writer)


def full_final_frame(writer):
    """What another SDK may write: exactly F bytes in the final frame. Python's never does."""
    source = "frame-16-length-16"
    data = writer.read(source)
    header = reader.Header(data)
    with open(os.path.join(TESTS, PRIMARY), encoding="utf-8") as file:
        data_key = reader.unwrap(header, [json.load(file)])
    key = reader.hkdf(data_key, header.message_id, bytes.fromhex("0478") + b"DERIVEKEY")
    sequence, length = 1, 16
    aad = (
        header.message_id
        + b"AWSKMSEncryptionClient Final Frame"
        + sequence.to_bytes(4, "big")
        + length.to_bytes(8, "big")
    )
    iv = bytes(8) + sequence.to_bytes(4, "big")
    # Same iv, key and plaintext as the source's first frame; both are published here.
    sealed = reader.AESGCM(key).encrypt(iv, plaintext(length), aad)
    name = "full-final-frame"
    with open(writer.path(name), "wb") as file:
        file.write(data[: header.length])
        file.write(b"\xff\xff\xff\xff" + sequence.to_bytes(4, "big") + iv + length.to_bytes(4, "big") + sealed)
    writer.add(name, length, 16, {"purpose": "vector"}, by=f"made from {source}", note="SDK 3.x refuses this one")


def refused(writer):
    refuse = {"expect": "refuse"}
    writer.seal("suite-0578", 100, 64, {"purpose": "signed"}, suite="0x0578", reason="suite", **refuse)
    writer.seal("not-framed", 100, 0, PLAIN, reason="not-framed", **refuse)
    writer.seal("version-1-suite-0178", 100, 64, PLAIN, suite="0x0178", reason="version", **refuse)
    writer.seal("version-1-suite-0378", 100, 64, PLAIN, suite="0x0378", reason="version", **refuse)
    writer.seal("strangers-key", 100, 64, PLAIN, (STRANGER,), reason="key", readers=[PRIMARY, SECOND], **refuse)
    writer.seal(
        "frame-length-over-cap", 5, 4194305, PLAIN, reason="caps", note="frames of 4 MiB and a byte", **refuse
    )

    base = "frame-16-length-48"  # three regular frames and an empty final one
    regular = 16 + 32

    def flip(offset):
        def change(data, header):
            data[offset(header) if callable(offset) else offset] ^= 1

        return change

    def swap(data, header):
        start = header.length
        first, second = data[start : start + regular], data[start + regular : start + 2 * regular]
        data[start : start + 2 * regular] = second + first

    def drop_frame(data, header):
        del data[header.length : header.length + regular]

    def cut_at_arithmetic(data, header):
        # H + k(F+32) + 40 bytes: the length alone says k frames and an empty end.
        return data[: header.length + regular + 40]

    def long_final(data, header):
        at = header.length + 3 * regular + 4 + 4 + 12
        data[at : at + 4] = (17).to_bytes(4, "big")

    def context_unsorted(data, header):
        at = 1 + 2 + 32 + 2 + 2  # past ec_len and the count
        entry = data[at : at + 4 + len("empty value")]
        rest = data[at + len(entry) : at + len(header.context_bytes) - 2]
        data[at : at + len(entry) + len(rest)] = rest + entry

    def no_keys(data, header):
        at = 35 + 2 + len(header.context_bytes)
        data[at : at + 2] = bytes(2)

    damaged = writer.damaged
    damaged("cut-at-frame-boundary", base, lambda d, h: d[: h.length + 2 * regular], "truncated", "no final frame")
    damaged("cut-at-arithmetic", base, cut_at_arithmetic, "truncated", "passes the length arithmetic")
    damaged("cut-in-final-tag", base, lambda d, h: d[:-1], "truncated", "the last byte is missing")
    damaged("cut-in-header", base, lambda d, h: d[: h.length - 1], "truncated", "ends inside the header's tag")
    damaged("trailing-byte", base, lambda d, h: d + b"\0", "trailing", "one byte after the final frame")
    damaged("message-twice", base, lambda d, h: d + d, "trailing", "the message, twice")
    damaged("frames-swapped", base, swap, "frame", "frames 1 and 2 have changed places")
    damaged("frame-dropped", base, drop_frame, "frame", "frame 1 is missing")
    damaged("frame-ciphertext-flipped", base, flip(lambda h: h.length + regular + 16), "frame", "a bit in frame 2")
    damaged("frame-tag-flipped", base, flip(lambda h: h.length + regular - 1), "frame", "a bit in frame 1's tag")
    damaged("frame-iv-flipped", base, flip(lambda h: h.length + 4), "iv", "a bit in frame 1's iv")
    damaged("final-length-over", base, long_final, "length", "17 bytes where a frame has 16")
    damaged("header-tag-flipped", base, flip(lambda h: h.length - 1), "header", "a bit in the header's tag")
    damaged("commitment-flipped", base, flip(lambda h: h.length - 17), "commitment", "a bit in the commitment")
    damaged("message-id-flipped", base, flip(3), "commitment", "the id is the salt of the commitment")
    damaged(
        "frame-length-changed", base, flip(lambda h: h.length - 16 - 32 - 1), "header", "17 instead of 16; same keys"
    )
    damaged("context-value-flipped", "frame-16-length-16", flip(35 + 2 + 2 + 2 + 7 + 2), "key", "context is the wrap's AAD")
    damaged("context-unsorted", "frame-16-length-0", context_unsorted, "context", "keys out of order")
    damaged("no-data-key", base, no_keys, "header", "a count of zero encrypted data keys")


def check(writer):
    """Every vector through the reader that shares no code with the SDK."""
    for vector in writer.vectors:
        data = writer.read(vector["name"])
        for names in [[name] for name in vector.get("readers", vector["keyrings"])]:
            rings = [reader.load(os.path.join(TESTS, name)) for name in names]
            try:
                report, opened = reader.open_message(data, rings)
            except reader.Refused as refusal:
                assert vector["expect"] == "refuse", (vector["name"], refusal)
                print(f"{vector['name']}: refused ({vector['reason']}): {refusal}")
                continue
            assert vector["expect"] == "open", vector["name"]
            assert opened == plaintext(vector["length"]), vector["name"]
            assert report["plaintext_length"] == vector["length"], vector["name"]
            assert report["encryption_context"] == vector["context"], vector["name"]


def main():
    folder = os.path.join(TESTS, "vectors")
    writer = Writer(folder)
    good(writer)
    refused(writer)
    check(writer)
    index = {
        "plaintext_rule": "byte i = (i * 31 + 7) mod 251",
        "reasons": REASONS,
        "vectors": writer.vectors,
    }
    with open(os.path.join(folder, "index.json"), "w", encoding="utf-8") as file:
        json.dump(index, file, ensure_ascii=False, indent=1)
        file.write("\n")
    total = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    print(f"{len(writer.vectors)} vectors, {total} bytes")
    assert total < 300 * 1000


if __name__ == "__main__":
    main()
