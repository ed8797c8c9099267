#!/usr/bin/env bash
#
# Writes the files that packages hold beside the program and that the program itself prints: the manual page and the
# completions for bash, zsh and fish.
#
#     contrib/release/generate.sh BINARY FOLDER

set -euo pipefail

main() {
    local binary=$1 folder=$2
    mkdir -p "$folder/completions"
    "$binary" man > "$folder/retracker.1"
    # Each shell looks for the file under this name.
    "$binary" completions bash > "$folder/completions/retracker.bash"
    "$binary" completions zsh > "$folder/completions/_retracker"
    "$binary" completions fish > "$folder/completions/retracker.fish"
}

main "$@"
