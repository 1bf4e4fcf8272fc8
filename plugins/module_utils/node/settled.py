# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether nodes that were started again tell the truth. Private to this collection; its interface can change at any time.

After a restart the API server gives out what its database says. kubelet corrects the pods' status first. Controllers then correct
what they derive from it: until then a Deployment counts ready pods that are none, and an EndpointSlice has addresses that are
another pod's now. kube-proxy serves the result last. Whoever trusts any of these before is misled, so the nodes are waited for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

Objects = dict[str, list[dict[str, Any]]]

# The lists of the API that are judged, by kind.
PATHS = {
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/pods",
    "ReplicaSet": "/apis/apps/v1/replicasets",
    "Deployment": "/apis/apps/v1/deployments",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices"
    "?labelSelector=endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io",
    "Service": "/api/v1/services",
}
# Where a workload counts its ready pods; a ReplicaSet comes before the Deployment that owns it.
READY = {"ReplicaSet": "readyReplicas", "Deployment": "readyReplicas", "StatefulSet": "readyReplicas", "DaemonSet": "numberReady"}
# What the control plane puts on a node that is not ready, or that it does not hear of.
LOST = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


def ready(nodes: list[dict[str, Any]]) -> set[str]:
    """The names of the nodes that are ready, as the API tells it."""
    return {item["metadata"]["name"] for item in nodes if _condition(item)["status"] == "True"}


def stale(objects: Objects, started: Mapping[str, datetime]) -> list[str]:
    """The objects whose status is from before a start, or is not what the pods' status says, or without which nothing works.

    :param objects: the lists of `PATHS`, by kind.
    :param started: when each node was started; others, and their pods, are not waited for.
    """
    late = []
    told = {item["metadata"]["name"]: _condition(item) for item in objects["Node"]}
    tainted = {item["metadata"]["name"]: {each["key"] for each in item["spec"].get("taints", [])} for item in objects["Node"]}
    for node, since in started.items():
        if node not in told or told[node]["status"] != "True" or _time(told[node]["lastHeartbeatTime"]) < since:
            late.append(f"the node {node}")
        # They leave a ready node one by one: the one that keeps new pods away at once, the one that evicts within five seconds.
        elif left := LOST & tainted[node]:
            late.append(f"the taint {min(left)} of the node {node}")

    pods: dict[str, tuple[bool, set[str]]] = {}
    counts: Counter[str] = Counter()
    for pod in objects["Pod"]:
        meta, status = pod["metadata"], pod["status"]
        runs = [
            _time(each["state"]["running"]["startedAt"])
            for each in status.get("containerStatuses", [])
            if "running" in each["state"]
        ]
        start = started.get(pod["spec"].get("nodeName", ""))
        if start and any(run < start for run in runs):
            late.append(_name("pod", pod))
        ready = _condition(pod)["status"] == "True"
        pods[meta["uid"]] = (ready, {each["ip"] for each in status.get("podIPs", [])})
        if ready and "deletionTimestamp" not in meta:
            counts.update(owner["uid"] for owner in meta.get("ownerReferences", []))

    for kind, field in READY.items():
        for item in objects[kind]:
            meta, number = item["metadata"], item["status"].get(field, 0)
            dns = kind == "Deployment" and (meta["namespace"], meta["name"]) == ("kube-system", "coredns")
            if number != counts[meta["uid"]] or (dns and number == 0):
                late.append(_name(kind, item))
            counts.update({owner["uid"]: number for owner in meta.get("ownerReferences", [])})

    for item in objects["EndpointSlice"]:
        for endpoint in item.get("endpoints") or []:
            ready, addresses = pods.get(endpoint["targetRef"]["uid"], (False, set()))
            if endpoint["conditions"].get("serving") != ready or not addresses.issuperset(endpoint["addresses"]):
                late.append(_name("EndpointSlice", item))
                break
    return late


def synced(metrics: str) -> bool:
    """Whether kube-proxy has written all rules that it knows to be wanted, by its own metrics."""
    pattern = r'^kubeproxy_sync_proxy_rules_(last|last_queued)_timestamp_seconds{ip_family="IPv4"} (\S+)'
    at = {name: float(value) for name, value in re.findall(pattern, metrics, re.MULTILINE)}
    return 0 < at.get("last_queued", 0) <= at.get("last", 0)


def load_balancers(objects: Objects) -> dict[str, set[str]]:
    """The addresses of each Service of type LoadBalancer."""
    return {
        _name("Service", item): {each["ip"] for each in item["status"].get("loadBalancer", {}).get("ingress", []) if "ip" in each}
        for item in objects["Service"]
        if item["spec"].get("type") == "LoadBalancer"
    }


def _name(kind: str, item: dict[str, Any]) -> str:
    return f"the {kind} {item['metadata']['namespace']}/{item['metadata']['name']}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _condition(item: dict[str, Any]) -> dict[str, Any]:
    """The condition Ready of a node or pod."""
    return next((each for each in item["status"].get("conditions", []) if each["type"] == "Ready"), {"status": "Unknown"})
