# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role makes of its options, as Helm renders it and as Loki reads it, and what playbooks/logging.yml gives to roles."""

from __future__ import annotations

import base64
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
ROLE = ROOT / "roles/loki"
CHART = ROOT / "charts/loki-embedded"
(PLAYBOOK,) = yaml.safe_load((ROOT / "playbooks/logging.yml").read_text())
# What the tasks would find out about the cluster.
FOUND = {"__loki_embedded": True, "__loki_monitored": True, "__loki_collector_built": {"image": "collector:1"}}
BASE: dict[str, Any] = {"flask_apps": [], "cluster_provider": ""}
ELASTIC = {"logging_elastic": True, "elastic_stack_shipper_password": "secret"}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The objects of the embedded chart, by kind."""
    folder = tmp_path_factory.mktemp("loki")
    given = {**FOUND, "loki_collector": True, "loki_monitoring_labels": {"release": "mine"}, "loki_values": {}}
    values = evaluate(folder, {"values": "__loki_values"}, given, ROLE)["values"]
    helm = shutil.which("helm") or str(programs("helm") / "helm")
    command = [helm, "template", "loki", str(CHART), "--namespace", "loki", "--values", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for item in yaml.safe_load_all(done.stdout):
        if item:
            found.setdefault(item["kind"], []).append(item)
    return found


def test_every_service_monitor_has_the_labels_that_a_prometheus_selects_by(rendered: dict[str, list[dict[str, Any]]]) -> None:
    monitors = {item["metadata"]["name"]: item["metadata"]["labels"] for item in rendered["ServiceMonitor"]}
    assert set(monitors) == {"loki", "loki-canary", "loki-collector"}
    assert {labels.get("release") for labels in monitors.values()} == {"mine"}


def test_loki_takes_late_lines(rendered: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Lines that are an hour behind the newest of their stream; Loki itself knows the setting."""
    (config,) = (item["data"]["config.yaml"] for item in rendered["ConfigMap"] if item["metadata"]["name"] == "loki")
    assert yaml.safe_load(config)["limits_config"]["shard_streams"] == {"time_sharding_enabled": True}
    (tmp_path / "config.yaml").write_text(config)
    loki = programs("loki") / "loki"
    command = [str(loki), f"-config.file={tmp_path}/config.yaml", "-verify-config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def logging(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What playbooks/logging.yml gives to the roles."""
    expressions = {
        "apps": "elastic_stack_apps",
        "alert_apps": "loki_alert_apps",
        "outputs": "fluent_bit_outputs",
        "unverified": "__logging_elastic_unverified",
    }
    variables: dict[str, Any] = dict(PLAYBOOK["vars"])
    for task in PLAYBOOK["tasks"]:
        variables |= task.get("vars", {})

    def write(**given: Any) -> dict[str, Any]:
        return evaluate(tmp_path, expressions, {**BASE, **given}, variables=variables)

    return write


def test_elastic_stack_gets_the_keys_that_it_knows(logging: Callable[..., dict[str, Any]]) -> None:
    found = logging(flask_apps=[{"name": "shop", "namespace": "web", "log_silence": "15m"}])
    assert found["apps"] == [{"namespace": "web", "app": "shop"}]
    assert found["alert_apps"] == [{"namespace": "web", "app": "shop", "silence": "15m"}]


@pytest.mark.parametrize("mode", ["single", "scalable"])
def test_the_shipper_writes_where_loki_is(logging: Callable[..., dict[str, Any]], tmp_path: Path, mode: str) -> None:
    (output,) = logging()["outputs"]
    assert output == {"type": "loki", "host": "loki.loki.svc", "port": 3100}
    given = {"loki_mode": mode, "loki_namespace": "lines", "loki_release_name": "mine"}
    (output,) = logging(**given)["outputs"]
    url = evaluate(tmp_path, {"url": "__loki_url"}, given, ROLE)["url"]
    assert url == f"http://{output['host']}:{output['port']}"


def test_an_output_does_not_go_silently(logging: Callable[..., dict[str, Any]]) -> None:
    """Without the authority of an Elasticsearch that is wanted, the play ends before the shipper is touched."""
    found = logging(**ELASTIC, elastic_stack_ca="pem")
    assert found["unverified"] is False and [item["type"] for item in found["outputs"]] == ["loki", "es"]
    assert logging(**ELASTIC)["unverified"] is True
    assert logging(**ELASTIC, elastic_stack_left_out=True)["unverified"] is False
    assert logging(**ELASTIC, elastic_stack_state="absent")["unverified"] is False
    assert logging()["unverified"] is False
    names = [task["name"] for task in PLAYBOOK["tasks"]]
    assert names.index("Refuse a shipper that could not verify Elasticsearch") < names.index("Ship the logs with Fluent Bit")


def test_grafana_gets_the_keys_that_were_given(tmp_path: Path) -> None:
    """Grafana splits a value at $$, expands each part as a variable, and joins them with $."""
    given = {
        "__fluent_bit_plan": {"datasources": [{"name": "CloudWatch", "jsonData": {}}]},
        "__fluent_bit_datasource_reference": {"metadata": {"name": "fluent-bit"}},
        "__fluent_bit_labels": {},
        "fluent_bit_grafana_role_arn": "",
        "fluent_bit_grafana_secrets": {"aws-access-key-id": "a$B", "aws-secret-access-key": "c$$d"},
    }
    template = ROOT / "roles/fluent_bit/templates/datasource.yml.j2"
    lookup = f"lookup('ansible.builtin.template', '{template}') | from_yaml"
    secret = evaluate(tmp_path, {"secret": lookup}, given)["secret"]
    (source,) = json.loads(base64.b64decode(secret["data"]["cloudwatch.yaml"]))["datasources"]
    keys = [source["secureJsonData"][name] for name in ("accessKey", "secretKey")]
    assert ["$".join(map(os.path.expandvars, key.split("$$"))) for key in keys] == ["a$B", "c$$d"]
