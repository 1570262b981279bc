#!/usr/bin/env python3
"""Makes what docker/compose.yaml's services need and no file of the repository holds: certificates
of a CA of their own, passwords, a KMS key and a bucket in the stand-in for AWS.

    setup.py FOLDER [NAME=OWNER ...]

FOLDER/sealward, FOLDER/postgres and FOLDER/grafana get each what one service reads, and belong to
the user of that number where one is given: `sealward=65532`. What is there already stays, but for
the key and the bucket, which the stand-in forgets when it ends. Its address and credentials come
from the environment (AWS_ENDPOINT_URL and so on). Needs boto3 and cryptography, which the image of
the stand-in has.
"""

import datetime
import ipaddress
import os
import pathlib
import secrets
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ALIAS = "alias/records"
BUCKET = "records"
LIFE = datetime.timedelta(days=365)


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, issuer, key, signer, extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem_of(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """A CA whose key is forgotten with this process: nobody needs it again."""

    NAME = "Sealward's compose stack"

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "encipher_only", "decipher_only"), False)
        self.pem = certificate(self.NAME, self.NAME, self.key, self.key, [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), True),
        ])

    def issue(self, *names):
        """The chain and the key of a server that is called `names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        chain = certificate(names[0], self.NAME, key, self.key, [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName(alternatives), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ])
        return chain + self.pem, pem_of(key)


def files():
    """What each service reads."""
    authority = Authority()
    password = secrets.token_urlsafe(24).encode()
    cert, key = authority.issue("sealward", "localhost")
    database_cert, database_key = authority.issue("postgres", "localhost")
    return {
        "sealward": {"ca.pem": authority.pem, "cert.pem": cert, "key.pem": key, "database-password": password},
        "postgres": {"cert.pem": database_cert, "key.pem": database_key, "password": password},
        "grafana": {"password": secrets.token_urlsafe(24).encode()},
    }


def write(folder, owners):
    """All of it or nothing: one service's files belong to another's."""
    done = folder / "grafana" / "password"
    if not done.exists():
        for service, contents in files().items():
            (folder / service).mkdir(parents=True, exist_ok=True)
            for name, content in contents.items():
                path, new = folder / service / name, folder / service / f".{name}.new"
                new.unlink(missing_ok=True)
                new.touch(mode=0o600)
                new.write_bytes(content)
                new.chmod(0o400)
                # Whole or not there: the last of them says that all are.
                new.rename(path)
    for service, owner in owners.items():
        for path in [folder / service, *(folder / service).iterdir()]:
            os.chown(path, owner, owner)
        (folder / service).chmod(0o500)


def stand_in():
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10, "mode": "standard"})
    kms, s3 = (boto3.client(service, config=config) for service in ("kms", "s3"))
    aliases = kms.get_paginator("list_aliases").paginate().search("Aliases[].AliasName")
    if ALIAS not in aliases:
        key = kms.create_key(Description="data keys of the class `records`")["KeyMetadata"]["Arn"]
        kms.create_alias(AliasName=ALIAS, TargetKeyId=key)
    try:
        s3.head_bucket(Bucket=BUCKET)
    except ClientError:
        region = s3.meta.region_name
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=BUCKET, **where)


def main(arguments):
    if not arguments:
        sys.exit(__doc__)
    folder, owners = pathlib.Path(arguments[0]), dict(argument.split("=") for argument in arguments[1:])
    os.umask(0o077)
    write(folder, {service: int(owner) for service, owner in owners.items()})
    stand_in()
    print(f"{folder} and the stand-in are ready")


if __name__ == "__main__":
    main(sys.argv[1:])
