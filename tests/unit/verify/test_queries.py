# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every query of verify and the drill: a real Prometheus with two of everything answers it; where it is refused no row is ok."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.verify import queries
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as run_module
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import alert_path, target
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import prometheus as prometheus_link

from tests.harness import ROOT
from tests.prometheus import Prometheus, running

from .test_verify_checks import pod, slices
from .test_verify_links import (
    LOKI,
    LOKI_CONFIG,
    LOKI_QUERY,
    RULER,
    SHIPPER_PAGE,
    SLICES,
    STREAM,
    VICTORIA,
    VICTORIA_BASE,
    VICTORIA_QUERY,
    row,
    rule,
    ruler,
    shipper,
)
from .test_verify_stack import LOADED, OPERATOR, PROMETHEUS, PROMISING, RULE, TEST_OBJECT, TEST_RULE, FakeStack, data, group, run

# The app `web` of namespace shop; one of the same name elsewhere, and one whose name begins with it beside it.
PLACES = (("shop", "web"), ("other", "web"), ("shop", "web-admin"))
PODS = ("6c9f8d7b5-aaaaa", "6c9f8d7b5-bbbbb")


def series() -> Iterator[str]:
    for replica in ("prometheus-0", "prometheus-1"):
        yield f'ALERTS{{alertname="Watchdog",severity="none",alertstate="firing",instance="{replica}"}} 1'
    for namespace, app in PLACES:
        yield f'kube_deployment_spec_replicas{{namespace="{namespace}",deployment="{app}"}} 2'
        for monitor in ("ksm-1", "ksm-2"):
            yield f'kube_service_info{{namespace="{namespace}",service="{app}-mark",instance="{monitor}"}} 1'
        yield f'flaskops_verify_interval_seconds{{namespace="{namespace}",app="{app}"}} 300'
        for prober in ("inside", "public"):
            yield f'probe_success{{namespace="{namespace}",app="{app}",job="{app}-health",instance="{prober}"}} 1'
        for replica in ("prometheus-0", "prometheus-1"):
            yield (
                f'ALERTS{{alertname="VerifyTestAlert",namespace="{namespace}",service="{app}-mark",alertstate="firing",'
                f'instance="{replica}"}} 1'
            )
        for level in ("info", "error"):
            for node in ("node-1", "node-2"):
                yield f'flaskops_log_lines_total{{namespace="{namespace}",app="{app}",level="{level}",node="{node}"}} +3'
        for suffix in PODS:
            for container in ("app", "sidecar"):
                labels = f'namespace="{namespace}",pod="{app}-{suffix}",container="{container}"'
                yield f"container_memory_working_set_bytes{{{labels}}} 5"
            for job in (app, f"{app}-literal"):
                labels = f'namespace="{namespace}",job="{job}",app="{app}",pod="{app}-{suffix}"'
                for status in (200, 404):
                    yield f'flask_http_request_total{{{labels},status="{status}"}} +2'
                    yield f'flask_http_request_duration_seconds_count{{{labels},path="/{status}"}} +2'
    for node in ("node-1", "node-2"):
        yield f'node_time_seconds{{node="{node}"}} 1'
    for namespace in ("logging", "logging-2"):
        for agent in ("fluent-bit-aaaaa", "fluent-bit-bbbbb", "fluent-bit-extra-aaaaa"):
            # A container for each output.
            for port, name in ((2020, "loki"), (2021, "es")):
                labels = f'namespace="{namespace}",pod="{agent}",instance="{agent}:{port}"'
                yield f"up{{{labels}}} 1"
                for counter in ("dropped_records", "retries_failed"):
                    grows = "+9" if agent.endswith("bbbbb") and name == "es" else "0"
                    yield f'fluentbit_output_{counter}_total{{{labels},name="{name}"}} {grows}'
                stuck = agent.endswith("aaaaa") and name == "es"
                yield f'fluentbit_output_retries_total{{{labels},name="{name}"}} {"+2" if stuck else "0"}'
                yield f'fluentbit_output_proc_records_total{{{labels},name="{name}"}} {"0" if stuck else "+7"}'
        for collector in ("log-collector-aaaaa", "log-collector-bbbbb"):
            labels = f'namespace="{namespace}",pod="{collector}"'
            yield f"up{{{labels}}} {int(collector.endswith('bbbbb'))}"
            yield f"log_collector_rejected_records_total{{{labels}}} +1"
            yield f"log_collector_unread_bytes{{{labels}}} 99"
            yield f"log_collector_records_total{{{labels}}} {'+1' if collector.endswith('bbbbb') else '0'}"
        for reason in ("too_small_timestamp", "too_many_fields"):
            for store in ("vl-0", "vl-1"):
                yield f'vl_rows_dropped_total{{namespace="{namespace}",pod="{store}",reason="{reason}"}} +4'
        for alertmanager in ("am-1", "am-2"):
            # Two pods send the same; slack refuses everything, mail took something.
            for kind, failed, total in (("slack", 5, 5), ("email", 0, 5), ("webhook", 0, 0)):
                labels = f'namespace="{namespace}",pod="{alertmanager}",integration="{kind}",receiver_name="{kind}-1"'
                yield f"alertmanager_notification_requests_total{{{labels}}} +{total}"
                yield f"alertmanager_notification_requests_failed_total{{{labels}}} +{failed}"
                yield f'alertmanager_notifications_failed_total{{{labels},reason="clientError"}} +{failed}'
            for name, failed in (("team", 9), ("dead-mans-switch", 1)):
                labels = f'namespace="{namespace}",pod="{alertmanager}",integration="webhook",receiver_name="{name}"'
                yield f"alertmanager_notification_requests_total{{{labels}}} +9"
                yield f"alertmanager_notification_requests_failed_total{{{labels}}} +{failed}"
            # Of the last one no Alertmanager was known, as before that has come up.
            notifiers = ([("", 2)], [("", 0)], [("", 1)], [("a", 2), ("b", 0)], [("", 2)])
            for number, (dropped, sent) in enumerate(zip(notifiers, (2, 2, 2, 2, 0), strict=True)):
                labels = f'namespace="{namespace}",pod="prometheus-stack-{number}",instance="{alertmanager}"'
                yield f"prometheus_notifications_alertmanagers_discovered{{{labels}}} {int(sent > 0)}"
                for name, lost in dropped:
                    more = f',alertmanager="{name}"' if name else ""
                    yield f"prometheus_notifications_dropped_total{{{labels}{more}}} +{lost}"
                yield f'prometheus_notifications_sent_total{{{labels},alertmanager="a"}} +{sent}'
            for url, errors in (("http://am-0", 5), ("http://am-1", 0)):
                labels = f'namespace="{namespace}",pod="loki-{alertmanager}",alertmanager="{url}"'
                yield f"loki_prometheus_notifications_sent_total{{{labels}}} +5"
                yield f"loki_prometheus_notifications_errors_total{{{labels}}} +{errors}"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    families: dict[str, list[str]] = {}
    for text in series():  # each family in one piece
        families.setdefault(text.split("{")[0], []).append(text)
    with running(tmp_path_factory.mktemp("prometheus"), [text for found in families.values() for text in found]) as found:
        yield found


