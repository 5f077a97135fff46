"""Do dashboards and alerts say what is there? Exit code 1 with all that is wrong.

usage: dashboards.py structure GRAFANA                         what can be seen in the files
       dashboards.py configure GRAFANA FOLDER JOB=HOST:PORT…   the shipped configuration with other targets, scraped each second
       dashboards.py live GRAFANA README PROMETHEUS-URL        each query against a Prometheus that has scraped for a while
       dashboards.py sql GRAFANA ASSAY LAKE                    each SQL query, with Grafana's macros expanded, on a lake
       dashboards.py firing PROMETHEUS-URL SECONDS ALERT…      until these alerts are pending or firing

`live` and `sql` also break a query of each kind, and fail when that is not found.
"""

import datetime
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml
from promql import Prometheus, documented, unknown

# Legitimately empty in a short run that goes well.
MAY_BE_EMPTY_SQL = {"Suspicious users"}
UNITS = {"none", "short", "percentunit", "locale", "s", "bytes", "Bps", "cps", "reqps"}


def dashboards(grafana):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((grafana / "dashboards").glob("*.json"))]


def rules(grafana):
    text = (grafana / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def targets(dashboard):
    """Title and target of each query of the panels."""
    return [(panel["title"], target) for panel in dashboard["panels"] for target in panel.get("targets", [])]


def structure(grafana):
    wrong = []
    found = dashboards(grafana)
    sources = [
        source
        for path in sorted((grafana / "provisioning" / "datasources").glob("*.yml"))
        for source in yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    ]
    provisioned = {(source["uid"], source["type"]) for source in sources}
    uids = [dashboard["uid"] for dashboard in found]
    if len(found) != 4 or len(set(uids)) != 4:
        wrong.append(f"four dashboards with a uid each are wanted: {uids}")
    for dashboard in found:
        wrong += [f"{dashboard['uid']}: {what}" for what in panels_wrong(dashboard, provisioned)]
    wrong += rules_wrong(grafana)
    report(wrong, f"{len(found)} dashboards, {len(rules(grafana))} alerts")


def panels_wrong(dashboard, provisioned):
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    if len(ids) != len(set(ids)):
        yield f"ids of panels are not unique: {ids}"
    taken = {}
    for panel in panels:
        name, grid = panel["title"], panel["gridPos"]
        if grid["x"] + grid["w"] > 24:
            yield f"`{name}` is wider than the grid"
        for cell in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
            if taken.setdefault(cell, name) != name:
                yield f"`{name}` lies over `{taken[cell]}`"
                break
        if panel["type"] == "row":
            continue
        if len(panel.get("description", "")) < 10:
            yield f"`{name}` has no description"
        units = [panel["fieldConfig"]["defaults"].get("unit")] if panel["type"] != "table" else []
        units += [each["value"] for over in panel["fieldConfig"]["overrides"] for each in over["properties"] if each["id"] == "unit"]
        for unit in units:
            if unit not in UNITS:
                yield f"`{name}` has the unit {unit}"
        if "noValue" not in panel["fieldConfig"]["defaults"]:
            yield f"`{name}` does not say what no data means"
        letters = [target["refId"] for target in panel["targets"]]
        if len(letters) != len(set(letters)):
            yield f"`{name}` uses a refId twice"
    titles = [panel["title"] for panel in panels]
    if len(titles) != len(set(titles)):
        yield f"two panels have one title: {sorted(title for title in titles if titles.count(title) > 1)}"
    asked = [*panels, *dashboard["annotations"]["list"], *dashboard["templating"]["list"]]
    asked += [target for panel in panels for target in panel.get("targets", [])]
    for part in asked:
        source = part.get("datasource")
        if part.get("type") != "row" and (not source or (source["uid"], source["type"]) not in provisioned):
            yield f"`{part.get('title') or part.get('name') or part.get('refId')}` asks a source that is not provisioned: {source}"
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for title, target in targets(dashboard):
        used = set(re.findall(r"\$(?:\{)?([a-z]\w*)", target.get("expr", "")))
        if used - variables:
            yield f"`{title}` uses variables that there are not: {used - variables}"


def rules_wrong(grafana):
    tested = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (grafana / "prometheus").glob("rules*_test.yml")]
    cases = [case for each in tested for test in each["tests"] for case in test["promql_expr_test"]]
    fired = {name for case in cases for sample in case["exp_samples"] for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    for rule in rules(grafana):
        name, notes = rule["alert"], rule["annotations"]
        if name not in fired:
            yield f"{name} never fires in rules*_test.yml"
        if rule["labels"].get("severity") not in ("critical", "warning"):
            yield f"{name} has no severity"
        if not notes.get("summary") or " Do: " not in notes.get("description", ""):
            yield f"{name} does not say what to do"
        if not name.startswith("Assay"):
            yield f"{name} is not shown on the dashboards, which look for Assay.*"


def configure(grafana, folder, *given):
    """A Prometheus folder as shipped, but for the targets and the pace."""
    addresses = dict(each.split("=") for each in given)
    config = yaml.safe_load((grafana / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    jobs = [job["job_name"] for job in config["scrape_configs"]]
    if set(addresses) - set(jobs):
        sys.exit(f"no such job in prometheus.yml: {set(addresses) - set(jobs)}")
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [addresses[job]]}]} for job in jobs if job in addresses
    ]
    folder = Path(folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "rules.yml").write_text((grafana / "prometheus" / "rules.yml").read_text(encoding="utf-8"), encoding="utf-8")


