# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that can never fire, told by a real Prometheus that has the series of a healthy cluster, from those that may."""

from __future__ import annotations

import http.server
import threading
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import rules as written
from ansible_collections.flaskops.observability.plugins.module_utils.verify.dead import (
    Death,
    LoadedRule,
    RuleJudge,
    Standing,
    Verdict,
    Whose,
)
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import dead_rules
from ansible_collections.flaskops.observability.plugins.module_utils.verify.series import Series

from tests.harness import until
from tests.prometheus import Prometheus, running

PAGE = (Path(__file__).parent / "healthy.prom").read_text()
WEB = '{namespace="shop", job="web"}'
BUCKETS = f"rate(flask_http_request_duration_seconds_bucket{WEB}[5m])"

# Name, kind and expression of rules that can never fire, and what the finding must name.
SEEDS: list[tuple[Death, str, str]] = [
    # A metric that nobody serves.
    (Death.METRIC, f"rate(flask_http_requests_total{WEB}[5m]) > 0", "flask_http_request_total"),
    (Death.METRIC, "kube_deployment_status_replica_available < 1", "kube_deployment_status_replicas_available"),
    (Death.METRIC, "container_memory_workingset_bytes > 1e9", "container_memory_working_set_bytes"),
    (Death.METRIC, "node_memory_MemAvailable < 1e9", "node_memory_MemAvailable_bytes"),
    (Death.METRIC, "sum by (state) (increase(shop_order_total[5m])) > 3", "shop_orders_total"),
    (Death.METRIC, '{__name__=~"orders_.+", job="web"} > 0', "orders_"),
    (Death.METRIC, f"(sum(rate(flask_request_total{WEB}[5m])) or vector(0)) > 5", "flask_request_total"),
    # A job that nothing is scraped as.
    (Death.JOB, 'up{job="webb"} == 0', 'job="web"'),
    (Death.JOB, 'rate(flask_http_request_total{namespace="shop", job="web-app", status=~"5.."}[5m]) > 0', 'job="web"'),
    (Death.JOB, 'node_filesystem_avail_bytes{job="node"} < 1e9', 'job="node-exporter"'),
    (Death.JOB, 'kube_pod_created{job="kube_state_metrics"} > 0', 'job="kube-state-metrics"'),
    (Death.JOB, 'probe_success{namespace="shop", job="web-helth"} == 0', 'job="web-health"'),
    # A value, or a label, that no series has.
    (Death.VALUE, 'kube_pod_status_phase{phase="Faild"} == 1', 'phase="Failed"'),
    (Death.VALUE, 'kube_deployment_spec_replicas{namespace="shop", deployment="webapp"} < 2', 'deployment="web"'),
    (Death.VALUE, 'rate(flask_http_request_total{namespace="shop", status="5xx"}[5m]) > 0', "status"),
    (Death.VALUE, 'rate(node_cpu_seconds_total{mode="iowat"}[5m]) > 0.5', 'mode="iowait"'),
    (Death.VALUE, 'increase(shop_orders_total{state=~"refuse|denied"}[1h]) > 3', 'state="refused"'),
    (Death.VALUE, 'sum(rate(flaskops_log_lines_total{app="web", level="ERROR"}[5m])) > 1', "level"),
    (Death.VALUE, 'container_memory_working_set_bytes{pod_name=~"web-.+"} > 1e9', "pod"),
    (Death.VALUE, 'increase(flask_http_request_exceptions_total{namespace="shopp"}[5m]) > 0', 'namespace="shop"'),
    # A bucket that the histogram does not have.
    (Death.BUCKET, 'rate(flask_http_request_duration_seconds_bucket{job="web", le="1"}[5m]) > 0', 'le="1.0"'),
    (Death.BUCKET, 'sum(rate(flask_http_request_duration_seconds_bucket{job="web", le="0.3"}[5m])) > 1', "le="),
    (
        Death.BUCKET,
        f'1 - sum(rate(flask_http_request_duration_seconds_bucket{{job="web", le="0.25"}}[5m])) / sum({BUCKETS}) > 0.1',
        "le=",
    ),
    # A threshold that no quantile reaches.
    (Death.THRESHOLD, f"histogram_quantile(0.95, sum by (le) ({BUCKETS})) > 10", "10"),
    (Death.THRESHOLD, f"30 < histogram_quantile(0.99, sum by (job, le) ({BUCKETS}))", "30"),
    (Death.THRESHOLD, "max(job:latency:p95) > 2 * 10", "20"),
    (Death.THRESHOLD, f"histogram_quantile(0.5, sum by (le) ({BUCKETS})) < 0", "0"),
    # A label that an aggregation takes away.
    (Death.LOST, f"sum(up{WEB}) * on (pod) group_left (node) kube_pod_info > 1", "pod"),
    (Death.LOST, "sum by (namespace) (kube_pod_created) and on (namespace, pod) kube_pod_info", "pod"),
    (Death.LOST, 'job:requests:rate5m{job="web", pod=~"web-.+"} > 5', "pod"),
    # Two sides that never go together.
    (Death.JOIN, "node_memory_MemAvailable_bytes / on (node) kube_node_info < 1", "node"),
    (Death.JOIN, 'up{job="node-exporter"} * on (instance) group_left (node) kube_node_info == 0', "instance"),
    (Death.JOIN, f"kube_pod_info * on (namespace, pod, instance) group_left () up{WEB} == 0", "instance"),
    (Death.JOIN, "kube_deployment_spec_replicas - kube_pod_created > 0", "deployment"),
    # A metric that no rule records any more, and one whose rule can record nothing.
    (Death.RECORD, 'job:requests:rate10m{job="web"} > 5', "job:requests:rate5m"),
    (Death.RECORD, "shop:lost:sum > 1", "shop_lost_total"),
    # What Prometheus drops, and what an exporter is told not to serve.
    (Death.DROPPED, "rate(cache_evictions_total[5m]) > 1", "cache_evictions_total"),
    (Death.DENIED, 'kube_pod_labels{label_team="shop"} > 0', "kube_pod_labels"),
    (Death.DENIED, "kube_pod_tolerations > 0", "--metric-denylist"),
    # Histograms and counters that are taken for something else.
    (Death.MISUSED, f"rate(queue_size{WEB}[5m]) > 1", "gauge"),
    (Death.MISUSED, f"histogram_quantile(0.95, sum by (job) ({BUCKETS})) > 0.5", "le"),
    (Death.MISUSED, f"sum by (job) ({BUCKETS}) > 100", "le"),
    (Death.MISUSED, f"histogram_quantile(0.95, rate(flask_http_request_duration_seconds_sum{WEB}[5m])) > 1", "_sum"),
    (Death.MISUSED, "delta(shop_orders_total[5m]) > 1", "counter"),
]
RECORDS = [
    {"record": "job:latency:p95", "expr": f"histogram_quantile(0.95, sum by (job, le) ({BUCKETS}))"},
    {"record": "job:requests:rate5m", "expr": "sum by (job) (rate(flask_http_request_total[5m]))"},
    {"record": "shop:lost:sum", "expr": "sum(shop_lost_total)"},
    {"record": "shop:errors:rate5m", "expr": 'sum(rate(flask_http_request_total{job="web", status="500"}[5m]))'},
]
# What is alive or quiet, though some of it has no series now.
WELL: list[tuple[str, str]] = [
    ("alive", f"sum(rate(flask_http_request_total{WEB}[5m])) > 99"),
    ("alive", "max_over_time((sum(up))[1h:1m]) unless (absent(up)) or -up"),
    ("alive", 'absent(up{job="nobody"})'),
    ("alive", "vector(1)"),
    ("alive", "hour() > 8"),
    (
        "alive",
        'label_replace(up, "node", "$1", "instance", "(.+):.*") * on (node) group_left () label_replace(up, "node", "$1",'
        ' "instance", "(.+):.*") # why',
    ),
    ("alive", f"histogram_quantile(0.95, sum by (le) ({BUCKETS})) > 9.9"),
    ("alive", "(sum(rate(nobody_total[5m])) or vector(0)) < 1"),
    ("alive", "1 - (sum(rate(nobody_total[5m])) or vector(0)) > 0.5"),
    ("alive", f'{"{"}__name__=~"flask_.+_total", job="web"{"}"} > 5'),
    ("alive", "nobody > 1 or queue_size > 1"),
    ("alive", "kube_pod_info * on (namespace, pod) group_left () kube_pod_created > 0"),
    ("alive", "count by (le) (rate(flask_http_request_duration_seconds_bucket[5m])) > 1"),
    ("alive", 'sum(rate(flask_http_request_duration_seconds_bucket{le="0.5"}[5m])) > 1'),
    ("alive", 'sum(topk(3, count_values("v", kube_pod_created)) by (v)) > scalar(sum(up))'),
    ("quiet", 'rate(flask_http_request_total{job="web", status=~"5.."}[5m]) > 0'),
    ("quiet", 'apiserver_request_total{code="503", verb="PATCH"} > 0'),
    ("quiet", 'kube_pod_container_status_waiting_reason{namespace="shop", reason="CrashLoopBackOff"} == 1'),
    ("quiet", "kube_horizontalpodautoscaler_status_current_replicas > 5"),
    ("quiet", 'node_md_disks{state="failed"} > 0'),
    ("quiet", "kubelet_volume_stats_available_bytes < 5"),
    ("quiet", 'ALERTS{severity="info"} == 1'),
    ("quiet", "shop:errors:rate5m > 1"),
    ("quiet", "increase(flask_http_request_exceptions_total[5m]) > 0"),
]


