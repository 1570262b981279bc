#!/usr/bin/env python3
"""Writes tests/vectors with the official SDK, then has reader.py open every one.

    target/peers/esdk/bin/python tests/peers/make_vectors.py             all, then the worked example
    target/peers/esdk/bin/python tests/peers/make_vectors.py --example   the example alone

The vectors are committed. Keys and message ids are drawn fresh by the SDK, so a
new run writes other bytes with the same meaning: run it only to change the set,
and then take over docs/object-format.md's worked example too.

index.json: {"plaintext_rule", "vectors": [{"file", "keyrings", "readers",
"context", "frame_length", "length", "suite", "expect", ...}]}. `keyrings` sealed
it; any one of them opens it. `expect` is "open", or "refuse" with `reason`, a
word of this file's REASONS. Names are relative to tests/.
"""

import base64
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
    "key": "no encrypted data key is one of ours, or it is not of 32 bytes",
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
        # Those of `sealward/` are ours, not the SDK's.
        for old in filter(os.path.isfile, (os.path.join(folder, name) for name in os.listdir(folder))):
            os.unlink(old)

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


class Own:
    """A writer of our own, for what no official one would write. One data key, random.

    Every part verifies, so a reader that skips a rule opens the message.
    """

    def __init__(self, frame_length, context=None, message_id=None, context_bytes=None, data_key_length=32):
        with open(os.path.join(TESTS, PRIMARY), encoding="utf-8") as file:
            ring = json.load(file)
        self.frame_length = frame_length
        self.message_id = message_id or os.urandom(32)
        data_key = os.urandom(data_key_length)
        if context_bytes is None:
            context_bytes = serialised(sorted((context or {}).items(), key=lambda pair: pair[0].encode()))
        iv = os.urandom(12)
        info = ring["name"].encode() + (128).to_bytes(4, "big") + (12).to_bytes(4, "big") + iv
        wrapped = reader.AESGCM(base64.b64decode(ring["wrapping_key"])).encrypt(iv, data_key, context_bytes)
        self.data_key = data_key
        self.key = reader.hkdf(data_key, self.message_id, bytes.fromhex("0478") + b"DERIVEKEY")
        signed = (
            bytes.fromhex("020478")
            + self.message_id
            + lp(context_bytes)
            + (1).to_bytes(2, "big")
            + lp(ring["namespace"].encode())
            + lp(info)
            + lp(wrapped)
            + b"\x02"
            + frame_length.to_bytes(4, "big")
            + reader.hkdf(data_key, self.message_id, b"COMMITKEY")
        )
        self.header = signed + reader.AESGCM(self.key).encrypt(bytes(12), b"", signed)

    def frame(self, sequence, data, final=False, iv=None):
        label = b"AWSKMSEncryptionClient Final Frame" if final else b"AWSKMSEncryptionClient Frame"
        number, length = sequence.to_bytes(4, "big"), len(data)
        iv = iv or bytes(8) + number
        sealed = reader.AESGCM(self.key).encrypt(iv, data, self.message_id + label + number + length.to_bytes(8, "big"))
        if final:
            return b"\xff\xff\xff\xff" + number + iv + length.to_bytes(4, "big") + sealed
        return number + iv + sealed

    def whole(self, data):
        size = self.frame_length
        frames = len(data) // size
        body = [self.frame(i + 1, data[i * size : (i + 1) * size]) for i in range(frames)]
        return self.header + b"".join(body) + self.frame(frames + 1, data[frames * size :], final=True)

    def sealed_metadata(self, value):
        nonce = os.urandom(12)
        key = reader.hkdf(self.data_key, self.message_id, b"sealward-metadata-v1")
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        aad = self.message_id + hashlib.sha256(self.header).digest()
        return base64.b64encode(nonce + reader.AESGCM(key).encrypt(nonce, text, aad)).decode()


def lp(data):
    return len(data).to_bytes(2, "big") + data


def serialised(pairs):
    if not pairs:
        return b""
    return len(pairs).to_bytes(2, "big") + b"".join(lp(key.encode()) + lp(value.encode()) for key, value in pairs)