def live(grafana, readme, url):
    prometheus = Prometheus(url, documented(Path(readme).read_text(encoding="utf-8")))
    asked = [(f"{board['uid']}: {title}", target["expr"], target) for board in dashboards(grafana) for title, target in targets(board) if "expr" in target]
    asked += [(f"{board['uid']}: {note['name']}", note["target"]["expr"], {}) for board in dashboards(grafana) for note in board["annotations"]["list"]]
    wrong = [f"{where}: {what}" for where, expr, target in asked for what in prometheus.panel(expr, target.get("legendFormat"))]
    wrong += [f"{rule['alert']}: {what}" for rule in rules(grafana) for what in prometheus.alert(rule["expr"])]
    wrong += [f"{board['uid']}: {what}" for board in dashboards(grafana) for each in board["templating"]["list"] for what in prometheus.variable(each)]
    wrong += prometheus.rules_wrong([rule["alert"] for rule in rules(grafana)])
    found_by = {
        "assay_consumer_lags": "sum(assay_consumer_lags)",
        "a label": 'sum(rate(assay_rows_total{tabel="silver.transactions"}[1m]))',
        "a value of a label": 'sum(rate(assay_rows_total{table="silver.transaction"}[1m]))',
        "a grouping": "sum by (tabel) (rate(assay_rows_total[1m]))",
    }
    for misspelt, expr in found_by.items():
        if not prometheus.panel(expr, "{{tabel}}"):
            wrong.append(f"the check does not find {misspelt} misspelt: {expr}")
    if not prometheus.alert("assay_consumer_lags > 0"):
        wrong.append("the check does not find a misspelt metric in an alert")
    report(wrong, f"{len(asked)} queries of panels and {len(rules(grafana))} alerts against the live metrics; not live: {unknown(asked, rules(grafana), prometheus)}")


def sql(grafana, assay, lake):
    wrong, asked = [], 0
    for dashboard in dashboards(grafana):
        for title, target in targets(dashboard):
            if "rawSql" not in target:
                continue
            asked += 1
            wrong += [f"{dashboard['uid']}: {title}: {what}" for what in sql_wrong(assay, lake, title, target["rawSql"], target["format"])]
    for broken in ("SELECT windw_start FROM gold.platform_hourly", "SELECT * FROM gold.platform_hour", "SELECT 1 AS value WHERE false"):
        if not list(sql_wrong(assay, lake, "broken", broken, "table")):
            wrong.append(f"the check does not find what is wrong with: {broken}")
    report(wrong, f"{asked} SQL queries on the lake")


def sql_wrong(assay, lake, title, text, form):
    told = subprocess.run([assay, "sql", "--quiet", "--lake", lake, "--format", "json", expanded(text)], capture_output=True, text=True, check=False)
    if told.returncode:
        yield f"exit code {told.returncode}: {told.stderr.strip()}"
        return
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    if not rows and title not in MAY_BE_EMPTY_SQL:
        yield f"no rows: {expanded(text)}"
    if rows and form == "time_series":
        times = [row.get("time") for row in rows]
        if None in times or times != sorted(times):
            yield "a time series begins with a column `time`, in order"
    if rows and all(value is None for row in rows for value in row.values()):
        yield "all values are NULL"


def expanded(text):
    """As Grafana's PostgreSQL data source expands its macros, for the last day."""
    now = datetime.datetime.now(datetime.timezone.utc)
    first, last = (at.strftime("'%Y-%m-%dT%H:%M:%S.%fZ'") for at in (now - datetime.timedelta(days=1), now))
    text = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN {first} AND {last}", text)
    text = text.replace("$__timeFrom()", first).replace("$__timeTo()", last)
    if "$" in text:
        raise SystemExit(f"a macro that is not plain SQL: {text}")
    return text


def firing(url, seconds, *names):
    prometheus = Prometheus(url, set())
    deadline = time.monotonic() + float(seconds)
    while missing := set(names) - prometheus.active():
        if time.monotonic() > deadline:
            sys.exit(f"not pending or firing within {seconds} s: {', '.join(sorted(missing))}")
        time.sleep(0.5)
    print(f"pending or firing: {', '.join(names)}")


def report(wrong, what):
    for each in wrong:
        print(each, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} wrong of {what}")
    print(f"as they should be: {what}")


if __name__ == "__main__":
    commands = {"structure": structure, "configure": configure, "live": live, "sql": sql, "firing": firing}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    first = sys.argv[2] if sys.argv[1] == "firing" else Path(sys.argv[2])
    commands[sys.argv[1]](first, *sys.argv[3:])
