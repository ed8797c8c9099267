#!/usr/bin/env bash
#
# Looks at the dashboard with a real browser: Chromium, driven over WebDriver.
#
#     tests/browser.sh [BINARY]

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

binary=$(find_binary "$@")
make_folder

obstacle=$(obstacle_of chromium chromedriver python3)
if [[ $obstacle ]]; then
    skip "the dashboard in a browser" "$obstacle"
    summary
    exit
fi

# A port that is free now, for the upstream tracker, which must be stopped and started at the same port.
upstream_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf -- "- {name: '<b>up</b>', uri: 'http://127.0.0.1:%s/announce'}\n" "$upstream_port" >"$folder/forwarders.yml"
"$binary" -l 127.0.0.1:0 -p -x -t 1 -f "$folder/forwarders.yml" 2>"$folder/log" &
pid=$!
wait_until 30 grep -q "listening on" "$folder/log"
address=$(sed -n 's/.*listening on //p' "$folder/log")

python3 tests/browser.py "http://$address" "$upstream_port" >"$folder/checks" 2>"$folder/errors" || cat "$folder/errors"
while read -r line; do
    case $line in
        "ok - "*) ok "${line#ok - }" ;;
        *) not_ok "${line#not ok - }" ;;
    esac
done <"$folder/checks"
is "all checks were made" 15 "$((passed + failed))"
summary
