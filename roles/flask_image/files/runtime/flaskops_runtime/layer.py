# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One WSGI layer around an application: it answers the health check, and measures and logs every other request.

It is around the application and not inside it, so it sees what the client gets, whatever hooks, middlewares and mounts do.
It asks Flask for two things only: the URL rule, and which exceptions there were.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from . import logs, number, state_dir
from .target import WSGI, Flask, flasks

with contextlib.suppress(ModuleNotFoundError):  # the application need not be one of Flask
    from flask import got_request_exception, request_started
    from flask import request as flask_request
    from werkzeug.exceptions import HTTPException

HEALTH = (os.environ.get("HEALTH_PATH") or "/health").partition("?")[0]
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# RFC 9110 and PATCH; an application's own routes may add some.
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
OTHER = "_OTHER"  # the one label of all others, as OpenTelemetry calls them: a client chooses them
STUCK = number("STUCK_SECONDS", 120, 0, 86400)
KEY = "flaskops.request"


class Request:
    """What is known about one request, from its arrival to the end of its answer."""

    def __init__(self, environ: dict[str, Any], outermost: Flask | None) -> None:
        self.outermost = outermost
        self.method: str = environ.get("REQUEST_METHOD", "")
        self.path: str = (
            (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin1").decode("utf-8", "replace")
        )
        given = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.socket = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
        self.started = time.perf_counter()
        self.answered: float | None = None
        self.status = 0
        self.route: str | None = None
        self.error: BaseException | None = None
        self.uncaught = False
        # Since when the application works on it without an answer; None while it waits for the client, or has begun to answer.
        self.working: float | None = None
        self.log = {"request_id": self.id, "method": self.method, "path": self.path, "route": None}


class Input:
    """The request's body; reading it is waiting for the client, not work of the application."""

    def __init__(self, body: Any, request: Request) -> None:
        self._body, self._request = body, request

    def _wait(self, read: Callable[..., Any], *given: Any) -> Any:
        self._request.working = None
        try:
            return read(*given)
        finally:
            if self._request.answered is None:
                self._request.working = time.monotonic()

    def read(self, *size: int) -> bytes:
        return self._wait(self._body.read, *size)

    def readline(self, *size: int) -> bytes:
        return self._wait(self._body.readline, *size)

    def readlines(self, *hint: int) -> list[bytes]:
        return self._wait(self._body.readlines, *hint)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


class Answer:
    """The answer's body, which ends the request when it ends."""

    def __init__(self, body: Iterable[bytes], request: Request, layer: Layer) -> None:
        self._body, self._request, self._layer = body, request, layer
        self._next = iter(body).__next__

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> bytes:
        request = self._request
        try:
            chunk = self._next()
        except StopIteration:
            raise
        except Exception as error:
            request.status, request.error, request.uncaught = 500, error, True
            raise
        if request.answered is None:
            request.answered, request.working = time.perf_counter(), None
        return chunk

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._layer.end(self._request)


class Metrics:
    """The exporter's own names and labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made: list[Any] = []
        try:
            for kind, name, text, labels, more in (
                (Gauge, "flask_exporter_info", "What measures the requests", ("version",), {"multiprocess_mode": "max"}),
                (
                    Histogram,
                    "flask_http_request_duration_seconds",
                    "Time to the answer's first byte",
                    ("method", "url_rule", "status"),
                    {},
                ),
                (Counter, "flask_http_request_total", "Total number of HTTP requests", ("method", "status"), {}),
                (Counter, "flask_http_request_exceptions_total", "Requests that ended in an exception", ("method", "status"), {}),
            ):
                made.append(kind(name, text, labels, registry=registry, **more))
        except ValueError:
            for one in made:
                registry.unregister(one)
            raise
        info, self.duration, self.total, self.exceptions = made
        info.labels("layer").set(1)

    def count(self, request: Request, method: str) -> None:
        status = str(request.status)
        # How long it takes to refuse a method that nobody knows says nothing, and a histogram has some twenty series.
        if not request.socket and method != OTHER:
            seconds = (request.answered or time.perf_counter()) - request.started
            self.duration.labels(method, str(request.route), status).observe(max(seconds, 0))
        self.total.labels(method, status).inc()
        if request.uncaught or (request.error and request.status >= 500):
            self.exceptions.labels(method, status).inc()


def has_exporter(app: Flask) -> bool:
    """Whether prometheus_flask_exporter measures this application already."""
    return any(
        getattr(hook, "__module__", "").startswith("prometheus_flask_exporter") for hook in app.after_request_funcs.get(None, [])
    )


class Layer:
    """The WSGI application around another one.

    :param app: what serves the requests, as `target.load` returns it.
    :param threads: how many requests a worker works on at once.
    """

    def __init__(self, app: WSGI, registry: CollectorRegistry = REGISTRY, threads: int = 1) -> None:
        self.app, self.threads = app, threads
        self.flasks = flasks(app)
        self.outermost = self.flasks[0] if self.flasks else None
        self.log = logs.own_logger()
        self.running: dict[int, Request] = {}
        self.metrics: Metrics | None = None
        self.exporter = any(has_exporter(one) for one in self.flasks)
        # Files are shared by all registries, so its series would be counted twice.
        if not (self.exporter and "PROMETHEUS_MULTIPROC_DIR" in os.environ):
            # An application that has series of these names keeps them; one that has them elsewhere has no others on our page.
            with contextlib.suppress(ValueError):
                self.metrics = Metrics(registry)
        self.methods = METHODS.union(*(rule.methods or () for one in self.flasks for rule in one.url_map.iter_rules()))
        for one in self.flasks:
            _see_handled_errors(one)
        if self.flasks:
            request_started.connect(_started)
            got_request_exception.connect(_failed)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        # Below a prefix the path is named as the probes ask it, or as the application knows it.
        if HEALTH in (path, environ.get("SCRIPT_NAME", "") + path) and environ.get("REQUEST_METHOD") in ("GET", "HEAD"):
            return self.health(environ, start_response)
        request = environ[KEY] = Request(environ, self.outermost)
        logs.current.set(request.log)
        if (self.exporter or self.metrics is None) and request.method not in self.methods:
            # The application's own exporter makes series of it. Flask answers all methods that no route has in one way.
            environ["REQUEST_METHOD"] = OTHER
        environ["wsgi.input"] = Input(environ["wsgi.input"], request)

        def begin(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            request.status = int(status[:3])
            if not any(name.lower() == "x-request-id" for name, _ in headers):
                headers = [*headers, ("X-Request-ID", request.id)]
            return start_response(status, headers, *exc_info)

        self.running[threading.get_ident()] = request
        request.working = None if request.socket else time.monotonic()
        try:
            body = self.app(environ, begin)
        except BaseException as error:
            request.status, request.error, request.uncaught = 500, error, True
            self.end(request)
            raise
        if isinstance(body, environ.get("wsgi.file_wrapper", ())):
            # The server sends a file by itself, and faster.
            self.end(request)
            return body
        return Answer(body, request, self)

    def end(self, request: Request) -> None:
        """Count the request and write its line."""
        self.running.pop(threading.get_ident(), None)
        if self.metrics:
            self.metrics.count(request, request.method if request.method in self.methods else OTHER)
        fields = {**request.log, "status": request.status, "duration": round(time.perf_counter() - request.started, 6)}
        self.log.log(
            logging.ERROR if request.status >= 500 else logging.INFO,
            "%s %s %s%s",
            request.method,
            request.path,
            request.status,
            f" ({type(request.error).__name__}: {request.error})" if request.error and request.status >= 500 else "",
            extra=fields,
        )

    def stuck(self) -> bool:
        """Whether all threads have worked for too long on requests that have no answer yet."""
        since = time.monotonic() - STUCK
        working = [one.working for one in list(self.running.values())]
        return bool(STUCK) and sum(began is not None and began < since for began in working) >= self.threads

    def health(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer for the process; where the application has a health check of its own, with its answer."""
        logs.current.set({})
        if (state_dir() / "draining").exists():
            return self.say(environ, start_response, 503, "draining")
        if self.stuck():
            self.log.error(
                "All %s threads have worked for %s seconds on requests without an answer: the application is stuck.",
                self.threads,
                STUCK,
            )
            return self.say(environ, start_response, 503, "stuck")
        own = self.own_health(environ)
        if own is None:
            return self.say(environ, start_response, 200, "ok")

        def begin(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if not status.startswith("2"):
                self.log.warning("%s %s %s", environ["REQUEST_METHOD"], HEALTH, status[:3])
            return start_response(status, headers, *exc_info)

        return own(environ, begin)

    @staticmethod
    def say(environ: dict[str, Any], start_response: Callable[..., Any], code: int, word: str) -> Iterable[bytes]:
        body = json.dumps({"status": word}, separators=(",", ":")).encode() + b"\n"
        reason = {200: "200 OK", 503: "503 Service Unavailable"}[code]
        start_response(reason, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body] if environ["REQUEST_METHOD"] == "GET" else []

    def own_health(self, environ: dict[str, Any]) -> WSGI | None:
        """The answer of the application's own view, without the hooks that ask others for a login, a limit or https.

        A view that can't do without them is asked again with them.
        """
        app = self.outermost
        rules = app.url_map.iter_rules() if app else ()
        path = environ.get("PATH_INFO")
        rule = next((one for one in rules if one.rule == path and not one.arguments and "GET" in (one.methods or ())), None)
        if app is None or rule is None:
            return None
        view = app.view_functions[rule.endpoint]
        try:
            with app.request_context(environ):
                flask_request.url_rule, flask_request.view_args = rule, {}
                try:
                    return app.make_response(app.ensure_sync(view)() if hasattr(app, "ensure_sync") else view())
                except HTTPException as error:
                    return error.get_response(environ)
        except Exception as error:
            self.log.warning("The view of %s fails without the application's hooks (%s): it is asked with them.", HEALTH, error)
            return self.app


def _of(environ: dict[str, Any]) -> Request | None:
    return environ.get(KEY)


def _started(app: Flask, **_: Any) -> None:
    request = _of(flask_request.environ)
    if flask_request.method == OTHER:
        flask_request.prom_duration_reported = True  # type: ignore[attr-defined]  # as prometheus_flask_exporter marks it
    if request and flask_request.url_rule:
        # A mounted application has rules below its mount; before the outermost one stands what a proxy, or a client, says.
        mount = "" if app is request.outermost else flask_request.script_root
        request.route = mount + flask_request.url_rule.rule
        request.log["route"] = request.route


def _failed(app: Flask, exception: BaseException, **_: Any) -> None:
    # connexion sends the signal once more, with the answer that Flask has made of the exception.
    exception = getattr(exception, "original_exception", None) or exception
    # Flask-RESTful sends it for answers that are meant too, such as abort(401).
    if (request := _of(flask_request.environ)) and not isinstance(exception, HTTPException):
        request.error, request.uncaught = exception, True


def _see_handled_errors(app: Flask) -> None:
    """Note an exception also where a handler of the application makes an answer of it, for which Flask sends no signal."""
    handle = app.handle_user_exception

    def handle_user_exception(error: Exception) -> Any:
        request = _of(flask_request.environ)
        if request and not isinstance(error, HTTPException):
            request.error = error
        answer = handle(error)
        if request:
            request.uncaught = False  # an extension that answers here may have sent the signal before
        return answer

    app.handle_user_exception = handle_user_exception  # type: ignore[method-assign]


def keep_files(before: str | None) -> None:
    """Undo it, and say so, where the application moved the folder of the metrics after they were opened."""
    now = os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    if before is not None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = before
    if now != before:
        logging.getLogger("gunicorn.error").warning(
            "The application sets PROMETHEUS_MULTIPROC_DIR to %s after the metrics were opened:"
            " set it in flask_app_environment, or not at all.",
            now,
        )
