#!/usr/bin/env python3
"""Writes grafana/dashboards/*.json from grafana/sources/*.py; `build.py --check` only tells whether they differ.

Grafana reads the JSON, and reviewers see it in the diff. It is generated, so that units, thresholds and data sources are
said once and panels never overlap. Needs Python 3.11 and nothing else.
"""

import json
import sys
from pathlib import Path

from sources import business, ml, overview, pipeline

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = [overview.DASHBOARD, pipeline.DASHBOARD, ml.DASHBOARD, business.DASHBOARD]


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit("usage: build.py [--check]")
    wanted = {f"{dashboard.name}.json": text(dashboard) for dashboard in DASHBOARDS}
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if arguments == ["--check"]:
        if different:
            sys.exit(f"not what grafana/sources makes: {', '.join(different)}; run grafana/build.py")
        return
    for name in different:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
        print(f"{'wrote' if name in wanted else 'removed'} {name}")


def text(dashboard):
    return json.dumps(dashboard.build(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
