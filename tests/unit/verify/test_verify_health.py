# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of all kinds, and the answers to what they ask: what is a fault, and what is somebody's choice."""

from __future__ import annotations

import json
import threading
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import app as drilled
from ansible_collections.flaskops.observability.plugins.module_utils.kube import promise, transport
from ansible_collections.flaskops.observability.plugins.module_utils.verify import facts, junit, table
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import health
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.probes import judge as judge_probes
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.reference_probes import judge as note_reference

from .test_verify_checks import container, deployment, pod
from .test_verify_links import NS, SERVICE, FakeCluster, impatient, run  # noqa: F401

DEPLOYMENT = "/apis/apps/v1/namespaces/flask-app/deployments/flask-app"
THROUGH = f"{NS}/services/flask-app:80/proxy"
SECRET = "canary-token"


def get(path="/health", port=5000, **more):
    """How the API server gives back an HTTP probe."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP", **more}}


def with_probes(readiness=None, liveness=None, **more):
    """The reference Deployment with other probes in the place of its own: fields of a probe, or a whole one with a handler."""
    found = deployment()
    for kind, change in (("readinessProbe", readiness), ("livenessProbe", liveness)):
        for probe in [container(found)[kind]] if change else []:
            if facts.handler(change):
                del probe["httpGet"]
            probe.update(change)
    for kind, probe in more.items():
        container(found)[kind] = probe
    return found


def both(change, **more):
    return with_probes(change, change, **more)


def beside(found, **more):
    """With a second container."""
    sidecar = {"name": "proxy", "image": "proxy", "ports": [{"name": "proxied", "containerPort": 8080}], **more}
    found["spec"]["template"]["spec"].setdefault("containers", []).append(sidecar)
    return found


def native(found):
    """With a sidecar among the init containers, and another one that ends."""
    ports = [{"containerPort": 8080}]
    found["spec"]["template"]["spec"]["initContainers"] = [
        {"name": "proxy", "restartPolicy": "Always", "ports": ports},
        {"name": "migrate", "ports": [{"containerPort": 8082}]},
    ]
    return found


def listening(found, *ports, **more):
    container(found)["ports"] += [{"containerPort": port, **more} for port in ports]
    return found


def on_node(found):
    found["spec"]["template"]["spec"]["hostNetwork"] = True
    return found


# By name: the Deployment, and a part of what the note says of it.
CHOICES = {
    "path": (both(get("/healthz")), "readinessProbe.httpGet.path is /healthz, not /health"),
    "deep path": (both(get("/api/v1/health/")), "livenessProbe.httpGet.path is /api/v1/health/"),
    "no path": (both({"httpGet": {"port": 5000}}), "httpGet.path is /, not /health"),
    "one path each": (with_probes(get("/ready"), get("/live")), "readinessProbe.httpGet.path is /ready"),
    "named port": (both(get(port="http")), "readinessProbe.httpGet.port is http, not 5000"),
    "another port of the container": (listening(both(get(port=8081)), 8081), "httpGet.port is 8081"),
    "port of a sidecar": (beside(both(get(port=8080))), "httpGet.port is 8080"),
    "port of a native sidecar": (native(both(get(port=8080))), "httpGet.port is 8080"),
    "the app's port, not declared": (with_probes(ports=[]), ""),
    "delay": (both({"initialDelaySeconds": 30}), "initialDelaySeconds is 30, not 5"),
    "no delay": (both({"initialDelaySeconds": 0}), "initialDelaySeconds is 0, not 5"),
    "period": (both({"periodSeconds": 15}), "livenessProbe.periodSeconds is 15, not 10"),
    "failure threshold": (with_probes({"failureThreshold": 5}), "readinessProbe.failureThreshold is 5, not absent"),
    "success threshold": (with_probes({"successThreshold": 2}), "readinessProbe.successThreshold is 2"),
    "timeout": (both({"timeoutSeconds": 4}), "timeoutSeconds is 4, not absent"),
    "grace": (with_probes(liveness={"terminationGracePeriodSeconds": 9}), "terminationGracePeriodSeconds is 9"),
    "headers": (both(get(httpHeaders=[{"name": "Authorization", "value": SECRET}])), "httpHeaders is set"),
    "query": (both(get(f"/health?token={SECRET}")), "path is /health?..., not /health"),
    "scheme": (both(get(scheme="HTTPS")), "httpGet.scheme is HTTPS, not absent"),
    "host of the node's network": (on_node(both(get(host="127.0.0.1"))), "httpGet.host is 127.0.0.1"),
    "startup": (with_probes(startupProbe={**get(), "failureThreshold": 30}), "a startupProbe in addition"),
    "exec": (both({"exec": {"command": ["check", SECRET]}}), "readinessProbe.exec is set"),
    "tcp": (both({"tcpSocket": {"port": 5000}}), "readinessProbe.tcpSocket is set"),
    "tcp by name": (both({"tcpSocket": {"port": "http"}}), "readinessProbe.tcpSocket is set"),
    "grpc": (listening(both({"grpc": {"port": 50051, "service": ""}}), 50051), "readinessProbe.grpc is set"),
    "exec beside HTTP": (with_probes(liveness={"exec": {"command": ["true"]}}), "livenessProbe.exec is set"),
    "the reference": (deployment(), ""),
}


@pytest.mark.parametrize("name", CHOICES)
def test_other_probes_are_noted_and_no_failure(name):
    found, difference = CHOICES[name]
    result, note = judge_probes(found, "flask-app", 5000), note_reference(found, "flask-app", 5000)
    assert (result.status, result.cause, note.status) == ("ok", "", "ok")
    assert difference in note.evidence and ("no failure" in note.evidence) == bool(difference)
    assert SECRET not in json.dumps([result.as_dict(), note.as_dict()])


FAULTS = {
    "no readiness": (with_probes(readinessProbe=None), "no readinessProbe"),
    "no liveness": (with_probes(livenessProbe=None), "no livenessProbe"),
    "neither": (with_probes(readinessProbe=None, livenessProbe=None), "no livenessProbe; no readinessProbe"),
    "only a startup probe": (with_probes(readinessProbe=None, livenessProbe=None, startupProbe=get()), "no readinessProbe"),
    "probe without a handler": (with_probes(readinessProbe={"periodSeconds": 5}), "readinessProbe asks nothing"),
    "no such port": (with_probes(get(port=5001)), "readinessProbe asks the port 5001, which no container"),
    "no such port for tcp": (with_probes({"tcpSocket": {"port": 5001}}), "readinessProbe asks the port 5001"),
    "no such port for grpc": (with_probes(liveness={"grpc": {"port": 50051}}), "livenessProbe asks the port 50051"),
    "no such port at startup": (with_probes(startupProbe=get(port=5001)), "startupProbe asks the port 5001"),
    "no such name": (with_probes(get(port="web")), "readinessProbe asks the port web"),
    "name of a sidecar's port": (beside(with_probes(get(port="proxied"))), "no port of this name"),
    "port of an init container": (native(with_probes(get(port=8082))), "asks the port 8082"),
    "port of another protocol": (listening(with_probes(get(port=5353)), 5353, protocol="UDP"), "asks the port 5353"),
    "another host": (with_probes(get(host="example.com")), "asks the host example.com"),
    "the node itself": (with_probes({"tcpSocket": {"port": 5000, "host": "127.0.0.1"}}), "asks the host 127.0.0.1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_probes_that_are_missing_or_lead_elsewhere(name):
    found, cause = FAULTS[name]
    result = judge_probes(found, "flask-app", 5000)
    assert result.status == "failed" and cause in result.cause
    assert note_reference(found, "flask-app", 5000).status == "ok"


@pytest.mark.parametrize(
    ("promised", "said"),
    [
        (with_probes(livenessProbe=None), "ok"),
        (with_probes(readinessProbe=None), "failed"),
        (deployment(), "failed"),
        (None, "failed"),
    ],
)
def test_a_probe_that_was_not_applied_is_not_missed(promised, said):
    """The cluster has no liveness probe; who removed it, or never had it, is told by what was written down."""
    answers = {DEPLOYMENT: (200, with_probes(livenessProbe=None))}
    if promised:
        item = {"apiVersion": "apps/v1", "kind": "Deployment", **promised}
        item["metadata"] = {"name": "flask-app", "namespace": "flask-app"}
        written = promise.promise(promise.owner_label("flask_app flask-app flask-app"), "flask-app", [item], {})
        answers[f"{NS}/configmaps/promise-flask-app.flask-app.flask-app"] = (200, written)
    results, _url = run(FakeCluster(**answers))
    assert results["probes"]["status"] == said
    assert "livenessProbe" in results["probes"]["cause"] or "liveness: none" in results["probes"]["evidence"]


def test_probes_of_an_app_on_another_port():
    found = listening(both(get(port=8080)), 8080)
    assert note_reference(found, "flask-app", 8080).evidence.startswith("/health:8080")
    assert "port is 8080, not 5000" in note_reference(found, "flask-app", 5000).evidence


ANSWERS = {200: "ok", 204: "ok", 301: "ok", 302: "ok", 308: "ok", 399: "ok"}
ANSWERS |= {status: "failed" for status in (100, 199, 400, 401, 403, 404, 429, 500, 503)}


@pytest.mark.parametrize("status", ANSWERS)
def test_an_answer_is_judged_as_kubelet_does(status):
    found = health.judge(status, "no\n\n way", "x", "/healthz")
    assert found.status == ANSWERS[status] and str(status) in found.evidence
    if found.cause:
        assert found.cause.startswith(f"/healthz answered {status}") and found.cause.endswith(": no way")


def ask(found, answers, service=SERVICE, names=("pod-1", "pod-2")):
    """The health of an app with this Deployment, and what was asked of the API server with which headers."""
    asked = []

    def fetch(path, headers):
        asked.append((path, headers or {}))
        answer = answers.get(path.removeprefix(f"{NS}/"), (404, "not found"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def through(path, headers):
        return fetch(THROUGH + path, headers)

    known = (NS, "flask-app", 5000, service, facts.app_container(found, "flask-app"), [pod(name) for name in names])
    return health.check_health(health.Subject(*known, url=THROUGH, ask=through, fetch=fetch)), asked


SERVED = "services/flask-app:80/proxy"
NO_ANSWER = transport.ApiError(0, "timed out")


def api_says(message, code=503):
    return code, json.dumps({"kind": "Status", "code": code, "message": message})


@pytest.mark.parametrize(
    ("probe", "answers", "status", "text"),
    [
        (get("/healthz"), {f"{SERVED}/healthz": (204, "")}, "ok", "/healthz through the API server"),
        (get("healthz"), {f"{SERVED}/healthz": (200, "")}, "ok", "/healthz"),
        (get("/a b"), {f"{SERVED}/a%20b": (200, "")}, "ok", "/a%20b"),
        (get("/healthz"), {f"{SERVED}/health": (200, "")}, "failed", "/healthz answered 404"),
        (get("/healthz"), {f"{SERVED}/healthz": (302, "")}, "ok", "answered 302"),
        (get("/healthz"), {f"{SERVED}/healthz": (401, "who?")}, "failed", "/healthz answered 401"),
        (get("/healthz"), {f"{SERVED}/healthz": NO_ANSWER}, "failed", "timed out"),
        (get("/healthz", "http"), {f"{SERVED}/healthz": (200, "")}, "ok", "/healthz"),
        ({"httpGet": {"port": 5000}}, {f"{SERVED}/": (200, "")}, "ok", "/ through"),
        # A probe that is not an HTTP one.
        ({"exec": {"command": ["x"]}}, {f"{SERVED}/health": (200, "")}, "ok", "/health"),
        ({"tcpSocket": {"port": 5000}}, {f"{SERVED}/health": (302, "")}, "ok", "302"),
        ({"exec": {"command": ["x"]}}, {}, "skipped", "the readiness probe is exec"),
        ({"tcpSocket": {"port": 5000}}, {}, "skipped", "the readiness probe is tcpSocket"),
        ({"grpc": {"port": 5000}}, {f"{SERVED}/health": (415, "")}, "skipped", "the readiness probe is grpc"),
        ({"exec": {"command": ["x"]}}, {f"{SERVED}/health": NO_ANSWER}, "failed", "timed out"),
        ({"exec": {"command": ["x"]}}, {f"{SERVED}/health": api_says("no endpoints")}, "failed", "no endpoints"),
        # TLS on the app's port: through the Service, by TLS.
        (get(scheme="HTTPS"), {"services/https:flask-app:80/proxy/health": (200, "")}, "ok", "https:flask-app:80"),
        (get(scheme="HTTPS"), {"services/https:flask-app:80/proxy/health": (503, "down")}, "failed", "/health answered 503"),
        (get(scheme="HTTPS"), {"services/https:flask-app:80/proxy/health": api_says("no endpoints")}, "failed", "no endpoints"),
        (get(scheme="HTTPS"), {"services/https:flask-app:80/proxy/health": NO_ANSWER}, "failed", "timed out"),
        # Another port: a pod is asked, and the Service has to lead to somebody.
        (get("/live", 8081), {"pods/pod-1:8081/proxy/live": (200, "")}, "ok", "pods/pod-1:8081"),
        (get("/live", 8081, scheme="HTTPS"), {"pods/https:pod-1:8081/proxy/live": (200, "")}, "ok", "https:pod-1"),
        (get("/live", 8081), {"pods/pod-1:8081/proxy/live": (500, "")}, "failed", "/live answered 500"),
        (get("/live", 8081), {"pods/pod-1:8081/proxy/live": api_says("i/o timeout")}, "skipped", "i/o timeout"),
        (get("/live", 8081), {"pods/pod-1:8081/proxy/live": NO_ANSWER}, "skipped", "timed out"),
        (get("/live", 8081), {"pods/pod-1:8081/proxy/live": api_says("forbidden", 403)}, "skipped", "forbidden"),
        (
            get("/live", 8081),
            {"pods/pod-1:8081/proxy/live": (200, ""), f"{SERVED}/live": api_says("no endpoints")},
            "failed",
            "no endpoints",
        ),
        (get("/live", 8081), {"pods/pod-1:8081/proxy/live": (200, ""), f"{SERVED}/live": NO_ANSWER}, "failed", "timed out"),
    ],
)
def test_what_is_asked_and_how_it_is_judged(probe, answers, status, text):
    found, _asked = ask(with_probes(probe), answers)
    assert found.status == status, found
    assert text in found.evidence + found.cause
    assert found.query


def test_no_probe_at_all_is_asked_at_health():
    found, asked = ask(with_probes(readinessProbe=None), {f"{SERVED}/health": (200, "")})
    assert found.status == "ok" and asked == [(f"{THROUGH}/health", {})]
    assert ask(with_probes(readinessProbe=None), {})[0].status == "failed"


def test_another_port_that_the_service_has():
    ports = [{"port": 80, "targetPort": 5000}, {"port": 81, "targetPort": 8081}]
    answers = {"services/flask-app:81/proxy/live": (200, "")}
    found, _asked = ask(with_probes(get("/live", 8081)), answers, {"spec": {"ports": ports}})
    assert found.status == "ok" and "flask-app:81" in found.evidence


@pytest.mark.parametrize("probe", [get("/live", 8081), get(scheme="HTTPS")])
def test_nobody_to_ask(probe):
    found, _asked = ask(with_probes(probe), {}, {"spec": {"ports": []}}, ())
    assert found.status == "failed" and "leads to port" in found.cause


@pytest.mark.parametrize(
    ("names", "answer", "status", "sent"),
    [
        (["X-Health"], 200, "ok", ["X-Health"]),
        (["X-Health"], 401, "failed", ["X-Health"]),
        (["Host", "X-Health"], 200, "ok", ["X-Health"]),
        (["Host"], 404, "skipped", []),
        (["authorization"], 401, "skipped", []),
        (["Impersonate-User"], 403, "skipped", []),
        (["Authorization"], 500, "failed", []),
    ],
)
def test_headers_go_through_the_api_server_only_and_none_in_its_stead(names, answer, status, sent):
    headers = [{"name": name, "value": SECRET} for name in names]
    found, asked = ask(with_probes(get(httpHeaders=headers)), {f"{SERVED}/health": (answer, "")})
    # The first request asks only whether the Service leads anywhere.
    assert [list(given) for _path, given in asked] == [[], sent]
    assert found.status == status and SECRET not in json.dumps(found.as_dict())


def test_a_query_is_sent_and_not_shown():
    found, asked = ask(with_probes(get(f"/health?token={SECRET}")), {f"{SERVED}/health?token={SECRET}": (200, "")})
    assert found.status == "ok" and SECRET not in json.dumps(found.as_dict())
    assert [path for path, _headers in asked] == [f"{THROUGH}/health", f"{THROUGH}/health?token={SECRET}"]


# The whole of verify, in every form in which it tells.


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "scheme"])
def test_verify_blames_nothing_of_what_is_a_choice(name):
    found, difference = CHOICES[name]
    ways = {path: (200, "ok") for path in (f"{THROUGH}/{p}" for p in ("healthz", "api/v1/health/", "", "ready"))}
    ways |= {f"{NS}/pods/pod-1:{port}/proxy/health": (200, "ok") for port in (8080, 8081)}
    results, _url = run(FakeCluster(**{DEPLOYMENT: (200, found), **ways}))
    assert [name for name, result in results.items() if result["status"] == "failed"] == []
    assert (results["probes"]["status"], results["health"]["status"]) == ("ok", "ok")
    assert difference in results["reference probes"]["evidence"]
    rows = list(results.values())
    suite = ET.fromstring(junit.render(rows, "flask-app", "flask-app"))
    assert suite.get("failures") == "0" and len(suite) == len(rows)
    assert "FAILED" not in table.render(rows)


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (with_probes(get("/healthy")), {"health": ""}),
        (with_probes(get(port=5001)), {"probes": "", "health": "probes"}),
        (with_probes(readinessProbe=None), {"probes": ""}),
    ],
)
def test_verify_blames_what_is_broken(found, broken):
    # What nobody listens on is refused when a pod is asked, which is skipped.
    changes = {f"{NS}/pods/pod-1:5001/proxy/health": (503, "down")}
    results, _url = run(FakeCluster(**{DEPLOYMENT: (200, found), **changes}))
    assert {name: r["follows"] for name, r in results.items() if r["status"] == "failed"} == broken


# The drill, which begins when this says that the app is well.


@pytest.mark.parametrize(
    ("found", "answers", "trouble"),
    [
        (with_probes(get("/healthz")), {f"{THROUGH}/healthz": (204, "")}, ""),
        (with_probes(get("/healthz")), {f"{THROUGH}/healthz": (302, "")}, ""),
        (with_probes({"exec": {"command": ["x"]}}), {f"{THROUGH}/health": (404, "")}, ""),
        (with_probes(get("/live", 8081)), {f"{NS}/pods/pod-1:8081/proxy/live": (200, "")}, ""),
        (with_probes(get("/healthz")), {}, "/healthz answered 404"),
        (with_probes(get("/healthz")), {f"{THROUGH}/healthz": NO_ANSWER}, "timed out"),
        (deployment(), {f"{THROUGH}/health": (503, "")}, "/health answered 503"),
    ],
)
def test_the_drill_has_the_same_judgement(found, answers, trouble):
    found["spec"]["selector"] = {"matchLabels": {"app": "flask-app"}}
    ready = [{"endpoints": [{"addresses": [address]} for address in ("10.0.0.1", "10.0.0.2")]}]
    slices = {"/apis/discovery.k8s.io/v1/namespaces/flask-app/endpointslices": (200, {"items": ready})}
    app = drilled.App(FakeCluster(**{DEPLOYMENT: (200, found), **slices, **answers}), drilled.Options())
    said = app.unhealthy()
    assert trouble in said and bool(said) == bool(trouble)
    assert trouble or app.health


# Redirects, on a real connection.


class Redirecting(BaseHTTPRequestHandler):
    """Answers with the status that the path names, and says where to go for it."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(int(self.path[1:]))
        self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_given):
        pass


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers_and_not_followed(status):
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert running.http_get(f"http://127.0.0.1:{server.server_port}/{status}", {}, 2)[0] == status
        assert server.asked == [f"/{status}"]
        server.shutdown()
