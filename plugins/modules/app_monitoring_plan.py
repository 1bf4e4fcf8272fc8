#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_monitoring_plan
short_description: Plan the monitoring objects of one application
version_added: 0.1.0
description:
  - Reads which Prometheus operator's stack a cluster has, what its selectors ask of objects,
    and which Services lead to an application's ports.
  - Returns the objects that make that stack watch the application, and those that are there and no longer wanted.
    It changes nothing itself.
  - Whatever could keep the objects from working ends in one sentence,
    for example a rule that does not parse or a Secret that is missing.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - Where the stack or the application is still missing, check mode plans without them and returns RV(ready=false).
  diff_mode:
    support: N/A
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    details:
      - This module changes nothing.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
options:
  state:
    description: Whether the application is to be watched. With V(absent), RV(unwanted) has all of its objects.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the application; also of its objects and the value of the labels C(app) and C(job).
    type: str
    required: true
  namespace:
    description: Namespace of the application.
    type: str
    required: true
  deployment:
    description: The application's Deployment, where it is not called O(name).
    type: str
    default: ""
  port:
    description: Port on which the pods answer requests and the health check.
    type: int
    default: 5000
  metrics_port:
    description: Port on which the pods serve metrics; may equal O(port).
    type: int
    default: 9200
  metrics_path:
    description: Path of the metrics.
    type: str
    default: /metrics
  metrics_prefix:
    description: Prefix of the exporter's names; any other than V(flask) is renamed to it while scraping. May be empty.
    type: str
    default: flask
  scrape_interval:
    description: How often the metrics are read. The default is that of the Prometheus object.
    type: str
    default: ""
  sample_limit:
    description: A page with more series than this is refused as a whole; 0 for no limit.
    type: int
    default: 5000
  probe:
    description: Whether the health check is asked through the blackbox exporter.
    type: bool
    default: true
  probe_interval:
    description: How often the health check is asked.
    type: str
    default: 15s
  probe_module:
    description: Module of the blackbox exporter.
    type: str
    default: http_2xx
  prober_url:
    description:
      - Host and port of the blackbox exporter.
      - The default is the Service with the label C(app.kubernetes.io/name=prometheus-blackbox-exporter).
    type: str
    default: ""
  health_path:
    description: Path of the health check.
    type: str
    default: /health
  public_url:
    description: The health check's address outside the cluster, which is asked too.
    type: str
    default: ""
  alerts:
    description: For each alert what differs from the defaults, of C(threshold), C(window), C(for), C(severity) and C(enabled).
    type: dict
    default: {}
  min_errors:
    description: Fewer errors than this within the window fire no error alert.
    type: int
    default: 3
  min_requests:
    description: Fewer requests than this within the window fire no latency alert.
    type: int
    default: 10
  slo:
    description: Share of requests that must not fail, such as V(0.999); with it the burn rate alerts exist.
    type: float
    default: 0
  literal_error_rate:
    description: Whether C(HighErrorRate) is the literal rule on C(http_requests_total), a name that is then scraped too.
    type: bool
    default: false
  extra_rules:
    description: Alerting and recording rules of your own, as in a Prometheus rule file.
    type: list
    elements: dict
    default: []
  evaluation_interval:
    description: How often the rules are evaluated. The default is that of the Prometheus object.
    type: str
    default: ""
  runbook_url:
    description: Address of the folder with the runbooks.
    type: str
    default: https://github.com/flaskops/observability/blob/main/docs/runbooks
  grafana_url:
    description: Address of Grafana, for the alerts' links to their dashboard.
    type: str
    default: ""
  receivers:
    description: Who is told of this application's alerts, besides those whom the stack tells.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the receiver.
        type: str
        required: true
      type:
        description: Kind of the receiver.
        type: str
        choices: [webhook, email, slack, pagerduty]
        required: true
      severities:
        description: Severities that it is told of; the default is all.
        type: list
        elements: str
        choices: [critical, warning, info]
      secret:
        description:
          - Secret in O(namespace) with the webhook's address, Slack's address, PagerDuty's routing key or the mail password.
        type: dict
        suboptions:
          name:
            description: Name of the Secret.
            type: str
            required: true
          key:
            description: Key in the Secret.
            type: str
            required: true
      url:
        description: Address of a webhook that is no secret.
        type: str
      channel:
        description: Slack's channel.
        type: str
      to:
        description: Address that mail goes to.
        type: str
      from:
        description: Address that mail comes from.
        type: str
      smarthost:
        description: Host and port of the mail server.
        type: str
      username:
        description: Name at the mail server; the default is C(from).
        type: str
  group_wait:
    description: How long a first alert waits for others of the same application.
    type: str
    default: 30s
  group_interval:
    description: How long a further alert of the same application waits.
    type: str
    default: 5m
  repeat_interval:
    description: When a receiver is told again of what still fires.
    type: str
    default: 4h
  dashboards:
    description: Whether the dashboards are installed.
    type: bool
    default: true
  dashboards_namespace:
    description: Namespace of the dashboards' ConfigMaps. The default is that of the Prometheus object.
    type: str
    default: ""
  dashboards_labels:
    description: Labels by which Grafana's sidecar finds the dashboards.
    type: dict
    default: {grafana_dashboard: "1"}
  dashboards_folder:
    description: Grafana's folder, as the annotation C(grafana_folder).
    type: str
    default: Flask
  prometheus_name:
    description: Name of the Prometheus object, where there are several.
    type: str
    default: ""
  prometheus_namespace:
    description: Namespace of the Prometheus object, where there are several or the account may not look into all namespaces.
    type: str
    default: ""
  promtool:
    description:
      - A promtool that checks the rules. The default is that of the machine or of the collection's cache.
      - Without one, the running Prometheus is asked to parse each expression.
    type: path
