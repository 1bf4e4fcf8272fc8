# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain: a table of its links, and the verification that follows them side by side.

A link is one file in links/, one line of CHAIN and one section of docs/verify.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..credentials.guard import hide
from ..kube.transport import Cluster
from .links import (
    alert_path,
    alert_routes,
    alertmanager,
    clocks,
    dashboards,
    data_sources,
    dead_mans_switch,
    dead_rules,
    endpoint,
    exporters,
    grafana,
    health,
    health_probe,
    image,
    log_agent,
    log_alerts,
    log_store,
    logs,
    metrics,
    metrics_stack,
    named_receivers,
    node,
    outside,
    parts,
    probes,
    prometheus,
    promise,
    receivers,
    reference_probes,
    rollout,
    route,
    ruler,
    rules,
    target,
    workers,
)
from .log_agents import pods_of
from .result import FAILED, SKIPPED, Look, Result, skipped
from .run import Run, Target

SECOND_LOOK = 3.0  # seconds
# Families: what is followed together.
APP, PROMISE, LOGS, STACK, NO_STACK, OUTSIDE = "application", "promise", "log lines", "stack", "no stack", "outside"


def families(run: Run) -> set[str]:
    """Those that this verification follows."""
    if run.target.app_only:
        return {APP}
    return {APP, PROMISE, LOGS, OUTSIDE, NO_STACK if run.stack.absent else STACK}


def pods_of_logging(run: Run) -> str:
    return pods_of(run.target)


def pods_of_the_stack(run: Run) -> str:
    return run.stack.command("get", "pods", "-o", "wide")


@dataclass(frozen=True)
class Link:
    """A line of the table.

    :param rows: the names of its rows, each with the rows without which it can't work. The dots of a name are filled in.
    :param look: what is followed; where it breaks off, all of its rows are broken.
    :param next_command: where to look next for a broken row that names no command itself.
    :param only_notes: whether nothing that it says is a failure.
    :param late: whether what is wrong shows after a while only, so that it is looked at again where what needs it is broken.
    :param always: whether it is followed even where the app is to have no pods: only a look shows its rows, or it sees more.
    """

    rows: dict[str, tuple[str, ...]]
    family: str
    look: Callable[[Run], list[Result]]
    next_command: Callable[[Run], str] = lambda _run: ""
    only_notes: bool = False
    late: bool = False
    always: bool = False

    @property
    def title(self) -> str:
        return ", ".join(self.rows)

    def follow(self, run: Run, idle: str = "") -> list[Result]:
        """What is found; *idle* says why the app is to have no pods, so that nobody waits for what needs them."""
        if idle and not self.always and all(map(needs_pods, self.rows)):
            return [skipped(row, idle) for row in self.rows]
        results = run.followed(Look(tuple(self.rows), partial(self.look, run)))
        for result in results:
            if result.status == FAILED and self.only_notes:
                result.status, result.evidence, result.cause = SKIPPED, f"{result.evidence}: {result.cause}", ""
            if result.status == FAILED:
                result.next_command = result.next_command or self.next_command(run)
        return results


STORE_NEEDS = ("logs", "log agent")
STORE_ROWS = dict.fromkeys(("loki", "victoria_logs", "elasticsearch", "opensearch", "cloudwatch"), STORE_NEEDS)

