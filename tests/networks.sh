#!/usr/bin/env bash
#
# Every client gets its peers with addresses that it can reach: two LANs, a router with NAT and the public side. Then nginx stands
# between the clients and the tracker, and clients send spoofed addresses.
#
#     tests/networks.sh [BINARY]
#
# The binary is the argument, else $RETRACKER_BIN, else the release build, else the debug build.
#
# Each client is a network namespace with a listener that sends the client's name. It announces over both families, then connects
# to every peer that it got: a peer counts as met only if the right client answers.
#
# All names have the prefix of this run, and the run removes everything at its end. Needs root, iproute2, curl and
# python3, iptables for the NAT and nginx for the rest; if a program is missing, the part that needs it is skipped.

set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
    local obstacle
    obstacle=$(obstacle_to_namespaces curl python3)
    if [[ $obstacle ]]; then
        skip "networks" "$obstacle"
    else
        network_up
        test_nat
        test_nginx
    fi
    finished=yes
    summary
}

# --- Two LANs, a router with NAT, and the public side -----------------------------------------------------------------

test_nat() {
    local obstacle
    obstacle=$(obstacle_of iptables ip6tables)
    if [[ $obstacle ]]; then
        skip "NAT" "$obstacle"
        return
    fi

    setup "LANs that can reach each other, no setting"
    nat_to_public_side
    tracker_up router -l :8080 -u :8080
    join a b public
    gets a a=own b=own public=own
    gets b a=own b=own public=own
    # The public side cannot reach private addresses.
    gets public public=own
    tracker_down

    setup "LANs that can reach each other, --external-address"
    outside=([a4]=198.51.100.1 [a6]=2001:db8::1 [b4]=198.51.100.1 [b6]=2001:db8::1)
    nat_to_public_side
    forward_ports a b
    tracker_up router -l :8080 -u :8080 --external-address 198.51.100.1,2001:db8::1
    join a b public
    gets a a=own b=own public=own
    gets b a=own b=own public=own
    gets public a=outside b=outside public=own
    tracker_down

    setup "LANs that cannot reach each other, --zones"
    outside=([a4]=198.51.100.1 [a6]=2001:db8::1 [b4]=198.51.100.2 [b6]=2001:db8::2)
    nat_to_all_sides
    forward_ports a b
    cat >"$work/zones.yml" <<YAML
- name: a
  networks: [10.81.1.0/24, 'fd81:1::/64']
  external-address: [198.51.100.1, '2001:db8::1']
- name: b
  networks: [10.81.2.0/24, 'fd81:2::/64']
  external-address: [198.51.100.2, '2001:db8::2']
YAML
    tracker_up router -l :8080 -u :8080 --zones "$work/zones.yml"
    out_of_reach a b
    join a b public
    gets a a=own b=outside public=own
    gets b a=outside b=own public=own
    gets public a=outside b=outside public=own
    tracker_down

    # LAN b is hidden from the tracker in LAN a, so its clients send their own addresses, see docs/networks.md, "NAT inside NAT".
    # They do not get clients outside LAN b, but clients outside get them: it is enough if one of two clients can
    # connect.
    setup "LAN b behind a NAT in LAN a, --zones and ip="
    outside=([b4]=10.81.1.1 [b6]=fd81:1::1)
    nat_to_lan_a
    forward_ports b
    cat >"$work/zones.yml" <<YAML
- name: b
  networks: [10.81.2.0/24, 'fd81:2::/64']
  external-address: [10.81.1.1, 'fd81:1::1']
YAML
    tracker_up a1 -l :8080 --zones "$work/zones.yml"
    tracker_at=([a4]=10.81.1.11 [a6]=fd81:1::11 [b4]=10.81.1.11 [b6]=fd81:1::11)
    sends_ip=yes
    out_of_reach a b
    join a b
    gets a a=own b=outside
    gets b b=own
    tracker_down
}

