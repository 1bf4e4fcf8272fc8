# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduled verification as its image has it: the programs' files, two folders of the collection, and a bare Python."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests import harness, pages


class Api(BaseHTTPRequestHandler):
    """An API server with one node, on which nothing runs; one that refuses everybody where `refusing` is set.

    The Deployment has probes that its owner chose. There is a VictoriaLogs that has whatever the program wrote, unless `away` is
    set, and an Elasticsearch elsewhere, of which the API server knows nothing, that never has anything.
    """

    def do_GET(self) -> None:
        if "victoria-logs" in self.path or "/_search" in self.path:
            self.store()
            return
        node = {"metadata": {"name": "one"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        items = [node] if self.path == "/api/v1/nodes" else []
        probe = {"httpGet": {"path": "/healthz", "port": 5000}, "initialDelaySeconds": 60}
        container = {"name": "shop", "livenessProbe": probe, "readinessProbe": probe}
        deployment = {"spec": {"template": {"spec": {"containers": [container]}}}}
        missing = "/services/" in self.path or "monitoring.coreos.com" in self.path
        status = 401 if self.server.refusing else 404 if missing else 200  # type: ignore[attr-defined]
        assert self.headers["Authorization"] == "Bearer secret-token"
        self.send_response(status)
        self.end_headers()
        found = deployment if "/deployments/" in self.path else {"items": items}
        self.wfile.write(json.dumps(found if status == 200 else {"message": "no"}).encode())

    def store(self) -> None:
        parts = urlsplit(self.path)
        service = {"metadata": {"name": "victoria-logs", "namespace": "logs"}, "spec": {"ports": [{"port": 9428}]}}
        found = json.dumps({"items": [service]})
        if "/select/logsql" in self.path:
            (run,) = re.findall(r"verify-[0-9a-f]+", parse_qs(parts.query)["query"][0])
            rows = [line for line in self.server.written if run in line]  # type: ignore[attr-defined]
            common = {"_time": "2026-01-31T12:00:00Z", "_stream": "{}"}
            found = "".join(json.dumps({**common, "_msg": row}) + "\n" for row in rows)
        elif parts.path.endswith("/_search"):
            found = json.dumps({"hits": {"hits": []}})
        away = "/proxy/" in self.path and self.server.away  # type: ignore[attr-defined]
        self.send_response(503 if away else 200)
        self.end_headers()
        self.wfile.write((json.dumps({"message": "no endpoints available"}) if away else found).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.refusing = server.away = False  # type: ignore[attr-defined]
    server.written = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def url(tmp_path: Path, api: ThreadingHTTPServer, runner: Path) -> Iterator[str]:
    """The program, run by a Python that finds no other package, with a second between two runs."""
    # Inside a pod the ServiceAccount's folder is fixed, and the address is https.
    code = runner / "flaskops_observability/kube/transport.py"
    code.write_text(code.read_text().replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path)))
    code.write_text(code.read_text().replace('f"https://{inside}', 'f"http://{inside}'))
    (tmp_path / "token").write_text("secret-token\n")
    (tmp_path / "log_backends.json").write_text("[]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "VERIFY_TARGET": json.dumps({"name": "shop", "namespace": 'web"', "timeout": 2}),
        "VERIFY_EVERY": "1",
        "VERIFY_BACKENDS": str(tmp_path / "log_backends.json"),
        "PORT": str(port),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(api.server_address[1]),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-S", "-m", "scheduled_verify"]
    with subprocess.Popen(command, cwd=runner, env=environment, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        written, output = api.written, program.stdout  # type: ignore[attr-defined]
        threading.Thread(target=lambda: written.extend(output), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            program.terminate()
            # It ends with the run that is under way, so that no mark of a test alert is left behind.
            assert program.wait(30) == 0


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as reply:
        return str(reply.read().decode())


def until(url: str, pattern: str) -> str:
    """The metrics, as soon as they have a line of this pattern."""
    never, end, text = threading.Event(), time.monotonic() + 30, ""
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            text = get(f"{url}/metrics")
        if re.search(pattern, text, re.MULTILINE):
            return text
        never.wait(0.1)
    raise AssertionError(f"no {pattern} in {text}")


def test_what_a_run_found_is_served(url: str) -> None:
    text = until(url, r"^flaskops_verify_runs_total\{.*\} [2-9]")
    own = 'namespace="web\\"",app="shop"'
    assert f'flaskops_verify_link_ok{{{own},link="node"}} 1.0' in text
    assert f'flaskops_verify_link_ok{{{own},link="endpoint"}} 0.0' in text
    assert f'flaskops_verify_link_follows{{{own},link="logs"}} 1.0' in text
    # That somebody chose other probes breaks nothing.
    for link in ("probes", "reference probes"):
        assert f'flaskops_verify_link_ok{{{own},link="{link}"}} 1.0' in text
    # What was skipped is neither well nor broken.
    assert not re.search(r'^flaskops_verify_link_ok\{.*link="loki"', text, re.MULTILINE)
    (ended,) = re.findall(r"^flaskops_verify_last_run_timestamp_seconds\{.*\} (\S+)$", text, re.MULTILINE)
    assert time.time() - float(ended) < 10
    assert f"flaskops_verify_interval_seconds{{{own}}} 1.0" in text
    links = [result["link"] for result in json.loads(get(f"{url}/results.json"))["results"]]
    assert links[0] == "node"
    assert "shop in namespace web" in get(f"{url}/table.txt")
    with pytest.raises(urllib.error.HTTPError):
        get(f"{url}/nothing")


def test_the_page_has_what_the_run_found_and_refreshes_itself(url: str) -> None:
    until(url, r"^flaskops_verify_runs_total\{.*\} [2-9]")
    with urllib.request.urlopen(f"{url}/", timeout=5) as reply:
        root, headers = pages.read(reply.read().decode()), reply.headers
    assert pages.problems(root) == [] and pages.beside(root) == []
    assert headers["Content-Type"] == "text/html; charset=utf-8" and headers["Refresh"] == "10"
    assert next(root.all("h1")).text() == 'Verification of shop in namespace web"'
    links = [result["link"] for result in json.loads(get(f"{url}/results.json"))["results"]]
    (table,) = [t for t in root.all("table") if t.all("caption") and "order of the chain" in t.text()]
    assert [" ".join(head.text().split()) for head in next(table.all("tbody")).all("th")] == links
    with urllib.request.urlopen(f"{url}/?refresh=no", timeout=5) as reply:
        assert reply.headers["Refresh"] is None


def test_since_when_outlives_the_runs(url: str, api: ThreadingHTTPServer) -> None:
    def row() -> dict[str, Any]:
        found = json.loads(get(f"{url}/results.json"))
        (result,) = [result for result in found["results"] if result["link"] == "victoria_logs"]
        return dict(result) | {"ended": found["ended"], "changes": found["changes"]}

    until(url, r"^flaskops_verify_runs_total\{.*\} 1")
    first = row()
    assert first["since"] <= first["ended"] and first["before"] == ""
    until(url, r"^flaskops_verify_runs_total\{.*\} [3-9]")
    assert row()["since"] == first["since"] < row()["ended"]


def test_a_run_that_cannot_begin_is_told_and_the_next_one_goes_on(url: str, api: ThreadingHTTPServer) -> None:
    until(url, r"^flaskops_verify_runs_total\{.*\} 1")
    api.refusing = True  # type: ignore[attr-defined]
    until(url, r"^flaskops_verify_errors_total\{.*\} 1")
    assert "refuses the credentials" in get(f"{url}/")
    api.refusing = False  # type: ignore[attr-defined]
    until(url, r"^flaskops_verify_runs_total\{.*\} [3-9]")
    assert json.loads(get(f"{url}/results.json"))["error"] == ""


LINES = r'^flaskops_verify_lines_{}_total\{{namespace="web.*",app="shop",backend="{}"\}} '


def test_numbered_lines_are_written_and_counted(url: str, api: ThreadingHTTPServer) -> None:
    text = until(url, LINES.format("written", "victoria_logs") + "[4-9]0")
    assert re.search(LINES.format("late", "victoria_logs") + r"0\.0$", text, re.MULTILINE)
    api.away = True  # type: ignore[attr-defined]
    text = until(url, LINES.format("late", "victoria_logs") + "20")
    # What it has is not known, so that nothing is missing; and the reason is told.
    assert re.search(LINES.format("missing", "victoria_logs") + r"0\.0$", text, re.MULTILINE)
    assert "victoria_logs" in get(f"{url}/") and "503 no endpoints available" in get(f"{url}/")
    assert json.loads(get(f"{url}/results.json"))["lines"]["victoria_logs"]["missing"] == 0
    written: list[str] = api.written  # type: ignore[attr-defined]
    harness.until(
        lambda: any("503 no endpoints" in line for line in written if line.startswith("{")), 15, "a line with the reason"
    )
    numbered = [line for line in api.written if "numbered line verify-" in line]  # type: ignore[attr-defined]
    assert len([line for line in numbered if line.startswith("{")]) == pytest.approx(len(numbered) / 20, abs=1)


def test_back_ends_of_the_secret_are_asked_from_the_next_run_on(url: str, api: ThreadingHTTPServer, tmp_path: Path) -> None:
    until(url, LINES.format("written", "victoria_logs"))
    file = tmp_path / "log_backends.json"
    for wrong, said in (
        ('[{"type": "splunk", "url": "http://canary-4d"}]', "log_backends.json can't be read"),
        ('{"password": "canary-4d"', "log_backends.json can't be read"),
        ('[{"type": "cloudwatch", "password": "canary-4d"}]', "log_backends.json can't be read"),
        (
            '[{"type": "elasticsearch", "url": "http://x", "password": "canary-4d\\n"}]',
            "Entry 1 of log_backends.json (elasticsearch) can't be used: its password",
        ),
    ):
        before = re.findall(r"^flaskops_verify_errors_total\{.*\} (\d+)", get(f"{url}/metrics"), re.MULTILINE)[0]
        file.write_text(wrong)
        until(url, rf"^flaskops_verify_errors_total\{{.*\}} (?!{before}\.)")
        until_page(url, said)
        assert "canary" not in get(f"{url}/")
    file.write_text(json.dumps([{"type": "elasticsearch", "url": f"http://127.0.0.1:{api.server_address[1]}", "index": "app"}]))
    until(url, LINES.format("late", "elasticsearch") + "20")
    assert "canary" not in "".join(api.written)  # type: ignore[attr-defined]


def until_page(url: str, words: str) -> None:
    """Wait until the page has these words."""
    never, end = threading.Event(), time.monotonic() + 15
    while words not in get(f"{url}/"):
        assert time.monotonic() < end, get(f"{url}/")
        never.wait(0.1)


def test_metrics_parse_and_are_described(url: str) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(until(url, "^flaskops_verify_link_ok"))}
    assert families["flaskops_verify_runs"].type == "counter"
    assert all(family.documentation for family in families.values())
