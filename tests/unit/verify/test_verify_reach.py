# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API server or this machine has no way to is told apart from what does not answer."""

from __future__ import annotations

import errno
import json
import socket
import urllib.error
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.verify import chain, facts, queries
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running

from .test_verify_checks import pod
from .test_verify_links import NS, SERVICE, SHIPPER_PAGE, FakeCluster, shipper
from .test_verify_stack import OPERATOR, PROMETHEUS, SERVER, FakeStack, data

TIMEOUT = {"kind": "Status", "message": "error trying to reach service: dial tcp 10.1.2.3:9200: i/o timeout"}
REFUSED = {"kind": "Status", "message": "error trying to reach service: dial tcp 10.1.2.3:9200: connect: connection refused"}
METRICS = ["metric requests", "metric duration", "metric exceptions"]


def shut(said: dict[str, str]) -> dict[str, tuple[int, Any]]:
    """The metrics page of each pod, to which the API server has no way."""
    return {f"{NS}/pods/{pod}:9200/proxy/metrics": (503, said) for pod in ("pod-1", "pod-2")}


class Scraped(FakeStack):
    """A Prometheus that is let in where the API server is not."""

    exported: tuple[str, ...] = ("pod-1", "pod-2")

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        if urlsplit(path).path == f"{PROMETHEUS}/query":
            (expr,) = parse_qs(urlsplit(path).query)["query"]
            if expr == queries.filled("stored", namespace="flask-app", name="flask-app"):
                names = ("total", "duration_seconds_count", "duration_seconds_sum")
                metrics = [{"pod": pod, "__name__": f"flask_http_request_{name}"} for pod in self.exported for name in names]
                status, found = data(result=[{"metric": metric, "value": [0, "7"]} for metric in metrics])
                return status, json.dumps(found)
        return super().fetch(path, headers, seconds)


def rows(cluster: Any, plain_get: Any = None, **options: Any) -> dict[str, dict[str, Any]]:
    results, _url = chain.verify(cluster, running.Target(timeout=3, **options), plain_get)
    return {result["link"]: result for result in results}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS_SECONDS", "SETTLE"):
        monkeypatch.setattr(running, name, 0)


def test_metrics_that_the_api_server_may_not_reach_are_read_from_prometheus() -> None:
    found = rows(Scraped(**shut(TIMEOUT)))
    assert [found[name]["status"] for name in METRICS] == ["ok", "ok", "skipped"]
    assert "is 14 over 2 pods; pod-1, pod-2 by Prometheus" in found["metric requests"]["evidence"]
    assert "port 9200" in found["metric requests"]["evidence"] and "i/o timeout" in found["metric requests"]["evidence"]
    assert "flask_http_request_total" not in found["metric requests"]["cause"]


def test_a_pod_of_which_prometheus_knows_nothing_either_is_broken() -> None:
    cluster = Scraped(**shut(TIMEOUT))
    cluster.exported = ("pod-1",)
    found = rows(cluster)
    assert found["metric requests"]["status"] == "failed"
    assert "pod-2: " in found["metric requests"]["cause"] and "pod-1: " not in found["metric requests"]["cause"]


@pytest.mark.parametrize(("said", "status"), [(TIMEOUT, "skipped"), (REFUSED, "failed")])
def test_without_a_prometheus_only_a_refusal_says_that_nobody_listens(said: dict[str, str], status: str) -> None:
    found = rows(FakeCluster(**shut(said)))
    assert [found[name]["status"] for name in METRICS] == [status] * 3
    assert said["message"] in found["metric requests"]["evidence"] + found["metric requests"]["cause"]


def test_a_page_whose_packets_vanish_is_one_that_the_api_server_may_not_reach() -> None:
    """It dials for half a minute then, so that this end gives up first."""
    vanishing = {path: ApiError(0, "no answer from https://api: Read timed out") for path in shut(TIMEOUT)}
    assert [rows(Scraped(**vanishing))[name]["status"] for name in METRICS] == ["ok", "ok", "skipped"]
    found = rows(FakeCluster(**vanishing))
    assert [found[name]["status"] for name in METRICS] == ["skipped"] * 3 and "NetworkPolicy" in found[METRICS[0]]["evidence"]


