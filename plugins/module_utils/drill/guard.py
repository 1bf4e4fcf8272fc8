# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a drill safe: one namespace that is its lock, its record of what to undo, and the pod that undoes it.

All of it goes with the namespace: what must be elsewhere is owned by it.
"""

from __future__ import annotations

import datetime
import inspect
import json
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from . import dead_man, machine
from .dead_man import PATCH, Request, Step, StepError, ask

LABELS = {"app.kubernetes.io/managed-by": "flaskops", "app.kubernetes.io/part-of": "flaskops-drill"}
LEASE_SECONDS = 20  # without a renewal for so long, the dead man's switch acts
RENEWAL = 4.0
GOING = 120.0  # seconds that a namespace may take to go
ARMING = 90.0  # seconds that the pod of the dead man's switch may take to start
VERBS = {"POST": "create", "DELETE": "delete", "GET": "get", "PUT": "update", "PATCH": "patch"}
Rule = dict[str, list[str]]
# A clock that goes on while a laptop is closed, as the lease's does.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class DrillError(Exception):
    """What is wrong, where, and what to do, in one sentence."""


class Strange(DrillError):
    """What is left is of another application's drill."""


def rights(steps: Iterable[Step]) -> dict[str, list[Rule]]:
    """The least rights with which the steps can be done: namespace -> rules of a Role; those of the empty one are for nodes."""
    found: dict[str, dict[tuple[str, str, str], set[str]]] = {}

    def need(namespace: str, group: str, resource: str, name: str, *verbs: str) -> None:
        found.setdefault(namespace, {}).setdefault((group, resource, name), set()).update(verbs)

    for step in steps:
        if step["do"] in ("put_back", "owners"):
            parts = step["path"].strip("/").split("/")
            group = "" if parts[0] == "api" else parts[1]
            resource, name = parts[-2:]
            need(parts[-3] if "namespaces" in parts else "", group, resource, name, "get", "patch")
        elif step["do"] == "history":
            need(step["namespace"], "apps", step["resource"], "", "list", "delete")
        elif step["do"] == "start_node":
            need("", "", "nodes", step["node"], "get")
        else:
            need(step["namespace"], "", "pods", "", "list", "delete")
            if step["do"] == "switch":
                need(step["namespace"], "", "pods/proxy", "", VERBS[step["method"]])
    return {
        namespace: [
            {"apiGroups": [group], "resources": [resource], "verbs": sorted(verbs), **({"resourceNames": [name]} if name else {})}
            for (group, resource, name), verbs in sorted(rules.items())
        ]
        for namespace, rules in found.items()
    }


def age(lease: dict[str, Any]) -> float:
    """Seconds since a lease was renewed, by this machine's clock; for ever for one that says nothing, which no drill renews."""
    told = lease["spec"].get("renewTime")
    if not told:
        return math.inf
    renewed = datetime.datetime.fromisoformat(told)
    return (datetime.datetime.now(datetime.UTC) - renewed).total_seconds()


