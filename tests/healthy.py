# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus that has scraped the series of a healthy cluster, and what verify asks it."""

from __future__ import annotations

import http.server
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import rules as written
from ansible_collections.flaskops.observability.plugins.module_utils.verify import quiet
from ansible_collections.flaskops.observability.plugins.module_utils.verify.dead import LoadedRule
from ansible_collections.flaskops.observability.plugins.module_utils.verify.series import Series

from tests.harness import until
from tests.prometheus import Prometheus, running

PAGE = Path(__file__).with_suffix(".prom").read_text()
# Its histogram is stored as a native one.
CACHE = """# TYPE cache_evictions_total counter
cache_evictions_total 5
# TYPE cache_answers_total counter
cache_answers_total{code="200"} 5
# TYPE cache_wait_seconds histogram
cache_wait_seconds_bucket{le="0.5"} 5
cache_wait_seconds_bucket{le="+Inf"} 5
cache_wait_seconds_count 5
cache_wait_seconds_sum 1
"""
ENDED = {"cache_disk_bytes": 1800, "cache_tape_bytes": 7200}  # seconds since there were series of a name
DENIED = [
    "--resources=deployments,horizontalpodautoscalers,nodes,pods,resourcequotas,services",
    "--metric-denylist=kube_.+_annotations,kube_pod_tolerations,(",
]


class Pages(http.server.ThreadingHTTPServer):
    """What serves the pages."""

    page = PAGE


class Handler(http.server.BaseHTTPRequestHandler):
    """The page of each program."""

    server: Pages

    def do_GET(self) -> None:
        body = self.server.page if self.path == "/healthy" else CACHE
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_words: Any) -> None:
        """Nothing."""


@contextmanager
def scraped(folder: Path, files: dict[str, list[dict[str, Any]]], page: str = PAGE) -> Iterator[Prometheus]:
    """Prometheus that has scraped the page of a healthy cluster."""
    server = Pages(("127.0.0.1", 0), Handler)
    server.page = page
    threading.Thread(target=server.serve_forever, daemon=True).start()
    targets = [{"targets": [f"127.0.0.1:{server.server_port}"]}]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "honor_labels": True, "static_configs": targets}
    drop = [
        {"action": "drop", "source_labels": ["__name__"], "regex": "cache_evictions_.+"},
        {"action": "drop", "source_labels": ["__name__", "code"], "regex": "cache_answers_total;5.."},
    ]
    cache = {"metrics_path": "/cache", "metric_relabel_configs": drop, "convert_classic_histograms_to_nhcb": True}
    scrapes = [
        {"job_name": "healthy", "metrics_path": "/healthy", **every},
        {"job_name": "serviceMonitor/cache/cache/0", **cache, **every},
    ]
    try:
        ended = [f"{name} 5 {int(time.time()) - seconds}" for name, seconds in ENDED.items()]
        with running(folder, ["probe 1"], files, scrapes, ended) as found:
            until(lambda: series_of(found).names > {"cache_misses_total", "queue_size"}, 60, "the pages to be scraped")
            until(lambda: "cache_wait_seconds" in series_of(found).names, 60, "the second page to be scraped")
            yield found
    finally:
        server.shutdown()


def many_rules(most: int = 500) -> list[LoadedRule]:
    """The rules of the role for one application after another, until there are so many: each asks for something else."""
    found: list[LoadedRule] = []
    for number in range(most):
        for group in written.rule_groups({"name": f"web-{number}", "namespace": "shop", "slo": 0.999, "slo_latency": 0.99}):
            for rule in group["rules"]:
                record = rule.get("record", "")
                labels = rule.get("labels") or {}
                found.append(LoadedRule(rule.get("alert") or record, rule["expr"], record=record, labels=labels))
        if len(found) >= most:
            break
    return found


def series_of(prometheus: Prometheus) -> Series:
    def ask(path: str, **more: str) -> Any:
        parts = urlsplit(path)
        try:
            return prometheus.get(parts.path, **dict(parse_qsl(parts.query)), **more)
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode()) from error

    def parse(expr: str) -> Any:
        try:
            return ask("/api/v1/parse_query", query=expr)
        except ApiError:
            return None

    containers = [
        {"name": "kube-state-metrics", "args": DENIED},
        {"name": "node-exporter", "args": ["--no-collector.wifi"]},
    ]
    denied = {"spec": {"template": {"spec": {"containers": containers}}}}
    return Series(
        lambda expr, most: ask("/api/v1/query", query=expr, limit=str(most))["result"],
        lambda path: [ask(path)],
        parse,
        quiet.denied([denied]),
    )
