#!/usr/bin/env bash
# Follows docs/docker.md word for word in a fresh copy of this tree, and looks at the result from outside
# the container: from this machine, and from clients with network namespaces (so addresses) of their own.
#
#   sudo tests/docker.sh
#
# Needs root, docker (20.10 or newer), docker-compose (or COMPOSE="docker compose"), iproute2, iptables, curl and python3.
# Where no Docker daemon answers, it runs one of its own for as long as the test takes. Where the base images
# cannot be pulled, it makes stand-ins for them from Debian packages (debootstrap) and from this machine's Rust toolchain;
# these are kept between runs in RETRACKER_TEST_CACHE, by default /var/cache/retracker-tests.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${RETRACKER_TEST_CACHE:-/var/cache/retracker-tests}
read -ra compose <<< "${COMPOSE:-docker-compose}"
# Another retracker on the same daemon keeps its containers and images.
export COMPOSE_PROJECT_NAME=retracker-test-$$
# The oldest builder that we support is the one to hold the Dockerfile against.
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0

passed=0
failed=0
declare -A namespaces=() # of the clients, by name
links=()                 # their ends on this machine
stand_ins=()

main() {
    local obstacle
    obstacle=$(find_obstacle)
    if [[ $obstacle ]]; then
        echo "skipped - Docker, because $obstacle"
        echo "0 passed, 0 failed, 1 skipped"
        return
    fi
    work=$(mktemp -d -t retracker-docker.XXXXXX)
    project=$work/retracker
    # A trap may run while our own output is redirected.
    exec 3>&2
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    write_helpers
    start_dockerd
    provide_base_images
    copy_tree
    cd "$project"
    lan_client a 1
    lan_client b 2
    lan_client upstream 3

    test_build
    test_quick_start
    test_addresses
    test_host_network
    test_settings
    test_another_listen_addr
    test_forwarding
    test_down
    test_source_edit

    finished=yes
    echo "$passed passed, $failed failed"
    [[ $failed -eq 0 ]]
}

# --- what is tested ---------------------------------------------------------------------------------------------------

test_build() {
    local start=$SECONDS
    if ! compose build > "$work/build.log" 2>&1; then
        tail -n 60 "$work/build.log"
        not_ok "the image builds"
        die "nothing else can be tested without an image"
    fi
    ok "the image builds ($((SECONDS - start)) s)"
}

test_quick_start() {
    cp "$project/.env.example" "$project/.env"
    # The example's port, unless something on this machine has it.
    port=$(sed -n 's/^HOST_PORT=//p' "$project/.env")
    if port_taken "$port"; then
        port=$(free_port)
        setting HOST_PORT "$port"
        note "port 8080 is taken here, using $port"
    fi
    up
    healthy "quick start: cp .env.example .env, up -d --build"

    local image size base
    image=$(docker inspect --format '{{.Image}}' "$container")
    size=$(docker image inspect --format '{{.Size}}' "$image")
    base=$(docker image inspect --format '{{.Size}}' "$runtime_base")
    note "image size: $((size / 1000000)) MB, of which $runtime_base is $((base / 1000000)) MB and our part $(((size - base) / 1000)) kB"

    local uid
    uid=$(docker top "$container" -eo uid,pid,args | awk '/retracker/ { print $1; exit }')
    like "runs as non-root" '^[1-9][0-9]*$' "$uid"
    like "logs are there (docker-compose logs)" '[a-z]' "$(compose logs --no-color 2>/dev/null | grep -v '^Attaching' || true)"

    like "announce from this machine is answered with a bencoded dictionary" \
        'interval=30 .*peers=' "$(announce host localhost m 6880)"
    is "metrics are off by default" "404" "$(status host /metrics)"
}