APP = {"namespace": "shop", "name": "web", "pods": "|".join(f"web-{pod}" for pod in PODS)}
AGENT = {"namespace": "logging", "name": "fluent-bit"}
COLLECTOR = {"namespace": "logging", "name": "log-collector"}
SWITCH = {"namespace": "logging", "receiver": "dead-mans-switch", "window": "120s"}
OWN = [f"web-{pod}" for pod in PODS]
RECEIVERS = [(f"{kind}-1", kind) for kind in ("slack", "email", "webhook")]
WEBHOOKS = [("team", "webhook"), ("dead-mans-switch", "webhook")]
SELECTED = '{__name__="flask_http_request_total",job="web"}'
# Query, what is filled in, and by which labels the answer has which series.
ANSWERS: list[tuple[str, dict[str, str], tuple[str, ...], set[tuple[str, ...]]]] = [
    ("clocks_of_nodes", {}, ("node",), {("node-1",), ("node-2",)}),
    ("replicas", APP, ("namespace", "deployment"), {("shop", "web")}),
    ("memory", APP, ("pod",), {(pod,) for pod in OWN}),
    ("probe", APP, ("namespace", "app", "instance"), {("shop", "web", "inside"), ("shop", "web", "public")}),
    ("stored", APP, ("pod", "__name__"), {(pod, name) for pod in OWN for name in target.STORED}),
    ("schedule", APP, ("namespace", "app"), {("shop", "web")}),
    ("test_alert", {"alert": "VerifyTestAlert", "service": "web-admin-mark"}, ("service",), {("web-admin-mark",)}),
    ("test_service", {"service": "web-admin-mark"}, ("service",), {("web-admin-mark",)}),
    ("receivers", AGENT, ("receiver_name", "integration"), {*RECEIVERS, *WEBHOOKS}),
    ("receivers_refused", AGENT, ("receiver_name", "integration"), {("slack-1", "slack"), *WEBHOOKS}),
    ("receivers_gave_up", AGENT, ("receiver_name", "integration"), {("slack-1", "slack")}),
    ("receivers_took", AGENT, ("receiver_name", "integration"), {("email-1", "email"), WEBHOOKS[1]}),
    ("alert_fires", {"alert": "Watchdog"}, ("instance",), {("prometheus-0",), ("prometheus-1",)}),
    ("switch_asked", SWITCH, (), {()}),
    ("switch_refused", SWITCH, (), {()}),
    ("switch_asked", {**SWITCH, "receiver": "nobody"}, (), set()),
    ("undelivered", {"namespace": "logging", "pods": "prometheus-stack-[0-9]+"}, ("pod",), {("prometheus-stack-0",)}),
    ("ruler_sent", AGENT, (), {()}),
    ("ruler_refused", AGENT, ("alertmanager",), {("http://am-0",)}),
    (
        "agents_scraped",
        AGENT,
        ("pod", "instance"),
        {(f"fluent-bit-{pod}", f"fluent-bit-{pod}:{port}") for pod in ("aaaaa", "bbbbb") for port in (2020, 2021)},
    ),
    ("agents_scraped", COLLECTOR, ("pod",), {("log-collector-bbbbb",)}),
    ("given_up", AGENT, (), {()}),
    ("given_up", {**AGENT, "name": "fluent-bit-extra"}, (), set()),
    ("given_up", COLLECTOR, (), {()}),
    (
        "idle",
        AGENT,
        ("pod", "name"),
        {("fluent-bit-aaaaa", "es"), ("fluent-bit-extra-aaaaa", "es"), ("log-collector-aaaaa", "")},
    ),
    ("dropped", {**AGENT, "counter": "vl_rows_dropped_total"}, ("reason",), {("too_small_timestamp",), ("too_many_fields",)}),
    ("lines", APP, ("level",), {("info",), ("error",)}),
    ("numbered", {"question": SELECTED, "number": "7"}, ("__number", "status"), {("7", "200"), ("7", "404")}),
    ("there", {"expr": SELECTED}, (), {()}),
    ("there", {"expr": "nobody"}, (), set()),
    ("lately", {"expr": SELECTED}, (), {()}),
    ("lately", {"expr": "nobody"}, (), set()),
    ("values", {"expr": SELECTED, "label": "status"}, ("status",), {("200",), ("404",)}),
    ("values", {"expr": SELECTED, "label": "colour"}, ("colour",), {("",)}),
    ("labels", {"expr": 'kube_service_info{service="web-admin-mark", instance="ksm-1"}'}, ("service",), {("web-admin-mark",)}),
    ("constant", {}, (), {()}),
    ("scraped", {}, ("namespace",), {("logging",), ("logging-2",)}),
]