class Guard:
    """The lock, the record and the dead man's switch of one drill.

    :param app: whom it drills, as namespace and name.
    :param refusal: why recorded steps are none that a plan of this application could have made; empty when they may be.
    """

    def __init__(self, request: Request, namespace: str, holder: str, app: str, refusal: Callable[[list[Step]], str]) -> None:
        self.request = request
        self.namespace = namespace
        self.holder = holder
        self.app, self.refusal = app, refusal
        self.uid = self._record_uid = self._lease_uid = ""
        self.lost = threading.Event()  # the lease is no longer ours
        self.kept = False  # whether something is left that could not be undone
        self._renewed = 0.0
        self._stop = threading.Event()
        self._renewal: threading.Thread | None = None
        self._elsewhere: list[str] = []  # what belongs to us outside the namespace

    # The lock.

    def _get_namespace(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = ask(self.request, "GET", f"/api/v1/namespaces/{self.namespace}")
        return found

    def _get_lease(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = ask(self.request, "GET", dead_man.lease_path(self.namespace))
        return found

    def _until_gone(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self._get_namespace() is not None:
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def recover(self) -> list[str]:
        """Undo what a drill that is gone has left, and remove it; return what was done, empty when nothing was left.

        :raises DrillError: when another drill runs, or it can't be undone.
        """
        found = self._get_namespace()
        if found is None:
            return []
        if (found["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of") != LABELS["app.kubernetes.io/part-of"]:
            raise DrillError(f"The namespace {self.namespace} exists and was not made by a drill: give the drill another one.")
        if found["metadata"].get("deletionTimestamp"):
            return self._gone("a drill that was ending has ended")
        lease = self._get_lease()
        if lease is not None:
            holder = lease["spec"].get("holderIdentity")
            if holder == "dead-man" and self._until_gone(GOING / 2):
                return [f"the dead man's switch in namespace {self.namespace} has restored what a drill left"]
            if holder != "dead-man":
                self._refuse_if_alive(lease)
            lease = self._get_lease() or lease
        steps = self._believed()
        began = time.clock_gettime(CLOCK)
        if lease is not None and not dead_man.take_over(self.namespace, lease, self.holder, self.request):
            raise DrillError(f"Somebody else repairs what a drill left in namespace {self.namespace}: try again in a minute.")
        # It takes as long as it takes: who lost the lock meanwhile must not undo, and remove, what is the next drill's.
        if lease is not None:
            self._hold(began)
        try:
            problems = dead_man.undo(steps, self.request if lease is None else self.change, machine.DO)
        finally:
            self._let_go()
        if problems:
            raise DrillError(f"What a drill left can't be undone: {'; '.join(problems)}. Its record is {self._record_words()}.")
        self._remove(found["metadata"]["uid"])
        return self._gone(f"{len(steps)} recorded steps of a drill that was killed were undone")

    def _remove(self, uid: str) -> None:
        """Remove the namespace, unless it is by now that of another drill."""
        ask(self.request, "DELETE", f"/api/v1/namespaces/{self.namespace}", {"preconditions": {"uid": uid}})

    def _believed(self) -> list[Step]:
        """The recorded steps, of which each is one that a plan could have made: whoever may make a namespace may write a record.

        :raises DrillError: for any other; nothing of it is done.
        """
        whose = dead_man.recorded(self.namespace, self.request, "app") or self.app
        if whose != self.app:
            raise Strange(f"A drill of {whose} was killed, and what it left is recorded: undo it by state=restored for {whose}.")
        steps: list[Step] = dead_man.recorded(self.namespace, self.request)
        if reason := self.refusal(steps):
            raise DrillError(
                f"Nothing is undone, because {self._record_words()} holds steps that no drill of {self.app} with these options"
                f" writes ({reason}): find out who wrote it, put back by hand what is broken, and remove the namespace."
            )
        return steps

    def _record_words(self) -> str:
        return f"the Secret {dead_man.RECORD} in namespace {self.namespace}"

    def _gone(self, what: str) -> list[str]:
        if not self._until_gone(GOING):
            raise DrillError(
                f"The namespace {self.namespace} of an earlier drill stays: see `kubectl describe namespace {self.namespace}`."
            )
        return [what]

    def _refuse_if_alive(self, lease: dict[str, Any]) -> None:
        """A lease that looks old may only be of a clock that is behind: it is looked at twice."""
        seconds = lease["spec"].get("leaseDurationSeconds") or LEASE_SECONDS
        old = age(lease) > seconds
        if old:
            time.sleep(2 * RENEWAL)
            again = self._get_lease()
            old = again is None or again["spec"].get("renewTime") == lease["spec"].get("renewTime")
        if not old:
            raise DrillError(
                f"Another drill runs on this cluster (by {lease['spec'].get('holderIdentity')}): wait for its end, or end it and"
                f" try again {seconds} seconds later."
            )

    def acquire(self) -> None:
        """Make the namespace with the lease and an empty record, and go on renewing it.

        :raises DrillError: when another drill was faster.
        """
        metadata = {
            "name": self.namespace,
            "labels": {**LABELS, "pod-security.kubernetes.io/enforce": "restricted"},
        }
        status, text = self.request("POST", "/api/v1/namespaces", {"metadata": metadata})
        if status == 409:
            raise DrillError("Another drill has just begun on this cluster: wait for its end.")
        if status != 201:
            raise DrillError(f"The drill can't make its namespace {self.namespace}: {' '.join(text.split())[:300]}")
        self.uid = json.loads(text)["metadata"]["uid"]
        lease = {
            "metadata": {"name": dead_man.LEASE, "labels": LABELS},
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": dead_man.now(),
                "renewTime": dead_man.now(),
            },
        }
        try:
            made = self._create(dead_man.lease_path(self.namespace).rsplit("/", 1)[0], lease)
            self._lease_uid = made["metadata"]["uid"]
            data = {"undo": dead_man.encoded([]), "app": dead_man.encoded(self.app)}
            record = {"metadata": {"name": dead_man.RECORD, "labels": LABELS}, "data": data}
            made = self._create(dead_man.record_path(self.namespace).rsplit("/", 1)[0], record)
            self._record_uid = made["metadata"]["uid"]
        except StepError as error:
            ask(self.request, "DELETE", f"/api/v1/namespaces/{self.namespace}")
            raise DrillError(f"The drill can't take its lock: {error}") from error
        self._hold(time.clock_gettime(CLOCK))

    def _hold(self, since: float) -> None:
        self._renewed = since
        self.lost.clear()
        self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewal.start()

    def _let_go(self) -> None:
        """Renew the lease no more."""
        self._stop.set()
        if self._renewal:
            self._renewal.join()
        self._stop.clear()

    def _create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = ask(self.request, "POST", path, body, gone_ok=False)
        return made

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL):
            began = time.clock_gettime(CLOCK)
            body = [
                {"op": "test", "path": "/spec/holderIdentity", "value": self.holder},
                {"op": "replace", "path": "/spec/renewTime", "value": dead_man.now()},
            ]
            status, _text = self.request("PATCH", dead_man.lease_path(self.namespace), body, {"Content-Type": PATCH})
            if 200 <= status < 300:
                self._renewed = began
            elif (status in (404, 422) and not self._stop.is_set()) or began - self._renewed > LEASE_SECONDS:
                self.lost.set()
                return

    def holds(self) -> bool:
        """Whether the lease is ours for long enough to begin something."""
        return not self.lost.is_set() and time.clock_gettime(CLOCK) - self._renewed < LEASE_SECONDS - RENEWAL

    def regain(self) -> bool:
        """Whether the lock is ours, or is again, because nobody took it while it could not be renewed.

        :raises StepError: when the cluster does not answer.
        """
        if self.holds():
            return True
        began, lease = time.clock_gettime(CLOCK), self._get_lease()
        if lease is None or lease["metadata"]["uid"] != self._lease_uid or lease["spec"].get("holderIdentity") != self.holder:
            self.lost.set()
            return False
        if not dead_man.take_over(self.namespace, lease, self.holder, self.request):
            return False
        if self.lost.is_set():
            self._hold(began)
        self._renewed = began
        return True

    def change(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """A request of a step, which changes nothing when the lock is lost: by then somebody else undoes, or drills."""
        if method != "GET" and "dryRun=" not in path and not self.holds():
            return 0, "the drill has lost its lock, and changes nothing any more"
        return self.request(method, path, body, headers)

    def record(self, steps: list[Step]) -> None:
        """Save what undoes the next change, before it is made.

        :raises StepError: when it could not be saved, or the lock is lost, or the record is by now that of another drill.
        """
        body = [
            {"op": "test", "path": "/metadata/uid", "value": self._record_uid},
            {"op": "replace", "path": "/data/undo", "value": dead_man.encoded(steps)},
        ]
        ask(self.change, "PATCH", dead_man.record_path(self.namespace), body, PATCH, gone_ok=False)

    def release(self) -> None:
        """Give the lock back and remove everything that was made for it.

        Where something is still recorded that could not be undone it stays, for the dead man's switch and for the next drill.
        """
        self._stop.set()
        ours = self.regain()
        found = self._get_namespace()
        if found is None or found["metadata"]["uid"] != self.uid:
            return  # the dead man's switch was here, and perhaps another drill since
        if not ours:
            if not self._until_gone(GOING):
                raise DrillError("somebody else has taken its lock, and undoes what is recorded")
            return
        self.kept = bool(dead_man.recorded(self.namespace, self.request))
        if self.kept:
            return
        for path in self._elsewhere:
            ask(self.request, "DELETE", path)
        self._remove(self.uid)
        self._gone("")

    # The dead man's switch.

    def arm(self, image: str, steps: Iterable[Step]) -> str:
        """Start the pod that undoes when the lease runs out; return why there is none, empty when it waits.

        :param steps: all that it may have to do, from which its rights are made.
        """
        if not image:
            return "no image with Python 3 is known for it: name one by the option drill_image"
        try:
            self._make(image, rights(steps))
        except StepError as error:
            return str(error)
        end = time.monotonic() + ARMING
        while time.monotonic() < end:
            lease = self._get_lease() or {"metadata": {}}
            if dead_man.ARMED in (lease["metadata"].get("annotations") or {}):
                return ""
            trouble = self._trouble()
            if trouble:
                return trouble
            time.sleep(0.5)
        return f"its pod did not start within {ARMING:.0f} seconds"

    def _trouble(self) -> str:
        query = urlencode({"labelSelector": "job-name=dead-man"})
        pods = (ask(self.request, "GET", f"/api/v1/namespaces/{self.namespace}/pods?{query}") or {}).get("items") or []
        for pod in pods:
            for status in pod.get("status", {}).get("containerStatuses") or []:
                waiting = (status.get("state") or {}).get("waiting") or {}
                if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", *dead_man.WAITING):
                    return f"its image {status.get('image')} does not run: {waiting['reason']}"
        return ""

    def _make(self, image: str, rules: dict[str, list[Rule]]) -> None:
        own = f"/namespaces/{self.namespace}"
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        name = f"flaskops-drill-{uuid.uuid4().hex[:8]}"
        owner = {"apiVersion": "v1", "kind": "Namespace", "name": self.namespace, "uid": self.uid}
        account = {"kind": "ServiceAccount", "name": "dead-man", "namespace": self.namespace}
        self._create(f"/api/v1{own}/serviceaccounts", {"metadata": {"name": "dead-man", "labels": LABELS}})
        code = {"dead_man.py": inspect.getsource(dead_man)}
        self._create(f"/api/v1{own}/configmaps", {"metadata": {"name": "dead-man", "labels": LABELS}, "data": code})
        home: list[Rule] = [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [dead_man.LEASE],
                "verbs": ["get", "patch"],
            },
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [dead_man.RECORD], "verbs": ["get"]},
        ]
        remove: list[Rule] = [
            {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [self.namespace], "verbs": ["delete"]}
        ]
        for namespace, granted in {self.namespace: home, **rules, "": remove + rules.get("", [])}.items():
            kind, where = ("Role", f"/namespaces/{namespace}") if namespace else ("ClusterRole", "")
            metadata = {"name": name, "labels": LABELS, "ownerReferences": [owner]}
            if namespace == self.namespace:
                del metadata["ownerReferences"]
            for plural in (f"{kind.lower()}s", f"{kind.lower()}bindings"):
                self._elsewhere.append(f"{rbac}{where}/{plural}/{name}")
            self._create(f"{rbac}{where}/{kind.lower()}s", {"metadata": metadata, "rules": granted})
            binding = {
                "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
                "subjects": [account],
            }
            self._create(f"{rbac}{where}/{kind.lower()}bindings", binding)
        self._create(f"/apis/batch/v1{own}/jobs", self._job(image))

    def _job(self, image: str) -> dict[str, Any]:
        container = {
            "name": "dead-man",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "/drill/dead_man.py", self.namespace],
            "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
            "volumeMounts": [{"name": "code", "mountPath": "/drill", "readOnly": True}],
            "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}, "limits": {"memory": "96Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        pod = {
            "serviceAccountName": "dead-man",
            "restartPolicy": "OnFailure",
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "code", "configMap": {"name": "dead-man"}}],
        }
        metadata = {"name": "dead-man", "labels": LABELS}
        return {"metadata": metadata, "spec": {"backoffLimit": 20, "template": {"metadata": {"labels": LABELS}, "spec": pod}}}