# setup TITLE: the beginning of each part. The tracker is on the router and sees the clients' own addresses.
setup() {
    title=$1
    tracker_at=([a4]=10.81.1.1 [a6]=fd81:1::1 [b4]=10.81.2.1 [b6]=fd81:2::1)
    tracker_at+=([public4]=198.51.100.1 [public6]=2001:db8::1)
    outside=()
    sends_ip=
    info_hash=$(new_torrent)
}

join() { # SIDE...
    local client family
    for client in $(clients_of "$@"); do
        for family in 4 6; do
            announce "$client" "$family" >/dev/null
        done
    done
}

# gets SIDE PEERS=own|outside...: each client there gets these peers and no others, and reaches them.
gets() {
    local client family met expected problem
    for client in $(clients_of "$1"); do
        problem=
        for family in 4 6; do
            met=$(announce "$client" "$family" | in_node "$client" "$python" "$root/tests/peer.py" meet)
            expected=$(expected_peers "$client" "$family" "${@:2}")
            [[ $met == "$expected" ]] || problem+="; over IPv$family it met ${met:-no peer}, expected $expected"
        done
        verdict "$title: $client, over $(protocol_of "$client"), meets $(names_in "$expected")" "${problem#; }"
    done
}

# expected_peers CLIENT FAMILY PEERS=own|outside...: the peers that it must meet, with their addresses.
expected_peers() {
    local client=$1 families="4 6" side peer family where
    # A reply over UDP has room for one family only.
    [[ $(protocol_of "$client") == HTTP ]] || families=$2
    for side in "${@:3}"; do
        for peer in $(clients_of "${side%=*}"); do
            [[ $peer != "$client" ]] || continue
            for family in $families; do
                where=$(address_of "$peer" "$family")
                [[ $side == *=own ]] || where=${outside[${side%=*}$family]}
                echo "$peer@$where#$(port_of "$peer")"
            done
        done
    done | sort | paste -sd ' '
}

names_in() { # CLIENT@ADDRESS...
    tr ' ' '\n' <<<"$1" | cut -d@ -f1 | sort -u | paste -sd ' '
}

# Checks the setup: otherwise the test would prove nothing.
out_of_reach() { # SIDE SIDE
    local family met problem=
    for family in 4 6; do
        met=$(in_node "${1}1" "$python" "$root/tests/peer.py" try "$(address_of "${2}1" "$family")" "$(port_of "${2}1")")
        [[ $met == none* ]] || problem+="; it meets $met"
    done
    verdict "$title: LAN $1 does not reach LAN $2 by its own addresses" "${problem#; }"
}

# --- Behind nginx -----------------------------------------------------------------------------------------------------

