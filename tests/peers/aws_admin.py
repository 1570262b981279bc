#!/usr/bin/env python3
"""A stand-in for AWS, and the official SDK to prepare it and look into it by.

    aws_admin.py moto|ministack|rclone      (with the interpreter of target/peers/aws)

Starts the stand-in on a free port of the loopback interface, prints
{"endpoint": ...} once it answers, then takes one JSON job per line on stdin and
answers with one line each: {"ok": true, ...} or {"ok": false, "code": ..., "error": ...}.
The end of stdin is the stand-in's end too, so nothing outlives a test, however
the test ends. rclone's server judges signatures: its one pair of keys is that of
the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
"""

import base64
import json
import os
import pathlib
import signal
import socket
import random
import subprocess
import sys
import tempfile
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BIN = pathlib.Path(sys.executable).parent
PATIENCE = 60  # seconds for a stand-in to answer on a busy machine
ENTITY = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata")


def free_port():
    """One that the system gives nobody who asks for any: a stand-in takes seconds to come to it."""
    for port in random.sample(range(10_000, 20_000), 500):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise SystemExit("no port is free")


def command_of(kind, port, folder):
    environment = dict(os.environ)
    if kind == "moto":
        return [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)], environment
    if kind == "ministack":
        # It would bind every address of the machine.
        environment.update(BIND_HOST="127.0.0.1", GATEWAY_PORT=str(port), EDGE_PORT=str(port))
        return [BIN / "ministack"], environment
    if kind == "rclone":
        pair = f"{environment['AWS_ACCESS_KEY_ID']},{environment['AWS_SECRET_ACCESS_KEY']}"
        arguments = ["serve", "s3", folder, "--addr", f"127.0.0.1:{port}", "--auth-key", pair, "--config", os.devnull]
        return [BIN / "rclone", *arguments, "--vfs-cache-mode", "off"], environment
    raise SystemExit(f"there is no stand-in {kind}")


def id_of(arn):
    """moto knows a key by its ARN in some calls, and by its id in all."""
    return arn.split("/")[-1]


