#!/usr/bin/env bash
#
# /metrics in the parsers of the official Python client, classic text and OpenMetrics.
#
#     tests/metrics.sh [BINARY]

set -euo pipefail
cd "$(dirname "$0")/.."

readonly binary=${1:-${RETRACKER_BIN:-target/release/retracker}}
folder=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null; rm -rf "$folder"' EXIT

if ! python3 -m venv "$folder/venv" 2>/dev/null || ! "$folder/venv/bin/pip" -q install prometheus-client 2>/dev/null; then
    echo "skipped - metrics in the official parsers, because the Python package prometheus-client cannot be installed"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

# A forwarder that refuses connections, so that its metrics are there too.
printf -- '- uri: http://127.0.0.1:1/announce\n  name: "dead \\"one\\""\n' >"$folder/forwarders.yml"
"$binary" -l 127.0.0.1:0 -p -f "$folder/forwarders.yml" 2>"$folder/log" &
pid=$!
"$folder/venv/bin/python" tests/metrics.py "$folder/log"
