# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/logging.yml: which back end `auto` takes, and what becomes of a Loki that an earlier version built.

The charts have the names of the real ones and one ConfigMap; `auto` pulls that of Loki from a registry, as it does the real one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_rig import CONTEXT, Rig
from tests.fakes.registry import ChartRegistry
from tests.harness import LONG, Run, inventory_of, playbook
from tests.toolchain import programs

pytestmark = LONG
LOKI, VICTORIA, FORMER = "loki", "victoria-logs-single", "loki-embedded"
NAMES = {"app.kubernetes.io/managed-by": "flaskops", "app.kubernetes.io/part-of": "loki"}


def write_chart(folder: Path, name: str, *objects: str) -> Path:
    """A chart with these objects, as text; without any, with a ConfigMap."""
    (folder / name / "templates").mkdir(parents=True)
    (folder / name / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.2.3\nappVersion: 3.7.8\n")
    made = objects or ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-made'}\n",)
    (folder / name / "templates/made.yaml").write_text("---\n".join(made))
    return folder / name


class Site:
    """A cluster, a registry with Loki's chart, and hosts that each have namespaces of their own."""

    def __init__(self, rig: Rig, folder: Path, registry: ChartRegistry) -> None:
        self.rig, self.folder, self.registry = rig, folder, registry
        self.helm = programs("helm") / "helm"
        self.victoria = write_chart(folder / "charts", VICTORIA)
        # The charts' cache is new, and Helm is found on the path.
        self.env = {
            **registry.environment,
            "PATH": f"{self.helm.parent}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }

    def host(self, name: str, chart: str = LOKI, **more: Any) -> dict[str, Any]:
        return {
            "loki_namespace": f"{name}-loki",
            "victoria_logs_namespace": f"{name}-victoria",
            "fluent_bit_namespace": f"{name}-logging",
            "fluent_bit_name": f"{name}-bit",
            "loki_chart_ref": self.registry.reference(chart),
            **more,
        }

    def play(self, hosts: dict[str, dict[str, Any]], *args: str, **extra: Any) -> Run:
        common = {
            "cluster_kubeconfig": str(self.rig.kubeconfig()),
            "cluster_context": CONTEXT,
            "cluster_provider": "existing",
            "flask_apps": [],
            "loki_chart_version": "1.2.3",
            "loki_grafana_namespace": "",
            "loki_wait_timeout": 30,
            "victoria_logs_chart_ref": str(self.victoria),
            "victoria_logs_grafana_namespace": "",
            "victoria_logs_wait_timeout": 30,
            "fluent_bit_cluster_label": "rig",
            "fluent_bit_wait_timeout": 30,
        }
        inventory = inventory_of(self.folder, hosts, **common)
        done = playbook("playbooks/logging.yml", *args, inventory=inventory, extra=extra, env=self.env)
        assert done.returncode == 0, done.error
        return done

    def releases(self, namespace: str) -> list[tuple[str, str]]:
        """Helm's records of releases in a namespace: name and revision."""
        items = self.rig.request("GET", f"/api/v1/namespaces/{namespace}/secrets?labelSelector=owner%3Dhelm")["items"]
        return sorted((item["metadata"]["labels"]["name"], item["metadata"]["labels"]["version"]) for item in items)

    def outputs(self, name: str) -> list[tuple[str, str]]:
        path = f"/apis/apps/v1/namespaces/{name}-logging/daemonsets/{name}-bit"
        found = json.loads(self.rig.request("GET", path)["metadata"]["annotations"]["flaskops/outputs"])
        return [(item["type"], item["host"]) for item in found]

    def there(self, path: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.rig.request("GET", path)["items"]}


@pytest.fixture(scope="module")
def site(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("logging")
    with ChartRegistry(folder, write_chart(folder / "registry", LOKI)) as registry:
        yield Site(rig, folder, registry)


# What role loki and its chart loki-embedded made, as far as it outlives the release.
FORMER_OBJECTS = (
    """\
apiVersion: v1
kind: PersistentVolume
metadata:
  name: "{{ .Release.Namespace }}-loki"
  labels: {app.kubernetes.io/part-of: loki, app.kubernetes.io/instance: "{{ .Release.Name }}"}
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 1Gi}
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: "{{ .Release.Namespace }}", name: storage-loki-0}
  hostPath: {path: /var/lib/flaskops/logging/loki}
""",
    """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: loki, labels: {app.kubernetes.io/name: loki}}
spec:
  serviceName: loki
  selector: {matchLabels: {app: loki}}
  template:
    metadata: {labels: {app: loki}}
    spec: {containers: [{name: loki, image: loki}]}
  volumeClaimTemplates:
    - metadata: {name: storage}
      spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Gi}}}
""",
    """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: loki-collector, namespace: "{{ .Release.Namespace }}-node", labels: {app.kubernetes.io/name: log-collector}}
spec:
  selector: {matchLabels: {app: collector}}
  template:
    metadata: {labels: {app: collector}}
    spec: {containers: [{name: collector, image: collector}]}
""",
)
# By which a release of before the mark is known.
FORMER_VALUES = {"fullnameOverride": "loki", "loki": {"structuredConfig": {"ruler": {"rule_path": "/var/loki/rules-temp"}}}}


@pytest.fixture(scope="module")
def former(site: Site) -> dict[str, dict[str, Any]]:
    """Two clusters of before, as far as namespaces go: one whose release is marked, and one from before the mark."""
    chart = write_chart(site.folder / "former", FORMER, *FORMER_OBJECTS)
    hosts = {}
    for name in ("marked", "older"):
        namespace = f"{name}-loki"
        for made in (namespace, f"{namespace}-node"):
            site.rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": made, "labels": NAMES}})
        rules = {"metadata": {"name": "loki-log-rules", "labels": NAMES}}
        site.rig.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", rules)
        command = [str(site.helm), "install", "loki", str(chart), "--namespace", namespace, "--values", "-"]
        env = {**os.environ, "KUBECONFIG": str(site.rig.kubeconfig())}
        subprocess.run(command, input=json.dumps(FORMER_VALUES), env=env, check=True, capture_output=True, text=True, timeout=60)
        hosts[name] = site.host(name)
    mark = {"metadata": {"labels": {"flaskops/managed": "true"}}}
    path = "/api/v1/namespaces/marked-loki/secrets/sh.helm.release.v1.loki.v1"
    site.rig.request("PATCH", path, mark, "application/merge-patch+json")
    return hosts


# Each test goes on where the one before ended, and runs the playbook once on all hosts.
def test_auto_takes_what_can_be_had(site: Site, former: dict[str, dict[str, Any]]) -> None:
    """Loki where its chart can be obtained, else VictoriaLogs; a Loki of before stays, and VictoriaLogs comes beside it."""
    done = site.play({"with": site.host("with"), "without": site.host("without", "nothing"), **former})
    text = " ".join(done.stdout.split())
    assert "logging: loki keeps the logs" in text and "logging: victoria_logs keeps the logs" in text
    assert re.search(r"loki: skipped, because the chart oci://\S+/nothing can't be pulled \(.*not found\)", text)
    assert site.releases("with-loki") == [("loki", "1")]
    assert {"with-victoria", "without-loki"}.isdisjoint(site.there("/api/v1/namespaces"))
    assert site.outputs("with") == [("loki", "loki.with-loki.svc")]
    for name in former:
        assert f"the release loki in namespace {name}-loki is of the chart loki-embedded" in text
        assert site.releases(f"{name}-loki") == [("loki", "1")]
    for name in ("without", *former):
        assert site.releases(f"{name}-victoria") == [("victoria-logs", "1")]
        assert site.outputs(name) == [("victoria_logs", f"victoria-logs.{name}-victoria.svc")]


def test_auto_stays_with_what_it_took(site: Site, former: dict[str, dict[str, Any]]) -> None:
    """Also where Loki's chart can be obtained later."""
    done = site.play({"with": site.host("with"), "without": site.host("without"), "older": former["older"]})
    assert done.changed == 0
    text = " ".join(done.stdout.split())
    assert "logging: loki keeps the logs" in text and "logging: victoria_logs keeps the logs" in text
    assert "without-loki" not in site.there("/api/v1/namespaces")


# The command of docs/logging.md; the data goes only where that is asked for too.
ASKED: dict[str, Any] = {"logging_backend": ["loki", "victoria_logs"], "loki_state": "absent"}


def asked(former: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {**options, "loki_remove_data": name == "older"} for name, options in former.items()}


def test_a_loki_of_before_goes_when_asked(site: Site, former: dict[str, dict[str, Any]]) -> None:
    assert site.play(asked(former), **ASKED).changed > 0
    assert site.releases("marked-loki") == []
    assert site.there("/api/v1/namespaces/marked-loki/persistentvolumeclaims") == {"storage-loki-0"}
    assert "loki-log-rules" not in site.there("/api/v1/namespaces/marked-loki/configmaps")
    gone = {"older-loki", "older-loki-node", "marked-loki-node"}
    assert gone.isdisjoint(site.there("/api/v1/namespaces"))
    volumes = site.there("/api/v1/persistentvolumes")
    assert "marked-loki-loki" in volumes and "older-loki-loki" not in volumes
    for name in former:
        assert site.outputs(name) == [("victoria_logs", f"victoria-logs.{name}-victoria.svc")]


def test_nothing_is_left_to_do_then(site: Site, former: dict[str, dict[str, Any]]) -> None:
    assert site.play(asked(former), **ASKED).changed == 0
