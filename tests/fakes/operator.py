# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an API server knows of a Prometheus operator: its kinds, which take anything, and its objects. No program runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.api_rig import Rig
from tests.harness import until

GROUP = "monitoring.coreos.com"
KINDS = {
    "Prometheus": ("v1", "prometheuses"),
    "Alertmanager": ("v1", "alertmanagers"),
    "ServiceMonitor": ("v1", "servicemonitors"),
    "Probe": ("v1", "probes"),
    "PrometheusRule": ("v1", "prometheusrules"),
    "AlertmanagerConfig": ("v1alpha1", "alertmanagerconfigs"),
}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def path(kind: str, namespace: str, name: str = "") -> str:
    version, plural = KINDS[kind]
    return f"/apis/{GROUP}/{version}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def made(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    version = f"{GROUP}/{KINDS[kind][0]}"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def ours(rig: Rig) -> list[str]:
    """The names of the definitions that are there."""
    names = [item["metadata"]["name"] for item in rig.request("GET", DEFINITIONS)["items"]]
    return [name for name in names if name.endswith(f".{GROUP}")]


@contextmanager
def operator(rig: Rig, namespace: str = "default", **selectors: Any) -> Iterator[None]:
    """The definitions, a Prometheus and an Alertmanager that take objects of all namespaces, and a blackbox exporter's Service.

    :param selectors: fields of both that ask for more.
    """
    for name in ours(rig):  # a chart of another test brought them
        rig.request("DELETE", f"{DEFINITIONS}/{name}")
    until(lambda: not ours(rig), 120, "the definitions of another test are gone")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    for kind, (version, plural) in KINDS.items():
        names = {"kind": kind, "plural": plural, "singular": kind.lower()}
        versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
        spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": versions}
        rig.request("POST", DEFINITIONS, {"metadata": {"name": f"{plural}.{GROUP}"}, "spec": spec})
    for kind in KINDS:
        until(lambda kind=kind: rig.request("GET", path(kind, namespace)), 20, f"{kind} is served", passing=(AssertionError,))  # type: ignore[misc]
    taken: dict[str, Any] = {}
    for kind in ("serviceMonitor", "probe", "rule", "alertmanagerConfig"):
        taken |= {f"{kind}Selector": {}, f"{kind}NamespaceSelector": {}}
    for kind in ("Prometheus", "Alertmanager"):
        rig.request("POST", path(kind, namespace), made(kind, namespace, "main", taken | selectors))
    labels = {"app.kubernetes.io/name": "prometheus-blackbox-exporter"}
    service = {"metadata": {"name": "blackbox", "labels": labels}, "spec": {"ports": [{"port": 9115}]}}
    rig.request("POST", f"/api/v1/namespaces/{namespace}/services", service)
    try:
        yield
    finally:
        rig.request("DELETE", f"/api/v1/namespaces/{namespace}/services/blackbox")
        for _version, plural in KINDS.values():
            rig.request("DELETE", f"{DEFINITIONS}/{plural}.{GROUP}")
        until(lambda: not ours(rig), 120, "no definition is left")  # their objects go first
