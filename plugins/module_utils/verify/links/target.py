# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus scrapes every running pod of the app."""

from __future__ import annotations

from functools import partial

from ..result import Result, failed, ok
from ..run import Run


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack, target = run.stack, run.target
    path = f"{stack.api}/api/v1/targets?state=active"
    found = stack.ask(path)["data"]["activeTargets"]
    names = {p["metadata"]["name"] for p in run.pods}
    ours = [t for t in found if t["labels"].get("namespace") == target.namespace and t["labels"].get("pod") in names]
    pods = {p["metadata"]["name"] for p in run.pods if p.get("status", {}).get("phase") == "Running"}
    missing = sorted(pods - {t["labels"]["pod"] for t in ours})
    causes = [f"the ServiceMonitor {name} is gone" for name in stack.gone("ServiceMonitor", stack.objects["servicemonitors"])]
    causes += [f"{t['scrapeUrl']}: {t['lastError'] or t['health']}" for t in ours if t["health"] != "up"]
    causes += [f"no target for pod {pod}: no ServiceMonitor that this Prometheus selects leads to it" for pod in missing]
    up = sum(t["health"] == "up" for t in ours)
    if causes:
        command = target.kubectl("get", "servicemonitors,podmonitors,endpointslices", "-o", "wide")
        evidence = f"{up} of {len(pods)} pods are scraped"
        return [failed("target", evidence, "; ".join(causes[:4]), f"GET {path}", command)]
    return [ok("target", f"{len(pods)} pods scraped through {len(ours)} targets, all up", f"GET {path}")]
