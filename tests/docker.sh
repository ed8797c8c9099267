#!/usr/bin/env bash
# Follows docs/docker.md in a fresh copy of this tree, and checks the result from outside the container: from this machine, and
# from clients in network namespaces, each with an address of its own.
#
#   sudo tests/docker.sh
#
# Needs root, docker (20.10 or newer), docker-compose (or COMPOSE="docker compose"), iproute2, iptables, curl and python3.
# If no Docker daemon answers, the test runs one of its own. If the base images cannot be pulled, it makes stand-ins from Debian
# packages (debootstrap) and this machine's Rust toolchain, and keeps them in RETRACKER_TEST_CACHE, by default
# /var/cache/retracker-tests.
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
read -ra compose <<< "${COMPOSE:-docker-compose}"
# A project name of this run, so that another retracker on the same daemon keeps its containers and images.
export COMPOSE_PROJECT_NAME=retracker-test-$$
# The Dockerfile must work with the oldest supported builder.
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0

prefix=rtd$$ # of the clients' namespaces
links=()     # their interfaces on this machine
stand_ins=()
torrent_images=()
torrent_containers=()

main() {
    local obstacle
    obstacle=$(find_obstacle)
    if [[ $obstacle ]]; then
        skip "Docker" "$obstacle"
        summary
        return
    fi
    work=$(mktemp -d -t retracker-docker.XXXXXX)
    project=$work/retracker
    # A trap may run while standard error is redirected.
    exec 3>&2
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    start_dockerd
    provide_base_images
    copy_tree
    cd "$project"
    lan_client a 1
    lan_client b 2
    lan_client upstream 3

    test_build
    test_release_image
    test_quick_start
    test_addresses
    test_host_network
    test_settings
    test_another_listen_addr
    test_forwarding
    test_chihaya
    test_torrent_cache
    test_torrent_cache_profile
    test_down
    test_source_edit

    finished=yes
    summary
}

# --- The tests --------------------------------------------------------------------------------------------------------

test_build() {
    local start=$SECONDS
    if ! compose build > "$work/build.log" 2>&1; then
        tail -n 60 "$work/build.log"
        not_ok "the image builds"
        die "nothing else can be tested without an image"
    fi
    ok "the image builds ($((SECONDS - start)) s)"
}

# The file of a release holds the image that docker-compose builds.
test_release_image() {
    local image=$COMPOSE_PROJECT_NAME-release built archive
    release_image=$image
    if ! archive=$(IMAGE=$image contrib/release/build.sh image 2> "$work/release.log"); then
        tail -n 20 "$work/release.log"
        not_ok "the image of a release is built"
        return
    fi
    built=$(docker image inspect --format '{{.Id}}' "$image")
    docker rmi "$image" > /dev/null
    docker load --quiet --input "$archive" > /dev/null
    is "the image of a release can be loaded from its file" "$built" "$(docker image inspect --format '{{.Id}}' "$image")"
    is "it is the image of docker-compose" "$(compose_image_id)" "$built"
}

compose_image_id() {
    docker image inspect --format '{{.Id}}' "${COMPOSE_PROJECT_NAME}_retracker" 2> /dev/null \
        || docker image inspect --format '{{.Id}}' "$COMPOSE_PROJECT_NAME-retracker"
}

test_quick_start() {
    cp "$project/.env.example" "$project/.env"
    # The example's port, unless another program on this machine uses it.
    port=$(sed -n 's/^HOST_PORT=//p' "$project/.env")
    if ! peer is_free "$port"; then
        port=$(peer free_port)
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
    like "docker-compose logs has output" '[a-z]' "$(compose logs --no-color 2>/dev/null | grep -v '^Attaching' || true)"

    like "announce from this machine is answered with a bencoded dictionary" \
        'interval=30 .*peers=' "$(announce host localhost m 6880)"
    is "metrics are off by default" "404" "$(status host /metrics)"
}

