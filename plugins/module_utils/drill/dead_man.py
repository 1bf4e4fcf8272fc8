# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill does to a cluster, as data, and the timer that undoes it when the drill itself is gone.

A step is a small dictionary, so that it can be recorded before it is done. This file needs nothing but the standard library:
the drill mounts it as it is into a pod, where it waits for the drill's lease to run out.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

Step = dict[str, Any]
# Method, path, body (JSON) and headers; the answer's status, 0 for none, and its text.
Request = Callable[..., tuple[int, str]]

MANAGER = "flaskops-drill"
STRATEGIC, MERGE, PATCH = (f"application/{kind}+json" for kind in ("strategic-merge-patch", "merge-patch", "json-patch"))
LEASE, RECORD = "drill", "drill"  # names of the Lease and of the Secret with the steps that undo
ARMED = "flaskops/dead-man"  # annotation of the Lease
# Phases of a pod that has ended and is only kept to be read.
ENDED = ("Failed", "Succeeded")
WAITING = ("CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError", "StartError")
PAUSE = 2.0  # seconds between two looks at the lease, and between two attempts to undo or to evict
ATTEMPTS = 10  # to change an object that others change at the same time
SETTLED = 20.0  # seconds in which a Service has lost its last address


class StepError(Exception):
    """The cluster did not do a step; what it said."""


def ask(request: Request, method: str, path: str, body: Any = None, kind: str = "application/json", gone_ok: bool = True) -> Any:
    """The JSON of an answer; None where there is no such object and that is as good.

    :raises StepError: for any other status than 2xx.
    """
    status, text = request(method, path, body, {"Content-Type": kind})
    if status == 404 and gone_ok:
        return None
    if not 200 <= status < 300:
        raise StepError(f"{method} {path.split('?')[0]} was answered {status or 'by nobody'}: {' '.join(text.split())[:300]}")
    try:
        return json.loads(text)
    except ValueError:
        return {}


def listed(request: Request, path: str, selector: str) -> list[dict[str, Any]]:
    """The objects of a list that carry the labels."""
    found = ask(request, "GET", f"{path}?{urlencode({'labelSelector': selector})}") or {}
    items: list[dict[str, Any]] = found.get("items") or []
    return items


def waits(pod: dict[str, Any]) -> bool:
    """Whether a container of the pod has crashed and is not running again."""
    for container in pod.get("status", {}).get("containerStatuses") or []:
        state = container.get("state") or {}
        if (state.get("waiting") or {}).get("reason") in WAITING or "terminated" in state:
            return True
    return False