def asked(prometheus: Prometheus, name: str, given: dict[str, str]) -> list[Any]:
    # What is not answered with 200 is an error of urllib.
    found: list[Any] = prometheus.get("/api/v1/query", query=queries.filled(name, **given))["result"]
    return found


@pytest.mark.parametrize(("name", "given", "labels", "wanted"), ANSWERS)
def test_each_query_is_answered_for_the_right_app_alone(
    prometheus: Prometheus, name: str, given: dict[str, str], labels: tuple[str, ...], wanted: set[tuple[str, ...]]
) -> None:
    found = asked(prometheus, name, given)
    assert {tuple(each["metric"].get(label, "") for label in labels) for each in found} == wanted


def test_the_time_and_the_numbers(prometheus: Prometheus) -> None:
    assert len(asked(prometheus, "now", {})) == 2
    # Two counters of one pod, of which Prometheus would refuse a rate in one go.
    assert float(asked(prometheus, "given_up", AGENT)[0]["value"][1]) == pytest.approx(2 * 36, rel=0.3)
    assert float(asked(prometheus, "given_up", COLLECTOR)[0]["value"][1]) == pytest.approx(2 * 4, rel=0.3)
    assert float(asked(prometheus, "schedule", APP)[0]["value"][1]) == 300
    assert float(asked(prometheus, "switch_asked", SWITCH)[0]["value"][1]) == pytest.approx(2 * 36, rel=0.3)
    assert float(asked(prometheus, "switch_refused", SWITCH)[0]["value"][1]) == pytest.approx(2 * 4, rel=0.3)


