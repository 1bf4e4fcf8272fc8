# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live probes are there and lead to the app; how they ask is its owner's choice, and whether, where it was applied so."""

from __future__ import annotations

from typing import Any

from ...kube.promise import name_of, owner_named, promised
from ...kube.transport import ApiError
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


def judge(deployment: dict[str, Any], name: str, port: int, applied: dict[str, Any] | None = None) -> Result:
    """The live Deployment has a liveness and a readiness probe, and they lead to the app; how they ask is its owner's choice.

    :param applied: the Deployment as it was applied, where that is known: what it had no probe of, need not be there.
    """
    container = app_container(deployment, name)
    missing = [kind for kind in WANTED if not container.get(kind)]
    unwanted = [kind for kind in missing if applied and not app_container(applied, name).get(kind)]
    problems = [f"no {kind}" for kind in missing if kind not in unwanted]
    live = {kind: container[kind] for kind in (*WANTED, "startupProbe") if container.get(kind)}
    problems += filter(None, (_astray(kind, probe, deployment, name, port) for kind, probe in live.items()))
    if problems:
        return failed("probes", f"{len(problems)} of the probes are missing or lead elsewhere", "; ".join(problems))
    described = {kind.removesuffix("Probe"): _described(probe, deployment, name, port) for kind, probe in live.items()}
    described |= {kind.removesuffix("Probe"): "none, as it was applied" for kind in unwanted}
    return ok("probes", ", ".join(f"{kind}: {words}" for kind, words in described.items()))


def look(run: Run) -> list[Result]:
    target = run.target
    return [run.of_deployment("probes", lambda: judge(run.deployment, target.name, target.port, _applied(run)))]


def _applied(run: Run) -> dict[str, Any] | None:
    """The Deployment as the role applied it; None where nobody has written that down, or it may not be read."""
    target = run.target
    if all(app_container(run.deployment, target.name).get(kind) for kind in WANTED):
        return None  # nobody has to know
    owner = owner_named("flask_app", target.namespace, target.name)
    try:
        found = promised(run.get(f"{run.base}/configmaps/{name_of(owner)}"))
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return None
    return next((item for item in found if (item["kind"], item["metadata"]["name"]) == ("Deployment", target.name)), None)


def next_command(run: Run) -> str:
    return run.target.kubectl("get", "deployment", run.target.name, "-o", "yaml")
