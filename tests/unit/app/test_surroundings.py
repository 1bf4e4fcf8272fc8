# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds an application in a pod: its environment, its memory, what is not installed, what its tree sets."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flaskops_runtime import memory

from .support import COMMAND, Server, wait_for

TOLD = """
from flask import Flask, current_app, request
app = Flask(__name__)
@app.get("/")
def url():
    current_app.logger.debug("in detail")
    return request.url_root
"""
EXPORTER = """
from flask import Flask
from prometheus_flask_exporter.multiprocess import GunicornPrometheusMetrics
app = Flask(__name__)
GunicornPrometheusMetrics(app)
app.add_url_rule("/", "hello", lambda: "hello")
"""
MOVES = """
import os
os.environ["PROMETHEUS_MULTIPROC_DIR"] = "/nowhere"
from flask import Flask
app = Flask(__name__)
app.add_url_rule("/", "hello", lambda: "hello")
"""
TURNS = """
import time
from flask import Flask
app = Flask(__name__)
inside, most = [], [0]
@app.get("/turn")
def turn():
    inside.append(1)
    most[0] = max(most[0], len(inside))
    time.sleep(0.4)
    inside.pop()
    return "done"
@app.get("/most")
def seen():
    return str(most[0])
"""
STREAMS = """
import time
from flask import Flask, request
app = Flask(__name__)
@app.post("/up")
def up():
    return str(len(request.get_data()))
@app.get("/<path:text>")
def echo(text):
    return text
@app.get("/stream")
def stream():
    def lines():
        while True:
            yield b"x" * 100000
            time.sleep(0.01)
    return lines()
"""
NO_FLASK = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"plain"]
"""
TOTAL = 'flask_http_request_total{method="GET",status="200"}'


@pytest.fixture
def start(serve: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Starts an application of the given text."""

    def start(text: str, files: dict[str, str] | None = None, **env: str) -> Server:
        folder = tmp_path / "tree"
        for name, content in {"app.py": text, **(files or {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return serve(folder=folder, FLASK_IMAGE_WSGI="app:app", **env)

    return start


def ended(tmp_path: Path, text: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A server that does not start; it ends by itself."""
    (tmp_path / "app.py").write_text(text)
    given = {"PATH": os.environ["PATH"], "FLASKOPS_STATE_DIR": str(tmp_path / "state"), "FLASK_IMAGE_WSGI": "app:app", **env}
    return subprocess.run(COMMAND, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(("allowed", "scheme"), [("10.0.0.1", "http"), ("*", "https")])
def test_the_scheme_is_the_proxy_s_where_it_is_allowed(start: Callable[..., Server], allowed: str, scheme: str) -> None:
    server = start(TOLD, FORWARDED_ALLOW_IPS=allowed)
    assert server.request("/", headers={"X-Forwarded-Proto": "https", "Host": "shop"})[1] == f"{scheme}://shop/"


def test_both_ports_are_there_by_ipv6(start: Callable[..., Server]) -> None:
    server = start(TOLD, HOST="[::1]")
    assert server.status("/") == 200
    assert TOTAL in server.metrics()


@pytest.mark.parametrize(("level", "lines"), [("info", 0), ("debug", 1)])
def test_the_level_of_the_application_s_log_is_chosen(start: Callable[..., Server], level: str, lines: int) -> None:
    server = start(TOLD, LOG_LEVEL=level)
    server.status("/")
    wait_for(lambda: [line for line in server.requests() if line["logger"] == "flaskops.request"])
    assert sum(line["message"] == "in detail" for line in server.lines()) == lines


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_that_is_named_for_the_metrics_is_made(
    start: Callable[..., Server], tmp_path: Path, workers: str, variable: str
) -> None:
    server = start(EXPORTER, **{variable: str(tmp_path / "a/b"), "WEB_CONCURRENCY": workers})
    assert [server.status("/") for _ in range(3)] == [200] * 3
    server.status("/health")
    assert f"{TOTAL} 3.0" in server.metrics()


def test_a_worker_that_has_written_nothing_yet_takes_no_metrics_away(start: Callable[..., Server], tmp_path: Path) -> None:
    """Its file is made before it is filled, and stays empty where the worker is killed just then."""
    server = start(EXPORTER, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "own"), WEB_CONCURRENCY="2")
    assert server.status("/") == 200
    for name in ("counter_1.db", "gauge_livesum_1.db"):
        (tmp_path / "own" / name).touch()
    assert f"{TOTAL} 1.0" in server.metrics()


def test_the_folder_may_be_named_in_the_tree_s_own_settings(start: Callable[..., Server], tmp_path: Path) -> None:
    text = f'import os\nos.environ["PROMETHEUS_MULTIPROC_DIR"] = {str(tmp_path / "own")!r}\nimport prometheus_client\n'
    server = start(EXPORTER, {"gunicorn.conf.py": text})
    server.status("/")
    assert f"{TOTAL} 1.0" in server.metrics()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    done = ended(tmp_path, TOLD, PROMETHEUS_MULTIPROC_DIR="/proc/none")
    assert done.returncode != 0
    assert "/proc/none" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_moves_the_folder_moves_no_metrics(start: Callable[..., Server], workers: str) -> None:
    server = start(MOVES, WEB_CONCURRENCY=workers)
    server.status("/")
    assert f"{TOTAL} 1.0" in server.metrics()
    told = [line for line in server.lines() if "PROMETHEUS_MULTIPROC_DIR" in line["message"]]
    assert {(line["level"], "/nowhere" in line["message"]) for line in told} == {("WARNING", True)}


def test_an_application_without_flask_is_served_too(start: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "hidden/flask").mkdir(parents=True)
    (tmp_path / "hidden/flask/__init__.py").write_text("raise ModuleNotFoundError('No module named flask', name='flask')\n")
    server = start(NO_FLASK, PYTHONPATH=str(tmp_path / "hidden"))
    assert server.request("/x")[:2] == (200, "plain")
    assert server.request("/health")[0] == 200
    wait_for(server.requests)
    (line,) = server.requests()
    assert (line["path"], line["route"], line["status"]) == ("/x", None, 200)
    assert f"{TOTAL} 1.0" in server.metrics()


@pytest.mark.parametrize("text", ["import sys\nsys.exit(1)\n", "import nothing_of_this_name\n", "app = None\n"])
def test_an_application_that_cannot_start_ends_the_container(tmp_path: Path, text: str) -> None:
    done = ended(tmp_path, text)
    assert done.returncode != 0
    assert done.stdout.count("Booting worker") <= 2


def test_one_request_at_a_time_where_the_tree_says_so_but_health_always(start: Callable[..., Server]) -> None:
    server = start(TURNS, {"gunicorn.conf.py": 'worker_class = "sync"\n'})
    clients = [threading.Thread(target=server.status, args=("/turn",)) for _ in range(3)]
    began = time.monotonic()
    for client in clients:
        client.start()
    assert server.status("/health") == 200
    assert time.monotonic() - began < 0.4
    for client in clients:
        client.join()
    assert server.request("/most")[1] == "1"


def test_a_worker_class_of_the_tree_s_own_is_heeded(start: Callable[..., Server]) -> None:
    text = "from gunicorn.workers.sync import SyncWorker\nclass Own(SyncWorker):\n    pass\nworker_class, threads = Own, 1\n"
    server = start(TOLD, {"gunicorn.conf.py": text})
    assert (server.status("/"), server.status("/health")) == (200, 200)
    assert any("Using worker: Own" in line["message"] for line in server.lines())
    assert f"{TOTAL} 1.0" in server.metrics()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_is_loaded_before_the_workers_are_forked(start: Callable[..., Server], workers: str) -> None:
    server = start(TOLD, {"gunicorn.conf.py": "preload_app = True\n"}, WEB_CONCURRENCY=workers)
    assert [server.status("/") for _ in range(10)] == [200] * 10
    assert server.status("/health") == 200
    assert f"{TOTAL} 10.0" in server.metrics()
    wait_for(lambda: sum(line["logger"] == "flaskops.request" for line in server.lines()) == 10)


def test_large_bodies_odd_paths_and_clients_that_go(start: Callable[..., Server]) -> None:
    server = start(STREAMS)
    assert server.request("/up", "POST", "x" * 40_000_000)[1] == "40000000"
    assert server.request("/caf%C3%A9%2Fau%20lait")[:2] == (200, "caf\u00e9/au lait")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(10)
    wait_for(lambda: any(line["route"] == "/stream" for line in server.requests()))
    assert [line["path"] for line in server.requests()] == ["/up", "/caf\u00e9/au lait", "/stream"]
    assert server.status("/health") == 200


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("used", "said"), [(238, True), (200, False)])
def test_little_memory_left_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int, used: int, said: bool
) -> None:
    limit, current, stat, inactive = memory.FILES[version == 1]
    cached = 20 * 2**20
    for name, content in ((limit, 256 * 2**20), (current, used * 2**20 + cached), (stat, f"anon 1\n{inactive} {cached}")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    threading.Thread(target=memory.watch, args=(logging.getLogger("test"), tmp_path, 0.02), daemon=True).start()
    if said:
        wait_for(lambda: caplog.messages, 5)
        assert "238 of its 256 MiB" in caplog.messages[0] and "flask_app_resources" in caplog.messages[0]
    else:
        threading.Event().wait(0.2)
        assert caplog.messages == []


def test_no_limit_of_memory_is_none_to_speak_of(tmp_path: Path) -> None:
    for name, content in (("memory.max", "max"), ("memory.current", "1"), ("memory.stat", "inactive_file 0")):
        (tmp_path / name).write_text(f"{content}\n")
    assert memory.used(tmp_path) is None


@pytest.mark.parametrize("path", ["/shop/up", "/shop/up?full=1"])
def test_an_application_below_a_path_is_asked_there(start: Callable[..., Server], path: str) -> None:
    server = start(TOLD, SCRIPT_NAME="/shop", HEALTH_PATH=path)
    assert server.request(path)[:2] == (200, '{"status":"ok"}\n')
    assert server.status("/shop/other") == 404


def test_an_own_health_check_below_a_path_is_the_answer(start: Callable[..., Server]) -> None:
    own = "from flask import Flask\napp = Flask(__name__)\n@app.get('/up')\ndef up():\n    return 'own'\n"
    assert start(own, SCRIPT_NAME="/shop", HEALTH_PATH="/shop/up").request("/shop/up")[:2] == (200, "own")
