# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes objects that make a Prometheus operator watch one application."""

from __future__ import annotations

from typing import Any

from ..kube.transport import KubeError
from . import dashboards, receivers, rules
from .names import ALERTS, OURS, PARTS, VERIFY_GROUP, job_of_probe

Json = dict[str, Any]

GROUP = "monitoring.coreos.com"
# On the dashboards, which all applications share.
SHARED = {"flaskops/owner": "app_monitoring"}
METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT"


class PlanError(KubeError):
    """What is wrong, where, and what to do, in one sentence."""


def service_port(
    services: list[Json], pod_labels: dict[str, str], port: int | str, headless: bool = True
) -> tuple[str, Json] | None:
    """The Service, and its entry under ports, that leads to the pods' *port*, by number or name.

    :param headless: which kind of Service is preferred.
    """
    found = []
    for service in services:
        spec = service["spec"]
        chosen = spec.get("selector") or {}
        if not chosen or any(pod_labels.get(key) != value for key, value in chosen.items()):
            continue
        for entry in spec.get("ports") or []:
            if entry.get("targetPort", entry["port"]) == port:
                found.append(((spec.get("clusterIP") == "None") != headless, service["metadata"]["name"], entry))
    if not found:
        return None
    _other, name, entry = min(found, key=lambda item: item[:2])
    return name, entry


def speaks_tls(port: Json) -> bool:
    """Whether a Service's port says that the application speaks TLS there."""
    return bool(port.get("appProtocol") == "https")


def address(options: Json, service: str, port: Json) -> str:
    """Where the health check is answered inside the cluster."""
    scheme = "https" if speaks_tls(port) else "http"
    return f"{scheme}://{service}.{options['namespace']}.svc:{port['port']}{options['health_path']}"


def _meta(options: Json, name: str, extra: dict[str, str]) -> Json:
    labels = {**options["labels"], "app.kubernetes.io/name": options["name"], **OURS, **extra}
    return {"name": name, "namespace": options["namespace"], "labels": labels}


def metric_relabelings(prefix: str) -> list[Json]:
    """The changes of a scraped page: uniform names, a label ``route``, and nothing that a stranger can multiply.

    The rules and dashboards rely on them: names begin with ``flask_`` whatever the exporter's *prefix* is, and ``route``
    is what the exporter grouped by, the URL rule, the path or the endpoint (which the operator renames).
    """
    steps: list[Json] = []
    if prefix != "flask":
        pattern = f"{prefix}_(http_request_.+)" if prefix else "(http_request_.+)"
        steps.append({"sourceLabels": ["__name__"], "regex": pattern, "targetLabel": "__name__", "replacement": "flask_$1"})
    steps.append({"sourceLabels": ["__name__"], "regex": "flask_http_request_(.+_)?created", "action": "drop"})
    # Anybody can send a made-up method, and each is 17 series: mark all, take the mark from the known ones, drop the rest.
    steps += [
        {
            "sourceLabels": ["__name__", "method"],
            "regex": "flask_http_request_.+;.+",
            "targetLabel": "__tmp_method",
            "replacement": "unknown",
        },
        {
            "sourceLabels": ["__name__", "method"],
            "regex": f"flask_http_request_.+;({METHODS})",
            "targetLabel": "__tmp_method",
            "replacement": "",
        },
        {"sourceLabels": ["__tmp_method"], "regex": "unknown", "action": "drop"},
    ]
    steps += [
        {
            "sourceLabels": ["__name__", label],
            "regex": "flask_http_request_duration_seconds_.+;(.+)",
            "targetLabel": "route",
            "replacement": "$1",
        }
        for label in ("url_rule", "path", "exported_endpoint")
    ]
    return [{"action": "replace", **step} for step in steps]


