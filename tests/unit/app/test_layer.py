# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layer around applications that nobody here wrote: health, metrics and request lines whatever they do."""

from __future__ import annotations

import json
import logging
import logging.config
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, got_request_exception, redirect, request
from flaskops_runtime import logs, target
from flaskops_runtime.layer import OTHER, Layer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_flask_exporter import PrometheusMetrics
from werkzeug.exceptions import InternalServerError
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client, TestResponse

from .support import Server


class Observed:
    """An application with the layer around it, asked in this process."""

    def __init__(
        self, app: Any, capfd: pytest.CaptureFixture[str], threads: int = 1, registry: CollectorRegistry | None = None
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self.layer = Layer(app, self.registry, threads)
        self.client = Client(self.layer)
        self._capfd = capfd

    def get(self, path: str = "/ok", **options: Any) -> TestResponse:
        return self.client.open(path, buffered=True, **options)

    def lines(self) -> list[dict[str, Any]]:
        """The request lines since the last look."""
        found = []
        for line in self._capfd.readouterr().out.splitlines():
            if line.startswith("{"):
                found.append(json.loads(line))
        return [line for line in found if line["logger"] == "flaskops.request"]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"flask_http_request_{name}", labels)

    def page(self) -> str:
        return generate_latest(self.registry).decode()


@pytest.fixture
def observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Observed]]:
    monkeypatch.setenv("FLASKOPS_STATE_DIR", str(tmp_path))
    yield lambda app, **options: Observed(app, capfd, **options)
    logs.current.set({})


@pytest.fixture
def app() -> Flask:
    made = Flask("shop")

    @made.route("/ok")
    def ok() -> str:
        return "ok"

    return made


def refuse_strangers() -> None:
    if request.headers.get("Authorization") != "Bearer k":
        abort(401)


def no_more() -> None:
    abort(429)


def to_https() -> Any:
    return redirect("https://" + request.host + request.path)


def to_login() -> Any:
    return redirect("/login")


def failing() -> None:
    raise ValueError("no database")


@pytest.mark.parametrize("hook", [refuse_strangers, no_more, to_https, to_login, failing])
@pytest.mark.parametrize("own", [False, True])
def test_health_is_answered_whatever_the_hooks_do(observed: Callable[..., Observed], app: Flask, hook: Any, own: bool) -> None:
    app.before_request(hook)
    if own:
        app.add_url_rule("/health", "health", lambda: {"mine": True})
    one = observed(app)
    for _ in range(60):
        answer = one.get("/health", headers={"Host": "10.244.0.7:5000"})
        assert (answer.status_code, answer.json) == (200, {"mine": True} if own else {"status": "ok"})
    assert one.client.head("/health").status_code == 200
    assert one.lines() == [] and "flask_http_request_total{" not in one.page()
    assert one.get().status_code in (302, 401, 429, 500)


def test_health_is_answered_for_any_host(observed: Callable[..., Observed], app: Flask) -> None:
    app.config["SERVER_NAME"] = "shop.example.com"
    app.config["TRUSTED_HOSTS"] = ["shop.example.com"]
    assert observed(app).get("/health", headers={"Host": "10.244.0.7:5000"}).status_code == 200


def test_health_is_the_application_s_own_where_it_has_one(observed: Callable[..., Observed], app: Flask) -> None:
    answers = iter([("ok", 200), ("no database", 503)])
    app.add_url_rule("/health", "health", lambda: next(answers))
    one = observed(ProxyFix(app))
    assert (one.get("/health").status_code, one.get("/health").status_code) == (200, 503)
    assert [line["message"] for line in one.lines()] == ["GET /health 503"]
    assert one.get("/health", method="POST").status_code == 405


@pytest.mark.parametrize("error", [lambda: abort(503), lambda: 1 / 0])
def test_an_own_health_check_that_fails_says_so(observed: Callable[..., Observed], app: Flask, error: Any) -> None:
    app.add_url_rule("/health", "health", error)
    assert observed(app).get("/health").status_code >= 500


def test_an_own_health_check_that_needs_a_hook_gets_it(observed: Callable[..., Observed], app: Flask) -> None:
    from flask import g

    @app.before_request
    def connect() -> None:
        g.database = "there"

    app.add_url_rule("/health", "health", lambda: g.database)
    assert observed(app).get("/health").text == "there"


