#!/usr/bin/env bash
#
# Looks at the pages with a real browser: Chromium, driven over WebDriver.
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

python3 tests/browser.py "$binary" "$folder" >"$folder/checks" 2>"$folder/errors" || cat "$folder/errors"
while read -r line; do
    case $line in
        "ok - "*) ok "${line#ok - }" ;;
        *) not_ok "${line#not ok - }" ;;
    esac
done <"$folder/checks"
is "all checks were made" 64 "$((passed + failed))"
summary
