# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of a Prometheus operator's stack, against a fake one that answers as the real programs do."""

from __future__ import annotations

import copy
import datetime
import json
import re
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube import promise, transport
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import dashboards, objects
from ansible_collections.flaskops.observability.plugins.module_utils.verify import chain
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import alert_path, log_agent, prometheus, rules
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import target as links_target
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.clocks import judge as judge_clocks
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.rules import judge as judge_rules
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.target import judge as judge_target
from ansible_collections.flaskops.observability.plugins.module_utils.verify.stack import Server

from .test_verify_checks import deployment, pod, slices
from .test_verify_links import (
    NS,
    SHIPPER_PAGE,
    SLICES,
    STREAM,
    VICTORIA,
    VICTORIA_BASE,
    VICTORIA_QUERY,
    FakeCluster,
    row,
    shipper,
)

OPERATOR = "/apis/monitoring.coreos.com/v1"
CONFIGS = "/apis/monitoring.coreos.com/v1alpha1/namespaces/flask-app/alertmanagerconfigs"
BOARDS = "the ConfigMaps with dashboards"
MONITORING = "/api/v1/namespaces/monitoring/services"
PROMETHEUS = f"{MONITORING}/prometheus-operated:9090/proxy/api/v1"
ALERTMANAGER = f"{MONITORING}/alertmanager-operated:9093/proxy/api/v2"
ALERTMANAGER_PAGE = f"{MONITORING}/alertmanager-operated:9093/proxy/metrics"
OURS = {"app.kubernetes.io/name": "flask-app", **objects.OURS}
SERVER = {"metadata": {"namespace": "monitoring", "name": "stack"}, "spec": {"replicas": 1}, "status": {"conditions": []}}
SENDING = {**SERVER, "spec": {"replicas": 1, "alerting": {"alertmanagers": [{"name": "stack-alertmanager", "port": "web"}]}}}
# With a dead man's switch, as the role kube_prometheus_stack writes it down.
SWITCH = {
    "receiver": "dead-mans-switch",
    "every": 60,
    "heartbeat": {"environment": "test-one", "name": "Watchdog of monitoring/stack"},
}
PROMISING = {**SERVER, "metadata": {**SERVER["metadata"], "annotations": {"flaskops/dead-mans-switch": json.dumps(SWITCH)}}}
SOURCE = """\
datasources:
  - name: Loki
    uid: loki
    type: loki
    url: http://loki.loki.svc:3100
    jsonData:
      derivedFields:
        - name: request_id
          url: '{namespace=~".+"} | request_id=`$${__value.raw}`'
"""
LOADED = {"name": "A", "type": "alerting", "lastError": "", "query": "up", "labels": {"severity": "critical"}}
CONFIG = f"""\
route:
  receiver: team
  routes:
    - matchers: [alertname="{alert_path.NAME}"]
      receiver: alert-inbox
receivers:
  - name: team
    slack_configs: [{{channel: "#alerts"}}]
  - name: alert-inbox
    webhook_configs: [{{url: <secret>}}]
"""
SILENCE = {
    "status": {"state": "active"},
    "endsAt": "2030-01-01T00:00:00Z",
    "matchers": [{"name": "alertname", "value": "A", "isRegex": False, "isEqual": True}],
}
TEST_RULE = {"name": alert_path.NAME, "query": 'kube_service_info{namespace="flask-app"}', "lastError": ""}


def data(**content):
    return 200, {"status": "success", "data": content}


def owned(name, parts, **more):
    """An object of the role app_monitoring."""
    annotations = {objects.PARTS: " ".join(parts), **more.pop("annotations", {})}
    return {"metadata": {"name": name, "namespace": "flask-app", "labels": OURS, "annotations": annotations}, **more}


PARTS = [f"{kind}/flask-app/flask-app" for kind in ("AlertmanagerConfig", "Probe", "PrometheusRule", "ServiceMonitor")]
PARTS.append("ConfigMap/monitoring/flaskops-service-dashboard")
MONITOR = owned("flask-app", PARTS)
GROUPS = [{"name": "flask-app.alerts", "rules": [{"alert": "A", "expr": "up", "labels": {"severity": "critical"}}]}]
SERVICE: dict[str, Any] = json.loads(dashboards.texts()["flaskops-service"])
RULE = owned("flask-app", PARTS, annotations={objects.ALERTS: "A"}, spec={"groups": GROUPS})
TEST_OBJECT = {
    "metadata": {"name": "test", "namespace": "flask-app"},
    "spec": {"groups": [{"name": "test", "rules": [{"alert": alert_path.NAME, "expr": TEST_RULE["query"]}]}]},
}
PROBE = owned("flask-app", PARTS, spec={"prober": {"url": "blackbox.monitoring.svc:9115"}})


def deployment_of(name, image, available=1):
    template = {"spec": {"containers": [{"name": name, "image": image}]}}
    return {"metadata": {"name": name}, "spec": {"template": template}, "status": {"availableReplicas": available}}


OPERATOR_OF_STACK = deployment_of("operator", "quay.io/prometheus-operator/prometheus-operator:v0.93.1")
INBOX = deployment_of("alert-inbox", "localhost/runner:1")


def board(name="flaskops-service-dashboard", **change):
    text = json.dumps({**SERVICE, **change})
    return {"metadata": {"name": name, "namespace": "monitoring"}, "data": {"board.json": text}}


def target(pod, health="up", error=""):
    labels = {"namespace": "flask-app", "pod": pod}
    return {"labels": labels, "health": health, "lastError": error, "scrapeUrl": f"http://{pod}:9200/metrics"}


def group(rules, name="flask-app.alerts", of="flask-app"):
    return {"name": name, "file": f"/etc/prometheus/rules/flask-app-{of}-1234.yaml", "rules": rules}


STORED = [
    {"metric": {"pod": name, "__name__": of}, "value": [0, "1"]} for name in ("pod-1", "pod-2") for of in links_target.STORED
]


