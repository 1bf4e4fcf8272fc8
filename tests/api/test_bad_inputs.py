# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role refuses bad options in one sentence that names the option; none of these cases needs a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import DEAD_KUBECONFIG, failures

CLUSTER = {"cluster_kubeconfig": "TMP/config"}
IMAGE = {"flask_app_image": "localhost/flask-app:1"}
WORKER = {"name": "mail", "command": ["celery"]}

CASES = [
    ("local_cluster", {}, "No kubeconfig is named for the cluster flaskops: set local_cluster_kubeconfig"),
    ("local_cluster", {"local_cluster_state": "up", **CLUSTER}, "local_cluster_state must be one of: present, absent, got: up"),
    ("local_cluster", {"local_cluster_api_port": "https", **CLUSTER}, "argument 'local_cluster_api_port' is of type str"),
    ("local_cluster", {"local_cluster_api_port": 70000, **CLUSTER}, "local_cluster_api_port is 70000: choose a port"),
    (
        "local_cluster",
        {"local_cluster_subnet": "10.89.0.0/16", **CLUSTER},
        "local_cluster_subnet is '10.89.0.0/16': name a private",
    ),
    ("local_cluster", {"local_cluster_engine": "lxc", **CLUSTER}, "local_cluster_engine must be one of: auto, podman, docker"),
    (
        "local_cluster",
        {"local_cluster_release_bases": {"etcdd": "http://127.0.0.1:1"}, **CLUSTER},
        "local_cluster_release_bases names etcdd: use some of etcd, containerd, cni, coredns, kubernetes, helm, ",
    ),
    ("flask_image", {}, "There is nothing to build: set flask_image_source or flask_image_wsgi"),
    ("flask_image", {"flask_image_source": "TMP/none", "flask_image_wsgi": "app:app"}, "source TMP/none is not a folder"),
    ("flask_image", {"flask_image_source": "TMP"}, "TMP has no application that Flask would find"),
    (
        "flask_image",
        {"flask_image_delivery": "mail"},
        "flask_image_delivery must be one of: none, import, push, kind, minikube, k3d, got: mail",
    ),
    (
        "flask_image",
        {"flask_image_source": "TMP", "flask_image_wsgi": "a:b", "flask_image_build_args": {"PIP_INDEX_URL": "https://a:b@c/"}},
        "login for PIP_INDEX_URL, which the image would keep: give the login in flask_image_build_secrets",
    ),
    (
        "flask_image",
        {"flask_image_source": "TMP", "flask_image_containerfile": "docker/Web"},
        "No Containerfile at TMP/docker/Web; add one or set containerfile",
    ),
    (
        "flask_image",
        {"flask_image_source": "TMP", "flask_image_folder": "web"},
        "TMP has no folder web inside it: correct flask_image_folder",
    ),
    (
        "flask_image",
        {"flask_image_source": "TMP", "flask_image_wsgi": "a:b", "flask_image_build_secrets": {"netrc": {"src": "TMP/none"}}},
        "The src of build_secrets.netrc can't be read (FileNotFoundError)",
    ),
    (
        "flask_image",
        {"flask_image_source": "TMP", "flask_image_wsgi": "a:b", "flask_image_repository": "myuser/shop"},
        "write it like localhost/flask-app or docker.io/myuser/shop",
    ),
    ("flask_image", {"flask_image_build_args": "A"}, "argument 'flask_image_build_args' is of type str"),
    ("flask_app", IMAGE, "No cluster was named: set flask_app_kubeconfig or flask_app_context"),
    ("flask_app", CLUSTER, "flask_app_image is empty: set it to the image of the application."),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_name": "My_App"}, "flask_app_name is 'My_App': use at most 63"),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_name": "a" * 56},
        "use at most 55 characters, as the Service of flask_app_metrics",
    ),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_name": "a" * 55}, "check that the cluster runs"),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_name": "a" * 57, "flask_app_metrics_port": 5000, "flask_app_health_port": "81"},
        "use at most 56 characters, as the Service of flask_app_health_port",
    ),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_name": "a" * 63, "flask_app_metrics_port": "5000"},
        "check that the cluster runs",
    ),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_replicas": "two"}, "argument 'flask_app_replicas' is of type str"),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_autoscale": {"min": 3}}, 'flask_app_autoscale is {"min": 3}: set max'),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_autoscale": {"maximum": 3}}, "flask_app_autoscale"),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_autoscale": {"max": 3}, "flask_app_resources": {"limits": {"memory": "1Gi"}}},
        "set requests.cpu in flask_app_resources",
    ),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_probes": {"liveness": {}}}, "flask_app_probes has liveness: use livenessProbe"),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_health_port": 70000}, "flask_app_health_port is 70000: use a port"),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_labels": {"app": "x", "flaskops/a": "b"}}, "have app, flaskops/a, which this"),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_volumes": [{"mountPath": "/a"}]}, 'flask_app_volumes has {"mountPath": "/a"}:'),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_volumes": [{"mountPath": "a", "emptyDir": {}}]},
        "give each volume an absolute mountPath and one source",
    ),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_volumes": [{"mountPath": path, "emptyDir": {}} for path in ("/a/b", "/a-b")]},
        'flask_app_volumes has {"emptyDir": {}, "mountPath": "/a-b"}: give each volume',
    ),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_service_load_balancer_class": "a/b"},
        "flask_app_service_type is ClusterIP: only a",
    ),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_service_ports": [{"port": 80, "targetPort": 8080}]},
        "flask_app_service_ports leads nowhere to flask_app_port (5000)",
    ),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_port": 0}, "flask_app_port is 0 and flask_app_metrics_port is 9200: use ports"),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_service_type": "Magic"}, "flask_app_service_type must be one of: ClusterIP"),
    ("flask_app", {**IMAGE, "flask_app_kubeconfig": "TMP/none"}, "The kubeconfig TMP/none does not exist"),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_context": "other"}, "has no context other"),
    ("flask_app", {**IMAGE, **CLUSTER}, "check that the cluster runs"),
    # Texts of numbers, as -e gives them, and what is not set.
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_port": "8000", "flask_app_autoscale": {"max": "6"}, "flask_app_start_timeout": "9"},
        "check that the cluster runs",
    ),
    (
        "flask_app",
        {**IMAGE, **CLUSTER, "flask_app_workers": [{**WORKER, "replicas": None}, {**WORKER, "name": "b", "replicas": "2"}]},
        "check that the cluster runs",
    ),
    ("flask_app", {**IMAGE, **CLUSTER, "flask_app_workers": [{**WORKER, "replicas": "-1"}]}, "replicas below zero"),
    ("verify", {}, "No cluster is named for role verify; set cluster_kubeconfig"),
    ("verify", {"verify_kubeconfig": "TMP/none"}, "The kubeconfig TMP/none does not exist: give the path of a readable file."),
    ("verify", {**CLUSTER, "verify_context": "other"}, "name a context that the kubeconfig holds."),
    ("verify", CLUSTER, "The API at http://127.0.0.1:1 (kubeconfig TMP/config) can't be reached"),
    ("verify", {**CLUSTER, "verify_port": 0}, "Option port is 0; give a port between 1 and 65535."),
    ("verify", {**CLUSTER, "verify_report": "TMP/none/report.json"}, "The folder TMP/none for the report does not exist"),
    ("verify", {**CLUSTER, "verify_log_check": "perhaps"}, "argument 'verify_log_check' is of type str"),
    ("kube_prometheus_stack", {}, "No cluster was named: set kube_prometheus_stack_kubeconfig"),
    ("kube_prometheus_stack", {**CLUSTER, "kube_prometheus_stack_receiver": "x"}, "which is no receiver: choose one of"),
    (
        "kube_prometheus_stack",
        {**CLUSTER, "kube_prometheus_stack_source": "embedded"},
        "kube_prometheus_stack_local_cluster is empty",
    ),
    ("kube_prometheus_stack", {**CLUSTER, "kube_prometheus_stack_chart_ref": "TMP"}, "The folder TMP holds no Chart.yaml: give"),
    ("app_monitoring", {}, "No cluster was named: set app_monitoring_kubeconfig"),
    ("app_monitoring", {**CLUSTER, "app_monitoring_name": "My_App"}, "app_monitoring_name is 'My_App'"),
]


ROLES = sorted({role for role, _options, _message in CASES})


@pytest.mark.parametrize("role", ROLES)
def test_refusal(tmp_path: Path, role: str) -> None:
    """All cases of a role in one run: a host is a case."""
    (tmp_path / "config").write_text(DEAD_KUBECONFIG)
    cases = [(options, message) for name, options, message in CASES if name == role]
    hosts = {f"case-{n}": json.loads(json.dumps(options).replace("TMP", str(tmp_path))) for n, (options, _) in enumerate(cases)}
    done, said = failures(role, tmp_path, hosts)
    for number, (_options, message) in enumerate(cases):
        assert message.replace("TMP", str(tmp_path)) in said[f"case-{number}"], (number, said[f"case-{number}"])
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config", "hosts.yml", "play.yml"]
