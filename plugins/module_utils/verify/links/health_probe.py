# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blackbox exporter gets an answer from what the Probes ask."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

from .. import queries
from ..facts import IN_CLUSTER, app_container
from ..result import Result, failed, ok, skipped
from ..run import Run
from ..stack import OPERATOR
from .health import question


def look(run: Run) -> list[Result]:
    """The blackbox exporter gets an answer from what the Probes ask, which need not be what the app's own probes ask."""
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack, target = run.stack, run.target
    objects = stack.probes()
    expr = queries.filled("probe", namespace=target.namespace, name=target.name)
    command = target.kubectl("describe", "probes")
    causes = [f"the Probe {name} is gone" for name in stack.gone("Probe", objects)]
    causes += [
        f"the Probe {name} gives series of the job {job} too, which alerts take for the app's: give it another jobName"
        for name, job in strangers(stack.objects["probes"], stack.ours())
        if _targets(run, name)
    ]
    if causes:
        return [failed("health probe", f"{len(objects)} Probes", causes[0], f"GET {OPERATOR}/v1/.../probes", command)]
    series = stack.query(expr)
    query = f"PromQL {expr}"
    if not series and not objects:
        return [skipped("health probe", f"namespace {target.namespace} has no Probe of {target.name}")]
    silent = unanswered(objects, stack.ours(), {s["metric"].get("instance", "") for s in series})
    if silent:
        causes = []
        for name, urls in silent.items():
            error = _probe_error(run, name)
            causes.append(
                f"the Probe {name} gives no probe_success{' for ' if urls else ''}{', '.join(urls)}: "
                + (f"the exporter says {error}" if error else "its exporter can't be reached, or no Prometheus selects it")
            )
        evidence = f"{len(series)} series probe_success of {len(objects)} Probes"
        return [failed("health probe", evidence, "; ".join(causes), query, command)]
    failing = [s["metric"].get("instance", "?") for s in series if s["value"][1] != "1"]
    if failing:
        cause = f"the probe of {', '.join(failing)} fails"
        asked = question(app_container(run.deployment, target.name), target.port)
        inside = {parts.path for parts in map(urlsplit, failing) if IN_CLUSTER.match(parts.hostname or "")}
        if not asked.instead_of and inside - {asked.shown}:
            cause += f"; the readiness probe asks {asked.shown}, and app_monitoring_health_path says what the Probe asks"
        return [failed("health probe", "probe_success is 0", cause, query, command)]
    names = ", ".join(sorted(s["metric"].get("instance", "?") for s in series))
    return [ok("health probe", f"probe_success is 1 for {names}", query)]


def strangers(probes: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Name and job of each Probe of somebody else that has the job of one of *ours*."""
    jobs = {item["spec"].get("jobName") for item in probes if item in ours} - {None}
    others = [(item["metadata"]["name"], item["spec"].get("jobName")) for item in probes if item not in ours]
    return [(name, job) for name, job in others if job in jobs]


def unanswered(objects: list[dict[str, Any]], ours: list[dict[str, Any]], instances: set[str]) -> dict[str, list[str]]:
    """The Probes that give no series, by their names, with the addresses that are not among the *instances* of the series.

    Whoever made another Probe may call its instances as they like, so these are looked at together.
    """
    found = {}
    for item in objects:
        asked = ((item["spec"].get("targets") or {}).get("staticConfig") or {}).get("static") or []
        silent = [url for url in asked if url not in instances] if item in ours else []
        if silent or not instances:
            found[item["metadata"]["name"]] = silent
    return found


def _targets(run: Run, name: str) -> list[dict[str, Any]]:
    """What Prometheus scrapes for a Probe."""
    pool = f"probe/{run.target.namespace}/{name}"
    found = run.stack.ask(f"{run.stack.api}/api/v1/targets?{urlencode({'state': 'active', 'scrapePool': pool})}")
    return [target for target in found["data"]["activeTargets"] if target.get("scrapePool") == pool]


def _probe_error(run: Run, name: str) -> str:
    """What the last scrape of a Probe's target ended with."""
    errors = [target["lastError"] for target in _targets(run, name) if target.get("lastError")]
    return errors[0] if errors else ""
