# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Deployment is rolled out completely."""

from __future__ import annotations

from typing import Any

from ...kube import autoscalers
from ...kube.transport import ApiError
from ..facts import is_ready, pod_trouble
from ..result import Result, failed, left_out, ok
from ..run import Run


def judge(deployment: dict[str, Any], pods: list[dict[str, Any]], autoscaler: str = "") -> Result:
    """The Deployment is rolled out completely; what its *autoscaler* has scaled to 0 is skipped."""
    spec = deployment.get("spec", {})
    status = deployment.get("status", {})
    wanted = spec.get("replicas", 1)
    updated, available = status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0
    total = status.get("replicas") or 0
    evidence = f"{available} of {wanted} replicas available, {updated} updated"
    if (status.get("observedGeneration") or 0) < deployment.get("metadata", {}).get("generation", 0):
        return failed("rollout", evidence, "the Deployment's newest version has not been seen by its controller yet")
    if not wanted and autoscaler:
        return left_out("rollout", f"scaled to 0 by {autoscaler}")
    if not wanted:
        return failed("rollout", evidence, "the Deployment is scaled to 0 replicas")
    if not updated == available == total == wanted:
        troubles = [pod_trouble(p) for p in pods if not is_ready(p)]
        return failed("rollout", evidence, "; ".join(troubles[:3]) or f"the rollout is not complete ({total} pods exist)")
    return ok("rollout", evidence)


def look(run: Run) -> list[Result]:
    return [run.of_deployment("rollout", lambda: judge(run.deployment, run.pods, _autoscaler(run)))]


def _autoscaler(run: Run) -> str:
    """What may have scaled the Deployment to 0, as its kind and name; empty where nothing has, or none can be read."""
    if run.deployment["spec"].get("replicas", 1):
        return ""

    def read(path: str) -> tuple[int, dict[str, Any]]:
        try:
            return 200, run.get(path)
        except ApiError as error:
            return error.status, {}

    return autoscalers.find(read, run.target.namespace, run.target.name) or ""


def next_command(run: Run) -> str:
    return run.target.kubectl("describe", "pods", "-l", f"app={run.target.name}")
