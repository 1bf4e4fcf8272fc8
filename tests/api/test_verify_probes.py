# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify and the drill's first look, through the proxies of a real API server, at an app whose probes are its owner's choice.

A Deployment, its pod and its Service are real; in the place of the pod a server of this process listens, on an address of this
machine that is not a loopback one, because the API server's proxies lead to no other.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import App, Options
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Target

from tests.api_rig import Rig
from tests.fakes.certificates import certificate
from tests.harness import until

Json = dict[str, Any]
NAME = "probed"
NS, APPS = f"/api/v1/namespaces/{NAME}", f"/apis/apps/v1/namespaces/{NAME}/deployments"
MERGE = "application/merge-patch+json"
PAGE = """\
flask_http_request_total{status="200"} 1
flask_http_request_duration_seconds_count 1
flask_http_request_duration_seconds_sum 0.1
# TYPE flask_http_request_exceptions_total counter
"""
HEADERS = [{"name": "X-Health", "value": "canary-token"}]


def own_address() -> str:
    """An address of this machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        try:
            found.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address but the loopback one, to which an API server's proxies do not lead")
        return str(found.getsockname()[0])


class Answers(BaseHTTPRequestHandler):
    """Answers each path with the status that stands in it, and metrics."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        digits = path[-3:]
        status, body = (int(digits), "") if digits.isdigit() else (200, PAGE) if path == "/metrics" else (404, "nothing here")
        if path == "/guarded200" and self.headers["X-Health"] != "canary-token":
            status = 401
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "https://login.example.com/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_given: Any) -> None:
        """Say nothing."""