# The point of a tracker: each client is told where the others really are.
test_addresses() {
    announce a 10.213.1.1 a 6881 > /dev/null || true
    like "a client outside the container is recorded with its own address" \
        '[=,]10\.213\.1\.2:6881(,| |$)' "$(announce b 10.213.2.1 b 6882)"
    like "and is told of the next one" \
        '[=,]10\.213\.2\.2:6882(,| |$)' "$(announce a 10.213.1.1 a 6881)"
    announce host 10.213.1.1 h 6887 > /dev/null || true
    is "a client on this machine that announces to its address on the LAN is recorded with it" \
        "10.213.1.1:6887" "$(recorded_as "$(announce a 10.213.1.1 a 6881)" 6887)"

    # Without IPv6 in the container's network, such a client would be recorded under the address of Docker's bridge.
    if in_namespace a curl -gs -m 30 "http://[fd72:6574:1::1]:$port/" > /dev/null; then
        not_ok "IPv6 clients are refused where their address would be lost"
    else
        ok "IPv6 clients are refused where their address would be lost"
    fi

    # What Docker does to the others is not ours to decide; it is shown for the sake of docs/docker.md.
    local gateway
    gateway=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}' "$container")
    note "Docker's bridge is $gateway"
    note "recorded for clients outside: $(recorded_as "$(announce b 10.213.2.1 b 6882)" 6881) and" \
        "$(recorded_as "$(announce a 10.213.1.1 a 6881)" 6882)"
    note "recorded for a client on this machine itself (10.213.1.1): $(recorded_as "$(announce a 10.213.1.1 a 6881)" 6887)"
    note "recorded for a client on this machine itself (localhost): $(recorded_as "$(announce a 10.213.1.1 a 6881)" 6880)"
    announce_from_container c 6883 run --rm "$runtime_base"
    note "recorded for a client in a container on another network: $(recorded_as "$(announce a 10.213.1.1 a 6881)" 6883)"
}

