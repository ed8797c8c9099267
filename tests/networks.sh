#!/usr/bin/env bash
#
# Every peer is told under the address by which whoever asks can reach it: two LANs, a router with NAT and the public
# side of it; then nginx between the clients and the tracker, and clients that lie about who they are.
#
#     tests/networks.sh [BINARY]
#
# The binary is the argument, else $RETRACKER_BIN, else the release build, else the debug build.
#
# Each client is a network namespace of its own with a listener that answers with the client's name. It announces over
# both families, then connects to all that it was told of: a peer counts as met only if the right one answers.
#
# All of it is named after this run and removed with it. It takes root, iproute2, curl and python3, iptables for the
# NAT, and nginx for what is behind it; what is missing skips the part that needs it.

set -euo pipefail

main() {
    local obstacle
    obstacle=$(obstacle_to_namespaces)
    if [[ $obstacle ]]; then
        skip "networks" "$obstacle"
    else
        network_up
        test_nat
        test_nginx
    fi
    finished=yes
    echo "$passed passed, $failed failed, $skipped skipped"
    ((failed == 0))
}

# --- Two LANs, a router with NAT, and the public side -----------------------------------------------------------------

test_nat() {
    local program
    for program in iptables ip6tables; do
        if ! installed "$program"; then
            skip "NAT" "$program is not installed"
            return
        fi
    done

    setup "LANs that reach each other, no setting"
    nat_to_public_side
    tracker_up router -l :8080 -u :8080
    join a b public
    told a a=own b=own public=own
    told b a=own b=own public=own
    # Private addresses would be of no use there.
    told public public=own
    tracker_down

    setup "LANs that reach each other, --external-address"
    outside=([a4]=198.51.100.1 [a6]=2001:db8::1 [b4]=198.51.100.1 [b6]=2001:db8::1)
    nat_to_public_side
    forward_ports a b
    tracker_up router -l :8080 -u :8080 --external-address 198.51.100.1,2001:db8::1
    join a b public
    told a a=own b=own public=own
    told b a=own b=own public=own
    told public a=outside b=outside public=own
    tracker_down

    setup "LANs that do not reach each other, --zones"
    outside=([a4]=198.51.100.1 [a6]=2001:db8::1 [b4]=198.51.100.2 [b6]=2001:db8::2)
    nat_to_everybody
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
    told a a=own b=outside public=own
    told b a=outside b=own public=own
    told public a=outside b=outside public=own
    tracker_down

    # LAN b is hidden from the tracker in LAN a: its clients say their own addresses, as docs/networks.md has it under
    # "NAT inside NAT". They are not told of those outside, who are told of them: it takes one of two to connect.
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
    says_ip=yes
    out_of_reach a b
    join a b
    told a a=own b=outside
    told b b=own
    tracker_down
}

