# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for clusters that are given as the answers of their API; the real one is in tests/integration."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeError
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import objects
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import plan as module
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.objects import OURS
from ansible_collections.flaskops.observability.plugins.modules import app_monitoring

ROOT = Path(__file__).resolve().parents[3]
OPERATOR = "/apis/monitoring.coreos.com/v1"
# What the module gives its planner when nothing but name and namespace was set.
DEFAULTS: dict[str, Any] = {
    name: option.get("default") for name, option in yaml.safe_load(app_monitoring.DOCUMENTATION)["options"].items()
} | {"name": "shop", "namespace": "shop", "slo": 0.0, "promtool": None}


def meta(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": labels}


class Fake:
    """GET answers; what is not in them is not there."""

    host = "https://fake"

    def __init__(self, selectors: dict[str, Any] | None = None) -> None:
        spec: dict[str, Any] = {"evaluationInterval": "15s"}
        for kind in ("serviceMonitor", "probe", "rule"):
            spec |= {f"{kind}Selector": {}, f"{kind}NamespaceSelector": {}}
        spec |= selectors or {}
        ports = [{"name": "web", "containerPort": 5000}, {"containerPort": 9200}]
        template = {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "c", "ports": ports}]}}
        self.answers: dict[str, Any] = {
            "/api/v1/namespaces/shop": {"metadata": {"name": "shop", "labels": {"team": "a"}}},
            f"{OPERATOR}/prometheuses": {"items": [{"metadata": meta("main", "stack"), "spec": spec}]},
            f"{OPERATOR}/alertmanagers": {
                "items": [
                    {
                        "metadata": meta("main", "stack"),
                        "spec": {
                            "alertmanagerConfigSelector": {"matchLabels": {"am": "x"}},
                            "alertmanagerConfigNamespaceSelector": {},
                        },
                    }
                ]
            },
            "/apis/apps/v1/namespaces/shop/deployments/shop": {"metadata": meta("shop", "shop"), "spec": {"template": template}},
            "/api/v1/namespaces/shop/services": {
                "items": [
                    {
                        "metadata": meta("web", "shop"),
                        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 8080, "targetPort": "web"}]},
                    },
                    {
                        "metadata": meta("pods", "shop"),
                        "spec": {
                            "clusterIP": "None",
                            "selector": {"app": "shop"},
                            "ports": [{"name": "prom", "port": 9200, "targetPort": 9200}],
                        },
                    },
                    {"metadata": meta("other", "shop"), "spec": {"selector": {"app": "other"}, "ports": [{"port": 9200}]}},
                ]
            },
            "/api/v1/services?labelSelector=app.kubernetes.io/name%3Dprometheus-blackbox-exporter": {
                "items": [{"metadata": meta("bb", "stack"), "spec": {"ports": [{"port": 9115}]}}]
            },
        }

    def fetch(self, path: str, headers: Any = None, seconds: float = 0) -> tuple[int, str]:
        found = self.answers.get(path)
        if isinstance(found, int):
            return found, json.dumps({"message": "no"})
        return (200, json.dumps(found)) if found is not None else (404, json.dumps({"message": "not found"}))