# A client sends a spoofed address in a header or in a PROXY line, to nginx or directly to the tracker. The test checks the address
# in its reply, and the address that another client gets.
test_nginx() {
    if ! installed nginx; then
        skip "behind nginx" "nginx is not installed"
        return
    fi
    local headers=(X-Real-IP X-Forwarded-For Forwarded) socket=unix:$work/retracker.sock
    # shellcheck disable=SC2016 # nginx's variables
    local real_ip='X-Real-IP $remote_addr' forwarded_for='X-Forwarded-For $proxy_add_x_forwarded_for'
    nginx_stream=$(find_nginx_stream)

    behind "X-Real-IP, -x" "$(http 127.0.0.1:8080 "$real_ip")" -l 127.0.0.1:8080 -x
    recorded truthfully by nginx honest "${headers[@]}"
    recorded nowhere by tracker honest "${headers[@]}"

    behind "X-Real-IP, --trusted-proxies" "$(http 127.0.0.1:8080 "$real_ip")" -l :8080 --trusted-proxies 127.0.0.1
    recorded truthfully by nginx honest X-Real-IP
    # Nginx passes other headers on unchanged, and the tracker cannot know which one nginx has set.
    recorded nowhere by nginx X-Forwarded-For Forwarded
    recorded truthfully by tracker honest "${headers[@]}"
    recorded nowhere by tracker PROXY

    # The configuration of docs/reverse-proxy.md, with a tracker that clients can also reach directly.
    behind "X-Real-IP, --real-ip-header" "$(http_of_contrib)" \
        -l :8080 --trusted-proxies 127.0.0.1 --real-ip-header X-Real-IP
    recorded truthfully by nginx honest "${headers[@]}"
    recorded truthfully by tracker "${headers[@]}"

    behind "X-Forwarded-For, --real-ip-header" "$(http 127.0.0.1:8080 "$forwarded_for")" \
        -l :8080 --trusted-proxies 127.0.0.1 --real-ip-header X-Forwarded-For
    recorded truthfully by nginx honest "${headers[@]}"
    recorded truthfully by tracker "${headers[@]}"

    behind "Unix socket" "$(http "$socket" "$real_ip")" -l "$socket"
    recorded truthfully by nginx honest X-Real-IP
    recorded nowhere by nginx X-Forwarded-For Forwarded

    behind "Unix socket, --real-ip-header" "$(http "$socket" "$real_ip")" -l "$socket" --real-ip-header X-Real-IP
    recorded truthfully by nginx honest "${headers[@]}"

    if [[ ! $nginx_stream ]]; then
        skip "behind nginx by the PROXY protocol" "this nginx has no stream module"
    else
        behind "PROXY protocol" "$(contrib stream.conf)" -l :8080 -l proxy+tcp://127.0.0.1:8081
        recorded truthfully by nginx honest "${headers[@]}"
        recorded nowhere by nginx PROXY
        recorded truthfully by tracker "${headers[@]}"
        recorded nowhere by tracker PROXY

        behind "PROXY protocol, --trusted-proxies" "$(stream 127.0.0.1:8080)" \
            -l proxy+tcp://:8080 --trusted-proxies 127.0.0.1
        recorded truthfully by nginx honest
        recorded truthfully by tracker PROXY
        recorded nowhere by tracker honest

        behind "PROXY protocol, Unix socket" "$(stream "$socket")" -l "proxy+$socket"
        recorded truthfully by nginx honest "${headers[@]}"
        recorded nowhere by nginx PROXY
    fi
    nginx_down
    tracker_down
}

# behind TITLE NGINX-BLOCK FLAG...: a tracker with these flags, and nginx in front of it
behind() {
    nginx_down
    tracker_down
    setup "nginx, $1"
    tracker_up router "${@:3}"
    nginx_up "$2"
}

http() { # UPSTREAM HEADER
    echo "http { access_log off; $(printf "%s_temp_path $work/temp;" client_body proxy fastcgi uwsgi scgi)
        server { listen 80; listen [::]:80; proxy_set_header $2; location / { proxy_pass http://$1; } } }"
}

# contrib FILE: the file of contrib/nginx, with IPv6 as its page says, and its log in our folder
contrib() {
    sed -e 's/listen 80;/listen 80; listen [::]:80;/' -e "s#/var/log/nginx/#$work/#" "$root/contrib/nginx/$1"
}

http_of_contrib() {
    echo "http { $(printf "%s_temp_path $work/temp;" client_body proxy fastcgi uwsgi scgi) $(contrib retracker.conf) }"
}

stream() { # UPSTREAM
    echo "stream { server { listen 80; listen [::]:80; proxy_pass $1; proxy_protocol on; } }"
}

# recorded truthfully|nowhere by nginx|tracker LIE...: sends each spoofed address to nginx or directly to the tracker,
# and checks that the client is recorded with its true address, or not at all
recorded() {
    local lie family outcome problem
    for lie in "${@:4}"; do
        problem=
        for family in 4 6; do
            info_hash=$(new_torrent)
            outcome="$(send_lie "$3" "$lie" "$family") and found as $(found_through_nginx "$family")"
            [[ $outcome == "$(outcome_of "$1" "$family")" ]] ||
                problem+="; over IPv$family it is recorded as $outcome, expected $(outcome_of "$1" "$family")"
        done
        [[ $lie != honest ]] || lie="no lie"
        verdict "$title: $lie sent to $3: the client is recorded ${1//_/ }" "${problem#; }"
    done
}

outcome_of() { # truthfully|nowhere FAMILY
    local own
    own=$(address_of public1 "$2")
    case $1 in
        truthfully) echo "$own and found as public1@$own#$(port_of public1)" ;;
        nowhere) echo "none and found as none" ;;
    esac
}