def test_a_route_for_everything_is_no_health_check(observed: Callable[..., Observed], app: Flask) -> None:
    app.add_url_rule("/<path:anything>", "all", lambda anything: ("not here", 404))
    assert observed(app).get("/health").json == {"status": "ok"}


def test_health_fails_while_the_pod_drains(observed: Callable[..., Observed], app: Flask, tmp_path: Path) -> None:
    one = observed(app)
    (tmp_path / "draining").touch()
    assert one.get("/health").status_code == 503
    assert one.get().status_code == 200


def test_health_fails_when_all_threads_are_stuck(observed: Callable[..., Observed], app: Flask, monkeypatch: Any) -> None:
    monkeypatch.setattr("flaskops_runtime.layer.STUCK", 0.2)
    go, inside = threading.Event(), threading.Barrier(3)

    @app.route("/stuck")
    def stuck() -> str:
        inside.wait(5)
        go.wait(10)
        return "late"

    one = observed(app, threads=2)
    stuck_ones = [threading.Thread(target=one.get, args=("/stuck",)) for _ in range(2)]
    for thread in stuck_ones:
        thread.start()
    inside.wait(5)
    assert one.get("/health").status_code == 200
    deadline = time.monotonic() + 5
    while one.get("/health").status_code == 200:
        assert time.monotonic() < deadline
    assert one.get("/health").json == {"status": "stuck"}
    go.set()
    for thread in stuck_ones:
        thread.join()
    assert one.get("/health").status_code == 200


def test_a_stream_is_not_stuck(observed: Callable[..., Observed], app: Flask, monkeypatch: Any) -> None:
    monkeypatch.setattr("flaskops_runtime.layer.STUCK", 0.01)
    go = threading.Event()

    @app.route("/events")
    def events() -> Response:
        def lines() -> Iterator[str]:
            yield "data: 1\n\n"
            go.wait(10)
            yield "data: 2\n\n"

        return Response(lines(), mimetype="text/event-stream")

    one = observed(app)
    stream = one.client.open("/events", buffered=False)
    chunks = stream.iter_encoded()
    assert next(chunks) == b"data: 1\n\n"
    threading.Event().wait(0.05)
    assert one.get("/health").status_code == 200
    go.set()
    assert next(chunks) == b"data: 2\n\n"
    stream.close()
    (line,) = one.lines()
    assert (line["route"], line["status"]) == ("/events", 200)
    assert (one.value("duration_seconds_sum", method="GET", url_rule="/events", status="200") or 0) < 0.05


def test_answers_are_not_changed(observed: Callable[..., Observed], app: Flask) -> None:
    @app.route("/echo", methods=["GET", "POST", "REPORT"])
    def echo() -> Response:
        return Response(request.get_data() or b"nothing", 201, {"X-Mine": request.method})

    plain, one = Client(app), observed(app)
    for path, options in [
        ("/ok", {}),
        ("/nope", {}),
        ("/echo", {"method": "POST", "data": b"x" * 100_000}),
        ("/echo", {"method": "REPORT"}),
        ("/echo", {"method": "BREW"}),
        ("/ok", {"method": "OPTIONS"}),
        ("/ok", {"method": "HEAD"}),
        ("/%C3%A9/%2F", {}),
    ]:
        before, after = plain.open(path, **options), one.get(path, **options)
        assert (after.status, after.data) == (before.status, before.data)
        assert [item for item in after.headers if item[0] != "X-Request-ID"] == list(before.headers)


class OwnGlobals:
    """Without the methods of Flask's own class, as fava has it."""


def test_an_application_with_globals_of_its_own(observed: Callable[..., Observed], app: Flask) -> None:
    app.app_ctx_globals_class = OwnGlobals  # type: ignore[assignment]
    one = observed(app)
    assert (one.get().status_code, one.get("/health").status_code) == (200, 200)


def test_a_request_that_a_hook_refuses_is_measured(observed: Callable[..., Observed], app: Flask) -> None:
    app.before_request(refuse_strangers)
    one = observed(app)
    answer = one.get()
    (line,) = one.lines()
    assert answer.headers["X-Request-ID"] == line["request_id"] != ""
    assert (line["path"], line["route"], line["status"], line["message"]) == ("/ok", "/ok", 401, "GET /ok 401")
    assert one.value("duration_seconds_count", method="GET", url_rule="/ok", status="401") == 1


