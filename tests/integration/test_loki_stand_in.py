# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loki on the real cluster, as far as a stand-in of its API goes: `auto` takes it, and verify names each of its faults.

Chart and image have the names of the real ones. The chart comes from a registry on loopback, and the image is one of the node,
so that role loki does what it does with the real ones. Namespaces are their own: the VictoriaLogs of the cluster stays as it is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError, KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Target
from kubernetes import client

from tests.fakes import loki as program
from tests.fakes.registry import ChartRegistry
from tests.harness import LONG, Cluster, Run, inventory_of, on_node, playbook, until

pytestmark = LONG
NAMESPACE, AGENTS, AGENT = "loki-stand-in", "victoria-logs-node", "loki-agent"
IMAGE = "docker.io/grafana/loki"
VERSION, ABSENT = "0.0.0-stand-in", "0.0.0-absent"
STATE = "/var/lib/flaskops/logging/loki-stand-in"
RULE = {"alert": "Mine", "expr": 'count_over_time({app="flask-app"}[5m]) > 0'}
CHART = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: loki}
data:
  loki.py: |
{{ .Files.Get "loki.py" | indent 4 }}
---
apiVersion: v1
kind: Service
metadata: {name: loki, labels: &labels {app.kubernetes.io/name: loki, app.kubernetes.io/component: single-binary}}
spec:
  selector: *labels
  ports: [{name: http-metrics, port: 3100}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: loki, labels: &labels {app.kubernetes.io/name: loki, app.kubernetes.io/component: single-binary}}
spec:
  serviceName: loki
  selector: {matchLabels: *labels}
  template:
    metadata: {labels: *labels}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: loki
          image: docker.io/grafana/loki:{{ .Chart.AppVersion }}
          imagePullPolicy: IfNotPresent
          command: [python3, /stand-in/loki.py, --rules, /etc/loki/rules]
          args: [--alertmanager, "{{ .Values.loki.structuredConfig.ruler.alertmanager_url }}"]
          ports: [{name: http-metrics, containerPort: 3100}]
          readinessProbe: {httpGet: {path: /ready, port: http-metrics}, periodSeconds: 1, failureThreshold: 1}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          volumeMounts:
            - {name: stand-in, mountPath: /stand-in}
            {{- toYaml .Values.singleBinary.extraVolumeMounts | nindent 12 }}
      volumes:
        - {name: stand-in, configMap: {name: loki}}
        {{- toYaml .Values.singleBinary.extraVolumes | nindent 8 }}
"""
# The collector as it is, with Loki's path, and for the application only. Loki has what it acknowledged.
COLLECT = """\
import sys
sys.path.insert(0, "/")
import collector as c
c.PUSH = "/loki/api/v1/push"
c.Collector._found = lambda self, entries: {entry.name: entry.records for entry in entries}
take = c.Collector._take
c.Collector._take = lambda self, batch, record: record.folder.startswith("flask-app_") and take(self, batch, record)
c.main()
"""


@dataclass
class StandIn:
    """The cluster with the stand-in, its switches, and a log agent that sends to it."""

    cluster: Cluster
    play: Callable[..., Run]

    def switch(self, **changes: Any) -> None:
        """By its pod: a Service has no address for one that is not ready."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/loki-0:3100/proxy/stand-in"
        status, text = KubeCluster(self.cluster.api).send("PUT", path, changes)
        assert status == 200, text

    def link(self, name: str = "loki", timeout: float = 60) -> dict[str, Any]:
        target = Target(kubeconfig=str(self.cluster.kubeconfig), context=self.cluster.context, notified_severities=[])
        results, _url = verify(KubeCluster(self.cluster.api), replace(target, timeout=timeout))
        found: dict[str, Any] = next((result for result in results if result["link"] == name), {})
        return found

    def well(self) -> None:
        until(lambda: self.link()["status"] == "ok", 180, "Loki's link is whole", passing=(ApiError,))


