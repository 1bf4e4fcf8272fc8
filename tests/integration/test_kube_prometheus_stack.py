# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube_prometheus_stack on the real cluster, with the programs that the embedded chart runs.

The tests go on where the one before ended; the last ones remove the stack and bring it back.
"""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from kubernetes import client

from tests.harness import LONG, ROOT, Cluster, Run, engine_env, failures, playbook, until

NAMESPACE, RELEASE, BLACKBOX = "monitoring", "kube-prometheus-stack", "prometheus-blackbox-exporter"
PROMETHEUS, ALERTMANAGER = f"{RELEASE}-prometheus", f"{RELEASE}-alertmanager"
GROUP = ("monitoring.coreos.com", "v1", NAMESPACE)
PLAY = """\
- name: Run one role
  hosts: all
  gather_facts: false
  tasks:
    - name: Run it
      ansible.builtin.include_role:
        name: flaskops.observability.kube_prometheus_stack
"""
JOBS = {
    PROMETHEUS, ALERTMANAGER, f"{RELEASE}-operator", "kube-state-metrics", "node-exporter", "kubelet", "apiserver", "coredns",
    "prometheus-blackbox-exporter",
}  # fmt: skip
# Options, and the sentence that refuses them before anything is changed.
BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"kube_prometheus_stack_receiver": "nobody"},
        "kube_prometheus_stack_receiver is 'nobody', which is no receiver: choose one of",
    ),
    ({"kube_prometheus_stack_watchdog_receiver": "nobody"}, "kube_prometheus_stack_watchdog_receiver is 'nobody'"),
    ({"kube_prometheus_stack_receivers": [{"name": "a", "type": "pigeon"}]}, "type must be one of: webhook, email, slack"),
    (
        {"kube_prometheus_stack_receivers": [{"name": "a", "type": "slack"}]},
        "Receiver a of type slack has no credentials: set its secret",
    ),
    ({"kube_prometheus_stack_receivers": [{"name": "a", "type": "webhook"}]}, "Receiver a is a webhook without an address"),
    (
        {"kube_prometheus_stack_receivers": [{"name": "a", "type": "slack", "secret": {"name": "gone", "key": "url"}}]},
        "Receiver a needs the Secret gone with the key url in namespace monitoring, and it is not there: create it first.",
    ),
    (
        {"kube_prometheus_stack_storage_size": "1Gi", "kube_prometheus_stack_storage_class": "gone"},
        "kube_prometheus_stack_storage_class is 'gone', and the cluster has no StorageClass of that name: create it",
    ),
    (
        {"kube_prometheus_stack_routes": [{"receiver": "nobody"}]},
        "Alertmanager would refuse its new configuration, so the one before stays: undefined receiver",
    ),
    ({"kube_prometheus_stack_routes": [{"matchers": ["a=~("]}]}, "Alertmanager would refuse its new configuration"),
    ({"kube_prometheus_stack_group_wait": "soon"}, "Alertmanager would refuse its new configuration"),
    (
        {"kube_prometheus_stack_values": {"prometheus": {"prometheusSpec": {"replicas": "two"}}}},
        "The API server would refuse release kube-prometheus-stack, which stays as it is",
    ),
    (
        {"kube_prometheus_stack_values": {"prometheus": {"prometheusSpec": "nothing"}}},
        "can't take the values of release kube-prometheus-stack, which stays as it is",
    ),
    ({"kube_prometheus_stack_retention": "ten days"}, "The API server would refuse release kube-prometheus-stack"),
    (
        {"kube_prometheus_stack_resources": {"prometeus": {}}},
        "kube_prometheus_stack_resources has prometeus: its keys are prometheus",
    ),
    (
        {"kube_prometheus_stack_chart_ref": "oci://127.0.0.1:1/none", "kube_prometheus_stack_source": "upstream"},
        "can't be pulled",
    ),
    (
        {"kube_prometheus_stack_chart_ref": str(ROOT / "images.yml"), "kube_prometheus_stack_source": "upstream"},
        f"The chart {ROOT}/images.yml can't be pulled",
    ),
]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Run the role alone, with the shared cluster's inventory."""
    (tmp_path / "play.yml").write_text(PLAY)
    return lambda *args, **extra: playbook(*args, str(tmp_path / "play.yml"), extra=extra)


@pytest.fixture
def objects(cluster: Cluster) -> Objects:
    return Objects(cluster.api)