# What docs/troubleshooting.md has people do for clients in containers of the same host, and over IPv6.
test_host_network() {
    cp "$project/docker-compose.yml" "$work/docker-compose.yml"
    sed -i '/^ *ports:$/,+2c\    network_mode: host' "$project/docker-compose.yml"
    setting LISTEN_ADDR ":$port"
    up
    healthy "the host's network: network_mode: host, LISTEN_ADDR=:$port"

    # It listens as well, so that one can see whether its address is of use.
    neighbour=$(docker run -d --rm "$runtime_base" timeout 120 perl -MIO::Socket::INET -e '
        my $listener = IO::Socket::INET->new(LocalPort => 6883, Listen => 5) or die;
        while (my $caller = $listener->accept) { print $caller "found"; close $caller }')
    local reply address outside
    address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$neighbour")
    announce_from_container c 6883 exec "$neighbour"
    announce host 10.213.1.1 h 6887 > /dev/null || true
    announce host localhost l 6888 > /dev/null || true
    announce a 10.213.1.1 a 6881 > /dev/null || true
    announce a '[fd72:6574:1::1]' s 6889 -g > /dev/null || true
    reply=$(announce b 10.213.2.1 b 6882)
    outside="$(recorded_as "$reply" 6881) and $(recorded_as "$reply" 6889)"
    is "a client in a container is recorded with its own address" "$address:6883" "$(recorded_as "$reply" 6883)"
    is "where this machine finds it" "found" "$(call host "$address" 6883)"
    is "and another container" "found" \
        "$(docker run --rm "$runtime_base" timeout 30 bash -c "cat < /dev/tcp/$address/6883" 2>&1 || true)"
    is "a client on this machine is recorded with its address on the LAN" "10.213.1.1:6887" "$(recorded_as "$reply" 6887)"
    is "clients outside are recorded with their own addresses" "10.213.1.2:6881 and [fd72:6574:1::2]:6889" "$outside"
    note "recorded for a client in a container: $(recorded_as "$reply" 6883)"
    note "recorded for a client on this machine: $(recorded_as "$reply" 6887), from localhost: $(recorded_as "$reply" 6888)"
    note "recorded for clients outside: $outside"

    docker rm --force "$neighbour" > /dev/null 2>&1 || true
    neighbour=
    cp "$work/docker-compose.yml" "$project/docker-compose.yml"
    setting LISTEN_ADDR :80
}

test_settings() {
    setting ANNOUNCE_INTERVAL 77
    setting ENABLE_PROMETHEUS true
    setting X_REAL_IP true
    setting UDP_LISTEN_ADDR :80
    up
    healthy "settings changed in .env, up -d --build"
    like "ANNOUNCE_INTERVAL=77 is in effect" 'interval=77 ' "$(announce a 10.213.1.1 a 6881)"
    is "ENABLE_PROMETHEUS=true is in effect" "200" "$(status host /metrics)"
    announce a 10.213.1.1 p 6884 -H 'X-Real-IP: 10.77.0.5' > /dev/null || true
    like "X_REAL_IP=true is in effect" '[=,]10\.77\.0\.5:6884(,| |$)' "$(announce b 10.213.2.1 b 6882)"
    setting X_REAL_IP false
    udp_announce a 10.213.1.1 6885 > /dev/null || true
    like "UDP_LISTEN_ADDR=:80 is in effect, and clients are recorded with their own addresses" \
        '(^|,)10\.213\.1\.2:6885(,|$)' "$(udp_announce b 10.213.2.1 6886)"
}

# As the comment in docker-compose.yml says: both sides of the mapping change together.
test_another_listen_addr() {
    setting LISTEN_ADDR :9000
    sed -i 's/^\( *- "0\.0\.0\.0:.*\):80"$/\1:9000"/' "$project/docker-compose.yml"
    up
    healthy "LISTEN_ADDR=:9000"
    like "LISTEN_ADDR=:9000 answers on the same outer port" 'interval=77 ' "$(announce a 10.213.1.1 a 6881)"
    setting LISTEN_ADDR :80
    sed -i 's/:9000"$/:80"/' "$project/docker-compose.yml"
}

test_forwarding() {
    ip netns exec "${namespaces[upstream]}" python3 "$work/upstream.py" 10.213.3.2 8080 "$work/upstream.log" &
    upstream_pid=$!
    wait_until 60 curl -sf -o /dev/null -m 1 http://10.213.3.2:8080/ready \
        || die "the test's own upstream tracker does not start"

    echo '- uri: http://10.213.3.2:8080/announce' > "$project/forwarders.yml"
    chmod 644 "$project/forwarders.yml"
    setting FORWARDS_FILE /app/forwarders.yml
    # What docs/docker.md has people do by hand: uncomment the volumes section.
    sed -i '/# volumes:/,/forwarders\.yml/s/# //' "$project/docker-compose.yml"
    up
    healthy "forwarding: volumes uncommented, FORWARDS_FILE=/app/forwarders.yml"
    like "the upstream's peer is in the reply" '[=,]45\.67\.89\.10:51413(,| |$)' "$(announce a 10.213.1.1 f 6885)"
    like "the upstream was asked for the client's torrent and port" 'info_hash=.*6885|6885.*info_hash=' \
        "$(grep -a announce "$work/upstream.log" || true)"
    note "the upstream was asked: $(grep -a -m 1 announce "$work/upstream.log" || true)"

    # As an editor changes it: by a new file, which the container does not see before it starts again.
    { cat "$project/forwarders.yml" && echo '- uri: http://10.213.3.2:8081/announce'; } > "$project/forwarders.new"
    chmod 644 "$project/forwarders.new"
    mv "$project/forwarders.new" "$project/forwarders.yml"
    compose restart >> "$work/compose.log" 2>&1 || true
    healthy "forwarders.yml changed, docker-compose restart"
    like "the file is read again" 'forwarders: 2' "$(compose logs --no-color 2>/dev/null || true)"
}

test_down() {
    local since start code
    since=$(date +%s)
    # A client that keeps its connection open must not hold up the end.
    ip netns exec "${namespaces[a]}" bash -c "exec 3<>/dev/tcp/10.213.1.1/$port sleep 60" &
    idle_pid=$!
    wait_until 30 idle_is_connected || die "the idle client does not connect"
    start=$(date +%s%N)
    compose down >> "$work/compose.log" 2>&1 || true
    note "docker-compose down took $((($(date +%s%N) - start) / 1000000)) ms"
    stop "$idle_pid"
    idle_pid=
    code=$(docker events --since "$since" --until "$(($(date +%s) + 1))" --filter event=die \
        --filter "container=$container" --format '{{.Actor.Attributes.exitCode}}')
    # Docker kills what is not done within the grace period, which would be another code.
    is "the container ended within the grace period, with exit code 0" "0" "$code"
    is "docker-compose down leaves no container" "" \
        "$(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")"
}

# Its shell becomes `sleep` once the connection is there.
idle_is_connected() { [[ $(cat "/proc/$idle_pid/comm" 2> /dev/null) == sleep ]]; }

test_source_edit() {
    local start=$SECONDS
    printf '\n// edited\n' >> "$project/src/main.rs"
    # Older than everything in the image: Cargo compares times, and must not take its earlier output for current.
    touch -d 2001-01-01 "$project/src/main.rs"
    compose build > "$work/rebuild.log" 2>&1 || tail -n 30 "$work/rebuild.log"
    # Docker colours what the compiler says.
    is "after an edit of the source only our own code is compiled" \
        $'Compiling tracker-protocol\nCompiling retracker' "$(sed 's/\x1b\[[0-9;]*m//g' "$work/rebuild.log" | grep -oE 'Compiling [^ ]+')"
    note "rebuilt in $((SECONDS - start)) s"
}

