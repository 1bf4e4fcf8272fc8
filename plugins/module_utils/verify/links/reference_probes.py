# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the live probes are literally the reference's. This row can only note: other probes are somebody's choice."""

from __future__ import annotations

from typing import Any

from ..facts import app_container, handler, shown_path
from ..result import Result, ok, skipped
from ..run import Run

REFERENCE = "reference probes"
# What the API server fills in when a probe does not say it.
PROBE_DEFAULTS: dict[str, Any] = {"timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
HTTP_GET_DEFAULTS: dict[str, Any] = {"scheme": "HTTP"}


def expected_probes(port: int) -> dict[str, dict[str, Any]]:
    """The reference probes, with the app's port."""
    http_get = {"path": "/health", "port": port}
    return {
        "livenessProbe": {"httpGet": http_get, "initialDelaySeconds": 5, "periodSeconds": 10},
        "readinessProbe": {"httpGet": http_get, "initialDelaySeconds": 5, "periodSeconds": 5},
    }


def _without_defaults(probe: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in probe.items() if k not in PROBE_DEFAULTS or v != PROBE_DEFAULTS[k]}
    how = handler(probe)
    if how == "httpGet":
        # What may be secret is named and not shown.
        get = {**probe[how], "path": shown_path(probe[how].get("path") or "/")}
        if get.get("httpHeaders"):
            get["httpHeaders"] = "set"
        kept[how] = {k: v for k, v in get.items() if k not in HTTP_GET_DEFAULTS or v != HTTP_GET_DEFAULTS[k]}
    elif how:
        kept[how] = "set"
    return kept


def _flat(probe: dict[str, Any], prefix: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in probe.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}.{key}"))
        else:
            out[f"{prefix}.{key}"] = value
    return out


def judge(deployment: dict[str, Any], name: str, port: int) -> Result:
    """Where the live probes are not literally the reference's. That is somebody's choice, so it is told and is no failure.

    Fields that the API server defaults do not count.
    """
    container = app_container(deployment, name)
    differences = []
    for kind, wanted in expected_probes(port).items():
        live = container.get(kind)
        if not live:
            differences.append(f"no {kind}")
            continue
        want, have = _flat(wanted, kind), _flat(_without_defaults(live), kind)
        for field in sorted(want.keys() | have.keys()):
            if want.get(field) != have.get(field):
                differences.append(f"{field} is {have.get(field, 'absent')}, not {want.get(field, 'absent')}")
    if container.get("startupProbe"):
        differences.append("a startupProbe in addition")
    if differences:
        return ok(REFERENCE, f"other probes than the reference's, which is no failure: {'; '.join(differences)}")
    return ok(REFERENCE, f"/health:{port}, delays and periods as the reference has them")


def look(run: Run) -> list[Result]:
    if run.deployment_problem:
        return [skipped(REFERENCE, "no Deployment read")]
    target = run.target
    return [run.of_deployment(REFERENCE, lambda: judge(run.deployment, target.name, target.port))]