def proxy(objects: Objects, service: str, path: str, **query: str) -> Any:
    return objects.request("GET", f"/api/v1/namespaces/{NAMESPACE}/services/{service}/proxy{path}", query)


def query(objects: Objects, expression: str) -> list[dict[str, Any]]:
    found = proxy(objects, f"{PROMETHEUS}:9090", "/api/v1/query", query=expression)
    return list(found["data"]["result"])


def revisions(cluster: Cluster) -> list[str]:
    found = cluster.core.list_namespaced_secret(NAMESPACE, label_selector="owner=helm").items
    return sorted(f"{secret.metadata.name} {secret.metadata.labels['status']}" for secret in found)


def config(cluster: Cluster) -> str:
    secret = cluster.core.read_namespaced_secret(f"{RELEASE}-alertmanager-config", NAMESPACE)
    return base64.b64decode(secret.data["alertmanager.yaml"]).decode()


def inbox(cluster: Cluster, since: int) -> list[dict[str, Any]]:
    with urllib.request.urlopen(
        f"http://{cluster.address('alert-inbox', NAMESPACE)}/alerts.json?since={since}", timeout=5
    ) as reply:
        return list(json.load(reply)["alerts"])


def test_converged_changes_nothing(run: Callable[..., Run]) -> None:
    run()
    assert run().changed == 0
    assert run("--check").changed == 0


def test_every_target_is_up(objects: Objects) -> None:
    def down() -> list[str]:
        targets = proxy(objects, f"{PROMETHEUS}:9090", "/api/v1/targets", state="active")["data"]["activeTargets"]
        ours = [target for target in targets if target["labels"]["job"] in JOBS]
        missing = sorted(JOBS - {target["labels"]["job"] for target in ours})
        return missing + [f"{t['scrapeUrl']}: {t['lastError']}" for t in ours if t["health"] != "up"]

    until(lambda: not down(), 90, "every target up")


def test_programs_have_the_versions_of_their_tags(objects: Objects, cluster: Cluster) -> None:
    versions = yaml.safe_load((ROOT / "images.yml").read_text())["toolchain"]
    assert (
        proxy(objects, f"{PROMETHEUS}:9090", "/api/v1/status/buildinfo")["data"]["version"] == versions["prometheus"]["release"]
    )
    found = proxy(objects, f"{ALERTMANAGER}:9093", "/api/v2/status")["versionInfo"]["version"]
    assert found == versions["alertmanager"]["version"]
    for program in ("prometheus", "alertmanager", "blackbox_exporter", "node_exporter", "prometheus_operator"):
        assert until(lambda name=program: query(objects, f"{name}_build_info"), 60, f"a series of {program}_build_info")
    images = [c.image for p in cluster.core.list_namespaced_pod(NAMESPACE).items for c in p.spec.containers]
    assert f"quay.io/prometheus/prometheus:v{versions['prometheus']['release']}" in images
    assert [image for image in images if image.endswith(":latest")] == []


def test_pod_security(cluster: Cluster) -> None:
    level = {
        n: cluster.core.read_namespace(n).metadata.labels["pod-security.kubernetes.io/enforce"]
        for n in (NAMESPACE, f"{NAMESPACE}-node")
    }
    assert level == {NAMESPACE: "restricted", f"{NAMESPACE}-node": "privileged"}
    assert [c.name for p in cluster.core.list_namespaced_pod(f"{NAMESPACE}-node").items for c in p.spec.containers] == [
        "node-exporter"
    ]


