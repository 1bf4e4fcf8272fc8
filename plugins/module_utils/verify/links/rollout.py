# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Deployment is rolled out completely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...kube import autoscalers, replicas
from ...kube.transport import ApiError
from ..facts import age, is_live, is_ready, pod_trouble
from ..result import Result, failed, ok, skipped
from ..run import Run

PROGRESS = 600  # seconds that a pod may take to get ready, where the Deployment does not say (progressDeadlineSeconds)
LEARNING = 120  # seconds in which an autoscaler that was just made, or its source of numbers, gets to work
WORKING = ("AbleToScale", "ScalingActive", "Ready")  # what is true of an autoscaler that works, the last one of KEDA's
STARTING = ("ContainerCreating", "PodInitializing")


def judge(deployment: dict[str, Any], pods: list[dict[str, Any]], scalers: Sequence[dict[str, Any]] = ()) -> Result:
    """The Deployment is rolled out completely, and its autoscalers work; what is to have no pods is skipped.

    :param scalers: its autoscalers, each with its kind. Pods that they have just added are no trouble while these start.
    """
    spec = deployment.get("spec", {})
    status = deployment.get("status", {})
    wanted = spec.get("replicas", 1)
    updated, available = status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0
    total = status.get("replicas") or 0
    evidence = f"{available} of {wanted} replicas available, {updated} updated"
    if (status.get("observedGeneration") or 0) < deployment.get("metadata", {}).get("generation", 0):
        return failed("rollout", evidence, "the Deployment's newest version has not been seen by its controller yet")
    if not wanted:
        if why := _idle(deployment, scalers):
            return skipped("rollout", why)
        why = f", and {autoscalers.named(scalers[0])} never goes below 1: somebody else has done it" if scalers else ""
        return failed("rollout", evidence, f"the Deployment is scaled to 0 replicas{why}")
    evidence += f"; {autoscalers.named(scalers[0])} sets their number" if scalers else ""
    if not updated == available == total == wanted and not (scalers and _is_growing(deployment, pods)):
        troubles = [pod_trouble(p) for p in pods if not is_ready(p)]
        return failed("rollout", evidence, "; ".join(troubles[:3]) or f"the rollout is not complete ({total} pods exist)")
    if cause := next(filter(None, map(_scaling_trouble, scalers)), ""):
        return failed("rollout", evidence, cause)
    return ok("rollout", evidence)


def _idle(deployment: dict[str, Any], scalers: Sequence[dict[str, Any]]) -> str:
    """Who wants a Deployment of 0 replicas to have none; empty where somebody else has done it."""
    if not scalers:
        return "replicas is 0, as it was applied" if any(map(replicas.is_ours, replicas.owners(deployment))) else ""
    return next((f"scaled to 0 by {autoscalers.named(scaler)}" for scaler in scalers if autoscalers.may_idle(scaler)), "")


def idle(run: Run) -> str:
    """Why the app has no pods, where it is to have none; else empty."""
    if run.deployment.get("spec", {}).get("replicas", 1):
        return ""
    return _idle(run.deployment, scalers(run, run.target.name)) if run.deployment else ""


def _is_growing(deployment: dict[str, Any], pods: list[dict[str, Any]]) -> bool:
    """Whether nothing is missing but pods of the newest version that have just been added and start."""
    status, seconds = deployment["status"], deployment["spec"].get("progressDeadlineSeconds", PROGRESS)
    refused = any(c["type"] == "ReplicaFailure" and c["status"] == "True" for c in status.get("conditions") or [])
    old = (status.get("replicas") or 0) - (status.get("updatedReplicas") or 0)
    return not refused and not old and all(is_ready(pod) or _is_starting(pod, seconds) for pod in pods if is_live(pod))


def _is_starting(pod: dict[str, Any], seconds: float) -> bool:
    """Whether a pod is younger than so many seconds, has its node, and none of its containers has ended or can't start."""
    meta, status = pod["metadata"], pod.get("status", {})
    states = [each for key in ("initContainerStatuses", "containerStatuses") for each in status.get(key) or []]
    waiting = {reason for each in states if (reason := ((each.get("state") or {}).get("waiting") or {}).get("reason"))}
    homeless = any(c.get("type") == "PodScheduled" and c.get("status") == "False" for c in status.get("conditions") or [])
    young = age([meta["creationTimestamp"]]) < seconds
    return young and not homeless and waiting <= {*STARTING} and not any(each.get("restartCount") for each in states)


def _scaling_trouble(scaler: dict[str, Any]) -> str:
    """Why an autoscaler does not work, in its own words; empty where it does, or is paused."""
    for condition in scaler.get("status", {}).get("conditions") or []:
        if condition["type"] not in WORKING or condition["status"] != "False" or condition.get("reason") == "ScalingDisabled":
            continue
        since = condition.get("lastTransitionTime")  # KEDA has none
        if not since or age([since]) > LEARNING:
            return f"{autoscalers.named(scaler)} can't scale: {condition.get('message') or condition.get('reason')}"
    return ""


def look(run: Run) -> list[Result]:
    return [run.of_deployment("rollout", lambda: judge(run.deployment, run.pods, scalers(run, run.target.name)))]


def scalers(run: Run, name: str) -> list[dict[str, Any]]:
    """The autoscalers of a Deployment; none where they can't be read."""

    def read(path: str) -> tuple[int, dict[str, Any]]:
        try:
            return 200, run.get(path)
        except ApiError as error:
            return error.status, {}

    return autoscalers.targeting(read, run.target.namespace, name) or []


def next_command(run: Run) -> str:
    return run.target.kubectl("describe", "pods", "-l", f"app={run.target.name}")
