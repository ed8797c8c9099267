#!/usr/bin/env bash
#
# torrent-cache as its users use it: dockerd, containerd, podman, skopeo and OSTree fetch through it, from a registry and an OSTree
# repository on this machine. Then a small disk, upstreams that fail, and kills.
#
#     tests/torrent-cache.sh [BINARY]
#
# All run in a network namespace, so that ports may be fixed. Needs root, iproute2, docker-registry, umoci, skopeo, podman,
# containerd, dockerd, ostree, htpasswd, openssl, curl and python3. KILLS is how often the cache is killed, SEED at which moments.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly cache=localhost:8888 registry=localhost:5000 private=localhost:5002 scripted=5001 files=localhost:8081
folder=$(mktemp -d)
prefix=tc$$
trap cleanup EXIT

main() {
    local obstacle
    obstacle=$(obstacle_to_namespaces docker-registry umoci skopeo podman containerd ctr dockerd ostree htpasswd openssl curl \
        python3)
    if [[ $obstacle ]]; then
        skip "torrent-cache with real clients" "$obstacle"
        summary
        return
    fi
    binary=$(find_cache "$@")
    ip netns add "$prefix-all"
    in_node all ip link set lo up
    # No login or setting of this machine.
    export HOME=$folder/home XDG_RUNTIME_DIR=$folder/home
    mkdir "$HOME"
    unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY no_proxy NO_PROXY
    start_registry registry "$registry"
    push_image x:latest 2000000 300000 40000

    test_images
    test_https
    test_private_images
    test_ostree
    test_small_disk
    test_first_byte
    test_scripted eight "8888 $scripted"
    test_scripted faults "8888 $scripted $folder/faults" UPSTREAM_TIMEOUT=2
    test_kills
    summary
}

# --- Images -----------------------------------------------------------------------------------------------------------

test_images() {
    start_cache images
    start_dockerd "http://$cache"
    start_containerd
    pulls_twice dockerd
    pulls_twice skopeo
    pulls_twice ctr
    pulls_twice podman
    is "docker's image is the registry's" "$(blobs_of "$registry/library/x-dockerd" config)" \
        "$(in_node all docker image inspect --format '{{.Id}}' x-dockerd | cut -d: -f2)"
    stop_all dockerd containerd cache
}

# Each client has a repository of its own, and nothing of the image at either pull.
pulls_twice() { # CLIENT
    local image=x-$1
    push_image "$image:latest" 2000000 300000 40000
    works "$1 pulls" "pull_with_$1" "$image"
    # Three layers, the configuration, and the manifest.
    is "through the cache, which fetches each blob and the manifest once" "5 5" "$(number_and_kinds "$image" 5)"
    wait_until 30 has_settled || not_ok "$1: the fetches end"
    "forget_with_$1" "$image" >/dev/null 2>&1
    works "$1 pulls again" "pull_with_$1" "$image"
    is "and upstream sees no GET" "5 5" "$(number_and_kinds "$image" 5)"
    is "but HEAD, which tells what the tag means and who may have it" "HEAD /v2/library/$image/manifests/latest" \
        "$(asked registry HEAD "$image" 1 | grep /manifests/ | sort -u)"
}

pull_with_dockerd() { in_node all docker pull --quiet "$1"; }
forget_with_dockerd() { in_node all docker rmi --force "$1"; }

pull_to() { # FOLDER IMAGE [OPTIONS]
    in_node all skopeo copy --quiet --src-tls-verify=false "${@:3}" "docker://$cache/library/$2" "dir:$folder/$1"
}
pull_with_skopeo() { pull_to skopeo "$1"; }
forget_with_skopeo() { rm -rf "$folder/skopeo"; }

ctr() { in_node all ctr --address "$folder/containerd.sock" "$@"; }
pull_with_ctr() { ctr images pull --snapshotter native --hosts-dir "$folder/hosts" "$registry/library/$1:latest"; }
forget_with_ctr() { ctr images rm --sync "$registry/library/$1:latest"; }

