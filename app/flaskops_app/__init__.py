# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference Flask application: hello, health, metrics, JSON logs and fault switches."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from typing import Any

from flask import Flask, Response, g, jsonify, request
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics
from prometheus_flask_exporter.multiprocess import GunicornPrometheusMetrics
from werkzeug.exceptions import HTTPException

from . import faults

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = logging.getLogger(__name__)


class App(Flask):
    def log_exception(self, exc_info: Any) -> None:
        """Keep the traceback for the request's one line instead of a line of its own."""
        g.exc_info = exc_info


def create_app(registry: CollectorRegistry = REGISTRY) -> Flask:
    app = App(__name__)
    # The exporter comes first: its clock has to start before anything can refuse a request.
    # Probes are left out, or they would thin the error ratio of a quiet application.
    options: dict[str, Any] = {"group_by": "url_rule", "excluded_paths": ["^/health$"]}
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        GunicornPrometheusMetrics(app, **options)
    else:
        PrometheusMetrics(app, path=None, registry=registry, **options)

    @app.before_request
    def begin() -> None:
        g.start = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    switches = faults.init_app(app) if faults.enabled() else None

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        if request.path == "/health" and response.status_code == 200:
            return response
        log.log(
            logging.ERROR if response.status_code >= 500 else logging.INFO,
            "%s %s %s",
            request.method,
            request.path,
            response.status_code,
            exc_info=g.pop("exc_info", None),
            extra={
                "request_id": g.request_id,
                "method": request.method,
                "route": request.url_rule.rule if request.url_rule else None,
                "status": response.status_code,
                "duration": round(time.perf_counter() - g.start, 6),
            },
        )
        return response

    @app.errorhandler(HTTPException)
    def error(problem: HTTPException) -> Any:
        response = problem.get_response()  # keeps headers such as Allow
        response.data = app.json.dumps({"error": problem.name})
        response.content_type = "application/json"
        return response

    @app.get("/")
    def hello() -> Response:
        return jsonify(message="Hello from Flask")

    @app.get("/health")
    def health() -> tuple[Response, int]:
        if (faults.state_dir() / "draining").exists():
            return jsonify(status="draining"), 503
        if switches and "health" in switches.active():
            return jsonify(status="failing"), 503
        return jsonify(status="ok"), 200

    return app
