# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links from the app's metrics to an alert's receiver, on a Prometheus operator's stack.

Everything is read through the API server's service proxy, so that no port of the stack need be open.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from ..kube.selectors import matches
from ..kube.transport import ApiError, message_of
from ..monitoring import dashboards as boards_of
from ..monitoring.names import ALERTS, OURS, PARTS
from ..monitoring.paths import alertmanager_path, prometheus_path, service_path
from . import alert, checks, log_stores, queries
from .checks import FAILED, Result
from .health import question

if TYPE_CHECKING:
    from .links import Run

OPERATOR = "/apis/monitoring.coreos.com"
# A new rule goes through a ConfigMap, a kubelet's sync and a reload before Prometheus has it: up to two minutes. A Prometheus
# that was just started reads what it had written before, and scrapes everything anew.
FRESH, SETTLE_FRESH = 180.0, 150.0
UNAVAILABLE = 503  # of the API server's proxy, where no pod of a Service is ready
ASK_AGAIN = 0.5  # seconds
SKEW = 10.0  # seconds that two clocks may differ
# What says that a data source is there, by Grafana's name of its type.
ALIVE = {
    "prometheus": "/api/v1/status/buildinfo",
    "alertmanager": "/api/v2/status",
    "loki": log_stores.STORES["loki"].alive,
    "victoriametrics-logs-datasource": log_stores.STORES["victoria_logs"].alive,
}
SKIPPED = "flaskops/skipped"
KUBE_STATE_METRICS = "kube_state_metrics"
# How the series begin that are there with a part alone.
METRICS_OF = {
    KUBE_STATE_METRICS: ("kube_",),
    "alerts": ("alertmanager_", "prometheus_notifications_"),
    "node_exporter": ("node_",),
}
PLURALS = {"ServiceMonitor": "servicemonitors", "Probe": "probes", "PrometheusRule": "prometheusrules"}


