"""The scenarios of tests/swarm.sh: hosts with torrent-cache, a tracker and a registry behind a slow link. SCENARIOS names them.

Each check prints a line: its title, a tab, and the problem, if there is one. Figures are in lines that begin with #.

Threads of this program enter the network namespace of a host to be a client there, and that of the registry to listen there. So one
process sees all clocks and counters.
"""

import collections
import ctypes
import fcntl
import gzip
import hashlib
import http.client
import io
import json
import math
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
import traceback
import urllib.parse

import hostile_peers
from caching import Upstream, report

MIB = 1 << 20
PREFIX = os.environ.get("PREFIX", "")
FOLDER = pathlib.Path(os.environ.get("FOLDER", "."))
HOSTS = 8
TRACKER = "10.83.0.2"
REGISTRY = "10.84.0.2:5000"
# A loaded machine is slow, so that without STRICT times may be so many times as long. Bytes are checked as they are.
SLACK = 1 if os.environ.get("STRICT") else 3
SIZE = int(os.environ.get("SIZE", 128)) * MIB
CHURN = int(os.environ.get("CHURN", 60))
SEED = os.environ.get("SEED") or str(random.randrange(1 << 30))
# A pull that takes longer than this has failed.
DEADLINE = 300


def note(*words):
    print("#", *words, flush=True)


def at_most(title, figure, bound, unit=""):
    """A figure that depends on nothing but the programs."""
    report(f"{title}: at most {bound}{unit}", "" if figure <= bound else f"{figure:.2f}{unit}")


def within(title, figure, bound, unit=" s"):
    """A figure that depends on this machine as well."""
    bound = bound * SLACK
    report(f"{title}: within {bound:g}{unit}", "" if figure <= bound else f"{figure:.2f}{unit}")


def wait_for(seconds, condition):
    """What the condition returns when it is true. Only a failing test waits for the whole time."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return value


# --- The network ------------------------------------------------------------------------------------------------------

def enter(node):
    """Puts this thread into a namespace."""
    with open(f"/run/netns/{PREFIX}-{node}") as space:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(space.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), f"the namespace of {node} cannot be entered")


def inside(node, function):
    """What the function returns in a namespace."""
    results = []

    def run():
        enter(node)
        results.append(function())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0] if results else None


def in_node(node, *command):
    # Not by `ip netns exec`, which hides the control groups, and dockerd needs those.
    return ["nsenter", f"--net=/run/netns/{PREFIX}-{node}", *map(str, command)]


def run_in(node, *command, **options):
    return subprocess.run(in_node(node, *command), capture_output=True, text=True, **options)


def set_wan(megabits):
    """The rate of the link to the registry, both ways."""
    run_in("hub", "tc", "qdisc", "replace", "dev", "wan", "root", "tbf", "rate", f"{megabits}mbit", "burst", "128k",
           "latency", "50ms", check=True)
    run_in("registry", "tc", "qdisc", "del", "dev", "eth0", "root")
    run_in("registry", "tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb", "default", "2", check=True)
    add_class("1:", 1, megabits, megabits)
    # Each host has a queue of its own, so that all get the same share, as in a router with fair queues. Otherwise a host could
    # happen to get a tenth of the others' rate, and nothing could be said of pulls beside each other.
    for minor in range(2, 11 + HOSTS):
        if minor == 2 or minor > 10:
            add_class("1:1", minor, megabits / 16, megabits)
            run_in("registry", "tc", "qdisc", "add", "dev", "eth0", "parent", f"1:{minor:x}", "bfifo", "limit",
                   f"{megabits * 1000 // 8 * 50}", check=True)


def add_class(parent, minor, rate, ceil):
    run_in("registry", "tc", "class", "add", "dev", "eth0", "parent", parent, "classid", f"1:{minor:x}", "htb",
           "rate", f"{rate}mbit", "ceil", f"{ceil}mbit", "burst", "128k", "cburst", "128k", "quantum", "66000", check=True)


def set_link(host, state):
    run_in("hub", "ip", "link", "set", "dev", host.name, state, check=True)


def sent_bytes():
    """What each node has sent, as the other end of its link has counted it. The name of the registry's link is `wan`."""
    links = json.loads(run_in("hub", "ip", "-s", "-j", "link", "show").stdout)
    return {link["ifname"]: link["stats64"]["rx"]["bytes"] for link in links}


# --- The registry -----------------------------------------------------------------------------------------------------

class Transfer:
    """A reply with a blob, or a part of one."""

    def __init__(self, request, path, length):
        self.socket, self.host, self.path, self.length = request.connection, request.client_address[0], path, length
        self.base, self.handed, self.ended, self.begun = self.acknowledged(), 0, None, time.monotonic()

    def acknowledged(self):
        # `tcpi_bytes_acked` of tcp_info: bytes in the buffers of a connection that ends do not count.
        return struct.unpack_from("Q", self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128), 120)[0]

    def sent(self):
        return self.handed if self.ended else min(self.handed, max(0, self.acknowledged() - self.base))

    def send(self, file, first):
        """Sends the part, and waits until the client's host has it."""
        try:
            while self.handed < self.length:
                self.handed += os.sendfile(self.socket.fileno(), file.fileno(), first + self.handed,
                                           min(MIB, self.length - self.handed)) or self.is_short()
            while self.unsent():
                time.sleep(0.002)
        except OSError:
            self.handed = self.sent()
            raise
        finally:
            self.ended = time.monotonic()

    def unsent(self):
        return struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0] and self.is_open()

    def is_open(self):
        # TCP_ESTABLISHED and TCP_CLOSE_WAIT.
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in (1, 8)

    def is_short(self):
        raise OSError("the file of the blob is too short")


