# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node is drained on a real API server, which knows budgets and permissions; its nodes and pods are only said to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import dead_man, nodes
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import App, Options, Plan, Skipped
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet
from tests.harness import run_role, until

NAME = "drained"
NS, DEPLOYMENT = f"/api/v1/namespaces/{NAME}", f"/apis/apps/v1/namespaces/{NAME}/deployments/{NAME}"
BUDGET = f"/apis/policy/v1/namespaces/{NAME}/poddisruptionbudgets/{NAME}"
MERGE = "application/merge-patch+json"
READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
MINE = {
    "topologyKey": "zone",
    "maxSkew": 1,
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"app": NAME}},
}


class Shop:
    """An application of the role, whose pods a test places."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder

    def deploy(self, **options: Any) -> dict[str, Any]:
        given = {"kubeconfig": str(self.rig.kubeconfig()), "name": NAME, "namespace": NAME, "image": "shop:1", **options}
        with kubelet(self.rig, NAME):
            done = run_role("flask_app", self.folder, {f"flask_app_{key}": value for key, value in given.items()})
        assert done.returncode == 0, done.error
        spec: dict[str, Any] = self.rig.request("GET", DEPLOYMENT)["spec"]["template"]["spec"]
        return spec

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.rig.request("GET", f"{NS}/pods?labelSelector=app%3D{NAME}")["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def place(self, *names: str) -> None:
        """Bind pods to nodes, one each, which makes them stay when they are deleted: no kubelet says that they have ended."""
        for pod, node in zip(self.pods(), names, strict=True):
            body = {"metadata": {"name": pod["metadata"]["name"]}, "target": {"kind": "Node", "name": node}}
            self.rig.request("POST", f"{NS}/pods/{pod['metadata']['name']}/binding", body)

    def drill(self, account: str = "admin") -> Plan:
        cluster = KubeCluster(api_client(str(self.rig.kubeconfig(account)), ""))
        return nodes.drain(App(cluster, Options(name=NAME, namespace=NAME)))


@pytest.fixture(scope="module")
def shop(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    found = Shop(rig, tmp_path_factory.mktemp("drained"))
    for name in ("one", "two"):
        rig.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        rig.request("PATCH", f"/api/v1/nodes/{name}/status", READY, MERGE)
        # A node that is made begins with the taint of one that is not ready, which a controller would take away.
        rig.request("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}}, MERGE)
    yield found
    for pod in rig.request("GET", f"{NS}/pods")["items"]:
        rig.request("DELETE", f"{NS}/pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
    rig.remove(NS)
    for name in ("one", "two"):
        rig.remove(f"/api/v1/nodes/{name}")


def test_the_role_spreads_its_pods_unless_told_how(shop: Shop) -> None:
    spread = shop.deploy(pod_overrides={"topologySpreadConstraints": [MINE]})["topologySpreadConstraints"]
    assert spread == [MINE]
    (spread,) = shop.deploy()["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"], spread["maxSkew"]) == (
        "kubernetes.io/hostname",
        "ScheduleAnyway",
        1,
    )
    assert spread["labelSelector"] == {"matchLabels": {"app": NAME}} and spread["matchLabelKeys"] == ["pod-template-hash"]


def test_a_drain_is_planned_without_a_change_and_taken_back_without_a_trace(rig: Rig, shop: Shop) -> None:
    shop.place("one", "two")
    # The budget's controller knows of healthy pods a moment later.
    until(lambda: rig.request("GET", BUDGET)["status"].get("disruptionsAllowed") == 1, 20, "a pod that may go")
    rig.request("POST", f"{NS}/pods", {"metadata": {"name": "other"}, "spec": {"nodeName": "one", **foreign()}})
    before = rig.versions("/api/v1/nodes", f"{NS}/pods")
    plan = shop.drill()
    assert rig.versions("/api/v1/nodes", f"{NS}/pods") == before
    app = App(KubeCluster(rig.api), Options(name=NAME, namespace=NAME))
    kept, owners = app.digest("/api/v1/nodes/one"), rig.request("GET", "/api/v1/nodes/one")["metadata"].get("managedFields")
    dead_man.run(plan.steps, app.request)
    assert rig.request("GET", "/api/v1/nodes/one")["spec"]["unschedulable"] and app.digest("/api/v1/nodes/one") != kept
    going = {
        pod["metadata"]["name"] for pod in rig.request("GET", f"{NS}/pods")["items"] if "deletionTimestamp" in pod["metadata"]
    }
    assert going == set(plan.steps[1]["names"]) and len(going) == 1
    assert dead_man.undo(plan.undo, app.request) == []
    assert app.digest("/api/v1/nodes/one") == kept
    assert rig.request("GET", "/api/v1/nodes/one")["metadata"].get("managedFields") == owners


def foreign() -> dict[str, Any]:
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    return {"containers": [{"name": "x", "image": "x:1", "securityContext": {**restricted, **seccomp}}]}


def test_a_budget_and_a_lacking_permission_are_told_in_the_servers_words(rig: Rig, shop: Shop) -> None:
    rig.request("PATCH", BUDGET, {"spec": {"maxUnavailable": 0}}, MERGE)
    until(lambda: rig.request("GET", BUDGET)["status"]["disruptionsAllowed"] == 0, 20, "a budget without a pod that may go")
    with pytest.raises(
        Skipped, match=f"can't be evicted now: Cannot evict pod as it would violate .* budget {NAME} needs 2 healthy pods"
    ):
        shop.drill()
    rules = [
        {"apiGroups": ["", "apps"], "resources": ["pods", "services", "deployments"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
    ]
    role = {"metadata": {"name": "reader"}, "rules": rules[:1]}
    rig.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    rig.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    try:
        with pytest.raises(Skipped, match=r'can\'t be listed \(.*cannot list resource "nodes"'):
            shop.drill("nobody")
        rig.request("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/reader", {"rules": rules}, MERGE)

        def said() -> bool:
            try:
                shop.drill("nobody")
            except Skipped as error:
                return "cannot patch resource" in str(error) and "can't be patched: " in str(error)
            return False

        until(said, 10, "the refusal of the cordon")  # a changed role counts a moment later
    finally:
        for kind in ("clusterroles", "clusterrolebindings"):
            rig.remove(f"/apis/rbac.authorization.k8s.io/v1/{kind}/reader")
