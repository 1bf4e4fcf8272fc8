# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify on the real cluster: a healthy chain is never blamed, and what is broken on purpose is found and named.

Each mutation breaks one thing, waits until the breakage is there, and mends it whatever happens; the next test begins when
the chain is whole again. A sample of them runs in `make test`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError, KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Target, VerifyError
from kubernetes import client

import tests.harness as harness
from tests.harness import LONG, Cluster

APP = "/apis/apps/v1/namespaces/{}/deployments/{}"
CORE = "/api/v1/namespaces/{}/{}/{}"
OPERATOR = "/apis/monitoring.coreos.com/v1/namespaces/{}/{}/{}"
MONITOR = OPERATOR.format("flask-app", "servicemonitors", "flask-app")
RULES = OPERATOR.format("flask-app", "prometheusrules", "flask-app")
PROBE = OPERATOR.format("flask-app", "probes", "flask-app")
ROUTES = OPERATOR.format("flask-app", "alertmanagerconfigs", "flask-app").replace("/v1/", "/v1alpha1/")
SERVER = OPERATOR.format("monitoring", "prometheuses", "kube-prometheus-stack-prometheus")
ALERTMANAGER = OPERATOR.format("monitoring", "alertmanagers", "kube-prometheus-stack-alertmanager")
SERVICE = CORE.format("flask-app", "services", "flask-app")
METRICS_SERVICE = CORE.format("flask-app", "services", "flask-app-metrics")
DEPLOYMENT = APP.format("flask-app", "flask-app")
INBOX = APP.format("monitoring", "alert-inbox")
CONFIG = CORE.format("monitoring", "secrets", "kube-prometheus-stack-alertmanager-config")
BOARD = CORE.format("monitoring", "configmaps", "flaskops-service-dashboard")
SOURCE = CORE.format("monitoring", "configmaps", "wrong-datasource")
VICTORIA_LOGS = "/apis/apps/v1/namespaces/victoria-logs/statefulsets/victoria-logs"
COLLECTOR = "/apis/apps/v1/namespaces/victoria-logs-node/daemonsets/victoria-logs-collector"
COLLECTOR_MONITOR = OPERATOR.format("victoria-logs-node", "servicemonitors", "victoria-logs-collector")
PROMETHEUS = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1"
LIMIT = 20.0  # seconds for the whole chain, without the test alert's own way
Json = dict[str, Any]


def until(what: str, look: Callable[[], Any], seconds: float = 180) -> Any:
    """The first true answer of *look*; what is being broken or mended may not answer."""
    return harness.until(look, seconds, what, passing=(ApiError, ApiError))


