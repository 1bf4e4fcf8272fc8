# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of a Prometheus operator's stack, against a fake one that answers as the real programs do."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify import links, stack

from .test_verify_links import NS, FakeCluster

OPERATOR = "/apis/monitoring.coreos.com/v1"
MONITORING = "/api/v1/namespaces/monitoring/services"
PROMETHEUS = f"{MONITORING}/prometheus-operated:web/proxy/api/v1"
ALERTMANAGER = f"{MONITORING}/alertmanager-operated:web/proxy/api/v2"
RULE = {"metadata": {"name": "flask-app"}, "spec": {"groups": [{"name": "flask-app.alerts", "rules": [{"alert": "A"}]}]}}
TEST_OBJECT = {"metadata": {"name": "test"}, "spec": {"groups": [{"name": "test", "rules": [{"alert": stack.TEST_ALERT}]}]}}
TEST_RULE = {"name": stack.TEST_ALERT, "query": 'kube_service_info{namespace="flask-app"}', "lastError": ""}


def data(**content):
    return 200, {"status": "success", "data": content}


def target(pod, health="up", error=""):
    labels = {"namespace": "flask-app", "pod": pod}
    return {"labels": labels, "health": health, "lastError": error, "scrapeUrl": f"http://{pod}:9200/metrics"}


def group(rules, name="flask-app.alerts", of="flask-app"):
    return {"name": name, "file": f"/etc/prometheus/rules/flask-app-{of}-1234.yaml", "rules": rules}


class FakeStack(FakeCluster):
    """A stack whose test alert runs through as long as no station is out of order."""

    def __init__(self, broken=(), **changes):
        super().__init__()
        self.broken = broken
        self.marks: list[str] = []
        self.fired: set[str] = set()
        self.empty: tuple[str, ...] = ()
        meta = {"namespace": "monitoring", "name": "kube-prometheus-stack"}
        self.answers |= {
            f"{OPERATOR}/prometheuses": (200, {"items": [{"metadata": meta, "spec": {}}]}),
            f"{OPERATOR}/namespaces/flask-app/servicemonitors": (200, {"items": []}),
            f"{OPERATOR}/namespaces/flask-app/probes": (200, {"items": [{"metadata": {"name": "flask-app"}}]}),
            f"{OPERATOR}/namespaces/flask-app/prometheusrules": (200, {"items": [RULE, TEST_OBJECT]}),
            f"{PROMETHEUS}/targets": data(activeTargets=[target("pod-1"), target("pod-2")]),
            f"{PROMETHEUS}/rules": data(
                groups=[group([{"name": "A", "lastError": "", "query": "up"}]), group([TEST_RULE], "test", "test")]
            ),
            f"{ALERTMANAGER}/status": (200, {"config": {"original": f"{stack.TEST_ALERT} alert-inbox"}}),
            "/api/v1/configmaps": (200, {"items": [{"metadata": {"name": "flaskops-service-dashboard"}}]}),
            f"{MONITORING}": (200, {"items": []}),
            **changes,
        }

    def fetch(self, path, headers=None, seconds=10):
        parts = urlsplit(path)
        if parts.path == f"{PROMETHEUS}/query":
            (expr,) = parse_qs(parts.query)["query"]
            return 200, json.dumps({"data": {"result": self.series(expr)}})
        if parts.path == f"{ALERTMANAGER}/alerts":
            active = [] if "alertmanager" in self.broken else [{"status": {"state": "active"}}] * len(self.marks)
            return 200, json.dumps(active)
        if parts.path == f"{MONITORING}/alert-inbox:80/proxy/alerts.json":
            alerts = [] if "inbox" in self.broken else [self.alert(m, "firing") for m in self.fired]
            if "resolve" not in self.broken:
                alerts += [self.alert(m, "resolved") for m in self.fired - set(self.marks)]
            return 200, json.dumps({"alerts": alerts})
        return super().fetch(path, headers, seconds)

    @staticmethod
    def alert(mark, status):
        return {"status": status, "labels": {"service": mark}}

    def series(self, expr):
        if stack.TEST_ALERT in expr:
            if "rule" in self.broken:
                return []
            self.fired |= set(self.marks)
            return [{"metric": {}}] * len(self.marks)
        if any(part in expr for part in self.empty):
            return []
        return [{"metric": {"instance": "http://flask-app"}, "value": [0, "0" if "probe" in self.broken else "1"]}]

    def send(self, method, path, body=None):
        if method == "POST":
            assert path == f"{NS}/services" and body["spec"]["type"] == "ExternalName"
            self.marks.append(body["metadata"]["name"])
            return 201, json.dumps(body)
        self.marks.remove(path.rsplit("/", 1)[1])
        return 200, "{}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(stack, "SETTLE", 0)
    monkeypatch.setattr(stack, "PAUSE", 0.01)