# Prints the address in the reply to a client that sends a spoofed address, also in `ip=`. An `ip=` counts from local
# clients only, and this client must not count as local because nginx is.
send_lie() { # nginx|tracker LIE FAMILY
    local port=80 url line
    [[ $1 == nginx ]] || port=8080
    url=$(announce_url public1 "$3" "$port")
    [[ $2 == honest ]] || url+="&ip=203.0.113.66"
    case $2 in
        honest) line="X-Honest: yes" ;;
        PROXY) send_proxy_line "$url" | external_ip && return ;;
        Forwarded) line="Forwarded: for=203.0.113.66" ;;
        *) line="$2: 203.0.113.66" ;;
    esac
    { in_node public1 curl -gs -m 30 -H "$line" "$url" || true; } | external_ip
}

# curl could only send its true address in this line.
send_proxy_line() { # URL
    in_node public1 "$python" "$root/tests/peer.py" proxy_line "$1" 203.0.113.66
}

external_ip() {
    "$python" "$root/tests/peer.py" external_ip
}

found_through_nginx() { # FAMILY
    local found
    found=$({ in_node public2 curl -gs -m 30 "$(announce_url public2 "$1" 80)" || true; } |
        in_node public2 "$python" "$root/tests/peer.py" meet)
    echo "${found:-none}"
}

# --- Clients ----------------------------------------------------------------------------------------------------------

clients_of() { # SIDE...
    printf '%s\n' "${@/%/1}" "${@/%/2}"
}

address_of() { # CLIENT FAMILY
    local number=1${1: -1}
    case ${1%?}$2 in
        a4) echo "10.81.1.$number" ;;
        a6) echo "fd81:1::$number" ;;
        b4) echo "10.81.2.$number" ;;
        b6) echo "fd81:2::$number" ;;
        public4) echo "198.51.100.$number" ;;
        public6) echo "2001:db8::$number" ;;
    esac
}

# A NAT forwards a port to one client only, so each client has a port of its own.
port_of() { # CLIENT
    case $1 in
        a?) echo "601${1: -1}" ;;
        b?) echo "602${1: -1}" ;;
        *) echo "603${1: -1}" ;;
    esac
}

# One client of each side announces over UDP, which cannot carry an IPv6 `ip=`.
protocol_of() { # CLIENT
    if [[ $1 == *2 && ! $sends_ip ]]; then echo UDP; else echo HTTP; fi
}

announce() { # CLIENT FAMILY: prints the reply, as over HTTP
    local host=${tracker_at[${1%?}$2]} url
    if [[ $(protocol_of "$1") == UDP ]]; then
        in_node "$1" "$python" "$root/tests/peer.py" udp "$host" 8080 "$info_hash" "$(peer_id_of "$1")" "$(port_of "$1")"
        return
    fi
    url=$(announce_url "$1" "$2" 8080)
    [[ ! $sends_ip ]] || url+="&ip=$(address_of "$1" "$2")"
    in_node "$1" curl -gsS -m 30 "$url"
}

announce_url() { # CLIENT FAMILY PORT
    local host=${tracker_at[${1%?}$2]} query
    [[ $2 == 4 ]] || host="[$host]"
    query="info_hash=$info_hash&peer_id=$(peer_id_of "$1")&port=$(port_of "$1")&left=1&compact=1"
    echo "http://$host:$3/announce?$query"
}

peer_id_of() { # CLIENT
    printf -- '-TT0001-%012d' "$(port_of "$1")"
}

# An info-hash of twenty printable bytes, which need no escaping.
new_torrent() {
    head -c 10 /dev/urandom | od -An -tx1 | tr -d ' \n'
}

# --- Servers ----------------------------------------------------------------------------------------------------------