podman() { in_node all podman --root "$folder/podman" --runroot "$folder/podman-run" --storage-driver vfs "$@"; }
pull_with_podman() { # IMAGE [REGISTRY]: by the mirror of registries.conf
    mkdir -p "$HOME/.config/containers"
    cat >"$HOME/.config/containers/registries.conf" <<END
[[registry]]
location = "${2:-$registry}"
insecure = true
[[registry.mirror]]
location = "$cache"
insecure = true
END
    CONTAINERS_REGISTRIES_CONF=$HOME/.config/containers/registries.conf podman pull --quiet "${2:-$registry}/library/$1"
}
forget_with_podman() { podman rmi --all --force; }

# The seed's command lines, which have https.
test_https() {
    mkdir "$folder/layers"
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
    start_cache https CERTFILE="$folder/cert.pem" PRIVATEKEY="$folder/key.pem"
    start_dockerd "https://$cache"
    push_image seed:latest 2000000 300000 40000
    works "dockerd with --registry-mirror=https://$cache pulls" pull_with_dockerd seed
    is "through the cache" "5 5" "$(number_and_kinds seed 5)"
    works "skopeo --tls-verify=false layers docker://$cache/library/seed" layers_as_the_seed
    is "from disk" "4" "$(asked registry GET seed 5 | grep -c /blobs/)"
    is "these are the layers and the configuration" "$(blobs_of "$registry/library/seed" layers config)" \
        "$(find "$folder/layers" -type f -printf '%f\n' | sed 's/\.tar$//' | grep -xE '[0-9a-f]{64}' | sort)"
    is "the port speaks https" "200" "$(fetch_status --cacert "$folder/cert.pem" "https://$cache/health")"
    is "and http" "200" "$(fetch_status "http://$cache/health")"
    stop_all dockerd cache
}

layers_as_the_seed() { (cd "$folder/layers" && in_node all skopeo --tls-verify=false layers "docker://$cache/library/seed"); }

# --- Authorisation ----------------------------------------------------------------------------------------------------

test_private_images() {
    local layers blob path own login
    start_registry private "$private" "$folder/users"
    htpasswd -Bbc -C 4 "$folder/users" alice secret 2>/dev/null
    in_node all skopeo copy --quiet --dest-tls-verify=false --dest-creds alice:secret "oci:$folder/oci:x:latest" \
        "docker://$private/library/x"
    mapfile -t layers < <(blobs_of "$registry/library/x" layers)
    blob=${layers[0]}
    path=http://$cache/v2/library/x/blobs/sha256:$blob

    start_cache private REGISTRY_LOCATION="$private"
    is "alice gets a private blob" "$blob" "$(in_node all curl -s -u alice:secret "$path" | sha256sum | cut -d' ' -f1)"
    is "which upstream gives once" "1" "$(asked private GET x 1 | wc -l)"
    wait_until 30 has_settled || not_ok "the blob is kept"
    is "again, from disk" "200" "$(fetch_status -u alice:secret "$path")"
    is "upstream gives nothing more" "1" "$(asked private GET x 1 | wc -l)"
    is "mallory gets 401 on the hit" "401" "$(fetch_status -u mallory:guess "$path")"
    is "at once: alice's yes is not mallory's, nor nobody's" "401" "$(fetch_status "$path")"
    is "an empty login is none" "401" "$(fetch_status -H 'Authorization: Basic Og==' "$path")"
    like "401 has upstream's challenge" 'authenticate: Basic realm=' "$(in_node all curl -si "$path" | grep -i '^www-auth')"
    like "401 says what to do" '"message":"[^"]* log in' "$(in_node all curl -s "$path")"
    works "skopeo with alice's login pulls" pull_to alice x --src-creds alice:secret
    like "without a login it is told that it needs one" 'unauthorized|authentication required' \
        "$(pull_to nobody x 2>&1 || true)"
    stop_all cache

    own=$folder/own.json
    printf '{"auths": {"%s": {"auth": "%s"}}}' "$private" "$(printf alice:secret | base64)" >"$own"
    start_cache own REGISTRY_LOCATION="$private" REGISTRY_AUTH_FILE="$own"
    is "with a login of its own the cache fetches for clients that send none" "200" "$(fetch_status "$path")"
    is "and for those that send an empty one" "200" "$(fetch_status -H 'Authorization: Basic Og==' "$path")"
    is "but not for those that send a wrong one" "401" "$(fetch_status -u mallory:guess "$path")"
    works "podman pulls a private image by the mirror, without a login" pull_with_podman x "$private"
    stop_all cache
    like "the cache does not start if its login speaks for everybody" 'CLIENT_NETWORKS' \
        "$(INTERFACE=0.0.0.0 REGISTRY_AUTH_FILE=$own STORAGE=$folder/open PORT=8888 in_node all timeout 20 "$binary" 2>&1 || true)"
    login=$(printf alice:secret | base64)
    is "no login is on disk" "" "$(grep -rl -e secret -e "$login" "$folder/private" "$folder/own" || true)"
    is "and none is in the log" "" "$(grep -e secret -e "$login" "$folder"/cache*.log || true)"
}