def owned(name: str, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the *objects* that the role app_monitoring made for an app."""
    wanted = {"app.kubernetes.io/name": name, **OURS}.items()
    return [item for item in objects if wanted <= (item["metadata"].get("labels") or {}).items()]


def parts_of(objects: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Kind, namespace and name of all that the role app_monitoring wrote down on its *objects*."""
    parts = {part for item in objects for part in (item["metadata"].get("annotations") or {}).get(PARTS, "").split()}
    return sorted(tuple(part.split("/")) for part in parts)


def rules_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules of a PrometheusRule, of all its groups."""
    return [rule for group in item["spec"].get("groups") or [] for rule in group.get("rules") or []]


def chosen(servers: list[dict[str, Any]], parts: list[tuple[str, ...]]) -> dict[str, Any]:
    """The Prometheus object that is asked where there are several: the one that *parts* name, else always the same one."""

    def order(item: dict[str, Any]) -> tuple[bool, str, str]:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        return ("Prometheus", namespace, name) not in parts, namespace, name

    return min(servers, key=order)


def _age(times: list[str]) -> float:
    """Seconds since the newest of some times; many where there is none."""
    newest = max((datetime.datetime.fromisoformat(text) for text in times), default=None)
    return (datetime.datetime.now(datetime.UTC) - newest).total_seconds() if newest else FRESH


class Stack:
    """What one Prometheus, its Alertmanager and an alert inbox say of one app.

    :param run: the verification (links.Run), from which the cluster, the target, the pods and the deadline come.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.cluster = run.cluster
        self.app = run.target
        self.namespace = ""
        self._prometheus = ""
        self._server: dict[str, Any] = {}
        self._alone = True  # no other Prometheus is there that could have the rules
        self._objects: dict[str, list[Any]] = {}
        self._patient = 0.0  # until when an answer is waited for
        self.never = threading.Event()

    # Reading.

    def find(self) -> str:
        """Look for a Prometheus; return why there is none."""
        try:
            found = self.run.get(f"{OPERATOR}/v1/prometheuses").get("items", [])
        except ApiError as error:
            if error.status == 404:
                return "no Prometheus operator is installed on this cluster"
            return f"the Prometheus objects can't be read: {error}"
        if not found:
            return "the Prometheus operator runs no Prometheus on this cluster"
        base = f"{OPERATOR}/v1/namespaces/{self.app.namespace}"
        try:
            for plural in PLURALS.values():
                self._objects[plural] = self.run.get(f"{base}/{plural}").get("items", [])
        except ApiError as error:
            return f"the monitoring objects of namespace {self.app.namespace} can't be read: {error}"
        self._server, self._alone = chosen(found, self._parts()), len(found) == 1
        self.namespace = self._server["metadata"]["namespace"]
        self._prometheus = prometheus_path(self._server)
        started = self._started()
        if _age([*self._changed(), *started]) < FRESH:
            self.run.settle = SETTLE_FRESH
        if _age(started) < FRESH:
            self._patient = min(self.run.deadline, time.monotonic() + SETTLE_FRESH)
        return ""

    @property
    def skipped(self) -> dict[str, str]:
        """The parts that the role kube_prometheus_stack did without, and why."""
        noted: dict[str, str] = json.loads((self._server["metadata"].get("annotations") or {}).get(SKIPPED, "{}"))
        return noted

    def ask(self, path: str) -> Any:
        """What Prometheus or Alertmanager answers; where Prometheus was just started, as soon as somebody answers."""
        while True:
            try:
                return self.run.get(path)
            except ApiError as error:
                if error.status != UNAVAILABLE or time.monotonic() > self._patient:
                    raise
            self.never.wait(ASK_AGAIN)

    def query(self, expr: str) -> list[Any]:
        """The result of an instant query: series, or a time and a value where it is a scalar."""
        found = self.ask(f"{self._prometheus}/api/v1/query?{urlencode({'query': expr})}")
        result: list[Any] = found["data"]["result"]
        return result

    def _ours(self) -> list[dict[str, Any]]:
        """The objects of the role app_monitoring for this app."""
        return owned(self.app.name, [item for found in self._objects.values() for item in found])

    def alerts(self) -> set[str]:
        """The names of all alerts of the app's namespace that are installed."""
        return {rule["alert"] for item in self._objects["prometheusrules"] for rule in rules_of(item) if rule.get("alert")}

    def _gone(self, kind: str, there: list[dict[str, Any]]) -> list[str]:
        """The names of objects of a kind that the role wrote down as installed, and that are not *there*."""
        names = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in there}
        return [name for of, namespace, name in self._parts() if of == kind and (namespace, name) not in names]

    def _parts(self) -> list[tuple[str, ...]]:
        """Kind, namespace and name of all that the role wrote down as installed for this app."""
        return parts_of(self._ours())

    def _probes(self) -> list[dict[str, Any]]:
        """The Probes of this app: the role's, and others whose series carry its name."""
        ours = self._ours()

        def labels(item: dict[str, Any]) -> dict[str, str]:
            static = (item["spec"].get("targets") or {}).get("staticConfig") or {}
            return static.get("labels") or {}

        return [item for item in self._objects["probes"] if item in ours or labels(item).get("app") == self.app.name]

    def _changed(self) -> list[str]:
        """When the app's pods and its monitoring objects were changed."""
        items = [item for found in self._objects.values() for item in found]
        metadata = [item["metadata"] for item in [*items, *self.run.pods]]
        times = [m["creationTimestamp"] for m in metadata if "creationTimestamp" in m]
        entries = [entry for item in items for entry in item["metadata"].get("managedFields") or []]
        return times + [entry["time"] for entry in entries if "time" in entry]

    def _started(self) -> list[str]:
        """When the containers of Prometheus were started."""
        containers = [each for pod in self._own_pods() for each in pod["status"].get("containerStatuses") or []]
        return [each["state"]["running"]["startedAt"] for each in containers if "running" in (each.get("state") or {})]

    @property
    def _selector(self) -> str:
        return f"app.kubernetes.io/name=prometheus,operator.prometheus.io/name={self._server['metadata']['name']}"

    def _own_pods(self) -> list[dict[str, Any]]:
        """The pods of Prometheus; none where they may not be read, which the link says."""
        with contextlib.suppress(ApiError):
            return self._pods_of(self._selector)
        return []

    def _pods_of(self, selector: str) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{self.namespace}/pods?{urlencode({'labelSelector': selector})}"
        found: list[dict[str, Any]] = self.run.get(path).get("items", [])
        return found

    def command(self, *words: str) -> str:
        return str(self.app.kubectl("-n", self.namespace, *words, namespaced=False))

    def port_forward(self, service: str, port: int) -> str:
        return self.command("port-forward", f"service/{service}", str(port))

    def _server_pods(self, item: dict[str, Any], selector: str, kind: str) -> tuple[str, str]:
        """How many pods of a Prometheus or Alertmanager object are ready, and what is wrong with them."""
        name, spec = item["metadata"]["name"], item["spec"]
        wanted = spec.get("replicas", 1) * spec.get("shards", 1)
        pods = self._pods_of(selector)
        ready = [pod for pod in pods if checks.is_ready(pod)]
        evidence = f"{len(ready)} of {wanted} pods of {kind} {name} ready"
        if not wanted:
            return evidence, f"{kind} {name} is scaled to 0 replicas"
        if len(ready) < wanted:
            troubles = [checks.pod_trouble(pod) for pod in pods if pod not in ready]
            return evidence, f"{kind} {name} does not run as it should: {'; '.join(troubles[:3]) or 'it has no pod'}"
        for condition in item.get("status", {}).get("conditions") or []:
            if condition["type"] == "Reconciled" and condition["status"] == "False":
                return (
                    evidence,
                    f"the operator can't bring {kind} {name} up to date: {condition.get('message', 'no reason given')}",
                )
        return evidence, ""

    # The links.

    def prometheus(self) -> list[Result]:
        """Prometheus runs with the configuration that the operator makes, and the operator works."""
        return self.run.settled(self._prometheus_runs)

    def _prometheus_runs(self) -> list[Result]:
        name = self._server["metadata"]["name"]
        server = self.run.get(f"{OPERATOR}/v1/namespaces/{self.namespace}/prometheuses/{name}")
        reload = queries.filled(queries.PROMETHEUS_REFUSED, namespace=self.namespace)
        query = f"GET {OPERATOR}/v1/namespaces/{self.namespace}/prometheuses/{name} and its pods; PromQL {reload}"
        evidence, cause = self._server_pods(server, self._selector, "Prometheus")
        command = self.command("describe", "pods", "-l", self._selector)
        if not cause:
            operators = [d for d in self._deployments() if self._is_operator(d)]
            down = [d["metadata"]["name"] for d in operators if not d.get("status", {}).get("availableReplicas")]
            if down:
                cause = f"the operator {down[0]} is not available: changed monitors and rules do not reach Prometheus"
                command = self.command("describe", "deployment", down[0])
            elif self.query(reload):
                cause = "Prometheus refused its newest configuration and runs with the one before"
                command = self.command("logs", "-l", self._selector, "-c", "prometheus", "--tail=50")
            evidence += ", operator available, configuration loaded" if operators and not cause else ""
        if cause:
            return [checks.failed("prometheus", evidence, cause, query, command)]
        return [checks.ok("prometheus", evidence, query)]

    def _deployments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments").get("items", [])
        return found

    @staticmethod
    def _is_operator(deployment: dict[str, Any]) -> bool:
        images = [c.get("image", "") for c in deployment["spec"]["template"]["spec"]["containers"]]
        return any(image.rsplit("/", 1)[-1].split(":")[0].split("@")[0] == "prometheus-operator" for image in images)

    def exporters(self) -> list[Result]:
        """kube-state-metrics and the kubelet tell of the app, and the blackbox exporter is there."""
        if not self._ours():
            return [checks.left_out("exporters", "the role app_monitoring has installed nothing that needs them")]
        return self.run.settled(self._exporters)

    def _exporters(self) -> list[Result]:
        target = self.app
        asked = {"kube-state-metrics": queries.REPLICAS, "the kubelet": queries.MEMORY}
        wanted = {who: queries.filled(query, namespace=target.namespace, name=target.name) for who, query in asked.items()}
        if KUBE_STATE_METRICS in self.skipped:
            del wanted["kube-state-metrics"]
        query = "PromQL " + "; PromQL ".join(wanted.values())
        problems = [f"{name} tells nothing of the app" for name, expr in wanted.items() if not self.query(expr)]
        seen = list(wanted)
        for prober in sorted({item["spec"].get("prober", {}).get("url", "") for item in self._probes()}):
            inside = checks.IN_CLUSTER.match(prober.rsplit(":", 1)[0])
            if inside:
                seen.append(inside["name"])
                query += f"; EndpointSlices of {prober}"
                if not checks.ready_endpoints(self.run.slices(inside["namespace"], inside["name"])):
                    problems.append(f"nobody answers at {prober}, which the Probe asks")
        if problems:
            evidence = f"{len(seen) - len(problems)} of {len(seen)} exporters tell of the app"
            command = self.command("get", "pods,servicemonitors", "-o", "wide")
            return [checks.failed("exporters", evidence, "; ".join(problems), query, command)]
        return [checks.ok("exporters", f"{', '.join(seen)} tell of the app", query)]

    def target(self) -> list[Result]:
        """Prometheus scrapes every running pod of the app."""
        return self.run.settled(self._target)

    def _target(self) -> list[Result]:
        target = self.app
        path = f"{self._prometheus}/api/v1/targets?state=active"
        found = self.ask(path)["data"]["activeTargets"]
        names = {p["metadata"]["name"] for p in self.run.pods}
        ours = [t for t in found if t["labels"].get("namespace") == target.namespace and t["labels"].get("pod") in names]
        pods = {p["metadata"]["name"] for p in self.run.pods if p.get("status", {}).get("phase") == "Running"}
        missing = sorted(pods - {t["labels"]["pod"] for t in ours})
        causes = [f"the ServiceMonitor {name} is gone" for name in self._gone("ServiceMonitor", self._objects["servicemonitors"])]
        causes += [f"{t['scrapeUrl']}: {t['lastError'] or t['health']}" for t in ours if t["health"] != "up"]
        causes += [f"no target for pod {pod}: no ServiceMonitor that this Prometheus selects leads to it" for pod in missing]
        up = sum(t["health"] == "up" for t in ours)
        if causes:
            command = target.kubectl("get", "servicemonitors,podmonitors,endpointslices", "-o", "wide")
            evidence = f"{up} of {len(pods)} pods are scraped"
            return [checks.failed("target", evidence, "; ".join(causes[:4]), f"GET {path}", command)]
        return [checks.ok("target", f"{len(pods)} pods scraped through {len(ours)} targets, all up", f"GET {path}")]

    def health_probe(self) -> list[Result]:
        """The blackbox exporter gets an answer from what the Probes ask, which need not be what the app's own probes ask."""
        return self.run.settled(self._health_probe)

    def _health_probe(self) -> list[Result]:
        target, objects = self.app, self._probes()
        expr = queries.filled(queries.PROBE, namespace=target.namespace, name=target.name)
        command = target.kubectl("describe", "probes")
        gone = self._gone("Probe", objects)
        if gone:
            cause = f"the Probe {gone[0]} is gone"
            return [checks.failed("health probe", f"{len(objects)} Probes", cause, f"GET {OPERATOR}/v1/.../probes", command)]
        series = self.query(expr)
        query = f"PromQL {expr}"
        if not series:
            if not objects:
                return [checks.left_out("health probe", f"namespace {target.namespace} has no Probe of {target.name}")]
            name = objects[0]["metadata"]["name"]
            error = self._probe_error(name)
            cause = f"the Probe {name} gives no probe_success: " + (
                f"the exporter says {error}" if error else "its exporter can't be reached, or no Prometheus selects it"
            )
            return [checks.failed("health probe", "no series probe_success", cause, query, command)]
        failing = [s["metric"].get("instance", "?") for s in series if s["value"][1] != "1"]
        if failing:
            cause = f"the probe of {', '.join(failing)} fails"
            asked = question(checks.app_container(self.run.deployment, target.name), target.port)
            inside = {parts.path for parts in map(urlsplit, failing) if checks.IN_CLUSTER.match(parts.hostname or "")}
            if not asked.instead_of and inside - {asked.shown}:
                cause += f"; the readiness probe asks {asked.shown}, and app_monitoring_health_path says what the Probe asks"
            return [checks.failed("health probe", "probe_success is 0", cause, query, command)]
        names = ", ".join(sorted(s["metric"].get("instance", "?") for s in series))
        return [checks.ok("health probe", f"probe_success is 1 for {names}", query)]

    def _probe_error(self, name: str) -> str:
        """What the last scrape of a Probe's target ended with."""
        pool = f"probe/{self.app.namespace}/{name}"
        found = self.ask(f"{self._prometheus}/api/v1/targets?{urlencode({'state': 'active', 'scrapePool': pool})}")
        errors = [t["lastError"] for t in found["data"]["activeTargets"] if t.get("scrapePool") == pool and t.get("lastError")]
        return errors[0] if errors else ""

    def rules(self) -> list[Result]:
        """Every rule of the namespace's PrometheusRules is loaded and evaluates without an error."""
        return self.run.settled(self._rules)

    def _rules(self) -> list[Result]:
        namespace = self.app.namespace
        objects = [item for item in self._objects["prometheusrules"] if self._for_this_one(item)]
        problems = [f"the PrometheusRule {name} is gone" for name in self._gone("PrometheusRule", objects)]
        if not objects and not problems:
            return [checks.left_out("rules", f"namespace {namespace} has no PrometheusRule")]
        path = f"{self._prometheus}/api/v1/rules"
        query = f"GET {OPERATOR}/v1/namespaces/{namespace}/prometheusrules and {path}"
        groups = self.ask(path)["data"]["groups"]
        count, unloaded = 0, bool(problems)
        for item in objects:
            name = item["metadata"]["name"]
            alerts = {rule.get("alert") for rule in rules_of(item)}
            written = (item["metadata"].get("annotations") or {}).get(ALERTS, "").split()
            problems += [f"the alert {lost} was taken out of the PrometheusRule {name}" for lost in written if lost not in alerts]
            # The operator's file is <namespace>-<name>-<uid>.yaml.
            loaded = {g["name"]: g for g in groups if g["file"].rsplit("/", 1)[-1].startswith(f"{namespace}-{name}-")}
            for group in item["spec"].get("groups") or []:
                found = loaded.get(group["name"], {"name": group["name"], "rules": []})
                wanted, there = len(group.get("rules") or []), found["rules"]
                count += wanted
                if len(there) != wanted:
                    unloaded = True
                    problems.append(f"{len(there)} of {wanted} rules of the group {group['name']} ({name}) are loaded")
                problems += [f"{r['name']}: {r['lastError']}" for r in there if r.get("lastError")]
                problems += [checks.late(found)] if checks.late(found) else []
        if problems:
            command = self.command("logs", f"prometheus-{self._server['metadata']['name']}-0", "-c", "prometheus", "--tail=50")
            if unloaded or "taken out" in problems[0]:
                command = self.app.kubectl("get", "prometheusrules", "-o", "yaml")
            evidence = f"{len(problems)} problems with {count} rules"
            return [checks.failed("rules", evidence, "; ".join(problems[:4]), query, command)]
        return [checks.ok("rules", f"{count} rules in {len(objects)} PrometheusRules loaded, no evaluation error", query)]

    def _for_this_one(self, rule: dict[str, Any]) -> bool:
        """Whether a PrometheusRule is this Prometheus' affair; beside others it may be one of theirs."""
        selector = self._server["spec"].get("ruleSelector")
        taken = selector is not None and matches(selector, rule["metadata"].get("labels") or {})
        return self._alone or taken or rule in self._ours()

    def dashboards(self) -> list[Result]:
        """Every query of every dashboard that is installed returns a series."""
        selector = urlencode({"labelSelector": "app.kubernetes.io/part-of=flaskops-app-monitoring"})
        homes = {namespace for kind, namespace, _name in self._parts() if kind == "ConfigMap"} or {self.namespace}
        paths = [f"/api/v1/namespaces/{home}/configmaps?{selector}" for home in sorted(homes)]
        maps = [item for path in paths for item in self.run.get(path).get("items", [])]
        query = "GET " + " and ".join(paths)
        gone = self._gone("ConfigMap", maps)
        command = self.command("get", "configmaps", "-l", "app.kubernetes.io/part-of=flaskops-app-monitoring")
        if gone:
            cause = f"the ConfigMap {', '.join(gone)} with a dashboard is gone"
            return [checks.failed("dashboards", f"{len(maps)} dashboards", cause, query, command)]
        if not maps:
            return [checks.left_out("dashboards", "no dashboard of the role app_monitoring is installed")]
        boards = []
        for item in maps:
            for name, text in (item.get("data") or {}).items():
                try:
                    boards.append(json.loads(text))
                except ValueError as error:
                    cause = f"{name} in the ConfigMap {item['metadata']['name']} is no JSON: {error}"
                    return [checks.failed("dashboards", f"{len(maps)} dashboards", cause, query, command)]
        target = self.app
        wanted = boards_of.queries(boards, target.namespace, target.name)
        if not self._probes():
            wanted = [item for item in wanted if "probe_" not in item.expr]
        # A goal that the app does not have, or an alert that is not enabled, has no series.
        records = {rule.get("record") for item in owned(target.name, self._objects["prometheusrules"]) for rule in rules_of(item)}
        wanted = [item for item in wanted if boards_of.recorded(item.expr) <= records]
        away = [prefix for part, prefixes in METRICS_OF.items() if part in self.skipped for prefix in prefixes]
        wanted = [item for item in wanted if not any(prefix in item.expr for prefix in away)]
        return self.run.settled(lambda: self._dashboards(wanted))

    def _dashboards(self, wanted: list[boards_of.Query]) -> list[Result]:
        def trouble(query: boards_of.Query) -> str:
            try:
                return "" if self.query(query.expr) else f"no series for {query.dashboard} / {query.panel}: {query.expr}"
            except ApiError as error:
                if error.status != 400:
                    raise
                return f"{query.dashboard} / {query.panel}: {error}"

        # The same query is in several panels.
        distinct = list({query.expr: query for query in wanted}.values())
        with ThreadPoolExecutor(max_workers=8) as pool:
            bad = [text for text in pool.map(trouble, distinct) if text]
        query = f"each of {len(wanted)} PromQL queries of the dashboards"
        if bad:
            cause = "; ".join(bad[:2]) + (f" and {len(bad) - 2} more" if len(bad) > 2 else "")
            evidence = f"{len(distinct) - len(bad)} of {len(distinct)} queries return series"
            return [checks.failed("dashboards", evidence, cause, query, self.port_forward("prometheus-operated", 9090))]
        return [checks.ok("dashboards", f"all {len(distinct)} queries return series", query)]

    def data_sources(self) -> list[Result]:
        """What Grafana's data sources point at answers."""
        link, selector = "data sources", "grafana_datasource"
        path = f"/api/v1/namespaces/{self.namespace}/configmaps?{urlencode({'labelSelector': selector})}"
        maps = self.run.get(path).get("items", [])
        found = []
        for item in maps:
            for text in (item.get("data") or {}).values():
                # Provisioning files are lists of flat entries; a parser of YAML is not everywhere.
                for entry in re.split(r"^\s*- (?=\w+:)", text, flags=re.MULTILINE):
                    kind, url = (checks.scalar(entry, key) for key in ("type", "url"))
                    if kind and "://" in url:
                        found.append((item["metadata"]["name"], kind, url))
        if not found:
            return [checks.left_out(link, f"no data source of Grafana is provisioned in namespace {self.namespace}")]
        seen, problems = [], []
        for name, kind, url in found:
            parts = urlsplit(url)
            inside = re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)(\.svc(\.[a-z0-9.-]+)?)?", parts.hostname or "")
            if not inside or kind not in ALIVE:
                continue
            scheme, port = ("https:", 443) if parts.scheme == "https" else ("", 80)
            base = service_path(inside[2], scheme + inside[1], parts.port or port, parts.path)
            status, text = self.cluster.fetch(base + ALIVE[kind], None, self.run.request_seconds())
            if status == 404 and not inside[3] and '"services' in text:
                continue  # a name of the outside world
            seen.append(f"{kind} at {url}")
            if status != 200:
                problems.append(
                    f"the data source {kind} of the ConfigMap {name} points at {url}, which answers {status} {message_of(text)}"
                )
        query = f"GET {path} and each address"
        if problems:
            evidence = f"{len(seen) - len(problems)} of {len(seen)} data sources answer"
            command = self.command("get", "configmaps", "-l", selector, "-o", "yaml")
            return [checks.failed(link, evidence, "; ".join(problems), query, command)]
        return [checks.ok(link, f"{', '.join(seen) or 'none inside the cluster'} answer", query)]

    def grafana(self) -> list[Result]:
        """Grafana answers that its database is well."""
        selector = urlencode({"labelSelector": "app.kubernetes.io/name=grafana"})
        services = self.run.get(f"/api/v1/namespaces/{self.namespace}/services?{selector}").get("items", [])
        if not services:
            return [checks.left_out("grafana", "not installed; kube_prometheus_stack_grafana and a source of its image bring it")]
        name, port = services[0]["metadata"]["name"], services[0]["spec"]["ports"][0]["port"]
        path = service_path(self.namespace, name, port) + "/api/health"
        health = self.run.get(path)
        if health.get("database") == "ok":
            return [checks.ok("grafana", f"version {health.get('version', '?')} answers, database ok", f"GET {path}")]
        command = self.command("logs", f"deployment/{name}", "--tail=50")
        cause = f"database {health.get('database')}"
        return [checks.failed("grafana", "its health check answers", cause, f"GET {path}", command)]

    def clocks(self) -> list[Result]:
        """This machine, Prometheus, the alert inbox and the nodes agree on the time."""
        query = f"PromQL {queries.NOW}; PromQL {queries.CLOCKS_OF_NODES}; the alert inbox's time"
        apart: dict[str, float] = {}
        # First, since for this answer somebody may have to be waited for.
        told = self.query(queries.CLOCKS_OF_NODES)

        def measure(what: str, ask: Callable[[], float]) -> None:
            before = time.time()
            there = ask()
            # The answer was made at some moment in between.
            after = time.time()
            apart[what] = 0.0 if before - 1 <= there <= after + 1 else there - (before + after) / 2

        measure("Prometheus", lambda: float(self.query(queries.NOW)[1]))
        try:
            path = f"{service_path(self.namespace, alert.INBOX, 80)}/alerts.json?since={int(time.time() * 1000)}"
            measure("the alert inbox", lambda: datetime.datetime.fromisoformat(self.run.get(path)["now"]).timestamp())
        except ApiError:
            pass  # there is none, or the link of the alert path says so
        skewed = {what: seconds for what, seconds in apart.items() if abs(seconds) > SKEW}
        if apart and len(skewed) == len(apart) and max(apart.values()) - min(apart.values()) < SKEW:
            skewed = {"the cluster, seen from this machine,": max(apart.values(), key=abs)}
        for series in told:
            seconds = -float(series["value"][1])
            if abs(seconds) > SKEW:
                skewed[f"node {series['metric'].get('node') or series['metric'].get('instance', '?')}"] = seconds
        largest = max(map(abs, apart.values()), default=0.0)
        evidence = f"at most {largest:.0f} s between this machine, {', '.join(apart)} and the nodes"
        if skewed:
            cause = "; ".join(
                f"the clock of {what} is {abs(s):.0f} s {'ahead' if s > 0 else 'behind'}" for what, s in skewed.items()
            )
            return [checks.failed("clocks", "clocks differ", cause, query, self.command("get", "nodes", "-o", "wide"))]
        return [checks.ok("clocks", evidence, query)]

    def alertmanager(self) -> list[Result]:
        """Alertmanager runs with its newest configuration, and Prometheus knows it."""
        return self.run.settled(self._alertmanager)

    def _alertmanagers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run.get(f"{OPERATOR}/v1/namespaces/{self.namespace}/alertmanagers").get("items", [])
        return found

    def _alertmanager(self) -> list[Result]:
        link = "alertmanager"
        items = self._alertmanagers()
        if not items:
            return [checks.left_out(link, f"namespace {self.namespace} has no Alertmanager")]
        known = f"{self._prometheus}/api/v1/alertmanagers"
        reload = queries.filled(queries.ALERTMANAGER_REFUSED, namespace=self.namespace)
        query = f"GET {OPERATOR}/v1/namespaces/{self.namespace}/alertmanagers and their pods; GET {known}; PromQL {reload}"
        said = []
        for item in items:
            selector = f"alertmanager={item['metadata']['name']}"
            evidence, cause = self._server_pods(item, selector, "Alertmanager")
            said.append(evidence)
            if cause:
                command = self.command("describe", "pods", "-l", selector)
                return [checks.failed(link, "; ".join(said), cause, query, command)]
        active = self.ask(known)["data"]["activeAlertmanagers"]
        if not active:
            cause = "Prometheus knows no Alertmanager: its object names another one under alerting"
            command = self.command("get", "prometheuses", "-o", "yaml")
            return [checks.failed(link, "; ".join(said), cause, query, command)]
        if self.query(reload):
            cause = "Alertmanager refused its newest configuration and runs with the one before"
            command = self.command("logs", "-l", "app.kubernetes.io/name=alertmanager", "-c", "alertmanager", "--tail=50")
            return [checks.failed(link, "; ".join(said), cause, query, command)]
        return [checks.ok(link, f"{'; '.join(said)}; Prometheus sends to {len(active)}", query)]

    def receivers(self) -> list[Result]:
        """The app's routes are there, and what Alertmanager sent last was taken by its receivers."""
        link, target = "receivers", self.app
        path = f"{OPERATOR}/v1alpha1/namespaces/{target.namespace}/alertmanagerconfigs"
        try:
            there = self.run.get(path).get("items", [])
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            there = None
        expr = queries.filled(queries.RECEIVERS_REFUSE, namespace=self.namespace)
        query = f"GET {path}; PromQL {expr}"
        gone = [] if there is None else self._gone("AlertmanagerConfig", there)
        if gone:
            cause = f"the AlertmanagerConfig {gone[0]}, with the routes and inhibitions of the app, is gone"
            return [checks.failed(link, "no AlertmanagerConfig", cause, query, target.kubectl("get", "alertmanagerconfigs"))]
        failing = [series["metric"].get("integration", "?") for series in self.query(expr)]
        if failing:
            cause = f"no notification by {', '.join(sorted(failing))} has succeeded in 5 minutes, and some failed"
            command = self.command("logs", "-l", "app.kubernetes.io/name=alertmanager", "-c", "alertmanager", "--tail=50")
            return [checks.failed(link, "notifications fail", cause, query, command)]
        return [checks.ok(link, "no receiver refuses what Alertmanager sends", query)]

    def alert_path(self) -> list[Result]:
        """A test alert fires in Prometheus, arrives at the receiver, and is resolved there."""
        link, namespace = "alert path", self.app.namespace
        if not self.app.alert_check:
            return [checks.left_out(link, "switched off by verify_alert_check")]
        if KUBE_STATE_METRICS in self.skipped:
            return [checks.left_out(link, "kube-state-metrics, which tells Prometheus of the test alert, is skipped")]
        installed = [rule for item in self._objects["prometheusrules"] for rule in rules_of(item)]
        if all(rule.get("alert") != alert.NAME for rule in installed):
            return [checks.left_out(link, f"no rule {alert.NAME} for namespace {namespace}; the role app_monitoring installs it")]
        alertmanagers = self._alertmanagers()
        if not alertmanagers:
            return [checks.left_out(link, f"namespace {self.namespace} has no Alertmanager that could be asked")]
        alertmanager = alertmanager_path(self.namespace, alertmanagers)
        inbox = service_path(self.namespace, alert.INBOX, 80)
        config = self.ask(f"{alertmanager}/api/v2/status")["config"]["original"]
        has_inbox = any(item["metadata"]["name"] == alert.INBOX for item in self._deployments())
        if alert.NAME not in config:
            # Without a route of its own it would reach whoever is on duty.
            why = f"Alertmanager has no route for {alert.NAME}, so it would go to the default receiver"
            if has_inbox:
                query = f"GET {alertmanager}/api/v2/status"
                return [
                    checks.failed(
                        link,
                        "not sent",
                        why,
                        query,
                        self.command("get", "secrets", "-l", "app.kubernetes.io/managed-by=flaskops"),
                    )
                ]
            return [checks.left_out(link, why)]
        # What other links wait for must be there first.
        for name, look in (("the rules are not loaded", self.rules), ("kube-state-metrics is not read", self._exporters)):
            if any(result.status == FAILED for result in look()):
                return [checks.left_out(link, f"not tried, because {name}")]
        return [alert.Journey(self, alertmanager, inbox if has_inbox else "").send()]