tracker_up() { # NODE -l ADDRESS FLAG...
    ip netns exec "$prefix-$1" "$bin" -i 300 -d "${@:2}" >"$work/retracker.log" 2>&1 </dev/null &
    tracker_pid=$!
    wait_for 30 "retracker does not answer" in_node "$1" "$bin" healthcheck -l "$3"
}

# A panic, or an end that is not clean, is a failure.
tracker_down() {
    local pid=$tracker_pid status=0
    tracker_pid=
    [[ $pid ]] || return 0
    kill "$pid" || true
    wait "$pid" || status=$?
    if ((status != 0)) || grep -aq 'panicked at' "$work/retracker.log"; then
        tail -n 20 "$work/retracker.log"
        verdict "$title: the tracker ends cleanly" "its exit status was $status"
    fi
}

nginx_up() { # BLOCK
    printf '%s\n' "$nginx_stream" "user root; daemon off; worker_processes 1; pid $work/nginx.pid; error_log stderr;" \
        "events {}" "$1" >"$work/nginx.conf"
    ip netns exec "$prefix-router" nginx -p "$work" -c "$work/nginx.conf" >"$work/nginx.log" 2>&1 </dev/null &
    nginx_pid=$!
    wait_for 30 "nginx does not answer" in_node router curl -fsS -m 1 -o /dev/null http://127.0.0.1/health
}

nginx_down() {
    [[ ! $nginx_pid ]] || { kill "$nginx_pid" && wait "$nginx_pid"; } || true
    nginx_pid=
}

# Prints the first line of an nginx.conf with `stream`: an empty comment if it is built in; nothing if it is not available.
find_nginx_stream() {
    local built module
    built=$(nginx -V 2>&1)
    module=$(grep -o 'modules-path=[^ ]*' <<<"$built" | cut -d= -f2)/ngx_stream_module.so
    if [[ $built =~ --with-stream( |$) ]]; then
        echo "#"
    elif [[ -e $module ]]; then
        echo "load_module $module;"
    fi
}

# --- The network ------------------------------------------------------------------------------------------------------

# A bridge for each side in one namespace, all clients, and the router with an interface on each side.
network_up() {
    local side client
    ip netns add "$prefix-hub"
    for side in a b public; do
        ip -n "$prefix-hub" link add name "$side" type bridge
        ip -n "$prefix-hub" link set dev "$side" up
    done

    namespace_up router
    in_node router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    plug_in router a 10.81.1.1 fd81:1::1
    plug_in router b 10.81.2.1 fd81:2::1
    plug_in router public 198.51.100.1 2001:db8::1
    give_address router public 198.51.100.2 2001:db8::2

    for client in $(clients_of a b public); do
        side=${client%?}
        namespace_up "$client"
        plug_in "$client" "$side" "$(address_of "$client" 4)" "$(address_of "$client" 6)"
        # Clients on the public side have no route to the networks behind the router.
        if [[ $side != public ]]; then
            ip -n "$prefix-$client" route add default via "$(gateway_of "$side" 4)"
            ip -n "$prefix-$client" route add default via "$(gateway_of "$side" 6)"
        fi
        in_node "$client" "$python" "$root/tests/peer.py" listen "$client" "$(port_of "$client")" >"$work/$client.log" 2>&1 &
        wait_for 30 "$client does not listen" \
            in_node "$client" "$python" "$root/tests/peer.py" call 127.0.0.1 "$(port_of "$client")"
    done
}

namespace_up() { # NODE
    ip netns add "$prefix-$1"
    ip -n "$prefix-$1" link set lo up
}

plug_in() { # NODE SIDE IPV4 IPV6: the interface has the name of the side
    ip -n "$prefix-hub" link add name "$1-$2" type veth peer name "$2" netns "$prefix-$1"
    ip -n "$prefix-hub" link set dev "$1-$2" master "$2" up
    ip -n "$prefix-$1" link set dev "$2" up
    give_address "$@"
}

give_address() { # NODE SIDE IPV4 IPV6
    ip -n "$prefix-$1" address add "$3/24" dev "$2"
    ip -n "$prefix-$1" address add "$4/64" dev "$2" nodad
}