# setup TITLE: what all of them begin with. The tracker is on the router, and sees all clients as they are.
setup() {
    title=$1
    tracker_at=([a4]=10.81.1.1 [a6]=fd81:1::1 [b4]=10.81.2.1 [b6]=fd81:2::1)
    tracker_at+=([public4]=198.51.100.1 [public6]=2001:db8::1)
    outside=()
    says_ip=
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

# told SIDE PEERS=own|outside...: each client there is told of these and of nobody else, and reaches them.
told() {
    local client family met expected problem
    for client in $(clients_of "$1"); do
        problem=
        for family in 4 6; do
            met=$(announce "$client" "$family" | in_node "$client" "$python" "$work/peer.py" meet)
            expected=$(whom "$client" "$family" "${@:2}")
            [[ $met == "$expected" ]] || problem+="; over IPv$family it met ${met:-nobody}, expected $expected"
        done
        verdict "$title: $client, over $(protocol_of "$client"), meets $(names_in "$expected")" "${problem#; }"
    done
}

# whom CLIENT FAMILY PEERS=own|outside...: whom it is to meet, each by which address.
whom() {
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

# What would prove nothing if it were not so.
out_of_reach() { # SIDE SIDE
    local family met problem=
    for family in 4 6; do
        met=$(in_node "${1}1" "$python" "$work/peer.py" try "$(address_of "${2}1" "$family")" "$(port_of "${2}1")")
        [[ $met == nobody* ]] || problem+="; it meets $met"
    done
    verdict "$title: LAN $1 does not reach LAN $2 by its own addresses" "${problem#; }"
}

# --- Behind nginx -----------------------------------------------------------------------------------------------------

# A client lies in a header, or in a line of the PROXY protocol, to nginx or to the tracker past it. What counts is
# under which address it is recorded, which its reply says, and where another client finds it.
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
    recorded as_it_is by nginx honest "${headers[@]}"
    recorded nowhere by tracker honest "${headers[@]}"

    behind "X-Real-IP, --trusted-proxies" "$(http 127.0.0.1:8080 "$real_ip")" -l :8080 --trusted-proxies 127.0.0.1
    recorded as_it_is by nginx honest X-Real-IP
    # Nginx passes on what it does not set itself, and the tracker cannot know which of the two is from nginx.
    recorded nowhere by nginx X-Forwarded-For Forwarded
    recorded as_it_is by tracker honest "${headers[@]}"
    recorded nowhere by tracker PROXY

    # What docs/reverse-proxy.md has people use, but for a tracker that clients reach past nginx as well.
    behind "X-Real-IP, --real-ip-header" "$(http_of_contrib)" \
        -l :8080 --trusted-proxies 127.0.0.1 --real-ip-header X-Real-IP
    recorded as_it_is by nginx honest "${headers[@]}"
    recorded as_it_is by tracker "${headers[@]}"

    behind "X-Forwarded-For, --real-ip-header" "$(http 127.0.0.1:8080 "$forwarded_for")" \
        -l :8080 --trusted-proxies 127.0.0.1 --real-ip-header X-Forwarded-For
    recorded as_it_is by nginx honest "${headers[@]}"
    recorded as_it_is by tracker "${headers[@]}"

    behind "Unix socket" "$(http "$socket" "$real_ip")" -l "$socket"
    recorded as_it_is by nginx honest X-Real-IP
    recorded nowhere by nginx X-Forwarded-For Forwarded

    behind "Unix socket, --real-ip-header" "$(http "$socket" "$real_ip")" -l "$socket" --real-ip-header X-Real-IP
    recorded as_it_is by nginx honest "${headers[@]}"

    if [[ ! $nginx_stream ]]; then
        skip "behind nginx by the PROXY protocol" "this nginx has no stream module"
    else
        behind "PROXY protocol" "$(contrib stream.conf)" -l :8080 -l proxy+tcp://127.0.0.1:8081
        recorded as_it_is by nginx honest "${headers[@]}"
        recorded nowhere by nginx PROXY
        recorded as_it_is by tracker "${headers[@]}"
        recorded nowhere by tracker PROXY

        behind "PROXY protocol, --trusted-proxies" "$(stream 127.0.0.1:8080)" \
            -l proxy+tcp://:8080 --trusted-proxies 127.0.0.1
        recorded as_it_is by nginx honest
        recorded as_it_is by tracker PROXY
        recorded nowhere by tracker honest

        behind "PROXY protocol, Unix socket" "$(stream "$socket")" -l "proxy+$socket"
        recorded as_it_is by nginx honest "${headers[@]}"
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

# contrib FILE: that of contrib/nginx, with IPv6 as the page says, and its log in our folder
contrib() {
    sed -e 's/listen 80;/listen 80; listen [::]:80;/' -e "s#/var/log/nginx/#$work/#" "$root/contrib/nginx/$1"
}

http_of_contrib() {
    echo "http { $(printf "%s_temp_path $work/temp;" client_body proxy fastcgi uwsgi scgi) $(contrib retracker.conf) }"
}

stream() { # UPSTREAM
    echo "stream { server { listen 80; listen [::]:80; proxy_pass $1; proxy_protocol on; } }"
}

# recorded as_it_is|nowhere by nginx|tracker LIE...: what comes of each, told there
recorded() {
    local lie family outcome problem
    for lie in "${@:4}"; do
        problem=
        for family in 4 6; do
            info_hash=$(new_torrent)
            outcome="$(lie_to "$3" "$lie" "$family") and found as $(found_through_nginx "$family")"
            [[ $outcome == "$(outcome_of "$1" "$family")" ]] ||
                problem+="; over IPv$family it is recorded as $outcome, expected $(outcome_of "$1" "$family")"
        done
        [[ $lie != honest ]] || lie="no lie"
        verdict "$title: $lie told to $3: the client is recorded ${1//_/ }" "${problem#; }"
    done
}

outcome_of() { # as_it_is|nowhere FAMILY
    local own
    own=$(address_of public1 "$2")
    case $1 in
        as_it_is) echo "$own and found as public1@$own#$(port_of public1)" ;;
        nowhere) echo "nobody and found as nobody" ;;
    esac
}

