# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that can never fire, told by a real Prometheus that has the series of a healthy cluster, from those that may."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import dashboards
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import rules as written
from ansible_collections.flaskops.observability.plugins.module_utils.verify import dead, quiet
from ansible_collections.flaskops.observability.plugins.module_utils.verify.dead import (
    Death,
    LoadedRule,
    RuleJudge,
    Standing,
    Verdict,
    Whose,
)
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import dead_rules
from ansible_collections.flaskops.observability.plugins.module_utils.verify.series import Series, Unasked

from tests.harness import ROOT
from tests.healthy import many_rules, scraped, series_of
from tests.prometheus import Prometheus

WEB = '{namespace="shop", job="web"}'
SECONDS = "flask_http_request_duration_seconds"
BUCKETS = f"rate({SECONDS}_bucket{WEB}[5m])"
P95 = f"histogram_quantile(0.95, sum by (le) ({BUCKETS}))"
REQUESTS = "rate(flask_http_request_total[5m])"

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
    (Death.METRIC, 'rate(http_requests_total{job="web", status=~"5.."}[5m]) > 0', "http_requests_total"),
    (Death.METRIC, 'rate(node_cpu{mode="idle"}[5m]) < 0.1', "node_cpu_seconds_total"),
    # As kube-state-metrics called it before its version 2.
    (Death.METRIC, "kube_hpa_status_current_replicas > 5", "kube_hpa_status_current_replicas"),
    (Death.METRIC, "cache_tape_bytes > 1e9", "an hour"),
    (Death.METRIC, 'cache_tape_bytes{job="cache", tape="1"} > 1e9', "an hour"),
    # A name that no series of a metric of such a type has.
    (Death.METRIC, f"{SECONDS} > 1", SECONDS),
    (Death.METRIC, f"rate({SECONDS}_total{WEB}[5m]) > 1", SECONDS),
    (Death.METRIC, "queue_size_count > 5", "queue_size"),
    (Death.METRIC, "cache_wait_seconds_bucket > 1", "cache_wait_seconds"),
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
    (Death.VALUE, 'ALERTS{alertname="HighErorRate", alertstate="firing"} == 1', 'alertname="HighErrorRate"'),
    (Death.VALUE, 'up{job="web"} == 0 and on (pod) kube_pod_status_phase{phase="running"} == 1', 'phase="Running"'),
    (Death.VALUE, 'flask_http_request_total{job="web", status!~"[0-9]+"} > 0', "status"),
    (Death.VALUE, 'kube_pod_owner{namespace="shop", owner_kind="Statefulset"} == 1', "StatefulSet"),
    (Death.VALUE, 'sum by (pod) (kube_pod_container_resource_limits{resource="Memory"}) > 5', 'resource="memory"'),
    (Death.VALUE, 'rate(alertmanager_notifications_failed_total{integration!~".*"}[5m]) > 0', "integration"),
    (Death.VALUE, 'kube_pod_container_status_terminated_reason{reason="OOMKill"} == 1', "OOMKilled"),
    (Death.VALUE, 'rate(flask_http_request_total{node="node-1", status="500"}[5m]) > 0', "the label node"),
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
    (Death.THRESHOLD, 'count(up{job="web"}) < 1', "absent"),
    (Death.THRESHOLD, "0 == count by (namespace) (kube_pod_info)", "absent"),
    (Death.THRESHOLD, f"{P95} * 1000 > 20000", "10"),
    (Death.THRESHOLD, f"{P95} == 30", "30"),
    (Death.THRESHOLD, f"max_over_time({P95}[10m:1m]) > 20", "20"),
    (Death.THRESHOLD, f"topk(1, histogram_quantile(0.95, {BUCKETS})) > 20", "20"),
    (Death.THRESHOLD, f"ceil({P95}) > 10", "10"),
    (Death.THRESHOLD, f"({P95} or vector(0)) > 20", "20"),
    (Death.THRESHOLD, f"({P95} and on () up) > on () vector(20)", "20"),
    (Death.THRESHOLD, 'absent(up{job="web"}) == 0', "absent"),
    (Death.THRESHOLD, "1 - avg(probe_success) > 1", "probe_success"),
    (Death.THRESHOLD, f"sum({REQUESTS}) < 0", "rate"),
    (Death.THRESHOLD, f'(sum(rate(flask_http_request_total{{status="200"}}[5m])) or vector(0)) / sum({REQUESTS}) > 1', "100 %"),
    (Death.THRESHOLD, f'sum(rate(flask_http_request_total{{status=~"5.."}}[5m])) / sum({REQUESTS}) > 5', "100 %"),
    # A label that an aggregation takes away.
    (Death.LOST, f"sum(up{WEB}) * on (pod) group_left (node) kube_pod_info > 1", "pod"),
    (Death.LOST, "sum by (namespace) (kube_pod_created) and on (namespace, pod) kube_pod_info", "pod"),
    (Death.LOST, 'job:requests:rate5m{job="web", pod=~"web-.+"} > 5', "pod"),
    (Death.LOST, "sum without (pod) (up) * on (pod) group_left (node) kube_pod_info > 1", "pod"),
    # Of a side that has no series yet.
    (Death.LOST, f'sum by (status) (rate(flask_http_request_total{{status=~"5.."}}[5m])) / sum by (job) ({REQUESTS}) > 1', "job"),
    (Death.LOST, f"sum(rate(flask_http_request_exceptions_total[5m])) / on (pod) sum by (pod) ({REQUESTS}) > 1", "pod"),
    # Two sides that never go together.
    (Death.JOIN, "node_memory_MemAvailable_bytes / on (node) kube_node_info < 1", "node"),
    (Death.JOIN, 'up{job="node-exporter"} * on (instance) group_left (node) kube_node_info == 0', "instance"),
    (Death.JOIN, f"kube_pod_info * on (namespace, pod, instance) group_left () up{WEB} == 0", "instance"),
    (Death.JOIN, "kube_deployment_spec_replicas - kube_pod_created > 0", "deployment"),
    (Death.JOIN, 'flask_http_request_total{status="500"} and on (container) container_memory_working_set_bytes', "container"),
    (Death.JOIN, "predict_linear(cache_queue_length[5m], 60 * 10) > min_over_time(cache_queue_capacity[5m])", "upstream"),
    # A metric that no rule records any more, and one whose rule can record nothing.
    (Death.RECORD, 'job:requests:rate10m{job="web"} > 5', "job:requests:rate5m"),
    (Death.RECORD, "shop:lost:sum > 1", "shop_lost_total"),
    # What Prometheus drops, and what an exporter is told not to serve.
    (Death.DROPPED, "rate(cache_evictions_total[5m]) > 1", "cache_evictions_total"),
    (Death.DROPPED, 'rate(cache_answers_total{code=~"5.."}[5m]) > 1', "serviceMonitor/cache/cache/0"),
    (Death.DENIED, 'kube_pod_labels{label_team="shop"} > 0', "kube_pod_labels"),
    (Death.DENIED, "kube_pod_tolerations > 0", "--metric-denylist"),
    (Death.DENIED, "time() - kube_secret_created > 1e7", "--resources"),
    (Death.DENIED, "node_wifi_interface_frequency_hertz > 1", "--no-collector.wifi"),
    # Histograms and counters that are taken for something else.
    (Death.MISUSED, f"rate(queue_size{WEB}[5m]) > 1", "gauge"),
    (Death.MISUSED, f"histogram_quantile(0.95, sum by (job) ({BUCKETS})) > 0.5", "le"),
    (Death.MISUSED, f"sum by (job) ({BUCKETS}) > 100", "le"),
    (Death.MISUSED, f"histogram_quantile(0.95, rate(flask_http_request_duration_seconds_sum{WEB}[5m])) > 1", "_sum"),
    (Death.MISUSED, 'increase(kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff"}[5m]) > 1', "gauge"),
    (Death.MISUSED, "sum without (le) (rate(flask_http_request_duration_seconds_bucket[5m])) > 5", "le"),
    (
        Death.MISUSED,
        "histogram_quantile(0.9, sum without (le, pod) (rate(flask_http_request_duration_seconds_bucket[5m]))) > 1",
        "le",
    ),
    (Death.MISUSED, "delta(shop_orders_total[5m]) > 1", "counter"),
    (Death.MISUSED, "deriv(shop_orders_total[5m]) > 1", "counter"),
    (Death.MISUSED, "rate(queue_size[5m:1m]) > 1", "gauge"),
    (Death.MISUSED, "resets(queue_size[1h]) > 1", "gauge"),
    (Death.MISUSED, "increase(ALERTS[5m]) > 1", "gauge"),
    (Death.MISUSED, "irate(job:requests:rate5m[5m]) > 1", "recorded as a rate"),
    (Death.MISUSED, f"histogram_quantile(95, sum by (le) ({BUCKETS})) > 1", "95"),
    (Death.MISUSED, "histogram_quantile(0.9, gc_seconds) > 1", "gc_seconds"),
    (Death.MISUSED, f"histogram_fraction(0, 0.5, rate({SECONDS}_count[5m])) < 1", "buckets"),
    (Death.MISUSED, f'histogram_quantile(0.9, rate({SECONDS}_bucket{{le="0.5"}}[5m])) > 0.2', "+Inf"),
    (Death.MISUSED, f"histogram_count(rate({SECONDS}_bucket[5m])) > 5", "native"),
    (Death.MISUSED, "sum(rate(cache_wait_seconds[5m])) > 5", "cache_wait_seconds"),
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
    ("quiet", 'kube_resourcequota{type="used"} > 5'),
    ("quiet", "kubelet_volume_stats_available_bytes < 5"),
    ("quiet", 'ALERTS{severity="info"} == 1'),
    ("alive", '(count(up{job="nobody"}) or vector(0)) < 1'),
    ("alive", "up == 0 and on () (nobody or vector(1))"),
    ("alive", f"{P95} * 1000 > 9000"),
    ("alive", "100 * (1 - avg_over_time(probe_success[5m])) > 99"),
    ("alive", f'sum({SECONDS}_bucket{{le="0.5"}}) / sum({SECONDS}_count) < 0.9'),
    ("alive", f"rate({SECONDS}_sum[5m]) / rate({SECONDS}_count[5m]) > 5"),
    ("alive", "sum(up) / count(up) > 5"),
    ("alive", "(probe_success or vector(5)) > 2"),
    ("alive", f"ceil({P95}) > 9"),
    ("alive", "vector(0) > 1"),
    ("alive", "rate(gc_seconds_count[5m]) > 1"),
    ("alive", "histogram_quantile(0.9, sum(rate(cache_wait_seconds[5m]))) > 5"),
    ("alive", "histogram_count(rate(cache_wait_seconds[5m])) > 5"),
    ("quiet", f'sum(rate(flask_http_request_total{{status=~"5.."}}[5m])) / sum({REQUESTS}) > 0.9'),
    (
        "quiet",
        'sum by (pod) (rate(flask_http_request_total{status="500"}[5m])) / ignoring (job) sum by (pod, job)'
        f" ({REQUESTS}) > 0.9",
    ),
    ("quiet", f"sum by (pod) (rate(flask_http_request_exceptions_total[5m])) / on (pod) sum by (pod) ({REQUESTS}) > 1"),
    ("quiet", "rate(shop_returns_total[5m]) > 1"),
    # Others would come with other pods and namespaces than those of now.
    (
        "quiet",
        'kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff"} * on (namespace) group_left () kube_pod_info == 1',
    ),
    ("quiet", 'ALERTS{alertname="HighErrorRate"} and on (namespace) kube_pod_info'),
    ("alive", 'ALERTS{severity="critical"} and on (namespace) kube_pod_info'),
    ("quiet", "histogram_quantile(0.9, rate(shop_returns_seconds_bucket[5m])) > 1"),
    ("quiet", 'kube_pod_container_status_terminated_reason{reason=~"OOMKilled|Error"} == 1'),
    ("quiet", 'kube_pod_container_status_terminated_reason{reason!="Completed"} == 1'),
    ("quiet", 'kube_pod_container_status_terminated_reason{reason="NodeShutdown"} == 1'),
    ("alive", "count(up) < 2"),
    ("quiet", "shop:errors:rate5m > 1"),
    ("quiet", "increase(flask_http_request_exceptions_total[5m]) > 0"),
    ("quiet", "cache_disk_bytes > 1e9"),
    ("quiet", 'cache_disk_bytes{job="cache", disk="sda"} > 1e9'),
    # What comes with objects that this cluster does not have.
    ("quiet", 'sum(kube_pod_container_resource_limits{resource="cpu", job="kube-state-metrics"}) > 5'),
    ("quiet", 'kube_pod_container_resource_limits{resource="example_com_gpu"} > 1'),
    ("quiet", 'count(kube_pod_owner{job="kube-state-metrics", owner_kind="StatefulSet"}) > 5'),
    ("quiet", 'kube_pod_owner{owner_kind="", owner_name=""} == 1'),
    ("quiet", 'kube_pod_owner{owner_kind="Rollout"} == 1'),
    ("quiet", 'kube_replicaset_owner{owner_kind!="Deployment", owner_kind!=""} == 1'),
    ("quiet", 'count(kube_job_owner{owner_kind!="Pod", owner_kind!=""}) > 5'),
    ("quiet", 'kube_service_spec_type{type="LoadBalancer"} == 1'),
    ("quiet", "rate(container_cpu_cfs_throttled_periods_total[5m]) > 1"),
    # What Prometheus counts only once it is told to.
    ("quiet", "increase(prometheus_sd_refresh_failures_total[10m]) > 0"),
    (
        "quiet",
        "max_over_time(prometheus_remote_storage_shards_desired[5m]) > prometheus_remote_storage_shards_max",
    ),
    (
        "quiet",
        '(rate(prometheus_remote_storage_samples_failed_total{job="prometheus"}[5m]) or rate(nobody_failed_total[5m]))'
        ' / rate(prometheus_remote_storage_samples_total{job="prometheus"}[5m]) > 0.1',
    ),
    ("alive", "rate(prometheus_remote_storage_samples_in_total[5m]) > 1"),
    ("alive", 'absent(up{job="kube-scheduler"})'),
]


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
    return RuleJudge(series_of(prometheus), rules_of(prometheus)).of_rules()


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


