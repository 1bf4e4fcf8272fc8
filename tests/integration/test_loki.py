# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""loki on the real cluster, with the embedded chart and its collector; what becomes of lines is in test_logs.py.

The tests from `test_check_mode_on_an_empty_cluster` on go on where the one before ended. Namespace, release and folders are
their own: a Loki that is there already is left as it is.
"""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.harness import LONG, ROOT, Cluster, Run, engine_env, refusals, run_role, start_program, until

sys.path.insert(0, str(ROOT / "tests/bench"))
import loss

pytestmark = LONG
NAMESPACE = "loki-test"
RELEASE = "loki-test"
APP = "log-writer"
# Options that are refused, and a part of the sentence.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no cluster": ({"kubeconfig": ""}, "No cluster was named"),
    "namespace": ({"namespace": "Loki"}, "use at most 58 lower-case letters"),
    "release": ({"release_name": "9"}, "a letter first"),
    "state": ({"state": "here"}, "present, absent"),
    "source": ({"source": "internet"}, "auto, upstream, embedded"),
    "embedded without a cluster": ({"source": "embedded", "cluster": ""}, "loki_cluster is empty"),
    "embedded and scalable": (
        {"source": "embedded", "cluster": "x", "mode": "scalable", "storage": "s3"},
        "one binary with a volume",
    ),
    "collector upstream": ({"source": "upstream", "collector": True}, "only the embedded chart has the collector"),
    "replicas": ({"replicas": 0}, "use one or more"),
    "replicas that share nothing": ({"replicas": 2}, "use s3"),
    "no bucket": ({"storage": "s3"}, "name the bucket"),
    "retention in days": ({"retention": "7d"}, "write hours"),
    "retention under a day": ({"retention": "12h"}, "at least 24h"),
    "window": ({"alert_window": "soon"}, "write durations"),
    "silence": ({"alert_apps": [{"namespace": "a", "app": "a", "silence": "long"}]}, "write a duration such as 15m"),
    "alert for no application": ({"alert_apps": [{"namespace": "a"}]}, "app"),
    "error lines": ({"alert_error_lines": -1}, "0 or more"),
    "alertmanager": ({"alertmanager_url": "alertmanager:9093"}, "write an address"),
    "rule": ({"alert_rules": [{"alert": "X"}]}, "without expr"),
    "spool": ({"collector_spool_limit": 1}, "at least 10485760"),
    "cluster that does not answer": ({}, "can't be reached"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loki")


@pytest.fixture(scope="module")
def variables(cluster: Cluster, folder: Path) -> Iterator[dict[str, Any]]:
    """The role's variables. Whatever a failed test left behind is removed in the end."""
    found: dict[str, Any] = {
        "loki_kubeconfig": str(cluster.kubeconfig),
        "loki_context": cluster.context,
        "loki_namespace": NAMESPACE,
        "loki_release_name": RELEASE,
        "loki_source": "embedded",
        "loki_cluster": cluster.context,
        "loki_collector": True,
        "loki_collector_label": "test",
        "loki_alert_apps": [{"namespace": NAMESPACE, "app": APP, "silence": "20s"}],
        "loki_alert_window": "20s",
        "loki_alert_interval": "5s",
        # Other tests' Loki keeps its folders.
        "loki_values": {
            "nodeStorage": {"path": "/var/lib/flaskops/logging/test-loki"},
            "collector": {"statePath": "/var/lib/flaskops/logging/test-collector"},
        },
    }
    yield found
    run(folder, found, "-e", "loki_state=absent", "-e", '{"loki_remove_data": true}')


def run(folder: Path, variables: dict[str, Any], *args: str) -> Run:
    return run_role("loki", folder, variables, *args)


@pytest.fixture(scope="module")
def logs(cluster: Cluster) -> loss.Cluster:
    """Loki and the collector, as the loss test sees them."""
    shipper = f"{NAMESPACE}-node/{RELEASE}-collector"
    return loss.Cluster(cluster.api, f"{NAMESPACE}/{RELEASE}", shipper, f"{cluster.context}-node")


