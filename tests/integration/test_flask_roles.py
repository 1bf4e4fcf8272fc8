# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flask_image, flask_app, app_monitoring, verify and kube_prometheus_stack from the installed collection, in a stranger's folder.

Two applications side by side that nobody here wrote for it: httpbin from the package index, and the few lines with which
the exporter's own page begins, whose metrics are on the application's port. Each test goes on where the one before it ended.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import LONG, ROOT, Cluster, Run, engine_env, installed_collection, on_node, playbook

FEW_LINES = """\
from flask import Flask
from prometheus_flask_exporter import PrometheusMetrics

app = Flask(__name__)
metrics = PrometheusMetrics(app)


@app.get("/")
def hello():
    return "Hello"
"""
PLAY = """\
- name: Two applications side by side
  hosts: all
  gather_facts: false
  tasks:
    - name: Build the image
      ansible.builtin.import_role:
        name: flaskops.observability.flask_image
      tags: [image]
    - name: Deploy it
      ansible.builtin.import_role:
        name: flaskops.observability.flask_app
      vars: {flask_app_image: "{{ flask_image_ref | default('') }}"}
      tags: [app]
    - name: Watch it
      ansible.builtin.import_role:
        name: flaskops.observability.app_monitoring
      tags: [app]
    - name: Verify it
      ansible.builtin.import_role:
        name: flaskops.observability.verify
      vars: {verify_image: "{{ flask_image_ref | default('') }}"}
      tags: [verify]
    - name: Drill it
      ansible.builtin.import_role:
        name: flaskops.observability.drill
      tags: [drill, never]
"""
STACK = """\
- name: The stack that watches them
  hosts: httpbin
  gather_facts: false
  roles:
    - role: flaskops.observability.kube_prometheus_stack
"""
APPLICATIONS = {
    "httpbin": {
        "flask_image_wsgi": "httpbin:app",
        "flask_image_requirements": ["httpbin==0.10.2"],
        "flask_app_namespace": "stranger-web",
        "flask_app_port": 8080,
        "flask_app_metrics_port": 9100,
        "flask_app_environment": {"PORT": 8080, "METRICS_PORT": 9100},
    },
    "few-lines": {
        "flask_image_source": "{{ playbook_dir }}/few_lines",
        "flask_image_requirements": ["flask==3.1.3", "prometheus-flask-exporter==0.23.2"],
        "flask_app_namespace": "stranger-lines",
        "flask_app_replicas": 1,
        "flask_app_metrics_port": 5000,
    },
}
NAMESPACES = {str(options["flask_app_namespace"]) for options in APPLICATIONS.values()}


class Stranger:
    """A folder elsewhere that holds the installed collection, an inventory and a playbook."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.collections = installed_collection(folder)
        (folder / "few_lines").mkdir()
        (folder / "few_lines/app.py").write_text(FEW_LINES)
        (folder / "play.yml").write_text(PLAY)
        (folder / "stack.yml").write_text(STACK)
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "cluster_kubeconfig": str(cluster.kubeconfig),
            "cluster_context": cluster.context,
            "flask_image_repository": "localhost/{{ inventory_hostname }}",
            "flask_image_delivery": "import",
            "flask_image_local_cluster": cluster.context,
            "flask_image_trust_host_ca": True,
            "flask_app_name": "{{ inventory_hostname }}",
            "app_monitoring_name": "{{ flask_app_name }}",
            "app_monitoring_namespace": "{{ flask_app_namespace }}",
            "app_monitoring_port": "{{ flask_app_port | default(5000) }}",
            "app_monitoring_metrics_port": "{{ flask_app_metrics_port }}",
            "app_monitoring_scrape_interval": "5s",
            "app_monitoring_evaluation_interval": "5s",
            "verify_name": "{{ flask_app_name }}",
            "verify_namespace": "{{ flask_app_namespace }}",
            "verify_port": "{{ flask_app_port | default(5000) }}",
            "verify_metrics_port": "{{ flask_app_metrics_port }}",
            "verify_report": "{{ playbook_dir }}/{{ inventory_hostname }}.json",
            "verify_notified_severities": [],
            "drill_name": "{{ flask_app_name }}",
            "drill_namespace": "{{ flask_app_namespace }}",
            "drill_port": "{{ flask_app_port | default(5000) }}",
            "drill_metrics_port": "{{ flask_app_metrics_port }}",
            "environment_name": "test",
            "drill_report": "{{ playbook_dir }}/drill",
        }
        (folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": APPLICATIONS, "vars": common}}))

    def play(self, *args: str, file: str = "play.yml", **extra: Any) -> Run:
        inventory = ("-i", str(self.folder / "inventory.yml"))
        return playbook(file, *args, inventory=inventory, cwd=self.folder, collections=self.collections, extra=extra)

    def absent(self) -> Run:
        return self.play(
            "--tags",
            "image,app",
            "-e",
            "flask_image_state=absent",
            "-e",
            "flask_app_state=absent",
            "-e",
            "app_monitoring_state=absent",
        )


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Stranger:
    return Stranger(tmp_path_factory.mktemp("stranger"), cluster)


def images_of_node(cluster: Cluster, name: str) -> list[str]:
    """The tags of a repository in the node's containerd."""
    listed = on_node(cluster, "ctr", "-n", "k8s.io", "images", "ls", "-q").split()
    return [image for image in listed if image.startswith(f"localhost/{name}:")]


def metrics_page(cluster: Cluster, name: str, namespace: str, port: int) -> str:
    pods = cluster.core.list_namespaced_pod(namespace, label_selector=f"app={name}").items
    return str(cluster.core.connect_get_namespaced_pod_proxy_with_path(f"{pods[0].metadata.name}:{port}", namespace, "metrics"))


