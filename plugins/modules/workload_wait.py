#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_wait
short_description: Wait until a Kubernetes workload has rolled out
version_added: 0.1.0
description:
  - Waits until the newest revision of a Deployment, StatefulSet or DaemonSet runs, is ready and is available in full.
  - On failure the message holds the pods' reasons, the last events, and the last log lines of the container that fails.
  - Ends early when the rollout can't succeed, for example when a container crashes in a loop, an image can't be pulled,
    or the API server goes on refusing the pods, as a quota makes it do.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - Does not wait in check mode.
  diff_mode:
    support: N/A
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    details:
      - This module changes nothing.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
options:
  namespace:
    description:
      - Namespace of the workload.
    type: str
    required: true
  kind:
    description:
      - Kind of the workload.
    type: str
    choices:
      - Deployment
      - StatefulSet
      - DaemonSet
    default: Deployment
  name:
    description:
      - Name of the workload.
    type: str
    required: true
  image:
    description:
      - An image that one of the workload's containers must have been given; fails at once if none has.
    type: str
  timeout:
    description:
      - Seconds to wait at most.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Wait for the application
  flaskops.observability.workload_wait:
    kubeconfig: ~/.kube/config
    context: staging
    namespace: flask-app
    name: flask-app

- name: Wait for a log shipper on every node
  flaskops.observability.workload_wait:
    context: staging
    namespace: logging
    kind: DaemonSet
    name: fluent-bit
    timeout: 300
"""

RETURN = r"""
replicas:
  description: Numbers of pods that are wanted, of the newest revision, ready and available.
  returned: when the workload was read
  type: dict
  sample: {"desired": 2, "updated": 2, "ready": 2, "available": 2}
pods:
  description: One line for each pod that is not ready, with its reason.
  returned: failure
  type: list
  elements: str
  sample: ["flask-app-5d8c-x2x7p: container flask-app waits, CrashLoopBackOff"]
events:
  description: The last events of the workload and its pods, oldest first.
  returned: failure
  type: list
  elements: str
log:
  description: The last log lines of the container that fails.
  returned: failure
  type: list
  elements: str
