"""Announces to the tracker with this log, then reads its metrics with the official parsers."""

import re
import sys
import time
import urllib.request

from prometheus_client import parser as classic
from prometheus_client.openmetrics import parser as openmetrics


def base_url(log, deadline=time.monotonic() + 60):
    while time.monotonic() < deadline:
        found = re.search(r"listening on (\S+)", open(log).read())
        if found:
            return f"http://{found[1]}"
        time.sleep(0.01)
    sys.exit("not ok - the tracker does not listen")


def get(url, accept=None):
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request) as reply:
        return reply.headers["Content-Type"], reply.read().decode()


def samples(families):
    # The classic parser appends _total to the name of every counter, including the Go
    # retracker's two. `as_written` has their real names.
    plain = {"requests_total": "requests", "forwarder_status_total": "forwarder_status"}
    return {(plain.get(s.name, s.name), tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


base = base_url(sys.argv[1])
hash_ = "info_hash=" + "a" * 20
for n in range(3):
    get(f"{base}/announce?{hash_}&peer_id={'b' * 19}{n}&port={n + 1}&left={n}&ip=10.0.0.{n + 1}")
get(f"{base}/announce?{hash_}")
get(f"{base}/scrape?{hash_}")

peers = "retracker_peers"
expected = {
    ("requests", ()): 4,
    ("forwarder_status", (("name", 'dead "one"'), ("status", "error"))): 3,
    ("retracker_announces_total", (("outcome", "answered"), ("protocol", "http"))): 3,
    ("retracker_announces_total", (("outcome", "refused"), ("protocol", "http"))): 1,
    ("retracker_announces_total", (("outcome", "answered"), ("protocol", "udp"))): 0,
    ("retracker_scrapes_total", (("outcome", "answered"), ("protocol", "http"))): 1,
    ("retracker_announce_duration_seconds_count", ()): 4,
    ("retracker_swarms", ()): 1,
    (peers, (("family", "ipv4"), ("role", "seed"))): 1,
    (peers, (("family", "ipv4"), ("role", "leecher"))): 2,
    (peers, (("family", "ipv6"), ("role", "seed"))): 0,
    ("retracker_forward_exchanges_total", (("forwarder", 'dead "one"'), ("outcome", "connect"))): 3,
    ("retracker_forward_exchanges_in_flight", (("forwarder", 'dead "one"'),)): 0,
}
as_written = ["requests 4", 'forwarder_status{name="dead \\"one\\"",status="error"} 3']
present = ["process_resident_memory_bytes", "process_cpu_seconds_total", "retracker_build_info"]


def problems_of(accept, content_type, parse):
    kind, text = get(f"{base}/metrics", accept)
    problems = [] if kind.startswith(content_type) else [f"its content type is {kind}"]
    found = samples(parse(text))
    problems += [f"{k} is {found.get(k)}, expected {v}" for k, v in expected.items() if found.get(k) != v]
    problems += [f"the line {line} is missing" for line in as_written if line not in text.splitlines()]
    names = {key[0] for key in found}
    return problems + [f"{p} is missing" for p in present if p not in names]


failed = 0
for name, accept, content_type, parse in [
    ("classic text", None, "text/plain; version=0.0.4", classic.text_string_to_metric_families),
    ("OpenMetrics", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0",
     openmetrics.text_string_to_metric_families),
]:
    # Some work, such as an exchange upstream, ends after the client's reply, and is counted only then.
    deadline = time.monotonic() + 30
    while (problems := problems_of(accept, content_type, parse)) and time.monotonic() < deadline:
        time.sleep(0.05)
    failed += bool(problems)
    print(f"{'not ok' if problems else 'ok'} - metrics as {name}", *problems, sep="\n  ")

sys.exit(bool(failed))