@pytest.fixture(scope="module")
def writer(cluster: Cluster, logs: loss.Cluster) -> Callable[..., str]:
    """Have a pod log what a Python program prints; the pod's name."""
    return lambda program: start_program(cluster, NAMESPACE, program, {"app": APP}, logs.image())


def test_wrong_options_end_in_one_sentence(tmp_path: Path) -> None:
    cases = {name: {f"loki_{key}": value for key, value in options.items()} for name, (options, _message) in WRONG.items()}
    for name, text in refusals("loki", tmp_path, cases).items():
        assert WRONG[name][1] in text, f"{name}: {text}"


def test_check_mode_on_an_empty_cluster(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, variables, "--check").changed >= 2  # the objects and the release, at least
    assert NAMESPACE not in cluster.namespaces()


def test_converge_twice(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, variables).changed > 0
    assert run(folder, variables).changed == 0
    assert run(folder, variables, "--check").changed == 0
    assert {NAMESPACE, f"{NAMESPACE}-node"} <= cluster.namespaces()


def test_namespace_is_restricted_and_the_collector_has_few_rights(cluster: Cluster, logs: loss.Cluster) -> None:
    labels = cluster.core.read_namespace(NAMESPACE).metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = logs.pod().spec
    (container,) = spec.containers
    context = container.security_context
    assert context.read_only_root_filesystem and not context.privileged and not context.allow_privilege_escalation
    assert context.capabilities.drop == ["ALL"] and not context.capabilities.add
    assert not spec.host_network and not spec.host_pid
    assert {mount.mount_path for mount in container.volume_mounts if not mount.read_only} == {"/state"}
    role = client.RbacAuthorizationV1Api(cluster.api).read_cluster_role(f"{NAMESPACE}-node-{RELEASE}-collector")
    assert [(rule.resources, rule.verbs) for rule in role.rules] == [(["pods"], ["list"])]


def alerts(logs: loss.Cluster) -> set[str]:
    """The alerts that fire, by the ruler's own answer."""
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}:3100/proxy/prometheus/api/v1/alerts"
    found = logs.objects.request("GET", path)["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}


def test_alerts_about_lines_fire_and_resolve(logs: loss.Cluster, writer: Callable[..., str]) -> None:
    until(lambda: "LogSilence" in alerts(logs), 90, "the alert about silence")
    writer(
        "import time, traceback\n"
        "end = time.monotonic() + 40\n"
        "while time.monotonic() < end:\n"
        "    print('ERROR broken')\n"
        "    try:\n        1 / 0\n"
        "    except ZeroDivisionError:\n        traceback.print_exc()\n"
        "    time.sleep(0.5)\n"
    )
    until(lambda: {"LogErrorLines", "LogTraceback"} <= (now := alerts(logs)) and "LogSilence" not in now, 60, "the alerts")
    until(lambda: alerts(logs) == {"LogSilence"}, 120, "the end of the alerts, and silence again")


def test_canary_finds_its_lines(cluster: Cluster, logs: loss.Cluster) -> None:
    def metrics() -> dict[str, float]:
        text = cluster.core.connect_get_namespaced_service_proxy_with_path(f"{RELEASE}-canary:3500", NAMESPACE, "metrics")
        return {name: float(value) for name, value in re.findall(r"^(loki_canary_\w+_total) (\S+)$", text, re.MULTILINE)}

    found = until(lambda: (got := metrics())["loki_canary_entries_total"] >= 30 and got, 120, "the canary's lines")
    assert found["loki_canary_missing_entries_total"] == 0


def test_lines_outlive_the_pod(cluster: Cluster, logs: loss.Cluster, writer: Callable[..., str]) -> None:
    word = uuid.uuid4().hex
    writer(f"print('{word}')")
    query = f'{{namespace="{NAMESPACE}", app="{APP}"}} |= "{word}"'
    until(lambda: logs.lines(query), 60, "the line's arrival")
    before = cluster.core.read_namespaced_pod(f"{RELEASE}-0", NAMESPACE).metadata.uid
    cluster.core.delete_namespaced_pod(f"{RELEASE}-0", NAMESPACE)

    def back() -> bool:
        try:
            pod = cluster.core.read_namespaced_pod(f"{RELEASE}-0", NAMESPACE)
        except client.ApiException:
            return False
        ready = any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])
        return bool(pod.metadata.uid != before and ready)

    until(back, 180, "Loki's return")
    until(lambda: logs.lines(query), 60, "the line from the volume")


