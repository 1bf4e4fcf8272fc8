# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus scrapes every running pod of the app."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

from ...monitoring.durations import seconds
from .. import queries
from ..facts import is_live, is_ready, overdue
from ..result import FAILED, Result, failed, ok
from ..run import Run
from ..stack import Server, told_apart

STORED = ("flask_http_request_total", "flask_http_request_duration_seconds_count")  # whatever the app's own page calls them
SLACK = 5.0  # seconds between a scrape and its samples

Targets = dict[Server, list[dict[str, Any]]]


def look(run: Run) -> list[Result]:
    seen: Targets = {}
    found = run.settled(partial(_look, run, seen))
    if found[0].status == FAILED or not any(part[0] == "ServiceMonitor" for part in run.stack.parts()):
        return found  # by another monitor the series may have any name
    # A pod that nobody has asked yet has series from verify's own request on, which the next scrape brings.
    every = [t.get("scrapeInterval", "0s") for own in seen.values() for t in own]
    patience = max([run.settle, *(seconds(text) + SLACK for text in every if text != "0s")])
    return run.settled(partial(_stored, run, seen, found[0]), patience)


def _look(run: Run, seen: Targets) -> list[Result]:
    stack, namespace = run.stack, run.target.namespace
    path = "/api/v1/targets?state=active"
    seen.clear()
    for server, answer in stack.ask_each(stack.servers(), path).items():
        seen[server] = [t for t in map(placed, answer["data"]["activeTargets"]) if t["labels"].get("namespace") == namespace]
    problems = [f"the ServiceMonitor {name} is gone" for name in stack.gone("ServiceMonitor", stack.objects["servicemonitors"])]
    parts = stack.parts()
    problems += doubled(seen, run.target.name, parts)
    # One that goes has no endpoint any more, or answers no scrape.
    pods = list(filter(is_live, run.own(run.get(run.pods_path).get("items", []))))
    result = judge(seen, pods, problems, begins(parts)).asked(f"GET {stack.api}{path}")
    if result.status == FAILED:
        result.next_command = run.target.kubectl("get", "servicemonitors,podmonitors,endpointslices", "-o", "wide")
    return [result]


def _stored(run: Run, seen: Targets, up: Result) -> list[Result]:
    """The target is up: is what it tells kept?"""
    expr = queries.filled("stored", namespace=run.target.namespace, name=run.target.name)
    query = f"{up.query}; PromQL {expr}"
    stored = run.stack.query_each(list(seen), expr)
    # Pods that are not ready got no request from here.
    problems = unstored(stored, {p["metadata"]["name"] for p in run.pods if is_ready(p)})
    if not problems:
        return [ok("target", up.evidence, query)]
    command = run.target.kubectl("get", "servicemonitors", "-o", "yaml")
    return [failed("target", up.evidence, "; ".join(problems[:4]), query, command)]


def placed(target: dict[str, Any]) -> dict[str, Any]:
    """A target with the namespace and pod that it was found by: a relabeling may have changed its labels."""
    told = target.get("discoveredLabels") or {}
    found = {"namespace": told.get("__meta_kubernetes_namespace"), "pod": told.get("__meta_kubernetes_pod_name")}
    return {**target, "labels": {**target["labels"], **{name: value for name, value in found.items() if value}}}


def stale(target: dict[str, Any]) -> str:
    """Why the last scrape of a target says nothing of now; empty where it does."""
    if not target.get("lastScrape") or not target.get("scrapeInterval"):
        return ""
    age = overdue(datetime.datetime.fromisoformat(target["lastScrape"]), seconds(target["scrapeInterval"]))
    return f"{target['scrapeUrl']}: the last scrape was {age:.0f} s ago" if age else ""


def unstored(stored: Targets, pods: set[str]) -> list[str]:
    """Which pods' series are missing from a pod of Prometheus, though it scrapes them.

    :param stored: series with the labels pod and name, as each has them.
    """
    causes = {}
    for server, own in stored.items():
        elsewhere = [s for other, found in stored.items() if other.group != server.group for s in found]
        there = {(s["metric"].get("pod"), s["metric"].get("__name__")) for s in [*own, *elsewhere]}
        lacking = {name: sorted(pod for pod in pods if (pod, name) not in there) for name in STORED}
        causes[server] = [
            f"up, but {name} of pod {', '.join(which)} is not stored: a relabeling drops it, or nothing is written"
            for name, which in lacking.items()
            if which
        ]
    return told_apart(causes)


def begins(parts: list[tuple[str, ...]]) -> tuple[str, ...]:
    """How the pools of the app's scrapes begin; empty where no ServiceMonitor was installed, so that they are somebody's."""
    return tuple(f"serviceMonitor/{namespace}/{name}/" for kind, namespace, name in parts if kind == "ServiceMonitor")


def doubled(targets: Targets, job: str, ours: list[tuple[str, ...]]) -> list[str]:
    """Scrapes of somebody else whose series bear the job of ours: alerts and dashboards take them for the app's.

    :param targets: those of the app's namespace at each pod of Prometheus.
    :param ours: kind, namespace and name of what was installed; without a ServiceMonitor the app's are somebody's.
    """
    own_pools = begins(ours)
    pools = {t.get("scrapePool", "") for found in targets.values() for t in found if t["labels"].get("job") == job}
    others = [pool.rpartition("/")[0] or pool for pool in sorted(pools) if own_pools and not pool.startswith(own_pools)]
    return [f"{pool} gives series of the job {job} too: give it another job by its jobLabel or a relabeling" for pool in others]


def judge(targets: Targets, pods: list[dict[str, Any]], objects: list[str], own_pools: tuple[str, ...] = ()) -> Result:
    """Each running pod has a target at each replica of a shard, and all targets of the pods are up.

    :param targets: those of the app's namespace at each pod of Prometheus. :param objects: what is wrong with what leads to them.
    :param own_pools: how the pools of the app's begin, as begins() has it: others scrape its pods too, such as a service mesh.
    """
    names = {p["metadata"]["name"] for p in pods}
    running = {p["metadata"]["name"] for p in pods if p.get("status", {}).get("phase") == "Running"}

    def is_ours(item: dict[str, Any]) -> bool:
        pool = item.get("scrapePool", "")
        return item["labels"].get("pod") in names and (not own_pools or not pool or pool.startswith(own_pools))

    ours = {server: [t for t in found if is_ours(t)] for server, found in targets.items()}
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
        causes[server] += [text for t in own if t["health"] == "up" and (text := stale(t))]
        causes[server] += [f"no target of {pool}, which another replica has" for pool in sorted(lost)]
    problems = objects + told_apart(causes)
    # Replicas have the same targets, shards have others.
    scraped = {(t.get("scrapePool"), t["scrapeUrl"]): t["labels"]["pod"] for found in ours.values() for t in found}
    by = f" by {len(targets)} pods of Prometheus" if len(targets) > 1 else ""
    if problems:
        down = {t["labels"]["pod"] for found in ours.values() for t in found if t["health"] != "up"}
        evidence = f"{len(set(scraped.values()) - down)} of {len(running)} pods are scraped{by}"
        return failed("target", evidence, "; ".join(problems[:4]))
    return ok("target", f"{len(running)} pods scraped through {len(scraped)} targets{by}, all up")
