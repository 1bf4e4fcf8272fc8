# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loki's ruler has your rules, as you wrote them, evaluates them without an error, and reaches an Alertmanager."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from ...kube.transport import ApiError, message_of
from ...monitoring.durations import seconds
from .. import log_stores, queries
from ..facts import IN_CLUSTER, late, ready_endpoints, scalar
from ..log_agents import services
from ..result import Result, failed, ok, skipped
from ..run import Run

# Texts and numbers of an expression. Loki writes it in a form of its own, in which these stay, but for sums of numbers.
CONSTANT = re.compile(r'"((?:\\.|[^"\\])*)"|`([^`]*)`|(?<![\w.])(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])')
SUM = re.compile(r"\d\s*[-+*/%^]\s*\d")


def look(run: Run) -> list[Result]:
    """Loki's ruler has the rules that are installed, evaluates them without an error, and reaches an Alertmanager."""
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    link, stack, service = "ruler", run.stack, next(iter(services(run.get, log_stores.STORES["loki"])), {})
    if not service:
        return []
    namespace, base = service["metadata"]["namespace"], log_stores.proxy(service)
    maps = _maps(run, namespace)
    wanted = {name for item in maps for name in (item["metadata"].get("annotations") or {}).get("flaskops/alerts", "").split()}
    if not wanted:
        return []
    command = run.target.kubectl("-n", namespace, "logs", "-l", "app.kubernetes.io/name=loki", "--tail=50", namespaced=False)
    query = f"GET {base}/prometheus/api/v1/rules and {base}/config"
    try:
        groups = run.get(f"{base}/prometheus/api/v1/rules")["data"]["groups"]
    except ApiError as error:
        cause = "this Loki runs no ruler" if error.status == 404 else str(error)
        return [failed(link, "not read", cause, query, command)]
    rules = [rule for group in groups for rule in group["rules"] or []]
    loaded = {rule["name"] for rule in rules}
    evidence = f"{len(rules)} rules loaded"
    problems = [f"the alert {name} is not loaded" for name in sorted(wanted - loaded)]
    problems += otherwise([rule for item in maps for rule in _written(item)], rules)
    problems += [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule.get("lastError")]
    problems += [why for group in groups if (why := late(group))]
    if not problems:
        target, problem = _alertmanager_of(run, base)
        evidence += f", evaluated, sent to {target}"
        problems = [problem] if problem else []
        if not stack.absent and not problems:
            failing = queries.filled("ruler_refused", namespace=namespace)
            query = f"{query}; PromQL {failing}"
            try:
                refused = stack.query(failing)
                if not stack.query(queries.filled("ruler_sent", namespace=namespace)):
                    evidence += ", though Prometheus has no count of what was"
            except ApiError as error:
                return [skipped(link, f"{evidence}; whether they arrive there is not known: {error}")]
            problems = [f"Loki's notifications to {s['metric'].get('alertmanager', target)} fail" for s in refused]
    if problems:
        return [failed(link, evidence, "; ".join(problems[:4]), query, command)]
    return [ok(link, evidence, query)]


def _maps(run: Run, namespace: str) -> list[dict[str, Any]]:
    """The ConfigMaps in which the role loki wrote down rules, and their alerts beside them."""
    selector = urlencode({"labelSelector": "app.kubernetes.io/part-of=loki,app.kubernetes.io/managed-by=flaskops"})
    found: list[dict[str, Any]] = run.get(f"/api/v1/namespaces/{namespace}/configmaps?{selector}").get("items", [])
    return found


def _written(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules of a ConfigMap."""
    if "flaskops/alerts" not in (item["metadata"].get("annotations") or {}):
        return []
    files = [yaml.safe_load(text) or {} for text in (item.get("data") or {}).values()]
    return [rule for file in files for group in file.get("groups") or [] for rule in group.get("rules") or []]


def otherwise(written: list[dict[str, Any]], loaded: list[dict[str, Any]]) -> list[str]:
    """The alerts that Loki evaluates in another way than they were written."""
    problems = []
    for rule in written:
        same = [each for each in loaded if each["name"] == rule.get("alert")]
        found = [differing(rule, each) for each in same]
        if found and all(found):
            problems.append(f"{rule['alert']} is evaluated with another {' and '.join(found[0])} than it was written with")
    return problems


def differing(written: dict[str, Any], loaded: dict[str, Any]) -> list[str]:
    """In what a loaded rule differs from the one that was written."""
    labels = {key: str(value) for key, value in (written.get("labels") or {}).items()}
    waits = "duration" in loaded and seconds(written.get("for") or "0s") != float(loaded["duration"])
    told = "labels" in loaded and not labels.items() <= loaded["labels"].items()
    expr = "query" in loaded and other_expr(str(written.get("expr")), str(loaded["query"]))
    return [word for word, differs in (("for", waits), ("labels", told), ("expr", expr)) if differs]


def other_expr(written: str, loaded: str) -> bool:
    """Whether two expressions have other texts or numbers. Numbers that are added up say nothing: Loki does that itself."""
    texts, numbers = [], []
    for expr in (written, loaded):
        found = [(re.sub(r"\\(.)", r"\1", quoted) or raw, number) for quoted, raw, number in CONSTANT.findall(expr)]
        texts.append(sorted(text for text, _number in found if text))
        numbers.append(sorted(float(number) for _text, number in found if number))
    return texts[0] != texts[1] or (numbers[0] != numbers[1] and not SUM.search(written))


def _alertmanager_of(run: Run, base: str) -> tuple[str, str]:
    """The address to which Loki sends alerts, and what is wrong with it."""
    status, text = run.cluster.fetch(f"{base}/config", {"Accept": "text/plain"}, run.request_seconds())
    if status != 200:
        return "an unknown Alertmanager", f"Loki's configuration can't be read: {status} {message_of(text)}"
    url = scalar(text, "alertmanager_url")
    if not url:
        return "nobody", "Loki has no Alertmanager: set loki_alertmanager_url"
    inside = IN_CLUSTER.match(urlsplit(url).hostname or "")
    if not inside:
        return url, ""
    there = ready_endpoints(run.slices(inside["namespace"], inside["name"]))
    return url, "" if there else f"Loki sends alerts to {url}, where nobody is"
