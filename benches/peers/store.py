"""The S3 and KMS behind all, in memory and in a process of its own: `benches/peers/sink`."""

import json
import select
import subprocess
import urllib.request

import proxies
from load import Failed

PATIENCE = 60  # seconds for an answer


class Sink:
    """The process, its addresses, and what it says it was asked and holds."""

    def __init__(self, folder, binary):
        authority(folder)
        self.log = folder / "sink.log"
        command = [str(binary), str(folder / "sink.pem"), str(folder / "sink.key")]
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip
        said = self.hear()
        self.s3, self.s3_tls, self.kms = said["s3"], said["s3_tls"], said["kms"]
        self.key = self.describe()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.communicate()

    def hear(self):
        ready, _, _ = select.select([self.child.stdout], [], [], PATIENCE)
        line = self.child.stdout.readline() if ready else ""
        if not line:
            words = self.log.read_text(errors="replace").strip()[-500:]
            raise RuntimeError(f"the sink says nothing: {words or 'not even why'}")
        return json.loads(line)

    def ask(self, command):
        self.child.stdin.write(f"{command}\n")
        self.child.stdin.flush()
        return self.hear()

    def counts(self):
        return self.ask("counts")

    def reset(self):
        self.ask("reset")

    def size(self, path):
        return self.ask(f"size {path}")["bytes"]

    def clear(self, prefix):
        self.ask(f"clear {prefix}")

    def describe(self):
        """The ARN of its key, which Sealward is told: it must be the one that KMS answers with."""
        head = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.DescribeKey"}
        asked = urllib.request.Request(f"{self.kms}/", b'{"KeyId": "alias/bench"}', head)
        with opener().open(asked, timeout=PATIENCE) as answer:
            return json.load(answer)["KeyMetadata"]["Arn"]

    def put(self, path, body):
        asked = urllib.request.Request(f"{self.s3}/{path}", body, {"Content-Type": "text/plain"}, method="PUT")
        with opener().open(asked, timeout=PATIENCE):
            pass

    def held(self, path):
        """What lies there, to see whether it is sealed."""
        with opener().open(f"{self.s3}/{path}", timeout=PATIENCE) as answer:
            return answer.read()


def opener():
    """Past whatever proxy the environment names."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def authority(folder):
    """`ca.pem`, and `sink.pem` that it vouches for: who verifies takes no authority for a server."""
    (folder / "ca.cnf").write_text(
        "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = bench\n"
        "[ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n"
        "[leaf]\nbasicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n"
        "extendedKeyUsage = serverAuth\nsubjectAltName = DNS:localhost, IP:127.0.0.1\n"
    )
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl = [proxies.program("openssl")]
    for command in [
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "1", "-config", "ca.cnf"]
        + ["-extensions", "ca"],
        ["req", "-new", *key, "-keyout", "sink.key", "-out", "sink.csr", "-subj", "/CN=localhost", "-config", "ca.cnf"],
        ["x509", "-req", "-in", "sink.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2", "-days", "1"]
        + ["-out", "sink.pem", "-extfile", "ca.cnf", "-extensions", "leaf"],
    ]:
        done = subprocess.run(openssl + command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Failed(f"openssl {command[0]}: {done.stderr.strip()[-300:]}")