@pytest.mark.parametrize("given", ["x" * 7000, '"><script>', "a b", ""])
def test_a_request_id_of_the_client_is_limited(observed: Callable[..., Observed], app: Flask, given: str) -> None:
    assert len(observed(app).get(headers={"X-Request-ID": given}).headers["X-Request-ID"]) == 32


def test_a_request_id_is_handed_on(observed: Callable[..., Observed], app: Flask) -> None:
    assert observed(app).get(headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"


@pytest.mark.parametrize("how", ["handler", "signal", "two signals"])
def test_exceptions_are_counted_that_the_application_handles(observed: Callable[..., Observed], app: Flask, how: str) -> None:
    app.add_url_rule("/fails", "fails", lambda: 1 / 0)
    if how == "handler":
        app.register_error_handler(Exception, lambda error: ("sorry", getattr(error, "code", 500)))
    elif how == "two signals":
        # As connexion, which sends Flask's signal again with what Flask made of the exception.
        app.register_error_handler(500, lambda error: (got_request_exception.send(app, exception=error), ("sorry", 500))[1])
    else:
        # As Flask-RESTX, which answers by itself and sends Flask's signal.
        def handle_user_exception(error: Exception) -> Any:
            got_request_exception.send(app, exception=error)
            return InternalServerError().get_response()

        app.handle_user_exception = handle_user_exception  # type: ignore[method-assign,assignment]
    one = observed(app)
    assert one.get("/fails").status_code == 500
    assert one.value("exceptions_total", method="GET", status="500") == 1
    assert one.value("total", method="GET", status="500") == 1
    (line,) = one.lines()
    assert line["level"] == "ERROR" and "ZeroDivisionError" in line["message"]


@pytest.mark.parametrize(("error", "status"), [(lambda: abort(401), 401), (lambda: abort(503), 503), (lambda: {}["a"], 400)])
def test_an_extension_that_answers_errors_itself_makes_no_exceptions_of_them(
    observed: Callable[..., Observed], app: Flask, error: Any, status: int
) -> None:
    # As Flask-RESTful, which sends Flask's signal whatever it answers then.
    def handle_user_exception(error: Exception) -> Any:
        got_request_exception.send(app, exception=error)
        return Response("no", getattr(error, "code", 400))

    app.handle_user_exception = handle_user_exception  # type: ignore[method-assign,assignment]
    app.add_url_rule("/refused", "refused", error)
    one = observed(app)
    assert one.get("/refused").status_code == status
    assert "flask_http_request_exceptions_total{" not in one.page()


def test_an_error_that_is_meant_is_no_exception(observed: Callable[..., Observed], app: Flask) -> None:
    app.add_url_rule("/closed", "closed", lambda: ("closed", 503))
    app.add_url_rule("/gone", "gone", lambda: abort(500))

    @app.errorhandler(KeyError)
    def missing(error: KeyError) -> tuple[str, int]:
        return "no such thing", 404

    app.add_url_rule("/thing", "thing", lambda: {}["a"])
    one = observed(app)
    assert [one.get(path).status_code for path in ("/closed", "/gone", "/thing")] == [503, 500, 404]
    assert "flask_http_request_exceptions_total{" not in one.page()


def test_made_up_methods_and_paths_make_no_series(observed: Callable[..., Observed], app: Flask) -> None:
    one = observed(app)
    for number in range(1000):
        one.get(f"/nope/{number}", method=f"M{number:04}")
    assert one.value("total", method=OTHER, status="404") == 1000
    assert f'duration_seconds_count{{method="{OTHER}"' not in one.page()
    assert len([line for line in one.page().splitlines() if not line.startswith("#")]) <= 25


def test_made_up_methods_make_no_series_of_an_own_exporter(observed: Callable[..., Observed], app: Flask) -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(app, path=None, registry=registry)
    one = observed(app)
    for number in range(100):
        assert one.get("/ok", method=f"M{number:04}").status_code == 405
    assert registry.get_sample_value("flask_http_request_total", {"method": OTHER, "status": "405"}) == 100
    assert f'duration_seconds_count{{method="{OTHER}"' not in generate_latest(registry).decode()
    assert one.lines()[0]["method"] == "M0000"


@pytest.mark.parametrize("path", ["/x", None])
@pytest.mark.parametrize("where", ["on our page", "elsewhere", "in the same files"])
def test_an_own_exporter_counts_each_request_once_and_no_probe(
    observed: Callable[..., Observed], app: Flask, monkeypatch: pytest.MonkeyPatch, where: str, path: str | None
) -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(app, path=path, registry=registry)
    if where == "in the same files":
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/some/folder")
    one = observed(app, registry=registry if where == "on our page" else None)
    one.get("/health")
    for _ in range(10):
        one.get()
    assert registry.get_sample_value("flask_http_request_total", {"method": "GET", "status": "200"}) == 10
    assert one.value("total", method="GET", status="200") == {"in the same files": None}.get(where, 10)


def test_a_stream_that_fails_at_once_or_later(observed: Callable[..., Observed], app: Flask) -> None:
    def stream(lines: int) -> Iterator[bytes]:
        for _ in range(lines):
            yield b"line\n"
        raise ValueError("no more")

    app.add_url_rule("/stream/<int:lines>", "stream", lambda lines: Response(stream(lines)))
    one = observed(app)
    for lines in (0, 1):
        with pytest.raises(ValueError, match="no more"):
            one.client.open(f"/stream/{lines}", buffered=True)
    assert one.value("exceptions_total", method="GET", status="500") == 2
    assert [line["status"] for line in one.lines()] == [500, 500]


@pytest.mark.parametrize("option", ["DEBUG", "PROPAGATE_EXCEPTIONS", "TESTING"])
def test_an_exception_that_goes_through_has_its_line(observed: Callable[..., Observed], app: Flask, option: str) -> None:
    app.config[option] = True
    app.add_url_rule("/fails", "fails", lambda: 1 / 0)
    one = observed(app)
    with pytest.raises(ZeroDivisionError):
        one.get("/fails")
    (line,) = one.lines()
    assert (line["status"], line["route"]) == (500, "/fails")
    assert one.value("exceptions_total", method="GET", status="500") == 1


def test_mounted_applications_and_middlewares(observed: Callable[..., Observed], app: Flask) -> None:
    shop = Flask("other")
    shop.register_blueprint(Blueprint("b", "b"))
    shop.add_url_rule("/item/<int:number>", "item", lambda number: str(number))

    class Guard:
        def __init__(self, wrapped: Any) -> None:
            self.app = wrapped

        def __call__(self, environ: Any, start_response: Any) -> Any:
            if environ["PATH_INFO"].startswith("/secret"):
                start_response("403 Forbidden", [])
                return [b"no"]
            return self.app(environ, start_response)

    one = observed(Guard(ProxyFix(DispatcherMiddleware(app, {"/shop": shop}))))
    assert [one.get(path).status_code for path in ("/ok", "/shop/item/7", "/secret", "/health")] == [200, 200, 403, 200]
    assert [(line["path"], line["route"]) for line in one.lines()] == [
        ("/ok", "/ok"),
        ("/shop/item/7", "/shop/item/<int:number>"),
        ("/secret", None),
    ]


def test_a_prefix_that_a_client_sends_makes_no_series(observed: Callable[..., Observed], app: Flask) -> None:
    one = observed(ProxyFix(app, x_prefix=1))
    for number in range(5):
        one.get(headers={"X-Forwarded-Prefix": f"/p{number}"})
    assert one.value("duration_seconds_count", method="GET", url_rule="/ok", status="200") == 5


def test_a_websocket_is_no_latency(observed: Callable[..., Observed], app: Flask) -> None:
    app.add_url_rule("/socket", "socket", lambda: "", websocket=True)
    one = observed(app)
    one.get("/socket", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert one.value("total", method="GET", status="200") == 1
    assert "duration_seconds_count{" not in one.page()


@pytest.mark.parametrize(
    "change",
    [
        lambda: logging.config.dictConfig({"version": 1, "handlers": {}, "root": {"level": "WARNING", "handlers": []}}),
        lambda: logging.basicConfig(force=True, level=logging.CRITICAL),
        lambda: logging.getLogger().handlers.clear(),
        lambda: logging.disable(logging.NOTSET),
        lambda: logging.shutdown(),
    ],
)
def test_request_lines_outlive_the_application_s_logging(observed: Callable[..., Observed], app: Flask, change: Any) -> None:
    app.add_url_rule("/migrate", "migrate", lambda: (change(), "done")[1])
    one = observed(app)
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    try:
        for path in ("/ok", "/migrate", "/ok"):
            one.get(path)
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
    assert [line["message"] for line in one.lines()] == ["GET /ok 200", "GET /migrate 200", "GET /ok 200"]


def test_lines_of_a_request_have_its_id_and_route(observed: Callable[..., Observed], app: Flask) -> None:
    record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "Sold %s", ("out",), None)
    told: list[dict[str, Any]] = []
    app.add_url_rule("/buy/<what>", "buy", lambda what: (told.append(json.loads(logs.JsonFormatter().format(record))), "ok")[1])
    one = observed(app)
    one.get("/buy/tea", headers={"X-Request-ID": "abc"})
    assert told[0] | {"time": ""} == {
        "time": "",
        "level": "ERROR",
        "message": "Sold out",
        "request_id": "abc",
        "method": "GET",
        "path": "/buy/tea",
        "route": "/buy/<what>",
        "status": None,
        "duration": None,
        "logger": "shop",
    }


FACTORIES = """
import sys
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix
app = Flask(__name__)
wrapped = ProxyFix(app)
def create_app(config=None):
    return Flask("made")
def with_name(name):
    return Flask(name)
def nothing():
    return None
def plain(environ, start_response):
    start_response("200 OK", [])
    return [b"plain"]
"""


@pytest.mark.parametrize(
    ("name", "flasks", "error"),
    [
        ("few:app", 1, ""),
        ("few:wrapped", 1, ""),
        ("few:create_app", 1, ""),
        ("few:create_app()", 1, ""),
        ("few:with_name('x')", 1, ""),
        ("few:plain", 0, ""),
        ("few:with_name", 0, r"with_name\('...'\)"),
        ("few:nothing", 0, "NoneType"),
        ("few:missing", 0, "missing.*flask_image_wsgi"),
        ("few:with_name('x', 'y')", 0, "takes 1 positional argument.*flask_image_wsgi"),
        ("fewer:app", 0, "no module fewer: correct flask_image_wsgi"),
        ("needs:app", 0, "the module nothing_of_this_name, .*flask_image_requirements"),
        ("asks:app", 0, r"KeyError in \S+/asks.py, line 2: 'SHOP_KEY'\): .*flask_app_environment"),
        ("broken:app", 0, r"SyntaxError in \S+/broken.py, line 2: "),
        ("ends:app", 0, "exit status 3.*flask_app_environment"),
        ("writes:app", 0, "/nowhere.*flask_app_volumes"),
    ],
)
def test_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, flasks: int, error: str) -> None:
    (tmp_path / "few.py").write_text(FACTORIES)
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "needs.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "asks.py").write_text("import os\nos.environ['SHOP_KEY']\n")
    (tmp_path / "broken.py").write_text("import os\n<<<<<<< HEAD\n")
    (tmp_path / "writes.py").write_text("import errno\nraise OSError(errno.EROFS, 'Read-only file system', '/nowhere')\n")
    monkeypatch.syspath_prepend(tmp_path)
    if error:
        with pytest.raises(target.TargetError, match=error):
            target.load(name)
    else:
        assert len(target.flasks(target.load(name))) == flasks


