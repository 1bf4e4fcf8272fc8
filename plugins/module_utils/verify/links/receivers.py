# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The app's routes are there, and what Alertmanager sent last was taken by its receivers."""

from __future__ import annotations

from functools import partial

from ...kube.transport import ApiError
from .. import queries
from ..result import Result, failed, left_out, ok
from ..run import Run
from ..stack import OPERATOR

UNCOUNTED = "Prometheus has no counters of Alertmanager, so nobody knows what its receivers take"


def look(run: Run) -> list[Result]:
    found = run.settled(partial(_look, run))
    # Nothing was refused as far as anybody knows, and nothing taken.
    return [left_out(result.link, UNCOUNTED) if result.cause == UNCOUNTED else result for result in found]


def _look(run: Run) -> list[Result]:
    link, stack, target = "receivers", run.stack, run.target
    path = f"{OPERATOR}/v1alpha1/namespaces/{target.namespace}/alertmanagerconfigs"
    try:
        there = run.get(path).get("items", [])
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        there = None
    expr = queries.filled("receivers_refuse", namespace=stack.namespace)
    query = f"GET {path}; PromQL {expr}"
    gone = [] if there is None else stack.gone("AlertmanagerConfig", there)
    if gone:
        cause = f"the AlertmanagerConfig {gone[0]}, with the routes and inhibitions of the app, is gone"
        return [failed(link, "no AlertmanagerConfig", cause, query, target.kubectl("get", "alertmanagerconfigs"))]
    counted = queries.filled("notifications", namespace=stack.namespace)
    if not stack.query(counted):
        return [failed(link, "no counters", UNCOUNTED, f"PromQL {counted}")]
    failing = [series["metric"].get("integration", "?") for series in stack.query(expr)]
    if failing:
        cause = f"no notification by {', '.join(sorted(failing))} has succeeded in 5 minutes, and some failed"
        command = stack.command("logs", "-l", "app.kubernetes.io/name=alertmanager", "-c", "alertmanager", "--tail=50")
        return [failed(link, "notifications fail", cause, query, command)]
    return [ok(link, "no receiver refuses what Alertmanager sends", query)]
