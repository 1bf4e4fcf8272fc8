# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""victoria_logs on the real cluster, with the embedded chart and its collector; what becomes of lines is in test_logs.py.

The tests from `test_check_mode_on_an_empty_cluster` on go on where the one before ended. Namespace, release and folders are
their own: a VictoriaLogs that is there already is left as it is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from kubernetes import client

from tests.harness import LONG, ROOT, Cluster, Run, engine_env, refusals, run_role, start_program, until

sys.path.insert(0, str(ROOT / "tests/bench"))
import loss

pytestmark = LONG
NAMESPACE = "victoria-test"
RELEASE = "victoria-test"
APP = "log-writer"
# Options that are refused, and a part of the sentence.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no cluster": ({"kubeconfig": ""}, "No cluster was named"),
    "namespace": ({"namespace": "Logs"}, "use at most 58 lower-case letters"),
    "release": ({"release_name": "9"}, "a letter first"),
    "state": ({"state": "here"}, "present, absent"),
    "source": ({"source": "internet"}, "auto, upstream, embedded"),
    "embedded without a cluster": ({"source": "embedded", "local_cluster": ""}, "victoria_logs_local_cluster is empty"),
    "collector upstream": ({"source": "upstream", "collector": True}, "only the embedded chart has the collector"),
    "retention without a unit": ({"retention": "7"}, "write days"),
    "retention in hours": ({"retention": "12h"}, "write days"),
    "size": ({"storage_size": "ten"}, "write a quantity"),
    "disk limit": ({"disk_limit": "70%"}, "write a quantity"),
    "memory": ({"resources": {"limits": {"memory": "much"}}}, "write a quantity"),
    "half a login": ({"username": "ann"}, "Only one of"),
    "two logins": ({"username": "ann", "password": "CANARY", "existing_secret": "login"}, "choose the Secret or the two"),
    "volumes": ({"tls_secret": "tls", "values": {"server": {"extraVolumes": []}}}, "server.extraVolumes"),
    "interval": ({"scrape_interval": "soon"}, "write a duration"),
    "spool": ({"collector_spool_limit": 1}, "at least 10485760"),
    "cluster that does not answer": ({}, "can't be reached"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("victoria-logs")


@pytest.fixture(scope="module")
def variables(cluster: Cluster, folder: Path) -> Iterator[dict[str, Any]]:
    """The role's variables. Whatever a failed test left behind is removed in the end."""
    found: dict[str, Any] = {
        "victoria_logs_kubeconfig": str(cluster.kubeconfig),
        "victoria_logs_context": cluster.context,
        "victoria_logs_namespace": NAMESPACE,
        "victoria_logs_release_name": RELEASE,
        "victoria_logs_source": "embedded",
        "victoria_logs_local_cluster": cluster.context,
        "victoria_logs_collector": True,
        "victoria_logs_cluster_label": "test",
        # Another one keeps its folders.
        "victoria_logs_values": {
            "nodeStorage": {"path": "/var/lib/flaskops/logging/test-store"},
            "collector": {"statePath": "/var/lib/flaskops/logging/test-agent"},
        },
    }
    yield found
    run(folder, found, "-e", "victoria_logs_state=absent", "-e", '{"victoria_logs_remove_data": true}')


def run(folder: Path, variables: dict[str, Any], *args: str) -> Run:
    return run_role("victoria_logs", folder, variables, *args)


@pytest.fixture(scope="module")
def logs(cluster: Cluster) -> loss.Cluster:
    """VictoriaLogs and the collector, as the loss test sees them."""
    shipper = f"{NAMESPACE}-node/{RELEASE}-collector"
    return loss.Cluster(cluster.api, f"{NAMESPACE}/{RELEASE}", shipper, f"{cluster.context}-node")


@pytest.fixture(scope="module")
def writer(cluster: Cluster, logs: loss.Cluster) -> Callable[..., str]:
    """Have a pod log what a Python program prints; the pod's name."""
    return lambda program: start_program(cluster, NAMESPACE, program, {"app": APP}, logs.image())


def test_wrong_options_end_in_one_sentence(tmp_path: Path) -> None:
    cases = {
        name: {f"victoria_logs_{key}": value for key, value in options.items()} for name, (options, _message) in WRONG.items()
    }
    for name, text in refusals("victoria_logs", tmp_path, cases).items():
        assert WRONG[name][1] in text and "CANARY" not in text, f"{name}: {text}"


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


def test_lines_outlive_the_pod(cluster: Cluster, logs: loss.Cluster, writer: Callable[..., str]) -> None:
    word = uuid.uuid4().hex
    writer(f"print('{word}')")
    query = f'{{namespace="{NAMESPACE}",app="{APP}"}} "{word}"'
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

    until(back, 180, "the return of VictoriaLogs")
    until(lambda: logs.lines(query), 60, "the line from the volume")


def test_drift_is_repaired(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    name, rules = f"{RELEASE}-alerts", ("monitoring.coreos.com", "v1", NAMESPACE, "prometheusrules")
    custom = client.CustomObjectsApi(cluster.api)
    custom.patch_namespaced_custom_object(*rules, name, {"spec": {"groups": []}})
    cluster.apps.patch_namespaced_stateful_set(RELEASE, NAMESPACE, {"spec": {"replicas": 0}})
    assert run(folder, variables, "--check").changed == 2
    assert custom.get_namespaced_custom_object(*rules, name)["spec"]["groups"] == []
    assert run(folder, variables).changed == 2
    assert "VictoriaLogsDown" in str(custom.get_namespaced_custom_object(*rules, name)["spec"])
    assert cluster.apps.read_namespaced_stateful_set(RELEASE, NAMESPACE).status.ready_replicas == 1
    assert run(folder, variables).changed == 0


def test_values_that_the_chart_refuses_change_nothing(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    before = cluster.apps.read_namespaced_stateful_set(RELEASE, NAMESPACE).metadata.generation
    wrong = {**variables, "victoria_logs_resources": {"limits": {"cpu": "much"}}}
    assert "stays as it is" in run(folder, wrong).error
    assert cluster.apps.read_namespaced_stateful_set(RELEASE, NAMESPACE).metadata.generation == before


def test_absent_leaves_the_lines_and_then_nothing(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    cluster.core.delete_collection_namespaced_pod(NAMESPACE, label_selector=f"app={APP}")
    assert run(folder, variables, "-e", "victoria_logs_state=absent").changed > 0
    assert run(folder, variables, "-e", "victoria_logs_state=absent").changed == 0
    assert [claim.metadata.name for claim in cluster.core.list_namespaced_persistent_volume_claim(NAMESPACE).items] == [
        f"server-volume-{RELEASE}-0"
    ]
    everything = ("-e", "victoria_logs_state=absent", "-e", '{"victoria_logs_remove_data": true}')
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
    assert "test-store" not in listed and "test-agent" not in listed
    if not cluster.apps.list_stateful_set_for_all_namespaces(label_selector="app.kubernetes.io/name=victoria-logs-single").items:
        assert "victoriametrics" not in listed and "log-collector" not in listed


FULL = "full-disk"
# Lines of 1 KB that can't be compressed much, more of them than a volume of 48 MiB has room for.
RANDOM = """
import base64, os, time
for number in range(60_000):
    print(f"INFO {number} {base64.b64encode(os.urandom(750)).decode()}")
    if not number % 50:
        time.sleep(0.03)
"""


def test_full_disk(cluster: Cluster, folder: Path) -> None:
    """It refuses lines with a fifth of its volume free and goes on; an alert tells; with room again every line is there once."""
    path = f"/var/lib/flaskops/logging/{FULL}"
    values = {"nodeStorage": {"path": path}, "collector": {"statePath": f"{path}-agent"}}
    found = {
        "victoria_logs_kubeconfig": str(cluster.kubeconfig),
        "victoria_logs_context": cluster.context,
        "victoria_logs_namespace": FULL,
        "victoria_logs_release_name": FULL,
        "victoria_logs_source": "embedded",
        "victoria_logs_local_cluster": cluster.context,
        "victoria_logs_collector": True,
        "victoria_logs_storage_size": "48Mi",
        "victoria_logs_scrape_interval": "5s",
        "victoria_logs_values": values,
    }
    logs = loss.Cluster(cluster.api, f"{FULL}/{FULL}", f"{FULL}-node/{FULL}-collector", f"{cluster.context}-node")
    logs.on_node("sh", "-c", f"mkdir -p {path} && mount -t tmpfs -o size=48m tmpfs {path}")
    try:
        assert run(folder, found).changed > 0
        pod = start_program(cluster, FULL, RANDOM, {"app": APP}, logs.image())
        metrics = f"/api/v1/namespaces/{FULL}/services/{FULL}:9428/proxy/metrics"
        until(lambda: re.search(r"^vl_storage_is_read_only\S* 1$", logs.raw.fetch(metrics)[1], re.M), 240, "the full disk", 2)
        alerts = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/query?"
        alerts += urlencode({"query": f'ALERTS{{alertname="VictoriaLogsReadOnly",namespace="{FULL}",alertstate="firing"}}'})
        until(lambda: json.loads(logs.raw.fetch(alerts)[1])["data"]["result"], 60, "the alert", 1)
        until(lambda: cluster.core.read_namespaced_pod(pod, FULL).status.phase == "Succeeded", 120, "the last line", 1)
        server = cluster.core.read_namespaced_pod(f"{FULL}-0", FULL)
        assert server.status.container_statuses[0].restart_count == 0
        before = arrived(logs)
        assert 0 < before < 60_000
        logs.on_node("mount", "-o", "remount,size=400m", path)
        until(lambda: arrived(logs) >= 60_000, 180, "the lines that waited", 1)
        stream = f'_time:1h {{namespace="{FULL}",app="{APP}"}}'
        (row,) = logs.query(f"{stream} | stats count() lines, count_uniq(_msg) different")
        assert (row["lines"], row["different"]) == ("60000", "60000")
        until(lambda: not json.loads(logs.raw.fetch(alerts)[1])["data"]["result"], 60, "the end of the alert", 1)
    finally:
        run(folder, found, "-e", "victoria_logs_state=absent")
        # A folder that is a mount can't be removed.
        logs.on_node("umount", path)
        assert run(folder, found, "-e", "victoria_logs_state=absent", "-e", '{"victoria_logs_remove_data": true}').changed > 0
        # The role leaves it, because the writer's pod is not its own.
        cluster.core.delete_namespace(FULL)


def arrived(logs: loss.Cluster) -> int:
    """How many lines of the full disk's writer are there."""
    (row,) = logs.query(f'_time:1h {{namespace="{FULL}",app="{APP}"}} | stats count() lines')
    return int(row["lines"])
