"""PromQL queries against a live Prometheus: does each metric, label and value that they name exist?"""

import json
import re
import urllib.parse
import urllib.request

# What a run that goes well does not have: each is documented by its owner, and the run is told to have all others.
KAFKA_EXPORTER = re.compile(r"kafka_(topic_partition_current_offset|topic_partition_under_replicated_partition|consumergroup_lag)$")
KAFKA_EXPORTER_LABELS = {"consumergroup"}
NOT_LIVE_SELECTORS = re.compile(r'ALERTS|status=~?"(5\.\.|429)"|outcome=~"shed')
WORDS = set("and or unless by without on ignoring group_left group_right offset bool inf nan le".split())
STRING = r'"(?:[^"\\]|\\.)*"'


def documented(readme):
    """The names of assay's metrics in the tables of README.md; a histogram has three."""
    names = set()
    for line in readme.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5:
            continue
        for name in re.findall(r"`(assay_\w+)`", cells[1]):
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if cells[2] == "histogram" else {name}
    return names


def filled(expr):
    """With Grafana's variables as they are for all processes."""
    return expr.replace("$__rate_interval", "1m").replace("$instance", ".*")


def selectors(expr):
    """Each name{matchers} of an expression."""
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", filled(expr))
    # A name within a string is none.
    hidden = re.sub(STRING, lambda text: '"' + "\x00" * (len(text[0]) - 2) + '"', bare)
    found = []
    for match in re.finditer(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?", hidden):
        inside = hidden.rfind("{", 0, match.start()) > hidden.rfind("}", 0, match.start())
        bracket = hidden.rfind("[", 0, match.start()) > hidden.rfind("]", 0, match.start())
        called = hidden[match.end() :].lstrip().startswith("(") and not match[2]
        if not (inside or bracket or called or match[1].lower() in WORDS):
            found.append(bare[match.start() : match.end()].strip())
    return found


def groupings(expr):
    """Each label that results are grouped or matched by."""
    lists = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expr)
    return {label.strip() for each in lists for label in each.split(",") if label.strip()}


def name_of(selector):
    return selector.split("{")[0].strip()


def unknown(asked, rules, prometheus):
    """The names that are known from documents only."""
    exprs = [expr for _, expr, _ in asked] + [rule["expr"] for rule in rules]
    names = {name_of(each) for expr in exprs for each in selectors(expr)}
    return ", ".join(sorted(name for name in names if name not in prometheus.names)) or "none"


class Prometheus:
    def __init__(self, url, documented_names):
        self.url = url
        self.documented = documented_names
        self.names = set(self.ask("label/__name__/values"))
        self.labels = set(self.ask("labels"))

    def ask(self, path, **parameters):
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}{query}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from error

    def result(self, expr):
        return self.ask("query", query=filled(expr))["result"]

    def panel(self, expr, legend):
        """What is wrong with the query of a panel: it does not parse, names what is not there, or is empty without cause."""
        try:
            result = self.result(expr)
        except ValueError as error:
            return [f"{error}: {expr}"]
        wrong = self.names_wrong(expr)
        quiet = any(NOT_LIVE_SELECTORS.search(each) or KAFKA_EXPORTER.match(name_of(each)) for each in selectors(expr))
        if not wrong and not quiet and not result:
            wrong.append(f"no data: {expr}")
        for label in re.findall(r"\{\{(\w+)\}\}", legend or ""):
            if any(label not in series["metric"] for series in result):
                wrong.append(f"the legend names {label}, which the result has not: {expr}")
        return wrong

    def alert(self, expr):
        """What is wrong with an alert, which is empty while nothing is wrong: so its parts are looked at."""
        try:
            self.result(expr)
        except ValueError as error:
            return [f"{error}: {expr}"]
        return self.names_wrong(expr)

    def variable(self, variable):
        asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        if not asked or not any(asked[2] in series["metric"] for series in self.result(asked[1])):
            return [f"the variable {variable['name']} has no values"]
        return []

    def names_wrong(self, expr):
        wrong = [f"no series has the label {label}: {expr}" for label in groupings(expr) if label not in self.labels | KAFKA_EXPORTER_LABELS]
        for selector in selectors(expr):
            name = name_of(selector)
            if name == "ALERTS" or KAFKA_EXPORTER.match(name):
                continue
            if name.startswith("assay_") and name not in self.documented:
                wrong.append(f"{name} does not stand in README.md")
            if name not in self.names:
                wrong.append(f"{name} is no metric of the live processes")
            elif not NOT_LIVE_SELECTORS.search(selector) and not self.result(f"count({selector})"):
                wrong.append(f"no series is {selector}")
        return wrong

    def rules_wrong(self, wanted):
        """Rules that the server has not loaded, or cannot evaluate (a template that fails, series that do not match one to one)."""
        loaded = [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
        wrong = [f"{rule['name']}: {rule.get('lastError') or rule['health']}" for rule in loaded if rule["health"] != "ok"]
        missing = set(wanted) - {rule["name"] for rule in loaded}
        return wrong + [f"{name} is not loaded" for name in sorted(missing)]

    def active(self):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"]}