def delete_pod(request: Request, namespace: str, name: str) -> None:
    ask(request, "DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 0})


def ready_node(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def do_patch(step: Step, request: Request) -> None:
    """Patch an object; by a strategic merge patch, where the step names no other kind."""
    ask(request, "PATCH", f"{step['path']}?fieldManager={MANAGER}", step["body"], step.get("kind", STRATEGIC), gone_ok=False)


# One field that a patch changes: `at` leads to it, by the keys of maps and, in lists, by what tells an item from the others, such
# as {"name": "shop"}; `wrote` is what the patch makes of it and `was` what it was, each null where it is not there.
Field = dict[str, Any]


def place(root: Any, at: list[Any]) -> tuple[Any, Any, str] | None:
    """What holds a field, the field's key in that, and its JSON pointer; None where the way to it is gone.

    The key of an item that a list lacks is None, and its pointer that of the list's end.
    """
    pointer = ""
    for number, part in enumerate(at):
        last = number == len(at) - 1
        if isinstance(part, dict):
            if not isinstance(root, list):
                return None
            items = [n for n, item in enumerate(root) if isinstance(item, dict) and part.items() <= item.items()]
            key = items[0] if items else None
            if key is None and not last:
                return None
        elif isinstance(root, dict):
            key = part
        else:
            return None
        pointer += "/" + ("-" if key is None else str(key).replace("~", "~0").replace("/", "~1"))
        if last:
            return root, key, pointer
        root = root.get(key) if isinstance(root, dict) else root[key]
    return None


def value_at(root: Any, at: list[Any]) -> Any:
    """What stands there; None for nothing."""
    found = place(root, at)
    if found is None or found[1] is None:
        return None
    holder, key, _pointer = found
    return holder.get(key) if isinstance(holder, dict) else holder[key]


def taken_back(found: dict[str, Any], fields: list[Field]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The JSON patch that takes back what is still there of a patch, and the object after it.

    What somebody has changed since then stays as it is.
    """
    after, body = copy.deepcopy(found), []
    for field in fields:
        here = place(after, field["at"])
        if here is None or value_at(after, field["at"]) != field["wrote"]:
            continue
        holder, key, pointer = here
        if field["was"] is None:
            body.append({"op": "remove", "path": pointer})
            del holder[key]
            continue
        body.append({"op": "add", "path": pointer, "value": field["was"]})
        if key is None:
            holder.append(field["was"])
        else:
            holder[key] = field["was"]
    return body, after


def change(step: Step, request: Request, patch_of: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
    """Change the very object that a step names, by a patch of how it is at that moment, so that no change of others is lost.

    :raises StepError: when the API server does not take it.
    """
    for _ in range(ATTEMPTS):
        found = ask(request, "GET", step["path"])
        if found is None or found["metadata"]["uid"] != step["uid"]:
            return  # what is gone needs no undoing, and another object of that name was not broken
        body = patch_of(found)
        if not body:
            return
        unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]}
        address = f"{step['path']}?fieldManager={MANAGER}"
        status, text = request("PATCH", address, [unchanged, *body], {"Content-Type": PATCH})
        if status == 404 or 200 <= status < 300:
            return
        if status not in (409, 422):
            break
    raise StepError(f"PATCH {step['path']} was answered {status or 'by nobody'}: {said(text)}")


def do_put_back(step: Step, request: Request) -> None:
    """Put the fields of an object back that are still as the fault has left them; as often as you like with the same outcome."""
    change(step, request, lambda found: taken_back(found, step["fields"])[0])


def do_owners(step: Step, request: Request) -> None:
    """Put back who manages which field, where nobody else has changed any; a patch of its own, because one that changes a field
    makes us its manager.
    """

    def own(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # Status, scale and the like are others' all the time.
        return [entry for entry in entries if not entry.get("subresource")]

    def known(entry: dict[str, Any]) -> tuple[Any, ...]:
        return entry.get("manager"), entry.get("operation"), entry.get("time")

    def patch_of(found: dict[str, Any]) -> list[dict[str, Any]]:
        live = found["metadata"].get("managedFields") or []
        before = [known(entry) for entry in step["value"]]
        others = [entry for entry in own(live) if entry.get("manager") not in (MANAGER, "kube-controller-manager")]
        if MANAGER not in [entry.get("manager") for entry in live] or any(known(entry) not in before for entry in others):
            return []
        kept = [entry for entry in live if entry.get("subresource")]
        return [{"op": "replace", "path": "/metadata/managedFields", "value": own(step["value"]) + kept}]

    change(step, request, patch_of)


def do_delete_pods(step: Step, request: Request) -> None:
    """Delete pods at once: those named, or with ``waiting`` those that a kubelet keeps waiting after a crash."""
    names = step.get("names")
    if names is None:
        names = [
            pod["metadata"]["name"]
            for pod in listed(request, f"/api/v1/namespaces/{step['namespace']}/pods", step["selector"])
            if waits(pod)
        ]
    for name in names:
        delete_pod(request, step["namespace"], name)


def do_switch(step: Step, request: Request) -> None:
    """Ask every pod, or those named, for a fault switch. With ``or_delete`` a pod that does not answer is replaced.

    A pod that knows no such switch needs none taken back.
    """
    base = f"/api/v1/namespaces/{step['namespace']}/pods"
    for pod in listed(request, base, step["selector"]):
        name = pod["metadata"]["name"]
        ended = pod["metadata"].get("deletionTimestamp") or pod.get("status", {}).get("phase") in ENDED
        if ended or name not in step.get("names", [name]):
            continue
        path = f"{base}/{name}:{step['port']}/proxy{step['path']}"
        # The header keeps a pod from handing the switch on: each is asked for itself.
        headers = {"Content-Type": "application/json", "X-Flaskops-Relayed": "1"}
        status, text = request(step["method"], path, step.get("body"), headers)
        if 200 <= status < 300:
            continue
        if not step.get("or_delete"):
            raise StepError(f"the pod {name} did not take {step['path']} ({status}): {' '.join(text.split())[:200]}")
        if status != 404:
            delete_pod(request, step["namespace"], name)


def do_history(step: Step, request: Request) -> None:
    """Delete the ReplicaSets of a Deployment, or the revisions of a DaemonSet, that have the broken template."""
    base = f"/apis/apps/v1/namespaces/{step['namespace']}/{step['resource']}"
    broken = [field for field in step["fields"] if field["at"][:2] == ["spec", "template"]]
    for item in listed(request, base, step["selector"]):
        owners = [owner["uid"] for owner in item["metadata"].get("ownerReferences") or []]
        template = item.get("data") or item
        if step["owner"] in owners and broken and all(value_at(template, field["at"]) == field["wrote"] for field in broken):
            ask(request, "DELETE", f"{base}/{item['metadata']['name']}", {"propagationPolicy": "Background"})


def do_alert(step: Step, request: Request) -> None:
    """Give Alertmanager an alert that ends by itself, as soon as a Service leads to nobody any more."""
    service, end = step["service"], time.monotonic() + SETTLED
    path = f"/apis/discovery.k8s.io/v1/namespaces/{service['namespace']}/endpointslices"
    while any(item.get("endpoints") for item in listed(request, path, f"kubernetes.io/service-name={service['name']}")):
        if time.monotonic() > end:
            raise StepError(f"the Service {service['name']} still leads to a pod after {SETTLED:.0f} s")
        time.sleep(PAUSE / 4)
    time.sleep(PAUSE)  # until the nodes know
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + step["seconds"]))
    annotations = {"summary": "A drill's test alert; nobody is to do anything."}
    alert = {"labels": step["labels"], "annotations": annotations, "endsAt": ends}
    ask(request, "POST", step["path"], [alert], gone_ok=False)


def said(text: str) -> str:
    """What a Status of the API server says, with its causes; else the text itself."""
    try:
        found = json.loads(text)
        causes = (found.get("details") or {}).get("causes") or []
        words = [found["message"], *(cause["message"] for cause in causes if cause.get("message"))]
    except (ValueError, KeyError, AttributeError):
        words = [text]
    return " ".join(" ".join(words).split())[:300]


def evict_pod(request: Request, namespace: str, name: str, dry: bool = False) -> str:
    """Ask for the eviction of a pod; return why it is refused for now, empty when it is not.

    :param dry: ask only whether it would be.
    :raises StepError: where it is refused in any case.
    """
    body: dict[str, Any] = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    if dry:
        body["deleteOptions"] = {"dryRun": ["All"]}
    status, text = request("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body, {})
    if status == 404 or 200 <= status < 300:
        return ""
    if status == 429:
        return said(text)
    raise StepError(f"the pod {name} can't be evicted, the answer was {status or 'nothing'}: {said(text)}")


def do_evict(step: Step, request: Request) -> None:
    """Evict pods as `kubectl drain` does: one that a PodDisruptionBudget keeps is asked for again."""
    left, end = list(step["names"]), time.monotonic() + step["seconds"]
    while True:
        refused = {name: why for name in left if (why := evict_pod(request, step["namespace"], name))}
        if not refused:
            return
        if time.monotonic() > end:
            name, why = next(iter(refused.items()))
            raise StepError(f"the pod {name} could not be evicted within {step['seconds']:.0f} s: {why}")
        left = list(refused)
        time.sleep(PAUSE)


def do_start_node(step: Step, request: Request) -> None:
    """Only the machine that runs a lost node can start it, which the drill does there; here it is awaited."""
    found = ask(request, "GET", f"/api/v1/nodes/{step['node']}")
    if found is not None and not ready_node(found):
        raise StepError(f"the node {step['node']} is lost: start it on the machine that runs it, as `make up` does")


Steps = dict[str, Callable[[Step, Request], None]]
DO: Steps = {
    "patch": do_patch,
    "put_back": do_put_back,
    "owners": do_owners,
    "delete_pods": do_delete_pods,
    "evict": do_evict,
    "switch": do_switch,
    "history": do_history,
    "alert": do_alert,
    "start_node": do_start_node,
}


def run(steps: list[Step], request: Request, do: Steps = DO) -> None:
    """Do the steps in their order.

    :raises StepError: at the first that the cluster did not do.
    """
    for step in steps:
        do[step["do"]](step, request)


def undo(steps: list[Step], request: Request, do: Steps = DO) -> list[str]:
    """Do every step, whatever becomes of the others; return what went wrong."""
    problems = []
    for step in steps:
        try:
            do[step["do"]](step, request)
        except StepError as error:
            problems.append(str(error))
    return problems


def lease_path(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}"


def record_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{RECORD}"


def encoded(value: Any) -> str:
    """A value as a Secret holds it."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def now() -> str:
    """The time as a Lease has it."""
    nanoseconds = time.time_ns()
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    return f"{text}.{nanoseconds // 1000 % 10**6:06d}Z"


def take_over(namespace: str, lease: dict[str, Any], holder: str, request: Request) -> bool:
    """Become the holder of a lease that nobody has touched since it was read."""
    spec = lease["spec"]
    body = [
        {"op": "test", "path": "/spec/holderIdentity", "value": spec.get("holderIdentity")},
        {"op": "test", "path": "/spec/renewTime", "value": spec.get("renewTime")},
        {"op": "add", "path": "/spec/holderIdentity", "value": holder},
        {"op": "add", "path": "/spec/renewTime", "value": now()},
    ]
    status, _text = request("PATCH", lease_path(namespace), body, {"Content-Type": PATCH})
    return 200 <= status < 300


def recorded(namespace: str, request: Request, key: str = "undo") -> Any:
    """What the record says: under ``undo`` the steps that undo what is broken at present, and under ``app`` of whom.

    :raises StepError: where it can't be read.
    """
    found = ask(request, "GET", record_path(namespace))
    text = ((found or {}).get("data") or {}).get(key)
    try:
        return json.loads(base64.b64decode(text)) if text else []
    except ValueError as error:
        raise StepError(f"the record in namespace {namespace} is not what a drill writes") from error


def watch(namespace: str, request: Request, say: Callable[[str], None], pause: Callable[[float], Any]) -> None:
    """Wait until the drill's lease is no longer renewed, undo what is recorded, and remove the drill's namespace.

    Time is counted from the moment at which a renewal was seen here, so that no two clocks need agree.
    """
    ask(request, "PATCH", lease_path(namespace), {"metadata": {"annotations": {ARMED: now()}}}, MERGE)
    seen, since = None, time.monotonic()
    say("armed")
    while True:
        status, text = request("GET", lease_path(namespace), None, {})
        if status == 404:
            say("the drill has ended")
            return
        if status == 200:
            lease = json.loads(text)
            spec = lease["spec"]
            if spec.get("renewTime") != seen:
                seen, since = spec.get("renewTime"), time.monotonic()
            elif time.monotonic() - since > spec["leaseDurationSeconds"] and take_over(namespace, lease, "dead-man", request):
                break
        pause(PAUSE)
    say(f"the lease was not renewed for {time.monotonic() - since:.0f} s: restoring")
    while True:
        try:
            problems = undo(recorded(namespace, request), request)
            if not problems:
                # The drill's rights in other namespaces belong to this one and go with it.
                ask(request, "DELETE", f"/api/v1/namespaces/{namespace}")
                say("restored")
                return
        except (StepError, ValueError) as error:
            problems = [str(error)]
        for problem in problems:
            say(problem)
        pause(PAUSE)


def in_cluster(folder: str = "/var/run/secrets/kubernetes.io/serviceaccount") -> Request:
    """Requests with the pod's own account; by address, so that they work without a cluster's DNS."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    base = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    trust = ssl.create_default_context(cafile=f"{folder}/ca.crt")

    def request(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        with open(f"{folder}/token", encoding="utf-8") as file:  # it is renewed while the pod runs
            sent = {"Authorization": f"Bearer {file.read().strip()}", "Accept": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        try:
            asked = urllib.request.Request(base + path, data, sent, method=method)
            with urllib.request.urlopen(asked, timeout=10, context=trust) as reply:
                return int(reply.status), reply.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            return 0, str(error)

    return request


def main() -> None:
    """Run in the pod; the argument is the drill's namespace."""
    watch(sys.argv[1], in_cluster(), lambda text: print(text, flush=True), time.sleep)


if __name__ == "__main__":
    main()
