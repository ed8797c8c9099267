#!/usr/bin/env bash
#
# Builds the Debian package and prints its path.
#
#     contrib/debian/build.sh
#
# Needs Rust, a C compiler, dpkg-dev and cargo-deb (`cargo install --locked cargo-deb`). What the package holds is in
# Cargo.toml, under [package.metadata.deb].

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly target=${CARGO_TARGET_DIR:-target}
# Cargo.toml names this folder.
readonly files=target/packaging

main() {
    need cargo-deb "cargo install --locked cargo-deb"
    need dpkg-shlibdeps "apt install dpkg-dev"
    cargo build --locked --release >&2

    # The time of the commit, so that one commit gives one package. It is set after the build, because with another
    # environment cargo compiles C libraries again.
    : "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null || date +%s)}"
    export SOURCE_DATE_EPOCH
    rm -rf "$files"
    contrib/release/generate.sh "$target/release/retracker" "$files"
    gzip -9n "$files/retracker.1"
    gzip -9nc CHANGELOG.md > "$files/changelog.gz"
    debian_changelog | gzip -9n > "$files/changelog.Debian.gz"
    unit > "$files/retracker.service"
    cargo deb --quiet --locked --no-build
}

need() { # PROGRAM COMMAND
    if ! command -v "$1" > /dev/null; then
        echo "$1 is not installed. This installs it: $2" >&2
        exit 1
    fi
}

# contrib/retracker.service with the paths of the package.
unit() {
    sed -e '1c# Settings are in /etc/default/retracker. To change this file: systemctl edit retracker' \
        -e 's|/usr/local/bin/|/usr/bin/|' \
        -e 's|/etc/retracker\.env|/etc/default/retracker|' \
        -e '/^Description=/aDocumentation=man:retracker(1)' \
        contrib/retracker.service
}

debian_changelog() {
    local version maintainer
    version=$(sed -n '/^\[package\]$/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
    maintainer=$(sed -n '/^\[package.metadata.deb\]$/,/^$/s/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
    printf 'retracker (%s-1) stable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' \
        "$version" "$maintainer" "$(LC_ALL=C date --utc -R -d "@$SOURCE_DATE_EPOCH")"
}

main
