# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live probes are there and lead to the app; how they ask is its owner's choice."""

from __future__ import annotations

from typing import Any

from ..facts import app_container, handler, port_number, shown_path
from ..result import Result, failed, ok
from ..run import Run

WANTED = ("livenessProbe", "readinessProbe")


def _owners(deployment: dict[str, Any], container: dict[str, Any], port: int) -> dict[int, str]:
    """The TCP ports of a pod, each with the name of its container: of the app's own, whatever it declares, *port* is one."""
    spec = deployment.get("spec", {}).get("template", {}).get("spec", {})
    sidecars = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    found: dict[int, str] = {}
    for item in [*sidecars, *(spec.get("containers") or []), container]:
        found |= {p["containerPort"]: item.get("name", "") for p in item.get("ports") or [] if p.get("protocol", "TCP") == "TCP"}
    return {port: container.get("name", ""), **found}


def _astray(kind: str, live: dict[str, Any], deployment: dict[str, Any], name: str, port: int) -> str:
    """Why a probe does not lead to the app; empty when it does."""
    how, container = handler(live), app_container(deployment, name)
    if how in ("", "exec"):
        return "" if how else f"{kind} asks nothing"
    host, wanted = live[how].get("host"), live[how].get("port")
    on_node = deployment["spec"]["template"]["spec"].get("hostNetwork") and host in ("localhost", "127.0.0.1", "::1")
    if host and not on_node:
        return f"{kind} asks the host {host} and not the pod"
    number = port_number(wanted, container)
    if not number:
        return f"{kind} asks the port {wanted}, and the container {container.get('name')} has no port of this name"
    if number not in _owners(deployment, container, port):
        return f"{kind} asks the port {number}, which no container of the pod has"
    return ""


def _described(live: dict[str, Any], deployment: dict[str, Any], name: str, port: int) -> str:
    """What a probe asks, in a few words, without what may be secret in it."""
    how, container = handler(live), app_container(deployment, name)
    if how == "exec":
        return "a command"
    number = port_number(live[how].get("port"), container)
    owner = _owners(deployment, container, port)[number]
    of = "" if owner == container.get("name", "") else f" of the container {owner}"
    if how != "httpGet":
        return f"{how} at port {number}{of}"
    tls = " over TLS" if live[how].get("scheme") == "HTTPS" else ""
    return f"{shown_path(live[how].get('path') or '/')} at port {number}{of}{tls}"


def judge(deployment: dict[str, Any], name: str, port: int) -> Result:
    """The live Deployment has a liveness and a readiness probe, and they lead to the app; how they ask is its owner's choice."""
    container = app_container(deployment, name)
    problems = [f"no {kind}" for kind in WANTED if not container.get(kind)]
    live = {kind: container[kind] for kind in (*WANTED, "startupProbe") if container.get(kind)}
    problems += filter(None, (_astray(kind, probe, deployment, name, port) for kind, probe in live.items()))
    if problems:
        return failed("probes", f"{len(problems)} of the probes are missing or lead elsewhere", "; ".join(problems))
    described = {kind.removesuffix("Probe"): _described(probe, deployment, name, port) for kind, probe in live.items()}
    return ok("probes", ", ".join(f"{kind}: {words}" for kind, words in described.items()))


def look(run: Run) -> list[Result]:
    target = run.target
    return [run.of_deployment("probes", lambda: judge(run.deployment, target.name, target.port))]


def next_command(run: Run) -> str:
    return run.target.kubectl("get", "deployment", run.target.name, "-o", "yaml")