class Bench:
    """The shared cluster, with ways to break it and to mend it again."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.objects = Objects(cluster.api)
        self.target = Target(kubeconfig=str(cluster.kubeconfig), context=cluster.context)

    def verify(self, timeout: float = 60) -> dict[str, Json]:
        results, _url = verify(KubeCluster(self.cluster.api), replace(self.target, timeout=timeout))
        return {result["link"]: result for result in results}

    def whole(self) -> None:
        """Wait until no link is broken."""
        last: list[dict[str, str]] = []

        def healthy() -> bool:
            last[:] = [{k: r[k] for k in ("link", "cause")} for r in self.verify().values() if r["status"] == "failed"]
            return not last

        try:
            until("the chain is whole", healthy, 300)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from error

    def get(self, path: str, query: dict[str, str] | None = None) -> Any:
        return self.objects.request("GET", path, query)

    def query(self, expr: str) -> list[Json]:
        found: list[Json] = self.get(f"{PROMETHEUS}/query", {"query": expr})["data"]["result"]
        return found

    def scraped(self) -> list[Json]:
        """What Prometheus knows of the app's metrics."""
        found = self.get(f"{PROMETHEUS}/targets", {"state": "active"})["data"]["activeTargets"]
        return [t for t in found if t["scrapePool"].startswith("serviceMonitor/flask-app/flask-app/")]

    def poke(self, namespace: str, selector: str) -> None:
        """Have kubelet look at these pods' volumes now, and not within the next minute or two."""
        for pod in self.cluster.core.list_namespaced_pod(namespace, label_selector=selector).items:
            self.cluster.core.patch_namespaced_pod(
                pod.metadata.name, namespace, {"metadata": {"annotations": {"flaskops/poked": str(time.time())}}}
            )

    def poking(self, selector: str, look: Callable[[], Any], namespace: str = "monitoring") -> Callable[[], Any]:
        """*look*, with the operator's change brought to these pods."""
        calls = iter(range(10**6))

        def looking() -> Any:
            if next(calls) % 10 == 4:  # every five seconds
                self.poke(namespace, selector)
            return look()

        return looking

    def settled(self, look: Callable[[], Any]) -> None:
        """Wait for something that goes through the operator to Prometheus."""
        until("Prometheus has it", self.poking("app.kubernetes.io/name=prometheus", look))

    @contextmanager
    def changed(self, path: str, change: Callable[[Json], None]) -> Iterator[None]:
        """An object with another content; its former one is put back."""
        before = self.get(path)
        changed = json.loads(json.dumps(before))
        change(changed)
        self.objects.request("PUT", path, None, changed, "application/json")
        try:
            yield
        finally:
            now = self.get(path)
            for key in ("spec", "data"):
                if key in before:
                    now[key] = before[key]
            now["metadata"]["labels"] = before["metadata"].get("labels", {})
            self.objects.request("PUT", path, None, now, "application/json")

    @contextmanager
    def deleted(self, path: str) -> Iterator[None]:
        """An object that is gone; it is made again."""
        before = self.get(path)
        self.objects.request("DELETE", path)
        try:
            yield
        finally:
            for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
                before["metadata"].pop(key, None)
            until("it may be made again", lambda: self._made(path, before), 30)

    def _made(self, path: str, item: Json) -> bool:
        self.objects.request("POST", path.rsplit("/", 1)[0], None, item, "application/json")
        return True

    @contextmanager
    def stopped(self, path: str) -> Iterator[None]:
        """A workload without pods."""
        with self.changed(path, lambda item: item["spec"].update(replicas=0)):
            until(f"{path} stops", lambda: not self.get(path)["status"].get("replicas"), 90)
            yield


def container(item: Json) -> Json:
    found: Json = item["spec"]["template"]["spec"]["containers"][0]
    return found


# The mutations: each is named for what somebody did.


@contextmanager
def service_selector_wrong(bench: Bench) -> Iterator[None]:
    slices = "/apis/discovery.k8s.io/v1/namespaces/flask-app/endpointslices"
    own = {"labelSelector": "kubernetes.io/service-name=flask-app"}
    with bench.changed(SERVICE, lambda s: s["spec"].update(selector={"app": "flask-apps"})):
        # Until its controller has looked, the endpoints are as before.
        until("the endpoints go", lambda: not any(item["endpoints"] for item in bench.get(slices, own)["items"]), 30)
        yield


@contextmanager
def service_port_wrong(bench: Bench) -> Iterator[None]:
    with bench.changed(SERVICE, lambda s: s["spec"]["ports"][0].update(targetPort=5999)):
        yield


def unready(bench: Bench, reason: str) -> bool:
    """Whether a pod of the app waits for this reason, or is simply not ready where none is given."""
    for pod in bench.cluster.core.list_namespaced_pod("flask-app", label_selector="app=flask-app").items:
        for status in pod.status.container_statuses or []:
            waiting = status.state.waiting
            if (waiting and waiting.reason == reason) if reason else (not status.ready and status.state.running):
                return True
    return False


@contextmanager
def probe_path_wrong(bench: Bench) -> Iterator[None]:
    with bench.changed(DEPLOYMENT, lambda d: container(d)["readinessProbe"]["httpGet"].update(path="/healthy")):
        until("a pod is not ready", lambda: unready(bench, ""))
        yield