def test_no_rule_fails_and_everything_is_selected(objects: Objects, cluster: Cluster) -> None:
    groups = proxy(objects, f"{PROMETHEUS}:9090", "/api/v1/rules")["data"]["groups"]
    assert [(rule["name"], rule["lastError"]) for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    assert until(lambda: query(objects, 'ALERTS{alertname="Watchdog", alertstate="firing"}'), 60, "Watchdog fires")
    spec = client.CustomObjectsApi(cluster.api).get_namespaced_custom_object(*GROUP, "prometheuses", PROMETHEUS)["spec"]
    assert [spec[f"{kind}Selector"] for kind in ("serviceMonitor", "podMonitor", "probe", "rule", "scrapeConfig")] == [{}] * 5


def test_kubelet_and_state_metrics_are_there(objects: Objects) -> None:
    for expression in (
        'container_memory_working_set_bytes{namespace="monitoring", container="prometheus"}',
        'kube_pod_container_status_restarts_total{namespace="monitoring"}',
        "node_memory_MemAvailable_bytes",
        "coredns_dns_requests_total",
        "apiserver_request_total",
    ):
        assert until(lambda e=expression: query(objects, e), 90, f"a series of {expression}")


def test_blackbox_exporter_probes_over_http(objects: Objects) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{BLACKBOX}:9115/proxy/probe"
    target = f"module=http_2xx&target=http://alert-inbox.{NAMESPACE}.svc/healthz"
    _status, page = objects.cluster.fetch(f"{path}?{target}", seconds=20)
    assert "\nprobe_success 1\n" in page


def test_alert_travels_to_the_inbox_and_back(objects: Objects, cluster: Cluster) -> None:
    """Straight to Alertmanager, which sends it on by the configuration that the role made."""
    started = int(time.time() * 1000) - 1
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{ALERTMANAGER}:9093/proxy/api/v2/alerts"
    labels = {"alertname": "RoleTest", "namespace": NAMESPACE, "severity": "warning"}

    def send(seconds: float) -> None:
        """Have it end that many seconds from now."""
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        alerts = [{"labels": labels, "annotations": {"summary": "Only a test"}, "endsAt": ends}]
        status, text = objects.cluster.send("POST", path, alerts)
        assert status == 200, text

    def arrived(status: str) -> list[dict[str, Any]]:
        return [a for a in inbox(cluster, started) if a["labels"].get("alertname") == "RoleTest" and a["status"] == status]

    send(300)
    (alert,) = until(lambda: arrived("firing"), 90, "the alert's arrival")
    assert (alert["labels"], alert["annotations"]["summary"]) == (labels, "Only a test")
    send(0)
    until(lambda: arrived("resolved"), 400, "the alert's end")


def test_drift_is_reported_and_repaired(run: Callable[..., Run], cluster: Cluster) -> None:
    """Of the release's objects, and of Alertmanager's configuration."""
    custom = client.CustomObjectsApi(cluster.api)
    configured = config(cluster)
    custom.patch_namespaced_custom_object(*GROUP, "prometheuses", PROMETHEUS, {"spec": {"retention": "1d"}})
    cluster.apps.patch_namespaced_deployment(BLACKBOX, NAMESPACE, {"spec": {"replicas": 0}})
    custom.delete_namespaced_custom_object(*GROUP, "servicemonitors", f"{RELEASE}-coredns")
    edited = {"alertmanager.yaml": "route: {receiver: x}\nreceivers: [{name: x}]\n"}
    cluster.core.patch_namespaced_secret(f"{RELEASE}-alertmanager-config", NAMESPACE, {"stringData": edited})
    before = revisions(cluster)
    assert run("--check").changed == 2
    assert cluster.apps.read_namespaced_deployment(BLACKBOX, NAMESPACE).spec.replicas == 0, "check mode changed the cluster"
    assert config(cluster) == edited["alertmanager.yaml"], "check mode changed the cluster"
    assert run().changed == 2
    assert custom.get_namespaced_custom_object(*GROUP, "prometheuses", PROMETHEUS)["spec"]["retention"] == "10d"
    assert cluster.apps.read_namespaced_deployment(BLACKBOX, NAMESPACE).status.ready_replicas == 1
    assert custom.get_namespaced_custom_object(*GROUP, "servicemonitors", f"{RELEASE}-coredns")
    assert config(cluster) == configured
    assert revisions(cluster) == before
    assert run().changed == 0


def test_bad_input_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """All of it in one run: a host is a case, and all are the shared cluster."""
    before = revisions(cluster), config(cluster)
    shared = yaml.safe_load((ROOT / "inventories/local/group_vars/local.yml").read_text())
    shared |= {"local_cluster_name": cluster.context, "cluster_kubeconfig": str(cluster.kubeconfig)}
    hosts = {f"case-{number}": options for number, (options, _sentence) in enumerate(BAD)}
    done, said = failures("kube_prometheus_stack", tmp_path, hosts, shared=shared)
    for number, (options, sentence) in enumerate(BAD):
        assert sentence in " ".join(said[f"case-{number}"].split()), (options, said[f"case-{number}"])
    assert "Traceback" not in done.stdout + done.stderr
    assert (revisions(cluster), config(cluster)) == before


def test_unfinished_release_is_taken_up_again(run: Callable[..., Run], cluster: Cluster) -> None:
    """As a Helm leaves it that was killed in the middle of an upgrade."""
    found = cluster.core.list_namespaced_secret(NAMESPACE, label_selector=f"owner=helm,name={RELEASE}").items
    newest = max(found, key=lambda secret: int(secret.metadata.labels["version"]))
    content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(newest.data["release"]))))
    content["version"] += 1
    name = f"sh.helm.release.v1.{RELEASE}.v{content['version']}"
    labels = {**newest.metadata.labels, "version": str(content["version"]), "status": "pending-upgrade"}
    before = revisions(cluster)

    def leave(since: float) -> None:
        content["info"] |= {"status": "pending-upgrade", "last_deployed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))}
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
        meta = client.V1ObjectMeta(name=name, labels=labels)
        cluster.core.create_namespaced_secret(
            NAMESPACE, client.V1Secret(metadata=meta, type="helm.sh/release.v1", data={"release": packed})
        )

    leave(time.time())
    assert "so Helm may still be running: wait for it" in run().error
    cluster.core.delete_namespaced_secret(name, NAMESPACE)
    leave(time.time() - 3600)
    assert run().changed > 0
    assert not any("pending" in line for line in revisions(cluster))
    assert len(revisions(cluster)) >= len(before)
    assert run().changed == 0


def test_newer_definition_is_not_downgraded(run: Callable[..., Run], cluster: Cluster) -> None:
    api, name = client.ApiextensionsV1Api(cluster.api), "probes.monitoring.coreos.com"

    def stamp(version: str) -> None:
        api.patch_custom_resource_definition(name, {"metadata": {"annotations": {"operator.prometheus.io/version": version}}})

    before = api.read_custom_resource_definition(name).metadata.annotations["operator.prometheus.io/version"]
    stamp("99.0.0")
    try:
        done = run()
        assert done.changed == 0
        assert f"The definition {name} (99.0.0 is newer than {before}) stays as it is" in " ".join(
            (done.stdout + done.stderr).split()
        )
        stamp("0.1.0")
        assert run("--check").changed == 1
        assert run().changed == 1
        assert api.read_custom_resource_definition(name).metadata.annotations["operator.prometheus.io/version"] == before
    finally:
        stamp(before)


def test_changed_options_keep_the_data_and_show_no_credential(
    run: Callable[..., Run], objects: Objects, cluster: Cluster
) -> None:
    """A label, which needs no new pod of Prometheus, and a receiver; a volume claim keeps the data over new pods."""
    canary = "https://chat.invalid/canary-4f1c"
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="chat"), string_data={"url": canary})
    cluster.core.create_namespaced_secret(NAMESPACE, secret)
    changed = {
        "kube_prometheus_stack_external_labels": {"cluster": "changed"},
        "kube_prometheus_stack_receivers": [
            {"name": "chat", "type": "slack", "channel": "#ops", "secret": {"name": "chat", "key": "url"}}
        ],
    }
    oldest = query(objects, "min(prometheus_tsdb_lowest_timestamp_seconds)")[0]["value"][1]
    pod = f"prometheus-{PROMETHEUS}-0"
    uid = cluster.core.read_namespaced_pod(pod, NAMESPACE).metadata.uid
    try:
        done = run("-vvv", "--diff", **changed)
        assert done.changed > 0
        assert "canary-4f1c" not in done.stdout + done.stderr
        assert json.dumps({"api_url_file": "/etc/alertmanager/secrets/chat/url"})[1:-1] in config(cluster)
        assert "canary-4f1c" not in config(cluster)
        until(
            lambda: "cluster: changed" in proxy(objects, f"{PROMETHEUS}:9090", "/api/v1/status/config")["data"]["yaml"],
            180,
            "the new configuration",
        )
        assert cluster.core.read_namespaced_pod(pod, NAMESPACE).metadata.uid == uid
        assert query(objects, "min(prometheus_tsdb_lowest_timestamp_seconds)")[0]["value"][1] == oldest
    finally:
        assert run().changed > 0
        cluster.core.delete_namespaced_secret("chat", NAMESPACE)