CHAIN = (
    Link({"node": ()}, APP, node.look, node.next_command),
    Link({"image": ("node",)}, APP, image.look, image.next_command),
    Link({"probes": ()}, APP, probes.look, probes.next_command),
    Link({"reference probes": ()}, APP, reference_probes.look, only_notes=True),
    Link({"rollout": ("node", "image", "probes")}, APP, rollout.look, rollout.next_command, always=True),
    Link({"worker ...": ()}, APP, workers.look, rollout.next_command),
    Link({"endpoint": ("rollout",)}, APP, endpoint.look, endpoint.next_command),
    Link({"health": ("endpoint",)}, APP, health.look, health.next_command),
    Link(
        {"metric requests": ("rollout",), "metric duration": ("metric requests",), "metric exceptions": ("metric requests",)},
        APP,
        metrics.look,
        metrics.next_command,
    ),
    Link({"logs": ("endpoint", "health")}, APP, logs.look, logs.next_command),
    Link({"route": ("endpoint", "health", "logs")}, APP, route.look, route.next_command),
    Link({"promise": ()}, PROMISE, promise.look, promise.next_command),
    Link({"log agent": ("node",)}, LOGS, log_agent.look, pods_of_logging, late=True),
    Link({**STORE_ROWS, log_store.UNKNOWN: ()}, LOGS, log_store.look, pods_of_logging, always=True),
    Link({"log alerts": ("logs", "log agent", "prometheus")}, LOGS, log_alerts.look, pods_of_logging),
    Link({"ruler": ("loki", "alertmanager")}, LOGS, ruler.look, pods_of_logging, always=True),
    Link({"metrics stack": ("promise",)}, NO_STACK, metrics_stack.look, metrics_stack.next_command),
    Link({"prometheus": ()}, STACK, prometheus.look, pods_of_the_stack),
    Link({"exporters": ("prometheus",)}, STACK, exporters.look, pods_of_the_stack),
    Link({"target": ("prometheus", "metric requests", "metric duration")}, STACK, target.look, pods_of_the_stack),
    Link({"health probe": ("prometheus", "exporters", "health")}, STACK, health_probe.look, pods_of_the_stack),
    Link({"rules": ("prometheus",)}, STACK, rules.look, pods_of_the_stack),
    Link(
        {"dashboards": ("prometheus", "exporters", "target", "health probe", "rules")}, STACK, dashboards.look, pods_of_the_stack
    ),
    Link(
        {"dead rules": ("prometheus", "exporters", "target", "health probe", "rules", "log alerts", "dashboards")},
        STACK,
        dead_rules.look,
        dead_rules.next_command,
    ),
    Link({"data sources": ("prometheus", "loki", "victoria_logs")}, STACK, data_sources.look, pods_of_the_stack, always=True),
    Link({"grafana": ()}, STACK, grafana.look, pods_of_the_stack),
    Link({"clocks": ("prometheus",)}, STACK, clocks.look, pods_of_the_stack),
    Link({"alertmanager": ("prometheus",)}, STACK, alertmanager.look, pods_of_the_stack),
    Link({"alert routes": ("rules", "alertmanager")}, STACK, alert_routes.look, alert_routes.next_command),
    Link({"alert path": ("exporters", "rules", "alertmanager")}, STACK, alert_path.look, pods_of_the_stack),
    Link({"receivers": ("alertmanager", "alert path")}, STACK, receivers.look, pods_of_the_stack),
    Link(
        {"dead man's switch": ("alertmanager", "alert routes", "receivers")},
        STACK,
        dead_mans_switch.look,
        dead_mans_switch.next_command,
    ),
    Link({"receiver ...": ()}, OUTSIDE, named_receivers.look, named_receivers.next_command),
    Link({"check at ...": ()}, OUTSIDE, outside.look, outside.next_command),
    Link({"part ...": ()}, APP, parts.look, only_notes=True),
)
# A row, and those without which it can't work.
NEEDS = {row: needs for link in CHAIN for row, needs in link.rows.items()}


def needs_pods(row: str) -> bool:
    return row == "rollout" or any(map(needs_pods, NEEDS.get(row, ())))


def explain(results: list[Result]) -> None:
    """Give each broken row the name of the broken one that it follows from: the farthest that NEEDS leads to.

    What is broken because the app is to have no pods is skipped, as the rollout is.
    """
    idle = next((result for result in results if result.link == "rollout" and result.status == SKIPPED), None)

    for result in results:
        if idle and result.status == FAILED and needs_pods(result.link):
            result.status, result.evidence, result.cause, result.next_command = SKIPPED, idle.evidence, "", ""

    broken = {result.link: result for result in results if result.status == FAILED}

    def root(link: str) -> str:
        found = [root(need) for need in NEEDS.get(link, ())]
        return next(filter(None, found), link if link in broken else "")

    for name, result in broken.items():
        source = root(name)
        result.follows = "" if source == name else source
    # What somebody has changed is blamed where it is felt, and as a broken promise where it is felt nowhere.
    felt = next((name for name, result in broken.items() if name != "promise" and not result.follows), "")
    if "promise" in broken and felt:
        broken["promise"].follows = felt


def verify(
    cluster: Cluster, target: Target, plain_get: Callable[..., tuple[int, str]] | None = None
) -> tuple[list[dict[str, Any]], str]:
    """Follow every link; give the results in the chain's order and the app's URL, that of its users where route is ok."""
    run = Run(cluster, target, plain_get)
    run.prepare()
    if target.app_only:
        run.stack.absent = "only the application is verified"
    else:
        run.stack.find()
    followed, idle = families(run), rollout.idle(run)
    links = [link for link in CHAIN if link.family in followed]
    with ThreadPoolExecutor(max_workers=len(links)) as pool:
        each = list(pool.map(lambda link: link.follow(run, idle), links))
    broken = {result.link for results in each for result in results if result.status == FAILED}
    for number, link in enumerate(links):
        if link.late and any(set(link.rows) & set(NEEDS.get(row, ())) for row in broken):
            # What was waited for until the end has left no time.
            run.deadline = max(run.deadline, time.monotonic() + SECOND_LOOK)
            each[number] = link.follow(run)
    found = [result for results in each for result in results]
    explain(found)
    # Whatever a backend or a provider says, and wherever it goes from here: a report, a table, an alert.
    secrets = run.secrets()
    for way in run.ways.values():
        way.close()
    for result in found:
        for name in ("evidence", "cause", "query", "next_command"):
            setattr(result, name, hide(getattr(result, name), secrets))
    return [result.as_dict() for result in found], run.front or run.url
