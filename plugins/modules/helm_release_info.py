#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_release_info
short_description: What Helm releases are, whose they are, and what was changed behind Helm's back
version_added: 0.2.0
description:
  - Reads releases as Helm 3 stores them, without calling Helm and without fetching a chart.
  - Tells releases that this collection made or took over, which carry the mark of M(flaskops.observability.helm_release_repair),
    from those of somebody else.
  - Compares each object of a deployed release with the live one, by a server-side dry run, so that a hand-edited object is found.
    A release of somebody else's is not compared.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: This module changes nothing.
  idempotent:
    support: full
    description: This module changes nothing.
options:
  namespace:
    description:
      - Namespace of the releases.
    type: str
    required: true
  releases:
    description:
      - Names of the releases.
    type: list
    elements: str
    required: true
  charts:
    description:
      - Folders of charts; RV(chart_digests) tells whether a release was made of the same templates.
    type: list
    elements: path
    default: []
  secrets:
    description:
      - Names of Secrets in O(namespace); RV(secret_digests) has hashes of their values, so that a content can be compared unseen.
    type: list
    elements: str
    default: []
  signs:
    description:
      - What tells a release that this collection made before it marked releases.
    type: list
    elements: dict
    default: []
    suboptions:
      release:
        description: Name of the release.
        type: str
        required: true
      values:
        description: What its values say, and nobody else's do.
        type: dict
        required: true
      object:
        description: One of O(objects) that this collection keeps beside the release.
        type: dict
        required: true
  adopt:
    description:
      - Names of O(releases) that count as this collection's, whoever made them.
    type: list
    elements: str
    default: []
  objects:
    description:
      - Objects beside the releases, by C(apiVersion), C(kind) and C(metadata) with name and namespace.
        RV(objects) tells whose they are.
    type: list
    elements: dict
    default: []
  wait_timeout:
    description:
      - Seconds to wait at most until the Prometheus operator has taken note of every Prometheus and Alertmanager object
        of the releases, so that their StatefulSets exist in the newest form. V(0) does not wait.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Look at the monitoring releases
  flaskops.observability.helm_release_info:
    context: staging
    namespace: monitoring
    releases: [kube-prometheus-stack, blackbox-exporter]
"""

RETURN = r"""
namespace:
  description: The namespace object without its managed fields; empty where it does not exist.
  returned: success
  type: dict
releases:
  description:
    - For each release V(status), as Helm names it, or V(absent); and V(revision), V(age) in seconds, V(deployed) as a date,
      V(chart), V(chart_version), V(values), V(digest) of its templates, and whether it is V(marked) as this collection's.
  returned: success
  type: dict
foreign:
  description: For each release that is there and is somebody else's, its chart, revision and date in words.
  returned: success
  type: dict
  sample: {"kube-prometheus-stack": "chart kube-prometheus-stack 88.5.3, revision 4 of 2026-11-28 09:14 UTC"}
neighbour:
  description: The name of one more release in O(namespace), whoever made it; empty where O(releases) are all.
  returned: success
  type: str
objects:
  description:
    - Those of O(objects) that exist, as they were given.
      V(ours) carry the label C(app.kubernetes.io/managed-by=flaskops), V(others) do not.
  returned: success
  type: dict
drift:
  description: Objects that differ from what their release says, with the paths.
  returned: success
  type: list
  elements: str
  sample: ["Deployment monitoring/blackbox-exporter: spec.replicas"]
workloads:
  description: The Deployments, DaemonSets and StatefulSets that the releases lead to, with V(ready).
  returned: success
  type: list
  elements: dict
monitoring:
  description: Whether the cluster knows the kinds ServiceMonitor and PrometheusRule.
  returned: success
  type: bool
secret_digests:
  description: For each of O(secrets) that exists, the SHA-256 of each key's value.
  returned: success
  type: dict
chart_digests:
  description: The digest of each folder of O(charts), to be compared with a release's; empty where the folder holds no chart.
  returned: success
  type: dict
"""

import base64
import hashlib
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils._kube import KubeError, api_client
from ansible_collections.flaskops.observability.plugins.module_utils._objects import Objects, Refused, holds, label
from ansible_collections.flaskops.observability.plugins.module_utils._release import Release, folder_digest, neighbour
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful

POLL = 0.5  # seconds
OURS = {"app.kubernetes.io/managed-by": "flaskops"}
OPERATED = {"Prometheus": "prometheus", "Alertmanager": "alertmanager"}


def condition(live: dict[str, t.Any], kind: str) -> dict[str, t.Any]:
    """A condition of an object's status that is about its newest generation, or {}."""
    for item in (live.get("status") or {}).get("conditions") or []:
        if item["type"] == kind and item.get("observedGeneration", 0) >= live["metadata"].get("generation", 0):
            return dict(item)
    return {}


def ready(live: dict[str, t.Any]) -> bool:
    """Whether a workload, or an object that the operator turns into one, runs in full."""
    status, spec = live.get("status", {}), live["spec"]
    if live["kind"] in OPERATED:
        return condition(live, "Available").get("status") == "True" and condition(live, "Reconciled").get("status") == "True"
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0):
        return False
    if live["kind"] == "DaemonSet":
        counts = {
            status.get(k, 0) for k in ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable")
        }
        return len(counts) == 1
    return {status.get(k, 0) for k in ("updatedReplicas", "readyReplicas", "availableReplicas")} == {spec.get("replicas", 1)}


