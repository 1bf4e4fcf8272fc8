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

from ..kube.selectors import selector_of
from ..kube.transport import ApiError, Cluster, message_of, read_object
from ..monitoring.paths import alertmanager_path, prometheus_path, service_path
from ..verify import facts, log_agents, log_stores, stack
from ..verify.links import health, rollout
from ..verify.result import FAILED, OK
from ..verify.run import http_get, slices_path
from .bounds import Stage
from .dead_man import ENDED, MANAGER, PATCH, STRATEGIC, Field, Request, Step, taken_back
from .guard import DrillError

# What may tell the items of a list from each other, so that a changed one is put back without the others.
TELLING = ("name", "mountPath", "devicePath", "ip", "topologyKey", "containerPort", "port", "key")
LINES_AT_MOST = 5000  # in one answer of a back end: what Loki gives
# What controllers write into an object by themselves.
KEPT_BY_CONTROLLERS = ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")


class Skipped(Exception):
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
        self.selector = selector_of(self.deployment)
        self.container = facts.app_container(self.deployment, self.name)
        self.replicas = int(self.deployment["spec"].get("replicas", 1))
        self.health = ""  # what the health check answered last
        self.url = self._find_url()
        self.page = facts.page(options.path, self.ask)
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
                if found := log_agents.services(self.get, store):
                    return store, log_stores.Way(self.cluster, found[0])
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
        elif found.get("kind") in ("Prometheus", "Alertmanager"):
            wanted, ready = spec.get("replicas", 1), status.get("availableReplicas", 0)
            return "" if ready == wanted else f"{ready} of {wanted} pods of {found['kind']} {found['metadata']['name']} run"
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


def telling(before: list[Any], after: list[Any]) -> str:
    """The key by which items of two lists are the same ones; empty where the lists can only be compared as wholes.

    That is so where the second has not all items of the first in their order.
    """
    for key in TELLING:
        if not all(isinstance(item, dict) and key in item for item in [*before, *after]):
            continue
        old, new = [item[key] for item in before], [item[key] for item in after]
        if all(values.count(value) == 1 for values in (old, new) for value in values) and [v for v in new if v in old] == old:
            return key
    return ""


def differences(before: Any, after: Any, at: tuple[Any, ...] = ()) -> list[Field]:
    """What makes one part of an object another one, as fields (dead_man.Field)."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [field for key in keys for field in differences(before.get(key), after.get(key), (*at, key))]
    if isinstance(before, list) and isinstance(after, list) and (key := telling(before, after)):
        old = {item[key]: item for item in before}
        return [f for item in after for f in differences(old.get(item[key]), item, (*at, {key: item[key]}))]
    return [{"at": list(at), "wrote": after, "was": before}]


def written(found: dict[str, Any]) -> dict[str, Any]:
    """What users write into an object."""
    metadata = {key: found["metadata"][key] for key in ("labels", "annotations") if key in found["metadata"]}
    return {"metadata": metadata, **{key: found[key] for key in ("spec", "data") if key in found}}


def as_whole(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON patch that writes all of that into the object of another moment."""
    parts = written(found)
    metadata = parts.pop("metadata")
    values = {f"/metadata/{key}": metadata[key] for key in metadata} | {f"/{key}": parts[key] for key in parts}
    return [{"op": "add", "path": path, "value": value} for path, value in values.items()]


def directives(patch: Any) -> list[str]:
    """The keys of a patch that say how to merge instead of what is wanted."""
    if isinstance(patch, list):
        return [key for item in patch for key in directives(item)]
    if not isinstance(patch, dict):
        return []
    return [key for key in patch if key.startswith("$")] + [key for value in patch.values() for key in directives(value)]


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

    def stays_in(self, namespace: str) -> bool:
        """Whether nothing outside of a namespace is changed."""
        inside = f"/namespaces/{namespace}/"
        return all(inside in step.get("path", "") or step.get("namespace") == namespace for step in self.steps)

    def scales(self, path: str) -> bool:
        """Whether it is this plan itself that changes an object's number of replicas."""
        return any(step.get("path") == path and "replicas" in ((step.get("body") or {}).get("spec") or {}) for step in self.steps)


def tried(app: App, path: str, body: Any, kind: str) -> dict[str, Any]:
    """What an object would be after a patch, by a dry run.

    :raises Skipped: in the API server's words, where it does not take it.
    """
    status, text = app.request("PATCH", f"{path}?dryRun=All&fieldManager={MANAGER}", body, {"Content-Type": kind})
    if not 200 <= status < 300:
        raise Skipped(f"{path.rsplit('/', 1)[1]} can't be patched: {message_of(text) or status}")
    found: dict[str, Any] = json.loads(text)
    return found


def patched(app: App, path: str, patch: dict[str, Any], kind: str = STRATEGIC) -> tuple[list[Step], list[Step]]:
    """The steps that patch an object, and those that take it back and leave no trace of who did it.

    The API server tries both before, one after the other, and must come back to the live object.

    :raises Skipped: for a patch that it does not take, that changes nothing, or that can't be taken back.
    """
    name = path.rsplit("/", 1)[1]
    if found := directives(patch):
        raise Skipped(f"the patch of {name} has the directive {found[0]}: patch the fields themselves")
    try:
        before = app.get(path)
    except ApiError as error:
        raise Skipped(f"{name} can't be read: {error}") from error
    after = tried(app, path, patch, kind)
    fields = differences(written(before), written(after))
    if not fields:
        raise Skipped(f"the patch changes nothing of {name}")
    back, _whole = taken_back(after, fields)
    if written(tried(app, path, [*as_whole(after), *back], PATCH)) != written(before):
        changed = ".".join(str(part) for part in fields[0]["at"])
        raise Skipped(f"the patch of {name} can't be taken back exactly, as a dry run of both shows ({changed})")
    steps: list[Step] = [{"do": "patch", "path": path, "body": patch, **({"kind": kind} if kind != STRATEGIC else {})}]
    uid = before["metadata"]["uid"]
    undo: list[Step] = [{"do": "put_back", "path": path, "uid": uid, "fields": fields}]
    owners = before["metadata"].get("managedFields")
    # A kubelet writes into its node all the time.
    if owners and before.get("kind") != "Node":
        undo.append({"do": "owners", "path": path, "uid": uid, "value": owners})
    return steps, undo


def both(how: str, *plans: Plan) -> Plan:
    """Several plans as one."""
    return Plan(
        how,
        [step for plan in plans for step in plan.steps],
        [step for plan in reversed(plans) for step in plan.undo],
        [path for plan in plans for path in plan.touched],
    )


def history(back: Step, resource: str, selector: str) -> Step:
    """What an object was meanwhile is removed from its history.

    :param back: the step that puts the object back.
    """
    kept = {"namespace": back["path"].split("/")[5], "resource": resource, "selector": selector}
    return {"do": "history", **kept, "owner": back["uid"], "fields": back["fields"]}


def wall(monotonic: float) -> float:
    """The time of day, in seconds since 1970, of a moment of the monotonic clock."""
    return time.time() - time.monotonic() + monotonic
