#!/usr/bin/env bash
#
# The files of contrib/high-availability: instances with one swarm behind HAProxy and nginx, two servers with three Sentinels. Under
# load, the primary server is killed, then an instance, and then three instances are restarted in turn. No request may fail, and no
# reply may lack a peer.
#
#     tests/balanced.sh [BINARY]
#
# Each service of docker-compose.yml is a network namespace with its address there. Needs root, iproute2, nginx, haproxy,
# redis-server, redis-sentinel, openssl, curl and wrk.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly files=contrib/high-availability
readonly tracker=https://10.9.9.1
binary=$(find_binary "$@")
folder=$(mktemp -d "${TMPDIR:-/tmp}/retracker-balanced.XXXXXX")
prefix=rt-${folder##*.}
trap 'namespaces_down 2>/dev/null; rm -rf "$folder"' EXIT

main() {
    local obstacle
    obstacle=$(obstacle_to_namespaces nginx haproxy redis-server redis-sentinel openssl curl wrk)
    if [[ $obstacle ]]; then
        skip "instances behind a balancer" "$obstacle"
        summary
        return
    fi
    all_up
    if installed docker-compose; then
        is "the compose file is valid" "" "$(docker-compose -f contrib/high-availability/docker-compose.yml config -q 2>&1)"
    else
        skip "the compose file is valid" "docker-compose is not installed"
    fi
    local asked
    asked=$(everybody_announces)
    like "the clients of a torrent have one instance" '^(first|second)( (first|second)){3}$' "$asked"
    is "each instance has torrents" 2 "$(tr ' ' '\n' <<<"$asked" | sort -u | wc -l)"
    is "all clients of a torrent meet" "10 10 10 10" "$(peers_via "$tracker")"

    test_primary_dies
    test_instance_dies
    test_rolling_restart
    # This takes Sentinel ten seconds.
    if wait_until 60 is_replica valkey1; then ok "the old primary server is a replica"; else
        not_ok "the old primary server is a replica"
    fi
    summary
}

# --- What may happen --------------------------------------------------------------------------------------------------

test_primary_dies() {
    local before during
    load_begins undisturbed
    sleep 3
    load_ends undisturbed
    load_begins primary-dies
    crash "$(<"$folder/valkey1.pid")"
    wait_until 60 is_primary valkey2 || give_up "no other server becomes the primary"
    for instance in first second; do
        wait_until 60 is_together "$instance" || give_up "$instance stays alone"
    done
    load_ends primary-dies
    before=$(slowest undisturbed) during=$(slowest primary-dies)
    note "the slowest announce takes $before ms undisturbed, $during ms while the primary server dies and another one takes over"
    if ((during <= 50 || during <= before)); then ok "no announce waits for the server"; else
        not_ok "no announce waits for the server" "$during ms"
    fi
    # As Docker would do. It begins as a primary without a peer.
    start_server valkey1
    announce h 0
    for instance in first second; do
        if wait_until 30 knows_the_late_peer "$instance"; then ok "$instance knows who came after the failover"; else
            not_ok "$instance knows who came after the failover"
        fi
    done
}

test_instance_dies() {
    for instance in first second; do
        is "$instance knows all peers" "10 10 10 10" "$(peers_via "http://$(address_of "$instance")")"
    done
    load_begins instance-dies
    crash "$(<"$folder/first.pid")"
    is "the next replies have all peers that announced to the dead instance" "10 10 10 10" "$(peers_via "$tracker")"
    wait_until 30 is_taken first DOWN || give_up "the balancer does not notice that an instance is gone"
    start_instance first
    if wait_until 30 is_taken first UP; then ok "an instance that is back is taken again"; else
        not_ok "an instance that is back is taken again"
    fi
    is "and it knows all peers" "10 10 10 10" "$(peers_via "http://$(address_of first)")"
    load_ends instance-dies
}

test_rolling_restart() {
    local instance
    node_up third 10.88.77.13/24
    start_instance third
    stop "$(<"$folder/haproxy.pid")"
    sed '/server second/a server third 10.88.77.13:80' "$files/haproxy.cfg" >"$folder/haproxy.cfg"
    start_balancer "$folder/haproxy.cfg"
    for instance in first second third; do
        wait_until 30 is_taken "$instance" UP || give_up "the balancer does not take $instance"
    done

    load_begins rolling-restart
    # One client asks for all torrents in turn, on one connection.
    start client replies curl -sk -w ' status %{http_code}\n' "$(announce_url '{c,e,f,g}' observerobserverobse)&round=[1-1000000]"
    for instance in first second third; do
        stop "$(<"$folder/$instance.pid")"
        start_instance "$instance"
        wait_until 30 is_taken "$instance" UP || give_up "the balancer does not take $instance again"
    done
    stop "$(<"$folder/replies.pid")"
    load_ends rolling-restart
    is "no reply lacks a peer while three instances are restarted in turn" "5:peers60: status 200" \
        "$(echo $(grep -aoE '5:peers[0-9]+:|status [0-9]+$' "$folder/replies.log" | sort -u))"
    like "the replies are many" '^[0-9]{3,}$' "$(grep -ac 'status 200$' "$folder/replies.log")"
}

# --- Clients ----------------------------------------------------------------------------------------------------------

# Starts the load of tests/load.lua, in which each connection pauses: it is for the failures, and not for the machine.
load_begins() { # NAME
    local requests
    requests=$(requests_so_far)
    start client "load-$1" wrk -t1 -c8 -d300 --timeout 10s -s tests/load.lua "$tracker:443" -- 10
    wait_until 60 has_load "$requests" || give_up "the load does not begin"
}

has_load() { # REQUESTS before it
    (($(requests_so_far) >= $1 + 300))
}

requests_so_far() {
    # The 49th column is the number of requests.
    statistics | grep '^announces,FRONTEND,' | cut -d, -f49
}

load_ends() { # NAME
    local log=$folder/load-$1.log pid
    pid=$(<"$folder/load-$1.pid")
    # wrk prints its figures.
    kill -INT "$pid"
    wait "$pid" || true
    is "no request fails, $1" "" "$(grep -E 'Non-2xx|Socket errors|refused: [1-9]' "$log" || true)"
    like "the load is a load" 'Requests/sec: +[0-9]{3,}' "$(cat "$log")"
    note "the slowest announce: $(slowest "$1") ms"
}

slowest() { # NAME: in milliseconds
    awk '$1 == "Latency" { print $4 }' "$folder/load-$1.log" | sed 's/us$/ 0.001/; s/ms$/ 1/; s/\([0-9]\)s$/\1 1000/' |
        awk '{ print int($1 * $2 + 0.5) }'
}

# Ten clients announce each torrent over TLS. Every second client writes the first byte of the hash as an escape, because clients
# differ in this. Prints which instance each torrent has.
everybody_announces() {
    local torrent client before
    echo $(for torrent in c e f g; do
        before=$(sessions)
        for client in 0 1 2 3 4 5 6 7 8 9; do announce "$torrent" "$client"; done
        # The lines that have changed.
        sessions | grep -vxF "$before" | cut -d, -f1 | paste -sd+
    done)
}

# Prints how many requests each instance has got from the balancer.
sessions() {
    statistics | grep -E '^instances,(first|second),' | cut -d, -f2,8
}

announce() { # TORRENT CLIENT
    local first=$1
    ((!($2 % 2))) || first=$(printf '%%%02x' "'$1")
    in_node client curl -fsSk -m 10 -o /dev/null "$(announce_url "$first" "clientclientclient0$2")&port=700$2"
}

announce_url() { # FIRST-BYTE PEER-ID [URL]
    echo "${3:-$tracker}/announce?info_hash=$1xxxxxxxxxxxxxxxxxxx&peer_id=$2&left=1"
}

# Prints how many peers a client gets of each torrent that is not listed itself.
peers_via() { # URL [TORRENTS]
    # An instance that is asked without the balancer needs nginx's header.
    in_node client curl -sk -m 10 -H "X-Real-IP: 10.9.9.9" "$(announce_url "${2:-{c,e,f,g\}}" observerobserverobse "$1")" |
        grep -aoE '5:peers[0-9]+:' | awk -F '[s:]' '{ printf "%s%d", separator, $3 / 6; separator = " " } END { print "" }' || true
}

knows_the_late_peer() { # INSTANCE
    [[ $(peers_via "http://$(address_of "$1")" h) == 1 ]]
}

# --- The services of docker-compose.yml -------------------------------------------------------------------------------

all_up() {
    local node
    hub_up
    for node in first second balancer valkey1 valkey2 sentinel1 sentinel2 sentinel3; do
        node_up "$node" "$(address_of "$node")/24"
    done
    # Clients come from another network.
    node_up tls 10.88.77.128/24
    ip -n "$prefix-tls" address add 10.9.9.1/24 dev eth0
    node_up client 10.9.9.9/24
    # To ask an instance without the balancer.
    ip -n "$prefix-client" address add 10.88.77.200/24 dev eth0

    for node in valkey1 valkey2; do start_server "$node"; done
    for node in sentinel1 sentinel2 sentinel3; do start_sentinel "$node"; done
    start_instance first
    start_instance second
    start_balancer "$files/haproxy.cfg"
    start_nginx
    for node in sentinel1 sentinel2 sentinel3; do
        wait_until 60 has_met "$node" || give_up "$node does not know the others"
    done
    for node in first second; do
        wait_until 60 is_together "$node" || give_up "$node stays alone"
        wait_until 60 is_taken "$node" UP || give_up "the balancer does not take $node"
    done
}

give_up() { # PROBLEM
    not_ok "instances behind a balancer" "$1"
    tail -n 20 "$folder"/*.log
    exit 1
}

start() { # NODE NAME COMMAND...
    ip netns exec "$prefix-$1" "${@:3}" >>"$folder/$2.log" 2>&1 </dev/null &
    echo $! >"$folder/$2.pid"
}

# Prints what the compose file has for a service. The nodes have its name, without a hyphen.
address_of() { # NODE
    if [[ $1 == third ]]; then echo 10.88.77.13; else compose_has "$1" 's/^ *ipv4_address: //p'; fi
}

compose_has() { # NODE SED-COMMAND
    sed -n "/^  $(sed 's/[0-9]$/-&/' <<<"$1"):/,/ipv4_address/ { $2 }" "$files/docker-compose.yml"
}

start_instance() { # NODE
    local settings
    mapfile -t settings < <(sed -n 's/^ *\([A-Z_]*\): "\(.*\)"$/\1=\2/p' "$files/docker-compose.yml")
    start "$1" "$1" env "${settings[@]}" "$binary" -i 300
    wait_until 30 in_node "$1" curl -fsS -o /dev/null -m 1 http://127.0.0.1/ready || give_up "$1 is not ready"
}

# A server and a Sentinel write into their files, so they have copies.
start_server() { # NODE
    mkdir -p "$folder/$1"
    cp "$files/valkey.conf" "$folder/$1/"
    # shellcheck disable=SC2046 # one word per argument
    start "$1" "$1" env -C "$folder/$1" redis-server valkey.conf $(compose_has "$1" 's/^ *command: valkey-server [^ ]*//p')
}

start_sentinel() { # NODE
    mkdir "$folder/$1"
    cp "$files/sentinel.conf" "$folder/$1/"
    start "$1" "$1" env -C "$folder/$1" redis-sentinel sentinel.conf
}

has_met() { # SENTINEL
    [[ $(in_node "$1" redis-cli -p 26379 info sentinel) == *"status=ok,address=$(address_of valkey1):6379,slaves=1,sentinels=3"* ]]
}

is_primary() { # SERVER
    [[ $(in_node sentinel1 redis-cli -p 26379 sentinel get-master-addr-by-name mymaster | head -n 1) == "$(address_of "$1")" ]]
}

is_replica() { # SERVER
    [[ $(in_node "$1" redis-cli info replication) == *master_link_status:up* ]]
}

is_together() { # INSTANCE
    [[ $(in_node "$1" curl -s -m 5 http://127.0.0.1/health) == ok ]]
}

# The statistics are for this test.
start_balancer() { # FILE
    printf '%s\n' 'frontend statistics' '    bind 127.0.0.1:8404' '    stats enable' '    stats uri /' >"$folder/statistics.cfg"
    start balancer haproxy haproxy -db -f "$1" -f "$folder/statistics.cfg"
}

is_taken() { # INSTANCE UP|DOWN
    # The 18th column is the state.
    [[ $(statistics | grep "^instances,$1," | cut -d, -f18) == "$2" ]]
}

statistics() {
    in_node balancer curl -s -m 5 'http://127.0.0.1:8404/;csv'
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
    $(sed "s#/etc/nginx/#$folder/#" "$files/nginx.conf")
}
CONFIG
    start tls nginx nginx -c "$folder/nginx.conf"
    wait_until 30 in_node tls curl -fsk -o /dev/null -m 1 https://127.0.0.1/health || give_up "nothing answers over TLS"
}

main