# --- OSTree -----------------------------------------------------------------------------------------------------------

test_ostree() {
    local repo=$folder/ostree/repo
    make_ostree_repository "$repo"
    : >"$folder/flips"
    start files python3 tests/caching.py files "$folder/ostree" "${files#*:}" "$folder/files.asked" "$folder/flips"
    wait_until 30 answers "http://$files/repo/config" || die "the OSTree repository is not served"

    start_cache deltas UPSTREAMS="http://$files"
    pulls_ostree first deltas --require-static-deltas
    like "parts of deltas and a fallback object come from upstream" '/deltas/.*/0 .*/objects/.*filez ' \
        "$(sort "$folder/files.asked" | tr '\n' ' ')"
    : >"$folder/files.asked"
    pulls_ostree second deltas --require-static-deltas
    is "the second pull gets parts and objects from disk" "" \
        "$(grep -E '^GET .*/(deltas/.*/[0-9]+|objects/.*) 200' "$folder/files.asked" || true)"
    stop_all cache

    start_cache objects UPSTREAMS="http://$files"
    pulls_ostree third objects --disable-static-deltas
    : >"$folder/files.asked"
    pulls_ostree fourth objects --disable-static-deltas
    is "objects are from disk as well" "" "$(grep -E '^GET .*/objects/.* 200' "$folder/files.asked" || true)"
    stop_all cache

    local what options
    for what in deltas objects; do
        options=--require-static-deltas path=/0
        [[ $what == deltas ]] || options=--disable-static-deltas path=.filez
        start_cache "flipped-$what" UPSTREAMS="http://$files"
        echo "$path" >"$folder/flips"
        ostree_client flipped
        if ostree_pull flipped "$options" >"$folder/flipped.txt" 2>&1; then
            not_ok "$what with a flipped byte are refused"
        else
            ok "$what with a flipped byte are refused"
        fi
        like "by the cache, which says so" 'SHA-256|digest|checksum|not what' "$(grep -h WARN "$folder/cache.log" || true)"
        is "nothing wrong is on disk" "" "$(python3 tests/caching.py strays "$folder/flipped-$what")"
        : >"$folder/flips"
        pulls_ostree flipped "$what, which are right again," "$options"
        stop_all cache
    done
}

