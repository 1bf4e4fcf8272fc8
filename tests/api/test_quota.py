# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that a quota refuses: the log agent needs none, and a wait for pods that can't be made ends early with the reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.wait import GRACE, Waiter

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet
from tests.harness import run_role, until

NAMESPACE = "refused"
POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "main:1"}]}}
# A node on which no kubelet runs has taints.
CRITICAL = {**POD, "spec": {**POD["spec"], "priorityClassName": "system-node-critical", "tolerations": [{"operator": "Exists"}]}}
QUOTA = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
QUOTAS = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"


@pytest.fixture(scope="module", autouse=True)
def node(rig: Rig) -> Iterator[None]:
    """A node, for which a DaemonSet wants a pod, and a namespace."""
    rig.request("POST", "/api/v1/nodes", {"metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux"}}})
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    yield
    rig.request("DELETE", "/api/v1/nodes/node-1")


@pytest.fixture
def quota(rig: Rig) -> Iterator[None]:
    """A quota that allows the namespace no pod."""
    rig.request("POST", QUOTAS, QUOTA)
    until(lambda: rig.request("GET", f"{QUOTAS}/none")["status"].get("hard"), 20, "the quota holds")
    yield
    delete_quota(rig)


def delete_quota(rig: Rig) -> None:
    if rig.request("GET", QUOTAS)["items"]:
        rig.request("DELETE", f"{QUOTAS}/none")


def made(rig: Rig, kind: str, name: str, template: dict[str, Any] = POD) -> Waiter:
    """A workload, and who waits for it."""
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    spec |= {"serviceName": name} if kind == "StatefulSet" else {}
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind.lower()}s"
    rig.request("POST", path, {"metadata": {"name": name}, "spec": spec})
    waiter = Waiter(Objects(api_client(str(rig.kubeconfig()), "")), kind, NAMESPACE, name)
    waiter.read()
    return waiter


def test_log_agent_needs_no_quota(rig: Rig, tmp_path: Path) -> None:
    variables = {
        "fluent_bit_kubeconfig": str(rig.kubeconfig()),
        "fluent_bit_outputs": [{"type": "loki", "host": "loki"}],
        "fluent_bit_wait_timeout": 60,
    }
    with kubelet(rig, "logging"):
        assert run_role("fluent_bit", tmp_path, variables).changed > 0
        # Its own class is removed where another is asked for, and with the log agent.
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        name = "flaskops-logging-fluent-bit"
        assert name in {item["metadata"]["name"] for item in rig.request("GET", classes)["items"]}
        (pod,) = rig.request("GET", "/api/v1/namespaces/logging/pods")["items"]
        assert (pod["spec"]["priorityClassName"], pod["spec"]["priority"]) == (name, 1_000_000)
    assert run_role("fluent_bit", tmp_path, {**variables, "fluent_bit_state": "absent"}).changed > 0
    assert name not in {item["metadata"]["name"] for item in rig.request("GET", classes)["items"]}


def test_daemon_set_that_is_refused_ends_early(rig: Rig) -> None:
    began = time.monotonic()
    reason = made(rig, "DaemonSet", "critical", CRITICAL).wait(120)
    assert "FailedCreate: Error creating: " in reason and "insufficient quota to match these scopes" in reason
    assert GRACE <= time.monotonic() - began < 60


@pytest.mark.usefixtures("quota")
def test_others_that_are_refused_end_early(rig: Rig) -> None:
    began = time.monotonic()
    waiters = [made(rig, kind, "refused") for kind in ("StatefulSet", "Deployment")]
    with ThreadPoolExecutor() as both:
        for reason in both.map(lambda waiter: waiter.wait(120), waiters):
            assert "FailedCreate: " in reason and "exceeded quota: none" in reason
    assert GRACE <= time.monotonic() - began < 60


@pytest.mark.usefixtures("quota")
def test_only_refusals_that_go_on_count(rig: Rig) -> None:
    waiter = made(rig, "StatefulSet", "late")
    events = f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason=FailedCreate,involvedObject.name=late"
    until(lambda: rig.request("GET", events)["items"], 20, "a pod is refused")
    assert waiter.refusal() == "", "an event that was there before may be of another rollout"
    assert "exceeded quota" in until(waiter.refusal, 30, "it is refused again")
    assert waiter.refusal(), "no news until it is tried again"
    delete_quota(rig)

    def done() -> bool:
        waiter.read()
        return waiter.refusal() == ""

    until(done, 60, "a pod is made")
    assert waiter.workload["status"]["updatedReplicas"] == 1
