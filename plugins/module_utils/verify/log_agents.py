# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log agents of a cluster, and what they say of their outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..kube.transport import ApiError
from .facts import IN_CLUSTER
from .log_stores import LOGIN

if TYPE_CHECKING:
    from .run import Run, Target

SELECTORS = ("app.kubernetes.io/name in (log-collector,fluent-bit)", "app.kubernetes.io/component=log-shipper")
# The role fluent_bit names its outputs here: type, host, port, index and the like, and no credentials.
OUTPUTS = "flaskops/outputs"
TITLES = {"es": "elasticsearch", "elasticsearch": "elasticsearch", "opensearch": "opensearch", "cloudwatch_logs": "cloudwatch"}


def agents(run: Run) -> list[dict[str, Any]]:
    """The DaemonSets that ship logs."""
    found = {}
    for selector in SELECTORS:
        for item in run.get(f"/apis/apps/v1/daemonsets?{urlencode({'labelSelector': selector})}").get("items", []):
            found[item["metadata"]["namespace"], item["metadata"]["name"]] = item
    return list(found.values())


def outputs(run: Run) -> list[dict[str, Any]]:
    """Where the agents say that they send lines, but for what is found by its Service."""
    found = []
    for item in agents(run):
        for output in outputs_of(item):
            if output["type"] in TITLES:
                found.append({**output, "agent": item["metadata"]["name"]})
    return found


def outputs_of(agent: dict[str, Any]) -> list[dict[str, Any]]:
    """What an agent says of its outputs."""
    return list(json.loads((agent["metadata"].get("annotations") or {}).get(OUTPUTS, "[]")))


@dataclass(frozen=True)
class Index:
    """An index of a search engine of the cluster, and how it is asked below *base*."""

    name: str
    namespace: str
    base: str
    fetch: Callable[[str, float], tuple[int, str]]


def index_inside(run: Run, output: dict[str, Any]) -> Index | None:
    """The index of an output of the cluster that asks for no login, or whose Service names the Secret that has one; else None."""
    inside = IN_CLUSTER.match(output.get("host") or "")
    if not inside:
        return None
    name = (output.get("index") or "_all") + ("-*" if output.get("daily_index") else "")
    space = inside["namespace"]
    if output.get("tls") or output.get("login"):
        try:
            service = run.get(f"/api/v1/namespaces/{space}/services/{inside['name']}")
        except ApiError:
            return None
        if LOGIN not in (service["metadata"].get("annotations") or {}):
            return None
        way = run.way(service)
        return Index(name, space, way.base, way.fetch)
    base = f"/api/v1/namespaces/{space}/services/{inside['name']}:{output['port']}/proxy"
    return Index(name, space, base, lambda path, seconds: run.cluster.fetch(base + path, None, seconds))


def pods_of(target: Target, names: str = "loki,victoria-logs-single,log-collector,fluent-bit") -> str:
    """The command that shows the pods of back ends and log agents, of all or of those with these names."""
    return target.kubectl("get", "pods", "-A", "-l", f"app.kubernetes.io/name in ({names})", namespaced=False)
