#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_monitoring
short_description: Have a Prometheus operator's stack watch one application
version_added: 0.1.0
description:
  - Reads which Prometheus operator's stack a cluster has, what its selectors ask of objects,
    and which Services lead to an application's ports.
  - Applies the objects that make that stack watch the application, and removes those of it that are no longer wanted, as
    M(flaskops.observability.objects) does.
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
    support: full
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
options:
  state:
    description: Whether the application is to be watched.
    type: str
    choices: [present, absent]
    default: present
  adopt:
    description: Whether objects of somebody else with these names are taken over.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait at most for what is removed.
    type: int
    default: 120
  name:
    description: Name of the application; also of its objects and the value of the labels C(app) and C(job).
    type: str
    required: true
  namespace:
    description: Namespace of the application.
    type: str
    required: true
  labels:
    description: Labels of the objects in the application's namespace.
    type: dict
    default: {}
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
  health_port:
    description: Port of the pods on which the health check is answered, where it is another one than O(port); V(0) for that.
    type: int
    default: 0
  public_url:
    description: The health check's address outside the cluster, which is asked too.
    type: str
    default: ""
  workers:
    description: The application's workers, each with its C(name); they have alerts of their own.
    type: list
    elements: dict
    default: []
  alerts:
    description: For each alert what differs from the defaults, of C(threshold), C(window), C(for), C(severity) and C(enabled).
    type: dict
    default: {}
  min_errors:
    description: Fewer errors, or slow requests, than this within the window fire no alert on their share or burn rate.
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
  slo_latency:
    description:
      - Share of requests that must be answered within O(slo_latency_seconds), such as V(0.99).
      - With it the alerts on the burn rate of slow requests exist.
    type: float
    default: 0
  slo_latency_seconds:
    description: What a request may take that is not slow; the bound of a bucket of the exporter's histogram.
    type: float
    default: 0.5
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
    description: Who is notified of this application's alerts, in addition to those whom the stack tells.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        type: str
        required: true
        description: Name of the receiver.
      type:
        type: str
        required: true
        choices: [webhook, email, slack, pagerduty, teams, none]
        description: Kind of the receiver; V(none) drops what it gets.
      severities:
        type: list
        elements: str
        choices: [critical, warning, info]
        description: Severities that it is notified of; all by default.
      secret:
        type: dict
        description: >-
          Secret with the address of a webhook, Slack or a Teams workflow, PagerDuty's routing key, or a
          mail account's password.
        suboptions:
          name:
            type: str
            required: true
            description: Name of the Secret.
          key:
            type: str
            required: true
            description: Key in the Secret.
      url:
        type: str
        description: Address of a webhook that needs no credentials; no message shows it.
      channel:
        type: str
        description: Slack's channel.
      to:
        type: str
        description: Address that mail goes to.
      from:
        type: str
        description: Address that mail comes from.
      smarthost:
        type: str
        description: Host and port of the mail server.
      username:
        type: str
        description: Account at the mail server; C(from) by default.
      send_resolved:
        type: bool
        description: Tell when an alert is over too; true by default.
      settings:
        type: dict
        description:
          - Further settings of the integration, as Alertmanager's configuration names them, merged last.
          - A credential among them is C(name) and C(key) of a Secret; one that is written out is refused.
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
  grafana_namespace:
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
- name: Watch an application
  flaskops.observability.app_monitoring:
    context: staging
    name: flask-app
    namespace: flask-app
    alerts:
      FlaskHighLatencyP95: {threshold: 1, for: 5m}
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be, with kind, namespace and name.
  type: list
  elements: str
  returned: success
ready:
  description: Whether all that the plan needs is there; never false outside check mode.
  type: bool
  returned: success
requests:
  description: How many requests of the objects were sent that read, that tried, and that wrote.
  type: dict
  returned: with RV(ready=true)
prometheus:
  description: Namespace and name of the Prometheus object, with a slash between.
  type: str
  returned: with O(state=present)
  sample: monitoring/stack-prometheus
not_applied:
  description: What is not applied, and why.
  type: list
  elements: str
  returned: success
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
