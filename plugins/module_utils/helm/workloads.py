# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workloads that a release's objects are, or lead to: the Prometheus operator makes StatefulSets of some."""

from __future__ import annotations

import time
from typing import Any

from ..kube.objects import Objects, label
from ..kube.transport import KubeError
from ..kube.wait import KINDS, is_done, wait_for

Json = dict[str, Any]

OPERATED = {"Prometheus": "prometheus", "Alertmanager": "alertmanager"}
# Seconds. The operator may say that it took note of an object before it has, and changes the StatefulSet a moment later.
NOTICE = 5.0


def condition(live: Json, kind: str) -> Json:
    """A condition of an object's status that is about its newest generation, or {}."""
    for item in (live.get("status") or {}).get("conditions") or []:
        if item["type"] == kind and item.get("observedGeneration", 0) >= live["metadata"].get("generation", 0):
            return dict(item)
    return {}


def ready(live: Json) -> bool:
    """Whether a workload, or an object that the operator turns into one, runs in full."""
    if live["kind"] in OPERATED:
        return condition(live, "Available").get("status") == "True" and condition(live, "Reconciled").get("status") == "True"
    return is_done(live)


def workload(live: Json) -> Json | None:
    """The workload that an object is or leads to, or None."""
    kind, name = live["kind"], live["metadata"]["name"]
    if kind in OPERATED:
        kind, name = "StatefulSet", f"{OPERATED[kind]}-{name}"
    elif kind not in KINDS:
        return None
    return {"kind": kind, "name": name, "namespace": live["metadata"]["namespace"], "ready": ready(live)}


def versions(objects: Objects, lives: list[Json]) -> dict[str, Any]:
    """By the labels of the objects that the operator makes StatefulSets of: their generations, and what is made of each."""
    operated = [live for live in lives if live["kind"] in OPERATED]
    made = objects.each(lambda live: _version(objects.get(_stateful_set(live))), operated)
    return {label(live): (live["metadata"].get("generation"), version) for live, version in zip(operated, made, strict=True)}


def settle(objects: Objects, lives: list[Json], seconds: int, before: dict[str, Any]) -> None:
    """Return when all that objects lead to has rolled out.

    :param before: the `versions` of before they were changed; empty where they were not.
    :raises KubeError: with what keeps one from it.
    """
    # What the StatefulSets were of the objects that have changed since, which may look ready because of them.
    now = {label(live): live["metadata"].get("generation") for live in lives}
    old = {name: made for name, (generation, made) in before.items() if generation != now.get(name)}
    pending = [live for live in lives if workload(live) and (label(live) in old or not ready(live))]
    # Before the operator took note, a StatefulSet may be missing, or ready in its older form.
    for live in objects.each(lambda live: _reconciled(objects, live, seconds, old.get(label(live))), pending):
        wait_for(objects, live, seconds)


def _stateful_set(live: Json) -> Json:
    """The name of the StatefulSet that the operator makes of an object."""
    made = workload(live) or {}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": made["name"], "namespace": made["namespace"]}}


def _version(stateful: Json | None) -> Any:
    """What changes with each change of a StatefulSet by the operator; None where there is none, or one that goes."""
    if stateful is None or stateful["metadata"].get("deletionTimestamp"):
        return None
    return stateful["metadata"].get("uid"), stateful["metadata"].get("generation")


def _reconciled(objects: Objects, live: Json, seconds: int, old: Any = None) -> Json:
    """The workload of an object, once the operator has taken note of it.

    :param old: the version of its StatefulSet before the object was changed.
    :raises KubeError: with the operator's own words, when it has not in time.
    """
    if live["kind"] not in OPERATED:
        return live
    deadline = time.monotonic() + seconds
    while True:
        found = objects.get(live)
        if found is None:
            raise KubeError(f"There is no {label(live)} any more: somebody removed it while its release was installed.")
        seen = condition(found, "Reconciled")
        if seen.get("status") == "True":
            break
        left = deadline - time.monotonic()
        if left <= 0:
            said = f"it says: {seen['message']}" if seen.get("message") else "see the operator's log"
            raise KubeError(f"The Prometheus operator did not reconcile {label(live)} in {seconds} s; {said}.")
        for _event in objects.watch(found, found["metadata"]["resourceVersion"], left):
            break
    stateful = _made(objects, found, deadline)
    if old is not None and old == _version(stateful):
        for event in objects.watch(stateful, stateful["metadata"]["resourceVersion"], NOTICE):
            if _version(event["object"]) != old:
                break
        stateful = _made(objects, found, deadline)
    return stateful


def _made(objects: Objects, live: Json, deadline: float) -> Json:
    """The StatefulSet of an object, which may come a moment later, or after one that goes because it can't be changed.

    :raises KubeError: when it does not come in time.
    """
    wanted = _stateful_set(live)
    while (stateful := objects.get(wanted)) is None or _version(stateful) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            name = wanted["metadata"]["name"]
            raise KubeError(f"The Prometheus operator made no StatefulSet {name} of {label(live)}: see the operator's log.")
        version = stateful["metadata"]["resourceVersion"] if stateful else ""
        for _event in objects.watch(wanted, version, left):
            break
    return stateful
