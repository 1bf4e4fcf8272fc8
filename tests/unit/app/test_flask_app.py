# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference application, as a real gunicorn on the loopback interface."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import APP, COMMAND, Server, wait_for


def test_hello_and_health(serve: Callable[..., Server]) -> None:
    server = serve()
    assert json.loads(server.request("/")[1]) == {"message": "Hello from Flask"}
    assert server.request("/health")[:2] == (200, '{"status":"ok"}\n')
    assert server.request("/missing")[:2] == (404, '{"error": "Not Found"}')
    code, _text, headers = server.request("/", method="POST", body="")
    assert (code, headers["Content-Type"]) == (405, "application/json")
    assert "GET" in headers["Allow"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_have_a_port_of_their_own(serve: Callable[..., Server], workers: str) -> None:
    server = serve(WEB_CONCURRENCY=workers)
    assert server.status("/metrics") == 404
    for _ in range(40):
        assert server.status("/") == 200
    server.status("/missing/secret")
    for _ in range(5):  # the same numbers whoever answers
        text = server.metrics()
        assert 'flask_http_request_total{method="GET",status="200"} 40.0' in text
        assert 'flask_http_request_duration_seconds_count{method="GET",status="200",url_rule="/"} 40.0' in text
        assert "secret" not in text
        assert "/health" not in text
        assert ("process_resident_memory_bytes" in text) == (workers == "1")


def test_metrics_outlive_a_worker(serve: Callable[..., Server]) -> None:
    server = serve(WEB_CONCURRENCY="2")
    for _ in range(10):
        server.status("/")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    worker = int(children.read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: str(worker) not in (now := children.read_text().split()) and len(now) == 2)
    assert 'flask_http_request_total{method="GET",status="200"} 10.0' in server.metrics()


def test_multiprocess_files_are_wiped_at_start(serve: Callable[..., Server]) -> None:
    server = serve(WEB_CONCURRENCY="2")
    server.status("/")
    server.stop()
    server.start()
    assert "flask_http_request_total{" not in server.metrics()


def test_metrics_survive_a_replaced_single_worker(serve: Callable[..., Server]) -> None:
    server = serve()
    first = server.metrics()
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: sum("Worker exiting" in line["message"] for line in server.lines()))
    assert "flask_exporter_info" in first
    # The new worker answers before it has imported the application.
    wait_for(lambda: "flask_exporter_info" in server.metrics())
    assert server.status("/") == 200


def test_every_line_is_json_and_a_request_has_one(serve: Callable[..., Server]) -> None:
    server = serve(FLASKOPS_FAULTS="1")
    _code, _text, headers = server.request("/?a=b", headers={"X-Request-ID": "abc-1"})
    assert headers["X-Request-ID"] == "abc-1"
    _code, _text, headers = server.request("/missing", headers={"X-Request-ID": 'no"t {valid'})
    assert len(headers["X-Request-ID"]) == 32
    assert server.status("/faults/errors", method="POST") == 200
    assert server.status("/") == 500
    wait_for(lambda: len(server.requests()) == 5)
    hello, missing, _fault, traced, failed = server.requests()
    assert {key: hello[key] for key in ("level", "message", "request_id", "method", "route", "status")} == {
        "level": "INFO",
        "message": "GET / 200",
        "request_id": "abc-1",
        "method": "GET",
        "route": "/",
        "status": 200,
    }
    assert 0 <= hello["duration"] < 5
    assert hello["time"].endswith("+00:00")
    assert "traceback" not in hello
    assert (missing["route"], missing["status"]) == (None, 404)
    assert (missing["path"], missing["message"]) == ("/missing", "GET /missing 404")
    assert failed["level"] == "ERROR" and "InjectedError" in failed["message"]
    assert traced["traceback"].startswith("Traceback") and "InjectedError" in traced["traceback"]
    same = ("request_id", "method", "path", "route")
    assert [traced[key] for key in same] == [failed[key] for key in same]
    assert not any(line["logger"] == "gunicorn.access" for line in server.lines())
    assert sum("abc-1" in json.dumps(line) for line in server.lines()) == 1
    assert any(line["logger"] == "gunicorn.error" for line in server.lines())


def test_sigterm_fails_health_first_and_drops_nothing(serve: Callable[..., Server]) -> None:
    server = serve(DRAIN_SECONDS="2", WEB_CONCURRENCY="2", FLASKOPS_FAULTS="1")
    assert server.status("/faults/latency", method="POST", body='{"delay": 3}') == 200
    slow: list[int] = []
    client = threading.Thread(target=lambda: slow.append(server.status("/")))
    client.start()
    time.sleep(0.3)
    started = time.monotonic()
    server.process.terminate()
    wait_for(lambda: server.status("/health") == 503, 1.5)
    assert server.status("/faults") == 200  # still served
    client.join()
    assert slow == [200]
    assert server.process.wait(20) == 0
    assert 2 <= time.monotonic() - started < 10
    server.start()
    assert server.status("/health") == 200


def test_faults_do_not_exist_without_the_variable(serve: Callable[..., Server], tmp_path: Path) -> None:
    shared = tmp_path / "shared.json"
    shared.write_text('{"errors": {}, "health": {}}')
    server = serve(FLASKOPS_FAULTS_FILE=str(shared))
    for path in ("/faults", "/faults/errors", "/faults/crash"):
        for method in ("GET", "POST", "DELETE"):
            assert server.status(path, method=method) == 404
    assert server.status("/") == 200
    assert server.status("/health") == 200