# Whose rule it is, what is asked, and what is said of it: a chart brings rules for more than a cluster has.
STRANGERS = [
    (Whose.OTHERS, 'etcd_server_has_leader{job=~".*etcd.*"} == 0', Standing.QUIET, "job .*etcd.*"),
    (Whose.OTHERS, 'max(rest_client_requests_total{job="kube-scheduler"}) > 1', Standing.QUIET, "kube-scheduler"),
    (Whose.OTHERS, "windows_os_info > 1", Standing.QUIET, "windows"),
    (Whose.OTHERS, 'up{job="kube-scheduler"} == 0', Standing.QUIET, "kube-scheduler"),
    (Whose.APP, 'up{job="kube-scheduler"} == 0', Standing.DEAD, "kube-scheduler"),
    (Whose.OTHERS, 'prometheus_errors_total{job="kube-prometheus-stack-prometheus"} > 0', Standing.QUIET, "is scraped as job"),
    (Whose.OTHERS, 'up{job="node_exporter"} == 0', Standing.DEAD, 'job="node-exporter"'),
    (Whose.OTHERS, "node_memory_MemAvail < 5", Standing.DEAD, "node_memory_MemAvailable"),
    (Whose.APP, "windows_os_info > 1", Standing.DEAD, "windows_os_info"),
    (Whose.OTHERS, "instance:cpu:ratio > 1", Standing.DEAD, "no loaded rule"),
    (Whose.APP, "redis_up == 0", Standing.DEAD, "redis_up"),
    (Whose.OURS, "loki_request_total > 0", Standing.QUIET, "no Loki is scraped"),
    (Whose.OURS, "log_collector_spool_bytes > 0", Standing.QUIET, "no log collector"),
    (Whose.APP, "log_collector_spool_bytes > 0", Standing.DEAD, "log_collector_spool_bytes"),
]