class FakeStack(FakeCluster):
    """A stack whose test alert runs through as long as no station is out of order."""

    def __init__(self, broken=(), **changes):
        super().__init__()
        self.broken = broken
        self.marks: list[str] = []
        self.fired: set[str] = set()
        self.empty: tuple[str, ...] = ()
        self.loud: tuple[str, ...] = ()
        self.unstored: tuple[str, ...] = ()
        self.untold: tuple[str, ...] = ()
        self.dead: tuple[str, ...] = ()
        self.old = False
        self.names: list[str] = []
        self.config = ""
        self.skew: dict[str, float] = {}
        self.refusing: tuple[str, ...] = ()
        self.receivers = ["alert-inbox"]
        self.watchdog = [{"status": {"state": "active"}, "labels": {}, "receivers": [{"name": "dead-mans-switch"}]}]
        self.asked, self.refused = "5", "0"
        self.probed = "http://flask-app.flask-app.svc:80/health"
        self.answers |= {
            f"{OPERATOR}/prometheuses": (200, {"items": [SERVER]}),
            f"{OPERATOR}/namespaces/monitoring/prometheuses/stack": (200, SERVER),
            f"{OPERATOR}/namespaces/monitoring/alertmanagers": (200, {"items": [SERVER]}),
            "/api/v1/namespaces/monitoring/pods": (200, {"items": [pod("prometheus-0")]}),
            "/apis/apps/v1/namespaces/monitoring/deployments": (200, {"items": [OPERATOR_OF_STACK, INBOX]}),
            SLICES.format("monitoring"): (200, {"items": slices("blackbox-1")}),
            "/api/v1/namespaces/monitoring/configmaps": (200, {"items": [{"metadata": {"name": "s"}, "data": {"s": SOURCE}}]}),
            "/api/v1/namespaces/loki/services/loki:3100/proxy/loki/api/v1/status/buildinfo": (200, "{}"),
            f"{CONFIGS}": (200, {"items": [owned("flask-app", PARTS)]}),
            f"{OPERATOR}/namespaces/flask-app/servicemonitors": (200, {"items": [MONITOR]}),
            f"{OPERATOR}/namespaces/flask-app/probes": (200, {"items": [PROBE]}),
            f"{OPERATOR}/namespaces/flask-app/prometheusrules": (200, {"items": [RULE, TEST_OBJECT]}),
            f"{PROMETHEUS}/targets": data(activeTargets=[target("pod-1"), target("pod-2")]),
            f"{PROMETHEUS}/rules": data(groups=[group([LOADED]), group([TEST_RULE], "test", "test")]),
            f"{ALERTMANAGER}/status": (200, {"config": {"original": CONFIG}}),
            f"{ALERTMANAGER}/silences": (200, []),
            f"{PROMETHEUS}/status/runtimeinfo": data(reloadConfigSuccess=True),
            ALERTMANAGER_PAGE: (200, "alertmanager_config_last_reload_successful 1\n"),
            f"{OPERATOR}/prometheusrules": (200, {"items": [RULE]}),
            BOARDS: (200, {"items": [board()]}),
            f"{PROMETHEUS}/alertmanagers": data(activeAlertmanagers=[{"url": "http://am"}]),
            f"{NS}/services": (200, {"items": []}),
            f"{MONITORING}": (200, {"items": []}),
            **changes,
        }

    def fetch(self, path, headers=None, seconds=10):
        parts = urlsplit(path)
        if parts.path == f"{PROMETHEUS}/label/__name__/values":
            return 200, json.dumps({"data": self.names})
        if parts.path in (f"{PROMETHEUS}/metadata", f"{PROMETHEUS}/label/job/values"):
            return 200, json.dumps({"data": {}})
        if parts.path == f"{PROMETHEUS}/status/config":
            return 200, json.dumps({"data": {"yaml": self.config}})
        if parts.path == f"{PROMETHEUS}/parse_query" and not self.old:
            return 200, json.dumps({"data": self.parsed(parse_qs(parts.query)["query"][0])})
        if parts.path == f"{PROMETHEUS}/query":
            (expr,) = parse_qs(parts.query)["query"]
            return 200, json.dumps({"data": {"result": self.series(expr)}})
        if "flaskops-app-monitoring" in parts.query:
            return super().fetch(BOARDS, headers, seconds)
        if parts.path == f"{ALERTMANAGER}/alerts" and "Watchdog" in parts.query:
            return 200, json.dumps(self.watchdog)
        if parts.path == f"{ALERTMANAGER}/alerts":
            active = (
                []
                if "alertmanager" in self.broken
                else [{"status": {"state": "active"}, "labels": {}, "receivers": [{"name": name} for name in self.receivers]}]
                * len(self.marks)
            )
            return 200, json.dumps(active)
        if parts.path == f"{MONITORING}/alert-inbox:80/proxy/alerts.json":
            now = datetime.datetime.fromtimestamp(time.time() + self.skew.get("inbox", 0), datetime.UTC).isoformat()
            alerts = [] if "inbox" in self.broken else [self.alert(m, "firing") for m in self.fired]
            if "resolve" not in self.broken:
                alerts += [self.alert(m, "resolved") for m in self.fired - set(self.marks)]
            return 200, json.dumps({"now": now, "alerts": alerts})
        return super().fetch(path, headers, seconds)

    @staticmethod
    def alert(mark, status):
        return {"status": status, "labels": {"service": mark}}

    @staticmethod
    def parsed(expr):
        """The tree of `(a) or (b)`, where each side is taken for the name of a metric."""
        tree = None
        for name in expr.removeprefix("(").removesuffix("\n)").split("\n) or ("):
            selector = {"type": "vectorSelector", "matchers": [{"name": "__name__", "type": "=", "value": name}]}
            tree = {"type": "binaryExpr", "op": "or", "lhs": tree, "rhs": selector} if tree else selector
        return tree

    def series(self, expr):
        if expr.startswith("label_replace("):
            asked = re.findall('count\\((.*?)\\), "__number", "([0-9]+)"', expr, re.DOTALL)
            dead = [f"{{__name__={json.dumps(name)}}}" for name in self.dead]
            return [{"metric": {"__number": number}, "value": [0, "1"]} for selector, number in asked if selector not in dead]
        if alert_path.NAME in expr:
            if "rule" in self.broken:
                return []
            self.fired |= set(self.marks)
            return [{"metric": {}}] * len(self.marks)
        if any(part in expr for part in self.empty):
            return []
        if "alertmanager_notification_requests" in expr and 'receiver_name="' in expr:
            return [{"metric": {}, "value": [0, self.refused if "failed" in expr else self.asked]}]
        if "alertmanager_notification_requests" in expr:
            return self.told(expr)
        if expr.startswith("sum by (pod, __name__)"):
            return [series for series in STORED if series["metric"]["pod"] not in self.unstored]
        if expr == "time()":
            now = time.time() + self.skew.get("prometheus", 0)
            return [now, str(now)]
        if expr.startswith("up{"):
            return [{"metric": {"pod": "fluent-bit-x", "instance": "a"}, "value": [0, "1"]}]
        if expr.startswith("count by (pod) (container_memory"):
            return [{"metric": {"pod": name}, "value": [0, "1"]} for name in ("pod-1", "pod-2") if name not in self.untold]
        if any(part in expr for part in ("== 0", "> 0.5 unless", "node_time_seconds", "prometheus_notifications_")):
            found = [part for part in self.loud if part in expr]
            return [{"metric": {"integration": "slack", "node": "node-1"}, "value": [0, "99"]}] if found else []
        return [{"metric": {"instance": self.probed}, "value": [0, "0" if "probe" in self.broken else "1"]}]

    def told(self, expr):
        """Slack and the inbox took something an hour ago, and who is refusing did so a minute ago."""
        now = time.time()
        ages = {"team": ("slack", 3600.0), "alert-inbox": ("webhook", 3600.0)}
        if "max_over_time" in expr and "requests_total" not in expr:
            ages = {name: (kind, 60.0) for name, (kind, _age) in ages.items() if name in self.refusing}
        return [
            {"metric": {"receiver_name": name, "integration": kind}, "value": [now, str(now - age)]}
            for name, (kind, age) in ages.items()
        ]

    def send(self, method, path, body=None):
        if method == "POST":
            assert path == f"{NS}/services" and body["spec"]["type"] == "ExternalName"
            self.marks.append(body["metadata"]["name"])
            return 201, json.dumps(body)
        self.marks.remove(path.rsplit("/", 1)[1])
        return 200, "{}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(running, "SETTLE", 0)
    monkeypatch.setattr(alert_path, "PAUSE", 0.01)


def run(cluster, **options):
    results, _url = chain.verify(cluster, running.Target(timeout=3, **options))
    return {r["link"]: r for r in results}


LINKS = [
    "prometheus",
    "exporters",
    "target",
    "health probe",
    "rules",
    "dashboards",
    "dead rules",
    "data sources",
    "grafana",
    "clocks",
]
LINKS += ["alertmanager", "alert routes", "alert path", "receivers", "dead man's switch"]


def test_a_whole_stack():
    cluster = FakeStack()
    results = run(cluster)
    assert list(results)[-len(LINKS) :] == LINKS
    found = {name: results[name]["status"] for name in LINKS}
    assert found == {name: "skipped" if name in ("grafana", "dead man's switch") else "ok" for name in LINKS}
    assert all(result["query"] for name, result in results.items() if result["status"] == "ok")
    for step in ("fired", "at Alertmanager", "received", "resolved"):
        assert f"{step} after" in results["alert path"]["evidence"]
    assert cluster.marks == []


def test_rules_of_ours_that_are_dead_fail_and_those_of_others_are_named():
    cluster = FakeStack()
    cluster.dead = ("up",)
    found = run(cluster)["dead rules"]
    assert (found["status"], found["follows"]) == ("failed", "")
    assert "A [metric]: no series up" in found["cause"] and found["next_command"].endswith("get prometheusrules -o yaml")
    others = {"name": "others", "file": "/etc/prometheus/rules/other-other-1234.yaml", "rules": [LOADED]}
    cluster.answers[f"{PROMETHEUS}/rules"] = data(groups=[group([TEST_RULE], "test", "test"), others])
    cluster.names = ["up_now"]
    found = run(cluster)["dead rules"]
    assert found["status"] == "ok" and "A [metric]" in found["evidence"]
    meant = {**LOADED, "annotations": {"quiet": "until the move"}}
    cluster.answers[f"{PROMETHEUS}/rules"] = data(groups=[group([meant])])
    found = run(cluster)["dead rules"]
    assert found["status"] == "ok" and "until the move" in found["evidence"]


def test_a_panel_that_shows_a_number_of_what_can_not_be():
    """As the 0 of ``or vector(0)``, behind which no series ever is."""
    cluster = FakeStack()
    cluster.dead = tuple(query.expr for query in dashboards.queries([SERVICE]) if query.panel == "Requests")
    found = run(cluster)["dashboards"]
    assert found["status"] == "failed" and found["cause"].startswith("Flask service / Requests shows what can't be [metric]")


def test_before_prometheus_3_no_rule_is_called_dead():
    cluster = FakeStack()
    cluster.old = True
    assert run(cluster)["dead rules"]["status"] == "skipped"


