# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application with all that flask_apps has for deployments: a name with TLS, an autoscaler, a migration, a worker and more.

The name is served by the local cluster's own ingress controller, which it has for these tests alone.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from kubernetes import client

from tests.fakes.certificates import certificate
from tests.harness import LONG, ROOT, Cluster, Run, playbook, until

pytestmark = LONG
NAME, HOST = "everything", "everything.test"
NS = f"/api/v1/namespaces/{NAME}"
JOBS = f"/apis/batch/v1/namespaces/{NAME}/jobs"
CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
ADDED = {"local_cluster_ingress": True}
WAITS = "import signal; signal.sigwait([signal.SIGTERM])"
APP: dict[str, Any] = {
    "name": NAME,
    "source": str(ROOT / "app"),
    "service_type": "LoadBalancer",
    "labels": {"team": "shop"},
    "pod_labels": {"cost": "web"},
    "image_pull_secrets": ["pull"],
    "autoscale": {"min": 2, "max": 3, "cpu": 80},
    "migration": {"command": ["python", "-c", "print('migrated')"]},
    "workers": [{"name": "mail", "command": ["python", "-c", WAITS]}],
    "hosts": [{"name": HOST, "tls_secret": "tls"}],
    "alerts": {"FlaskWorkerCrashLooping": {"for": "10s", "window": "1m"}},
}


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the reports; what the application's users make by themselves is there."""
    folder = tmp_path_factory.mktemp("everything")
    pair = certificate(HOST, left=90)
    login = json.dumps({"auths": {"registry.test": {"auth": "dTpw"}}})
    for options, changed in ((ADDED, True), (ADDED, False)):
        assert bool(playbook("playbooks/cluster.yml", extra=options).changed) == changed
    cluster.core.create_namespace({"metadata": {"name": NAME}})
    for name, kind, data in (
        ("tls", "kubernetes.io/tls", {"tls.crt": pair[0], "tls.key": pair[1]}),
        ("pull", "kubernetes.io/dockerconfigjson", {".dockerconfigjson": login}),
    ):
        cluster.core.create_namespaced_secret(NAME, {"metadata": {"name": name}, "type": kind, "stringData": data})
    yield folder
    for changed in (True, False):
        assert bool(playbook("playbooks/cluster.yml").changed) == changed
    assert Objects(cluster.api).request("GET", CLASSES)["items"] == []
    cluster.core.delete_namespace(NAME)
    until(lambda: NAME not in cluster.namespaces(), 120, "the end of the namespace")


def run(folder: Path, **changes: Any) -> Run:
    options = {"flask_apps": [{**APP, **changes}], "verify_report": str(folder / "verify.json")}
    return playbook("site.yml", "--tags", "app,monitoring,verify", extra=options)


def test_it_is_deployed_and_every_link_is_well(cluster: Cluster, deployed: Path) -> None:
    assert run(deployed).changed > 0
    rows = {row["link"]: row for row in json.loads((deployed / "verify.json").read_text())["results"]}
    others = {name: row["status"] for name, row in rows.items() if row["status"] != "ok"}
    assert others == dict.fromkeys(("grafana", "data sources", "alert routes"), "skipped")
    assert {"route", "worker mail", "rollout"} <= set(rows)
    pods = cluster.core.list_namespaced_pod(NAME, label_selector=f"app={NAME}").items
    assert len(pods) == 2 and {pod.metadata.labels["cost"] for pod in pods} == {"web"}
    assert {secret.name for pod in pods for secret in pod.spec.image_pull_secrets} == {"pull"}
    (job,) = client.BatchV1Api(cluster.api).list_namespaced_job(NAME).items
    assert job.status.succeeded == 1 and job.metadata.labels["team"] == "shop"


def test_a_second_run_changes_nothing(deployed: Path) -> None:
    assert run(deployed).changed == 0


def test_it_is_drilled(deployed: Path) -> None:
    options = {"flask_apps": [APP], "drill_scenarios": ["pod_killed"], "drill_report": str(deployed)}
    assert playbook("playbooks/drill.yml", extra=options).changed == 0
    (found,) = json.loads((deployed / "drill.json").read_text())["scenarios"]
    assert (found["name"], found["status"], found["restored"]["ok"]) == ("pod_killed", "passed", True)


def test_a_failed_migration_leaves_the_old_version_in_service(cluster: Cluster, deployed: Path) -> None:
    before = cluster.apps.read_namespaced_deployment(NAME, NAME).metadata.generation
    fails = ["python", "-c", "print('no such table: cart'); raise SystemExit(3)"]
    error = run(deployed, migration={"command": fails}, environment={"NEW": "1"}).error
    assert "no such table: cart" in error
    assert cluster.apps.read_namespaced_deployment(NAME, NAME).metadata.generation == before
    with urllib.request.urlopen(f"http://{cluster.address(NAME, NAME)}/health", timeout=5) as reply:
        assert reply.status == 200


def test_a_worker_that_crashes_is_told_by_an_alert(cluster: Cluster, deployed: Path) -> None:
    crashes = [{"name": "mail", "command": ["python", "-c", "raise SystemExit('no queue')"]}]
    done = run(deployed, workers=crashes)
    assert f"{NAME}-mail" in done.error
    path = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/query"
    # The former pod of the worker goes on, so that none is missing.
    alert = f'ALERTS{{alertname="FlaskWorkerCrashLooping",namespace="{NAME}",alertstate="firing"}}'
    objects = Objects(cluster.api)
    until(lambda: objects.request("GET", path, {"query": alert})["data"]["result"], 180, "the worker's alert")


def test_absent_twice_leaves_what_others_made(cluster: Cluster, deployed: Path) -> None:
    assert run(deployed, state="absent").changed > 0
    assert run(deployed, state="absent").changed == 0
    left = {secret.metadata.name for secret in cluster.core.list_namespaced_secret(NAME).items}
    assert left == {"tls", "pull"}
    assert cluster.core.list_namespaced_service(NAME).items == [] and Objects(cluster.api).request("GET", JOBS)["items"] == []
