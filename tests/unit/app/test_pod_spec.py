# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role flask_app makes of its options for a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import ROOT, evaluate

ROLE = ROOT / "roles/flask_app"


def objects(folder: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """What the role makes of its options, by kind and name."""
    given = {"flask_app_image": "x:1", "flask_app_name": "shop", **{f"flask_app_{key}": value for key, value in options.items()}}
    made = "lookup('ansible.builtin.template', 'objects.yml.j2') | from_yaml_all | select | list"
    found = evaluate(folder, {"made": made}, given, ROLE)["made"]
    return {f"{item['kind']} {item['metadata']['name']}": item for item in found}


def pod(folder: Path, **options: Any) -> dict[str, Any]:
    return dict(objects(folder, **options)["Deployment shop"]["spec"]["template"]["spec"])


def test_pods_are_spread_over_nodes_unless_that_is_overridden(tmp_path: Path) -> None:
    own = [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
    (spread,) = pod(tmp_path)["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert spread["labelSelector"] == {"matchLabels": {"app": "shop"}} and spread["matchLabelKeys"] == ["pod-template-hash"]
    assert pod(tmp_path, pod_overrides={"topologySpreadConstraints": own})["topologySpreadConstraints"] == own


def test_labels_and_annotations_are_on_what_they_are_for(tmp_path: Path) -> None:
    made = objects(
        tmp_path,
        labels={"team": "web", "cost": 4711},
        annotations={"note": "n"},
        pod_labels={"tier": "front"},
        pod_annotations={"scrape": "no"},
        autoscale={"max": 3},
        health_port=8081,
    )
    kinds = {"ServiceAccount", "NetworkPolicy", "Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    namespace, *others = made.values()
    assert namespace["kind"] == "Namespace" and "team" not in namespace["metadata"]["labels"]
    assert {item["kind"] for item in others} == kinds
    for item in others:
        assert item["metadata"]["labels"].items() >= {"team": "web", "cost": 4711, "app": "shop"}.items()
        assert item["metadata"]["annotations"]["note"] == "n" and "tier" not in item["metadata"]["labels"]
    template = made["Deployment shop"]["spec"]["template"]["metadata"]
    assert template["labels"].items() >= {"team": "web", "tier": "front", "app": "shop"}.items()
    assert template["annotations"] == {"scrape": "no"}
    assert made["Service shop-metrics"]["metadata"]["annotations"]["flaskops/metrics-path"] == "/metrics"


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        ({}, [{"name": "http", "port": 80, "targetPort": 5000}]),
        ({"scheme": "https"}, [{"name": "https", "port": 443, "targetPort": 5000, "appProtocol": "https"}]),
        (
            # TLS that the load balancer ends, and a port of another container.
            {"service_ports": [{"name": "https", "port": 443}, {"name": "ws", "port": 81, "targetPort": 8081}]},
            [{"name": "https", "port": 443, "targetPort": 5000}, {"name": "ws", "port": 81, "targetPort": 8081}],
        ),
        (
            {"scheme": "https", "service_ports": [{"name": "a", "port": 1, "targetPort": "http"}, {"port": 2, "targetPort": 3}]},
            [{"name": "a", "port": 1, "targetPort": "http", "appProtocol": "https"}, {"port": 2, "targetPort": 3}],
        ),
        (
            {
                "service_ports": [
                    {"name": "http", "port": 80},
                    {"name": "quic", "port": 80, "protocol": "UDP", "targetPort": 8443},
                ]
            },
            [
                {"name": "http", "port": 80, "targetPort": 5000},
                {"name": "quic", "port": 80, "targetPort": 8443, "protocol": "UDP"},
            ],
        ),
    ],
)
def test_ports_of_the_service(tmp_path: Path, options: dict[str, Any], ports: list[dict[str, Any]]) -> None:
    made = objects(tmp_path, service_annotations={"internal": "true"}, annotations={"note": "n"}, **options)
    assert made["Service shop"]["spec"]["ports"] == [{"protocol": "TCP", **entry} for entry in ports]
    assert made["Service shop"]["metadata"]["annotations"] == {"internal": "true", "note": "n"}
    (container,) = made["Deployment shop"]["spec"]["template"]["spec"]["containers"]
    schemes = {container[probe]["httpGet"].get("scheme") for probe in ("livenessProbe", "readinessProbe")}
    assert schemes == {"HTTPS" if options.get("scheme") else None}
    admitted = {(entry["protocol"], entry["port"]) for entry in made["NetworkPolicy shop"]["spec"]["ingress"][0]["ports"]}
    assert admitted == {("TCP", 5000), *((entry.get("protocol", "TCP"), entry["targetPort"]) for entry in ports)}


def test_names_that_yaml_takes_for_something_else_are_texts(tmp_path: Path) -> None:
    secrets = {"image_pull_secrets": ["no"], "secret_environment": ["1e3"], "config_map_environment": ["null"]}
    worker = {"name": "off", "command": ["on"]}
    made = objects(tmp_path, name="on", namespace="123", workers=[worker], autoscale={"max": 3}, **secrets)
    assert {"Namespace 123", "Deployment on", "Deployment on-off"} <= made.keys()
    assert made["NetworkPolicy on"]["spec"]["podSelector"] == {"matchLabels": {"app": "on"}}
    spec = made["Deployment on"]["spec"]["template"]["spec"]
    assert spec["imagePullSecrets"] == [{"name": "no"}] and spec["serviceAccountName"] == "on"
    assert spec["containers"][0]["envFrom"] == [{"configMapRef": {"name": "null"}}, {"secretRef": {"name": "1e3"}}]
    assert made["Deployment on-off"]["spec"]["selector"]["matchLabels"]["flaskops/worker"] == "off"


def test_numbers_and_truths_may_be_texts(tmp_path: Path) -> None:
    """As `-e flask_app_port=8000` gives them."""
    given: dict[str, Any] = {"port": 8000, "metrics_port": 8000, "health_port": 8081, "start_timeout": 60, "replicas": 3}
    given |= {"network_policy": False, "create_namespace": False}
    made = objects(tmp_path, **{key: str(value).lower() for key, value in given.items()})
    assert made == objects(tmp_path, **given)
    assert not [name for name in made if name.startswith(("NetworkPolicy", "Namespace"))]


@pytest.mark.parametrize("names", [[], ["harbor", "other"]])
def test_pull_secrets_are_named_where_there_are_some(tmp_path: Path, names: list[str]) -> None:
    assert pod(tmp_path, image_pull_secrets=names).get("imagePullSecrets", "none") == (
        [{"name": name} for name in names] or "none"
    )


def test_probes_are_what_an_application_says(tmp_path: Path) -> None:
    (container,) = pod(tmp_path)["containers"]
    health = {"path": "/health", "port": 5000}
    assert container["livenessProbe"] == {"httpGet": health, "initialDelaySeconds": 5, "periodSeconds": 10}
    assert container["readinessProbe"] == {"httpGet": health, "initialDelaySeconds": 5, "periodSeconds": 5}
    given = {
        "livenessProbe": {"tcpSocket": {"port": 8081}, "timeoutSeconds": 3},
        "readinessProbe": {"httpGet": {"scheme": "HTTPS"}, "initialDelaySeconds": 0},
        "startupProbe": {"failureThreshold": 40},
    }
    (container,) = pod(tmp_path, health_path="/up", health_port=8081, probes=given)["containers"]
    health = {"path": "/up", "port": 8081}
    assert container["livenessProbe"] == {**given["livenessProbe"], "initialDelaySeconds": 5, "periodSeconds": 10}
    ready = {"httpGet": {**health, "scheme": "HTTPS"}, "initialDelaySeconds": 0, "periodSeconds": 5}
    assert container["readinessProbe"] == ready
    assert container["startupProbe"] == {"httpGet": health, "failureThreshold": 40}
    assert {"name": "health", "containerPort": 8081, "protocol": "TCP"} in container["ports"]
    given = {"livenessProbe": None, "startupProbe": {"periodSeconds": 1}}
    (container,) = pod(tmp_path, start_timeout=60, probes=given)["containers"]
    assert "livenessProbe" not in container and container["startupProbe"]["failureThreshold"] == 60


@pytest.mark.parametrize(
    ("port", "metrics_port", "health_port", "services", "inner"),
    [
        (5000, 9200, 0, ["", "-metrics"], [9200]),
        (5000, 9200, 5000, ["", "-metrics"], [9200]),
        (5000, 9200, 8081, ["", "-metrics", "-health"], [9200, 8081]),
        (5000, 9200, 9200, ["", "-metrics", "-health"], [9200]),
        (5000, 5000, 8081, ["", "-health"], [8081]),
        (5000, 5000, 0, [""], []),
    ],
)
def test_a_port_for_monitoring_alone_is_not_where_users_ask(
    tmp_path: Path, port: int, metrics_port: int, health_port: int, services: list[str], inner: list[int]
) -> None:
    made = objects(tmp_path, port=port, metrics_port=metrics_port, health_port=health_port)
    assert [name.removeprefix("Service shop") for name in made if name.startswith("Service ")] == services
    users, *others = made["NetworkPolicy shop"]["spec"]["ingress"]
    assert [entry["port"] for entry in users["ports"]] == [port] and "from" not in users
    assert [[entry["port"] for entry in rule["ports"]] for rule in others] == ([inner] if inner else [])
    assert all(rule["from"] for rule in others)
    names = [entry["name"] for entry in made["Deployment shop"]["spec"]["template"]["spec"]["containers"][0]["ports"]]
    assert len({*names}) == len(names) == len({port, metrics_port, health_port or port})


def test_volumes_have_one_source_and_one_place(tmp_path: Path) -> None:
    given = [
        {"mountPath": "/data", "emptyDir": {"sizeLimit": "1Gi"}},
        {"mountPath": "/app/Config.py", "subPath": "config.py", "configMap": {"name": "settings"}, "readOnly": True},
        {"mountPath": "/keys", "name": "signing", "secret": {"secretName": "keys"}},
    ]
    made = pod(tmp_path, volumes=given)
    assert made["volumes"][1:] == [
        {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "app-config-py", "configMap": {"name": "settings"}},
        {"name": "signing", "secret": {"secretName": "keys"}},
    ]
    assert made["containers"][0]["volumeMounts"][1:] == [
        {"name": "data", "mountPath": "/data"},
        {"name": "app-config-py", "mountPath": "/app/Config.py", "subPath": "config.py", "readOnly": True},
        {"name": "signing", "mountPath": "/keys"},
    ]


def test_one_volume_may_have_two_places(tmp_path: Path) -> None:
    long = "/srv/" + "long-folder/" * 6
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    given = [{**claim, "mountPath": "/a", "subPath": "a"}, {**claim, "mountPath": "/b"}, {"mountPath": long, "emptyDir": {}}]
    made = pod(tmp_path, volumes=given)
    assert made["volumes"][1] == claim and len(made["volumes"]) == 3 and len(made["volumes"][2]["name"]) <= 63
    places = [(mount["name"], mount["mountPath"]) for mount in made["containers"][0]["volumeMounts"][1:]]
    assert places == [("data", "/a"), ("data", "/b"), (made["volumes"][2]["name"], long)]


def test_a_volume_of_ones_own_for_tmp(tmp_path: Path) -> None:
    made = pod(tmp_path, volumes=[{"mountPath": "/tmp/", "persistentVolumeClaim": {"claimName": "uploads"}}])
    assert made["volumes"] == [{"name": "tmp", "persistentVolumeClaim": {"claimName": "uploads"}}]
    assert made["containers"][0]["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp/"}]


def test_environment_of_config_maps_and_secrets(tmp_path: Path) -> None:
    given = {"environment": {"A": 1, "B": None}, "config_map_environment": ["settings"], "secret_environment": ["keys"]}
    (container,) = pod(tmp_path, **given)["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}], "what is null is not set"
    assert container["envFrom"] == [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}]


def test_every_container_has_the_security_context(tmp_path: Path) -> None:
    own = {"capabilities": {"add": ["NET_BIND_SERVICE"]}, "readOnlyRootFilesystem": False}
    more = {
        "initContainers": [{"name": "wait", "image": "w:1"}],
        "containers": [{"name": "proxy", "image": "p:1", "securityContext": own}, {"name": "shop", "tty": True}],
    }
    made = pod(tmp_path, pod_overrides=more)
    context = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    found = {one["name"]: one["securityContext"] for kind in ("initContainers", "containers") for one in made[kind]}
    assert found == {
        "wait": context,
        "shop": context,
        "proxy": {**context, "readOnlyRootFilesystem": False, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
    }


def test_time_to_start_room_in_tmp_and_overrides(tmp_path: Path) -> None:
    assert "startupProbe" not in pod(tmp_path)["containers"][0]
    more = {
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [{"name": "shop", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
    }
    deployment = objects(tmp_path, start_timeout=61, tmp_size="1Gi", port=8000, pod_overrides=more)["Deployment shop"]
    made = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["progressDeadlineSeconds"] == 661
    (container,) = made["containers"]
    probe = container["startupProbe"]
    assert probe["httpGet"] == {"path": "/health", "port": 8000} and probe["periodSeconds"] * probe["failureThreshold"] == 65
    assert made["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "data", "emptyDir": {}}]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp", "/d"]


CONTEXT = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def test_a_migration_is_the_application_s_pod_without_what_serves(tmp_path: Path) -> None:
    more = {
        "containers": [{"name": "proxy", "image": "p:1"}, {"name": "shop", "args": ["--web"]}],
        "nodeSelector": {"disk": "ssd"},
    }
    migration = {"command": ["flask", "db", "upgrade"], "timeout": 90}
    made = objects(tmp_path, migration=migration, pod_overrides=more, pod_labels={"tier": "front"}, labels={"team": "web"})
    (name,) = [key for key in made if key.startswith("Job ")]
    job = made[name]["spec"]
    pod_of_job = job["template"]["spec"]
    assert (job["backoffLimit"], job["activeDeadlineSeconds"], pod_of_job["restartPolicy"]) == (0, 90, "Never")
    (container,) = pod_of_job["containers"]
    assert container["command"] == ["flask", "db", "upgrade"] and container["securityContext"] == CONTEXT
    assert not {"args", "ports", "livenessProbe", "readinessProbe", "lifecycle"} & container.keys()
    assert pod_of_job["nodeSelector"] == {"disk": "ssd"} and "topologySpreadConstraints" not in pod_of_job
    labels = job["template"]["metadata"]["labels"]
    assert labels.items() >= {"tier": "front", "team": "web", "app.kubernetes.io/name": "shop"}.items() and "app" not in labels
    assert len(name.removeprefix("Job ")) == len("shop-migrate-") + 8


def test_a_migration_has_a_name_for_each_configuration(tmp_path: Path) -> None:
    def name(**options: Any) -> str:
        given = {"migration": {"command": ["up"]}, **options}
        (found,) = [key for key in objects(tmp_path, **given) if key.startswith("Job ")]
        return found

    same = {name(), name(replicas=5), name(migration={"command": ["up"], "timeout": 9}), name(service_type="NodePort")}
    others = {
        name(image="x:2"),
        name(environment={"A": 1}),
        name(secret_environment=["s"]),
        name(migration={"command": ["down"]}),
    }
    assert (len(same), len(others), same & others) == (1, 4, set())
    assert not [key for key in objects(tmp_path) if key.startswith("Job ")]


def test_workers_are_deployments_of_their_own(tmp_path: Path) -> None:
    mail = {"name": "mail", "command": ["celery", "worker"], "replicas": 3, "probe": ["celery", "inspect", "ping"]}
    beat = {"name": "beat", "command": ["celery", "beat"], "resources": {"limits": {"memory": "64Mi"}}}
    more = {
        "containers": [
            {"name": "shop", "args": ["--web"], "livenessProbe": {"timeoutSeconds": 9}},
            {"name": "proxy", "image": "p:1"},
        ]
    }
    made = objects(tmp_path, workers=[mail, beat], pod_overrides=more, environment={"A": "1"}, pod_labels={"tier": "back"})
    web = made["Deployment shop"]["spec"]["template"]["spec"]["containers"][0]
    first, second = made["Deployment shop-mail"], made["Deployment shop-beat"]
    assert (first["spec"]["replicas"], second["spec"]["replicas"]) == (3, 1)
    container, proxy = first["spec"]["template"]["spec"]["containers"]
    assert (container["name"], container["command"], proxy["name"]) == ("mail", ["celery", "worker"], "proxy")
    for field in ("image", "env", "envFrom", "volumeMounts", "securityContext", "resources"):
        assert container[field] == web[field]
    assert container["livenessProbe"]["exec"] == {"command": ["celery", "inspect", "ping"]}
    assert {"timeoutSeconds", "periodSeconds"} < container["livenessProbe"].keys() and "httpGet" not in container["livenessProbe"]
    assert not {"args", "ports", "readinessProbe", "startupProbe", "lifecycle"} & container.keys()
    plain = second["spec"]["template"]["spec"]["containers"][0]
    assert "livenessProbe" not in plain
    assert plain["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "64Mi"}}
    labels = {"app.kubernetes.io/name": "shop", "flaskops/worker": "mail"}
    assert first["spec"]["selector"]["matchLabels"] == labels
    (spread,) = first["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == {"matchLabels": labels}
    own = first["spec"]["template"]["metadata"]["labels"]
    assert own.items() >= {**labels, "tier": "back"}.items() and "app" not in own
    # Nothing that leads to the application's pods leads to these.
    for name in ("Service shop", "Service shop-metrics", "PodDisruptionBudget shop", "NetworkPolicy shop"):
        spec = made[name]["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        assert not selector.get("matchLabels", selector).items() <= own.items()
    assert [name for name in made if name.startswith("Service ")] == ["Service shop", "Service shop-metrics"]