# Each client must get the other clients' own addresses.
test_addresses() {
    announce a 10.213.1.1 a 6881 > /dev/null || true
    like "a client outside the container is recorded with its own address" \
        '[=,]10\.213\.1\.2:6881(,| |$)' "$(announce b 10.213.2.1 b 6882)"
    like "and gets the next one" \
        '[=,]10\.213\.2\.2:6882(,| |$)' "$(announce a 10.213.1.1 a 6881)"
    announce host 10.213.1.1 h 6887 > /dev/null || true
    is "a client on this machine that announces to its address on the LAN is recorded with it" \
        "10.213.1.1:6887" "$(recorded_as "$(announce a 10.213.1.1 a 6881)" 6887)"

    # The container's network has no IPv6, so an IPv6 client would be recorded with the address of Docker's bridge.
    if from a curl -gs -m 30 "http://[fd72:6574:1::1]:$port/" > /dev/null; then
        not_ok "IPv6 clients are refused if their address would be lost"
    else
        ok "IPv6 clients are refused if their address would be lost"
    fi

    # For other clients, Docker decides which address the tracker sees. The addresses are printed, to compare with
    # docs/docker.md.
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

# The advice of docs/troubleshooting.md for clients in containers of the same host, and over IPv6.
test_host_network() {
    cp "$project/docker-compose.yml" "$work/docker-compose.yml"
    sed -i '/^ *ports:$/,+2c\    network_mode: host' "$project/docker-compose.yml"
    setting LISTEN_ADDR ":$port"
    up
    healthy "the host's network: network_mode: host, LISTEN_ADDR=:$port"

    # It also listens, to check that its address can be reached.
    neighbour=$(docker run -d --rm "$runtime_base" timeout 120 perl -e "$(<"$repo/tests/listener.pl")")
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
    is "this machine can connect to it" "found" "$(call host "$address" 6883)"
    is "another container can connect to it" "found" \
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
        '[=,]10\.213\.1\.2:6885(,|$)' "$(udp_announce b 10.213.2.1 6886)"
}

# As the comment in docker-compose.yml says, LISTEN_ADDR and the container's port in the mapping change together.
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
    ip netns exec "$prefix-upstream" python3 "$repo/tests/peer.py" upstream 10.213.3.2 8080 "$work/upstream.log" &
    upstream_pid=$!
    wait_until 60 curl -sf -o /dev/null -m 1 http://10.213.3.2:8080/ready \
        || die "the upstream tracker of the test does not start"

    echo '- uri: http://10.213.3.2:8080/announce' > "$project/forwarders.yml"
    chmod 644 "$project/forwarders.yml"
    setting FORWARDS_FILE /app/forwarders.yml
    # As docs/docker.md says: uncomment the volumes section.
    sed -i '/# volumes:/,/forwarders\.yml/s/# //' "$project/docker-compose.yml"
    up
    healthy "forwarding: volumes uncommented, FORWARDS_FILE=/app/forwarders.yml"
    like "the upstream's peer is in the reply" '[=,]45\.67\.89\.10:51413(,| |$)' "$(announce a 10.213.1.1 f 6885)"
    like "the upstream got the client's torrent and port" 'info_hash=.*6885|6885.*info_hash=' \
        "$(grep -a announce "$work/upstream.log" || true)"
    note "request to the upstream: $(grep -a -m 1 announce "$work/upstream.log" || true)"

    # Editors replace the file by a new one, which the container sees only after a restart.
    { cat "$project/forwarders.yml" && echo '- uri: http://10.213.3.2:8081/announce'; } > "$project/forwarders.new"
    chmod 644 "$project/forwarders.new"
    mv "$project/forwarders.new" "$project/forwarders.yml"
    compose restart >> "$work/compose.log" 2>&1 || true
    healthy "forwarders.yml changed, docker-compose restart"
    like "the file is read again" 'forwarders: 2' "$(compose logs --no-color 2>/dev/null || true)"
}

