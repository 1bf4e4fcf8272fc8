# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other processes of an application: what an API server makes of them, and what leads to their pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.promise import promised

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet
from tests.harness import Run, run_role

NAME = "queue"
NS = f"/api/v1/namespaces/{NAME}"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAME}/deployments"
MAIL = {"name": "mail", "command": ["celery", "worker"], "replicas": 2}
BEAT = {"name": "beat", "command": ["celery", "beat"], "probe": ["pgrep", "celery"]}


def run(rig: Rig, folder: Path, *args: str, **options: Any) -> Run:
    given = {"kubeconfig": str(rig.kubeconfig()), "name": NAME, "namespace": NAME, "image": "shop:1", "wait_timeout": 30}
    variables = {f"flask_app_{key}": value for key, value in {**given, **options}.items()}
    with kubelet(rig, NAME):
        return run_role("flask_app", folder, variables, *args)


def test_workers_come_and_go_with_their_entries(rig: Rig, tmp_path: Path) -> None:
    def deployments() -> dict[str, int]:
        return {item["metadata"]["name"]: item["spec"]["replicas"] for item in rig.request("GET", DEPLOYMENTS)["items"]}

    assert run(rig, tmp_path, "--check", workers=[MAIL, BEAT]).changed == 1
    assert run(rig, tmp_path, workers=[MAIL, BEAT]).changed == 1
    assert deployments() == {"queue": 2, "queue-mail": 2, "queue-beat": 1}
    assert [run(rig, tmp_path, *args, workers=[MAIL, BEAT]).changed for args in ((), ("--check",))] == [0, 0]
    assert len(rig.request("GET", f"{NS}/pods")["items"]) == 5, "the restricted level admits them"
    # Users reach the application's pods alone, and its budget counts them alone.
    selector = rig.request("GET", f"{NS}/services/{NAME}")["spec"]["selector"]
    assert len(pods(rig, **selector)) == 2
    assert len(pods(rig, **{"app.kubernetes.io/name": NAME})) == 5, "log lines of all have the application's name"
    (budget,) = rig.request("GET", f"/apis/policy/v1/namespaces/{NAME}/poddisruptionbudgets")["items"]
    assert len(pods(rig, **budget["spec"]["selector"]["matchLabels"])) == 2
    (promise,) = rig.request("GET", f"{NS}/configmaps?labelSelector=flaskops/promise")["items"]
    assert {item["metadata"]["name"] for item in promised(promise) if item["kind"] == "Deployment"} == set(deployments())
    # An autoscaler's number stays, as the application's does.
    target = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "queue-mail"}, "maxReplicas": 9}
    path = f"/apis/autoscaling/v2/namespaces/{NAME}/horizontalpodautoscalers"
    rig.request("POST", path, {"metadata": {"name": "mail"}, "spec": target})
    scale = {"spec": {"replicas": 4}}
    rig.request(
        "PATCH", f"{DEPLOYMENTS}/queue-mail/scale?fieldManager=kube-controller-manager", scale, "application/merge-patch+json"
    )
    assert run(rig, tmp_path, workers=[MAIL, BEAT]).changed == 0
    rig.request("DELETE", f"{path}/mail")
    assert [run(rig, tmp_path, workers=[BEAT]).changed for _ in range(2)] == [1, 0]
    assert deployments() == {"queue": 2, "queue-beat": 1}
    assert [run(rig, tmp_path, state="absent").changed for _ in range(2)] == [1, 0]
    assert not deployments()


def pods(rig: Rig, **labels: str) -> list[str]:
    query = urlencode({"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())})
    return [item["metadata"]["name"] for item in rig.request("GET", f"{NS}/pods?{query}")["items"]]


@pytest.mark.parametrize(
    "workers",
    [
        [{**MAIL, "name": "Mail"}],
        [{**MAIL, "name": "verify"}],
        [{**MAIL, "name": "m" * 41}],
        [MAIL, MAIL],
        [{**MAIL, "command": []}],
        [{**MAIL, "replicas": -1}],
        [{"name": "mail"}],
    ],
)
def test_what_can_t_be_a_worker_is_refused(rig: Rig, tmp_path: Path, workers: list[dict[str, Any]]) -> None:
    assert "workers" in run(rig, tmp_path, workers=workers).error
    assert not [item for item in rig.request("GET", "/api/v1/namespaces")["items"] if item["metadata"]["name"] == NAME]


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    if any(item["metadata"]["name"] == NAME for item in rig.request("GET", "/api/v1/namespaces")["items"]):
        rig.remove(NS)