class Registry:
    """The requests of a registry that clients need for a pull, and what they cost in bytes."""

    def __init__(self):
        self.blobs, self.manifests, self.transfers, self.delay = {}, {}, [], 0.02
        inside("registry", lambda: setattr(self, "server", Upstream(5000, self.answer)))

    def add(self, name, length):
        """A blob of noise; returns it."""
        path = FOLDER / "blobs" / name
        path.parent.mkdir(exist_ok=True)
        chance, hasher, left = random.Random(f"{SEED} {name}"), hashlib.sha256(), length
        with open(path, "wb") as file:
            while left:
                chunk = chance.randbytes(min(left, 8 * MIB))
                hasher.update(chunk)
                file.write(chunk)
                left -= len(chunk)
        return self.keep(path, hasher.hexdigest(), length)

    def add_content(self, content):
        path = FOLDER / "blobs" / hashlib.sha256(content).hexdigest()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return self.keep(path, path.name, len(content))

    def keep(self, path, digest, length):
        self.blobs[digest] = blob = Blob(digest, length, f"/v2/library/x/blobs/sha256:{digest}", path)
        return blob

    def answer(self, request):
        # Where the kernel cannot delay packets, each reply waits instead.
        time.sleep(self.delay)
        path = request.path.split("?")[0]
        kind, name = path.split("/")[-2:] if path.count("/") > 2 else ("", "")
        blob = self.blobs.get(name.removeprefix("sha256:"))
        if path in ("/v2", "/v2/"):
            request.content(b"{}")
        elif kind == "manifests" and name in self.manifests:
            media_type, content = self.manifests[name]
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            request.content(content, Content_Type=media_type, Docker_Content_Digest=digest)
        elif kind == "blobs" and blob:
            self.send(request, path, blob)
        else:
            request.head(404, 0)

    def send(self, request, path, blob):
        first, _, last = (request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")
        first, last = int(first), min(int(last or blob.length), blob.length - 1)
        headers = {"Content_Type": "application/octet-stream"}
        if request.headers.get("Range"):
            headers["Content_Range"] = f"bytes {first}-{last}/{blob.length}"
        request.head(206 if "Content_Range" in headers else 200, last + 1 - first, **headers)
        request.wfile.flush()
        if request.command != "GET":
            return
        # The host's class.
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 1 << 16 | int(request.client_address[0].split(".")[3]))
        transfer = Transfer(request, path, last + 1 - first)
        self.transfers.append(transfer)
        try:
            with open(blob.file, "rb") as file:
                transfer.send(file, first)
        except OSError:
            request.close_connection = True

    def sent(self, *blobs):
        return sum(transfer.sent() for transfer in self.of(*blobs))

    def of(self, *blobs):
        paths = {blob.path for blob in blobs}
        return [transfer for transfer in list(self.transfers) if transfer.path in paths]

    def done(self, blob):
        return max((transfer.ended or math.inf for transfer in self.of(blob)), default=math.inf)


Blob = collections.namedtuple("Blob", "digest length path file")


# --- Hosts and clients ------------------------------------------------------------------------------------------------

def log_of(name, node):
    return FOLDER / f"{scenario}-{name}-{node}.log"


class Program:
    """A program in a namespace."""

    def __init__(self, node, name, command, **environment):
        self.log = log_of(name, node)
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(in_node(node, *command), env={**clean, **environment}, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)

    def cpu(self):
        return cpu_of(self.process.pid)

    def send(self, number):
        self.process.send_signal(number)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            report(f"{self.log.stem} ends within 20 s", "it does not")
            return self.process.wait()


def cpu_of(pid, kinds=(11, 12)):
    """Seconds of CPU: by default `utime` and `stime`."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[kind]) for kind in kinds) / os.sysconf("SC_CLK_TCK")


class Tracker(Program):
    def __init__(self):
        super().__init__("tracker", "retracker", [os.environ["RETRACKER_BIN"], "-l", ":6969", "--torrents", "--prometheus"])
        if not wait_for(20, lambda: inside("tracker", lambda: fetch(6969, "/health")) is not None):
            sys.exit(f"the tracker does not start: {self.log.read_text()[-500:]}")

    def torrents(self):
        """How many torrent files it keeps."""
        page = inside("tracker", lambda: fetch(6969, "/metrics")) or b""
        figures = [line.split()[1] for line in page.decode().splitlines() if line.startswith("retracker_metainfo_entries ")]
        return int(float(figures[0])) if figures else 0


def fetch(port, path):
    """The body of a page with status 200, or None."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        return body if reply.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Host:
    """A host with a cache, whose storage is empty at first."""

    def __init__(self, number):
        self.number, self.name, self.address = number, f"h{number}", f"10.83.0.{10 + number}"
        self.storage, self.program, self.settings = FOLDER / f"storage-{self.name}", None, {}

    def start(self, **settings):
        self.settings = settings or self.settings
        self.program = Program(self.name, "cache", [os.environ["CACHE_BIN"]], PORT="8888", INTERFACE="127.0.0.1",
                               REGISTRY_NO_SSL="1", REGISTRY_LOCATION=REGISTRY, STORAGE=str(self.storage),
                               TRACKER=f"http://{TRACKER}:6969/announce", ETCD_HOST=TRACKER, **self.settings)
        if not wait_for(30, lambda: inside(self.name, lambda: fetch(8888, "/health")) is not None):
            sys.exit(f"the cache of {self.name} does not start: {self.program.log.read_text()[-500:]}")
        wait_for(10, self.knows_tracker)

    def knows_tracker(self):
        metrics = inside(self.name, lambda: fetch(8888, "/metrics")) or b""
        return b"\ntorrent_cache_tracker_up 1\n" in metrics

    def stop(self, number=signal.SIGTERM):
        status = self.program.end(number) if self.program else 0
        self.program = None
        return status

    def forget(self):
        """Removes all that the host has on disk."""
        for path in self.storage.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def wrong_blobs(self):
        """Blobs on disk whose digest is not their name."""
        for path in self.storage.glob("blobs/sha256/*/*"):
            if len(path.name) == 64 and hashlib.file_digest(path.open("rb"), "sha256").hexdigest() != path.name:
                yield f"{self.name}: {path.name}"

    def has_settled(self):
        incoming = self.storage / "incoming"
        return not incoming.exists() or not any(incoming.iterdir())


class Pull(threading.Thread):
    """A client of a host's cache, or of the registry itself. It begins at once."""

    def __init__(self, host, blob, straight=False):
        super().__init__(daemon=True)
        self.host, self.blob, self.straight = host, blob, straight
        self.problem, self.first_byte, self.stall, self.received = "it has not ended", math.inf, 0, 0
        self.begun, self.ended = time.monotonic(), math.inf
        self.start()

    def run(self):
        try:
            enter(self.host.name)
            self.problem = self.pull()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.problem = f"{type(error).__name__}: {error} after {self.received} bytes"
        self.ended = time.monotonic()

    def pull(self):
        place = REGISTRY if self.straight else "127.0.0.1:8888"
        connection = http.client.HTTPConnection(place, timeout=DEADLINE)
        connection.request("GET", self.blob.path)
        reply = connection.getresponse()
        if reply.status != 200:
            return f"status {reply.status}: {reply.read(300)}"
        hasher, buffer, latest = hashlib.sha256(), memoryview(bytearray(256 * 1024)), time.monotonic()
        while length := reply.readinto(buffer):
            now = time.monotonic()
            if not self.received:
                self.first_byte = now - self.begun
            self.stall, latest = max(self.stall, now - latest), now
            hasher.update(buffer[:length])
            self.received += length
        connection.close()
        if self.received != self.blob.length:
            return f"{self.received} bytes of {self.blob.length}"
        return "" if hasher.hexdigest() == self.blob.digest else "the SHA-256 is wrong"

    def took(self):
        return self.ended - self.begun


def finish(title, pulls):
    """Waits for pulls, and checks that all are right."""
    end = time.monotonic() + DEADLINE
    for pull in pulls:
        pull.join(max(0, end - time.monotonic()))
    problems = [f"{pull.host.name}: {pull.problem}" for pull in pulls if pull.problem]
    report(f"{title}: every client gets the right bytes", "; ".join(problems))
    return not problems


