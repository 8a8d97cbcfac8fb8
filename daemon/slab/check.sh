#!/usr/bin/env bash
# Runs the tests of this crate under Miri, which sees what they cannot: reads
# outside of rows, uninitialised bytes, broken aliasing. Takes about a minute.
set -euo pipefail
cd "$(dirname "$0")"

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "slab: nightly Rust with Miri is missing, so its check is left out:"
    echo "slab:   rustup toolchain install nightly --component miri,rust-src"
    exit 0
fi
# Isolation off: proptest asks for the time and the working directory. Without
# backtraces, each of which takes Miri seconds.
export RUST_BACKTRACE=0
MIRIFLAGS="${MIRIFLAGS:-} -Zmiri-disable-isolation" cargo +nightly miri test -p ringmain-slab "$@"
