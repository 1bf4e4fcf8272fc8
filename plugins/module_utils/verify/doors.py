# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an Ingress or HTTPRoute leads a host to the app, as the cluster's objects say: judgements of what they hold."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from ..kube import front
from ..kube.front import Doorway, Json, Read
from . import certificates, facts

CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
OLD_CLASS = "kubernetes.io/ingress.class"


class Broken(Exception):
    """The way is broken; the message is the cause."""


@dataclass(frozen=True)
class Behind:
    """The app to which a door has to lead."""

    namespace: str
    name: str
    port: int
    service: Json
    container: Json


@dataclass
class Door:
    """A way that holds as far as objects tell, and where it is asked.

    :param addresses: what its controller has given it; none where that may not be read. :param notes: what was not seen.
    :param unserved: why its controller seems not to serve it, which the name alone can disprove: some give no address.
    """

    way: Doorway
    scheme: str
    port: int
    addresses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unserved: str = ""


def find(ways: list[Doorway], app: Behind, host: str, path: str) -> Doorway:
    """The way of a host and a path to the app.

    :raises Broken: where there is none.
    """
    taking = front.of_host(ways, host)
    if not taking:
        own = [way for way in ways if way.leads_to(app.namespace, app.name)]
        others = ", ".join(dict.fromkeys(f"{way.name} has {way.host or 'no host'}" for way in own)) or "none leads to the app"
        raise Broken(f"no Ingress and no HTTPRoute has the host {host}: {others}")
    found = front.of_path(taking, path)
    if not found:
        paths = ", ".join(dict.fromkeys(way.path for way in taking))
        raise Broken(f"{taking[0].name} takes {host} at the path {paths} only, and not at {path}")
    way = next((one for one in found if one.leads_to(app.namespace, app.name)), found[0])
    backend = next((one for one in way.backends if (one.namespace, one.service) == (app.namespace, app.name)), None)
    if backend is None:
        others = ", ".join(f"the Service {one.namespace}/{one.service}" for one in way.backends) or "no Service"
        raise Broken(f"{way.name} leads {host}{path} to {others}, and not to the app's Service {app.name}")
    ports = app.service.get("spec", {}).get("ports") or []
    entry = next((one for one in ports if backend.port in (one["port"], one.get("name"))), None)
    if entry is None:
        there = ", ".join(str(one["port"]) for one in ports) or "none"
        raise Broken(f"{way.name} leads to the port {backend.port} of the Service {app.name}, which has {there}")
    if facts.port_entry({"spec": {"ports": [entry]}}, app.port, app.container) is None:
        target = entry.get("targetPort", entry["port"])
        raise Broken(
            f"{way.name} leads to the port {backend.port} of the Service {app.name}, whose target is {target} and not {app.port}"
        )
    return way


def opened(way: Doorway, host: str, read: Read) -> Door:
    """What a controller makes of a way.

    :param read: other statuses than 200 and 404 say that something may not be read.
    :raises Broken: where nobody serves it, or it lacks what it refers to.
    """
    return _of_ingress(way, host, read) if way.kind == "Ingress" else _of_route(way, host, read)


def _of_ingress(way: Doorway, host: str, read: Read) -> Door:
    status = (way.item.get("status") or {}).get("loadBalancer") or {}
    addresses = [entry.get("ip") or entry.get("hostname") or "" for entry in status.get("ingress") or []]
    unclassed = _check_class(way, bool(addresses), read)
    secret = front.secret_of(way.item, host)
    scheme = "http" if secret is None else "https"
    door = Door(way, scheme, front.PORTS[scheme], list(filter(None, addresses)))
    if secret:
        door.notes += _check_secret(way.item["metadata"]["namespace"], secret, host, read)
    if not door.addresses:
        door.unserved = unclassed or f"no controller has given {way.name} an address"
    return door


def _check_class(way: Doorway, served: bool, read: Read) -> str:
    """Why nobody's class takes an Ingress that names none; empty where one may.

    :raises Broken: where its class is not there.
    """
    meta, spec = way.item["metadata"], way.item.get("spec", {})
    if name := spec.get("ingressClassName"):
        if read(f"{CLASSES}/{name}")[0] == 404:
            raise Broken(f"{way.name} is of the class {name}, which the cluster does not have")
    elif not served and OLD_CLASS not in (meta.get("annotations") or {}):
        status, found = read(CLASSES)
        notes = [item["metadata"].get("annotations") or {} for item in found.get("items") or []]
        if status == 200 and not any(each.get(DEFAULT_CLASS) == "true" for each in notes):
            return f"{way.name} names no class, and the cluster has no default one"
    return ""


