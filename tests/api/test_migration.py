# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that runs once before an application is changed: what it decides, and what is left of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.promise import promised
from ansible_collections.flaskops.observability.plugins.module_utils.kube.state import State, Wish
from ansible_collections.flaskops.observability.plugins.module_utils.kube.wait import NotReady

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet, logging_node
from tests.harness import Run, run_role

NAME = "shop"
NS = f"/api/v1/namespaces/{NAME}"
JOBS = f"/apis/batch/v1/namespaces/{NAME}/jobs"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAME}/deployments"
# What a failed migration must leave as it was: all that decides how users are served.
SERVING = (
    DEPLOYMENTS,
    f"{NS}/services",
    f"{NS}/configmaps",
    f"/apis/networking.k8s.io/v1/namespaces/{NAME}/networkpolicies",
    f"/apis/policy/v1/namespaces/{NAME}/poddisruptionbudgets",
    f"/apis/autoscaling/v2/namespaces/{NAME}/horizontalpodautoscalers",
)
KINDS = ["ServiceAccount", "NetworkPolicy", "Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"]
PASSWORD, TOKEN = "hunter2-of-the-database", "c4n4ry-T0ken"
LOG = f"""\
Running upgrade 4711 -> 4712
Error: postgresql://shop:{PASSWORD}@db:5432/shop has no table items
could not log in with {PASSWORD}, {TOKEN}, or amqp://guest:somebodys@queue
"""


