#!/usr/bin/env bash
# Makes a development CA and a server certificate, ECDSA P-256, for this machine.
#
#   certs/make-dev-certs.sh [DIRECTORY] [NAME]...
#
# DIRECTORY (default: this one) gets ca.pem, ca-key.pem, server.pem (leaf, then
# CA) and server-key.pem. NAMEs are further host names or IP addresses, beside
# localhost, 127.0.0.1 and ::1. A CA that is there is kept, so whoever trusts it
# still does; the leaf is made anew. Not for production: the CA's key lies
# unencrypted beside it.
set -euo pipefail
umask 077

profiles="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
directory="${1:-$profiles}"
[ $# -eq 0 ] || shift
command -v openssl >/dev/null || { echo "make-dev-certs.sh: openssl is not on PATH" >&2; exit 1; }
mkdir -p "$directory"
cd "$directory"

SEALWARD_SAN="DNS:localhost,IP:127.0.0.1,IP:::1"
for name in "$@"; do
    case "$name" in
        *[!A-Za-z0-9.:*-]* | '') echo "make-dev-certs.sh: not a host name or address: $name" >&2; exit 2 ;;
        *:*) SEALWARD_SAN+=",IP:$name" ;;
        *[!0-9.]*) SEALWARD_SAN+=",DNS:$name" ;;
        *) SEALWARD_SAN+=",IP:$name" ;;
    esac
done
export SEALWARD_SAN

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

if [ ! -s ca.pem ] || [ ! -s ca-key.pem ]; then
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$scratch/ca-key.pem" 2>/dev/null
    openssl req -new -x509 -sha256 -days 825 -config "$profiles/ca.cnf" -key "$scratch/ca-key.pem" -out "$scratch/ca.pem"
    mv "$scratch/ca-key.pem" ca-key.pem
    mv "$scratch/ca.pem" ca.pem
fi

openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$scratch/server-key.pem" 2>/dev/null
openssl req -new -sha256 -config "$profiles/server.cnf" -key "$scratch/server-key.pem" -out "$scratch/server.csr"
openssl x509 -req -sha256 -days 90 -in "$scratch/server.csr" -CA ca.pem -CAkey ca-key.pem \
    -set_serial "0x$(openssl rand -hex 16)" -extfile "$profiles/server.cnf" -extensions extensions \
    -out "$scratch/leaf.pem" 2>/dev/null
openssl verify -CAfile ca.pem -purpose sslserver "$scratch/leaf.pem" >/dev/null
cat "$scratch/leaf.pem" ca.pem >"$scratch/server.pem"
mv "$scratch/server-key.pem" server-key.pem
mv "$scratch/server.pem" server.pem
chmod 644 ca.pem server.pem
echo "made server.pem and server-key.pem for $SEALWARD_SAN in $PWD" >&2
echo "trust ca.pem:  curl --cacert $PWD/ca.pem https://localhost:8443/" >&2
