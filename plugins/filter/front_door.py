# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: front_door
short_description: Make an Ingress or HTTPRoutes of host names
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes of the names by which users reach an application the objects that lead them to its Service.
options:
  _input:
    description: The hosts, each with C(name), and perhaps C(path) and C(tls_secret).
    type: list
    elements: dict
    required: true
  name:
    description: Name of the application's Service.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    required: true
  ports:
    description: Ports of the Service, in Kubernetes' words.
    type: list
    elements: dict
    required: true
  port:
    description: Port of the application, to which a port of the Service without C(targetPort) leads.
    type: int
    required: true
  ingress_class:
    description: Class of the Ingress; empty for the cluster's default.
    type: str
    default: ""
  tls_issuer:
    description: Issuer of cert-manager, with C(name) and perhaps C(kind).
    type: dict
    default: {}
  gateway:
    description: Gateway of HTTPRoutes in the place of an Ingress, with C(name), and perhaps C(namespace) and C(section).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Lead shop.example.com to the Service shop
  ansible.builtin.debug:
    msg: >-
      {{ [{'name': 'shop.example.com', 'tls_secret': 'shop-tls'}]
         | flaskops.observability.front_door(name='shop', namespace='shop', ports=[{'port': 80}], port=5000) }}
"""

RETURN = r"""
_value:
  description: >-
    C(objects), each with C(apiVersion), C(kind), C(name), C(annotations) and C(spec), C(secrets) that have to be there, as
    M(flaskops.observability.objects) takes them, and C(problem), what can't be used; empty for nothing.
  type: dict
"""

import re
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
CLUSTER_ISSUER = "ClusterIssuer"
HOST = re.compile(rf"(\*\.)?{LABEL}(\.{LABEL})*")


def front_door(
    hosts: list[Json],
    name: str,
    namespace: str,
    ports: list[Json],
    port: int,
    ingress_class: str = "",
    tls_issuer: Json | None = None,
    gateway: Json | None = None,
) -> Json:
    """The objects that lead *hosts* to a Service, the Secrets that they need, and what of the options can't be used."""
    issuer, gateway = tls_issuer or {}, gateway or {}
    default = f"{name}-tls" if issuer else ""
    full = [{**host, "path": host.get("path") or "/", "tls_secret": host.get("tls_secret") or default} for host in hosts]
    secrets = list(dict.fromkeys(host["tls_secret"] for host in full if host["tls_secret"]))
    found: Json = {"objects": [], "secrets": [], "problem": problem(full, ingress_class, secrets, issuer, gateway)}
    if found["problem"] or not hosts:
        return found
    own = [entry["port"] for entry in ports if entry.get("targetPort", port) in (port, "http")]
    to = own[0] if own else port
    if gateway:
        return {**found, "objects": routes(full, name, namespace, to, gateway)}
    kind = "issuer" if issuer.get("kind") == "Issuer" else "cluster-issuer"
    made = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "name": name,
        "annotations": {f"cert-manager.io/{kind}": issuer["name"]} if issuer else {},
        "spec": {
            **({"ingressClassName": ingress_class} if ingress_class else {}),
            "tls": [{"secretName": secret, "hosts": names(full, "tls_secret", secret)} for secret in secrets],
            "rules": [rule(full, host, name, to) for host in dict.fromkeys(host["name"] for host in full)],
        },
    }
    pair = {"keys": ["tls.crt", "tls.key"], "type": "kubernetes.io/tls"}
    needed = [{"name": secret, "namespace": namespace, **pair} for secret in secrets if not issuer]
    return {**found, "objects": [made], "secrets": needed}


def problem(hosts: list[Json], ingress_class: str, secrets: list[str], issuer: Json, gateway: Json) -> str:
    """What of the options can't be used, and what to do; empty for nothing."""
    for host in hosts:
        if not HOST.fullmatch(host["name"]):
            return f"hosts has the name {host['name']}: use one such as shop.example.com or *.example.com"
        if not host["path"].startswith("/"):
            return f"hosts has the path {host['path']}: begin it with a slash"
        own = [secret for secret in secrets if host["name"] in names(hosts, "tls_secret", secret)]
        if len(own) > 1:
            return f"hosts has {host['name']} with the Secrets {' and '.join(own)}: give it one, as a name shows one certificate"
    for option, given in (("tls_issuer", issuer), ("gateway", gateway)):
        if given and not given.get("name"):
            return f"{option} has no name: name it"
    if issuer.get("kind", CLUSTER_ISSUER) not in (CLUSTER_ISSUER, "Issuer"):
        return f"tls_issuer has the kind {issuer['kind']}: use {CLUSTER_ISSUER} or Issuer"
    if gateway and (ingress_class or issuer or secrets):
        return "gateway makes no Ingress, and ends TLS itself: leave ingress_class, tls_issuer and tls_secret out"
    return ""


def names(hosts: list[Json], key: str, value: str) -> list[str]:
    """The names of the hosts with this value."""
    return list(dict.fromkeys(host["name"] for host in hosts if host[key] == value))


def rule(hosts: list[Json], host: str, service: str, port: int) -> Json:
    """What an Ingress says of a host."""
    backend = {"service": {"name": service, "port": {"number": port}}}
    paths = dict.fromkeys(item["path"] for item in hosts if item["name"] == host)
    return {"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths]}}


def routes(hosts: list[Json], name: str, namespace: str, port: int, gateway: Json) -> list[Json]:
    """An HTTPRoute for each path, since all paths of one are those of all its hosts."""
    section = {"sectionName": gateway["section"]} if gateway.get("section") else {}
    parent = {"name": gateway["name"], "namespace": gateway.get("namespace") or namespace, **section}
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "name": name if number == 1 else f"{name}-{number}",
            "annotations": {},
            "spec": {
                "parentRefs": [parent],
                "hostnames": names(hosts, "path", path),
                "rules": [
                    {
                        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                        "backendRefs": [{"name": name, "port": port}],
                    }
                ],
            },
        }
        for number, path in enumerate(dict.fromkeys(host["path"] for host in hosts), 1)
    ]


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"front_door": front_door}
