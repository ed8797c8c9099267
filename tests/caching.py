"""Upstreams and clients for tests/torrent-cache.sh. The commands are in the last lines.

Commands that check something print a line for each check: its title, a tab, and the problem, if there is one.
"""

import collections
import concurrent.futures
import hashlib
import http.client
import http.server
import json
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import threading
import time


def report(title, problem=""):
    print(title, " ".join(str(problem).split()), sep="\t", flush=True)


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


# --- Upstreams --------------------------------------------------------------------------------------------------------

class Upstream(http.server.ThreadingHTTPServer):
    """A server that keeps its requests, as (method, path, range). `answer` gets the handler of a request."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, answer):
        self.answer, self.asked, self.lock = answer, [], threading.Lock()
        super().__init__(("", port), UpstreamHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """Clients and connections that end are what these tests are about."""


class UpstreamHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        with self.server.lock:
            self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        self.server.answer(self)
        self.wfile.flush()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass

    def head(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def content(self, content, **headers):
        """The right reply, to ranges as well."""
        asked = self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if first:
            headers["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self.head(206 if first else 200, len(content) - first, **headers)
        if self.command == "GET":
            self.wfile.write(content[first:])

    def hang_up(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def files(folder, port, log, flips):
    """Serves a folder, and flips a byte of each file whose path ends with a line of the file `flips`."""
    root = pathlib.Path(folder)

    def answer(request):
        path = root / request.path.split("?")[0].lstrip("/")
        status = 200 if path.is_file() else 404
        with request.server.lock, open(log, "a") as lines:
            print(request.command, request.path, status, file=lines)
        if status == 404:
            request.head(404, 0)
            return
        content = bytearray(path.read_bytes())
        if any(request.path.endswith(line) for line in pathlib.Path(flips).read_text().split()):
            content[len(content) // 2] ^= 1
        request.content(bytes(content))

    Upstream(int(port), answer)
    threading.Event().wait()


# --- Clients ----------------------------------------------------------------------------------------------------------

Reply = collections.namedtuple("Reply", "status body complete first_byte")


def get(port, path, **headers):
    """A GET request. `complete` is whether the reply ended as its head says; `first_byte` is in seconds."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    status, body, complete, first_byte = None, bytearray(), False, None
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        status = reply.status
        while chunk := reply.read1(1 << 16):
            first_byte = first_byte or time.monotonic() - begun
            body += chunk
        # `read1` does not tell a body that breaks off from one that ends.
        complete = not reply.length
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    return Reply(status, bytes(body), complete, first_byte)


def at_once(count, function):
    """The results of threads that begin together."""
    barrier = threading.Barrier(count)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [result.result() for result in [pool.submit(lambda: (barrier.wait(), function())[1]) for _ in range(count)]]


def sentence_of(reply):
    """The message of an error in the registry's form, or None."""
    try:
        (error,) = json.loads(reply.body)["errors"]
        return error["message"] if error["code"].isupper() and " " in error["message"] else None
    except (ValueError, KeyError, TypeError):
        return None


# --- The storage ------------------------------------------------------------------------------------------------------

def strays(folder):
    """Files of a storage that belong to nothing, and blobs whose digest is not their name."""
    folder = pathlib.Path(folder)
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        parts = path.relative_to(folder).parts
        if parts == ("lock",):
            continue
        if parts[0] == "blobs":
            name = digest_of(path.read_bytes())
            if parts != ("blobs", "sha256", name[:2], name):
                yield f"{'/'.join(parts)} is {name}"
        elif parts[0] == "deliveries" and len(path.name) == 64:
            # What an upstream has delivered. The name says it, so the file may be empty.
            continue
        elif parts[0] not in ("manifests", "tags", "deltas", "torrents") or len(path.name) != 64 or not path.read_bytes():
            yield "/".join(parts)


def names_in(folder, kind):
    return {path.name for path in pathlib.Path(folder, kind).rglob("*") if path.is_file()}


def settled(folder):
    """Waits until nothing is incoming. Only a failing test waits for the whole time."""
    for _ in range(200):
        if not names_in(folder, "incoming"):
            return True
        time.sleep(0.05)
    return False


# --- Faults -----------------------------------------------------------------------------------------------------------