# --- the product, as a user drives it ---------------------------------------------------------------------------------

# In the background, so that a signal to this script is acted on now and not after the compiler.
compose() {
    "${compose[@]}" "$@" &
    compose_pid=$!
    local status=0
    wait "$compose_pid" || status=$?
    compose_pid=
    return "$status"
}

# Starts what .env and docker-compose.yml say now, and finds the container.
up() {
    if ! compose up -d --build >> "$work/compose.log" 2>&1; then
        tail -n 20 "$work/compose.log"
        die "docker-compose up failed"
    fi
    container=$(compose ps -q retracker)
}

healthy() { # NAME
    local start=$SECONDS
    if wait_until 120 is_healthy; then
        ok "$1: becomes healthy ($((SECONDS - start)) s)"
    else
        not_ok "$1: becomes healthy"
        docker inspect --format '{{json .State}}' "$container"
        docker logs --tail 20 "$container"
    fi
}

is_healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$container") == healthy ]]; }

setting() { # NAME VALUE
    sed -i "s|^$1=.*|$1=$2|" "$project/.env"
    grep -qxF "$1=$2" "$project/.env" || die ".env.example has no $1"
}

announce_path() { # LETTER PORT: a peer id is twenty bytes, ours differ in the letter
    local hash='%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14'
    echo "/announce?info_hash=$hash&peer_id=-TT0001-${1}${1}${1}${1}${1}${1}${1}${1}${1}${1}${1}${1}&port=$2&left=1&uploaded=0&downloaded=0&compact=1&event=started"
}

announce() { # NAMESPACE ADDRESS LETTER PORT [CURL OPTIONS]: prints the decoded reply
    local from=$1 to=$2 path
    path=$(announce_path "$3" "$4")
    shift 4
    in_namespace "$from" curl -sS -m 15 "$@" "http://$to:$port$path" | python3 "$work/bdecode.py" || true
}

udp_announce() { # NAMESPACE ADDRESS PORT: prints the peers in the reply
    in_namespace "$1" python3 "$work/udp.py" "$2" "$port" "$3" || true
}

status() { # NAMESPACE PATH
    in_namespace "$1" curl -s -m 30 -o /dev/null -w '%{http_code}' "http://localhost:$port$2" || true
}

announce_from_container() { # LETTER PORT DOCKER-COMMAND...: there is no curl in it
    docker "${@:3}" timeout 30 bash -c \
        "exec 3<>/dev/tcp/10.213.1.1/$port; printf '%s\r\n' 'GET $(announce_path "$1" "$2") HTTP/1.0' '' >&3; cat <&3" \
        > /dev/null 2>&1 || true
}

recorded_as() { # REPLY PORT
    grep -oE "([0-9.]+|\[[0-9a-f:]+\]):$2\b" <<< "$1" || echo "nothing"
}

call() { # NAMESPACE ADDRESS PORT: prints what is said there
    in_namespace "$1" timeout 30 bash -c "cat < /dev/tcp/$2/$3" 2>&1 || true
}

# --- surroundings -----------------------------------------------------------------------------------------------------

# What the machine lacks; nothing when the test can run.
find_obstacle() {
    local program
    if ((EUID != 0)); then
        echo "network namespaces and the Docker daemon need root"
        return
    fi
    for program in docker "${compose[0]}" curl git ip iptables python3 tar; do
        if ! installed "$program"; then
            echo "$program is not installed"
            return
        fi
    done
}

