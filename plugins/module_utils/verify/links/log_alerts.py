# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alerts about log lines are installed, and Prometheus has the counters that they read."""

from __future__ import annotations

from functools import partial

from .. import queries
from ..log_agents import agents
from ..result import Result, failed, ok, skipped
from ..run import Run
from . import logs

COUNTER = "flaskops_log_lines_total"  # what every log agent counts, by namespace, app and level


def look(run: Run) -> list[Result]:
    """The alerts about lines are installed, and Prometheus has the counters that they read."""
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    link, stack, target = "log alerts", run.stack, run.target
    if stack.absent:
        return [skipped(link, "no Prometheus of an operator runs on this cluster")]
    shipping = agents(run.get)
    if not shipping:
        return [skipped(link, "no log agent is installed on this cluster, so that nothing counts lines")]
    wanted = sorted(name for name in stack.alerts() if name.startswith("Log"))
    if not wanted:
        return [skipped(link, "no alert about log lines is installed; the role app_monitoring installs them")]
    expr = queries.filled("lines", namespace=target.namespace, name=target.name)
    series, query = stack.query(expr), f"PromQL {expr}"
    # An agent has no counter of an app before its first line.
    if not series and not target.log_check and logs.silent(run):
        return [skipped(link, "the app has not logged a line, so that no log agent has counted one of it")]
    if not series:
        name, namespace = (shipping[0]["metadata"][key] for key in ("name", "namespace"))
        cause = (
            f"Prometheus has no {COUNTER} of the app: {name} is not scraped, or counts none, and {', '.join(wanted)} can't fire"
        )
        command = target.kubectl("-n", namespace, "get", "servicemonitors,services,pods", "-o", "wide", namespaced=False)
        return [failed(link, "no counter", cause, query, command)]
    counted = sum(float(item["value"][1]) for item in series)
    return [ok(link, f"{', '.join(wanted)} read {counted:.0f} counted lines of {len(series)} levels", query)]
