# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole run against a fake API server, and the table."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import itertools
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from ansible_collections.flaskops.observability.plugins.module_utils.kube import autoscalers, transport
from ansible_collections.flaskops.observability.plugins.module_utils.kube import promise as promises
from ansible_collections.flaskops.observability.plugins.module_utils.verify import chain, facts, given_backends, result, table
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import log_store, logs, metrics

from .test_verify_checks import PAGE, deployment, node, pod, slices

NS = "/api/v1/namespaces/flask-app"
DEPLOYMENTS = "/apis/apps/v1/namespaces/flask-app/deployments"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
SERVICE = {"spec": {"ports": [{"port": 80, "targetPort": 5000}]}, "status": {"loadBalancer": {}}}


class FakeCluster:
    """Answers from a dict of paths; an app that logs the request ids it is sent."""

    host = "https://api"

    def __init__(self, stores=None, **changes):
        self.stores = stores or {}
        self.log = ["noise"]
        self.logs = {"pod-1": ["noise"], "pod-2": self.log}
        self.logs_ids = True
        self.answers = {
            f"{NS}/pods": (200, {"items": [pod(), pod("pod-2")]}),
            DEPLOYMENTS: (200, {"items": []}),
            f"{DEPLOYMENTS}/flask-app": (200, deployment()),
            f"{NS}/services/flask-app": (200, SERVICE),
            "/apis/networking.k8s.io/v1/namespaces/flask-app/ingresses": (200, {"items": []}),
            "/api/v1/nodes": (200, {"items": [node()]}),
            "/api/v1/configmaps": (200, {"items": []}),
            "/apis/apps/v1/daemonsets": (200, {"items": []}),
            SLICES.format("flask-app"): (200, {"items": slices("pod-1", "pod-2")}),
            f"{NS}/services/flask-app:80/proxy/health": (200, "ok"),
            f"{NS}/services/flask-app:80/proxy/": (404, "nothing here"),
            **{f"{NS}/pods/{p}:9200/proxy/metrics": (200, PAGE) for p in ("pod-1", "pod-2")},
            **{f"{NS}/pods/{p}:5000/proxy/": (200, "") for p in ("pod-1", "pod-2")},
        }
        self.answers.update(changes)

    def fetch(self, path, headers=None, seconds=10):
        selector = parse_qs(urlsplit(path).query).get("labelSelector", [""])[0]
        path = path.split("?")[0]
        if path == "/api/v1/services":
            return 200, json.dumps({"items": [item for name, item in self.stores.items() if f"name={name}" in selector]})
        if self.logs_ids and "X-Request-ID" in (headers or {}):
            pod = path.removeprefix(f"{NS}/pods/").split(":")[0]
            self.logs.get(pod, self.log).append(json.dumps({"request_id": headers["X-Request-ID"]}))
        answer = self.answers.get(path, (404, {"message": f"{path} not found"}))
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return status, body if isinstance(body, str) else json.dumps(body)

    def lines(self, path, seconds):
        assert "follow=true" in path or "tailLines=1" in path
        yield from self.logs[urlsplit(path).path.split("/")[-2]]


