# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole run against a fake API server, and the table."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import urllib3
from ansible_collections.flaskops.observability.plugins.module_utils.verify import api, links, table

from .test_verify_checks import PAGE, deployment, node, pod

NS = "/api/v1/namespaces/flask-app"
SERVICE = {"spec": {"ports": [{"port": 80, "targetPort": 5000}]}, "status": {"loadBalancer": {}}}


class FakeCluster:
    """Answers from a dict of paths; an app that logs the request ids it is sent."""

    host = "https://api"

    def __init__(self, **changes):
        self.log = ["noise"]
        self.logs_ids = True
        self.answers = {
            f"{NS}/pods": (200, {"items": [pod(), pod("pod-2")]}),
            "/apis/apps/v1/namespaces/flask-app/deployments/flask-app": (200, deployment()),
            f"{NS}/services/flask-app": (200, SERVICE),
            "/api/v1/nodes": (200, {"items": [node()]}),
            "/api/v1/services": (200, {"items": []}),
            f"{NS}/services/flask-app:80/proxy/health": (200, "ok"),
            f"{NS}/services/flask-app:80/proxy/": (404, "nothing here"),
            **{f"{NS}/pods/{p}:9200/proxy/metrics": (200, PAGE) for p in ("pod-1", "pod-2")},
            **{f"{NS}/pods/{p}:5000/proxy/": (200, "") for p in ("pod-1", "pod-2")},
        }
        self.answers.update(changes)

    def fetch(self, path, headers=None, seconds=10):
        path = path.split("?")[0]
        if self.logs_ids and "X-Request-ID" in (headers or {}):
            self.log.append(json.dumps({"request_id": headers["X-Request-ID"]}))
        answer = self.answers.get(path, (404, {"message": f"{path} not found"}))
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return status, body if isinstance(body, str) else json.dumps(body)

    def lines(self, path, seconds):
        assert "follow=true" in path
        yield from self.log if "pod-2" in path else []


def run(cluster, **options):
    results, url = links.verify(cluster, links.Target(timeout=2, **options))
    return {r["link"]: r for r in results}, url


def test_a_whole_chain():
    results, url = run(FakeCluster())
    assert list(results) == [
        "node",
        "rollout",
        "probes",
        "health",
        "metric requests",
        "metric duration",
        "metric exceptions",
        "logs",
        "loki",
        "metrics stack",
    ]
    assert {r["status"] for name, r in results.items() if name not in ("loki", "metrics stack")} == {"ok"}
    assert results["metrics stack"]["evidence"] == "no Prometheus operator is installed on this cluster"
    assert "log of pod-2" in results["logs"]["evidence"]
    assert url == f"https://api{NS}/services/flask-app:80/proxy"


@pytest.mark.parametrize(
    ("path", "answer", "broken"),
    [
        ("/api/v1/nodes", (200, {"items": [node(ready="False")]}), {"node"}),
        ("/api/v1/nodes", (500, {"message": "etcd"}), {"node"}),
        (f"{NS}/services/flask-app:80/proxy/health", (503, {"message": "no endpoints available"}), {"health"}),
        (f"{NS}/services/flask-app", (404, {"message": "no service"}), {"health", "logs"}),
        ("/apis/apps/v1/namespaces/flask-app/deployments/flask-app", (404, {"message": "none"}), {"rollout", "probes"}),
        (f"{NS}/pods/pod-2:9200/proxy/metrics", (503, "refused"), {"metric requests", "metric duration", "metric exceptions"}),
        (f"{NS}/pods", (200, {"items": []}), {"metric requests", "metric duration", "metric exceptions", "logs"}),
    ],
)
def test_one_broken_link(path, answer, broken):
    results, _ = run(FakeCluster(**{path: answer}))
    assert {name for name, r in results.items() if r["status"] == "failed"} == broken
    for name in broken:
        assert results[name]["cause"]
        assert results[name]["next_command"].startswith("kubectl ")


def test_nodes_that_may_not_be_listed():
    results, _ = run(FakeCluster(**{"/api/v1/nodes": (403, {"message": "forbidden"})}))
    assert results["node"]["status"] == "left_out"


