#!/usr/bin/env bash
#
# Two machines with keepalived, as in docs/high-availability.md: the address of the tracker moves when the instance there is killed,
# and when its machine is off. Clients over UDP and HTTP notice nothing.
#
#     tests/keepalived.sh [BINARY]
#
# Each machine is a network namespace. Needs root, iproute2, keepalived, redis-server, curl and python3.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly address=192.168.1.10 # that of contrib/high-availability/keepalived.conf
binary=$(find_binary "$@")
folder=$(mktemp -d "${TMPDIR:-/tmp}/retracker-keepalived.XXXXXX")
prefix=rt-${folder##*.}
trap 'namespaces_down 2>/dev/null; rm -rf "$folder"' EXIT

main() {
    local obstacle primary secondary
    obstacle=$(obstacle_to_namespaces keepalived redis-server curl python3)
    if [[ $obstacle ]]; then
        skip "an address that moves" "$obstacle"
        summary
        return
    fi
    hub_up
    node_up redis 192.168.1.5/24
    node_up one 192.168.1.11/24
    node_up two 192.168.1.12/24
    node_up client 192.168.1.21/24
    node_up seed 192.168.1.22/24
    start redis redis redis-server --save "" --protected-mode no --dir "$folder"
    for machine in one two; do
        start_instance "$machine"
        start_keepalived "$machine"
    done
    wait_until 60 has_address one two || give_up "no machine has the address"
    if has_address one; then primary=one secondary=two; else primary=two secondary=one; fi

    announce_udp seed 7001 >/dev/null
    is "clients over UDP meet at the address" 192.168.1.22:7001 "$(announce_udp client 7002)"
    is "a client over HTTP gets both" 12 "$(announce_http)"

    crash "$(<"$folder/$primary.pid")"
    is "when the instance is killed, the address moves" yes "$(within 60 has_address "$secondary")"
    is "no other machine has it" no "$(within 0 has_address "$primary")"
    is "a client over UDP gets its peers with the connection id that it has" 192.168.1.22:7001 "$(announce_udp client 7002)"
    is "a client over HTTP gets both again" 12 "$(announce_http)"

    start_instance "$primary"
    is "the machine is ready again" yes "$(within 60 is_secondary "$primary")"
    is "the address stays" yes "$(within 0 has_address "$secondary")"

    ip -n "$prefix-hub" link set "$secondary" down
    is "when the machine is off, the address moves back" yes "$(within 60 has_address "$primary")"
    is "the connection id is still good" 192.168.1.22:7001 "$(announce_udp client 7002)"
    is "keepalived understands its file" "" "$(grep -hiE 'unknown|invalid|not valid|error|security' "$folder"/keepalived-*.log || true)"
    summary
}

give_up() { # PROBLEM
    not_ok "an address that moves" "$1"
    tail -n 20 "$folder"/*.log
    exit 1
}

within() { # SECONDS COMMAND...
    if wait_until "$@"; then echo yes; else echo no; fi
}

start() { # NODE NAME COMMAND...
    ip netns exec "$prefix-$1" "${@:3}" >>"$folder/$2.log" 2>&1 </dev/null &
    echo $! >"$folder/$2.pid"
}

start_instance() { # MACHINE
    start "$1" "$1" "$binary" -l :80 -u :6969 -i 300 --share redis://192.168.1.5
    wait_until 30 in_node "$1" curl -fsS -o /dev/null -m 1 http://127.0.0.1/ready || give_up "$1 is not ready"
}

start_keepalived() { # MACHINE
    start "$1" "keepalived-$1" keepalived --use-file="$PWD/contrib/high-availability/keepalived.conf" --vrrp --dont-fork \
        --log-console --no-syslog --pid="$folder/keepalived-$1.main" --vrrp_pid="$folder/keepalived-$1.vrrp"
}

has_address() { # MACHINE...: one of them has it
    local machine
    for machine in "$@"; do
        [[ $(ip -n "$prefix-$machine" -4 address show dev eth0) != *" $address/"* ]] || return 0
    done
    return 1
}

# Whether keepalived would take the address now.
is_secondary() { # MACHINE
    [[ $(grep -o 'Entering [A-Z]* STATE' "$folder/keepalived-$1.log" | tail -n 1) == "Entering BACKUP STATE" ]]
}

announce_udp() { # NODE PORT: prints the peers in the reply
    in_node "$1" python3 tests/peer.py udp "$address" 6969 tttttttttttttttttttt "peer-with-port--$2" "$2" "$folder/id-$1" |
        python3 tests/peer.py show | sed 's/^ *peers=//'
}

announce_http() { # prints the bytes of the peers in the reply
    in_node client curl -sS -m 10 "http://$address/announce?info_hash=tttttttttttttttttttt&peer_id=observerobserverobse&left=1" |
        grep -aoE '5:peers[0-9]+' | grep -oE '[0-9]+$'
}

main