def service_monitor(options: Json, service: str, port: Json, labels: dict[str, str]) -> Json:
    """Scrapes the application's pods through *service*; with the literal rule, a second time for its one name."""
    name, prefix = options["name"], options["metrics_prefix"]

    def endpoint(job: str, metric_steps: list[Json]) -> Json:
        found: Json = {
            **({"port": port["name"]} if port.get("name") else {"targetPort": port.get("targetPort", port["port"])}),
            "path": options["metrics_path"],
            # A pod is asked by its address, for which no certificate is made.
            **({"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}} if speaks_tls(port) else {}),
            "relabelings": [
                {"action": "keep", "sourceLabels": ["__meta_kubernetes_service_name"], "regex": service},
                *(
                    {"action": "replace", "targetLabel": label, "replacement": value}
                    for label, value in (("job", job), ("app", name), ("deployment", options["deployment"]))
                ),
            ],
            "metricRelabelings": metric_steps,
        }
        if options["scrape_interval"]:
            found["interval"] = options["scrape_interval"]
        return found

    endpoints = [endpoint(name, metric_relabelings(prefix))]
    if options["literal_error_rate"]:
        # A job of its own, or the `up` of both endpoints would be one series with two values.
        only = f"{prefix}_http_request_total" if prefix else "http_request_total"
        rename = {"sourceLabels": ["__name__"], "regex": only, "targetLabel": "__name__", "replacement": "http_requests_total"}
        keep = {"sourceLabels": ["__name__"], "regex": only, "action": "keep"}
        endpoints.append(endpoint(f"{name}-literal", [keep, {"action": "replace", **rename}]))
    spec: Json = {"selector": {}, "endpoints": endpoints}
    if options["sample_limit"]:
        spec["sampleLimit"] = options["sample_limit"]
    return {"apiVersion": f"{GROUP}/v1", "kind": "ServiceMonitor", "metadata": _meta(options, name, labels), "spec": spec}


def probe(options: Json, where: str, url: str, prober: str, labels: dict[str, str]) -> Json:
    """Asks *url* through the blackbox exporter at *prober*; *where* is ``inside`` or ``public``."""
    name = options["name"] if where == "inside" else f"{options['name']}-public"
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Probe",
        "metadata": _meta(options, name, labels),
        "spec": {
            "jobName": job_of_probe(options["name"]),
            "interval": options["probe_interval"],
            "module": options["probe_module"],
            "prober": {"url": prober},
            "targets": {
                "staticConfig": {
                    "static": [url],
                    "labels": {"app": options["name"], "deployment": options["deployment"], "probe": where},
                }
            },
        },
    }


def prometheus_rule(options: Json, groups: list[Json], labels: dict[str, str]) -> Json:
    """The rule *groups* as an object of the operator."""
    metadata = _meta(options, options["name"], labels)
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    metadata["annotations"] = {ALERTS: " ".join(sorted(alerts))}
    return {"apiVersion": f"{GROUP}/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": {"groups": groups}}


def alertmanager_config(options: Json, labels: dict[str, str]) -> Json:
    """The application's inhibitions and, with receivers, its routes."""

    def matchers(labels_of: dict[str, str]) -> list[Json]:
        own = [{"name": "app", "value": options["name"], "matchType": "="}]
        return own + [{"name": key, "value": value, "matchType": "=~"} for key, value in labels_of.items()]

    spec: Json = {
        "inhibitRules": [
            {
                "sourceMatch": matchers(item["source"]),
                "targetMatch": matchers(item["target"]),
                "equal": ["namespace", "app", *item.get("equal", ())],
            }
            for item in rules.INHIBITIONS
        ]
    }
    given = options["receivers"]
    if given:
        taken = sorted({severity for item in given for severity in receivers.told(item)})
        spec["receivers"] = [receivers.operated(item) for item in given]
        spec["route"] = {
            "receiver": given[0]["name"],
            # What no receiver takes must not fall to the first one.
            "matchers": matchers({"severity": "|".join(taken)}),
            "groupBy": ["namespace", "app", VERIFY_GROUP],
            "groupWait": options["group_wait"],
            "groupInterval": options["group_interval"],
            "repeatInterval": options["repeat_interval"],
            "routes": [
                {
                    "receiver": item["name"],
                    "matchers": [{"name": "severity", "value": "|".join(receivers.told(item)), "matchType": "=~"}],
                    "continue": True,
                }
                for item in given
            ],
        }
    metadata = _meta(options, options["name"], labels)
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AlertmanagerConfig", "metadata": metadata, "spec": spec}


def remember(wanted: list[Json], server: Json) -> None:
    """Write down on each object of the application what is installed together, and for which Prometheus.

    Each as kind, namespace and name.
    """
    named = [*wanted, {**server, "kind": "Prometheus"}] if server["metadata"]["name"] else wanted
    parts = " ".join(sorted("/".join((i["kind"], i["metadata"]["namespace"], i["metadata"]["name"])) for i in named))
    for item in wanted:
        # The dashboards belong to all applications.
        if item["kind"] != "ConfigMap":
            item["metadata"].setdefault("annotations", {})[PARTS] = parts


def dashboard_maps(namespace: str, labels: dict[str, str], folder: str) -> list[Json]:
    """One ConfigMap for each dashboard, shared by all applications of the cluster."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{uid}-dashboard",
                "namespace": namespace,
                "labels": {**OURS, **SHARED, **labels},
                "annotations": {"grafana_folder": folder},
            },
            "data": {f"{uid}.json": text},
        }
        for uid, text in dashboards.texts().items()
    ]
