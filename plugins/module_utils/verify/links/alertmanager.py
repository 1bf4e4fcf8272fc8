# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager runs with its newest configuration, and Prometheus knows it."""

from __future__ import annotations

from functools import partial

from .. import queries
from ..result import Result, failed, left_out, ok
from ..run import Run
from ..stack import OPERATOR


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    link, stack = "alertmanager", run.stack
    items = stack.alertmanagers()
    if not items:
        return [left_out(link, f"namespace {stack.namespace} has no Alertmanager")]
    known = f"{stack.api}/api/v1/alertmanagers"
    reload = queries.filled(queries.ALERTMANAGER_REFUSED, namespace=stack.namespace)
    query = f"GET {OPERATOR}/v1/namespaces/{stack.namespace}/alertmanagers and their pods; GET {known}; PromQL {reload}"
    said = []
    for item in items:
        selector = f"alertmanager={item['metadata']['name']}"
        evidence, cause = stack.server_pods(item, selector, "Alertmanager")
        said.append(evidence)
        if cause:
            command = stack.command("describe", "pods", "-l", selector)
            return [failed(link, "; ".join(said), cause, query, command)]
    active = stack.ask(known)["data"]["activeAlertmanagers"]
    if not active:
        cause = "Prometheus knows no Alertmanager: its object names another one under alerting"
        command = stack.command("get", "prometheuses", "-o", "yaml")
        return [failed(link, "; ".join(said), cause, query, command)]
    if stack.query(reload):
        cause = "Alertmanager refused its newest configuration and runs with the one before"
        command = stack.command("logs", "-l", "app.kubernetes.io/name=alertmanager", "-c", "alertmanager", "--tail=50")
        return [failed(link, "; ".join(said), cause, query, command)]
    return [ok(link, f"{'; '.join(said)}; Prometheus sends to {len(active)}", query)]
