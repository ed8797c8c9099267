#!/usr/bin/env bash
#
# Builds the Debian package and follows docs/debian.md in a clean Debian that runs systemd: install, change settings,
# reload, upgrade, remove, purge.
#
#     tests/package.sh
#
# Needs root, cargo-deb, dpkg-dev, debootstrap, systemd-container, curl and python3. The clean Debian has a network of its
# own, so the service may have port 80. Its tree is kept in RETRACKER_TEST_CACHE, by default /var/cache/retracker-tests.

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

readonly conffiles="/etc/default/retracker /etc/retracker/access.example.yml /etc/retracker/forwarders.example.yml"

main() {
    local obstacle
    obstacle=$(find_obstacle)
    if [[ $obstacle ]]; then
        skip "the Debian package" "$obstacle"
        summary
        return
    fi
    work=$(mktemp -d)
    tree=$work/debian
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    test_build
    test_release
    provide_debian
    if start_debian; then
        test_install
        test_service
        test_settings
        test_reload
        test_secret_file
        test_wrong_setting
        test_upgrade
        test_remove
        test_purge
    else
        skip "the package in a clean Debian" "systemd-nspawn cannot boot it here: $(tail -n 1 "$work/boot.log")"
    fi

    summary
}

# --- The tests --------------------------------------------------------------------------------------------------------

test_build() {
    if ! package=$(contrib/debian/build.sh 2> "$work/build.log"); then
        tail -n 30 "$work/build.log"
        die "the package cannot be built"
    fi
    ok "the package is built: ${package##*/}"
    version=$(dpkg-deb --field "$package" Version)
    like "it depends on what the binary is linked to" 'libc6 \(>= ' "$(dpkg-deb --field "$package" Depends)"
    is "all files belong to root" "0/0" "$(dpkg-deb --contents "$package" | awk '{ print $2 }' | sort -u)"
    is "its conffiles" "$conffiles" "$(dpkg-deb --info "$package" conffiles | sort | paste -sd " ")"
}