def worker(name, wanted, available):
    counts = {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": available, "observedGeneration": 1}
    labels = {"app": "flask-app", "flaskops/worker": name}
    spec = {"replicas": wanted, "selector": {"matchLabels": {"flaskops/worker": name}}}
    return {"metadata": {"name": f"flask-app-{name}", "labels": labels, "generation": 1}, "spec": spec, "status": counts}


def test_each_worker_has_a_row_and_blames_nothing_else():
    class Workers(FakeCluster):
        def fetch(self, path, headers=None, seconds=10):
            if "pods?" in path and "worker%3Dmail" in path:
                waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
                return 200, json.dumps(
                    {"items": [pod("flask-app-mail-1", ready="False", containerStatuses=[{"state": waiting}])]}
                )
            if "deployments?" in path:
                assert "flaskops%2Fworker%2Capp%3Dflask-app" in path
            return super().fetch(path, headers, seconds)

    workers = [worker("mail", 2, 1), worker("beat", 1, 1), worker("later", 0, 0)]
    results, _url = run(Workers(**{DEPLOYMENTS: (200, {"items": workers})}))
    found = {row: each for row, each in results.items() if row.startswith("worker ")}
    assert {row: each["status"] for row, each in found.items()} == {
        "worker mail": "failed",
        "worker beat": "ok",
        "worker later": "skipped",
    }
    mail = found["worker mail"]
    assert "flask-app-mail-1: CrashLoopBackOff" in mail["cause"] and "flaskops/worker=mail" in mail["next_command"]
    assert [row for row, each in results.items() if each["status"] == "failed"] == ["worker mail"]


NOT_INSTALLED = ["route", "promise", "log agent", "log back end", "log alerts", "metrics stack"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(running, "ADDRESS_SECONDS", 0)


def run(cluster, **options):
    results, url = chain.verify(cluster, running.Target(timeout=2, **options))
    return {r["link"]: r for r in results}, url


def test_a_whole_chain():
    results, url = run(FakeCluster())
    assert list(results) == [
        "node",
        "image",
        "probes",
        "reference probes",
        "rollout",
        "endpoint",
        "health",
        "metric requests",
        "metric duration",
        "metric exceptions",
        "logs",
        *NOT_INSTALLED,
    ]
    assert {r["status"] for name, r in results.items() if name not in NOT_INSTALLED} == {"ok"}
    assert all(r["query"] for r in results.values() if r["status"] == "ok")
    assert results["metrics stack"]["evidence"] == "no Prometheus operator is installed on this cluster"
    assert "log of pod-2" in results["logs"]["evidence"]
    assert url == f"https://api{NS}/services/flask-app:80/proxy"


def test_the_application_alone():
    """Before what watches it is there; the rest is neither asked nor named."""
    results, _ = run(FakeCluster(), app_only=True)
    assert list(results)[-2:] == ["logs", "route"]
    assert {r["status"] for name, r in results.items() if name != "route"} == {"ok"}


def test_a_link_that_breaks_off_keeps_its_rows():
    """An answer that nobody foresaw takes no row of the table away, and makes none that it does not have."""
    whole, _ = run(FakeCluster())
    results, _ = run(FakeCluster(**{f"{NS}/pods/pod-1:9200/proxy/metrics": KeyError("unforeseen")}))
    assert list(results) == list(whole)
    broken = {name: r["cause"] for name, r in results.items() if r["status"] == "failed"}
    assert broken == dict.fromkeys(("metric requests", "metric duration", "metric exceptions"), "KeyError: 'unforeseen'")


def test_each_link_that_breaks_off_has_its_rows_of_the_table(monkeypatch):
    def unforeseen(_run):
        raise KeyError("unforeseen")

    broken = tuple(dataclasses.replace(link, look=unforeseen) for link in chain.CHAIN if link.family != chain.STACK)
    monkeypatch.setattr(chain, "CHAIN", broken)
    results, _ = run(FakeCluster())
    assert list(results) == [row for link in broken for row in link.rows]
    notes = {row for link in broken if link.only_notes for row in link.rows}
    assert {name for name, result in results.items() if result["status"] == "skipped"} == notes
    assert all("unforeseen" in r["cause"] and r["next_command"] for name, r in results.items() if name not in notes)


def test_what_a_run_went_without_is_a_row():
    results, _ = run(FakeCluster(), skipped={"logs": "its module is refused"})
    assert (results["part logs"]["status"], results["part logs"]["evidence"]) == ("skipped", "its module is refused")


@pytest.mark.parametrize(
    ("path", "answer", "broken"),
    [
        ("/api/v1/nodes", (200, {"items": [node(ready="False")]}), {"node"}),
        (f"{NS}/services/flask-app:80/proxy/health", (503, {"message": "no endpoints available"}), {"health"}),
        (f"{NS}/services/flask-app", (404, {"message": "no service"}), {"endpoint", "health", "logs"}),
        (SLICES.format("flask-app"), (200, {"items": []}), {"endpoint"}),
        ("/apis/apps/v1/namespaces/flask-app/deployments/flask-app", (404, {"message": "none"}), {"image", "rollout", "probes"}),
        (f"{NS}/pods/pod-2:9200/proxy/metrics", (503, "refused"), {"metric requests", "metric duration", "metric exceptions"}),
        (
            f"{NS}/pods",
            (200, {"items": []}),
            {"endpoint", "metric requests", "metric duration", "metric exceptions", "logs"},
        ),
    ],
)
def test_one_broken_link(path, answer, broken):
    results, _ = run(FakeCluster(**{path: answer}))
    assert {name for name, r in results.items() if r["status"] == "failed"} == broken
    for name in broken:
        assert results[name]["cause"]
        assert results[name]["next_command"].startswith("kubectl ")
        assert results[name]["query"]


def counted(number, started=""):
    """A page with so many requests, of a process that has been there since then."""
    page = (
        PAGE.replace('status="200"} 3.0', f'status="200"}} {number}')
        if number
        else PAGE.replace("flask_http_request_total{", "x{")
    )
    return page + (f"process_start_time_seconds {started}\n" if started else "")


@pytest.mark.parametrize(
    ("pages", "cause"),
    [
        (
            (counted(9), counted(3), counted(10)),
            "pod-2: flask_http_request_total went back from 10 to 4: one page for each worker",
        ),
        ((counted(3), counted(9), counted(4)), "went back from 10 to 5"),
        # A worker that was asked nothing yet has no such series.
        ((counted(3), counted(0), counted(4)), "went back from 4 to 0"),
        ((counted(3, "1.5"), counted(4, "1.6"), counted(5, "1.5")), "pod-2: two processes answer in turn: one page"),
        ((counted(3, "1.5"), counted(3, "1.5"), counted(5, "1.5")), ""),
        ((counted(0), counted(1), counted(2)), ""),
    ],
)
def test_workers_without_a_common_registry(pages, cause):
    left = [*pages, pages[-1]]
    cluster = FakeCluster()
    ask = cluster.fetch

    def fetch(path, headers=None, seconds=10):
        return (200, left.pop(0)) if path == f"{NS}/pods/pod-2:9200/proxy/metrics" else ask(path, headers, seconds)

    cluster.fetch = fetch
    results, _ = run(cluster)
    blamed = {name: r["cause"] for name, r in results.items() if r["status"] == "failed" and not r["follows"]}
    assert list(blamed) == (["metric requests"] if cause else []) and cause in blamed.get("metric requests", "")
    assert left == []


def test_of_many_pods_some_are_read_again(monkeypatch):
    """Each pod's page is read, and the numbers of some are compared."""
    monkeypatch.setattr(metrics, "AGAIN", 1)
    cluster, read = FakeCluster(), Counter()
    ask = cluster.fetch

    def fetch(path, headers=None, seconds=10):
        read[path] += path.endswith(":9200/proxy/metrics")
        return ask(path, headers, seconds)

    cluster.fetch = fetch
    results, _ = run(cluster)
    assert sorted(filter(None, read.values())) == [1, metrics.READS]
    assert results["metric requests"]["status"] == "ok" and "4 times of 1 of them" in results["metric requests"]["query"]


@pytest.mark.parametrize("prefix", ["web", ""])
def test_an_app_with_another_prefix(prefix):
    page = PAGE.replace("flask_", f"{prefix}_" if prefix else "")
    pages = {f"{NS}/pods/{name}:9200/proxy/metrics": (200, page) for name in ("pod-1", "pod-2")}
    results, _ = run(FakeCluster(**pages), metrics_prefix=prefix)
    assert [name for name, r in results.items() if r["status"] == "failed"] == []
    assert results["metric requests"]["evidence"].startswith(f"{prefix}_http_request_total is".lstrip("_"))
    results, _ = run(FakeCluster(**pages))
    assert "pod-1 serves no flask_http_request_total" in results["metric requests"]["cause"]


STATUS = {"kind": "Status", "message": "no endpoints available"}


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ((500, "the database is gone"), "GET / got 500"),
        ((503, "busy"), "GET / got 503"),
        ((503, STATUS), "GET / got no answer: no endpoints available"),
        (transport.ApiError(0, "timed out"), "GET / got no answer: timed out"),
        *(((status, ""), "") for status in (200, 302, 401, 404, 499)),
    ],
)
def test_an_app_that_calls_itself_well_and_serves_errors(answer, cause):
    results, _ = run(FakeCluster(**{f"{NS}/services/flask-app:80/proxy/": answer}))
    blamed = {name: r["cause"] for name, r in results.items() if r["status"] == "failed" and not r["follows"]}
    assert list(blamed) == (["health"] if cause else []) and cause in blamed.get("health", "")


@pytest.mark.parametrize(
    ("first", "lacked", "asked", "blamed"),
    [(200, 404, "/", []), (500, 404, facts.LACKED, []), (503, 200, facts.LACKED, []), (500, 500, "/", ["health"])],
)
def test_of_an_unknown_app_a_page_is_asked_that_does_not_fail_by_design(first, lacked, asked, blamed):
    said = {"/": (first, ""), facts.LACKED: (lacked, "")}
    whose = ("services/flask-app:80", "pods/pod-1:5000", "pods/pod-2:5000")
    answers = {f"{NS}/{who}/proxy{path}": answer for who in whose for path, answer in said.items()}
    results, _ = run(FakeCluster(**answers), path="")
    assert [name for name, r in results.items() if r["status"] == "failed"] == blamed
    if blamed:
        assert f"GET {asked} got {first}" in results["health"]["cause"]
    else:
        assert (f"GET {asked} was asked instead" in results["health"]["evidence"]) is (asked != "/")


def test_a_path_of_the_app_s_own_is_asked_for():
    """Its first page fails by design."""
    fails = {f"{NS}/{who}/proxy/": (500, "no") for who in ("services/flask-app:80", "pods/pod-1:5000", "pods/pod-2:5000")}
    cluster, asked = FakeCluster(**fails, **{f"{NS}/services/flask-app:80/proxy/cart": (200, "")}), []
    ask = cluster.fetch

    def fetch(path, headers=None, seconds=10):
        asked.append(path)
        return ask(path, headers, seconds)

    cluster.fetch = fetch
    results, _ = run(cluster, path="/cart?token=CANARY x")
    assert [name for name, r in results.items() if r["status"] == "failed"] == []
    assert f"{NS}/services/flask-app:80/proxy/cart?token=CANARY%20x" in asked
    assert {f"{NS}/pods/pod-{n}:5000/proxy/cart?token=CANARY%20x" for n in (1, 2)} <= set(asked)
    assert not [path for path in asked if path.endswith("/proxy/")] and "CANARY" not in json.dumps(results)


AUTOSCALERS = "/apis/autoscaling/v2/namespaces/flask-app/horizontalpodautoscalers"
SCALED_OBJECTS = "/apis/keda.sh/v1alpha1/namespaces/flask-app/scaledobjects"