def _check_secret(namespace: str, name: str, host: str, read: Read) -> list[str]:
    """Notes about the Secret of a host's certificate.

    :raises Broken: where it is not there, or not good for the host.
    """
    status, secret = read(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if status == 404:
        raise Broken(f"the Secret {namespace}/{name} with the certificate of {host} does not exist")
    if status != 200:
        return [f"the Secret {name} may not be read"]
    data = secret.get("data") or {}
    if secret.get("type") != "kubernetes.io/tls" or not data.get("tls.key"):
        raise Broken(
            f"the Secret {namespace}/{name} is of the type {secret.get('type')} or lacks tls.key: a door needs kubernetes.io/tls"
        )
    try:
        found = certificates.first(base64.b64decode(data.get("tls.crt", "")).decode())
    except (ValueError, binascii.Error) as error:
        raise Broken(f"the Secret {namespace}/{name} holds no certificate in tls.crt") from error
    if wrong := certificates.trouble(found, host):
        raise Broken(f"the certificate in the Secret {namespace}/{name} {wrong}")
    return [f"certificate until {found.until:%Y-%m-%d}"]


def _of_route(way: Doorway, host: str, read: Read) -> Door:
    parents = front.parents_of(way.item)
    if not parents:
        raise Broken(f"{way.name} is attached to no Gateway")
    _check_grants(way, read)
    doors = [_of_parent(way, parent, host, read) for parent in parents]
    return min(doors, key=lambda door: (not door.unserved, door.scheme != "https"))


def _check_grants(way: Doorway, read: Read) -> None:
    """A route leads to a Service in another namespace only where that namespace says so."""
    own = way.item["metadata"]["namespace"]
    for backend in way.backends:
        if backend.namespace == own:
            continue
        status, found = read(front.GRANTS.format(backend.namespace))
        if status == 200 and not any(_grants(item["spec"], own, backend.service) for item in found.get("items") or []):
            refused = f"{way.name} of namespace {own} may not lead to the Service {backend.namespace}/{backend.service}"
            raise Broken(f"{refused}: no ReferenceGrant says so")


def _grants(spec: Json, namespace: str, service: str) -> bool:
    group = front.GATEWAY_API.split("/")[2]
    allowed = {"group": group, "kind": "HTTPRoute", "namespace": namespace}
    to = [item for item in spec.get("to") or [] if (item.get("group"), item.get("kind")) == ("", "Service")]
    return allowed in (spec.get("from") or []) and any(item.get("name") in (None, "", service) for item in to)


def _of_parent(way: Doorway, parent: Json, host: str, read: Read) -> Door:
    space = parent.get("namespace") or way.item["metadata"]["namespace"]
    name = f"Gateway {space}/{parent['name']}"
    status, gateway = read(front.gateway_path(way.item, parent))
    if status == 404:
        raise Broken(f"{way.name} is attached to {name}, which does not exist")
    said = [one for one in (way.item.get("status") or {}).get("parents") or [] if _is(one.get("parentRef") or {}, parent, space)]
    if not said:
        raise Broken(f"no controller says that {name} takes {way.name}")
    generation = way.item["metadata"].get("generation", 0)
    for condition in ("Accepted", "ResolvedRefs"):
        _check_condition(
            f"{way.name} at {name}", [one for each in said for one in each.get("conditions") or []], condition, generation
        )
    if status != 200:
        return Door(way, "https", front.PORTS["https"], notes=[f"{name} may not be read"])
    listener = front.listener_of(gateway, parent, host)
    if listener is None:
        raise Broken(f"no listener of {name} takes the host {host}")
    live = gateway.get("status") or {}
    for one in live.get("listeners") or []:
        if one["name"] == listener["name"]:
            _check_condition(f"the listener {one['name']} of {name}", one.get("conditions") or [], "ResolvedRefs")
    addresses = [entry["value"] for entry in live.get("addresses") or []]
    door = Door(way, listener["protocol"].lower(), listener["port"], addresses)
    if not addresses:
        door.unserved = f"no controller has given {name} an address"
    refs = (listener.get("tls") or {}).get("certificateRefs") or [] if door.scheme == "https" else []
    for ref in [ref for ref in refs if ref.get("kind", "Secret") == "Secret"]:
        door.notes += _check_secret(ref.get("namespace") or space, ref["name"], host, read)
    return door


def _is(said: Json, parent: Json, namespace: str) -> bool:
    """Whether a status is about a route's reference to a Gateway."""
    same = (said.get("name"), said.get("namespace") or namespace) == (parent["name"], namespace)
    return same and all(said.get(key) in (None, parent.get(key)) for key in ("sectionName", "port"))


def _check_condition(what: str, conditions: list[dict[str, Any]], wanted: str, generation: int = 0) -> None:
    found = [one for one in conditions if one["type"] == wanted]
    for one in found:
        if one["status"] != "True":
            said = ": ".join(filter(None, (one.get("reason"), one.get("message"))))
            raise Broken(f"{what} is not {wanted}: {said}")
        if one.get("observedGeneration", generation) < generation:
            raise Broken(f"{what}: its newest version has not been seen by its controller yet")
    if not found and generation:
        raise Broken(f"no controller says of {what} whether it is {wanted}")
