# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles make of their options, as Helm and the program read it, and what playbooks/logging.yml gives to them."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.helm.surroundings import monitoring_labels
from ansible_collections.flaskops.observability.plugins.module_utils.verify.log_stores import LOGIN, TLS

from tests.evaluation import evaluate
from tests.harness import DEAD_KUBECONFIG, inventory_of, playbook
from tests.toolchain import programs

ROOT = Path(__file__).resolve().parents[3]
LOKI, VICTORIA_LOGS = ROOT / "roles/loki", ROOT / "roles/victoria_logs"
CHART = ROOT / "charts/victoria-logs-embedded"
(PLAYBOOK,) = yaml.safe_load((ROOT / "playbooks/logging.yml").read_text())
# What the tasks would find out about the cluster.
FOUND: dict[str, Any] = {
    "__victoria_logs_monitored": True,
    "__victoria_logs_found": {"monitoring_labels": {}},
    "__victoria_logs_collector_built": {"image": "collector:1"},
}
BASE: dict[str, Any] = {"flask_apps": [], "applications": {"places": []}, "cluster_provider": "", "logging_backend": ["loki"]}
ELASTIC = {"logging_backend": ["loki", "elastic"], "elastic_stack_shipper_password": "secret"}
Rendered = dict[str, list[dict[str, Any]]]


def values(folder: Path, embedded: bool = True, **given: Any) -> dict[str, Any]:
    """The values that the role gives to the chart."""
    options = {**FOUND, "__victoria_logs_embedded": embedded, **{f"victoria_logs_{key}": value for key, value in given.items()}}
    found: dict[str, Any] = evaluate(folder, {"values": "__victoria_logs_values"}, options, VICTORIA_LOGS)["values"]
    return found


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """The objects of the embedded chart, by kind."""
    given = values(tmp_path_factory.mktemp("values"), collector=True, monitoring_labels={"release": "mine"}, scrape_interval="7s")
    return render(given)


def render(given: dict[str, Any]) -> Rendered:
    """The objects of the embedded chart with these values, by kind."""
    helm = shutil.which("helm") or str(programs("helm") / "helm")
    command = [helm, "template", "victoria-logs", str(CHART), "--namespace", "victoria-logs", "--values", "-"]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: Rendered = {}
    for item in yaml.safe_load_all(done.stdout):
        if item:
            found.setdefault(item["kind"], []).append(item)
    return found


def test_every_service_monitor_has_the_labels_that_a_prometheus_selects_by(rendered: Rendered) -> None:
    monitors = {item["metadata"]["name"]: item for item in rendered["ServiceMonitor"]}
    assert set(monitors) == {"victoria-logs", "victoria-logs-collector"}
    assert {item["metadata"]["labels"].get("release") for item in monitors.values()} == {"mine"}
    assert {endpoint["interval"] for item in monitors.values() for endpoint in item["spec"]["endpoints"]} == {"7s"}
    # Else the counters of lines would lose the application's namespace.
    assert monitors["victoria-logs-collector"]["spec"]["endpoints"][0]["honorLabels"] is True


def test_the_program_takes_the_flags_and_keeps_within_its_limits(rendered: Rendered, tmp_path: Path) -> None:
    (server,) = rendered["StatefulSet"]
    (container,) = server["spec"]["template"]["spec"]["containers"]
    flags = dict(flag.lstrip("-").split("=", 1) for flag in container["args"])
    volume = 10 * 2**30
    assert int(flags["storage.minFreeDiskSpaceBytes"]) == volume // 5
    assert int(flags["retention.maxDiskSpaceUsageBytes"]) + volume // 5 < volume
    memory = {item["name"]: item["value"] for item in container["env"]}["GOMEMLIMIT"]
    assert container["resources"]["limits"]["memory"] == "512Mi" and 0 < int(memory) < 512 * 2**20
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags |= {"storageDataPath": str(tmp_path), "httpListenAddr": f"127.0.0.1:{port}", "storage.minFreeDiskSpaceBytes": "1"}
    binary = programs("victoria-logs") / "victoria-logs-prod"
    command = [str(binary), *(f"-{name}={value}" for name, value in flags.items())]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline, page = time.monotonic() + 20, ""
        while not page and process.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/flags", timeout=5) as reply:
                    page = reply.read().decode()
            except OSError:
                time.sleep(0.05)
    finally:
        process.terminate()
        _out, said = process.communicate()
    assert page, said
    shown = dict(re.findall(r'^-([\w.]+)="(.*)"$', page, re.MULTILINE))
    assert shown["retentionPeriod"] == "7d" and shown["inmemoryDataFlushInterval"] == "1s" and shown["defaultMsgValue"] == ""


