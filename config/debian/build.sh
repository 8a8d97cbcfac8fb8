#!/usr/bin/env bash
# Builds the Debian package. Needs cargo-deb: cargo install cargo-deb --locked
#
#   config/debian/build.sh [PROFILE]     release, or another one of Cargo.toml
set -euo pipefail
cd "$(dirname "$0")/../.."

profile=${1:-release}
folder=$profile
[ "$profile" = dev ] && folder=debug
target=${CARGO_TARGET_DIR:-target}

cargo build --quiet --workspace --bin ringmain --profile "$profile"
made=$target/$folder/debian
rm -rf "$made"
mkdir -p "$made"
binary=$target/$folder/ringmain
"$binary" man "$made/man"
gzip -9n "$made"/man/*.1
gzip -9nc CHANGELOG.md >"$made/changelog.gz"
"$binary" completions bash >"$made/ringmain.bash"
"$binary" completions zsh >"$made/_ringmain"
"$binary" completions fish >"$made/ringmain.fish"
cargo deb --no-build --package ringmain --profile "$profile" --output "$made/ringmain.deb"
