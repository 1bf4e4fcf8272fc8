# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that verify and the drill ask Prometheus themselves, in which ``$namespace`` and the like are filled in.

It is Python, unlike the rules and the dashboards, because Ansible sends nothing else with a module.
"""

from __future__ import annotations

from string import Template

NOW = "time()"
CLOCKS_OF_NODES = "timestamp(node_time_seconds) - node_time_seconds"

# What the exporters know of an application.
REPLICAS = 'kube_deployment_spec_replicas{namespace="$namespace", deployment="$name"}'
# By the pods' whole names: those of another application may begin with this one's.
MEMORY = 'count by (pod) (container_memory_working_set_bytes{namespace="$namespace", pod=~"$pods"})'
PROBE = 'probe_success{namespace="$namespace", app="$name"}'
# By pod and name, what the rules and the links of the metrics read of the application itself; the operator gives the label pod.
STORED = (
    'sum by (pod, __name__) ({__name__=~"flask_http_request_(total|duration_seconds_(count|sum)|exceptions_total)",'
    ' namespace="$namespace", job="$name"})'
)
SCHEDULE = 'flaskops_verify_interval_seconds{namespace="$namespace", app="$name"}'

# The test alert on its way.
TEST_ALERT = 'ALERTS{alertname="$alert", service="$service", alertstate="firing"}'
TEST_SERVICE = 'kube_service_info{service="$service"}'
# Series where notifications failed within 5 minutes and none succeeded.
NOTIFICATIONS = 'count(alertmanager_notifications_total{namespace="$namespace"})'
RECEIVERS_REFUSE = (
    'sum by (integration) (increase(alertmanager_notifications_failed_total{namespace="$namespace"}[5m])) > 0.5'
    ' unless sum by (integration) (increase(alertmanager_notifications_total{namespace="$namespace"}[5m]))'
    ' - sum by (integration) (increase(alertmanager_notifications_failed_total{namespace="$namespace"}[5m])) > 0.5'
)
RULER_SENT = 'count(loki_prometheus_notifications_sent_total{namespace="$namespace"})'
RULER_REFUSED = (
    'sum by (alertmanager) (increase(loki_prometheus_notifications_errors_total{namespace="$namespace"}[5m])) > 0.5'
    ' unless sum by (alertmanager) (increase(loki_prometheus_notifications_sent_total{namespace="$namespace"}[5m]))'
    ' - sum by (alertmanager) (increase(loki_prometheus_notifications_errors_total{namespace="$namespace"}[5m])) > 0.5'
)

# Log agents and back ends. A DaemonSet's pods have five letters behind its name.
AGENTS_SCRAPED = 'up{namespace="$namespace", pod=~"$name-[a-z0-9]{5}"} == 1'
# Lines or chunks that were given up. One by one: Prometheus refuses a selector that matches two of them with the same labels.
GIVEN_UP = (
    '(sum(increase(log_collector_rejected_records_total{namespace="$namespace", pod=~"$name-[a-z0-9]{5}"}[10m])) or vector(0))'
    ' + (sum(increase(fluentbit_output_dropped_records_total{namespace="$namespace", pod=~"$name-[a-z0-9]{5}"}[10m]))'
    " or vector(0))"
    ' + (sum(increase(fluentbit_output_retries_failed_total{namespace="$namespace", pod=~"$name-[a-z0-9]{5}"}[10m]))'
    " or vector(0)) > 0"
)
# Pods that had work for two minutes, and did none of it: lines that were tried again and never delivered, or never read.
IDLE = (
    '(sum by (pod, name) (increase(fluentbit_output_retries_total{namespace="$namespace"}[2m])) > 0'
    ' unless sum by (pod, name) (increase(fluentbit_output_proc_records_total{namespace="$namespace"}[2m])) > 0)'
    ' or (min by (pod) (min_over_time(log_collector_unread_bytes{namespace="$namespace"}[2m])) > 0'
    ' unless sum by (pod) (increase(log_collector_records_total{namespace="$namespace"}[2m])) > 0)'
)
# What a back end dropped after it had taken it, by the reason; no series where nobody reads its counters.
DROPPED = 'sum by (reason) (increase($counter{namespace="$namespace"}[10m]))'
LINES = 'sum by (level) (flaskops_log_lines_total{namespace="$namespace", app="$name"})'


def filled(query: str, **values: str) -> str:
    """A query of these with its names filled in; :raises KeyError: when one is missing."""
    return Template(query).substitute(values)