def test_the_logs_of_the_local_cluster_are_on_its_control_plane(tmp_path: Path) -> None:
    """A pod that comes up on another node would have another folder of that name."""
    for cluster in ("", "mine"):
        found = render(values(tmp_path, collector=True, local_cluster=cluster))
        for spec in (item["spec"]["template"]["spec"] for kind in ("StatefulSet", "Job") for item in found[kind]):
            role, tolerations = "node-role.kubernetes.io/control-plane", spec.get("tolerations", [])
            assert (role in spec.get("nodeSelector", {}), role in [each["key"] for each in tolerations]) == (bool(cluster),) * 2


def test_pods_keep_to_the_restricted_level(rendered: Rendered) -> None:
    pods = [item["spec"]["template"]["spec"] for kind in ("StatefulSet", "Job") for item in rendered[kind]]
    for spec in pods:
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            security = container["securityContext"]
            assert not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}


def test_the_upstream_chart_gets_what_is_its_own(tmp_path: Path) -> None:
    found = values(tmp_path, embedded=False, storage_class="fast", image_pull_secrets=["mirror"], storage_size="100Gi")
    server = found["server"]
    assert set(found) == {"server"} and "image" not in server
    assert server["persistentVolume"] == {"size": "100Gi", "storageClassName": "fast"}
    assert server["imagePullSecrets"] == [{"name": "mirror"}] and server["fullnameOverride"] == "victoria-logs"
    assert server["podSecurityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


ACCESS = {"username": "ann", "password": "CANARY", "ca": "CA", "problem": ""}
ASKS = {"username": "ann", "password": "CANARY", "tls_secret": "logs-tls", "access": ACCESS}


def test_a_login_and_tls_reach_every_client(tmp_path: Path) -> None:
    upstream = values(tmp_path, embedded=False, **ASKS)["server"]
    given = values(tmp_path, collector=True, **ASKS)
    assert {key: value for key, value in given["server"].items() if key != "image"} == {
        key: value for key, value in upstream.items() if key not in ("imagePullSecrets", "podSecurityContext")
    }
    assert "CANARY" not in json.dumps(given)
    objects = render(given)
    (server,) = objects["StatefulSet"]
    (container,) = server["spec"]["template"]["spec"]["containers"]
    flags = dict(flag.lstrip("-").partition("=")[::2] for flag in container["args"])
    mounted = {item["mountPath"]: item["name"] for item in container["volumeMounts"]}
    volumes = {item["name"]: item["secret"]["secretName"] for item in server["spec"]["template"]["spec"]["volumes"]}
    assert flags["httpAuth.username"] == "ann"
    assert volumes[mounted[str(Path(flags["httpAuth.password"].removeprefix("file://")).parent)]] == "victoria-logs-login"
    assert "tls" in flags and volumes[mounted[str(Path(flags["tlsCertFile"]).parent)]] == "logs-tls"
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    (service,) = (item for item in objects["Service"] if item["metadata"]["name"] == "victoria-logs")
    assert service["metadata"]["annotations"] == {LOGIN: "victoria-logs-login", TLS: "logs-tls"}
    monitors = {item["metadata"]["name"]: item["spec"]["endpoints"][0] for item in objects["ServiceMonitor"]}
    endpoint = monitors["victoria-logs"]
    assert endpoint["scheme"] == "https" and endpoint["tlsConfig"]["serverName"] == "victoria-logs.victoria-logs.svc"
    assert endpoint["basicAuth"]["password"] == {"name": "victoria-logs-login", "key": "password"}
    (agent,) = objects["DaemonSet"]
    pod = agent["spec"]["template"]["spec"]
    assert {"name": "URL", "value": "https://victoria-logs.victoria-logs.svc:9428"} in pod["containers"][0]["env"]
    assert [item["secret"]["secretName"] for item in pod["volumes"] if "secret" in item] == ["victoria-logs-collector"]


def test_the_data_is_removed_on_each_node(tmp_path: Path) -> None:
    """The log agent has its folder on every one, also on one that takes no ordinary pods."""
    folders = ["/var/lib/flaskops/logging/victoria-logs", "/var/lib/flaskops/logging/agent"]
    given = {**FOUND, "__victoria_logs_nodes": ["a", "b"], "__victoria_logs_folders": folders}
    found = evaluate(tmp_path, {"jobs": "lookup('ansible.builtin.template', 'removal.yml.j2')"}, given, VICTORIA_LOGS)
    jobs = [job for job in yaml.safe_load_all(found["jobs"]) if job]
    pods = [job["spec"]["template"]["spec"] for job in jobs]
    assert [pod["nodeName"] for pod in pods] == ["a", "b"] and len({job["metadata"]["name"] for job in jobs}) == 2
    for pod in pods:
        assert pod["containers"][0]["args"] == [f"/node{folder}" for folder in folders]
        assert [volume["hostPath"]["path"] for volume in pod["volumes"]] == ["/var/lib/flaskops/logging"]


OBJECTS = "lookup('ansible.builtin.template', 'objects.yml.j2')"


def test_only_secrets_hold_the_login(tmp_path: Path) -> None:
    given = {**FOUND, **{f"victoria_logs_{key}": value for key, value in ASKS.items()}, "victoria_logs_collector": True}
    given |= {"__victoria_logs_embedded": True, "__victoria_logs_grafana": True, "victoria_logs_grafana_datasource": True}
    found = evaluate(tmp_path, {"objects": OBJECTS}, given, VICTORIA_LOGS)["objects"]
    others = [item for item in yaml.safe_load_all(found) if item and item["kind"] != "Secret"]
    assert others and "CANARY" not in str(others)
    secrets = {item["metadata"]["name"]: item for item in yaml.safe_load_all(found) if item and item["kind"] == "Secret"}
    assert len(secrets) == 3
    (source,) = yaml.safe_load(base64.b64decode(secrets["victoria-logs-datasource"]["data"]["victoria-logs.yaml"]))["datasources"]
    assert source["secureJsonData"] == {"basicAuthPassword": "CANARY", "tlsCACert": "CA"}
    assert source["url"] == "https://victoria-logs.victoria-logs.svc:9428" and source["basicAuthUser"] == "ann"


KEPT: dict[str, tuple[dict[str, Any], set[str]]] = {
    "all": ({**ASKS, "grafana_datasource": True, "collector": True}, {"ConfigMap victoria-logs-datasource"}),
    "no-source": ({**ASKS, "collector": True}, {"ConfigMap victoria-logs-datasource", "Secret victoria-logs-datasource"}),
    "no-login": (
        {"grafana_datasource": True},
        {"Secret victoria-logs-datasource", "Secret victoria-logs-login", "Secret victoria-logs-collector"},
    ),
    "no-rules": (
        {**ASKS, "grafana_datasource": True, "collector": True, "default_rules": False},
        {"ConfigMap victoria-logs-datasource", "PrometheusRule victoria-logs-alerts"},
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_the_options_no_longer_ask_for_goes(tmp_path: Path, case: str) -> None:
    """Most of all a Secret with the password."""
    options, unwanted = KEPT[case]
    given = {"__victoria_logs_embedded": True, "__victoria_logs_grafana": True}
    given |= {f"victoria_logs_{key}": value for key, value in options.items()}
    found = evaluate(tmp_path, {"wanted": OBJECTS, "known": "__victoria_logs_references"}, given, VICTORIA_LOGS)
    wanted, known = (
        {f"{item['kind']} {item['metadata']['name']}" for item in items if item}
        for items in (yaml.safe_load_all(found["wanted"]), found["known"])
    )
    assert known - wanted == unwanted


LIMITS: dict[str, dict[str, Any]] = {
    "256Mi": {"resources": {"limits": {"memory": "256Mi"}}},
    "1Gi": {"values": {"server": {"resources": {"limits": {"memory": "1Gi"}}}}},
    "": {"resources": {"requests": {"memory": "64Mi"}}},
}


@pytest.mark.parametrize("limit", LIMITS)
def test_go_knows_the_memory_limit_that_the_user_gave(tmp_path: Path, limit: str) -> None:
    server = values(tmp_path, **LIMITS[limit])["server"]
    assert server["resources"].get("limits", {}).get("memory", "") == limit
    size = {"256Mi": 256 * 2**20, "1Gi": 2**30, "": 0}[limit]
    assert [item["value"] for item in server["env"]] == ([str(int(size * 0.8))] if size else [])


def test_an_output_logs_in(logging: Callable[..., dict[str, Any]]) -> None:
    given = {"logging_backend": ["victoria_logs"], "victoria_logs_access": ACCESS}
    (output,) = logging(**given)["outputs"]
    assert output == {
        **{"type": "victoria_logs", "host": "victoria-logs.victoria-logs.svc", "tls": True, "tls_ca": "CA"},
        **{"username": "ann", "password_secret": "victoria-logs"},
    }
    assert logging(**given, hostvars={"localhost": {}}, inventory_hostname="localhost")["secrets"] == {"victoria-logs": "CANARY"}
    assert [item["type"] for item in logging(**{**given, "logging_backend": ["loki"]})["outputs"]] == ["loki"]


@pytest.fixture
def logging(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What playbooks/logging.yml gives to the roles."""
    expressions = {
        "apps": "elastic_stack_apps",
        "outputs": "fluent_bit_outputs",
        "secrets": "fluent_bit_secrets",
        "unverified": "__logging_elastic_unverified",
    }
    variables: dict[str, Any] = dict(PLAYBOOK["vars"])
    for task in PLAYBOOK["tasks"]:
        variables |= task.get("vars", {})

    def write(**given: Any) -> dict[str, Any]:
        return evaluate(tmp_path, expressions, {**BASE, **given}, variables=variables)

    return write


def test_elastic_stack_gets_the_keys_that_it_knows(logging: Callable[..., dict[str, Any]]) -> None:
    found = logging(applications={"places": [{"namespace": "web", "app": "shop"}]})
    assert found["apps"] == [{"namespace": "web", "app": "shop"}]


CHOICES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "both": ({"logging_backend": ["loki", "victoria_logs"]}, ["loki", "victoria_logs"], ["loki", "victoria_logs"]),
    "skipped": ({"logging_backend": ["loki", "victoria_logs"], "loki_skipped": True}, ["victoria_logs"], ["victoria_logs"]),
    "aws": ({"logging_backend": ["cloudwatch"], "logging_cloudwatch": {"region": "r"}}, ["cloudwatch"], ["cloudwatch_logs"]),
    "nothing": ({"logging_backend": []}, [], []),
    "own": ({"logging_backend": [], "logging_outputs": [{"type": "http"}]}, [], ["http"]),
    "auto": ({"logging_backend": "auto", "__logging_found": "absent"}, ["loki"], ["loki"]),
    "auto-without": ({"__logging_found": "absent", "loki_skipped": True}, ["victoria_logs"], ["victoria_logs"]),
    "auto-again": ({"__logging_found": "deployed"}, ["victoria_logs"], ["victoria_logs"]),
    "none": ({"logging_provider": "none"}, [], []),
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"logging_backend": ["splunk"]}, "splunk"),
    "no-list": ({"logging_backend": "loki"}, "a list"),
    "no-region": ({"logging_backend": ["cloudwatch"]}, "logging_cloudwatch"),
    "no-password": ({"logging_backend": ["elastic"]}, "elastic_stack_shipper_password"),
    "former": ({"logging_elastic": True}, "logging_backend"),
}


def test_choice_of_back_ends(tmp_path: Path) -> None:
    """In one run, as hosts: each has the choice of one case."""
    hosts: dict[str, Any] = {}
    for name, given in {**{n: c[0] for n, c in CHOICES.items()}, **{n: c[0] for n, c in WRONG.items()}}.items():
        hosts[name] = {"cluster_provider": "", **given}
        if "__logging_found" in given:
            hosts[name]["__logging_found"] = {"releases": {"victoria-logs": {"status": given["__logging_found"]}}}
    variables = dict(PLAYBOOK["vars"])
    variables |= next(task for task in PLAYBOOK["tasks"] if "__logging_checks" in task.get("vars", {}))["vars"]
    found = {"complaints": "{{ __logging_complaints }}"}
    outputs = {"backends": "{{ __logging_backends }}", "outputs": "{{ __logging_outputs | map(attribute='type') | list }}"}
    for group, expressions in (("good", {**found, **outputs}), ("bad", found)):
        task = {"ansible.builtin.copy": {"content": "{{ wanted | to_json }}", "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}"}}
        play = {"hosts": group, "gather_facts": False, "vars": {**variables, "wanted": expressions}, "tasks": [task]}
        (tmp_path / f"{group}.yml").write_text(yaml.safe_dump([play]))
    groups = {"good": {"hosts": {n: hosts[n] for n in CHOICES}}, "bad": {"hosts": {n: hosts[n] for n in WRONG}}}
    inventory = {"all": {"children": groups, "vars": {"ansible_python_interpreter": sys.executable}}}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "inventory.yml",
        "-c",
        "local",
        "good.yml",
        "bad.yml",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, (_given, backends, kinds) in CHOICES.items():
        assert json.loads((tmp_path / name).read_text()) == {"backends": backends, "outputs": kinds, "complaints": []}, name
    for name, (_given, words) in WRONG.items():
        assert words in json.loads((tmp_path / name).read_text())["complaints"][0], name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "limit": ({"disk_limit": "much"}, "victoria_logs_disk_limit"),
    "two": ({"existing_secret": "logs", "username": "ann", "password": "CANARY"}, "victoria_logs_existing_secret"),
    "volumes": ({"tls_secret": "tls", "values": {"server": {"extraVolumes": []}}}, "server.extraVolumes"),
}


def test_wrong_options_are_refused_before_the_log_agent_is_changed(tmp_path: Path) -> None:
    """The cluster does not answer, so that what comes first says something else."""
    (tmp_path / "config").write_text(DEAD_KUBECONFIG)
    shared = {**BASE, "cluster_kubeconfig": str(tmp_path / "config"), "logging_backend": ["victoria_logs"]}
    hosts = {name: {f"victoria_logs_{key}": value for key, value in given.items()} for name, (given, _words) in REFUSED.items()}
    env = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = playbook("playbooks/logging.yml", inventory=inventory_of(tmp_path, hosts, **shared), env=env)
    said = dict(re.findall(r"^fatal: \[([^]]+)\]: FAILED! => (\{.*\})$", done.stdout, re.MULTILINE))
    assert set(said) == set(REFUSED), done.stdout[-3000:]
    for name, (_given, words) in REFUSED.items():
        assert words in json.loads(said[name])["msg"], said[name]


@pytest.mark.parametrize("mode", ["single", "scalable"])
def test_the_shipper_writes_where_loki_is(logging: Callable[..., dict[str, Any]], tmp_path: Path, mode: str) -> None:
    (output,) = logging()["outputs"]
    assert output == {"type": "loki", "host": "loki.loki.svc", "port": 3100}
    given = {"loki_mode": mode, "loki_namespace": "lines", "loki_release_name": "mine"}
    (output,) = logging(**given)["outputs"]
    url = evaluate(tmp_path, {"url": "__loki_url"}, given, LOKI)["url"]
    assert url == f"http://{output['host']}:{output['port']}"


def test_an_output_does_not_go_silently(logging: Callable[..., dict[str, Any]]) -> None:
    """Without the authority of an Elasticsearch that is wanted, the play ends before the log agent is touched."""
    found = logging(**ELASTIC, elastic_stack_ca="pem")
    assert found["unverified"] is False and [item["type"] for item in found["outputs"]] == ["loki", "es"]
    assert logging(**ELASTIC)["unverified"] is True
    assert logging(**ELASTIC, elastic_stack_skipped=True)["unverified"] is False
    assert logging(**ELASTIC, elastic_stack_state="absent")["unverified"] is False
    assert logging()["unverified"] is False
    names = [task["name"] for task in PLAYBOOK["tasks"]]
    assert names.index("Refuse a log agent that could not verify Elasticsearch") < names.index("Send the logs with Fluent Bit")


def test_grafana_gets_the_keys_that_were_given(tmp_path: Path) -> None:
    """Grafana splits a value at $$, expands each part as a variable, and joins them with $."""
    given = {
        "__fluent_bit_plan": {"datasources": [{"name": "CloudWatch", "jsonData": {}}]},
        "fluent_bit_grafana_role_arn": "",
        "fluent_bit_grafana_secrets": {"aws-access-key-id": "a$B", "aws-secret-access-key": "c$$d"},
    }
    lookup = "lookup('ansible.builtin.template', 'secret.yml.j2') | from_yaml"
    secret = evaluate(tmp_path, {"secret": lookup}, given, ROOT / "roles/fluent_bit")["secret"]
    (source,) = yaml.safe_load(base64.b64decode(secret["data"]["cloudwatch.yaml"]))["datasources"]
    keys = [source["secureJsonData"][name] for name in ("accessKey", "secretKey")]
    assert ["$".join(map(os.path.expandvars, key.split("$$"))) for key in keys] == ["a$B", "c$$d"]


@pytest.mark.parametrize(("given", "labels"), [("auto", {"release": "found"}), ({"team": "a"}, {"team": "a"}), ({}, {})])
def test_monitors_have_the_labels_that_were_found_or_those_that_were_given(tmp_path: Path, given: Any, labels: Any) -> None:
    found = {"monitoring_labels": {"release": "found"}, "monitoring": True}
    loki = {"loki_monitoring_labels": given, "__loki_found": found}
    assert (
        evaluate(tmp_path, {"values": "__loki_values"}, loki, LOKI)["values"]["monitoring"]["serviceMonitor"]["labels"] == labels
    )
    (tmp_path / "logs").mkdir()
    logs = values(tmp_path / "logs", monitoring_labels=given)
    wanted = labels if given != "auto" else FOUND["__victoria_logs_found"]["monitoring_labels"]
    assert logs["server"]["serviceMonitor"]["extraLabels"] == wanted


@pytest.mark.parametrize(("selector", "labels"), [({"matchLabels": {"release": "a"}}, {"release": "a"}), ({}, {}), (None, {})])
def test_labels_of_monitors_are_those_that_the_prometheus_selects(selector: Any, labels: dict[str, str]) -> None:
    server = {
        "metadata": {"name": "main", "namespace": "stack"},
        "spec": {"serviceMonitorSelector": selector, "serviceMonitorNamespaceSelector": {}},
    }
    objects: Any = SimpleNamespace(every=lambda _version, _kind: [server])
    assert monitoring_labels(objects, "loki", {}) == labels


@pytest.mark.parametrize("role", ["loki", "victoria_logs", "fluent_bit"])
def test_the_rules_of_a_role_can_be_told_and_skipped(tmp_path: Path, role: str) -> None:
    rules = {"loki": "__loki_metric_rules", "victoria_logs": "__victoria_logs_rules", "fluent_bit": "__fluent_bit_rules.groups"}[
        role
    ]
    alert = {"loki": "LokiDown", "victoria_logs": "VictoriaLogsDown", "fluent_bit": "FluentBitBacklog"}[role]
    objects = "lookup('ansible.builtin.template', 'objects.yml.j2') is search('PrometheusRule')"
    if role == "fluent_bit":
        plan: dict[str, Any] = {"fluent_bit_outputs": [{"name": "loki", "type": "loki", "host": "loki.test"}]}
        plan["__fluent_bit_plan"] = "{{ __fluent_bit_options | flaskops.observability.fluent_bit }}"
    else:
        plan = {
            "victoria_logs_access": {},
            "__loki_grafana": False,
            "__victoria_logs_grafana": False,
            "__victoria_logs_embedded": False,
        }
    for wanted in (True, False):
        given = {**plan, f"{role}_alerts": {alert: {"for": "9m"}}, f"{role}_default_rules": wanted}
        found = evaluate(tmp_path, {"rules": rules, "there": objects}, given, ROOT / "roles" / role)
        assert {rule["alert"]: rule["for"] for group in found["rules"] for rule in group["rules"]}[alert] == "9m"
        assert found["there"] is wanted
