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


def settle(objects: Objects, lives: list[Json], seconds: int) -> None:
    """Return when all that objects lead to has rolled out.

    :raises KubeError: with what keeps one from it.
    """
    pending = [live for live in lives if workload(live) and not ready(live)]
    # Before the operator took note, a StatefulSet may be missing, or ready in its older form.
    for live in objects.each(lambda live: _reconciled(objects, live, seconds), pending):
        wait_for(objects, live, seconds)


def _reconciled(objects: Objects, live: Json, seconds: int) -> Json:
    """The workload of an object, once the operator has taken note of it.

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
    made = workload(found) or {}
    wanted = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": made["name"], "namespace": made["namespace"]}}
    # The operator may take note of an object a moment before its StatefulSet is there, or while one goes that can't be changed.
    while (stateful := objects.get(wanted)) is None or stateful["metadata"].get("deletionTimestamp"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise KubeError(
                f"The Prometheus operator made no StatefulSet {made['name']} of {label(live)}: see the operator's log."
            )
        version = stateful["metadata"]["resourceVersion"] if stateful else ""
        for _event in objects.watch(wanted, version, left):
            break
    return stateful