def own(writer):
    """Messages of our own writer: forms no official tool writes, and what Sealward adds."""

    def put(name, data, length, frame_length, context=None, **more):
        with open(writer.path(name), "wb") as file:
            file.write(data)
        writer.add(name, length, frame_length, context, by="make_vectors.py", **more)

    refuse = {"expect": "refuse"}
    p = plaintext(64)

    m = Own(16)
    put(
        "full-final-frame",
        m.header + m.frame(1, p[:16]) + m.frame(2, p[16:32], final=True),
        32,
        16,
        note="what other SDKs may write; read, never written; SDK 3.x refuses it",
    )
    m = Own(16)
    put(
        "full-final-frame-alone",
        m.header + m.frame(1, p[:16], final=True),
        16,
        16,
        note="one frame, and it is full; SDK 3.x refuses it",
    )
    m = Own(16)
    data = m.header + m.frame(1, p[:16], iv=bytes(8) + (9).to_bytes(4, "big")) + m.frame(2, b"", final=True)
    put("iv-not-the-number", data, 16, 16, reason="iv", note="the frame verifies under its iv", **refuse)
    m = Own(16)
    data = m.header + m.frame(0, p[:16], iv=b"\1" * 12) + m.frame(1, b"", final=True)
    put("first-frame-zero", data, 16, 16, reason="frame", note="counts from 0", **refuse)
    m = Own(16)
    data = m.header + m.frame(1, p[:16]) + m.frame(3, b"", final=True)
    put("frame-number-skipped", data, 16, 16, reason="frame", note="frame 2 is missing and all verify", **refuse)
    m = Own(16)
    data = m.header + m.frame(1, p[:17], final=True)
    put("final-frame-over-length", data, 17, 16, reason="length", note="17 bytes and it verifies", **refuse)
    m = Own(16)
    data = m.header + m.frame(1, p[:16]) + m.frame(2, p[16:20], final=True) + m.frame(3, b"", final=True)
    put("two-final-frames", data, 20, 16, reason="trailing", **refuse)

    for name, context_bytes, note in (
        ("context-count-zero", bytes(2), "an empty context with a count"),
        ("context-duplicate-key", serialised([("a", "1"), ("a", "2")]), "one key twice"),
        ("context-order", serialised([("b", "1"), ("a", "2")]), "keys out of order, and the wrap agrees"),
        ("context-trailing", serialised([("a", "1")]) + b"\0", "a byte after the last entry"),
        ("context-not-utf-8", (1).to_bytes(2, "big") + lp(b"\xff") + lp(b"1"), "a key that is no text"),
        ("context-reserved-key", serialised([("aws-crypto-public-key", "AA==")]), "a reserved key"),
    ):
        data = Own(16, context_bytes=context_bytes).whole(p[:20])
        put(name, data, 20, 16, reason="context", note=note, **refuse)
    for length in (16, 31, 33):
        data = Own(16, data_key_length=length).whole(p[:20])
        note = f"a wrapped data key of {length} bytes; all that follows verifies"
        put(f"data-key-{length}-bytes", data, 20, 16, reason="key", note=note, **refuse)

    place = ["records", "records", "in/é/report.pdf"]
    nonce = os.urandom(16)
    digest = hashlib.sha256(b"sealward-mid-v1\0" + nonce + b"".join(lp(part.encode()) for part in place)).digest()
    context = {"sealward-class": place[1], "sealward-meta": "sealed", "sealward-vault": place[0]}
    m = Own(4096, context, nonce + digest[:16])
    says = {"content-type": "application/pdf", "x-amz-meta-patient": "Zoë"}
    more = {"binding": place, "metadata": m.sealed_metadata(says), "metadata_opens_to": says}
    note = "what Sealward stores: binding is [vault, class, key]; another key must be refused"
    put("bound-with-metadata", m.whole(plaintext(5000)), 5000, 4096, context, note=note, **more)


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
                report, opened = reader.open_message(data, rings, vector.get("binding"), vector.get("metadata"))
            except reader.Refused as refusal:
                assert vector["expect"] == "refuse", (vector["name"], refusal)
                print(f"{vector['name']}: refused ({vector['reason']}): {refusal}")
                continue
            assert vector["expect"] == "open", vector["name"]
            assert opened == plaintext(vector["length"]), vector["name"]
            assert report["plaintext_length"] == vector["length"], vector["name"]
            assert report["encryption_context"] == vector["context"], vector["name"]
            assert report.get("metadata") == vector.get("metadata_opens_to"), vector["name"]
            if "binding" in vector:
                *place, key = vector["binding"]
                assert not reader.bound(bytes.fromhex(report["message_id"]), *place, key + "x")


