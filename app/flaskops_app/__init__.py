# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference Flask application: hello, health, metrics and fault switches."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, Response, jsonify
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics
from prometheus_flask_exporter.multiprocess import GunicornPrometheusMetrics
from werkzeug.exceptions import HTTPException

from . import faults


def create_app(registry: CollectorRegistry = REGISTRY) -> Flask:
    app = Flask(__name__)
    # The exporter comes first: its clock has to start before anything can refuse a request.
    # Probes are skipped, or they would thin the error ratio of a quiet application.
    options: dict[str, Any] = {"group_by": "url_rule", "excluded_paths": ["^/health$"]}
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        GunicornPrometheusMetrics(app, **options)
    else:
        PrometheusMetrics(app, path=None, registry=registry, **options)

    switches = faults.init_app(app) if faults.enabled() else None

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
        if switches and "health" in switches.active():
            return jsonify(status="failing"), 503
        return jsonify(status="ok"), 200

    return app
