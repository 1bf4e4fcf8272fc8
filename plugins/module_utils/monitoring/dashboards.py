# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana dashboards, in the classic schema, which Grafana reads from files since version 9.

They know no application: namespace and application are variables, so that all applications share them.
"""

from __future__ import annotations

import json
import re
import typing as t

Json = dict[str, t.Any]

OWN = 'namespace="$namespace", job="$job"'
PODS = 'namespace="$namespace", pod=~"$deployment-[a-z0-9]+-[a-z0-9]+"'
DEPLOYMENT = 'namespace="$namespace", deployment="$deployment"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Target(t.NamedTuple):
    """One query of a panel; *legend* in Grafana's form, empty for the value alone."""

    expr: str
    legend: str = ""


def panel(kind: str, title: str, description: str, unit: str, *targets: Target, **more: t.Any) -> Json:
    """A panel of Grafana's type *kind*; *more* is merged: ``width`` of 24, ``height``, ``options``, ``defaults``, ``form``."""
    form = more.get("form", "time_series")
    queries = [
        {
            "refId": chr(ord("A") + n),
            "datasource": SOURCE,
            "expr": target.expr,
            "legendFormat": target.legend or "__auto",
            "format": form,
            "instant": form == "table",
            "range": form != "table",
        }
        for n, target in enumerate(targets)
    ]
    found: Json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "targets": queries,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, **more.get("defaults", {})}, "overrides": []},
        "options": more.get("options", {}),
        "gridPos": {"w": more.get("width", 12), "h": more.get("height", 8)},
    }
    if "transformations" in more:
        found["transformations"] = more["transformations"]
    return found


def series(title: str, description: str, unit: str, *targets: Target, **more: t.Any) -> Json:
    """Lines over time."""
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel("timeseries", title, description, unit, *targets, options=options, **more)


def stat(title: str, description: str, unit: str, expr: str, steps: tuple[tuple[str, float | None], ...], **more: t.Any) -> Json:
    """One number, coloured by *steps* of colour and least value."""
    thresholds = {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}
    options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
    defaults = {"thresholds": thresholds, **more.pop("defaults", {})}
    return panel("stat", title, description, unit, Target(expr), width=4, height=4, options=options, defaults=defaults, **more)


def heatmap(title: str, description: str, expr: str) -> Json:
    """A histogram over time; *expr* gives one series for each ``le``."""
    options = {"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Oranges"}}
    return panel("heatmap", title, description, "short", Target(expr, "{{le}}"), options=options, form="heatmap")