gateway_of() { # SIDE FAMILY
    local client
    client=$(address_of "${1}1" "$2")
    echo "${client%11}1"
}

# The LANs are routed to each other. From outside only forwarded ports are reachable.
nat_to_public_side() {
    no_firewall
    on_router -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT
    on_router -A FORWARD ! -i public -j ACCEPT
    refuse_all_else
    hide a 198.51.100.1 2001:db8::1 -o public
    hide b "${outside[b4]:-198.51.100.1}" "${outside[b6]:-2001:db8::1}" -o public
}

# The LANs are not routed to each other: packets that leave a LAN have its outside address.
nat_to_all_sides() {
    no_firewall
    on_router -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT
    on_router -A FORWARD -o public -j ACCEPT
    refuse_all_else
    hide a "${outside[a4]}" "${outside[a6]}" ! -o a
    hide b "${outside[b4]}" "${outside[b6]}" ! -o b
}

nat_to_lan_a() {
    no_firewall
    on_router -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT
    on_router -A FORWARD -i b -o a -j ACCEPT
    refuse_all_else
    hide b "${outside[b4]}" "${outside[b6]}" -o a
}

hide() { # SIDE IPV4 IPV6 WHERE...: packets that leave the side there get this source
    on_router_v4 -t nat -A POSTROUTING -s "$(gateway_of "$1" 4)/24" "${@:4}" -j SNAT --to-source "$2"
    on_router_v6 -t nat -A POSTROUTING -s "$(gateway_of "$1" 6)/64" "${@:4}" -j SNAT --to-source "$3"
}

# forward_ports SIDE...: the port of each client there, at the side's address outside
forward_ports() {
    local client port
    for client in $(clients_of "$@"); do
        port=$(port_of "$client")
        on_router_v4 -t nat -A PREROUTING -d "${outside[${client%?}4]}" -p tcp --dport "$port" \
            -j DNAT --to-destination "$(address_of "$client" 4)"
        on_router_v6 -t nat -A PREROUTING -d "${outside[${client%?}6]}" -p tcp --dport "$port" \
            -j DNAT --to-destination "$(address_of "$client" 6)"
    done
}

no_firewall() {
    on_router -F
    on_router -t nat -F
}

# Rejects connections instead of dropping them, so that a client does not wait for a timeout.
refuse_all_else() {
    on_router -A FORWARD -p tcp -j REJECT --reject-with tcp-reset
}

on_router() { # IPTABLES ARGUMENT...
    on_router_v4 "$@"
    on_router_v6 "$@"
}

on_router_v4() {
    in_node router iptables -w "$@"
}

on_router_v6() {
    in_node router ip6tables -w "$@"
}

# --- The run ----------------------------------------------------------------------------------------------------------

tracker_pid='' nginx_pid='' nginx_stream='' finished=''
title='' info_hash='' sends_ip=''
# Two tables with keys of side and family, such as `a4`: the tracker's address for the clients of that side, and the
# address of these clients for other sides.
declare -A tracker_at=() outside=()

prepare() { # [BINARY]
    root=$(dirname "$(dirname "$(realpath "$0")")")
    bin=$(find_binary "$@")

    work=$(mktemp -d "${TMPDIR:-/tmp}/retracker-networks.XXXXXX")
    prefix=rn-${work##*.}
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    # Python and sort must use the same order.
    export LC_ALL=C
    # The path of the interpreter itself. It is started hundreds of times, and the wrapper of a version manager would be
    # slow.
    python=$(python3 -c 'import sys; print(sys.executable)' || true)
}

clean_up() {
    local status=$?
    set +e
    [[ $finished ]] || echo "ended early with status $status: $passed passed, $failed failed" >&2
    namespaces_down 2>/dev/null
    rm -rf "$work"
}

wait_for() { # SECONDS COMPLAINT COMMAND...
    wait_until "$1" "${@:3}" && return
    not_ok "$title" "$2 within $1 s"
    tail -n 20 "$work"/*.log
    exit 1
}

prepare "$@"
main
