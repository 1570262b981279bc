"""What a page's commands stand on: a checkout, a network, programs, and what the page takes for given."""

import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess

# What an operator has: certificates, a keyring, a token in curl.conf, a catalogue; and two objects.
SITE = """
umask 077
certs/make-dev-certs.sh tls
cat >sealward.toml <<'END'
[[listener]]
bind = "0.0.0.0:8443"
tls = { source = { files = { cert = "tls/server.pem", key = "tls/server-key.pem" } } }

[keys]
provider = "local"
keyring = "keyring.json"

[[class]]
name = "records"
directory = "objects"

[[route]]
path = "/files/"
seal = { class = "records" }

[catalog]
url = "sqlite:catalog.db"

[identity]
tokens = "tokens.json"
END
key="$(head -c 32 /dev/urandom | base64)"
printf '{"namespace": "example", "name": "2026-11", "wrapping_key": "%s"}\\n' "$key" >keyring.json
token="$(sealward token new ops --config sealward.toml)"
printf 'cacert = "tls/ca.pem"\\nheader = "Authorization: Bearer %s"\\n' "$token" >curl.conf
mkdir plain
for name in one two; do echo "$name" >"plain/$name"; done
sealward adopt --config sealward.toml --class records --from plain
"""

# What a page takes for given, as sh. Its output isn't the page's.
BEFORE = {
    # Nothing runs any more.
    "stop": "book-stop",
    # `dev` runs, holds two objects, and this is its folder.
    "dev": """
sealward dev
echo 'hello, sealed world' | curl -sSf -K .sealward/curl.conf -T - https://127.0.0.1:8443/files/hello.txt
printf 'ward,bed\\n1\\n' | curl -sSf -K .sealward/curl.conf -T - https://127.0.0.1:8443/files/reports/2026-11.csv
cd .sealward
""",
    "site": SITE,
    # The same, and it serves; one of the objects was damaged, and asked for. What it logs is the
    # journal, where systemd has a word of its own first.
    "journal": f"""
{SITE}
printf '\\n[log]\\nformat = "json"\\n' >>sealward.toml
echo 'Started sealward.service - Sealward.' >"$BOOK/journal"
sealward serve --config sealward.toml 2>>"$BOOK/journal" &
until sealward health; do sleep 0.1; done
echo more >>objects/one.sealed
for name in one two; do curl -sS -K curl.conf "https://localhost:8443/files/$name"; done
""",
    # Some plain files, of which one is called `a`.
    "originals": "book-stop\nmkdir -p originals\nprintf 'hi\\n' >originals/a\nprintf 'ho\\n' >originals/b",
    # Nothing runs any more, and the catalogue's database is gone.
    "lost": "book-stop\nrm catalog.db*",
    # What stood in sealward.toml, and a catalogue.
    "catalogue": """
book-stop
printf '\\n[catalog]\\nurl = "sqlite:catalog.db"\\n' >>sealward.toml
sealward catalog rebuild --config sealward.toml --class records
""",
    # The official SDK's Python is the one at hand.
    "sdk": 'PATH="$BOOK_PEERS/esdk/bin:$PATH"',
    # A keyring, and a file to be sealed.
    "peers": "cp tests/fixtures/not-secret-keyring-primary.json k.json\nprintf 'hi\\n' >plain",
    # KMS and S3 by a stand-in, with a key, its alias, and a bucket: see `stand_in`.
    "aws": ":",
}

SEALWARD = r"""#!/bin/sh
case "$1" in serve | dev) ;; *) exec "$BOOK_SEALWARD" "$@" ;; esac
for word; do case "$word" in -h | --help) exec "$BOOK_SEALWARD" "$@" ;; esac; done
# A shell without job control gives what it runs by `&` this for its input, and the page itself none.
if [ /dev/stdin -ef /dev/null ]; then
    echo $$ >>"$BOOK/servers"
    exec "$BOOK_SEALWARD" "$@"
fi
said="$(mktemp "$BOOK/said.XXXXXX")"
"$BOOK_SEALWARD" "$@" >"$said" 2>"$said.log" </dev/null &
server=$!
echo "$server" >>"$BOOK/servers"
until grep -qs 'metrics  http' "$said" || grep -qs serving "$said.log"; do
    kill -0 "$server" 2>/dev/null || { cat "$said" "$said.log"; wait "$server"; exit; }
    sleep 0.05
done
cat "$said"
"""

STOP = r"""#!/bin/sh
touch "$BOOK/servers"
while read -r server; do kill "$server" 2>/dev/null || :; done <"$BOOK/servers"
while read -r server; do while kill -0 "$server" 2>/dev/null; do sleep 0.05; done; done <"$BOOK/servers"
"""

CARGO = r"""#!/bin/sh
command="$1"
case "$command" in
    run)
        while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
        shift
        exec sealward "$@" ;;
    build)
        folder=debug
        for word; do [ "$word" != --release ] || folder=release; done
        mkdir -p "target/$folder"
        ln -sf "$BOOK_SEALWARD" "target/$folder/sealward" ;;
    *) echo "the book's cargo doesn't know $command: tests/peers/book.py" >&2; exit 1 ;;
esac
"""

MAKE = r"""#!/bin/sh
unset MAKEFLAGS MAKELEVEL MFLAGS
PATH="$BOOK_PATH" exec make --dry-run --directory "$BOOK_ROOT" "$@" >/dev/null
"""


JOURNALCTL = r"""#!/bin/sh
exec cat "$BOOK/journal"
"""

PROGRAMS = {"sealward": SEALWARD, "book-stop": STOP, "cargo": CARGO, "make": MAKE, "journalctl": JOURNALCTL}


def own_network():
    """A network of this process alone, with nothing but a loopback; whether that could be had."""
    new_user, new_network = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(new_network) != 0:
        if libc.unshare(new_user | new_network) != 0:
            return False
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    up, set_flags = 0x41, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", up))
    return True


def networks():
    """Whether pages can have networks of their own."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if own_network() else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def free(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lay_out(root, folder, peers, sealward):
    """A checkout that was built, and may be written to. No command reads the sources."""
    without = shutil.ignore_patterns("target", ".git", ".sealward", "__pycache__", "src", "benches", "fuzz", "book")
    shutil.copytree(root, folder, ignore=without)
    (folder / "target/debug").mkdir(parents=True)
    (folder / "target/peers").symlink_to(peers)
    (folder / "target/debug/sealward").symlink_to(sealward)


def stand_in(root, peers, environment):
    """moto, with what config/sealward-aws.toml names; and what tells the page where it is."""
    environment.update(
        AWS_ACCESS_KEY_ID="stand-in",
        AWS_SECRET_ACCESS_KEY="not-a-secret-at-all",
        AWS_REGION="eu-west-1",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
        AWS_EC2_METADATA_DISABLED="true",
    )
    admin = subprocess.Popen(
        [peers / "aws/bin/python", root / "tests/peers/aws_admin.py", "moto"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    environment["AWS_ENDPOINT_URL"] = json.loads(admin.stdout.readline())["endpoint"]

    def does(**job):
        admin.stdin.write(json.dumps(job) + "\n")
        admin.stdin.flush()
        answer = json.loads(admin.stdout.readline())
        assert answer["ok"], answer
        return answer

    key = does(do="key")["arn"]
    does(do="alias", name="alias/records", arn=key)
    does(do="bucket", name="records-bucket", encryption=key, versioned=True)
    environment["RECORDS_KEY"] = key
    return admin
