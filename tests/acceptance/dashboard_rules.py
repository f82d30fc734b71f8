"""Prints every query of the dashboard as a recording rule, for `promtool check rules` to judge.

    dashboard_rules.py >rules.yml && promtool check rules rules.yml
"""

import json
import pathlib

DASHBOARD = pathlib.Path(__file__).resolve().parents[2] / "deploy/grafana/millpond.json"


def main():
    rules = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            # Grafana puts these in.
            query = target["expr"].replace("$__rate_interval", "5m")
            rules.append({"record": f"dashboard:query{len(rules)}", "expr": query})
    # JSON is YAML.
    print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))


if __name__ == "__main__":
    main()
