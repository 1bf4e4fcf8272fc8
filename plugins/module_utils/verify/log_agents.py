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
from . import log_stores
from .facts import IN_CLUSTER

if TYPE_CHECKING:
    from .run import Run, Target

SELECTORS = ("app.kubernetes.io/name in (log-collector,fluent-bit)", "app.kubernetes.io/component=log-shipper")
# The role fluent_bit names its outputs here: type, host, port, index and the like, and no credentials.
OUTPUTS = "flaskops/outputs"
TITLES = {"es": "elasticsearch", "elasticsearch": "elasticsearch", "opensearch": "opensearch", "cloudwatch_logs": "cloudwatch"}
TITLES |= {name: name for name in log_stores.STORES}


def agents(get: Callable[[str], Any]) -> list[dict[str, Any]]:
    """The DaemonSets that ship logs: those that name their outputs, as ours do, or else anybody's.

    :param get: reads an object or list of the API server.
    """
    found = {}
    for selector in SELECTORS:
        for item in get(f"/apis/apps/v1/daemonsets?{urlencode({'labelSelector': selector})}").get("items", []):
            found[item["metadata"]["namespace"], item["metadata"]["name"]] = item
    ours = [item for item in found.values() if OUTPUTS in (item["metadata"].get("annotations") or {})]
    return ours or list(found.values())


def services(get: Callable[[str], Any], store: log_stores.Store) -> list[dict[str, Any]]:
    """The Services through which a kind of back end is asked; of several those to which a log agent sends, or else the first."""
    found = log_stores.services(get, store)
    if len(found) < 2:
        return found
    try:
        sent = [_place(output) for item in agents(get) for output in outputs_of(item) if output["type"] == store.name]
    except ApiError:
        sent = []
    places = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found]
    named = [item for item, place in zip(found, places, strict=True) if place in sent]
    near = [item for item, (namespace, _name) in zip(found, places, strict=True) if namespace in dict(filter(None, sent))]
    return named or near[:1] or found[:1]


def _place(output: dict[str, Any]) -> tuple[str, str] | None:
    """Namespace and name of the Service to which an output sends; None where its host says no namespace."""
    inside = IN_CLUSTER.match(output.get("host") or "")
    return (inside["namespace"], inside["name"]) if inside else None


def outputs(run: Run) -> list[dict[str, Any]]:
    """Where the agents say that they send lines, but for what is found by its Service."""
    spaces = {
        name: {item["metadata"]["namespace"] for item in services(run.get, store)} for name, store in log_stores.STORES.items()
    }

    def is_found(output: dict[str, Any]) -> bool:
        there, place = spaces.get(output["type"], set()), _place(output)
        # A bare name is looked up by the agent, in its own namespace.
        return place[0] in there if place else bool(there) and (output.get("host") or "").count(".") < 2

    return [
        {**output, "agent": item["metadata"]["name"]}
        for item in agents(run.get)
        for output in outputs_of(item)
        if output["type"] in TITLES and not is_found(output)
    ]


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
    if not inside or output["type"] in log_stores.STORES:
        return None
    name = (output.get("index") or "_all") + ("-*" if output.get("daily_index") else "")
    space = inside["namespace"]
    if output.get("tls") or output.get("login"):
        try:
            service = run.get(f"/api/v1/namespaces/{space}/services/{inside['name']}")
        except ApiError:
            return None
        if log_stores.LOGIN not in (service["metadata"].get("annotations") or {}):
            return None
        way = run.way(service)
        return Index(name, space, way.base, way.fetch)
    base = f"/api/v1/namespaces/{space}/services/{inside['name']}:{output['port']}/proxy"
    return Index(name, space, base, lambda path, seconds: run.cluster.fetch(base + path, None, seconds))


def pods_of(target: Target, names: str = "loki,victoria-logs-single,log-collector,fluent-bit") -> str:
    """The command that shows the pods of back ends and log agents, of all or of those with these names."""
    return target.kubectl("get", "pods", "-A", "-l", f"app.kubernetes.io/name in ({names})", namespaced=False)
