# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The charts take the role's values: each option is found again in what Helm renders.

FLASKOPS_UPSTREAM_CHARTS names a folder with the upstream charts kube-prometheus-stack and prometheus-blackbox-exporter,
with their subcharts. Without it only the charts of this collection are rendered.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evaluation import evaluate
from tests.toolchain import programs

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/kube_prometheus_stack"
UPSTREAM = os.environ.get("FLASKOPS_UPSTREAM_CHARTS", "")
CHARTS = {
    "embedded": (ROOT / "charts/kube-prometheus-embedded", ROOT / "charts/blackbox-exporter-embedded"),
    "upstream": (Path(UPSTREAM, "kube-prometheus-stack"), Path(UPSTREAM, "prometheus-blackbox-exporter")),
}
SOURCES = [
    "embedded",
    pytest.param("upstream", marks=pytest.mark.skipif(not UPSTREAM, reason="FLASKOPS_UPSTREAM_CHARTS names no upstream charts")),
]
RECEIVERS = [
    {"name": "hook", "type": "webhook", "url": "https://hook.example.com/"},
    {"name": "hidden", "type": "webhook", "secret": {"name": "hidden", "key": "url"}},
    {"name": "chat", "type": "slack", "channel": "#ops", "secret": {"name": "chat", "key": "url"}},
    {
        "name": "on-call",
        "type": "pagerduty",
        "secret": {"name": "pager", "key": "routing-key"},
        "settings": {"severity": "error"},
    },
    {
        "name": "mail",
        "type": "email",
        "to": "ops@example.com",
        "from": "stack@example.com",
        "smarthost": "mail.example.com:587",
        "username": "stack",
        "secret": {"name": "mail", "key": "password"},
        "send_resolved": False,
    },
    {"name": "team", "type": "teams", "secret": {"name": "team", "key": "url"}},
    {"name": "nobody", "type": "none"},
]
OPTIONS: dict[str, Any] = {
    "replicas": 2,
    "retention": "3d",
    "retention_size": "7GB",
    "storage_size": "9Gi",
    "storage_class": "fast",
    "scrape_interval": "7s",
    "evaluation_interval": "11s",
    "external_labels": {"cluster": "blue"},
    "remote_write": [{"url": "https://far.example.com/write", "basicAuth": {"password": {"name": "far", "key": "password"}}}],
    "resources": {
        "prometheus": {"requests": {"cpu": "77m"}},
        "alertmanager": {"limits": {"memory": "78Mi"}},
        "operator": {"requests": {"cpu": "79m"}},
        "kube_state_metrics": {"requests": {"cpu": "81m"}},
        "node_exporter": {"requests": {"cpu": "82m"}},
        "blackbox": {"requests": {"cpu": "83m"}},
    },
    "alertmanager_replicas": 3,
    "alertmanager_storage_size": "1Gi",
    "receivers": RECEIVERS,
    "routes": [{"receiver": "chat", "matchers": ['severity="info"']}],
    "watchdog_receiver": "hook",
    "grafana_admin_secret": "grafana-admin",
    "blackbox_modules": {"tcp": {"prober": "tcp"}},
    # Merged last: it wins over the option above.
    "values": {"prometheus": {"prometheusSpec": {"retention": "4d", "secrets": ["extra"]}}},
    "blackbox_values": {"config": {"modules": {"icmp": {"prober": "icmp"}}}},
}
Objects = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def helm() -> str:
    return shutil.which("helm") or str(programs("helm") / "helm")


@pytest.fixture(scope="module")
def amtool() -> str:
    return shutil.which("amtool") or str(programs("alertmanager") / "amtool")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """What the role makes of its options: the values of both releases and Alertmanager's configuration."""

    def write(source: str, **options: Any) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("play")
        given = {f"kube_prometheus_stack_{key}": value for key, value in {**options, "source": source}.items()}
        given["__kube_prometheus_stack_images"] = yaml.safe_load((ROOT / "images.yml").read_text())
        given["__kube_prometheus_stack_found"] = {"releases": {}, "foreign": {}}  # a cluster without any
        names = ("values", "blackbox_values", "config")
        found = evaluate(folder, {name: f"__kube_prometheus_stack_{name}" for name in names}, given, ROLE)
        releases = ("kube-prometheus-stack", found["values"]), ("prometheus-blackbox-exporter", found["blackbox_values"])
        return {"config": found["config"], "values": dict(releases)}

    return write


def render(helm: str, source: str, values: dict[str, Any]) -> Objects:
    """The objects of both releases, by kind and name."""
    found: Objects = {}
    for chart, (release, given) in zip(CHARTS[source], values.items(), strict=True):
        command = [helm, "template", release, str(chart), "--namespace", "monitoring", "--no-hooks", "--values", "-"]
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        for item in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader):
            if item:
                found[item["kind"], item["metadata"]["name"]] = item
    return found