write_helpers() {
    # Strict on purpose: sorted keys, nothing after the end.
    cat > "$work/bdecode.py" << 'PYTHON'
import ipaddress, sys

def decode(b, i):
    if b[i:i+1] == b"i":
        end = b.index(b"e", i)
        return int(b[i+1:end]), end + 1
    if b[i:i+1] in (b"l", b"d"):
        items, kind, i = [], b[i:i+1], i + 1
        while b[i:i+1] != b"e":
            item, i = decode(b, i)
            items.append(item)
        if kind == b"l":
            return items, i + 1
        keys = items[::2]
        assert keys == sorted(set(keys)), f"keys out of order: {keys}"
        return dict(zip(keys, items[1::2])), i + 1
    colon = b.index(b":", i)
    end = colon + 1 + int(b[i:colon])
    assert end <= len(b), "string too long"
    return b[colon+1:end], end

body = sys.stdin.buffer.read()
reply, end = decode(body, 0)
assert isinstance(reply, dict) and end == len(body), f"not one dictionary: {body!r}"
if b"failure reason" in reply:
    sys.exit("failure: " + reply[b"failure reason"].decode())
peers = reply.pop(b"peers")
assert len(peers) % 6 == 0, "peers is not a multiple of 6"
peers = [f"{ipaddress.ip_address(peers[i:i+4])}:{int.from_bytes(peers[i+4:i+6], 'big')}" for i in range(0, len(peers), 6)]
peers6 = reply.pop(b"peers6", b"")
assert len(peers6) % 18 == 0, "peers6 is not a multiple of 18"
peers += [f"[{ipaddress.ip_address(peers6[i:i+16])}]:{int.from_bytes(peers6[i+16:i+18], 'big')}"
          for i in range(0, len(peers6), 18)]
print(*(f"{k.decode().replace(' ', '_')}={v}" for k, v in reply.items()), "peers=" + ",".join(peers))
PYTHON
    # One client of one torrent over UDP (BEP 15).
    cat > "$work/udp.py" << 'PYTHON'
import socket, struct, sys

host, port, own_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tracker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tracker.connect((host, port))
tracker.settimeout(30)
tracker.send(struct.pack(">QII", 0x41727101980, 0, 1))
connection = tracker.recv(2048)[8:16]
peer_id = b"%020d" % own_port
tracker.send(connection + struct.pack(">II20s20sQQQIIIiH", 1, 2, b"u" * 20, peer_id, 0, 1, 0, 0, 0, 0, -1, own_port))
peers = tracker.recv(2048)[20:]
entries = (peers[at:at + 6] for at in range(0, len(peers), 6))
print(*("%d.%d.%d.%d:%d" % struct.unpack(">4BH", entry) for entry in entries), sep=",")
PYTHON
    # An upstream tracker with one peer, 45.67.89.10:51413.
    cat > "$work/upstream.py" << 'PYTHON'
import http.server, socketserver, sys

address, port, log = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "w", buffering=1)

class Upstream(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.client_address[0], self.requestline, file=log)
        body = b"d8:completei1e10:incompletei0e8:intervali1800e5:peers6:" + bytes([45, 67, 89, 10, 200, 213]) + b"e"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

# Not http.server's own class: it asks DNS for its name before it serves.
socketserver.ThreadingTCPServer((address, port), Upstream).serve_forever()
PYTHON
}

# The tree as a clone would hold it, with what is not committed yet. All files get an old time, as from a release's
# archive: Cargo must not take them for older than the empty program of the dependency layer.
copy_tree() {
    mkdir "$project"
    (cd "$repo" && git ls-files -z --cached --others --exclude-standard -- . ':!target' \
        | while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done \
        | tar --null --files-from=- --create) | tar --extract --no-same-owner --directory "$project"
    find "$project" -exec touch -d 2020-01-01 {} +
}

# A machine of its own beside the host: client N has 10.213.N.2, the host is 10.213.N.1 to it.
lan_client() { # NAME N
    local namespace=rtd-$1-$$ link=rtd$2-$$
    namespaces[$1]=$namespace
    ip netns add "$namespace"
    ip link add "$link" type veth peer name eth0 netns "$namespace"
    links+=("$link")
    ip address add "10.213.$2.1/24" dev "$link"
    ip address add "fd72:6574:$2::1/64" dev "$link" nodad
    ip link set "$link" up
    ip -n "$namespace" address add "10.213.$2.2/24" dev eth0
    ip -n "$namespace" address add "fd72:6574:$2::2/64" dev eth0 nodad
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set eth0 up
    ip -n "$namespace" route add default via "10.213.$2.1"
}
in_namespace() { # NAME COMMAND...
    local name=$1
    shift
    if [[ $name == host ]]; then
        "$@"
    else
        ip netns exec "${namespaces[$name]}" "$@"
    fi
}