def test_nobody_need_be_notified():
    nowhere = (200, {"config": {"original": CONFIG.replace("team", "none")}})
    found = run(FakeStack(**{f"{ALERTMANAGER}/status": nowhere}), notified_severities=[])["alert routes"]
    assert (found["status"], "notified_severities" in found["evidence"]) == ("skipped", True)
    # An alert of a severity that nobody asked for may end anywhere.
    found = run(FakeStack(**{f"{ALERTMANAGER}/status": nowhere}), notified_severities=["warning"])["alert routes"]
    assert found["status"] == "skipped"


ADDED = "global: {external_labels: {prometheus: monitoring/stack}}\n"
DROPPING = "alerting: {alert_relabel_configs: [{source_labels: [severity], regex: critical, action: drop}]}\n"


@pytest.mark.parametrize(
    ("config", "words"), [(ADDED, "a silence holds A (critical) back"), (DROPPING, "drops A (critical)"), ("", "")]
)
def test_what_prometheus_does_to_labels_counts(config, words):
    """The test alert, which has other labels, passes all the same."""
    matcher = {"name": "prometheus", "value": "monitoring/stack", "isRegex": False, "isEqual": True}
    cluster = FakeStack(**{f"{ALERTMANAGER}/silences": (200, [{**SILENCE, "matchers": [matcher]}])})
    cluster.config = config
    results = run(cluster)
    assert [name for name, r in results.items() if r["status"] == "failed"] == (["alert routes"] if words else [])
    assert words in results["alert routes"]["cause"]


PROMISED = {
    **{"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule"},
    "metadata": {"name": "flask-app", "namespace": "flask-app"},
    "spec": {"groups": GROUPS},
}
EMPTIED = (200, {**PROMISED, "spec": {"groups": []}})
KIND = {"kind": "PrometheusRule", "name": "prometheusrules", "namespaced": True}
RULES = f"{OPERATOR}/namespaces/flask-app/prometheusrules/flask-app"


@pytest.mark.parametrize(
    ("owner", "live", "status", "words"),
    [
        ("app_monitoring flask-app flask-app", (200, {**PROMISED}), "ok", "1 objects of 1 promises"),
        ("app_monitoring flask-app flask-app", (404, {}), "failed", "PrometheusRule flask-app/flask-app is gone"),
        (
            "app_monitoring flask-app flask-app",
            (200, {**PROMISED, "spec": {"groups": []}}),
            "failed",
            "spec.groups[flask-app.alerts]",
        ),
        ("app_monitoring flask-app flask-app", (403, {}), "skipped", "none of the 1 objects of 1 promises may be read"),
        ("kube_prometheus_stack monitoring stack", (404, {}), "failed", "is gone"),
        ("app_monitoring other other", (404, {}), "skipped", "no run has written down"),
    ],
)
def test_what_was_promised(owner, live, status, words):
    given = promise.promise(promise.owner_label(owner), "flask-app", [PROMISED], {"flaskops/owner": promise.owner_label(owner)})
    changes = {"/api/v1/configmaps": (200, {"items": [given]}), OPERATOR: (200, {"resources": [KIND]}), RULES: live}
    found = run(FakeStack(**changes))["promise"]
    assert found["status"] == status and words in found["cause"] + found["evidence"]


@pytest.mark.parametrize(
    ("written", "words"), [(("app_monitoring", "flask_app"), ""), (("app_monitoring",), "flask_app.flask-app"), ((), "")]
)
def test_a_promise_that_is_gone(written, words):
    """Where none of the app's is there, nobody could write one, or nobody did."""
    app, given = deployment(), []
    app["metadata"]["labels"] = {"flaskops/owner": promise.owner_label("flask_app flask-app flask-app")}
    for role in (*written, "kube_prometheus_stack"):
        owner = promise.owner_label(f"{role} flask-app flask-app")
        given.append(promise.promise(owner, "flask-app", [PROMISED], {"flaskops/owner": owner}))
    changes = {"/api/v1/configmaps": (200, {"items": given}), OPERATOR: (200, {"resources": [KIND]}), RULES: (200, {**PROMISED})}
    found = run(FakeStack(**changes, **{"/apis/apps/v1/namespaces/flask-app/deployments/flask-app": (200, app)}))["promise"]
    assert (found["status"], words in found["cause"]) == ("failed" if words else "ok", True)


def test_a_promise_in_a_namespace_that_the_account_may_not_see():
    app = deployment()
    app["metadata"]["labels"] = {"flaskops/owner": promise.owner_label("flask_app flask-app flask-app")}
    owner = promise.owner_label("app_monitoring flask-app flask-app")
    given = promise.promise(owner, "flask-app", [PROMISED], {"flaskops/owner": owner})
    changes = {"/api/v1/configmaps": (403, {}), f"{NS}/configmaps": (200, {"items": [given]}), RULES: (200, {**PROMISED})}
    changes[OPERATOR] = (200, {"resources": [KIND]})
    found = run(FakeStack(**changes, **{"/apis/apps/v1/namespaces/flask-app/deployments/flask-app": (200, app)}))["promise"]
    assert found["status"] == "ok" and "1 objects of 1 promises" in found["evidence"]


RULE_A = {"alert": "A", "expr": "up == 0", "for": "5m", "labels": {"severity": "critical"}}
LOADED_A = {"name": "A", "query": "up  == 0", "duration": 300, "labels": {"severity": "critical"}}


@pytest.mark.parametrize(
    ("loaded", "words"),
    [
        ({}, ""),
        ({"query": "sum(up) == 0"}, "another expr"),
        ({"duration": 60}, "another for"),
        ({"labels": {"severity": "none"}}, "another labels"),
        ({"name": "B"}, "B is evaluated in the place of A"),
        ({"duration": 0}, "another for"),
        ({"query": "vector(0) > 1", "duration": 0}, "another for and expr"),
    ],
)
def test_a_rule_that_is_evaluated_otherwise(loaded, words):
    assert words in (found := rules.differing(RULE_A, {**LOADED_A, **loaded}, lambda one, other: False))
    assert bool(found) == bool(words)


def test_an_alert_that_waits_for_nothing():
    """As Prometheus writes no time, and the operator takes it."""
    assert rules.differing({**RULE_A, "for": "0"}, {**LOADED_A, "duration": 0}, lambda one, other: False) == ""


def test_rules_of_another_app_in_the_namespace_are_its_own_affair():
    """The schedule of the app is not."""

    def alert(name, app, **labels):
        groups = [{"name": name, "rules": [{"alert": name, "expr": "up", "labels": {"severity": "critical"}}]}]
        labels = {**objects.OURS, "app.kubernetes.io/name": app, **labels}
        return {"metadata": {"name": name, "namespace": "flask-app", "labels": labels}, "spec": {"groups": groups}}

    schedule = {"app.kubernetes.io/part-of": "flaskops-verify", "app.kubernetes.io/instance": "flask-app"}
    items = [alert("Theirs", "shop"), alert("Theirs", "flaskops-verify", **{**schedule, "app.kubernetes.io/instance": "shop"})]
    items.append(alert("Own", "flaskops-verify", **schedule))
    nowhere = 'routes:\n    - {matchers: [alertname=~"Theirs|Own"], receiver: nobody}'
    cluster = FakeStack(
        **{
            f"{OPERATOR}/prometheusrules": (200, {"items": [RULE, *items]}),
            f"{PROMETHEUS}/rules": data(
                groups=[group([LOADED]), *(group([{**LOADED, "name": name}], name, name) for name in ("Theirs", "Own"))]
            ),
            f"{ALERTMANAGER}/status": (200, {"config": {"original": CONFIG.replace("routes:", nowhere)}}),
        }
    )
    found = run(cluster)["alert routes"]
    assert found["status"] == "failed" and found["cause"].startswith("Own (critical) ends at nobody")


def test_a_target_is_told_by_the_pod_that_it_was_found_by():
    """A relabeling of somebody else's monitor may take the labels namespace and pod away."""
    found = [
        {
            **target(name),
            "labels": {"job": "shop", "namespace": "elsewhere"},
            "discoveredLabels": {"__meta_kubernetes_namespace": "flask-app", "__meta_kubernetes_pod_name": name},
        }
        for name in ("pod-1", "pod-2")
    ]
    theirs = {"metadata": {"name": "shop", "namespace": "flask-app"}, "spec": {}}
    cluster = FakeStack(
        **{
            f"{PROMETHEUS}/targets": data(activeTargets=found),
            f"{OPERATOR}/namespaces/flask-app/servicemonitors": (200, {"items": [theirs]}),
            f"{OPERATOR}/namespaces/flask-app/probes": NONE,
            f"{OPERATOR}/namespaces/flask-app/prometheusrules": NONE,
        }
    )
    assert run(cluster)["target"]["status"] == "ok"


