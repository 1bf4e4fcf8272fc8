# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links from the app's metrics to an alert's receiver, on a Prometheus operator's stack.

Everything is read through the API server's service proxy, so that no port of the stack need be open.
"""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from ..monitoring import dashboards
from ..monitoring.rules import TEST_SERVICE
from . import checks
from .api import ApiError, read_object
from .checks import FAILED, Result

OPERATOR = "/apis/monitoring.coreos.com/v1"
TEST_ALERT = "VerifyTestAlert"
SETTLE = 15.0  # seconds that a stack may need for what it has seen before
# A new rule goes through a ConfigMap, a kubelet's sync and a reload before Prometheus has it: up to two minutes.
FRESH, SETTLE_FRESH = 180.0, 150.0
PAUSE = 0.5  # seconds between two looks; none of the three programs can be watched


class Stack:
    """What one Prometheus, its Alertmanager and an alert inbox say of one app.

    :param run: the verification (links.Run), from which the cluster, the target, the pods and the deadline come.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self.cluster = run.cluster
        self.target = run.target
        self.namespace = ""
        self._prometheus = ""
        self._settle = SETTLE
        self._objects: dict[str, list[Any]] = {}
        self._never = threading.Event()

    # Reading.

    def _proxy(self, service: str, port: str | int, prefix: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/services/{service}:{port}/proxy{prefix.rstrip('/')}"

    def find(self) -> str:
        """Look for a Prometheus; return why there is none."""
        try:
            found = self.run.get(f"{OPERATOR}/prometheuses").get("items", [])
        except ApiError as error:
            if error.status == 404:
                return "no Prometheus operator is installed on this cluster"
            return f"the Prometheus objects can't be read: {error}"
        if not found:
            return "the Prometheus operator runs no Prometheus on this cluster"
        chosen = min(found, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))
        self.namespace = chosen["metadata"]["namespace"]
        self._prometheus = self._proxy("prometheus-operated", "web", chosen["spec"].get("routePrefix") or "")
        base = f"{OPERATOR}/namespaces/{self.target.namespace}"
        try:
            for kind in ("servicemonitors", "probes", "prometheusrules"):
                self._objects[kind] = self.run.get(f"{base}/{kind}").get("items", [])
        except ApiError as error:
            return f"the monitoring objects of namespace {self.target.namespace} can't be read: {error}"
        self._settle = SETTLE_FRESH if self._age() < FRESH else SETTLE
        return ""

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        found = self.run.get(f"{self._prometheus}/api/v1/query?{urlencode({'query': expr})}")
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def _age(self) -> float:
        """Seconds since the app's pods or its monitoring objects were last changed."""
        items = [item for found in self._objects.values() for item in found]
        metadata = [item["metadata"] for item in [*items, *self.run.pods]]
        times = [m["creationTimestamp"] for m in metadata if "creationTimestamp" in m]
        times += [entry["time"] for item in items for entry in item["metadata"].get("managedFields") or [] if "time" in entry]
        newest = max((datetime.datetime.fromisoformat(text) for text in times), default=None)
        return (datetime.datetime.now(datetime.UTC) - newest).total_seconds() if newest else FRESH

    def _until(self, look: Callable[[], list[Result]]) -> list[Result]:
        """Look again until nothing is broken any more, for the time that a stack needs to settle."""
        deadline = min(self.run.deadline, time.monotonic() + self._settle)
        while True:
            found = look()
            if all(result.status != FAILED for result in found) or time.monotonic() > deadline:
                return found
            self._never.wait(PAUSE)

    def _command(self, *words: str) -> str:
        return self.target.kubectl("-n", self.namespace, *words, namespaced=False)

    def _port_forward(self, service: str, port: int) -> str:
        return self._command("port-forward", f"service/{service}", str(port))

    # The links.

    def targets(self) -> list[Result]:
        """Prometheus scrapes every running pod of the app."""
        return self._until(self._targets)

    def _targets(self) -> list[Result]:
        target = self.target
        found = self.run.get(f"{self._prometheus}/api/v1/targets?state=active")["data"]["activeTargets"]
        names = {p["metadata"]["name"] for p in self.run.pods}
        ours = [t for t in found if t["labels"].get("namespace") == target.namespace and t["labels"].get("pod") in names]
        pods = {p["metadata"]["name"] for p in self.run.pods if p.get("status", {}).get("phase") == "Running"}
        missing = sorted(pods - {t["labels"]["pod"] for t in ours})
        down = [f"{t['scrapeUrl']}: {t['lastError'] or t['health']}" for t in ours if t["health"] != "up"]
        if missing or down:
            causes = down + [
                f"no target for pod {pod}: no ServiceMonitor that this Prometheus selects leads to it" for pod in missing
            ]
            result = checks.failed("target", f"{len(ours) - len(down)} of {len(pods)} pods are scraped", "; ".join(causes[:4]))
            result.next_command = target.kubectl("get", "servicemonitors,podmonitors,endpointslices", "-o", "wide")
            return [result]
        return [checks.ok("target", f"{len(pods)} pods scraped through {len(ours)} targets, all up")]

    def probe(self) -> list[Result]:
        """The blackbox exporter gets an answer from /health."""
        return self._until(self._probe)

    def _probe(self) -> list[Result]:
        target = self.target
        series = self.query(f'probe_success{{namespace="{target.namespace}", app="{target.name}"}}')
        if not series:
            objects = self._objects["probes"]
            if not objects:
                return [checks.left_out("health probe", f"namespace {target.namespace} has no Probe")]
            name = objects[0]["metadata"]["name"]
            cause = f"the Probe {name} gives no probe_success: its exporter can't be reached, or no Prometheus selects it"
            result = checks.failed("health probe", "no series probe_success", cause)
        else:
            failing = [s["metric"].get("instance", "?") for s in series if s["value"][1] != "1"]
            if not failing:
                names = ", ".join(sorted(s["metric"].get("instance", "?") for s in series))
                return [checks.ok("health probe", f"probe_success is 1 for {names}")]
            result = checks.failed("health probe", "probe_success is 0", f"the probe of {', '.join(failing)} fails")
        result.next_command = self.target.kubectl("describe", "probes")
        return [result]

    def rules(self) -> list[Result]:
        """Every rule of the namespace's PrometheusRules is loaded and evaluates without an error."""
        return self._until(self._rules)

    def _rules(self) -> list[Result]:
        namespace = self.target.namespace
        objects = self._objects["prometheusrules"]
        if not objects:
            return [checks.left_out("rules", f"namespace {namespace} has no PrometheusRule")]
        groups = self.run.get(f"{self._prometheus}/api/v1/rules")["data"]["groups"]
        problems, count = [], 0
        for item in objects:
            name = item["metadata"]["name"]
            # The operator's file is <namespace>-<name>-<uid>.yaml.
            loaded = {g["name"]: g for g in groups if g["file"].rsplit("/", 1)[-1].startswith(f"{namespace}-{name}-")}
            for group in item["spec"].get("groups") or []:
                wanted, there = len(group["rules"]), loaded.get(group["name"], {}).get("rules", [])
                count += wanted
                if len(there) != wanted:
                    problems.append(f"{len(there)} of {wanted} rules of the group {group['name']} ({name}) are loaded")
                problems += [f"{r['name']}: {r['lastError']}" for r in there if r.get("lastError")]
        if problems:
            result = checks.failed("rules", f"{len(problems)} problems with {count} rules", "; ".join(problems[:4]))
            result.next_command = self._command("logs", "statefulset/prometheus", "-c", "prometheus", "--tail=50")
            if "are loaded" in problems[0]:
                result.next_command = self.target.kubectl("get", "prometheusrules", "-o", "yaml")
            return [result]
        return [checks.ok("rules", f"{count} rules in {len(objects)} PrometheusRules loaded, no evaluation error")]

    def dashboards(self) -> list[Result]:
        """Every query of every dashboard returns a series."""
        selector = urlencode({"labelSelector": "app.kubernetes.io/part-of=flaskops-app-monitoring,grafana_dashboard"})
        maps = self.run.get(f"/api/v1/configmaps?{selector}").get("items", [])
        if not maps:
            return [checks.left_out("dashboards", "no dashboard of the role app_monitoring is installed")]
        return self._until(self._dashboards)

    def _dashboards(self) -> list[Result]:
        wanted = dashboards.queries(self.target.namespace, self.target.name)
        with ThreadPoolExecutor(max_workers=8) as pool:
            found = list(pool.map(lambda query: bool(self.query(query.expr)), wanted))
        empty = [f"{q.dashboard} / {q.panel}" for q, there in zip(wanted, found, strict=True) if not there]
        if empty:
            cause = f"no series for {'; '.join(empty[:4])}" + (f" and {len(empty) - 4} more" if len(empty) > 4 else "")
            result = checks.failed("dashboards", f"{len(wanted) - len(empty)} of {len(wanted)} queries return series", cause)
            result.next_command = self._port_forward("prometheus-operated", 9090)
            return [result]
        return [checks.ok("dashboards", f"all {len(wanted)} queries return series")]

    def grafana(self) -> list[Result]:
        """Grafana answers that its database is well."""
        selector = urlencode({"labelSelector": "app.kubernetes.io/name=grafana"})
        services = self.run.get(f"/api/v1/namespaces/{self.namespace}/services?{selector}").get("items", [])
        if not services:
            return [checks.left_out("grafana", "not installed; kube_prometheus_stack_grafana and a source of its image bring it")]
        name, port = services[0]["metadata"]["name"], services[0]["spec"]["ports"][0]["port"]
        health = self.run.get(self._proxy(name, port) + "/api/health")
        if health.get("database") == "ok":
            return [checks.ok("grafana", f"version {health.get('version', '?')} answers, database ok")]
        result = checks.failed("grafana", "its health check answers", f"database {health.get('database')}")
        result.next_command = self._command("logs", f"deployment/{name}", "--tail=50")
        return [result]

    def alert_path(self) -> list[Result]:
        """A test alert fires in Prometheus, arrives at the receiver, and is resolved there."""
        link, namespace = "alert path", self.target.namespace
        if not self.target.alert_check:
            return [checks.left_out(link, "switched off by verify_alert_check")]
        objects = self._objects["prometheusrules"]
        installed = [rule for item in objects for group in item["spec"].get("groups") or [] for rule in group["rules"]]
        if all(rule.get("alert") != TEST_ALERT for rule in installed):
            return [checks.left_out(link, f"no rule {TEST_ALERT} for namespace {namespace}; the role app_monitoring installs it")]
        alertmanager = self._proxy("alertmanager-operated", "web")
        inbox = self._proxy("alert-inbox", 80)
        config = self.run.get(f"{alertmanager}/api/v2/status")["config"]["original"]
        if TEST_ALERT not in config:
            # Without a route of its own it would reach whoever is on duty.
            return [checks.left_out(link, f"Alertmanager has no route for {TEST_ALERT}, so it would go to the default receiver")]
        has_inbox = "alert-inbox" in config
        name = TEST_SERVICE + uuid.uuid4().hex[:12]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "flaskops-verify"}},
            "spec": {"type": "ExternalName", "externalName": "verify.invalid"},
        }
        services = f"/api/v1/namespaces/{namespace}/services"
        # What the link `rules` waits for must be there first.
        if any(result.status == FAILED for result in self.rules()):
            return [checks.left_out(link, "not tried, because the rules are not loaded")]
        began = time.monotonic()
        read_object(*self.cluster.send("POST", services, service))
        times: dict[str, float] = {}

        def step(what: str, there: Callable[[], bool], cause: str, command: str) -> Result | None:
            while not there():
                if time.monotonic() > self.run.deadline:
                    done = ", ".join(f"{key} after {value:.1f} s" for key, value in times.items()) or "the rule never fired"
                    result = checks.failed(link, done, cause)
                    result.next_command = command
                    return result
                self._never.wait(PAUSE)
            times[what] = time.monotonic() - began
            return None

        def in_alertmanager() -> bool:
            query = urlencode([("filter", f"alertname={TEST_ALERT}"), ("filter", f"service={name}")])
            return any(a["status"]["state"] == "active" for a in self.run.get(f"{alertmanager}/api/v2/alerts?{query}"))

        def in_inbox(status: str) -> Callable[[], bool]:
            def look() -> bool:
                got = self.run.get(f"{inbox}/alerts.json")["alerts"]
                return any(a["status"] == status and a["labels"].get("service") == name for a in got)

            return look

        def fires() -> bool:
            return bool(self.query(f'ALERTS{{alertname="{TEST_ALERT}", service="{name}", alertstate="firing"}}'))

        inbox_log = self._command("logs", "deployment/alert-inbox", "--tail=20")
        steps = [
            (
                "fired",
                fires,
                "kube-state-metrics is not scraped, or the rule is not evaluated",
                self._port_forward("prometheus-operated", 9090),
            ),
            (
                "at Alertmanager",
                in_alertmanager,
                "Prometheus does not reach Alertmanager",
                self._port_forward("alertmanager-operated", 9093),
            ),
        ]
        if has_inbox:
            steps.append(("received", in_inbox("firing"), "Alertmanager does not reach the receiver alert-inbox", inbox_log))
        try:
            for item in steps:
                broken = step(*item)
                if broken:
                    return [broken]
        finally:
            self.cluster.send("DELETE", f"{services}/{name}")
        back = (
            "resolved",
            in_inbox("resolved") if has_inbox else lambda: not in_alertmanager(),
            "it was never resolved",
            inbox_log,
        )
        broken = step(*back)
        if broken:
            return [broken]
        return [checks.ok(link, f"{TEST_ALERT} " + ", ".join(f"{key} after {value:.1f} s" for key, value in times.items()))]