class Shop:
    """An application with a migration, whose Job's pods end as a test says."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder

    def run(self, *args: str, exit_code: int | None = 0, node: str = "", **options: Any) -> Run:
        given = {"kubeconfig": str(self.rig.kubeconfig()), "name": NAME, "namespace": NAME, "image": "shop:1", "wait_timeout": 30}
        options = {"migration": {"command": ["flask", "db", "upgrade"]}, **options}
        variables = {f"flask_app_{key}": value for key, value in {**given, **options}.items()}
        with kubelet(self.rig, NAME, exit_code, node):
            return run_role("flask_app", self.folder, variables, *args)

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.rig.request("GET", JOBS)["items"])

    def uids(self) -> list[str]:
        return [job["metadata"]["uid"] for job in self.jobs()]


@pytest.fixture
def shop(rig: Rig, tmp_path: Path) -> Iterator[Shop]:
    yield Shop(rig, tmp_path)
    if any(item["metadata"]["name"] == NAME for item in rig.request("GET", "/api/v1/namespaces")["items"]):
        rig.remove(NS)


def test_it_runs_once_for_each_image_and_configuration(shop: Shop) -> None:
    # Check mode says so on an empty cluster too.
    assert shop.run("--check").changed == 1
    assert shop.run().changed == 1
    (first,) = shop.uids()
    assert [shop.run(*args).changed for args in ((), ("--check",))] == [0, 0] and shop.uids() == [first]
    # No part of the configuration of a pod: nothing to run again for.
    assert shop.run(replicas=3).changed == 1 and shop.uids() == [first]
    done = shop.run("--check", "--diff", image="shop:2")
    assert done.changed == 1 and "Job shop/shop-migrate-" in done.stdout and shop.uids() == [first]
    assert shop.run(image="shop:2").changed == 1
    (second,) = shop.uids()
    assert second != first
    assert shop.run(image="shop:2", environment={"COLOUR": "red"}).changed == 1
    assert shop.uids() not in ([first], [second])
    # It goes with its option.
    assert shop.run("--check", image="shop:2", environment={"COLOUR": "red"}, migration={}).changed == 1
    assert [shop.run(image="shop:2", environment={"COLOUR": "red"}, migration={}).changed for _ in range(2)] == [1, 0]
    assert shop.uids() == []


def test_its_pod_is_the_application_s_but_serves_nobody(shop: Shop, rig: Rig) -> None:
    more = {"containers": [{"name": "proxy", "image": "proxy:1"}], "initContainers": [{"name": "wait", "image": "w:1"}]}
    shop.run(
        volumes=[{"mountPath": "/data", "emptyDir": {}}],
        secret_environment=["database"],
        environment={"COLOUR": "red"},
        autoscale={"max": 3},
        pod_overrides=more,
    )
    (job,) = shop.jobs()
    (pod,) = rig.request("GET", f"{NS}/pods?labelSelector=batch.kubernetes.io/job-name={job['metadata']['name']}")["items"]
    (container,), web = pod["spec"]["containers"], rig.request("GET", f"{DEPLOYMENTS}/{NAME}")["spec"]
    own = web["template"]["spec"]["containers"][0]
    assert (container["name"], container["command"]) == ("migration", ["flask", "db", "upgrade"])
    for field in ("image", "env", "envFrom", "volumeMounts", "securityContext", "resources"):
        assert container[field] == own[field]
    assert "readinessProbe" in own and "preStop" in own["lifecycle"]
    assert not {"ports", "readinessProbe", "livenessProbe", "lifecycle"} & container.keys()
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["wait"]
    assert pod["spec"]["serviceAccountName"] == NAME
    # Log lines have the application's name, and nothing that leads to its pods leads to this one.
    labels = pod["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == NAME
    selectors = [
        *(item["spec"]["selector"] for item in rig.request("GET", f"{NS}/services")["items"]),
        *(item["spec"]["selector"]["matchLabels"] for item in rig.request("GET", SERVING[4])["items"]),
        *(item["spec"]["podSelector"]["matchLabels"] for item in rig.request("GET", SERVING[3])["items"]),
        web["selector"]["matchLabels"],
    ]
    assert len(selectors) == 5 and not any(selector.items() <= labels.items() for selector in selectors)
    (promise,) = rig.request("GET", f"{NS}/configmaps?labelSelector=flaskops/promise")["items"]
    # A Job that has ended may be tidied away.
    assert {"Deployment", "Service"} <= {item["kind"] for item in promised(promise)} <= {*KINDS}
    assert [shop.run(state="absent", migration=m).changed for m in ({}, {"command": ["flask", "db", "upgrade"]})] == [1, 0]


def test_a_failed_one_leaves_the_old_version_as_it_is(shop: Shop, rig: Rig) -> None:
    shop.run(autoscale={"max": 3}, secret_environment=["database"])
    values = {"DATABASE_URL": f"postgresql://shop:{PASSWORD}@db:5432/shop", "short": "no"}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    rig.request("POST", f"{NS}/secrets", {"metadata": {"name": "database"}, "data": data})
    before = rig.versions(*SERVING)
    # A port that the old version does not serve, and an autoscaler that goes: nothing of it may come before the new version.
    new = {"image": "shop:2", "port": 8000, "secret_environment": ["database"], "environment": {"API_TOKEN": TOKEN}}
    with logging_node(rig, LOG) as node:
        done = shop.run("-vvv", exit_code=3, node=node, **new)
        assert "Job shop-migrate-" in done.error and "BackoffLimitExceeded" in done.error and "exit 3" in done.error
        assert "Running upgrade 4711 -> 4712" in done.error and "has no table items" in done.error
        for secret in (PASSWORD, "somebodys"):
            assert secret not in done.stdout + done.stderr
        assert TOKEN not in done.error and "could not log in with ***, ***, or amqp://guest:***@queue" in done.error
        assert rig.versions(*SERVING) == before
        failed = {*shop.uids()}
        assert len(failed) == 2
        # The next run tries again, and says so before.
        assert shop.run("--check", **new).changed == 1 and {*shop.uids()} == failed
        assert shop.run(**new).changed == 1
    (job,) = shop.jobs()
    assert job["metadata"]["uid"] not in failed and job["status"]["succeeded"] == 1
    assert rig.request("GET", f"{DEPLOYMENTS}/{NAME}")["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2"
    assert shop.run(**new).changed == 0


def test_nothing_runs_for_an_application_that_is_refused(shop: Shop, rig: Rig) -> None:
    """Else the tables would be those of a version that never comes."""
    ports = [{"name": "same", "port": 80}, {"name": "same", "port": 81}]
    assert "spec.ports" in shop.run(service_ports=ports).error
    assert not [item for item in rig.request("GET", "/api/v1/namespaces")["items"] if item["metadata"]["name"] == NAME]
    shop.run(migration={})
    assert "spec.ports" in shop.run(service_ports=ports).error and not shop.jobs()


def test_one_that_takes_too_long(shop: Shop, rig: Rig) -> None:
    slow = {"command": ["sleep", "1000"], "timeout": 8}
    with logging_node(rig, LOG) as node:
        done = shop.run(exit_code=None, node=node, migration=slow)
        assert "has not ended after 3 s" in done.error and "Running upgrade 4711 -> 4712" in done.error
        assert not rig.request("GET", DEPLOYMENTS)["items"]
        assert shop.run(exit_code=None, node=node, migration=slow, state="absent").changed == 1


def test_one_that_still_runs_is_waited_for_and_not_made_again(shop: Shop, rig: Rig) -> None:
    """As after a run that was killed."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "up", "image": "up:1"}]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "up", "namespace": NAME}, "spec": {"template": template}}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAME},
        "spec": {"ports": [{"port": 80}]},
    }

    def apply(seconds: int, job: dict[str, Any] = job) -> list[str]:
        wish = Wish("role shop", [space, job, service], wait_timeout=seconds)
        return list(State(Objects(api_client(str(rig.kubeconfig()), "")), wish).run("present")["changes"])

    with kubelet(rig, NAME, None), pytest.raises(NotReady, match="has not ended after 1 s"):
        apply(1)
    before = shop.uids()
    assert len(before) == 1 and not rig.request("GET", f"{NS}/services")["items"]
    with kubelet(rig, NAME):
        assert apply(30) == [f"created Service {NAME}/{NAME}"]
    assert shop.uids() == before
    # Nor does one of another version start beside it.
    second, third = named(job, "second"), named(job, "third")
    with kubelet(rig, NAME, None), pytest.raises(NotReady, match="has not ended after 1 s"):
        apply(1, second)
    with kubelet(rig, NAME, None), pytest.raises(NotReady, match=r"Job second .* still runs after 1 s"):
        apply(1, third)
    assert {item["metadata"]["name"] for item in shop.jobs()} == {"up", "second"}
    with kubelet(rig, NAME):
        assert f"created Job {NAME}/third" in apply(30, third)
    assert [item["metadata"]["name"] for item in shop.jobs()] == ["third"]
    # One that has not begun is not waited for, and does not come to life later.
    with kubelet(rig, NAME, None):
        with pytest.raises(NotReady, match="has not ended after 1 s"):
            apply(1, second)
        (pod,) = rig.request("GET", f"{NS}/pods?labelSelector=batch.kubernetes.io/job-name=second")["items"]
        waiting = {"phase": "Pending", "containerStatuses": [], "conditions": [{"type": "Ready", "status": "False"}]}
        path = f"{NS}/pods/{pod['metadata']['name']}/status"
        rig.request("PATCH", path, {"status": waiting}, "application/merge-patch+json")
        with pytest.raises(NotReady, match=r"Job fourth .* has not ended after 5 s"):
            apply(5, named(job, "fourth"))
    assert {item["metadata"]["name"] for item in shop.jobs()} == {"third", "fourth"}


def named(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], "name": name}}


@pytest.mark.parametrize("given", [{"timeout": 5}, {"command": []}, {"command": ["a"], "timeout": 0}])
def test_what_can_t_be_run_is_refused(shop: Shop, rig: Rig, given: dict[str, Any]) -> None:
    assert "flask_app_migration" in shop.run(migration=given).error
    assert not [item for item in rig.request("GET", "/api/v1/namespaces")["items"] if item["metadata"]["name"] == NAME]