def test_a_change_is_blamed_where_it_is_felt():
    given = promise.promise("o", "flask-app", [PROMISED], {"flaskops/owner": "o"})
    changes = {"/api/v1/configmaps": (200, {"items": [given]}), OPERATOR: (200, {"resources": [KIND]}), RULES: (404, {})}
    felt = run(FakeStack(**changes, **{f"{OPERATOR}/namespaces/flask-app/prometheusrules": (200, {"items": []})}))
    assert (felt["promise"]["status"], felt["promise"]["follows"]) == ("failed", "rules")
    assert run(FakeStack(**changes))["promise"]["follows"] == ""


def test_the_table_is_the_order_of_the_rows():
    rows = list(run(FakeStack(), skipped={"logs": "its module is refused"}))
    order = [row for link in chain.CHAIN for row in link.rows]
    found = [re.sub("^(check at|part) .*", r"\1 ...", name) for name in rows]
    assert found == sorted(found, key=order.index)
    assert [row for link in chain.CHAIN if link.family == chain.STACK for row in link.rows] == LINKS


def test_a_stack_below_a_route_prefix():
    class Prefixed(FakeStack):
        def fetch(self, path, headers=None, seconds=10):
            for port, prefix in ((":9090/proxy", "/prometheus"), (":9093/proxy", "/alerts")):
                if port in path:
                    assert f"{port}{prefix}/" in path
                    path = path.replace(port + prefix, port)
            return super().fetch(path, headers, seconds)

    server, alertmanager = ({**SERVER, "spec": {**SERVER["spec"], "routePrefix": p}} for p in ("/prometheus", "/alerts/"))
    cluster = Prefixed()
    cluster.answers |= {
        f"{OPERATOR}/prometheuses": (200, {"items": [server]}),
        f"{OPERATOR}/namespaces/monitoring/prometheuses/stack": (200, server),
        f"{OPERATOR}/namespaces/monitoring/alertmanagers": (200, {"items": [alertmanager]}),
    }
    assert [r["cause"] for r in run(cluster).values() if r["status"] == "failed" and r["link"] in LINKS] == []


@pytest.mark.parametrize(("age", "status", "found"), [(1, 503, "ok"), (3600, 503, "failed"), (1, 403, "failed")])
def test_a_prometheus_that_was_just_started_is_waited_for(age, status, found):
    """As after a restart of its node: pods and objects are old, and the API server's proxy has nobody to ask yet."""

    class Starting(FakeStack):
        refusals = 60

        def fetch(self, path, headers=None, seconds=10):
            if path.startswith(PROMETHEUS) and self.refusals:
                self.refusals -= 1
                return status, json.dumps({"kind": "Status", "message": "no endpoints available"})
            return super().fetch(path, headers, seconds)

    server = pod("prometheus-0")
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    server["status"]["containerStatuses"] = [{"state": {"running": {"startedAt": since.isoformat()}}}]
    results = run(Starting(**{"/api/v1/namespaces/monitoring/pods": (200, {"items": [server]})}))
    for link in LINKS if found == "ok" else ["prometheus", "clocks"]:
        assert results[link]["status"] in (found, "skipped"), results[link]


def test_the_prometheus_of_the_app_is_asked_where_there_are_several():
    other = {"metadata": {"name": "k8s", "namespace": "infra"}, "spec": {}}
    parts = [*PARTS, "Prometheus/monitoring/stack"]
    foreign = {"metadata": {"name": "theirs", "namespace": "flask-app", "labels": {"team": "infra"}}, "spec": {"groups": GROUPS}}
    cluster = FakeStack()
    cluster.answers |= {
        f"{OPERATOR}/prometheuses": (200, {"items": [other, SERVER]}),
        f"{OPERATOR}/namespaces/flask-app/servicemonitors": (200, {"items": [owned("flask-app", parts)]}),
        f"{OPERATOR}/namespaces/flask-app/prometheusrules": (200, {"items": [RULE, TEST_OBJECT, foreign]}),
    }
    results = run(cluster)
    assert [r["cause"] for r in results.values() if r["status"] == "failed" and r["link"] in LINKS] == []
    # Without the role's word for it the first is asked, and a rule of the only Prometheus has to be loaded.
    cluster.answers[f"{OPERATOR}/prometheuses"] = (200, {"items": [SERVER]})
    assert "0 of 1 rules of the group flask-app.alerts (theirs)" in run(cluster)["rules"]["cause"]


SELF = f"{MONITORING}/prometheus-operated:9090/proxy/metrics"


def own_page(head, **sent):
    """Prometheus' page of metrics, with the ages of its newest sample and of the newest that was sent to each host."""
    now = time.time()
    lines = [f"prometheus_tsdb_head_max_time_seconds {now - head if head is not None else -9.2e15}"]
    labels = 'remote_name="a1",url="https://{}.test/api?token=CANARY"'
    lines += [f"{prometheus.SENT}{{{labels.format(host)}}} {now - age if age is not None else 0}" for host, age in sent.items()]
    return 200, "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("page", "status", "words"),
    [
        (lambda: own_page(20, far=20), "ok", "configuration loaded"),
        (lambda: own_page(900), "failed", "stores nothing: its newest sample is 90"),
        (lambda: own_page(None), "failed", "its newest sample is none at all"),
        (lambda: own_page(5, near=5, far=4000), "failed", "does not send to far.test: the newest sample there is 400"),
        (lambda: own_page(5, far=None), "failed", "far.test: the newest sample there is none at all"),
        (lambda: (404, "not found"), "ok", "do not tell how old"),
    ],
)
def test_samples_that_are_not_stored_or_not_sent(page, status, words):
    found = run(FakeStack(**{SELF: page()}))["prometheus"]
    assert found["status"] == status and words in found["cause"] + found["evidence"] and "CANARY" not in str(found)


MADE_FOR = {
    f"{OPERATOR}/namespaces/flask-app/servicemonitors": (
        200,
        {"items": [owned("flask-app", [*PARTS, "Prometheus/monitoring/stack"])]},
    )
}


@pytest.mark.parametrize(
    ("servers", "more", "link", "status", "words"),
    [
        ((200, {"items": []}), {}, "metrics stack", "skipped", "runs no Prometheus"),
        ((200, {"items": []}), MADE_FOR, "metrics stack", "failed", "monitoring/stack, for which the app's monitoring was made"),
        ((500, {"message": "etcd is away"}), {}, "metrics stack", "failed", "etcd is away"),
        (transport.ApiError(0, "timed out"), MADE_FOR, "metrics stack", "failed", "timed out"),
        ((403, {"message": "not for you"}), MADE_FOR, "metrics stack", "skipped", "not for you"),
        (
            (200, {"items": [{**SERVER, "metadata": {"namespace": "monitoring", "name": "other"}}]}),
            MADE_FOR,
            "prometheus",
            "failed",
            "monitoring/stack, for which",
        ),
    ],
)
def test_a_prometheus_that_is_not_there(servers, more, link, status, words):
    results = run(FakeStack(**{f"{OPERATOR}/prometheuses": servers, **more}), context="staging")
    found = results[link]
    assert (found["status"], found["follows"]) == (status, "") and words in found["evidence"] + found["cause"]
    assert status == "skipped" or found["next_command"].startswith("kubectl ")


def test_what_is_not_there_to_be_asked_is_skipped():
    cluster = FakeStack()
    cluster.answers[f"{OPERATOR}/namespaces/monitoring/alertmanagers"] = (200, {"items": []})
    assert run(cluster)["alert path"]["status"] == "skipped"
    cluster = FakeStack()
    refused = (403, {"message": "services is forbidden"})
    cluster.answers["/api/v1/namespaces/monitoring/services"] = refused
    found = run(cluster, context="staging")["grafana"]
    assert (found["status"], found["evidence"]) == ("skipped", "refused: services is forbidden")
    # The scheduled pod has an account of its own, whose lost rights have to be told.
    assert run(cluster)["grafana"]["status"] == "failed"