class Handler(http.server.BaseHTTPRequestHandler):
    """The page of each program."""

    def do_GET(self) -> None:
        body = (PAGE if self.path == "/healthy" else "# TYPE cache_evictions_total counter\ncache_evictions_total 5\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: Any) -> None:
        """Nothing."""


@contextmanager
def scraped(folder: Path, files: dict[str, list[dict[str, Any]]]) -> Iterator[Prometheus]:
    """Prometheus that has scraped the page of a healthy cluster."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    targets = [{"targets": [f"127.0.0.1:{server.server_port}"]}]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "honor_labels": True, "static_configs": targets}
    drop = {"action": "drop", "source_labels": ["__name__"], "regex": "cache_evictions_.+"}
    scrapes = [
        {"job_name": "healthy", "metrics_path": "/healthy", **every},
        {"job_name": "serviceMonitor/cache/cache/0", "metrics_path": "/cache", "metric_relabel_configs": [drop], **every},
    ]
    try:
        with running(folder, ["probe 1"], files, scrapes) as found:
            until(lambda: series_of(found).names > {"cache_misses_total", "queue_size"}, 60, "the pages to be scraped")
            until(lambda: "cache_evictions_total" in series_of(found).types, 60, "the second page to be scraped")
            yield found
    finally:
        server.shutdown()


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

    denied = {"spec": {"template": {"spec": {"containers": [{"name": "kube-state-metrics", "args": DENIED}]}}}}
    return Series(
        lambda expr, most: ask("/api/v1/query", query=expr, limit=str(most))["result"],
        lambda path: [ask(path)],
        parse,
        dead_rules.denied([denied]),
    )


DENIED = ["--port=8080", "--metric-denylist=kube_secret_.*,kube_pod_tolerations,("]
OPTIONS: dict[str, Any] = {"name": "web", "namespace": "shop", "slo": 0.999, "slo_latency": 0.99}
OURS = {
    "web": written.rule_groups({**OPTIONS, "alerts": {"LogSilence": {"enabled": True}}}),
    "literal": written.rule_groups({**OPTIONS, "literal_error_rate": True}),
    "verify": written.verify_rule_groups("web", "shop", 300, {}),
    **{role: written.role_groups(role, {}) for role in ("fluent_bit", "loki", "victoria_logs")},
}
SEEDED = [
    {"name": "seeds", "rules": [{"alert": f"Seed{n}", "expr": expr} for n, (_kind, expr, _word) in enumerate(SEEDS)]},
    {"name": "well", "rules": [{"alert": f"Well{n}", "expr": expr} for n, (_state, expr) in enumerate(WELL)]},
    {"name": "records", "rules": RECORDS},
]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    files = {f"shop-{name}-uid.yaml": groups for name, groups in OURS.items()}
    with scraped(tmp_path_factory.mktemp("prometheus"), {**files, "shop-seeded-uid.yaml": SEEDED}) as found:
        yield found


@pytest.fixture(scope="module")
def found(prometheus: Prometheus) -> dict[str, Verdict]:
    """What is said of each rule that is loaded."""
    return dict(zip((rule.name for rule in rules_of(prometheus)), judged(prometheus), strict=True))


def rules_of(prometheus: Prometheus) -> list[LoadedRule]:
    groups = prometheus.get("/api/v1/rules")["groups"]
    return dead_rules.read(groups, tuple(f"shop-{name}-" for name in OURS), ("shop-seeded-",))


def judged(prometheus: Prometheus) -> list[Verdict]:
    judge = RuleJudge(series_of(prometheus), rules_of(prometheus))
    judge.prepare([])
    return [judge.of_rule(rule) for rule in judge.rules]


def test_there_are_seeds_of_every_kind() -> None:
    assert {kind for kind, _expr, _word in SEEDS} == set(Death)
    assert len(SEEDS) >= 40


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_a_dead_rule_is_found(found: dict[str, Verdict], number: int) -> None:
    kind, _expr, word = SEEDS[number]
    verdict = found[f"Seed{number}"]
    assert (verdict.state, verdict.kind) == (Standing.DEAD, kind), verdict
    assert word in verdict.why


@pytest.mark.parametrize("number", range(len(WELL)))
def test_a_rule_that_may_fire_is_not(found: dict[str, Verdict], number: int) -> None:
    state, expr = WELL[number]
    assert found[f"Well{number}"].state == Standing[state.upper()], (expr, found[f"Well{number}"])


def test_no_rule_of_ours_is_dead(prometheus: Prometheus) -> None:
    pairs = zip(rules_of(prometheus), judged(prometheus), strict=True)
    ours = [(rule.name, verdict) for rule, verdict in pairs if rule.whose == Whose.OURS]
    assert len(ours) > 60
    assert [pair for pair in ours if pair[1].state not in (Standing.ALIVE, Standing.QUIET)] == []
