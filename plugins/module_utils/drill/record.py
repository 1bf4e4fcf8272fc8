# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a record in the cluster is one that a drill can have written.

Whoever may make a namespace may write a record, and the next drill would do with its user's rights what stands there. So a step
is done only where a plan could have made it: to the objects that the scenarios break, where they hold what the scenarios write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from ..kube.selectors import selector_of
from ..verify.log_agents import SELECTORS
from ..verify.log_stores import STORES
from .app import Options, differences
from .dead_man import Field, Request, Step, StepError, ask, value_at

NOBODY = {"flaskops/drill": "nowhere"}  # a selector that selects nothing
NOWHERE = "192.0.2.1"  # RFC 5737: an address for documentation, which nobody has
CRASHES = ["/flaskops-drill-crashes"]  # a command that does not exist
NOT_READY = {"httpGet": None, "exec": None, "grpc": None, "tcpSocket": {"port": 1}}  # a probe of a port where nobody listens
NO_NAMES = {"dnsPolicy": "None", "dnsConfig": {"nameservers": [NOWHERE]}}
SWITCHES = ("errors", "latency", "health", "crash", "memory", "logs")
ENGINES = ("podman", "docker")
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
    "Service": "/api/v1/namespaces/{}/services/{}",
}
ANY = object()  # in a patch: whatever
LIMIT, LONGER = ["spec", "revisionHistoryLimit"], 2  # what keeps a Deployment's history, and by how much while it is broken
NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
KEYS = {
    "put_back": {"do", "path", "uid", "fields"},
    "owners": {"do", "path", "uid", "value"},
    "history": {"do", "namespace", "resource", "selector", "owner", "fields"},
    "switch": {"do", "namespace", "selector", "port", "method", "path", "or_delete"},
    "delete_pods": {"do", "namespace", "selector", "waiting"},
    "start_node": {"do", "engine", "node"},
}


def out_of_memory(limit: str) -> dict[str, Any]:
    """The resources of a container that gets so much memory."""
    return {"limits": {"memory": limit}, "requests": {"memory": limit}}


def unresolved(host: str) -> dict[str, Any]:
    """The part of a pod's specification that leads a host to nowhere."""
    return {"hostAliases": [{"ip": NOWHERE, "hostnames": [host]}]}


def broken_template(spec: dict[str, Any], limit: Any = ANY) -> dict[str, Any]:
    """The patch of a Deployment that replaces all its pods at once, and keeps its history for so long."""
    strategy = {"type": "Recreate", "rollingUpdate": None}
    return {"spec": {"revisionHistoryLimit": limit, "strategy": strategy, "template": {"spec": spec}}}


def part_of(patch: Any, at: list[Any]) -> tuple[bool, Any]:
    """Whether a patch has a place, and what it has there."""
    for part in at:
        if isinstance(part, dict) and isinstance(patch, list):
            ((key, value),) = part.items()
            patch = next((item for item in patch if item.get(key) in (value, ANY)), None)
            if patch is None:
                return False, None
        elif isinstance(part, str) and isinstance(patch, dict) and part in patch:
            patch = patch[part]
        else:
            return False, None
    return True, patch


def wrote(patch: Any, value: Any) -> bool:
    """Whether a patch makes such a value; the API server may have added defaults, or what was there before."""
    if patch is ANY:
        return True
    if isinstance(patch, dict) and isinstance(value, dict):
        return all(wrote(inner, value.get(key)) for key, inner in patch.items())
    if isinstance(patch, list) and isinstance(value, list):
        return all(any(wrote(inner, item) for item in value) for inner in patch)
    return bool(patch == value)


