#!/usr/bin/env python3
"""Drives Chromium over WebDriver through the pages of running trackers.

    browser.py BINARY FOLDER

Prints one line for each check: `ok - …` or `not ok - …`. The trackers are started by this script, and so is an upstream
tracker, which is stopped and started again. Their files are in FOLDER.
"""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BINARY, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
# A check fails after this many seconds. Only a failing check waits for the whole time.
PATIENCE = 60
# Names that would be markup if a page made markup of them.
BOLD, SCRIPT = "<b>up</b>", "<script>document.title='broken'</script>"
TORRENT = "61" * 20


class Upstream(BaseHTTPRequestHandler):
    """An upstream tracker with one peer. At /own it also has the client 10.1.0.1:6881. All else is a web page."""

    def do_GET(self):
        stranger = b"\x2d\x2d\x2d\x2d\x11\xc1"
        replies = {"/announce": stranger, "/own": stranger + b"\x0a\x01\x00\x01\x1a\xe1"}
        peers = replies.get(self.path.partition("?")[0])
        self.send_response(200)
        if peers is None:
            self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page of another host</title>" if peers is None
                         else b"d8:intervali1800e5:peers%d:%se" % (len(peers), peers))

    def log_message(self, *_):
        pass


class StoppableServer(ThreadingHTTPServer):
    allow_reuse_address = True


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_upstream(port):
    server = StoppableServer(("127.0.0.1", port), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stop_upstream(server):
    server.shutdown()
    server.server_close()


def write(name, text):
    (FOLDER / name).write_text(text)
    return str(FOLDER / name)


class Tracker:
    """A running tracker. Operators may have a listener of their own."""

    def __init__(self, *args):
        self.process = subprocess.Popen([BINARY, *args], stderr=subprocess.PIPE, text=True)
        self.url = self.operators = None
        has_operators = "--chihaya" in args
        for line in self.process.stderr:
            place, found, address = line.strip().rpartition(" on ")
            if found and "listening for operators" in place:
                self.operators = f"http://{address}"
            elif found and place.endswith("listening"):
                self.url = f"http://{address}"
            if self.url and (self.operators or not has_operators):
                break
        else:
            raise RuntimeError(f"{args} did not start")
        self.operators = self.operators or self.url
        # The tracker must never wait for a reader of its log.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def announce(self, torrent, peer, source, left=1, port=6881, **more):
        query = {"info_hash": torrent * 20, "peer_id": f"{peer:0<20}", "port": port, "left": left, **more}
        request = urllib.request.Request(
            f"{self.url}/announce?{urllib.parse.urlencode(query)}", headers={"X-Real-IP": source} if source else {})
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Browser:
    """A WebDriver session (W3C WebDriver)."""

    def __init__(self):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = next(line for line in self.driver.stdout if "started successfully" in line)
        self.base = f"http://127.0.0.1:{line.split('on port')[1].strip().rstrip('.')}"
        options = {
            # Over plain http, only loopback and its names are a secure context. `retracker.lan` is not.
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                     "--host-resolver-rules=MAP retracker.lan 127.0.0.1"],
            "mobileEmulation": {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 1}},
        }
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.base += f"/session/{session['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        return json.load(urllib.request.urlopen(request, timeout=60))["value"]

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def find(self, selector):
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def click(self, selector):
        self.call("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector, keys):
        self.call("POST", f"/element/{self.find(selector)}/value", {"text": keys})

    def press(self, *keys):
        """Presses keys one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def end(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.kill()


def check(title, is_right, shown=""):
    problem = str(shown).replace("\n", " | ")
    print(f"ok - {title}" if is_right else f"not ok - {title}: {problem}", flush=True)


def eventually(title, ask, is_right):
    """Asks again and again until the answer is right: WebDriver reports no changes of a page."""
    end = time.monotonic() + PATIENCE
    answer = ask()
    while not is_right(answer) and time.monotonic() < end:
        time.sleep(0.5)
        answer = ask()
    check(title, is_right(answer), answer)


def main():
    port = free_port()
    upstream = start_upstream(port)
    browser = Browser()
    trackers = []

    def start(*args):
        trackers.append(Tracker(*args))
        return trackers[-1]

    try:
        dashboard(browser, start, upstream, port)
        upstream = start_upstream(port)
        explain(browser, start, port)
        torrent_view(browser, trackers[1])
        front_page(browser, start)
        messages = [entry["message"] for entry in browser.log("browser")]
        check("nothing is on the console", messages == [], messages)
        failures(browser, trackers[1], port)
        events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
        asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
        own = [url for tracker in trackers for url in (f"{tracker.url}/", f"{tracker.operators}/")]
        own += [f"http://retracker.lan:{urllib.parse.urlsplit(tracker.url).port}/" for tracker in trackers]
        own += [f"http://localhost:{port}/", "data:"]
        foreign = [url for url in asked if not url.startswith(tuple(own))]
        query = f"torrent={TORRENT}&as=10.0.0.1"
        check("no other host is asked", foreign == [] and f"{trackers[0].url}/explain?{query}" in asked, foreign)
    finally:
        browser.end()
        for tracker in trackers:
            tracker.stop()


def dashboard(browser, start, upstream, port):
    tracker = start(
        "-l", "127.0.0.1:0", "-p", "-x", "-t", "1",
        "-f", write("forwarders.yml", f"- {{name: '{BOLD}', uri: 'http://127.0.0.1:{port}/announce'}}\n"),
        "--allowed-hosts", "b.example")
    for n in range(1, 8):
        tracker.announce("a", f"client{n}", f"10.0.0.{n}", left=n % 2)
    browser.open(f"{tracker.url}/dashboard")

    def figures():
        return browser.run("Object.fromEntries([...document.querySelectorAll('#now div')]"
                           ".map((figure) => [...figure.children].map((part) => part.textContent)))")

    def forwarder():
        return browser.run("document.querySelector('#forwarders tbody tr')?.innerText ?? ''")

    def notices():
        return browser.run("document.getElementById('notices').textContent")

    eventually("the page shows the peers of the announces made", figures,
               lambda shown: (shown.get("Peers"), shown.get("Seeds"), shown.get("Torrents")) == ("7", "3", "1"))
    tracker.announce("b", "another", "10.0.1.1")
    eventually("the figures move", figures, lambda shown: (shown.get("Peers"), shown.get("Torrents")) == ("8", "2"))
    eventually("the charts are drawn, and the table has the same", lambda: browser.run(
        "[document.querySelectorAll('#charts canvas').length,"
        " [...document.querySelectorAll('#history tbody tr')].map((row) => row.textContent)"
        ".find((row) => row.startsWith('Peers: IPv4')) ?? '']"),
        lambda shown: shown[0] == 6 and "8" in shown[1])
    eventually("a forwarder that answers is shown as working", forwarder, lambda shown: "closed for" in shown)
    check("its name is no markup", BOLD in forwarder(), forwarder())

    stop_upstream(upstream)
    for n in range(4):
        tracker.announce("d", f"late{n}", f"10.0.3.{n + 1}")
        tracker.announce("efgh"[n], f"late{n}", f"10.0.4.{n + 1}")
    eventually("a forwarder that dies turns red, with its error in words", lambda: [forwarder(), browser.run(
        "document.querySelector('#forwarders .bad')?.textContent ?? ''")],
        lambda shown: shown[1] == "open" and "cannot be reached" in shown[0])
    upstream = start_upstream(port)
    n = 0

    def probed():
        nonlocal n
        n += 1
        tracker.announce("ijklmnop"[n % 8], f"again{n}", f"10.0.5.{n % 250 + 1}")
        return [forwarder(), browser.run("document.querySelector('#forwarders .good')?.textContent ?? ''")]

    eventually("it turns green when it is back", probed, lambda shown: shown[1] == "closed")
    stop_upstream(upstream)

    check("there is no notice", notices() == "", notices())
    for n in [*range(1, 6)] * 3:
        tracker.announce("s", f"shared{n}", "192.168.7.7", port=n)
    eventually("a notice appears", notices, lambda shown: "192.168.7.7" in shown)
    eventually("a click on a torrent puts it into the form", lambda: browser.run(
        "(document.querySelector('#torrents a')?.click(),"
        " document.querySelector('[name=torrent]').value)"), lambda shown: shown == TORRENT)
    browser.run("(document.querySelector('[name=as]').value = '10.0.0.1')")
    browser.run("document.querySelector('#explain button').click()")
    eventually("the form explains what a client gets", lambda: browser.run(
        "document.getElementById('explanation').textContent"),
        lambda shown: "What a client at 10.0.0.1 gets" in shown and "it is the client itself" in shown)
    check("the page fits on a phone", browser.run("document.documentElement.scrollWidth") == 390, "it is too wide")
    check("every field and button can be reached by name", browser.run(
        "[...document.querySelectorAll('input')].every((input) => input.labels.length === 1)"), "an input has no label")


# Two sites with external addresses, one without; one NAT.
ZONES = f"""
- {{name: '{BOLD}', networks: [10.1.0.0/16], external-address: [203.0.113.1]}}
- {{name: lab, networks: [10.2.0.0/16], external-address: [203.0.113.2]}}
- {{name: home, networks: [192.168.0.0/16]}}
"""
OFFICE_PEERS = [
    # Peer, address, left, and what else it sends.
    ("-TR4050-seed", "10.1.0.1", 0, {}),
    ("-TR4050-seed2", "10.1.0.2", 0, {"port": 7002}),
    ("-qB5000-leech", "10.1.0.3", 1, {"port": 7003, "ip": "9.9.9.9"}),
    ("<script>-mark", "10.1.0.4", 1, {"port": 7004}),
    ("-TR4050-nat1", "10.2.0.1", 1, {"port": 7100}),
    ("-TR4050-nat2", "10.2.0.2", 1, {"port": 7100}),
    ("-TR4050-home", "192.168.0.1", 1, {"port": 7200}),
]
UNREACHABLE = "the client cannot reach this address, and no external address is known for the peer's network"
# Who asks, with which program; how a line of the answer begins, and how it ends.
SITUATIONS = [
    ("a peer of the same site", "10.1.0.9", "", "gets      seed 10.1.0.1:6881, zone <b>up</b>", " ago"),
    ("a peer of another site, under its external address", "10.2.0.9", "", "gets      seed 10.1.0.1:6881",
     "as 203.0.113.1:6881, the external address of its network"),
    ("a peer that cannot be reached", "10.1.0.9", "", "not given leecher 192.168.0.1:7200", UNREACHABLE),
    ("two seeds", "10.1.0.1", "", "not given seed 10.1.0.2:7002", "neither of the two downloads"),
    ("the client itself", "10.1.0.4", "", "not given leecher 10.1.0.4:7004", "it is the client itself"),
    ("a second address that is not needed", "10.1.0.9", "", "not given leecher 9.9.9.9:7003",
     "the client can use the peer's other address"),
    ("two peers at one port of a NAT", "10.1.0.9", "", "not given leecher 10.2.0.",
     "the client gets another peer at the same external address and port"),
    ("a forwarder with something to give, and what it gave in vain", "10.1.0.9", "",
     "Its list is used for", "Peers in it: 2. Of these, the client may get 1, 1 our own clients."),
    ("a network that the access rules refuse", "172.16.0.1", "", "The access rules refuse announces", "this network."),
    ("a program that the access rules refuse", "10.1.0.9", "-XX1000-", "The access rules refuse", "its program."),
    ("a program that they admit", "10.1.0.9", "-TR4050-", "The access rules admit it.", ""),
    ("a program that is not known", "10.1.0.9", "", "The access rules admit it if its program", "its peer id."),
]


def ask(browser, client, program=""):
    """Fills in the form, and returns the explanation."""
    values = json.dumps({"torrent": TORRENT, "as": client, "client": program})
    browser.run(f"(Object.entries({values}).forEach(([name, value]) => {{"
                " document.querySelector(`[name=${name}]`).value = value; }),"
                " document.getElementById('explanation').textContent = '')")
    browser.run("document.querySelector('#explain button').click()")
    end = time.monotonic() + PATIENCE
    shown = ""
    while not shown and time.monotonic() < end:
        shown = browser.run("document.getElementById('explanation').textContent")
    return shown


def has_line(text, begin, end):
    return any(line.startswith(begin) and line.endswith(end) for line in map(str.strip, text.splitlines()))


def explain(browser, start, port):
    rules = "networks: {deny: 172.16.0.0/12}\nclients: {deny: -XX}\n"
    access = write("access.yml", rules + "jwt: {keys: missing.json, issuer: quay, audience: here}\n")
    tracker = start(
        "-l", "127.0.0.1:0", "-p", "-x", "-t", "20", "--zones", write("zones.yml", ZONES), "--access", access,
        "-f", write("own.yml", f"- {{name: \"{SCRIPT}\", uri: 'http://127.0.0.1:{port}/own'}}\n"))
    browser.open(f"{tracker.url}/dashboard")
    eventually("a fault of the access rules is a notice", lambda: browser.text("#notices"),
               lambda shown: "no keys to check tokens with" in shown)
    write("access.yml", rules)
    tracker.reload()
    eventually("the notice goes when the rules are mended", lambda: browser.text("#notices"), lambda shown: shown == "")
    for peer, ip, left, more in OFFICE_PEERS:
        tracker.announce("a", peer, ip, left, **more)
    for title, client, program, begin, end in SITUATIONS:
        eventually(f"explained: {title}", lambda: ask(browser, client, program),
                   lambda shown: has_line(shown, begin, end))

    brief = start("-l", "127.0.0.1:0", "-p", "-x", "-a", "0.05")
    browser.open(f"{brief.url}/dashboard")
    n = 0

    def expiring():
        nonlocal n
        n += 1
        brief.announce("a", f"brief{n}", f"10.0.0.{n % 250 + 1}")
        shown = "gets"
        while any(line.startswith("gets") for line in map(str.strip, shown.splitlines())):
            shown = ask(browser, "10.0.9.9")
        return shown

    # An expired peer is forgotten within a second, so a look may come too late. Then the next peer has its turn.
    eventually("explained: a peer that has expired", expiring, lambda shown: has_line(
        shown, "not given leecher 10.0.0.", "it has expired, because it has not announced for the peer age"))

    family = start("-p", "--chihaya", write("chihaya.json", json.dumps({
        "httpListenAddr": "127.0.0.1:0", "udpListenAddr": "", "apiListenAddr": "127.0.0.1:0",
        "createOnAnnounce": True, "respectAF": True})))
    family.announce("a", "four", None, ip="10.0.0.1")
    family.announce("a", "six", None, ip="fd00::1")
    browser.open(f"{family.operators}/dashboard")
    eventually("explained: a peer of the other address family", lambda: ask(browser, "10.0.0.2"),
               lambda shown: has_line(shown, "not given leecher [fd00::1]:6881",
                                      "it is of the other address family, and clients get only their own"))


def torrent_view(browser, tracker):
    browser.open(f"{tracker.url}/dashboard")
    eventually("the largest torrents are links", lambda: browser.run(
        "document.querySelector('#torrents a')?.hash"), lambda shown: shown == f"#{TORRENT}")
    # As without a mouse.
    browser.run("document.querySelector('#torrents a').focus()")
    browser.press("\ue007")
    eventually("a torrent has a view of its own", lambda: [
        browser.run("[...document.querySelectorAll('#peers tbody tr')].map((row) => row.innerText)"),
        browser.run("document.querySelector('#now').checkVisibility()"), browser.text("#torrent-now")],
        lambda shown: len(shown[0]) == 8 and not shown[1] and "Seeds\n2" in shown[2])
    check("the focus is on its heading", browser.run("document.activeElement.id") == "torrent-title", "it is elsewhere")
    peers = browser.text("#peers")
    check("it has roles, zones and programs, and none of them is markup", all(part in peers for part in (
        "10.1.0.1:6881", BOLD, "seed", "-TR4050-", "<script>", "second address", "ago")), peers)
    sources = browser.text("#sources")
    check("it has the forwarders", SCRIPT in sources and "1 our own clients" in sources, sources)
    check("the title is still the page's", browser.run("document.title").startswith("retracker: torrent 61616161"),
          browser.run("document.title"))
    check("no text became markup", browser.run(
        "document.querySelectorAll('table script, table b, #notices *:not(p)').length") == 0, "there is an element")
    check("the form has the torrent", browser.run("document.querySelector('[name=torrent]').value") == TORRENT, "not it")
    browser.run("document.querySelector('#peers button').focus()")
    chosen = browser.run("document.activeElement.textContent")
    browser.run("refreshTorrent()")
    check("the focus stays while the figures change", browser.run("document.activeElement.textContent") == chosen, chosen)
    browser.press("\ue007")
    eventually("a peer's address is put into the form, and the focus follows", lambda: browser.run(
        "[document.querySelector('[name=as]').value, document.activeElement.name]"),
        lambda shown: shown == [chosen, "as"])
    browser.press("\ue007")
    eventually("Enter explains", lambda: browser.text("#explanation"),
               lambda shown: f"What a client at {chosen.split(':')[0]} gets of torrent {TORRENT}" in shown)
    check("the view fits on a phone", browser.run("document.documentElement.scrollWidth") == 390, "it is too wide")
    browser.call("POST", "/back", {})
    eventually("the back button leads to the overview", lambda: browser.run(
        "[document.querySelector('#now').checkVisibility(), document.querySelector('#torrent').hidden,"
        " document.activeElement.hash]"), lambda shown: shown == [True, True, f"#{TORRENT}"])
    browser.call("POST", "/forward", {})
    eventually("and forward again", lambda: browser.text("#peers"), lambda shown: "10.1.0.1:6881" in shown)


def front_page(browser, start):
    tracker = start("-l", "127.0.0.1:0", "-u", "127.0.0.1:0", "-p")
    port = urllib.parse.urlsplit(tracker.url).port
    paste = "data:text/html,<input id=paste autofocus>"
    for host, is_secure in (("127.0.0.1", True), ("retracker.lan", False)):
        browser.open(f"http://{host}:{port}/")
        check(f"{host} is a secure context: {is_secure}", browser.run("isSecureContext") == is_secure, "it is not so")
        for place, scheme in ((1, "http"), (2, "udp")):
            browser.open(f"http://{host}:{port}/")
            shown = browser.run(f"document.querySelectorAll('.url')[{place - 1}].textContent")
            browser.run(f"document.querySelectorAll('.copyable button')[{place - 1}].classList.add('this')")
            browser.click(".this")
            eventually(f"at {host} a button says that it has copied the {scheme} URL", lambda: browser.run(
                "document.querySelector('.this').parentNode.querySelector('[role=status]').textContent"),
                lambda said: said == "copied")
            browser.open(paste)
            browser.type("#paste", "\ue009v\ue000")
            eventually("and it is on the clipboard", lambda: browser.run("document.querySelector('#paste').value"),
                       lambda pasted: pasted == shown and pasted.startswith(f"{scheme}://{host}:"))
    browser.open(f"http://retracker.lan:{port}/")
    check("the front page fits on a phone", browser.run("document.documentElement.scrollWidth") == 390, "it is too wide")


def failures(browser, tracker, port):
    """What a browser reports on its console, too."""
    browser.open(f"{tracker.url}/dashboard#{'0' * 40}")
    eventually("an unknown torrent is not an empty one", lambda: browser.text("#torrent-state"),
               lambda shown: f"No client has announced the torrent {'0' * 40} here lately." in shown)
    check("its view fits on a phone", browser.run("document.documentElement.scrollWidth") == 390, "it is too wide")
    # The browser can reach the tracker, and that is what a page of another site would use.
    browser.open(f"http://localhost:{port}/page")
    for path in ("/api/v1/status", f"/api/v1/torrents/{TORRENT}", f"/explain?torrent={TORRENT}&as=10.0.0.1"):
        for mode in ("cors", "no-cors"):
            read = browser.run(f"fetch('{tracker.url}{path}', {{mode: '{mode}'}})"
                               ".then((reply) => reply.text(), () => '')")
            check(f"a page of another site reads nothing of {path.partition('?')[0]} ({mode})", read == "", read)


main()