@pytest.mark.parametrize(("whose", "expr", "standing", "word"), STRANGERS)
def test_what_a_cluster_does_not_have(prometheus: Prometheus, whose: Whose, expr: str, standing: Standing, word: str) -> None:
    (found,) = RuleJudge(series_of(prometheus), [LoadedRule("A", expr, whose)]).of_rules()
    assert found.state == standing and word in found.why, found


def test_the_rules_of_the_embedded_chart_are_well(prometheus: Prometheus) -> None:
    """As its template has them, without the braces of Helm."""
    text = re.sub(r"(?m)^\{\{.*\}\}$", "", (ROOT / "charts/kube-prometheus-embedded/templates/rules.yaml").read_text())
    rules = [rule for group in yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", text))["spec"]["groups"] for rule in group["rules"]]
    judge = RuleJudge(series_of(prometheus), [LoadedRule(rule["alert"], rule["expr"], Whose.OURS) for rule in rules])
    found = {rule.name: verdict.state.name for rule, verdict in zip(judge.rules, judge.of_rules(), strict=True)}
    assert found == {"Watchdog": "ALIVE", "InfoInhibitor": "QUIET"}


def test_an_alert_that_is_meant_to_be_quiet(prometheus: Prometheus) -> None:
    rule = {"name": "A", "type": "alerting", "query": "nobody > 1", "annotations": {"quiet": "until the move"}}
    (read,) = dead_rules.read([{"file": "/rules/shop-web-1.yaml", "rules": [rule]}], (), ("shop-web-",))
    (found,) = RuleJudge(series_of(prometheus), [read]).of_rules()
    assert read.whose == Whose.APP and found.state == Standing.QUIET and "until the move" in found.why
    # An empty one is no reason.
    (read,) = dead_rules.read(
        [{"file": "/rules/shop-web-1.yaml", "rules": [{**rule, "annotations": {"quiet": " "}}]}], (), ("shop-web-",)
    )
    (found,) = RuleJudge(series_of(prometheus), [read]).of_rules()
    assert found.state == Standing.DEAD


def test_a_selector_that_is_refused_is_no_verdict(prometheus: Prometheus) -> None:
    """Neither dead nor alive: the row is skipped then."""
    series = series_of(prometheus)
    query = series.query

    def refusing(expr: str, most: int) -> list[Any]:
        if "queue_size" in expr:
            raise ApiError(422, "query processing would load too many samples")
        return query(expr, most)

    series.query = refusing
    rules = [LoadedRule("A", "queue_size > 1", Whose.APP), LoadedRule("B", "up == 0", Whose.APP)]
    found = list(zip(rules, RuleJudge(series, rules).of_rules(), strict=True))
    assert [verdict.state for _rule, verdict in found] == [Standing.UNKNOWN, Standing.ALIVE]
    row = dead_rules.verdict_of(found)
    assert row.status == "skipped" and "queue_size" in row.evidence


def test_no_panel_of_ours_is_dead(prometheus: Prometheus) -> None:
    judge = RuleJudge(series_of(prometheus), rules_of(prometheus))
    asked = dashboards.queries(dashboards.all_dashboards(), "shop", "web")
    found = judge.of_panels([query.expr for query in asked])
    verdicts = {(query.panel, query.expr): verdict for query, verdict in zip(asked, found, strict=True)}
    assert len(verdicts) > 40
    assert {panel: found for panel, found in verdicts.items() if found.state not in (Standing.ALIVE, Standing.QUIET)} == {}


@pytest.mark.parametrize("expr", ["windows_os_info > 1", "rate(windows_os_info[5m]) > 1 and on (job) up == 1"])
@pytest.mark.parametrize(("without", "state"), [({"windows_": "node exporter"}, Standing.QUIET), ({}, Standing.DEAD)])
def test_what_a_skipped_part_would_serve(prometheus: Prometheus, expr: str, without: dict[str, str], state: Standing) -> None:
    series = series_of(prometheus)
    series.without = without
    (verdict,) = RuleJudge(series, [LoadedRule("A", expr, Whose.OURS)]).of_rules()
    assert verdict.state == state
    assert not without or "node exporter is skipped" in verdict.why


@pytest.mark.parametrize(
    ("exporter", "option", "omitted"),
    [
        ("kube-state-metrics", "--metric-allowlist=kube_pod_.*,kube_node_info", ["kube_deployment_created", "kube_node_info_2"]),
        ("kube-state-metrics", "--resources=pods,nodes", ["kube_deployment_created"]),
        ("node-exporter", "--no-collector.loadavg", ["node_load1"]),
        ("node-exporter", "--no-collector.wifi", ["node_wifi_interface"]),
        ("node-exporter", "--collector.wifi", []),
        ("shop", "--no-collector.wifi", []),
    ],
)
def test_what_an_exporter_is_told_not_to_serve(exporter: str, option: str, omitted: list[str]) -> None:
    container = {"name": exporter, "args": [option]}
    found = quiet.denied([{"spec": {"template": {"spec": {"containers": [container]}}}}])
    names = (
        "kube_deployment_created",
        "kube_node_info",
        "kube_node_info_2",
        "kube_pod_info",
        "node_load1",
        "node_wifi_interface",
        "up",
    )
    assert [name for name in names if any(re.search(pattern, name) for pattern in found)] == omitted


def test_what_prometheus_counts_once_it_writes_elsewhere() -> None:
    always = "prometheus_remote_storage_samples_in_total"
    assert "writes nowhere" in quiet.of_metric("prometheus_remote_storage_shards_max", {always}, ours=False)
    assert quiet.of_metric("prometheus_remote_storage_shards_max", {always, "prometheus_remote_storage_shards"}, ours=False) == ""
    assert quiet.of_metric(always, set(), ours=False) == ""


def test_five_hundred_rules_are_asked_in_few_requests(prometheus: Prometheus) -> None:
    """Each of them crosses a cluster's API server; most of these rules miss something, which asks most."""
    asked = Counter[str]()
    get = prometheus.get

    def counted(path: str, **query: str) -> Any:
        asked[path] += 1
        return get(path, **query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prometheus, "get", counted)
        given = many_rules()
        assert len(given) >= 500
        states = Counter(verdict.state for verdict in RuleJudge(series_of(prometheus), given).of_rules())
    assert states[Standing.DEAD] > 300
    assert asked.total() <= 110, asked
    assert max(asked[path] for path in asked if path not in ("/api/v1/query", "/api/v1/parse_query")) == 1


def test_an_answer_that_was_cut_off_is_asked_for_in_parts() -> None:
    """Of several questions none is answered by what is missing."""
    asked: list[int] = []

    def query(expr: str, most: int) -> list[Any]:
        numbers = re.findall(r'"__number", "(\d+)"', expr)
        asked.append(len(numbers))
        found = [
            {"metric": {"__number": number, "pod": f"pod-{pod}"}}
            for number in numbers
            for pod in range(most // 2 if "many" in expr else 1)
        ]
        return found[:most]

    series = Series(query, lambda _path: [], lambda _expr: None)
    exprs = ["many", "a", "b", "c"]
    with pytest.raises(Unasked):
        series.values("pod", exprs[0])
    for expr in exprs[1:]:
        with contextlib.suppress(Unasked):
            series.values("pod", expr)
    series.answer()
    assert sorted(asked) == [1, 1, 2, 2, 4]
    assert [len(series.values("pod", expr)) for expr in exprs] == [500, 1, 1, 1]


def test_a_prometheus_that_tells_no_tree_is_asked_once() -> None:
    asked: list[str] = []
    series = Series(lambda _expr, _most: [], lambda _path: [], asked.append)
    rules = [LoadedRule(str(number), f"a{number} > 1") for number in range(99)]
    assert {verdict.state for verdict in RuleJudge(series, rules).of_rules()} == {Standing.UNKNOWN}
    assert len(asked) == 1


def test_what_was_missing_is_asked_for_again() -> None:
    """And what was there is not, while values may have come."""
    there = [{"metric": {"__number": "0", "pod": "a"}}]
    asked: list[str] = []

    def query(expr: str, _most: int) -> list[Any]:
        asked.append(expr)
        return there if "here" in expr else []

    series = Series(query, lambda _path: [], lambda _expr: None)
    series.ask(["here"])
    series.ask(["away"])
    with pytest.raises(Unasked):
        series.values("pod", "here")
    series.answer()
    assert series.there("here") and not series.there("away") and series.values("pod", "here") == {"a"}
    series.renew()
    assert series.there("here") and len(asked) == 3
    for again in (lambda: series.there("away"), lambda: series.values("pod", "here")):
        with pytest.raises(Unasked):
            again()


def test_two_sides_of_which_not_all_is_known_are_not_apart(prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [LoadedRule("A", "kube_deployment_spec_replicas - kube_pod_created > 0")]
    (found,) = RuleJudge(series_of(prometheus), rules).of_rules()
    assert found.kind == Death.JOIN
    monkeypatch.setattr(dead, "SOME", 1)
    (found,) = RuleJudge(series_of(prometheus), rules).of_rules()
    assert found.state == Standing.QUIET
