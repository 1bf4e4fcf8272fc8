# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until a workload has rolled out, and says why it does not."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..credentials.guard import hidden_in, hide, hide_logins, inline_secrets, passwords_in
from .ours import secrets_in
from .pods import Trouble, is_ready, pod_troubles
from .selectors import selector_of
from .transport import ApiError, KubeError, first_line

if TYPE_CHECKING:
    from .objects import Objects

Json = dict[str, Any]

GRACE = 15  # seconds that a state which mostly is permanent may last
WINDOW = 2  # seconds of one watch, after which the pods are looked at
LOG_LINES = 10
EVENTS = 5
IMMEDIATE = {"CrashLoopBackOff", "InvalidImageName", "ErrImageNeverPull"}
AFTER_GRACE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
KINDS = ("Deployment", "StatefulSet", "DaemonSet")


class NotReady(KubeError):
    """A workload that does not get ready, with all that explains it."""

    def __init__(self, failure: Json) -> None:
        super().__init__(failure["msg"])
        self.failure = failure


def without(error: KubeError, secrets: list[str]) -> KubeError:
    """An error that shows no secret, neither in its words nor in the events and log lines that explain it."""
    if isinstance(error, NotReady):
        return NotReady(hidden_in(error.failure, secrets))
    return KubeError(hide(str(error), secrets))


def replica_counts(workload: Json) -> dict[str, int]:
    """Return the pods desired, updated, ready and available."""
    kind, spec, status = workload["kind"], workload["spec"], workload.get("status") or {}
    strategy = spec.get("updateStrategy") or {}
    if kind == "DaemonSet":
        desired, updated = status.get("desiredNumberScheduled") or 0, status.get("updatedNumberScheduled") or 0
        ready, available = status.get("numberReady") or 0, status.get("numberAvailable") or 0
    else:
        desired = 1 if spec.get("replicas") is None else spec["replicas"]
        updated = status.get("updatedReplicas") or 0
        ready, available = status.get("readyReplicas") or 0, status.get("availableReplicas") or 0
        partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
        if partition and updated >= max(desired - partition, 0):
            updated = desired  # the rest keeps the old revision on purpose
    if strategy.get("type") == "OnDelete":
        updated = desired
    return {"desired": desired, "updated": updated, "ready": ready, "available": available}


def start_seconds(workload: Json) -> int:
    """Return the seconds that the pods' startup probes allow a rollout: 0 without one, else one pod after the other."""
    probes = [probe for each in workload["spec"]["template"]["spec"]["containers"] if (probe := each.get("startupProbe"))]
    allowed = [
        probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        for probe in probes
    ]
    return max(allowed, default=0) * replica_counts(workload)["desired"]


def is_current(workload: Json) -> bool:
    """Tell whether the controller has seen the newest generation."""
    return ((workload.get("status") or {}).get("observedGeneration") or 0) >= (workload["metadata"].get("generation") or 0)


def is_done(workload: Json) -> bool:
    """Tell whether the newest generation runs in full and nothing older is left."""
    counts = replica_counts(workload)
    if not is_current(workload) or len(set(counts.values())) != 1:
        return False
    return workload["kind"] != "Deployment" or (workload["status"].get("replicas") or 0) == counts["desired"]


def blocking_condition(workload: Json, newest: Json | None = None) -> str:
    """Return the condition by which a controller says that it can't go on.

    :param newest: the ReplicaSet of a Deployment's newest revision. A Deployment also reports those of older ones, whose
        pods are not waited for.
    """
    found = (workload.get("status") or {}).get("conditions") or []
    conditions = [item for item in found if newest is None or item["type"] != "ReplicaFailure"]
    if newest is not None:
        conditions += (newest.get("status") or {}).get("conditions") or []
    for condition in conditions:
        failed = condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        overdue = condition["type"] == "Progressing" and condition["status"] == "False"
        if failed or overdue:
            return f"{condition.get('reason')}: {first_line(condition.get('message') or '')}"
    return ""


