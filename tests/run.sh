#!/usr/bin/env bash
#
# Runs all tests: the README's test command.
#
#     tests/run.sh
#
# `cargo test` needs nothing but Rust. The others need real BitTorrent clients, container clients, npm, nginx, wrk, Docker and
# cargo-deb: on Debian, as root, this script installs them. Elsewhere it uses what is installed and names the tests that it skips.

set -euo pipefail
cd "$(dirname "$0")/.."

# The programs that the tests run, and their Debian packages. Debian has no cargo-deb; cargo installs it.
readonly programs=(curl mktorrent ip aria2c transmission-daemon qbittorrent-nox rtorrent deluged deluge-console
    npm nginx haproxy wrk iptables openssl dockerd docker-compose debootstrap dnsmasq unbound-checkconf
    named-checkzone promtool dpkg-shlibdeps systemd-nspawn chromium chromedriver cargo-deb
    docker-registry skopeo podman umoci containerd ostree htpasswd tc nsenter redis-server redis-sentinel redis-cli)
packages=(curl mktorrent iproute2 aria2 transmission-daemon transmission-cli qbittorrent-nox rtorrent deluged
    deluge-console nginx-light libnginx-mod-stream haproxy wrk docker.io docker-compose debootstrap iptables procps
    python3-venv dnsmasq-base unbound bind9-utils prometheus openssl dpkg-dev systemd-container
    chromium chromium-driver docker-registry skopeo podman umoci containerd ostree apache2-utils
    util-linux python3-libtorrent redis-server redis-sentinel)
# Node.js and npm are not added if npm is there already, as with a Node.js that is not Debian's.
command -v npm >/dev/null || packages+=(nodejs npm)
readonly packages

main() {
    install_programs

    step "cargo test" cargo test --locked --quiet
    step "release build" cargo build --locked --release --quiet
    step "metrics in the official parsers, alerts and dashboard" tests/metrics.sh
    step "dashboard in a browser" tests/browser.sh
    step "load" tests/load.sh
    step "networks" tests/networks.sh
    step "real clients" tests/clients.sh
    step "torrent-cache with container clients and OSTree" tests/torrent-cache.sh
    step "hosts that share blobs" tests/swarm.sh
    step "two instances behind a balancer" tests/balanced.sh
    step "instances that share their swarms" tests/sharing.sh
    step "Debian package" tests/package.sh
    step "Docker" tests/docker.sh

    echo "All tests passed."
}

step() {
    local start=$SECONDS
    echo "== $1"
    "${@:2}"
    echo "== $1: $((SECONDS - start)) s"
}

install_programs() {
    local missing
    missing=$(missing_programs)
    [[ $missing ]] || return 0
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "== installing what the tests need"
        apt-get -qq update
        # The run level keeps Debian from starting services on the host: every test starts its own.
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${packages[@]}" \
            >/dev/null
        command -v cargo-deb >/dev/null || cargo install --quiet --locked cargo-deb
    else
        echo "not installed; the tests that need it are skipped: $missing"
    fi
}

missing_programs() {
    local program missing=()
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    echo "${missing[*]}"
}

main "$@"
