# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host and path leads where, as Ingresses and HTTPRoutes say: functions over plain data. Private to this collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

INGRESSES = "/apis/networking.k8s.io/v1/namespaces/{}/ingresses"
GATEWAY_API = "/apis/gateway.networking.k8s.io/v1"
GRANTS = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/{}/referencegrants"  # the version that every release serves
PORTS = {"http": 80, "https": 443}
# The status and the object at a path.
Read = Callable[[str], tuple[int, Json]]


@dataclass(frozen=True)
class Backend:
    """Where a request goes: a port, a number or a name, of a Service."""

    namespace: str
    service: str
    port: int | str


@dataclass(frozen=True)
class Doorway:
    """One host and path of an Ingress or HTTPRoute, and where it leads.

    :param host: empty for any; may begin with ``*.``. :param how: the type of the path, in the API's words.
    :param backends: none where the object answers itself, such as by a redirect.
    """

    item: Json
    kind: str
    host: str
    path: str
    how: str
    backends: tuple[Backend, ...]

    @property
    def name(self) -> str:
        return f"{self.kind} {self.item['metadata']['name']}"

    def leads_to(self, namespace: str, service: str) -> bool:
        return any((backend.namespace, backend.service) == (namespace, service) for backend in self.backends)


def ways_of_ingress(item: Json) -> list[Doorway]:
    """The ways of an Ingress."""
    spec, space = item.get("spec", {}), item["metadata"].get("namespace", "")

    def backends(found: Json | None) -> tuple[Backend, ...]:
        service = (found or {}).get("service")
        port = (service or {}).get("port") or {}
        return (Backend(space, service["name"], port.get("number") or port.get("name", "")),) if service else ()

    ways = [
        Doorway(item, "Ingress", rule.get("host") or "", path.get("path") or "/", path["pathType"], backends(path.get("backend")))
        for rule in spec.get("rules") or []
        for path in (rule.get("http") or {}).get("paths") or []
    ]
    default = backends(spec.get("defaultBackend"))
    return ways + ([Doorway(item, "Ingress", "", "/", "Prefix", default)] if default else [])


def httproutes(read: Read, namespace: str) -> list[Json]:
    """The HTTPRoutes of a cluster, or of a namespace where the account may not see more; none without the Gateway API."""
    status, found = read(f"{GATEWAY_API}/httproutes")
    if status == 403:
        found = read(f"{GATEWAY_API}/namespaces/{namespace}/httproutes")[1]
    return found.get("items") or []


def ways_of_route(item: Json) -> list[Doorway]:
    """The ways of an HTTPRoute; what is for some methods, headers or queries alone is none."""
    spec, space = item.get("spec", {}), item["metadata"].get("namespace", "")
    ways = []
    for rule in spec.get("rules") or []:
        backends = tuple(
            Backend(ref.get("namespace") or space, ref["name"], ref.get("port") or 0)
            for ref in rule.get("backendRefs") or []
            if ref.get("kind", "Service") == "Service" and ref.get("weight") != 0
        )
        for match in rule.get("matches") or [{}]:
            path = match.get("path") or {}
            how = {"PathPrefix": "Prefix"}.get(path.get("type", "PathPrefix"), path.get("type", ""))
            if match.get("headers") or match.get("queryParams") or match.get("method", "GET") != "GET":
                continue
            for host in spec.get("hostnames") or [""]:
                ways.append(Doorway(item, "HTTPRoute", host, path.get("value") or "/", how, backends))
    return ways


def covers_host(pattern: str, name: str, labels: bool = True) -> bool:
    """Whether the host of a way takes a name.

    :param labels: whether ``*`` stands for any number of labels, as in the Gateway API, or for one.
    """
    if not pattern.startswith("*."):
        return pattern in ("", name)
    front = name.removesuffix(pattern[1:])
    return front not in ("", name) and (labels or "." not in front)


def covers_path(way: Doorway, path: str) -> bool:
    """Whether the path of a way takes a path; of a type that only the controller understands the text has to begin alike."""
    if way.how == "Exact":
        return path == way.path
    if way.how == "Prefix":
        return f"{path.rstrip('/')}/".startswith(f"{way.path.rstrip('/')}/")
    return way.how == "RegularExpression" or path.startswith(way.path)


def of_host(ways: list[Doorway], host: str) -> list[Doorway]:
    """The ways of the most specific host that takes a name."""
    taking = [way for way in ways if covers_host(way.host, host, way.kind == "HTTPRoute")]
    best = max((_rank(way.host) for way in taking), default=None)
    return [way for way in taking if _rank(way.host) == best]


def _rank(host: str) -> tuple[bool, int]:
    """How much a host says."""
    return bool(host) and not host.startswith("*"), len(host)


def of_path(ways: list[Doorway], path: str) -> list[Doorway]:
    """The ways that take a path best: an exact one, or the longest."""
    taking = [way for way in ways if covers_path(way, path)]
    best = max(((way.how == "Exact", len(way.path)) for way in taking), default=None)
    return [way for way in taking if (way.how == "Exact", len(way.path)) == best]


def secret_of(ingress: Json, host: str) -> str | None:
    """The Secret with the certificate of a host; empty where the controller has one of its own, None without TLS."""
    for entry in ingress.get("spec", {}).get("tls") or []:
        if any(covers_host(name, host, labels=False) for name in entry.get("hosts") or [""]):
            return str(entry.get("secretName") or "")
    return None


def listener_of(gateway: Json, parent: Json, host: str) -> Json | None:
    """The listener of a Gateway that takes a host of a route, one with TLS before others.

    :param parent: the route's reference to the Gateway.
    """
    taking = [
        listener
        for listener in gateway.get("spec", {}).get("listeners") or []
        if listener.get("protocol") in ("HTTP", "HTTPS")
        and parent.get("sectionName") in (None, "", listener["name"])
        and parent.get("port") in (None, listener["port"])
        and covers_host(listener.get("hostname") or "", host)
    ]
    return next((one for one in taking if one["protocol"] == "HTTPS"), taking[0] if taking else None)


def parents_of(route: Json) -> list[Json]:
    """The references of an HTTPRoute to Gateways."""
    return [parent for parent in route.get("spec", {}).get("parentRefs") or [] if parent.get("kind", "Gateway") == "Gateway"]


def gateway_path(route: Json, parent: Json) -> str:
    """Where the Gateway is to which an HTTPRoute refers."""
    space = parent.get("namespace") or route["metadata"].get("namespace", "")
    return f"{GATEWAY_API}/namespaces/{space}/gateways/{parent['name']}"


def url(scheme: str, host: str, port: int, path: str = "") -> str:
    """An address; the port is there where it is not that of the scheme."""
    return f"{scheme}://{host}{'' if PORTS[scheme] == port else f':{port}'}{path}"