def run(cluster, **options):
    results, _url = links.verify(cluster, links.Target(timeout=1, **options))
    return {r["link"]: r for r in results}


def test_a_whole_stack():
    cluster = FakeStack()
    results = run(cluster)
    names = ["target", "health probe", "rules", "dashboards", "grafana", "alert path"]
    assert list(results)[-6:] == names
    assert [results[name]["status"] for name in names] == ["ok", "ok", "ok", "ok", "left_out", "ok"]
    for step in ("fired", "at Alertmanager", "received", "resolved"):
        assert f"{step} after" in results["alert path"]["evidence"]
    assert cluster.marks == []


@pytest.mark.parametrize(
    ("link", "changes", "cause"),
    [
        ("target", {f"{PROMETHEUS}/targets": data(activeTargets=[target("pod-1")])}, "no target for pod pod-2"),
        (
            "target",
            {f"{PROMETHEUS}/targets": data(activeTargets=[target("pod-1"), target("pod-2", "down", "connection refused")])},
            "http://pod-2:9200/metrics: connection refused",
        ),
        ("rules", {f"{PROMETHEUS}/rules": data(groups=[])}, "0 of 1 rules of the group flask-app.alerts (flask-app) are loaded"),
        (
            "rules",
            {
                f"{PROMETHEUS}/rules": data(
                    groups=[group([{"name": "A", "lastError": "many-to-many"}]), group([TEST_RULE], "test", "test")]
                )
            },
            "A: many-to-many",
        ),
        ("health probe", {"broken": ("probe",)}, "the probe of http://flask-app fails"),
        ("alert path", {"broken": ("rule",)}, "kube-state-metrics is not scraped, or the rule is not evaluated"),
        ("alert path", {"broken": ("alertmanager",)}, "Prometheus does not reach Alertmanager"),
        ("alert path", {"broken": ("inbox", "resolve")}, "Alertmanager does not reach the receiver"),
        ("alert path", {"broken": ("resolve",)}, "it was never resolved"),
        ("target", {f"{PROMETHEUS}/targets": (503, "no endpoints available")}, "no endpoints available"),
    ],
)
def test_a_broken_link_is_named(link, changes, cause):
    cluster = FakeStack(**changes)
    results = run(cluster)
    assert [name for name, result in results.items() if result["status"] == "failed"] in ([link], [link + "s"])
    broken = results.get(link) or results[link + "s"]
    assert cause in broken["cause"]
    assert broken["next_command"].startswith("kubectl ")
    assert cluster.marks == [], "the mark of the test alert is left behind"


def test_an_empty_panel_is_named():
    cluster = FakeStack()
    cluster.empty = ("kube_pod_container_status_restarts_total",)
    result = run(cluster)["dashboards"]
    assert result["status"] == "failed"
    assert "Restarts" in result["cause"] or "restart" in result["cause"].lower()


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({}, {"alert_check": False}, "switched off by verify_alert_check"),
        ({f"{ALERTMANAGER}/status": (200, {"config": {"original": "route: {}"}})}, {}, "it would go to the default receiver"),
    ],
)
def test_the_test_alert_reaches_no_pager(changes, options, reason):
    cluster = FakeStack(**changes)
    result = run(cluster, **options)["alert path"]
    assert result["status"] == "left_out"
    assert reason in result["evidence"]
    assert cluster.fired == set()
