# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where applications are reached from outside, as their cluster says. Private to this collection."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from ..app.description import outside_path
from ..kube import front
from ..kube.objects import Objects
from ..kube.transport import ApiError, KubeError

HEALTH = "/health"
# What a check says for the search of its address, and no provider is told.
PLACE = ("app", "namespace", "path")


def of_ingresses(ingresses: list[dict[str, Any]], namespace: str, service: str, path: str) -> list[str]:
    """The addresses of the Ingresses' hosts that lead to a Service: first those that take a path, and of these https."""

    def schemed(way: front.Doorway) -> list[str]:
        return [f"{'http' if front.secret_of(way.item, way.host) is None else 'https'}://{way.host}"]

    return _sorted([way for item in ingresses for way in front.ways_of_ingress(item)], (namespace, service), path, schemed)


def of_routes(objects: Objects, namespace: str, service: str, path: str) -> list[str]:
    """The addresses of the HTTPRoutes' hosts that lead to a Service, in the same order.

    The listener of a Gateway that may not be read counts as one with TLS.
    """

    def schemed(way: front.Doorway) -> list[str]:
        urls = []
        for parent in front.parents_of(way.item):
            gateway = objects.ask(front.gateway_path(way.item, parent))[1]
            listener = front.listener_of(gateway, parent, way.host) or {"protocol": "HTTPS", "port": 443}
            urls.append(front.url(listener["protocol"].lower(), way.host, listener["port"]))
        return urls

    ways = [way for item in front.httproutes(objects.ask, namespace) for way in front.ways_of_route(item)]
    return _sorted(ways, (namespace, service), path, schemed)


def _sorted(
    ways: list[front.Doorway], service: tuple[str, str], path: str, schemed: Callable[[front.Doorway], list[str]]
) -> list[str]:
    """The addresses of the ways to a Service that have one name, those first that take a path."""
    named = [way for way in ways if way.leads_to(*service) and way.host and not way.host.startswith("*")]
    found = {(front.covers_path(way, path), url) for way in named for url in schemed(way)}
    return list(dict.fromkeys(url for _, url in sorted(found, reverse=True)))


def of_service(service: dict[str, Any]) -> str:
    """The address that a load balancer gave a Service; empty where it has none."""
    for entry in (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or []:
        host, first = entry.get("hostname") or entry.get("ip") or "", service["spec"]["ports"][0]
        name, port = f"[{host}]" if ":" in host else host, first["port"]
        scheme = "https" if port == 443 or first.get("appProtocol") == "https" else "http"
        return front.url(scheme, name, port)
    return ""


def find(objects: Objects, check: dict[str, Any], namespace: str, seconds: int) -> str:
    """The url of a check that has none.

    :param namespace: of an application whose check names none.
    :param seconds: to wait at most for the address of a load balancer.
    :raises KubeError: where there is none, with the reason.
    """
    app, space = check.get("app") or check["name"], check.get("namespace") or namespace
    path, where = check.get("path") or HEALTH, f"for the check '{check['name']}'"
    try:
        ingresses = objects.request("GET", front.INGRESSES.format(space))["items"]
        if hosts := of_ingresses(ingresses, space, app, path) or of_routes(objects, space, app, path):
            return hosts[0] + path
        wanted = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": space}}
        service = objects.get(wanted)
        if service and service["spec"]["type"] == "LoadBalancer":
            service = awaited(objects, service, seconds)
    except ApiError as error:
        raise KubeError(
            f"The Ingresses and Services of namespace {space} can't be read ({error}):"
            " check that the cluster runs and that the account may read them."
        ) from error
    if service and (address := of_service(service)):
        return address + path
    kind = service["spec"]["type"] if service else ""
    reason = {"": "does not exist", "LoadBalancer": "has no load balancer address yet"}.get(
        kind, f"is of type {kind} and no Ingress or HTTPRoute with a host leads to it"
    )
    advice = "set the check's url, or make the application public"
    raise KubeError(f"No url is known {where}: Service {app} in namespace {space} {reason}; {advice}.")


def awaited(objects: Objects, service: dict[str, Any], seconds: int) -> dict[str, Any]:
    """A Service as soon as it has an address, or as it is after some seconds."""
    meta, deadline = service["metadata"], time.monotonic() + seconds
    while not of_service(service) and (left := int(deadline - time.monotonic())) > 0:
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={meta['name']}",
            "resourceVersion": service["metadata"]["resourceVersion"],
            "timeoutSeconds": str(left),
        }
        for line in objects.cluster.lines(f"/api/v1/namespaces/{meta['namespace']}/services?{urlencode(query)}", left + 5):
            event = json.loads(line)
            if event["type"] == "ERROR":  # the version is too old to watch from
                service = objects.request("GET", f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}")
                break
            service = event["object"]
            if of_service(service):
                break
    return service


def located(checks: list[dict[str, Any]], urls: dict[str, str], state: str = "present") -> list[dict[str, Any]]:
    """The checks for a provider: with the urls that were found, and without what only the search needs."""
    found = []
    for check in checks:
        known = {key: value for key, value in check.items() if key not in PLACE}
        if "url" not in known and check["name"] in urls:
            known["url"] = urls[check["name"]]
        found.append({**known, "state": "absent"} if state == "absent" else known)
    return found


def of_apps(apps: list[dict[str, Any]], *parts: str) -> list[dict[str, Any]]:
    """What each application lists as external_checks; absent for one that is.

    By default it is one check of its health, or of its page where nobody reaches the health check from outside.

    :param parts: what follows the application's name in the name of a check.
    """
    return [
        {
            "name": " ".join([app["name"], *parts]),
            "app": app["name"],
            "namespace": app["namespace"],
            "path": outside_path(app),
            "state": "present",
            **check,
            **({"state": "absent"} if app["state"] == "absent" else {}),
        }
        for app in apps
        for check in app["external_checks"]
    ]