def test_no_query_is_forgotten() -> None:
    """Those of the file are all that verify and the drill ask."""
    known = set(queries.QUERIES)
    assert known == {name for name, *_rest in ANSWERS} | {"now"}
    folder = ROOT / "plugins/module_utils"
    asking = [
        f"{path.name}: {line.strip()}"
        for path in (*folder.glob("verify/**/*.py"), *folder.glob("drill/**/*.py"))
        for line in path.read_text().splitlines()
        if re.search(r"api/v1/query\b", line)
    ]
    assert len(asking) == 2, asking  # of stack and of bounds
    for name in sorted(known):
        assert f'"{name}"' in "".join(path.read_text() for path in folder.glob("*/**/*.py")), name


def test_what_prometheus_tells_of_itself(prometheus: Prometheus) -> None:
    """The fields that the links read."""
    assert prometheus.get("/api/v1/status/runtimeinfo")["reloadConfigSuccess"] is True
    assert re.match(r"\d{4}-", prometheus.get("/api/v1/status/runtimeinfo")["lastConfigTime"])
    assert "global:" in prometheus.get("/api/v1/status/config")["yaml"]


# The row that asks each query, and whether an empty answer is one: there are series only where something is wrong.
ROWS = {
    "now": ("clocks", False),
    "clocks_of_nodes": ("clocks", True),
    "replicas": ("exporters", False),
    "memory": ("exporters", False),
    "probe": ("health probe", False),
    "stored": ("target", False),
    "test_alert": ("alert path", False),
    "receivers": ("receivers", False),
    "receivers_refused": ("receivers", True),
    "receivers_gave_up": ("receivers", True),
    "receivers_took": ("receivers", False),
    "alert_fires": ("dead man's switch", False),
    "switch_asked": ("dead man's switch", False),
    "switch_refused": ("dead man's switch", True),
    "undelivered": ("alertmanager", True),
    "ruler_sent": ("ruler", True),
    "ruler_refused": ("ruler", True),
    "agents_scraped": ("log agent", False),
    "given_up": ("log agent", True),
    "idle": ("log agent", True),
    "dropped": ("victoria_logs", True),
    "lines": ("log alerts", False),
    "numbered": ("dead rules", False),
}
LOG_RULE = {"name": "LogErrors", "type": "alerting", "lastError": "", "query": "up", "labels": {}}
LOG_OBJECT = {
    "metadata": {"name": "lines", "namespace": "flask-app"},
    "spec": {"groups": [{"name": "lines", "rules": [{"alert": "LogErrors", "expr": "up"}]}]},
}