def row(title: str) -> Json:
    """A heading."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def layout(panels: list[Json]) -> list[Json]:
    """The panels from left to right and top to bottom, each with its id."""
    x = y = height = 0
    for number, item in enumerate(panels, start=1):
        place = item["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        item["gridPos"] = {"x": x, "y": y, **place}
        item["id"] = number
        x, height = x + place["w"], max(height, place["h"])
    return panels


def variable(name: str, label: str, selector: str, target: str, hide: int = 0, every: bool = False) -> Json:
    """A variable with the values of label *target*; *hide* 2 keeps it off the page, *every* offers all values at once."""
    query = f"label_values({selector}, {target})"
    found: Json = {
        "type": "query",
        "name": name,
        "label": label,
        "hide": hide,
        "datasource": SOURCE,
        "query": {"query": query, "refId": f"Variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": every,
        "includeAll": every,
    }
    if every:
        found["allValue"] = ".*"
        found["current"] = {"text": "All", "value": "$__all"}
    return found


DATA_SOURCE: Json = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0}
# Only what the role monitors carries the label deployment beside the exporter's own metric.
APPLICATION = [
    variable("namespace", "Namespace", 'flask_exporter_info{deployment!=""}', "namespace"),
    variable("job", "Application", 'flask_exporter_info{namespace="$namespace", deployment!=""}', "job"),
    variable("deployment", "Deployment", f"up{{{OWN}}}", "deployment", hide=2),
]
ROLLOUTS: Json = {
    "name": "Rollouts",
    "datasource": SOURCE,
    "enable": True,
    "hide": False,
    "iconColor": "blue",
    # Grafana marks the moments at which the value is at least 1.
    "expr": f"changes(kube_deployment_status_observed_generation{{{DEPLOYMENT}}}[$__rate_interval])",
}


def dashboard(uid: str, title: str, description: str, variables: list[Json], panels: list[Json], rollouts: bool = True) -> Json:
    """A whole dashboard."""
    link = {
        "type": "dashboards",
        "title": "Flask",
        "tags": ["flaskops"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["flaskops"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [link],
        "templating": {"list": [DATA_SOURCE, *variables]},
        "annotations": {"list": [ROLLOUTS] if rollouts else []},
        "panels": layout(panels),
    }


TOTAL = f"sum(rate(flask_http_request_total{{{OWN}}}[$__rate_interval]))"
FAILED = f'sum(rate(flask_http_request_total{{{OWN}, status=~"5.."}}[$__rate_interval]))'
# 0 and not a gap, both where nothing failed yet and where nothing was asked.
ERROR_RATIO = f"({FAILED} or vector(0)) / clamp_min({TOTAL}, 1e-9)"
GOOD_LOW = (("green", None), ("orange", 0.01), ("red", 0.05))
MUST_BE_ONE = (("red", None), ("green", 1))
MUST_BE_ZERO = (("green", None), ("red", 1))
PLAIN = (("blue", None),)
YES_NO = {"mappings": [{"type": "value", "options": {"0": {"text": "no"}, "1": {"text": "yes"}}}]}


def quantile(value: float, matchers: str, by: str = "") -> str:
    """The expression of a duration quantile in seconds."""
    labels = f"{by}, le" if by else "le"
    rate = f"rate(flask_http_request_duration_seconds_bucket{{{matchers}}}[$__rate_interval])"
    return f"histogram_quantile({value:g}, sum by ({labels}) ({rate}))"


def service() -> Json:
    """Rate, errors, duration, saturation, restarts and probe of one application."""
    panels = [
        stat("Requests", "Requests a second, all pods together, health checks left out.", "reqps", TOTAL, PLAIN),
        stat("Errors", "Share of the requests that get a 5xx status.", "percentunit", ERROR_RATIO, GOOD_LOW),
        stat(
            "Duration, 95 %",
            "95 % of the requests take at most this long.",
            "s",
            quantile(0.95, OWN),
            (("green", None), ("orange", 0.25), ("red", 0.5)),
        ),
        stat(
            "Health check",
            "Whether the health check succeeds at every address that is checked.",
            "short",
            'min(probe_success{namespace="$namespace", job="$job-health"})',
            MUST_BE_ONE,
            defaults=YES_NO,
        ),
        stat(
            "Replicas missing",
            "Replicas that should be available and are not.",
            "short",
            f"max(kube_deployment_spec_replicas{{{DEPLOYMENT}}})"
            f" - max(kube_deployment_status_replicas_available{{{DEPLOYMENT}}})",
            MUST_BE_ZERO,
        ),
        stat(
            "Alerts",
            "Alerts of this application that are firing.",
            "short",
            'count(ALERTS{namespace="$namespace", app="$job", alertstate="firing"}) or vector(0)',
            MUST_BE_ZERO,
        ),
        row("Rate and errors"),
        series(
            "Requests by status",
            "Requests a second for each HTTP status.",
            "reqps",
            Target(f"sum by (status) (rate(flask_http_request_total{{{OWN}}}[$__rate_interval]))", "{{status}}"),
        ),
        series(
            "Requests by pod",
            "Requests a second for each pod: unequal lines mean unequal load.",
            "reqps",
            Target(f"sum by (pod) (rate(flask_http_request_total{{{OWN}}}[$__rate_interval]))", "{{pod}}"),
        ),
        series("Share of errors", "Share of the requests that get a 5xx status.", "percentunit", Target(ERROR_RATIO, "5xx")),
        series(
            "Uncaught exceptions",
            "Exceptions a second that no handler caught; each is also a 500.",
            "cps",
            Target(
                f"sum(rate(flask_http_request_exceptions_total{{{OWN}}}[$__rate_interval])) or vector(0)",
                "exceptions",
            ),
        ),
        row("Duration"),
        series(
            "Duration",
            "Half, 95 % and 99 % of the requests take at most this long. Streamed bodies are not included.",
            "s",
            *(Target(quantile(value, OWN), f"{value:.0%}") for value in (0.5, 0.95, 0.99)),
        ),
        heatmap(
            "Distribution of durations",
            "How many requests took how long.",
            f"sum by (le) (increase(flask_http_request_duration_seconds_bucket{{{OWN}}}[$__rate_interval]))",
        ),
        row("Saturation"),
        series(
            "CPU",
            "CPU seconds a second of each pod, beside what one pod requests.",
            "short",
            Target(
                f'sum by (pod) (rate(container_cpu_usage_seconds_total{{{PODS}, container!=""}}[$__rate_interval]))',
                "{{pod}}",
            ),
            Target(f'max(sum by (pod) (kube_pod_container_resource_requests{{{PODS}, resource="cpu"}}))', "requested"),
        ),
        series(
            "Memory",
            "Memory of each pod that can't be reclaimed, beside the limit at which a pod is killed.",
            "bytes",
            Target(f'sum by (pod) (container_memory_working_set_bytes{{{PODS}, container!=""}})', "{{pod}}"),
            Target(f'max(sum by (pod) (kube_pod_container_resource_limits{{{PODS}, resource="memory"}}))', "limit"),
        ),
        row("Pods"),
        series(
            "Replicas",
            "Replicas wanted, available, and of the newest revision.",
            "short",
            Target(f"max(kube_deployment_spec_replicas{{{DEPLOYMENT}}})", "wanted"),
            Target(f"max(kube_deployment_status_replicas_available{{{DEPLOYMENT}}})", "available"),
            Target(f"max(kube_deployment_status_replicas_updated{{{DEPLOYMENT}}})", "newest revision"),
        ),
        series(
            "Restarts",
            "Restarts of each container since its pod began.",
            "short",
            Target(f"max by (pod, container) (kube_pod_container_status_restarts_total{{{PODS}}})", "{{pod}} {{container}}"),
        ),
        series(
            "Containers that wait",
            "Containers that don't run, by reason: CrashLoopBackOff, ImagePullBackOff and the like.",
            "short",
            Target(f"sum by (reason) (kube_pod_container_status_waiting_reason{{{PODS}}}) or vector(0)", "{{reason}}"),
        ),
        series(
            "Why containers ended",
            "The reason of the last end of each container that was restarted: OOMKilled, Error, Completed.",
            "short",
            Target(f"sum by (reason) (kube_pod_container_status_last_terminated_reason{{{PODS}}}) or vector(0)", "{{reason}}"),
        ),
        row("Health check and alerts"),
        series(
            "Health check",
            "Whether the check succeeds, at each address.",
            "short",
            Target('probe_success{namespace="$namespace", job="$job-health"}', "{{probe}} {{instance}}"),
            defaults={"max": 1},
        ),
        series(
            "Duration of the health check",
            "How long the check takes, with the lookup of the name and the connection.",
            "s",
            Target('probe_duration_seconds{namespace="$namespace", job="$job-health"}', "{{probe}} {{instance}}"),
        ),
        series(
            "Status of the health check",
            "The HTTP status that the check got; 0 when there was no answer.",
            "short",
            Target('probe_http_status_code{namespace="$namespace", job="$job-health"}', "{{probe}} {{instance}}"),
        ),
        series(
            "Alerts",
            "Alerts that are firing.",
            "short",
            Target(
                'count by (alertname) (ALERTS{namespace="$namespace", app="$job", alertstate="firing"}) or vector(0)',
                "{{alertname}}",
            ),
        ),
    ]
    return dashboard(
        "flaskops-service",
        "Flask service",
        "Rate, errors, duration, saturation, restarts and health check of one application.",
        list(APPLICATION),
        panels,
    )


def routes() -> Json:
    """Where in one application the load, the errors and the time are."""
    own = f'{OWN}, route=~"$route"'
    name = "flask_http_request_duration_seconds"
    merge = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "renameByName": {"route": "Route", "Value #A": "Requests/s", "Value #B": "Errors", "Value #C": "95 %"},
            },
        },
    ]
    errors = (
        f'(sum by (route) (rate({name}_count{{{own}, status=~"5.."}}[RANGE]))'
        f" or 0 * sum by (route) (rate({name}_count{{{own}}}[RANGE])))"
        f" / clamp_min(sum by (route) (rate({name}_count{{{own}}}[RANGE])), 1e-9)"
    )
    panels = [
        panel(
            "table",
            "Routes",
            "Each route over the whole time shown: requests a second, share of 5xx, and the duration of 95 % in seconds.",
            "short",
            Target(f"sum by (route) (rate({name}_count{{{own}}}[$__range]))"),
            Target(errors.replace("RANGE", "$__range")),
            Target(f"histogram_quantile(0.95, sum by (route, le) (rate({name}_bucket{{{own}}}[$__range])))"),
            width=24,
            form="table",
            transformations=merge,
        ),
        row("By route"),
        series(
            "Requests by route",
            "Requests a second. The route None holds what matched no rule, such as a scanner's.",
            "reqps",
            Target(f"sum by (route) (rate({name}_count{{{own}}}[$__rate_interval]))", "{{route}}"),
        ),
        series(
            "Share of errors by route",
            "Share of a route's requests that get a 5xx status.",
            "percentunit",
            Target(errors.replace("RANGE", "$__rate_interval"), "{{route}}"),
        ),
        series(
            "Duration by route, 95 %",
            "95 % of a route's requests take at most this long.",
            "s",
            Target(quantile(0.95, own, "route"), "{{route}}"),
        ),
        series(
            "Time spent by route",
            "Seconds a second that requests of a route take: where a faster route would help most.",
            "s",
            Target(f"sum by (route) (rate({name}_sum{{{own}}}[$__rate_interval]))", "{{route}}"),
        ),
        row("The chosen routes together"),
        series(
            "Requests by method and status",
            "Requests a second.",
            "reqps",
            Target(f"sum by (method, status) (rate({name}_count{{{own}}}[$__rate_interval]))", "{{method}} {{status}}"),
        ),
        series(
            "Duration",
            "Half, 95 % and 99 % of the requests take at most this long.",
            "s",
            *(Target(quantile(value, own), f"{value:.0%}") for value in (0.5, 0.95, 0.99)),
        ),
        heatmap(
            "Distribution of durations",
            "How many requests took how long.",
            f"sum by (le) (increase({name}_bucket{{{own}}}[$__rate_interval]))",
        ),
        series(
            "Duration by pod, 95 %",
            "95 % of a pod's requests take at most this long: one line above the others is one sick pod.",
            "s",
            Target(quantile(0.95, own, "pod"), "{{pod}}"),
        ),
    ]
    variables = [*APPLICATION, variable("route", "Route", f"{name}_count{{{OWN}}}", "route", every=True)]
    description = "Load, errors and duration of each route of one application."
    return dashboard("flaskops-routes", "Flask routes", description, variables, panels)


def monitoring() -> Json:
    """Whether what watches the applications is itself well."""
    panels = [
        stat("Targets down", "Targets of all jobs that can't be read.", "short", "count(up == 0) or vector(0)", MUST_BE_ZERO),
        stat(
            "Rules that fail",
            "Rule evaluations a second that fail.",
            "cps",
            "sum(rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))",
            (("green", None), ("red", 0.0001)),
        ),
        stat(
            "Prometheus is configured",
            "Whether every Prometheus accepted its newest configuration.",
            "short",
            "min(prometheus_config_last_reload_successful)",
            MUST_BE_ONE,
            defaults=YES_NO,
        ),
        stat(
            "Alertmanager is configured",
            "Whether every Alertmanager accepted its newest configuration.",
            "short",
            "min(alertmanager_config_last_reload_successful)",
            MUST_BE_ONE,
            defaults=YES_NO,
        ),
        stat(
            "Alertmanagers known",
            "Alertmanagers that Prometheus sends to; without one nobody is told of anything.",
            "short",
            "min(prometheus_notifications_alertmanagers_discovered)",
            MUST_BE_ONE,
        ),
        stat(
            "Notifications that fail",
            "Notifications a second that no receiver took.",
            "cps",
            "sum(rate(alertmanager_notifications_failed_total[$__rate_interval]))",
            (("green", None), ("red", 0.0001)),
        ),
        row("Scraping"),
        series(
            "Targets by job",
            "Targets that can be read.",
            "short",
            Target("sum by (namespace, job) (up)", "{{namespace}} {{job}}"),
        ),
        series(
            "Duration of scrapes by job",
            "The slowest target of each job.",
            "s",
            Target("max by (namespace, job) (scrape_duration_seconds)", "{{namespace}} {{job}}"),
        ),
        series(
            "Series of the applications",
            "Series of each target after relabeling; a target above its sampleLimit is refused as a whole.",
            "short",
            Target('scrape_samples_post_metric_relabeling{deployment!=""}', "{{namespace}} {{pod}}"),
        ),
        series(
            "Scrapes over the limit",
            "Scrapes a second that were refused because the target had more series than its sampleLimit.",
            "cps",
            Target("sum(rate(prometheus_target_scrapes_exceeded_sample_limit_total[$__rate_interval]))", "refused"),
        ),
        row("Prometheus"),
        series(
            "Series in memory",
            "Series that Prometheus keeps in its head.",
            "short",
            Target("prometheus_tsdb_head_series", "{{pod}}"),
        ),
        series(
            "Memory",
            "Memory of the Prometheus process.",
            "bytes",
            Target("process_resident_memory_bytes and on (job, instance) prometheus_tsdb_head_series", "{{pod}}"),
        ),
        series(
            "Duration of rule groups",
            "The ten slowest groups; a group slower than its interval misses evaluations.",
            "s",
            Target("topk(10, prometheus_rule_group_last_duration_seconds)", "{{rule_group}}"),
        ),
        series(
            "Rule evaluations that fail",
            "Failures a second of each group.",
            "cps",
            Target("sum by (rule_group) (rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))", "{{rule_group}}"),
        ),
        row("Alerting"),
        series(
            "Alerts", "Alerts in Alertmanager by state.", "short", Target("sum by (state) (alertmanager_alerts)", "{{state}}")
        ),
        series(
            "Alerts sent to Alertmanager",
            "Alerts a second that Prometheus sends, and those it drops because nobody takes them.",
            "cps",
            Target("sum(rate(prometheus_notifications_sent_total[$__rate_interval]))", "sent"),
            Target("sum(rate(prometheus_notifications_dropped_total[$__rate_interval]))", "dropped"),
        ),
        series(
            "Notifications by receiver",
            "Notifications a second, by kind of receiver.",
            "cps",
            Target("sum by (integration) (rate(alertmanager_notifications_total[$__rate_interval]))", "{{integration}}"),
        ),
        series(
            "Notifications that fail",
            "Notifications a second that the receiver did not take, by kind of receiver.",
            "cps",
            Target("sum by (integration) (rate(alertmanager_notifications_failed_total[$__rate_interval]))", "{{integration}}"),
        ),
        series(
            "Operator errors",
            "Reconciliations a second that fail: a changed object may not have reached Prometheus.",
            "cps",
            Target("sum by (controller) (rate(prometheus_operator_reconcile_errors_total[$__rate_interval]))", "{{controller}}"),
        ),
    ]
    return dashboard(
        "flaskops-monitoring",
        "Monitoring itself",
        "Whether Prometheus, Alertmanager and the exporters do their work.",
        [],
        panels,
        rollouts=False,
    )


def all_dashboards() -> list[Json]:
    """Every dashboard, as the JSON that Grafana reads."""
    return [service(), routes(), monitoring()]


def text(found: Json) -> str:
    """A dashboard as it is written into a file: the same for the same content."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


