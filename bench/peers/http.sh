#!/bin/sh
# Messages per second into Ringmain and Fluent Bit over HTTP, as wrk sees it:
# JSON arrays, 16 connections that stay, each system on the first core and wrk
# on the second, in turn, into nothing. What a system says that it has taken is
# compared with what wrk was answered for.
#
#   bench/peers/http.sh [rounds] [seconds]
#
# Needs wrk, curl, jq and python3; RINGMAIN (target/release/ringmain) and
# FLUENT_BIT (fluent-bit on PATH) are the programs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
rounds=${1:-3}
seconds=${2:-3}
ringmain=${RINGMAIN:-$here/../../target/release/ringmain}
fluent_bit=${FLUENT_BIT:-fluent-bit}
dir=$(mktemp -d)
trap 'kill "${pid:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits until somebody listens.
listens() {
  for _ in $(seq 100); do
    if curl -s -o /dev/null "http://127.0.0.1:$1/"; then return; fi
    sleep 0.1
  done
  echo "nobody listens on port $1" >&2
  exit 1
}

cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

start_ringmain() {
  cat >"$dir/flow.toml" <<EOF
name = "http"
[sources.in]
type = "http"
listen = "127.0.0.1:$port"
decode = "json"
[sinks.out]
type = "blackhole"
inputs = ["in"]
EOF
  printf '[shards]\ncores = "0"\n' >"$dir/daemon.toml"
  taskset -c 0 "$ringmain" run -c "$dir/daemon.toml" "$dir/flow.toml" \
    --summary-json "$dir/summary.json" >/dev/null 2>"$dir/log" &
  pid=$!
}

taken_ringmain() {
  kill -TERM "$pid"
  wait "$pid"
  jq '.components.in.out' "$dir/summary.json"
}

start_fluent_bit() {
  status=$(free_port)
  cat >"$dir/fluent-bit.yaml" <<EOF
service:
  flush: 0.2
  grace: 5
  log_level: warn
  http_server: on
  http_listen: 127.0.0.1
  http_port: $status
pipeline:
  inputs:
    - name: http
      listen: 127.0.0.1
      port: $port
      buffer_max_size: 8M
  outputs:
    - name: "null"
      match: "*"
EOF
  taskset -c 0 "$fluent_bit" -c "$dir/fluent-bit.yaml" >/dev/null 2>"$dir/log" &
  pid=$!
}

taken_fluent_bit() {
  sleep 1
  curl -s "http://127.0.0.1:$status/api/v1/metrics" | jq '[.input[].records] | add'
  kill -TERM "$pid"
  wait "$pid" || true
}

# System, batch.
measure() {
  port=$(free_port)
  "start_$1"
  listens "$port"
  before=$(cpu_ticks "$pid")
  BATCH=$2 taskset -c 1 wrk -t1 -c16 -d"${seconds}s" -s "$here/http.lua" \
    "http://127.0.0.1:$port/" >/dev/null 2>"$dir/wrk"
  after=$(cpu_ticks "$pid")
  "taken_$1" >"$dir/taken"
  python3 - "$1" "$2" "$(tail -1 "$dir/wrk")" "$(cat "$dir/taken")" $((after - before)) "$(getconf CLK_TCK)" <<'EOF'
import sys
name, batch, said, taken, ticks, per_s = sys.argv[1:]
requests, us, wrong = map(int, said.split())
batch, taken = int(batch), int(taken)
# Those that were under way at the end, and the look whether somebody listens.
least, most = requests * batch, (requests + 16) * batch + 1
state = "ok" if wrong == 0 and least <= taken <= most else f"WRONG: {wrong} refused, {taken} taken, {least} answered"
cpu_us = int(ticks) / int(per_s) * 1e6 / max(taken, 1)
print(f"{name:12} {batch:5} a request  {requests * 1e6 / us:10.0f} requests/s  "
      f"{least / us:8.4f} M msg/s  {cpu_us:7.3f} us CPU/msg  {state}", flush=True)
EOF
}

for batch in 1 10 100 1000; do
  for _ in $(seq "$rounds"); do
    measure ringmain "$batch"
    measure fluent_bit "$batch"
  done
done
