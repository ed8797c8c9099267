"""Clients of instances that share their swarms, for tests/sharing.sh. The commands are in the last lines.

The clients of an instance announce one after the other, one every 20 ms, all the time. The log has a line for each
announce: when it began in seconds since 1970, how many milliseconds it took, its outcome, and for a peer that joins or
leaves `join` or `leave`, the number of its torrent and its endpoint.
"""

import http.client
import json
import sys
import time
import urllib.parse

PACE = 0.02
TORRENTS = 16
# In each round, every tenth client leaves, and another one joins. So a client stays for ten rounds.
ROUNDS = 10


def info_hash(torrent):
    """A torrent in each of the sixteen logs."""
    return bytes([torrent << 4]) + b"shared by instances"


def endpoint(instance, number):
    """The address and the port of a client. Every second client has an IPv6 address."""
    high, low = divmod(number // 2, 250)
    ip = f"fd{instance:02}::{number // 2 + 1:x}" if number % 2 else f"10.{instance}.{high}.{low + 1}"
    return ip, 1024 + number % 60000


class Clients:
    def __init__(self, host, port, instance, log):
        self.connection = http.client.HTTPConnection(host, port, timeout=10)
        self.instance, self.log = instance, log

    def announce(self, number, event, word):
        ip, port = endpoint(self.instance, number)
        torrent = number % TORRENTS
        query = urllib.parse.urlencode({
            "info_hash": info_hash(torrent),
            "peer_id": f"-TT0001-{self.instance:02}{number:010}",
            "port": port,
            "left": 1,
            "event": event,
            "compact": 1,
        })
        began = time.time()
        try:
            self.connection.request("GET", f"/announce?{query}", headers={"X-Real-IP": ip})
            reply = self.connection.getresponse()
            text = reply.read()
            outcome = "ok" if reply.status == 200 and b"failure reason" not in text else "refused"
        except OSError as error:
            self.connection.close()
            outcome = type(error).__name__
        took = (time.time() - began) * 1000
        shown = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        print(f"{began:.6f} {took:.2f} {outcome} {word} {torrent} {shown}", file=self.log, flush=True)


def announce(host, port, instance, interval, log):
    """Announces until the process is killed."""
    with open(log, "a", encoding="ascii") as file:
        clients = Clients(host, int(port), int(instance), file)
        peers = list(range(round(float(interval) / PACE)))
        fresh, known, turn, due = len(peers), set(), 0, time.monotonic()
        while True:
            lap, slot = divmod(turn, len(peers))
            number = peers[slot]
            if number in known and (slot + lap) % ROUNDS == 0:
                clients.announce(number, "stopped", "leave")
                known.remove(number)
                number = peers[slot] = fresh
                fresh += 1
            is_new = number not in known
            known.add(number)
            clients.announce(number, "started" if is_new else "", "join" if is_new else "again")
            turn += 1
            due = max(due + PACE, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))


def fields(line):
    began, took, outcome, word, torrent, shown = line.split()
    return float(began), float(took), outcome, word, (int(torrent), shown)


def lines(log):
    with open(log, encoding="ascii") as file:
        return [fields(line) for line in file if line.endswith("\n")]


class LivePeers:
    """The peers of some logs, which grow."""

    def __init__(self, logs):
        self.files = [open(log, encoding="ascii") for log in logs]
        self.rests = [""] * len(self.files)
        self.joined = {}

    def at(self, moment):
        """The peers that had joined by then and have not left since."""
        for number, file in enumerate(self.files):
            *whole, self.rests[number] = (self.rests[number] + file.read()).split("\n")
            for began, _, _, word, peer in map(fields, whole):
                if word == "leave":
                    self.joined.pop(peer, None)
                else:
                    self.joined.setdefault(peer, began)
        return {peer for peer, since in self.joined.items() if since <= moment}


def known(host, port):
    """The peers that an instance knows."""
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    peers = set()
    for torrent in range(TORRENTS):
        connection.request("GET", f"/api/v1/torrents/{info_hash(torrent).hex()}")
        reply = connection.getresponse()
        text = reply.read()
        if reply.status == 200:
            peers.update((torrent, peer["address"]) for peer in json.loads(text)["swarm"]["peers"])
    return peers


def complete(host, port, deadline, *logs):
    """Waits until the instance knows every live peer. Prints when that is so, and how many peers there are. Peers of the
    last second do not count, because they are on their way."""
    end = time.time() + float(deadline)
    live = LivePeers(logs)
    while True:
        now = time.time()
        has = known(host, port)
        wanted = live.at(now - 1)
        missing = wanted - has
        if not missing and wanted:
            print(f"{now:.3f} {len(wanted)}")
            return
        if now > end:
            sys.exit(f"{len(missing)} of {len(wanted)} peers are missing, such as {sorted(missing)[:3]}")
        time.sleep(0.2)


def slowest(begin, end, *logs):
    """Prints the milliseconds that the slowest announce took, how many took more than 50, all, and how many failed."""
    chosen = [line for log in logs for line in lines(log) if float(begin) <= line[0] + line[1] / 1000 and line[0] <= float(end)]
    failed = [line for line in chosen if line[2] != "ok"]
    slow = [line for line in chosen if line[1] > 50]
    print(f"{max(line[1] for line in chosen):.1f} {len(slow)} {len(chosen)} {len(failed)}")


COMMANDS = {"announce": announce, "complete": complete, "slowest": slowest}

COMMANDS[sys.argv[1]](*sys.argv[2:])
