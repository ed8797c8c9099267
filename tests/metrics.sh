#!/usr/bin/env bash
#
# Reads /metrics with the parsers of the official Python client: classic text and OpenMetrics.
#
#     tests/metrics.sh [BINARY]

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

binary=$(find_binary "$@")
folder=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null; rm -rf "$folder"' EXIT

if ! python3 -m venv "$folder/venv" 2>/dev/null || ! "$folder/venv/bin/pip" -q install prometheus-client 2>/dev/null; then
    skip "metrics in the official parsers" "the Python package prometheus-client cannot be installed"
    summary
    exit
fi

# A forwarder that refuses connections, so that there are metrics of forwarders.
printf -- '- uri: http://127.0.0.1:1/announce\n  name: "dead \\"one\\""\n' >"$folder/forwarders.yml"
"$binary" -l 127.0.0.1:0 -p -f "$folder/forwarders.yml" 2>"$folder/log" &
pid=$!
"$folder/venv/bin/python" tests/metrics.py "$folder/log"