def faults(port, upstream_port, storage):
    """An upstream that is wrong for as long as a client's first request lasts, in the way that the repository's name says."""
    port = int(port)
    blobs = {fault: noise(fault, 3_000_000) for fault in FAULTS}
    mended = set()

    def answer(request):
        fault = request.path.split("/")[2]
        if fault not in blobs:
            request.head(404, 0)
        elif request.command == "HEAD" or fault in mended or request.path.startswith("/moved/"):
            request.content(blobs[fault])
        else:
            if fault in ONCE:
                mended.add(fault)
            FAULTS[fault][1](request, blobs[fault])

    upstream = Upstream(int(upstream_port), answer)
    for fault, blob in blobs.items():
        path = f"/v2/{fault}/blobs/sha256:{digest_of(blob)}"
        title = fault.replace("-", " ")
        outcome = FAULTS[fault][0]
        reply = get(port, path)
        asked = [range for method, at, range in upstream.asked if at == path and method == "GET"]
        if outcome == "blob":
            report(f"{title}: the client gets the blob", "" if reply.complete and reply.body == blob else told(reply))
        elif outcome == "cut":
            # A reply of which nothing has been sent when the fault is found can still say so.
            is_cut = reply.status == 200 and not reply.complete or reply.status == 502 and sentence_of(reply)
            report(f"{title}: the reply breaks off", "" if is_cut else told(reply))
        else:
            report(f"{title}: status {outcome}, and a sentence in the registry's form",
                   "" if reply.status == outcome and sentence_of(reply) else told(reply))
        if fault == "killed-at-half":
            right = len(asked) == 2 and asked[1] and 1_000_000 < int(asked[1].strip("bytes=-")) <= 1_500_000
            report(f"{title}: the rest is asked for by Range", "" if right else asked)
        if "/inside" in [path for _, path, _ in upstream.asked]:
            report(f"{title}: no address inside is asked", "it is")
        is_settled = settled(storage)
        is_there = digest_of(blob) in names_in(storage, "blobs")
        stray = next(strays(storage), "") or is_there != (outcome == "blob") and f"the blob is there: {is_there}"
        report(f"{title}: the disk has nothing wrong", stray or "" if is_settled else "the fetch does not end")
        mended.add(fault)
        report(f"{title}: the next request gets the blob", "" if get(port, path).body == blob else "it is wrong")


def told(reply):
    end = "complete" if reply.complete else "not complete"
    return f"status {reply.status}, {len(reply.body)} bytes, {end}: {reply.body[:200] if reply.status != 200 else ''}"


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]


def whole(request, content, length=None):
    request.head(200, len(content) if length is None else length)
    request.wfile.write(content)
    request.hang_up()


