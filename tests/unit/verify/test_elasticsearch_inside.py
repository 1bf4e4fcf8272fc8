# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Elasticsearch that role elastic_stack installs is asked without being named, as the reader that its Service names."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.verify import numbered_lines
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import log_store

from tests.evaluation import ROOT, evaluate
from tests.fakes.certificates import certificate

from .test_verify_checks import pod
from .test_verify_links import SHIPPER_PAGE, STREAM, FakeCluster, run, shipper

HOST = "logs-es-http.elastic.svc"
SERVICE = "/api/v1/namespaces/elastic/services/logs-es-http"
SECRETS = "/api/v1/namespaces/elastic/secrets"
PASSWORD = "CANARY-reader"
NOTES = {"flaskops/login-secret": "logs-user-reader", "flaskops/tls-secret": "logs-es-http-certs-public"}
OUTPUT = {"type": "es", "host": HOST, "port": 9200, "index": "logs-kubernetes-default", "tls": True, "login": True}


class Search(BaseHTTPRequestHandler):
    """Elasticsearch as far as it is asked here."""

    def do_GET(self) -> None:
        server: Any = self.server
        login = base64.b64encode(f"flaskops-reader:{PASSWORD}".encode()).decode()
        known = self.headers.get("Authorization") == f"Basic {login}"
        hits = [{"_source": STREAM}] if "logs-kubernetes-default/_search" in self.path and server.has_lines else []
        body = json.dumps({"hits": {"hits": hits}} if known else {"error": "unauthorized"}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def elastic(tmp_path: Path) -> Iterator[Any]:
    authority, key = certificate(HOST)
    (tmp_path / "crt").write_text(authority)
    (tmp_path / "key").write_text(key)
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Search)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.authority, server.has_lines = authority, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def secret(**values: str) -> tuple[int, dict[str, Any]]:
    return 200, {"data": {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in values.items()}}


class Cluster(FakeCluster):
    def __init__(self, server: Any, notes: dict[str, str] | None = None, **changes: Any) -> None:
        agent = shipper()
        agent["metadata"]["annotations"] = {"flaskops/outputs": json.dumps([OUTPUT])}
        self.port = server.server_port
        metadata = {"name": "logs-es-http", "namespace": "elastic", "annotations": NOTES if notes is None else notes}
        answers = {
            "/apis/apps/v1/daemonsets": (200, {"items": [agent]}),
            "/api/v1/namespaces/logging/pods": (200, {"items": [pod("fluent-bit-x")]}),
            SHIPPER_PAGE: (200, "fluentbit_uptime 5\n"),
            SERVICE: (200, {"metadata": metadata, "spec": {"ports": [{"port": 9200}], "selector": {}}}),
            f"{SECRETS}/logs-user-reader": secret(username="flaskops-reader", password=PASSWORD),
            f"{SECRETS}/logs-es-http-certs-public": secret(ca_crt=server.authority),
        }
        super().__init__(**{**answers, **changes})

    def dial(self, service: dict[str, Any], seconds: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)


def verified(cluster: Cluster) -> dict[str, Any]:
    results, _url = run(cluster)
    assert PASSWORD not in json.dumps(results)
    found: dict[str, Any] = results["elasticsearch"]
    return found


def test_the_line_is_found_without_naming_it(elastic: Any) -> None:
    found = verified(Cluster(elastic))
    assert (found["status"], found["cause"]) == ("ok", "") and "found after" in found["evidence"]
    read = numbered_lines.find(running.Run(Cluster(elastic), running.Target()))
    assert list(read) == ["elasticsearch"] and read["elasticsearch"]("x", 60) == [json.dumps(STREAM)]


def test_an_index_that_takes_no_lines_is_a_failure(elastic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_store, "ARRIVAL", 0.3)
    elastic.has_lines = False
    found = verified(Cluster(elastic))
    assert found["status"] == "failed" and "it is not sent, or not taken" in found["cause"]


@pytest.mark.parametrize(
    ("notes", "changes", "status", "words"),
    [
        ({}, {}, "skipped", "elastic_stack_reader_password"),
        (None, {f"{SECRETS}/logs-user-reader": (403, {"message": "secrets is forbidden"})}, "skipped", "secrets is forbidden"),
        (None, {f"{SECRETS}/logs-user-reader": secret(username="flaskops-reader", password="old")}, "failed", "401"),
    ],
)
def test_who_may_not_ask_says_so(elastic: Any, notes: Any, changes: dict[str, Any], status: str, words: str) -> None:
    found = verified(Cluster(elastic, notes, **changes))
    assert found["status"] == status and words in found["evidence"] + found["cause"]


@pytest.mark.parametrize(("password", "notes"), [("", {}), ("secret-word", NOTES)])
def test_the_role_has_the_service_name_the_reader(tmp_path: Path, password: str, notes: dict[str, str]) -> None:
    wanted = "lookup('ansible.builtin.template', 'elasticsearch.yml.j2')"
    for tls in ("", "own-tls"):
        given = {"elastic_stack_reader_password": password, "elastic_stack_tls_secret": tls}
        text = evaluate(tmp_path, {"found": wanted}, given, role=ROOT / "roles/elastic_stack")["found"]
        http = yaml.safe_load(text)["http"]
        assert http["service"]["metadata"]["annotations"] == notes
        assert http.get("tls", {}).get("certificate", {}).get("secretName", "") == tls
