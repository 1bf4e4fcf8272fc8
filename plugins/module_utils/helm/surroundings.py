# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around releases: their namespace, its other releases, and the objects that roles keep beside them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, cast

from ..kube.objects import Objects, holds
from ..kube.selectors import Finder
from ..kube.transport import ApiError
from .release import OURS, STORES

Json = dict[str, Any]


def namespace_object(objects: Objects, name: str) -> Json:
    """A namespace without its managed fields; {} where it does not exist."""
    found = objects.get({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}) or {}
    found.get("metadata", {}).pop("managedFields", None)
    return found


def neighbour(objects: Objects, namespace: str, names: list[str]) -> str:
    """The name of one release in a namespace that is none of `names`, or ''."""
    query = {"labelSelector": "owner=helm" + (f",name notin ({','.join(names)})" if names else ""), "limit": "1"}
    for store in STORES:
        for record in objects.request("GET", f"/api/v1/namespaces/{namespace}/{store}", query)["items"]:
            return str(record["metadata"]["labels"]["name"])
    return ""


def owners(objects: Objects, namespace: str, references: list[Json]) -> dict[str, Any]:
    """Which of `references` are `ours` by their label, `others`' and `missing`; and the address of each Service that has one."""
    found: dict[str, Any] = {"ours": [], "others": [], "missing": [], "addresses": {}}
    for reference, live in zip(references, objects.each(lambda item: objects.get(item, namespace), references), strict=True):
        if live is None:
            found["missing"].append(reference)
            continue
        found["ours" if holds(live["metadata"].get("labels") or {}, OURS) else "others"].append(reference)
        for ingress in ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
            found["addresses"][live["metadata"]["name"]] = ingress.get("ip") or ingress.get("hostname")
    return found


def secret_digests(objects: Objects, namespace: str, names: list[str]) -> dict[str, dict[str, str]]:
    """The SHA-256 of every value of those Secrets that exist."""
    found = {}
    for name in names:
        live = objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}, namespace)
        if live is not None:
            values = {key: base64.b64decode(value) for key, value in (live.get("data") or {}).items()}
            found[name] = {key: hashlib.sha256(value).hexdigest() for key, value in values.items()}
    return found


def missing_keys(objects: Objects, namespace: str, wanted: list[Json]) -> list[Json]:
    """Those of `wanted`, which name a `secret` and a `key`, that are not there."""
    found = secret_digests(objects, namespace, sorted({item["secret"] for item in wanted}))
    return [item for item in wanted if item["key"] not in found.get(item["secret"], {})]


def monitors(objects: Objects) -> bool:
    """Whether the cluster knows the monitoring kinds of a Prometheus operator that roles make."""
    try:
        found = objects.request("GET", "/apis/monitoring.coreos.com/v1")
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return {item["kind"] for item in found["resources"]} >= {"ServiceMonitor", "PrometheusRule"}


def monitoring_labels(objects: Objects, name: str, namespace: Json) -> dict[str, str]:
    """The labels that a ServiceMonitor in a namespace needs, so that the Prometheus takes it; {} where none can do it."""
    item = {"kind": "ServiceMonitor", "metadata": {"namespace": name}}
    return Finder(objects).labels(item, namespace or {"metadata": {"name": name}})[0]


def running(objects: Objects, kind: str, selector: str, argument: str) -> list[str]:
    """The Deployments or StatefulSets of the whole cluster that have some labels, and that run a program with an argument."""
    plural = cast(tuple[str, bool], objects.resource("apps/v1", kind))[0]
    found = objects.request("GET", f"/apis/apps/v1/{plural}", {"labelSelector": selector} if selector else None)["items"]
    return [
        f"{live['metadata']['namespace']}/{live['metadata']['name']}"
        for live in found
        if not argument
        or any(argument in (container.get("args") or []) for container in live["spec"]["template"]["spec"]["containers"])
    ]


def authorities(objects: Objects, namespace: str, names: list[str]) -> dict[str, str]:
    """The certificate authorities in those Secrets that have one. A certificate that comes without is its own."""
    found = {}
    for name in names:
        live = objects.get({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}, namespace)
        data = (live or {}).get("data") or {}
        if text := data.get("ca.crt") or data.get("tls.crt"):
            found[name] = base64.b64decode(text).decode()
    return found
