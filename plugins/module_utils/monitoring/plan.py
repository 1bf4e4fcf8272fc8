# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which monitoring objects one application needs on a cluster, and whether they can work there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .._files import cache_dir
from ..kube.selectors import NotSelected, labels_for
from ..kube.transport import ApiError, Cluster, read_object
from . import objects as build
from . import rules
from .durations import seconds
from .names import OURS, PART_OF
from .objects import GROUP, Json, PlanError
from .paths import prometheus_path
from .receivers import INTEGRATIONS, integration, references

# All that an application may have, but for what `Planner.known` adds; the dashboards belong to all applications.
KINDS = {"PrometheusRule": "v1", "ServiceMonitor": "v1", "Probe": "v1", "AlertmanagerConfig": "v1alpha1"}
FORBIDDEN = (401, 403)
DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/alertmanagerconfigs.{GROUP}"


class Missing(PlanError):
    """Something that an earlier stage makes is not there yet, which check mode forgives."""


class Planner:
    """Reads a cluster and plans for one application."""

    def __init__(self, cluster: Cluster, options: Json) -> None:
        self.cluster = cluster
        self.options = {**options, "deployment": options["deployment"] or options["name"]}
        self.not_applied: list[str] = []

    def read(self, path: str) -> Any:
        """An object or a list, or None when it, or its kind, is not there."""
        try:
            return read_object(*self.cluster.fetch(path))
        except ApiError as error:
            if error.status == 404:
                return None
            raise PlanError(
                f"{path} can't be read ({error.status} {str(error).rstrip('. ')}):"
                " check the account's permissions and the cluster."
            ) from error

    def listed(self, plural: str) -> list[Json]:
        """All objects of a kind of the operator, in the namespace of the options or in all."""
        namespace = self.options["prometheus_namespace"]
        scope = f"namespaces/{namespace}/" if namespace else ""
        found = self.read(f"/apis/{GROUP}/v1/{scope}{plural}")
        return found["items"] if found else []

    def prometheus(self) -> Json:
        """The Prometheus object that is to watch the application."""
        wanted = self.options["prometheus_name"]
        found = [item for item in self.listed("prometheuses") if wanted in ("", item["metadata"]["name"])]
        names = ", ".join(sorted(f"{i['metadata']['namespace']}/{i['metadata']['name']}" for i in found))
        if len(found) > 1:
            raise PlanError(
                f"There are several Prometheus objects ({names}): name one by prometheus_name and prometheus_namespace."
            )
        if not found:
            which = f"Prometheus object {wanted}" if wanted else "Prometheus object of a Prometheus operator"
            space = self.options["prometheus_namespace"]
            where = f"namespace {space}" if space else "this cluster"
            raise Missing(f"There is no {which} in {where}: install kube-prometheus-stack (role kube_prometheus_stack) first.")
        return found[0]

    def labels(self, owner: Json, field: str, namespace: Json) -> dict[str, str]:
        """The labels by which the selectors *field* of *owner* take an object of the application."""
        return labels_for(owner, field, {"app.kubernetes.io/name": self.options["name"], **OURS}, namespace)

    def application(self) -> tuple[tuple[str, Json], tuple[str, Json] | None]:
        """The Services, each with its port, that lead to the metrics and to the health check."""
        options, namespace = self.options, self.options["namespace"]
        where = f"in namespace {namespace}"
        deployment = self.read(f"/apis/apps/v1/namespaces/{namespace}/deployments/{options['deployment']}")
        if deployment is None:
            raise Missing(
                f"There is no Deployment {options['deployment']} {where}: deploy the application before its monitoring."
            )
        labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
        services = (self.read(f"/api/v1/namespaces/{namespace}/services") or {"items": []})["items"]

        def named(port: int) -> list[str]:
            containers = deployment["spec"]["template"]["spec"]["containers"]
            return [p["name"] for c in containers for p in c.get("ports") or [] if p["containerPort"] == port and p.get("name")]

        def leads_to(port: int, option: str, headless: bool) -> tuple[str, Json]:
            targets: list[int | str] = [port, *named(port)]
            for target in targets:
                found = build.service_port(services, labels, target, headless)
                if found:
                    return found
            raise Missing(
                f"No Service {where} leads to port {port} of Deployment {options['deployment']}:"
                f" set {option} to the port that its pods serve, or make a Service for it."
            )

        metrics = leads_to(options["metrics_port"], "metrics_port", headless=True)
        if not options["probe"]:
            return metrics, None
        # A headless Service may lead to pods that are not ready.
        own = "health_port" if options["health_port"] else "port"
        return metrics, leads_to(options[own], own, headless=False)

    def prober(self) -> str:
        """Host and port of the blackbox exporter."""
        if self.options["prober_url"]:
            return str(self.options["prober_url"])
        name = "app.kubernetes.io/name%3Dprometheus-blackbox-exporter"
        found = (self.read(f"/api/v1/services?labelSelector={name}") or {"items": []})["items"]
        if not found:
            raise Missing("There is no blackbox exporter in this cluster: install it, set prober_url, or switch probe off.")
        meta, ports = found[0]["metadata"], found[0]["spec"]["ports"]
        return f"{meta['name']}.{meta['namespace']}.svc:{ports[0]['port']}"

    def alertmanager_labels(self, namespace: Json) -> dict[str, str] | None:
        """The labels by which an Alertmanager takes our AlertmanagerConfig, or None when none does."""
        reason = "there is no Alertmanager object"
        for item in self.listed("alertmanagers"):
            try:
                item["kind"] = "Alertmanager"
                return self.labels(item, "alertmanagerConfig", namespace)
            except NotSelected as error:
                reason = str(error)
        if self.options["receivers"]:
            raise PlanError(f"The receivers can't be notified of anything, for {reason[0].lower()}{reason[1:]}")
        self.not_applied.append(f"inhibitions of this application, for {reason}")
        return None

    def check_types(self) -> None:
        """Refuse a receiver of a type that the cluster's operator is too old for."""
        newer = {item["type"]: item["name"] for item in self.options["receivers"] if item["type"] in INTEGRATIONS}
        if not newer:
            return
        try:
            definition = read_object(*self.cluster.fetch(DEFINITION))
        except ApiError as error:
            if error.status in (*FORBIDDEN, 404):  # the API server tries the object in any case
                return
            raise
        for kind, name in newer.items():
            key = f"{integration(kind)}Configs"
            if key not in json.dumps(definition):
                raise PlanError(
                    f"Receiver {name} is of type {kind}, and the operator of this cluster knows no {key}:"
                    " update its definition of AlertmanagerConfig, or choose another type."
                )

    def check_secrets(self) -> None:
        """Refuse a receiver whose Secret or key is not there; only names are looked at."""
        for item in self.options["receivers"]:
            for secret in references(item):
                self.check_secret(item["name"], secret)

    def check_secret(self, receiver: str, secret: Json) -> None:
        path = f"/api/v1/namespaces/{self.options['namespace']}/secrets/{secret['name']}"
        try:
            keys = read_object(*self.cluster.fetch(path)).get("data") or {}
        except ApiError as error:
            if error.status in FORBIDDEN:  # an account that may not read Secrets can still refer to them
                return
            raise PlanError(
                f"The receiver {receiver} needs the Secret {secret['name']} in namespace {self.options['namespace']},"
                f" which can't be read ({error.status}): create it first."
            ) from error
        if secret["key"] not in keys:
            raise PlanError(f"The Secret {secret['name']} of the receiver {receiver} has no key {secret['key']}: add it.")

    def ours(self, path: str) -> list[tuple[str, str]]:
        """Namespace and name of all objects of a kind that this collection's monitoring made, in the whole cluster."""
        (key, value), *_ = PART_OF.items()
        found = self.read(f"{path}?labelSelector={quote(f'{key}={value}')}") or {"items": []}
        return [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found["items"]]

    def known(self) -> list[Json]:
        """References to what any run may have made for the application.

        The dashboards belong to all applications, so they are among it for the last one.
        """
        name, namespace = self.options["name"], self.options["namespace"]
        meta = {"name": name, "namespace": namespace}
        found = [reference(f"{GROUP}/{version}", kind, meta) for kind, version in KINDS.items()]
        found.append(reference(f"{GROUP}/v1", "Probe", {**meta, "name": f"{name}-public"}))
        if {*self.ours(f"/apis/{GROUP}/v1/servicemonitors")} <= {(namespace, name)}:
            for space, board in self.ours("/api/v1/configmaps"):
                found.append(reference("v1", "ConfigMap", {"name": board, "namespace": space, "labels": build.SHARED}))
        return found