@contextmanager
def probe_removed(bench: Bench) -> Iterator[None]:
    with bench.changed(DEPLOYMENT, lambda d: container(d).pop("readinessProbe")):
        yield


@contextmanager
def probe_port_wrong(bench: Bench) -> Iterator[None]:
    with bench.changed(DEPLOYMENT, lambda d: container(d)["livenessProbe"]["httpGet"].update(port=5999)):
        yield


@contextmanager
def image_changed(bench: Bench) -> Iterator[None]:
    with bench.changed(DEPLOYMENT, lambda d: container(d).update(image="localhost/flask-app:typo")):
        until("its image can't be had", lambda: unready(bench, "ImagePullBackOff") or unready(bench, "ErrImagePull"))
        yield


@contextmanager
def metrics_port_moved(bench: Bench) -> Iterator[None]:
    moved = {"name": "METRICS_PORT", "value": "9300"}
    generation = bench.get(DEPLOYMENT)["metadata"]["generation"]
    with bench.changed(DEPLOYMENT, lambda d: container(d).setdefault("env", []).append(moved)):

        def rolled_out() -> bool:
            item = bench.get(DEPLOYMENT)
            status, wanted = item["status"], item["spec"]["replicas"]
            counts = [status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            return bool(status["observedGeneration"] > generation and counts == [wanted] * 3)

        until("the new pods serve", rolled_out)
        yield


@contextmanager
def monitor_port_wrong(bench: Bench) -> Iterator[None]:
    with bench.changed(MONITOR, lambda m: m["spec"]["endpoints"][0].update(port="metric")):
        bench.settled(lambda: not bench.scraped())
        yield


@contextmanager
def monitor_label_changed(bench: Bench) -> Iterator[None]:
    chosen = {"matchExpressions": [{"key": "monitored-by", "operator": "NotIn", "values": ["nobody"]}]}
    with (
        bench.changed(SERVER, lambda p: p["spec"].update(serviceMonitorSelector=chosen)),
        bench.changed(MONITOR, lambda m: m["metadata"]["labels"].update({"monitored-by": "nobody"})),
    ):
        bench.settled(lambda: not bench.scraped())
        yield


@contextmanager
def monitor_deleted(bench: Bench) -> Iterator[None]:
    with bench.deleted(MONITOR):
        yield


def last_error(bench: Bench, text: str) -> bool:
    return any(text in target["lastError"] for target in bench.scraped())


@contextmanager
def metrics_service_port_wrong(bench: Bench) -> Iterator[None]:
    with bench.changed(METRICS_SERVICE, lambda s: s["spec"]["ports"][0].update(targetPort=9999)):
        until("scrapes fail", lambda: last_error(bench, "refused"))
        yield


@contextmanager
def scrapes_refused(bench: Bench) -> Iterator[None]:
    """The application's own port knows no /metrics; the metrics server would answer on any path."""
    with bench.changed(METRICS_SERVICE, lambda s: s["spec"]["ports"][0].update(targetPort=5000)):
        until("scrapes fail", lambda: last_error(bench, "404"))
        yield


@contextmanager
def sample_limit_too_low(bench: Bench) -> Iterator[None]:
    with bench.changed(MONITOR, lambda m: m["spec"].update(sampleLimit=1)):
        bench.settled(lambda: last_error(bench, "sample limit"))
        yield


@contextmanager
def metrics_dropped(bench: Bench) -> Iterator[None]:
    drop = [{"action": "drop", "sourceLabels": ["__name__"], "regex": "flask_http_request_duration.*"}]
    with bench.changed(MONITOR, lambda m: m["spec"]["endpoints"][0].update(metricRelabelings=drop)):
        name = 'flask_http_request_duration_seconds_count{namespace="flask-app", job="flask-app"}'
        bench.settled(lambda: not bench.query(name))
        # A rate looks back for as long as its window.
        until("its rate is gone", lambda: not bench.query(f"rate({name}[5m])"), 400)
        yield


@contextmanager
def rule_deleted(bench: Bench) -> Iterator[None]:
    with bench.deleted(RULES):
        yield


@contextmanager
def alert_removed(bench: Bench) -> Iterator[None]:
    def remove(item: Json) -> None:
        (group,) = [g for g in item["spec"]["groups"] if g["name"] == "flask-app.alerts"]
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "HighErrorRate"]

    with bench.changed(RULES, remove):
        yield


