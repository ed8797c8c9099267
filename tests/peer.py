"""A BitTorrent client for the shell suites, besides its announces over HTTP. The commands are in the last lines."""

import http.server
import ipaddress
import os
import socket
import socketserver
import struct
import sys
import urllib.parse


def decode(text, at=0):
    """A bencoded value and where it ends. Keys must be sorted."""
    kind = text[at:at + 1]
    if kind == b"i":
        end = text.index(b"e", at)
        return int(text[at + 1:end]), end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while text[at:at + 1] != b"e":
            item, at = decode(text, at)
            items.append(item)
        keys = items[::2]
        if kind == b"d" and keys != sorted(set(keys)):
            raise ValueError(f"keys out of order: {keys}")
        return (items if kind == b"l" else dict(zip(keys, items[1::2]))), at + 1
    colon = text.index(b":", at)
    end = colon + 1 + int(text[at:colon])
    if end > len(text):
        raise ValueError("a string that is too long")
    return text[colon + 1:end], end


def read_reply():
    """The announce reply on standard input, which must be one dictionary."""
    text = sys.stdin.buffer.read()
    reply, end = decode(text)
    if not isinstance(reply, dict) or end != len(text):
        raise ValueError(f"not one dictionary: {text!r}")
    return reply


def peers(reply):
    for key, size in (b"peers", 4), (b"peers6", 16):
        compact = reply.get(key, b"")
        if len(compact) % (size + 2):
            raise ValueError(f"{key} has a wrong length")
        for at in range(0, len(compact), size + 2):
            ip, port = compact[at:at + size], compact[at + size:at + size + 2]
            yield str(ipaddress.ip_address(ip)), int.from_bytes(port, "big")


def show():
    """Prints the reply: its keys, then the peers."""
    reply = read_reply()
    if b"failure reason" in reply:
        sys.exit("failure: " + reply[b"failure reason"].decode())
    listed = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in peers(reply)]
    values = [f"{key.decode().replace(' ', '_')}={value}" for key, value in reply.items() if not key.startswith(b"peers")]
    print(*values, "peers=" + ",".join(listed))


def call(host, port):
    """The name that the listener there sends."""
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        return peer.makefile().read()


def met(host, port):
    try:
        name = call(host, port)
    except OSError as error:
        name = "none({})".format(error.strerror or error)
    return f"{name}@{host}#{port}".replace(" ", "_")


def meet():
    """Connects to every peer in the reply; prints the name that answers, and the address."""
    try:
        print(*sorted(met(*peer) for peer in peers(read_reply())))
    except (ValueError, AttributeError) as error:
        print("no_reply:", error)


def external_ip():
    try:
        print(ipaddress.ip_address(read_reply()[b"external ip"]))
    except (ValueError, KeyError, TypeError):
        print("none")


def listen(name, port):
    """Sends its name to every connection."""
    server = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        with server.accept()[0] as caller:
            caller.sendall(name.encode())


def udp(host, port, info_hash, peer_id, own_port, id_file=None):
    """Announces over UDP (BEP 15); prints the reply's peers bencoded, as over HTTP. With a file, it is one client that keeps its
    port and the connection id of the first time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tracker = socket.socket(family, socket.SOCK_DGRAM)
    tracker.settimeout(30)
    if id_file:
        tracker.bind(("", int(own_port)))
    tracker.connect((host, int(port)))
    if id_file and os.path.exists(id_file):
        connection = open(id_file, "rb").read()
    else:
        tracker.send(struct.pack(">QII", 0x41727101980, 0, 1))
        connection = tracker.recv(2048)[8:16]
        if id_file:
            open(id_file, "wb").write(connection)
    tracker.send(connection + struct.pack(">II20s20sQQQIIIiH", 1, 2, info_hash.encode(), peer_id.encode(),
                                          0, 1, 0, 0, 0, 0, -1, int(own_port)))
    reply = tracker.recv(2048)
    assert reply[:4] == b"\0\0\0\1", reply
    key = b"6:peers6" if family == socket.AF_INET6 else b"5:peers"
    sys.stdout.buffer.write(b"d%s%d:%se" % (key, len(reply) - 20, reply[20:]))


def proxy_line(url, spoofed):
    """Sends a request after a PROXY header with this address; prints the body of the reply."""
    url = urllib.parse.urlsplit(url)
    request = f"PROXY TCP4 {spoofed} 198.51.100.1 1111 80\r\nGET {url.path}?{url.query} HTTP/1.0\r\n\r\n"
    try:
        with socket.create_connection((url.hostname, url.port), timeout=30) as tracker:
            tracker.sendall(request.encode())
            sys.stdout.buffer.write(tracker.makefile("rb").read().partition(b"\r\n\r\n")[2])
    except OSError:
        pass  # A closed connection is a valid answer.


def upstream(address, port, log_path):
    """An upstream tracker with one peer, 45.67.89.10:51413. It logs its requests."""
    log = open(log_path, "w", buffering=1)

    class Upstream(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            print(self.client_address[0], self.requestline, file=log)
            body = b"d8:completei1e10:incompletei0e8:intervali1800e5:peers6:" + bytes([45, 67, 89, 10, 200, 213]) + b"e"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    # Not http.server's own server class, which looks up its name in DNS first.
    socketserver.ThreadingTCPServer((address, int(port)), Upstream).serve_forever()


def free_port():
    print(socket.create_server(("", 0)).getsockname()[1])


def is_free(port):
    try:
        socket.create_server(("", int(port)))
    except OSError:
        sys.exit(1)


commands = {"show": show, "meet": meet, "external_ip": external_ip, "listen": listen, "udp": udp, "call": call,
            "proxy_line": proxy_line, "try": lambda host, port: print(met(host, port)), "upstream": upstream,
            "free_port": free_port, "is_free": is_free}
commands[sys.argv[1]](*sys.argv[2:])