def reference(api_version: str, kind: str, metadata: Json) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def rule_options(options: Json, prometheus: Json) -> Json:
    """What :mod:`rules` needs; intervals that were not given are those of the Prometheus object."""
    given = {key: options[key] for key in rules.OPTIONS}
    given["scrape_interval"] = options["scrape_interval"] or prometheus["spec"].get("scrapeInterval") or "30s"
    return given


def find_promtool(given: str | None) -> str:
    """The promtool to use, or an empty text."""
    if given:
        if not Path(given).is_file():
            raise PlanError(f"There is no promtool {given}: give the path of one, or none.")
        return given
    cached = sorted((cache_dir() / "bin").glob("prometheus-*/promtool"), key=lambda path: path.stat().st_mtime)
    return shutil.which("promtool") or (str(cached[-1]) if cached else "")


def wrong_rule(reason: str) -> str:
    """The sentence that refuses a rule."""
    return f"A rule of the application can't be used ({reason}): correct it in app_monitoring_extra_rules or the options."


def check_by_promtool(promtool: str, groups: list[Json]) -> None:
    """Let promtool read the rule *groups*; :raises PlanError: with its words on the first rule that is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rules.yml"
        file.write_text(json.dumps({"groups": groups}, indent=1))
        done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return
        lines = [line for line in (done.stderr + done.stdout).splitlines() if str(file) in line and "Checking" not in line]
        first = (lines or (done.stderr + done.stdout).strip().splitlines() or ["promtool gave no reason"])[0]
        reason = re.sub(rf"^\s*{re.escape(str(file))}:\s*(?:\d+:\d+:\s*)*", "", first).strip(". ")
    raise PlanError(wrong_rule(reason))


def check_by_prometheus(cluster: Cluster, server: Json, groups: list[Json]) -> bool:
    """Let the running Prometheus parse each expression; False when it can't be asked."""
    base = f"{prometheus_path(server)}/api/v1/format_query?query="
    for group in groups:
        for rule in group["rules"]:
            try:
                status, body = cluster.fetch(base + quote(str(rule.get("expr", ""))))
            except ApiError:
                return False
            if status not in (200, 400) or not body.startswith("{"):
                return False
            answer = json.loads(body)
            if answer.get("status") == "error":
                name = rule.get("alert") or rule.get("record") or "without a name"
                raise PlanError(wrong_rule(f"group {group['name']}, {name}: {str(answer.get('error')).strip('. ')}"))
    return True