def test_a_part_that_is_skipped_is_named_and_not_asked_for():
    """The Prometheus object says what its installation went without."""
    cluster = FakeStack()
    cluster.empty = ("kube_",)
    assert run(cluster)["exporters"]["status"] == "failed"
    server = copy.deepcopy(SERVER)
    server["metadata"]["annotations"] = {"flaskops/skipped": '{"kube_state_metrics": "its module is refused"}'}
    cluster.answers[f"{OPERATOR}/prometheuses"] = (200, {"items": [server]})
    results = run(cluster)
    assert [name for name, r in results.items() if r["status"] == "failed"] == []
    part = results["part kube state metrics"]
    assert (part["status"], part["evidence"]) == ("skipped", "its module is refused")
    assert "kube-state-metrics" not in results["exporters"]["evidence"]
    assert results["alert path"]["status"] == "skipped"
    assert cluster.marks == []


def test_a_silence_is_no_broken_path():
    class Silenced(FakeStack):
        def fetch(self, path, headers=None, seconds=10):
            status, text = super().fetch(path, headers, seconds)
            return status, text.replace('{"state": "active"}', '{"state": "suppressed", "silencedBy": ["s-1"]}')

    cluster = Silenced()
    found = run(cluster)["alert path"]
    assert found["status"] == "skipped" and "(s-1)" in found["evidence"] and cluster.marks == []


def test_the_next_command_is_about_the_link():
    cluster = FakeStack()
    service = {"metadata": {"name": "stack-grafana"}, "spec": {"ports": [{"port": 80}]}}
    cluster.answers["/api/v1/namespaces/monitoring/services"] = (200, {"items": [service]})
    cluster.answers[f"{MONITORING}/stack-grafana:80/proxy/api/health"] = (503, "no endpoints")
    found = run(cluster)["grafana"]
    assert found["status"] == "failed" and found["next_command"] == "kubectl -n monitoring get pods -o wide"


def test_another_app_s_probe_and_an_empty_group():
    theirs = {"metadata": {"name": "other", "namespace": "flask-app"}, "spec": {"prober": {"url": "gone.monitoring.svc:9115"}}}
    empty = {"metadata": {"name": "empty", "namespace": "flask-app"}, "spec": {"groups": [{"name": "none"}]}}
    parts = [part for part in PARTS if not part.startswith("Probe/")]
    cluster = FakeStack()
    cluster.empty = ("probe_",)
    cluster.answers |= {
        f"{CONFIGS}": (200, {"items": [owned("flask-app", parts)]}),
        f"{OPERATOR}/namespaces/flask-app/servicemonitors": (200, {"items": [owned("flask-app", parts)]}),
        f"{OPERATOR}/namespaces/flask-app/probes": (200, {"items": [theirs]}),
        f"{OPERATOR}/namespaces/flask-app/prometheusrules": (
            200,
            {"items": [owned("flask-app", parts, spec={"groups": GROUPS}), TEST_OBJECT, empty]},
        ),
    }
    results = run(cluster)
    assert [r["cause"] for r in results.values() if r["status"] == "failed" and r["link"] in LINKS] == []
    assert results["health probe"]["status"] == "skipped"


def test_the_shipper_is_not_blamed_for_a_prometheus_that_is_down():
    class Down(FakeStack):
        def fetch(self, path, headers=None, seconds=10):
            return (503, "no endpoints available") if path.startswith(PROMETHEUS) else super().fetch(path, headers, seconds)

    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [shipper()]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        f"{OPERATOR}/namespaces/logging/servicemonitors": (200, {"items": [{}]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
    }
    for kind in (FakeStack, Down):
        cluster = kind()
        cluster.answers |= answers
        cluster.empty = ("sum(increase",)
        result = run(cluster)["log agent"]
        # It is skipped then, since nobody says what it has given up; that it is well would be a guess.
        assert (result["status"], "is not known" in result["evidence"]) == (("skipped", True) if kind is Down else ("ok", False))


TRIED, DELIVERED = log_agent.TRIED, log_agent.DELIVERED


@pytest.mark.parametrize(
    ("page", "status", "words"),
    [
        ('fluentbit_input_ingestion_paused{name="tail.0"} 1\n', "failed", "fluent-bit-x on node node-1 is paused"),
        ('fluentbit_output_dropped_records_total{name="es"} 12000\n', "failed", "given up 12000 lines"),
        ('fluentbit_output_retries_failed_total{name="es"} 40\n', "failed", "given up 40 lines"),
        ('fluentbit_input_ingestion_paused{name="tail.0"} 0\n', "ok", "ready on 1 of 1 nodes"),
        # An output that only tries, beside another one that delivers.
        (
            f'{TRIED}{{name="es"}} 9\n{DELIVERED}{{name="es"}} 0\n{DELIVERED}{{name="loki"}} 5\n',
            "failed",
            "none of its lines to es",
        ),
        (f'{TRIED}{{name="es"}} 9\n{DELIVERED}{{name="es"}} 3\n', "ok", "ready on 1 of 1 nodes"),
    ],
)
def test_what_an_agents_own_page_says(page, status, words):
    agent = pod("fluent-bit-x")
    agent["metadata"]["namespace"] = "logging"
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [shipper()]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [agent]}),
        f"{OPERATOR}/namespaces/logging/servicemonitors": (200, {"items": []}),
        SHIPPER_PAGE: (200, page),
    }
    cluster = FakeStack(**answers)
    cluster.empty = ("sum(increase",)
    found = run(cluster)["log agent"]
    assert found["status"] == status and words in found["cause"] + found["evidence"]