def rule_groups(bench: Bench) -> list[Json]:
    found: list[Json] = bench.get(f"{PROMETHEUS}/rules")["data"]["groups"]
    return [group for group in found if "/flask-app-flask-app-" in group["file"]]


@contextmanager
def rule_that_fails(bench: Bench) -> Iterator[None]:
    bad = {"alert": "Bad", "expr": "up * on () up"}

    def failing() -> bool:
        return any(rule.get("lastError") for group in rule_groups(bench) for rule in group["rules"])

    with bench.changed(RULES, lambda r: r["spec"]["groups"][0]["rules"].append(bad)):
        bench.settled(failing)
        yield


@contextmanager
def rules_not_selected(bench: Bench) -> Iterator[None]:
    with bench.changed(SERVER, lambda p: p["spec"].update(ruleSelector={"matchLabels": {"team": "nobody"}})):
        bench.settled(lambda: not rule_groups(bench))
        yield


@contextmanager
def alertmanager_config(bench: Bench, pattern: str, text: str) -> Iterator[None]:
    """Another configuration of Alertmanager: the first match of *pattern* is replaced."""
    selector = "app.kubernetes.io/name=alertmanager"

    def change(secret: Json) -> None:
        config, count = re.subn(pattern, text, base64.b64decode(secret["data"]["alertmanager.yaml"]).decode(), count=1)
        assert count == 1
        secret["data"]["alertmanager.yaml"] = base64.b64encode(config.encode()).decode()

    def config() -> list[str]:
        # Its page of the configuration hides what may be a secret, the receivers' addresses among it.
        return [series["value"][1] for series in bench.query("alertmanager_config_hash")]

    before = until("Alertmanager tells its configuration", config)
    try:
        with bench.changed(CONFIG, change):
            until("Alertmanager has it", bench.poking(selector, lambda: config() not in ([], before)))
            yield
    finally:
        until("Alertmanager is as before", bench.poking(selector, lambda: config() == before))


@contextmanager
def receiver_wrong(bench: Bench) -> Iterator[None]:
    with alertmanager_config(bench, r"alert-inbox\.monitoring\.svc:80/", "alert-inbox.monitoring.svc:81/"):
        yield


@contextmanager
def route_wrong(bench: Bench) -> Iterator[None]:
    with alertmanager_config(bench, r'(service!~.*\n\s*receiver: )"alert-inbox"', r'\1"none"'):
        yield


@contextmanager
def inbox_down(bench: Bench) -> Iterator[None]:
    with bench.stopped(INBOX):
        yield


@contextmanager
def alertmanager_down(bench: Bench) -> Iterator[None]:
    with bench.changed(ALERTMANAGER, lambda a: a["spec"].update(replicas=0)):
        pods = {"labelSelector": "app.kubernetes.io/name=alertmanager"}
        until("it is gone", lambda: not bench.get("/api/v1/namespaces/monitoring/pods", pods)["items"])
        yield


@contextmanager
def alertmanager_unknown(bench: Bench) -> Iterator[None]:
    def rename(item: Json) -> None:
        item["spec"]["alerting"]["alertmanagers"][0]["name"] = "somebody-else"

    with bench.changed(SERVER, rename):
        bench.settled(lambda: not bench.get(f"{PROMETHEUS}/alertmanagers")["data"]["activeAlertmanagers"])
        yield


