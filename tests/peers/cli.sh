#!/usr/bin/env bash
# The official command line, `aws-encryption-cli`, driven with keyring files of ours.
#
#   cli.sh seal --keyring FILE [--keyring FILE2] [--frame-length N] [--context k=v]... IN OUT
#   cli.sh open --keyring FILE [--context k=v]... IN OUT
#   cli.sh raw  ARGUMENTS...          the tool itself, with our keys plugged in
#
# IN and OUT may be -. The command line knows AWS KMS only; raw AES keys come to
# it by a master key provider, which is tests/peers/cli-plugin. A local key is
# then named so:  --wrapping-keys provider=sealward-test-keys::raw-aes key=FILE
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"
case "$target" in /*) ;; *) target="$root/$target" ;; esac
tool="$target/peers/esdk-cli/bin/aws-encryption-cli"
[ -x "$tool" ] || { echo "cli.sh: run tests/peers/setup.sh first" >&2; exit 1; }
# Found there by its .dist-info directory, as an installed plug-in would be.
export PYTHONPATH="$here/cli-plugin${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONDONTWRITEBYTECODE=1
export PYTHONWARNINGS=ignore

usage() { sed -n '4,6s/^# *//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

[ $# -ge 1 ] || usage
operation="$1"; shift
case "$operation" in
    raw) exec "$tool" "$@" ;;
    seal | open) ;;
    *) usage ;;
esac

keys=() context=() frame_length=4096
while [ $# -gt 2 ]; do
    case "$1" in
        --keyring) keys+=(--wrapping-keys provider=sealward-test-keys::raw-aes "key=$2") ;;
        --context) context+=("$2") ;;
        --frame-length) frame_length="$2" ;;
        *) usage ;;
    esac
    shift 2
done
[ $# -eq 2 ] && [ ${#keys[@]} -gt 0 ] || usage

arguments=(--commitment-policy require-encrypt-require-decrypt --suppress-metadata "${keys[@]}")
[ ${#context[@]} -eq 0 ] || arguments+=(--encryption-context "${context[@]}")
if [ "$operation" = seal ]; then
    # Without a suite named the tool writes the signed 0x0578.
    arguments+=(--encrypt --algorithm AES_256_GCM_HKDF_SHA512_COMMIT_KEY --frame-length "$frame_length")
else
    # --buffer: no plaintext reaches OUT unless the whole message is good.
    arguments+=(--decrypt --buffer)
fi
if [ "$operation" = open ] && [ "$2" != - ]; then
    # A context that doesn't match is a warning and exit code 0 to the tool: an
    # output that isn't there is what tells.
    rm -f -- "$2"
    "$tool" "${arguments[@]}" --input "$1" --output "$2"
    [ -e "$2" ] || exit 1
else
    exec "$tool" "${arguments[@]}" --input "$1" --output "$2"
fi