@pytest.mark.parametrize(
    ("readiness", "probed", "hint"),
    [
        ({"path": "/healthz", "port": 5000}, "http://flask-app.flask-app.svc:80/healthz", ""),
        ({"path": "/healthz", "port": 5000}, "http://flask-app.flask-app.svc:80/health", "the readiness probe asks /healthz"),
        # Outside, another path may lead to the same.
        ({"path": "/healthz", "port": 5000}, "https://shop.example.com/health", ""),
        (None, "http://flask-app.flask-app.svc:80/live", ""),
    ],
)
def test_the_health_probe_is_told_by_what_it_asks(readiness, probed, hint):
    found = deployment()
    probe = {"httpGet": readiness} if readiness else {"exec": {"command": ["true"]}}
    found["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = probe
    cluster = FakeStack(("probe",), **{"/apis/apps/v1/namespaces/flask-app/deployments/flask-app": (200, found)})
    cluster.probed = probed
    cause = run(cluster)["health probe"]["cause"]
    assert probed in cause and hint in cause and ("app_monitoring_health_path" in cause) == bool(hint)


def asking(name, url):
    return owned(
        name, PARTS, spec={"prober": {"url": "blackbox.monitoring.svc:9115"}, "targets": {"staticConfig": {"static": [url]}}}
    )


@pytest.mark.parametrize("seen", [{"flask-app"}, {"flask-app-public"}, {"flask-app", "flask-app-public"}, set()])
def test_each_probe_is_looked_at(seen):
    """The series of one Probe say nothing of another."""
    urls = {"flask-app": "http://flask-app.flask-app.svc:80/health", "flask-app-public": "https://shop.example.com/health"}

    class Probed(FakeStack):
        def series(self, expr):
            if expr.startswith("probe_success{"):
                return [{"metric": {"instance": urls[name]}, "value": [0, "1"]} for name in seen]
            return super().series(expr)

    items = [asking(*item) for item in urls.items()]
    found = run(Probed(**{f"{OPERATOR}/namespaces/flask-app/probes": (200, {"items": items})}))["health probe"]
    assert found["status"] == ("ok" if len(seen) == 2 else "failed")
    for name in urls.keys() - seen:
        assert f"the Probe {name} gives no probe_success for {urls[name]}" in found["cause"]
    assert len(seen) != 1 or f"the Probe {next(iter(seen))} gives" not in found["cause"]


EMPTY_BOARD = (200, {"items": [{"metadata": {"name": "flaskops-service-dashboard", "namespace": "monitoring"}}]})
NONE = (200, {"items": []})
LESS = owned("flask-app", PARTS, annotations={objects.ALERTS: "A B"}, spec={"groups": GROUPS})
REFUSED = {**SERVER, "status": {"conditions": [{"type": "Reconciled", "status": "False", "message": "no secret"}]}}
STOPPED_OPERATOR = deployment_of("operator", "prometheus-operator@sha256:1", available=0)


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
                    groups=[group([{**LOADED, "lastError": "many-to-many"}]), group([TEST_RULE], "test", "test")]
                )
            },
            "A: many-to-many",
        ),
        ("health probe", {"broken": ("probe",)}, "the probe of http://flask-app.flask-app.svc:80/health fails"),
        ("alert path", {"broken": ("rule",)}, "the rule is not evaluated"),
        ("alert path", {"broken": ("alertmanager",)}, "Prometheus does not reach Alertmanager"),
        ("alert path", {"broken": ("inbox", "resolve")}, "Alertmanager does not reach the receiver"),
        ("alert path", {"broken": ("resolve",)}, "it was never resolved"),
        ("target", {f"{PROMETHEUS}/targets": (503, "no endpoints available")}, "no endpoints available"),
        ("target", {f"{OPERATOR}/namespaces/flask-app/servicemonitors": NONE}, "the ServiceMonitor flask-app is gone"),
        ("health probe", {f"{OPERATOR}/namespaces/flask-app/probes": NONE}, "the Probe flask-app is gone"),
        ("rules", {f"{OPERATOR}/namespaces/flask-app/prometheusrules": NONE}, "the PrometheusRule flask-app is gone"),
        (
            "rules",
            {f"{OPERATOR}/namespaces/flask-app/prometheusrules": (200, {"items": [LESS, TEST_OBJECT]})},
            "the alert B was taken out of the PrometheusRule flask-app",
        ),
        ("receivers", {CONFIGS: NONE}, "the AlertmanagerConfig flask-app"),
        ("dashboards", {BOARDS: NONE}, "the ConfigMap flaskops-service-dashboard with a dashboard is gone"),
        ("dashboards", {BOARDS: EMPTY_BOARD}, "the ConfigMap flaskops-service-dashboard with a dashboard is empty"),
        (
            "prometheus",
            {f"{OPERATOR}/namespaces/monitoring/prometheuses/stack": (200, {**SERVER, "spec": {"replicas": 0}})},
            "scaled to 0",
        ),
        ("prometheus", {f"{OPERATOR}/namespaces/monitoring/prometheuses/stack": (200, REFUSED)}, "bring Prometheus stack up"),
        (
            "prometheus",
            {"/apis/apps/v1/namespaces/monitoring/deployments": (200, {"items": [STOPPED_OPERATOR, INBOX]})},
            "the operator operator is not available",
        ),
        (
            "prometheus",
            {f"{PROMETHEUS}/status/runtimeinfo": data(reloadConfigSuccess=False)},
            "Prometheus refused its newest configuration",
        ),
        ("alertmanager", {f"{PROMETHEUS}/alertmanagers": data(activeAlertmanagers=[])}, "Prometheus knows no Alertmanager"),
        (
            "alertmanager",
            {
                f"{OPERATOR}/namespaces/monitoring/alertmanagers": NONE,
                f"{OPERATOR}/prometheuses": (200, {"items": [SENDING]}),
                f"{PROMETHEUS}/alertmanagers": data(activeAlertmanagers=[]),
            },
            "to send alerts to the Service monitoring/stack-alertmanager, and no Alertmanager is there",
        ),
        (
            "alertmanager",
            {ALERTMANAGER_PAGE: (200, "alertmanager_config_last_reload_successful 0\n")},
            "Alertmanager refused its newest configuration",
        ),
        ("alertmanager", {ALERTMANAGER_PAGE: (200, "")}, "has no alertmanager_config_last_reload_successful"),
        ("exporters", {SLICES.format("monitoring"): NONE}, "nobody answers at blackbox.monitoring.svc:9115"),
        (
            "data sources",
            {"/api/v1/namespaces/loki/services/loki:3100/proxy/loki/api/v1/status/buildinfo": (503, "no endpoints")},
            "which answers 503 no endpoints",
        ),
        (
            "alert path",
            {f"{ALERTMANAGER}/status": (200, {"config": {"original": CONFIG.replace(alert_path.NAME, "Another")}})},
            "it would go to the default",
        ),
        (
            "alert routes",
            {f"{ALERTMANAGER}/status": (200, {"config": {"original": CONFIG.replace("team", "none")}})},
            "A (critical) ends at none, which notifies nobody",
        ),
        ("alert routes", {f"{ALERTMANAGER}/silences": (200, [SILENCE])}, "a silence holds A (critical) back"),
        (
            "alert routes",
            {CONFIGS: (200, {"items": [owned("flask-app", PARTS, spec={"receivers": [{"name": "night"}]})]})},
            "the AlertmanagerConfig flask-app is not in Alertmanager's configuration",
        ),
    ],
)
def test_a_broken_link_is_named(link, changes, cause):
    cluster = FakeStack(**changes)
    results = run(cluster)
    assert [name for name, r in results.items() if r["status"] == "failed" and not r["follows"]] == [link]
    broken = results[link]
    assert cause in broken["cause"]
    assert broken["next_command"].startswith("kubectl ")
    assert cluster.marks == [], "the mark of the test alert is left behind"


@pytest.mark.parametrize(
    ("link", "state", "cause"),
    [
        ("exporters", {"empty": ("kube_deployment_spec_replicas{",)}, "kube-state-metrics reports nothing about the app"),
        ("receivers", {"refusing": ("team",)}, "team (slack) failed 1 min ago and has taken nothing since"),
        ("exporters", {"untold": ("pod-2",)}, "the kubelet reports nothing about pod pod-2 on node-1"),
        ("exporters", {"untold": ("pod-1", "pod-2")}, "the kubelet reports nothing about the app"),
        ("clocks", {"loud": ("node_time_seconds",)}, "the clock of node node-1 is 99 s behind"),
        ("clocks", {"skew": {"inbox": -3600}}, "the clock of the alert inbox is 3600 s behind"),
        ("clocks", {"skew": {"inbox": 60, "prometheus": 60}}, "the cluster, seen from this machine, is 60 s ahead"),
        ("alert path", {"receivers": ["none"]}, "Alertmanager sends it to none and not to alert-inbox"),
        ("alert path", {"receivers": ["alert-inbox", "shop/pagerduty"]}, "an earlier route sends it to pagerduty"),
    ],
)
def test_what_the_stack_tells_of_itself(link, state, cause):
    cluster = FakeStack()
    for name, value in state.items():
        setattr(cluster, name, value)
    results = run(cluster)
    assert [name for name, r in results.items() if r["status"] == "failed" and not r["follows"]] == [link]
    assert cause in results[link]["cause"]
    assert cluster.marks == []


@pytest.mark.parametrize("dashboards_too", [True, False])
def test_series_that_a_relabeling_drops(dashboards_too):
    """The target is up all the same, and no dashboard need be there to tell."""
    parts = PARTS if dashboards_too else [part for part in PARTS if not part.startswith("ConfigMap")]
    monitor = owned("flask-app", parts)
    cluster = FakeStack(**{f"{OPERATOR}/namespaces/flask-app/servicemonitors": (200, {"items": [monitor]})})
    if not dashboards_too:
        cluster.answers[BOARDS] = (200, {"items": []})
    cluster.unstored = ("pod-2",)
    results = run(cluster)
    assert [name for name, r in results.items() if r["status"] == "failed" and not r["follows"]] == ["target"]
    assert "up, but flask_http_request_total of pod pod-2 is not stored" in results["target"]["cause"]
    assert results["target"]["next_command"].startswith("kubectl ")


def test_series_of_a_monitor_that_is_not_ours_may_have_any_name():
    nothing = {f"{OPERATOR}/namespaces/flask-app/{kind}": NONE for kind in ("servicemonitors", "probes", "prometheusrules")}
    cluster = FakeStack(**nothing)
    cluster.unstored = ("pod-1", "pod-2")
    assert run(cluster)["target"]["status"] == "ok"


def test_series_are_waited_for_as_long_as_a_scrape_takes(monkeypatch):
    """A pod that nobody has asked yet has its first series by verify's own request."""
    monkeypatch.setattr(running, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(links_target, "SLACK", 0.2)

    class Slow(FakeStack):
        looks = 0

        def series(self, expr):
            self.looks += expr.startswith("sum by (pod, __name__)")
            self.unstored = ("pod-2",) if self.looks < 4 else ()
            return super().series(expr)

    scraped = [{**target(name), "scrapeInterval": "1s"} for name in ("pod-1", "pod-2")]
    assert run(Slow(**{f"{PROMETHEUS}/targets": data(activeTargets=scraped)}))["target"]["status"] == "ok"


def test_what_nobody_counts_is_not_well():
    """Alertmanager's counters are missing: nothing is refused then, and nothing is known."""
    cluster = FakeStack()
    cluster.empty = ("alertmanager_notification_requests",)
    found = run(cluster)["receivers"]
    assert found["status"] == "skipped" and "no counters of Alertmanager" in found["evidence"]
    cluster = FakeStack()
    cluster.empty = ("node_time_seconds",)
    assert "no node tells Prometheus its time" in run(cluster)["clocks"]["evidence"]


def test_an_app_without_pods_has_no_kubelet_to_tell_of_it():
    cluster = FakeStack(**{f"{NS}/pods": (200, {"items": []})})
    cluster.untold = ("pod-1", "pod-2")
    assert run(cluster)["exporters"]["status"] == "ok"


def test_a_scrape_of_long_ago_says_nothing_of_now():
    old = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=200)).isoformat()
    scraped = [{**target(name), "scrapeInterval": "30s", "lastScrape": old} for name in ("pod-1", "pod-2")]
    found = run(FakeStack(**{f"{PROMETHEUS}/targets": data(activeTargets=scraped)}))["target"]
    assert found["status"] == "failed" and "the last scrape was 200 s ago" in found["cause"]