def scaler(called, minReplicas=0, **target):
    spec = {"minReplicas": minReplicas, "scaleTargetRef": {"name": "flask-app", **target}}
    return (200, {"items": [{"metadata": {"name": called}, "spec": spec}]})


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({AUTOSCALERS: scaler("h", kind="Deployment")}, "HorizontalPodAutoscaler h"),
        ({AUTOSCALERS: scaler("h", kind="StatefulSet")}, ""),
        ({AUTOSCALERS: scaler("h", kind="Deployment", name="other")}, ""),
        ({AUTOSCALERS: scaler("h", kind="Deployment"), SCALED_OBJECTS: scaler("s")}, "ScaledObject s"),
        ({AUTOSCALERS: scaler("h", kind="Deployment"), SCALED_OBJECTS: (403, {})}, "HorizontalPodAutoscaler h"),
        ({AUTOSCALERS: (200, {"items": []}), SCALED_OBJECTS: (403, {})}, ""),
        ({AUTOSCALERS: (403, {})}, None),
    ],
)
def test_autoscaler_of_an_app(answers, found):
    assert autoscalers.find(lambda path: answers.get(path, (404, {})), "flask-app", "flask-app") == found


def owned(manager, operation="Apply"):
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}}}}


@pytest.mark.parametrize(
    ("answer", "owner", "why"),
    [
        (scaler("idle", kind="Deployment"), owned("kube-controller-manager", "Update"), "HorizontalPodAutoscaler idle"),
        (scaler("idle", kind="StatefulSet"), owned("flaskops"), "as it was applied"),
        ((403, {"message": "forbidden"}), owned("flaskops"), "as it was applied"),
        (scaler("idle", kind="StatefulSet"), owned("kubectl", "Update"), ""),
        (scaler("busy", kind="Deployment", minReplicas=2), owned("flaskops"), ""),
        ((403, {"message": "forbidden"}), owned("kubectl", "Update"), ""),
    ],
)
def test_app_that_is_scaled_to_nothing(answer, owner, why):
    app = deployment(replicas=0, updatedReplicas=0, availableReplicas=0)
    app["spec"]["replicas"], app["metadata"]["managedFields"] = 0, [owner]
    path = "/apis/apps/v1/namespaces/flask-app/deployments/flask-app"
    nothing = (200, {"items": []})
    results, _ = run(
        FakeCluster(**{path: (200, app), f"{NS}/pods": nothing, SLICES.format("flask-app"): nothing, AUTOSCALERS: answer})
    )
    failed = {name for name, r in results.items() if r["status"] == "failed"}
    if why:
        assert failed == set() and why in results["rollout"]["evidence"]
        idle = {name for name, r in results.items() if r["evidence"] == results["rollout"]["evidence"]}
        assert {"endpoint", "health", "metric requests", "logs", "route"} <= idle
    else:
        assert {"rollout", "endpoint", "metric requests"} <= failed


def test_the_log_is_that_of_the_app_s_container():
    """An admission may put one of its own before it, and its owner may have called it otherwise than the app."""
    own = deployment()
    own["spec"]["template"]["spec"]["containers"][0]["name"] = "web"
    pods = [pod(), pod("pod-2")]
    for item in pods:
        item["spec"]["containers"] = [{"name": "istio-proxy", "image": "proxy"}, {**item["spec"]["containers"][0], "name": "web"}]
    asked = []

    class Injected(FakeCluster):
        def lines(self, path, seconds):
            asked.extend(parse_qs(urlsplit(path).query)["container"])
            return super().lines(path, seconds)

    results, _url = run(Injected(**{f"{DEPLOYMENTS}/flask-app": (200, own), f"{NS}/pods": (200, {"items": pods})}))
    assert results["logs"]["status"] == "ok" and set(asked) == {"web"}


def test_pods_of_another_deployment_are_not_the_app():
    found = deployment()
    found["spec"]["selector"] = {"matchLabels": {"app": "flask-app", "role": "web"}}
    pods = [pod(), pod("pod-2"), pod("worker-1", image="worker")]
    for item, name in zip(pods, ("web", "web", "worker"), strict=True):
        item["metadata"]["labels"] = {"app": "flask-app", "role": name}
    path = "/apis/apps/v1/namespaces/flask-app/deployments/flask-app"
    results, _ = run(FakeCluster(**{path: (200, found), f"{NS}/pods": (200, {"items": pods})}))
    assert [name for name, result in results.items() if result["status"] == "failed"] == []


def test_nodes_that_are_not_told():
    results, _ = run(FakeCluster(**{"/api/v1/nodes": (500, {"message": "etcd"})}))
    assert {name for name, r in results.items() if r["status"] == "failed"} == {"node"}
    assert "etcd" in results["node"]["cause"] and results["node"]["next_command"] == "kubectl describe nodes"


@pytest.mark.parametrize(
    ("path", "row"),
    [("/api/v1/nodes", "node"), (SLICES.format("flask-app"), "endpoint"), ("/apis/apps/v1/daemonsets", "log agent")],
)
@pytest.mark.parametrize(("whose", "status"), [({"context": "ours"}, "skipped"), ({}, "failed")])
def test_what_may_not_be_read_is_no_fault_to_a_person_and_one_in_a_schedule(path, row, whose, status):
    results, _ = run(FakeCluster(**{path: (403, {"message": "forbidden"})}), **whose)
    assert results[row]["status"] == status and "forbidden" in json.dumps(results[row])


def test_request_id_not_logged():
    cluster = FakeCluster()
    cluster.logs_ids = False
    results, _ = run(cluster)
    assert results["logs"]["status"] == "failed"
    results, _ = run(cluster, log_check=False)
    assert results["logs"]["status"] == "skipped"


def test_what_was_seen_outlives_an_answer_that_does_not_come(monkeypatch):
    monkeypatch.setattr(running, "LOOK_AGAIN", 0.01)
    broken = result.failed("rules", "", "the rule is gone")
    looks = iter([[broken], transport.ApiError(0, "timed out"), transport.ApiError(0, "timed out")])

    def look():
        found = next(looks, [broken])
        if isinstance(found, Exception):
            raise found
        return found

    assert running.Run(FakeCluster(), running.Target(timeout=2)).settled(look, 0.1) == [broken]


def test_a_silent_log_ends_in_time():
    cluster = FakeCluster()
    release = threading.Event()

    def hang(path, seconds):
        release.wait(30)
        yield ""

    cluster.lines = hang
    results, _ = run(cluster)
    release.set()
    assert results["logs"]["status"] == "failed"
    assert "within 2 s" in results["logs"]["cause"]
    assert results["logs"]["seconds"] < 5