def start_agent(cluster: Cluster) -> None:
    """A second collector beside that of VictoriaLogs, with its rights, which sends to Loki."""
    found = client.ApiClient().sanitize_for_serialization(
        cluster.apps.read_namespaced_daemon_set("victoria-logs-collector", AGENTS)
    )
    labels = {"app.kubernetes.io/name": "log-collector", "app.kubernetes.io/instance": AGENT}
    template = found["spec"]["template"]
    template["metadata"] = {"labels": labels}
    (container,) = template["spec"]["containers"]
    container["command"] = ["python3", "-u", "-c", COLLECT]
    for variable in container["env"]:
        if variable["name"] == "URL":
            variable["value"] = f"http://loki.{NAMESPACE}.svc:3100"
    (state,) = (mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/state")
    for volume in template["spec"]["volumes"]:
        if volume["name"] == state:
            volume["hostPath"] = {"path": STATE, "type": "DirectoryOrCreate"}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    cluster.apps.create_namespaced_daemon_set(AGENTS, {"metadata": {"name": AGENT, "labels": labels}, "spec": spec})


@pytest.fixture(scope="module")
def loki(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    folder = tmp_path_factory.mktemp("loki")
    charts = []
    for version, image in (("1.2.3", VERSION), ("1.2.4", ABSENT)):
        chart = folder / version / "loki"
        (chart / "templates").mkdir(parents=True)
        shutil.copy(program.__file__, chart / "loki.py")
        (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: loki\nversion: {version}\nappVersion: {image}\n")
        (chart / "templates/loki.yaml").write_text(CHART)
        charts.append(chart)
    # The tools are there already, and a chart that is pulled stays in this folder.
    cache = folder / "cache/flaskops"
    cache.mkdir(parents=True)
    known = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"
    for entry in known.iterdir():
        if entry.name != "charts":
            (cache / entry.name).symlink_to(entry)
    collector = cluster.apps.read_namespaced_daemon_set("victoria-logs-collector", AGENTS)
    on_node(
        cluster,
        *("ctr", "-n", "k8s.io", "images", "tag", "--force"),
        *(collector.spec.template.spec.containers[0].image, f"{IMAGE}:{VERSION}"),
    )
    with ChartRegistry(folder, *charts) as registry:

        def play(**extra: Any) -> Run:
            variables = {
                "cluster_provider": "embedded",
                "local_cluster_name": cluster.context,
                "cluster_kubeconfig": str(cluster.kubeconfig),
                "cluster_context": cluster.context,
                "flask_apps": [],
                "loki_namespace": NAMESPACE,
                "loki_grafana_namespace": "",
                "loki_chart_ref": registry.reference("loki"),
                "loki_chart_version": "1.2.3",
                "loki_alert_rules": [RULE],
                # Somebody is there, which is all that verify looks for.
                "loki_alertmanager_url": "http://flask-app.flask-app.svc:80",
                # Where nothing of the cluster's own logging is.
                "victoria_logs_namespace": f"{NAMESPACE}-none",
                "fluent_bit_namespace": f"{NAMESPACE}-bit",
                "fluent_bit_name": f"{NAMESPACE}-bit",
                **extra,
            }
            env = {**registry.environment, "XDG_CACHE_HOME": str(folder / "cache")}
            return playbook("playbooks/logging.yml", inventory=inventory_of(folder, {"stand-in": variables}), env=env)

        found = StandIn(cluster, play)
        try:
            yield found
        finally:
            play(logging_backend=["loki"], loki_state="absent", loki_remove_data=True, fluent_bit_state="absent")
            left = {item.metadata.name for item in cluster.apps.list_namespaced_daemon_set(AGENTS).items}
            if AGENT in left:
                cluster.apps.delete_namespaced_daemon_set(AGENT, AGENTS)
                until(lambda: not pods(cluster), 60, "the end of the log agent")
            on_node(cluster, "rm", "-rf", STATE)
            on_node(cluster, "ctr", "-n", "k8s.io", "images", "rm", f"{IMAGE}:{VERSION}")


def pods(cluster: Cluster) -> list[Any]:
    selector = f"app.kubernetes.io/instance={AGENT}"
    return list(cluster.core.list_namespaced_pod(AGENTS, label_selector=selector).items)


def test_auto_takes_loki_where_its_chart_and_its_image_can_be_had(cluster: Cluster, loki: StandIn) -> None:
    done = loki.play()
    assert done.returncode == 0, done.error
    text = " ".join(done.stdout.split())
    assert "logging: loki keeps the logs" in text
    assert ("fluent_bit: skipped" in text) == ("logging: nothing sends lines to loki" in text)
    assert cluster.apps.read_namespaced_stateful_set("loki", NAMESPACE).status.ready_replicas == 1
    assert loki.play().changed == 0
    assert f"{NAMESPACE}-none" not in cluster.namespaces()


def test_auto_takes_another_where_the_node_can_not_have_the_image(loki: StandIn) -> None:
    done = loki.play(loki_chart_version="1.2.4", loki_namespace=f"{NAMESPACE}-2", victoria_logs_state="absent")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0, done.error
    assert f"has no image {IMAGE}:{ABSENT}" in text and "logging: victoria_logs keeps the logs" in text


def test_verify_finds_the_line(cluster: Cluster, loki: StandIn) -> None:
    start_agent(cluster)
    loki.well()
    found = loki.link("ruler")
    assert (found["status"], "1 rules loaded" in found["evidence"]) == ("ok", True), found


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "unready": ({"ready": False}, {"ready": True}, ["not ready", "503"]),
    "429": ({"limited": True}, {"limited": False}, ["requests with 429", "rate_limited"]),
    "400": ({"max_line": 1}, {"max_line": 2 << 20}, ["requests with 400", "line_too_long"]),
    "tenant": ({"auth": True}, {"auth": False}, ["401", "no org id"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_names_the_fault(cluster: Cluster, loki: StandIn, fault: str) -> None:
    changes, back, words = FAULTS[fault]
    loki.switch(**changes)
    try:
        if fault == "unready":
            until(lambda: not cluster.apps.read_namespaced_stateful_set("loki", NAMESPACE).status.ready_replicas, 60, "unready")
        found = loki.link()
    finally:
        loki.switch(**back)
    assert found["status"] == "failed" and [word for word in words if word not in found["cause"]] == [], json.dumps(found)
    loki.well()


def test_verify_misses_the_ruler_of_one_s_own_rules(loki: StandIn) -> None:
    loki.switch(ruler=False)
    try:
        found = loki.link("ruler")
    finally:
        loki.switch(ruler=True)
    assert found["status"] == "failed" and "runs no ruler" in found["cause"], found
