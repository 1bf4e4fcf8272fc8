# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus scrapes every running pod of the app."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..result import FAILED, Result, failed, ok
from ..run import Run
from ..stack import Server, told_apart

UNLED = "no ServiceMonitor that this Prometheus selects leads to it"


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack, namespace = run.stack, run.target.namespace
    path = "/api/v1/targets?state=active"
    found = {
        server: [t for t in answer["data"]["activeTargets"] if t["labels"].get("namespace") == namespace]
        for server, answer in stack.ask_each(stack.servers(), path).items()
    }
    gone = stack.gone("ServiceMonitor", stack.objects["servicemonitors"])
    result = judge(found, run.pods, gone).asked(f"GET {stack.api}{path}")
    if result.status == FAILED:
        result.next_command = run.target.kubectl("get", "servicemonitors,podmonitors,endpointslices", "-o", "wide")
    return [result]


def judge(targets: dict[Server, list[dict[str, Any]]], pods: list[dict[str, Any]], gone: list[str]) -> Result:
    """Each running pod has a target at each replica of a shard, all targets of the pods are up, and no ServiceMonitor is *gone*.

    :param targets: those of the app's namespace at each pod of Prometheus.
    """
    names = {p["metadata"]["name"] for p in pods}
    running = {p["metadata"]["name"] for p in pods if p.get("status", {}).get("phase") == "Running"}
    ours = {server: [t for t in found if t["labels"].get("pod") in names] for server, found in targets.items()}
    causes: dict[Server, list[str]] = {}
    for server, own in ours.items():
        elsewhere = [t for other, found in ours.items() if other.group != server.group for t in found]
        missing = sorted(running - {t["labels"]["pod"] for t in [*own, *elsewhere]})
        pools = {t.get("scrapePool", "") for t in targets[server]}
        replicas = [t for other, found in targets.items() if other.group == server.group for t in found]
        lost = {t.get("scrapePool", "") for t in replicas if t["labels"].get("pod") not in missing} - pools
        causes[server] = [f"{t['scrapeUrl']}: {t['lastError'] or t['health']}" for t in own if t["health"] != "up"]
        causes[server] += [
            f"no target for pod {pod}: no ServiceMonitor that this Prometheus selects leads to it" for pod in missing
        ]
        causes[server] += [f"no target of {pool}, which another replica has" for pool in sorted(lost)]
    problems = [f"the ServiceMonitor {name} is gone" for name in gone] + told_apart(causes)
    # Replicas have the same targets, shards have others.
    scraped = {(t.get("scrapePool"), t["scrapeUrl"]): t["labels"]["pod"] for found in ours.values() for t in found}
    by = f" by {len(targets)} pods of Prometheus" if len(targets) > 1 else ""
    if problems:
        down = {t["labels"]["pod"] for found in ours.values() for t in found if t["health"] != "up"}
        evidence = f"{len(set(scraped.values()) - down)} of {len(running)} pods are scraped{by}"
        return failed("target", evidence, "; ".join(problems[:4]))
    return ok("target", f"{len(running)} pods scraped through {len(scraped)} targets{by}, all up")
