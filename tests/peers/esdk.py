#!/usr/bin/env python3
"""The official AWS Encryption SDK for Python, major version 4, as a test peer.

    esdk.py seal  --keyring FILE [--keyring FILE2] [--frame-length N]
                  [--context k=v]... [--suite 0x0478] IN OUT
    esdk.py open  --keyring FILE [--keyring FILE2] [--context k=v]... IN OUT
    esdk.py batch                       one JSON job per line on stdin, one answer per line on stdout

Run it with the interpreter of target/peers/esdk. FILE is a keyring of ours,
{"namespace", "name", "wrapping_key"}: the SDK's Raw AES keyring. Two of them
make two encrypted data keys. In a job, {"kms": ARN, "endpoint": URL} in the place
of FILE is the SDK's AWS KMS keyring, with credentials from the environment. `open` prints {"context", "suite", ...} once the whole message
has been verified, and leaves no output behind a failure.

A job of `batch` (importing the SDK takes over a second, so do many per start):

    {"id": 1, "op": "seal", "keyrings": ["k.json"], "frame_length": 4096,
     "context": {"k": "v"}, "suite": "0x0478", "in": "plain", "out": "sealed"}
    {"id": 2, "op": "open", "keyrings": ["k.json"], "context": {}, "in": "sealed", "out": "plain"}

and its answer: {"id": 1, "ok": true, ...} or {"id": 1, "ok": false, "error": "Type: words"}.
Exit code of `seal` and `open`: 0, or 1 when the SDK refused.
"""

import argparse
import base64
import json
import logging
import os
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)  # the SDK logs a trace for every refusal; ours is one line

import aws_encryption_sdk  # noqa: E402
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders  # noqa: E402
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig  # noqa: E402
from aws_cryptographic_material_providers.mpl.models import (  # noqa: E402
    AesWrappingAlg,
    CreateAwsKmsKeyringInput,
    CreateMultiKeyringInput,
    CreateRawAesKeyringInput,
)
from aws_encryption_sdk import CommitmentPolicy  # noqa: E402
from aws_encryption_sdk.identifiers import Algorithm  # noqa: E402

PIECE = 1 << 20
PROVIDERS = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
STRICT = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
# Only to make the messages that must be refused.
UNCOMMITTED = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT)


def kms_keyring(arn, endpoint):
    import boto3  # only here: it takes a while, and most jobs need none

    client = boto3.client("kms", region_name=arn.split(":")[3], endpoint_url=endpoint)
    return PROVIDERS.create_aws_kms_keyring(input=CreateAwsKmsKeyringInput(kms_key_id=arn, kms_client=client))


def raw_aes_keyring(path):
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    return PROVIDERS.create_raw_aes_keyring(
        input=CreateRawAesKeyringInput(
            key_namespace=fields["namespace"],
            key_name=fields["name"],
            wrapping_key=base64.b64decode(fields["wrapping_key"], validate=True),
            wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
        )
    )


def single_keyring(key):
    return kms_keyring(key["kms"], key["endpoint"]) if isinstance(key, dict) else raw_aes_keyring(key)


def keyring_of(keys):
    """One keyring, or a multi-keyring of which the first makes the data key."""
    first, *others = [single_keyring(key) for key in keys]
    if not others:
        return first
    return PROVIDERS.create_multi_keyring(input=CreateMultiKeyringInput(generator=first, child_keyrings=others))


def suite_of(text):
    number = int(str(text), 16)
    for suite in Algorithm:
        if suite.algorithm_id == number:
            return suite
    raise ValueError(f"no algorithm suite {text}")


class Output:
    """A file that appears under its name only when all went well."""

    def __init__(self, path):
        self.path = path
        self.partial = f"{path}.partial-{os.getpid()}"

    def __enter__(self):
        self.file = open(self.partial, "wb")
        return self.file

    def __exit__(self, kind, _error, _trace):
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            os.unlink(self.partial)


def source_of(path):
    return sys.stdin.buffer if path == "-" else open(path, "rb")


def pump(stream, output):
    length = 0
    while True:
        piece = stream.read(PIECE)
        if not piece:
            return length
        output.write(piece)
        length += len(piece)


def seal(job):
    suite = suite_of(job.get("suite", "0x0478"))
    client = STRICT if suite.is_committing() else UNCOMMITTED
    with source_of(job["in"]) as source, Output(job["out"]) as output:
        with client.stream(
            mode="e",
            source=source,
            keyring=keyring_of(job["keyrings"]),
            algorithm=suite,
            frame_length=int(job.get("frame_length", 4096)),
            encryption_context=dict(job.get("context") or {}),
        ) as stream:
            length = pump(stream, output)
            return {"sealed_length": length, **described(stream.header)}


def open_(job):
    wanted = dict(job.get("context") or {})
    with source_of(job["in"]) as source, Output(job["out"]) as output:
        arguments = {"mode": "d", "source": source, "keyring": keyring_of(job["keyrings"])}
        if wanted:
            arguments["encryption_context"] = wanted
        # Not `with`: leaving that swallows the complaint of close() about a
        # message whose end was never read, which is what a cut one is.
        stream = STRICT.stream(**arguments)
        header = described(stream.header)
        for key, value in wanted.items():
            if header["context"].get(key) != value:
                raise ValueError(f"the header's encryption context has no {key!r} = {value!r}")
        length = pump(stream, output)
        if source.read(1):
            # The SDK stops at the final frame; we hold that what follows is damage.
            raise ValueError("bytes follow the final frame")
        stream.close()
        return {"length": length, **header}


def described(header):
    return {
        "suite": f"0x{header.algorithm.algorithm_id:04x}",
        "message_id": header.message_id.hex(),
        "frame_length": header.frame_length,
        "data_keys": len(header.encrypted_data_keys),
        "context": dict(header.encryption_context),
    }


OPERATIONS = {"seal": seal, "open": open_}


def words(error):
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def batch():
    for line in sys.stdin:
        if not line.strip():
            continue
        answer = {}
        try:
            job = json.loads(line)
            answer["id"] = job.get("id")
            answer.update(OPERATIONS[job["op"]](job), ok=True)
        except Exception as error:  # every refusal is an answer; the next job goes on
            answer.update(ok=False, error=words(error))
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return 0


def pair(text):
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("expected key=value")
    return key, value


def main():
    parser = argparse.ArgumentParser(description="The official AWS Encryption SDK for Python as a test peer.")
    commands = parser.add_subparsers(dest="op", required=True)
    for name in ("seal", "open"):
        command = commands.add_parser(name)
        command.add_argument("--keyring", dest="keyrings", action="append", required=True)
        command.add_argument("--context", action="append", type=pair, default=[])
        if name == "seal":
            command.add_argument("--frame-length", type=int, default=4096, help="0 makes a message without frames")
            command.add_argument("--suite", default="0x0478")
        command.add_argument("in")
        command.add_argument("out")
    commands.add_parser("batch")
    job = vars(parser.parse_args())
    if job["op"] == "batch":
        return batch()
    job["context"] = dict(job["context"])
    try:
        print(json.dumps(OPERATIONS[job["op"]](job), ensure_ascii=False))
    except Exception as error:
        print(words(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
