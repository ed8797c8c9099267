#!/usr/bin/env bash
#
# Builds the files of a release for this machine's architecture, in target/dist/. .github/workflows/release.yml runs this
# for each architecture.
#
#     contrib/release/build.sh check v0.1.0   fails if the tag is not the version in Cargo.toml and CHANGELOG.md
#     contrib/release/build.sh packages       a tarball and a Debian package
#     contrib/release/build.sh image          a Docker image, as a file for `docker load`
#     contrib/release/build.sh checksums      SHA256SUMS of all files in target/dist/
#     contrib/release/build.sh notes          prints the version's part of CHANGELOG.md
#
# The packages need Rust, a C compiler, dpkg-dev and cargo-deb; the image needs Docker. IMAGE is the image's name, by default
# retracker:VERSION.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly target=${CARGO_TARGET_DIR:-target}
readonly dist=target/dist
version=$(sed -n '/^\[package\]$/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
readonly version
name=retracker-$version-$(uname -m)
readonly name
readonly image=${IMAGE:-retracker:$version}

main() {
    case ${1:-} in
        check) check "${2:?which tag?}" ;;
        packages)
            debian_package
            tarball
            ;;
        image) image ;;
        checksums) (cd "$dist" && rm -f SHA256SUMS && sha256sum -- * > "$work/SHA256SUMS" && mv "$work/SHA256SUMS" .) ;;
        notes) notes ;;
        *)
            sed -n 's/^#     //p' "${BASH_SOURCE[0]}" >&2
            exit 2
            ;;
    esac
}

check() { # TAG
    if [[ $1 != "v$version" ]]; then
        echo "the tag is $1, but the version in Cargo.toml is $version" >&2
        exit 1
    fi
    if [[ ! $(notes) ]]; then
        echo "CHANGELOG.md has no section '## $version'" >&2
        exit 1
    fi
}

# The part of CHANGELOG.md below the heading of the version. The heading may have a date behind the version.
notes() {
    awk -v version="$version" '/^## / { inside = $2 == version; next } inside' CHANGELOG.md
}

debian_package() {
    local package
    package=$(contrib/debian/build.sh)
    mkdir -p "$dist"
    cp "$package" "$dist/"
    echo "$dist/${package##*/}"
}

# The program and all that belongs to it, with the paths of the repository, so that the links in README.md work.
tarball() {
    cargo build --locked --release >&2
    local folder=$work/$name
    mkdir -p "$folder" "$dist"
    strip -o "$folder/retracker" "$target/release/retracker"
    contrib/release/generate.sh "$target/release/retracker" "$folder"
    cp -R --parents README.md SECURITY.md CHANGELOG.md LICENSE docs .env.example forwarders.example.yml access.example.yml \
        contrib/retracker.service contrib/dns contrib/high-availability contrib/nginx "$folder/"
    chmod -R u=rwX,go=rX "$folder"
    # One commit gives one file: names are sorted, and times are the commit's.
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -cf - "$name" \
        | gzip -9n > "$dist/$name.tar.gz"
    echo "$dist/$name.tar.gz"
}

image() {
    mkdir -p "$dist"
    docker build --tag "$image" . >&2
    docker save "$image" | gzip -9n > "$dist/$name-image.tar.gz"
    echo "$dist/$name-image.tar.gz"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
main "$@"
