#!/usr/bin/env python3
"""Measures CPU time and memory of torrent-cache, nginx with proxy_cache and docker-registry as a mirror, in one run.

    benches/caching.py [--rounds 3] [--blob-mib 256] [--blobs 1000] [BINARY]

All caches have one registry as their upstream. The benchmark measures two things:

- CPU seconds (user and system) that a cache needs to send a GiB from its disk, over http and over https. The caches take
  turns. Each ratio compares two figures of the same round.
- Memory of a cache that has many small blobs, while eight clients fetch a large blob at the same time. The figure is the highest
  proportional set size of all processes of the cache together.

The table has the median of the rounds and, in brackets, the lowest and the highest figure. The run fails if a cache sends a wrong
byte, but not because of a figure: figures depend on the machine. Needs Linux, nginx, docker-registry, curl and openssl.
"""

import argparse
import hashlib
import http.client
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")
CLIENTS = 8
SMALL = 64 << 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", nargs="?", default=HERE.parent / "target/release/torrent-cache")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blob-mib", type=int, default=256)
    parser.add_argument("--blobs", type=int, default=1000)
    options = parser.parse_args()
    missing = [name for name in ("nginx", "docker-registry", "curl", "openssl") if not shutil.which(name)]
    if missing or not os.access(options.binary, os.X_OK):
        sys.exit(f"missing: {', '.join(missing) or f'{options.binary}, run cargo build --release -p torrent-cache'}")
    # SIGTERM raises an exception, so that `finally` stops the servers as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        # nginx's workers run as another user, and must be able to read the folder.
        os.chmod(folder, 0o755)
        measure(options, pathlib.Path(folder))


def measure(options, folder):
    make_certificate(folder)
    control = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    print(f"TCP's congestion control is {control}. With bbr, packets wait for timers, which take most of the CPU time over http.")
    servers = []
    try:
        source = Registry(folder, "source")
        servers.append(source)
        large = source.push(os.urandom(MIB) * options.blob_mib)
        small = [source.push(os.urandom(SMALL)) for _ in range(options.blobs)]
        ours = TorrentCache(folder, source, os.path.realpath(options.binary))
        servers.append(ours)
        nginx = Nginx(folder, source)
        servers.append(nginx)
        for scheme in ("https", "http"):
            mirror = Registry(folder, "docker-registry", source, scheme)
            servers.append(mirror)
            caches = [ours, nginx, mirror]
            for cache in caches:
                cache.check(scheme, large)
            cpu(scheme, caches, large, options)
        memory(caches, large, small)
    finally:
        for server in servers:
            server.stop()


# --- The measurements ---------------------------------------------------------------------------------------------------


