# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the layer around an application costs: `python -m tests.bench.layer`.

Time per request of an application of one view: bare, with hooks inside it, and with the layer that flask_image puts around
it, by turns in one process. The hooks are the usual way to the same metrics and the same log line
(prometheus-flask-exporter, before_request, after_request), and what flask_image used before it had the layer.
No cluster and no network: requests go straight to the WSGI application.
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any

from . import common

if TYPE_CHECKING:
    from flask import Flask

RUNTIME = common.ROOT / "roles/flask_image/files/runtime"
ROUNDS, REQUESTS = 15, 1500
RATIO_GOAL = 1.2


def application() -> Flask:
    """Flask's smallest application."""
    from flask import Flask

    app = Flask("smallest")
    app.get("/")(lambda: {"message": "hi"})
    return app


def hooked(app: Flask) -> Flask:
    """The application with an exporter and a line for each request in hooks of its own."""
    from flask import Response, g, request
    from prometheus_client import CollectorRegistry
    from prometheus_flask_exporter import PrometheusMetrics
    from prometheus_flask_exporter.multiprocess import GunicornPrometheusMetrics

    log = logging.getLogger("flask_image.request")
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        GunicornPrometheusMetrics(app, group_by="url_rule", excluded_paths=["^/health$"])
    else:
        PrometheusMetrics(app, group_by="url_rule", excluded_paths=["^/health$"], registry=CollectorRegistry())

    @app.before_request
    def start() -> None:
        g.started = time.monotonic()
        g.request_id = request.headers.get("X-Request-ID") or uuid.uuid4().hex

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.setdefault("X-Request-ID", g.request_id)
        fields = {
            "request_id": g.request_id,
            "method": request.method,
            "route": request.url_rule.rule if request.url_rule else "",
            "status": response.status_code,
            "duration": round(time.monotonic() - g.started, 6),
        }
        log.info("request", extra={"request_fields": fields})
        return response

    return app


def seconds(app: Any, requests: int) -> float:
    """The seconds of one request, of several one after the other."""
    from werkzeug.test import EnvironBuilder

    environ, statuses = EnvironBuilder(path="/").get_environ(), set()
    begin = time.perf_counter()
    for _ in range(requests):
        body = app(dict(environ), lambda status, headers, exc_info=None: statuses.add(status))
        b"".join(body)
        if hasattr(body, "close"):
            body.close()
    took = time.perf_counter() - begin
    assert statuses == {"200 OK"}, statuses
    return took / requests


def measure() -> dict[str, float]:
    """The figures of this process, whose environment decides whether it is one worker's or several's."""
    sys.path.insert(0, str(RUNTIME))
    from flaskops_runtime import logs
    from flaskops_runtime.layer import Layer
    from prometheus_client import CollectorRegistry

    logging.config.dictConfig(logs.config("INFO"))
    sides: list[Any] = [application(), hooked(application()), Layer(application(), CollectorRegistry())]
    for side in sides:
        seconds(side, REQUESTS // 10)
    rounds = [[seconds(side, REQUESTS) for side in sides] for _ in range(ROUNDS)]
    bare, hooks, layer = (statistics.median(column) * 1e6 for column in zip(*rounds, strict=True))
    return {
        "bare": bare,
        "hooks": hooks - bare,
        "layer": layer - bare,
        "ratio": statistics.median((layer - bare) / (hooks - bare) for bare, hooks, layer in rounds),
    }


def main() -> int:
    """Measure both ways, in processes of their own because the client library chooses at its import; print the table."""
    if sys.argv[1:] == ["measure"]:
        print(json.dumps(measure()))
        return 0
    print(f"The layer around an application ({common.machine()})\n")
    rows: list[list[object]] = []
    for name, several in (("one worker process", False), ("several", True)):
        with tempfile.TemporaryDirectory() as folder:
            env = {key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"}
            env |= {"FLASKOPS_STATE_DIR": folder} | ({"PROMETHEUS_MULTIPROC_DIR": folder} if several else {})
            command = [sys.executable, "-m", "tests.bench.layer", "measure"]
            done = subprocess.run(command, cwd=common.ROOT, env=env, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr)
            return 1
        found = json.loads(done.stdout.splitlines()[-1])
        cost = (
            f"{found['bare']:.0f} µs bare, {found['hooks']:.0f} µs more with hooks, {found['layer']:.0f} µs more with the layer"
        )
        rows.append([f"{name}: layer : hooks", f"{found['ratio']:.2f}", f"at most {RATIO_GOAL}", cost])
    print(common.table(["layer", "measured", "goal", "remarks"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