"""

import datetime
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils._kube import (
    KubeError,
    api_client,
    describe,
    first_line,
)
from ansible_collections.flaskops.observability.plugins.module_utils._pods import Trouble, pod_troubles
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful

GRACE = 15  # seconds that a state which mostly is permanent may last
WINDOW = 2  # seconds of one watch, after which the pods are looked at
REQUEST_TIMEOUT = 10
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
METHODS = {"Deployment": "deployment", "StatefulSet": "stateful_set", "DaemonSet": "daemon_set"}


def replica_counts(kind: str, workload: t.Any) -> dict[str, int]:
    """Return the pods desired, updated, ready and available."""
    spec, status = workload.spec, workload.status
    if kind == "DaemonSet":
        desired = status.desired_number_scheduled or 0
        updated = status.updated_number_scheduled or 0
        ready, available = status.number_ready or 0, status.number_available or 0
        on_delete = bool(spec.update_strategy and spec.update_strategy.type == "OnDelete")
    else:
        desired = 1 if spec.replicas is None else spec.replicas
        updated = status.updated_replicas or 0
        ready, available = status.ready_replicas or 0, status.available_replicas or 0
        strategy = spec.update_strategy if kind == "StatefulSet" else None
        on_delete = bool(strategy and strategy.type == "OnDelete")
        partition = (strategy.rolling_update.partition or 0) if strategy and strategy.rolling_update else 0
        if partition and updated >= max(desired - partition, 0):
            updated = desired  # the rest keeps the old revision on purpose
    if on_delete:
        updated = desired
    return {"desired": desired, "updated": updated, "ready": ready, "available": available}


def is_current(workload: t.Any) -> bool:
    """Tell whether the controller has seen the newest generation."""
    return (workload.status.observed_generation or 0) >= (workload.metadata.generation or 0)


def is_done(kind: str, workload: t.Any) -> bool:
    """Tell whether the newest generation runs in full and nothing older is left."""
    counts = replica_counts(kind, workload)
    if not is_current(workload) or len(set(counts.values())) != 1:
        return False
    return kind != "Deployment" or (workload.status.replicas or 0) == counts["desired"]


def blocking_condition(workload: t.Any, newest: t.Any = None) -> str:
    """Return the condition by which a controller says that it can't go on.

    :param newest: the ReplicaSet of a Deployment's newest revision. A Deployment also tells of those of older ones, whose
        pods are not waited for.
    """
    conditions = [c for c in workload.status.conditions or [] if newest is None or c.type != "ReplicaFailure"]
    if newest is not None:
        conditions += newest.status.conditions or []
    for condition in conditions:
        failed = condition.type == "ReplicaFailure" and condition.status == "True"
        overdue = condition.type == "Progressing" and condition.status == "False"
        if failed or overdue:
            return f"{condition.reason}: {first_line(condition.message or '')}"
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


def selector_of(workload: t.Any) -> str:
    """Return the workload's selector in the API's text form."""
    selector = workload.spec.selector
    parts = [f"{key}={value}" for key, value in sorted((selector.match_labels or {}).items())]
    for item in selector.match_expressions or []:
        if item.operator in ("In", "NotIn"):
            parts.append(f"{item.key} {item.operator.lower()} ({','.join(item.values or [])})")
        else:
            parts.append(item.key if item.operator == "Exists" else f"!{item.key}")
    return ",".join(parts)


def when(event: t.Any) -> t.Any:
    """Return when an event was last seen."""
    never = datetime.datetime.fromtimestamp(0, tz=datetime.UTC)
    return event.last_timestamp or event.event_time or event.metadata.creation_timestamp or never


class Waiter:
    """Reads one workload, waits for it, and explains what is wrong with it."""

    def __init__(self, api: t.Any, kind: str, namespace: str, name: str) -> None:
        from kubernetes import client

        self.api_exception = client.ApiException
        self.core = client.CoreV1Api(api)
        self.apps = client.AppsV1Api(api)
        self.kind, self.namespace, self.name = kind, namespace, name
        self.label = f"{kind} {name} in namespace {namespace}"
        self.workload: t.Any = None
        self.since: dict[tuple[str, str], float] = {}
        self.blocked_since: float | None = None
        self.refusals: set[tuple[str, str]] | None = None  # those that were seen: uid and version of an event
        self.refused = ""
        self.updated = 0

    def read(self) -> None:
        """Read the workload."""
        method = getattr(self.apps, f"read_namespaced_{METHODS[self.kind]}")
        try:
            self.workload = method(self.name, self.namespace, _request_timeout=REQUEST_TIMEOUT)
        except self.api_exception as exc:
            if exc.status == 404:
                raise KubeError(f"There is no {self.label}: apply it before waiting for it.") from exc
            raise KubeError(
                f"The {self.label} can't be read ({exc.status} {exc.reason}): check the account's permissions."
            ) from exc

    def check_image(self, image: str) -> None:
        """Refuse to wait for a workload that was never given the image."""
        images = [c.image for c in self.workload.spec.template.spec.containers]
        if image not in images:
            raise KubeError(f"The {self.label} has the image {', '.join(images)} and not {image}: apply it again.")

    def _optional(self, function: t.Any, *args: t.Any, **kwargs: t.Any) -> list[t.Any]:
        """List what explains a failure; an account that may not read it gets less explanation."""
        try:
            return list(function(*args, _request_timeout=REQUEST_TIMEOUT, **kwargs).items)
        except self.api_exception:
            return []

    def _owned(self, items: list[t.Any]) -> list[t.Any]:
        uid = self.workload.metadata.uid
        return [i for i in items if any(o.uid == uid for o in i.metadata.owner_references or [])]

    def revision_label(self) -> tuple[str, str]:
        """Return the label that the newest revision's pods carry, or empty texts."""
        selector = selector_of(self.workload)
        if self.kind == "StatefulSet":
            return "controller-revision-hash", self.workload.status.update_revision or ""
        if self.kind == "DaemonSet":
            listed = self._optional(self.apps.list_namespaced_controller_revision, self.namespace, label_selector=selector)
            revisions = self._owned(listed)
            newest = max(revisions, key=lambda r: r.revision, default=None)
            return "controller-revision-hash", newest.metadata.labels.get("controller-revision-hash", "") if newest else ""
        newest = self.newest_replica_set()
        return ("pod-template-hash", (newest.metadata.labels or {}).get("pod-template-hash", "")) if newest else ("", "")

    def newest_replica_set(self) -> t.Any:
        """Return the ReplicaSet of a Deployment's newest revision, or None."""
        key = "deployment.kubernetes.io/revision"
        current = (self.workload.metadata.annotations or {}).get(key)
        selector = selector_of(self.workload)
        listed = self._optional(self.apps.list_namespaced_replica_set, self.namespace, label_selector=selector)
        found = [item for item in self._owned(listed) if (item.metadata.annotations or {}).get(key) == current]
        return found[0] if current and found else None

    def pods(self) -> list[t.Any]:
        """Return the pods of the newest revision that aren't being deleted."""
        selector = selector_of(self.workload)
        key, value = self.revision_label()
        if value:
            selector += f",{key}={value}"
        found = self._optional(self.core.list_namespaced_pod, self.namespace, label_selector=selector)
        return [pod for pod in found if not pod.metadata.deletion_timestamp]

    def troubles(self) -> list[Trouble]:
        """Return the troubles of all pods."""
        return [item for pod in self.pods() for item in pod_troubles(pod)]

    def all_ready(self) -> bool:
        """Tell whether no pod of the newest revision is unready.

        The workload's own status can be stale for as long as its controller is away, as after a node's restart.
        """
        return all(
            any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions or [])
            for pod in self.pods()
        )

    def hopeless(self) -> str:
        """Return why the rollout can't succeed, if so."""
        if not is_current(self.workload):
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
        selector = f"involvedObject.uid={self.workload.metadata.uid},reason=FailedCreate"
        found = self._optional(self.core.list_namespaced_event, self.namespace, field_selector=selector)
        seen = {(event.metadata.uid, event.metadata.resource_version) for event in found}
        counts = replica_counts(self.kind, self.workload)
        if self.refusals is None or counts["updated"] > self.updated or counts["updated"] >= counts["desired"]:
            self.refused = ""
        elif seen - self.refusals:
            newest = max(found, key=when)
            self.refused = f"{newest.reason}: {first_line(newest.message or '')}"
        self.refusals, self.updated = seen, counts["updated"]
        return self.refused

    def watch(self, seconds: float) -> None:
        """Follow the workload until it is done or the seconds are over."""
        from kubernetes import watch

        method = getattr(self.apps, f"list_namespaced_{METHODS[self.kind]}")
        bound = max(1, int(seconds))
        stream = watch.Watch()
        try:
            for event in stream.stream(
                method,
                self.namespace,
                field_selector=f"metadata.name={self.name}",
                resource_version=self.workload.metadata.resource_version,
                timeout_seconds=bound,
                _request_timeout=bound + REQUEST_TIMEOUT,
            ):
                if event["type"] in ("ADDED", "MODIFIED"):
                    self.workload = event["object"]
                if event["type"] == "DELETED" or is_done(self.kind, self.workload):
                    return
        except self.api_exception as exc:
            if exc.status != 410:  # the version is too old to watch from: the next read gives a newer one
                raise
        finally:
            stream.stop()

    def wait(self, timeout: int) -> str:
        """Wait; return an empty text, or why the workload isn't ready."""
        deadline = time.monotonic() + timeout
        while not (is_done(self.kind, self.workload) and self.all_ready()):
            reason = self.hopeless()
            if reason:
                return f"The {self.label} can't become ready, {reason}."
            left = deadline - time.monotonic()
            if left <= 0:
                counts = replica_counts(self.kind, self.workload)
                return (
                    f"The {self.label} is not ready after {timeout} s: of {counts['desired']} pods"
                    f" {counts['updated']} are updated, {counts['ready']} ready and {counts['available']} available."
                )
            self.watch(min(WINDOW, left))
            self.read()
        return ""

    def events(self, pods: list[t.Any]) -> list[str]:
        """Return the last events of the workload and its pods, oldest first."""
        names = {self.name} | {pod.metadata.name for pod in pods}
        names |= {owner.name for pod in pods for owner in pod.metadata.owner_references or []}
        key, value = self.revision_label() if self.kind == "Deployment" else ("", "")
        if key:
            names.add(f"{self.name}-{value}")
        found = self._optional(self.core.list_namespaced_event, self.namespace)
        mine = sorted((e for e in found if e.involved_object.name in names), key=when)
        return [f"{e.involved_object.name}: {e.reason}, {first_line(e.message or '')}" for e in mine[-EVENTS:]]

    def log(self, trouble: Trouble) -> list[str]:
        """Return the last log lines of a container."""
        for previous in (False, True):
            try:
                answer: t.Any = self.core.read_namespaced_pod_log(
                    trouble.pod,
                    self.namespace,
                    container=trouble.container,
                    tail_lines=LOG_LINES,
                    limit_bytes=16384,
                    previous=previous,
                    _preload_content=False,
                    _request_timeout=REQUEST_TIMEOUT,
                )
            except self.api_exception:
                continue
            lines = answer.data.decode("utf-8", "replace").splitlines()
            if lines:
                return lines
        return []

    def explain(self, reason: str) -> dict[str, t.Any]:
        """Return the failure with everything that explains it."""
        pods = self.pods()
        troubles = [item for pod in pods for item in pod_troubles(pod)]
        order = sorted(troubles, key=lambda i: (i.reason not in IMMEDIATE, not i.container))
        with_log = next((i for i in order if i.container), None)
        lines = [f"{i.pod}: {i.text}" for i in troubles]
        events = self.events(pods)
        log = self.log(with_log) if with_log else []
        message = [reason]
        for title, part in (("Pods", lines or ["no pod of the newest revision exists"] * (not pods)), ("Last events", events)):
            if part:
                message += [f"{title}:"] + [f"  {line}" for line in part]
        if log and with_log:
            message += [f"Last log lines of {with_log.pod}, container {with_log.container}:"]
            message += [f"  {line}" for line in log]
        return {
            "msg": "\n".join(message),
            "replicas": replica_counts(self.kind, self.workload),
            "pods": lines,
            "events": events,
            "log": log,
        }


