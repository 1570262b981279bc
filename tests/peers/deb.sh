#!/usr/bin/env bash
# Debian's package in a root of its own: a folder that stands for a machine. Nothing outside of it
# is touched, as root or not; what root does for real, others have fakeroot and a user namespace for.
#
#   deb.sh make ROOT BINARY          an empty machine: of packages what ours depends on, of files the
#                                    libraries that BINARY is linked with
#   deb.sh dpkg ROOT ARGUMENT...     dpkg for it: -i FILE, -r NAME, -P NAME, -s NAME …
#   deb.sh put ROOT PATH             standard input into a file that the package's user may read alone
#   deb.sh run ROOT COMMAND...       a program of it, with it as `/`, as the package's user
#   deb.sh live ROOT SCRIPT ARGUMENT...
#                                    the installed package's postinst, prerm or postrm as on a machine
#                                    that runs; prints which of systemd's programs it called, and how
#
# Maintainer scripts run outside, with DPKG_ROOT (dpkg's --force-script-chrootless). `live` runs them
# without, where the folder's /etc, /run and /var/lib lie over this machine's in a namespace of mounts,
# and stand-ins for systemd's programs come first.
set -euo pipefail

die() { echo "deb.sh: $*" >&2; exit 1; }

[ $# -ge 2 ] || die "usage: deb.sh make|dpkg|put|run|live ROOT ..."
job="$1" machine="$2"
shift 2
is_root() { [ "$(id -u)" = 0 ]; }
# The number of a user or group there; what it means here is another matter.
number_of() { awk -F: '$1 == "sealward" { print $3 }' "$machine/etc/$1"; }

case "$job" in
    make)
        mkdir -p "$machine"/{etc,run,tmp,var/lib/dpkg/{info,updates,triggers}}
        # dpkg judges dependencies by these, versions included.
        dpkg-query --status libc6 procps systemd >"$machine/var/lib/dpkg/status" ||
            die "this isn't Debian, or it has no systemd or procps"
        # What dpkg knows of them but their files.
        for package in libc6:"$(dpkg --print-architecture)" procps systemd; do
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
    live)
        places="$(mktemp -d)"
        trap 'rm -rf "$places"' EXIT
        mkdir -p "$machine/run/systemd/system"
        # All fail but the one that nothing can do without: a package goes in and out all the same.
        for name in systemctl deb-systemd-invoke systemd-sysusers; do
            printf '#!/bin/sh\necho "%s $*" >>"%s/calls"\n[ %s = systemd-sysusers ]\n' \
                "$name" "$places" "$name" >"$places/$name"
            chmod +x "$places/$name"
        done
        # Owners are judged where DPKG_ROOT is set; in a namespace of users there is none but root.
        ln -s "$(type -P true)" "$places/chown"
        # Which is found by way of /etc.
        ln -s "$(readlink -f "$(command -v awk)")" "$places/awk"
        : >"$places/calls"
        apart=(unshare --mount)
        is_root || apart+=(--user --map-root-user)
        # shellcheck disable=SC2016 # the inner shell's
        "${apart[@]}" env --unset=DPKG_ROOT PATH="$places:$PATH" sh -euc '
            machine="$1"
            for folder in etc run var/lib; do mount --bind "$machine/$folder" "/$folder"; done
            shift
            script="/var/lib/dpkg/info/sealward.$1"
            shift
            exec "$script" "$@"' live "$machine" "$@" >&2
        cat "$places/calls" ;;
    *) die "there is no job $job" ;;
esac