def test_drift_is_repaired(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    name = f"{RELEASE}-log-rules"
    cluster.core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"rules.yaml": "groups: []"}})
    cluster.apps.patch_namespaced_deployment(f"{RELEASE}-canary", NAMESPACE, {"spec": {"replicas": 0}})
    assert run(folder, variables, "--check").changed == 2
    assert cluster.core.read_namespaced_config_map(name, NAMESPACE).data["rules.yaml"] == "groups: []"
    assert run(folder, variables).changed == 2
    assert "LogTraceback" in cluster.core.read_namespaced_config_map(name, NAMESPACE).data["rules.yaml"]
    assert cluster.apps.read_namespaced_deployment(f"{RELEASE}-canary", NAMESPACE).spec.replicas == 1
    assert run(folder, variables).changed == 0


def test_values_that_the_chart_refuses_change_nothing(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    before = cluster.apps.read_namespaced_stateful_set(RELEASE, NAMESPACE).metadata.generation
    wrong = {**variables, "loki_resources": {"limits": {"memory": "much"}}}
    assert "stays as it is" in run(folder, wrong).error
    assert cluster.apps.read_namespaced_stateful_set(RELEASE, NAMESPACE).metadata.generation == before


def test_absent_leaves_the_lines_and_then_nothing(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    cluster.core.delete_collection_namespaced_pod(NAMESPACE, label_selector=f"app={APP}")
    assert run(folder, variables, "-e", "loki_state=absent").changed > 0
    assert run(folder, variables, "-e", "loki_state=absent").changed == 0
    assert [claim.metadata.name for claim in cluster.core.list_namespaced_persistent_volume_claim(NAMESPACE).items] == [
        f"storage-{RELEASE}-0"
    ]
    everything = ("-e", "loki_state=absent", "-e", '{"loki_remove_data": true}')
    assert run(folder, variables, *everything).changed > 0
    # Somebody else's namespace of that name stays.
    cluster.core.create_namespace({"metadata": {"name": f"{NAMESPACE}-node"}})
    assert run(folder, variables, *everything).changed == 0
    assert f"{NAMESPACE}-node" in cluster.namespaces()
    cluster.core.delete_namespace(f"{NAMESPACE}-node")
    until(lambda: f"{NAMESPACE}-node" not in cluster.namespaces(), 60, "the end of the namespace")
    assert NAMESPACE not in cluster.namespaces()
    assert not [item for item in cluster.core.list_persistent_volume().items if NAMESPACE in item.metadata.name]
    rbac = client.RbacAuthorizationV1Api(cluster.api)
    left = [*rbac.list_cluster_role().items, *rbac.list_cluster_role_binding().items]
    assert [item.metadata.name for item in left if NAMESPACE in item.metadata.name] == []
    node = [
        "podman",
        "exec",
        f"{cluster.context}-node",
        "sh",
        "-c",
        "ls -A /var/lib/flaskops/logging; ctr -n k8s.io images ls -q",
    ]
    listed = subprocess.run(node, check=True, capture_output=True, text=True, env=engine_env()).stdout
    assert "test-loki" not in listed and "test-collector" not in listed
    if not cluster.apps.list_stateful_set_for_all_namespaces(label_selector="app.kubernetes.io/name=loki").items:
        assert "grafana/loki" not in listed and "log-collector" not in listed