class Apart(FakeStack):
    """Prometheus is told to send to an Alertmanager in the namespace alerting; its own has none."""

    def __init__(self, **changes: Any) -> None:
        told = {"alertmanagers": [{"namespace": "alerting", "name": "alertmanager-operated", "port": "web"}]}
        told_server = {**SERVER, "spec": {"replicas": 1, "alerting": told}}
        away = {**SERVER, "metadata": {"namespace": "alerting", "name": "shared"}}
        answers = {f"{OPERATOR}/prometheuses": (200, {"items": [told_server]}), **changes}
        super().__init__(**answers)
        self.answers.setdefault(f"{OPERATOR}/namespaces/alerting/alertmanagers", (200, {"items": [away]}))
        self.answers.setdefault("/api/v1/namespaces/alerting/pods", (200, {"items": [pod("alertmanager-shared-0")]}))
        self.answers[f"{OPERATOR}/namespaces/monitoring/alertmanagers"] = (200, {"items": []})
        self.asked_for: list[str] = []

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        self.asked_for.append(path)
        if "services/alertmanager-operated" in path:
            assert path.startswith("/api/v1/namespaces/alerting/")
            path = path.replace("/alerting/", "/monitoring/")
        return super().fetch(path, headers, seconds)


ALERTING = ("alertmanager", "alert routes", "alert path", "receivers")


def test_an_alertmanager_in_another_namespace_is_followed() -> None:
    cluster = Apart()
    found = rows(cluster)
    assert {name: found[name]["status"] for name in ALERTING} == dict.fromkeys(ALERTING, "ok")
    assert [path for path in cluster.asked_for if "alertmanager_notification" in path and "monitoring%22" in path] == []


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/api/v1/namespaces/alerting/pods", (200, {"items": []}), "Alertmanager shared does not run"),
        (f"{OPERATOR}/namespaces/alerting/alertmanagers", (200, {"items": []}), "alerting/alertmanager-operated"),
    ],
)
def test_a_broken_alertmanager_in_another_namespace_is_blamed(path: str, answer: Any, words: str) -> None:
    answers = {path: answer, f"{PROMETHEUS}/alertmanagers": data(activeAlertmanagers=[])}
    found = rows(Apart(**answers))["alertmanager"]
    assert found["status"] == "failed" and words in found["cause"] and "-n alerting" in found["next_command"]


