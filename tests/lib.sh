# shellcheck shell=bash
#
# What the shell suites share: printing results, waiting, the binary under test, network namespaces, and clean Debian trees.

# --- Verdicts ---------------------------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0

ok() { # TITLE
    echo "ok - $1"
    ((++passed))
}

not_ok() { # TITLE [PROBLEM]
    echo "not ok - $1${2:+: $2}"
    ((++failed))
}

skip() { # TITLE OBSTACLE
    echo "skipped - $1, because $2"
    ((++skipped))
}

verdict() { # TITLE PROBLEM: passed if there is no problem
    if [[ $2 ]]; then not_ok "$1" "$2"; else ok "$1"; fi
}

is() { # TITLE EXPECTED ACTUAL
    if [[ $3 == "$2" ]]; then ok "$1"; else not_ok "$1" "expected '$2', got '$3'"; fi
}

like() { # TITLE PATTERN ACTUAL
    if [[ $3 =~ $2 ]]; then ok "$1"; else not_ok "$1" "expected $2, got '$3'"; fi
}

note() { echo "# $*"; }
die() { echo "$1" >&2; exit 1; }

# Prints the counts. Its status is that of the suite.
summary() {
    echo "$passed passed, $failed failed, $skipped skipped"
    ((failed == 0))
}

# --- Programs and processes -------------------------------------------------------------------------------------------

installed() { # PROGRAM
    command -v "$1" >/dev/null
}

# Prints what is missing, for `skip`; nothing if all programs are installed.
obstacle_of() { # PROGRAM...
    local program
    for program in "$@"; do
        if ! installed "$program"; then
            echo "$program is not installed"
            return
        fi
    done
}

# Makes $folder for a suite that starts at most one process, $pid. At the end both are gone.
make_folder() {
    folder=$(mktemp -d)
    pid=
    trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null; rm -rf "$folder"' EXIT
}

# The binary under test: the argument, else $RETRACKER_BIN, else the release build, else the debug build.
find_binary() { # [BINARY]
    local root binary
    root=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
    binary=${1:-${RETRACKER_BIN:-$root/target/release/retracker}}
    [[ $# -gt 0 || -n ${RETRACKER_BIN:-} || -x $binary ]] || binary=$root/target/debug/retracker
    [[ -x $binary ]] || { echo "no such program: $binary" >&2 && return 2; }
    realpath "$binary"
}

# Repeats a command until it succeeds. Only a failing test waits for the whole time.
wait_until() { # SECONDS COMMAND...
    local deadline=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

stop() { # PID of a child
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

crash() { # PID of a child
    kill -KILL "$1"
    wait "$1" 2>/dev/null || true
}

# --- Network namespaces: node N is the namespace $prefix-N ------------------------------------------------------------

in_node() { # NODE COMMAND...
    ip netns exec "$prefix-$1" "${@:2}"
}

# Prints what prevents namespaces; nothing if they can be made.
obstacle_to_namespaces() { # PROGRAM...: those needed besides ip
    local obstacle
    if ((EUID != 0)); then
        echo "this needs root"
        return
    fi
    obstacle=$(obstacle_of ip "$@")
    if [[ $obstacle ]]; then
        echo "$obstacle"
    elif ! ip netns add "$prefix-probe" 2>/dev/null; then
        echo "network namespaces cannot be made here"
    else
        ip netns delete "$prefix-probe"
    fi
}

# Makes node `hub`, the bridge that joins the other nodes.
hub_up() {
    ip netns add "$prefix-hub"
    ip -n "$prefix-hub" link add bridge type bridge
    ip -n "$prefix-hub" link set bridge up
}

# Makes a node and joins it to the hub.
node_up() { # NODE ADDRESS [OPTION...]
    local space=$prefix-$1
    ip netns add "$space"
    ip -n "$prefix-hub" link add "$1" type veth peer name eth0 netns "$space"
    ip -n "$prefix-hub" link set "$1" master bridge up
    ip -n "$space" link set lo up
    ip -n "$space" link set eth0 up
    ip -n "$space" address add "${@:2}" dev eth0
}

# Kills every process in the namespaces of this run, all of which this run started, and deletes the namespaces.
namespaces_down() {
    local space pids
    for space in $(ip netns list | grep -o "^$prefix-[a-z0-9]*"); do
        while pids=$(ip netns pids "$space") && [[ $pids ]]; do
            # shellcheck disable=SC2086 # one word per process
            kill -KILL $pids 2>/dev/null || true
            sleep 0.05
        done
        ip netns delete "$space"
        rm -rf "/etc/netns/$space"
    done
}

# --- Clean Debian trees -----------------------------------------------------------------------------------------------

# Trees are kept here as archives, because debootstrap takes a minute.
# shellcheck disable=SC2034 # the suites use it
cache=${RETRACKER_TEST_CACHE:-/var/cache/retracker-tests}

debian_tree() { # FOLDER [OPTIONS]
    local tree=$1
    shift
    if ! debootstrap --variant=minbase "$@" bookworm "$tree" > "$tree.log" 2>&1; then
        tail -n 20 "$tree.log"
        die "debootstrap failed"
    fi
    # As the official images do.
    rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/*
}

# Moves a tree into an archive, which appears under its name only when it is complete.
archive_tree() { # FOLDER ARCHIVE
    mkdir -p "$(dirname "$2")"
    tar -C "$1" -cf "$2.$$" .
    mv "$2.$$" "$2"
    rm -rf "$1"
}
