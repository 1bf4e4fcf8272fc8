# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every dashboard that was installed is there, and each of its queries returns a series, of what it asks for."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from ...kube.transport import ApiError
from ...monitoring import dashboards as boards_of
from ..dead import RuleJudge, Standing, Verdict
from ..result import Result, failed, ok, skipped
from ..run import Run
from ..stack import rules_of
from .dead_rules import loaded


def look(run: Run) -> list[Result]:
    """Every query of every dashboard that is installed returns a series."""
    stack = run.stack
    selector = urlencode({"labelSelector": "app.kubernetes.io/part-of=flaskops-app-monitoring"})
    homes = {namespace for kind, namespace, _name in stack.parts() if kind == "ConfigMap"} or {stack.namespace}
    paths = [f"/api/v1/namespaces/{home}/configmaps?{selector}" for home in sorted(homes)]
    maps = [item for path in paths for item in run.get(path).get("items", [])]
    query = "GET " + " and ".join(paths)
    gone = stack.gone("ConfigMap", maps)
    command = stack.command("get", "configmaps", "-l", "app.kubernetes.io/part-of=flaskops-app-monitoring")
    if gone:
        cause = f"the ConfigMap {', '.join(gone)} with a dashboard is gone"
        return [failed("dashboards", f"{len(maps)} dashboards", cause, query, command)]
    if not maps:
        return [skipped("dashboards", "no dashboard of the role app_monitoring is installed")]
    boards = []
    for item in maps:
        if not item.get("data"):
            cause = f"the ConfigMap {item['metadata']['name']} with a dashboard is empty"
            return [failed("dashboards", f"{len(maps)} dashboards", cause, query, command)]
        for name, text in item["data"].items():
            try:
                boards.append(json.loads(text))
            except ValueError as error:
                cause = f"{name} in the ConfigMap {item['metadata']['name']} is no JSON: {error}"
                return [failed("dashboards", f"{len(maps)} dashboards", cause, query, command)]
    target = run.target
    wanted = boards_of.queries(boards, target.namespace, target.name)
    if not stack.probes():
        wanted = [item for item in wanted if "probe_" not in item.expr]
    # A goal that the app does not have, or an alert that is not enabled, has no series.
    records = {rule.get("record") for item in stack.rules_of_app() for rule in rules_of(item)}
    wanted = [item for item in wanted if boards_of.recorded(item.expr) <= records]
    wanted = [item for item in wanted if not any(prefix in item.expr for prefix in stack.without)]
    return run.settled(lambda: _look(run, wanted))


def _look(run: Run, wanted: list[boards_of.Query]) -> list[Result]:
    stack = run.stack
    stack.series.renew()
    # The same query is in several panels.
    distinct = list({query.expr: query for query in wanted}.values())
    verdicts = RuleJudge(stack.series, loaded(run)).of_panels([query.expr for query in distinct])

    def trouble(query: boards_of.Query, verdict: Verdict) -> str:
        panel = f"{query.dashboard} / {query.panel}"
        try:
            found = stack.query(query.expr)
        except ApiError as error:
            if error.status not in (400, 422):  # it can't be parsed, or not be evaluated
                raise
            return f"{panel}: {error}"
        dead = f"[{verdict.kind}]: {verdict.why}" if verdict.state == Standing.DEAD else ""
        if not found:
            return f"no series for {panel}: {query.expr}" + (f" {dead}" if dead else "")
        return f"{panel} shows what can't be {dead}" if dead else ""  # such as the 0 that stands for no series

    with ThreadPoolExecutor(max_workers=8) as pool:
        bad = [text for text in pool.map(trouble, distinct, verdicts) if text]
    query = f"each of {len(wanted)} PromQL queries of the dashboards"
    if bad:
        cause = "; ".join(bad[:2]) + (f" and {len(bad) - 2} more" if len(bad) > 2 else "")
        evidence = f"{len(distinct) - len(bad)} of {len(distinct)} queries return series"
        return [failed("dashboards", evidence, cause, query, stack.port_forward("prometheus-operated", 9090))]
    return [ok("dashboards", f"all {len(distinct)} queries return series", query)]