OWN_SERIES = """
import gunicorn_hook
from flask import Flask
from prometheus_client import Enum, Gauge, Info
app = Flask(__name__)
Gauge("queue_length", "Jobs").set_function(lambda: 42)
Info("build", "Build").info({"version": "7"})
Enum("mood", "Mood", states=["good", "bad"]).state("good")
@app.post("/up")
def up():
    from flask import request
    return str(len(request.get_data()))
"""


def test_one_worker_shows_all_kinds_of_series_and_runs_the_application_s_hooks(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "app.py").write_text(OWN_SERIES)
    (folder / "gunicorn_hook.py").write_text("")
    (folder / "gunicorn.conf.py").write_text(
        textwrap.dedent("""
            bind = "127.0.0.1:1"
            threads = 3
            def post_fork(server, worker):
                server.log.info("own hook post_fork")
            def when_ready(server):
                server.log.info("own hook when_ready")
        """)
    )
    server = serve(folder=folder, FLASK_IMAGE_WSGI="app:app")
    page = server.metrics()
    for part in ("queue_length 42.0", 'build_info{version="7"} 1.0', 'mood{mood="good"} 1.0', "process_resident_memory_bytes"):
        assert part in page
    assert {line["message"] for line in server.lines()} >= {"own hook post_fork", "own hook when_ready"}
