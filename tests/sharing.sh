#!/usr/bin/env bash
#
# Instances that share their swarms through a Redis and its replica, with three Sentinels: the network is cut in two, the last
# writes of a primary are lost, it hangs, is full and forgets everything. Clients announce to each instance all the time. No
# announce may fail or wait, and afterwards each instance knows every live peer within one announce interval.
#
#     tests/sharing.sh [BINARY]
#
# The binary is the argument, else $RETRACKER_BIN, else the release build, else the debug build.
#
# On the left are the primary with a Sentinel, and the instance a. On the right are the replica with a Sentinel, the instance b,
# and c with the third Sentinel, which begins later. Needs root, iproute2, curl, python3, redis-server and redis-cli.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly interval=5 # seconds between two announces of a client
# How long until a lost connection is open again, at most: no answer in 2 s, and a pause of up to 2 s.
readonly back=5
readonly nodes=(first second a b c)

binary=$(find_binary "$@")
folder=$(mktemp -d "${TMPDIR:-/tmp}/retracker-sharing.XXXXXX")
prefix=rs-${folder##*.}
trap 'namespaces_down 2>/dev/null; rm -rf "$folder"' EXIT
declare -A pids=()

main() {
    local obstacle
    obstacle=$(obstacle_to_namespaces curl python3 redis-server redis-cli)
    if [[ $obstacle ]]; then
        skip "instances that share their swarms" "$obstacle"
        summary
        return
    fi
    python=$(python3 -c 'import sys; print(sys.executable)')
    network_up

    start_all 6
    test_partition
    stop_all

    start_all 4
    test_lost_tail
    test_hung
    test_full
    test_forgotten
    summary
}

# --- Faults -----------------------------------------------------------------------------------------------------------

# The Sentinels on the right let the replica become the primary, while the instance on the left goes on with the old one. Clients
# join and leave on both sides.
test_partition() {
    local title="a partition of 20 s, over IPv6" ends
    begin_fault
    ends=$((SECONDS + 20))
    in_hub link set dev trunk down
    need 30 "no new primary on the right" role_is second master
    need 30 "b does not follow the new primary" is_together b
    is "$title: the old primary is still one" master "$(role_of first)"
    is "$title: a still writes to it" 1 "$(metric a retracker_share_up)"
    while ((SECONDS < ends)); do sleep 0.1; done
    in_hub link set dev trunk up
    local healed demoted
    healed=$(now)
    need 40 "the old primary does not become a replica" role_is first slave
    demoted=$(now)
    note "$title: Sentinel makes the old primary a replica $(since "$healed" "$demoted") s after the healing"
    completes "$demoted" a b
    end_fault
}

# The replica is cut from the primary, and lacks what instances then write. The primary is killed.
test_lost_tail() {
    local title="the last writes are lost, over IPv4" lacks
    begin_fault
    ip -n "$prefix-second" route add blackhole "$(address first 4)"
    sleep 6
    lacks=$(($(entries first) - $(entries second)))
    verdict "$title: the replica lacks some" "$( ((lacks > 100)) || echo "it lacks $lacks entries")"
    end redis-first
    need 30 "the replica does not become the primary" role_is second master
    local promoted
    promoted=$(now)
    ip -n "$prefix-second" route del blackhole "$(address first 4)"
    start_instance c
    start_clients c
    completes "$promoted" a b c
    end_fault
}

# No Sentinel can help, because there is no replica now.
test_hung() {
    local title="the server hangs for 5 s" resumed
    begin_fault
    kill -STOP "${pids[redis-second]}"
    need 10 "a does not notice it" is_alone a
    sleep 3
    kill -CONT "${pids[redis-second]}"
    resumed=$(now)
    completes "$resumed" a b c
    end_fault
}

test_full() {
    local title="the server is full for 5 s" resumed
    begin_fault
    ask second config set maxmemory 1 >/dev/null
    need 10 "a does not notice it" is_alone a
    sleep 4
    ask second config set maxmemory 0 >/dev/null
    resumed=$(now)
    completes "$resumed" a b c
    end_fault
}

# An instance that starts after one announce interval finds all peers in the logs.
test_forgotten() {
    local title="the server forgets everything while it runs" forgotten
    begin_fault
    ask second flushall >/dev/null
    forgotten=$(now)
    sleep $((interval + 1))
    end clients-c
    end c
    start_instance c
    start_clients c
    completes "$(now)" a b c
    note "$title: the instance that has started is complete $(since "$forgotten" "$(now)") s after it"
    end_fault
}

# --- Verdicts about a fault -------------------------------------------------------------------------------------------

began='' calm=''

begin_fault() {
    local name
    # One round, so that all clients have joined. What is slow at the start does not count.
    sleep "$interval"
    for name in a b ${pids[c]:+c}; do
        need 30 "$name is alone" is_together "$name"
    done
    calm=$(now)
    sleep 3
    began=$(now)
}

# Each of these instances knows all live peers, one announce interval after it is back.
completes() { # MOMENT INSTANCE...
    local name moment=$1 waiting=()
    for name in "${@:2}"; do
        # The announces are measured, so what looks at their results must not get in their way.
        in_node "$name" nice -n 19 "$python" tests/sharing.py complete ::1 8080 $((interval + back)) "$folder"/*.announces \
            >"$folder/$name.complete" 2>&1 &
        waiting+=("$!")
    done
    local at peers
    for name in "${@:2}"; do
        if wait "${waiting[0]}"; then
            read -r at peers <"$folder/$name.complete"
            ok "$title: $name knows all $peers peers, after $(since "$moment" "$at") s"
        else
            not_ok "$title: $name knows all peers" "$(tail -n 1 "$folder/$name.complete")"
        fi
        waiting=("${waiting[@]:1}")
    done
}

# No announce has failed. The slowest may have taken long only if the host was slow: before the fault, or at the instance that
# shares nothing. A host that does other work may also hold up a few. An announce that waits for the server would take
# two seconds, or many would take long.
end_fault() {
    local ended before during late count failed other slow
    ended=$(now)
    read -r before _ < <("$python" tests/sharing.py slowest "$calm" "$began" "$folder"/*.announces)
    read -r during late count failed < <("$python" tests/sharing.py slowest "$began" "$ended" "$folder"/*.announces)
    read -r other _ < <("$python" tests/sharing.py slowest "$began" "$ended" "$folder/control")
    is "$title: none of $count announces fails" 0 "$failed"
    slow=$(awk -v during="$during" -v before="$before" -v other="$other" -v late="$late" \
        'BEGIN { if (during > 50 && during > 3 * before && during > 3 * other && (during > 500 || late > 3))
            print late " take more than 50 ms" }')
    verdict "$title: the slowest announce takes $during ms, before $before ms, without sharing $other ms" "$slow"
}

now() { date +%s.%3N; }

since() { # MOMENT LATER
    awk -v from="$1" -v to="$2" 'BEGIN { printf "%.1f", to - from }'
}

# --- Servers ----------------------------------------------------------------------------------------------------------

start_all() { # 4|6: the family of the servers
    family=$1
    local name sentinels=()
    rm -f "$folder"/*.announces
    start_redis first
    start_redis second --replicaof "$(address first "$family")" 6379
    need 30 "the replica does not get through" replica_is_up
    for name in first second c; do
        start_sentinel "$name"
        sentinels+=("$(bracketed "$(address "$name" "$family")")")
    done
    for name in first second c; do
        need 30 "the Sentinels do not find each other" is_quorum "$name"
    done
    url=redis+sentinel://$(IFS=, && echo "${sentinels[*]}")/mymaster
    for name in a b; do
        start_instance "$name"
        start_clients "$name"
    done
    # It shares nothing, and has clients of its own. It shows how slow the host is.
    start control b "$binary" -l :8081 -x -i "$interval"
    need 30 "the other instance does not answer" in_node b "$binary" healthcheck -l 127.0.0.1:8081
    rm -f "$folder/control"
    start clients-control b "$python" tests/sharing.py announce ::1 8081 99 "$interval" "$folder/control"
}

stop_all() {
    local name
    for name in "${!pids[@]}"; do
        end "$name"
    done
}

end() { # NAME
    { kill -KILL "${pids[$1]}" && wait "${pids[$1]}"; } 2>/dev/null || true
    unset "pids[$1]"
}

start() { # NAME NODE COMMAND...
    ip netns exec "$prefix-$2" "${@:3}" >>"$folder/$1.log" 2>&1 </dev/null &
    pids[$1]=$!
}

start_redis() { # NODE OPTION...
    start "redis-$1" "$1" redis-server --bind '*' '-::*' --protected-mode no --save '' --appendonly no \
        --dir "$folder" --dbfilename "$1.rdb" --repl-diskless-sync-delay 0 "${@:2}"
    need 30 "$1 does not answer" ask "$1" ping
}

start_sentinel() { # NODE
    printf '%s\n' 'bind * -::*' 'protected-mode no' "dir $folder" \
        "sentinel monitor mymaster $(address first "$family") 6379 2" \
        'sentinel down-after-milliseconds mymaster 2000' 'sentinel failover-timeout mymaster 5000' >"$folder/$1.conf"
    start "sentinel-$1" "$1" redis-server "$folder/$1.conf" --sentinel
}

start_instance() { # NAME
    start "$1" "$1" "$binary" -l :8080 -x -p -i "$interval" --share "$url" --share-warm-up 60
    need 30 "$1 is not ready" in_node "$1" curl -fsS -m 1 -o /dev/null http://127.0.0.1:8080/ready
}

start_clients() { # NAME
    local number
    number=$(($(printf %d "'$1") - 96))
    # Clients of an instance that has started anew are others.
    [[ ! -e $folder/$1.announces ]] || { mv "$folder/$1.announces" "$folder/$1.old" && number=$((number + 10)); }
    start "clients-$1" "$1" "$python" tests/sharing.py announce ::1 8080 "$number" "$interval" "$folder/$1.announces"
}

ask() { # NODE COMMAND...
    in_node "$1" timeout 2 redis-cli "${@:2}"
}

replica_is_up() { [[ $(ask second info replication) == *master_link_status:up* ]]; }
is_quorum() { [[ $(in_node "$1" timeout 2 redis-cli -p 26379 sentinel ckquorum mymaster) == "OK 3 "* ]]; } # NODE
role_of() { ask "$1" role | head -n 1; } # NODE
role_is() { [[ $(role_of "$1") == "$2" ]]; } # NODE ROLE

# The number of entries in all logs.
entries() { # NODE
    local log sum=0
    for log in {0..15}; do
        sum=$((sum + $(ask "$1" xlen "retracker:{$log}:log")))
    done
    echo "$sum"
}

metric() { # INSTANCE NAME
    in_node "$1" curl -fsS -m 2 http://127.0.0.1:8080/metrics | awk -v name="$2" '$1 == name { print $2 }'
}
is_together() { [[ $(metric "$1" retracker_share_up) == 1 ]]; } # INSTANCE
is_alone() { [[ $(metric "$1" retracker_share_up) == 0 ]]; } # INSTANCE

need() { # SECONDS PROBLEM COMMAND...
    wait_until "$1" "${@:3}" && return
    not_ok "${title:-start}" "$2 within $1 s"
    tail -n 15 "$folder"/*.log
    summary
    exit 1
}

# --- The network ------------------------------------------------------------------------------------------------------

in_hub() { ip -n "$prefix-hub" "$@"; }

# Two bridges and a trunk between them.
network_up() {
    local side node
    ip netns add "$prefix-hub"
    for side in left right; do
        in_hub link add name "$side" type bridge
        in_hub link set dev "$side" up
    done
    in_hub link add name trunk type veth peer name trunk-right
    in_hub link set dev trunk master left up
    in_hub link set dev trunk-right master right up
    for node in "${nodes[@]}"; do
        ip netns add "$prefix-$node"
        ip -n "$prefix-$node" link set dev lo up
        in_hub link add name "$node" type veth peer name eth0 netns "$prefix-$node"
        case $node in
            first | a) side=left ;;
            *) side=right ;;
        esac
        in_hub link set dev "$node" master "$side" up
        ip -n "$prefix-$node" link set dev eth0 up
        ip -n "$prefix-$node" address add "$(address "$node" 4)/24" dev eth0
        ip -n "$prefix-$node" address add "$(address "$node" 6)/64" dev eth0 nodad
    done
}

address() { # NODE 4|6
    local number=0
    until [[ ${nodes[number]} == "$1" ]]; do ((++number)); done
    if [[ $2 == 4 ]]; then echo "10.83.1.1$number"; else echo "fd83:1::1$number"; fi
}

bracketed() { # ADDRESS
    if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi
}

main