# Two commits: deltas from nothing and from the first, in several parts, and with an object that is fetched by itself.
make_ostree_repository() { # REPO
    local tree=$folder/tree
    mkdir -p "$1" "$tree"
    ostree --repo="$1" init --mode=archive
    head -c 3000000 /dev/urandom >"$tree/large"
    head -c 900000 /dev/urandom >"$tree/one"
    head -c 900000 /dev/urandom >"$tree/two"
    seq 20000 >"$tree/three"
    ostree --repo="$1" commit --branch=test --tree=dir="$tree" >/dev/null
    head -c 900000 /dev/urandom >"$tree/four"
    ostree --repo="$1" commit --branch=test --tree=dir="$tree" >/dev/null
    ostree --repo="$1" static-delta generate --empty --max-chunk-size=1 --min-fallback-size=2 test >/dev/null 2>&1
    ostree --repo="$1" static-delta generate --max-chunk-size=1 test >/dev/null 2>&1
    ostree --repo="$1" summary --update >/dev/null
}

ostree_client() { # NAME
    rm -rf "$folder/client-$1"
    mkdir "$folder/client-$1"
    ostree --repo="$folder/client-$1" init --mode=bare-user
    ostree --repo="$folder/client-$1" remote add --no-gpg-verify origin "http://$files/repo"
}

ostree_pull() { # NAME OPTION
    http_proxy=http://$cache in_node all ostree --repo="$folder/client-$1" pull "$2" origin test
}

pulls_ostree() { # NAME TITLE OPTION
    ostree_client "$1"
    works "ostree pulls $2 through the cache ($1)" ostree_pull "$1" "$3"
    works "and the repository is whole" ostree --repo="$folder/client-$1" fsck
    wait_until 30 has_settled || not_ok "the fetches end"
}

# --- A small disk -----------------------------------------------------------------------------------------------------

