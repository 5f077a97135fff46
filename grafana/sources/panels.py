"""What dashboards are made of: panels with their defaults, and the grid that they flow into."""

PROMETHEUS = {"type": "prometheus", "uid": "assay-prometheus"}
LAKE = {"type": "grafana-postgresql-datasource", "uid": "assay-lake"}

# Grafana's grid has 24 columns. On a phone each panel takes the whole width, in the order of the grid.
COLUMNS = 24
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


def steps(*above, base=GREEN):
    """Thresholds: `base` below the first of the pairs (value, colour)."""
    return [{"color": base, "value": None}, *({"color": color, "value": value} for value, color in above)]


NEUTRAL = steps(base=BLUE)


def metric(expr, legend="__auto", instant=False, table=False):
    """A PromQL query."""
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": expr,
        "format": "table" if table else "time_series",
        "instant": instant,
        "legendFormat": legend,
        "range": not instant,
    }


def fresh_increase(name, selector, span):
    """The increase of a counter that has no series before its first event, that event included."""
    return f"(({name}{{{selector}}} unless {name}{{{selector}}} offset {span}) or increase({name}{{{selector}}}[{span}]))"


def sql(text, series=False):
    """A query to the lake; `series` when its first column is `time`."""
    return {
        "datasource": LAKE,
        "editorMode": "code",
        "format": "time_series" if series else "table",
        "rawQuery": True,
        "rawSql": "\n".join(line.rstrip() for line in text.strip().splitlines()),
    }


def panel(kind, title, about, queries, defaults, options, overrides=(), transformations=()):
    targets = [{"refId": chr(ord("A") + place), **query} for place, query in enumerate(queries)]
    built = {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": targets[0]["datasource"],
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": targets,
    }
    if transformations:
        built["transformations"] = list(transformations)
    return built


def stat(title, about, unit, queries, thresholds=NEUTRAL, mappings=(), decimals=None, none="no data", names=False, spark=True):
    """One number that says by its colour whether it is fine."""
    defaults = {
        "color": {"mode": "thresholds"},
        "mappings": list(mappings),
        "noValue": none,
        "thresholds": {"mode": "absolute", "steps": thresholds},
        "unit": unit,
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    calm = thresholds == NEUTRAL
    options = {
        "colorMode": "value" if calm else "background",
        "graphMode": "area" if spark else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "value_and_name" if names else "value",
        "wideLayout": True,
    }
    return panel("stat", title, about, queries, defaults, options)


def series(title, about, unit, queries, stack=False, limit=None, low=0, high=None, bars=False, colors=None, right=None, decimals=None):
    """Lines over time. `limit` draws a red line where the alert begins; `right` names a series with a unit of its own."""
    custom = {
        "axisBorderShow": False,
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 25 if stack else 10,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stack else "none"},
        "thresholdsStyle": {"mode": "line" if limit is not None else "off"},
    }
    defaults = {
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "noValue": "none in this time",
        "thresholds": {"mode": "absolute", "steps": steps((limit, RED)) if limit is not None else NEUTRAL},
        "unit": unit,
    }
    for key, value in (("min", low), ("max", high), ("decimals", decimals)):
        if value is not None:
            defaults[key] = value
    overrides = [override(name, color={"mode": "fixed", "fixedColor": color}) for name, color in (colors or {}).items()]
    if right:
        name, its_unit = right
        overrides.append(override(name, unit=its_unit, **{"custom.axisPlacement": "right", "custom.drawStyle": "line"}))
    options = {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, about, queries, defaults, options, overrides)


def table(title, about, queries, overrides=(), transformations=(), none="nothing", sort=None):
    defaults = {
        "color": {"mode": "thresholds"},
        "custom": {"align": "auto", "filterable": True},
        "noValue": none,
        "thresholds": {"mode": "absolute", "steps": NEUTRAL},
    }
    options = {"cellHeight": "sm", "showHeader": True}
    if sort:
        options["sortBy"] = [{"displayName": sort, "desc": True}]
    return panel("table", title, about, queries, defaults, options, overrides, transformations)


def bars(title, about, unit, queries, thresholds=NEUTRAL, none="nothing"):
    """The rows of a table query as horizontal bars, named by its first column."""
    defaults = {
        "color": {"mode": "thresholds"},
        "min": 0,
        "noValue": none,
        "thresholds": {"mode": "absolute", "steps": thresholds},
        "unit": unit,
    }
    options = {
        "displayMode": "basic",
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": True, "limit": 15},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    return panel("bargauge", title, about, queries, defaults, options)


def override(name, **properties):
    """Other settings for the field or series of this name."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def coloured(name, thresholds, **properties):
    """A column whose cells take the colour of their value."""
    return override(
        name,
        **properties,
        thresholds={"mode": "absolute", "steps": thresholds},
        **{"custom.cellOptions": {"type": "color-text"}},
    )


def words(**texts):
    """A mapping of 1 and 0 to a text and a colour each: words(one=(text, colour), zero=(text, colour))."""
    values = {"one": "1", "zero": "0"}
    options = {values[key]: {"text": text, "color": color, "index": place} for place, (key, (text, color)) in enumerate(texts.items())}
    return [{"type": "value", "options": options}]


class Dashboard:
    def __init__(self, name, title, about, start, refresh, by_instance=False):
        self.name = name
        self.title = title
        self.about = about
        self.start = start
        self.refresh = refresh
        self.by_instance = by_instance
        self.panels = []
        self.x = self.y = self.height = 0

    def row(self, title, *panels, width=None, height=8):
        """A heading and its panels, from left to right, `width` columns each."""
        self._break()
        if title:
            self._place({"type": "row", "title": title, "collapsed": False, "panels": []}, COLUMNS, 1)
            self._break()
        for each in panels:
            self._place(each, width or COLUMNS // len(panels), height)
        return self

    def _break(self):
        self.y += self.height
        self.x = self.height = 0

    def _place(self, built, width, height):
        if self.x + width > COLUMNS:
            self._break()
        grid = {"h": height, "w": width, "x": self.x, "y": self.y}
        self.panels.append({"id": len(self.panels) + 1, **built, "gridPos": grid})
        self.x += width
        self.height = max(self.height, height)

    def build(self):
        return {
            "uid": f"assay-{self.name}",
            "title": self.title,
            "description": self.about,
            "tags": ["assay"],
            "schemaVersion": 41,
            "editable": False,
            "graphTooltip": 1,
            "refresh": self.refresh,
            "time": {"from": self.start, "to": "now"},
            "timezone": "utc",
            "links": [_siblings()],
            "annotations": {"list": [] if self.name == "business" else [_alerts()]},
            "templating": {"list": [_instance()] if self.by_instance else []},
            "panels": self.panels,
        }


def _siblings():
    return {
        "type": "dashboards",
        "title": "assay",
        "tags": ["assay"],
        "asDropdown": True,
        "icon": "external link",
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "The other dashboards",
        "url": "",
    }


def _alerts():
    query = metric('max by (alertname, severity) (ALERTS{alertstate="firing", alertname=~"Assay.*"})', "{{alertname}}")
    return {
        "name": "Alerts",
        "datasource": PROMETHEUS,
        "enable": True,
        "hide": False,
        "iconColor": RED,
        "target": {"refId": "Alerts", **query},
    }


def _instance():
    return {
        "type": "query",
        "name": "instance",
        "label": "Process",
        "datasource": PROMETHEUS,
        "query": {"query": "label_values(assay_build_info, instance)", "refId": "instance"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 1,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
