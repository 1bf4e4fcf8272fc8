# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboards' form; tests/rules parses their queries and knows their metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import dashboards, objects
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

ROOT = Path(__file__).resolve().parents[3]
ALL = dashboards.all_dashboards()
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PANELS = [(item["uid"], panel) for item in ALL for panel in item["panels"] if panel["type"] != "row"]


def test_uids_are_the_published_ones() -> None:
    assert [item["uid"] for item in ALL] == ["flaskops-monitoring", "flaskops-routes", "flaskops-service"]


@pytest.mark.parametrize("item", ALL, ids=lambda item: item["uid"])
def test_form(item: dict[str, Any]) -> None:
    assert item["id"] is None and 37 <= item["schemaVersion"] <= 42 and item["editable"] is False
    ids = [panel["id"] for panel in item["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in item["panels"] if panel["type"] not in ("row", "stat")]
    assert len(set(titles)) == len(titles)
    source, *others = item["templating"]["list"]
    assert (source["type"], source["name"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert all(variable["datasource"] == SOURCE for variable in others)
    assert len(dashboards.texts()[item["uid"]].encode()) < 2**18


@pytest.mark.parametrize("item", ALL, ids=lambda item: item["uid"])
def test_panels_lie_side_by_side(item: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in item["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize(("uid", "panel"), PANELS, ids=[f"{uid}: {panel['title']}" for uid, panel in PANELS])
def test_panel(uid: str, panel: dict[str, Any]) -> None:
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == SOURCE
    assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        expr = target["expr"]
        windows = re.findall(r"\[([^\]]+)\]", re.sub(r'"[^"]*"', "", expr))
        # What is asked once is about the whole time shown.
        assert set(windows) <= ({"$__range"} if target["instant"] else {"$__rate_interval"})
        # An application's panel shows this application only.
        if uid != "flaskops-monitoring":
            assert 'namespace="$namespace"' in expr and ("$job" in expr or "$deployment" in expr)
        # Counters are looked at by their rate only, but for the number of restarts.
        for counter in re.findall(r"(\w+_(?:total|bucket|count|sum))\{", expr):
            assert counter == "kube_pod_container_status_restarts_total" or re.search(rf"(rate|increase)\({counter}\b", expr)


def test_what_is_installed_is_the_file_that_anybody_can_import() -> None:
    maps = objects.dashboard_maps("monitoring", {"grafana_dashboard": "1"}, "Flask")
    installed = {name: text for item in maps for name, text in item["data"].items()}
    files = (ROOT / "roles/app_monitoring/files/dashboards").glob("*.json")
    assert installed == {path.name: path.read_text() for path in files}


def test_queries_have_no_variable_left() -> None:
    found = dashboards.queries(ALL, "shop", "web", route="/x", interval="1m")
    panels = sum(len(panel["targets"]) for _uid, panel in PANELS)
    variables = sum(len(item["templating"]["list"]) - 1 for item in ALL)
    assert len(found) == panels + variables + sum(len(item["annotations"]["list"]) for item in ALL)
    assert [query for query in found if "$" in query.expr] == []
    assert any('namespace="shop", job="web", route=~"/x"}[1m]' in query.expr for query in found)


def test_nothing_is_lost_by_grafanas_own_schema() -> None:
    """Grafana's published types read each dashboard, and every key that we wrote is one of theirs."""
    for item in ALL:
        read = json.loads(json.dumps(Dashboard.from_json(item), cls=JSONEncoder))
        lost = [path for path in keys(item) if path not in set(keys(read))]
        assert lost == []


def keys(value: Any, path: str = "") -> list[str]:
    """The paths of all keys, without empty values and what a query or a panel plugin defines for itself."""
    if re.search(r"\.(targets\[\d+\]|options|query)$", path) or value in (None, "", [], {}):
        return []
    if isinstance(value, dict):
        return [
            found
            for key, inner in value.items()
            if inner not in (None, "", [], {})
            for found in (f"{path}.{key}", *keys(inner, f"{path}.{key}"))
        ]
    if isinstance(value, list):
        return [found for n, inner in enumerate(value) for found in keys(inner, f"{path}[{n}]")]
    return []
