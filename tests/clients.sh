#!/usr/bin/env bash
#
# Real BitTorrent clients transfer a file. They find each other through retracker only, or through retracker and an upstream
# tracker.
#
#     tests/clients.sh [BINARY]
#
# The binary is the argument, else $RETRACKER_BIN, else the release build, else the debug build.
#
# Every scenario has a LAN of its own: a bridge and one network namespace per host. So ports may be fixed, and no client
# ignores peers because they are on loopback. All names have the prefix of this run, and the run removes everything at
# its end. Needs root, iproute2, curl and mktorrent; if a program is missing, the scenarios that need it are skipped.
#
# The foreign tracker is opentracker, if PATH has one that accepts every torrent, else the npm package bittorrent-tracker. It is
# kept between runs in RETRACKER_TEST_CACHE, by default /var/cache/retracker-tests.

set -euo pipefail
shopt -s nullglob
# shellcheck source=tests/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
    #        how                                            network        seeder       leecher
    scenario "over IPv4"                                    one_tracker    aria2        transmission
    scenario "over IPv6 alone"                              ipv6_alone     transmission aria2
    scenario "over retracker.local"                         named_tracker  qbittorrent  rtorrent
    scenario "over retracker.local"                         named_tracker  rtorrent     deluge
    scenario "over TLS"                                     tls_tracker    aria2        transmission
    scenario "over TLS"                                     tls_tracker    transmission aria2
    scenario "with a registry's tokens"                     registry       qbittorrent  transmission
    scenario "with a registry's tokens"                     registry       transmission aria2
    scenario "without a token"                              registry       transmission aria2        none
    scenario "with another torrent's token"                 registry       transmission aria2        other_torrent
    scenario "with another audience's token"                registry       aria2        transmission other_audience
    scenario "with another key's token"                     registry       aria2        transmission other_key
    scenario "with an altered token"                        registry       transmission aria2        altered
    scenario "over UDP"                                     udp_tracker    qbittorrent  transmission
    scenario "over UDP, IPv6 alone"                         udp_ipv6_alone qbittorrent  qbittorrent
    scenario "over UDP and HTTP in one swarm"               udp_and_http   transmission rtorrent
    scenario "over two retrackers that speak UDP"           udp_upstream   transmission qbittorrent
    scenario "over two instances with one swarm"            two_instances  qbittorrent  rtorrent
    scenario "over two retrackers, the seed upstream"       seed_upstream  transmission aria2
    scenario "over two retrackers, the leecher upstream"    leech_upstream aria2        transmission
    scenario "through nginx"                                behind_nginx   deluge       qbittorrent
    scenario "over a foreign tracker, asked over HTTP"      foreign_http   qbittorrent  rtorrent
    scenario "over a foreign tracker, asked over UDP"       foreign_udp    rtorrent     qbittorrent

    summary
}

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly tests arrival_deadline=120 # seconds from the leecher's start to the last byte, on a busy machine
readonly payload_bytes=5000000
readonly bittorrent_tracker=bittorrent-tracker@10.0.12 # the last that is JavaScript alone
readonly cache=${RETRACKER_TEST_CACHE:-/var/cache/retracker-tests}
readonly noise='scrape|round-robin|slotsAvailable|BtPieceMessage' # lines that are left out of a failed scenario's logs

# Longer than any scenario: a client must find its peers with the first announce.
readonly announce_interval=300

declare -rA names=([aria2]=aria2 [transmission]=Transmission [qbittorrent]=qBittorrent [rtorrent]=rTorrent
    [deluge]=Deluge)
declare -rA programs=([aria2]=aria2c [transmission]=transmission-daemon
    [qbittorrent]=qbittorrent-nox [rtorrent]=rtorrent [deluge]="deluged deluge-console" [behind_nginx]=nginx
    [tls_tracker]=openssl [registry]="openssl python3" [two_instances]=redis-server)
# The last part of each host's addresses, 10.77.0.N and fd77::N.
declare -rA hosts=([tracker]=1 [upstream]=2 [seed]=11 [leech]=12)

transfer_pid=

# --- Scenarios ------------------------------------------------------------------------------------------------

