# The images of retracker (the last stage, which is built without --target) and of torrent-cache (the stages `tracker` and
# `client`, see docs/torrent-cache.md). The compiler stays in the first stage, the others hold one binary each.
# Nothing here needs BuildKit, so the classic builder that docker-compose 1.x drives builds it too.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# The dependencies have a layer of their own. They are compiled with an empty program, so they are built again only when
# Cargo.toml or Cargo.lock changes. The step then removes what it built of our own packages: Cargo compares file times,
# so it would not compile a source file that is older than the empty program.
# Benchmarks and tests are not copied, and Cargo refuses a manifest that names missing ones, so sed removes their
# sections. Only benchmarks use the load generators, but Cargo needs the manifest of every member of the workspace.
COPY Cargo.toml Cargo.lock ./
COPY crates/certificate/Cargo.toml crates/certificate/
COPY crates/daemon/Cargo.toml crates/daemon/
COPY crates/load/Cargo.toml crates/load/
COPY crates/settings/Cargo.toml crates/settings/
COPY crates/torrent-cache/Cargo.toml crates/torrent-cache/
COPY crates/tracker-protocol/Cargo.toml crates/tracker-protocol/
COPY crates/trust/Cargo.toml crates/trust/
RUN sed -i '/^\[\[\(bench\|test\)\]\]/,/^$/d' Cargo.toml \
 && for member in . crates/*; do mkdir "$member/src" && touch "$member/src/lib.rs"; done \
 && echo 'fn main() {}' | tee src/main.rs > crates/torrent-cache/src/main.rs \
 && cargo build --release --locked \
 && cargo clean --release --locked --package retracker --package certificate --package daemon --package settings \
    --package torrent-cache --package tracker-protocol --package trust

# Everything but the tracker itself, so that an edit of the tracker compiles nothing else.
COPY crates crates
RUN cargo build --release --locked \
 && cargo clean --release --locked --package retracker

COPY src src
RUN cargo build --release --locked \
 && strip target/release/retracker target/release/torrent-cache


# The cache that each host runs. It runs as root, so that it can write to the folder of the host that is mounted at /storage.
FROM debian:bookworm-slim AS client

COPY --from=build /build/target/release/torrent-cache /usr/local/bin/torrent-cache
VOLUME /storage
EXPOSE 8888 6881-6891
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["torrent-cache", "healthcheck"]
ENTRYPOINT ["torrent-cache"]


# The tracker of these hosts: retracker on the ports that torrent-cache asks. It keeps everything in memory, so it leaves a
# folder that is mounted at /storage empty.
FROM debian:bookworm-slim AS tracker

COPY --from=build /build/target/release/retracker /usr/local/bin/retracker
ENV LISTEN_ADDR=:6969 UDP_LISTEN_ADDR=:6969 TORRENTS=true
USER 10001:10001
EXPOSE 2378 6969 6969/udp
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["retracker", "healthcheck"]
ENTRYPOINT ["retracker"]


FROM debian:bookworm-slim

# User and group ids that no account of the host is likely to have.
RUN groupadd --system --gid 10001 retracker \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin retracker

COPY --from=build /build/target/release/retracker /usr/local/bin/retracker

# forwarders.yml is mounted here. The program itself writes nothing.
WORKDIR /app

# Port 80 needs no root and no capability here: Docker (since 20.10) sets net.ipv4.ip_unprivileged_port_start=0 in each
# container's own network. A file capability on the binary (setcap) would make it impossible to start under
# `cap_drop: ALL`. Where the network is not the container's own (network_mode: host) or the runtime does not set
# this, choose a port from 1024 up: LISTEN_ADDR=:8080.
USER retracker
EXPOSE 80 80/udp

# Asks over the address in ADMIN_LISTEN_ADDR, else in LISTEN_ADDR, so it follows a change of the port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["retracker", "healthcheck"]

# Exec form: retracker is process 1 and gets SIGTERM itself.
ENTRYPOINT ["retracker"]