def run(module: AnsibleModule) -> None:
    """Wait and report."""
    params = module.params
    kubeconfig, context = params["kubeconfig"] or "", params["context"] or ""
    if module.check_mode:
        module.exit_json(changed=False, msg="Nothing is waited for in check mode.")
    try:
        waiter = Waiter(api_client(kubeconfig, context), params["kind"], params["namespace"], params["name"])
        waiter.read()
        if params["image"]:
            waiter.check_image(params["image"])
        reason = waiter.wait(params["timeout"])
        failure = waiter.explain(reason) if reason else None
    except KubeError as exc:
        module.fail_json(msg=str(exc))
    except Exception as exc:  # the connection broke, or the API refused a request on the way
        where = describe(kubeconfig, context)
        status = getattr(exc, "status", None)
        text = f"{status} {getattr(exc, 'reason', '')}" if status else first_line(exc)
        module.fail_json(
            msg=f"Waiting for {params['kind']} {params['name']} in namespace {params['namespace']} ({where})"
            f" was cut short ({text}): check the cluster's API and run again."
        )
    if failure:
        module.fail_json(**failure)
    module.exit_json(changed=False, replicas=replica_counts(params["kind"], waiter.workload))


def main() -> None:
    """Entry point."""
    run(
        AnsibleModule(
            argument_spec={
                "kubeconfig": {"type": "path"},
                "context": {"type": "str"},
                "namespace": {"type": "str", "required": True},
                "kind": {"type": "str", "choices": list(METHODS), "default": "Deployment"},
                "name": {"type": "str", "required": True},
                "image": {"type": "str"},
                "timeout": {"type": "int", "default": 120},
            },
            supports_check_mode=True,
        )
    )


if __name__ == "__main__":
    careful(main)()
