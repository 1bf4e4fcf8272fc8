# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Prometheus operator's stack that watches an app, as the links ask it.

Everything is read through the API server's service proxy, so that no port of the stack need be open.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import yaml

from ..kube.transport import ApiError
from ..monitoring.names import OURS, PART_OF, PARTS
from ..monitoring.paths import alertmanager_path, pod_path, prometheus_path, tls_of
from . import facts, quiet, shut
from .series import Series

if TYPE_CHECKING:
    from .run import Run

OPERATOR = "/apis/monitoring.coreos.com"
# A new rule goes through a ConfigMap, a kubelet's sync and a reload before Prometheus has it: up to two minutes. A Prometheus
# that was just started reads what it had written before, and scrapes everything again.
FRESH, SETTLE_FRESH = 180.0, 150.0
FORBIDDEN = 403
UNAVAILABLE = 503  # of the API server's proxy, where no pod of a Service is ready
ASK_AGAIN = 0.5  # seconds
SKIPPED = "flaskops/skipped"
KUBE_STATE_METRICS = "kube_state_metrics"
# How the metrics begin that are there with a part alone.
METRICS_OF = {
    KUBE_STATE_METRICS: ("kube_",),
    "alerts": ("alertmanager_", "prometheus_notifications_"),
    "node_exporter": ("node_",),
}
SHARD = "operator.prometheus.io/shard"  # the label of a pod that has a share of the targets
AT_ONCE = 8  # questions
OURS_SELECTED = urlencode({"labelSelector": "app.kubernetes.io/managed-by=flaskops"})
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


def files_of(objects: list[dict[str, Any]]) -> tuple[str, ...]:
    """How the names of the files begin that the operator makes of PrometheusRules: <namespace>-<name>-<uid>.yaml."""
    return tuple("-".join([m["namespace"], m["name"], m.get("uid", "")]) for m in (item["metadata"] for item in objects))


def file_of(group: dict[str, Any]) -> str:
    """The name of the file from which Prometheus has a group of rules."""
    return str(group["file"]).rsplit("/", 1)[-1]


def _concerns(item: dict[str, Any], namespace: str, name: str) -> bool:
    """Whether an object of this collection is about what applications share, or the schedule of this one."""
    labels = item["metadata"].get("labels") or {}
    if labels.get("app.kubernetes.io/part-of") == PART_OF["app.kubernetes.io/part-of"]:
        return False
    if labels.get("app.kubernetes.io/name") != "flaskops-verify":
        return True
    return (item["metadata"]["namespace"], labels.get("app.kubernetes.io/instance")) == (namespace, name)


def chosen(servers: list[dict[str, Any]], parts: list[tuple[str, ...]]) -> dict[str, Any]:
    """The Prometheus object that is asked where there are several: the one that *parts* name, else always the same one."""

    def order(item: dict[str, Any]) -> tuple[bool, str, str]:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        return ("Prometheus", namespace, name) not in parts, namespace, name

    return min(servers, key=order)


@dataclass(frozen=True)
class Server:
    """A pod of Prometheus or Alertmanager; where there is one alone it has no name, and its Service leads to it.

    :param api: its path. :param group: whom it has the same task with: its shard, or its Alertmanager. :param ip: its address.
    """

    api: str
    pod: str = ""
    group: str = ""
    ip: str = ""


def wanted_pods(item: dict[str, Any]) -> int:
    """How many pods a Prometheus or Alertmanager object asks for."""
    spec = item["spec"]
    return int(spec.get("replicas", 1) * spec.get("shards", 1))


def told_apart(found: Mapping[Server, Sequence[str]]) -> list[str]:
    """What is wrong with servers: once where all of them say it, else with the pod's name before it."""
    said: dict[str, None] = {}
    for server, problems in found.items():
        for problem in problems:
            everywhere = all(problem in others for others in found.values())
            said[problem if everywhere else f"{server.pod}: {problem}"] = None
    return list(said)


