#!/usr/bin/env bash
#
# Has Prometheus' own tool test the alert rules and the dashboard's queries, and reads /metrics with the parsers of the
# official Python client: classic text and OpenMetrics.
#
#     tests/metrics.sh [BINARY]

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

binary=$(find_binary "$@")
make_folder

# Prints what promtool says if it finds something wrong.
problem_of() { # ARGUMENTS of promtool
    promtool "$@" >"$folder/said" 2>&1 || cat "$folder/said"
}

obstacle=$(obstacle_of promtool python3)
if [[ $obstacle ]]; then
    skip "alert rules and dashboard" "$obstacle"
else
    python3 tests/dashboard.py contrib/grafana/retracker.json >"$folder/dashboard.yml"
    verdict "the alert rules are valid" "$(problem_of check rules contrib/grafana/alerts.yml)"
    verdict "alerts come when they should, and only then" "$(problem_of test rules tests/alerts_test.yml)"
    verdict "the queries of the dashboard are valid" "$(problem_of check rules "$folder/dashboard.yml")"
fi

if ! python3 -m venv "$folder/venv" 2>/dev/null || ! "$folder/venv/bin/pip" -q install prometheus-client 2>/dev/null; then
    skip "metrics in the official parsers" "the Python package prometheus-client cannot be installed"
    summary
    exit
fi

# A forwarder that refuses connections, so that there are metrics of forwarders.
printf -- '- uri: http://127.0.0.1:1/announce\n  name: "dead \\"one\\""\n' >"$folder/forwarders.yml"
"$binary" -l 127.0.0.1:0 -p -f "$folder/forwarders.yml" 2>"$folder/log" &
pid=$!
# It prints its verdicts itself.
if "$folder/venv/bin/python" tests/metrics.py "$folder/log"; then
    ((passed += 2))
else
    ((++failed))
fi
summary