class Whole(FakeStack):
    """Everything that verify can follow, with a query that Prometheus does not answer as it should.

    :param answer: an error, a status with a text, or series.
    """

    def __init__(self, name: str, answer: Any) -> None:
        groups = [group([LOADED]), group([TEST_RULE], "test", "test"), group([LOG_RULE], "lines", "lines")]
        agent = shipper()
        agent["metadata"]["annotations"] = {"flaskops/outputs": "[]"}
        maps = [{"metadata": {"name": "rules", "annotations": {"flaskops/alerts": "Mine"}}}]
        answers = {
            "/apis/apps/v1/daemonsets": (200, {"items": [agent]}),
            "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
            f"{OPERATOR}/namespaces/logging/servicemonitors": (200, {"items": [{}]}),
            SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
            f"{OPERATOR}/namespaces/flask-app/prometheusrules": (200, {"items": [RULE, TEST_OBJECT, LOG_OBJECT]}),
            f"{PROMETHEUS}/rules": data(groups=groups),
            LOKI_QUERY: (200, {"data": {"result": [{"stream": STREAM, "values": [["1", "x"]]}]}}),
            VICTORIA_QUERY: (200, row(**STREAM)),
            f"{VICTORIA_BASE}/metrics": (200, ""),
            RULER: ruler(rule("Mine")),
            LOKI_CONFIG: (200, "ruler:\n  alertmanager_url: http://am.monitoring.svc:9093\n"),
            "/api/v1/namespaces/logs/configmaps": (200, {"items": maps}),
            SLICES.format("monitoring"): (200, {"items": slices("am-0")}),
            f"{OPERATOR}/prometheuses": (200, {"items": [PROMISING]}),
        }
        super().__init__(**answers)
        self.stores = {**LOKI, **VICTORIA}
        self.empty = ("(sum(increase", "(sum by (pod, name)")
        self.given, self.answer = queries.QUERIES.get(name, "no query").split("$")[0], answer

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        (expr,) = parse_qs(urlsplit(path).query).get("query", [""])
        if "/api/v1/query" in path and expr.startswith(self.given):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer
        return super().fetch(path, headers, seconds)

    def series(self, expr: str) -> Any:
        if "vl_rows_dropped_total" in expr or "loki_prometheus_notifications_errors" in expr:
            return [{"metric": {"reason": "x"}, "value": [0, "0"]}] if "vl_rows" in expr else []
        return super().series(expr)


NOTHING = (200, json.dumps({"data": {"result": []}}))
REFUSED = [
    (422, json.dumps({"message": "vector cannot contain metrics with the same labelset"})),
    (400, json.dumps({"message": "parse error"})),
    (503, json.dumps({"message": "no endpoints available"})),
    ApiError(0, "no answer: timed out"),
    (200, "<html>"),
    (200, json.dumps({"data": {}})),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SETTLE", 0)
    monkeypatch.setattr(alert_path, "PAUSE", 0.01)


def test_where_all_is_answered_all_rows_are_ok(impatient: None) -> None:
    results = run(Whole("none", NOTHING))
    assert {name: results[name]["status"] for name, _empty in ROWS.values()} == {name: "ok" for name, _empty in ROWS.values()}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("answer", REFUSED, ids=["422", "400", "503", "no answer", "no JSON", "no result"])
def test_a_query_without_an_answer_is_never_well(impatient: None, name: str, answer: Any) -> None:
    found = run(Whole(name, answer))[ROWS[name][0]]
    assert found["status"] != "ok", found
    assert found["cause"] or found["evidence"]


@pytest.mark.parametrize("name", [name for name, (_row, empty) in ROWS.items() if not empty])
def test_an_empty_answer_is_never_well_where_series_were_promised(impatient: None, name: str) -> None:
    assert run(Whole(name, NOTHING))[ROWS[name][0]]["status"] != "ok"


@pytest.mark.parametrize(
    ("log_check", "lines", "status"), [(False, [], "skipped"), (False, ["a line"], "failed"), (True, [], "failed")]
)
def test_an_app_that_logs_nothing_has_no_counter(impatient: None, log_check: bool, lines: list[str], status: str) -> None:
    cluster = Whole("lines", NOTHING)
    cluster.logs_ids, cluster.logs = False, {"pod-1": [], "pod-2": lines}
    assert run(cluster, log_check=log_check)["log alerts"]["status"] == status


def test_prometheus_tells_how_old_its_newest_sample_is(tmp_path: Path) -> None:
    """The link reads it of its own page."""
    with running(tmp_path, ["probe 1"]) as found, urlopen(f"{found.url}/metrics") as page:
        text = page.read().decode()
    now = time.time()
    assert prometheus_link.behind(text, now) == [] and len(prometheus_link.behind(text, now + 400)) == 1
