# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application with all that a pod and a Service may have, on an API server with its admission and its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet
from tests.harness import Run, run_role

NAME = "laden"
NS = f"/api/v1/namespaces/{NAME}"
KINDS = (
    *(f"{NS}/{kind}" for kind in ("services", "serviceaccounts", "configmaps")),
    f"/apis/networking.k8s.io/v1/namespaces/{NAME}/networkpolicies",
    f"/apis/apps/v1/namespaces/{NAME}/deployments",
    f"/apis/policy/v1/namespaces/{NAME}/poddisruptionbudgets",
    f"/apis/autoscaling/v2/namespaces/{NAME}/horizontalpodautoscalers",
)
ALL: dict[str, Any] = {
    "labels": {"team": "web", "cost": 4711, "none": None},
    "annotations": {"note": True},
    "pod_labels": {"tier": "front"},
    "pod_annotations": {"traffic.sidecar.istio.io/excludeInboundPorts": 9200},
    "image_pull_secrets": ["harbor"],
    "autoscale": {"min": 2, "max": 6, "cpu": 70},
    "scheme": "https",
    "health_path": "/internal/ready",
    "health_port": 8081,
    "probes": {
        "livenessProbe": {"tcpSocket": {"port": 5000}, "timeoutSeconds": 3},
        "readinessProbe": {"failureThreshold": 2},
        "startupProbe": {"periodSeconds": 2, "failureThreshold": 60},
    },
    "environment": {"COLOUR": "red"},
    "config_map_environment": ["settings"],
    "secret_environment": ["words"],
    "volumes": [
        {"mountPath": "/data", "emptyDir": {"sizeLimit": "256Mi"}},
        {"mountPath": "/etc/shop", "configMap": {"name": "settings"}, "readOnly": True},
        {"mountPath": "/run/key", "subPath": "key", "secret": {"secretName": "words"}},
        {"mountPath": "/uploads", "persistentVolumeClaim": {"claimName": "uploads"}},
    ],
    "pod_overrides": {
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        "initContainers": [{"name": "wait", "image": "wait:1"}],
        "containers": [
            {"name": "proxy", "image": "proxy:1", "ports": [{"name": "side", "containerPort": 8444}]},
            {"name": NAME, "env": [{"name": "COLOUR", "value": "blue"}], "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]},
        ],
    },
    "service_type": "LoadBalancer",
    "service_annotations": {"internal": True},
    "service_load_balancer_class": "example.com/nlb",
    "service_ports": [{"name": "https", "port": 443}, {"name": "side", "port": 8443, "targetPort": "side"}],
}


def run(rig: Rig, folder: Path, *args: str, **options: Any) -> Run:
    given = {"kubeconfig": str(rig.kubeconfig()), "name": NAME, "namespace": NAME, "image": "shop:1", "wait_timeout": 30}
    variables = {f"flask_app_{key}": value for key, value in {**given, **options}.items()}
    with kubelet(rig, NAME):
        return run_role("flask_app", folder, variables, *args)


def test_an_application_with_everything(rig: Rig, tmp_path: Path) -> None:
    assert run(rig, tmp_path, "--check", **ALL).changed == 1
    assert run(rig, tmp_path, **ALL).changed == 1
    assert [run(rig, tmp_path, *args, **ALL).changed for args in ((), ("--check",))] == [0, 0]
    # The restricted level of the namespace admitted the pods, so every container has a security context that it takes.
    assert len(rig.request("GET", f"{NS}/pods")["items"]) == 2
    template = rig.request("GET", f"{KINDS[4]}/{NAME}")["spec"]["template"]
    assert template["metadata"]["labels"].items() >= {"team": "web", "cost": "4711", "tier": "front"}.items()
    assert "none" not in template["metadata"]["labels"]
    assert template["metadata"]["annotations"] == {"traffic.sidecar.istio.io/excludeInboundPorts": "9200"}
    assert [volume["name"] for volume in template["spec"]["volumes"]] == ["tmp", "data", "etc-shop", "run-key", "uploads"]
    assert template["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "1Gi"}
    shop = next(one for one in template["spec"]["containers"] if one["name"] == NAME)
    assert len(shop["volumeMounts"]) == 5 and {"name": "COLOUR", "value": "blue"} in shop["env"]
    assert "httpGet" not in shop["livenessProbe"] and shop["livenessProbe"]["periodSeconds"] == 10
    service = rig.request("GET", f"{NS}/services/{NAME}")
    assert service["metadata"]["annotations"] == {"note": "true", "internal": "true"}
    assert (service["spec"]["loadBalancerClass"], len(service["spec"]["ports"])) == ("example.com/nlb", 2)
    # What was an option goes with it, and the defaults come back.
    plain: dict[str, Any] = {"service_type": "LoadBalancer", "service_load_balancer_class": "example.com/nlb"}
    # The API server takes no probe that is null, and no hook that does two things.
    hook = {"preStop": {"exec": {"command": ["sleep", "9"]}}}
    plain |= {"probes": {"livenessProbe": None}, "pod_overrides": {"containers": [{"name": NAME, "lifecycle": hook}]}}
    assert [run(rig, tmp_path, **plain).changed for _ in range(2)] == [1, 0]
    assert f"{NAME}-health" not in {item["metadata"]["name"] for item in rig.request("GET", KINDS[0])["items"]}
    template = rig.request("GET", f"{KINDS[4]}/{NAME}")["spec"]["template"]
    assert len(template["spec"]["containers"]) == len(template["spec"]["volumes"]) == 1
    (shop,) = template["spec"]["containers"]
    assert "livenessProbe" not in shop and shop["readinessProbe"]["httpGet"] and "sleep" not in shop["lifecycle"]["preStop"]
    assert "team" not in template["metadata"]["labels"]
    assert [run(rig, tmp_path, state="absent").changed for _ in range(2)] == [1, 0]
    left = [item["metadata"]["name"] for path in KINDS for item in rig.request("GET", path)["items"]]
    assert {*left} <= {"default", "kube-root-ca.crt"}


def test_what_kubernetes_does_not_take_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    before = rig.versions(*KINDS)
    wrong = [{"mountPath": "/data", "emptydir": {}}]
    assert "emptydir" in run(rig, tmp_path, volumes=wrong).error
    assert "not a label" in run(rig, tmp_path, pod_labels={"team": "not a label!"}).error
    assert rig.versions(*KINDS) == before


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Any:
    yield
    if any(item["metadata"]["name"] == NAME for item in rig.request("GET", "/api/v1/namespaces")["items"]):
        rig.remove(NS)
