# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sets an application's number of pods: the option, or an autoscaler, whose number no run touches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube import autoscalers, replicas
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet
from tests.harness import Run, run_role, until

APPS = "/apis/apps/v1/namespaces/{0}/deployments/{0}"
MERGE = "application/merge-patch+json"


class Shop:
    """An application that the role deploys into a namespace of its own."""

    def __init__(self, rig: Rig, folder: Path, name: str) -> None:
        self.rig, self.folder, self.name = rig, folder, name
        self.path = APPS.format(name)

    def run(self, *args: str, account: str = "admin", **options: Any) -> Run:
        given = {"kubeconfig": str(self.rig.kubeconfig(account)), "name": self.name, "namespace": self.name, "image": "shop:1"}
        variables = {f"flask_app_{key}": value for key, value in {**given, "wait_timeout": 30, **options}.items()}
        with kubelet(self.rig, self.name):
            return run_role("flask_app", self.folder, variables, *args)

    def replicas(self) -> int:
        return int(self.rig.request("GET", self.path)["spec"]["replicas"])

    def applied(self, wanted: int | None, account: str = "admin") -> int | None:
        """The number that the next run would apply, or None for none."""
        objects = Objects(api_client(str(self.rig.kubeconfig(account)), ""))
        live = self.rig.request("GET", self.path)
        scaler = replicas.scaler_of(live, autoscalers.find(objects.ask, self.name, self.name))
        return replicas.number(live, wanted, scaler)

    def owners(self) -> set[str]:
        """The field managers that own the number of pods."""
        entries = self.rig.request("GET", self.path)["metadata"]["managedFields"]
        return {e["manager"] for e in entries if "f:replicas" in e["fieldsV1"].get("f:spec", {})}

    def scale(self, number: int, manager: str) -> None:
        path = f"{self.path}/scale?fieldManager={manager}"
        self.rig.request("PATCH", path, {"spec": {"replicas": number}}, MERGE)

    def has_budget(self) -> bool:
        items = self.rig.request("GET", f"/apis/policy/v1/namespaces/{self.name}/poddisruptionbudgets")["items"]
        return [item["spec"]["maxUnavailable"] for item in items] == [1]

    def autoscalers(self) -> list[dict[str, Any]]:
        path = f"/apis/autoscaling/v2/namespaces/{self.name}/horizontalpodautoscalers"
        return [item["spec"] for item in self.rig.request("GET", path)["items"]]

    def add_autoscaler(self) -> None:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name}
        spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 10}
        body = {"metadata": {"name": "busy"}, "spec": spec}
        self.rig.request("POST", f"/apis/autoscaling/v2/namespaces/{self.name}/horizontalpodautoscalers", body)


def test_autoscaler_keeps_its_number(rig: Rig, tmp_path: Path) -> None:
    shop = Shop(rig, tmp_path, "busy")
    shop.run(replicas=3)
    assert (shop.replicas(), shop.has_budget()) == (3, True)
    shop.add_autoscaler()
    # Nothing has changed the number yet: what only we own must not fall back to 1 when it is no longer ours.
    assert (shop.run(replicas=5, image="shop:2").changed, shop.replicas()) == (1, 3)
    shop.scale(7, "kube-controller-manager")
    assert shop.run("--check", image="shop:2").changed == 0
    done = shop.run(image="shop:2")
    assert (done.changed, shop.replicas(), shop.has_budget()) == (0, 7, True)
    assert "busy stays at 7 pods, not 2: HorizontalPodAutoscaler busy sets them" in done.stdout
    assert shop.owners() == {"kube-controller-manager"}


def test_number_that_is_left_to_others(rig: Rig, tmp_path: Path) -> None:
    shop = Shop(rig, tmp_path, "free")
    shop.run(replicas=2)
    assert (shop.run(replicas=None).changed, shop.replicas()) == (0, 2)
    shop.scale(4, "kubectl")
    # A person's hand is no autoscaler: an option puts its own number back.
    assert (shop.applied(None), shop.applied(2)) == (None, 2)
    shop.scale(5, "other-autoscaler")
    assert (shop.applied(None), shop.applied(2)) == (None, None)
    # Only autoscalers make the controller manager scale, and there is none any more.
    shop.scale(6, "kube-controller-manager")
    assert (shop.applied(None), shop.applied(2)) == (None, 2)


def test_new_deployment_without_a_number(rig: Rig, tmp_path: Path) -> None:
    shop = Shop(rig, tmp_path, "fresh")
    shop.run(replicas=None)
    assert (shop.replicas(), shop.owners(), shop.has_budget()) == (1, set(), True)
    assert shop.applied(None) is None


