"""Hostile BitTorrent peers for tests/swarm.py: each has an address of its own, accepts connections there, and announces itself.

BEHAVIOURS names what they do. A behaviour gets a connection after both handshakes, unless it makes the handshake itself.
"""

import hashlib
import http.client
import itertools
import json
import random
import socket
import struct
import threading
import time
import urllib.parse

PORT = 6881
PIECE, BLOCK = 512 * 1024, 16 * 1024


class Torrent:
    """What a peer must know of a torrent."""

    def __init__(self, info_hash, length):
        self.info_hash, self.length, self.count = info_hash, length, -(-length // PIECE)

    def bitfield(self):
        bits = (1 << self.count) - 1 << -self.count % 8
        return message(5, bits.to_bytes(-(-self.count // 8), "big"))


def message(kind, payload=b""):
    return struct.pack(">IB", 1 + len(payload), kind) + payload


def handshake(info_hash, peer_id):
    return b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\0" + info_hash + peer_id


CHOKE, UNCHOKE = message(0), message(1)
# The port is a lie of its own: that of the peer which has the blob.
EXTENSIONS = message(20, b"\0d1:md14:retracker_hashi1ee1:pi6881ee")


def wrong_bytes(length):
    return b"\xbd" * length


def wrong_hashes(torrent):
    """The SHA-1 of each piece of the wrong content, as a leader tells them, and as a torrent file has them."""
    lengths = [min(PIECE, torrent.length - at) for at in range(0, torrent.length, PIECE)]
    cache = {length: hashlib.sha1(wrong_bytes(length)).digest() for length in set(lengths)}
    return b"".join(cache[length] for length in lengths)


class Connection:
    def __init__(self, peer, stream):
        self.peer, self.torrent, self.stream, self.reader = peer, peer.torrent, stream, stream.makefile("rb")

    def send(self, *parts):
        self.stream.sendall(b"".join(parts))

    def shake_hands(self):
        self.send(handshake(self.torrent.info_hash, self.peer.id))
        self.read(68)

    def read(self, length):
        data = self.reader.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def messages(self):
        while True:
            length, = struct.unpack(">I", self.read(4))
            if length:
                data = self.read(length)
                yield data[0], data[1:]

    def requests(self):
        return (struct.unpack(">III", payload) for kind, payload in self.messages() if kind == 6)

    def claim_all(self):
        self.send(self.torrent.bitfield(), EXTENSIONS, UNCHOKE)

    def idle(self):
        while self.reader.read1(65536):
            pass

    def flood(self, data):
        threading.Thread(target=self.swallow, daemon=True).start()
        many = data * max(1, 65536 // len(data))
        while True:
            self.send(many)

    def swallow(self):
        try:
            self.idle()
        except (OSError, ValueError):
            pass


def claims_all(it):
    it.claim_all()
    it.idle()


def wrong_data(it):
    it.claim_all()
    for piece, begin, length in it.requests():
        it.send(message(7, struct.pack(">II", piece, begin) + wrong_bytes(length)))


def one_wrong_block(it):
    it.claim_all()
    piece, begin, length = next(it.requests())
    it.send(message(7, struct.pack(">II", piece, begin) + wrong_bytes(length)))
    it.idle()


def lying_hashes(it):
    hashes = wrong_hashes(it.torrent)
    it.send(EXTENSIONS, message(20, b"\1d5:firsti0e6:hashes%d:%se" % (len(hashes), hashes)))
    wrong_data(it)


def drip(it):
    it.claim_all()
    piece, begin, length = next(it.requests())
    for byte in message(7, struct.pack(">II", piece, begin) + wrong_bytes(length)):
        it.send(bytes([byte]))
        time.sleep(0.05)


def slow_blocks(it):
    """As slow as a peer may be that does not count as dead. What it delivers is wrong."""
    it.claim_all()
    for piece, begin, length in it.requests():
        time.sleep(0.5)
        it.send(message(7, struct.pack(">II", piece, begin) + wrong_bytes(length)))


def flaps(it):
    it.claim_all()
    it.flood(CHOKE + UNCHOKE)


def drops(it):
    it.claim_all()


def floods(data):
    def flood(it):
        it.claim_all()
        it.flood(data)
    return flood


BEHAVIOURS = {
    "claims all": (claims_all, 4),
    "wrong data": (wrong_data, 3),
    "one wrong block": (one_wrong_block, 2),
    "lying hashes": (lying_hashes, 2),
    "slow drip": (drip, 2),
    "slow blocks": (slow_blocks, 2),
    "silence": (Connection.idle, 2),
    "unasked blocks": (floods(message(7, struct.pack(">II", 1, 0) + wrong_bytes(BLOCK))), 2),
    "unasked empty blocks": (floods(message(7, bytes(8))), 1),
    "too many requests": (floods(message(6, struct.pack(">III", 0, 0, BLOCK))), 1),
    "requests out of range": (floods(message(6, struct.pack(">III", 1 << 31, 0, BLOCK))), 1),
    "pieces out of range": (floods(message(4, b"\xff\xff\xff\xff")), 1),
    "the same piece": (floods(message(4, bytes(4))), 1),
    "keep-alives": (floods(bytes(4)), 1),
    "extension handshakes": (floods(EXTENSIONS), 1),
    "chokes": (flaps, 2),
    "huge frames": (floods(b"\xff\xff\xff\xff\x07"), 1),
    "connects and drops": (drops, 1),
}
assert sum(count for _, count in BEHAVIOURS.values()) == 30


class Peer:
    """A peer with an address of its own. Make it in its namespace; its threads stay there."""

    def __init__(self, address, torrent, behave):
        self.address, self.torrent, self.behave, self.met = address, torrent, behave, 0
        self.id = b"-XX0001-" + random.randbytes(12)
        self.server = socket.create_server((address, PORT), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                stream, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def dial(self, address):
        """Connects again and again, until the peer ends."""
        while self.server.fileno() >= 0:
            try:
                self.serve(socket.create_connection((address, PORT), 5, (self.address, 0)))
            except OSError:
                pass
            time.sleep(0.1)

    def serve(self, stream):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.settimeout(60)
        try:
            with stream:
                connection = Connection(self, stream)
                connection.shake_hands()
                self.met += 1
                self.behave(connection)
        except (OSError, EOFError, ValueError, StopIteration):
            pass

    def announce(self, tracker):
        """Says that it has everything."""
        query = urllib.parse.urlencode({"info_hash": self.torrent.info_hash, "peer_id": self.id, "port": PORT, "uploaded": 0,
                                        "downloaded": 0, "left": 0, "compact": 1, "event": "started", "numwant": 0})
        return self.call(tracker, "GET", f"/announce?{query}")[1]

    def call(self, tracker, method, path, body=None):
        """The status and the body of a reply of the tracker."""
        connection = http.client.HTTPConnection(tracker, 6969, timeout=10, source_address=(self.address, 0))
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def lead(self, tracker, key):
        """Takes the lease of a blob and keeps it: it has everything, it says, a bit more each time."""
        torrent = self.torrent
        body = {"port": PORT, "swarm": torrent.info_hash.hex(), "size": torrent.length}
        status, reply = self.call(tracker, "POST", f"/leases/{key}", json.dumps(body))
        if status != 201:
            raise OSError(f"no lease: {status} {reply}")
        generation = json.loads(reply)["generation"]
        threading.Thread(target=self.keep, args=(tracker, f"/leases/{key}/{generation}"), daemon=True).start()

    def keep(self, tracker, lease):
        for have in itertools.count(1):
            try:
                if self.server.fileno() < 0 or self.call(tracker, "PUT", lease, json.dumps({"have": have}))[0] != 204:
                    return
            except OSError:
                pass
            time.sleep(0.5)

    def close(self):
        # Ends the wait for a connection as well, which would hold the port.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def horde(addresses, torrent):
    """One peer for each address, of all behaviours."""
    behaviours = [behave for behave, count in BEHAVIOURS.values() for _ in range(count)]
    return [Peer(address, torrent, behave) for address, behave in zip(addresses, behaviours)]