@contextmanager
def routes_deleted(bench: Bench) -> Iterator[None]:
    with bench.deleted(ROUTES):
        yield


@contextmanager
def probe_module_missing(bench: Bench) -> Iterator[None]:
    with bench.changed(PROBE, lambda p: p["spec"].update(module="http_3xx")):
        bench.settled(lambda: not bench.query('probe_success{namespace="flask-app", app="flask-app"}'))
        yield


@contextmanager
def probe_deleted(bench: Bench) -> Iterator[None]:
    with bench.deleted(PROBE):
        yield


@contextmanager
def blackbox_exporter_down(bench: Bench) -> Iterator[None]:
    with bench.stopped(APP.format("monitoring", "prometheus-blackbox-exporter")):
        yield


@contextmanager
def kube_state_metrics_down(bench: Bench) -> Iterator[None]:
    with bench.stopped(APP.format("monitoring", "kube-prometheus-stack-kube-state-metrics")):
        until("its series are gone", lambda: not bench.query('kube_deployment_spec_replicas{namespace="flask-app"}'))
        yield


@contextmanager
def operator_down(bench: Bench) -> Iterator[None]:
    with bench.stopped(APP.format("monitoring", "kube-prometheus-stack-operator")):
        yield


@contextmanager
def prometheus_down(bench: Bench) -> Iterator[None]:
    with bench.changed(SERVER, lambda p: p["spec"].update(replicas=0)):
        pods = {"labelSelector": "app.kubernetes.io/name=prometheus"}
        until("it is gone", lambda: not bench.get("/api/v1/namespaces/monitoring/pods", pods)["items"])
        yield


@contextmanager
def shipper_stopped(bench: Bench) -> Iterator[None]:
    with bench.changed(COLLECTOR, lambda d: d["spec"]["template"]["spec"].update(nodeSelector={"no": "node"})):
        until("it is gone", lambda: not bench.get(COLLECTOR)["status"]["currentNumberScheduled"])
        yield


@contextmanager
def shipper_sends_nowhere(bench: Bench) -> Iterator[None]:
    def change(item: Json) -> None:
        for entry in container(item)["env"]:
            if entry["name"] == "URL":
                entry["value"] = "http://victoria-log.victoria-logs.svc:9428"

    generation = bench.get(COLLECTOR)["metadata"]["generation"]
    with bench.changed(COLLECTOR, change):

        def rolled_out() -> bool:
            status = bench.get(COLLECTOR)["status"]
            updated = status.get("updatedNumberScheduled") == status.get("numberReady") == 1
            return bool(status["observedGeneration"] > generation and updated)

        until("its new pod runs", rolled_out)
        # The lines that nobody takes grow old.
        threading.Event().wait(15)
        yield


@contextmanager
def victoria_logs_down(bench: Bench) -> Iterator[None]:
    with bench.stopped(VICTORIA_LOGS):
        yield


@contextmanager
def victoria_logs_with(bench: Bench, *flags: str) -> Iterator[None]:
    """Its pod has these flags too, of which the last of a name counts."""

    def settled(generation: int) -> Callable[[], bool]:
        def look() -> bool:
            status = bench.get(VICTORIA_LOGS)["status"]
            updated = status.get("currentRevision") == status.get("updateRevision") and status.get("readyReplicas") == 1
            return bool(status["observedGeneration"] > generation and updated)

        return look

    names = [flag.partition("=")[0] for flag in flags]

    def change(item: Json) -> None:
        args = container(item)["args"]
        args[:] = [arg for arg in args if arg.partition("=")[0] not in names] + list(flags)

    generation = bench.get(VICTORIA_LOGS)["metadata"]["generation"]
    with bench.changed(VICTORIA_LOGS, change):
        until("its new pod runs", settled(generation))
        yield
    until("its pod of before runs", settled(generation + 1))