# Prints as whom the liar is recorded, by its own reply. Every lie is told in `ip=` as well: that counts from
# neighbours only, and nginx, being one, must not lend that to the client.
lie_to() { # nginx|tracker LIE FAMILY
    local port=80 url line
    [[ $1 == nginx ]] || port=8080
    url=$(announce_url public1 "$3" "$port")
    [[ $2 == honest ]] || url+="&ip=203.0.113.66"
    case $2 in
        honest) line="X-Honest: yes" ;;
        PROXY) lie_in_proxy_line "$url" | external_ip && return ;;
        Forwarded) line="Forwarded: for=203.0.113.66" ;;
        *) line="$2: 203.0.113.66" ;;
    esac
    { in_node public1 curl -gs -m 30 -H "$line" "$url" || true; } | external_ip
}

# In front of the request, where curl would say the truth.
lie_in_proxy_line() { # URL
    in_node public1 "$python" "$work/peer.py" proxy_line "$1" 203.0.113.66
}

external_ip() {
    "$python" "$work/peer.py" external_ip
}

found_through_nginx() { # FAMILY
    local found
    found=$({ in_node public2 curl -gs -m 30 "$(announce_url public2 "$1" 80)" || true; } |
        in_node public2 "$python" "$work/peer.py" meet)
    echo "${found:-nobody}"
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

# One for each, as a NAT forwards a port to one of them only.
port_of() { # CLIENT
    case $1 in
        a?) echo "601${1: -1}" ;;
        b?) echo "602${1: -1}" ;;
        *) echo "603${1: -1}" ;;
    esac
}

# One of each side announces over UDP. That protocol has no room for an `ip=` of IPv6.
protocol_of() { # CLIENT
    if [[ $1 == *2 && ! $says_ip ]]; then echo UDP; else echo HTTP; fi
}