# The `docker run` lines of the pages by which registries set up Chihaya, with our image in place of Chihaya's. The files have the
# pages' placeholders, so nobody gets in.
test_chihaya() {
    local image usual
    image=$(docker inspect --format '{{.Image}}' "$container")
    for usual in 6880 6881 6882; do
        if ! peer is_free "$usual"; then
            skip "Chihaya's docker run lines" "port $usual is taken here"
            return
        fi
    done
    cp "$repo/tests/it/chihaya/quay-v2.yaml" "$work/chihaya.yaml"
    cp "$repo/tests/it/chihaya/quay-v1.json" "$work/config.json"
    chmod 644 "$work/chihaya.yaml" "$work/config.json"

    run_like_chihaya "v2" -v "$work/chihaya.yaml:/etc/chihaya.yaml:ro" "$image" --chihaya /etc/chihaya.yaml
    like "v2: an announce is refused in Chihaya's words" "unapproved request: missing jwt" "$(announce_like_chihaya)"
    is "v2: Prometheus gets metrics on port 6880" "200" \
        "$(curl -s -m 10 -o /dev/null -w '%{http_code}' -H 'Host: tracker.example' http://localhost:6880/metrics || true)"
    docker rm --force "$container" > /dev/null

    run_like_chihaya "v1" -v "$work/config.json:/config.json:ro" "$image" -v=5 --chihaya /config.json
    like "v1: an announce is refused" "failure reason" "$(announce_like_chihaya)"
    docker rm --force "$container" > /dev/null
    neighbour=
    container=$(compose ps -q retracker)
}

run_like_chihaya() { # VERSION DOCKER-ARGUMENT...
    local version=$1
    shift
    container=$(docker run -d --cap-drop ALL --read-only -p 6880-6882:6880-6882 "$@")
    # It is removed at the end, also if the test ends early.
    neighbour=$container
    healthy "$version: the docker run line of Chihaya's page"
    like "$version: it runs as non-root" '^[1-9][0-9]*$' \
        "$(docker top "$container" -eo uid,pid,args | awk '/retracker/ { print $1; exit }')"
}

announce_like_chihaya() { curl -s -m 10 "http://localhost:6881$(announce_path c 6890)" || true; }

# The `docker run` lines of torrent-cache's page, letter for letter: a terminal is there, and a folder of the host at /storage.
test_torrent_cache() {
    local image usual
    for usual in 2378 6969 8888; do
        if ! peer is_free "$usual"; then
            skip "torrent-cache's docker run lines" "port $usual is taken here"
            return
        fi
    done
    for image in tracker client; do
        if docker image inspect "$image" > /dev/null 2>&1; then
            skip "torrent-cache's docker run lines" "there is an image $image already"
            return
        fi
        torrent_images+=("$image")
        docker build --quiet --target "$image" --tag "$image" "$project" > "$work/$image.log" 2>&1 \
            || { tail -n 20 "$work/$image.log"; not_ok "the image $image is built"; return; }
    done

    run_in_terminal tracker \
        "docker run -v /var/lib/torrent-tracker:/storage --rm -it -p 2378:2378 -p 6969:6969 tracker"
    healthy "the tracker's docker run line"
    is "it has no torrent file yet, in etcd's form" "404" "$(code http://localhost:2378/v2/keys/torrents/a)"
    like "it answers announces" "interval" "$(curl -s -m 10 "http://localhost:6969$(announce_path t 6895)" || true)"

    run_in_terminal client "docker run -it -v /var/lib/torrent-storage:/storage -e TRACKER=http://10.213.1.1:6969/announce \
-e ETCD_HOST=10.213.1.1 -p 8888:8888 -p 6881-6891 --rm client"
    healthy "the client's docker run line"
    like "it finds the tracker" "^ok +tracker .*takes announces" "$(docker exec "$container" torrent-cache check 2>&1 | grep -i tracker || true)"
    is "CONNECT is refused with a sentence" "405" "$(code -X CONNECT http://localhost:8888/)"
    remove_torrent_containers
    container=$(compose ps -q retracker)
}

