#!/usr/bin/env bash
#
# Hosts share blobs: eight hosts with torrent-cache and a tracker on a LAN of 100 Mbit links, and a registry behind a slower link.
#
#     tests/swarm.sh [--strict] [SCENARIO...|all]
#
# Without scenarios a short selection runs; `tests/swarm.sh names` lists all. Bytes are always checked. Limits on time and CPU are
# three times as wide unless --strict is there, which needs a machine that does nothing else.
#
# Variables: CACHE_BIN and RETRACKER_BIN, the programs; SIZE, the blob in MiB (128); CHURN, seconds of churn (60); SEED, for what is
# random; LOGS, a folder for the logs of all programs; PEER, one more program for the scenarios `peer` and `interop`, see peers() in
# tests/swarm.py.
#
# One server stands for the registry, and a queue for each host there: TCP would share a single one unevenly. Its replies begin 20 ms
# late, because not every kernel can delay packets.
#
# Needs root, iproute2 and python3; `clients` also skopeo, containerd and dockerd; `libtorrent` and `interop` also
# python3-libtorrent. `interop` is with those of aria2, Transmission, qBittorrent and rTorrent that are installed, and with PEER.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly hosts=8
# 50 ms fit into the queues, and bursts of 128 KiB into the bucket: smaller ones would cut the kernel's large packets.
readonly queue=(burst 128k latency 50ms)
folder=$(mktemp -d)
prefix=ts$$
trap cleanup EXIT
trap 'exit 130' INT TERM

main() {
    local obstacle scenarios=()
    if [[ ${1:-} == names ]]; then
        python3 tests/swarm.py names
        return
    fi
    if [[ ${1:-} == --strict ]]; then
        export STRICT=1
        shift
    fi
    scenarios=("$@")
    [[ $# -gt 0 ]] || scenarios=(cold kill-30 kill-90 warm dead tracker hostile lying-leader)
    [[ ${1:-} != all ]] || read -ra scenarios < <(python3 tests/swarm.py names)
    obstacle=$(obstacle_to_namespaces tc nsenter python3)
    if [[ $obstacle ]]; then
        skip "sharing between hosts" "$obstacle"
        summary
        return
    fi
    RETRACKER_BIN=$(find_binary)
    CACHE_BIN=${CACHE_BIN:-$(dirname "$RETRACKER_BIN")/torrent-cache}
    [[ -x $CACHE_BIN ]] || die "no such program: $CACHE_BIN; run cargo build --release -p torrent-cache"
    export RETRACKER_BIN CACHE_BIN PREFIX=$prefix FOLDER=$folder
    # What is measured is not this machine's disk.
    mount -t tmpfs -o size=80% tmpfs "$folder"
    network_up
    note "links of 100 Mbit, TCP's congestion control is $(in_node hub cat /proc/sys/net/ipv4/tcp_congestion_control)," \
        "load of this machine $(cut -d' ' -f1 /proc/loadavg)"
    for scenario in "${scenarios[@]}"; do
        obstacle=$(obstacle_to "$scenario")
        if [[ $obstacle ]]; then skip "$scenario" "$obstacle"; else verdicts "$scenario"; fi
    done
    summary
}

obstacle_to() { # SCENARIO
    case $1 in
        clients) obstacle_of skopeo containerd ctr dockerd docker ;;
        libtorrent* | interop) /usr/bin/python3 -c 'import libtorrent' 2>/dev/null || echo "python3-libtorrent is not installed" ;;
        peer) [[ ${PEER:-} ]] || echo "PEER names no program" ;;
    esac
}

verdicts() { # SCENARIO: passes on what tests/swarm.py finds
    local title problem
    while IFS=$'\t' read -r title problem; do
        if [[ $title == '#'* ]]; then echo "$title"; else verdict "$title" "$problem"; fi
    done < <(PYTHONDONTWRITEBYTECODE=1 python3 tests/swarm.py "$1" 2>"$folder/errors" || printf '%s\t%s\n' "$1 ends" "it failed")
    cat "$folder/errors" >&2
}

# --- The network ------------------------------------------------------------------------------------------------------

# A bridge for the LAN, and a router to the registry.
network_up() {
    local number
    namespace_up hub
    in_node hub sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip -n "$prefix-hub" link add name lan type bridge
    ip -n "$prefix-hub" address add 10.83.0.1/24 dev lan
    ip -n "$prefix-hub" link set dev lan up
    for ((number = 1; number <= hosts; number++)); do
        plug_in "h$number" "10.83.0.$((10 + number))"
        in_node "h$number" tc qdisc add dev eth0 root tbf rate 100mbit "${queue[@]}"
        in_node hub tc qdisc add dev "h$number" root tbf rate 100mbit "${queue[@]}"
    done
    plug_in tracker 10.83.0.2

    namespace_up registry
    ip -n "$prefix-hub" link add name wan type veth peer name eth0 netns "$prefix-registry"
    ip -n "$prefix-hub" address add 10.84.0.1/24 dev wan
    ip -n "$prefix-hub" link set dev wan up
    ip -n "$prefix-registry" address add 10.84.0.2/24 dev eth0
    ip -n "$prefix-registry" link set dev eth0 up
    ip -n "$prefix-registry" route add default via 10.84.0.1
}

namespace_up() { # NODE
    ip netns add "$prefix-$1"
    ip -n "$prefix-$1" link set lo up
}

plug_in() { # NODE ADDRESS
    namespace_up "$1"
    ip -n "$prefix-hub" link add name "$1" type veth peer name eth0 netns "$prefix-$1"
    ip -n "$prefix-hub" link set dev "$1" master lan up
    ip -n "$prefix-$1" address add "$2/24" dev eth0
    ip -n "$prefix-$1" link set dev eth0 up
    ip -n "$prefix-$1" route add default via 10.83.0.1
}

cleanup() {
    set +e
    namespaces_down 2>/dev/null
    [[ -z ${LOGS:-} ]] || { mkdir -p "$LOGS" && cp "$folder"/*.log "$LOGS"; }
    awk -v under="$folder" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount "$mount" || umount -l "$mount"
    done
    rm -rf --one-file-system "$folder"
}

main "$@"
