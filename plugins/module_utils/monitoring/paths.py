# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the parts of a stack are reached through the API server. Private to this collection."""

from __future__ import annotations

from typing import Any


def service_path(namespace: str, service: str, port: str | int, prefix: str = "") -> str:
    """The path of a Service through the API server; by the port's number where the chart chooses its name."""
    return f"/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy{prefix.rstrip('/')}"


def pod_path(namespace: str, pod: str, port: int, prefix: str = "") -> str:
    """The path of one pod through the API server."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{prefix.rstrip('/')}"


def tls_of(item: dict[str, Any]) -> str:
    """What stands before a name in a path of the API server's proxy where a Prometheus or Alertmanager object says TLS."""
    return "https:" if (item["spec"].get("web") or {}).get("tlsConfig") else ""


def prometheus_path(server: dict[str, Any]) -> str:
    """The path of the Prometheus that a Prometheus object describes, through the API server."""
    return _path(server, server["metadata"]["namespace"], "prometheus-operated", 9090)


def alertmanager_path(namespace: str, found: list[dict[str, Any]]) -> str:
    """The path of the Alertmanager that a namespace's Alertmanager objects describe, through the API server."""
    nothing: dict[str, Any] = {"spec": {}}
    item = min(found, key=lambda item: str(item["spec"].get("routePrefix") or ""), default=nothing)
    return _path(item, namespace, "alertmanager-operated", 9093)


def _path(item: dict[str, Any], namespace: str, service: str, port: int) -> str:
    spec = item["spec"]
    return service_path(namespace, tls_of(item) + (spec.get("serviceName") or service), port, spec.get("routePrefix") or "")
