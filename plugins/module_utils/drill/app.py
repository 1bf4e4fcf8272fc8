# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application that is drilled and what watches it, as the cluster has them now."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ..kube.transport import ApiError, Cluster, read_object
from ..monitoring.paths import alertmanager_path, prometheus_path, service_path
from ..verify import facts, log_stores, stack
from ..verify.links import health, rollout
from ..verify.result import FAILED, OK
from ..verify.run import http_get, slices_path
from .bounds import Stage
from .dead_man import ENDED, Request, Step
from .guard import DrillError

# Lists that Kubernetes merges by something else than a name.
MERGED_BY = {"volumeMounts": "mountPath", "volumeDevices": "devicePath", "hostAliases": "ip"}
LINES_AT_MOST = 5000  # in one answer of a back end: what Loki gives
# What controllers write into an object by themselves.
KEPT_BY_CONTROLLERS = ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")


class LeftOut(Exception):
    """Why a scenario can't be caused here, in words that follow a colon."""


@dataclass
class Options:
    """What the user decides about a drill."""

    name: str = "flask-app"
    namespace: str = "flask-app"
    port: int = 5000
    path: str = "/"  # what the steady probe asks for
    error_path: str = ""
    slow_path: str = ""
    dependency: str = ""  # host name of something the application needs
    memory_limit: str = "16Mi"
    log_check: bool = True  # whether it logs the X-Request-ID of a request
    request_timeout: float = 5.0
    external_checks: list[dict[str, Any]] = field(default_factory=list)
    environment: str = ""


