#!/usr/bin/env bash
# Counts the instructions of the hot paths under callgrind and compares them
# with those that are kept in baseline/. More than 3 % away from them, either
# way, fails with the figures.
#
#   bench/counts/check.sh            compare
#   bench/counts/check.sh --update   keep what was counted, after a change that
#                                    is meant
#
# Counts depend on the compiler and on the C library (copying and searching), so
# a baseline is for both; where there is none, the counts are shown and nothing
# fails. Needs valgrind and python3.
set -euo pipefail
cd "$(dirname "$0")"

command -v valgrind >/dev/null || { echo "counts: skipped, there is no valgrind"; exit 0; }
target="${CARGO_TARGET_DIR:-$PWD/../../target}"
version="$(sed -n '/^name = "gungraun-runner"$/{n;s/version = "\(.*\)"/\1/p}' ../../Cargo.lock)"
runner="$target/tools/bin/gungraun-runner"
if ! "$runner" --version 2>/dev/null | grep -q "$version"; then
    # It parses and prints; an optimised build would take longer than all runs.
    cargo install --quiet --debug --locked --root "$target/tools" gungraun-runner --version "$version"
fi
rustc="$(rustc --version | cut -d' ' -f2)"
libc="$(getconf GNU_LIBC_VERSION | tr -d ' ')"
baseline="baseline/rustc$rustc-$libc.txt"
out="$target/counts.json"
GUNGRAUN_RUNNER="$runner" cargo --config profile.toml \
    bench --quiet --profile dev -p ringmain-counts -- --output-format=json >"$out"
python3 compare.py "$out" "$baseline" "${1:-}"