class Query(t.NamedTuple):
    """One query that Grafana would send: titles of its dashboard and panel, and PromQL without variables."""

    dashboard: str
    panel: str
    expr: str


def queries(
    namespace: str = "flask-app",
    job: str = "flask-app",
    deployment: str = "",
    route: str = ".*",
    interval: str = "5m",
    boards: list[Json] | None = None,
) -> list[Query]:
    """Every query of every dashboard for one application: of panels, variables and annotations.

    :param deployment: the application's Deployment, where it is not named like the *job*.
    :param interval: stands for ``$__rate_interval`` and ``$__range``, as a Prometheus duration.
    :param boards: the dashboards, :func:`all_dashboards` where none are given.
    """
    values = {
        "__rate_interval": interval,
        "__range": interval,
        "namespace": namespace,
        "job": job,
        "deployment": deployment or job,
        "route": route,
    }

    def filled(expr: str) -> str:
        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values.get(found[1] or found[2], found[0]), expr)

    found = []
    for item in all_dashboards() if boards is None else boards:
        for entry in item["templating"]["list"]:
            if entry["type"] == "query":
                selector = entry["query"]["query"].removeprefix("label_values(").rpartition(", ")[0]
                found.append(Query(item["title"], f"variable {entry['name']}", filled(selector)))
        for entry in item["annotations"]["list"]:
            found.append(Query(item["title"], f"annotation {entry['name']}", filled(entry["expr"])))
        for entry in item["panels"]:
            found += [Query(item["title"], entry["title"], filled(target["expr"])) for target in entry.get("targets", [])]
    return found
