# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exporter costs: `python -m tests.bench.exporter`.

Time per request of the reference application with and without its exporter, by turns in one process; the series that a
route adds; and the page that Prometheus reads. No cluster and no network: requests go straight to the WSGI application.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from unittest import mock

from . import common

sys.path.insert(0, str(common.ROOT / "app"))

ROUNDS, REQUESTS = 21, 2000
ROUTES = 20
OVERHEAD_GOAL, SCRAPE_GOAL, LINES_GOAL = 60, 100, 1500  # µs a request, ms, lines of a page with 20 routes


def seconds(app: object) -> float:
    """How long the requests of one round take; each must be answered with 200."""
    from werkzeug.test import EnvironBuilder

    environ, statuses = EnvironBuilder(path="/").get_environ(), set()

    def start(status: str, headers: object, exc_info: object = None) -> None:
        statuses.add(status)

    begin = time.perf_counter()
    for _ in range(REQUESTS):
        b"".join(app(dict(environ), start))  # type: ignore[operator]
    took = time.perf_counter() - begin
    assert statuses == {"200 OK"}, statuses
    return took


def measure() -> dict[str, float]:
    """The figures of this process, whose environment decides whether it is one worker's or several's."""
    import flaskops_app
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    several = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
    with mock.patch.object(flaskops_app, "PrometheusMetrics"), mock.patch.object(flaskops_app, "GunicornPrometheusMetrics"):
        bare = flaskops_app.create_app(registry)
    app = flaskops_app.create_app(registry)
    for number in range(ROUTES):
        app.add_url_rule(f"/{number}", f"route{number}", lambda: "")
    if several:
        MultiProcessCollector(registry)
    pairs = [(seconds(bare), seconds(app)) for _ in range(ROUNDS)]

    client = app.test_client()
    lines = []
    for number in range(ROUTES):
        client.get(f"/{number}")
        lines.append([line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")])
    began = time.perf_counter()
    page = generate_latest(registry)
    scrape = time.perf_counter() - began
    added = set(lines[-1]) - set(lines[-2])
    names = {line.rsplit(" ", 1)[0] for line in added if f'url_rule="/{ROUTES - 1}"' in line}
    return {
        "bare": statistics.median(pair[0] for pair in pairs) / REQUESTS * 1e6,
        "with": statistics.median(pair[1] for pair in pairs) / REQUESTS * 1e6,
        "ratio": statistics.median(with_ / without for without, with_ in pairs),
        "overhead": statistics.median(with_ - without for without, with_ in pairs) / REQUESTS * 1e6,
        "series": len([name for name in names if "_created" not in name]),
        "dropped": len([name for name in names if "_created" in name]),
        "lines": len(page.splitlines()),
        "scrape": scrape * 1e3,
    }


def main() -> int:
    """Measure both ways, in processes of their own because the client library chooses at its import; print the table."""
    if sys.argv[1:] == ["measure"]:
        print(json.dumps(measure()))
        return 0
    print(f"The exporter of the reference application ({common.machine()})\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, variables in (("one worker process", {}), ("several", {"PROMETHEUS_MULTIPROC_DIR": folder})):
            command = [sys.executable, "-m", "tests.bench.exporter", "measure"]
            env = {key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"} | variables
            done = subprocess.run(command, cwd=common.ROOT, env=env, capture_output=True, text=True)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return 1
            found = json.loads(done.stdout)
            cost = f"{found['bare']:.0f} µs without, {found['with']:.0f} µs with: ratio {found['ratio']:.2f}"
            rows += [
                [f"{name}: cost of a request", f"{found['overhead']:.0f} µs", f"at most {OVERHEAD_GOAL} µs", cost],
                [
                    f"{name}: series of a route",
                    found["series"],
                    "-",
                    f"one method and status; {found['dropped']} more dropped",
                ],
                [f"{name}: page of {ROUTES} routes", f"{found['scrape']:.0f} ms", f"at most {SCRAPE_GOAL} ms", "to write it"],
                ["", f"{found['lines']} lines", f"at most {LINES_GOAL} lines", ""],
            ]
    print(common.table(["exporter", "measured", "goal", "remarks"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