"""

EXAMPLES = r"""
- name: Plan
  flaskops.observability.app_monitoring_plan:
    context: staging
    name: flask-app
    namespace: flask-app
    alerts:
      FlaskHighLatencyP95: {threshold: 1, for: 5m}
  register: plan

- name: Apply
  kubernetes.core.k8s:
    context: staging
    definition: "{{ plan.different }}"
    apply: true
    server_side_apply: {field_manager: flaskops}
  when: plan.different | length > 0
"""

RETURN = r"""
objects:
  description: The objects to apply, the rules first.
  type: list
  elements: dict
  returned: success
different:
  description:
    - Those of RV(objects) that are missing, or that a server-side apply by the field manager V(flaskops) would change.
    - With RV(ready=false) all of them.
  type: list
  elements: dict
  returned: success
unwanted:
  description: Kind, name and namespace of objects of ours that exist and are not wanted.
  type: list
  elements: dict
  returned: success
ready:
  description: Whether all that the plan needs is there; never false outside check mode.
  type: bool
  returned: success
prometheus:
  description: Namespace and name of the Prometheus object, with a slash between.
  type: str
  returned: with O(state=present)
  sample: monitoring/stack-prometheus
left_out:
  description: What is not planned, and why.
  type: list
  elements: str
  returned: with O(state=present)
rules_checked_by:
  description: What parsed the rules, V(promtool), V(prometheus), or empty when neither could be asked.
  type: str
  returned: with O(state=present)
detection:
  description: For each alert the seconds, soonest and latest, in which it reaches a receiver once the symptom can be measured.
  type: dict
  returned: with O(state=present)
  sample: {"HighErrorRate": [150.0, 255.0]}
