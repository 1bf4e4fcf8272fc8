# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana answers that its database is well."""

from __future__ import annotations

from urllib.parse import urlencode

from ...monitoring.paths import service_path
from ..result import Result, failed, ok, skipped
from ..run import Run


def look(run: Run) -> list[Result]:
    stack = run.stack
    selector = urlencode({"labelSelector": "app.kubernetes.io/name=grafana"})
    services = run.get(f"/api/v1/namespaces/{stack.namespace}/services?{selector}").get("items", [])
    if not services:
        return [skipped("grafana", "not installed; needs kube_prometheus_stack_grafana, and a registry that has its image")]
    name, port = services[0]["metadata"]["name"], services[0]["spec"]["ports"][0]["port"]
    path = service_path(stack.namespace, name, port) + "/api/health"
    health = run.get(path)
    if health.get("database") == "ok":
        return [ok("grafana", f"version {health.get('version', '?')} answers, database ok", f"GET {path}")]
    command = stack.command("logs", f"deployment/{name}", "--tail=50")
    cause = f"database {health.get('database')}"
    return [failed("grafana", "its health check answers", cause, f"GET {path}", command)]
