# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus runs with the configuration that the operator makes, and the operator works."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import queries
from ..result import Result, failed, ok
from ..run import Run
from ..stack import OPERATOR


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack = run.stack
    name = stack.server["metadata"]["name"]
    server = run.get(f"{OPERATOR}/v1/namespaces/{stack.namespace}/prometheuses/{name}")
    reload = queries.filled(queries.PROMETHEUS_REFUSED, namespace=stack.namespace)
    query = f"GET {OPERATOR}/v1/namespaces/{stack.namespace}/prometheuses/{name} and its pods; PromQL {reload}"
    evidence, cause = stack.server_pods(server, stack.selector, "Prometheus")
    command = stack.command("describe", "pods", "-l", stack.selector)
    if not cause:
        operators = [d for d in stack.deployments() if _is_operator(d)]
        down = [d["metadata"]["name"] for d in operators if not d.get("status", {}).get("availableReplicas")]
        if down:
            cause = f"the operator {down[0]} is not available: changed monitors and rules do not reach Prometheus"
            command = stack.command("describe", "deployment", down[0])
        elif stack.query(reload):
            cause = "Prometheus refused its newest configuration and runs with the one before"
            command = stack.command("logs", "-l", stack.selector, "-c", "prometheus", "--tail=50")
        evidence += ", operator available, configuration loaded" if operators and not cause else ""
    if cause:
        return [failed("prometheus", evidence, cause, query, command)]
    return [ok("prometheus", evidence, query)]


def _is_operator(deployment: dict[str, Any]) -> bool:
    images = [c.get("image", "") for c in deployment["spec"]["template"]["spec"]["containers"]]
    return any(image.rsplit("/", 1)[-1].split(":")[0].split("@")[0] == "prometheus-operator" for image in images)