"""

import json
import re
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path
from urllib.parse import quote

from ..module_utils._engine import cache_dir
from ..module_utils._kube import KubeError, api_client
from ..module_utils._module import MaskingModule
from ..module_utils._objects import Objects
from ..module_utils.credentials.guard import careful, is_secret_address
from ..module_utils.monitoring import objects as build
from ..module_utils.monitoring import rules
from ..module_utils.monitoring.objects import GROUP, OURS, PART_OF, Json, PlanError
from ..module_utils.verify.api import ApiError, Cluster, KubeCluster, read_object
from ..module_utils.verify.stack import prometheus_path

PLURALS = {
    "PrometheusRule": (f"/apis/{GROUP}/v1", "prometheusrules"),
    "ServiceMonitor": (f"/apis/{GROUP}/v1", "servicemonitors"),
    "Probe": (f"/apis/{GROUP}/v1", "probes"),
    "AlertmanagerConfig": (f"/apis/{GROUP}/v1alpha1", "alertmanagerconfigs"),
    "ConfigMap": ("/api/v1", "configmaps"),
}
FORBIDDEN = (401, 403)


class Missing(PlanError):
    """Something that an earlier stage makes is not there yet, which check mode forgives."""


def path_of(kind: str, namespace: str, name: str = "") -> str:
    """The API path of an object, or of all of a kind in a namespace."""
    base, plural = PLURALS[kind]
    return f"{base}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


class Planner:
    """Reads a cluster and plans for one application."""

    def __init__(self, cluster: Cluster, options: Json) -> None:
        self.cluster = cluster
        self.options = {**options, "deployment": options["deployment"] or options["name"]}
        self.left_out: list[str] = []

    def read(self, path: str) -> t.Any:
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

    def labels(self, owner: Json, field: str, space: str, namespace: Json) -> dict[str, str]:
        """The labels by which selector *field* of *owner* takes an object of the application."""
        spec, meta = owner["spec"], owner["metadata"]
        what = f"{field} of {owner.get('kind', 'Prometheus')} {meta['namespace']}/{meta['name']}"
        home, labels = meta["namespace"], namespace["metadata"].get("labels") or {}
        if not build.selects_namespace(spec.get(space), home, self.options["namespace"], labels):
            raise PlanError(
                f"{what.replace(field, space)} does not take the namespace {self.options['namespace']}:"
                f" label the namespace as it asks ({json.dumps(spec.get(space))}), or change it to {{}}."
            )
        own = {"app.kubernetes.io/name": self.options["name"], **OURS}
        return build.selector_labels(spec.get(field), own, what)

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

        def leads_to(port: int, option: str) -> tuple[str, Json]:
            targets: list[int | str] = [port, *named(port)]
            for target in targets:
                found = build.service_port(services, labels, target)
                if found:
                    return found
            raise Missing(
                f"No Service {where} leads to port {port} of Deployment {options['deployment']}:"
                f" set {option} to the port that its pods serve, or make a Service for it."
            )

        metrics = leads_to(options["metrics_port"], "metrics_port")
        return metrics, leads_to(options["port"], "port") if options["probe"] else None

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
                return self.labels(item, "alertmanagerConfigSelector", "alertmanagerConfigNamespaceSelector", namespace)
            except PlanError as error:
                reason = str(error)
        if self.options["receivers"]:
            raise PlanError(f"The receivers can't be told of anything, for {reason[0].lower()}{reason[1:]}")
        self.left_out.append(f"inhibitions of this application, for {reason}")
        return None

    def check_secrets(self) -> None:
        """Refuse a receiver whose Secret or key is not there; only names are looked at."""
        for item in self.options["receivers"]:
            secret = item.get("secret")
            if not secret:
                continue
            path = f"/api/v1/namespaces/{self.options['namespace']}/secrets/{secret['name']}"
            try:
                keys = read_object(*self.cluster.fetch(path)).get("data") or {}
            except ApiError as error:
                if error.status in FORBIDDEN:  # an account that may not read Secrets can still refer to them
                    continue
                raise PlanError(
                    f"The receiver {item['name']} needs the Secret {secret['name']} in namespace {self.options['namespace']},"
                    f" which can't be read ({error.status}): create it first."
                ) from error
            if secret["key"] not in keys:
                raise PlanError(f"The Secret {secret['name']} of the receiver {item['name']} has no key {secret['key']}: add it.")

    def existing(self, kind: str, namespace: str, name: str) -> bool:
        """Whether an object of ours is there. :raises PlanError: when it is somebody else's."""
        found = self.read(path_of(kind, namespace, name))
        if found is None:
            return False
        labels = found["metadata"].get("labels") or {}
        if any(labels.get(key) != value for key, value in OURS.items()):
            raise PlanError(
                f"The {kind} {name} in namespace {namespace} is not ours: rename it, or give the application another name."
            )
        return True

    def ours(self, path: str) -> list[tuple[str, str]]:
        """Namespace and name of all objects of a kind that this collection's monitoring made, in the whole cluster."""
        (key, value), *_ = PART_OF.items()
        found = self.read(f"{path}?labelSelector={quote(f'{key}={value}')}") or {"items": []}
        return [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found["items"]]

    def unwanted(self, wanted: list[Json]) -> list[Json]:
        """References to objects of ours that exist and are not *wanted*.

        The dashboards belong to all applications, so they go with the last one.
        """
        name, namespace = self.options["name"], self.options["namespace"]
        kept = {(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]) for item in wanted}
        own = {(kind, namespace, name) for kind in ("PrometheusRule", "ServiceMonitor", "Probe", "AlertmanagerConfig")}
        own.add(("Probe", namespace, f"{name}-public"))
        gone = [entry for entry in sorted(own | kept) if self.existing(*entry) and entry not in kept]
        boards = [("ConfigMap", *entry) for entry in self.ours("/api/v1/configmaps")]
        if {*self.ours(f"/apis/{GROUP}/v1/servicemonitors")} <= {(namespace, name)}:
            gone += [entry for entry in boards if entry not in kept]
        return [
            {
                "apiVersion": PLURALS[kind][0].removeprefix("/apis/").removeprefix("/api/"),
                "kind": kind,
                "metadata": {"namespace": space, "name": entry},
            }
            for kind, space, entry in gone
        ]


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