def half_and_silence(request, blob):
    request.head(200, len(blob))
    request.wfile.write(blob[:len(blob) // 2])
    request.wfile.flush()
    silence(request, blob)


def silence(request, _):
    """Until the cache, whose UPSTREAM_TIMEOUT is short, hangs up."""
    request.connection.recv(1)
    request.close_connection = True


# What the client gets ("cut": fewer bytes than the head says), and what upstream does.
FAULTS = {
    "a-wrong-byte": ("cut", lambda request, blob: whole(request, flipped(blob, len(blob) // 2))),
    "a-wrong-last-byte": ("cut", lambda request, blob: whole(request, flipped(blob, len(blob) - 1))),
    "too-few-bytes": ("cut", lambda request, blob: whole(request, blob[:-1])),
    "too-many-bytes": ("cut", lambda request, blob: whole(request, blob + b"x")),
    "a-length-too-short": ("cut", lambda request, blob: whole(request, blob, len(blob) - 1000)),
    "a-length-too-long": ("cut", lambda request, blob: whole(request, blob, len(blob) + 1000)),
    "no-bytes": (502, lambda request, blob: whole(request, b"")),
    "killed-at-half": ("blob", lambda request, blob: whole(request, blob[:len(blob) // 2], len(blob))),
    "killed-again-and-again": ("cut", lambda request, blob: whole(request, blob[:len(blob) // 2], len(blob))),
    "no-reply-at-first": ("blob", lambda request, blob: request.hang_up()),
    "no-reply": (502, lambda request, blob: request.hang_up()),
    "silence": (504, silence),
    "silence-at-half": ("blob", half_and_silence),
    "no-http": (502, lambda request, blob: (request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n"), request.hang_up())),
    "status-429": (429, lambda request, blob: request.head(429, 0)),
    "status-500": (502, lambda request, blob: request.head(500, 0)),
    "status-503": (502, lambda request, blob: request.head(503, 0)),
    "a-page-with-status-200": ("cut", lambda request, blob: request.content(b"<html>log in to this network</html>")),
    "a-redirect": ("blob", lambda request, blob: request.head(307, 0, Location="/moved" + request.path[3:])),
    "a-redirect-inside": (502, lambda request, blob: request.head(307, 0, Location="http://127.0.0.2:5001/inside")),
    "a-redirect-to-itself": (502, lambda request, blob: request.head(307, 0, Location=request.path)),
    "a-redirect-to-nothing": (502, lambda request, blob: request.head(307, 0)),
}
# The second fetch is right.
ONCE = ("killed-at-half", "no-reply-at-first", "silence-at-half")


# --- Eight at once ----------------------------------------------------------------------------------------------------

def eight(port, upstream_port):
    """Eight clients at once get bytes while upstream still sends, by one fetch."""
    blob, all_have_some = noise("eight", 4_000_000), threading.Event()
    half = len(blob) // 2

    def answer(request):
        request.head(200, len(blob))
        if request.command == "GET":
            request.wfile.write(blob[:half])
            request.wfile.flush()
            request.server.waited = all_have_some.wait(60)
            request.wfile.write(blob[half:])

    upstream = Upstream(int(upstream_port), answer)
    counter = threading.Barrier(8, action=all_have_some.set)

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=120)
        connection.request("GET", f"/v2/eight/blobs/sha256:{digest_of(blob)}")
        reply = connection.getresponse()
        begin = reply.read(1000)
        counter.wait(60)
        return begin + reply.read() == blob

    report("eight at once get the blob", "" if all(at_once(8, client)) else "not all of them")
    report("each gets bytes while upstream still sends", "" if upstream.waited else "some wait for the end")
    fetches = [method for method, *_ in upstream.asked].count("GET")
    report("and upstream is asked once", "" if fetches == 1 else f"{fetches} times")


def first_bytes(port, registry_port, clients, paths):
    """First bytes of cold blobs for so many clients at once, beside those from the registry: medians and maxima in ms."""
    direct, cached = [], []
    for path in paths.split():
        for port_, times in (registry_port, direct), (port, cached):
            times += [reply.first_byte * 1000 for reply in at_once(int(clients), lambda: get(int(port_), path))]
    print(*(f"{figure:.1f}" for figure in (statistics.median(cached), max(cached), statistics.median(direct), max(direct))))


# --- Kills ------------------------------------------------------------------------------------------------------------

def kills(binary, port, upstream_port, storage, rounds, seed):
    """Kills the cache at random moments under load, and looks at its replies and its storage."""
    port, rounds = int(port), int(rounds)
    chance = random.Random(int(seed))
    blobs = {}
    for number in range(40):
        content = noise(f"{seed} {number}", chance.choice((5_000, 70_000, 400_000, 1_500_000)))
        blobs[f"/v2/load/blobs/sha256:{digest_of(content)}"] = content
    for number in range(10):
        content = json.dumps({"schemaVersion": 2, "number": number}).encode()
        blobs[f"/v2/load/manifests/sha256:{digest_of(content)}"] = content
        blobs[f"/v2/load/manifests/tag-{number}"] = content
    media_type = "application/vnd.oci.image.manifest.v1+json"

    def answer(request):
        content = blobs[request.path]
        told = {"Docker_Content_Digest": "sha256:" + digest_of(content), "Content_Type": media_type}
        request.content(content, **(told if "manifests" in request.path else {}))

    Upstream(int(upstream_port), answer)
    counts, problems = collections.Counter(), []

    def load(stop, seed):
        choose = random.Random(seed)
        while not stop.is_set():
            path = choose.choice(list(blobs))
            content = blobs[path]
            first = choose.randrange(len(content)) if choose.random() < 0.3 and "blobs" in path else None
            reply = get(port, path) if first is None else get(port, path, Range=f"bytes={first}-")
            if reply.status not in (200, 206):
                counts["none" if reply.status is None else f"status {reply.status}"] += 1
                continue
            right = content[first:] if reply.status == 206 else content
            counts["complete" if reply.complete else "broken off"] += 1
            if not right.startswith(reply.body) or reply.complete and right != reply.body:
                problems.append(f"{path}: wrong bytes")

    kept = leftovers = 0
    fresh = []
    for number in range(rounds):
        cache = subprocess.Popen([binary], stdout=subprocess.DEVNULL, stderr=open(f"{storage}.log", "a"))
        # Some are killed while they start.
        if chance.random() < 0.1:
            time.sleep(chance.uniform(0, 0.03))
            cache.kill()
            cache.wait()
            continue
        while get(port, "/health").status != 200:
            if cache.poll() is not None:
                sys.exit("the cache does not start again")
            time.sleep(0.01)
        problems += [f"round {number}: {stray}" for stray in strays(storage)]
        # In each round there is something that the cache does not have yet.
        for path in fresh:
            del blobs[path]
        contents = [noise(f"{seed} {number} {index}", 1_500_000) for index in range(4)]
        fresh = [f"/v2/load/blobs/sha256:{digest_of(content)}" for content in contents]
        blobs.update(zip(fresh, contents))
        stop = threading.Event()
        clients = [threading.Thread(target=load, args=(stop, chance.random())) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(chance.uniform(0, 0.25))
        cache.kill()
        stop.set()
        cache.wait()
        for client in clients:
            client.join()
        kept += len(names_in(storage, "blobs"))
        leftovers += len(names_in(storage, "incoming"))
    report(f"{rounds} times kill -9: no wrong byte, no stray file", "; ".join(problems[:3]))
    report("the kills came under load", "" if leftovers and kept and counts["broken off"] else f"{counts}")
    print(f"# seed {seed}: {dict(counts)}; when killed, {kept / rounds:.1f} blobs on disk and {leftovers} incoming in all")


if __name__ == "__main__":
    commands = {"files": files, "faults": faults, "eight": eight, "first-bytes": first_bytes, "kills": kills,
                "strays": lambda folder: print(*strays(folder), sep="\n")}
    commands[sys.argv[1]](*sys.argv[2:])
