#!/usr/bin/env bash
#
# Load: wrk with 64 connections over 10 000 swarms. No error, no memory that grows once the swarms are filled, and a
# healthy process afterwards.
#
#     tests/load.sh [SECONDS [BINARY]]      10 seconds unless told

set -euo pipefail
cd "$(dirname "$0")/.."

readonly seconds=${1:-10}
readonly binary=${2:-${RETRACKER_BIN:-target/release/retracker}}
# Growth that is noise: buffers of connections and of the allocator.
readonly allowed_growth_kib=4096

if ! command -v wrk >/dev/null; then
    echo "skipped - load, because wrk is not installed"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

folder=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT

main() {
    "$binary" -l 127.0.0.1:0 -p 2>"$folder/log" &
    pid=$!
    wait_for "grep -q 'listening on' '$folder/log'"
    local base swarms_are_full=0
    base=http://$(sed -n 's/.*listening on //p' "$folder/log")

    # Every swarm gets all of its peers before memory is read for the first time, however long that takes.
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

    local passed=0 failed=0
    check "no announce failed" "! grep -qE 'Socket errors|Non-2xx|refused: [1-9]' '$folder/wrk'"
    check "every reply was a bencoded dictionary with peers" "grep -q 'without peers: 0$' '$folder/wrk'"
    check "memory does not grow" "(( after - before <= allowed_growth_kib ))"
    check "the process is healthy" "[[ \$(curl -s '$base/health') == ok ]]"
    kill "$pid"
    check "it stops with exit code 0" "wait $pid"
    pid=
    check "it logged nothing of a panic or an error" "! grep -qiE 'panic|error' '$folder/log'"
    echo "$passed passed, $failed failed"
    ((failed == 0))
}

check() {
    if eval "$2"; then
        echo "ok - $1"
        ((++passed))
    else
        echo "not ok - $1"
        ((++failed))
    fi
}

peers() { # BASE-URL
    curl -sS "$1/metrics" | awk '/^retracker_peers\{/ { sum += $2 } END { print sum + 0 }'
}

resident() {
    awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"
}

wait_for() {
    local deadline=$((SECONDS + 60))
    until eval "$1"; do
        ((SECONDS < deadline)) || { echo "not ok - waited 60 s for: $1"; exit 1; }
        sleep 0.05
    done
}

main
