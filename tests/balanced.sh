#!/usr/bin/env bash
#
# Two instances behind HAProxy and nginx, with the files of contrib/high-availability: one is killed under load. No request may fail,
# and the clients must come back to the other instance.
#
#     tests/balanced.sh [BINARY]
#
# All run in a network namespace, so that ports may be fixed. Needs root, iproute2, nginx, haproxy, openssl, curl and wrk.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly seconds=12 # of load
binary=$(find_binary "$@")
folder=$(mktemp -d "${TMPDIR:-/tmp}/retracker-balanced.XXXXXX")
prefix=rt-${folder##*.}
trap 'namespaces_down 2>/dev/null; rm -rf "$folder"' EXIT

main() {
    local obstacle
    obstacle=$(obstacle_to_namespaces nginx haproxy openssl curl wrk)
    if [[ $obstacle ]]; then
        skip "two instances behind a balancer" "$obstacle"
        summary
        return
    fi
    ip netns add "$prefix-all"
    in_node all ip link set lo up
    # An address for the clients: a client at the address of a trusted proxy is not listed.
    in_node all ip address add 10.9.9.9/32 dev lo
    start_instance first 8081
    start_instance second 8082
    start_balancer
    start_nginx
    wait_until 60 is_taken first UP || give_up "the balancer does not take the first instance"
    wait_until 60 is_taken second UP || give_up "the balancer does not take the second instance"

    if installed docker-compose; then
        is "the compose file is valid" "" "$(docker-compose -f contrib/high-availability/docker-compose.yml config -q 2>&1)"
    else
        skip "the compose file is valid" "docker-compose is not installed"
    fi

    # Torrents of both instances, with ten clients each.
    everybody_announces >/dev/null
    is "all clients of a torrent meet" "10 10 10 10" "$(everybody_announces)"

    local load
    in_node all wrk -t1 -c32 -d"$seconds" --timeout 10s -s tests/load.lua https://10.9.9.9:443 >"$folder/load.txt" &
    load=$!
    sleep $((seconds / 4))
    kill -KILL "$(<"$folder/first.pid")"
    wait_until 30 is_taken first DOWN || give_up "the balancer does not notice that an instance is gone"
    everybody_announces >/dev/null
    is "after one is killed, all clients meet at the other" "10 10 10 10" "$(everybody_announces)"
    wait "$load"
    is "no request of the load fails" "" "$(grep -E 'Non-2xx|Socket errors' "$folder/load.txt" || true)"
    like "the load is a load" 'Requests/sec: +[0-9]{3,}' "$(cat "$folder/load.txt")"

    start_instance first 8081
    if wait_until 30 is_taken first UP; then ok "an instance that is back is taken again"; else not_ok "an instance that is back is taken again"; fi
    everybody_announces >/dev/null
    is "and the clients meet again" "10 10 10 10" "$(everybody_announces)"
    summary
}

give_up() { # PROBLEM
    not_ok "two instances behind a balancer" "$1"
    tail -n 20 "$folder"/*.log
    exit 1
}

start() { # NAME COMMAND...: in the namespace
    ip netns exec "$prefix-all" "${@:2}" >>"$folder/$1.log" 2>&1 </dev/null &
    echo $! >"$folder/$1.pid"
}

start_instance() { # NAME PORT
    start "$1" "$binary" -l "127.0.0.1:$2" -i 300 --trusted-proxies 127.0.0.1 --real-ip-header X-Real-IP
    wait_until 30 in_node all curl -fsS -o /dev/null -m 1 "http://127.0.0.1:$2/health" || give_up "$1 does not start"
}

# The files with addresses of the namespace. The statistics are for this test.
start_balancer() {
    sed -e 's/first:80/127.0.0.1:8081/; s/second:80/127.0.0.1:8082/' \
        -e 's/ resolvers docker init-addr libc,none//; /^resolvers/,/nameserver/d' \
        contrib/high-availability/haproxy.cfg >"$folder/haproxy.cfg"
    printf '%s\n' 'frontend statistics' '    bind 127.0.0.1:8404' '    stats enable' '    stats uri /' >>"$folder/haproxy.cfg"
    start haproxy haproxy -db -f "$folder/haproxy.cfg"
}

start_nginx() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tracker \
        -keyout "$folder/privkey.pem" -out "$folder/fullchain.pem" 2>/dev/null
    local kind
    cat >"$folder/nginx.conf" <<CONFIG
user root;
daemon off;
worker_processes 1;
pid $folder/nginx.main;
error_log stderr;
events { worker_connections 1024; }
http {
    access_log off;
    $(for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $folder/$kind;"; done)
    $(sed "s#balancer:8080#127.0.0.1:8080#; s#/etc/nginx/#$folder/#" contrib/high-availability/nginx.conf)
}
CONFIG
    start nginx nginx -c "$folder/nginx.conf"
    wait_until 30 in_node all curl -fsk -o /dev/null -m 1 https://127.0.0.1/health || give_up "nothing answers over TLS"
}

is_taken() { # NAME UP|DOWN
    # The 18th column is the state.
    [[ $(in_node all curl -s -m 5 'http://127.0.0.1:8404/;csv' | grep "^instances,$1," | cut -d, -f18) == "$2" ]]
}

# Each client announces over TLS. Prints how many peers and clients the last reply of each torrent counts. Every second client
# writes the first byte of the hash as an escape, because clients differ in this.
everybody_announces() {
    local torrent client first reply counts=()
    for torrent in c e f g; do
        for client in 0 1 2 3 4 5 6 7 8 9; do
            ((client % 2)) && first=$(printf '%%%02x' "'$torrent") || first=$torrent
            reply=$(in_node all curl -sk -m 10 "https://10.9.9.9/announce?info_hash=${first}$(printf 'x%.0s' {1..19})&peer_id=clientclientclient0$client&port=700$client&left=1" | tr -d '\0')
        done
        [[ $reply =~ 10:incompletei([0-9]+)e ]] && counts+=("${BASH_REMATCH[1]}") || counts+=(none)
    done
    echo "${counts[*]}"
}

main