def test_request_id_not_logged():
    cluster = FakeCluster()
    cluster.logs_ids = False
    results, _ = run(cluster)
    assert results["logs"]["status"] == "failed"
    results, _ = run(cluster, log_check=False)
    assert results["logs"]["status"] == "left_out"


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

    results, url = links.verify(cluster, links.Target(timeout=2), plain)
    assert url == "http://10.0.0.7"
    assert sorted(asked) == ["http://10.0.0.7/", "http://10.0.0.7/health"]
    assert {r["status"] for r in results if r["link"] not in ("loki", "metrics stack")} == {"ok"}


def test_unreachable_api_server_is_one_sentence():
    cluster = FakeCluster(**{f"{NS}/pods": api.ApiError(0, "no answer from https://api: refused")})
    with pytest.raises(links.VerifyError, match=r"Cannot reach the API server: no answer from https://api: refused; check"):
        run(cluster)


def test_credentials_without_rights_are_one_sentence():
    with pytest.raises(links.VerifyError, match="Cannot list the pods of namespace flask-app"):
        run(FakeCluster(**{f"{NS}/pods": (403, {"message": "forbidden"})}))


def test_table_fits_and_its_commands_can_be_copied():
    target = links.Target(
        kubeconfig="/a/rather/long/path/of/a/folder/with/a/kubeconfig/inside/kubeconfig.yaml", context="staging"
    )
    results = [
        {"link": "node", "status": "ok", "evidence": "1 of 1", "cause": "", "next_command": "", "seconds": 0.01},
        {
            "link": "logs",
            "status": "failed",
            "evidence": "e " * 90,
            "cause": "c " * 90,
            "next_command": target.next_command("logs"),
            "seconds": 1.0,
        },
    ]
    text = table.render(results, "title")
    assert max(map(len, text.splitlines())) <= 100
    command = text[text.index("next:") + 5 :].replace("\\\n", " ").split()
    assert command == target.next_command("logs").split()
    rows = text.splitlines()
    assert rows[1].index("evidence") == rows[3].index("1 of 1") == rows[4].index("e e")


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


def cluster_at(server):
    token = {"BearerToken": {"in": "header", "key": "authorization", "value": "Bearer t"}}
    config = SimpleNamespace(host=f"http://127.0.0.1:{server.server_port}", auth_settings=lambda: token)
    return api.KubeCluster(SimpleNamespace(configuration=config, rest_client=SimpleNamespace(pool_manager=urllib3.PoolManager())))


def test_kube_cluster_sends_credentials_and_headers(server):
    status, body = cluster_at(server).fetch("/x", {"X-Request-ID": "r"})
    assert (status, json.loads(body)) == (200, {"auth": "Bearer t", "id": "r"})


def test_kube_cluster_gives_whole_lines_and_ends_in_time(server):
    assert list(cluster_at(server).lines("/hang", 0.5)) == ["one", "two"]


def test_kube_cluster_refused_log(server):
    with pytest.raises(api.ApiError):
        list(cluster_at(server).lines("/log", 1))


def test_plain_get(server):
    assert links.http_get(f"http://127.0.0.1:{server.server_port}/x", {}, 2)[0] == 200
    assert links.http_get(f"http://127.0.0.1:{server.server_port}/log", {}, 2)[0] == 404


def test_plain_get_refused():
    with pytest.raises(api.ApiError, match="no answer from http://127"):
        links.http_get("http://127.0.0.1:1/", {}, 2)


LOKI = {"metadata": {"name": "loki", "namespace": "logs"}, "spec": {"ports": [{"port": 3100}]}}
LOKI_QUERY = "/api/v1/namespaces/logs/services/loki:3100/proxy/loki/api/v1/query_range"
STREAM = {"namespace": "flask-app", "app": "flask-app", "container": "flask-app", "cluster": "test", "level": "info"}


@pytest.mark.parametrize(
    ("streams", "status", "text"),
    [
        ([{"stream": STREAM}], "ok", "found after"),
        ([], "failed", "the shipper does not run, or Loki takes nothing"),
        ([{"stream": {**STREAM, "cluster": ""}}], "failed", "its stream has no label cluster"),
    ],
)
def test_a_line_is_searched_in_loki(streams, status, text):
    answer = (200, {"data": {"result": streams}})
    found, _url = run(FakeCluster(**{"/api/v1/services": (200, {"items": [LOKI]}), LOKI_QUERY: answer}))
    assert found["loki"]["status"] == status
    assert text in found["loki"]["evidence"] + found["loki"]["cause"]