def test_load_balancer_is_asked_directly():
    service = {**SERVICE, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.7"}]}}}
    cluster = FakeCluster(**{f"{NS}/services/flask-app": (200, service)})
    asked = []

    def plain(url, headers, seconds):
        asked.append(url)
        cluster.log += headers.values()
        return 200, ""

    results, url = chain.verify(cluster, running.Target(timeout=2), plain)
    assert url == "http://10.0.0.7"
    assert sorted(asked) == ["http://10.0.0.7/", "http://10.0.0.7/health"]
    assert {r["status"] for r in results if r["link"] not in NOT_INSTALLED} == {"ok"}


@pytest.mark.parametrize(
    ("port", "way"),
    [
        ({"port": 443}, "flask-app:443"),  # the load balancer ends TLS
        ({"port": 443, "appProtocol": "https"}, "https:flask-app:443"),
        ({"port": 8443, "appProtocol": "https"}, "https:flask-app:8443"),
    ],
)
def test_a_load_balancer_with_tls_is_passed_by(port, way):
    balanced = {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}
    service = {"spec": {"ports": [{**port, "targetPort": 5000}]}, "status": balanced}
    _results, url = run(FakeCluster(**{f"{NS}/services/flask-app": (200, service)}))
    assert url.endswith(f"{NS}/services/{way}/proxy")
    assert running.Target().opening(url).endswith(f"port-forward service/flask-app 8080:{port['port']}")


def test_unreachable_api_server_is_one_sentence():
    cluster = FakeCluster(**{f"{NS}/pods": transport.ApiError(0, "no answer from https://api: refused")})
    with pytest.raises(running.VerifyError, match=r"Cannot reach the API server: no answer from https://api: refused; check"):
        run(cluster)


def test_credentials_without_rights_are_one_sentence():
    with pytest.raises(running.VerifyError, match="Cannot list the pods of namespace flask-app"):
        run(FakeCluster(**{f"{NS}/pods": (403, {"message": "forbidden"})}))


def test_table_fits_and_its_commands_can_be_copied():
    target = running.Target(
        kubeconfig="/a/rather/long/path/of/a/folder/with/a/kubeconfig/inside/kubeconfig.yaml", context="staging"
    )
    asked = logs.next_command(running.Run(FakeCluster(), target))
    failed = {"link": "logs", "status": "failed", "evidence": "e " * 90, "cause": "c " * 90, "query": "q " * 90, "seconds": 1.0}
    results = [
        {"link": "node", "status": "ok", "evidence": "1 of 1", "cause": "", "next_command": "", "seconds": 0.01},
        {**failed, "next_command": asked, "follows": ""},
        {**failed, "link": "loki", "next_command": "kubectl nothing", "follows": "logs"},
    ]
    text = table.render(results, "title")
    assert max(map(len, text.splitlines())) <= 100
    command = text[text.index("next:") + 5 : text.index("loki  ")].replace("\\\n", " ").split()
    assert command == asked.split()
    # What follows from another link needs no command of its own.
    assert text.endswith("from:   the broken link logs")
    rows = text.splitlines()
    assert rows[1].index("evidence") == rows[3].index("1 of 1") == rows[4].index("e e")


@pytest.mark.parametrize(("kind", "status"), [("ClusterIP", {}), ("LoadBalancer", {}), ("LoadBalancer", {"loadBalancer": {}})])
def test_an_app_without_an_address_is_asked_and_opened_by_the_api_server(kind, status):
    """As kind and minikube leave a LoadBalancer."""
    service = {"spec": {**SERVICE["spec"], "type": kind}, "status": status}
    results, url = run(FakeCluster(**{f"{NS}/services/flask-app": (200, service)}))
    assert {r["status"] for name, r in results.items() if name not in NOT_INSTALLED} == {"ok"}
    target = running.Target(context="kind-kind")
    text = table.render(list(results.values()), url, target.opening(url))
    assert text.splitlines()[-1] == "open:   kubectl --context kind-kind -n flask-app port-forward service/flask-app 8080:80"


def test_an_app_with_an_address_needs_no_command():
    assert running.Target().opening("http://192.0.2.7") == running.Target().opening("") == ""
    assert "open:" not in table.render([], "title", "")


class Api(BaseHTTPRequestHandler):
    """Just enough of a server to see what KubeCluster sends."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/hang":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"6\r\none\ntw\r\n7\r\no\nthree\r\n")
            self.wfile.flush()
            self.server.release.wait(10)
            return
        body = json.dumps({"auth": self.headers.get("authorization"), "id": self.headers.get("X-Request-ID")}).encode()
        self.send_response(404 if self.path.startswith("/log") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    found.release = threading.Event()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.release.set()
    found.shutdown()
    found.server_close()


def pod_cluster_at(server, folder):
    (folder / "token").write_text("t\n")
    return transport.PodCluster(str(folder), f"http://127.0.0.1:{server.server_port}")


def cluster_at(server):
    token = {"BearerToken": {"in": "header", "key": "authorization", "value": "Bearer t"}}
    config = SimpleNamespace(host=f"http://127.0.0.1:{server.server_port}", auth_settings=lambda: token)
    rest = SimpleNamespace(pool_manager=urllib3.PoolManager())
    return transport.KubeCluster(SimpleNamespace(configuration=config, rest_client=rest))


def test_kube_cluster_sends_credentials_and_headers(server):
    status, body = cluster_at(server).fetch("/x", {"X-Request-ID": "r"})
    assert (status, json.loads(body)) == (200, {"auth": "Bearer t", "id": "r"})


def test_kube_cluster_gives_whole_lines_and_ends_in_time(server):
    assert list(cluster_at(server).lines("/hang", 0.5)) == ["one", "two"]


def test_kube_cluster_refused_log(server):
    with pytest.raises(transport.ApiError):
        list(cluster_at(server).lines("/log", 1))


def test_pod_cluster_sends_credentials_and_headers(server, tmp_path):
    status, body = pod_cluster_at(server, tmp_path).fetch("/x", {"X-Request-ID": "r"})
    assert (status, json.loads(body)) == (200, {"auth": "Bearer t", "id": "r"})


def test_pod_cluster_gives_whole_lines_and_ends_in_time(server, tmp_path):
    assert list(pod_cluster_at(server, tmp_path).lines("/hang", 0.5)) == ["one", "two"]


def test_pod_cluster_refused_log_and_no_server(server, tmp_path):
    cluster = pod_cluster_at(server, tmp_path)
    with pytest.raises(transport.ApiError):
        list(cluster.lines("/log", 1))
    with pytest.raises(transport.ApiError, match=r"no answer from http://127\.0\.0\.1:1: "):
        transport.PodCluster(str(tmp_path), "http://127.0.0.1:1").fetch("/x")


def test_pod_cluster_never_quotes_a_token(server, tmp_path):
    cluster = pod_cluster_at(server, tmp_path)
    (tmp_path / "token").write_text("CANARY\nCANARY")
    with pytest.raises(transport.ApiError, match="token") as failure:
        cluster.fetch("/x")
    assert "CANARY" not in str(failure.value)


def test_plain_get(server):
    assert running.http_get(f"http://127.0.0.1:{server.server_port}/x", {}, 2)[0] == 200
    assert running.http_get(f"http://127.0.0.1:{server.server_port}/log", {}, 2)[0] == 404


def test_no_proxy_is_asked_for_an_app_at_a_private_address(server, monkeypatch):
    proxy = f"http://127.0.0.1:{server.server_port}"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running._opener.cache_clear()
    try:
        with pytest.raises(transport.ApiError, match="no answer from http://127"):
            running.http_get("http://127.0.0.1:1/", {}, 2)
        # A name that the proxy alone may know is left to it.
        assert running.http_get("http://app.invalid/x", {}, 2)[0] in (200, 404)
    finally:
        running._opener.cache_clear()


def test_plain_get_refused():
    with pytest.raises(transport.ApiError, match="no answer from http://127"):
        running.http_get("http://127.0.0.1:1/", {}, 2)


LOKI = {"loki": {"metadata": {"name": "loki", "namespace": "logs"}, "spec": {"ports": [{"port": 3100}]}}}
LOKI_QUERY = "/api/v1/namespaces/logs/services/loki:3100/proxy/loki/api/v1/query_range"
VICTORIA = {"victoria-logs-single": {"metadata": {"name": "vl", "namespace": "logs"}, "spec": {"ports": [{"port": 9428}]}}}
VICTORIA_BASE = "/api/v1/namespaces/logs/services/vl:9428/proxy"
VICTORIA_QUERY = f"{VICTORIA_BASE}/select/logsql/query"
STREAM = {"namespace": "flask-app", "app": "flask-app", "container": "flask-app", "cluster": "test", "level": "info"}


@pytest.mark.parametrize(
    ("streams", "status", "text"),
    [
        ([{"stream": STREAM, "values": [["1769860800000000001", "x"]]}], "ok", "found after"),
        ([], "failed", "it is not sent, or not taken"),
        ([{"stream": {**STREAM, "cluster": ""}, "values": [["1", "x"]]}], "failed", "the line has no label cluster"),
    ],
)
def test_a_line_is_searched_in_loki(streams, status, text):
    answer = (200, {"data": {"result": streams}})
    found, _url = run(FakeCluster(LOKI, **{LOKI_QUERY: answer}))
    assert found["loki"]["status"] == status
    assert text in found["loki"]["evidence"] + found["loki"]["cause"]


def row(**labels):
    """A line as VictoriaLogs answers it."""
    stream = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return json.dumps({"_time": "2026-01-31T12:00:00.123456789Z", "_stream": f"{{{stream}}}", "_msg": "x", **labels})


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({VICTORIA_QUERY: (200, row(**STREAM))}, "ok", "found after"),
        ({VICTORIA_QUERY: (200, f"{row(**STREAM)}\n{row(**STREAM)}\n")}, "ok", "found after"),
        ({VICTORIA_QUERY: (200, "")}, "failed", "it is not sent, or not taken"),
        ({VICTORIA_QUERY: (200, row(**{**STREAM, "cluster": ""}))}, "failed", "the line has no label cluster"),
        ({VICTORIA_QUERY: (503, "no endpoints available")}, "failed", "VictoriaLogs answers 503"),
        ({VICTORIA_QUERY: (200, "<html>")}, "failed", "can't be read"),
        ({f"{VICTORIA_BASE}/metrics": (200, 'vl_storage_is_read_only{path="/storage"} 1\n')}, "failed", "it is read-only"),
    ],
)
def test_a_line_is_searched_in_victoria_logs(changes, status, text):
    page = {f"{VICTORIA_BASE}/metrics": (200, 'vl_storage_is_read_only{path="/storage"} 0\n')}
    found, _url = run(FakeCluster(VICTORIA, **{**page, **changes}))
    assert found["victoria_logs"]["status"] == status
    assert text in found["victoria_logs"]["evidence"] + found["victoria_logs"]["cause"]
    assert "loki" not in found


THREE = [pod("pod-1", node="node-1"), pod("pod-2", node="node-2"), pod("pod-3", node="node-2")]


class Nodes(FakeCluster):
    """Three pods on two nodes, and a Loki that gets the lines of all but the *silent*."""

    def __init__(self, silent=(), **changes):
        pods = {
            f"{NS}/pods": (200, {"items": THREE}),
            SLICES.format("flask-app"): (200, {"items": slices("pod-1", "pod-2", "pod-3")}),
        }
        more = {f"{NS}/pods/pod-3:9200/proxy/metrics": (200, PAGE), f"{NS}/pods/pod-3:5000/proxy/": (200, "")}
        nodes = {"/api/v1/nodes": (200, {"items": [node("node-1"), node("node-2")]})}
        no_ruler = {"/api/v1/namespaces/logs/configmaps": (200, {"items": []})}
        super().__init__(LOKI, **{**pods, **more, **nodes, **no_ruler, **changes})
        self.logs["pod-3"] = []
        self.silent = silent

    def fetch(self, path, headers=None, seconds=10):
        if path.split("?")[0] == LOKI_QUERY:
            (query,) = parse_qs(urlsplit(path).query)["query"]
            wanted = query.split('"')[-2]
            shipped = [line for name, lines in self.logs.items() if name not in self.silent for line in lines]
            found = [{"stream": STREAM, "values": [["1", "x"]]}] if any(wanted in line for line in shipped) else []
            return 200, json.dumps({"data": {"result": found}})
        return super().fetch(path, headers, seconds)


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(log_store, "ARRIVAL", 0.3)
    monkeypatch.setattr(logs, "OWN", 0.3)


def test_a_line_of_each_pod_arrives(soon):
    found, _url = run(Nodes())
    assert [name for name, r in found.items() if r["status"] == "failed"] == []
    assert "lines of 3 of 3 pods on 2 of 2 nodes" in found["loki"]["evidence"]
    assert "one of its own in those of 3 pods" in found["logs"]["evidence"]


@pytest.mark.parametrize("chosen", ["pod-2", "pod-3"])
def test_the_pod_and_node_whose_line_does_not_arrive_are_named(soon, chosen):
    cluster = Nodes(silent=("pod-3",))
    cluster.log = cluster.logs[chosen]  # whom the Service chooses
    found, _url = run(cluster)
    assert [name for name, r in found.items() if r["status"] == "failed"] == ["loki"]
    assert "no line of pod-3 on node-2 came" in found["loki"]["cause"]
    assert "lines of 2 of 3 pods on 2 of 2 nodes" in found["loki"]["evidence"]


def test_a_pod_that_logs_nothing_is_not_blamed_on_the_back_end(soon):
    cluster = Nodes()
    cluster.logs["pod-1"] = type("Deaf", (list,), {"append": lambda *_: None})()
    found, _url = run(cluster)
    assert [name for name, r in found.items() if r["status"] == "failed" and not r["follows"]] == ["logs"]
    assert "the log of pod-1 on node-1 has no line" in found["logs"]["cause"]


def test_pods_that_the_proxy_can_not_reach_are_said_and_no_failure(soon):
    refused = (503, {"kind": "Status", "message": "error trying to reach service: i/o timeout"})
    found, _url = run(Nodes(**{f"{NS}/pods/pod-{n}:5000/proxy/": refused for n in (1, 2, 3)}))
    assert found["loki"]["status"] == found["logs"]["status"] == found["health"]["status"] == "ok"
    assert "pod-1 on node-1 can't be asked past the Service: error trying to reach service" in found["loki"]["evidence"]


def test_a_pod_that_serves_errors_is_named():
    found, _url = run(Nodes(**{f"{NS}/pods/pod-2:5000/proxy/": (500, "no")}))
    assert found["health"]["status"] == "failed" and "GET / got 500 from pod-2" in found["health"]["cause"]


def test_one_pod_needs_no_request_of_its_own():
    cluster = FakeCluster(
        **{f"{NS}/pods": (200, {"items": [pod("pod-2")]}), SLICES.format("flask-app"): (200, {"items": slices("pod-2")})}
    )
    cluster.answers["/apis/apps/v1/namespaces/flask-app/deployments/flask-app"] = (200, deployment(replicas=1))
    asked = []
    ask = cluster.fetch

    def fetch(path, headers=None, seconds=10):
        asked.append((headers or {}).get("X-Request-ID"))
        return ask(path, headers, seconds)

    cluster.fetch = fetch
    assert run(cluster)[0]["logs"]["status"] == "ok"
    assert len(list(filter(None, asked))) == 1


@pytest.mark.parametrize(
    ("nodes", "most", "found"),
    [
        (["a", "a", "a", "b"], 2, ["0", "3"]),
        (["a", "a", "a", "b"], 3, ["0", "3", "1"]),
        (["a", "b", "c"], 2, ["0", "1", "2"]),
        (["a"], 10, ["0"]),
    ],
)
def test_some_pods_of_many_are_on_every_node(nodes, most, found):
    pods = [pod(str(number), node=name) for number, name in enumerate(nodes)]
    assert [each["metadata"]["name"] for each in facts.spread(pods, most)] == found


def test_both_back_ends_are_asked():
    answers = {LOKI_QUERY: (200, {"data": {"result": []}}), VICTORIA_QUERY: (200, row(**STREAM))}
    found, _url = run(FakeCluster({**LOKI, **VICTORIA}, **answers))
    assert (found["loki"]["status"], found["victoria_logs"]["status"]) == ("failed", "ok")


def shipper(name="fluent-bit", **status):
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "template": {"spec": {"containers": [{"name": name, "ports": [{"name": "metrics", "containerPort": 2020}]}]}},
    }
    counts = {"desiredNumberScheduled": 1, "numberReady": 1, **status}
    labels = {"app.kubernetes.io/name": name}
    return {"metadata": {"name": name, "namespace": "logging", "labels": labels}, "spec": spec, "status": counts}


def test_an_agent_is_looked_at_again_where_its_lines_do_not_arrive(monkeypatch):
    """What it can't deliver has waited for no time at all when it is looked at first."""
    page, ages = "/api/v1/namespaces/logging/pods/log-collector-x:2020/proxy/metrics", itertools.chain([0], itertools.repeat(30))
    left = []

    class Waiting(FakeCluster):
        def fetch(self, path, headers=None, seconds=10):
            if path.split("?")[0] == page:
                left.append(seconds)
                return 200, f"log_collector_spool_oldest_seconds {next(ages)}\nlog_collector_spool_bytes 9\n"
            return super().fetch(path, headers, seconds)

    agent, collector = pod("log-collector-x"), shipper("log-collector")
    agent["metadata"]["namespace"] = "logging"
    # As our own chart does, whose page of metrics is not where Fluent Bit's is all the same.
    collector["metadata"]["annotations"] = {"flaskops/outputs": '[{"type": "victoria_logs"}]'}
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [collector]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [agent]}),
        VICTORIA_QUERY: (200, ""),
        f"{VICTORIA_BASE}/metrics": (200, ""),
        f"{VICTORIA_BASE}/health": (200, "OK"),
    }
    monkeypatch.setattr(log_store, "ARRIVAL", 60)
    found, _url = run(Waiting(VICTORIA, **answers))
    assert left[1] > 1, "the second look had no time"
    assert [name for name, r in found.items() if r["status"] == "failed" and not r["follows"]] == ["log agent"]
    assert "lines wait for 30 s" in found["log agent"]["cause"] and found["victoria_logs"]["follows"] == "log agent"