DROPPED = [{"metric": {"reason": "too_small_timestamp"}, "value": [0, "7"]}]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ([], "ok", "Prometheus does not read its metrics; it dropped 3 lines since its start"),
        ([{"metric": {"reason": "x"}, "value": [0, "0"]}], "ok", "found after"),
        (DROPPED, "failed", "dropped them: 7 older than its retention"),
        (422, "skipped", "what VictoriaLogs dropped lately is not known: too many"),
    ],
)
def test_a_back_end_of_which_prometheus_gives_no_answer(answer, status, words):
    class Victoria(FakeStack):
        def fetch(self, path, headers=None, seconds=10):
            if answer == 422 and "vl_rows_dropped_total" in path:
                return 422, json.dumps({"message": "too many"})
            return super().fetch(path, headers, seconds)

        def series(self, expr):
            return answer if "vl_rows_dropped_total" in expr else super().series(expr)

    page = 'vl_storage_is_read_only{path="/storage"} 0\nvl_rows_dropped_total{reason="x"} 3\n'
    cluster = Victoria(**{VICTORIA_QUERY: (200, row(**STREAM)), f"{VICTORIA_BASE}/metrics": (200, page)})
    cluster.stores = VICTORIA
    found = run(cluster)["victoria_logs"]
    assert found["status"] == status and words in found["evidence"] + found["cause"]


def test_each_output_that_is_stuck_is_looked_at():
    """The back end of the first is away, which its own link says; the second is the log agent's affair."""

    class Two(FakeStack):
        def series(self, expr):
            if expr.startswith("(sum by (pod, name)"):
                return [{"metric": {"pod": "fluent-bit-x", "name": name}, "value": [0, "9"]} for name in ("es", "loki")]
            return super().series(expr)

    agent = shipper()
    outputs = [{"name": name, "type": name, "host": "away.test"} for name in ("loki", "es")]
    agent["metadata"]["annotations"] = {"flaskops/outputs": json.dumps(outputs)}
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [agent]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        f"{OPERATOR}/namespaces/logging/servicemonitors": (200, {"items": [{}]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
    }
    answers["/api/v1/namespaces/logging/pods"][1]["items"][0]["metadata"]["namespace"] = "logging"
    cluster = Two(**answers)
    cluster.empty = ("(sum(increase",)
    found = run(cluster)["log agent"]
    assert found["status"] == "failed" and "none of its lines to es for 2 minutes" in found["cause"]


def test_the_log_agent_that_prometheus_does_not_read_is_named():
    pods = [pod("fluent-bit-x"), pod("fluent-bit-y", node="node-2")]
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [shipper(desiredNumberScheduled=2, numberReady=2)]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": pods}),
        f"{OPERATOR}/namespaces/logging/servicemonitors": (200, {"items": [{}]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
        SHIPPER_PAGE.replace("-x:", "-y:"): (200, "fluentbit_uptime 5\n"),
    }
    cluster = FakeStack(**answers)
    cluster.empty = ("(sum(increase", "(sum by (pod, name)")
    assert "1 of 2 pods of fluent-bit, and none of fluent-bit-y on node node-2" in run(cluster)["log agent"]["cause"]


def test_judges_of_the_stack_take_plain_data():
    pods = [pod("pod-1"), pod("pod-2"), pod("pod-3", phase="Pending")]
    scraped = [target("pod-1"), target("pod-2"), target("stranger", "down")]
    alone = Server("")
    assert judge_target({alone: scraped}, pods, []).status == "ok"
    assert "pod-2" in judge_target({alone: scraped[:1]}, pods, []).cause
    assert "mine" in judge_target({alone: scraped}, pods, ["mine"]).cause
    assert judge_rules([RULE], [group([LOADED])], lambda one, other: False) == ([], False, 1)
    assert judge_rules([RULE], [], lambda one, other: False)[1:] == (True, 1)
    behind = {"metric": {"node": "node-1"}, "value": [0, "60"]}
    assert judge_clocks({"Prometheus": 1.0, "the alert inbox": -20.0}, [behind]) == {
        "the alert inbox": -20.0,
        "node node-1": -60.0,
    }
    assert list(judge_clocks({"Prometheus": 30.0}, [])) == ["the cluster, seen from this machine,"]


def test_a_test_alert_may_go_on():
    cluster = FakeStack()
    cluster.receivers = ["alert-inbox", "shop/pagerduty"]
    result = run(cluster, notify=True)["alert path"]
    assert result["status"] == "ok"
    assert "receivers: alert-inbox, pagerduty" in result["evidence"]
    assert "flaskops-verify-notify-" in result["query"]


def test_marks_that_were_left_behind_are_removed():
    cluster = FakeStack()
    made = "2026-01-01T00:00:00Z"
    fresh = datetime.datetime.now(datetime.UTC).isoformat()
    marks = {"flaskops-verify-old": made, "flaskops-verify-new": fresh}
    cluster.marks = list(marks)
    items = [{"metadata": {"name": name, "creationTimestamp": time}} for name, time in marks.items()]
    cluster.answers[f"{NS}/services"] = (200, {"items": items})
    assert run(cluster)["alert path"]["status"] == "ok"
    assert cluster.marks == ["flaskops-verify-new"]


def test_a_query_that_does_not_parse_is_named():
    broken = copy.deepcopy(SERVICE)
    broken["panels"][0]["targets"][0]["expr"] = "sum(("
    cluster = FakeStack(**{BOARDS: (200, {"items": [board(panels=broken["panels"])]})})
    ask = cluster.fetch

    def fetch(path, headers=None, seconds=10):
        if "sum%28%28" in path:
            return 400, json.dumps({"status": "error", "error": "parse error"})
        return ask(path, headers, seconds)

    cluster.fetch = fetch
    result = run(cluster)["dashboards"]
    assert result["status"] == "failed"
    assert "Flask service / Requests" in result["cause"]


def test_only_goals_that_the_app_has_are_asked_about():
    record = "namespace_app:slo_latency:budget"
    cluster = FakeStack()
    cluster.empty = (record,)
    assert run(cluster)["dashboards"]["status"] == "ok"
    names = sorted(dashboards.recorded(" ".join(query.expr for query in dashboards.queries([SERVICE]))))
    goals = [{"name": "flask-app.slo", "rules": [{"record": name} for name in names]}]
    rule = owned("flask-app", PARTS, annotations={objects.ALERTS: "A"}, spec={"groups": [*GROUPS, *goals]})
    cluster = FakeStack(**{f"{OPERATOR}/namespaces/flask-app/prometheusrules": (200, {"items": [rule, TEST_OBJECT]})})
    cluster.empty = (record,)
    result = run(cluster)["dashboards"]
    assert result["status"] == "failed" and record in result["cause"]


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
        (
            {
                f"{ALERTMANAGER}/status": (200, {"config": {"original": "route: {}"}}),
                "/apis/apps/v1/namespaces/monitoring/deployments": (200, {"items": []}),
            },
            {},
            "it would go to the default receiver",
        ),
    ],
)
def test_the_test_alert_reaches_no_pager(changes, options, reason):
    cluster = FakeStack(**changes)
    result = run(cluster, **options)["alert path"]
    assert result["status"] == "skipped"
    assert reason in result["evidence"]
    assert cluster.fired == set()


SOMEBODYS = {"metadata": {"name": "somebodys", "namespace": "flask-app"}, "spec": {"jobName": "flask-app-health", "targets": {}}}