def fatal_trouble(troubles: list[Trouble], since: dict[tuple[str, str], float], now: float) -> Trouble | None:
    """Return a trouble that no waiting cures; `since` remembers when each was first seen."""
    lasting = {(i.pod, i.container) for i in troubles if i.reason in AFTER_GRACE}
    for gone in set(since) - lasting:
        del since[gone]
    for item in troubles:
        if item.reason in IMMEDIATE:
            return item
        if item.reason in AFTER_GRACE and now - since.setdefault((item.pod, item.container), now) >= GRACE:
            return item
    return None


def when(event: Json) -> str:
    """Return when an event was last seen; such times sort as text."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


class Waiter:
    """Reads one workload, waits for it, and explains what is wrong with it."""

    VERSION = "apps/v1"

    def __init__(self, objects: Objects, kind: str, namespace: str, name: str) -> None:
        self.objects = objects
        self.kind, self.namespace, self.name = kind, namespace, name
        self.reference = {"apiVersion": self.VERSION, "kind": kind, "metadata": {"name": name, "namespace": namespace}}
        self.label = f"{kind} {name} in namespace {namespace}"
        self.workload: Json = {}
        self.since: dict[tuple[str, str], float] = {}
        self.blocked_since: float | None = None
        self.refusals: set[tuple[str, str]] | None = None  # those that were seen: uid and version of an event
        self.refused = ""
        self.updated = 0

    def read(self) -> None:
        """Read the workload."""
        try:
            found = self.objects.get(self.reference)
        except ApiError as error:
            raise KubeError(f"The {self.label} can't be read ({error}): check the account's permissions.") from error
        if found is None:
            raise KubeError(f"There is no {self.label}: apply it before waiting for it.")
        self.workload = found

    def listed(self, api: str, plural: str, **query: str) -> list[Json]:
        """List what explains a failure; an account that may not read it gets less explanation."""
        try:
            found = self.objects.request("GET", f"{api}/namespaces/{quote(self.namespace)}/{plural}", query)
        except ApiError as error:
            if not error.status:
                raise
            return []
        return list(found["items"])

    def _owned(self, plural: str) -> list[Json]:
        uid = self.workload["metadata"].get("uid")
        listed = self.listed("/apis/apps/v1", plural, labelSelector=selector_of(self.workload))
        return [item for item in listed if any(o["uid"] == uid for o in item["metadata"].get("ownerReferences") or [])]

    def revision_label(self) -> tuple[str, str]:
        """Return the label that the newest revision's pods carry, or empty texts."""
        if self.kind == "StatefulSet":
            return "controller-revision-hash", (self.workload.get("status") or {}).get("updateRevision") or ""
        if self.kind == "DaemonSet":
            newest = max(self._owned("controllerrevisions"), key=lambda item: item["revision"], default=None)
            key = "controller-revision-hash"
        else:
            newest, key = self.newest_replica_set(), "pod-template-hash"
        return (key, (newest["metadata"].get("labels") or {}).get(key, "")) if newest else ("", "")

    def newest_replica_set(self) -> Json | None:
        """Return the ReplicaSet of a Deployment's newest revision, or None."""
        key = "deployment.kubernetes.io/revision"
        current = (self.workload["metadata"].get("annotations") or {}).get(key)
        found = [i for i in self._owned("replicasets") if (i["metadata"].get("annotations") or {}).get(key) == current]
        return found[0] if current and found else None

    def pods(self) -> list[Json]:
        """Return the pods of the newest revision that aren't being deleted."""
        selector = selector_of(self.workload)
        key, value = self.revision_label()
        if value:
            selector += f",{key}={value}"
        found = self.listed("/api/v1", "pods", labelSelector=selector)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def troubles_of(self, pod: Json) -> list[Trouble]:
        """Return what there is to say of a pod."""
        return pod_troubles(pod)

    def troubles(self) -> list[Trouble]:
        """Return the troubles of all pods."""
        return [item for pod in self.pods() for item in self.troubles_of(pod)]

    def all_ready(self) -> bool:
        """Tell whether no pod of the newest revision is unready.

        The workload's own status can be stale for as long as its controller is away, as after a node's restart.
        """
        return all(map(is_ready, self.pods()))

    def is_seen(self) -> bool:
        """Tell whether the controller has seen what is wanted now."""
        return is_current(self.workload)

    def hopeless(self) -> str:
        """Return why the rollout can't succeed, if so."""
        if not self.is_seen():
            return ""
        now = time.monotonic()
        trouble = fatal_trouble(self.troubles(), self.since, now)
        if trouble:
            return f"pod {trouble.pod}: {trouble.text}"
        condition = blocking_condition(self.workload)
        if self.kind != "Deployment":
            condition = condition or self.refusal()
        elif condition:
            condition = blocking_condition(self.workload, self.newest_replica_set())
        if not condition:
            self.blocked_since = None
        elif self.blocked_since is None:
            self.blocked_since = now
        elif now - self.blocked_since >= GRACE:
            return condition
        return ""

    def refusal(self) -> str:
        """Return why the API server refuses the pods that are still missing; empty if it does not.

        A DaemonSet or StatefulSet has no condition for it, only events, which stay for an hour. Those of before the first look
        may be of another rollout, or of a quota that has been raised since: only a refusal that comes later counts. It counts
        until a pod is made, because the controller tries again after longer and longer times.
        """
        selector = f"involvedObject.uid={self.workload['metadata'].get('uid')},reason=FailedCreate"
        found = self.listed("/api/v1", "events", fieldSelector=selector)
        seen = {(event["metadata"]["uid"], event["metadata"]["resourceVersion"]) for event in found}
        counts = replica_counts(self.workload)
        if self.refusals is None or counts["updated"] > self.updated or counts["updated"] >= counts["desired"]:
            self.refused = ""
        elif seen - self.refusals:
            newest = max(found, key=when)
            self.refused = f"{newest['reason']}: {first_line(newest.get('message') or '')}"
        self.refusals, self.updated = seen, counts["updated"]
        return self.refused

    def watch(self, seconds: float) -> None:
        """Follow the workload until it is done or the seconds are over."""
        for event in self.objects.watch(self.reference, self.workload["metadata"]["resourceVersion"], seconds):
            if event["type"] in ("ADDED", "MODIFIED"):
                self.workload = event["object"]
            if event["type"] == "DELETED" or self.has_ended():
                return

    def has_ended(self) -> bool:
        """Tell whether the workload says that it is done."""
        return is_done(self.workload)

    def is_over(self) -> bool:
        """Tell whether there is nothing to wait for any more."""
        return self.has_ended() and self.all_ready()

    def given_up(self, reason: str) -> str:
        """Return what is said where the workload can't succeed."""
        return f"The {self.label} can't become ready, {reason}."

    def overdue(self, timeout: int) -> str:
        """Return what is said where it takes too long."""
        counts = replica_counts(self.workload)
        return (
            f"The {self.label} is not ready after {timeout} s: of {counts['desired']} pods"
            f" {counts['updated']} are updated, {counts['ready']} ready and {counts['available']} available."
        )

    def wait(self, timeout: int) -> str:
        """Wait; return an empty text, or why the workload isn't ready."""
        deadline = time.monotonic() + timeout
        while not self.is_over():
            if reason := self.hopeless():
                return self.given_up(reason)
            left = deadline - time.monotonic()
            if left <= 0:
                return self.overdue(timeout)
            self.watch(min(WINDOW, left))
            self.read()
        return ""

    def events(self, pods: list[Json]) -> list[str]:
        """Return the last events of the workload and its pods, oldest first."""
        names = {self.name} | {pod["metadata"]["name"] for pod in pods}
        names |= {owner["name"] for pod in pods for owner in pod["metadata"].get("ownerReferences") or []}
        key, value = self.revision_label() if self.kind == "Deployment" else ("", "")
        if key:
            names.add(f"{self.name}-{value}")
        found = self.listed("/api/v1", "events")
        mine = sorted((event for event in found if event["involvedObject"].get("name") in names), key=when)
        return [
            f"{event['involvedObject']['name']}: {event.get('reason')}, {first_line(event.get('message') or '')}"
            for event in mine[-EVENTS:]
        ]

    def log(self, trouble: Trouble) -> list[str]:
        """Return the last log lines of a container."""
        path = f"/api/v1/namespaces/{quote(self.namespace)}/pods/{quote(trouble.pod)}/log?container={quote(trouble.container)}"
        for previous in ("false", "true"):
            query = f"&tailLines={LOG_LINES}&limitBytes=16384&previous={previous}"
            status, text = self.objects.cluster.fetch(path + query)
            if status == 200 and text.splitlines():
                return text.splitlines()
        return []

    def secrets(self) -> list[str]:
        """Return what a pod's log may quote: what the Secrets hold that it reads, if this account may read them too."""
        spec, found = self.workload["spec"]["template"]["spec"], []
        for name in secrets_of(spec):
            meta = {"name": name, "namespace": self.namespace}
            with contextlib.suppress(ApiError):
                found.append(self.objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": meta}))
        hidden = secrets_in([item for item in found if item]) + plain_secrets(spec)
        return [text for text in hidden + passwords_in(hidden) if len(text) > 3]

    def explain(self, reason: str) -> Json:
        """Return the failure with everything that explains it."""
        pods = self.pods()
        troubles = [item for pod in pods for item in self.troubles_of(pod)]
        order = sorted(troubles, key=lambda i: (i.reason not in IMMEDIATE, not i.container))
        with_log = next((i for i in order if i.container), None)
        lines = [f"{i.pod}: {i.text}" for i in troubles]
        events = self.events(pods)
        log = [hide_logins(line) for line in hidden_in(self.log(with_log), self.secrets())] if with_log else []
        message = [reason]
        for title, part in (("Pods", lines or ["no pod of the newest revision exists"] * (not pods)), ("Last events", events)):
            if part:
                message += [f"{title}:"] + [f"  {line}" for line in part]
        if log and with_log:
            message += [f"Last log lines of {with_log.pod}, container {with_log.container}:"]
            message += [f"  {line}" for line in log]
        return {
            "msg": "\n".join(message),
            "replicas": replica_counts(self.workload),
            "pods": lines,
            "events": events,
            "log": log,
        }


def secrets_of(spec: Json) -> list[str]:
    """Return the names of the Secrets that a pod's containers read."""
    named = [item["secret"].get("secretName") for item in spec.get("volumes") or [] if item.get("secret")]
    for container in (*(spec.get("initContainers") or []), *spec["containers"]):
        named += [item["secretRef"].get("name") for item in container.get("envFrom") or [] if item.get("secretRef")]
        sources = [item.get("valueFrom") or {} for item in container.get("env") or []]
        named += [source["secretKeyRef"].get("name") for source in sources if source.get("secretKeyRef")]
    return sorted({*named} - {None})


def plain_secrets(spec: Json) -> list[str]:
    """Return the values of a pod's variables that are credentials, by their names or because they hold a login."""
    variables = [item for container in spec["containers"] for item in container.get("env") or [] if item.get("value")]
    return [item["value"] for item in variables if inline_secrets({item["name"]: item["value"]})]


def succeed(waiter: Waiter, timeout: int) -> None:
    """Return when what a waiter waits for has come.

    :raises NotReady: when it can't, or has not within the seconds.
    """
    try:
        reason = waiter.wait(timeout)
    except ApiError as error:
        raise KubeError(
            f"Waiting for the {waiter.label} was cut short ({first_line(error)}): check the cluster's API and run again."
        ) from error
    if reason:
        raise NotReady(waiter.explain(reason))


def wait_for(objects: Objects, workload: Json, timeout: int) -> None:
    """Return when a workload has rolled out.

    :param workload: the live object.
    :raises NotReady: when it can't, or has not within the seconds.
    """
    waiter = Waiter(objects, workload["kind"], workload["metadata"]["namespace"], workload["metadata"]["name"])
    waiter.workload = workload
    succeed(waiter, timeout)
