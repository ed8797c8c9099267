"""Prints the queries of the Grafana dashboard as a rule file, so that promtool can parse them."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    panels = json.load(file)["panels"]
queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
# Grafana replaces its variables. In a matcher, `$instance` is valid as it is.
rules = [
    {"record": f"dashboard:query{number}", "expr": query.replace("$__rate_interval", "5m")}
    for number, query in enumerate(queries)
]
# JSON is YAML too.
print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