# The profile of docker-compose.yml: retracker and the cache of this host. The registry is a server of files beside the host: a blob
# is a file under its path.
test_torrent_cache_profile() {
    local blobs=$work/registry/v2/a/blobs digest usual report
    for usual in 8888 {6881..6891}; do
        if ! peer is_free "$usual"; then
            skip "torrent-cache's profile of docker-compose" "port $usual is taken here"
            return
        fi
    done
    mkdir -p "$blobs"
    head -c 3000000 /dev/urandom > "$work/blob"
    digest=$(sha256sum < "$work/blob" | cut -d ' ' -f 1)
    mv "$work/blob" "$blobs/sha256:$digest"
    ip netns exec "$prefix-upstream" python3 -m http.server --bind 10.213.3.2 --directory "$work/registry" 8082 \
        > "$work/registry.log" 2>&1 &
    registry_pid=$!
    wait_until 60 curl -sf -o /dev/null -m 1 http://10.213.3.2:8082/v2/ || die "the registry of the test does not start"

    setting TORRENTS true
    printf '%s\n' REGISTRY_LOCATION=10.213.3.2:8082 REGISTRY_NO_SSL=1 >> "$project/.env"
    if ! compose --profile torrent-cache up -d --build >> "$work/compose.log" 2>&1; then
        tail -n 20 "$work/compose.log"
        not_ok "docker-compose --profile torrent-cache up starts the cache"
        return
    fi
    container=$(compose --profile torrent-cache ps -q torrent-cache)
    healthy "docker-compose --profile torrent-cache up -d"
    report=$(docker exec "$container" torrent-cache check 2>&1 || true)
    like "the cache reaches retracker" "ok +tracker http://retracker/announce" "$report"
    like "retracker keeps its torrents" "ok +torrents retracker:2378" "$report"
    is "a blob is pulled through it" "$digest" "$(pulled "$digest")"
    wait_until 30 keeps_a_blob || not_ok "the blob is kept"
    is "and once more" "$digest" "$(pulled "$digest")"
    is "the registry has sent it once" "1" "$(grep -c '"GET /v2/a/blobs/' "$work/registry.log" || true)"
    compose --profile torrent-cache up -d --force-recreate torrent-cache >> "$work/compose.log" 2>&1 || true
    container=$(compose --profile torrent-cache ps -q torrent-cache)
    healthy "a new container of the cache"
    is "it has what the volume kept" "$digest 1" "$(pulled "$digest") $(grep -c '"GET /v2/a/blobs/' "$work/registry.log" || true)"

    compose --profile torrent-cache rm --stop --force torrent-cache >> "$work/compose.log" 2>&1 || true
    stop "$registry_pid"
    registry_pid=
    setting TORRENTS false
    container=$(compose ps -q retracker)
}

pulled() { # DIGEST: prints the digest of what the cache gives
    curl -s -m 60 "http://localhost:8888/v2/a/blobs/sha256:$1" | sha256sum | cut -d ' ' -f 1
}

keeps_a_blob() { curl -s -m 10 http://localhost:8888/metrics | grep -q '^torrent_cache_blobs 1$'; }

# Runs a line of a page in a terminal of its own, and waits for its container.
run_in_terminal() { # IMAGE LINE
    script -qefc "$2" /dev/null < /dev/null > "$work/$1.out" 2>&1 &
    wait_until 60 has_container "$1" || { cat "$work/$1.out"; die "no container of $1"; }
    container=$(docker ps --quiet --filter "ancestor=$1" | head -n 1)
    torrent_containers+=("$container")
}

has_container() { [[ $(docker ps --quiet --filter "ancestor=$1") ]]; }

code() { # CURL-ARGUMENT...
    curl -s -m 10 -o /dev/null -w '%{http_code}' "$@" || true
}

remove_torrent_containers() {
    local container
    for container in "${torrent_containers[@]}"; do docker rm --force "$container" > /dev/null 2>&1 || true; done
    torrent_containers=()
}

test_down() {
    local since start code
    since=$(date +%s)
    # A client that keeps its connection open must not delay the end.
    ip netns exec "$prefix-a" bash -c "exec 3<>/dev/tcp/10.213.1.1/$port sleep 60" &
    idle_pid=$!
    wait_until 30 idle_is_connected || die "the idle client does not connect"
    start=$(date +%s%N)
    compose down >> "$work/compose.log" 2>&1 || true
    note "docker-compose down took $((($(date +%s%N) - start) / 1000000)) ms"
    stop "$idle_pid"
    idle_pid=
    code=$(docker events --since "$since" --until "$(($(date +%s) + 1))" --filter event=die \
        --filter "container=$container" --format '{{.Actor.Attributes.exitCode}}')
    # After the grace period Docker kills the process, which gives another exit code.
    is "the container ended within the grace period, with exit code 0" "0" "$code"
    is "docker-compose down leaves no container" "" \
        "$(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")"
}

# The idle client's shell becomes `sleep` when it has connected.
idle_is_connected() { [[ $(cat "/proc/$idle_pid/comm" 2> /dev/null) == sleep ]]; }

