# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule of the namespace's PrometheusRules is loaded and evaluates without an error."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...kube.selectors import selects
from ...monitoring.names import ALERTS
from ..facts import late
from ..result import Result, failed, left_out, ok
from ..run import Run
from ..stack import OPERATOR, rules_of


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack = run.stack
    namespace = run.target.namespace
    objects = [item for item in stack.objects["prometheusrules"] if _for_this_one(run, item)]
    gone = [f"the PrometheusRule {name} is gone" for name in stack.gone("PrometheusRule", objects)]
    if not objects and not gone:
        return [left_out("rules", f"namespace {namespace} has no PrometheusRule")]
    path = f"{stack.api}/api/v1/rules"
    query = f"GET {OPERATOR}/v1/namespaces/{namespace}/prometheusrules and {path}"
    problems, unloaded, count = judge(namespace, objects, stack.ask(path)["data"]["groups"])
    problems = gone + problems
    if problems:
        command = stack.command("logs", f"prometheus-{stack.server['metadata']['name']}-0", "-c", "prometheus", "--tail=50")
        if gone or unloaded or "taken out" in problems[0]:
            command = run.target.kubectl("get", "prometheusrules", "-o", "yaml")
        evidence = f"{len(problems)} problems with {count} rules"
        return [failed("rules", evidence, "; ".join(problems[:4]), query, command)]
    return [ok("rules", f"{count} rules in {len(objects)} PrometheusRules loaded, no evaluation error", query)]


def judge(namespace: str, objects: list[dict[str, Any]], groups: list[dict[str, Any]]) -> tuple[list[str], bool, int]:
    """What is wrong with PrometheusRules of a namespace and the *groups* that Prometheus evaluates; whether some are not loaded;
    and how many rules there are.
    """
    problems: list[str] = []
    count, unloaded = 0, False
    for item in objects:
        name = item["metadata"]["name"]
        alerts = {rule.get("alert") for rule in rules_of(item)}
        written = (item["metadata"].get("annotations") or {}).get(ALERTS, "").split()
        problems += [f"the alert {lost} was taken out of the PrometheusRule {name}" for lost in written if lost not in alerts]
        # The operator's file is <namespace>-<name>-<uid>.yaml.
        loaded = {g["name"]: g for g in groups if g["file"].rsplit("/", 1)[-1].startswith(f"{namespace}-{name}-")}
        for group in item["spec"].get("groups") or []:
            found = loaded.get(group["name"], {"name": group["name"], "rules": []})
            wanted, there = len(group.get("rules") or []), found["rules"]
            count += wanted
            if len(there) != wanted:
                unloaded = True
                problems.append(f"{len(there)} of {wanted} rules of the group {group['name']} ({name}) are loaded")
            problems += [f"{r['name']}: {r['lastError']}" for r in there if r.get("lastError")]
            problems += [late(found)] if late(found) else []
    return problems, unloaded, count


def _for_this_one(run: Run, rule: dict[str, Any]) -> bool:
    """Whether a PrometheusRule is this Prometheus' affair; beside others it may be one of theirs."""
    stack = run.stack
    selector = stack.server["spec"].get("ruleSelector")
    taken = selector is not None and selects(selector, rule["metadata"].get("labels") or {})
    return stack.alone or taken or rule in stack.ours()