start_dockerd() {
    if docker info > /dev/null 2>&1; then
        return
    fi
    installed dockerd || die "no Docker daemon answers, and dockerd is not installed"
    forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
    for table in filter nat; do
        firewall "$table" > "$work/firewall.$table"
    done
    [[ -e /sys/class/net/docker0 ]] || own_docker0=yes
    echo '{}' > "$work/daemon.json"
    export DOCKER_HOST=unix://$work/docker.sock
    # A session of its own, so that Ctrl-C reaches this script alone and the daemon is still there for the cleaning up.
    setsid dockerd --config-file "$work/daemon.json" --host "$DOCKER_HOST" --pidfile "$work/dockerd.pid" \
        --data-root "$work/docker" --exec-root "$work/docker-run" > "$work/dockerd.log" 2>&1 &
    dockerd_pid=$!
    if ! wait_until 60 docker_answers; then
        tail -n 20 "$work/dockerd.log"
        die "dockerd does not start"
    fi
}

docker_answers() { docker info > /dev/null 2>&1; }

# Docker leaves its rules behind when it ends.
firewall() { iptables-save -t "$1" | sed -n 's/ \[[0-9:]*\]$//; /^[:-]/p'; }

restore_firewall() {
    local table
    for table in filter nat; do
        firewall "$table" > "$work/firewall.now"
        {
            echo "*$table"
            # Lines in `now` that were not there before: rules are deleted, then chains. A policy goes back to what it was.
            grep '^-A' "$work/firewall.now" | grep -vxFf "$work/firewall.$table" | sed 's/^-A/-D/'
            grep -E '^:\S+ -$' "$work/firewall.now" | grep -vxFf "$work/firewall.$table" | sed 's/^:\(\S*\) -$/-X \1/'
            if [[ $table == filter ]]; then
                grep '^:FORWARD ' "$work/firewall.filter" || echo ':FORWARD ACCEPT'
            fi
            echo COMMIT
        } > "$work/firewall.undo" || true
        iptables-restore --noflush "$work/firewall.undo" || echo "firewall: $table was not restored" >&2
    done
    echo "$forwarding" > /proc/sys/net/ipv4/ip_forward
}

provide_base_images() {
    mapfile -t bases < <(awk '$1 == "FROM" { print $2 }' "$repo/Dockerfile")
    runtime_base=${bases[-1]}
    local base
    for base in "${bases[@]}"; do
        if docker image inspect "$base" > /dev/null 2>&1; then
            continue
        elif timeout 300 docker pull --quiet "$base" > /dev/null 2>&1; then
            note "$base pulled"
        else
            stand_in "$base"
        fi
    done
}

stand_in() { # IMAGE
    local image=$1 version key archive
    installed debootstrap || die "$image cannot be pulled, and debootstrap is not installed"
    mkdir -p "$cache"
    case $image in
        debian:bookworm-slim)
            archive=$cache/debian-bookworm-slim.tar
            [[ -e $archive ]] || make_debian_archive "$archive"
            docker import --change 'CMD ["bash"]' "$archive" "$image" > /dev/null
            ;;
        rust:*-slim-bookworm)
            version=${image#rust:}
            version=${version%%-*}
            local toolchain
            toolchain=$(find_toolchain "$version")
            # Made again when the toolchain or what the machine trusts has changed.
            key=$("$toolchain/bin/rustc" -vV | cat - /etc/ssl/certs/ca-certificates.crt "${cargo_config[@]}" | sha256sum)
            archive=$cache/rust-$version-slim-bookworm-${key:0:12}.tar
            [[ -e $archive ]] || make_rust_archive "$archive" "$toolchain"
            docker import --change 'ENV CARGO_HOME=/usr/local/cargo' --change 'CMD ["bash"]' "$archive" "$image" > /dev/null
            ;;
        *) die "no stand-in is known for $image" ;;
    esac
    stand_ins+=("$image")
    note "$image cannot be pulled; using a stand-in of Debian packages"
}

# Settings that Cargo needs on this machine to reach the registry; never credentials.
cargo_config=()
if [[ -e ${CARGO_HOME:-$HOME/.cargo}/config.toml ]]; then
    cargo_config+=("${CARGO_HOME:-$HOME/.cargo}/config.toml")
fi

make_debian_archive() { # ARCHIVE
    note "making ${1##*/}, about a minute"
    debian_tree "$work/tree"
    archive_tree "$1"
}