def cpu(scheme, caches, large, options):
    """Measures the CPU seconds that each cache needs to send a GiB from its disk."""
    fetches = max(1, 1024 // options.blob_mib)
    share = 1024 / (fetches * options.blob_mib)
    rounds = {cache.name: [] for cache in caches}
    others = []
    for _ in range(options.rounds):
        for cache in caches:
            busy, spent, used = machine(), children(), cache.cpu()
            for _ in range(fetches):
                cache.fetch(scheme, large)
            used = cache.cpu() - used
            rounds[cache.name].append(used * share)
            others.append(max(0, machine() - busy - used - (children() - spent)))
    table(f"CPU seconds for a GiB on disk, {scheme}", rounds, "{:.2f}", caches[0].name)
    print(f"Other programs used {statistics.mean(others):.1f} CPU seconds on average during each of these measurements.\n")


def memory(caches, large, small):
    """Measures the memory of each cache with many blobs and eight transfers."""
    highest = {}
    for cache in caches:
        connection = http.client.HTTPConnection("127.0.0.1", cache.ports["http"])
        for blob in small:
            get(connection, blob)
        at_rest = cache.memory()
        clients = [cache.curl("http", large, "--limit-rate", "64M") for _ in range(CLIENTS)]
        most = at_rest
        while any(client.poll() is None for client in clients):
            most = max(most, cache.memory())
            time.sleep(0.05)
        for client in clients:
            finished(client, large)
        connection.close()
        highest[cache.name] = [most / MIB]
        print(f"{cache.name}: {at_rest / MIB:.1f} MiB at rest, after {len(small)} small blobs")
    table(f"MiB of memory with {len(small)} blobs and {CLIENTS} transfers", highest, "{:.1f}", caches[0].name)


def table(title, rounds, form, ours):
    """Prints the figures of each cache, and the ratio of torrent-cache's figures to those of each other cache."""
    print(f"\n{title}")
    for name, figures in rounds.items():
        line = f"  {name:16} {spread(figures, form):24}"
        if name != ours:
            ratios = [mine / other if other else float("inf") for mine, other in zip(rounds[ours], figures)]
            line += f" {ours} needs {spread(ratios, '{:.2f}')} times as much"
        print(line.rstrip())


def spread(figures, form):
    lowest, middle, highest = (form.format(f(figures)) for f in (min, statistics.median, max))
    return middle if len(figures) == 1 else f"{middle} ({lowest}–{highest})"


def machine():
    """Returns the CPU seconds of all programs since the start of the machine."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / TICK


def children():
    """Returns the CPU seconds of the clients that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- The servers --------------------------------------------------------------------------------------------------------


class Server:
    """A process with its children. It serves blobs at one port for each scheme in `ports`."""

    def __init__(self, folder, name, command, ports, environment=None):
        self.name, self.ports, self.folder = name, ports, folder
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], **(environment or {})}
            )
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def wait(self):
        for port in self.ports.values():
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                sys.exit(f"{self.name} does not answer: {self.log.read_text()[-500:]}")
            if self.process.poll() is not None:
                sys.exit(f"{self.name} has ended: {self.log.read_text()[-500:]}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

    def processes(self):
        own = self.process.pid
        below = pathlib.Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, below)]

    def cpu(self):
        """Returns the CPU seconds (user and system) of all processes."""
        total = 0
        for pid in self.processes():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def memory(self):
        """Returns the bytes of memory of all processes. Memory that they share is counted once."""
        total = 0
        for pid in self.processes():
            lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total << 10

    def url(self, scheme, blob):
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}{blob.path}"

    def curl(self, scheme, blob, *options):
        command = ["curl", "-s", "-k", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", *options]
        return subprocess.Popen([*command, self.url(scheme, blob)], stdout=subprocess.PIPE)

    def fetch(self, scheme, blob):
        finished(self.curl(scheme, blob), blob)

    def check(self, scheme, blob):
        """Fetches the blob twice, so that the cache has it on disk, and compares the bytes with the digest."""
        for _ in range(2):
            with subprocess.Popen(["curl", "-s", "-k", self.url(scheme, blob)], stdout=subprocess.PIPE) as client:
                digest = hashlib.sha256()
                while piece := client.stdout.read(MIB):
                    digest.update(piece)
            if digest.hexdigest() != blob.digest:
                sys.exit(f"{self.name} sent wrong bytes over {scheme}: {self.log.read_text()[-500:]}")
            # A cache may store the blob only after the reply has ended.
            time.sleep(1)


class TorrentCache(Server):
    def __init__(self, folder, source, binary):
        port = free_port()
        environment = {
            "PORT": str(port),
            "INTERFACE": "127.0.0.1",
            "REGISTRY_LOCATION": f"127.0.0.1:{source.ports['http']}",
            "REGISTRY_NO_SSL": "1",
            "STORAGE": str(folder / "torrent-cache"),
            "STORAGE_MIN_FREE": "0",
            "CERTFILE": str(folder / "cert.pem"),
            "PRIVATEKEY": str(folder / "key.pem"),
        }
        super().__init__(folder, "torrent-cache", [binary], {"http": port, "https": port}, environment)


class Nginx(Server):
    def __init__(self, folder, source):
        ports = {"http": free_port(), "https": free_port()}
        config = folder / "nginx.conf"
        config.write_text(
            f"""daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-temp;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    proxy_cache_path {folder}/nginx levels=1:2 keys_zone=blobs:10m max_size=20g use_temp_path=off;
    server {{
        listen 127.0.0.1:{ports["http"]};
        listen 127.0.0.1:{ports["https"]} ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        location / {{
            proxy_pass http://127.0.0.1:{source.ports["http"]};
            proxy_cache blobs;
            proxy_cache_valid 200 1d;
            proxy_cache_lock on;
        }}
    }}
}}
"""
        )
        super().__init__(folder, "nginx", ["nginx", "-p", str(folder), "-c", str(config)], ports)


class Registry(Server):
    """docker-registry. Without `source` it is the registry that has the blobs. With `source` it is a mirror. It has one port."""

    def __init__(self, folder, name, source=None, scheme="http"):
        port = free_port()
        place = folder / f"{name}-{scheme}"
        tls = f", tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem}}" if scheme == "https" else ""
        proxy = f"proxy: {{remoteurl: 'http://127.0.0.1:{source.ports['http']}'}}\n" if source else ""
        config = folder / f"{place.name}.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {place}}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}'{tls}}}\n{proxy}"
        )
        super().__init__(folder, name, ["docker-registry", "serve", str(config)], {scheme: port})

    def push(self, content):
        """Uploads a blob."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"])
        connection.request("POST", "/v2/bench/blobs/uploads/")
        reply = connection.getresponse()
        reply.read()
        blob = Blob(content)
        place = urllib.parse.urlsplit(reply.getheader("location"))
        target = f"{place.path}?{place.query}&digest={urllib.parse.quote(f'sha256:{blob.digest}')}"
        connection.request("PUT", target, content, {"content-type": "application/octet-stream"})
        reply = connection.getresponse()
        reply.read()
        connection.close()
        if reply.status != 201:
            sys.exit(f"the registry refused the upload of a blob: {reply.status}")
        return blob


class Blob:
    """The digest, the length and the path of a blob."""

    def __init__(self, content):
        self.digest, self.length = hashlib.sha256(content).hexdigest(), len(content)
        self.path = f"/v2/bench/blobs/sha256:{self.digest}"


def get(connection, blob):
    connection.request("GET", blob.path)
    content = connection.getresponse().read()
    if hashlib.sha256(content).hexdigest() != blob.digest:
        sys.exit(f"a cache sent wrong bytes of {blob.path}")


def finished(client, blob):
    """Waits for a client to end, and checks that it got all bytes."""
    output = client.communicate()[0].decode()
    if output != f"200 {blob.length}":
        sys.exit(f"expected status 200 and {blob.length} bytes of {blob.path}, got {output}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip


if __name__ == "__main__":
    main()