@contextmanager
def victoria_logs_read_only(bench: Bench) -> Iterator[None]:
    with victoria_logs_with(bench, "-storage.minFreeDiskSpaceBytes=900TiB"):
        yield


@contextmanager
def victoria_logs_asks_for_a_login(bench: Bench) -> Iterator[None]:
    with victoria_logs_with(bench, "-httpAuth.username=somebody", "-httpAuth.password=else"):
        yield


@contextmanager
def line_counters_dropped(bench: Bench) -> Iterator[None]:
    drop = {"action": "drop", "sourceLabels": ["__name__"], "regex": "flaskops_log_.*"}
    with bench.changed(COLLECTOR_MONITOR, lambda m: m["spec"]["endpoints"][0].update(metricRelabelings=[drop])):
        series = {"query": "flaskops_log_lines_total"}
        until("Prometheus has no counter", lambda: not bench.get(f"{PROMETHEUS}/query", series)["data"]["result"], 400)
        yield


@contextmanager
def data_source_wrong(bench: Bench) -> Iterator[None]:
    text = "apiVersion: 1\ndatasources:\n  - name: Loki\n    type: loki\n    url: http://loki.log.svc:3100\n"
    metadata = {"name": SOURCE.rsplit("/", 1)[1], "labels": {"grafana_datasource": "1"}}
    bench.cluster.core.create_namespaced_config_map("monitoring", {"metadata": metadata, "data": {"loki.yaml": text}})
    try:
        yield
    finally:
        bench.cluster.core.delete_namespaced_config_map(metadata["name"], "monitoring")


@contextmanager
def dashboard_query_wrong(bench: Bench) -> Iterator[None]:
    def change(item: Json) -> None:
        ((name, text),) = item["data"].items()
        assert "probe_duration_seconds" in text
        item["data"] = {name: text.replace("probe_duration_seconds", "probe_duration")}

    with bench.changed(BOARD, change):
        yield


@contextmanager
def dashboard_deleted(bench: Bench) -> Iterator[None]:
    with bench.deleted(BOARD):
        yield


SKEWED = """\
import time
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() - 3600
time.time_ns = lambda: nanoseconds() - 3600 * 10**9
"""


@contextmanager
def inbox_clock_behind(bench: Bench) -> Iterator[None]:
    """The receiver's clock is an hour behind. The machine's own can't be set in a test."""
    maps = "/api/v1/namespaces/monitoring/configmaps"

    def change(item: Json) -> None:
        pod = item["spec"]["template"]["spec"]
        pod["volumes"] = [{"name": "skew", "configMap": {"name": "verify-skew"}}]
        pod["containers"][0]["volumeMounts"] = [{"name": "skew", "mountPath": "/skew"}]
        pod["containers"][0]["env"] = [{"name": "PYTHONPATH", "value": "/skew"}]

    def inbox_time() -> float:
        import datetime

        path = "/api/v1/namespaces/monitoring/services/alert-inbox:80/proxy/alerts.json"
        return datetime.datetime.fromisoformat(bench.get(path, {"since": "0"})["now"]).timestamp()

    content = {"metadata": {"name": "verify-skew"}, "data": {"sitecustomize.py": SKEWED}}
    bench.objects.request("POST", maps, None, content, "application/json")
    try:
        with bench.changed(INBOX, change):
            until("its clock is behind", lambda: time.time() - inbox_time() > 3000)
            yield
    finally:
        bench.objects.request("DELETE", f"{maps}/verify-skew")
        until("its clock is right", lambda: abs(time.time() - inbox_time()) < 60)


@dataclass(frozen=True)
class Mutation:
    """How something is broken, the link that has to be named, and a part of the cause."""

    breaks: Callable[[Bench], AbstractContextManager[None]]
    link: str
    cause: str
    sample: bool = False  # also in `make test`


