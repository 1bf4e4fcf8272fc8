# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Service leads to the app's ready pods."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..facts import is_ready, ready_endpoints
from ..result import Result, failed, ok
from ..run import Run, slices_path


def judge(
    service: dict[str, Any], slices: list[dict[str, Any]], pods: list[dict[str, Any]], labelled: list[dict[str, Any]]
) -> Result:
    """The Service leads to every ready one of the Deployment's *pods*, and to nothing that is not *labelled* as the app."""
    name = service.get("metadata", {}).get("name", "")
    reached = set(ready_endpoints(slices))
    ready = {p["metadata"]["name"] for p in pods if is_ready(p)}
    selector = ",".join(f"{k}={v}" for k, v in sorted((service.get("spec", {}).get("selector") or {}).items()))
    evidence = f"{len(reached & ready)} of {len(ready)} ready pods behind the selector {selector or 'none'}"
    if not reached:
        return failed("endpoint", evidence, f"the Service {name} leads to no pod: its selector is {selector or 'empty'}")
    if ready - reached:
        return failed("endpoint", evidence, f"the Service {name} does not lead to {', '.join(sorted(ready - reached))}")
    strangers = sorted(reached - {p["metadata"]["name"] for p in labelled})
    if strangers:
        return failed("endpoint", evidence, f"the Service {name} also leads to what is not the app: {', '.join(strangers)}")
    return ok("endpoint", evidence)


def look(run: Run) -> list[Result]:
    target = run.target
    if run.url_problem:
        return [failed("endpoint", "no way to the app", run.url_problem, f"GET {run.base}/services/{target.name}")]
    # A pod that has just become ready, or goes, is a moment away from its place among the endpoints.
    return run.settled(partial(_look, run), run.address_seconds)


def _look(run: Run) -> list[Result]:
    target = run.target
    slices = run.slices(target.namespace, target.name)
    labelled = run.get(run.pods_path).get("items", [])
    found = judge(run.service, slices, run.own(labelled), labelled)
    return [found.asked(f"GET {slices_path(target.namespace, target.name)}")]


def next_command(run: Run) -> str:
    return run.target.kubectl("get", "service,endpointslices,pods", "-o", "wide")