def plan(fake: Fake, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    return module.plan(module.Planner(fake, {**copy.deepcopy(DEFAULTS), **options}), check_mode)  # type: ignore[arg-type]


def of_kind(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [item for item in found["objects"] if item["kind"] == kind]


@pytest.fixture(autouse=True)
def no_promtool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_promtool", lambda given: "")


def test_whole_plan() -> None:
    found = plan(Fake())
    kinds = [item["kind"] for item in found["objects"]]
    assert kinds == ["PrometheusRule", "ServiceMonitor", "Probe", "AlertmanagerConfig", "ConfigMap", "ConfigMap", "ConfigMap"]
    assert found["ready"] and found["prometheus"] == "stack/main" and found["not_applied"] == []
    for item in found["objects"]:
        assert item["metadata"]["labels"].items() >= OURS.items()
    assert {item["metadata"]["namespace"] for item in of_kind(found, "ConfigMap")} == {"stack"}
    # Scrapes every 30 s by the operator's default, evaluates every 15 s: 120 + 30, then 2 x 30 + 15 + 15.
    assert found["detection"]["HighErrorRate"] == (150, 240)


def test_labels_that_an_application_gives() -> None:
    given = {"team": "web", "app.kubernetes.io/name": "other"}
    for item in plan(Fake(), labels=given)["objects"]:
        labels = item["metadata"]["labels"]
        assert labels.get("app.kubernetes.io/name") != "other"
        assert ("team" in labels) == (item["metadata"]["namespace"] == "shop")


def test_services_are_found_by_the_pods_ports() -> None:
    found = plan(Fake())
    (endpoint,) = of_kind(found, "ServiceMonitor")[0]["spec"]["endpoints"]
    assert endpoint["port"] == "prom"
    assert endpoint["relabelings"][0] == {"action": "keep", "sourceLabels": ["__meta_kubernetes_service_name"], "regex": "pods"}
    assert of_kind(found, "Probe")[0]["spec"]["targets"]["staticConfig"]["static"] == ["http://web.shop.svc:8080/health"]
    assert of_kind(found, "Probe")[0]["spec"]["prober"] == {"url": "bb.stack.svc:9115"}


def test_health_check_at_a_port_of_its_own() -> None:
    fake = Fake()
    services = fake.answers["/api/v1/namespaces/shop/services"]["items"]
    spec = {"selector": {"app": "shop"}, "ports": [{"port": 81, "targetPort": 9200}]}
    services.append({"metadata": meta("shop-health", "shop"), "spec": spec})
    # Not by the headless one, which may lead to pods that are not ready.
    (probe,) = of_kind(plan(fake, health_port=9200, health_path="/up"), "Probe")
    assert probe["spec"]["targets"]["staticConfig"]["static"] == ["http://shop-health.shop.svc:81/up"]
    assert plan(fake, health_port=9200)["objects"][1]["spec"]["endpoints"][0]["port"] == "prom"


def test_application_that_speaks_tls_itself() -> None:
    fake = Fake()
    web = fake.answers["/api/v1/namespaces/shop/services"]["items"][0]["spec"]
    web["ports"] = [{"name": "web", "port": 443, "targetPort": "web", "appProtocol": "https"}]
    found = plan(fake, metrics_port=5000)
    assert of_kind(found, "Probe")[0]["spec"]["targets"]["staticConfig"]["static"] == ["https://web.shop.svc:443/health"]
    (endpoint,) = of_kind(found, "ServiceMonitor")[0]["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"insecureSkipVerify": True})
    assert "scheme" not in of_kind(plan(fake), "ServiceMonitor")[0]["spec"]["endpoints"][0]


def test_metrics_on_the_applications_own_unnamed_port() -> None:
    (endpoint,) = of_kind(plan(Fake(), metrics_port=5000), "ServiceMonitor")[0]["spec"]["endpoints"]
    assert endpoint["targetPort"] == "web" and "port" not in endpoint


def test_labels_that_selectors_ask_for() -> None:
    selectors = {
        "serviceMonitorSelector": {"matchLabels": {"release": "theirs"}},
        "ruleSelector": {"matchExpressions": [{"key": "role", "operator": "In", "values": ["alerts"]}]},
        "probeSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]},
        "ruleNamespaceSelector": {"matchLabels": {"team": "a"}},
    }
    found = plan(Fake(selectors))
    assert of_kind(found, "ServiceMonitor")[0]["metadata"]["labels"]["release"] == "theirs"
    assert of_kind(found, "PrometheusRule")[0]["metadata"]["labels"]["role"] == "alerts"
    assert of_kind(found, "Probe")[0]["metadata"]["labels"]["x"] == "true"
    assert of_kind(found, "AlertmanagerConfig")[0]["metadata"]["labels"]["am"] == "x"


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        ({"ruleSelector": None}, "ruleSelector of Prometheus stack/main is not set, which selects nothing"),
        ({"ruleNamespaceSelector": None}, "ruleNamespaceSelector of Prometheus stack/main does not take the namespace shop"),
        ({"probeNamespaceSelector": {"matchLabels": {"team": "b"}}}, "does not take the namespace shop"),
        (
            {"ruleSelector": {"matchExpressions": [{"key": "app.kubernetes.io/managed-by", "operator": "DoesNotExist"}]}},
            "refuses objects with the label app.kubernetes.io/managed-by=flaskops",
        ),
    ],
)
def test_selectors_that_nothing_satisfies(selectors: dict[str, Any], message: str) -> None:
    with pytest.raises(KubeError, match=re.escape(message)):
        plan(Fake(selectors))


def test_literal_rule_has_an_endpoint_of_its_own() -> None:
    first, second = of_kind(plan(Fake(), literal_error_rate=True), "ServiceMonitor")[0]["spec"]["endpoints"]
    assert {"action": "replace", "targetLabel": "job", "replacement": "shop-literal"} in second["relabelings"]
    assert [step["regex"] for step in second["metricRelabelings"]] == ["flask_http_request_total"] * 2
    assert second["metricRelabelings"][1]["replacement"] == "http_requests_total"
    assert not any(step.get("replacement") == "http_requests_total" for step in first["metricRelabelings"])


@pytest.mark.parametrize(("prefix", "pattern"), [("my", "my_(http_request_.+)"), ("", "(http_request_.+)")])
def test_other_prefixes_are_renamed_first(prefix: str, pattern: str) -> None:
    step, *_ = objects.metric_relabelings(prefix)
    assert (step["regex"], step["replacement"], step["targetLabel"]) == (pattern, "flask_$1", "__name__")
    assert objects.metric_relabelings("flask")[0]["action"] == "drop"


def test_all_that_a_run_may_have_made_is_known() -> None:
    names = {(item["kind"], item["metadata"]["name"]) for item in plan(Fake())["known"]}
    made = {(item["kind"], item["metadata"]["name"]) for item in plan(Fake(), public_url="https://x/health")["objects"]}
    assert {(kind, name) for kind, name in made if kind != "ConfigMap"} == names


def test_dashboards_go_with_the_last_application() -> None:
    fake, query = Fake(), "?labelSelector=app.kubernetes.io/part-of%3Dflaskops-app-monitoring"
    fake.answers[f"/api/v1/configmaps{query}"] = {"items": [{"metadata": meta("flaskops-service-dashboard", "stack", **OURS)}]}
    fake.answers[f"{OPERATOR}/servicemonitors{query}"] = {"items": [{"metadata": meta("shop", "shop", **OURS)}]}
    (gone,) = [item for item in plan(fake, state="absent")["known"] if item["kind"] == "ConfigMap"]
    assert (gone["apiVersion"], gone["metadata"]["namespace"]) == ("v1", "stack")
    fake.answers[f"{OPERATOR}/servicemonitors{query}"]["items"].append({"metadata": meta("blog", "blog", **OURS)})
    assert not [item for item in plan(fake, state="absent")["known"] if item["kind"] == "ConfigMap"]


def test_check_mode_forgives_what_earlier_stages_make() -> None:
    fake = Fake()
    fake.answers.clear()
    found = plan(fake, check_mode=True)
    assert not found["ready"] and len(found["objects"]) == 7
    with pytest.raises(KubeError, match="There is no namespace shop"):
        plan(fake)
    found = plan(fake, state="absent")
    assert found["ready"] and found["objects"] == []


def test_several_prometheuses() -> None:
    fake = Fake()
    items = fake.answers[f"{OPERATOR}/prometheuses"]["items"]
    items.append({"metadata": meta("second", "stack"), "spec": items[0]["spec"]})
    with pytest.raises(KubeError, match=r"There are several Prometheus objects \(stack/main, stack/second\)"):
        plan(fake)
    assert plan(fake, prometheus_name="second")["prometheus"] == "stack/second"


RECEIVERS = [
    {"name": "hook", "type": "webhook", "secret": {"name": "s", "key": "url"}, "severities": ["critical"]},
    {"name": "mail", "type": "email", "to": "a@x", "from": "b@x", "smarthost": "mail:25", "secret": {"name": "s", "key": "p"}},
    {"name": "chat", "type": "slack", "channel": "#ops", "secret": {"name": "s", "key": "url"}},
    {"name": "page", "type": "pagerduty", "secret": {"name": "s", "key": "k"}},
]
TEAM = {"name": "team", "type": "teams", "secret": {"name": "s", "key": "k"}}


def test_receivers_refer_to_secrets() -> None:
    fake = Fake()
    fake.answers["/api/v1/namespaces/shop/secrets/s"] = {"data": {"url": "c2VjcmV0", "p": "c2VjcmV0", "k": "c2VjcmV0"}}
    found = plan(fake, receivers=RECEIVERS)
    (config,) = of_kind(found, "AlertmanagerConfig")
    hook, mail, chat, page = config["spec"]["receivers"]
    assert hook["webhookConfigs"] == [{"sendResolved": True, "urlSecret": {"name": "s", "key": "url"}}]
    assert mail["emailConfigs"][0]["authPassword"] == {"name": "s", "key": "p"}
    assert chat["slackConfigs"][0] == {"sendResolved": True, "apiURL": {"name": "s", "key": "url"}, "channel": "#ops"}
    assert page["pagerdutyConfigs"][0]["routingKey"] == {"name": "s", "key": "k"}
    route = config["spec"]["route"]
    assert {"name": "app", "value": "shop", "matchType": "="} in route["matchers"]
    assert next(child["matchers"][0]["value"] for child in route["routes"]) == "critical"
    # The first that takes an alert keeps it from none of the others.
    assert [(child["receiver"], child["continue"]) for child in route["routes"]] == [(item["name"], True) for item in RECEIVERS]
    assert "c2VjcmV0" not in json.dumps(found)


def test_what_no_receiver_takes_goes_to_none() -> None:
    (config,) = of_kind(plan(Fake(), receivers=[{**RECEIVERS[0], "secret": None, "url": "http://x"}]), "AlertmanagerConfig")
    assert {"name": "severity", "value": "critical", "matchType": "=~"} in config["spec"]["route"]["matchers"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [(404, "needs the Secret s in namespace shop"), ({"data": {}}, "The Secret s of the receiver page has no key k"), (403, "")],
)
def test_secret_is_missing(answer: Any, message: str) -> None:
    fake = Fake()
    if answer != 404:
        fake.answers["/api/v1/namespaces/shop/secrets/s"] = answer
    if message:
        with pytest.raises(KubeError, match=message):
            plan(fake, receivers=RECEIVERS[3:])
    else:
        assert plan(fake, receivers=RECEIVERS[3:])["ready"]


@pytest.mark.parametrize(
    ("answer", "refused"), [({"spec": {"slackConfigs": {}}}, True), ({"spec": {"msteamsv2Configs": {}}}, False), (403, False)]
)
def test_an_operator_that_is_too_old_for_a_type(answer: Any, refused: bool) -> None:
    fake = Fake()
    fake.answers |= {module.DEFINITION: answer, "/api/v1/namespaces/shop/secrets/s": {"data": {"k": ""}}}
    if refused:
        with pytest.raises(KubeError, match=r"team is of type teams.*msteamsv2Configs"):
            plan(fake, receivers=[TEAM])
    else:
        (config,) = of_kind(plan(fake, receivers=[TEAM]), "AlertmanagerConfig")
        assert config["spec"]["receivers"][0]["msteamsv2Configs"] == [{"sendResolved": True, "webhookURL": TEAM["secret"]}]


def test_alertmanager_that_takes_no_configuration() -> None:
    fake = Fake()
    fake.answers[f"{OPERATOR}/alertmanagers"]["items"][0]["spec"]["alertmanagerConfigSelector"] = None
    found = plan(fake)
    assert of_kind(found, "AlertmanagerConfig") == []
    assert found["not_applied"][0].startswith("inhibitions of this application, for alertmanagerConfigSelector of Alertmanager")
    with pytest.raises(KubeError, match="The receivers can't be notified of anything"):
        plan(fake, receivers=[{"name": "x", "type": "webhook", "url": "http://x"}])


def test_running_prometheus_parses_the_rules() -> None:
    class Asked(Fake):
        def fetch(self, path: str, headers: Any = None, seconds: float = 0) -> tuple[int, str]:
            prefix = self.answers[f"{OPERATOR}/prometheuses"]["items"][0]["spec"].get("routePrefix", "")
            if f":9090/proxy{prefix}/api/v1/format_query" not in path:
                return super().fetch(path)
            return (
                (400, '{"status": "error", "error": "1:5: parse error"}')
                if path[-6:] == "sum%28"
                else (200, '{"status": "success"}')
            )

    assert plan(Asked())["rules_checked_by"] == "prometheus"
    prefixed = Asked()
    prefixed.answers[f"{OPERATOR}/prometheuses"]["items"][0]["spec"]["routePrefix"] = "/prometheus"
    assert plan(prefixed)["rules_checked_by"] == "prometheus"
    assert plan(Fake())["rules_checked_by"] == ""
    with pytest.raises(KubeError, match=r"group shop.extra, Bad: 1:5: parse error\): correct it"):
        plan(Asked(), extra_rules=[{"alert": "Bad", "expr": "sum("}])


def test_objects_name_the_prometheus_that_they_are_for() -> None:
    (rule,) = of_kind(plan(Fake()), "PrometheusRule")
    assert "Prometheus/stack/main" in rule["metadata"]["annotations"][objects.PARTS].split()


def test_relabelings_do_what_they_say() -> None:
    """Prometheus' relabeling, in small: which series come out, and how."""

    def relabel(labels: dict[str, str]) -> dict[str, str] | None:
        for step in objects.metric_relabelings("my"):
            value = ";".join(labels.get(label, "") for label in step["sourceLabels"])
            match = re.fullmatch(step["regex"], value)
            if step["action"] == "drop" and match:
                return None
            if step["action"] == "replace" and match:
                labels[step["targetLabel"]] = match.expand(step["replacement"].replace("$", "\\"))
        return {key: value for key, value in labels.items() if value}

    bucket = "http_request_duration_seconds_bucket"
    assert relabel({"__name__": f"my_{bucket}", "method": "GET", "path": "/a"}) == {
        "__name__": f"flask_{bucket}",
        "method": "GET",
        "path": "/a",
        "route": "/a",
    }
    assert relabel({"__name__": "my_http_request_total", "method": "HACK"}) is None
    for created in ("my_http_request_created", "my_http_request_exceptions_created", "my_http_request_duration_seconds_created"):
        assert relabel({"__name__": created, "method": "GET"}) is None
    assert relabel({"__name__": "orders_total", "method": "card"}) == {"__name__": "orders_total", "method": "card"}
    assert relabel({"__name__": "my_http_request_exceptions_total", "method": "GET"}) is not None


def test_defaults_are_those_of_the_role() -> None:
    defaults = yaml.safe_load((ROOT / "roles/app_monitoring/defaults/main.yml").read_text())
    own = {"kubeconfig", "context", "state", "promtool"}
    given = {key.removeprefix("app_monitoring_"): value for key, value in defaults.items()}
    options = {k: o.get("default") for k, o in yaml.safe_load(app_monitoring.DOCUMENTATION)["options"].items() if k not in own}
    assert {k: v for k, v in given.items() if k not in own} == options | {
        "name": "flask-app",
        "namespace": "flask-app",
    }