def test_check_mode_on_an_empty_cluster(cluster: Cluster, stranger: Stranger) -> None:
    assert stranger.play("--check").changed > 0
    assert not cluster.namespaces() & NAMESPACES
    assert images_of_node(cluster, "httpbin") + images_of_node(cluster, "few-lines") == []


def test_both_applications_run_and_are_verified(cluster: Cluster, stranger: Stranger) -> None:
    assert stranger.play().changed > 0
    for name in APPLICATIONS:
        report = json.loads((stranger.folder / f"{name}.json").read_text())
        broken = {link["link"]: link["status"] for link in report["results"] if link["status"] != "ok"}
        # Only Grafana reads data sources.
        assert broken == dict.fromkeys(("route", "grafana", "data sources", "alert routes"), "skipped")
    assert "flask_http_request_total" in metrics_page(cluster, "httpbin", "stranger-web", 9100)
    page = metrics_page(cluster, "few-lines", "stranger-lines", 5000)
    assert 'flask_http_request_duration_seconds_count{method="GET",path="/",status="200"}' in page


def test_second_run_and_check_mode_change_nothing(stranger: Stranger) -> None:
    assert stranger.play("--tags", "image,app").changed == 0
    assert stranger.play("--tags", "image,app", "--check").changed == 0


def test_the_stack_is_the_same_from_the_installed_collection(cluster: Cluster, stranger: Stranger) -> None:
    """Charts, images and objects are those of the checkout, and an option of the stranger's makes a difference."""
    local = yaml.safe_load((ROOT / "inventories/local/group_vars/local.yml").read_text())
    host = yaml.safe_load((ROOT / "molecule/default/inventory.yml").read_text())["local"]["hosts"]["flaskops-test"]
    options = {key: value for key, value in {**local, **host}.items() if key.startswith("kube_prometheus_stack_")}
    options["kube_prometheus_stack_local_cluster"] = cluster.context
    assert stranger.play(file="stack.yml", **options).changed == 0
    labels = {"kube_prometheus_stack_external_labels": {"cluster": "stranger"}}
    assert stranger.play("--check", file="stack.yml", **options, **labels).changed == 1


@LONG
def test_a_stranger_s_application_is_drilled(stranger: Stranger) -> None:
    """By the Kubernetes API and paths of the application alone, and afterwards it is as before."""
    local = yaml.safe_load((ROOT / "inventories/local/group_vars/local.yml").read_text())
    windows = {key: value for key, value in local.items() if key.startswith("app_monitoring_")}
    windows |= {f"app_monitoring_{key}": value for key, value in local["flask_app_defaults"].items() if key != "verify"}
    stranger.play("--tags", "image,app", "--limit", "httpbin", **windows)
    scenarios = ["errors", "latency", "health", "endpoint_lost", "pod_killed", "crash_loop", "oom"]
    paths = {"drill_error_path": "/status/500", "drill_slow_path": "/delay/2"}
    done = stranger.play("--tags", "drill", "--limit", "httpbin", drill_scenarios=scenarios, **paths)
    report = json.loads((stranger.folder / "drill/drill.json").read_text())
    assert {item["name"]: item["status"] for item in report["scenarios"]} == dict.fromkeys(scenarios, "passed")
    told = [item["name"] for item in report["scenarios"] if any(seen["event"] == "received" for seen in item["observations"])]
    assert set(told) >= {"errors", "latency", "health", "endpoint_lost", "crash_loop", "oom"}
    assert done.changed == 0
    assert stranger.play("--tags", "image,app", "--limit", "httpbin", **windows).changed == 0


@LONG
def test_drift_is_repaired(cluster: Cluster, stranger: Stranger) -> None:
    port = [{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]
    cluster.core.patch_namespaced_service("httpbin", "stranger-web", port)
    cluster.apps.patch_namespaced_deployment(
        "few-lines",
        "stranger-lines",
        {
            "spec": {
                "template": {
                    "metadata": {"labels": {"app": "few-lines"}},
                    "spec": {
                        "containers": [
                            {
                                "name": "few-lines",
                                "env": [{"name": "STRAY", "value": "1"}],
                                "readinessProbe": {"periodSeconds": 60},
                            }
                        ]
                    },
                }
            }
        },
    )
    (image,) = images_of_node(cluster, "few-lines")
    on_node(cluster, "ctr", "-n", "k8s.io", "images", "rm", image)
    # The image, the Deployment, the Service, and the health probe, which follows the Service.
    assert stranger.play("--tags", "image,app", "--check").changed == 4
    assert cluster.core.read_namespaced_service("httpbin", "stranger-web").spec.ports[0].port == 81
    assert stranger.play("--tags", "image,app").changed >= 3
    (entry,) = cluster.core.read_namespaced_service("httpbin", "stranger-web").spec.ports
    assert (entry.name, entry.port) == ("http", 80)
    probe = (
        cluster.apps.read_namespaced_deployment("few-lines", "stranger-lines").spec.template.spec.containers[0].readiness_probe
    )
    assert probe.period_seconds == 5
    assert images_of_node(cluster, "few-lines") == [image]
    assert stranger.play("--tags", "image,app").changed == 0


def test_absent_twice_leaves_nothing(cluster: Cluster, stranger: Stranger) -> None:
    assert stranger.absent().changed > 0
    assert stranger.absent().changed == 0
    assert not cluster.namespaces() & NAMESPACES
    assert images_of_node(cluster, "httpbin") + images_of_node(cluster, "few-lines") == []
    listed = subprocess.run(["podman", "images", "-q", "localhost/httpbin"], env=engine_env(), capture_output=True, text=True)
    assert listed.stdout == ""