class Stack:
    """What one Prometheus, its Alertmanager and an alert inbox say of one app.

    Without one it knows why: ``absent``.

    :param run: the verification, from which the cluster, the target, the pods and the deadline come.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.cluster = run.cluster
        self.app = run.target
        self.absent = "no Prometheus was looked for"  # empty where there is one
        self.unread: ApiError | None = None  # why it is not known whether there is one
        # Namespace and name of each Prometheus that the app's monitoring was made for, and that is not there.
        self.lost: list[str] = []
        self.namespace = ""
        self.api = ""  # the path of Prometheus
        self.server: dict[str, Any] = {}
        self.alone = True  # no other Prometheus is there that could have the rules
        self.mates = False  # whether others are in its namespace
        self.crowded = False  # whether its namespace has several Alertmanagers, which share a Service
        self.objects: dict[str, list[Any]] = {}
        self._patient = 0.0  # until when an answer is waited for
        self._answering: set[tuple[str, int]] = set()  # namespace and port of what has answered

    def find(self) -> None:
        """Look for a Prometheus, and read the app's monitoring objects."""
        until = min(self.run.deadline, time.monotonic() + self.run.settle)
        while True:
            self.unread = None
            try:
                self.absent = self._find()
            except ApiError as error:
                self.unread, self.absent = error, f"the objects of the Prometheus operator can't be read: {error}"
            if self.unread is None or self.unread.status == FORBIDDEN or time.monotonic() > until:
                break
            time.sleep(ASK_AGAIN)

    def _find(self) -> str:
        found = self._listed(f"{OPERATOR}/v1/prometheuses")
        if found is None:
            return "no Prometheus operator is installed on this cluster"
        base = f"{OPERATOR}/v1/namespaces/{self.app.namespace}"
        for plural in PLURALS.values():
            self.objects[plural] = self._listed(f"{base}/{plural}") or []
        there = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found}
        wanted = [(namespace, name) for kind, namespace, name in self.parts() if kind == "Prometheus"]
        self.lost = ["/".join(each) for each in wanted if each not in there]
        if not found:
            return "the Prometheus operator runs no Prometheus on this cluster"
        self.server, self.alone = chosen(found, self.parts()), len(found) == 1
        self.namespace = self.server["metadata"]["namespace"]
        self.api = prometheus_path(self.server)
        self.mates = sum(item["metadata"]["namespace"] == self.namespace for item in found) > 1
        if self.mates:  # which share a Service
            with contextlib.suppress(ApiError):
                self.api = self.servers()[0].api
        started = self._started()
        if facts.age([*self._changed(), *started]) < FRESH:
            self.run.settle = SETTLE_FRESH
        if facts.age(started) < FRESH:
            self._patient = min(self.run.deadline, time.monotonic() + SETTLE_FRESH)
        return ""

    def _listed(self, path: str) -> list[dict[str, Any]] | None:
        """The objects of a kind; None where the cluster does not know it."""
        try:
            found: list[dict[str, Any]] = self.run.get(path).get("items", [])
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        return found

    @cached_property
    def series(self) -> Series:
        """What this Prometheus has; what an exporter denies is unknown to whom may not list its workload."""
        workloads: list[dict[str, Any]] = []
        for plural in ("deployments", "daemonsets"):
            with contextlib.suppress(ApiError):
                workloads += self.run.get(f"/apis/apps/v1/namespaces/{self.namespace}/{plural}").get("items", [])
        return Series(self.query, self.data, self.parsed, quiet.denied(workloads), self.without)

    @property
    def skipped(self) -> dict[str, str]:
        """The parts that the role kube_prometheus_stack did without, and why."""
        noted: dict[str, str] = json.loads((self.server["metadata"].get("annotations") or {}).get(SKIPPED, "{}"))
        return noted

    @property
    def without(self) -> dict[str, str]:
        """How the metrics begin that are not there because a part is skipped, and the name of that part."""
        return {begin: part.replace("_", " ") for part in self.skipped for begin in METRICS_OF.get(part, ())}

    def ask(self, path: str) -> Any:
        """What Prometheus or Alertmanager answers; where Prometheus was just started, as soon as somebody answers."""
        while True:
            try:
                return self.run.get(path)
            except ApiError as error:
                if error.status != UNAVAILABLE or time.monotonic() > self._patient:
                    raise
            time.sleep(ASK_AGAIN)

    def check_open(self, path: str, said: str) -> None:
        """Note that a Prometheus or Alertmanager behind a path has answered, or look for why it did not.

        :param said: why the API server's proxy has no answer; empty where it has one.
        :raises Shut: where the objects say why, and the pods are ready.
        """
        place = shut.PLACE.match(path)
        if not place or not self.server or self.absent:
            return
        key = place["namespace"], int(place["port"])
        if not said:
            self._answering.add(key)
        elif key not in self._answering and (why := self._shut(*key, said)):
            raise shut.Shut(why)

    def _shut(self, namespace: str, port: int, said: str) -> str:
        """Why the API server has no way to servers whose pods are all ready; empty where no object says so."""
        kind, items = "Prometheus", [(self.server, self.selector)]
        try:
            if port == shut.ALERTMANAGER:
                found = self.run.get(f"{OPERATOR}/v1/namespaces/{namespace}/alertmanagers").get("items", [])
                kind, items = "Alertmanager", [(item, _selector(item)) for item in found]
            policies = self.run.get(shut.POLICIES.format(namespace)).get("items", [])
            for item, selector in items:
                evidence, trouble = self.server_pods(item, selector, kind)
                why = "" if trouble else shut.cause(item, self.pods_of(selector, namespace), policies, port, said)
                if why:
                    return f"{evidence}, but the API server can't reach it: {why} ({said})"
        except ApiError:
            return ""
        return ""

    def ask_each(self, servers: list[Server], path: str) -> dict[Server, Any]:
        """What each of several servers answers, side by side.

        :raises ApiError: with the name of the pod that gives no answer.
        """

        def answer(server: Server) -> Any:
            try:
                return self.ask(server.api + path)
            except shut.Shut:
                raise
            except ApiError as error:
                raise ApiError(error.status, f"{server.pod}: {error}" if server.pod else str(error)) from error

        if len(servers) == 1:
            return {servers[0]: answer(servers[0])}
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(servers))) as pool:
            return dict(zip(servers, pool.map(answer, servers), strict=True))

    def query(self, expr: str, most: int = 0) -> list[Any]:
        """The result of an instant query: series, or a time and a value where it is a scalar.

        :param most: how many series it has at most; 0 for all. A Prometheus before 3.1 gives all.

        A shard has the series of its own targets alone, so one pod of each is asked.
        """
        answers = list(self.query_each(self._shards(), expr, most).values())
        first = answers[0]
        if first and not isinstance(first[0], dict):
            return first
        return [series for result in answers for series in result]

    def _shards(self) -> list[Server]:
        """One pod of each shard."""
        if self.server["spec"].get("shards", 1) < 2:
            return [Server(self.api)]
        return list({server.group: server for server in self.servers()}.values())

    def data(self, path: str) -> list[Any]:
        """What a path of Prometheus' API gives, of each shard."""
        return [answer["data"] for answer in self.ask_each(self._shards(), path).values()]

    def query_each(self, servers: list[Server], expr: str, most: int = 0) -> dict[Server, list[Any]]:
        """The result of an instant query at each of several servers."""
        asked = {"query": expr, **({"limit": str(most)} if most else {})}
        found = self.ask_each(servers, f"/api/v1/query?{urlencode(asked)}")
        return {server: answer["data"]["result"] for server, answer in found.items()}

    def parsed(self, expr: str) -> dict[str, Any] | None:
        """The tree of an expression; None where Prometheus has no way to tell, as before version 3."""
        try:
            found: dict[str, Any] = self.run.get(f"{self.api}/api/v1/parse_query?{urlencode({'query': expr})}")["data"]
        except ApiError as error:
            if error.status not in (400, 404):
                raise
            return None
        return found

    def ours(self) -> list[dict[str, Any]]:
        """The objects of the role app_monitoring for this app."""
        return owned(self.app.name, [item for found in self.objects.values() for item in found])

    def alerts(self) -> set[str]:
        """The names of all alerts of the app's namespace that are installed."""
        return {rule["alert"] for item in self.objects["prometheusrules"] for rule in rules_of(item) if rule.get("alert")}

    def rules_of_app(self) -> list[dict[str, Any]]:
        """The PrometheusRules of this app."""
        return owned(self.app.name, self.objects["prometheusrules"])

    def rules_of_ours(self) -> list[dict[str, Any]]:
        """The PrometheusRules that this collection has made for the app and for what it shares, as far as they may be read."""
        try:
            listed = self.run.get(f"{OPERATOR}/v1/prometheusrules?{OURS_SELECTED}").get("items", [])
        except ApiError as error:
            if error.status != 403:
                raise
            listed = []
        found = self.rules_of_app() + [item for item in listed if _concerns(item, self.app.namespace, self.app.name)]
        return list({(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in found}.values())

    def gone(self, kind: str, there: list[dict[str, Any]]) -> list[str]:
        """The names of objects of a kind that the role wrote down as installed, and that are not *there*."""
        names = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in there}
        return [name for of, namespace, name in self.parts() if of == kind and (namespace, name) not in names]

    def parts(self) -> list[tuple[str, ...]]:
        """Kind, namespace and name of all that the role wrote down as installed for this app."""
        return parts_of(self.ours())

    def probes(self) -> list[dict[str, Any]]:
        """The Probes of this app: the role's, and others whose series carry its name."""
        ours = self.ours()

        def labels(item: dict[str, Any]) -> dict[str, str]:
            static = (item["spec"].get("targets") or {}).get("staticConfig") or {}
            return static.get("labels") or {}

        return [item for item in self.objects["probes"] if item in ours or labels(item).get("app") == self.app.name]

    def _changed(self) -> list[str]:
        """When the app's pods and its monitoring objects were changed."""
        items = [item for found in self.objects.values() for item in found]
        metadata = [item["metadata"] for item in [*items, *self.run.pods]]
        times = [m["creationTimestamp"] for m in metadata if "creationTimestamp" in m]
        entries = [entry for item in items for entry in item["metadata"].get("managedFields") or []]
        return times + [entry["time"] for entry in entries if "time" in entry]

    def _started(self) -> list[str]:
        """When the containers of Prometheus were started."""
        containers = [each for pod in self._own_pods() for each in pod["status"].get("containerStatuses") or []]
        return [each["state"]["running"]["startedAt"] for each in containers if "running" in (each.get("state") or {})]

    @property
    def selector(self) -> str:
        return f"app.kubernetes.io/name=prometheus,operator.prometheus.io/name={self.server['metadata']['name']}"

    def _own_pods(self) -> list[dict[str, Any]]:
        """The pods of Prometheus; none where they may not be read, which the link says."""
        with contextlib.suppress(ApiError):
            return self.pods_of(self.selector)
        return []

    def pods_of(self, selector: str, namespace: str = "") -> list[dict[str, Any]]:
        """The pods with some labels, in the namespace of Prometheus or another one."""
        path = f"/api/v1/namespaces/{namespace or self.namespace}/pods?{urlencode({'labelSelector': selector})}"
        found: list[dict[str, Any]] = self.run.get(path).get("items", [])
        return found

    @cached_property
    def alerting(self) -> str:
        """The namespace of the Alertmanagers to which Prometheus is to send: the first that it is told, unless its own is one."""
        places = (self.server.get("spec", {}).get("alerting") or {}).get("alertmanagers") or []
        told = [place.get("namespace") or self.namespace for place in places]
        return self.namespace if not told or self.namespace in told else str(told[0])

    def servers(self) -> list[Server]:
        """Each ready pod of Prometheus."""
        return self._servers(self.server, self.selector, 9090, self.api, wanted_pods(self.server) < 2 and not self.mates)

    def alertmanager_config(self, path: str) -> dict[str, Any]:
        """The configuration that an Alertmanager has loaded; :param path: the way to it."""
        found: dict[str, Any] = yaml.safe_load(self.ask(f"{path}/api/v2/status")["config"]["original"]) or {}
        return found

    def alertmanager(self, items: list[dict[str, Any]]) -> str:
        """The way to the Alertmanager objects, as alertmanagers() gives them."""
        return self.alertmanager_servers(items)[0].api if self.crowded else alertmanager_path(self.alerting, items)

    def alertmanager_servers(self, items: list[dict[str, Any]]) -> list[Server]:
        """Each ready pod of the Alertmanager objects."""
        api, alone = alertmanager_path(self.alerting, items), sum(map(wanted_pods, items)) < 2 and not self.crowded
        found = [self._servers(item, _selector(item), 9093, api, alone) for item in items]
        return list(dict.fromkeys(server for servers in found for server in servers))

    def _servers(self, item: dict[str, Any], selector: str, port: int, api: str, alone: bool) -> list[Server]:
        space = item["metadata"]["namespace"]
        ready = [] if alone else [pod for pod in self.pods_of(selector, space) if facts.is_ready(pod)]
        prefix = item["spec"].get("routePrefix") or ""
        found = []
        for pod in ready:
            name, labels = pod["metadata"]["name"], pod["metadata"].get("labels") or {}
            path = pod_path(space, tls_of(item) + name, port, prefix)
            group = labels.get(SHARD) or item["metadata"]["name"]
            found.append(Server(path, name, group, pod["status"].get("podIP", "")))
        return found or [Server(api)]

    def command(self, *words: str) -> str:
        return str(self.app.kubectl("-n", self.namespace, *words, namespaced=False))

    def alerting_command(self, *words: str) -> str:
        """The same in the namespace of Alertmanager."""
        return str(self.app.kubectl("-n", self.alerting, *words, namespaced=False))

    def alertmanager_log(self) -> str:
        """The command that shows what Alertmanager says."""
        return self.alerting_command("logs", "-l", "app.kubernetes.io/name=alertmanager", "-c", "alertmanager", "--tail=50")

    def alertmanager_forward(self) -> str:
        """The command that opens Alertmanager."""
        return self.alerting_command("port-forward", "service/alertmanager-operated", "9093")

    def port_forward(self, service: str, port: int) -> str:
        return self.command("port-forward", f"service/{service}", str(port))

    def server_pods(self, item: dict[str, Any], selector: str, kind: str) -> tuple[str, str]:
        """How many pods of a Prometheus or Alertmanager object are ready, and what is wrong with them."""
        name, wanted = item["metadata"]["name"], wanted_pods(item)
        pods = self.pods_of(selector, item["metadata"]["namespace"])
        ready = [pod for pod in pods if facts.is_ready(pod)]
        evidence = f"{len(ready)} of {wanted} pods of {kind} {name} ready"
        if not wanted:
            return evidence, f"{kind} {name} is scaled to 0 replicas"
        if len(ready) < wanted:
            troubles = [facts.pod_trouble(pod) for pod in pods if pod not in ready]
            return evidence, f"{kind} {name} does not run as it should: {'; '.join(troubles[:3]) or 'it has no pod'}"
        for condition in item.get("status", {}).get("conditions") or []:
            if condition["type"] == "Reconciled" and condition["status"] == "False":
                return (
                    evidence,
                    f"the operator can't bring {kind} {name} up to date: {condition.get('message', 'no reason given')}",
                )
        return evidence, ""

    def deployments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments").get("items", [])
        return found

    def alertmanagers(self) -> list[dict[str, Any]]:
        """The Alertmanager objects where Prometheus is told to send; of several those to whose pods it sends, if to pods."""
        found: list[dict[str, Any]] = self.run.get(f"{OPERATOR}/v1/namespaces/{self.alerting}/alertmanagers").get("items", [])
        self.crowded = len(found) > 1
        if not self.crowded:
            return found
        active = [each for data in self.data("/api/v1/alertmanagers") for each in data["activeAlertmanagers"]]
        hosts = {urlsplit(each["url"]).hostname for each in active}
        addresses = [{pod["status"].get("podIP") for pod in self.pods_of(_selector(item), self.alerting)} for item in found]
        return [item for item, own in zip(found, addresses, strict=True) if own & hosts] or found


def _selector(alertmanager: dict[str, Any]) -> str:
    return f"alertmanager={alertmanager['metadata']['name']}"
