# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Deployment that an admission policy refuses leaves nothing of the application behind, and with the labels it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet
from tests.harness import Run, run_role, until

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
NAME = "unlabelled"
LISTS = [
    f"/api/v1/namespaces/{NAME}/services",
    f"/api/v1/namespaces/{NAME}/serviceaccounts",
    f"/apis/networking.k8s.io/v1/namespaces/{NAME}/networkpolicies",
    f"/apis/apps/v1/namespaces/{NAME}/deployments",
    f"/apis/policy/v1/namespaces/{NAME}/poddisruptionbudgets",
]


@pytest.fixture(autouse=True)
def policy(rig: Rig) -> Iterator[None]:
    """What is made in one namespace needs a label that the role does not give it."""
    plurals = ["services", "serviceaccounts", "configmaps", "pods", "networkpolicies", "ingresses", "deployments", "replicasets"]
    plurals += ["jobs", "poddisruptionbudgets", "horizontalpodautoscalers"]
    rules = [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": plurals}]
    selector = {"matchLabels": {"kubernetes.io/metadata.name": NAME}}
    spec = {
        "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
        "matchConditions": [{"name": "ours", "expression": "!(object.metadata.name in ['default', 'kube-root-ca.crt'])"}],
        "validations": [
            {"expression": "has(object.metadata.labels) && 'team' in object.metadata.labels", "message": "name the team"}
        ],
    }
    rig.request("POST", f"{ADMISSION}/validatingadmissionpolicies", {"metadata": {"name": NAME}, "spec": spec})
    binding = {"metadata": {"name": NAME}, "spec": {"policyName": NAME, "validationActions": ["Deny"]}}
    rig.request("POST", f"{ADMISSION}/validatingadmissionpolicybindings", binding)
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAME}})
    body = {
        "metadata": {"name": "probe", "labels": {"a": "b"}},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "main:1"}]}},
        },
    }

    def holds() -> bool:
        try:
            rig.request("POST", f"/apis/apps/v1/namespaces/{NAME}/deployments?dryRun=All", body)
        except AssertionError as error:
            return "name the team" in str(error)
        return False

    until(holds, 20, "the policy holds")
    until(lambda: rig.request("GET", LISTS[1])["items"], 20, "the namespace has its account")
    yield
    rig.request("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/{NAME}")
    rig.request("DELETE", f"{ADMISSION}/validatingadmissionpolicies/{NAME}")
    rig.remove(f"/api/v1/namespaces/{NAME}")


def run(rig: Rig, folder: Path, **options: Any) -> Run:
    given = {"kubeconfig": str(rig.kubeconfig()), "name": NAME, "namespace": NAME, "image": "shop:1", **options}
    return run_role("flask_app", folder, {f"flask_app_{key}": value for key, value in given.items()})


def test_nothing_stays_behind(rig: Rig, tmp_path: Path) -> None:
    before = rig.versions(*LISTS)
    assert "name the team" in run(rig, tmp_path).error
    assert rig.versions(*LISTS) == before


def test_labels_satisfy_the_policy(rig: Rig, tmp_path: Path) -> None:
    before = rig.versions(*LISTS)
    with kubelet(rig, NAME):
        given: dict[str, Any] = {"labels": {"team": "web"}, "hosts": [{"name": "shop.test"}], "autoscale": {"max": 3}}
        given |= {"migration": {"command": ["up"]}, "workers": [{"name": "mail", "command": ["mail"]}], "health_port": 8081}
        assert [run(rig, tmp_path, **given).changed for _ in range(2)] == [1, 0]
    assert [run(rig, tmp_path, state="absent").changed for _ in range(2)] == [1, 0]
    assert rig.versions(*LISTS) == before