# What the official image holds: gcc, libc6-dev, ca-certificates and the toolchain.
make_rust_archive() { # ARCHIVE TOOLCHAIN
    local tree=$work/tree
    note "making ${1##*/}, about two minutes"
    debian_tree "$tree" --include=gcc,libc6-dev,ca-certificates
    tar -C "$2" -c --exclude=lib/rustlib/src bin lib | tar -C "$tree/usr/local" -x --no-same-owner
    # Behind a proxy with certificates of its own, the build must trust what this machine trusts.
    cat /etc/ssl/certs/ca-certificates.crt > "$tree/etc/ssl/certs/ca-certificates.crt"
    mkdir -p "$tree/usr/local/cargo"
    if ((${#cargo_config[@]})); then
        cp "${cargo_config[@]}" "$tree/usr/local/cargo/"
    fi
    archive_tree "$1"
}

debian_tree() { # FOLDER [OPTIONS]
    local tree=$1
    shift
    if ! debootstrap --variant=minbase "$@" bookworm "$tree" > "$work/debootstrap.log" 2>&1; then
        tail -n 20 "$work/debootstrap.log"
        die "debootstrap failed"
    fi
    # As the official images do.
    rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/*
}

archive_tree() { # ARCHIVE: complete under its name, or not there
    tar -C "$work/tree" -cf "$1.$$" .
    mv "$1.$$" "$1"
    rm -rf "$work/tree"
}

find_toolchain() { # VERSION
    local choice sysroot
    # Without a choice: the default toolchain, or a Rust that knows no rustup.
    for choice in "" "+$1" "+$1.0"; do
        sysroot=$(RUSTUP_AUTO_INSTALL=0 rustc ${choice:+"$choice"} --print sysroot 2> /dev/null) || continue
        if [[ $("$sysroot/bin/rustc" --version) == "rustc $1."* ]]; then
            echo "$sysroot"
            return
        fi
    done
    die "no Rust $1 on this machine to make a stand-in of rust:$1-slim-bookworm"
}

cleanup() {
    local status=$?
    set +e
    trap '' INT TERM
    exec 2>&3
    cd /
    [[ -n ${finished:-} ]] || echo "ended early with status $status: $passed passed, $failed failed" >&2
    [[ -z ${compose_pid:-} ]] || stop "$compose_pid"
    [[ -z ${idle_pid:-} ]] || stop "$idle_pid"
    [[ -z ${upstream_pid:-} ]] || stop "$upstream_pid"
    [[ -z ${neighbour:-} ]] || docker rm --force "$neighbour" > /dev/null 2>&1
    if [[ -e $project/docker-compose.yml ]]; then
        (cd "$project" && "${compose[@]}" down --rmi local --volumes --timeout 5 > /dev/null 2>&1)
    fi
    if ((${#stand_ins[@]})) && [[ -z ${dockerd_pid:-} ]]; then
        # Somebody else's daemon must not keep them under the official names.
        docker rmi --force "${stand_ins[@]}" > /dev/null 2>&1
    fi
    local name link
    for name in "${namespaces[@]}"; do
        ip netns delete "$name"
    done
    for link in "${links[@]}"; do
        # Gone with its namespace already, as a rule.
        ip link delete "$link" 2> /dev/null
    done
    if [[ -n ${dockerd_pid:-} ]]; then
        stop "$dockerd_pid"
        [[ -z ${own_docker0:-} ]] || ip link delete docker0 2> /dev/null
        restore_firewall
        # What the daemon may have left mounted, deepest first.
        awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
            umount "$mount"
        done
    fi
    rm -rf --one-file-system "$work"
    exit "$status"
}

stop() { # PID of a child
    kill "$1" 2> /dev/null || true
    wait "$1" 2> /dev/null || true
}

wait_until() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.5
    done
}

port_taken() { ! python3 -c "import socket; socket.create_server(('', $1))" 2> /dev/null; }
free_port() { python3 -c "import socket; print(socket.create_server(('', 0)).getsockname()[1])"; }

ok() { passed=$((passed + 1)); echo "ok - $1"; }
not_ok() { failed=$((failed + 1)); echo "not ok - $1"; }
is() { # NAME EXPECTED ACTUAL
    if [[ $3 == "$2" ]]; then ok "$1"; else not_ok "$1: expected '$2', got '$3'"; fi
}
like() { # NAME PATTERN ACTUAL
    if [[ $3 =~ $2 ]]; then ok "$1"; else not_ok "$1: expected $2, got '$3'"; fi
}
note() { echo "# $*"; }
die() { echo "$1" >&2; exit 1; }
installed() { command -v "$1" > /dev/null; }

main "$@"
