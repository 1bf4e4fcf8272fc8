# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each alert of ours would reach somebody: the loaded routes, time intervals, inhibitions and silences let it pass."""

from __future__ import annotations

import datetime
from typing import Any

from ...kube.transport import ApiError
from .. import notification
from ..result import Result, failed, ok, skipped
from ..run import Run
from ..stack import OPERATOR, OURS_SELECTED, file_of, files_of

LINK = "alert routes"
ADVICE = (
    "set kube_prometheus_stack_receivers or the application's receivers,"
    " or notified_severities of verify to [] where nobody is to be notified"
)


def look(run: Run) -> list[Result]:
    return run.settled(lambda: _look(run))


def next_command(run: Run) -> str:
    return str(run.stack.alertmanager_forward())


def _look(run: Run) -> list[Result]:
    stack, severities = run.stack, run.target.notified_severities
    if not severities:
        return [skipped(LINK, "nobody is to be notified, as notified_severities of verify says")]
    found = stack.alertmanagers()
    if not found:
        return [skipped(LINK, f"namespace {stack.alerting} has no Alertmanager that could be asked")]
    paths = list(dict.fromkeys(stack.alertmanager([item]) for item in found))
    query = f"GET {stack.api}/api/v1/rules and status/config; GET {' and '.join(paths)}/api/v2/status, silences and alerts"
    objects = stack.rules_of_ours()
    loaded, ours = alerts(run, files_of(objects))
    ours = notification.wanted(ours, severities)
    if not ours:
        return [skipped(LINK, "no alert of ours is loaded that somebody is to be notified of")]
    # Where Prometheus sends to several, one that notifies is enough.
    judge = min((_judged(run, path, loaded, ours) for path in paths), key=lambda each: len(each.problems))
    problems = judge.problems + unloaded(_configs(run), judge.kinds)
    evidence = f"{len(ours)} alerts of severity {' and '.join(severities)}"
    if problems:
        advice = f"; {ADVICE}" if any("notifies nobody" in problem for problem in problems) else ""
        return [failed(LINK, evidence, "; ".join(problems[:4]) + advice, query)]
    reached = ", ".join(f"{name} gets {count}" for name, count in sorted(judge.reached.items()))
    return [ok(LINK, "; ".join([f"{evidence}: {reached}", *judge.notes[:2]]), query)]


def _judged(run: Run, path: str, loaded: list[notification.Alert], ours: list[notification.Alert]) -> notification.Judge:
    """What the Alertmanager at a path would do with our alerts."""
    stack = run.stack
    firing = [alert["labels"] for alert in stack.ask(f"{path}/api/v2/alerts")]
    server = notification.Alertmanager(stack.alertmanager_config(path), stack.ask(f"{path}/api/v2/silences"), firing)
    judge = notification.Judge(server, loaded, datetime.datetime.now(datetime.UTC))
    judge.judge(ours)
    return judge


def alerts(run: Run, files: tuple[str, ...]) -> tuple[list[notification.Alert], list[notification.Alert]]:
    """All loaded alerts, and those of the files whose names begin so."""
    stack = run.stack
    config = stack.series.config()
    loaded: list[notification.Alert] = []
    ours: list[notification.Alert] = []
    for group in stack.ask(f"{stack.api}/api/v1/rules?type=alert")["data"]["groups"]:
        own = file_of(group).startswith(files)
        found = notification.read(group["rules"], stack.parsed if own else lambda _expr: None, config)
        loaded += found
        ours += found if own else []
    return loaded, ours


def _configs(run: Run) -> list[dict[str, Any]]:
    """The app's AlertmanagerConfigs that have receivers."""
    path = f"{OPERATOR}/v1alpha1/namespaces/{run.target.namespace}/alertmanagerconfigs?{OURS_SELECTED}"
    try:
        listed = run.get(path).get("items", [])
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        listed = []
    name = run.target.name
    return [i for i in listed if i["metadata"]["name"] == name and i.get("spec", {}).get("receivers")]


def unloaded(configs: list[dict[str, Any]], kinds: dict[str, list[str]]) -> list[str]:
    """What the operator has not brought into Alertmanager's configuration, where receivers bear the name of their object."""
    found = []
    for item in configs:
        meta = item["metadata"]
        begin = f"{meta['namespace']}/{meta['name']}/"
        if not any(name.startswith(begin) for name in kinds):
            found.append(
                f"the AlertmanagerConfig {meta['name']} is not in Alertmanager's configuration: the operator refuses it,"
                " or the Alertmanager's selector does not take it"
            )
    return found