def check_rules(planner: Planner, prometheus: Json, groups: list[Json], ask: bool) -> str:
    """Have the rules read by promtool, or else by the cluster's Prometheus where it may be asked; which of them it was."""
    if promtool := find_promtool(planner.options["promtool"]):
        check_by_promtool(promtool, groups)
        return "promtool"
    return "prometheus" if ask and check_by_prometheus(planner.cluster, prometheus, groups) else ""


def plan(planner: Planner, check_mode: bool) -> Json:
    """The objects of the application, what else a run may have made, and what there is to say of both."""
    options, missing = planner.options, ""
    namespace = planner.read(f"/api/v1/namespaces/{options['namespace']}")
    if options["state"] == "absent":
        return {"objects": [], "known": planner.known(), "ready": True}
    # Wrong options come first: they are wrong on any cluster.
    rules.rule_groups({**rule_options(options, {"spec": {}}), "scrape_interval": options["scrape_interval"] or "1s"})
    for key in ("probe_interval", "group_wait", "group_interval", "repeat_interval"):
        seconds(options[key])
    prometheus: Json = {"metadata": {"namespace": options["grafana_namespace"] or "monitoring", "name": ""}, "spec": {}}
    labels: dict[str, dict[str, str]] = {"serviceMonitor": {}, "probe": {}, "rule": {}}
    monitor, health, prober = ("", {"name": "metrics"}), None, ""
    config_labels: dict[str, str] | None = {}
    try:
        if namespace is None:
            raise Missing(f"There is no namespace {options['namespace']}: deploy the application before its monitoring.")
        prometheus = planner.prometheus()
        for kind in labels:
            if kind != "probe" or options["probe"]:
                labels[kind] = planner.labels(prometheus, kind, namespace)
        monitor, health = planner.application()
        prober = planner.prober() if options["probe"] else ""
        config_labels = planner.alertmanager_labels(namespace)
        planner.check_types()
        planner.check_secrets()
    except Missing as error:
        if not check_mode:
            raise
        missing = str(error)
    given = rule_options(options, prometheus)
    groups = rules.rule_groups(given)
    checked = check_rules(planner, prometheus, groups, ask=not missing)
    # The rules come first: an admission webhook that refuses them then refuses before anything else is there.
    wanted = [build.prometheus_rule(options, groups, labels["rule"])]
    wanted.append(build.service_monitor(options, monitor[0], monitor[1], labels["serviceMonitor"]))
    if options["probe"]:
        inside = build.address(options, *health) if health else ""
        wanted.append(build.probe(options, "inside", inside, prober, labels["probe"]))
        if options["public_url"]:
            wanted.append(build.probe(options, "public", options["public_url"], prober, labels["probe"]))
    if config_labels is not None:
        wanted.append(build.alertmanager_config(options, config_labels))
    home = options["grafana_namespace"] or prometheus["metadata"]["namespace"]
    if options["dashboards"]:
        wanted += build.dashboard_maps(home, options["dashboards_labels"], options["dashboards_folder"])
    build.remember(wanted, prometheus)
    if missing:
        planner.not_applied.append(missing)
    if not given["evaluation_interval"]:
        given["evaluation_interval"] = prometheus["spec"].get("evaluationInterval") or "30s"
    return {
        "objects": wanted,
        "known": [] if missing else planner.known(),
        "ready": not missing,
        "prometheus": f"{prometheus['metadata']['namespace']}/{prometheus['metadata']['name']}",
        "not_applied": planner.not_applied,
        "rules_checked_by": checked,
        "detection": rules.detection_seconds(given, seconds(options["group_wait"])),
    }