@LONG
def test_a_volume_claim_keeps_the_data_over_a_new_pod(run: Callable[..., Run], objects: Objects, cluster: Cluster) -> None:
    folder, pod = "/var/lib/prometheus-test", f"prometheus-{PROMETHEUS}-0"
    classes = client.StorageV1Api(cluster.api)
    node = ["podman", "exec", f"{cluster.context}-node"]
    # kubelet makes the pod's folder in it, as root, with the permissions of this one.
    subprocess.run([*node, "install", "-d", "-m", "0777", folder], env=engine_env(), check=True)
    volume = client.V1PersistentVolume(
        metadata=client.V1ObjectMeta(name="prometheus-test"),
        spec=client.V1PersistentVolumeSpec(
            capacity={"storage": "1Gi"},
            access_modes=["ReadWriteOnce"],
            storage_class_name="by-hand",
            host_path=client.V1HostPathVolumeSource(path=folder),
        ),
    )
    named = client.V1StorageClass(metadata=client.V1ObjectMeta(name="by-hand"), provisioner="kubernetes.io/no-provisioner")
    classes.create_storage_class(named)
    cluster.core.create_persistent_volume(volume)
    storage = {"kube_prometheus_stack_storage_size": "1Gi", "kube_prometheus_stack_storage_class": "by-hand"}
    resources = {"kube_prometheus_stack_resources": {"prometheus": {"requests": {"cpu": "51m"}}}}

    def oldest() -> str:
        # A server that has just started has no blocks and has read nothing yet.
        expression = "min(prometheus_tsdb_lowest_timestamp_seconds) < 4e9"
        return str(until(lambda: query(objects, expression), 120, "the oldest sample")[0]["value"][1])

    try:
        assert run(**storage).changed == 1
        before, uid = oldest(), cluster.core.read_namespaced_pod(pod, NAMESPACE).metadata.uid
        assert run(**storage, **resources).changed == 1
        until(lambda: cluster.core.read_namespaced_pod(pod, NAMESPACE).metadata.uid != uid, 120, "a new pod")
        assert oldest() == before
    finally:
        run()
        for claim in cluster.core.list_namespaced_persistent_volume_claim(NAMESPACE).items:
            cluster.core.delete_namespaced_persistent_volume_claim(claim.metadata.name, NAMESPACE)
        cluster.core.delete_persistent_volume("prometheus-test")
        classes.delete_storage_class("by-hand")
        subprocess.run([*node, "rm", "-r", folder], env=engine_env(), check=True)