def test_autoscaler_that_the_role_makes(rig: Rig, tmp_path: Path) -> None:
    shop, scale = Shop(rig, tmp_path, "grows"), {"min": 3, "max": 6, "cpu": 60}
    assert (shop.run(autoscale=scale).changed, shop.replicas(), shop.has_budget()) == (1, 3, True)
    (spec,) = shop.autoscalers()
    utilization = spec["metrics"][0]["containerResource"]["target"]["averageUtilization"]
    assert (spec["scaleTargetRef"]["name"], spec["minReplicas"], spec["maxReplicas"], utilization) == ("grows", 3, 6, 60)
    assert shop.run(autoscale=scale).changed == 0
    shop.scale(5, "kube-controller-manager")
    done = shop.run(autoscale=scale)
    assert (done.changed, shop.replicas()) == (0, 5) and "stays at" not in done.stdout
    assert (shop.run(autoscale={**scale, "max": 9}).changed, shop.replicas()) == (1, 5)
    # Without the option the number is that of the option `replicas` at once, and nobody changes it back.
    assert shop.run("--check", replicas=4).changed == 1
    assert (shop.run(replicas=4).changed, shop.autoscalers(), shop.replicas()) == (1, [], 4)
    assert shop.run(replicas=4).changed == 0
    assert (shop.run(autoscale=scale).changed, shop.replicas()) == (1, 4)
    # Kubernetes' autoscaler would leave it at 0 for ever.
    assert (shop.run(replicas=0).changed, shop.replicas()) == (1, 0)
    assert (shop.run(autoscale=scale).changed, shop.replicas()) == (1, 3)
    assert [shop.run(state="absent").changed for _ in range(2)] == [1, 0]
    assert shop.autoscalers() == []


def test_two_autoscalers_are_refused(rig: Rig, tmp_path: Path) -> None:
    shop = Shop(rig, tmp_path, "twofold")
    shop.run()
    shop.add_autoscaler()
    done = shop.run(autoscale={"max": 6})
    assert "HorizontalPodAutoscaler busy" in done.error and "flask_app_autoscale" in done.error
    assert (len(shop.autoscalers()), shop.run().changed) == (1, 0)


@pytest.fixture
def keda(rig: Rig) -> Iterator[None]:
    """The definition of KEDA's ScaledObject."""
    names = {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    rig.request("POST", path, {"metadata": {"name": "scaledobjects.keda.sh"}, "spec": spec})
    served = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects"
    until(lambda: rig.request("GET", served), 20, "the definition is served", passing=(AssertionError,))
    yield
    rig.request("DELETE", f"{path}/scaledobjects.keda.sh")


@pytest.mark.usefixtures("keda")
def test_scaled_to_nothing(rig: Rig, tmp_path: Path) -> None:
    shop = Shop(rig, tmp_path, "idle")
    shop.run(replicas=1)
    assert not shop.has_budget()
    body = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "queue"}}
    scaled = {**body, "spec": {"scaleTargetRef": {"name": shop.name}}}
    rig.request("POST", f"/apis/keda.sh/v1alpha1/namespaces/{shop.name}/scaledobjects", scaled)
    shop.scale(0, "keda")
    # The number may be anything at any time now, so there is a budget.
    assert (shop.run().changed, shop.replicas(), shop.has_budget()) == (1, 0, True)
    assert shop.applied(2) is None
    assert "ScaledObject queue" in shop.run(autoscale={"max": 6}).error and shop.autoscalers() == []


@pytest.fixture
def blind(rig: Rig) -> Iterator[str]:
    """An account that may do all but read what is made on request alone: autoscalers and Ingresses."""
    path = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["", "apps", "policy"], "resources": ["*"], "verbs": ["*"]}]
    rules += [{"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["*"]}]
    rig.request("POST", f"{path}/clusterroles", {"metadata": {"name": "blind"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "blind"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}]
    rig.request("POST", f"{path}/clusterrolebindings", {"metadata": {"name": "blind"}, "roleRef": role, "subjects": subjects})
    yield "nobody"
    rig.request("DELETE", f"{path}/clusterrolebindings/blind")
    rig.request("DELETE", f"{path}/clusterroles/blind")


def test_account_that_sees_no_autoscaler(rig: Rig, tmp_path: Path, blind: str) -> None:
    shop = Shop(rig, tmp_path, "unseen")
    shop.run(account=blind, replicas=3)
    assert shop.applied(4, blind) == 4, "the live number is what was applied last"
    shop.scale(7, "kube-controller-manager")
    done = shop.run(account=blind, replicas=3)
    assert (done.changed, shop.replicas()) == (0, 7)
    assert "unseen stays at 7 pods, not 3: this account may not list" in done.stdout
    assert [shop.run(account=blind, state="absent").changed for _ in range(2)] == [1, 0]