def test_faults_act_on_every_worker_until_deleted(serve: Callable[..., Server]) -> None:
    server = serve(WEB_CONCURRENCY="3", FLASKOPS_FAULTS="1")
    assert server.status("/faults/errors", method="POST", body='{"ratio": 1}') == 200
    assert server.status("/faults/health", method="POST") == 200
    assert {server.status("/") for _ in range(30)} == {500}
    assert {server.status("/health") for _ in range(10)} == {503}
    assert 'flask_http_request_exceptions_total{method="GET",status="500"} 30.0' in server.metrics()
    assert server.status("/faults/health", method="DELETE") == 200
    assert server.status("/faults", method="DELETE") == 200
    assert {server.status("/") for _ in range(30)} == {200}
    assert {server.status("/health") for _ in range(10)} == {200}


def test_faults_act_on_every_replica(serve: Callable[..., Server], tmp_path: Path) -> None:
    first = serve(FLASKOPS_FAULTS="1", FLASKOPS_PEERS="127.0.0.2")
    code, text, _headers = first.request("/faults/health", method="POST")
    assert (code, "replica 127.0.0.2 did not take the switch" in text) == (502, True), text

    # As in a cluster, the replicas have one port and an address each.
    state = str(tmp_path / "second")
    second = serve(FLASKOPS_FAULTS="1", HOST="127.0.0.2", PORT=str(first.port), FLASKOPS_STATE_DIR=state)
    assert first.status("/faults/health", method="POST") == 200
    assert (first.status("/health"), second.status("/health")) == (503, 503)
    assert first.status("/faults", method="DELETE") == 200
    assert (first.status("/health"), second.status("/health")) == (200, 200)


def test_kept_alive_connections_are_told_to_go_while_draining(serve: Callable[..., Server]) -> None:
    server = serve(DRAIN_SECONDS="5")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)

    def closes() -> bool:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        return response.getheader("Connection") == "close"

    assert not closes()
    server.process.terminate()
    wait_for(closes, 4)
    assert server.process.poll() is None, "the connection was closed by the stop, not by the drain"


def test_a_fault_ends_by_itself(serve: Callable[..., Server]) -> None:
    server = serve(FLASKOPS_FAULTS="1")
    assert server.status("/faults/errors", method="POST", body='{"seconds": 1}') == 200
    assert server.status("/") == 500
    wait_for(lambda: server.status("/") == 200, 3)


def test_faults_refuse_wrong_options(serve: Callable[..., Server]) -> None:
    server = serve(FLASKOPS_FAULTS="1")
    for body, part in (
        ('{"ratio": 2}', "from 0 to 1"),
        ('{"ratio": NaN}', "from 0 to 1"),
        ('{"rate": 1}', "no option rate"),
        ("[]", "JSON object"),
        ("{", "JSON object"),
    ):
        code, text, _headers = server.request("/faults/errors", method="POST", body=body)
        assert (code, part in text) == (400, True), text
    assert server.status("/faults/nothing", method="POST") == 404
    assert server.request("/faults")[1] == "{}\n"


def test_shared_file_and_log_burst(serve: Callable[..., Server], tmp_path: Path) -> None:
    shared = tmp_path / "shared.json"
    server = serve(FLASKOPS_FAULTS="1", FLASKOPS_FAULTS_FILE=str(shared), WEB_CONCURRENCY="2")
    assert server.status("/") == 200
    shared.write_text('{"errors": {"ratio": 1}, "logs": {"rate": 50}, "wrong": {}}')
    assert {server.status("/") for _ in range(10)} == {500}
    wait_for(lambda: sum("fault switch logs" in line["message"] for line in server.lines()) >= 25)
    shared.write_text("not JSON")
    assert server.status("/") == 200
    shared.unlink()
    assert server.status("/") == 200


def test_crash_ends_the_pod_as_often_as_asked(serve: Callable[..., Server]) -> None:
    server = serve(FLASKOPS_FAULTS="1")
    assert server.status("/faults/crash", method="POST", body='{"times": 2, "after": 0}') == 200
    assert server.process.wait(10) == 1
    wait_for(lambda: not server.status("/health"))
    server.start()
    assert server.process.wait(10) == 1
    wait_for(lambda: not server.status("/health"))
    server.start()
    time.sleep(1.5)
    assert server.process.poll() is None


def test_memory_is_taken_and_given_back(serve: Callable[..., Server]) -> None:
    server = serve(FLASKOPS_FAULTS="1")

    def resident() -> int:
        return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    assert server.status("/faults/memory", method="POST", body='{"mb": 200}') == 200
    wait_for(lambda: resident() > 200 * 2**20)
    assert server.status("/faults/memory", method="DELETE") == 200
    wait_for(lambda: resident() < 200 * 2**20)


def test_wrong_environment_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for name, value, part in (("DRAIN_SECONDS", "600", "from 0 to 120"), ("METRICS_PORT", "5000", "own")):
        result = subprocess.run(
            COMMAND,
            cwd=APP,
            env={"PATH": os.environ["PATH"], "FLASKOPS_STATE_DIR": str(tmp_path), name: value},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert result.returncode != 0
        assert name in result.stderr and part in result.stderr
        assert "Traceback" not in result.stderr