def test_working_set_of_the_whole_node(objects: Objects) -> None:
    """Everything on the node, its control plane and the applications too, in bytes."""
    expression = 'sum(container_memory_working_set_bytes{container!="", pod!=""})'
    # The test before leaves Prometheus with a new pod.
    found = until(lambda: query(objects, expression), 120, "the memory of the containers", passing=(ApiError,))
    total = float(found[0]["value"][1])
    print(f"working set of all containers: {total / 2**20:.0f} MiB")
    assert total < 3 * 2**30


@LONG
def test_absent_leaves_nothing_and_check_mode_makes_nothing(run: Callable[..., Run], cluster: Cluster) -> None:
    absent = {"kube_prometheus_stack_state": "absent"}
    assert run("--check", **absent).changed > 0
    assert NAMESPACE in cluster.namespaces()
    assert run(**absent).changed > 0
    assert run(**absent).changed == 0
    assert {NAMESPACE, f"{NAMESPACE}-node"} & cluster.namespaces() == set()
    rbac = client.RbacAuthorizationV1Api(cluster.api)
    names = [role.metadata.name for role in rbac.list_cluster_role().items + rbac.list_cluster_role_binding().items]
    names += [service.metadata.name for service in cluster.core.list_namespaced_service("kube-system").items]
    assert [name for name in names if name.startswith((RELEASE, BLACKBOX))] == []
    kinds = client.ApiextensionsV1Api(cluster.api).list_custom_resource_definition().items
    assert "prometheuses.monitoring.coreos.com" in {kind.metadata.name for kind in kinds}, "definitions go only when asked for"
    assert run("--check").changed > 0
    assert NAMESPACE not in cluster.namespaces()


@LONG
def test_comes_back(run: Callable[..., Run]) -> None:
    first = run()
    assert first.changed > 0
    assert "Alert inbox: http://" in first.stdout
    assert run().changed == 0
    # Dashboards, data sources and rights of the other roles went with the namespace, and other tests want them back.
    assert playbook("site.yml", "--tags", "monitoring,logging,verify").changed > 0
