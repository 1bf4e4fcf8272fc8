# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana dashboards as JSON, each made of the short description beside it; docs/generate.py writes them.

They have the classic schema, which Grafana reads from files since version 9, and know no application: namespace and application
are variables, so that all applications share them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[1] / "roles/app_monitoring/files/dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
DATA_SOURCE: Json = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0}
# Grafana's name of each kind of panel.
KINDS = {"series": "timeseries", "stat": "stat", "heatmap": "heatmap", "table": "table"}
FORMS = {"table": "table", "heatmap": "heatmap"}
OPTIONS: dict[str, Json] = {
    "series": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"},
    "heatmap": {"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Oranges"}},
    "table": {},
}
SIZES = {"series": (12, 8), "stat": (4, 4), "heatmap": (12, 8), "table": (24, 8)}
YES_NO = [{"type": "value", "options": {"0": {"text": "no"}, "1": {"text": "yes"}}}]
LINK: Json = {
    "type": "dashboards",
    "title": "Flask",
    "tags": ["flaskops"],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
}


def targets(kind: str, given: Json) -> list[Json]:
    """The queries of a panel: one alone, or each with its legend, or with the title of its column."""
    form = FORMS.get(kind, "time_series")
    alone = {"{{le}}" if kind == "heatmap" else "": given["query"]} if "query" in given else {}
    instant = kind == "table" or given.get("instant", False)
    return [
        {
            "refId": chr(ord("A") + n),
            "datasource": SOURCE,
            "expr": expr,
            "legendFormat": "__auto" if kind == "table" else legend or "__auto",
            "format": form,
            "instant": instant,
            "range": not instant,
        }
        for n, (legend, expr) in enumerate((alone or given["queries"]).items())
    ]


def dashed(legend: str) -> Json:
    """What draws the series of a legend as a limit."""
    style = [
        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
    ]
    return {"matcher": {"id": "byName", "options": legend}, "properties": style}


def table_of(given: Json) -> list[Json]:
    """What puts the queries of a table side by side, under the titles of their columns."""
    columns = {f"Value #{chr(ord('A') + n)}": title for n, title in enumerate(given["queries"])}
    titles = {"excludeByName": {"Time": True}, "renameByName": {**given["rows"], **columns}}
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": titles}]


def panel(given: Json) -> Json:
    """A panel, or a heading, of its description: its kind is the first key, with the title."""
    kind, title = next(iter(given.items()))
    if kind == "row":
        return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}
    width, height = given.get("width", SIZES[kind][0]), SIZES[kind][1]
    defaults: Json = {"unit": given.get("unit", "short")}
    if not given.get("negative"):
        defaults["min"] = 0
    if "max" in given:
        defaults["max"] = given["max"]
    if "colors" in given:
        steps = [{"color": color, "value": value} for color, value in given["colors"].items()]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if given.get("yes_no"):
        defaults["mappings"] = YES_NO
    found: Json = {
        "type": KINDS[kind],
        "title": title,
        "description": given["description"],
        "datasource": SOURCE,
        "targets": targets(kind, given),
        "fieldConfig": {"defaults": defaults, "overrides": [dashed(legend) for legend in given.get("dashed", [])]},
        "options": OPTIONS[kind],
        "gridPos": {"w": width, "h": height},
    }
    if kind == "table":
        found["transformations"] = table_of(given)
    return found


def layout(panels: list[Json]) -> list[Json]:
    """The panels from left to right and top to bottom, each with its id."""
    x = y = height = 0
    for number, item in enumerate(panels, start=1):
        place = item["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        item["gridPos"] = {"x": x, "y": y, **place}
        item["id"] = number
        x, height = x + place["w"], max(height, place["h"])
    return panels


def variable(given: Json) -> Json:
    """A variable with the values of a label; a hidden one is not on the page, and `all` offers all values at once."""
    every = given.get("all", False)
    found: Json = {
        "type": "query",
        "name": given["name"],
        "label": given["label"],
        "hide": 2 if given.get("hidden") else 0,
        "datasource": SOURCE,
        "query": {"query": given["query"], "refId": f"Variable-{given['name']}"},
        "refresh": 2,
        "sort": 1,
        "multi": every,
        "includeAll": every,
    }
    if every:
        found["allValue"] = ".*"
        found["current"] = {"text": "All", "value": "$__all"}
    return found


def annotation(given: Json) -> Json:
    return {
        "name": given["name"],
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": given["color"],
        "expr": given["query"],
    }


def dashboard(uid: str, given: Json, application: Json) -> Json:
    """A whole dashboard; *application* is what each has that shows one application."""
    shared = application if given.get("application") else {"variables": [], "annotations": []}
    variables = [variable(item) for item in [*shared["variables"], *given.get("variables", [])]]
    return {
        "id": None,
        "uid": uid,
        "title": given["title"],
        "description": given["description"],
        "tags": ["flaskops"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [LINK],
        "templating": {"list": [DATA_SOURCE, *variables]},
        "annotations": {"list": [annotation(item) for item in shared["annotations"]]},
        "panels": layout([panel(item) for item in given["panels"]]),
    }


def files() -> dict[Path, str]:
    """Each dashboard's file, and what must be in it."""
    application = yaml.safe_load((FOLDER / "application.yml").read_text())
    return {
        path.with_suffix(".json"): json.dumps(
            dashboard(path.stem, yaml.safe_load(path.read_text()), application), indent=1, ensure_ascii=False
        )
        + "\n"
        for path in sorted(FOLDER.glob("flaskops-*.yml"))
    }