class Bed:
    """A registry, a tracker, and hosts, which start with nothing."""

    def __init__(self, hosts, wan=88, tracker=True, **settings):
        set_wan(wan)
        self.registry = Registry()
        self.tracker = Tracker() if tracker else None
        self.hosts = [Host(number + 1) for number in range(hosts)]
        for host in self.hosts:
            host.start(**settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for host in self.hosts:
            set_link(host, "up")
            # Else it would not see that it shall end.
            if host.program:
                host.program.send(signal.SIGCONT)
            host.stop()
            note_panics("cache", host.name)
            shutil.rmtree(host.storage, ignore_errors=True)
        if self.tracker:
            self.tracker.end()
            note_panics("retracker", "tracker")
        self.registry.server.shutdown()
        self.registry.server.server_close()
        shutil.rmtree(FOLDER / "blobs", ignore_errors=True)

    def seed(self, *blobs, host=None):
        """A host that has the blobs, which other hosts can get from it."""
        host = host or self.hosts[0]
        before = self.tracker.torrents()
        for blob in blobs:
            finish(f"{host.name} alone", [Pull(host, blob)])
        wait_for(20, host.has_settled)
        report(f"the tracker has the torrent file of each blob of {host.name}",
               "" if wait_for(15, lambda: self.tracker.torrents() >= before + len(blobs)) else f"it has {self.tracker.torrents()}")
        return host

    def leader_at(self, blob, share):
        """Waits until upstream has sent this share of the blob. Returns the host to which it sends most."""
        wait_for(DEADLINE, lambda: self.registry.sent(blob) >= share * blob.length)
        under_way = [transfer for transfer in self.registry.of(blob) if not transfer.ended]
        leader = max(under_way, key=Transfer.sent, default=None)
        return leader and next(host for host in self.hosts if host.address == leader.host)

    def figures(self, title, pulls, blob, cpu=None):
        took = sorted(pull.took() for pull in pulls)
        begun = min(pull.begun for pull in pulls)
        # The last acknowledgement may still be under way.
        wait_for(2, lambda: self.registry.done(blob) < math.inf)
        cpu = cpu or [pull.host.program.cpu() for pull in pulls if pull.host.program]
        user = [cpu_of(pull.host.program.process.pid, [11]) for pull in pulls if pull.host.program]
        after = max(pull.ended for pull in pulls) - self.registry.done(blob)
        note(f"{title}: first done {took[0]:.2f} s, last {took[-1]:.2f} s;",
             f"first byte {max(pull.first_byte for pull in pulls):.3f} s, longest stall {max(pull.stall for pull in pulls):.2f} s;",
             f"upstream done {self.registry.done(blob) - begun:.2f} s, {after:.2f} s before the last;",
             f"upstream bytes / blob {self.registry.sent(blob) / blob.length:.3f} in {len(self.registry.of(blob))} fetches;",
             f"CPU of a host {statistics.mean(cpu):.2f} s, at most {max(cpu):.2f} s;",
             f"user CPU since its start {statistics.mean(user):.2f} s")
        return took[-1], after, max(cpu)


def note_panics(name, node):
    log = log_of(name, node).read_text(errors="replace")
    if "panicked at" in log:
        report(f"{name} on {node} does not panic", log[log.index("panicked at"):][:300])


# --- One host ---------------------------------------------------------------------------------------------------------

def alone(wan=88):
    """One host, straight and through its cache: what the links and this machine allow."""
    with Bed(1, wan) as bed:
        (host,) = bed.hosts
        straight = Pull(host, bed.registry.add("straight", SIZE), straight=True)
        finish("straight from the registry", [straight])
        before = host.program.cpu()
        cached = Pull(host, bed.registry.add("cached", SIZE))
        finish("one host", [cached])
        # Of each packet of 1514 bytes 1448 are the blob's.
        least = SIZE * 8 / (wan * 1e6) * 1514 / 1448
        note(f"one host, {wan} Mbit: {cached.took():.2f} s through the cache, with {host.program.cpu() - before:.2f} s of CPU",
             f"(in all {cpu_of(host.program.process.pid, [11]):.2f} s user,",
             f"{cpu_of(host.program.process.pid, [12]):.2f} s system);",
             f"{straight.took():.2f} s straight; the link alone takes {least:.2f} s")
        within("one host: time through the cache / straight", cached.took() / straight.took(), 1.1, "")


# --- Cold -------------------------------------------------------------------------------------------------------------

def cold(hosts=HOSTS, wan=88, last=None, after=None):
    """Hosts pull a blob at once that none of them has."""
    title = f"{hosts} cold hosts, {wan} Mbit"
    with Bed(hosts, wan) as bed:
        blob = bed.registry.add("cold", SIZE)
        cpu = [host.program.cpu() for host in bed.hosts]
        pulls = [Pull(host, blob) for host in bed.hosts]
        finish(title, pulls)
        cpu = [host.program.cpu() - before for host, before in zip(bed.hosts, cpu)]
        took, spread, most = bed.figures(title, pulls, blob, cpu)
        at_most(f"{title}: upstream bytes / blob", bed.registry.sent(blob) / blob.length, 1.05)
        if last:
            within(f"{title}: the last is done", took, last * SIZE / (128 * MIB))
        if after:
            within(f"{title}: the last is done after upstream", spread, after)
        within(f"{title}: CPU of a host", most, 1.0 * SIZE / (128 * MIB))


def kill(share, at_once=False):
    """The same, and the host that fetches is killed. It starts again, at once or when the others are done."""
    title = f"{HOSTS} cold hosts, the leader killed at {share:.0%}" + at_once * ", back at once"
    with Bed(HOSTS) as bed:
        blob = bed.registry.add("kill", SIZE)
        pulls = [Pull(host, blob) for host in bed.hosts]
        leader = bed.leader_at(blob, share)
        if not leader:
            report(f"{title}: a host fetches", "none does")
            return
        others = [pull for pull in pulls if pull.host is not leader]
        leader.stop(signal.SIGKILL)
        time.sleep(1)
        if not at_once:
            finish(f"{title}: the others", others)
        leader.start()
        again = Pull(leader, blob)
        if at_once:
            finish(f"{title}: the others", others)
        finish(f"{title}: it comes back", [again])
        bed.figures(title, others, blob)
        note(f"{title}: the killed host, when it is back: {again.took():.2f} s, first byte {again.first_byte:.3f} s")
        within(f"{title}: longest stall of the others", max(pull.stall for pull in others), 5)
        at_most(f"{title}: upstream bytes / blob", bed.registry.sent(blob) / blob.length, 1.05)


def sleep(who, share=0.3, seconds=10):
    """The same, and a host sleeps for a while: the leader, or a follower."""
    title = f"{HOSTS} cold hosts, {who} sleeps for {seconds} s"
    with Bed(HOSTS) as bed:
        blob = bed.registry.add("sleep", SIZE)
        pulls = [Pull(host, blob) for host in bed.hosts]
        leader = bed.leader_at(blob, share)
        if not leader:
            report(f"{title}: a host fetches", "none does")
            return
        sleeper = leader if who == "the leader" else next(host for host in bed.hosts if host is not leader)
        sleeper.program.send(signal.SIGSTOP)
        time.sleep(seconds)
        sleeper.program.send(signal.SIGCONT)
        others = [pull for pull in pulls if pull.host is not sleeper]
        finish(f"{title}: the others", others)
        finish(f"{title}: it wakes", [pull for pull in pulls if pull.host is sleeper])
        bed.figures(title, pulls, blob)
        stall = max(pull.stall for pull in others)
        within(f"{title}: longest stall of the others", stall, 5)
        at_most(f"{title}: upstream bytes / blob", bed.registry.sent(blob) / blob.length, 1.05)


# --- Warm -------------------------------------------------------------------------------------------------------------

def warm(leechers=6):
    """One host has the blob; six pull it at once."""
    title = f"one seed, {leechers} hosts"
    with Bed(leechers + 1) as bed:
        blob = bed.registry.add("warm", SIZE)
        seed = bed.seed(blob)
        fetched, sent = bed.registry.sent(blob), sent_bytes()[seed.name]
        cpu = {host: host.program.cpu() for host in bed.hosts}
        pulls = [Pull(host, blob) for host in bed.hosts[1:]]
        finish(title, pulls)
        sent, fetched = sent_bytes()[seed.name] - sent, bed.registry.sent(blob) - fetched
        cpu = {host: host.program.cpu() - before for host, before in cpu.items()}
        took, _, most = bed.figures(title, pulls, blob, [cpu[host] for host in bed.hosts[1:]])
        note(f"{title}: the seed has sent {sent / blob.length:.2f} blobs, with {cpu[seed]:.2f} s of CPU")
        at_most(f"{title}: bytes that came from upstream once more / blob", fetched / blob.length, 0.05)
        within(f"{title}: the last is done", took, 13.5 * SIZE / (128 * MIB))
        within(f"{title}: the seed has sent / blob", sent / blob.length, 1.2, "")
        within(f"{title}: CPU of a host", most, 1.0 * SIZE / (128 * MIB))


def tracker():
    """The tracker is killed, and starts again with nothing."""
    with Bed(3) as bed:
        first, second = (bed.registry.add(name, 8 * MIB) for name in ("before", "after"))
        bed.seed(first)
        bed.tracker.end(signal.SIGKILL)
        finish("without a tracker", [Pull(bed.hosts[0], second)])
        bed.tracker = Tracker()
        begun = time.monotonic()
        wait_for(45, lambda: bed.tracker.torrents() == 2)
        took = time.monotonic() - begun
        report("a tracker that starts again has all torrent files within 45 s", "" if bed.tracker.torrents() == 2 else
               f"it has {bed.tracker.torrents()} of 2")
        within("a tracker that starts again has all torrent files", took, 15)
        wait_for(15, lambda: all(host.knows_tracker() for host in bed.hosts))
        before = bed.registry.sent(first, second)
        finish("the next pulls", [Pull(host, blob) for host in bed.hosts[1:] for blob in (first, second)])
        at_most("the next pulls: bytes from upstream / blob", (bed.registry.sent(first, second) - before) / first.length, 0.05)


# --- First bytes ------------------------------------------------------------------------------------------------------

def dead():
    """All hosts that have a blob are dead when the next one asks: killed, or without a link."""
    with Bed(5) as bed:
        straight, cached = [], []
        alone = [bed.registry.add(f"alone-{number}", MIB) for number in range(12)]
        blobs = [bed.registry.add(f"dead-{number}", MIB) for number in range(12)]
        late = bed.hosts[4]
        bed.seed(*blobs)
        finish("three more", [Pull(host, blob) for host in bed.hosts[1:4] for blob in blobs])
        for host in bed.hosts[1:4]:
            wait_for(20, host.has_settled)
        for host in bed.hosts[:2]:
            host.stop(signal.SIGKILL)
        for host in bed.hosts[2:4]:
            set_link(host, "down")
        for blob, other in zip(blobs, alone):
            straight.append(Pull(late, other, straight=True))
            straight[-1].join(DEADLINE)
            cached.append(Pull(late, blob))
            cached[-1].join(DEADLINE)
        finish("all peers dead", cached)
        usual = statistics.median(pull.first_byte for pull in straight)
        most, median = (function(pull.first_byte for pull in cached) for function in (max, statistics.median))
        note(f"all peers dead: first byte after {median:.3f} s, at most {most:.3f} s; straight {usual:.3f} s, at most",
             f"{max(pull.first_byte for pull in straight):.3f} s")
        within("all peers dead: the first byte, more than straight", most - usual, 0.3)
        within("all peers dead: the whole MiB, more than straight", max(pull.took() for pull in cached) - usual, 0.3 + 0.5)


# --- Hostile peers ----------------------------------------------------------------------------------------------------

def key_of(blob):
    """The blob's name at the tracker."""
    return "sha256:" + hashlib.sha256(f"http://{REGISTRY} library/x sha256:{blob.digest}".encode()).hexdigest()


def torrent_file(blob):
    """What the tracker has, or None."""
    return inside("tracker", lambda: fetch(6969, f"/torrents/{key_of(blob)}"))


def info_hash_of(file):
    # `info` is the only key.
    return hashlib.sha1(file[len(b"d4:info"):-1]).digest()


def add_addresses(node, last):
    """More addresses of a node: 10.83.0.LAST."""
    addresses = [f"10.83.0.{number}" for number in last]
    for address in addresses:
        run_in(node, "ip", "address", "replace", f"{address}/24", "dev", "eth0", check=True)
    return addresses


def hostile():
    """Thirty hostile peers announce themselves for a blob that one host has. Two hosts pull it."""
    title = "one seed among thirty hostile peers"
    with Bed(3) as bed:
        blob = bed.registry.add("hostile", min(SIZE, 48 * MIB))
        seed = bed.seed(blob)
        torrent = hostile_peers.Torrent(info_hash_of(torrent_file(blob)), blob.length)
        addresses = add_addresses("h8", range(101, 131))
        peers = inside("h8", lambda: hostile_peers.horde(addresses, torrent))
        try:
            inside("h8", lambda: [peer.announce(TRACKER) for peer in peers])
            # Some also come by themselves, again and again, to the seed as well.
            for number, peer in enumerate(peers):
                host = bed.hosts[number % 3]
                inside("h8", lambda: threading.Thread(target=peer.dial, args=(host.address,), daemon=True).start())
            fetched, memory = bed.registry.sent(blob), max(resident(host) for host in bed.hosts)
            pulls = [Pull(host, blob) for host in bed.hosts[1:]]
            finish(title, pulls)
            bed.figures(title, pulls, blob)
            met = sum(peer.met > 0 for peer in peers)
            report(f"{title}: all of them were met", "" if met == 30 else f"{met} of 30")
            within(f"{title}: longest stall", max(max(pull.stall, pull.first_byte) for pull in pulls), 1)
            grown = max(resident(host) for host in bed.hosts) - memory
            note(f"{title}: bytes that came from upstream once more / blob {(bed.registry.sent(blob) - fetched) / blob.length:.3f};",
                 f"memory of a host has grown by {grown / MIB:.0f} MiB")
            at_most(f"{title}: memory of a host has grown", grown / MIB, 96, " MiB")
            report(f"{title}: no wrong blob on disk", "; ".join(wrong for host in bed.hosts for wrong in host.wrong_blobs()))
            for host in bed.hosts:
                report(f"{title}: {host.name} lives", "" if host.program.process.poll() is None else "it has ended")
        finally:
            for peer in peers:
                peer.close()


def resident(host):
    """Bytes of memory of the host's cache."""
    return int(pathlib.Path(f"/proc/{host.program.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lying_leader():
    """A host takes the lease of a blob, and tells and delivers wrong bytes."""
    lie("a lying leader", with_file=False)
    lie("a lying torrent file", with_file=True)


def lie(title, with_file):
    with Bed(2) as bed:
        blob = bed.registry.add("lie", min(SIZE, 8 * MIB))
        key = key_of(blob)
        rendezvous = hashlib.sha256(key.encode()).digest()
        torrent, file = hostile_peers.Torrent(rendezvous[:20], blob.length), None
        if with_file:
            info = {"length": blob.length, "name": key, "piece length": MIB // 2, "private": 1, "source": rendezvous.hex(),
                    "pieces": hostile_peers.wrong_hashes(torrent)}
            file = bencode({"info": info})
            torrent.info_hash = info_hash_of(file)
        (address,) = add_addresses("h8", [101])
        liar = inside("h8", lambda: hostile_peers.Peer(address, torrent, hostile_peers.lying_hashes))
        try:
            if file:
                status, reply = inside("h8", lambda: liar.call(TRACKER, "PUT", f"/torrents/{key}", file))
                report(f"{title}: the tracker takes it", "" if status == 201 else f"{status} {reply}")
                inside("h8", lambda: liar.announce(TRACKER))
            else:
                inside("h8", lambda: liar.lead(TRACKER, key))
            pulls = [Pull(host, blob) for host in bed.hosts]
            for pull in pulls:
                pull.join(DEADLINE)
            report(f"{title}: the hosts met it", "" if liar.met >= 2 else f"it was met {liar.met} times")
            # The last byte waits for the digest, so that a client can tell.
            told = [f"{pull.host.name}: {pull.problem or 'a right blob'}" for pull in pulls
                    if not pull.problem or "SHA-256" in pull.problem or pull.received >= blob.length]
            report(f"{title}: no client gets all of a wrong blob", "; ".join(told))
            report(f"{title}: no wrong blob on disk", "; ".join(wrong for host in bed.hosts for wrong in host.wrong_blobs()))
            for host in bed.hosts:
                report(f"{title}: {host.name} says so in its log",
                       "" if "wrong content from the swarm" in host.program.log.read_text() else "it does not")
            if file:
                gone = wait_for(20, lambda: torrent_file(blob) != file)
                report(f"{title}: the complaints of two hosts remove it", "" if gone else "it is there")
            met = liar.met
            again = [Pull(host, blob) for host in bed.hosts]
            finish(f"{title}: the next pulls", again)
            at_most(f"{title}: the next pulls: bytes from upstream / blob", bed.registry.sent(blob) / blob.length, 2.01)
            if not file:
                report(f"{title}: it is banned", "" if liar.met == met else f"it was met {liar.met - met} times more")
        finally:
            liar.close()


# --- Real clients -----------------------------------------------------------------------------------------------------

def clients():
    """skopeo, containerd and dockerd pull an image on all hosts at once."""
    with Bed(HOSTS) as bed:
        image = Image(bed.registry, "x", 40 * MIB, 300_000, 40_000)
        runners = [(SkopeoClient, bed.hosts[:3]), (ContainerdClient, bed.hosts[3:6]), (DockerClient, bed.hosts[6:])]
        ready = [client(host) for client, hosts in runners for host in hosts]
        try:
            begun = time.monotonic()
            processes = [(client, client.begin()) for client in ready]
            for client, process in processes:
                output = process.communicate(timeout=DEADLINE)[0].decode(errors="replace")
                problem = output[-300:] if process.returncode else client.problem(image)
                report(f"{client.name} on {client.host.name} pulls the image", problem)
            took = time.monotonic() - begun
        finally:
            for client in ready:
                client.close()
        total = sum(blob.length for blob in image.blobs)
        ratio = bed.registry.sent(*image.blobs) / total
        note(f"real clients: all done after {took:.2f} s; upstream bytes / image {ratio:.3f}")
        at_most("real clients: upstream bytes / image", ratio, 1.05)


class Image:
    """An image in the registry, with a layer of noise for each size."""

    def __init__(self, registry, tag, *sizes):
        layers, diffs = [], []
        for number, size in enumerate(sizes):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as archive:
                entry = tarfile.TarInfo(f"content-{number}")
                entry.size = size
                archive.addfile(entry, io.BytesIO(random.Random(f"{SEED} {tag} {number}").randbytes(size)))
            diffs.append("sha256:" + hashlib.sha256(content.getvalue()).hexdigest())
            layers.append(registry.add_content(gzip.compress(content.getvalue(), 1, mtime=0)))
        self.config = registry.add_content(json.dumps({
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [{"created_by": "noise"} for _ in layers]}).encode())
        self.blobs = [self.config, *layers]
        kind = "application/vnd.docker."
        entry = lambda blob, media_type: {"mediaType": kind + media_type, "size": blob.length, "digest": f"sha256:{blob.digest}"}
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": kind + "distribution.manifest.v2+json",
            "config": entry(self.config, "container.image.v1+json"),
            "layers": [entry(blob, "image.rootfs.diff.tar.gzip") for blob in layers]}).encode()
        for name in "latest", "sha256:" + hashlib.sha256(manifest).hexdigest():
            registry.manifests[name] = (kind + "distribution.manifest.v2+json", manifest)


class Client:
    def __init__(self, host):
        self.host, self.folder, self.daemon = host, FOLDER / f"{self.name}-{host.name}", None
        self.folder.mkdir()

    def begin(self):
        environment = {**os.environ, "HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}
        return subprocess.Popen(in_node(self.host.name, *self.command()), env=environment, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def run(self, *command):
        return run_in(self.host.name, *command)

    def await_daemon(self, *command):
        if not wait_for(60, lambda: self.run(*command).returncode == 0):
            sys.exit(f"{self.name} does not start: {self.daemon.log.read_text()[-500:]}")

    def problem(self, _):
        return ""

    def close(self):
        if self.daemon:
            self.daemon.end()


class SkopeoClient(Client):
    name = "skopeo"

    def command(self):
        return "skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://localhost:8888/library/x", \
            f"dir:{self.folder}/image"

    def problem(self, image):
        content = {blob: self.folder / "image" / blob.digest for blob in image.blobs}
        return "".join(f"{blob.digest} is wrong; " for blob, path in content.items()
                       if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != blob.digest)


class ContainerdClient(Client):
    name = "ctr"

    def __init__(self, host):
        super().__init__(host)
        hosts = self.folder / "hosts" / REGISTRY
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(
            f'server = "http://{REGISTRY}"\n[host."http://127.0.0.1:8888"]\n  capabilities = ["pull", "resolve"]\n')
        (self.folder / "config.toml").write_text(
            'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'root = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'[grpc]\n  address = "{self.folder}/socket"\n[ttrpc]\n  address = "{self.folder}/ttrpc"\n')
        self.daemon = Program(host.name, "containerd", ["containerd", "--config", self.folder / "config.toml"])
        self.await_daemon("ctr", "--address", self.folder / "socket", "version")

    def command(self):
        return ("ctr", "--address", self.folder / "socket", "images", "pull", "--snapshotter", "native", "--hosts-dir",
                self.folder / "hosts", f"{REGISTRY}/library/x:latest")

    def problem(self, image):
        there = self.run("ctr", "--address", self.folder / "socket", "content", "ls", "--quiet").stdout
        return "".join(f"{blob.digest} is missing; " for blob in image.blobs if blob.digest not in there)


class DockerClient(Client):
    name = "docker"

    def __init__(self, host):
        super().__init__(host)
        (self.folder / "daemon.json").write_text("{}")
        # Without networks of its own it changes no firewall.
        self.daemon = Program(
            host.name, "dockerd",
            ["dockerd", "--config-file", self.folder / "daemon.json", "--host", self.address(), "--pidfile", self.folder / "pid",
             "--data-root", self.folder / "root", "--exec-root", self.folder / "state", "--iptables=false", "--ip-forward=false",
             "--bridge=none", "--registry-mirror=http://localhost:8888"], HOME=str(self.folder))
        self.await_daemon("docker", "--host", self.address(), "info")

    def address(self):
        return f"unix://{self.folder}/socket"

    def command(self):
        return "docker", "--host", self.address(), "pull", "--quiet", "x"

    def problem(self, image):
        told = self.run("docker", "--host", self.address(), "image", "inspect", "--format", "{{.Id}}", "x").stdout.strip()
        return "" if told == f"sha256:{image.config.digest}" else f"the image is {told}"


# --- Other BitTorrent clients -----------------------------------------------------------------------------------------

def interop():
    """Other BitTorrent clients get a blob from a host that has it; then each of them alone gives it to a host that lacks it."""
    if command := shlex.split(os.environ.get("PEER", "")):
        FOREIGN["PEER"] = (*command, "{home}/blob.torrent", "{home}", "6881")
    kinds = [kind for kind in FOREIGN if shutil.which(FOREIGN[kind][0])]
    note("interop: with", *kinds)
    with Bed(2) as bed:
        blob = bed.registry.add("interop", min(SIZE, 64 * MIB))
        seed, late = bed.seed(blob), bed.hosts[1]
        file = torrent_file(blob)
        # A tracker's address beside `info` does not change the info-hash.
        announce = f"http://{TRACKER}:6969/announce".encode()
        torrent = b"d8:announce%d:%s" % (len(announce), announce) + file[1:]
        clients = [ForeignClient(kind, f"h{3 + number}", torrent, key_of(blob)) for number, kind in enumerate(kinds)]
        begun = time.monotonic()
        for client in clients:
            client.start()
        pull = Pull(late, blob)
        finish("a host among other clients", [pull])
        for client in clients:
            there = wait_for(60, lambda: client.has(blob))
            report(f"{client.kind} gets the blob from hosts", "" if there else client.told())
            note(f"{client.kind}: has the blob after {time.monotonic() - begun:.1f} s at most")
        for client in clients:
            client.end()
        for host in bed.hosts:
            host.stop()
            host.forget()
        # The upstream helps after a second. It takes 45 s for the blob, so that it is not done before a client that lets new peers wait
        # gives something: Transmission does after 10 to 20 s.
        set_wan(12)
        for client in clients:
            # A tracker that knows none of the others, not even those that are gone.
            bed.tracker.end()
            bed.tracker = Tracker()
            inside("tracker", lambda: put_file(blob, file))
            client.start(blob.file)
            known = wait_for(30, lambda: seeds_of(file) == 1)
            report(f"{client.kind} offers the blob", "" if known else client.told())
            late.start()
            # It must know the tracker.
            time.sleep(2)
            fetched = bed.registry.sent(blob)
            pull = Pull(late, blob)
            finish(f"a host with {client.kind} alone", [pull])
            note(f"{client.kind}: gives {1 - (bed.registry.sent(blob) - fetched) / blob.length:.2f} of the blob",
                 f"in {pull.took():.2f} s, first byte {pull.first_byte:.3f} s,",
                 f"longest stall {pull.stall:.2f} s")
            at_most(f"a host gets the blob from {client.kind}: bytes from upstream / blob",
                    (bed.registry.sent(blob) - fetched) / blob.length, 0.5 if client.kind in WAITING else 0.05)
            late.stop()
            late.forget()
            client.end()


def put_file(blob, file):
    connection = http.client.HTTPConnection("127.0.0.1", 6969, timeout=10)
    connection.request("PUT", f"/torrents/{key_of(blob)}", file)
    if connection.getresponse().status != 201:
        raise RuntimeError("the tracker does not take the torrent file")
    connection.close()


def seeds_of(file):
    """How many seeds of this torrent the tracker knows."""
    path = "/scrape?info_hash=" + urllib.parse.quote(info_hash_of(file))
    page = inside("tracker", lambda: fetch(6969, path)) or b""
    return int(page.partition(b"8:completei")[2].partition(b"e")[0] or 0)


# How each client is started in a folder `home` with a torrent file. There is no other way for them to find peers than the tracker.
FOREIGN = {
    "aria2": ("aria2c", "--no-conf", "--quiet", "--dir={home}", "--check-integrity", "--seed-ratio=0", "--enable-dht=false",
              "--enable-dht6=false", "--enable-peer-exchange=false", "--bt-enable-lpd=false", "{home}/blob.torrent"),
    # Over uTP it would try for half a minute before it uses TCP.
    "Transmission": ("transmission-daemon", "--foreground", "--config-dir", "{home}/config", "--watch-dir", "{home}/watch",
                     "--download-dir", "{home}", "--no-dht", "--no-lpd", "--no-utp", "--no-portmap"),
    "qBittorrent": ("qbittorrent-nox", "--profile={home}", "--webui-port=8081", "--save-path={home}", "{home}/blob.torrent"),
    "rTorrent": ("rtorrent", "-n", "-o", "import={home}/rtorrent.rc", "{home}/blob.torrent"),
    "libtorrent": ("/usr/bin/python3", os.path.abspath(__file__), "libtorrent-peer", "defaults", "{home}/blob.torrent", "{home}",
                   "6881"),
}
# They let a new peer wait.
WAITING = ("aria2", "Transmission")
QBITTORRENT = """[LegalNotice]
Accepted=true

[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
"""
RTORRENT = """system.daemon.set = true
pieces.hash.on_completion.set = no
directory.default.set = {home}
session.path.set = {home}/session
dht.mode.set = disable
protocol.pex.set = no
"""


class ForeignClient:
    """A BitTorrent client that is not ours."""

    def __init__(self, kind, node, torrent, name):
        self.kind, self.node, self.torrent, self.name, self.log = kind, node, torrent, name, log_of(kind, node)

    def start(self, content=None):
        """Starts with nothing, or with the content."""
        self.home = FOLDER / f"{self.kind}-{self.node}"
        shutil.rmtree(self.home, ignore_errors=True)
        for folder in ("watch", "session", "qBittorrent/config"):
            (self.home / folder).mkdir(parents=True)
        if content:
            # Not every client keeps the colon of the name.
            for name in {self.name, self.name.replace(":", "_")}:
                shutil.copy(content, self.home / name)
        (self.home / "qBittorrent/config/qBittorrent.conf").write_text(QBITTORRENT)
        (self.home / "rtorrent.rc").write_text(RTORRENT.format(home=self.home))
        for place in ("blob.torrent", "watch/blob.torrent"):
            (self.home / place).write_bytes(self.torrent)
        command = [part.format(home=self.home) for part in FOREIGN[self.kind]]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(in_node(self.node, *command), env={**os.environ, "HOME": str(self.home)}, stdout=log,
                                            stderr=log, stdin=subprocess.PIPE)
        if self.kind in ("libtorrent", "PEER"):
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()

    def has(self, blob):
        time.sleep(0.2)
        # Not every client keeps the colon of the name.
        whole = [path for path in self.home.iterdir() if path.is_file() and path.stat().st_size == blob.length]
        return any(hashlib.file_digest(path.open("rb"), "sha256").hexdigest() == blob.digest for path in whole)

    def told(self):
        return f"status {self.process.poll()}, {[path.name for path in self.home.iterdir()]}, {self.log.read_text(errors='replace')[-300:]}"

    def end(self):
        # The peer with libtorrent ends when its input does.
        self.process.stdin.close()
        if self.kind != "libtorrent":
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# --- Churn ------------------------------------------------------------------------------------------------------------

def churn(wan=88):
    """Hosts come and go, sleep, and pull blobs of many sizes to small disks. One more host pulls straight from upstream."""
    chance = random.Random(SEED)
    largest = min(1_000_000_000, CHURN * wan * 1_000_000 // 8 // 6)
    with Bed(HOSTS - 1, wan) as bed:
        control = Host(HOSTS)
        blobs = [bed.registry.add(f"churn-{number}", int(300_000 * (largest / 300_000) ** (number / 15))) for number in range(16)]
        short = [blob for blob in blobs if 1_000_000 < blob.length < 20_000_000]
        for number, host in enumerate(bed.hosts):
            host.stop()
            # No host can keep all, and some cannot keep the largest one, because a blob takes half of the quota at most.
            host.start(STORAGE_QUOTA=str(int((1, 1.5, 2.1)[number % 3] * largest)))
        full = bed.hosts[0]
        full.stop()
        # It believes that it has more room than there is.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={largest // 2}", "tmpfs", full.storage], check=True)
        full.start(STORAGE_QUOTA="100G", STORAGE_MIN_FREE="0")
        # As long as all hosts together take for the largest blob over the slow link. A host must not be stopped during an earlier pull.
        longest = DEADLINE + 2 * HOSTS * largest * 8 / (wan * 1_000_000)
        end, pulls, straight, counts, lock = time.monotonic() + CHURN, [], [], collections.Counter(), threading.Lock()

        def live(host, chance):
            while time.monotonic() < end:
                event = chance.random()
                blob = chance.choice(blobs)
                pull = Pull(host, blob)
                kind = "pull"
                if event < 0.15:
                    # In the middle of a pull, or after it.
                    pull.join(chance.uniform(0, 2))
                    kind = chance.choice(("stopped", "killed", "gone"))
                    host.stop(signal.SIGKILL if kind == "killed" else signal.SIGTERM)
                    pull.join(longest)
                    if kind == "gone":
                        time.sleep(chance.uniform(0, 5))
                        # A host that is new.
                        host.forget()
                    host.start()
                elif event < 0.22:
                    kind = "asleep"
                    pull.join(chance.uniform(0, 2))
                    host.program.send(signal.SIGSTOP)
                    time.sleep(chance.uniform(0, 5))
                    host.program.send(signal.SIGCONT)
                    pull.join(longest)
                else:
                    pull.join(longest)
                    if event > 0.9:
                        time.sleep(chance.uniform(0, 1))
                with lock:
                    counts[kind] += 1
                    pulls.append((kind, pull))

        def measure():
            while time.monotonic() < end:
                pull = Pull(control, chance.choice(short), straight=True)
                pull.join(longest)
                straight.append(pull)

        lives = [threading.Thread(target=live, args=(host, random.Random(f"{SEED} {host.name}"))) for host in bed.hosts]
        lives.append(threading.Thread(target=measure))
        for thread in lives:
            thread.start()
        for thread in lives:
            thread.join()
        for host in bed.hosts:
            host.stop()
        report("churn: no wrong blob on disk", "; ".join(wrong for host in bed.hosts for wrong in host.wrong_blobs()))
        subprocess.run(["umount", full.storage], check=True)
        whole = [pull for kind, pull in pulls if kind in ("pull", "asleep")]
        finish(f"churn of {CHURN} s, seed {SEED}: of {len(whole)} pulls", whole)
        wrong = [pull.problem for kind, pull in pulls if "SHA-256" in pull.problem]
        report(f"churn: no wrong byte in {len(pulls) - len(whole)} pulls whose cache ended", "; ".join(wrong))
        slowest = sorted((slowness(pull, straight) for kind, pull in pulls if kind == "pull"), reverse=True)
        for ratio, pull in slowest[:5]:
            note(f"churn: slowest: {ratio:.2f} x straight: {pull.blob.length / 1e6:.1f} MB on {pull.host.name}",
                 f"in {pull.took():.2f} s, first byte {pull.first_byte:.2f} s, longest stall {pull.stall:.2f} s")
        fetched = bed.registry.sent(*blobs) - sum(pull.received for pull in straight)
        served = sum(pull.received for _, pull in pulls)
        cuts = sorted(ratio for ratio, _ in slowest)
        note(f"churn: {dict(counts)}; {len(straight)} straight; clients got {served / 1e6:.0f} MB, of which upstream sent",
             f"{fetched / 1e6:.0f} MB;",
             f"time / straight: median {statistics.median(cuts):.2f}, at 95 % {cuts[int(len(cuts) * 0.95)]:.2f}")
        within("churn: slowest pull / straight from upstream", slowest[0][0], 1.1, "")


def slowness(pull, straight):
    """The time of a pull, over that of a straight pull of as many bytes: first byte, 300 ms, and the rest at the rate that straight
    pulls had at that time."""
    beside = [other for other in straight if other.ended > pull.begun and other.begun < pull.ended] or straight
    rate = sum(other.received for other in beside) / sum(other.took() - other.first_byte for other in beside)
    first_byte = statistics.median(other.first_byte for other in straight)
    return pull.took() / (0.3 + first_byte + pull.blob.length / rate), pull


# --- Other engines ----------------------------------------------------------------------------------------------------

def peers(name, *command, leechers=6):
    """The warm scenario with another program. It prints `ready`, begins at a line on stdin, and prints `done` at its end."""
    tracker, hosts = Tracker(), [Host(number + 1) for number in range(leechers + 1)]
    content = random.Random(SEED).randbytes(SIZE)
    info = {"length": len(content), "name": "blob", "piece length": MIB // 2,
            "pieces": b"".join(hashlib.sha1(content[at:at + MIB // 2]).digest() for at in range(0, len(content), MIB // 2))}
    torrent = FOLDER / "blob.torrent"
    torrent.write_bytes(bencode({"announce": f"http://{TRACKER}:6969/announce", "info": info}))
    running = []
    # A program that stands still must not stop the run.
    end = threading.Timer(DEADLINE, lambda: [process.kill() for process in running])
    end.start()
    try:
        for host in hosts:
            shutil.rmtree(host.storage, ignore_errors=True)
            host.storage.mkdir()
            if host is hosts[0]:
                (host.storage / "blob").write_bytes(content)
            running.append(subprocess.Popen(in_node(host.name, *command, torrent, host.storage, 6881), stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=open(log_of("peer", host.name), "w"), text=True))
        for process in running:
            await_line(process, "ready")
        tell(running[0])
        if not await_line(running[0], "done"):
            raise RuntimeError(f"the seed ends: {log_of('peer', 'h1').read_text()[-300:]}")
        time.sleep(1)
        sent, cpu = sent_bytes()["h1"], [cpu_of(process.pid) for process in running]
        begun, took = time.monotonic(), []

        def measure(process):
            if await_line(process, "done"):
                took.append(time.monotonic() - begun)

        threads = [threading.Thread(target=measure, args=(process,)) for process in running[1:]]
        for process in running[1:]:
            tell(process)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(took) < leechers:
            raise RuntimeError(f"{leechers - len(took)} leechers have not the blob within {DEADLINE} s")
        cpu = [cpu_of(process.pid) - before for process, before in zip(running, cpu)]
        sent = sent_bytes()["h1"] - sent
        problems = [host.name for host in hosts[1:] if (host.storage / "blob").read_bytes() != content]
        report(f"{name}: every leecher has the right bytes", " ".join(problems))
        note(f"{name}: one seed, {leechers} hosts: first done {min(took):.2f} s, last {max(took):.2f} s; the seed has sent",
             f"{sent / SIZE:.2f} blobs; CPU of a leecher {statistics.mean(cpu[1:]):.2f} s, at most {max(cpu[1:]):.2f} s,",
             f"of the seed {cpu[0]:.2f} s")
    finally:
        end.cancel()
        for process in running:
            process.kill()
            process.wait()
        tracker.end()
        for host in hosts:
            shutil.rmtree(host.storage, ignore_errors=True)


def tell(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def await_line(process, expected):
    """Whether the program prints this line before it ends."""
    return any(line.strip() == expected for line in process.stdout)


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, dict):
        return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"
    value = value.encode() if isinstance(value, str) else value
    return b"%d:%s" % (len(value), value)


def libtorrent(kind):
    # The module is Debian's, for Debian's Python.
    peers(f"libtorrent, {kind}", "/usr/bin/python3", os.path.abspath(__file__), "libtorrent-peer", kind)


def libtorrent_peer(kind, torrent, folder, port):
    """A client with libtorrent's defaults, without what a LAN has no use for; or tuned for one."""
    import libtorrent as lt
    settings = {"listen_interfaces": f"0.0.0.0:{port}", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
                "enable_natpmp": False, "alert_mask": lt.alert.category_t.status_notification}
    if kind == "tuned":
        settings |= {"enable_incoming_utp": False, "enable_outgoing_utp": False, "unchoke_slots_limit": -1,
                     "request_queue_time": 1, "max_out_request_queue": 64, "piece_extent_affinity": False,
                     "send_buffer_watermark": 256 * 1024, "send_buffer_low_watermark": 64 * 1024,
                     "strict_end_game_mode": True, "allow_multiple_connections_per_ip": False, "connection_speed": 200,
                     "torrent_connect_boost": 50, "tick_interval": 100, "suggest_mode": 0, "predictive_piece_announce": 200}
    session = lt.session(settings)
    print("ready", flush=True)
    sys.stdin.readline()
    handle = session.add_torrent({"ti": lt.torrent_info(torrent), "save_path": folder})
    while not handle.status().is_seeding:
        session.wait_for_alert(20)
        session.pop_alerts()
    print("done", flush=True)
    sys.stdin.readline()


def peer():
    """PEER is a program and its arguments; a torrent file, a folder and a port are added."""
    command = shlex.split(os.environ["PEER"])
    peers(" ".join([os.path.basename(command[0]), *command[1:]]), *command)


# --- The run ----------------------------------------------------------------------------------------------------------

SCENARIOS = {
    "alone": alone,
    "cold": cold,
    "kill-30": lambda: kill(0.3),
    "kill-90": lambda: kill(0.9),
    "kill-back": lambda: kill(0.5, at_once=True),
    "wan-50-6": lambda: cold(6, 50, after=1.5),
    "wan-50-8": lambda: cold(8, 50, after=2),
    "wan-88-6": lambda: cold(6, 88, last=14),
    "warm": warm,
    "dead": dead,
    "tracker": tracker,
    "sleep-leader": lambda: sleep("the leader"),
    "sleep-follower": lambda: sleep("a follower"),
    "hostile": hostile,
    "lying-leader": lying_leader,
    "clients": clients,
    "interop": interop,
    "churn": churn,
    "libtorrent": lambda: libtorrent("defaults"),
    "libtorrent-tuned": lambda: libtorrent("tuned"),
    "peer": peer,
}


def run_scenario():
    begun = time.monotonic()
    try:
        SCENARIOS[scenario]()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        report(f"{scenario} ends", repr(error))
    note(f"{scenario} took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    if sys.argv[1] == "libtorrent-peer":
        libtorrent_peer(*sys.argv[2:])
    elif sys.argv[1] == "names":
        print(*SCENARIOS)
    else:
        scenario = sys.argv[1]
        run_scenario()
