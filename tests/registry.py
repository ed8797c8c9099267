"""Plays a container registry such as Quay: publishes keys as a JWK set (RFC 7517), and signs tokens (RFC 7519) for torrents.

    registry.py serve FOLDER PORT                     publishes keys; a new RSA key each minute, the one before it stays
    registry.py token FOLDER INFO-HASH [AUDIENCE]     prints a token of the newest key, without an expiry, as Quay's are
    registry.py forged FOLDER INFO-HASH               prints a token with the newest key's name, signed with another key

The keys are files in FOLDER. openssl makes them and signs with them. Beside them the set has a key of a kind that nobody knows.
"""

import base64
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

AUDIENCE = "http://10.77.0.1:8080/announce"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, text=b""):
    return subprocess.run(["openssl", *arguments], input=text, check=True, capture_output=True).stdout


def new_key(path):
    """Puts the key there in one step, so that nobody reads half of it."""
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path + ".new")
    os.rename(path + ".new", path)


def names(folder):
    """The names of the keys, the oldest first."""
    return sorted(name.removesuffix(".pem") for name in os.listdir(folder) if name.endswith(".pem"))


def public(folder, name):
    modulus = openssl("rsa", "-in", f"{folder}/{name}.pem", "-noout", "-modulus").decode().strip().partition("=")[2]
    return {"kid": name, "kty": "RSA", "alg": "RS256", "n": encoded(bytes.fromhex(modulus)), "e": "AQAB"}


def key_set(folder):
    keys = [public(folder, name) for name in names(folder)[-2:]]
    return {"keys": [*keys, {"kid": "future", "kty": "QUANTUM", "q": "x"}]}


def token(path, name, info_hash, audience):
    header = {"alg": "RS256", "typ": "JWT", "kid": name}
    claims = {"iss": "quay", "aud": audience, "infohash": info_hash}
    message = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return f"{message}.{encoded(openssl('dgst', '-sha256', '-sign', path, text=message.encode()))}"


def rotate(folder):
    for number in range(1, 1000):
        time.sleep(60)
        new_key(f"{folder}/key{number:03}.pem")


def serve(folder, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(key_set(folder)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    new_key(f"{folder}/key000.pem")
    threading.Thread(target=rotate, args=[folder], daemon=True).start()
    http.server.ThreadingHTTPServer(("", int(port)), Handler).serve_forever()


def main(what, folder, *arguments):
    if what == "serve":
        serve(folder, *arguments)
        return
    name = names(folder)[-1]
    if what == "token":
        info_hash, audience = (*arguments, AUDIENCE)[:2]
        print(token(f"{folder}/{name}.pem", name, info_hash, audience))
    elif what == "forged":
        with tempfile.TemporaryDirectory() as other:
            new_key(f"{other}/key")
            print(token(f"{other}/key", name, arguments[0], AUDIENCE))


main(*sys.argv[1:])
