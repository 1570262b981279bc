#!/usr/bin/env bash
# Debian's package in a root of its own: a folder that stands for a machine. Nothing outside of it
# is touched, as root or not; what root does for real, others have fakeroot and a user namespace for.
#
#   deb.sh make ROOT BINARY          an empty machine: of packages what ours depends on, of files the
#                                    libraries that BINARY is linked with
#   deb.sh dpkg ROOT ARGUMENT...     dpkg for it: -i FILE, -r NAME, -P NAME, -s NAME …
#   deb.sh put ROOT PATH             standard input into a file that the package's user may read alone
#   deb.sh run ROOT COMMAND...       a program of it, with it as `/`, as the package's user
#
# Maintainer scripts run outside, with DPKG_ROOT (dpkg's --force-script-chrootless).
set -euo pipefail

die() { echo "deb.sh: $*" >&2; exit 1; }

[ $# -ge 2 ] || die "usage: deb.sh make|dpkg|put|run ROOT ..."
job="$1" machine="$2"
shift 2
is_root() { [ "$(id -u)" = 0 ]; }
# The number of a user or group there; what it means here is another matter.
number_of() { awk -F: '$1 == "sealward" { print $3 }' "$machine/etc/$1"; }

case "$job" in
    make)
        mkdir -p "$machine"/{etc,run,tmp,var/lib/dpkg/{info,updates,triggers}}
        # dpkg judges dependencies by these, versions included.
        dpkg-query --status libc6 systemd >"$machine/var/lib/dpkg/status" ||
            die "this isn't Debian, or it has no systemd"
        # What dpkg knows of them but their files.
        for package in libc6:"$(dpkg --print-architecture)" systemd; do
            : >"$machine/var/lib/dpkg/info/$package.list"
        done
        # The loader and the C library, as our program finds them.
        while read -r library; do
            install -D -m 755 "$(readlink -f "$library")" "$machine$library"
        done < <(ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }') ;;
    dpkg)
        pretend=fakeroot
        ! is_root || pretend=env
        "$pretend" dpkg --root="$machine" --log="$machine/var/lib/dpkg/log" --force-not-root \
            --force-script-chrootless "$@" ;;
    put)
        umask 077
        cat >"$machine$1"
        ! is_root || chown "$(number_of passwd):$(number_of group)" "$machine$1" ;;
    run)
        if is_root; then
            exec chroot --userspec="$(number_of passwd):$(number_of group)" "$machine" "$@"
        fi
        exec unshare -Ur chroot "$machine" "$@" ;;
    *) die "there is no job $job" ;;
esac