test_source_edit() {
    local start=$SECONDS
    printf '\n// edited\n' >> "$project/src/main.rs"
    # The file gets a time before everything in the image. Cargo compares times, and must still see that the file has
    # changed.
    touch -d 2001-01-01 "$project/src/main.rs"
    compose build > "$work/rebuild.log" 2>&1 || tail -n 30 "$work/rebuild.log"
    # The compiler's output has colours.
    is "after an edit of the source only our own code is compiled" \
        'Compiling retracker' "$(sed 's/\x1b\[[0-9;]*m//g' "$work/rebuild.log" | grep -oE 'Compiling [^ ]+')"
    note "rebuilt in $((SECONDS - start)) s"
}

# --- The product, as a user operates it -------------------------------------------------------------------------------

# In the background, so that this script handles signals at once and not after the compiler.
compose() {
    "${compose[@]}" "$@" &
    compose_pid=$!
    local status=0
    wait "$compose_pid" || status=$?
    compose_pid=
    return "$status"
}

# Starts the container with the current .env and docker-compose.yml.
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

announce_path() { # LETTER PORT: the peer id is made of the letter
    local hash='%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14'
    echo "/announce?info_hash=$hash&peer_id=-TT0001-${1}${1}${1}${1}${1}${1}${1}${1}${1}${1}${1}${1}&port=$2&left=1&uploaded=0&downloaded=0&compact=1&event=started"
}

announce() { # NODE ADDRESS LETTER PORT [CURL OPTIONS]: prints the decoded reply
    local from=$1 to=$2 path
    path=$(announce_path "$3" "$4")
    shift 4
    from "$from" curl -sS -m 15 "$@" "http://$to:$port$path" | peer show || true
}

udp_announce() { # NODE ADDRESS PORT: prints the peers in the reply
    from "$1" python3 "$repo/tests/peer.py" udp "$2" "$port" uuuuuuuuuuuuuuuuuuuu "$(printf '%020d' "$3")" "$3" | peer show || true
}

status() { # NODE PATH
    from "$1" curl -s -m 30 -o /dev/null -w '%{http_code}' "http://localhost:$port$2" || true
}

announce_from_container() { # LETTER PORT DOCKER-COMMAND...: containers have no curl
    docker "${@:3}" timeout 30 bash -c \
        "exec 3<>/dev/tcp/10.213.1.1/$port; printf '%s\r\n' 'GET $(announce_path "$1" "$2") HTTP/1.0' '' >&3; cat <&3" \
        > /dev/null 2>&1 || true
}

recorded_as() { # REPLY PORT
    grep -oE "([0-9.]+|\[[0-9a-f:]+\]):$2\b" <<< "$1" || echo "nothing"
}

call() { # NODE ADDRESS PORT: prints what the listener there sends
    from "$1" timeout 30 bash -c "cat < /dev/tcp/$2/$3" 2>&1 || true
}

# --- The environment --------------------------------------------------------------------------------------------------

# Prints what prevents the test; nothing if it can run.
find_obstacle() {
    if ((EUID != 0)); then
        echo "network namespaces and the Docker daemon need root"
    else
        obstacle_of docker "${compose[0]}" curl git ip iptables python3 tar
    fi
}

# Copies the tree as a clone would have it, with uncommitted changes. All files get an old time, as in a release archive: Cargo must
# still see that they differ from the empty program of the dependency layer.
copy_tree() {
    mkdir "$project"
    (cd "$repo" && git ls-files -z --cached --others --exclude-standard -- . ':!target' \
        | while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done \
        | tar --null --files-from=- --create) | tar --extract --no-same-owner --directory "$project"
    # The image is built twice, and the optimization of the whole program would take most of that time.
    sed -i 's/^lto = .*/lto = "off"/; s/^codegen-units = .*/codegen-units = 16/' "$project/Cargo.toml"
    find "$project" -exec touch -d 2020-01-01 {} +
}