SHIPPER_PAGE = "/api/v1/namespaces/logging/pods/fluent-bit-x:2020/proxy/api/v2/metrics/prometheus"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, ""),
        ({"/apis/apps/v1/daemonsets": (200, {"items": [shipper(desiredNumberScheduled=0)]})}, "runs on no node"),
        ({"/apis/apps/v1/daemonsets": (200, {"items": [shipper(numberReady=0)]})}, "is not ready everywhere"),
        ({"/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x", node="node-2")]})}, "on node-1, where the app"),
        ({SHIPPER_PAGE: (503, "refused")}, "the metrics page of fluent-bit-x on node node-1 answers 503"),
        ({SHIPPER_PAGE: (200, "")}, "the metrics page of fluent-bit-x on node node-1 has no metric of a log agent"),
        ({SHIPPER_PAGE: (200, "go_goroutines 5\n")}, "has no metric of a log agent"),
    ],
)
def test_the_log_agent(changes, cause):
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [shipper()]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
    }
    found, _url = run(FakeCluster(**{**answers, **changes}))
    assert found["log agent"]["status"] == ("failed" if cause else "ok")
    assert cause in found["log agent"]["cause"]


def test_a_log_agent_of_another_program_has_metrics_by_other_names():
    other = shipper("vector")
    other["metadata"]["labels"] = {"app.kubernetes.io/component": "log-shipper"}
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [other]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("vector-x")]}),
        "/api/v1/namespaces/logging/pods/vector-x:2020/proxy/metrics": (200, "vector_started_total 1\n"),
    }
    assert run(FakeCluster(**answers))[0]["log agent"]["status"] == "ok"