def requester(cluster: Cluster) -> Request:
    """Requests as the steps need them; an API server that does not answer is the status 0."""

    def request(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        try:
            return cluster.fetch(path, headers) if method == "GET" else cluster.send(method, path, body, headers)
        except ApiError as error:
            return error.status, str(error)

    return request


class App:
    """One application: its objects, its address, and the programs that watch it."""

    def __init__(self, cluster: Cluster, options: Options) -> None:
        self.cluster = cluster
        self.options = options
        self.request = requester(cluster)
        self.name, self.namespace = options.name, options.namespace
        self.base = f"/api/v1/namespaces/{self.namespace}"
        self.deployment_path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}"
        self.service_path = f"{self.base}/services/{self.name}"
        try:
            self.deployment = self.get(self.deployment_path)
            self.service = self.get(self.service_path)
        except ApiError as error:
            raise DrillError(
                f"The Deployment and the Service {self.name} in namespace {self.namespace} can't be read ({error}): name an"
                " application that is there, and a kubeconfig that may read it."
            ) from error
        labels = self.deployment["spec"]["selector"].get("matchLabels") or {}
        self.selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        self.container = facts.app_container(self.deployment, self.name)
        self.replicas = int(self.deployment["spec"].get("replicas", 1))
        self.health = ""  # what the health check answered last
        self.url = self._find_url()
        self.switches = self._has_switches()
        self.prometheus, self.alertmanager, self.inbox = self._find_stack()
        self.store, self.logs = self._find_store()

    def get(self, path: str, seconds: float = 10.0) -> Any:
        """An object, a list, or what a program behind a proxy answers.

        :raises ApiError: when there is none.
        """
        return read_object(*self.cluster.fetch(path, None, seconds))

    def pods(self) -> list[dict[str, Any]]:
        """The application's pods, without those that ended and are only kept to be read, such as evicted ones."""
        found: list[dict[str, Any]] = self.get(f"{self.base}/pods?{urlencode({'labelSelector': self.selector})}")["items"]
        return [pod for pod in found if pod.get("status", {}).get("phase") not in ENDED]

    def pod_names(self) -> list[str]:
        """The pods that run, by name."""
        return sorted(p["metadata"]["name"] for p in self.pods() if not p["metadata"].get("deletionTimestamp"))

    # Where things are.

    def _find_url(self) -> str:
        """The address that users have: a load balancer's, or a path of the API server's proxy."""
        entry = facts.port_entry(self.service, self.options.port, self.container)
        if entry is None:
            raise DrillError(
                f"No port of the Service {self.name} in namespace {self.namespace} leads to the port {self.options.port}:"
                " give the application's port by the option drill_port."
            )
        proxy = f"{self.base}/services/{facts.tls_prefix(entry)}{self.name}:{entry['port']}/proxy"
        return facts.load_balancer_url(self.service, entry) or proxy

    def ask(self, path: str, headers: dict[str, str] | None = None) -> int:
        """The status that a user gets over a new connection; 0 for no answer within the time that users have."""
        try:
            return self._answer(path, headers)[0]
        except ApiError:
            return 0

    def _answer(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        timeout = self.options.request_timeout
        if self.url.startswith("/"):
            return self.cluster.fetch(self.url + path, headers, timeout)
        return http_get(self.url + path, headers or {}, timeout)

    def _has_switches(self) -> bool:
        for pod in self.pods():
            path = f"{self.base}/pods/{pod['metadata']['name']}:{self.options.port}/proxy/faults"
            status, text = self.request("GET", path)
            if status == 200:
                try:
                    return isinstance(json.loads(text), dict)
                except ValueError:
                    return False
        return False

    def _find_stack(self) -> tuple[str, str, str]:
        """The proxy paths of Prometheus, Alertmanager and the alert inbox; empty for what is not there."""
        try:
            items = self.get(f"{stack.OPERATOR}/v1/prometheuses")["items"]
        except ApiError:
            return "", "", ""
        if not items:
            return "", "", ""
        rules = self.get(f"{stack.OPERATOR}/v1/namespaces/{self.namespace}/prometheusrules")["items"]
        chosen = stack.chosen(items, stack.parts_of(stack.owned(self.name, rules)))
        self.stack_namespace = chosen["metadata"]["namespace"]
        self.prometheus_name = chosen["metadata"]["name"]
        services = f"/api/v1/namespaces/{self.stack_namespace}/services"
        names = {item["metadata"]["name"] for item in self.get(services)["items"]}
        alertmanagers = self.get(f"{stack.OPERATOR}/v1/namespaces/{self.stack_namespace}/alertmanagers")["items"]
        return (
            prometheus_path(chosen),
            alertmanager_path(self.stack_namespace, alertmanagers) if "alertmanager-operated" in names else "",
            service_path(self.stack_namespace, "alert-inbox", 80) if "alert-inbox" in names else "",
        )

    def _find_store(self) -> tuple[log_stores.Store, log_stores.Way | None]:
        """The first log back end of the cluster, and the way to it, where there is one."""
        for store in log_stores.STORES.values():
            with contextlib.suppress(ApiError):
                if found := log_stores.service(self.get, store):
                    return store, log_stores.Way(self.cluster, found)
        return log_stores.Store(), None

    def lines(self, seconds: float, text: str = "", levels: str = "") -> list[float]:
        """The times, seconds since 1970, of the newest of the application's lines of so many seconds.

        :raises ApiError: where the back end does not answer.
        """
        body = self._ask_store(seconds, 5, text, levels)
        try:
            return sorted(line.time for line in self.store.lines(body))
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError(200, f"{self.store.title} answers something else than lines") from error

    def request_ids(self, run_id: str, seconds: float) -> set[str]:
        """The requests of a drill of which the back end has a line of the last so many seconds.

        :raises ApiError: where it does not answer.
        """
        return set(re.findall(rf"{run_id}-[0-9a-f]{{8}}", self._ask_store(seconds, LINES_AT_MOST, run_id)))

    def _ask_store(self, seconds: float, limit: int, text: str, levels: str = "") -> str:
        if not self.logs:
            raise ApiError(404, "no log back end runs on this cluster")
        path = self.store.path(self.store.expression(self.namespace, self.name, text, levels), seconds, limit)
        status, body = self.logs.fetch(path, 5)
        if status != 200:
            raise ApiError(status, f"{self.store.title} answers {status}")
        return body

    def workload(self, kind: str, selector: str) -> dict[str, Any] | None:
        """The first workload of a kind (``statefulsets``, ``daemonsets``) with these labels, in any namespace."""
        try:
            items = self.get(f"/apis/apps/v1/{kind}?{urlencode({'labelSelector': selector})}")["items"]
        except ApiError:
            return None
        return items[0] if items else None

    # Comparing.

    def digest(self, path: str, replicas: bool = True) -> str:
        """A hash of what a user wrote into an object: spec, data, labels and annotations.

        :param replicas: whether their number counts, which an autoscaler may change meanwhile.
        """
        found = self.get(path)
        metadata = found["metadata"]
        if found.get("kind") == "Node":
            return node_digest(found)
        if not replicas:
            found.get("spec", {}).pop("replicas", None)
        annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in KEPT_BY_CONTROLLERS}
        parts = [found.get("spec"), found.get("data"), metadata.get("labels"), annotations, metadata.get("uid")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def unhealthy(self) -> str:
        """Why the application is not as well as it should be; empty when it is."""
        try:
            deployment, pods = self.get(self.deployment_path), self.pods()
            result = rollout.judge(deployment, pods)
            if result.status != OK:
                return result.cause
            # As many as now: an autoscaler may have changed the number.
            ready, wanted = sum(map(facts.is_ready, pods)), int(deployment["spec"].get("replicas", 1))
            if ready != wanted or len(pods) != wanted:
                return f"{ready} of {len(pods)} pods are ready, and {wanted} are wanted"
            slices = self.get(slices_path(self.namespace, self.name))["items"]
            addresses = sum(len(ready_addresses(item)) for item in slices)
            if addresses < ready:
                return f"the Service has {addresses} addresses for {ready} ready pods"
        except ApiError as error:
            return f"the cluster does not answer: {error}"
        return self._health(deployment, pods)

    def _health(self, deployment: dict[str, Any], pods: list[dict[str, Any]]) -> str:
        """What verify's link health would say of the app as it is now; empty when nothing is broken."""
        container = facts.app_container(deployment, self.name)

        def fetch(path: str, headers: dict[str, str] | None) -> tuple[int, str]:
            return self.cluster.fetch(path, headers, self.options.request_timeout)

        known = (self.base, self.name, self.options.port, self.service, container, pods)
        found = health.check_health(health.Subject(*known, url=self.url, ask=self._answer, fetch=fetch))
        self.health = found.evidence
        return found.cause if found.status == FAILED else ""

    def unready(self, path: str) -> str:
        """What a workload or a node still lacks; empty for anything else, and for one that is complete."""
        try:
            found = self.get(path)
        except ApiError as error:
            return f"{path} can't be read: {error}"
        spec, status = found.get("spec") or {}, found.get("status") or {}
        if found.get("kind") == "DaemonSet":
            wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        elif found.get("kind") == "StatefulSet":
            wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
        elif found.get("kind") == "Node":
            return "" if facts.is_ready(found) else f"the node {found['metadata']['name']} is not ready"
        elif found.get("kind") == "Deployment":
            wanted, ready = spec.get("replicas", 1), min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
        else:
            return ""
        seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
        if seen and ready == wanted:
            return ""
        return f"{ready} of {wanted} pods of {found['kind']} {found['metadata']['name']} are ready"


def ready_addresses(item: dict[str, Any]) -> set[str]:
    """The addresses of an EndpointSlice to which requests are sent."""
    found: set[str] = set()
    for endpoint in item.get("endpoints") or []:
        if (endpoint.get("conditions") or {}).get("ready", True):
            found.update(endpoint.get("addresses") or [])
    return found


def node_digest(node: dict[str, Any]) -> str:
    """A hash of what a drill may change of a node; other programs change the rest of it all the time."""
    spec = node.get("spec") or {}
    taints = [(taint["key"], taint.get("effect")) for taint in spec.get("taints") or []]
    ours = sorted(taint for taint in taints if taint[0].startswith("node.kubernetes.io/"))
    parts = [bool(spec.get("unschedulable")), ours, node["metadata"].get("uid")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def inverse(before: Any, patch: Any) -> Any:
    """The strategic merge patch that takes another one back.

    :param before: what the patched part of the object was.
    :param patch: the patch; lists that Kubernetes merges, by name or what stands for it, are undone item by item, others are
        replaced.
    """
    found: dict[str, Any] = {}
    for key, value in patch.items():
        old, by = before.get(key), merge_key(key, value)
        if key not in before:
            found[key] = None
        elif isinstance(value, dict) and isinstance(old, dict):
            found[key] = inverse(old, value)
        elif by:
            there = {item[by]: item for item in old or []}
            found[key] = [
                {by: item[by], **inverse(there[item[by]], {k: v for k, v in item.items() if k != by})}
                if item[by] in there
                else {by: item[by], "$patch": "delete"}
                for item in value
            ]
        else:
            found[key] = old
    return found


def merge_key(field: str, value: Any) -> str:
    """By which key a strategic merge patch merges a list; empty for a list that is replaced, and for what is no list."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return ""
    key = MERGED_BY.get(field, "name")
    if field == "ports":  # of a container, else of a Service
        key = "containerPort" if "containerPort" in value[0] else "port"
    return key if all(key in item for item in value) else ""


@dataclass
class Plan:
    """How one scenario is caused and undone; both as data."""

    how: str
    steps: list[Step]
    undo: list[Step] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)  # paths of objects that must be the same afterwards
    path: str = ""  # what the steady probe asks for instead, with every so-many-th request
    every: int = 1
    excuses: dict[str, str] = field(default_factory=dict)  # by observer, why it may see nothing of this way
    stages: dict[str, list[Stage]] = field(default_factory=dict)  # by observer and event, what it takes by this way

    def scales(self, path: str) -> bool:
        """Whether it is this plan itself that changes an object's number of replicas."""
        return any(step.get("path") == path and "replicas" in ((step.get("body") or {}).get("spec") or {}) for step in self.steps)


def patched(found: dict[str, Any], path: str, patch: dict[str, Any]) -> tuple[list[Step], list[Step]]:
    """The steps that patch an object, and those that take it back and leave no trace of who did it."""
    steps: list[Step] = [{"do": "patch", "path": path, "body": patch, "gone_ok": False}]
    undo: list[Step] = [{"do": "patch", "path": path, "body": inverse(found, patch)}]
    owners = found["metadata"].get("managedFields")
    if owners:
        undo.append({"do": "owners", "path": path, "value": owners})
    return steps, undo


def wall(monotonic: float) -> float:
    """The time of day, in seconds since 1970, of a moment of the monotonic clock."""
    return time.time() - time.monotonic() + monotonic