def policy(*ingress: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A NetworkPolicy of the pods of Prometheus and Alertmanager."""
    wanted = {"podSelector": {"matchLabels": {"app": "stack"}}, "policyTypes": ["Ingress"], **spec}
    return {"metadata": {"name": "stack-inside"}, "spec": {**wanted, "ingress": list(ingress)}}


INSIDE = {"from": [{"podSelector": {"matchLabels": {"app": "grafana"}}}, {"namespaceSelector": {}}], "ports": [{"port": "web"}]}


class Closed(FakeStack):
    """The API server gets no answer from these Services, whose pods are ready."""

    def __init__(self, shut: tuple[str, ...], said: Any, spec: Any = None, ready: str = "True", **changes: Any) -> None:
        item = {**SERVER, "spec": {"replicas": 1, **(spec or {})}}
        own = pod("prometheus-0", ready)
        own["metadata"]["labels"] = {"app": "stack"}
        own["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": port} for port in (9090, 9093)]
        answers = {
            f"{OPERATOR}/prometheuses": (200, {"items": [item]}),
            f"{OPERATOR}/namespaces/monitoring/prometheuses/stack": (200, item),
            f"{OPERATOR}/namespaces/monitoring/alertmanagers": (200, {"items": [item]}),
            "/api/v1/namespaces/monitoring/pods": (200, {"items": [own]}),
            **changes,
        }
        super().__init__(**answers)
        self.shut, self.said = shut, said

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        if not any(f"{name}-operated:" in path for name in self.shut):
            return super().fetch(path, headers, seconds)
        if isinstance(self.said, ApiError):
            raise self.said
        return 503, self.said if isinstance(self.said, str) else json.dumps(self.said)


POLICIES = "/apis/networking.k8s.io/v1/namespaces/monitoring/networkpolicies"
LISTENS = {"kind": "Status", "message": "no endpoints available for service"}
LOCAL, STRICT = {"listenLocal": True}, {"web": {"tlsConfig": {"clientAuthType": "RequireAndVerifyClientCert"}}}
NO_CERTIFICATE = {"kind": "Status", "message": "error trying to reach service: remote error: tls: certificate required"}
TO_ALL, TO_ADDRESSES = {"ports": [{"port": 9000, "endPort": 9100}]}, {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
PROMETHEUS_ROWS = ("prometheus", "exporters", "target", "health probe", "rules", "dashboards", "dead rules", "alertmanager")


@pytest.mark.parametrize(
    ("said", "spec", "policies", "status", "words"),
    [
        (TIMEOUT, {}, [policy(INSIDE)], "skipped", "stack-inside"),
        (ApiError(0, "no answer from https://api: Read timed out"), {}, [policy()], "skipped", "stack-inside"),
        (LISTENS, LOCAL, [], "skipped", "listenLocal"),
        (NO_CERTIFICATE, STRICT, [], "skipped", "clientAuthType"),
        # Nothing of the objects says why.
        (TIMEOUT, {}, [], "failed", "i/o timeout"),
        (TIMEOUT, STRICT, [], "failed", "i/o timeout"),
        (TIMEOUT, {}, [policy(INSIDE, podSelector={"matchLabels": {"app": "other"}})], "failed", "i/o timeout"),
        (TIMEOUT, {}, [policy(INSIDE, policyTypes=["Egress"])], "failed", "i/o timeout"),
        (TIMEOUT, {}, [policy(INSIDE), policy(TO_ALL)], "failed", "i/o timeout"),
        (TIMEOUT, {}, [policy(INSIDE, TO_ADDRESSES)], "failed", "i/o timeout"),
        # Whoever refuses a connection is no policy, and a Service without pods is broken.
        (REFUSED, {}, [policy(INSIDE)], "failed", "connection refused"),
        (LISTENS, {}, [policy(INSIDE)], "failed", "no endpoints"),
        ("Service Unavailable", {}, [policy(INSIDE)], "failed", "Service Unavailable"),
    ],
)
def test_a_prometheus_to_which_the_api_server_has_no_way(
    said: Any, spec: dict[str, Any], policies: list[Any], status: str, words: str
) -> None:
    found = rows(Closed(("prometheus",), said, spec, **{POLICIES: (200, {"items": policies})}))
    assert {name: found[name]["status"] for name in PROMETHEUS_ROWS} == dict.fromkeys(PROMETHEUS_ROWS, status)
    assert words in found["prometheus"]["evidence"] + found["prometheus"]["cause"]
    assert status != "skipped" or "1 of 1 pods of Prometheus stack ready" in found["prometheus"]["evidence"]


def test_pods_that_are_not_ready_are_blamed_behind_a_policy_too() -> None:
    for spec in ({}, LOCAL):
        cluster = Closed(("prometheus", "alertmanager"), TIMEOUT, spec, "False", **{POLICIES: (200, {"items": [policy(INSIDE)]})})
        found = rows(cluster)
        assert found["prometheus"]["status"] == "failed" and "does not run as it should" in found["prometheus"]["cause"]
        assert (found["target"]["status"], found["target"]["follows"]) == ("failed", "prometheus")


@pytest.mark.parametrize(("policies", "status"), [([policy(INSIDE)], "skipped"), ([], "failed")])
def test_an_alertmanager_to_which_the_api_server_has_no_way(policies: list[Any], status: str) -> None:
    found = rows(Closed(("alertmanager",), TIMEOUT, **{POLICIES: (200, {"items": policies})}))
    names = ("alertmanager", "alert routes", "alert path")
    assert {name: found[name]["status"] for name in names} == dict.fromkeys(names, status)
    assert {found[name]["status"] for name in ("prometheus", "rules", "receivers")} == {"ok"}


def test_what_has_answered_is_not_shut() -> None:
    """A query that takes too long is a fault, whatever policy a network does not enforce."""
    cluster = Closed((), "", **{POLICIES: (200, {"items": [policy(INSIDE)]})})
    run = running.Run(cluster, running.Target(timeout=3))
    run.prepare()
    run.stack.find()
    cluster.answers[f"{PROMETHEUS}/targets"] = VANISHING
    run.get(f"{PROMETHEUS}/status/runtimeinfo")
    with pytest.raises(ApiError, match="timed out") as raised:
        run.get(f"{PROMETHEUS}/targets")
    assert raised.value.status == 0


VANISHING = ApiError(0, "no answer from https://api: Read timed out")


@pytest.mark.parametrize(
    ("page", "watched", "status", "words"),
    [
        ((503, TIMEOUT), True, "ok", "by Prometheus alone, because the API server can't reach the metrics of fluent-bit-x"),
        (VANISHING, True, "ok", "Read timed out"),
        ((503, TIMEOUT), False, "skipped", "i/o timeout"),
        ((503, REFUSED), True, "failed", "connection refused"),
        ((403, {"kind": "Status", "message": "pods/proxy is forbidden"}), True, "failed", "pods/proxy is forbidden"),
    ],
)
def test_the_metrics_of_a_log_agent(page: Any, watched: bool, status: str, words: str) -> None:
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [shipper()]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        f"{OPERATOR}/namespaces/logging/servicemonitors": (200, {"items": [{}] if watched else []}),
        SHIPPER_PAGE: page,
    }
    cluster = FakeStack(**answers)
    cluster.empty = ("(sum(increase", "(sum by (pod, name)")
    found = rows(cluster)["log agent"]
    assert found["status"] == status and words in found["evidence"] + found["cause"]


def test_another_log_agent_is_looked_at_all_the_same() -> None:
    agents = [shipper(), shipper("second", desiredNumberScheduled=2, numberReady=1)]
    for agent in agents:
        agent["metadata"]["annotations"] = {"flaskops/outputs": '[{"type": "http"}]'}
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": agents}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        SHIPPER_PAGE: (503, TIMEOUT),
    }
    found = rows(FakeCluster(**answers))["log agent"]
    assert found["status"] == "failed" and "second is not ready everywhere" in found["cause"]


PRIVATE, PUBLIC, NAMED = "10.9.8.7", "198.41.0.4", "internal-a1.elb.example.invalid"


@pytest.mark.parametrize(
    ("host", "error", "status"),
    [
        (NAMED, socket.gaierror(-2, "Name or service not known"), "ok"),
        (PRIVATE, TimeoutError("timed out"), "ok"),
        (PRIVATE, OSError(errno.EHOSTUNREACH, "No route to host"), "ok"),
        (PUBLIC, OSError(errno.ENETUNREACH, "Network is unreachable"), "ok"),
        # Nobody gets an answer there.
        (PUBLIC, TimeoutError("timed out"), "failed"),
        (PRIVATE, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "failed"),
        (PUBLIC, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "failed"),
    ],
)
def test_a_load_balancer_to_which_this_machine_has_no_way(host: str, error: OSError, status: str) -> None:
    key = "hostname" if host == NAMED else "ip"
    service = {"spec": SERVICE["spec"], "status": {"loadBalancer": {"ingress": [{key: host}]}}}

    def plain_get(url: str, _headers: Any, _seconds: float) -> tuple[int, str]:
        assert url.startswith(f"http://{host}/")
        raise ApiError(0, f"no answer from {url}: {error}") from error

    found = rows(FakeCluster(**{f"{NS}/services/flask-app": (200, service)}), plain_get)
    assert (found["health"]["status"], found["logs"]["status"]) == (status, status)
    if status == "ok":
        assert "can't reach the load balancer" in found["health"]["evidence"]
        assert str(error) in found["health"]["evidence"] and "service proxy" in found["health"]["evidence"]
    else:
        assert str(error) in found["health"]["cause"]


@pytest.mark.parametrize(
    ("spec", "annotations", "status"),
    [
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, {}, "ok"),
        ({}, {facts.SOURCE_RANGES: "10.0.0.0/8"}, "ok"),
        ({"loadBalancerSourceRanges": ["0.0.0.0/0"]}, {}, "failed"),
        ({}, {}, "failed"),
    ],
)
def test_a_load_balancer_that_answers_some_addresses_only(spec: Any, annotations: dict[str, str], status: str) -> None:
    service = {
        "metadata": {"annotations": annotations},
        "spec": {**SERVICE["spec"], **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": PUBLIC}]}},
    }

    def plain_get(url: str, _headers: Any, _seconds: float) -> tuple[int, str]:
        raise ApiError(0, f"no answer from {url}: timed out") from TimeoutError("timed out")

    assert rows(FakeCluster(**{f"{NS}/services/flask-app": (200, service)}), plain_get)["health"]["status"] == status


@pytest.mark.parametrize("inner", [socket.gaierror(-2, "unknown"), TimeoutError("timed out")])
def test_an_error_is_known_by_what_caused_it(inner: OSError) -> None:
    outer = ApiError(0, "no answer")
    outer.__cause__ = urllib.error.URLError(inner)
    assert facts.out_of_reach(outer, "10.0.0.1")
    assert not facts.out_of_reach(ApiError(0, "no answer"), "10.0.0.1")