# scenario HOW NETWORK SEEDER LEECHER [FAULT]: with a fault, the tracker must refuse the leecher
scenario() {
    local title="${names[$3]} → ${names[$4]} $1" started=$SECONDS status=0 obstacle
    obstacle=$(obstacle_to "${@:2:3}")
    if [[ $obstacle ]]; then
        skip "$title" "$obstacle"
        return
    fi

    # In the background, so that signals are handled at once and `set -e` works inside.
    if [[ ${5:-} ]]; then refusal "${@:2}" & else transfer "${@:2}" & fi
    transfer_pid=$!
    wait "$transfer_pid" || status=$?
    transfer_pid=
    title+=" ($((SECONDS - started)) s)"

    if ((status == 0)); then
        ok "$title"
    else
        not_ok "$title" "$(cat "$work/why" 2>/dev/null || echo "exit status $status")"
        show_logs
    fi
    namespaces_down
    rm -rf "${work:?}"/*
}

# transfer NETWORK SEEDER LEECHER
transfer() {
    # NETWORK sets these: the announce URL of each client, and the tracker that knows both clients.
    local seed_url leech_url meeting_point info_hash
    mkdir "$work"/{seed,leech}
    "$1"
    make_torrent seed "$seed_url"
    cp "$work/seed/payload" "$work/original"
    make_torrent leech "$leech_url"
    info_hash=$(info_hash_of "$work/seed/payload.torrent" | sed 's/../%&/g')

    "$2_start" seed
    wait_for 120 "$meeting_point does not know the seed" swarm_has_seeds 1
    "$3_start" leech
    wait_for "$arrival_deadline" "the file did not arrive" payload_arrived
    wait_for 120 "$meeting_point did not get the completed download" swarm_has_seeds 2
    wait_for 120 "${names[$2]} had no success with its tracker" "$2_has_announced" seed
    wait_for 120 "${names[$3]} had no success with its tracker" "$3_has_announced" leech
    trackers_down
}

# refusal NETWORK SEEDER LEECHER FAULT
refusal() {
    local seed_url leech_url meeting_point info_hash
    mkdir "$work"/{seed,leech}
    "$1"
    leech_url=$(wrong_url "$4")
    make_torrent seed "$seed_url"
    make_torrent leech "$leech_url"
    info_hash=$(info_hash_of "$work/seed/payload.torrent" | sed 's/../%&/g')

    "$2_start" seed
    wait_for 120 "$meeting_point does not know the seed" swarm_has_seeds 1
    "$3_start" leech
    wait_for 120 "${names[$3]} does not show the refusal" "$3_was_refused"
    scrape | grep -aq '10:incompletei0e' || fail "$meeting_point has the leecher as a peer"
    trackers_down
}

# Both torrents have the same content and differ in the announce URL, which is outside the info dictionary. They are private
# (BEP 27), which turns off DHT, PEX and local discovery in every client.
make_torrent() { # NODE ANNOUNCE-URL
    local payload=$work/seed/payload
    [[ -e $payload ]] || head -c "$payload_bytes" /dev/urandom >"$payload"
    mktorrent -p -a "$2" -o "$work/$1/payload.torrent" "$payload" >/dev/null
}

# mktorrent writes `info` as the last key of the outer dictionary: its value ends one byte before the file does.
info_hash_of() { # TORRENT
    local offset
    offset=$(grep -abo -m1 '4:info' "$1" | head -n1)
    tail -c "+$((${offset%%:*} + 7))" "$1" | head -c -1 | sha1sum | cut -c-40
}

swarm_has_seeds() { # COUNT
    scrape | grep -aq "8:completei$1e"
}

scrape() {
    in_node "$meeting_point" curl -sS -m 30 "http://127.0.0.1:8080/scrape?info_hash=$info_hash"
}

payload_arrived() {
    [[ -e $work/leech/payload ]] && [[ $(sha256_of "$work/leech/payload") == "$(sha256_of "$work/original")" ]]
}

sha256_of() {
    sha256sum <"$1"
}

# --- Networks: hosts, trackers and announce URLs ------------------------------------------------------------------

one_tracker() {
    lan_up ipv4 tracker seed leech
    tracker_up tracker
    meet_at tracker http://10.77.0.1:8080/announce
}

ipv6_alone() {
    lan_up ipv6 tracker seed leech
    tracker_up tracker
    meet_at tracker "http://[fd77::1]:8080/announce"
}

named_tracker() {
    lan_up ipv4 tracker seed leech
    tracker_up tracker
    meet_at tracker http://retracker.local:8080/announce
}

# The clients trust one private authority and no other.
tls_tracker() {
    lan_up ipv4 tracker seed leech
    make_certificate retracker.local
    export CURL_CA_BUNDLE=$work/ca.pem
    tracker_up tracker -l tls://:8443 --tls-cert "$work/fullchain.pem" --tls-key "$work/privkey.pem"
    meet_at tracker https://retracker.local:8443/announce
}

# ca.pem, fullchain.pem and privkey.pem, in place of those before.
make_certificate() { # NAME
    (
        cd "$work"
        new_key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
        openssl req -x509 "${new_key[@]}" -days 2 -subj "/CN=an authority" -keyout ca.key -out ca.pem
        openssl req "${new_key[@]}" -subj "/CN=$1" -keyout privkey.pem -out request.pem
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile <(echo "subjectAltName=DNS:$1") -out server.pem
        cat server.pem ca.pem >fullchain.pem
    ) >/dev/null 2>&1
}

# The tracker has a file of Chihaya's, and the announce URLs have tokens of a registry.
registry() {
    lan_up ipv4 tracker seed leech
    mkdir -p "$work"/{tracker,keys}
    spawn tracker registry python3 "$tests/registry.py" serve "$work/keys" 8081
    wait_for 60 "the registry does not answer" in_node tracker curl -fsS -m 5 -o /dev/null http://127.0.0.1:8081/
    cat >"$work/chihaya.yaml" <<EOF
chihaya:
  announce_interval: ${announce_interval}s
  http:
    addr: :8080
  storage:
    gc_interval: 14m
    peer_lifetime: 15m
  prehooks:
  - name: jwt
    config:
      issuer: quay
      audience: http://10.77.0.1:8080/announce
      jwk_set_url: http://127.0.0.1:8081/keys/services/quay/keys
      jwk_set_update_interval: 10s
EOF
    spawn tracker retracker "$bin" --chihaya "$work/chihaya.yaml" -d
    echo $! >"$work/tracker/pid"
    wait_for 30 "retracker has no keys" has_keys

    # The info-hash does not depend on the announce URL.
    make_torrent seed http://10.77.0.1:8080/announce
    torrent=$(info_hash_of "$work/seed/payload.torrent")
    rm "$work/seed/payload.torrent"
    meet_at tracker "http://10.77.0.1:8080/announce?jwt=$(registry_token token "$torrent")"
}

has_keys() { grep -aq 'jwt keys of .*1 RSA' "$work/tracker/retracker.log"; }

registry_token() { # KIND INFO-HASH [AUDIENCE]
    python3 "$tests/registry.py" "$1" "$work/keys" "${@:2}"
}

wrong_url() { # FAULT
    local token=
    case $1 in
        none) ;;
        other_torrent) token=$(registry_token token 0123456789012345678901234567890123456789) ;;
        other_audience) token=$(registry_token token "$torrent" http://elsewhere/announce) ;;
        other_key) token=$(registry_token forged "$torrent") ;;
        altered) token=$(registry_token token "$torrent" | sed 's/.\{20\}$/AAAAAAAAAAAAAAAAAAAA/') ;;
    esac
    echo "http://10.77.0.1:8080/announce${token:+?jwt=$token}"
}

udp_tracker() {
    lan_up ipv4 tracker seed leech
    tracker_up tracker -u :6969
    meet_at tracker udp://10.77.0.1:6969/announce
}

# qBittorrent only: aria2 announces over UDP only with DHT, Transmission and rTorrent not over IPv6, Deluge not over UDP.
udp_ipv6_alone() {
    lan_up ipv6 tracker seed leech
    tracker_up tracker -u :6969
    meet_at tracker "udp://[fd77::1]:6969/announce"
}

udp_and_http() {
    lan_up ipv4 tracker seed leech
    tracker_up tracker -u :8080
    meet_at tracker udp://10.77.0.1:8080/announce
    leech_url=http://10.77.0.1:8080/announce
}

# UDP all the way: from the leecher to its tracker, and from there to the seed's tracker.
udp_upstream() {
    forward_to udp://10.77.0.2:6969/announce
    lan_up ipv4 tracker upstream seed leech
    tracker_up upstream -u :6969
    tracker_up tracker -u :6969 -f "$work/forwarders.yml"
    meeting_point=upstream
    seed_url=udp://10.77.0.2:6969/announce
    leech_url=udp://10.77.0.1:6969/announce
}

# Each client announces to an instance of its own.
two_instances() {
    lan_up ipv4 tracker upstream seed leech
    mkdir -p "$work/tracker"
    spawn tracker redis redis-server --save "" --protected-mode no --dir "$work/tracker"
    tracker_up tracker --share redis://10.77.0.1
    tracker_up upstream --share redis://10.77.0.1
    meeting_point=tracker
    seed_url=http://10.77.0.2:8080/announce
    leech_url=http://10.77.0.1:8080/announce
}

# Only the upstream tracker knows the seed; the leecher's tracker has to get it from there.
seed_upstream() {
    two_trackers http://10.77.0.2:8080/announce
    seed_url=http://10.77.0.2:8080/announce
    leech_url=http://10.77.0.1:8080/announce
}

# The other direction: the seed's tracker announces the seed upstream with the address in the entry's `ip`. Without
# `ip`, the upstream tracker would give the leecher the address of the seed's tracker.
leech_upstream() {
    two_trackers http://10.77.0.2:8080/announce "ip: 10.77.0.${hosts[seed]}"
    seed_url=http://10.77.0.1:8080/announce
    leech_url=http://10.77.0.2:8080/announce
}

behind_nginx() {
    lan_up ipv4 tracker seed leech
    tracker_up tracker --trusted-proxies 127.0.0.1 --real-ip-header X-Real-IP -p
    nginx_up tracker
    meet_at tracker http://retracker.local/announce
}

# Only the foreign tracker knows the seed.
foreign_http() {
    lan_up ipv4 tracker upstream seed leech
    foreign_tracker_up upstream
    forward_to http://10.77.0.2:8080/announce
    tracker_up tracker -f "$work/forwarders.yml"
    seed_url=http://10.77.0.2:8080/announce
    leech_url=http://10.77.0.1:8080/announce
    meeting_point=upstream
}

# The other direction. retracker runs on the seed's own host, because few trackers accept another address than the source. The
# leecher announces to the foreign tracker over UDP too.
foreign_udp() {
    lan_up ipv4 upstream seed leech
    foreign_tracker_up upstream
    forward_to udp://10.77.0.2:8080/announce
    tracker_up seed -f "$work/forwarders.yml"
    seed_url=http://10.77.0.${hosts[seed]}:8080/announce
    leech_url=udp://10.77.0.2:8080/announce
    meeting_point=upstream
}

meet_at() { # NODE ANNOUNCE-URL
    meeting_point=$1 seed_url=$2 leech_url=$2
}

two_trackers() { # URI [SETTING...]
    forward_to "$@"
    lan_up ipv4 tracker upstream seed leech
    tracker_up upstream
    tracker_up tracker -f "$work/forwarders.yml"
    meeting_point=upstream
}

forward_to() { # URI [SETTING...]
    local uri=$1
    shift
    printf '%s\n' "- uri: $uri" "${@/#/  }" >"$work/forwarders.yml"
}

# --- Clients: X_start NODE starts one with its folder's torrent, X_has_announced NODE succeeds after a good announce ---

aria2_start() {
    local home=$work/$1
    spawn "$1" aria2 aria2c --no-conf --quiet --log="$home/aria2-detail.log" --log-level=info --dir="$home" \
        --check-integrity --seed-ratio=0 --enable-dht=false --enable-dht6=false --enable-peer-exchange=false \
        --bt-enable-lpd=false ${CURL_CA_BUNDLE:+--ca-certificate="$CURL_CA_BUNDLE"} "$home/payload.torrent"
}

aria2_has_announced() {
    ! grep -aqE 'Tracker returned|Tracker request .* failed' "$work/$1/aria2-detail.log"
}

aria2_was_refused() { grep -aq 'unapproved request: ' "$work/leech/aria2-detail.log"; }

# uTP is off, because Transmission would try it for half a minute with a peer that does not support it. TR_DEBUG_FD logs
# the tracker's reply: the ordinary log does not have it, and the remote control does not work on a host without IPv4. It reads CURL_CA_BUNDLE itself.
transmission_start() {
    local home=$work/$1
    mkdir "$home/watch"
    cp "$home/payload.torrent" "$home/watch"
    TR_DEBUG_FD=2 spawn "$1" transmission transmission-daemon --foreground --config-dir "$home/config" \
        --watch-dir "$home/watch" --download-dir "$home" --no-dht --no-lpd --no-utp --no-portmap
}

transmission_has_announced() {
    local log=$work/$1/transmission.log
    grep -aq 'Got announce response: connected:1' "$log" && ! grep -a ' err:' "$log" | grep -qv ' err:none'
}

transmission_was_refused() { grep -aq 'unapproved request: ' "$work/leech/transmission.log"; }

qbittorrent_start() {
    local home=$work/$1
    mkdir -p "$home/qBittorrent/config"
    cat >"$home/qBittorrent/config/qBittorrent.conf" <<EOF
[LegalNotice]
Accepted=true

[BitTorrent]
Session\DHTEnabled=false
Session\LSDEnabled=false
Session\PeXEnabled=false

[Preferences]
WebUI\LocalHostAuth=false
EOF
    spawn "$1" qbittorrent qbittorrent-nox --profile="$home" --webui-port=8081 --save-path="$home" \
        "$home/payload.torrent"
}

qbittorrent_has_announced() {
    in_node "$1" curl -sS -m 30 "http://127.0.0.1:8081/api/v2/torrents/trackers?hash=${info_hash//%/}" \
        >"$work/$1/qbittorrent-trackers.log"
    grep -q '"status":2' "$work/$1/qbittorrent-trackers.log"
}

# rTorrent's hash check at the end is off, because it would delay the completed event until the next announce.
rtorrent_start() {
    local home=$work/$1
    mkdir "$home/session"
    cat >"$home/rtorrent.rc" <<EOF
system.daemon.set = true
pieces.hash.on_completion.set = no
directory.default.set = $home
session.path.set = $home/session
dht.mode.set = disable
protocol.pex.set = no
log.open_file = detail, $home/rtorrent-detail.log
log.add_output = tracker_debug, detail
EOF
    spawn "$1" rtorrent rtorrent -n -o "import=$home/rtorrent.rc" "$home/payload.torrent"
}

rtorrent_has_announced() {
    local log=$work/$1/rtorrent-detail.log
    grep -aq 'tracker_list: received' "$log" && ! grep -aq 'tracker_list: failed' "$log"
}

deluge_start() {
    local home=$work/$1
    mkdir "$home/config"
    cat >"$home/config/core.conf" <<EOF
{"file": 1, "format": 1}{"download_location": "$home", "dht": false, "lsd": false, "utpex": false,
"upnp": false, "natpmp": false}
EOF
    spawn "$1" deluge deluged --do-not-daemonize --config "$home/config" --loglevel info
    wait_for 60 "Deluge does not start" deluge_console "$1" status
    deluge_console "$1" "add $home/payload.torrent"
}

# Deluge shows only the result of the last announce, and it announces from several sockets. On a busy machine the last
# one may be from a socket without a route to the tracker, so Deluge is told to announce again.
deluge_has_announced() {
    deluge_console "$1" "info --verbose"
    ! grep -q 'Announce OK' "$work/$1/deluge-console.log" || return 0
    grep -q 'unreachable' "$work/$1/deluge-console.log" && deluge_console "$1" "update_tracker *"
    return 1
}

deluge_console() { # NODE COMMAND
    in_node "$1" deluge-console --config "$work/$1/config" "$2" >"$work/$1/deluge-console.log" 2>&1
}

# --- Servers ------------------------------------------------------------------------------------------------------

tracker_up() { # NODE FLAG...
    mkdir -p "$work/$1"
    spawn "$1" retracker "$bin" -l :8080 -i "$announce_interval" -d "${@:2}"
    echo $! >"$work/$1/pid"
    wait_for 30 "retracker does not answer" in_node "$1" curl -fsS -m 1 -o /dev/null http://127.0.0.1:8080/health
}

# The foreign tracker, over HTTP and UDP on one port.
foreign_tracker_up() { # NODE
    mkdir -p "$work/$1"
    if has_opentracker; then
        spawn "$1" opentracker opentracker -p 8080 -P 8080
    else
        spawn "$1" bittorrent-tracker node "$cache/$bittorrent_tracker/node_modules/bittorrent-tracker/bin/cmd.js" \
            --http --udp --port 8080
    fi
    wait_for 30 "the foreign tracker does not answer" in_node "$1" curl -sS -m 1 -o /dev/null http://127.0.0.1:8080/
}

# Debian's opentracker accepts whitelisted torrents only, so it cannot be used.
has_opentracker() {
    command -v opentracker >/dev/null && [[ $(opentracker -h 2>&1) != *whitelist* ]]
}

# The scenario fails if a retracker panicked in any task, or does not end cleanly.
trackers_down() {
    local file pid status
    ! grep -aq 'panicked at' "$work"/*/retracker.log || fail "retracker panicked"
    for file in "$work"/*/pid; do
        pid=$(<"$file") status=0
        kill "$pid" || fail "retracker ended early"
        wait "$pid" || status=$?
        ((status == 0)) || fail "retracker ended with status $status"
    done
}

# The configuration of contrib/, with its own folders: nginx changes the owner of the default ones.
nginx_up() { # NODE
    local home=$work/$1 kind
    cat >"$home/nginx.conf" <<EOF
user root;
daemon off;
worker_processes 1;
pid $home/nginx.pid;
error_log stderr;
events {}
http {
    $(for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $home/$kind;"; done)
    $(sed "s#/var/log/nginx/#$home/#" "$root/contrib/nginx/retracker.conf")
}
EOF
    spawn "$1" nginx nginx -p "$home" -c "$home/nginx.conf"
    wait_for 30 "nginx does not answer" in_node "$1" curl -fsS -m 1 -o /dev/null http://127.0.0.1/health
}

# --- The LAN ------------------------------------------------------------------------------------------------------

lan_up() { # FAMILY NODE...
    local node
    hub_up
    for node in "${@:2}"; do
        plug_in "$1" "$node"
    done
}

plug_in() { # FAMILY NODE
    local space=$prefix-$2 number=${hosts[$2]}
    mkdir -p "/etc/netns/$space"
    printf '%s\n' "127.0.0.1 localhost" "::1 localhost" "10.77.0.1 retracker.local" >"/etc/netns/$space/hosts"
    if [[ $1 == ipv4 ]]; then
        node_up "$2" "10.77.0.$number/24"
    else
        node_up "$2" "fd77::$number/64" nodad
    fi
}

spawn() { # NODE NAME COMMAND...
    # in_node would not do: here `ip` itself becomes the command, so that `$!` is its process and not a shell's.
    HOME=$work/$1 ip netns exec "$prefix-$1" "${@:3}" >"$work/$1/$2.log" 2>&1 </dev/null &
}

# --- The run ------------------------------------------------------------------------------------------------------

prepare() { # [BINARY]
    root=$(dirname "$(dirname "$(realpath "$0")")")
    bin=$(find_binary "$@")

    work=$(mktemp -d "${TMPDIR:-/tmp}/retracker-clients.XXXXXX")
    prefix=rt-${work##*.}
    trap clean_up EXIT
    trap 'exit 130' INT TERM
}

clean_up() {
    [[ -z $transfer_pid ]] || kill "$transfer_pid" 2>/dev/null || true
    namespaces_down 2>/dev/null
    rmdir /etc/netns 2>/dev/null || true
    rm -rf "$work"
}

# Prints what prevents a scenario; nothing if it can run.
obstacle_to() { # NETWORK SEEDER LEECHER
    local obstacle
    # shellcheck disable=SC2086 # one word per program
    obstacle=$(obstacle_to_namespaces curl mktorrent ${programs[$2]} ${programs[$3]} ${programs[$1]:-})
    if [[ $obstacle ]]; then
        echo "$obstacle"
    elif [[ $1 == foreign_* ]] && ! has_opentracker; then
        obstacle_to_bittorrent_tracker
    fi
}

# Installs the package when it is first needed.
obstacle_to_bittorrent_tracker() {
    local obstacle
    obstacle=$(obstacle_of node npm)
    if [[ $obstacle ]]; then
        echo "$obstacle"
        return
    fi
    [[ -d $cache/$bittorrent_tracker ]] || install_bittorrent_tracker >/dev/null 2>&1 ||
        echo "the npm package bittorrent-tracker cannot be installed"
}

install_bittorrent_tracker() {
    local folder=$cache/$bittorrent_tracker
    rm -rf "$folder.new"
    if mkdir -p "$folder.new" && npm install --prefix "$folder.new" --no-audit --no-fund --ignore-scripts \
        --omit=optional "$bittorrent_tracker" && mv "$folder.new" "$folder"; then
        return
    fi
    rm -rf "$folder.new"
    return 1
}

wait_for() { # SECONDS COMPLAINT COMMAND...
    wait_until "$1" "${@:3}" || fail "$2 within $1 s"
}

fail() { # COMPLAINT
    echo "$1" >"$work/why"
    exit 1
}

show_logs() {
    local log
    for log in "$work"/*/*.log; do
        echo "  --- ${log#"$work/"}"
        { grep -avE "$noise" "$log" || true; } | tail -n 15 | LC_ALL=C tr -c '[:print:]\n' . | cut -c-200 | sed 's/^/  /'
    done
}

prepare "$@"
main