def plan(planner: Planner, check_mode: bool) -> Json:
    """The whole plan; see RETURN."""
    options, missing = planner.options, ""
    namespace = planner.read(f"/api/v1/namespaces/{options['namespace']}")
    if options["state"] == "absent":
        return {"objects": [], "unwanted": planner.unwanted([]), "ready": True}
    # Wrong options come first: they are wrong on any cluster.
    rules.rule_groups({**rule_options(options, {"spec": {}}), "scrape_interval": options["scrape_interval"] or "1s"})
    for key in ("probe_interval", "group_wait", "group_interval", "repeat_interval"):
        rules.seconds(options[key])
    prometheus: Json = {"metadata": {"namespace": options["dashboards_namespace"] or "monitoring", "name": ""}, "spec": {}}
    labels: dict[str, dict[str, str]] = {"serviceMonitor": {}, "probe": {}, "rule": {}}
    monitor, health, prober = ("", {"name": "metrics"}), None, ""
    config_labels: dict[str, str] | None = {}
    try:
        if namespace is None:
            raise Missing(f"There is no namespace {options['namespace']}: deploy the application before its monitoring.")
        prometheus = planner.prometheus()
        for kind in labels:
            if kind != "probe" or options["probe"]:
                labels[kind] = planner.labels(prometheus, f"{kind}Selector", f"{kind}NamespaceSelector", namespace)
        monitor, health = planner.application()
        prober = planner.prober() if options["probe"] else ""
        config_labels = planner.alertmanager_labels(namespace)
        planner.check_secrets()
    except Missing as error:
        if not check_mode:
            raise
        missing = str(error)
    given = rule_options(options, prometheus)
    groups = rules.rule_groups(given)
    promtool, checked = find_promtool(options["promtool"]), ""
    if promtool:
        check_by_promtool(promtool, groups)
        checked = "promtool"
    elif not missing and check_by_prometheus(planner.cluster, prometheus, groups):
        checked = "prometheus"
    # The rules come first: an admission webhook that refuses them then refuses before anything else is there.
    wanted = [build.prometheus_rule(options, groups, labels["rule"])]
    wanted.append(build.service_monitor(options, monitor[0], monitor[1], labels["serviceMonitor"]))
    if options["probe"]:
        inside = ""
        if health:
            inside = f"http://{health[0]}.{options['namespace']}.svc:{health[1]['port']}{options['health_path']}"
        wanted.append(build.probe(options, "inside", inside, prober, labels["probe"]))
        if options["public_url"]:
            wanted.append(build.probe(options, "public", options["public_url"], prober, labels["probe"]))
    if config_labels is not None:
        wanted.append(build.alertmanager_config(options, config_labels))
    home = options["dashboards_namespace"] or prometheus["metadata"]["namespace"]
    if options["dashboards"]:
        wanted += build.dashboard_maps(home, options["dashboards_labels"], options["dashboards_folder"])
    build.remember(wanted, prometheus)
    if missing:
        planner.left_out.append(missing)
    if not given["evaluation_interval"]:
        given["evaluation_interval"] = prometheus["spec"].get("evaluationInterval") or "30s"
    return {
        "objects": wanted,
        "unwanted": [] if missing else planner.unwanted(wanted),
        "ready": not missing,
        "prometheus": f"{prometheus['metadata']['namespace']}/{prometheus['metadata']['name']}",
        "left_out": planner.left_out,
        "rules_checked_by": checked,
        "detection": rules.detection_seconds(given, rules.seconds(options["group_wait"])),
    }