def test_every_container_of_the_shipper_is_asked():
    """Role fluent_bit has one for each backend, with metrics of its own."""
    item = shipper()
    item["spec"]["template"]["spec"]["containers"].append({"name": "es", "ports": [{"name": "metrics-1", "containerPort": 2021}]})
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [item]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
        SHIPPER_PAGE.replace("2020", "2021"): (503, "refused"),
    }
    found, _url = run(FakeCluster(**answers))
    assert "the metrics page of fluent-bit-x on node node-1 answers 503" in found["log agent"]["cause"]


def restarted(minutes, count, code, why, ran=1):
    began, at = (
        (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=m)).isoformat() for m in (minutes + ran, minutes)
    )
    last = {"exitCode": code, "reason": why} | ({"startedAt": began} if ran else {})
    return {
        "name": "es",
        "restartCount": count,
        "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": at, **last}},
    }


@pytest.mark.parametrize(
    ("container", "status", "words"),
    [
        (
            (12, 1, 139, "Error"),
            "ok",
            "es of fluent-bit-x on node node-1 was started again 1 times, last 12",
        ),
        ((12, 1, 139, "Error"), "ok", "after SIGSEGV"),
        ((50, 9, 137, "OOMKilled"), "ok", "after OOMKilled"),
        ((4, 9, 137, "OOMKilled"), "failed", "9 times, last 4 min ago after OOMKilled"),
        ((4, 9, 1, "Error"), "failed", "after exit code 1"),
        ((4, 9, 1, "Error", 0), "failed", "after exit code 1"),
        ((4, 3, 137, "Error", 9), "failed", "after SIGKILL"),
        ((4, 3, 137, "Error", 11), "ok", "3 times, last 4 min ago after SIGKILL"),
        ((4, 9, 137, "OOMKilled", 50), "failed", "after OOMKilled"),
        ((4, 9, 137, "OOMKilled", 70), "ok", "after OOMKilled"),
        ((1, 9, 255, "Unknown"), "ok", "after Unknown"),
        ((61, 9, 137, "OOMKilled"), "ok", ""),
    ],
)
def test_restarts_of_the_log_agent(container, status, words):
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [shipper()]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x", containerStatuses=[restarted(*container)])]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
    }
    found = run(FakeCluster(**answers))[0]["log agent"]
    assert found["status"] == status and words in found["evidence"] + found["cause"]
    assert ("started again" in found["evidence"]) == (status == "ok" and words != "")


def test_why_a_container_that_waits_ended_before():
    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"reason": "OOMKilled"}}}
    assert facts.pod_trouble(pod("x", containerStatuses=[waiting])) == "x: CrashLoopBackOff, ended before by OOMKilled"


def rule(name, **more):
    return {"name": name, "lastError": "", "lastEvaluation": "0001-01-01T00:00:00Z", **more}