class Probed:
    """The app on the API server, whose probes are changed for each case."""

    def __init__(self, rig: Rig, address: str, ports: dict[str, int]) -> None:
        self.rig, self.address, self.ports = rig, address, ports
        self.cluster = KubeCluster(rig.api)
        self.target = Target(NAME, NAME, port=ports["app"], metrics_port=ports["app"], log_check=False, alert_check=False)
        rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAME}})
        rig.request("POST", "/api/v1/nodes", {"metadata": {"name": NAME}})
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        rig.request("PATCH", f"/api/v1/nodes/{NAME}/status", {"status": ready}, MERGE)
        port = {"name": "http", "port": 80, "targetPort": ports["app"]}
        rig.request("POST", f"{NS}/services", {"metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}, "ports": [port]}})

    @contextmanager
    def deployed(self, probe: Json) -> Iterator[None]:
        """The Deployment with this probe twice, complete."""
        declared = [{"name": name, "containerPort": number} for name, number in self.ports.items()]
        container: Json = {"name": NAME, "image": "probed:1", "ports": declared, "livenessProbe": probe, "readinessProbe": probe}
        labels = {"app": NAME}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        self.rig.request("POST", APPS, {"metadata": {"name": NAME}, "spec": spec})
        try:
            until(self._runs, 30, "the pod runs")
            yield
        finally:
            self.rig.remove(f"{APPS}/{NAME}")

    def _runs(self) -> bool:
        """Whether all know that the pod is ready, which the scheduler and kubelet would say."""
        for pod in self.rig.request("GET", f"{NS}/pods")["items"]:
            path = f"{NS}/pods/{pod['metadata']['name']}"
            if not pod["spec"].get("nodeName"):
                self.rig.request("POST", f"{path}/binding", {"metadata": pod["metadata"], "target": {"name": NAME}})
                conditions = [{"type": "Ready", "status": "True"}]
                status = {"phase": "Running", "podIP": self.address, "podIPs": [{"ip": self.address}], "conditions": conditions}
                self.rig.request("PATCH", f"{path}/status", {"status": status}, MERGE)
        slices = self.rig.request("GET", f"/apis/discovery.k8s.io/v1/namespaces/{NAME}/endpointslices")["items"]
        status = self.rig.request("GET", f"{APPS}/{NAME}")["status"]
        return status.get("availableReplicas") == 1 and any(item["endpoints"] for item in slices)

    def found(self) -> tuple[dict[str, Json], str]:
        """What verify finds, by link, and what the drill has against beginning."""
        results, _url = verify(self.cluster, self.target)
        app = App(self.cluster, Options(NAME, NAME, self.ports["app"]))
        return {result["link"]: result for result in results}, app.unhealthy()


@pytest.fixture(scope="module")
def probed(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probed]:
    address, folder = own_address(), tmp_path_factory.mktemp("probed")
    with ExitStack() as stack:
        servers = {name: stack.enter_context(ThreadingHTTPServer((address, 0), Answers)) for name in ("app", "tls", "other")}
        for name, text in zip(("crt", "key"), certificate(address), strict=True):
            Path(folder / name).write_text(text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "crt", folder / "key")
        servers["tls"].socket = context.wrap_socket(servers["tls"].socket, server_side=True)
        for server in servers.values():
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        found = Probed(rig, address, {name: server.server_port for name, server in servers.items()})
        # Other tests of this control plane count on a cluster without a node.
        for path in (NS, f"/api/v1/nodes/{NAME}"):
            stack.callback(rig.remove, path)
        yield found


@pytest.mark.parametrize(
    ("probe", "health"),
    [
        ({"httpGet": {"path": "/live200", "port": "app"}, "failureThreshold": 9, "timeoutSeconds": 7}, "ok"),
        ({"httpGet": {"path": "/live204", "port": "app"}, "initialDelaySeconds": 1}, "ok"),
        ({"httpGet": {"path": "/live302?full=1", "port": "app"}}, "ok"),
        ({"httpGet": {"path": "/live308", "port": "app"}}, "ok"),
        ({"httpGet": {"path": "/guarded200", "port": "app", "httpHeaders": HEADERS}}, "ok"),
        ({"httpGet": {"path": "/live200", "port": "other"}}, "ok"),
        ({"httpGet": {"path": "/live200", "port": "tls", "scheme": "HTTPS"}}, "ok"),
        ({"httpGet": {"path": "/live401", "port": "app"}}, "failed"),
        ({"httpGet": {"path": "/live500", "port": "tls", "scheme": "HTTPS"}}, "failed"),
        ({"exec": {"command": ["true"]}}, "skipped"),
        ({"tcpSocket": {"port": "app"}}, "skipped"),
        ({"httpGet": {"path": "/live200", "port": "other", "scheme": "HTTPS"}}, "skipped"),
    ],
    ids=[
        "thresholds",
        "delay",
        "redirect",
        "permanent",
        "headers",
        "other-port",
        "tls",
        "refused",
        "broken",
        "exec",
        "tcp",
        "no-tls",
    ],
)
def test_what_the_owner_chose_is_no_failure_and_the_drill_begins(probed: Probed, probe: Json, health: str) -> None:
    with probed.deployed(probe):
        results, trouble = probed.found()
    broken = [name for name, result in results.items() if result["status"] == "failed"]
    assert broken == (["health"] if health == "failed" else []), results
    assert results["health"]["status"] == health
    assert results["reference probes"]["status"] == "ok" and "no failure" in results["reference probes"]["evidence"]
    assert bool(trouble) == (health == "failed")
    assert "canary-token" not in json.dumps(results)


def test_a_probe_that_leads_nowhere_is_the_fault_of_the_probes(probed: Probed) -> None:
    with probed.deployed({"httpGet": {"path": "/live200", "port": "web"}}):
        results, _trouble = probed.found()
    blamed = [name for name, result in results.items() if result["status"] == "failed" and not result["follows"]]
    assert blamed == ["probes"] and "the port web" in results["probes"]["cause"]


def test_an_application_that_speaks_tls_itself(probed: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = probed.ports["tls"]
    monkeypatch.setattr(probed, "target", dataclasses.replace(probed.target, port=tls, metrics_port=tls))
    monkeypatch.setitem(probed.ports, "app", tls)
    probe = {"httpGet": {"path": "/live200", "port": tls, "scheme": "HTTPS"}}
    plain = probed.rig.request("GET", f"{NS}/services/{NAME}")["spec"]["ports"]
    entry = {"name": "https", "port": 443, "targetPort": tls, "appProtocol": "https"}
    probed.rig.request("PATCH", f"{NS}/services/{NAME}", {"spec": {"ports": [entry]}}, MERGE)
    try:
        with probed.deployed(probe):
            results, trouble = probed.found()
    finally:
        probed.rig.request("PATCH", f"{NS}/services/{NAME}", {"spec": {"ports": plain}}, MERGE)
    assert ([name for name, result in results.items() if result["status"] == "failed"], trouble) == ([], "")
    assert results["metric requests"]["status"] == results["health"]["status"] == "ok"