@pytest.mark.parametrize(
    ("job", "pool", "parts", "cause"),
    [
        (
            "flask-app",
            "serviceMonitor/flask-app/somebodys/0",
            PARTS,
            "serviceMonitor/flask-app/somebodys gives series of the job",
        ),
        ("flask-app", "podMonitor/flask-app/flask-app/0", PARTS, "podMonitor/flask-app/flask-app gives series of the job"),
        ("flask-app", "serviceMonitor/flask-app/flask-app-2/0", PARTS, "serviceMonitor/flask-app/flask-app-2 gives series"),
        ("flask-app", "by-hand", PARTS, "by-hand gives series of the job flask-app too"),
        ("flask-app", "serviceMonitor/flask-app/flask-app/1", PARTS, ""),
        ("somebodys", "serviceMonitor/flask-app/somebodys/0", PARTS, ""),
        ("flask-app", "serviceMonitor/flask-app/somebodys/0", [], ""),
    ],
)
def test_who_else_gives_series_of_the_job(job, pool, parts, cause):
    """Where no monitor of ours was installed, somebody's is the app's."""
    other = {**target("pod-1"), "scrapePool": pool}
    other["labels"] = {**other["labels"], "job": job}
    ours = [tuple(part.split("/")) for part in parts if part.startswith("ServiceMonitor/")]
    found = links_target.doubled({Server(""): [target("pod-1"), other]}, "flask-app", ours)
    assert len(found) == bool(cause) and cause in "".join(found)


def test_somebody_s_scrape_under_our_job_is_blamed_on_the_target():
    other = {**target("pod-1"), "scrapePool": "serviceMonitor/flask-app/somebodys/0"}
    other["labels"] = {**other["labels"], "job": "flask-app"}
    cluster = FakeStack(**{f"{PROMETHEUS}/targets": data(activeTargets=[target("pod-1"), target("pod-2"), other])})
    assert "serviceMonitor/flask-app/somebodys gives series" in run(cluster)["target"]["cause"]


@pytest.mark.parametrize(
    ("job", "scraped", "blamed"), [("flask-app-health", True, True), ("mine", True, False), ("flask-app-health", False, False)]
)
def test_somebody_s_probe_under_our_job_is_blamed_where_it_is_scraped(job, scraped, blamed):
    ours = asking("flask-app", "http://flask-app.flask-app.svc:80/health")
    ours["spec"]["jobName"] = "flask-app-health"
    somebodys = {**SOMEBODYS, "spec": {**SOMEBODYS["spec"], "jobName": job}}
    pool = [{"scrapePool": "probe/flask-app/somebodys", "labels": {}, "health": "up"}] if scraped else []
    cluster = FakeStack(
        **{
            f"{OPERATOR}/namespaces/flask-app/probes": (200, {"items": [ours, somebodys]}),
            f"{PROMETHEUS}/targets": data(activeTargets=[target("pod-1"), target("pod-2"), *pool]),
        }
    )
    found = run(cluster)["health probe"]
    assert found["status"] == ("failed" if blamed else "ok"), found
    assert ("the Probe somebodys gives series" in found["cause"]) is blamed


UNROUTED = """\
route: {receiver: team}
receivers: [{name: team, slack_configs: [{channel: "#alerts"}]}]
"""


def test_alerts_that_no_alertmanager_takes():
    """As behind a NetworkPolicy, or TLS that Prometheus is not told of. Upstream's stack has no route for the test alert."""
    cluster = FakeStack(**{f"{ALERTMANAGER}/status": (200, {"config": {"original": UNROUTED}})})
    cluster.answers["/apis/apps/v1/namespaces/monitoring/deployments"] = (200, {"items": [OPERATOR_OF_STACK]})
    results = run(cluster)
    assert (results["alert path"]["status"], results["alertmanager"]["status"]) == ("skipped", "ok")
    cluster.loud = ("prometheus_notifications_dropped_total",)
    results = run(cluster)
    assert [name for name, r in results.items() if r["status"] == "failed" and not r["follows"]] == ["alertmanager"]
    assert "no Alertmanager has taken an alert" in results["alertmanager"]["cause"]


def test_a_pod_that_goes_is_no_longer_scraped():
    """As after a rollout, or where an autoscaler has taken one away."""
    going = pod("pod-3")
    going["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    cluster = FakeStack(**{f"{NS}/pods": (200, {"items": [pod(), pod("pod-2"), going]})})
    cluster.logs["pod-3"] = ["noise"]
    assert run(cluster)["target"]["status"] == "ok"
    last = target("pod-3", "down", "connection refused")
    cluster.answers[f"{PROMETHEUS}/targets"] = data(activeTargets=[target("pod-1"), target("pod-2"), last])
    assert run(cluster)["target"]["status"] == "ok"


@pytest.mark.parametrize(
    ("pools", "status", "words"),
    [
        (("serviceMonitor/flask-app/flask-app/0", "podMonitor/istio-system/envoy-stats-monitor/0"), "ok", "2 pods scraped"),
        # A sidecar's scrape is none of the app.
        (("podMonitor/istio-system/envoy-stats-monitor/0",), "failed", "no target for pod pod-1"),
    ],
)
def test_somebody_else_s_scrape_of_the_pods_says_nothing_of_the_app(pools, status, words):
    scraped = [
        {**target(name, *(("down", "404 Not Found") if "istio" in pool and len(pools) > 1 else ())), "scrapePool": pool}
        for name in ("pod-1", "pod-2")
        for pool in pools
    ]
    for number, one in enumerate(scraped):
        one["scrapeUrl"] = f"http://10.0.0.1:{number}/metrics"
    found = run(FakeStack(**{f"{PROMETHEUS}/targets": data(activeTargets=scraped)}))["target"]
    assert found["status"] == status and words in found["evidence"] + found["cause"]


@pytest.mark.parametrize(
    ("port", "monitors", "page", "status", "words"),
    [
        # Fluent Bit's own chart calls its port http.
        ("http", [], 'fluentbit_output_dropped_records_total{name="es.0"} 12000\n', "failed", "given up 12000 lines"),
        ("http", [], "fluentbit_uptime 5\n", "ok", "ready on 1 of 1 nodes"),
        # The monitor in its namespace is of something else, such as Loki.
        ("http", [{}], "fluentbit_uptime 5\n", "ok", "ready on 1 of 1 nodes"),
        ("metrics", [{}], "fluentbit_uptime 5\n", "ok", "ready on 1 of 1 nodes"),
    ],
)
def test_a_fluent_bit_of_somebody_else_s(port, monitors, page, status, words):
    agent, daemon_set = pod("fluent-bit-x"), shipper()
    agent["metadata"]["namespace"] = "logging"
    daemon_set["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"] = port
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [daemon_set]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [agent]}),
        f"{OPERATOR}/namespaces/logging/servicemonitors": (200, {"items": monitors}),
        SHIPPER_PAGE: (200, page),
    }
    cluster = FakeStack(**answers)
    cluster.empty = ("(sum(increase", "(sum by (pod, name)", 'up{namespace="logging"')
    found = run(cluster)["log agent"]
    assert found["status"] == status and words in found["evidence"] + found["cause"]


@pytest.mark.parametrize(("answer", "status"), [((200, "{}"), "ok"), ((401, "login"), "skipped"), ((502, "away"), "failed")])
def test_a_data_source_that_asks_for_a_login(answer, status):
    """As Loki behind its gateway's basicAuth, whose password only Grafana has."""
    alive = "/api/v1/namespaces/loki/services/loki:3100/proxy/loki/api/v1/status/buildinfo"
    found = run(FakeStack(**{alive: answer}))["data sources"]
    assert found["status"] == status and ("asks for a login" in found["evidence"]) == (status == "skipped")


class ByIntegration(FakeStack):
    """Alertmanager as upstream runs it: it counts by integration alone, and has counters of each from the start."""

    def told(self, expr):
        if "max_over_time" not in expr:
            return [{"metric": {"integration": kind}, "value": [0, "0"]} for kind in ("email", "pagerduty", "slack", "webhook")]
        took = self.took if "requests_total" in expr else ()
        return [{"metric": {"integration": kind}, "value": [0, str(time.time() - 3600)]} for kind in took]


@pytest.mark.parametrize(("took", "status"), [((), "skipped"), (("webhook",), "skipped"), (("slack",), "ok")])
def test_a_receiver_that_was_sent_nothing_is_not_called_well_where_integrations_are_counted(took, status):
    """The inbox, which takes the test alert, is a webhook; the team has Slack."""
    cluster = ByIntegration()
    cluster.took = took
    found = run(cluster)["receivers"]
    assert found["status"] == status and ("nothing was sent to slack" in found["evidence"]) == (status == "skipped")


@pytest.mark.parametrize(("took", "status"), [((), "skipped"), (("slack",), "ok")])
def test_receivers_of_an_alertmanager_that_can_not_be_asked(took, status):
    """As behind a NetworkPolicy that keeps the API server out."""
    cluster = ByIntegration(**{f"{ALERTMANAGER}/status": (503, "no route")})
    cluster.took = took
    assert run(cluster)["receivers"]["status"] == status
