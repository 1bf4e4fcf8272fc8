"""The chain on a real cluster, seen from outside; `molecule test` has converged it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[2]
KUBECONFIG = Path(os.environ.get("CLUSTER_KUBECONFIG", ""))
INVENTORY = ["-i", "inventories/local", "-i", "molecule/default/inventory.yml", "--limit", "flaskops-test"]


@pytest.fixture(scope="module")
def api() -> client.ApiClient:
    return config.new_client_from_config(str(KUBECONFIG), context="flaskops-test")


def deployment(api: client.ApiClient) -> client.V1Deployment:
    return client.AppsV1Api(api).read_namespaced_deployment("flask-app", "flask-app")


def address(api: client.ApiClient) -> str:
    service = client.CoreV1Api(api).read_namespaced_service("flask-app", "flask-app")
    return service.status.load_balancer.ingress[0].ip


def playbook(*args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    return subprocess.run(["ansible-playbook", *INVENTORY, *args], cwd=ROOT, env=env, capture_output=True, text=True)


def changed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    found = re.search(r"changed=(\d+)", done.stdout)
    assert found, done.stdout[-2000:]
    return int(found.group(1))


def test_kubeconfig_is_private() -> None:
    assert KUBECONFIG.stat().st_mode & 0o777 == 0o600


def test_probes_are_the_reference(api: client.ApiClient) -> None:
    container = deployment(api).spec.template.spec.containers[0]
    for probe, period in ((container.liveness_probe, 10), (container.readiness_probe, 5)):
        assert (probe.http_get.path, probe.http_get.port) == ("/health", 5000)
        assert (probe.initial_delay_seconds, probe.period_seconds) == (5, period)


def test_namespace_is_restricted(api: client.ApiClient) -> None:
    labels = client.CoreV1Api(api).read_namespace("flask-app").metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_load_balancer_answers_from_the_host(api: client.ApiClient) -> None:
    with urllib.request.urlopen(f"http://{address(api)}/health", timeout=5) as reply:
        assert reply.status == 200


def test_load_balancer_never_serves_metrics(api: client.ApiClient) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"http://{address(api)}/metrics", timeout=5)
    assert error.value.code == 404
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://{address(api)}:9200/metrics", timeout=3)


def test_logs_by_label_are_json(api: client.ApiClient) -> None:
    request = urllib.request.Request(f"http://{address(api)}/", headers={"X-Request-ID": "chain-test-1"})
    urllib.request.urlopen(request, timeout=5).read()
    core = client.CoreV1Api(api)
    pods = core.list_namespaced_pod("flask-app", label_selector="app=flask-app").items
    lines = [line for pod in pods for line in core.read_namespaced_pod_log(pod.metadata.name, "flask-app").splitlines()]
    (line,) = [json.loads(line) for line in lines if "chain-test-1" in line]
    assert {"time", "level", "message", "request_id", "method", "route", "status", "duration"} <= line.keys()


def test_check_mode_on_converged_cluster_changes_nothing() -> None:
    assert changed(playbook("site.yml", "--check")) == 0


def test_drift_is_repaired(api: client.ApiClient) -> None:
    apps = client.AppsV1Api(api)
    apps.patch_namespaced_deployment("flask-app", "flask-app", {"spec": {"replicas": 1}})
    assert changed(playbook("site.yml", "--tags", "app", "--check")) == 1
    assert deployment(api).spec.replicas == 1, "check mode changed the cluster"
    assert changed(playbook("site.yml", "--tags", "app")) == 1
    assert deployment(api).spec.replicas == 2


def test_killed_cluster_comes_back_with_its_data(api: client.ApiClient) -> None:
    before = deployment(api).metadata.uid
    subprocess.run(["podman", "kill", "flaskops-test-node"], check=True, capture_output=True, env=engine_env())
    assert changed(playbook("site.yml")) == 1
    assert deployment(api).metadata.uid == before
    with urllib.request.urlopen(f"http://{address(api)}/health", timeout=5) as reply:
        assert reply.status == 200


def engine_env() -> dict[str, str]:
    from ansible_collections.flaskops.observability.plugins.module_utils._engine import Engine

    return Engine.find("podman").env


def test_absent_app_leaves_nothing(api: client.ApiClient, tmp_path: Path) -> None:
    absent = ["playbooks/app.yml", "-e", "flask_app_state=absent"]
    assert changed(playbook(*absent)) > 0
    assert changed(playbook(*absent)) == 0
    assert "flask-app" not in {n.metadata.name for n in client.CoreV1Api(api).list_namespace().items}
