# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loki's ruler has the rules that you gave it, evaluates them without an error, and reaches an Alertmanager."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode, urlsplit

from ...kube.transport import ApiError, message_of
from .. import log_stores, queries
from ..facts import IN_CLUSTER, late, ready_endpoints, scalar
from ..log_agents import services
from ..result import Result, failed, ok, skipped
from ..run import Run


def look(run: Run) -> list[Result]:
    """Loki's ruler has the rules that are installed, evaluates them without an error, and reaches an Alertmanager."""
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    link, stack, service = "ruler", run.stack, next(iter(services(run.get, log_stores.STORES["loki"])), {})
    if not service:
        return []
    namespace, base = service["metadata"]["namespace"], log_stores.proxy(service)
    wanted = _wanted_alerts(run, namespace)
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


def _wanted_alerts(run: Run, namespace: str) -> set[str]:
    """The alerts that the role loki wrote down beside its rules."""
    selector = urlencode({"labelSelector": "app.kubernetes.io/part-of=loki,app.kubernetes.io/managed-by=flaskops"})
    maps = run.get(f"/api/v1/namespaces/{namespace}/configmaps?{selector}").get("items", [])
    return {name for item in maps for name in (item["metadata"].get("annotations") or {}).get("flaskops/alerts", "").split()}


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