def container(item: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return dict(item["spec"]["template"]["spec"]["containers"][number])


@pytest.mark.parametrize("source", SOURCES)
def test_defaults(helm: str, written: Callable[..., dict[str, Any]], source: str) -> None:
    objects = render(helm, source, written(source, grafana=False)["values"])
    assert objects["Prometheus", "kube-prometheus-stack-prometheus"]["spec"]["retention"] == "10d"
    assert not objects["Prometheus", "kube-prometheus-stack-prometheus"]["spec"].get("storage")
    assert "CustomResourceDefinition" not in {kind for kind, _ in objects}
    jobs = {name for kind, name in objects if kind == "ServiceMonitor"}
    # Scheduler, controller manager, etcd and kube-proxy can't be read on most clusters.
    assert not {job for job in jobs for part in ("scheduler", "controller-manager", "etcd", "proxy") if part in job}


@pytest.mark.parametrize("source", SOURCES)
def test_every_option_reaches_its_object(helm: str, written: Callable[..., dict[str, Any]], source: str) -> None:
    objects = render(helm, source, written(source, **OPTIONS)["values"])
    spec = objects["Prometheus", "kube-prometheus-stack-prometheus"]["spec"]
    assert {key: spec[key] for key in ("replicas", "retention", "retentionSize", "scrapeInterval", "evaluationInterval")} == {
        "replicas": 2,
        "retention": "4d",
        "retentionSize": "7GB",
        "scrapeInterval": "7s",
        "evaluationInterval": "11s",
    }
    claim = spec["storage"]["volumeClaimTemplate"]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "9Gi")
    assert spec["externalLabels"] == OPTIONS["external_labels"]
    assert spec["remoteWrite"] == OPTIONS["remote_write"]
    assert spec["resources"] == {"requests": {"cpu": "77m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    assert spec["secrets"] == ["extra"]
    for kind in ("serviceMonitor", "podMonitor", "probe", "rule", "scrapeConfig"):
        assert (spec[f"{kind}Selector"], spec[f"{kind}NamespaceSelector"]) == ({}, {})

    spec = objects["Alertmanager", "kube-prometheus-stack-alertmanager"]["spec"]
    assert (spec["replicas"], spec["configSecret"]) == (3, "kube-prometheus-stack-alertmanager-config")
    assert spec["secrets"] == ["chat", "hidden", "mail", "pager", "team"]
    # So that verify can tell which of two webhooks refuses what it is sent.
    assert spec["enableFeatures"] == ["receiver-name-in-metrics"]
    assert spec["storage"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert spec["resources"]["limits"]["memory"] == "78Mi"

    for kind, name, cpu in (
        ("Deployment", "kube-prometheus-stack-operator", "79m"),
        ("Deployment", "kube-prometheus-stack-kube-state-metrics", "81m"),
        ("DaemonSet", "kube-prometheus-stack-prometheus-node-exporter", "82m"),
        ("Deployment", "prometheus-blackbox-exporter", "83m"),
    ):
        assert container(objects[kind, name])["resources"]["requests"]["cpu"] == cpu, name
    node = objects["DaemonSet", "kube-prometheus-stack-prometheus-node-exporter"]
    assert node["metadata"]["namespace"] == "monitoring-node"
    modules = yaml.safe_load(objects["ConfigMap", "prometheus-blackbox-exporter"]["data"]["blackbox.yaml"])["modules"]
    assert {"tcp", "icmp"} <= set(modules)
    assert objects["Service", "prometheus-blackbox-exporter"]["spec"]["ports"][0]["port"] == 9115


@pytest.mark.parametrize("source", SOURCES)
def test_what_watches_the_local_cluster_is_on_its_control_plane(
    helm: str, written: Callable[..., dict[str, Any]], source: str
) -> None:
    """The loss of a worker takes none of it along; the node exporter is on every node."""
    role = "node-role.kubernetes.io/control-plane"
    for cluster in ("", "mine"):
        objects = render(helm, source, written(source, grafana=False, local_cluster=cluster)["values"])
        pods = {
            kind_and_name: item["spec"]
            for kind_and_name, item in objects.items()
            if kind_and_name[0] in ("Prometheus", "Alertmanager")
        }
        pods |= {key: item["spec"]["template"]["spec"] for key, item in objects.items() if key[0] == "Deployment"}
        assert len(pods) == 5
        for name, spec in pods.items():
            there = role in spec.get("nodeSelector", {}), role in [each.get("key") for each in spec.get("tolerations") or []]
            assert there == (bool(cluster), bool(cluster)), name


@pytest.mark.parametrize("source", SOURCES)
def test_parts_can_be_skipped(helm: str, written: Callable[..., dict[str, Any]], source: str) -> None:
    values = written(source, grafana=False, node_exporter=False, default_rules=False)["values"]
    kinds = {kind for kind, _ in render(helm, source, values)}
    assert not {"DaemonSet", "PrometheusRule"} & kinds


@pytest.mark.skipif(not UPSTREAM, reason="FLASKOPS_UPSTREAM_CHARTS names no upstream charts, and the embedded one has no Grafana")
def test_grafana_takes_its_password_from_the_named_secret(helm: str, written: Callable[..., dict[str, Any]]) -> None:
    objects = render(helm, "upstream", written("upstream", **OPTIONS)["values"])
    (grafana,) = [item for (kind, name), item in objects.items() if kind == "Deployment" and name.endswith("-grafana")]
    env = {e["name"]: e for c in grafana["spec"]["template"]["spec"]["containers"] for e in c.get("env", [])}
    reference = env["GF_SECURITY_ADMIN_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "grafana-admin", "key": "admin-password"}
    assert env["LABEL"]["value"] in ("grafana_dashboard", "grafana_datasource")
    assert not [name for kind, name in objects if kind == "Secret" and name.endswith("-grafana")]


def test_alertmanager_takes_every_kind_of_receiver(amtool: str, written: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    config = yaml.safe_load(text := written("embedded", alert_inbox=True, **OPTIONS)["config"])
    (tmp_path / "alertmanager.yml").write_text(text)
    done = subprocess.run([amtool, "check-config", tmp_path / "alertmanager.yml"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {item["name"]: item for item in config["receivers"]}
    assert [*found] == ["none", "alert-inbox", *(item["name"] for item in RECEIVERS)]
    secrets = "/etc/alertmanager/secrets"
    assert found["hook"]["webhook_configs"] == [{"send_resolved": True, "url": "https://hook.example.com/"}]
    assert found["hidden"]["webhook_configs"] == [{"send_resolved": True, "url_file": f"{secrets}/hidden/url"}]
    assert found["chat"]["slack_configs"] == [{"send_resolved": True, "api_url_file": f"{secrets}/chat/url", "channel": "#ops"}]
    assert found["team"]["msteamsv2_configs"] == [{"send_resolved": True, "webhook_url_file": f"{secrets}/team/url"}]
    assert found["on-call"]["pagerduty_configs"] == [
        {"send_resolved": True, "routing_key_file": f"{secrets}/pager/routing-key", "severity": "error"}
    ]
    (mail,) = found["mail"]["email_configs"]
    assert (mail["auth_username"], mail["auth_password_file"]) == ("stack", f"{secrets}/mail/password")
    assert mail["send_resolved"] is False
    assert found["nobody"] == {"name": "nobody"}
    route = config["route"]
    # After the routes of the options comes only where a test alert ends that verify_notify lets pass.
    assert route["receiver"] == "hook"
    assert route["routes"][-2:] == [OPTIONS["routes"][0], {"matchers": ['alertname="VerifyTestAlert"'], "receiver": "hook"}]
    (watchdog,) = [r for r in route["routes"] if r["matchers"] == ['alertname="Watchdog"']]
    assert (watchdog["receiver"], watchdog["repeat_interval"]) == ("hook", "1m")


def test_a_receiver_of_some_severities_has_a_route_of_its_own(written: Callable[..., dict[str, Any]]) -> None:
    receivers = [{**RECEIVERS[0], "severities": ["critical"]}, *RECEIVERS[1:3]]
    route = yaml.safe_load(written("embedded", receivers=receivers, routes=OPTIONS["routes"])["config"])["route"]
    assert route["receiver"] == "hidden"  # the first that is notified of all
    *_, given, own, test_alert = route["routes"]
    assert given == OPTIONS["routes"][0]
    assert own == {"receiver": "hook", "matchers": ['severity=~"critical"'], "continue": True}
    # A test alert ends where an alert of its severity does.
    assert test_alert["matchers"] == ['alertname="VerifyTestAlert"', 'severity!~"critical"']


def test_the_alert_inbox_has_pull_secrets(tmp_path: Path) -> None:
    options = {
        "alert_inbox": True,
        "alert_inbox_image": "registry.example.com/runner:1",
        "alert_inbox_image_pull_secrets": ["harbor"],
    }
    given = {f"kube_prometheus_stack_{name}": value for name, value in options.items()}
    made = "lookup('ansible.builtin.template', 'objects.yml.j2') | from_yaml_all | select | list"
    found = evaluate(tmp_path, {"made": made}, given | {"__kube_prometheus_stack_skipped": {}}, ROLE)["made"]
    (inbox,) = [item["spec"]["template"]["spec"] for item in found if item["kind"] == "Deployment"]
    assert inbox["imagePullSecrets"] == [{"name": "harbor"}]


def test_the_command_that_opens_grafana_names_the_cluster(tmp_path: Path) -> None:
    """The context too: the kubeconfig's own may be another one."""
    tasks = yaml.safe_load((ROLE / "tasks/present.yml").read_text())
    (text,) = [task["flaskops.observability.show"]["text"] for task in tasks if task["name"] == "Say where Grafana is"]
    given = {"__kube_prometheus_stack_grafana_secret": "login", "kube_prometheus_stack_release_name": "kps"}
    for kubeconfig, context, words in (("/k", "two", "--kubeconfig /k --context two "), ("", "", "")):
        named = {"kubeconfig": kubeconfig, "context": context, "namespace": "monitoring"}
        options = {f"kube_prometheus_stack_{name}": value for name, value in named.items()}
        found = evaluate(tmp_path, {"text": "__text"}, {**given, **options}, variables={"__text": text})
        assert f"Grafana: kubectl {words}-n monitoring port-forward service/kps-grafana " in found["text"]