# What .github/workflows/release.yml runs. tests/docker.sh builds the image.
test_release() {
    local folder tarball
    like "a release needs the tag of its version" 'the tag is v0\.0\.0, but the version in Cargo\.toml is ' \
        "$(contrib/release/build.sh check v0.0.0 2>&1 || true)"
    contrib/release/build.sh packages > "$work/release" 2> "$work/release.log" || cat "$work/release.log"
    tarball=$(grep '\.tar\.gz$' "$work/release")
    is "a release has the Debian package" "${package##*/}" "$(sed -n 's|.*/\(.*\.deb\)$|\1|p' "$work/release")"
    tar -C "$work" -xf "$tarball"
    folder=$work/$(basename "$tarball" .tar.gz)
    is "the tarball's program runs" "retracker ${version%-*}" "$("$folder/retracker" -v)"
    is "the tarball has what belongs to it" "" "$(cd "$folder" && ls README.md LICENSE docs/debian.md retracker.1 \
        completions/{retracker.bash,_retracker,retracker.fish} .env.example {forwarders,access}.example.yml \
        contrib/retracker.service 2>&1 > /dev/null)"
    contrib/release/build.sh checksums
    like "SHA256SUMS has its checksum" ": OK" "$(cd target/dist && sha256sum --check SHA256SUMS | grep -F "${tarball##*/}")"
}

test_install() {
    cp "$package" "$tree/srv/"
    local log
    if log=$(inside apt-get install -y "/srv/${package##*/}" 2>&1); then
        ok "apt install ./${package##*/}, without a network"
    else
        echo "$log"
        die "the package cannot be installed"
    fi
    is "the program runs" "retracker ${version%-*}" "$(inside retracker -v)"
    is "systemd accepts the unit" "" "$(inside systemd-analyze verify retracker.service 2>&1)"
    is "the manual page is found" "/usr/share/man/man1/retracker.1.gz" "$(inside man -w retracker)"
    is "man shows it without warnings" "" "$(inside man --warnings=w retracker 2>&1 > /dev/null)"
    like "bash completes" '-F _retracker' \
        "$(inside bash -c 'source /usr/share/bash-completion/completions/retracker && complete -p retracker')"
    is "zsh has completions" "#compdef retracker" "$(head -n 1 "$tree/usr/share/zsh/vendor-completions/_retracker")"
    like "fish has completions" 'complete -c retracker' "$(< "$tree/usr/share/fish/vendor_completions.d/retracker.fish")"
    local file
    for file in README.md docs/debian.md changelog.gz changelog.Debian.gz copyright; do
        verdict "/usr/share/doc/retracker has $file" "$([[ -s $tree/usr/share/doc/retracker/$file ]] || echo "it is missing")"
    done
    is "no setting is changed" "" "$(grep -v '^#' "$tree/etc/default/retracker" | grep . || true)"
    for file in "-f /etc/retracker/forwarders.example.yml" "--access /etc/retracker/access.example.yml"; do
        # shellcheck disable=SC2086 # a flag and its value
        verdict "the program accepts ${file##*/}" "$(inside retracker check --offline $file > /dev/null 2> "$work/check.log" || cat "$work/check.log")"
    done
}

# With all defaults, which is port 80.
test_service() {
    local main
    is "the service is enabled and active" "enabled active" \
        "$(inside systemctl is-enabled retracker || true) $(inside systemctl is-active retracker || true)"
    wait_until 30 inside retracker healthcheck || die "the service does not answer: $(inside journalctl -u retracker --no-pager)"
    is "it answers /health" "200" "$(status /health)"
    like "it answers an announce" ' interval=30 .*peers=' "$(announce a 6881)"
    main=$(main_pid)
    like "it runs as a user of its own" '^[1-9][0-9]+$' "$(of_process "$main" Uid)"
    is "no account is left in /etc/passwd" "" "$(grep retracker "$tree/etc/passwd" || true)"
    is "its only privilege is ports below 1024" "0000000000000400" "$(of_process "$main" CapEff)"
    # The process itself may have less, where the host's fs.nr_open is lower.
    is "it may open 65536 files" "65536" "$(property LimitNOFILE)"
    note "systemd-analyze security: $(inside systemd-analyze security --no-pager retracker.service 2>&1 | tail -n 1)"
}

test_settings() {
    local main
    main=$(main_pid)
    setting ANNOUNCE_INTERVAL 77
    setting UDP_LISTEN_ADDR :80
    setting FORWARDS_FILE /etc/retracker/forwarders.yml
    echo '- uri: http://127.0.0.1:9/announce' > "$tree/etc/retracker/forwarders.yml"
    inside systemctl restart retracker
    wait_until 30 inside retracker healthcheck || true
    like "a change of /etc/default/retracker is in effect after a restart" ' interval=77 ' "$(announce a 6881)"
    verdict "the restart made a new process" "$([[ $(main_pid) != "$main" ]] || echo "it is still $main")"
}

test_reload() {
    local main
    main=$(main_pid)
    echo '- uri: http://127.0.0.1:10/announce' >> "$tree/etc/retracker/forwarders.yml"
    inside systemctl reload retracker
    verdict "systemctl reload reads the forwarders again" "$(wait_until 30 logged 'forwarders now: 2' || echo "the log does not say so")"
    is "the process is the same" "$main" "$(main_pid)"
}

# The commands of docs/debian.md.
test_secret_file() {
    inside sh -c 'groupadd --system retracker-files
        chgrp retracker-files /etc/retracker/forwarders.yml
        chmod 640 /etc/retracker/forwarders.yml'
    inside systemctl restart retracker || true
    wait_until 30 inside systemctl is-failed retracker || true
    is "the service cannot read a file that is not public" "failed" "$(inside systemctl is-failed retracker || true)"
    mkdir "$tree/etc/systemd/system/retracker.service.d"
    printf '[Service]\nSupplementaryGroups=retracker-files\n' > "$tree/etc/systemd/system/retracker.service.d/override.conf"
    inside systemctl daemon-reload
    inside systemctl restart retracker
    wait_until 30 inside retracker healthcheck || true
    is "with the file's group it can" "active" "$(inside systemctl is-active retracker || true)"
}

test_wrong_setting() {
    setting PEER_AGE never
    inside systemctl restart retracker || true
    wait_until 30 inside systemctl is-failed retracker || true
    is "with a wrong setting, the service fails and is not started again and again" "failed 2 0" \
        "$(inside systemctl is-failed retracker || true) $(property ExecMainStatus) $(property NRestarts)"
    like "the log names the setting" 'PEER_AGE' "$(inside journalctl -u retracker --no-pager -n 5)"
    setting PEER_AGE 180
    inside systemctl restart retracker
    wait_until 30 inside retracker healthcheck || true
}

# The newer package has another /etc/default/retracker, so dpkg has to choose between the two.
test_upgrade() {
    local newer=${version%-*}.1-1 main
    main=$(main_pid)
    dpkg-deb --raw-extract "$package" "$work/newer"
    sed -i "s/^Version: .*/Version: $newer/" "$work/newer/DEBIAN/control"
    printf '\n# A new setting.\n#NEW_SETTING=\n' >> "$work/newer/etc/default/retracker"
    dpkg-deb --root-owner-group --build "$work/newer" "$tree/srv/retracker_newer.deb" > /dev/null
    inside apt-get install -y -o Dpkg::Options::=--force-confold /srv/retracker_newer.deb > "$work/upgrade.log" 2>&1 \
        || cat "$work/upgrade.log"
    is "apt install of a newer package upgrades" "install ok installed $newer" \
        "$(inside dpkg-query -W -f '${Status} ${Version}' retracker)"
    is "the edited settings are kept" "ANNOUNCE_INTERVAL=77" "$(grep '^ANNOUNCE' "$tree/etc/default/retracker")"
    like "the package's own are beside them" 'NEW_SETTING' "$(cat "$tree/etc/default/retracker.dpkg-dist")"
    wait_until 30 inside retracker healthcheck || true
    verdict "the upgrade restarts the service" "$([[ $(main_pid) != "$main" ]] || echo "the process is still $main")"
    like "with the same settings" ' interval=77 ' "$(announce a 6881)"
}

test_remove() {
    inside apt-get remove -y retracker > "$work/remove.log" 2>&1 || cat "$work/remove.log"
    is "apt remove stops the service" "inactive" "$(inside systemctl is-active retracker || true)"
    verdict "the program is gone" "$([[ ! -e $tree/usr/bin/retracker ]] || echo "it is there")"
    is "the conffiles stay" "$conffiles" "$(conffiles_there)"
    is "with their changes" "ANNOUNCE_INTERVAL=77" "$(grep '^ANNOUNCE' "$tree/etc/default/retracker")"
}

test_purge() {
    inside apt-get purge -y retracker > "$work/purge.log" 2>&1 || cat "$work/purge.log"
    is "apt purge removes the conffiles" "" "$(conffiles_there)"
    rm "$tree"/srv/retracker_*.deb
    # The administrator's own files are not the package's.
    is "nothing of the package is left" "/etc/retracker /etc/retracker/forwarders.yml /etc/systemd/system/retracker.service.d" \
        "$(inside find / -xdev -iname '*retracker*' -print -o -path '/etc/retracker/*' -print | sort | paste -sd ' ')"
    is "dpkg does not know it" "" "$(inside dpkg-query -W -f '${Status}' retracker 2> /dev/null || true)"
}

# --- The service, as an administrator sees it -------------------------------------------------------------------------

setting() { # NAME VALUE
    sed -i "s|^#\?$1=.*|$1=$2|" "$tree/etc/default/retracker"
    grep -qxF "$1=$2" "$tree/etc/default/retracker" || die "/etc/default/retracker has no $1"
}

conffiles_there() {
    local file there=()
    for file in $conffiles; do
        [[ ! -e $tree$file ]] || there+=("$file")
    done
    echo "${there[*]}"
}

main_pid() { property MainPID; }

property() { inside systemctl show retracker --property "$1" --value; }

of_process() { # PID FIELD
    inside awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"
}

logged() { [[ $(inside journalctl -u retracker --no-pager) == *"$1"* ]]; }

status() { # PATH
    from_inside curl -s -m 30 -o /dev/null -w '%{http_code}' "http://127.0.0.1$1" || true
}

announce() { # LETTER PORT: prints the decoded reply
    local hash='%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14'
    from_inside curl -s -m 15 "http://127.0.0.1/announce?info_hash=$hash&peer_id=-TT0001-$1$1$1$1$1$1$1$1$1$1$1$1&port=$2&left=1" \
        | python3 tests/peer.py show || true
}

# --- The environment --------------------------------------------------------------------------------------------------

# Prints what prevents the test; nothing if it can run.
find_obstacle() {
    if ((EUID != 0)); then
        echo "this needs root"
    else
        obstacle_of cargo-deb dpkg-shlibdeps debootstrap systemd-nspawn nsenter curl python3
    fi
}

# Unpacks a clean Debian with systemd.
provide_debian() {
    local archive=$cache/debian-bookworm-systemd.tar
    if [[ ! -e $archive ]]; then
        note "making ${archive##*/}, about a minute"
        debian_tree "$tree" --include=systemd,man-db
        archive_tree "$tree" "$archive"
    fi
    mkdir "$tree"
    tar -C "$tree" -xf "$archive"
}

# Boots it as a container. Fails if that is not possible on this machine, such as in a container without privileges.
start_debian() {
    cgroups_before=$(cgroups)
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --register=no --keep-unit --private-network \
        --directory "$tree" < /dev/null > "$work/boot.log" 2>&1 &
    nspawn=$!
    wait_until 60 is_booted
}

is_booted() {
    container=$(pgrep -P "$nspawn" -o) && [[ $(inside systemctl is-system-running) == running ]]
}

inside() { # COMMAND...: in the container
    nsenter --target "$container" --all --wd env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive SYSTEMD_PAGER='' "$@" < /dev/null
}

from_inside() { # COMMAND...: a program of this machine in the network of the container
    nsenter --target "$container" --net "$@"
}

# systemd-nspawn makes these and leaves them.
cgroups() {
    find /sys/fs/cgroup -maxdepth 2 \( -name payload -o -name supervisor \) | sort
}

cleanup() {
    local status=$?
    set +e
    trap '' INT TERM
    if [[ -n ${nspawn:-} ]]; then
        stop "$nspawn"
        local folder
        for folder in $(comm -13 <(echo "$cgroups_before") <(cgroups)); do
            find "$folder" -depth -type d -exec rmdir {} \;
        done
    fi
    rm -rf --one-file-system "$work"
    exit "$status"
}

main "$@"
