# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release of somebody else's is refused before anything changes, taken over when asked for, and never removed.

Helm itself makes the releases, of charts that have the names of the real ones and one ConfigMap. A case is a host of a play.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects

from tests.api_rig import CONTEXT, Rig
from tests.harness import LONG, Run, inventory_of, playbook
from tests.toolchain import programs

MARK = "flaskops/managed"
STACK, BLACKBOX, LOKI = "kube-prometheus-stack", "prometheus-blackbox-exporter", "loki"
VICTORIA, OPERATOR = "victoria-logs", "elastic-operator"
CHARTS = {STACK: STACK, BLACKBOX: BLACKBOX, LOKI: LOKI, VICTORIA: "victoria-logs-single", OPERATOR: "eck-operator"}
# Whatever a role might touch.
WATCHED = (
    *(f"/api/v1/{kind}" for kind in ("namespaces", "secrets", "configmaps", "services", "persistentvolumeclaims")),
    *("/apis/apps/v1/deployments", "/apis/apps/v1/statefulsets", "/apis/apps/v1/daemonsets"),
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)
RULES = ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules")
ELASTIC = (
    ("elasticsearch.k8s.elastic.co", "v1", "Elasticsearch", "elasticsearches"),
    ("kibana.k8s.elastic.co", "v1", "Kibana", "kibanas"),
    ("stackconfigpolicy.k8s.elastic.co", "v1alpha1", "StackConfigPolicy", "stackconfigpolicies"),
)
KUBELET = f"--kubelet-service=kube-system/{STACK}-kubelet"


