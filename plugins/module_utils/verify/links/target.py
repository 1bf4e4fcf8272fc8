# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus scrapes every running pod of the app."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..result import FAILED, Result, failed, ok
from ..run import Run


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack, namespace = run.stack, run.target.namespace
    path = f"{stack.api}/api/v1/targets?state=active"
    found = [t for t in stack.ask(path)["data"]["activeTargets"] if t["labels"].get("namespace") == namespace]
    gone = stack.gone("ServiceMonitor", stack.objects["servicemonitors"])
    result = judge(found, run.pods, gone).asked(f"GET {path}")
    if result.status == FAILED:
        result.next_command = run.target.kubectl("get", "servicemonitors,podmonitors,endpointslices", "-o", "wide")
    return [result]


def judge(targets: list[dict[str, Any]], pods: list[dict[str, Any]], gone: list[str]) -> Result:
    """Each running pod has a target, all targets of the pods are up, and no ServiceMonitor is *gone*."""
    names = {p["metadata"]["name"] for p in pods}
    ours = [t for t in targets if t["labels"].get("pod") in names]
    running = {p["metadata"]["name"] for p in pods if p.get("status", {}).get("phase") == "Running"}
    missing = sorted(running - {t["labels"]["pod"] for t in ours})
    causes = [f"the ServiceMonitor {name} is gone" for name in gone]
    causes += [f"{t['scrapeUrl']}: {t['lastError'] or t['health']}" for t in ours if t["health"] != "up"]
    causes += [f"no target for pod {pod}: no ServiceMonitor that this Prometheus selects leads to it" for pod in missing]
    if causes:
        up = sum(t["health"] == "up" for t in ours)
        return failed("target", f"{up} of {len(running)} pods are scraped", "; ".join(causes[:4]))
    return ok("target", f"{len(running)} pods scraped through {len(ours)} targets, all up")