def example(name="frame-16-length-16"):
    """Takes a vector apart for docs/object-format.md, offsets and all."""
    with open(os.path.join(TESTS, "vectors", f"{name}.bin"), "rb") as file:
        data = file.read()
    ring = reader.load(os.path.join(TESTS, PRIMARY))
    header = reader.Header(data)
    data_key = reader.unwrap(header, [ring])
    lines, cursor = [], reader.Cursor(data)

    def row(offset, piece, words):
        for at in range(0, max(len(piece), 1), 16):
            text = " ".join(f"{byte:02x}" for byte in piece[at : at + 16])
            lines.append(f"{offset + at:4}  {text:<47}  {words if at == 0 else ''}".rstrip())

    def take(length, words):
        at, piece = cursor.at, cursor.take(length)
        row(at, piece, words)
        return int.from_bytes(piece, "big")

    def field(words):
        take(take(2, f"length of {words}"), words)

    take(1, "version")
    take(2, "algorithm suite")
    take(32, "message id")
    take(2, "context length")
    for _ in range(take(2, "pairs")):
        field("key")
        field("value")
    for _ in range(take(2, "encrypted data keys")):
        field("provider id: namespace")
        take(2, "length of provider information")
        take(len(ring["name"].encode()), "  key name")
        take(4, "  tag length, bits")
        take(4, "  iv length, bytes")
        take(12, "  iv")
        field("ciphertext: wrapped key, tag")
    take(1, "content type")
    take(4, "frame length F")
    take(32, "commitment key")
    take(16, "header tag; the header ends, H = " + str(header.length))
    take(4, "frame 1: sequence number")
    take(12, "  iv")
    take(16, "  ciphertext, F bytes")
    take(16, "  tag")
    take(4, "final frame: end marker")
    take(4, "  sequence number")
    take(12, "  iv")
    take(4, "  length n")
    take(16, "  tag (no ciphertext)")
    assert cursor.at == len(data)

    def aad(label, sequence, length):
        return header.message_id + label + sequence.to_bytes(4, "big") + length.to_bytes(8, "big")

    def hexed(words, piece):
        lines.append(f"{words}:")
        for at in range(0, len(piece), 32):
            lines.append("      " + piece[at : at + 32].hex())

    anatomy = "\n".join(lines)
    lines.clear()
    hexed("wrapping key", base64.b64decode(ring["wrapping_key"]))
    hexed("additional data of the wrap", header.context_bytes)
    hexed("data key, unwrapped", data_key)
    hexed("encryption key", reader.hkdf(data_key, header.message_id, bytes.fromhex("0478") + b"DERIVEKEY"))
    hexed("commitment key, as in the header", reader.hkdf(data_key, header.message_id, b"COMMITKEY"))
    hexed("additional data of frame 1", aad(b"AWSKMSEncryptionClient Frame", 1, 16))
    hexed("additional data of the final frame", aad(b"AWSKMSEncryptionClient Final Frame", 2, 0))
    hexed("plaintext", reader.open_message(data, [ring])[1])
    steps = "\n".join(lines)
    q, r = divmod(len(data) - header.length - 40, 16 + 32)

    begin, end = "<!-- example: written by tests/peers/make_vectors.py --example -->", "<!-- /example -->"
    path = os.path.join(os.path.dirname(TESTS), "docs", "object-format.md")
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split(begin)
    _, after = rest.split(end)
    block = f"""{begin}
`tests/vectors/{name}.bin`, {len(data)} bytes, written by the official SDK with the
keyring `tests/{PRIMARY}` (not a secret), {{"purpose": "vector"}},
F = 16 and 16 bytes of plaintext. Offsets are decimal.

```text
{anatomy}
```

The lengths: T = {len(data)}, H = {header.length}; divmod({len(data)} − {header.length} − 40, 48) = ({q}, {r}), so {q} regular
frame and {r} bytes in the final one: {q * 16 + r} bytes of plaintext. On the way to them:

```text
{steps}
```
{end}"""
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + block + after)


def main():
    if sys.argv[1:] == ["--example"]:
        return example()
    folder = os.path.join(TESTS, "vectors")
    writer = Writer(folder)
    good(writer)
    refused(writer)
    own(writer)
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
    example()


if __name__ == "__main__":
    main()