@dataclass
class Site:
    """A cluster, Helm for it, and what the roles need."""

    rig: Rig
    folder: Path
    helm: Path

    @cached_property
    def objects(self) -> Objects:
        return Objects(self.rig.api)

    def make(self, *items: dict[str, Any]) -> None:
        for item in items:
            self.objects.apply(item, "somebody")

    def gone(self, namespace: str, kind: str, name: str) -> bool:
        return self.objects.get(thing(namespace, kind, name)) is None

    def by_hand(self, verb: str, release: str, namespace: str, driver: str = "secret", **values: Any) -> None:
        """Run Helm as a person does."""
        command = [self.helm / "helm", verb, release, "--namespace", namespace]
        if verb != "rollback":
            command += [self.folder / CHARTS[release], "--values", "-"]
        env = {**os.environ, "HELM_DRIVER": driver, "KUBECONFIG": str(self.rig.kubeconfig())}
        done = subprocess.run(command, input=yaml.safe_dump(values), env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def play(self, hosts: dict[str, dict[str, Any]], *args: str, path: str = "") -> Run:
        """Run a playbook on all hosts, each with its own variables; the one that is not named runs each host's role."""
        common = {
            "cluster_kubeconfig": str(self.rig.kubeconfig()),
            "cluster_context": CONTEXT,
            "kube_prometheus_stack_source": "upstream",
            "kube_prometheus_stack_chart_ref": str(self.folder / STACK),
            "kube_prometheus_stack_blackbox_chart_ref": str(self.folder / BLACKBOX),
            "kube_prometheus_stack_grafana": False,
            "kube_prometheus_stack_alert_inbox_image": "alert-inbox:1",
            "kube_prometheus_stack_remove_crds": True,
            "kube_prometheus_stack_wait_timeout": 30,
            "loki_source": "upstream",
            "loki_chart_ref": str(self.folder / LOKI),
            "loki_wait_timeout": 30,
            "victoria_logs_source": "upstream",
            "victoria_logs_chart_ref": str(self.folder / CHARTS[VICTORIA]),
            "victoria_logs_wait_timeout": 30,
            "elastic_stack_chart_ref": str(self.folder / CHARTS[OPERATOR]),
            "elastic_stack_remove_crds": True,
            "elastic_stack_wait": False,
            "elastic_stack_wait_timeout": 30,
        }
        tasks = [{"name": "Run it", "ansible.builtin.include_role": {"name": "flaskops.observability.{{ role }}"}}]
        play = {"name": "Run a role", "hosts": "all", "gather_facts": False, "tasks": tasks}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        env = {"PATH": f"{self.helm}:{os.environ['PATH']}", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        return playbook(
            path or str(self.folder / "play.yml"), *args, inventory=inventory_of(self.folder, hosts, **common), env=env
        )

    def changed(self, hosts: dict[str, dict[str, Any]], *args: str) -> int:
        """How many tasks reported a change; no host may fail."""
        done = self.play(hosts, *args)
        assert done.returncode == 0, done.error
        return done.changed

    def refused(self, hosts: dict[str, dict[str, Any]], *args: str) -> dict[str, str]:
        """What each host failed with."""
        done = self.play(hosts, *args)
        found = dict(re.findall(r"^fatal: \[([^]]+)\]: FAILED! => (\{.*\})$", done.stdout, re.MULTILINE))
        assert set(found) == set(hosts), done.stdout[-3000:] + done.stderr[-1000:]
        return {host: json.loads(text)["msg"] for host, text in found.items()}

    def records(self, namespace: str, release: str) -> list[dict[str, Any]]:
        """Helm's Secrets of a release, the oldest first."""
        path = f"/api/v1/namespaces/{namespace}/secrets?labelSelector=owner%3Dhelm,name%3D{release}"
        return sorted(self.rig.request("GET", path)["items"], key=lambda item: int(item["metadata"]["labels"]["version"]))

    def marks(self, namespace: str, release: str) -> list[bool]:
        return [MARK in item["metadata"]["labels"] for item in self.records(namespace, release)]

    def change(self, namespace: str, record: dict[str, Any], body: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{namespace}/secrets/{record['metadata']['name']}"
        self.rig.request("PATCH", path, body, "application/merge-patch+json")

    def strip(self, namespace: str, release: str) -> None:
        """Make a release one of a version that knew no mark."""
        for record in self.records(namespace, release):
            self.change(namespace, record, {"metadata": {"labels": {MARK: None}}})

    def content(self, namespace: str, release: str) -> dict[str, Any]:
        """What Helm stored last of a release."""
        packed = self.records(namespace, release)[-1]["data"]["release"]
        return dict(json.loads(gzip.decompress(base64.b64decode(base64.b64decode(packed)))))

    def leave_pending(self, namespace: str, release: str) -> None:
        """As a Helm leaves a release that was killed long ago."""
        record, content = self.records(namespace, release)[-1], self.content(namespace, release)
        content["info"] |= {"status": "pending-install", "last_deployed": "2026-01-02T03:04:05+01:00"}
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
        self.change(namespace, record, {"metadata": {"labels": {"status": "pending-install"}}, "data": {"release": packed}})


def thing(namespace: str, kind: str, name: str, labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    where = {"namespace": namespace} if namespace else {}
    version = {"Deployment": "apps/v1", "Elasticsearch": "elasticsearch.k8s.elastic.co/v1"}.get(kind, "v1")
    return {"apiVersion": version, "kind": kind, "metadata": {**where, "name": name, "labels": labels or {}}, **more}


def deployment(namespace: str, name: str, *args: str) -> dict[str, Any]:
    pod = {"containers": [{"name": "a", "image": "a", "args": list(args)}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
    return thing(namespace, "Deployment", name, spec=spec)


def claim(namespace: str, name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return thing(namespace, "PersistentVolumeClaim", name, spec=spec)


def definition(group: str, version: str, kind: str, plural: str) -> str:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    annotations = {"operator.prometheus.io/version": "0.93.1", "helm.sh/resource-policy": "keep"}
    versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
    return yaml.safe_dump(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}", "annotations": annotations},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
        }
    )


def write_charts(folder: Path) -> None:
    for name in CHARTS.values():
        (folder / name / "templates").mkdir(parents=True)
        (folder / name / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.2.3\n")
        config = yaml.safe_dump(thing("", "ConfigMap", "{{ .Release.Name }}-made"))
        (folder / name / "templates/made.yaml").write_text(config + 'data: {word: "{{ .Values.word }}"}\n')
    definitions = folder / STACK / "charts/crds"
    (definitions / "crds").mkdir(parents=True)
    (definitions / "Chart.yaml").write_text("apiVersion: v2\nname: crds\nversion: 0.0.0\n")
    (definitions / "crds/rules.yaml").write_text(definition(*RULES))
    for item in ELASTIC:
        (folder / CHARTS[OPERATOR] / f"templates/{item[3]}.yaml").write_text(definition(*item))


@pytest.fixture(scope="module")
def site(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A cluster with somebody's releases, and with objects around them that have names of ours."""
    found = Site(rig, tmp_path_factory.mktemp("foreign"), programs("helm"))
    write_charts(found.folder)
    names = (
        "monitoring",
        "monitoring-node",
        "unfinished",
        "probes",
        "loki",
        "configmaps",
        "victoria-logs",
        "elastic",
        "elastic-system",
    )
    found.make(*(thing("", "Namespace", name) for name in names))
    found.by_hand("install", STACK, "monitoring", prometheus={"prometheusSpec": {"retention": "90d"}})
    found.by_hand("install", STACK, "unfinished")
    found.leave_pending("unfinished", STACK)
    found.by_hand("install", BLACKBOX, "probes")
    found.by_hand("install", LOKI, "loki")
    found.by_hand("install", LOKI, "configmaps", driver="configmap")
    found.by_hand("install", VICTORIA, "victoria-logs")
    found.by_hand("install", OPERATOR, "elastic-system")
    headless = {"clusterIP": "None", "ports": [{"port": 10250}]}
    found.make(
        thing("monitoring", "Secret", f"{STACK}-alertmanager-config", stringData={"alertmanager.yaml": "theirs"}),
        claim("monitoring", f"prometheus-{STACK}-prometheus-db-0"),
        deployment("monitoring", "alert-inbox"),
        deployment("elastic", "their-operator", KUBELET),
        thing(
            "kube-system", "Service", f"{STACK}-kubelet", {"app.kubernetes.io/managed-by": "prometheus-operator"}, spec=headless
        ),
        thing("monitoring", "ConfigMap", "loki-datasource"),
        thing("loki", "ConfigMap", "loki-log-rules"),
        claim("loki", "storage-loki-0"),
        claim("victoria-logs", "server-volume-victoria-logs-0"),
        thing("elastic", "Secret", "logs-roles"),
        thing("elastic", "Elasticsearch", "logs"),
        claim("elastic", "elasticsearch-data-logs-es-default-0"),
    )
    return found


# The role, the release that is in its way, and where that is.
FOREIGN = {
    "stack": ("kube_prometheus_stack", STACK, "monitoring"),
    "unfinished": ("kube_prometheus_stack", STACK, "unfinished"),
    "blackbox": ("kube_prometheus_stack", BLACKBOX, "probes"),
    "loki": ("loki", LOKI, "loki"),
    "configmaps": ("loki", LOKI, "configmaps"),
    "victoria": ("victoria_logs", VICTORIA, "victoria-logs"),
    "operator": ("elastic_stack", OPERATOR, "elastic-system"),
}
ADOPTED = ("stack", "loki", "victoria", "operator")
# Where nothing of anybody is.
FRESH = {"fresh": {"role": "kube_prometheus_stack", "kube_prometheus_stack_namespace": "fresh"}}


def host(case: str, **more: Any) -> dict[str, Any]:
    role, _release, namespace = FOREIGN[case]
    place = "operator_namespace" if role == "elastic_stack" else "namespace"
    return {"role": role, **{f"{role}_{name}": value for name, value in {place: namespace, **more}.items()}}


def test_refused_before_anything_changes(site: Site) -> None:
    before = site.rig.versions(*WATCHED)
    hosts = {case: host(case) for case in FOREIGN}
    for args in ((), ("--check",)):
        for case, said in site.refused(hosts, *args).items():
            role, release, namespace = FOREIGN[case]
            assert f"Release {release} in namespace {namespace} is somebody else's" in said
            date = "2026-01-02 02:04" if case == "unfinished" else r"\d{4}-\d\d-\d\d \d\d:\d\d"
            assert re.search(rf"\(chart {CHARTS[release]} 1\.2\.3, revision 1 of {date} UTC\)", said), said
            assert f"{role}_adopt to true" in said
            assert re.search(
                r"monitoring_provider to existing|_blackbox to false|logging_backend to a list|_operator to existing", said
            )
    assert site.rig.versions(*WATCHED) == before


def test_teardown_leaves_it_and_what_is_around_it(site: Site) -> None:
    """One line names each release; the playbook goes on, and nothing changes, however often it runs."""
    before = site.rig.versions(*WATCHED)
    # The option to adopt is no permission to remove.
    options = {f"{role}_{name}": True for role in {case[0] for case in FOREIGN.values()} for name in ("adopt", "remove_data")}
    hosts = {"site": {"cluster_provider": "existing", "logging_backend": ["elastic"], "flask_apps": [], **options}}
    runs = [site.play(hosts, path="playbooks/teardown.yml") for _ in range(2)]
    runs.append(site.play({"blackbox": host("blackbox", state="absent")}))
    for done, cases in zip(runs, (ADOPTED, ADOPTED, ("blackbox",)), strict=True):
        assert done.returncode == 0, done.error
        assert done.changed == 0
        text = " ".join(done.stdout.split())
        for _role, release, namespace in map(FOREIGN.__getitem__, cases):
            assert f"release {release} in namespace {namespace} stays" in text
    assert site.rig.versions(*WATCHED) == before


def test_objects_of_somebody_elses_are_refused(site: Site) -> None:
    """Where no release is in the way: the role's own objects have names, too."""
    names = ("beside", "beside-loki", "beside-elastic", "beside-operator")
    site.make(*(thing("", "Namespace", name) for name in names))
    site.make(thing("beside", "Secret", f"{STACK}-alertmanager-config"), thing("beside-loki", "ConfigMap", "loki-log-rules"))
    site.make(deployment("beside-operator", "alert-inbox"), thing("beside-elastic", "Elasticsearch", "logs"))
    hosts: dict[str, dict[str, Any]] = {
        f"Secret {STACK}-alertmanager-config in namespace beside": {
            "role": "kube_prometheus_stack",
            "kube_prometheus_stack_namespace": "beside",
        },
        "Deployment alert-inbox in namespace beside-operator": {
            "role": "kube_prometheus_stack",
            "kube_prometheus_stack_namespace": "beside-operator",
            "kube_prometheus_stack_alert_inbox": True,
        },
        "ConfigMap loki-log-rules in namespace beside-loki": {
            "role": "loki",
            "loki_namespace": "beside-loki",
            "loki_grafana_namespace": "",
        },
        "Elasticsearch logs in namespace beside-elastic": {
            "role": "elastic_stack",
            "elastic_stack_namespace": "beside-elastic",
            "elastic_stack_operator_namespace": "beside-operator",
            "elastic_stack_grafana_namespace": "",
        },
    }
    before = site.rig.versions(*WATCHED)
    for name, said in site.refused({name.replace(" ", "_"): options for name, options in hosts.items()}).items():
        assert f"{name.replace('_', ' ')} is somebody else's" in said
    assert site.rig.versions(*WATCHED) == before
    # It would keep the operator.
    site.objects.request("DELETE", str(site.objects.path(thing("beside-elastic", "Elasticsearch", "logs"))))


@LONG
def test_adopted_release_is_ours(site: Site) -> None:
    """With the values of the role, and the mark."""
    before = site.rig.versions(*WATCHED)
    hosts = {case: host(case, adopt=True) for case in ADOPTED}
    assert site.changed({"loki": hosts["loki"]}, "--check") > 0
    assert site.rig.versions(*WATCHED) == before
    assert site.changed(hosts | FRESH) > 0
    for _role, release, namespace in map(FOREIGN.__getitem__, ADOPTED):
        assert site.marks(namespace, release) == [True, True]
    assert site.marks("monitoring", BLACKBOX) == site.marks("fresh", STACK) == [True]
    values = site.content("monitoring", STACK)["config"]
    assert values["prometheus"]["prometheusSpec"]["retention"] == "10d"


@LONG
def test_mark_stays_over_upgrades_by_hand_and_rollbacks(site: Site) -> None:
    site.by_hand("upgrade", LOKI, "loki", word="changed")
    assert site.marks("loki", LOKI) == [True] * 3
    site.by_hand("rollback", LOKI, "loki")
    assert site.marks("loki", LOKI) == [True] * 4


@LONG
def test_release_of_an_earlier_version_is_ours(site: Site) -> None:
    """One that has no mark, but the values of the role and its objects beside it; nothing else changes in this second run."""
    earlier = [("monitoring", STACK), ("monitoring", BLACKBOX), ("loki", LOKI)]
    for place in earlier:
        site.strip(*place)
    number = len(site.records("loki", LOKI))
    assert site.changed({case: host(case) for case in ADOPTED} | FRESH) == 2
    assert all(all(site.marks(*place)) for place in earlier)
    assert len(site.records("loki", LOKI)) == number


@LONG
def test_absent_removes_what_is_ours_only(site: Site) -> None:
    cases = ("stack", "victoria", "operator")
    fresh = {"fresh": {**FRESH["fresh"], "kube_prometheus_stack_state": "absent"}}
    assert site.changed({case: host(case, state="absent") for case in cases} | fresh) > 0
    assert site.changed(fresh) == 0
    assert site.gone("", "Namespace", "fresh") and site.gone("", "Namespace", "fresh-node")
    for _role, release, namespace in map(FOREIGN.__getitem__, cases):
        assert site.records(namespace, release) == []
        assert not site.gone("", "Namespace", namespace), "somebody else made it"
    assert site.gone("monitoring", "Secret", f"{STACK}-alertmanager-config")
    assert not site.gone("monitoring", "Deployment", "alert-inbox"), "the role was not asked for one"
    assert not site.gone("", "Namespace", "monitoring-node")
    assert not site.gone("kube-system", "Service", f"{STACK}-kubelet"), "another operator keeps it"
    assert site.records("unfinished", STACK)