test_small_disk() {
    local number image title
    mkdir "$folder/small"
    mount -t tmpfs -o size=50m tmpfs "$folder/small"
    push_image large:1 30000000 30000000 10000000
    push_image large:2 60000000
    start_cache small
    for number in 1 2 3; do
        image=large:$((number % 2 + 1))
        title="a disk of 50 MB: pull $number, of $(image_size "$image") MB, goes on"
        rm -rf "$folder/pulled"
        works "$title" pull_to pulled "$image"
    done
    wait_until 30 has_settled || not_ok "a small disk: the fetches end"
    is "nothing wrong is on the small disk" "" "$(python3 tests/caching.py strays "$folder/small")"
    note "on the small disk are $(du -sm "$folder/small" | cut -f1) MB; $(grep -c WARN "$folder/cache.log" || true) warnings in the log"
    stop_all cache
    # A full disk, which others have filled.
    rm -rf "$folder/small"/*
    head -c 60M /dev/zero >"$folder/small/others" 2>/dev/null || true
    start_cache small
    rm -rf "$folder/pulled"
    works "a full disk: a pull goes on" pull_to pulled x
    stop_all cache
    umount "$folder/small"
}

image_size() { # IMAGE
    in_node all skopeo inspect --raw --tls-verify=false "docker://$registry/library/$1" | python3 -c \
        'import json, sys; print(sum(layer["size"] for layer in json.load(sys.stdin)["layers"]) // 1000000)'
}

# --- First byte, faults, kills ----------------------------------------------------------------------------------------

# How long the first byte takes depends on what else this machine does, so that it is compared with the registry's own time.
test_first_byte() {
    local clients cached cached_most direct direct_most
    for clients in 1 8; do
        # shellcheck disable=SC2046 # a size for each layer
        push_image "layers-$clients:latest" $(yes 500000 | head -n 20)
        blobs_of "$registry/library/layers-$clients" layers | sed "s,^,/v2/library/layers-$clients/blobs/sha256:," >"$folder/paths"
        start_cache "first-byte-$clients"
        read -r cached cached_most direct direct_most < \
            <(in_node all python3 tests/caching.py first-bytes 8888 "${registry#*:}" "$clients" "$(<"$folder/paths")")
        note "clients at once: $clients; first byte of a cold blob: $cached ms through the cache, at most $cached_most;" \
            "$direct ms from the registry, at most $direct_most"
        verdict "the first byte through a cold cache takes at most ten times as long as from the registry" \
            "$(awk "BEGIN { if (!($cached < 10 * $direct)) print \"$cached ms, not $direct ms\" }")"
        is "the cache has fetched each blob once" "$((20 * (clients + 1)))" \
            "$(asked registry GET "layers-$clients" "$((20 * (clients + 1)))" | grep -c /blobs/)"
        stop_all cache
    done
}

test_scripted() { # COMMAND ARGUMENTS [ENVIRONMENT...]
    start_cache "$1" REGISTRY_LOCATION="localhost:$scripted" "${@:3}"
    # shellcheck disable=SC2086 # a word for each argument
    verdicts "$1" $2
    stop_all cache
}

test_kills() {
    STORAGE=$folder/kills STORAGE_QUOTA=12M PORT=8888 INTERFACE=127.0.0.1 REGISTRY_NO_SSL=1 REGISTRY_LOCATION=localhost:$scripted \
        verdicts kills "$binary" 8888 "$scripted" "$folder/kills" "${KILLS:-200}" "${SEED:-$RANDOM}"
}

verdicts() { # COMMAND ARGUMENTS: passes on what tests/caching.py finds
    local title problem
    while IFS=$'\t' read -r title problem; do
        if [[ $title == '#'* ]]; then echo "$title"; else verdict "$title" "$problem"; fi
    done < <(in_node all python3 tests/caching.py "$@" 2>&1 || printf '%s\t%s\n' "$1 ends" "it failed")
}

# --- Registries and caches --------------------------------------------------------------------------------------------

find_cache() { # [BINARY]
    local program=${1:-target/release/torrent-cache}
    [[ $# -gt 0 || -x $program ]] || program=target/debug/torrent-cache
    [[ -x $program ]] || die "no such program: $program; run cargo build -p torrent-cache"
    realpath "$program"
}

start_registry() { # NAME ADDRESS [HTPASSWD]
    cat >"$folder/$1.yml" <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $folder/$1}}
http: {addr: $2}
END
    [[ -z ${3:-} ]] || echo "auth: {htpasswd: {realm: test, path: $3}}" >>"$folder/$1.yml"
    start "$1" docker-registry serve "$folder/$1.yml"
    wait_until 30 answers "http://$2/" || die "$1 does not answer: $(tail -n 3 "$folder/$1.log")"
}

# An image with a layer for each size, made by umoci, in the registry and in $folder/oci.
push_image() { # NAME:TAG SIZE...
    local layout=$folder/oci number=0 size
    [[ -d $layout ]] || umoci init --layout "$layout"
    umoci new --image "$layout:$1"
    for size in "${@:2}"; do
        head -c "$size" /dev/urandom >"$folder/content"
        umoci insert --image "$layout:$1" "$folder/content" "/content-$((++number))" >/dev/null
    done
    in_node all skopeo copy --quiet --dest-tls-verify=false "oci:$layout:$1" "docker://$registry/library/$1"
}

blobs_of() { # IMAGE config|layers...: digests, without sha256:
    in_node all skopeo inspect --raw --tls-verify=false "docker://$1" | python3 -c 'if True:
        import json, sys
        manifest = json.load(sys.stdin)
        blobs = [manifest["config"]] * ("config" in sys.argv) + manifest["layers"] * ("layers" in sys.argv)
        print(*sorted(blob["digest"][7:] for blob in blobs), sep="\n")' "${@:2}"
}

# What the registry was asked for of a repository. It logs a request when it has answered it, so this waits for some.
asked() { # REGISTRY METHOD REPOSITORY NUMBER
    local requests="$2 /v2/library/$3/(blobs|manifests)/[^ ?\"]*" address=$registry
    [[ $1 == registry ]] || address=$private
    # Requests that should not be there are in the log as well, as this one came after them.
    fetch_status "http://$address/v2/fence-$((++fences))/tags/list" >/dev/null
    wait_until 30 grep -q "/v2/fence-$fences/" "$folder/$1.log" || true
    wait_until 30 has_lines "$4" "$requests" "$folder/$1.log" || true
    grep -oE "$requests" "$folder/$1.log" || true
}
fences=0

has_lines() { # NUMBER PATTERN FILE
    (($(grep -cE "$2" "$3") >= $1))
}

number_and_kinds() { # REPOSITORY NUMBER: of GET requests, and of different ones
    local requests
    requests=$(asked registry GET "$@")
    echo "$(wc -l <<<"$requests") $(sort -u <<<"$requests" | wc -l)"
}

start_cache() { # STORAGE [VARIABLE=VALUE...]
    [[ ! -e $folder/cache.log ]] || mv "$folder/cache.log" "$folder/cache-$((++caches)).log"
    echo "$folder/$1" >"$folder/cache.storage"
    start cache env PORT=8888 INTERFACE=127.0.0.1 REGISTRY_NO_SSL=1 REGISTRY_LOCATION="$registry" STORAGE="$folder/$1" "${@:2}" \
        "$binary"
    wait_until 30 answers "http://$cache/health" || die "the cache does not start: $(tail -n 3 "$folder/cache.log")"
}
caches=0

has_settled() {
    [[ -z $(ls -A "$(<"$folder/cache.storage")/incoming") ]] \
        && in_node all curl -s -m 5 "http://$cache/metrics" | grep -qx 'torrent_cache_flights 0'
}

start_dockerd() { # MIRROR
    export DOCKER_HOST=unix://$folder/docker.sock
    echo '{}' >"$folder/daemon.json"
    # Without networks of its own it changes no firewall.
    start dockerd dockerd --config-file "$folder/daemon.json" --host "$DOCKER_HOST" --pidfile "$folder/dockerd-own.pid" \
        --data-root "$folder/docker" --exec-root "$folder/docker-run" --iptables=false --ip-forward=false --bridge=none \
        --registry-mirror="$1"
    wait_until 60 docker info || die "dockerd does not start: $(tail -n 5 "$folder/dockerd.log")"
}

start_containerd() {
    mkdir -p "$folder/hosts/$registry"
    cat >"$folder/hosts/$registry/hosts.toml" <<END
server = "http://$registry"

[host."http://$cache"]
  capabilities = ["pull", "resolve"]
END
    cat >"$folder/containerd.toml" <<END
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
root = "$folder/containerd"
state = "$folder/containerd-run"
[grpc]
  address = "$folder/containerd.sock"
[ttrpc]
  address = "$folder/containerd.sock.ttrpc"
END
    start containerd containerd --config "$folder/containerd.toml"
    wait_until 30 ctr version || die "containerd does not start: $(tail -n 5 "$folder/containerd.log")"
}

works() { # TITLE COMMAND...
    if "${@:2}" >"$folder/output" 2>&1; then ok "$1"; else not_ok "$1" "$(tail -n 3 "$folder/output")"; fi
}

# --- Processes --------------------------------------------------------------------------------------------------------

# Not by `ip netns exec`, which hides the control groups, and dockerd needs those.
start() { # NAME COMMAND...: in the namespace
    nsenter --net="/run/netns/$prefix-all" "${@:2}" >>"$folder/$1.log" 2>&1 </dev/null &
    echo $! >"$folder/$1.pid"
}

stop_all() { # NAME...
    local name
    for name in "$@"; do
        stop "$(<"$folder/$name.pid")"
    done
}

fetch_status() { # CURL-ARGUMENTS
    in_node all curl -s -m 60 -o /dev/null -w '%{http_code}' "$@" || true
}

answers() { # URL
    in_node all curl -s -m 5 -o /dev/null "$1"
}

cleanup() {
    local status=$?
    set +e
    [[ $status == 0 ]] || tail -n 20 "$folder/cache.log" >&2 2>/dev/null
    # dockerd removes its mounts itself if it may.
    [[ ! -e $folder/dockerd.pid ]] || stop "$(<"$folder/dockerd.pid")"
    namespaces_down 2>/dev/null
    awk -v under="$folder/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount "$mount"
    done
    rm -rf --one-file-system "$folder"
}

main "$@"