MUTATIONS = [
    Mutation(service_selector_wrong, "endpoint", "its selector is app=flask-apps", sample=True),
    Mutation(service_port_wrong, "endpoint", "no port of the Service flask-app leads to the app's port 5000"),
    Mutation(probe_path_wrong, "rollout", "unready status"),
    Mutation(probe_removed, "probes", "no readinessProbe"),
    Mutation(probe_port_wrong, "probes", "livenessProbe asks the port 5999"),
    Mutation(image_changed, "image", "(ErrImagePull|ImagePullBackOff)"),
    Mutation(metrics_port_moved, "metric requests", "flask-app-"),
    Mutation(monitor_port_wrong, "target", "no target for pod flask-app-"),
    Mutation(monitor_label_changed, "target", "no ServiceMonitor that this Prometheus selects"),
    Mutation(monitor_deleted, "target", "the ServiceMonitor flask-app is gone"),
    Mutation(metrics_service_port_wrong, "target", "refused"),
    Mutation(scrapes_refused, "target", "404"),
    Mutation(sample_limit_too_low, "target", "sample limit exceeded"),
    Mutation(metrics_dropped, "dashboards", "no series for"),
    Mutation(rule_deleted, "rules", "the PrometheusRule flask-app is gone"),
    Mutation(alert_removed, "rules", "the alert HighErrorRate was taken out"),
    Mutation(rule_that_fails, "rules", "Bad: "),
    Mutation(rules_not_selected, "rules", "0 of [0-9]+ rules of the group flask-app.alerts"),
    Mutation(receiver_wrong, "alert path", "Alertmanager does not reach the receiver alert-inbox"),
    Mutation(route_wrong, "alert path", "Alertmanager sends it to none and not to alert-inbox"),
    Mutation(inbox_down, "alert path", "(no endpoints|503|alert-inbox)"),
    Mutation(alertmanager_down, "alertmanager", "scaled to 0 replicas"),
    Mutation(alertmanager_unknown, "alertmanager", "Prometheus knows no Alertmanager"),
    Mutation(routes_deleted, "receivers", "the AlertmanagerConfig flask-app"),
    Mutation(probe_module_missing, "health probe", "the exporter says .*400"),
    Mutation(probe_deleted, "health probe", "the Probe flask-app is gone"),
    Mutation(blackbox_exporter_down, "exporters", "nobody answers at prometheus-blackbox-exporter"),
    Mutation(kube_state_metrics_down, "exporters", "kube-state-metrics tells nothing of the app"),
    Mutation(shipper_stopped, "log shipper", "runs on no node", sample=True),
    Mutation(shipper_sends_nowhere, "log shipper", "on node .* it does not reach it, and its log says: "),
    Mutation(victoria_logs_down, "victoria_logs", "(no endpoints|503)"),
    Mutation(victoria_logs_read_only, "victoria_logs", "read-only"),
    Mutation(victoria_logs_asks_for_a_login, "victoria_logs", "answers 401.*names no Secret"),
    Mutation(line_counters_dropped, "log alerts", "Prometheus has no flaskops_log_lines_total"),
    Mutation(data_source_wrong, "data sources", "points at http://loki.log.svc:3100"),
    Mutation(dashboard_query_wrong, "dashboards", "no series for Flask service / Duration of the health check"),
    Mutation(dashboard_deleted, "dashboards", "the ConfigMap flaskops-service-dashboard with a dashboard is gone"),
    Mutation(inbox_clock_behind, "clocks", "the clock of the alert inbox is 3[56][0-9][0-9] s behind"),
    Mutation(operator_down, "prometheus", "the operator kube-prometheus-stack-operator is not available"),
    Mutation(prometheus_down, "prometheus", "scaled to 0 replicas"),
]


@pytest.fixture(scope="module")
def bench() -> Bench:
    path = os.environ.get("CLUSTER_KUBECONFIG")
    assert path, "CLUSTER_KUBECONFIG is not set; run these tests by `molecule test`."
    found = Bench(Cluster(Path(path), os.environ.get("CLUSTER_CONTEXT", "flaskops-test")))
    found.whole()
    return found