class Record:
    """What the drills of one application can leave.

    :param own: the options of scenarios of the user's own.
    """

    def __init__(self, request: Request, options: Options, own: list[dict[str, Any]]) -> None:
        self.request, self.port = request, options.port
        name, namespace = options.name, options.namespace
        self.namespace, self.deployment = namespace, KINDS["Deployment"].format(namespace, name)
        specs: list[dict[str, Any]] = [
            {"containers": [{"name": ANY, "command": CRASHES}]},
            {"containers": [{"name": ANY, "readinessProbe": NOT_READY}]},
            {"containers": [{"name": ANY, "resources": out_of_memory(options.memory_limit)}]},
            NO_NAMES,
            unresolved(options.dependency),
        ]
        stopped, nobody = {"spec": {"replicas": 0}}, {"spec": {"selector": NOBODY}}
        somewhere = KINDS["StatefulSet"].format(NAME, NAME)
        operated = f"/apis/monitoring.coreos.com/v1/namespaces/{NAME}/"
        self.patches: list[tuple[str, dict[str, Any]]] = [
            *((re.escape(self.deployment), broken_template(spec)) for spec in specs),
            (re.escape(KINDS["Service"].format(namespace, name)), nobody),
            (KINDS["Service"].format(NAME, "alert-inbox"), nobody),
            (somewhere.replace("statefulsets", "daemonsets"), {"spec": {"template": {"spec": {"nodeSelector": NOBODY}}}}),
            (somewhere, stopped),
            *((f"{operated}{kind}/{NAME}", stopped) for kind in ("prometheuses", "alertmanagers")),
            (f"/api/v1/nodes/{NAME}", {"spec": {"unschedulable": True}}),
        ]
        self.own = {KINDS[item["kind"]].format(item.get("namespace") or namespace, item["object"]): item["patch"] for item in own}

    def refusal(self, steps: list[Step]) -> str:
        """Why one of the steps is none that a drill can have recorded; empty for all that are."""
        try:
            return next((reason for step in steps if (reason := self._step(step, steps))), "")
        except (KeyError, TypeError, ValueError, AttributeError):
            return "a step is malformed"
        except StepError as error:
            return f"it can't be compared with the cluster: {error}"

    def _step(self, step: Step, steps: list[Step]) -> str:
        do = step["do"]
        if KEYS.get(do) != set(step):
            return f"no step of a restoration is {do!r} with {', '.join(sorted(set(step) - {'do'})) or 'nothing'}"
        check: Callable[[Step, list[Step]], str] = getattr(self, f"_{do}")
        return check(step, steps)

    def _put_back(self, step: Step, _steps: list[Step]) -> str:
        path, fields = step["path"], step["fields"]
        known = [patch for pattern, patch in self.patches if re.fullmatch(pattern, path)]
        patches = known if self._is_watching(path) else []
        if path in self.own:
            patches = [*patches, self.own[path]]
        elif known and not patches:
            return f"{path} is no log back end and no log agent"
        for field in fields:
            places = [part_of(patch, field["at"]) for patch in patches]
            if set(field) != {"at", "wrote", "was"} or not any(there and wrote(part, field["wrote"]) for there, part in places):
                return f"no scenario makes {field['wrote']!r} of {field['at']} in {path}"
            # What a plan names is as small as it can be: what it leaves alone is in no field, and so is not put back either.
            smallest = differences(field["was"], field["wrote"]) == [{**field, "at": []}]
            if not smallest or (
                field["at"] == LIMIT and field["wrote"] != (10 if field["was"] is None else field["was"]) + LONGER
            ):
                return f"no scenario makes {field['wrote']!r} of {field['was']!r} at {field['at']} in {path}"
        return self._template(path, step["uid"], [field for field in fields if field["at"][:2] == ["spec", "template"]])

    def _is_watching(self, path: str) -> bool:
        """Whether a StatefulSet or DaemonSet is one that the scenarios stop, or is gone; all else need not be."""
        collection, _slash, name = path.rpartition("/")
        kind = collection.rpartition("/")[2]
        selectors = {"statefulsets": [store.pods for store in STORES.values()], "daemonsets": [SELECTORS[0]]}.get(kind)
        if selectors is None or ask(self.request, "GET", path) is None:
            return True
        queries = [urlencode({"labelSelector": selector, "fieldSelector": f"metadata.name={name}"}) for selector in selectors]
        return any((ask(self.request, "GET", f"{collection}?{query}") or {}).get("items") for query in queries)

    def _template(self, path: str, uid: str, fields: list[Field]) -> str:
        """A Deployment's pods are never made what they have not been: its history knows what they were."""
        if "/deployments/" not in path or not fields or ask(self.request, "GET", path) is None:
            return ""
        namespace = quote(path.split("/")[5])
        found = (ask(self.request, "GET", f"/apis/apps/v1/namespaces/{namespace}/replicasets") or {}).get("items") or []
        for item in found:
            owners = [owner["uid"] for owner in item["metadata"].get("ownerReferences") or []]
            if uid in owners and all(value_at(item, field["at"]) == field["was"] for field in fields):
                return ""
        return f"the pods of {path} have never been what they would become"

    def _owners(self, step: Step, steps: list[Step]) -> str:
        beside = [(other["path"], other["uid"]) for other in steps if other["do"] == "put_back"]
        named = all(isinstance(entry["manager"], str) for entry in step["value"])
        return "" if named and (step["path"], step["uid"]) in beside else f"nothing else of {step['path']} is put back"

    def _history(self, step: Step, steps: list[Step]) -> str:
        owner = [other for other in steps if other["do"] == "put_back" and other["uid"] == step["owner"]]
        beside = [field for other in owner for field in other["fields"]]
        known = step["resource"] in ("replicasets", "controllerrevisions") and re.fullmatch(NAME, step["namespace"])
        good = known and step["selector"] and step["fields"] and all(field in beside for field in step["fields"])
        return "" if good else f"nothing of the history of {step['owner']} is broken"

    def _pods(self, step: Step) -> str:
        live = ask(self.request, "GET", self.deployment)
        selector, namespace = step["selector"], step["namespace"]
        good = selector and namespace == self.namespace and (live is None or selector == selector_of(live))
        return "" if good else f"the pods {selector!r} in {namespace} are not the application's"

    def _switch(self, step: Step, _steps: list[Step]) -> str:
        known = step["path"] in [f"/faults/{name}" for name in SWITCHES] and step["or_delete"] is True
        if not known or step["method"] != "DELETE" or step["port"] != self.port:
            return f"{step['method']} {step['path']} at port {step['port']} takes no fault switch of the application back"
        return self._pods(step)

    def _delete_pods(self, step: Step, _steps: list[Step]) -> str:
        return self._pods(step) if step["waiting"] is True else "only pods that wait after a crash are replaced"

    def _start_node(self, step: Step, _steps: list[Step]) -> str:
        good = step["engine"] in ENGINES and re.fullmatch(NAME, step["node"])
        return "" if good else f"{step['engine']!r} starts no node {step['node']!r}"
