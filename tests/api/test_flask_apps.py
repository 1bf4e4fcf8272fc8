# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an entry of flask_apps says is found in the objects on the cluster, and what is said in vain is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.app import description
from ansible_collections.flaskops.observability.plugins.modules.flask_apps import DOCUMENTATION

from tests.api_rig import CONTEXT, Rig
from tests.fakes.kubelet import kubelet
from tests.fakes.operator import KINDS, operator, path
from tests.harness import ROOT, Run, inventory_of, playbook

FRONT, PLAIN, GONE = "described-front", "described-plain", "described-gone"
Found = dict[str, dict[str, Any]]


def container(found: Found) -> Any:
    return found["Deployment shop"]["spec"]["template"]["spec"]["containers"][0]


def pod(found: Found) -> Any:
    return found["Deployment shop"]["spec"]["template"]["spec"]


def template(found: Found) -> Any:
    return found["Deployment shop"]["spec"]["template"]["metadata"]


def endpoint(found: Found) -> Any:
    return found["ServiceMonitor shop"]["spec"]["endpoints"][0]


def rule(found: Found, alert: str, app: str = "shop") -> Any:
    groups = found[f"PrometheusRule {app}"]["spec"]["groups"]
    return next(item for group in groups for item in group["rules"] if item.get("alert") == alert)


def route(found: Found) -> Any:
    return found["AlertmanagerConfig shop"]["spec"]["route"]


