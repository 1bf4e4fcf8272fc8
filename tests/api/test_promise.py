# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles promise, held against a real API server: it holds after a run, and each change by somebody else is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube import promise
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects

from tests.api_rig import Rig
from tests.fakes.operator import operator, path
from tests.harness import run_role

NAME = "promised"
MERGE, JSON = "application/merge-patch+json", "application/json-patch+json"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAME}/deployments/{NAME}"
MAPS = f"/api/v1/namespaces/{NAME}/configmaps"


def departures(rig: Rig) -> list[tuple[str, str, str]]:
    """Kind and path of each difference, and who made it."""
    objects = Objects(rig.api)
    maps = rig.request("GET", f"{MAPS}?labelSelector={promise.LABEL}=true")["items"]
    assert maps, "nothing is promised"
    items = [item for each in maps for item in promise.promised(each)]
    found = [one for item in items for one in promise.departures(item, objects.get(item))]
    return [(one.item["kind"], one.path, one.by) for one in found]


@pytest.fixture(scope="module")
def watched(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An application and its monitoring, brought to their state whenever it is called."""
    folder: Path = tmp_path_factory.mktemp("roles")

    def run(state: str = "present") -> int:
        given = {"kubeconfig": str(rig.kubeconfig()), "name": NAME, "namespace": NAME, "state": state}
        app = {f"flask_app_{key}": value for key, value in {**given, "image": "web:1", "replicas": 0}.items()}
        monitoring = {f"app_monitoring_{key}": value for key, value in given.items()}
        roles = [("flask_app", app), ("app_monitoring", monitoring)]
        return sum(run_role(role, folder, values).changed for role, values in (roles if state == "present" else roles[::-1]))

    with operator(rig):
        assert run() == 2
        yield run
        assert run("absent") == 2
        assert not rig.request("GET", f"{MAPS}?labelSelector={promise.LABEL}=true")["items"]


CHANGES: list[tuple[str, str, Any, str, tuple[str, str]]] = [
    (
        DEPLOYMENT,
        JSON,
        [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "other:1"}],
        "Deployment",
        ("spec.template.spec.containers[promised].image", ""),
    ),
    (
        path("ServiceMonitor", NAME, NAME),
        JSON,
        [
            {
                "op": "add",
                "path": "/spec/endpoints/0/metricRelabelings/0",
                "value": {"action": "drop", "sourceLabels": ["status"], "regex": "5.."},
            }
        ],
        "ServiceMonitor",
        ("spec.endpoints", ""),
    ),
    (path("ServiceMonitor", NAME, NAME), MERGE, {"spec": {"targetLimit": 1}}, "ServiceMonitor", ("spec.targetLimit", "somebody")),
    (
        path("Probe", NAME, NAME),
        JSON,
        [{"op": "replace", "path": "/spec/targets/staticConfig/static/0", "value": "http://elsewhere.test/"}],
        "Probe",
        ("spec.targets.staticConfig.static", ""),
    ),
    (
        path("PrometheusRule", NAME, NAME),
        JSON,
        [{"op": "replace", "path": "/spec/groups/0/rules/0/expr", "value": "vector(0) > 1"}],
        "PrometheusRule",
        ("spec.groups", ""),
    ),
    (
        path("AlertmanagerConfig", NAME, NAME),
        MERGE,
        {"spec": {"muteTimeIntervals": [{"name": "x"}]}},
        "AlertmanagerConfig",
        ("spec.muteTimeIntervals", "somebody"),
    ),
]


@pytest.mark.parametrize(("where", "form", "body", "kind", "wanted"), CHANGES)
def test_a_change_by_somebody_else(
    rig: Rig, watched: Any, where: str, form: str, body: Any, kind: str, wanted: tuple[str, str]
) -> None:
    assert departures(rig) == []
    rig.request("PATCH", f"{where}?fieldManager=somebody", body, form)
    (found,) = departures(rig)
    assert (found[0], found[2]) == (kind, wanted[1]) and found[1].startswith(wanted[0])
    if wanted[1]:  # what somebody else added stays when we apply
        rig.request("PATCH", f"{where}?fieldManager=somebody", {"spec": {wanted[0].removeprefix("spec."): None}}, MERGE)
    else:
        assert watched() == 1
    assert departures(rig) == []


def test_what_is_gone(rig: Rig, watched: Any) -> None:
    rig.request("DELETE", path("PrometheusRule", NAME, NAME))
    assert departures(rig) == [("PrometheusRule", "", "")]
    assert watched() == 1
    assert departures(rig) == []


def test_what_people_may_do(rig: Rig, watched: Any) -> None:
    """Scale, restart, add a label."""
    rig.request("PATCH", f"{DEPLOYMENT}/scale?fieldManager=kubectl", {"spec": {"replicas": 3}}, MERGE)
    notes = {"kubectl.kubernetes.io/restartedAt": "2026-11-29T10:00:00Z"}
    body = {"metadata": {"labels": {"team": "a"}}, "spec": {"template": {"metadata": {"annotations": notes}}}}
    rig.request("PATCH", f"{DEPLOYMENT}?fieldManager=kubectl-rollout", body, MERGE)
    assert departures(rig) == []
    rig.request("PATCH", f"{DEPLOYMENT}/scale?fieldManager=kubectl", {"spec": {"replicas": 0}}, MERGE)