def healthy_run(bench: Bench) -> tuple[float, float]:
    """The seconds of the whole chain without the test alert, and those of the alert."""
    results = bench.verify()
    assert {name: r["cause"] for name, r in results.items() if r["status"] == "failed"} == {}
    assert [name for name, r in results.items() if r["status"] == "ok" and not (r["query"] and r["evidence"])] == []
    return max(r["seconds"] for name, r in results.items() if name != "alert path"), results["alert path"]["seconds"]


@pytest.mark.parametrize("runs", [3, pytest.param(50, marks=LONG)])
def test_a_healthy_chain_is_never_blamed_and_the_whole_is_quick(
    bench: Bench, runs: int, record_property: Callable[[str, object], None]
) -> None:
    times = [healthy_run(bench) for _ in range(runs)]
    chain, alert = sorted(time for time, _ in times), sorted(time for _, time in times)
    text = f"{runs} runs: whole chain {chain[len(chain) // 2]:.1f} s (at most {chain[-1]:.1f}), "
    text += f"its test alert {alert[len(alert) // 2]:.1f} s (at most {alert[-1]:.1f}), side by side"
    print(f"\n{text}")
    record_property("verify", text)
    assert chain[-1] < LIMIT


def test_nothing_but_the_marks_is_left_behind(bench: Bench) -> None:
    marks = {"labelSelector": "app.kubernetes.io/managed-by=flaskops-verify"}
    assert bench.get("/api/v1/namespaces/flask-app/services", marks)["items"] == []


@pytest.mark.parametrize(
    "mutation",
    [pytest.param(m, id=m.breaks.__name__, marks=[] if m.sample else LONG) for m in MUTATIONS],
)
def test_what_is_broken_is_found_and_named(
    bench: Bench, mutation: Mutation, record_property: Callable[[str, object], None]
) -> None:
    try:
        with mutation.breaks(bench):
            began = time.monotonic()
            # What is broken is waited for until the end; a healthy chain needs less.
            results = bench.verify(25)
            took = time.monotonic() - began
    finally:
        bench.whole()
    failed = {name: r for name, r in results.items() if r["status"] == "failed"}
    blamed = {name: r["cause"] for name, r in failed.items() if not r["follows"]}
    assert list(blamed) == [mutation.link], blamed
    result = failed[mutation.link]
    assert re.search(mutation.cause, result["cause"]), result["cause"]
    assert result["next_command"] and result["evidence"]
    text = f"{mutation.breaks.__name__}: {mutation.link} named in {took:.1f} s: {result['cause'][:100]}"
    followers = [name for name, r in failed.items() if r["follows"]]
    print(f"\n{text}" + (f" (and because of it {', '.join(followers)})" if followers else ""))
    record_property("mutation", text)


@LONG
def test_a_token_that_is_no_longer_valid_is_one_sentence(bench: Bench) -> None:
    core, name = bench.cluster.core, "verify-expired"
    core.create_namespaced_service_account("flask-app", {"metadata": {"name": name}})
    try:
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        token = core.create_namespaced_service_account_token(name, "flask-app", request).status.token
    finally:
        core.delete_namespaced_service_account(name, "flask-app")
    configuration = client.Configuration()
    configuration.host, configuration.ssl_ca_cert = (
        bench.cluster.api.configuration.host,
        bench.cluster.api.configuration.ssl_ca_cert,
    )
    configuration.api_key = {"authorization": f"Bearer {token}"}
    expired = KubeCluster(client.ApiClient(configuration))

    def refused() -> str:
        try:
            verify(expired, bench.target)
        except VerifyError as error:
            return str(error)
        return ""

    message = until("the token is refused", refused, 60)
    assert re.fullmatch(r"The API server https://\S+ refuses the credentials \(.*\): renew the token or certificate\.", message)
    assert token not in message