class StandIn:
    """A stand-in's process, in a group of its own so that all of it ends."""

    def __init__(self, kind, folder):
        port = free_port()
        command, environment = command_of(kind, port, folder)
        self.log = open(os.path.join(folder, f"{kind}.log"), "w+b") if kind != "rclone" else tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            start_new_session=True,
        )
        self.endpoint = f"http://127.0.0.1:{port}"
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self.child.poll() is not None or time.monotonic() > until:
                    self.log.seek(0)
                    sys.stderr.write(self.log.read().decode(errors="replace")[-4000:])
                    self.end()
                    raise SystemExit(f"{kind} doesn't answer on port {port}") from None
                time.sleep(0.05)

    def end(self):
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, sent)
                self.child.wait(3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
            return


class Admin:
    """Every job is a method."""

    def __init__(self, endpoint):
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        self.s3 = boto3.client("s3", endpoint_url=endpoint, config=config)
        self.acm = boto3.client("acm", endpoint_url=endpoint, config=config)
        self.kms = boto3.client("kms", endpoint_url=endpoint, config=config)
        self.secrets = boto3.client("secretsmanager", endpoint_url=endpoint, config=config)
        self.ssm = boto3.client("ssm", endpoint_url=endpoint, config=config)

    # --- KMS

    def key(self, **options):
        return {"arn": self.kms.create_key(**options)["KeyMetadata"]["Arn"]}

    def alias(self, name, arn):
        try:
            self.kms.create_alias(AliasName=name, TargetKeyId=arn)
        except ClientError:
            self.kms.update_alias(AliasName=name, TargetKeyId=arn)

    def forget_alias(self, name):
        self.kms.delete_alias(AliasName=name)

    def disable(self, arn):
        self.kms.disable_key(KeyId=id_of(arn))

    def enable(self, arn):
        self.kms.enable_key(KeyId=id_of(arn))

    def end_key(self, arn):
        self.kms.schedule_key_deletion(KeyId=id_of(arn), PendingWindowInDays=7)

    def key_policy(self, arn, policy):
        self.kms.put_key_policy(KeyId=id_of(arn), PolicyName="default", Policy=json.dumps(policy))

    def decrypt(self, arn, ciphertext, context):
        answer = self.kms.decrypt(KeyId=arn, CiphertextBlob=base64.b64decode(ciphertext), EncryptionContext=context)
        return {"length": len(answer["Plaintext"]), "arn": answer["KeyId"]}

    # --- ACM

    def certificate(self, name):
        """One of a private CA's, which may be exported."""
        authority = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/12345678-1234-1234-1234-123456789012"
        answer = self.acm.request_certificate(DomainName=name, CertificateAuthorityArn=authority)
        return {"arn": answer["CertificateArn"]}

    def public_certificate(self, name):
        return {"arn": self.acm.request_certificate(DomainName=name)["CertificateArn"]}

    # --- Secrets Manager and SSM Parameter Store

    def secret(self, name, value):
        answer = self.secrets.create_secret(Name=name, SecretString=value)
        return {"arn": answer["ARN"], "version": answer["VersionId"]}

    def version(self, name, value, stage="AWSCURRENT"):
        """Another version; under AWSPENDING the current one stays what it is."""
        answer = self.secrets.put_secret_value(SecretId=name, SecretString=value, VersionStages=[stage])
        return {"version": answer["VersionId"]}

    def forget_parameter(self, name):
        self.ssm.delete_parameter(Name=name)

    def parameter(self, name, value, kind="SecureString", overwrite=False):
        return {"version": self.ssm.put_parameter(Name=name, Value=value, Type=kind, Overwrite=overwrite)["Version"]}

    # --- S3

    def bucket(self, name, encryption=None, versioned=False):
        place = {"LocationConstraint": self.s3.meta.region_name}
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration=place)
        if encryption:
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": encryption}}
            self.s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        if versioned:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def bucket_policy(self, bucket, policy):
        self.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def objects(self, bucket):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {"keys": [entry["Key"] for page in pages for entry in page.get("Contents", [])]}

    def versions(self, bucket):
        answer = self.s3.list_object_versions(Bucket=bucket)
        return {"versions": len(answer.get("Versions", [])), "markers": len(answer.get("DeleteMarkers", []))}

    def uploads(self, bucket):
        found = self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return {"keys": [upload["Key"] for upload in found]}

    def head(self, bucket, key, checksums=False):
        answer = self.s3.head_object(Bucket=bucket, Key=key, **({"ChecksumMode": "ENABLED"} if checksums else {}))
        return {"head": json.loads(json.dumps(answer, default=str))}

    def get(self, bucket, key, out):
        body = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        pathlib.Path(out).write_bytes(body)
        return {"length": len(body)}

    def put(self, bucket, key, file, **options):
        """A raw PutObject; `options` are those of the call, such as ChecksumCRC64NVME."""
        answer = self.s3.put_object(Bucket=bucket, Key=key, Body=pathlib.Path(file).read_bytes(), **options)
        return {"etag": answer["ETag"]}

    def copy(self, bucket, key, to, at=None, metadata=None, cut=None, add=""):
        """Puts what stands under `key` under `to`, with its metadata; with byte `at`
        changed, `cut` bytes shorter, `add` behind it, or `metadata` over its own."""
        answer = self.s3.get_object(Bucket=bucket, Key=key)
        body = bytearray(answer["Body"].read())
        if at is not None:
            body[at] ^= 1
        if cut:
            del body[-cut:]
        body += add.encode()
        about = {name: answer[name] for name in ENTITY if name in answer}
        about["Metadata"] = {**answer["Metadata"], **(metadata or {})}
        self.s3.put_object(Bucket=bucket, Key=to, Body=bytes(body), **about)

    def delete(self, bucket, key):
        self.s3.delete_object(Bucket=bucket, Key=key)


def main():
    with tempfile.TemporaryDirectory() as folder:
        stand_in = StandIn(sys.argv[1], folder)
        try:
            admin = Admin(stand_in.endpoint)
            print(json.dumps({"endpoint": stand_in.endpoint}), flush=True)
            for line in sys.stdin:
                job = json.loads(line)
                try:
                    answer = {"ok": True, **(getattr(admin, job.pop("do"))(**job) or {})}
                except ClientError as error:
                    answer = {"ok": False, "code": error.response["Error"]["Code"], "error": str(error)}
                except Exception as error:  # every failure is an answer; the next job goes on
                    answer = {"ok": False, "code": type(error).__name__, "error": str(error)}
                print(json.dumps(answer), flush=True)
        finally:
            stand_in.end()


if __name__ == "__main__":
    main()
