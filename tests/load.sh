#!/usr/bin/env bash
#
# Load: wrk with 64 connections over 10,000 swarms. There must be no error, memory must not grow once the swarms are filled, and
# the process must be healthy afterwards.
#
#     tests/load.sh [SECONDS [BINARY]]      10 seconds by default

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly seconds=${1:-10}
binary=$(find_binary ${2:+"$2"})
# Less growth than this is noise: buffers of connections and of the allocator.
readonly allowed_growth_kib=4096

if ! installed wrk; then
    skip "load" "wrk is not installed"
    summary
    exit
fi

folder=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT

main() {
    "$binary" -l 127.0.0.1:0 -p 2>"$folder/log" &
    pid=$!
    wait_until 60 grep -q 'listening on' "$folder/log"
    local base swarms_are_full=0
    base=http://$(sed -n 's/.*listening on //p' "$folder/log")

    # Every swarm must have all of its peers before memory is read for the first time.
    until ((swarms_are_full)); do
        wrk -t1 -c64 -d"$((seconds / 4 + 5))" --timeout 30s -s tests/load.lua "$base" >/dev/null
        swarms_are_full=$(($(peers "$base") >= 50000))
        ((SECONDS < 300)) || { echo "not ok - the swarms have $(peers "$base") peers after 300 s"; exit 1; }
    done
    local before after
    before=$(resident)
    wrk -t1 -c64 -d"$seconds" --timeout 30s -s tests/load.lua "$base" | tee "$folder/wrk"
    after=$(resident)
    echo "resident memory: $before KiB before, $after KiB after"

    check "no announce failed" "! grep -qE 'Socket errors|Non-2xx|refused: [1-9]' '$folder/wrk'"
    check "every reply was a bencoded dictionary with peers" "grep -q 'without peers: 0$' '$folder/wrk'"
    check "memory does not grow" "(( after - before <= allowed_growth_kib ))"
    check "the process is healthy" "[[ \$(curl -s '$base/health') == ok ]]"
    kill "$pid"
    check "it stops with exit code 0" "wait $pid"
    pid=
    check "its log has no panic and no error" "! grep -qiE 'panic|error' '$folder/log'"
    summary
}

check() { # TITLE EXPRESSION
    if eval "$2"; then ok "$1"; else not_ok "$1"; fi
}

peers() { # BASE-URL
    curl -sS "$1/metrics" | awk '/^retracker_peers\{/ { sum += $2 } END { print sum + 0 }'
}

resident() {
    awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"
}

main