def workload(live: dict[str, t.Any]) -> dict[str, t.Any] | None:
    """The workload that an object is or leads to, or None."""
    kind, name = live["kind"], live["metadata"]["name"]
    if kind in OPERATED:
        kind, name = "StatefulSet", f"{OPERATED[kind]}-{name}"
    elif kind not in {"Deployment", "DaemonSet", "StatefulSet"}:
        return None
    return {"kind": kind, "name": name, "namespace": live["metadata"]["namespace"], "ready": ready(live)}


def secret_digests(objects: Objects, namespace: str, names: list[str]) -> dict[str, dict[str, str]]:
    """The SHA-256 of every value of those Secrets that exist."""
    found = {}
    for name in names:
        live = objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}, namespace)
        if live is not None:
            values = {key: base64.b64decode(value) for key, value in (live.get("data") or {}).items()}
            found[name] = {key: hashlib.sha256(value).hexdigest() for key, value in values.items()}
    return found


def owners(objects: Objects, namespace: str, references: list[dict[str, t.Any]]) -> dict[str, list[dict[str, t.Any]]]:
    """Those of `references` that exist: `ours` by their label, and `others`."""
    found: dict[str, list[dict[str, t.Any]]] = {"ours": [], "others": []}
    for reference, live in zip(references, objects.each(lambda item: objects.get(item, namespace), references), strict=True):
        if live is not None:
            found["ours" if holds(live["metadata"].get("labels") or {}, OURS) else "others"].append(reference)
    return found


def known(name: str, release: dict[str, t.Any], signs: list[dict[str, t.Any]], ours: list[dict[str, t.Any]]) -> bool:
    """Whether a release is one that this collection made before it marked them."""
    return any(sign["release"] == name and sign["object"] in ours and holds(release["values"], sign["values"]) for sign in signs)


def wait_reconciled(objects: Objects, operated: list[dict[str, t.Any]], seconds: int) -> None:
    """Wait until the operator has taken note of each object.

    :raises KubeError: with the operator's own words, when it has not in time.
    """
    pause, deadline = threading.Event(), time.monotonic() + seconds
    for item in operated:
        while True:
            live = objects.get(item)
            if live is None:
                raise KubeError(f"There is no {label(item)} any more: somebody removed it while its release was installed.")
            seen = condition(live, "Reconciled")
            if seen.get("status") == "True":
                break
            if time.monotonic() > deadline:
                said = f"it says: {seen['message']}" if seen.get("message") else "see the operator's log"
                raise KubeError(f"The Prometheus operator did not reconcile {label(item)} in {seconds} s; {said}.")
            pause.wait(POLL)


def monitors(objects: Objects) -> bool:
    """Whether the cluster knows the monitoring kinds of a Prometheus operator that roles make."""
    try:
        found = objects.request("GET", "/apis/monitoring.coreos.com/v1")
    except Refused as refused:
        if refused.status != 404:
            raise
        return False
    return {item["kind"] for item in found["resources"]} >= {"ServiceMonitor", "PrometheusRule"}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "namespace": {"type": "str", "required": True},
            "releases": {"type": "list", "elements": "str", "required": True},
            "charts": {"type": "list", "elements": "path", "default": []},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},  # their names
            "signs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "release": {"type": "str", "required": True},
                    "values": {"type": "dict", "required": True},
                    "object": {"type": "dict", "required": True},
                },
            },
            "adopt": {"type": "list", "elements": "str", "default": []},
            "objects": {"type": "list", "elements": "dict", "default": []},
            "wait_timeout": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        objects = Objects(api_client(params["kubeconfig"] or "", params["context"] or ""))
        try:
            namespace = objects.request("GET", f"/api/v1/namespaces/{params['namespace']}")
            namespace["metadata"].pop("managedFields", None)
        except Refused as refused:
            if refused.status != 404:
                raise
            namespace = {}
        beside = owners(objects, params["namespace"], params["objects"])
        releases: dict[str, t.Any] = {}
        foreign: dict[str, str] = {}
        drift, workloads = [], []
        for name in params["releases"]:
            if not namespace:
                releases[name] = {"status": "absent"}
                continue
            release = Release(objects, params["namespace"], name)
            info = releases[name] = release.info()
            ours = info["status"] == "absent" or info["marked"] or name in params["adopt"]
            if not ours and not known(name, info, params["signs"], beside["ours"]):
                foreign[name] = release.describe()
                continue
            compared = release.compare()
            if params["wait_timeout"]:
                operated = [found["live"] for found in compared if found["live"] and found["item"]["kind"] in OPERATED]
                wait_reconciled(objects, operated, params["wait_timeout"])
                compared = release.compare()
            drift += [f"{label(found['item'])}: {', '.join(found['paths'])}" for found in compared if found["paths"]]
            workloads += [made for found in compared if found["live"] and (made := workload(found["live"]))]
        hashes = secret_digests(objects, params["namespace"], params["secrets"])
        monitoring = monitors(objects)
        other = neighbour(objects, params["namespace"], params["releases"]) if namespace else ""
    except KubeError as error:
        module.fail_json(msg=str(error))
    digests = {folder: folder_digest(folder) for folder in params["charts"]}
    module.exit_json(
        changed=False,
        namespace=namespace,
        releases=releases,
        foreign=foreign,
        neighbour=other,
        objects=beside,
        drift=drift,
        workloads=workloads,
        monitoring=monitoring,
        secret_digests=hashes,
        chart_digests=digests,
    )


if __name__ == "__main__":
    careful(main)()
