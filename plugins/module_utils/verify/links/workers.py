# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each worker of the application is rolled out completely, or scaled to 0, as one is that has nothing to do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ...kube.selectors import selector_of
from ..result import Result, skipped
from ..run import Run
from . import rollout

WORKER = "flaskops/worker"


def look(run: Run) -> list[Result]:
    """A row for each worker; there is none where the application has none."""
    target = run.target
    query = (
        f"/apis/apps/v1/namespaces/{target.namespace}/deployments?{urlencode({'labelSelector': f'{WORKER},app={target.name}'})}"
    )
    return [_judged(run, each) for each in run.get(query).get("items") or []]


def _judged(run: Run, deployment: dict[str, Any]) -> Result:
    name, row, selector = (
        deployment["metadata"]["name"],
        f"worker {deployment['metadata']['labels'][WORKER]}",
        selector_of(deployment),
    )
    if not deployment["spec"].get("replicas", 1):
        return skipped(row, "scaled to 0 replicas")
    pods = f"{run.base}/pods?{urlencode({'labelSelector': selector})}"
    result = rollout.judge(deployment, run.get(pods).get("items") or [], rollout.scalers(run, name))
    result.link = row
    if result.cause:
        result.next_command = run.target.kubectl("describe", "pods", "-l", selector)
    return result.asked(f"GET /apis/apps/v1/namespaces/{run.target.namespace}/deployments/{name} and {pods}")
