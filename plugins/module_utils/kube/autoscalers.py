# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sets a workload's number of pods by itself: KEDA's ScaledObjects, and HorizontalPodAutoscalers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

# The status and, for 200, the JSON of a GET.
Read = Callable[[str], tuple[int, dict[str, Any]]]

AUTOSCALER = "HorizontalPodAutoscaler"
SCALED_OBJECTS = "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers"


def targets(item: dict[str, Any], name: str, kind: str = "Deployment") -> bool:
    """Whether an autoscaler is the one of a workload in its namespace."""
    target = item["spec"]["scaleTargetRef"]
    return (target.get("kind", "Deployment"), target["name"]) == (kind, name)


def among(definitions: list[dict[str, Any]], workload: dict[str, Any]) -> str:
    """The autoscaler of a workload among some, as its kind and name; empty where none of them is."""
    meta = workload["metadata"]
    here = [item for item in definitions if item["metadata"].get("namespace") == meta["namespace"]]
    return next((named(item) for item in here if targets(item, meta["name"], workload["kind"])), "")


def may_idle(item: dict[str, Any]) -> bool:
    """Whether an autoscaler, with its kind, may set the number of pods to 0."""
    spec, meta = item.get("spec", {}), item["metadata"]
    if item["kind"] == AUTOSCALER:  # one of KEDA's is about the numbers above 0
        return spec.get("minReplicas") == 0 or any(owner["kind"] == "ScaledObject" for owner in meta.get("ownerReferences") or [])
    paused = any(key.startswith("autoscaling.keda.sh/paused") for key in meta.get("annotations") or {})
    return paused or not spec.get("minReplicaCount") or spec.get("idleReplicaCount") == 0


def named(item: dict[str, Any]) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def targeting(read: Read, namespace: str, name: str, kind: str = "Deployment") -> list[dict[str, Any]] | None:
    """The autoscalers of a workload, KEDA's first, each with its kind; None where they can't be told."""
    found: list[dict[str, Any]] = []
    # Whether the cluster has no ScaledObjects or does not show them, makes no difference: KEDA has an autoscaler for each.
    for scaler, path in (("ScaledObject", SCALED_OBJECTS), (AUTOSCALER, AUTOSCALERS)):
        status, answer = read(path.format(quote(namespace)))
        if status != 200 and path == AUTOSCALERS:
            return found or None
        items = [{**item, "kind": scaler} for item in answer.get("items") or []]
        found += [item for item in items if targets(item, name, kind)]
    return found


def find(read: Read, namespace: str, name: str, kind: str = "Deployment") -> str | None:
    """The autoscaler of a workload, as its kind and name; empty where it has none, None where that can't be told."""
    found = targeting(read, namespace, name, kind)
    return None if found is None else next(map(named, found), "")