announce() { # CLIENT FAMILY: prints the reply, as over HTTP
    local host=${tracker_at[${1%?}$2]} url
    if [[ $(protocol_of "$1") == UDP ]]; then
        in_node "$1" "$python" "$work/peer.py" udp "$host" 8080 "$info_hash" "$(peer_id_of "$1")" "$(port_of "$1")"
        return
    fi
    url=$(announce_url "$1" "$2" 8080)
    [[ ! $says_ip ]] || url+="&ip=$(address_of "$1" "$2")"
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

# Its info-hash is twenty printable bytes, so that it need not be escaped.
new_torrent() {
    head -c 10 /dev/urandom | od -An -tx1 | tr -d ' \n'
}

write_peer() {
    cat >"$work/peer.py" <<'PYTHON'
# What a client does besides its announces over HTTP: see the last lines.
import ipaddress, socket, struct, sys, urllib.parse


def decode(text, at=0):
    kind = text[at:at + 1]
    if kind == b"i":
        end = text.index(b"e", at)
        return int(text[at + 1:end]), end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while text[at:at + 1] != b"e":
            item, at = decode(text, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), at + 1
    colon = text.index(b":", at)
    end = colon + 1 + int(text[at:colon])
    return text[colon + 1:end], end


def peers(reply):
    for key, size in (b"peers", 4), (b"peers6", 16):
        compact = reply.get(key, b"")
        for at in range(0, len(compact), size + 2):
            ip, port = compact[at:at + size], compact[at + size:at + size + 2]
            yield str(ipaddress.ip_address(ip)), int.from_bytes(port, "big")


def call(host, port):
    """Who answers there."""
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        return peer.makefile().read()


def met(host, port):
    try:
        name = call(host, port)
    except OSError as error:
        name = "nobody({})".format(error.strerror or error)
    return f"{name}@{host}#{port}".replace(" ", "_")


def meet():
    """Whoever is in the reply is called; an answer, or none, with the address that was told."""
    reply = sys.stdin.buffer.read()
    try:
        print(*sorted(met(*peer) for peer in peers(decode(reply)[0])))
    except (ValueError, AttributeError):
        print("no_reply:", reply[:200])


def external_ip():
    try:
        print(ipaddress.ip_address(decode(sys.stdin.buffer.read())[0][b"external ip"]))
    except (ValueError, KeyError, TypeError):
        print("nobody")


def listen(name, port):
    server = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        with server.accept()[0] as caller:
            caller.sendall(name.encode())


def udp(host, port, info_hash, peer_id, own_port):
    """An announce (BEP 15), its reply written as one over HTTP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tracker = socket.socket(family, socket.SOCK_DGRAM)
    tracker.settimeout(30)
    tracker.connect((host, int(port)))
    tracker.send(struct.pack(">QII", 0x41727101980, 0, 1))
    connection = tracker.recv(2048)[8:16]
    tracker.send(connection + struct.pack(">II20s20sQQQIIIiH", 1, 2, info_hash.encode(), peer_id.encode(),
                                          0, 1, 0, 0, 0, 0, -1, int(own_port)))
    reply = tracker.recv(2048)
    assert reply[:4] == b"\0\0\0\1", reply
    key = b"6:peers6" if family == socket.AF_INET6 else b"5:peers"
    sys.stdout.buffer.write(b"d%s%d:%se" % (key, len(reply) - 20, reply[20:]))


def proxy_line(url, lie):
    """A request behind a line of the PROXY protocol; prints what comes back after the headers."""
    url = urllib.parse.urlsplit(url)
    request = f"PROXY TCP4 {lie} 198.51.100.1 1111 80\r\nGET {url.path}?{url.query} HTTP/1.0\r\n\r\n"
    try:
        with socket.create_connection((url.hostname, url.port), timeout=30) as tracker:
            tracker.sendall(request.encode())
            sys.stdout.buffer.write(tracker.makefile("rb").read().partition(b"\r\n\r\n")[2])
    except OSError:
        pass  # To close the connection is an answer as well.


commands = {"meet": meet, "external_ip": external_ip, "listen": listen, "udp": udp, "proxy_line": proxy_line,
            "call": call, "try": lambda host, port: print(met(host, port))}
commands[sys.argv[1]](*sys.argv[2:])
PYTHON
}

# --- Servers ----------------------------------------------------------------------------------------------------------

tracker_up() { # NODE -l ADDRESS FLAG...
    ip netns exec "$prefix-$1" "$bin" -i 300 -d "${@:2}" >"$work/retracker.log" 2>&1 </dev/null &
    tracker_pid=$!
    wait_for 30 "retracker does not answer" in_node "$1" "$bin" healthcheck -l "$3"
}

# One that panicked, or does not end cleanly when asked to, is a failure.
tracker_down() {
    local pid=$tracker_pid status=0
    tracker_pid=
    [[ $pid ]] || return 0
    kill "$pid" || true
    wait "$pid" || status=$?
    if ((status != 0)) || grep -aq 'panicked at' "$work/retracker.log"; then
        tail -n 20 "$work/retracker.log"
        verdict "$title: the tracker ends as it should" "its exit status was $status"
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

# Prints what an nginx.conf begins with to have `stream`: an empty comment if it is built in, nothing if there is none.
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

# A switch for each side in one namespace, all clients, and the router with an end in each.
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
        # Whoever is on the public side knows of no network behind the router.
        if [[ $side != public ]]; then
            ip -n "$prefix-$client" route add default via "$(gateway_of "$side" 4)"
            ip -n "$prefix-$client" route add default via "$(gateway_of "$side" 6)"
        fi
        in_node "$client" "$python" "$work/peer.py" listen "$client" "$(port_of "$client")" >"$work/$client.log" 2>&1 &
        wait_for 30 "$client does not listen" \
            in_node "$client" "$python" "$work/peer.py" call 127.0.0.1 "$(port_of "$client")"
    done
}

namespace_up() { # NODE
    ip netns add "$prefix-$1"
    ip -n "$prefix-$1" link set lo up
}

plug_in() { # NODE SIDE IPV4 IPV6: its interface is called as the side is
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

# The LANs are routed to each other. From outside nobody gets in but by a port that is forwarded.
nat_to_public_side() {
    no_firewall
    on_router -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT
    on_router -A FORWARD ! -i public -j ACCEPT
    refuse_all_else
    hide a 198.51.100.1 2001:db8::1 -o public
    hide b "${outside[b4]:-198.51.100.1}" "${outside[b6]:-2001:db8::1}" -o public
}

# Not even to each other: what either LAN sends out comes from its address outside.
nat_to_everybody() {
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

hide() { # SIDE IPV4 IPV6 WHERE...: what leaves the side for there has this source
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

# With an answer, so that who tries need not wait.
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

in_node() { # NODE COMMAND...
    ip netns exec "$prefix-$1" "${@:2}"
}

# Whatever still runs in a namespace of this run was started by it; nothing there is worth a clean end.
network_down() {
    local space pids
    for space in $(ip netns list | grep -o "^$prefix-[a-z0-9]*"); do
        while pids=$(ip netns pids "$space") && [[ $pids ]]; do
            # shellcheck disable=SC2086 # one word per process
            kill -KILL $pids 2>/dev/null || true
            sleep 0.05
        done
        ip netns delete "$space"
    done
}

# --- The run ----------------------------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0 tracker_pid='' nginx_pid='' nginx_stream='' finished=''
title='' info_hash='' says_ip=''
# Of each side and family, as in `a4`: where its clients announce, and the address under which others find them.
declare -A tracker_at=() outside=()

prepare() { # [BINARY]
    root=$(dirname "$(dirname "$(realpath "$0")")")
    bin=${1:-${RETRACKER_BIN:-$root/target/release/retracker}}
    [[ $# -gt 0 || -n ${RETRACKER_BIN:-} || -x $bin ]] || bin=$root/target/debug/retracker
    [[ -x $bin ]] || { echo "no such program: $bin" >&2 && exit 2; }
    bin=$(realpath "$bin")

    work=$(mktemp -d "${TMPDIR:-/tmp}/retracker-networks.XXXXXX")
    prefix=rn-${work##*.}
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    # What is met is compared with what is expected, sorted by two programs.
    export LC_ALL=C
    # Itself, as what a version manager puts in its place takes long to find it, and it is started hundreds of times.
    python=$(python3 -c 'import sys; print(sys.executable)' || true)
    write_peer
}

clean_up() {
    local status=$?
    set +e
    [[ $finished ]] || echo "ended early with status $status: $passed passed, $failed failed" >&2
    network_down 2>/dev/null
    rm -rf "$work"
}

obstacle_to_namespaces() {
    local program
    if ((EUID != 0)); then
        echo "this takes root"
        return
    fi
    for program in ip curl python3; do
        if ! installed "$program"; then
            echo "$program is not installed"
            return
        fi
    done
    if ! ip netns add "$prefix-probe" 2>/dev/null; then
        echo "network namespaces may not be made here"
        return
    fi
    ip netns delete "$prefix-probe"
}

installed() { # PROGRAM
    command -v "$1" >/dev/null
}

# Only what fails waits so long: a busy machine may need a good part of it.
wait_for() { # SECONDS COMPLAINT COMMAND...
    local deadline=$((SECONDS + $1))
    until "${@:3}" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            verdict "$title" "$2 within $1 s"
            tail -n 20 "$work"/*.log
            exit 1
        fi
        sleep 0.05
    done
}

verdict() { # TITLE PROBLEM: none if all is well
    if [[ ! $2 ]]; then
        echo "ok - $1"
        ((++passed))
    else
        echo "not ok - $1: $2"
        ((++failed))
    fi
}

skip() { # TITLE OBSTACLE
    echo "skipped - $1, because $2"
    ((++skipped))
}

prepare "$@"
main
