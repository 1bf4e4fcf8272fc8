# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana dashboards, which are files of the role app_monitoring, and the queries that Grafana sends for one.

They know no application: namespace and application are variables, so that all applications share them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[3] / "roles/app_monitoring/files/dashboards"


def texts() -> dict[str, str]:
    """The file of each dashboard by its uid."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}


def all_dashboards() -> list[Json]:
    """Every dashboard, as Grafana reads it."""
    return [json.loads(text) for text in texts().values()]


class Query(NamedTuple):
    """One query that Grafana would send: titles of its dashboard and panel, and PromQL without variables."""

    dashboard: str
    panel: str
    expr: str


def recorded(expr: str) -> set[str]:
    """The recording rules whose series an expression reads: their names have colons."""
    return set(re.findall(r"(?<![\w:])[a-zA-Z_]\w*(?::\w+)+", expr))


def queries(
    boards: list[Json],
    namespace: str = "flask-app",
    job: str = "flask-app",
    deployment: str = "",
    route: str = ".*",
    interval: str = "5m",
) -> list[Query]:
    """Every query of some dashboards for one application: of panels, variables and annotations.

    :param deployment: the application's Deployment, where it is not named like the *job*.
    :param interval: stands for ``$__rate_interval`` and ``$__range``, as a Prometheus duration.
    """
    values = {
        "__rate_interval": interval,
        "__range": interval,
        "namespace": namespace,
        "job": job,
        "deployment": deployment or job,
        "route": route,
    }

    def filled(expr: str) -> str:
        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values.get(found[1] or found[2], found[0]), expr)

    found = []
    for item in boards:
        for entry in item["templating"]["list"]:
            if entry["type"] == "query":
                selector = entry["query"]["query"].removeprefix("label_values(").rpartition(", ")[0]
                found.append(Query(item["title"], f"variable {entry['name']}", filled(selector)))
        for entry in item["annotations"]["list"]:
            found.append(Query(item["title"], f"annotation {entry['name']}", filled(entry["expr"])))
        for entry in item["panels"]:
            found += [Query(item["title"], entry["title"], filled(target["expr"])) for target in entry.get("targets", [])]
    return found