RECEIVER = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "required": True, "choices": ["webhook", "email", "slack", "pagerduty"]},
    "severities": {"type": "list", "elements": "str", "choices": list(rules.SEVERITIES)},
    "secret": {
        "type": "dict",
        "no_log": False,  # it names a Secret
        "options": {"name": {"type": "str", "required": True}, "key": {"type": "str", "required": True, "no_log": False}},
    },
    "url": {"type": "str"},
    "channel": {"type": "str"},
    "to": {"type": "str"},
    "from": {"type": "str"},
    "smarthost": {"type": "str"},
    "username": {"type": "str"},
}


def secrets_in(params: dict[str, t.Any]) -> t.Iterator[str]:
    """The addresses of webhooks that are credentials, which are refused."""
    given = params.get("receivers")
    for item in given if isinstance(given, list) else []:
        url = item.get("url") if isinstance(item, dict) else None
        if isinstance(url, str) and is_secret_address(url):
            yield url


def main() -> None:
    """Entry point."""
    module = MaskingModule(
        secrets_in,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "deployment": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 5000},
            "metrics_port": {"type": "int", "default": 9200},
            "metrics_path": {"type": "str", "default": "/metrics"},
            "metrics_prefix": {"type": "str", "default": "flask"},
            "scrape_interval": {"type": "str", "default": ""},
            "sample_limit": {"type": "int", "default": 5000},
            "probe": {"type": "bool", "default": True},
            "probe_interval": {"type": "str", "default": "15s"},
            "probe_module": {"type": "str", "default": "http_2xx"},
            "prober_url": {"type": "str", "default": ""},
            "health_path": {"type": "str", "default": "/health"},
            "public_url": {"type": "str", "default": ""},
            "alerts": {"type": "dict", "default": {}},
            "min_errors": {"type": "int", "default": 3},
            "min_requests": {"type": "int", "default": 10},
            "slo": {"type": "float", "default": 0},
            "literal_error_rate": {"type": "bool", "default": False},
            "extra_rules": {"type": "list", "elements": "dict", "default": []},
            "evaluation_interval": {"type": "str", "default": ""},
            "runbook_url": {"type": "str", "default": rules.OPTIONS["runbook_url"]},
            "grafana_url": {"type": "str", "default": ""},
            "receivers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": RECEIVER,
                "required_if": [
                    ("type", "webhook", ("secret", "url"), True),
                    ("type", "slack", ("secret", "channel")),
                    ("type", "pagerduty", ("secret",)),
                    ("type", "email", ("to", "from", "smarthost")),
                ],
            },
            "group_wait": {"type": "str", "default": "30s"},
            "group_interval": {"type": "str", "default": "5m"},
            "repeat_interval": {"type": "str", "default": "4h"},
            "dashboards": {"type": "bool", "default": True},
            "dashboards_namespace": {"type": "str", "default": ""},
            "dashboards_labels": {"type": "dict", "default": {"grafana_dashboard": "1"}},
            "dashboards_folder": {"type": "str", "default": "Flask"},
            "prometheus_name": {"type": "str", "default": ""},
            "prometheus_namespace": {"type": "str", "default": ""},
            "promtool": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    for item in params["receivers"]:
        if is_secret_address(item["url"] or ""):
            module.fail_json(
                msg=f"The url of receiver {item['name']} holds a credential, and all who may read an AlertmanagerConfig see it:"
                " put the address into a Secret, and name that by secret."
            )
    try:
        api = api_client(params["kubeconfig"] or "", params["context"] or "")
        cluster = KubeCluster(api)
        found = plan(Planner(cluster, params), module.check_mode)
        found["different"] = found["objects"]
        if found["ready"]:
            live = Objects(api)
            compared = live.each(lambda item: live.compare(item, "flaskops"), found["objects"])
            found["different"] = [one["item"] for one in compared if one["paths"]]
    except (KubeError, PlanError, ApiError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    careful(main)()
