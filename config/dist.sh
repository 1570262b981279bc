#!/usr/bin/env bash
# Makes what a release consists of, out of a program that is built:
#
#   config/dist.sh BINARY FOLDER [OPTION OF CARGO-DEB]...
#
#   sealward-VERSION-MACHINE.tar.gz    the program, its manual, completions and units, for /usr/local
#   sealward_VERSION-1_ARCH.deb        Debian's package: [package.metadata.deb] in Cargo.toml
#   sealward-VERSION.cdx.json          every crate in it, with version and licence (CycloneDX 1.5)
#   SHA256SUMS                         of the three: `sha256sum --check SHA256SUMS`
#
# `make dist` builds the program before, and the two tools that CARGO_DEB and CARGO_CYCLONEDX name.
# All dates are SOURCE_DATE_EPOCH, by default the last commit's, so that the same program makes the
# same files. Nothing is written beside the sources.
set -euo pipefail
umask 022

die() { echo "dist.sh: $*" >&2; exit 1; }

[ $# -ge 2 ] || die "usage: config/dist.sh BINARY FOLDER [OPTION OF CARGO-DEB]..."
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
mkdir -p "$2"
binary="$(realpath "$1")"
folder="$(cd "$2" && pwd)"
shift 2
cargo_deb="${CARGO_DEB:-cargo-deb}"
cargo_cyclonedx="${CARGO_CYCLONEDX:-cargo-cyclonedx}"
for tool in "$cargo_deb" "$cargo_cyclonedx" strip tar gzip sha256sum; do
    command -v "$tool" >/dev/null || die "$tool isn't there"
done

# They are called from other folders.
cargo_deb="$(realpath "$(command -v "$cargo_deb")")"
cargo_cyclonedx="$(realpath "$(command -v "$cargo_cyclonedx")")"

version="$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)"
[ "$("$binary" --version)" = "sealward $version" ] || die "$binary is not of version $version: build it anew"
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH="$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)"
fi
export SOURCE_DATE_EPOCH

stage="$(mktemp -d)"
trap 'rm -rf "$stage"' EXIT

# --- What is packed, where cargo-deb looks for what cargo has built -----------
built="$stage/target/release"
mkdir -p "$built/man" "$built/completions"
strip -o "$built/sealward" "$binary"
"$binary" man --dir "$built/man"
gzip -9n "$built"/man/*.1
"$binary" completions bash >"$built/completions/sealward"
"$binary" completions zsh >"$built/completions/_sealward"
"$binary" completions fish >"$built/completions/sealward.fish"
{
    echo "sealward ($version-1) unstable; urgency=medium"
    printf '\n  * What is new is in changelog.gz.\n\n'
    echo " -- $(sed -n 's/^maintainer = "\(.*\)"/\1/p' "$root/Cargo.toml")  $(date -uRd "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$built/changelog.Debian.gz"

# --- The archive --------------------------------------------------------------
name="sealward-$version"
archive="$stage/$name"
share="$archive/share"
install -D -m 755 "$built/sealward" "$archive/bin/sealward"
install -D -m 644 -t "$share/man/man1" "$built"/man/*.gz
install -D -m 644 -t "$share/bash-completion/completions" "$built/completions/sealward"
install -D -m 644 -t "$share/zsh/site-functions" "$built/completions/_sealward"
install -D -m 644 -t "$share/fish/vendor_completions.d" "$built/completions/sealward.fish"
install -D -m 644 -t "$share/doc/sealward" "$root"/{README.md,CHANGELOG.md,LICENSE}
install -D -m 644 -t "$share/doc/sealward/examples" "$root"/config/sealward*.toml
# What an empty machine begins with: Debian's package has it in /etc.
install -D -m 644 "$root/config/debian/sealward.toml" "$share/doc/sealward/examples/sealward-debian.toml"
install -D -m 644 -t "$archive/lib/systemd/system" "$root/config/systemd/sealward.socket"
sed 's|/usr/bin/sealward|/usr/local/bin/sealward|' "$root/config/systemd/sealward.service" \
    >"$archive/lib/systemd/system/sealward.service"
install -D -m 644 "$root/config/debian/sealward.sysusers" "$archive/lib/sysusers.d/sealward.conf"
tar --create --directory="$stage" --sort=name --owner=0 --group=0 --numeric-owner --format=gnu \
    --mtime="@$SOURCE_DATE_EPOCH" "$name" | gzip -9n >"$stage/$name-$(uname -m)-linux.tar.gz"

# --- The package --------------------------------------------------------------
mkdir "$stage/deb"
CARGO_TARGET_DIR="$stage/target" "$cargo_deb" --manifest-path "$root/Cargo.toml" --no-build --no-strip \
    --output "$stage/deb/" "$@" >/dev/null

# --- What is in it ------------------------------------------------------------
# It is written beside the manifest, and names the manifest's folder: here a passing one.
mkdir "$stage/sources"
cp "$root"/Cargo.{toml,lock} "$stage/sources/"
ln -s "$root"/{src,benches,tests} "$stage/sources/"
(cd "$stage/sources" && "$cargo_cyclonedx" cyclonedx --manifest-path "$stage/sources/Cargo.toml" --quiet \
    --format json --spec-version 1.5 --no-build-deps --override-filename "$name.cdx")
sed "s|file://$stage/sources|file://.|g" "$stage/sources/$name.cdx.json" >"$stage/$name.cdx.json"

# An earlier version's go, and nothing else that the folder may hold.
rm -f "$folder"/sealward-[0-9]*-linux.tar.gz "$folder"/sealward_[0-9]*_*.deb "$folder"/sealward-[0-9]*.cdx.json
made=("$stage"/deb/*.deb "$stage/$name"-*.tar.gz "$stage/$name.cdx.json")
mv "${made[@]}" "$folder/"
(cd "$folder" && sha256sum "${made[@]##*/}" >SHA256SUMS && cat SHA256SUMS)