@pytest.mark.parametrize(("schedule", "status"), [(0, "failed"), (300, "ok")])
def test_a_schedule_that_the_run_goes_on_to_apply_is_not_missed(schedule, status):
    """As after somebody has removed the namespace of the stack, in which the schedule had rights."""
    binding = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gone", "namespace": "monitoring"}, "data": {}}
    kept = {**binding, "metadata": {"name": "kept", "namespace": "monitoring"}}
    maps = [
        promises.promise(owner, "flask-app", [item], {"flaskops/owner": owner})
        for role, item in (("verify", binding), ("flask_app", kept))
        for owner in [promises.owner_named(role, "flask-app", "flask-app")]
    ]
    answers = {
        "/api/v1/configmaps": (200, {"items": maps}),
        "/api/v1": (200, {"resources": [{"kind": "Secret", "name": "secrets", "namespaced": True}]}),
        "/api/v1/namespaces/monitoring/secrets/kept": (200, kept),
    }
    found, _url = run(FakeCluster(**answers), schedule=schedule)
    assert found["promise"]["status"] == status, found["promise"]
    assert ("gone" in found["promise"]["cause"]) is (status == "failed")


RULER = "/api/v1/namespaces/logs/services/loki:3100/proxy/prometheus/api/v1/rules"
LOKI_CONFIG = "/api/v1/namespaces/logs/services/loki:3100/proxy/config"


def ruler(*rules):
    return 200, {"data": {"groups": [{"name": "log-lines", "interval": 30, "rules": list(rules)}]}}


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({}, "ok", "1 rules loaded, evaluated, sent to http://am.monitoring.svc:9093"),
        ({RULER: ruler()}, "failed", "the alert Mine is not loaded"),
        ({RULER: ruler(rule("Mine", lastError="parse error"))}, "failed", "Mine: parse error"),
        ({RULER: ruler(rule("Mine", lastEvaluation="2020-01-01T00:00:00Z"))}, "failed", "was last evaluated"),
        ({LOKI_CONFIG: (200, "ruler:\n  alertmanager_url: ''\n")}, "failed", "has no Alertmanager"),
        ({SLICES.format("monitoring"): (200, {"items": []})}, "failed", "where nobody is"),
        ({RULER: (404, "404 page not found")}, "failed", "runs no ruler"),
        ({RULER: (503, "no endpoints")}, "failed", "no endpoints"),
    ],
)
def test_rules_of_loki_s_ruler(changes, status, text):
    maps = [{"metadata": {"name": "rules", "annotations": {"flaskops/alerts": "Mine"}}}]
    answers = {
        RULER: ruler(rule("Mine")),
        LOKI_CONFIG: (200, "ruler:\n  alertmanager_url: http://am.monitoring.svc:9093\n"),
        "/api/v1/namespaces/logs/configmaps": (200, {"items": maps}),
        SLICES.format("monitoring"): (200, {"items": slices("am-0")}),
    }
    found, _url = run(FakeCluster(LOKI, **{**answers, **changes}))
    assert found["ruler"]["status"] == status
    assert text in found["ruler"]["evidence"] + found["ruler"]["cause"]


class Search(BaseHTTPRequestHandler):
    """Just enough of a search engine: one line is there, for those who know the password."""

    def do_GET(self):
        parts = urlsplit(self.path)
        login = base64.b64encode(b"reader:secret").decode()
        known = self.headers.get("Authorization") == f"Basic {login}"
        wanted = parse_qs(parts.query)["q"][0].strip('"')
        hits = [{"_source": {**STREAM, "message": wanted}}] if parts.path == "/logs-%2A/_search" else []
        body = json.dumps({"hits": {"hits": hits}}).encode()
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ({"username": "reader", "password": "secret"}, "ok", "found after"),
        ({"username": "reader", "password": "wrong-password"}, "failed", "answered 401"),
        ({"username": "reader", "password": "secret", "index": "other"}, "failed", "it is not sent, or not taken"),
    ],
)
def test_a_line_is_searched_with_credentials(given, status, text):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Search)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    backend = {"type": "elasticsearch", "url": f"http://127.0.0.1:{server.server_port}", **given}
    found, _url = run(FakeCluster(), log_backends=[backend])
    server.shutdown()
    server.server_close()
    assert found["elasticsearch"]["status"] == status
    assert text in found["elasticsearch"]["evidence"] + found["elasticsearch"]["cause"]
    assert given["password"] not in json.dumps(found)


class Echo(BaseHTTPRequestHandler):
    """Sends everybody to another host, and says what it was sent."""

    def do_GET(self):
        sent = self.headers.get("Authorization", "")
        self.server.seen.append((self.headers["Host"], sent))
        plain = base64.b64decode(sent.removeprefix("Basic ")).decode() if sent.startswith("Basic ") else sent
        self.send_response(*self.server.answer)
        self.send_header("Location", f"http://localhost:{self.server.server_port}{self.path}")
        self.end_headers()
        self.wfile.write(json.dumps({"message": f"{sent} is {plain}", "hits": f"{sent} {plain}"}).encode())

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("answer", [(302, "Found"), (200, "OK"), (500, "No CANARY")])
@pytest.mark.parametrize("given", [{"username": "reader", "password": "CANARY"}, {"api_key": "CANARY"}])
def test_a_backend_that_hands_credentials_on(given, answer):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.seen, server.answer = [], answer
    threading.Thread(target=server.serve_forever, daemon=True).start()
    backend = {"type": "elasticsearch", "url": f"http://127.0.0.1:{server.server_port}", **given}
    found, _url = run(FakeCluster(), log_backends=[backend])
    server.shutdown()
    server.server_close()
    assert [name for name, result in found.items() if result["status"] == "failed"] == ["elasticsearch"]
    assert {host.partition(":")[0] for host, _sent in server.seen} == {"127.0.0.1"}
    said = json.dumps(found)
    assert "CANARY" not in said and base64.b64encode(b"reader:CANARY").decode() not in said


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"url": "https://reader:CANARY@logs.test"}, "url"),
        ({"url": "https://reader:CANARY@[logs"}, "url"),
        ({"url": "https://logs.test", "api_key": "CANARY\n"}, "api_key"),
        ({"url": "https://logs.test", "username": "reader", "password": "CANARY\r\nX: y"}, "password"),
        ({"url": "https://logs.test", "tenant": "CANARY\n"}, "tenant"),
    ],
)
def test_credentials_that_can_not_be_sent_are_refused(given, word):
    assert word in given_backends.problem(given) and "CANARY" not in given_backends.problem(given)
    assert given_backends.problem({"url": "https://logs.test", "username": "ö", "password": "p ä", "tenant": "a b"}) == ""


@pytest.mark.parametrize(("kind", "host"), [("loki", "loki.logs.svc"), ("victoria_logs", "vl.logs.svc")])
@pytest.mark.parametrize("there", [False, True])
def test_a_back_end_whose_service_is_gone(kind, host, there):
    """One that is there under other labels is somebody's: how it is asked has to be said."""
    item = shipper()
    item["metadata"]["annotations"] = {"flaskops/outputs": json.dumps([{"type": kind, "host": host, "port": 1}])}
    name = host.split(".")[0]
    service = (200, {"metadata": {"name": name, "namespace": "logs"}}) if there else (404, {"message": "not found"})
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [item]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
        f"/api/v1/namespaces/logs/services/{name}": service,
    }
    found, _url = run(FakeCluster(**answers))
    assert "log back end" not in found
    assert found[kind]["status"] == ("skipped" if there else "failed")
    assert f"sends lines to {host}" in (found[kind]["evidence"] if there else found[kind]["cause"])


