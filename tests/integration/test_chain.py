# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain on a real cluster, seen from outside; `molecule test` has converged it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
import uuid

import pytest
from kubernetes import client

from tests.bench.load import Load, Workload, rolled_out
from tests.harness import Cluster, engine_env, playbook


def deployment(cluster: Cluster) -> client.V1Deployment:
    return cluster.apps.read_namespaced_deployment("flask-app", "flask-app")


def url(cluster: Cluster) -> str:
    return f"http://{cluster.address('flask-app', 'flask-app')}"


def test_kubeconfig_is_private(cluster: Cluster) -> None:
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_probes_are_the_reference(cluster: Cluster) -> None:
    container = deployment(cluster).spec.template.spec.containers[0]
    for probe, period in ((container.liveness_probe, 10), (container.readiness_probe, 5)):
        assert (probe.http_get.path, probe.http_get.port) == ("/health", 5000)
        assert (probe.initial_delay_seconds, probe.period_seconds) == (5, period)


def test_namespace_is_restricted(cluster: Cluster) -> None:
    labels = cluster.core.read_namespace("flask-app").metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_load_balancer_answers_from_the_host(cluster: Cluster) -> None:
    with urllib.request.urlopen(f"{url(cluster)}/health", timeout=5) as reply:
        assert reply.status == 200


def test_load_balancer_never_serves_metrics(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{url(cluster)}/metrics", timeout=5)
    assert error.value.code == 404
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url(cluster)}:9200/metrics", timeout=3)


def test_logs_by_label_are_json(cluster: Cluster) -> None:
    request_id = f"chain-test-{uuid.uuid4().hex}"
    request = urllib.request.Request(f"{url(cluster)}/", headers={"X-Request-ID": request_id})
    urllib.request.urlopen(request, timeout=5).read()
    core = cluster.core
    pods = core.list_namespaced_pod("flask-app", label_selector="app=flask-app").items
    lines = [line for pod in pods for line in core.read_namespaced_pod_log(pod.metadata.name, "flask-app").splitlines()]
    (line,) = [json.loads(line) for line in lines if request_id in line]
    assert {"time", "level", "message", "request_id", "method", "route", "status", "duration"} <= line.keys()


def test_check_mode_on_converged_cluster_changes_nothing() -> None:
    assert playbook("site.yml", "--check").changed == 0


def test_drift_is_repaired(cluster: Cluster) -> None:
    apps = cluster.apps
    apps.patch_namespaced_deployment("flask-app", "flask-app", {"spec": {"replicas": 1}})
    assert playbook("site.yml", "--tags", "app", "--check").changed == 1
    assert deployment(cluster).spec.replicas == 1, "check mode changed the cluster"
    assert playbook("site.yml", "--tags", "app").changed == 1
    assert deployment(cluster).spec.replicas == 2


def test_rollout_under_load_loses_no_request(cluster: Cluster) -> None:
    workload = Workload(cluster.api, timeout=60)
    workload.wait()
    with Load(workload.url) as load:
        rolled_out(load, workload)
    assert load.lost == 0, load.report()


def test_killed_cluster_comes_back_with_its_data(cluster: Cluster) -> None:
    before = deployment(cluster).metadata.uid
    subprocess.run(["podman", "kill", "flaskops-test-node"], check=True, capture_output=True, env=engine_env())
    assert playbook("site.yml", "--tags", "cluster,app,verify").changed == 1
    assert deployment(cluster).metadata.uid == before
    with urllib.request.urlopen(f"{url(cluster)}/health", timeout=5) as reply:
        assert reply.status == 200