# Client N is a machine beside the host: it has 10.213.N.2, and the host is 10.213.N.1.
lan_client() { # NAME N
    local namespace=$prefix-$1 link=$prefix-$2
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

from() { # NODE COMMAND...: node `host` is this machine
    if [[ $1 == host ]]; then "${@:2}"; else in_node "$@"; fi
}

peer() { # COMMAND...
    python3 "$repo/tests/peer.py" "$@"
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
    # A session of its own, so that Ctrl-C reaches this script only and the daemon still runs for the cleanup.
    setsid dockerd --config-file "$work/daemon.json" --host "$DOCKER_HOST" --pidfile "$work/dockerd.pid" \
        --data-root "$work/docker" --exec-root "$work/docker-run" > "$work/dockerd.log" 2>&1 &
    dockerd_pid=$!
    if ! wait_until 60 docker_answers; then
        tail -n 20 "$work/dockerd.log"
        die "dockerd does not start"
    fi
}

docker_answers() { docker info > /dev/null 2>&1; }

# Prints the rules of a table. They are compared later, because dockerd does not remove its rules when it ends.
firewall() { iptables-save -t "$1" | sed -n 's/ \[[0-9:]*\]$//; /^[:-]/p'; }

restore_firewall() {
    local table
    for table in filter nat; do
        firewall "$table" > "$work/firewall.now"
        {
            echo "*$table"
            # Undoes what is new: deletes first the rules, then the chains. The policy is restored.
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
            # Made again when the toolchain or the trusted certificates have changed.
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

# Cargo's settings on this machine for reaching the registry; never credentials.
cargo_config=()
if [[ -e ${CARGO_HOME:-$HOME/.cargo}/config.toml ]]; then
    cargo_config+=("${CARGO_HOME:-$HOME/.cargo}/config.toml")
fi

make_debian_archive() { # ARCHIVE
    note "making ${1##*/}, about a minute"
    debian_tree "$work/tree"
    archive_tree "$work/tree" "$1"
}

# The content of the official image: gcc, libc6-dev, ca-certificates and the toolchain.
make_rust_archive() { # ARCHIVE TOOLCHAIN
    local tree=$work/tree
    note "making ${1##*/}, about two minutes"
    debian_tree "$tree" --include=gcc,libc6-dev,ca-certificates
    tar -C "$2" -c --exclude=lib/rustlib/src bin lib | tar -C "$tree/usr/local" -x --no-same-owner
    # Behind a proxy with private certificates, the build must trust the same authorities as this machine.
    cat /etc/ssl/certs/ca-certificates.crt > "$tree/etc/ssl/certs/ca-certificates.crt"
    mkdir -p "$tree/usr/local/cargo"
    if ((${#cargo_config[@]})); then
        cp "${cargo_config[@]}" "$tree/usr/local/cargo/"
    fi
    archive_tree "$tree" "$1"
}

find_toolchain() { # VERSION
    local choice sysroot
    # The empty choice is the default toolchain, or a Rust that rustup did not install.
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
    [[ -z ${registry_pid:-} ]] || stop "$registry_pid"
    [[ -z ${neighbour:-} ]] || docker rm --force "$neighbour" > /dev/null 2>&1
    remove_torrent_containers
    ((${#torrent_images[@]} == 0)) || docker rmi --force "${torrent_images[@]}" > /dev/null 2>&1
    [[ -z ${release_image:-} ]] || docker rmi --force "$release_image" > /dev/null 2>&1
    if [[ -e $project/docker-compose.yml ]]; then
        (cd "$project" && "${compose[@]}" --profile torrent-cache down --rmi local --volumes --timeout 5 > /dev/null 2>&1)
    fi
    if ((${#stand_ins[@]})) && [[ -z ${dockerd_pid:-} ]]; then
        # A daemon that the test did not start must not keep the stand-ins under the official names.
        docker rmi --force "${stand_ins[@]}" > /dev/null 2>&1
    fi
    namespaces_down 2>/dev/null
    local link
    for link in "${links[@]}"; do
        # Usually removed together with its namespace.
        ip link delete "$link" 2> /dev/null
    done
    if [[ -n ${dockerd_pid:-} ]]; then
        stop "$dockerd_pid"
        [[ -z ${own_docker0:-} ]] || ip link delete docker0 2> /dev/null
        restore_firewall
        # Mounts that the daemon may have left, deepest first.
        awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
            umount "$mount"
        done
    fi
    rm -rf --one-file-system "$work"
    exit "$status"
}

main "$@"
