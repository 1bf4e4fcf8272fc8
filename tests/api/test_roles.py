# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role that brings a cluster to a state, through its whole life: check mode on an empty cluster, converge, again, in check
mode too, an object that somebody changed, absent, absent again, and nothing is left.

Each role is a host of one play, so a step is one run of Ansible. Pods get ready by kwok; the Prometheus operator is the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.test_verify_probes import Answers, own_address
from tests.api_rig import CONTEXT, Rig, running
from tests.harness import LONG, Run, inventory_of, playbook, until
from tests.toolchain import programs

pytestmark = LONG
ROOT = Path(__file__).resolve().parents[2]
APPS, CORE, OPERATOR = "/apis/apps/v1", "/api/v1", "/apis/monitoring.coreos.com/v1"
# What a role may leave nothing of.
WATCHED = (
    *(f"{CORE}/{kind}" for kind in ("namespaces", "secrets", "configmaps", "services", "serviceaccounts", "pods")),
    *(f"{APPS}/{kind}" for kind in ("deployments", "statefulsets", "daemonsets")),
    *("/apis/networking.k8s.io/v1/networkpolicies", "/apis/policy/v1/poddisruptionbudgets"),
    *(f"/apis/rbac.authorization.k8s.io/v1/{kind}" for kind in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")),
    *(f"{OPERATOR}/{kind}" for kind in ("servicemonitors", "prometheusrules", "probes", "prometheuses", "alertmanagers")),
    *("/apis/scheduling.k8s.io/v1/priorityclasses", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
)
SHOP = {"app": "shop"}
ANSWERS = "answers"


def tag(version: str) -> dict[str, Any]:
    return {"image": {"tag": version}}


# The charts of this collection leave the versions to the role, which gives them where the charts are its choice.
STACK = {
    "prometheusOperator": {**tag("v0.93.1"), "prometheusConfigReloader": tag("v0.93.1")},
    "prometheus": {"prometheusSpec": {**tag("v3.7.0"), "version": "v3.7.0"}},
    "alertmanager": {"alertmanagerSpec": {**tag("v0.28.1"), "version": "v0.28.1"}},
    "kubeStateMetrics": tag("v2.15.0"),
    "kube-state-metrics": tag("v2.15.0"),
    "nodeExporter": {},
    "prometheus-node-exporter": tag("v1.12.1"),
}


@dataclass
class Life:
    """A role with its options, and an object of it that somebody changes."""

    options: dict[str, Any]
    path: str
    body: dict[str, Any]
    absent: dict[str, Any] = field(default_factory=dict)


def lives(folder: Path, port: int) -> dict[str, Life]:
    return {
        "flask_app": Life(
            {"namespace": "web", "name": "web", "image": "web:1", "network_policy": True},
            f"{APPS}/namespaces/web/deployments/web",
            {"spec": {"replicas": 1}},
        ),
        "app_monitoring": Life(
            {
                "namespace": "default",
                "name": "shop",
                "grafana_namespace": "default",
                "prometheus_name": "theirs",
                "prober_url": "prober.default.svc:9115",
            },
            f"{OPERATOR}/namespaces/default/servicemonitors/shop",
            {"spec": {"sampleLimit": 6000}},
        ),
        "kube_prometheus_stack": Life(
            {
                "namespace": "monitoring",
                "source": "upstream",
                "chart_ref": str(folder / "kube-prometheus-embedded"),
                "blackbox_chart_ref": str(ROOT / "charts/blackbox-exporter-embedded"),
                "grafana": False,
                "alert_inbox_image": "alert-inbox:1",
                "values": STACK,
                "blackbox_values": tag("v0.27.0"),
            },
            f"{OPERATOR}/namespaces/monitoring/prometheuses/kube-prometheus-stack-prometheus",
            {"spec": {"retention": "77d"}},
            {"remove_data": True},
        ),
        "victoria_logs": Life(
            {"source": "upstream", "chart_ref": str(folder / "victoria-logs-single"), "grafana_namespace": "default"},
            f"{CORE}/namespaces/victoria-logs/configmaps/victoria-logs-made",
            {"data": {"word": "another"}},
            {"remove_data": True},
        ),
        "loki": Life(
            {"source": "upstream", "chart_ref": str(folder / "loki"), "grafana_namespace": "default"},
            f"{CORE}/namespaces/loki/configmaps/loki-made",
            {"data": {"word": "another"}},
            {"remove_data": True},
        ),
        "fluent_bit": Life(
            {"outputs": [{"name": "logs", "type": "loki", "host": "loki.loki.svc"}]},
            f"{APPS}/namespaces/logging/daemonsets/fluent-bit",
            {"spec": {"template": {"spec": {"serviceAccountName": "default"}}}},
        ),
        "elastic_stack": Life(
            {"chart_ref": str(folder / "eck-operator"), "wait": False},
            f"{CORE}/namespaces/elastic-system/configmaps/elastic-operator-made",
            {"data": {"word": "another"}},
            {"remove_data": True, "remove_crds": True},
        ),
        "verify": Life(
            {
                **{"namespace": ANSWERS, "name": ANSWERS, "port": port, "metrics_port": port, "app_only": True},
                **{"log_check": False, "alert_check": False, "schedule": 60, "schedule_image": "runner:1"},
                # Not those that the other roles are about to make.
                "schedule_namespaces": ["default"],
            },
            f"{APPS}/namespaces/{ANSWERS}/deployments/{ANSWERS}-verify",
            {"spec": {"revisionHistoryLimit": 7}},
        ),
    }


def definition(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }


def write_charts(folder: Path) -> None:
    """Charts with the names of the real ones and one object each, and that of the stack with the definitions of its operator."""
    stack = folder / "kube-prometheus-embedded"
    shutil.copytree(ROOT / "charts/kube-prometheus-embedded", stack)
    shutil.copytree(programs("prometheus-operator") / "crds", stack / "charts/crds/crds")
    (stack / "charts/crds/Chart.yaml").write_text("apiVersion: v2\nname: crds\nversion: 0.0.0\n")
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-made"}, "data": {"word": "one"}}
    for name in ("loki", "eck-operator", "victoria-logs-single"):
        (folder / name / "templates").mkdir(parents=True)
        (folder / name / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.2.3\n")
        (folder / name / "templates/made.yaml").write_text(yaml.safe_dump(made))
    for item in (
        ("elasticsearch.k8s.elastic.co", "v1", "Elasticsearch", "elasticsearches"),
        ("kibana.k8s.elastic.co", "v1", "Kibana", "kibanas"),
        ("stackconfigpolicy.k8s.elastic.co", "v1alpha1", "StackConfigPolicy", "stackconfigpolicies"),
    ):
        (folder / f"eck-operator/templates/{item[3]}.yaml").write_text(yaml.safe_dump(definition(*item)))


def make_shop(rig: Rig) -> None:
    """An application, and somebody's Prometheus and Alertmanager that watch everything."""
    pod = {"containers": [{"name": "shop", "image": "shop:1"}]}
    spec = {"selector": {"matchLabels": SHOP}, "template": {"metadata": {"labels": SHOP}, "spec": pod}}
    rig.request("POST", f"{APPS}/namespaces/default/deployments", {"metadata": {"name": "shop"}, "spec": spec})
    ports = [{"name": "http", "port": 80, "targetPort": 5000}, {"name": "metrics", "port": 9200, "targetPort": 9200}]
    service = {"metadata": {"name": "shop", "labels": SHOP}, "spec": {"selector": SHOP, "ports": ports}}
    rig.request("POST", f"{CORE}/namespaces/default/services", service)
    every: dict[str, Any] = {}
    for kind in ("serviceMonitor", "rule", "probe"):
        every |= {f"{kind}Selector": {}, f"{kind}NamespaceSelector": {}}
    for kind, plural, selectors in (
        ("Prometheus", "prometheuses", every),
        ("Alertmanager", "alertmanagers", {"alertmanagerConfigSelector": {}, "alertmanagerConfigNamespaceSelector": {}}),
    ):
        item = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "theirs"}, "spec": selectors}
        rig.request("POST", f"{OPERATOR}/namespaces/default/{plural}", item)

    def ready() -> bool:
        pods = rig.request("GET", f"{CORE}/namespaces/default/pods")["items"]
        return len(pods) == 3 and all(pod["status"]["phase"] == "Running" for pod in pods)

    until(ready, 60, "what watches the application")


def make_answers(rig: Rig, address: str, port: int) -> None:
    """An application that answers: a server of this process is where kwok's pod would be."""
    rig.request("POST", f"{CORE}/namespaces", {"metadata": {"name": ANSWERS}})
    probe = {"httpGet": {"path": "/ok200", "port": "http"}}
    container = {"name": "main", "image": "main:1", "ports": [{"name": "http", "containerPort": port}]}
    pod = {"containers": [{**container, "livenessProbe": probe, "readinessProbe": probe}]}
    labels = {"app": ANSWERS}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    place = f"namespaces/{ANSWERS}"
    rig.request("POST", f"{APPS}/{place}/deployments", {"metadata": {"name": ANSWERS}, "spec": spec})
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    rig.request("POST", f"{CORE}/{place}/services", {"metadata": {"name": ANSWERS}, "spec": {"selector": labels, "ports": ports}})

    def led_there() -> bool:
        for item in rig.request("GET", f"{CORE}/{place}/pods")["items"]:
            if item["status"]["phase"] == "Running" and item["status"].get("podIP") != address:
                status = {"podIP": address, "podIPs": [{"ip": address}]}
                path = f"{CORE}/{place}/pods/{item['metadata']['name']}/status"
                rig.request("PATCH", path, {"status": status}, "application/merge-patch+json")
        slices = rig.request("GET", f"/apis/discovery.k8s.io/v1/{place}/endpointslices")["items"]
        return any(address in (end["addresses"] or []) for item in slices for end in item["endpoints"] or [])

    until(led_there, 60, "the Service leads to the server")


@dataclass
class Roles:
    """All roles as hosts of one play."""

    rig: Rig
    folder: Path
    lives: dict[str, Life]

    def run(self, state: str, *args: str) -> dict[str, int]:
        """What each role changed; none may fail."""
        hosts = {}
        for role, life in self.lives.items():
            options = {**life.options, **(life.absent if state == "absent" else {}), "state": state, "wait_timeout": 60}
            hosts[role] = {f"{role}_{name}": value for name, value in options.items()}
        common = {"cluster_kubeconfig": str(self.rig.kubeconfig()), "cluster_context": CONTEXT}
        tasks = [{"name": "Run it", "ansible.builtin.include_role": {"name": "flaskops.observability.{{ inventory_hostname }}"}}]
        # Each host goes on by itself: that one role waits is no reason for the others to.
        play = {"name": "Run a role", "hosts": "all", "gather_facts": False, "strategy": "free", "tasks": tasks}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        env = {"PATH": f"{programs('helm')}:{os.environ['PATH']}"}
        done = playbook(
            str(self.folder / "play.yml"), *args, inventory=inventory_of(self.folder, hosts, **common), env=env, timeout=600
        )
        assert done.returncode == 0, done.error
        return changes(done)

    def versions(self) -> dict[str, str]:
        """All objects; what a Lease or an event says changes by itself."""
        return self.rig.versions(*WATCHED)


def changes(run: Run) -> dict[str, int]:
    """The changes of each host, by the recap."""
    lines = [line for line in run.stdout.splitlines() if " changed=" in line]
    return {line.split()[0]: int(line.split("changed=")[1].split()[0]) for line in lines}


def unchanged(found: dict[str, int]) -> set[str]:
    return {role for role, count in found.items() if count == 0}


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    folder = tmp_path_factory.mktemp("roles")
    write_charts(folder)
    address = own_address()
    with running(tmp_path_factory.mktemp("rig"), node=True) as rig, ThreadingHTTPServer((address, 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        make_shop(rig)
        make_answers(rig, address, server.server_port)
        yield Roles(rig, folder, lives(folder, server.server_port))
        server.shutdown()


def test_the_whole_life_of_every_role(roles: Roles) -> None:
    before = roles.versions()
    names = set(before)
    assert unchanged(roles.run("present", "--check")) == set()
    assert set(roles.versions()) - names == set(), "check mode made something"
    assert unchanged(roles.run("present")) == set()
    made = roles.versions()
    nothing = dict.fromkeys(roles.lives, 0)
    assert roles.run("present") == nothing
    assert roles.run("present", "--check") == nothing
    changed = {path for path, version in roles.versions().items() if made.get(path) != version}
    assert not changed, changed
    wanted = {role: roles.rig.request("GET", life.path) for role, life in roles.lives.items()}
    for life in roles.lives.values():
        roles.rig.request("PATCH", life.path, life.body, "application/merge-patch+json")
    assert unchanged(roles.run("present", "--check")) == set()
    for life in roles.lives.values():
        assert holds(roles.rig.request("GET", life.path), life.body), "check mode repaired it"
    assert unchanged(roles.run("present")) == set()
    for role, life in roles.lives.items():
        assert specification(roles.rig.request("GET", life.path)) == specification(wanted[role])
    assert unchanged(roles.run("absent")) == set()
    assert roles.run("absent") == nothing
    assert set(roles.versions()) - names == set()


def holds(live: Any, part: Any) -> bool:
    return all(holds(live.get(key), value) for key, value in part.items()) if isinstance(part, dict) else bool(live == part)


def specification(item: dict[str, Any]) -> str:
    return json.dumps([item.get("spec"), item.get("data")], sort_keys=True)
