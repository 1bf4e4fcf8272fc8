"""Adds /health, request metrics and JSON request logs to any Flask app, unless it has them already."""

import logging
import os
import time
import uuid

from flask import Flask, g, request
from gunicorn.util import import_app
from prometheus_flask_exporter.multiprocess import GunicornPrometheusMetrics

TARGET = os.environ["FLASK_IMAGE_WSGI"]
app = import_app(TARGET)
if not isinstance(app, Flask):
    raise RuntimeError(f"{TARGET} is not a Flask app; set flask_image_wrap to false to serve it as it is.")

log = logging.getLogger("flask_image.request")
routes = {rule.rule for rule in app.url_map.iter_rules()}

if "/metrics" not in routes:
    GunicornPrometheusMetrics(app, group_by="url_rule", excluded_paths=["^/health$"])

if "/health" not in routes:

    @app.get("/health", endpoint="flask_image_health")
    def health():
        return {"status": "ok"}


@app.before_request
def flask_image_start():
    g.flask_image_started = time.monotonic()
    g.flask_image_request_id = request.headers.get("X-Request-ID") or uuid.uuid4().hex


@app.after_request
def flask_image_finish(response):
    started = g.get("flask_image_started", time.monotonic())
    request_id = g.get("flask_image_request_id", "")
    response.headers.setdefault("X-Request-ID", request_id)
    route = request.url_rule.rule if request.url_rule else ""
    fields = {
        "request_id": request_id,
        "method": request.method,
        "route": route,
        "status": response.status_code,
        "duration": round(time.monotonic() - started, 6),
    }
    level = logging.ERROR if response.status_code >= 500 else logging.INFO
    # probes are not worth a line each
    if route != "/health":
        log.log(level, "request", extra={"request_fields": fields})
    return response
