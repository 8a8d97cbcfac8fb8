#!/usr/bin/env bash
# Proves the ring's orderings: loom tries every interleaving of the real code,
# Miri runs the tests and looks for undefined behaviour and data races. Then
# each ordering is broken in turn (RINGMAIN_SEEDED, see src/sync.rs), and the
# test that stands for it must fail, for the expected reason.
#
# Takes about two minutes on two cores. Miri is skipped where it is not
# installed: rustup component add --toolchain nightly miri rust-src
set -euo pipefail
cd "$(dirname "$0")"

# Builds of its own: other flags must not throw away the workspace's.
target="${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target}/ring-check"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

loom_test() {
    CARGO_TARGET_DIR="$target" RUSTFLAGS="--cfg loom" RUST_BACKTRACE=0 \
        cargo test --quiet --package ringmain-ring --release --test loom -- "$@"
}

miri_test() {
    CARGO_TARGET_DIR="$target" MIRIFLAGS="-Zmiri-env-forward=RINGMAIN_SEEDED" RUST_BACKTRACE=0 \
        cargo +nightly miri test --quiet --package ringmain-ring "$@"
}

fail() {
    tail -n 40 "$log" | cut -c1-300
    echo "ring check: $1" >&2
    exit 1
}

# must_pass WHAT COMMAND...
must_pass() {
    local what="$1"
    shift
    "$@" >"$log" 2>&1 || fail "$what does not pass"
    echo "ring check: $what passes"
}

# must_fail SEED REASON COMMAND...
must_fail() {
    local seed="$1" reason="$2"
    shift 2
    if RINGMAIN_SEEDED="$seed" "$@" >"$log" 2>&1; then
        fail "'$seed' is broken and $* does not notice"
    fi
    grep -q "$reason" "$log" || fail "'$seed' is broken and $* fails, but without '$reason'"
    echo "ring check: ${1%_test} notices that '$seed' is broken"
}

must_pass "loom" loom_test
must_fail publish "Causality violation" loom_test items_arrive_whole
must_fail retire "Causality violation" loom_test room_of_a_drain
must_fail close "finished, and an item is missing" loom_test closing_is_seen
must_fail ack "Causality violation" loom_test an_ack_shows
must_fail bell "deadlock" loom_test a_sleeper_that_looked

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "ring check: SKIPPED Miri, 'cargo +nightly miri' is not installed"
    exit 0
fi
must_pass "Miri" miri_test
must_fail publish "Data race detected" miri_test --test threads every_item_arrives
must_fail retire "Data race detected" miri_test --test threads every_item_arrives
