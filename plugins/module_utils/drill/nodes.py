# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which a node is taken from the application: it is drained, or it is lost.

Only the application's own pods are evicted; pods of others stay where they are.
"""

from __future__ import annotations

import re
from typing import Any

from ..kube.transport import ApiError
from ..verify.facts import is_ready
from . import bounds, machine
from .app import App, Plan, Skipped, patched
from .bounds import Stage
from .dead_man import Step, StepError, evict_pod

EVICTION = 120.0  # seconds that the eviction of all pods may take, one after the other where a budget wants it
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# Kubernetes' defaults: how long a node may be silent, how often that is looked at, and how often a kubelet gives a sign of life.
GRACE, GRACE_BEFORE_1_32, MONITOR, RENEWAL = 50.0, 40.0, 5.0, 10.0
ZONE = {"s": 1, "m": 60, "h": 3600}


def _listed(app: App, what: str, path: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = app.get(path)["items"]
    except ApiError as error:
        raise Skipped(f"{what} of the cluster can't be listed ({error})") from error
    return found


def tolerated(taint: dict[str, Any], tolerations: list[dict[str, Any]]) -> bool:
    """Whether pods with these tolerations may come to a node with the taint."""
    if taint.get("effect") not in ("NoSchedule", "NoExecute"):
        return True
    for item in tolerations:
        key, effect = item.get("key"), item.get("effect")
        same = item.get("operator") == "Exists" or item.get("value", "") == taint.get("value", "")
        if key in (None, "", taint["key"]) and effect in (None, "", taint["effect"]) and same:
            return True
    return False


def takes(node: dict[str, Any], pod: dict[str, Any]) -> bool:
    """Whether a node takes pods of this specification, as far as its state, labels and taints say."""
    spec, labels = node.get("spec") or {}, node["metadata"].get("labels") or {}
    if spec.get("unschedulable") or not is_ready(node):
        return False
    if any(labels.get(key) != value for key, value in (pod.get("nodeSelector") or {}).items()):
        return False
    return all(tolerated(taint, pod.get("tolerations") or []) for taint in spec.get("taints") or [])


def _placed(app: App) -> dict[str, list[str]]:
    """The application's ready pods by their nodes."""
    found: dict[str, list[str]] = {}
    for pod in app.pods():
        if is_ready(pod):
            found.setdefault(pod["spec"].get("nodeName", ""), []).append(pod["metadata"]["name"])
    return found


def _need_two(app: App, what: str) -> None:
    if app.replicas < 2:
        raise Skipped(f"the application has {app.replicas} replica, so nothing would answer while its node is {what}")


def drain(app: App) -> Plan:
    """Cordon a node and evict the application's pods from it."""
    _need_two(app, "drained")
    pod = app.deployment["spec"]["template"]["spec"]
    able = [node for node in _listed(app, "the nodes", "/api/v1/nodes") if takes(node, pod)]
    if len(able) < 2:
        raise Skipped(f"a drain needs two nodes that take the application's pods, and the cluster has {len(able)}")
    placed = _placed(app)
    here = sorted((len(placed[name]), name) for node in able if (name := node["metadata"]["name"]) in placed)
    if not here:
        raise Skipped("no node that takes pods has a ready one of the application")
    name = here[0][1]
    path, names = f"/api/v1/nodes/{name}", sorted(placed[name])
    cordoned, undo = patched(app, path, {"spec": {"unschedulable": True}})
    _refuse_what_is_kept(app, names[0])
    steps: list[Step] = [*cordoned, {"do": "evict", "namespace": app.namespace, "names": names, "seconds": EVICTION}]
    how = f"node {name} cordoned, and {' and '.join(names)} evicted from it; pods of others stay"
    return Plan(how, steps, undo, [path], stages={"pods ready": bounds.probe_of(app.container).starting(len(names))})


def _refuse_what_is_kept(app: App, pod: str) -> None:
    """Ask the API server in a dry run. :raises Skipped: for an eviction that it refuses, in its words."""
    try:
        kept = evict_pod(app.request, app.namespace, pod, dry=True)
    except StepError as error:
        raise Skipped(str(error)) from error
    if kept:
        raise Skipped(f"the pod {pod} can't be evicted now: {kept}")


def lose(app: App) -> Plan:
    """Kill a node that is a container of this machine."""
    _need_two(app, "lost")
    nodes = _listed(app, "the nodes", "/api/v1/nodes")
    workers = [node for node in nodes if CONTROL_PLANE not in (node["metadata"].get("labels") or {}) and is_ready(node)]
    if not workers:
        raise Skipped("the cluster has no ready node beside its control plane")
    placed = _placed(app)
    # Somebody has to answer: one that has all pods of the application is no choice.
    chosen = [node for node in workers if node["metadata"]["name"] in placed and len(placed) > 1]
    if not chosen:
        raise Skipped("no worker has a ready pod of the application while another node has one too")
    engines = {node["metadata"]["name"]: engine for node in chosen if (engine := machine.engine_of(node))}
    if not engines:
        raise Skipped("no node with a pod of the application is a container that podman or docker of this machine runs")
    watching = _watching(app)
    name = min(engines, key=lambda name: (len(watching.get(name, [])), name))
    others = ", ".join(watching.get(name, []))
    also = f", which also runs {others}: no better one has a pod of the application" if others else ""
    undo: list[Step] = [{"do": "start_node", "engine": engines[name], "node": name}]
    silent = grace(app)
    marked = [*silent, ("node and endpoint controllers", 0.0, 5.0)]
    return Plan(
        f"node {name} killed by {engines[name]}{also}",
        [{"do": "kill_node", "engine": engines[name], "node": name}],
        undo,
        [f"/api/v1/nodes/{name}"],
        stages={"node NotReady": silent, "pods lost": marked, "endpoints removed": marked},
    )


def _watching(app: App) -> dict[str, list[str]]:
    """By node the pods that watch the application or keep its lines, of which one on each node is none of those."""
    namespaces = {app.stack_namespace} if app.prometheus else set()
    if app.logs:
        namespaces.add(app.logs.namespace)
    found: dict[str, list[str]] = {}
    for namespace in sorted(namespaces):
        for pod in _listed(app, f"the pods in namespace {namespace}", f"/api/v1/namespaces/{namespace}/pods"):
            owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences") or []}
            if not owners & {"DaemonSet", "Job"}:
                found.setdefault(pod["spec"].get("nodeName", ""), []).append(pod["metadata"]["name"])
    return found


def grace(app: App) -> list[Stage]:
    """How long a node may be silent before it counts as lost, by the flags of the controller manager where they can be read."""
    flags: dict[str, float] = {}
    newest = True
    try:
        version = app.get("/version")
        newest = (int(version["major"]), int(re.sub(r"\D", "", version["minor"]))) >= (1, 32)
        path = "/api/v1/namespaces/kube-system/pods?labelSelector=component%3Dkube-controller-manager"
        for pod in app.get(path)["items"]:
            command = " ".join(pod["spec"]["containers"][0].get("command") or [])
            for flag, number, unit in re.findall(r"--(node-monitor-[a-z-]+)=(\d+)([smh])", command):
                flags[flag] = int(number) * ZONE[unit]
    except (ApiError, KeyError, ValueError, IndexError):
        pass
    period = flags.get("node-monitor-grace-period", GRACE if newest else GRACE_BEFORE_1_32)
    return [("node monitor grace period", period - RENEWAL, period + flags.get("node-monitor-period", MONITOR))]
