# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule of the namespace's PrometheusRules is loaded as it stands there, and evaluates without an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ...kube.selectors import selects
from ...monitoring.durations import seconds
from ...monitoring.names import ALERTS
from ..facts import late
from ..result import Result, failed, ok, skipped
from ..run import Run
from ..stack import OPERATOR, file_of, files_of, rules_of, told_apart


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack = run.stack
    namespace = run.target.namespace
    objects = [item for item in stack.objects["prometheusrules"] if _for_this_one(run, item)]
    gone = [f"the PrometheusRule {name} is gone" for name in stack.gone("PrometheusRule", objects)]
    if not objects and not gone:
        return [skipped("rules", f"namespace {namespace} has no PrometheusRule")]
    path = f"{stack.api}/api/v1/rules"
    query = f"GET {OPERATOR}/v1/namespaces/{namespace}/prometheusrules and {path}"

    @cache
    def same(one: str, other: str) -> bool:
        if stack.server["spec"].get("enforcedNamespaceLabel"):
            return True  # the operator writes a matcher into each expression, and a label on each rule
        trees = [plain(stack.parsed(expr)) for expr in (one, other)]
        return trees[0] == trees[1]  # before Prometheus 3 there is none, and nothing is said

    found = {
        server: judge(objects, answer["data"]["groups"], same)
        for server, answer in stack.ask_each(stack.servers(), "/api/v1/rules").items()
    }
    unloaded, count = any(found[server][1] for server in found), max(found[server][2] for server in found)
    problems = gone + told_apart({server: wrong for server, (wrong, _unloaded, _count) in found.items()})
    if problems:
        command = stack.command("logs", f"prometheus-{stack.server['metadata']['name']}-0", "-c", "prometheus", "--tail=50")
        if gone or unloaded or "taken out" in problems[0]:
            command = run.target.kubectl("get", "prometheusrules", "-o", "yaml")
        evidence = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} with {count} rules"
        return [failed("rules", evidence, "; ".join(problems[:4]), query, command)]
    where = f" by each of {len(found)} pods" if len(found) > 1 else ""
    return [ok("rules", f"{count} rules in {len(objects)} PrometheusRules loaded{where}, no evaluation error", query)]


def judge(
    objects: list[dict[str, Any]], groups: list[dict[str, Any]], same: Callable[[str, str], bool]
) -> tuple[list[str], bool, int]:
    """What is wrong with PrometheusRules and the *groups* that Prometheus evaluates; whether some are not loaded;
    and how many rules there are.

    :param same: whether two expressions mean the same, however they are written.
    """
    problems: list[str] = []
    count, unloaded = 0, False
    for item in objects:
        name = item["metadata"]["name"]
        alerts = {rule.get("alert") for rule in rules_of(item)}
        written = (item["metadata"].get("annotations") or {}).get(ALERTS, "").split()
        problems += [f"the alert {lost} was taken out of the PrometheusRule {name}" for lost in written if lost not in alerts]
        loaded = {g["name"]: g for g in groups if file_of(g).startswith(files_of([item]))}
        for group in item["spec"].get("groups") or []:
            found = loaded.get(group["name"], {"name": group["name"], "rules": []})
            wanted, there = len(group.get("rules") or []), found["rules"]
            count += wanted
            if len(there) != wanted:
                unloaded = True
                problems.append(f"{len(there)} of {wanted} rules of the group {group['name']} ({name}) are loaded")
            else:
                pairs = zip(group.get("rules") or [], there, strict=True)
                problems += [text for pair in pairs if (text := differing(*pair, same))]
            problems += [f"{r['name']}: {r['lastError']}" for r in there if r.get("lastError")]
            problems += [late(found)] if late(found) else []
    return problems, unloaded, count


def plain(tree: Any) -> Any:
    """A tree of an expression whose matchers have one order: Prometheus prints them sorted."""
    if isinstance(tree, list):
        return [plain(inner) for inner in tree]
    if not isinstance(tree, dict):
        return tree
    found = {key: plain(value) for key, value in tree.items()}
    if isinstance(found.get("matchers"), list):
        found["matchers"].sort(key=lambda matcher: sorted(matcher.items()))
    return found


def differing(wanted: dict[str, Any], there: dict[str, Any], same: Callable[[str, str], bool]) -> str:
    """Why a loaded rule is not the one that the PrometheusRule has; empty where it is."""
    name = wanted.get("alert") or wanted.get("record") or ""
    if there["name"] != name:
        return f"{there['name']} is evaluated in the place of {name}"
    labels = {key: str(value) for key, value in (wanted.get("labels") or {}).items()}
    other = [
        word
        for word, differs in (
            ("for", "duration" in there and seconds(wanted.get("for") or "0s") != float(there["duration"])),
            ("labels", not labels.items() <= (there.get("labels") or {}).items()),
            ("expr", _other_expr(str(wanted.get("expr", "")), str(there.get("query", "")), same)),
        )
        if differs
    ]
    return f"{name} is evaluated with another {' and '.join(other)} than its PrometheusRule has" if other else ""


def _other_expr(one: str, other: str, same: Callable[[str, str], bool]) -> bool:
    return "".join(one.split()) != "".join(other.split()) and not same(one, other)


def _for_this_one(run: Run, rule: dict[str, Any]) -> bool:
    """Whether a PrometheusRule is this Prometheus' affair; beside others it may be one of theirs."""
    stack = run.stack
    selector = stack.server["spec"].get("ruleSelector")
    taken = selector is not None and selects(selector, rule["metadata"].get("labels") or {})
    return stack.alone or taken or rule in stack.ours()
