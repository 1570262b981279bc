#!/usr/bin/env bash
# Lays out the file system of the image: a program that is built, the libraries that it is linked
# with, authorities and names. Nothing else: no shell, no package manager.
#
#   docker/rootfs.sh BINARY FOLDER     makes what docker/Dockerfile's last stage copies: FOLDER/rootfs,
#                                      and FOLDER/state, the empty folder that its user may write to
#
# The Dockerfile's first stage runs it; `make image` runs it on this machine.
set -euo pipefail
umask 022

die() { echo "rootfs.sh: $*" >&2; exit 1; }

[ $# = 2 ] || die "usage: docker/rootfs.sh BINARY FOLDER"
binary="$1"
root="$2/rootfs"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
[ -x "$binary" ] || die "there is no program $binary"
rm -rf "$root" "$2/state"
mkdir -p "$root"/{etc/sealward,etc/ssl/certs,usr/local/bin,usr/share/doc/sealward,var/lib} "$2/state"

# Symbols stay where it was built.
strip -o "$root/usr/local/bin/sealward" "$binary"
chmod 755 "$root/usr/local/bin/sealward"

# Each library where the loader looks for it, and the loader itself. What is linked statically has none.
libraries="$(ldd "$binary" 2>/dev/null || true)"
case "$libraries" in *"not found"*) die "a library is missing:"$'\n'"$libraries" ;; esac
while read -r library; do
    install -D -m 755 "$(readlink -f "$library")" "$root$library"
    # A glibc before 2.34 loads by itself, when it is asked, what looks up names.
    case "$library" in */libc.so.6)
        for name in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
            [ ! -e "${library%/*}/$name" ] || install -m 755 "${library%/*}/$name" "$root${library%/*}/$name"
        done ;;
    esac
done < <(awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' <<<"$libraries")

# The same file, as distributions call it.
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem ''; do
    [ ! -s "$bundle" ] || break
done
[ -n "$bundle" ] || die "this machine has no authorities: install ca-certificates"
install -m 644 "$bundle" "$root/etc/ssl/certs/ca-certificates.crt"

# Names for the number that it runs as, and where names of machines are looked up.
echo 'sealward:x:65532:65532:Sealward:/var/lib/sealward:/sbin/nologin' >"$root/etc/passwd"
echo 'sealward:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
install -m 644 "$here/LICENSE" "$root/usr/share/doc/sealward/LICENSE"