@pytest.mark.parametrize(
    ("output", "status", "text"),
    [
        ({"type": "es", "host": "es.search.svc", "port": 9200, "index": "logs-a"}, "ok", "found after"),
        ({"type": "es", "host": "es.search.svc", "port": 9200, "login": True}, "skipped", "name it, with an account"),
        ({"type": "cloudwatch_logs", "log_group": "/kubernetes/x"}, "skipped", "sends lines to /kubernetes/x"),
    ],
)
def test_outputs_of_the_shipper(output, status, text):
    item = shipper()
    item["metadata"]["annotations"] = {"flaskops/outputs": json.dumps([output, {"type": "loki", "host": "loki"}])}
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [item]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
        "/api/v1/namespaces/search/services/es:9200/proxy/logs-a/_search": (200, {"hits": {"hits": [{"_source": STREAM}]}}),
    }
    found, _url = run(FakeCluster(**answers))
    name = "cloudwatch" if output["type"] == "cloudwatch_logs" else "elasticsearch"
    assert found[name]["status"] == status
    assert text in found[name]["evidence"]


def sending(*outputs):
    """Answers of a cluster whose Fluent Bit says that it has these outputs."""
    item = shipper()
    item["metadata"]["annotations"] = {"flaskops/outputs": json.dumps(outputs)}
    return {
        "/apis/apps/v1/daemonsets": (200, {"items": [item]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
        SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
    }


class Twice(FakeCluster):
    """Two Lokis, of which the one in the namespace logs alone has the lines."""

    def __init__(self, **changes):
        no_rules = {f"/api/v1/namespaces/{space}/configmaps": (200, {"items": []}) for space in ("a-team", "logs")}
        line = (200, {"data": {"result": [{"stream": STREAM, "values": [["1", "x"]]}]}})
        nothing = (200, {"data": {"result": []}})
        super().__init__(**{LOKI_QUERY: line, LOKI_QUERY.replace("/logs/", "/a-team/"): nothing, **no_rules, **changes})

    def fetch(self, path, headers=None, seconds=10):
        if path.startswith("/api/v1/services?") and "name%3Dloki" in path:
            both = [{**LOKI["loki"], "metadata": {"name": "loki", "namespace": space}} for space in ("a-team", "logs")]
            return 200, json.dumps({"items": both})
        return super().fetch(path, headers, seconds)


THEIRS, HERE = ({"type": "loki", "host": f"loki.{space}.svc", "name": space} for space in ("a-team", "logs"))
SEARCH = ({"type": "es", "host": f"es.{space}.svc", "port": 9200, "index": "a"} for space in ("one", "two"))
ONE, OTHER = SEARCH
FOUND = {
    "/api/v1/namespaces/one/services/es:9200/proxy/a/_search": (200, {"hits": {"hits": [{"_source": STREAM}]}}),
    "/api/v1/namespaces/one/services/es:9200/proxy/": (200, {}),
    "/api/v1/namespaces/two/services/es:9200/proxy/": (200, {}),
}
EMPTY = {"/api/v1/namespaces/two/services/es:9200/proxy/a/_search": (200, {"hits": {"hits": []}})}
FAR = {"type": "loki", "host": "loki.example.com", "name": "far"}


@pytest.mark.parametrize(
    ("cluster", "outputs", "row", "status", "words"),
    [
        (Twice, [HERE], "loki", "ok", "found after"),
        (Twice, [THEIRS], "loki", "failed", "no line with"),
        (Twice, [THEIRS, HERE], "loki", "failed", "a-team/loki: no line with"),
        (Twice, [HERE, FAR], "loki", "skipped", "loki.example.com"),
        (FakeCluster, [FAR], "loki", "skipped", "sends lines to loki.example.com: name it"),
        (FakeCluster, [ONE], "elasticsearch", "ok", "found after"),
        (FakeCluster, [ONE, OTHER], "elasticsearch", "failed", "es.two.svc: nothing found"),
        (FakeCluster, [ONE, {**OTHER, "login": True}], "elasticsearch", "skipped", "sends lines to es.two.svc: name it"),
    ],
)
def test_each_of_several_back_ends_of_a_kind_is_looked_at(soon, cluster, outputs, row, status, words):
    found, _url = run(cluster(**sending(*outputs), **FOUND, **EMPTY))
    assert (found[row]["status"], "log back end" in found) == (status, False)
    assert words in found[row]["evidence"] + found[row]["cause"]


def test_one_of_two_outputs_is_named_by_the_user(soon, monkeypatch):
    hit = json.dumps({"hits": {"hits": [{"_source": STREAM}]}})
    monkeypatch.setattr(given_backends, "from_here", lambda given, url, run: hit)
    given = [{"type": "elasticsearch", "url": "https://search.example.com", "index": "a"}]
    outputs = [{"type": "es", "host": host, "tls": True} for host in ("search.example.com", "archive.example.com")]
    for sent, status in ((outputs[:1], "ok"), (outputs, "skipped"), ([{"type": "es", "host": "10.0.0.9", "tls": True}], "ok")):
        found, _url = run(FakeCluster(**sending(*sent)), log_backends=given)
        assert found["elasticsearch"]["status"] == status
    assert "archive.example.com" in run(FakeCluster(**sending(*outputs)), log_backends=given)[0]["elasticsearch"]["evidence"]


@pytest.mark.parametrize(("outputs", "status"), [([HERE], "ok"), ([FAR], "ok"), ([HERE, FAR], "failed")])
def test_the_loki_of_the_cluster_is_asked_beside_one_that_is_named(soon, monkeypatch, outputs, status):
    """One alone that is named may be that of the cluster, by another way."""
    line = json.dumps({"data": {"result": [{"stream": STREAM, "values": [["1", "x"]]}]}})
    monkeypatch.setattr(given_backends, "from_here", lambda given, url, run: line)
    nothing = {LOKI_QUERY: (200, {"data": {"result": []}}), "/api/v1/namespaces/logs/configmaps": (200, {"items": []})}
    given = [{"type": "loki", "url": "https://loki.example.com"}]
    found, _url = run(FakeCluster(LOKI, **sending(*outputs), **nothing), log_backends=given)
    assert found["loki"]["status"] == status


@pytest.mark.parametrize(
    ("annotation", "counts", "status", "words"),
    [
        (True, {"desiredNumberScheduled": 0, "numberReady": 0}, "ok", "fluent-bit is ready on 1 of 1"),
        (False, {"desiredNumberScheduled": 0, "numberReady": 0}, "ok", "fluent-bit is ready on 1 of 1"),
        (False, {"desiredNumberScheduled": 2, "numberReady": 1}, "failed", "windows is not ready everywhere"),
    ],
)
def test_a_log_agent_of_somebody_else_s(annotation, counts, status, words):
    """One of ours is the app's; of others one may be for nodes that the cluster does not have."""
    answers = sending({"type": "loki", "host": "loki"})
    ours = answers["/apis/apps/v1/daemonsets"][1]["items"][0]
    if not annotation:
        del ours["metadata"]["annotations"]
    theirs = shipper("windows", **counts)
    answers["/apis/apps/v1/daemonsets"] = (200, {"items": [theirs, ours]})
    found = run(FakeCluster(**answers))[0]["log agent"]
    assert found["status"] == status and words in found["evidence"] + found["cause"]