# A value that is not the default, and where it is found; those of `plain` and `gone` are looked for by themselves.
SHOP: dict[str, tuple[Any, Callable[[Found], Any], Any]] = {
    "namespace": (FRONT, lambda f: f["Deployment shop"]["metadata"]["namespace"], FRONT),
    "labels": (
        {"team": "web", "cost": 4711},
        lambda f: {(item["metadata"]["labels"]["team"], item["metadata"]["labels"]["cost"]) for item in f.values()},
        {("web", "4711")},
    ),
    "annotations": ({"note": True}, lambda f: f["Deployment shop"]["metadata"]["annotations"]["note"], "true"),
    "pod_labels": ({"tier": "front"}, lambda f: template(f)["labels"]["tier"], "front"),
    "pod_annotations": ({"scrape": "no"}, lambda f: template(f)["annotations"]["scrape"], "no"),
    "image": ("shop:7", lambda f: container(f)["image"], "shop:7"),
    "image_pull_policy": ("Always", lambda f: container(f)["imagePullPolicy"], "Always"),
    "image_pull_secrets": (["pull"], lambda f: pod(f)["imagePullSecrets"], [{"name": "pull"}]),
    "replicas": (3, lambda f: f["Deployment shop"]["spec"]["replicas"], 3),
    "port": (5001, lambda f: container(f)["ports"][0]["containerPort"], 5001),
    "scheme": (
        "https",
        lambda f: (
            container(f)["readinessProbe"]["httpGet"].get("scheme"),
            [(entry["port"], entry.get("appProtocol")) for entry in f["Service shop"]["spec"]["ports"]],
        ),
        ("HTTP", [(443, "https"), (8443, None)]),  # the health check has a port of its own here
    ),
    "metrics_port": (9201, lambda f: f["Service shop-metrics"]["spec"]["ports"][0]["port"], 9201),
    "metrics_path": ("/m", lambda f: endpoint(f)["path"], "/m"),
    "health_path": (
        "/healthz",
        lambda f: (
            {container(f)[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")},
            {"name": "HEALTH_PATH", "value": "/healthz"} in container(f)["env"],
            [t for t in f["Probe shop"]["spec"]["targets"]["staticConfig"]["static"] if t.endswith("/healthz")] != [],
        ),
        ({"/healthz"}, True, True),
    ),
    "health_port": (
        8081,
        lambda f: (
            {container(f)[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")},
            f["Service shop-health"]["spec"]["ports"][0]["port"],
            any("//shop-health." in t for t in f["Probe shop"]["spec"]["targets"]["staticConfig"]["static"]),
        ),
        ({8081}, 8081, True),
    ),
    "probes": ({"livenessProbe": {"timeoutSeconds": 7}}, lambda f: container(f)["livenessProbe"]["timeoutSeconds"], 7),
    "environment": ({"COLOUR": "red"}, lambda f: {"name": "COLOUR", "value": "red"} in container(f)["env"], True),
    "secret_environment": (["words"], lambda f: container(f)["envFrom"][1:], [{"secretRef": {"name": "words"}}]),
    "config_map_environment": (["settings"], lambda f: container(f)["envFrom"][0], {"configMapRef": {"name": "settings"}}),
    "volumes": (
        [{"mountPath": "/etc/shop", "configMap": {"name": "settings"}, "readOnly": True}],
        lambda f: (pod(f)["volumes"][1]["configMap"]["name"], container(f)["volumeMounts"][1]),
        ("settings", {"name": "etc-shop", "mountPath": "/etc/shop", "readOnly": True}),
    ),
    "resources": ({"limits": {"memory": "99Mi"}}, lambda f: container(f)["resources"]["limits"]["memory"], "99Mi"),
    "start_timeout": (60, lambda f: container(f)["startupProbe"]["failureThreshold"], 12),
    "tmp_size": ("9Mi", lambda f: pod(f)["volumes"][0]["emptyDir"]["sizeLimit"], "9Mi"),
    "pod_overrides": ({"hostname": "till"}, lambda f: pod(f)["hostname"], "till"),
    "migration": (
        {"command": ["flask", "db", "upgrade"], "timeout": 77},
        lambda f: [
            (item["spec"]["template"]["spec"]["containers"][0]["command"], item["spec"]["activeDeadlineSeconds"])
            for key, item in f.items()
            if key.startswith("Job ")
        ],
        [(["flask", "db", "upgrade"], 77)],
    ),
    "workers": (
        [{"name": "mail", "command": ["celery", "worker"], "replicas": 0}],
        lambda f: (
            f["Deployment shop-mail"]["spec"]["template"]["spec"]["containers"][0]["command"],
            '"shop-(mail)-' in rule(f, "FlaskWorkerCrashLooping")["expr"],
        ),
        (["celery", "worker"], True),
    ),
    "service_type": ("LoadBalancer", lambda f: f["Service shop"]["spec"]["type"], "LoadBalancer"),
    "service_annotations": (
        {"internal": True},
        lambda f: [f[f"Service {name}"]["metadata"]["annotations"].get("internal") for name in ("shop", "shop-metrics")],
        ["true", None],
    ),
    "service_ports": (
        [{"name": "web", "port": 443}, {"name": "side", "port": 8443, "targetPort": 8444}],
        lambda f: (
            [(entry["name"], entry["targetPort"]) for entry in f["Service shop"]["spec"]["ports"]],
            [entry["port"] for entry in f["NetworkPolicy shop"]["spec"]["ingress"][0]["ports"]],
        ),
        ([("web", 5001), ("side", 8444)], [5001, 8444]),
    ),
    "service_load_balancer_class": (
        "example.com/nlb",
        lambda f: f["Service shop"]["spec"]["loadBalancerClass"],
        "example.com/nlb",
    ),
    "hosts": (
        [{"name": "shop.test"}, {"name": "www.shop.test", "path": "/shop"}],
        lambda f: [(rule["host"], rule["http"]["paths"][0]["path"]) for rule in f["Ingress shop"]["spec"]["rules"]],
        [("shop.test", "/"), ("www.shop.test", "/shop")],
    ),
    "ingress_class": ("nginx", lambda f: f["Ingress shop"]["spec"]["ingressClassName"], "nginx"),
    "ingress_annotations": ({"size": 8}, lambda f: f["Ingress shop"]["metadata"]["annotations"]["size"], "8"),
    "tls_issuer": (
        {"name": "acme"},
        lambda f: (
            f["Ingress shop"]["metadata"]["annotations"]["cert-manager.io/cluster-issuer"],
            f["Ingress shop"]["spec"]["tls"][0]["secretName"],
        ),
        ("acme", "shop-tls"),
    ),
    "network_policy_metrics_from": (
        [{"ipBlock": {"cidr": "10.1.0.0/16"}}],
        lambda f: "10.1.0.0/16" in json.dumps(f["NetworkPolicy shop"]["spec"]["ingress"]),
        True,
    ),
    "metrics_prefix": ("web", lambda f: "web_" in json.dumps(endpoint(f)["metricRelabelings"]), True),
    "scrape_interval": ("7s", lambda f: endpoint(f)["interval"], "7s"),
    "sample_limit": (77, lambda f: f["ServiceMonitor shop"]["spec"]["sampleLimit"], 77),
    "probe_interval": ("9s", lambda f: f["Probe shop"]["spec"]["interval"], "9s"),
    "probe_module": ("http_own", lambda f: f["Probe shop"]["spec"]["module"], "http_own"),
    "public_url": (
        "https://shop.test/healthz",
        lambda f: any("https://shop.test/healthz" in json.dumps(item) for key, item in f.items() if key.startswith("Probe ")),
        True,
    ),
    "alerts": ({"FlaskTargetDown": {"for": "77s"}}, lambda f: rule(f, "FlaskTargetDown")["for"], "77s"),
    "min_errors": (44, lambda f: ">= 44" in rule(f, "HighErrorRate")["expr"], True),
    "min_requests": (55, lambda f: ">= 55" in rule(f, "FlaskHighLatencyP95")["expr"], True),
    "slo": (0.99, lambda f: rule(f, "FlaskErrorBudgetBurnFast")["alert"], "FlaskErrorBudgetBurnFast"),
    "slo_latency": (0.99, lambda f: rule(f, "FlaskLatencyBudgetBurnFast")["alert"], "FlaskLatencyBudgetBurnFast"),
    "slo_latency_seconds": (0.25, lambda f: 'le="0.25"' in rule(f, "FlaskLatencyBudgetBurnFast")["expr"], True),
    "extra_rules": ([{"alert": "Own", "expr": "vector(1) > 2"}], lambda f: rule(f, "Own")["expr"], "vector(1) > 2"),
    "runbook_url": (
        "https://books.test",
        lambda f: rule(f, "FlaskTargetDown")["annotations"]["runbook_url"][:18],
        "https://books.test",
    ),
    "receivers": (
        [{"name": "night", "type": "webhook", "url": "http://night.test/"}],
        lambda f: "http://night.test/" in json.dumps(f["AlertmanagerConfig shop"]["spec"]["receivers"]),
        True,
    ),
    "group_wait": ("3s", lambda f: route(f)["groupWait"], "3s"),
    "group_interval": ("33s", lambda f: route(f)["groupInterval"], "33s"),
    "repeat_interval": ("33m", lambda f: route(f)["repeatInterval"], "33m"),
}
# What another application shows, or another test: the image is built, drill breaks things, a provider is asked.
ELSEWHERE = {
    *{
        "name",
        "state",
        "adopt",
        "create_namespace",
        "network_policy",
        "autoscale",
        "gateway",
        "probe",
        "literal_error_rate",
        "path",
        "log_check",
        "external_checks",
        "verify",
        "drill",
    },
    *{"source", "folder", "wsgi", "wrap", "requirements", "extras", "groups", "server_requirements", "repository", "base_image"},
    *{"packages", "build_packages", "containerfile", "target", "build_args", "build_secrets", "exclude"},
}


class Host:
    """An inventory host, and what a run of its stages leaves."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder

    def run(self, apps: list[dict[str, Any]], *stages: str, **variables: Any) -> Run:
        plays = [{"name": stage, "import_playbook": str(ROOT / f"playbooks/{stage}.yml")} for stage in stages]
        (self.folder / "play.yml").write_text(yaml.safe_dump(plays))
        cluster = {"cluster_kubeconfig": str(self.rig.kubeconfig()), "cluster_context": CONTEXT, "cluster_provider": "existing"}
        inventory = inventory_of(self.folder, {"site": {**cluster, "flask_apps": apps, **variables}})
        return playbook(str(self.folder / "play.yml"), inventory=inventory)

    def found(self, namespace: str) -> Found:
        places = {
            "Deployment": f"/apis/apps/v1/namespaces/{namespace}/deployments",
            "Job": f"/apis/batch/v1/namespaces/{namespace}/jobs",
            "Service": f"/api/v1/namespaces/{namespace}/services",
            "Ingress": f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses",
            "NetworkPolicy": f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
            "ConfigMap": f"/api/v1/namespaces/{namespace}/configmaps?labelSelector=flaskops/promise",
            **{kind: path(kind, namespace) for kind in KINDS},
        }
        return {
            f"{kind} {item['metadata']['name']}": item
            for kind, at in places.items()
            for item in self.rig.request("GET", at)["items"]
        }


@pytest.fixture(scope="module")
def host(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with three applications: one with other options, one in a namespace of somebody else's, and one to be absent."""
    found = Host(rig, tmp_path_factory.mktemp("host"))
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": PLAIN}})
    rig.request("POST", f"/api/v1/namespaces/{PLAIN}/serviceaccounts", {"metadata": {"name": "plain"}})
    shop = {"name": "shop", **{key: value for key, (value, _where, _wanted) in SHOP.items()}}
    plain = {"name": "plain", "namespace": PLAIN, "image": "plain:1", "create_namespace": False, "adopt": True}
    plain |= {"network_policy": False, "probe": False, "replicas": 0, "literal_error_rate": True}
    gone = {"name": "gone", "namespace": GONE, "image": "gone:1", "replicas": 0}
    with operator(rig), kubelet(rig, FRONT):
        assert found.run([gone], "app").changed == 1
        assert found.run([shop, plain, {**gone, "state": "absent"}], "app", "app_monitoring").changed == 5
        yield found
        stages = ("app_monitoring", "app")
        assert found.run([{**app, "state": "absent"} for app in (shop, plain)], *stages).changed == 4
        assert found.run([{**app, "state": "absent"} for app in (shop, plain)], *stages).changed == 0


def test_every_option_is_looked_for() -> None:
    assert SHOP.keys() | ELSEWHERE == description.spec_of(DOCUMENTATION).keys()


def test_every_option_is_in_the_objects(host: Host) -> None:
    found = host.found(FRONT)
    assert {key: where(found) for key, (_value, where, _wanted) in SHOP.items()} == {
        key: wanted for key, (_value, _where, wanted) in SHOP.items()
    }


def test_what_an_application_is_not_to_have_is_not_made(host: Host) -> None:
    found = host.found(PLAIN)
    assert "Deployment plain" in found and "PrometheusRule plain" in found
    assert [key for key in found if key.startswith(("NetworkPolicy", "Probe"))] == []
    assert "http_requests_total" in rule(found, "HighErrorRate", "plain")["expr"]
    labels = host.rig.request("GET", f"/api/v1/namespaces/{PLAIN}")["metadata"].get("labels", {})
    assert "app.kubernetes.io/managed-by" not in labels


def test_an_absent_application_is_gone(host: Host) -> None:
    assert host.found(GONE) == {}


def test_variables_of_roles_are_refused_with_the_key(host: Host) -> None:
    for name, value, key in (
        ("flask_app_port", 70000, "port"),
        ("app_monitoring_slo", 0.9, "slo"),
        ("flask_image_wsgi", "a:b", "wsgi"),
    ):
        done = host.run([{"name": "shop"}], "app", **{name: value})
        assert [word for word in (name, "site", f"write {key} into", "flask_app_defaults") if word not in done.error] == []


# What is wrong with the last application, and the words in which an application's owner knows it.
LATE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "host": ({"hosts": [{"name": "Late_1"}]}, ["hosts", "Late_1"]),
    "worker": ({"workers": [{"name": "Mail", "command": ["celery"]}]}, ["workers has the names Mail"]),
    "share": ({"autoscale": {"max": 3}, "resources": {}}, ["set requests.cpu in resources"]),
    "forbidden": ({"environment": {"DEBUG": "1"}}, ["environment sets DEBUG", "flask_app_refused_environment"]),
}


@pytest.mark.parametrize("stage", ["site", "image", "app"])
def test_what_is_wrong_with_the_last_application_is_said_before_the_first_is_made(rig: Rig, tmp_path: Path, stage: str) -> None:
    first = [{"name": "early", "image": "early:1", "replicas": 0}, {"name": "built", "source": "/none"}]
    hosts = {case: {"flask_apps": [*first, {"name": "late", "image": "late:1", **late}]} for case, (late, _words) in LATE.items()}
    cluster = {"cluster_kubeconfig": str(rig.kubeconfig()), "cluster_context": CONTEXT, "cluster_provider": "existing"}
    inventory = inventory_of(tmp_path, hosts, flask_app_refused_environment=["DEBUG"], **cluster)
    env = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = playbook(str(ROOT / f"playbooks/{stage}.yml"), inventory=inventory, env=env)
    said = dict(re.findall(r"^fatal: \[(\w+)\]: FAILED! => (.*)$", done.stdout, re.MULTILINE))
    for case, (_late, words) in LATE.items():
        wanted = [f"The application late of flask_apps of host {case}", *words]
        assert [word for word in wanted if word not in said[case]] == []
    assert rig.request("GET", "/api/v1/namespaces?fieldSelector=metadata.name=early")["items"] == []


def test_an_application_that_is_not_listed_is_named(host: Host) -> None:
    listed = f"{PLAIN}/plain"
    task = {
        "name": "Look",
        "flaskops.observability.unlisted_apps": {
            "kubeconfig": str(host.rig.kubeconfig()),
            "context": CONTEXT,
            "listed": [listed],
        },
        "register": "seen",
    }
    show = {"name": "Show", "ansible.builtin.debug": {"msg": "not listed: {{ seen.apps | join(' ') }}"}}
    (host.folder / "look.yml").write_text(
        yaml.safe_dump([{"name": "Look", "hosts": "all", "gather_facts": False, "tasks": [task, show]}])
    )
    done = playbook(str(host.folder / "look.yml"), inventory=inventory_of(host.folder, {"site": {}}))
    assert done.changed == 0
    said = next(line for line in done.stdout.splitlines() if "not listed: " in line)
    assert f"{FRONT}/shop" in said and listed not in said and GONE not in said
