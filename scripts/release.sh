#!/usr/bin/env bash
# Makes a release archive: the stripped binary, README, CHANGELOG, manual pages, completions for shells, the licence, and the
# licence texts of every crate that is linked in. Prints its name and checksum.
#
#     scripts/release.sh [DIRECTORY]     default: target/dist
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${1:-target/dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
name=gptjc-$version-$target
limit=$((60 * 1024 * 1024))

cargo build --release --locked
mkdir -p "$out"
staging=$(mktemp -d "$out/.$name.XXXXXX")
trap 'rm -rf "$staging"' EXIT
mkdir -p "$staging/$name"
cp README.md CHANGELOG.md LICENSE "$staging/$name/"
strip -o "$staging/$name/gptjc" "${CARGO_TARGET_DIR:-target}/release/gptjc"

"$staging/$name/gptjc" man "$staging/$name/man" >/dev/null
mkdir "$staging/$name/completions"
for shell in bash zsh fish; do
  "$staging/$name/gptjc" completions "$shell" >"$staging/$name/completions/gptjc.$shell"
done

size=$(stat -c %s "$staging/$name/gptjc")
[[ $size -le $limit ]] || { printf 'release: the binary has %s bytes, more than %s\n' "$size" "$limit" >&2; exit 1; }

# Name, version, licence and texts of each crate of the binary, from the sources that cargo has fetched.
cargo metadata --format-version 1 --locked --filter-platform "$target" |
  python3 scripts/third_party_licences.py >"$staging/$name/THIRD_PARTY_LICENCES.txt"

# Same inputs, same bytes: order, owner and times are fixed.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='@0' -C "$staging" -cf - "$name" | gzip -n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
printf '%s/%s.tar.gz: %s bytes, the binary %s\n' "$out" "$name" "$(stat -c %s "$out/$name.tar.gz")" "$size"
