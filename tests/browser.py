#!/usr/bin/env python3
"""Drives Chromium over WebDriver through the dashboard of a running tracker.

    browser.py URL UPSTREAM_PORT

Prints one line for each check: `ok - …` or `not ok - …`. An upstream tracker at UPSTREAM_PORT is started, stopped and
started again by this script; the tracker must have a forwarder there, which is called `<b>up</b>`.
"""

import json
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

URL, PORT = sys.argv[1], int(sys.argv[2])
# A check fails after this many seconds. Only a failing check waits for the whole time.
PATIENCE = 60


class Upstream(BaseHTTPRequestHandler):
    """An upstream tracker with one peer."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"d8:intervali1800e5:peers6:\x2d\x2d\x2d\x2d\x11\xc1e")

    def log_message(self, *_):
        pass


class StoppableServer(ThreadingHTTPServer):
    allow_reuse_address = True


def start_upstream():
    server = StoppableServer(("127.0.0.1", PORT), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stop_upstream(server):
    server.shutdown()
    server.server_close()


def announce(torrent, peer, ip, left=1, port=6881):
    query = urllib.parse.urlencode({"info_hash": torrent * 20, "peer_id": f"{peer:0>20}", "port": port, "left": left})
    request = urllib.request.Request(f"{URL}/announce?{query}", headers={"X-Real-IP": ip})
    urllib.request.urlopen(request, timeout=30).read()


class Browser:
    """A WebDriver session (W3C WebDriver)."""

    def __init__(self):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = next(line for line in self.driver.stdout if "started successfully" in line)
        self.base = f"http://127.0.0.1:{line.split('on port')[1].strip().rstrip('.')}"
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
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

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def end(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.kill()


def check(title, is_right, shown=""):
    print(f"ok - {title}" if is_right else f"not ok - {title}: {shown}", flush=True)


def eventually(title, ask, is_right):
    """Asks again and again until the answer is right: WebDriver reports no changes of a page."""
    end = time.monotonic() + PATIENCE
    answer = ask()
    while not is_right(answer) and time.monotonic() < end:
        time.sleep(0.5)
        answer = ask()
    check(title, is_right(answer), answer)


def main():
    upstream = start_upstream()
    for n in range(1, 8):
        announce("a", f"client{n}", f"10.0.0.{n}", left=n % 2)
    browser = Browser()
    try:
        walk(browser, upstream)
    finally:
        browser.end()


def walk(browser, upstream):
    browser.call("POST", "/url", {"url": f"{URL}/dashboard"})

    def figures():
        return browser.run("Object.fromEntries([...document.querySelectorAll('#now div')]"
                           ".map((figure) => [...figure.children].map((part) => part.textContent)))")

    def forwarder():
        return browser.run("document.querySelector('#forwarders tbody tr')?.innerText ?? ''")

    def notices():
        return browser.run("document.getElementById('notices').textContent")

    eventually("the page shows the peers of the announces made", figures,
               lambda shown: (shown.get("Peers"), shown.get("Seeds"), shown.get("Torrents")) == ("7", "3", "1"))
    announce("b", "another", "10.0.1.1")
    eventually("the figures move", figures, lambda shown: (shown.get("Peers"), shown.get("Torrents")) == ("8", "2"))
    eventually("the charts are drawn, and the table has the same", lambda: browser.run(
        "[document.querySelectorAll('#charts canvas').length,"
        " [...document.querySelectorAll('#history tbody tr')].map((row) => row.textContent)"
        ".find((row) => row.startsWith('Peers: IPv4')) ?? '']"),
        lambda shown: shown[0] == 5 and "8" in shown[1])
    eventually("a forwarder that answers is shown as working", forwarder, lambda shown: "closed for" in shown)
    check("its name is no markup", "<b>up</b>" in forwarder(), forwarder())

    stop_upstream(upstream)
    for n in range(4):
        announce("d", f"late{n}", f"10.0.3.{n + 1}")
        announce("efgh"[n], f"late{n}", f"10.0.4.{n + 1}")
    eventually("a forwarder that dies turns red, with its error in words", lambda: [forwarder(), browser.run(
        "document.querySelector('#forwarders .bad')?.textContent ?? ''")],
        lambda shown: shown[1] == "open" and "cannot be reached" in shown[0])
    upstream = start_upstream()
    n = 0

    def probed():
        nonlocal n
        n += 1
        announce("ijklmnop"[n % 8], f"again{n}", f"10.0.5.{n % 250 + 1}")
        return [forwarder(), browser.run("document.querySelector('#forwarders .good')?.textContent ?? ''")]

    eventually("it turns green when it is back", probed, lambda shown: shown[1] == "closed")
    stop_upstream(upstream)

    check("there is no notice", notices() == "", notices())
    for n in [*range(1, 6)] * 3:
        announce("s", f"shared{n}", "192.168.7.7", port=n)
    eventually("a notice appears", notices, lambda shown: "192.168.7.7" in shown)
    eventually("a click on a torrent puts it into the form", lambda: browser.run(
        "(document.querySelector('#torrents button')?.click(),"
        " document.querySelector('[name=torrent]').value)"), lambda shown: shown == "61" * 20)
    query = "torrent=" + "61" * 20 + "&as=10.0.0.1"
    browser.run("(document.querySelector('[name=as]').value = '10.0.0.1')")
    browser.run("document.querySelector('#explain button').click()")
    eventually("the form explains what a client gets", lambda: browser.run(
        "document.getElementById('explanation').textContent"),
        lambda shown: "What a client at 10.0.0.1 gets" in shown and "it is the client itself" in shown)
    check("the page fits on a phone", browser.run("document.documentElement.scrollWidth") == 390, "it is too wide")
    check("every field and button can be reached by name", browser.run(
        "[...document.querySelectorAll('input')].every((input) => input.labels.length === 1)"), "an input has no label")
    messages = [entry["message"] for entry in browser.log("browser")]
    check("nothing is on the console", messages == [], messages)
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    foreign = [url for url in asked if not url.startswith(f"{URL}/")]
    check("no other host is asked", foreign == [] and f"{URL}/explain?{query}" in asked, foreign)


main()
