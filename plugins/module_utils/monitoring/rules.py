# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules of one application.

They are built in Python because Jinja and Prometheus both write ``{{ }}``: nothing here ever passes a template.
"""

from __future__ import annotations

import re
import typing as t

Rule = dict[str, t.Any]

SEVERITIES = ("critical", "warning", "info")

# What each alert can be told, and what it does untold. A threshold is a ratio, seconds or a count, as the comment says.
ALERTS: dict[str, dict[str, t.Any]] = {
    "HighErrorRate": {"threshold": 0.05, "window": "5m", "for": "2m", "severity": "warning"},  # ratio of 5xx
    "FlaskHighLatencyP95": {"threshold": 0.5, "window": "5m", "for": "10m", "severity": "warning"},  # seconds
    "FlaskUncaughtExceptions": {"window": "10m", "for": "0s", "severity": "warning"},
    "FlaskHealthProbeFailed": {"for": "1m", "severity": "critical"},
    "FlaskPodCrashLooping": {"window": "5m", "for": "5m", "severity": "critical"},
    "FlaskRestarting": {"threshold": 3, "window": "15m", "for": "0s", "severity": "warning"},  # restarts of a container
    "FlaskPodOOMKilled": {"window": "10m", "for": "0s", "severity": "warning"},
    "FlaskReplicasUnavailable": {"window": "5m", "for": "10m", "severity": "warning"},
    "FlaskTargetDown": {"for": "5m", "severity": "warning"},
    "FlaskMetricsAbsent": {"for": "10m", "severity": "critical"},
    "LogErrorLines": {"threshold": 0.2, "window": "5m", "for": "0s", "severity": "warning"},  # lines a second
    "LogTraceback": {"window": "5m", "for": "0s", "severity": "warning"},
    # Only for an application that is known to log something all the time.
    "LogSilence": {"window": "15m", "for": "1m", "severity": "warning", "enabled": False},
    "FlaskErrorBudgetBurnFast": {"for": "2m", "severity": "critical"},
    "FlaskErrorBudgetBurnSlow": {"for": "15m", "severity": "warning"},
    # As with the Watchdog, nobody is told. The charts' InfoInhibitor would mute one of severity info, its end included.
    "VerifyTestAlert": {"for": "0s", "severity": "none"},
}

# What a scheduled verification alerts on, which its role installs; an empty `for` is twice the time between two runs, an empty
# `window` three times as much and at least a quarter of an hour, so that an alert lasts from one run to the next.
VERIFY_ALERTS: dict[str, dict[str, t.Any]] = {
    "VerifyLinkBroken": {"for": "", "severity": "warning"},
    "VerifyStale": {"for": "1m", "severity": "warning"},
    "LogLinesMissing": {"window": "", "for": "0s", "severity": "critical"},
    "LogLinesLate": {"window": "", "for": "0s", "severity": "warning"},
    # Nobody is woken: an agent that is killed sends again what it is not sure of, and a back end may keep both.
    "LogLinesDouble": {"window": "", "for": "0s", "severity": "info"},
}

# A Service with this prefix in its name, made by verify, fires VerifyTestAlert: every kube-state-metrics counts Services.
TEST_SERVICE = "flaskops-verify-"
# Where it is followed by this the alert is critical, and goes on to whoever is told of such alerts.
NOTIFY = "notify-"

OPTIONS: dict[str, t.Any] = {
    "name": "flask-app",
    "namespace": "flask-app",
    "deployment": "",  # empty: as name
    "alerts": {},  # alert: the entries of ALERTS that differ, and `enabled`
    "probe": True,
    "slo": 0.0,  # share of requests that must not fail, 0 for none
    "min_errors": 3,
    "min_requests": 10,
    "literal_error_rate": False,
    "extra_rules": [],
    "scrape_interval": "30s",
    "evaluation_interval": "",
    "runbook_url": "https://github.com/flaskops/observability/blob/main/docs/runbooks",
    "grafana_url": "",
}

# Long window, short window, factor of the budget: 2 % of a 30 day budget in 1 h, 5 % in 6 h, 10 % in 1 d, 10 % in 3 d
# (Google's SRE Workbook, "Alerting on SLOs", windows as in slok/sloth's google-30d).
BURN_FAST = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
BURN_SLOW = (("1d", "2h", 3.0), ("3d", "6h", 1.0))

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")


def seconds(duration: str) -> float:
    """The seconds of a Prometheus duration such as ``1h30m``; :raises ValueError: when it is none."""
    if not DURATION.fullmatch(duration):
        raise ValueError(f"'{duration}' is no duration: write a number and ms, s, m, h, d, w or y, as in 5m.")
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


def settings(given: dict[str, t.Any]) -> dict[str, t.Any]:
    """:data:`OPTIONS` with those *given* on top, and under ``alerts`` every alert with all that it can be told.

    :raises ValueError: with one sentence that names the option.
    """
    options = {**OPTIONS, **given}
    options["deployment"] = options["deployment"] or options["name"]
    if not 0 <= float(options["slo"]) < 1:
        raise ValueError(f"The SLO is {options['slo']}: give the share of good requests, below 1 as in 0.999, or 0 for none.")
    scrape = seconds(options["scrape_interval"])
    if options["evaluation_interval"]:
        seconds(options["evaluation_interval"])
    unknown = sorted(set(options["alerts"]) - set(ALERTS))
    if unknown:
        raise ValueError(f"There is no alert {unknown[0]}: use one of {', '.join(ALERTS)}.")
    alerts = {}
    for name, defaults in ALERTS.items():
        own = options["alerts"].get(name) or {}
        allowed = {"enabled": True, **defaults}
        for key, value in own.items():
            if key not in allowed:
                raise ValueError(f"The alert {name} has no option {key}: use one of {', '.join(allowed)}.")
            try:
                if key in ("window", "for"):
                    seconds(str(value))
                elif key == "threshold" and float(value) < 0:
                    raise ValueError("it is negative.")
                elif key == "severity" and value not in SEVERITIES:
                    raise ValueError(f"'{value}' is none of {', '.join(SEVERITIES)}.")
                elif key == "enabled" and not isinstance(value, bool):
                    raise ValueError(f"'{value}' is neither true nor false.")
            except (TypeError, ValueError) as error:
                raise ValueError(f"The option {key} of the alert {name} can't be used: {error}") from error
        alert = {**allowed, **own}
        if name in ("HighErrorRate", "FlaskHighLatencyP95") and seconds(alert["window"]) < 4 * scrape:
            raise ValueError(
                f"The window {alert['window']} of the alert {name} is shorter than four scrape intervals of"
                f" {options['scrape_interval']}: a missed scrape would blind it, so lengthen the window or scrape more often."
            )
        alerts[name] = alert
    options["alerts"] = alerts
    return options


def job_of_probe(name: str) -> str:
    """The job label of an application's health probes; not that of its metrics, or their ``up`` would mix."""
    return f"{name}-health"


def number(value: t.Any) -> str:
    """A number as PromQL writes it."""
    return f"{float(value):g}"


def _errors(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    if options["literal_error_rate"]:
        return f'rate(http_requests_total{{status=~"5.."}}[{alert["window"]}]) > {number(alert["threshold"])}'
    own = f'namespace="{options["namespace"]}", job="{options["name"]}"'
    window, failed = alert["window"], f'flask_http_request_total{{{own}, status=~"5.."}}'
    return f"""\
(
  sum by (namespace, job) (rate({failed}[{window}]))
/
  sum by (namespace, job) (rate(flask_http_request_total{{{own}}}[{window}]))
) > {number(alert["threshold"])}
and
sum by (namespace, job) (increase({failed}[{window}])) >= {number(options["min_errors"])}"""


def _latency(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    own = f'namespace="{options["namespace"]}", job="{options["name"]}"'
    name, window = "flask_http_request_duration_seconds", alert["window"]
    return f"""\
histogram_quantile(0.95, sum by (namespace, job, le) (rate({name}_bucket{{{own}}}[{window}]))) > {number(alert["threshold"])}
and
sum by (namespace, job) (increase({name}_count{{{own}}}[{window}])) >= {number(options["min_requests"])}"""


def _exceptions(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    own = f'namespace="{options["namespace"]}", job="{options["name"]}"'
    window, series = alert["window"], f"flask_http_request_exceptions_total{{{own}}}"
    # The exporter's counter appears with the first exception, already at 1, and increase() of a series that
    # has always been 1 is 0. So the second half asks for series that are younger than their target: fewer samples
    # than its `up`, and none before the window. A Prometheus that lost its data knows neither, and stays silent.
    return f"""\
sum by (namespace, job) (increase({series}[{window}])) > 0
or
sum by (namespace, job) (
  (
    count_over_time({series}[{window}])
  < on (namespace, job, instance) group_left ()
    count_over_time(up{{{own}}}[{window}])
  )
  unless
  last_over_time({series}[1h] offset {window})
) > 0"""


def _pods(options: dict[str, t.Any]) -> str:
    # A Deployment's pods: its name, the ReplicaSet's hash, five characters. Dashes end each part, so that
    # flask-app does not match the pods of flask-app-admin.
    return f'namespace="{options["namespace"]}", pod=~"{options["deployment"]}-[a-z0-9]+-[a-z0-9]+"'


def _crash_loop(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    series = f'kube_pod_container_status_waiting_reason{{{_pods(options)}, reason="CrashLoopBackOff"}}'
    # Between two waits the container runs for a moment; the window bridges it.
    return f"max by (namespace, pod, container) (max_over_time({series}[{alert['window']}])) >= 1"


def _restarts(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    series = f"kube_pod_container_status_restarts_total{{{_pods(options)}}}"
    # increase() extrapolates; restarts are whole.
    return f"round(max by (namespace, pod, container) (increase({series}[{alert['window']}]))) > {number(alert['threshold'])}"


def _oom(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    pods, window = _pods(options), alert["window"]
    restarts = f"kube_pod_container_status_restarts_total{{{pods}}}"
    # The reason stays until the pod is gone, so only a restart within the window makes it news. A pod that was killed
    # before it was first seen shows no increase: for a pod younger than the window any restart counts.
    return f"""\
max by (namespace, pod, container) (kube_pod_container_status_last_terminated_reason{{{pods}, reason="OOMKilled"}}) == 1
and
(
  max by (namespace, pod, container) (increase({restarts}[{window}])) > 0
  or
  max by (namespace, pod, container) ({restarts}) > 0
    and on (namespace, pod) time() - max by (namespace, pod) (kube_pod_created{{{pods}}}) < {number(seconds(window))}
)"""


def _replicas(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    own = f'namespace="{options["namespace"]}", deployment="{options["deployment"]}"'
    # While a rollout moves on, missing replicas are its normal course.
    return f"""\
max by (namespace, deployment) (kube_deployment_spec_replicas{{{own}}})
  - max by (namespace, deployment) (kube_deployment_status_replicas_available{{{own}}}) > 0
and
max by (namespace, deployment) (changes(kube_deployment_status_replicas_updated{{{own}}}[{alert["window"]}])) == 0"""


def _absent(options: dict[str, t.Any]) -> list[tuple[str, str]]:
    """What is missing, and the expression that says so."""
    own = f'namespace="{options["namespace"]}", job="{options["name"]}"'
    deployment = f'namespace="{options["namespace"]}", deployment="{options["deployment"]}"'
    state = f"kube_deployment_spec_replicas{{{deployment}}}"
    # absent() keeps the labels that are compared with =. A Deployment scaled to zero on purpose has no targets.
    found = [
        ("targets", f"absent(up{{{own}}})\nunless on (namespace) {state} == 0"),
        ("exporter", f"max by (namespace, job) (up{{{own}}}) == 1\nunless on (namespace, job) flask_exporter_info{{{own}}}"),
        ("kube-state-metrics", f"absent({state})"),
    ]
    if options["probe"]:
        probe = f'namespace="{options["namespace"]}", job="{job_of_probe(options["name"])}"'
        found.append(("probe", f"absent(probe_success{{{probe}}})"))
    return found


def _risen(by: str, series: str, window: str) -> str:
    """How much a counter rose. What it counted before it was first scraped is an increase too; but not where Prometheus knows
    nothing of before the window, because its data was lost.
    """
    return f"""\
sum by ({by}) (
  ({series} unless last_over_time({series}[1h] offset {window}) and on () count(up offset {window}))
  or
  increase({series}[{window}])
)"""


# The log agents' counters.
LINES, TRACEBACKS = "flaskops_log_lines_total", "flaskops_log_tracebacks_total"


def _log_errors(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    own = f'namespace="{options["namespace"]}", app="{options["name"]}", level=~"error|critical"'
    return f"sum by (namespace, app) (rate({LINES}{{{own}}}[{alert['window']}])) > {number(alert['threshold'])}"


def _log_tracebacks(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    series = f'{TRACEBACKS}{{namespace="{options["namespace"]}", app="{options["name"]}"}}'
    return f"{_risen('namespace, app', series, alert['window'])} > 0"


def _log_silence(options: dict[str, t.Any], alert: dict[str, t.Any]) -> str:
    series = f'{LINES}{{namespace="{options["namespace"]}", app="{options["name"]}"}}'
    window = alert["window"]
    # What is younger than the window may have logged before it was first scraped, and has not been silent for all of it.
    return f"""\
(
  sum by (namespace, app) (increase({series}[{window}])) == 0
  and
  sum by (namespace, app) ({series} offset {window})
  unless
  sum by (namespace, app) ({series} unless last_over_time({series}[1h] offset {window})) > 0
)
or
absent_over_time({series}[{window}])"""


def _ratio(window: str, namespace: str, name: str) -> str:
    return f'namespace_job:flask_http_request_errors:ratio_rate{window}{{namespace="{namespace}", job="{name}"}}'


def _burn(options: dict[str, t.Any], windows: tuple[tuple[str, str, float], ...]) -> str:
    namespace, name = options["namespace"], options["name"]
    failed = f'flask_http_request_total{{namespace="{namespace}", job="{name}", status=~"5.."}}'
    budget = 1 - float(options["slo"])
    parts = []
    for long, short, factor in windows:
        limit = number(round(factor * budget, 9))
        parts.append(f"""\
(
  {_ratio(long, namespace, name)} > {limit}
  and {_ratio(short, namespace, name)} > {limit}
  and sum by (namespace, job) (increase({failed}[{long}])) >= {number(options["min_errors"])}
)""")
    return "\nor\n".join(parts)


def slo_records(options: dict[str, t.Any]) -> list[Rule]:
    """The recording rules of the error ratios, one for each window of the burn rates; 0 where nothing failed."""
    own = f'namespace="{options["namespace"]}", job="{options["name"]}"'
    rules = []
    for window in sorted({w for pair in BURN_FAST + BURN_SLOW for w in pair[:2]}, key=seconds):
        total = f"sum by (namespace, job) (rate(flask_http_request_total{{{own}}}[{window}]))"
        failed = f'sum by (namespace, job) (rate(flask_http_request_total{{{own}, status=~"5.."}}[{window}]))'
        expr = f"(\n  {failed}\n  or 0 * {total}\n)\n/\n({total} > 0)"
        rules.append({"record": f"namespace_job:flask_http_request_errors:ratio_rate{window}", "expr": expr})
    return rules


def alert_rules(options: dict[str, t.Any]) -> list[Rule]:
    """The alert rules for complete *options* (see :func:`settings`), in Prometheus' own form."""
    alerts, rules = options["alerts"], []

    def add(name: str, expr: str, summary: str, description: str, **labels: str) -> None:
        alert = alerts[name]
        if not alert["enabled"]:
            return
        annotations = {
            "summary": summary,
            "description": description,
            "runbook_url": f"{options['runbook_url'].rstrip('/')}/{name}.md",
        }
        if options["grafana_url"]:
            query = f"var-namespace={options['namespace']}&var-job={options['name']}"
            annotations["dashboard_url"] = f"{options['grafana_url'].rstrip('/')}/d/flaskops-service?{query}"
        rules.append(
            {
                "alert": name,
                "expr": expr,
                "for": alert["for"],
                "labels": {"severity": alert["severity"], **labels},
                "annotations": annotations,
            }
        )

    app = {"app": options["name"]}
    who = "{{ $labels.namespace }}/" + options["name"]
    pod = "{{ $labels.namespace }}/{{ $labels.pod }}"
    a = alerts["HighErrorRate"]
    if options["literal_error_rate"]:
        # The literal expression knows no application: its series bring their own labels.
        add(
            "HighErrorRate",
            _errors(options, a),
            "High 5xx error rate",
            '{{ $labels.namespace }}/{{ $labels.pod }} answers {{ $value | printf "%.2f" }} requests a second with'
            " {{ $labels.method }} {{ $labels.status }}.",
        )
    else:
        add(
            "HighErrorRate",
            _errors(options, a),
            "High 5xx error rate",
            f"{who} answers {{{{ $value | humanizePercentage }}}} of its requests with a 5xx status.",
            **app,
        )
    a = alerts["FlaskHighLatencyP95"]
    add(
        "FlaskHighLatencyP95",
        _latency(options, a),
        "Requests are slow",
        f"95 % of the requests to {who} take up to {{{{ $value | humanizeDuration }}}}; the limit is {number(a['threshold'])} s.",
        **app,
    )
    add(
        "FlaskUncaughtExceptions",
        _exceptions(options, alerts["FlaskUncaughtExceptions"]),
        "Requests end in an exception that nothing handled",
        f"{who} raised exceptions within the last {alerts['FlaskUncaughtExceptions']['window']}; the tracebacks are in its log.",
        **app,
    )
    if options["probe"]:
        probe = f'namespace="{options["namespace"]}", job="{job_of_probe(options["name"])}"'
        add(
            "FlaskHealthProbeFailed",
            f"min by (namespace, job, probe, instance) (probe_success{{{probe}}}) == 0",
            "The health check fails",
            f"{who} does not answer its health check at {{{{ $labels.instance }}}} ({{{{ $labels.probe }}}}).",
            **app,
        )
    add(
        "FlaskPodCrashLooping",
        _crash_loop(options, alerts["FlaskPodCrashLooping"]),
        "A pod crashes in a loop",
        f"Container {{{{ $labels.container }}}} of {pod} crashes again and again; Kubernetes waits longer before each restart.",
        **app,
    )
    add(
        "FlaskRestarting",
        _restarts(options, alerts["FlaskRestarting"]),
        "A container restarts often",
        f"Container {{{{ $labels.container }}}} of {pod} restarted {{{{ $value | humanize }}}} times within"
        f" {alerts['FlaskRestarting']['window']}.",
        **app,
    )
    add(
        "FlaskPodOOMKilled",
        _oom(options, alerts["FlaskPodOOMKilled"]),
        "A container was killed for using too much memory",
        f"Container {{{{ $labels.container }}}} of {pod} reached its memory limit and was killed.",
        **app,
    )
    add(
        "FlaskReplicasUnavailable",
        _replicas(options, alerts["FlaskReplicasUnavailable"]),
        "Replicas are missing",
        f"{{{{ $value | humanize }}}} of the replicas that {who} should have are not available, and no rollout is under way.",
        **app,
    )
    add(
        "FlaskTargetDown",
        f'max by (namespace, job, pod, instance) (up{{namespace="{options["namespace"]}", job="{options["name"]}"}}) == 0',
        "Metrics can't be read",
        f"Prometheus can't read the metrics of {pod} at {{{{ $labels.instance }}}}.",
        **app,
    )
    for source, expr in _absent(options):
        add(
            "FlaskMetricsAbsent",
            expr,
            "Metrics are missing",
            f"Nothing is known about {who}, because its {source} metrics are missing: alerts that need them can't fire.",
            **app,
            source=source,
        )
    severity = alerts["VerifyTestAlert"]["severity"]
    add(
        "VerifyTestAlert",
        f'max by (namespace, service) (kube_service_info{{namespace="{options["namespace"]}", service=~"{TEST_SERVICE}.+"}}) > 0',
        "A test of the way that alerts take",
        f"A verification of {who} sends this alert to see it arrive; it ends with the Service {{{{ $labels.service }}}}.",
        severity=f'{{{{ if match "^{TEST_SERVICE}{NOTIFY}" $labels.service }}}}critical{{{{ else }}}}{severity}{{{{ end }}}}',
        **app,
    )
    add(
        "LogErrorLines",
        _log_errors(options, alerts["LogErrorLines"]),
        "The application logs many errors",
        f'{who} logs {{{{ $value | printf "%.2f" }}}} error lines a second; the limit is'
        f" {number(alerts['LogErrorLines']['threshold'])}.",
        **app,
    )
    add(
        "LogTraceback",
        _log_tracebacks(options, alerts["LogTraceback"]),
        "The application logged a traceback",
        f"{who} logged tracebacks within the last {alerts['LogTraceback']['window']}; each is a bug.",
        **app,
    )
    add(
        "LogSilence",
        _log_silence(options, alerts["LogSilence"]),
        "The application logs nothing",
        f"{who} has not logged a line for {alerts['LogSilence']['window']}: it does not run, or no log agent reads its lines.",
        **app,
    )
    if float(options["slo"]):
        percent = number(float(options["slo"]) * 100)
        for name, windows, text in (
            ("FlaskErrorBudgetBurnFast", BURN_FAST, "The error budget burns fast"),
            ("FlaskErrorBudgetBurnSlow", BURN_SLOW, "The error budget burns steadily"),
        ):
            add(
                name,
                _burn(options, windows),
                text,
                f"{who} fails {{{{ $value | humanizePercentage }}}} of its requests, too many for its goal of {percent} %.",
                **app,
            )
    return rules


def rule_groups(given: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """The rule groups of one application, as a Prometheus rule file has them under ``groups``.

    :param given: those of :data:`OPTIONS` that differ. :raises ValueError: with one sentence that names the option.
    """
    options = settings(given)
    groups: list[dict[str, t.Any]] = [{"name": f"{options['name']}.alerts", "rules": alert_rules(options)}]
    if float(options["slo"]):
        # A group of its own: Prometheus evaluates it beside the alerts, which read ratios that are one round old at most.
        groups.insert(0, {"name": f"{options['name']}.slo", "rules": slo_records(options)})
    if options["extra_rules"]:
        groups.append({"name": f"{options['name']}.extra", "rules": list(options["extra_rules"])})
    if options["evaluation_interval"]:
        groups = [{"name": g["name"], "interval": options["evaluation_interval"], "rules": g["rules"]} for g in groups]
    return groups


def verify_rule_groups(name: str, namespace: str, every: int, alerts: dict[str, t.Any], runbook_url: str = "") -> list[Rule]:
    """The rule groups about a verification of one application that is repeated, as :func:`rule_groups` gives them.

    :param every: seconds between two runs. :param alerts: those of :data:`VERIFY_ALERTS` that differ.
    :raises ValueError: with one sentence that names the option.
    """
    unknown = sorted(set(alerts) - set(VERIFY_ALERTS))
    if unknown:
        raise ValueError(f"There is no alert {unknown[0]}: use one of {', '.join(VERIFY_ALERTS)}.")
    settled = {}
    for alert, defaults in VERIFY_ALERTS.items():
        settled[alert] = {**defaults, **alerts.get(alert, {})}
        settled[alert]["for"] = settled[alert]["for"] or f"{2 * every}s"
        seconds(settled[alert]["for"])
        if "window" in defaults:
            settled[alert]["window"] = settled[alert]["window"] or f"{max(900, 3 * every)}s"
            seconds(settled[alert]["window"])
        if settled[alert]["severity"] not in SEVERITIES:
            raise ValueError(f"The severity of the alert {alert} is none of {', '.join(SEVERITIES)}.")
    own = f'namespace="{namespace}", app="{name}"'
    last = f"max by (namespace, app) (last_over_time(flaskops_verify_last_run_timestamp_seconds{{{own}}}[1d]))"

    def lines(alert: str, kind: str) -> str:
        series = f"flaskops_verify_lines_{kind}_total{{{own}}}"
        return f"{_risen('namespace, app, backend', series, settled[alert]['window'])} > 0"

    some = '{{ $value | printf "%.0f" }} of the numbered lines of {{ $labels.namespace }}/{{ $labels.app }}'
    texts = {
        # What follows from another broken link is no news.
        "VerifyLinkBroken": (
            f"max by (namespace, app, link) (flaskops_verify_link_ok{{{own}}}) == 0\n"
            f"unless\nmax by (namespace, app, link) (flaskops_verify_link_follows{{{own}}}) == 1",
            "A link of the monitoring is broken",
            "The verification of {{ $labels.namespace }}/{{ $labels.app }} finds the link {{ $labels.link }} broken.",
        ),
        # A pod that is gone leaves its last run behind.
        "VerifyStale": (
            f"time() - {last} > {3 * every}",
            "Nobody verifies the monitoring",
            "The last verification of {{ $labels.namespace }}/{{ $labels.app }} ended {{ $value | humanizeDuration }} ago.",
        ),
        "LogLinesMissing": (
            lines("LogLinesMissing", "missing"),
            "Log lines are missing in a log back end",
            f"{some} are not in {{{{ $labels.backend }}}}, which answers: other lines are missing too.",
        ),
        "LogLinesLate": (
            lines("LogLinesLate", "late"),
            "Log lines can't be found in time in a log back end",
            f"{some} were not found in {{{{ $labels.backend }}}} in time: it is behind, does not answer, or gets none.",
        ),
        "LogLinesDouble": (
            lines("LogLinesDouble", "double"),
            "A log back end has log lines twice",
            f"{some} are in {{{{ $labels.backend }}}} once too often: they were sent again, and it keeps both.",
        ),
    }
    base = (runbook_url or OPTIONS["runbook_url"]).rstrip("/")
    rules = [
        {
            "alert": alert,
            "expr": expr,
            "for": settled[alert]["for"],
            "labels": {"severity": settled[alert]["severity"]},
            "annotations": {"summary": summary, "description": description, "runbook_url": f"{base}/{alert}.md"},
        }
        for alert, (expr, summary, description) in texts.items()
    ]
    return [{"name": f"{name}.verify", "rules": rules}]


# One fault pages once: what a first alert explains, a second need not say. The values are regular expressions.
# Each holds within one namespace and app, so that one application never hides another.
INHIBITIONS: tuple[dict[str, dict[str, str]], ...] = (
    # Nobody reaches the application: the rest is cause or consequence, and the runbook of this alert begins there.
    {
        "source": {"alertname": "FlaskHealthProbeFailed", "probe": "inside"},
        "target": {
            "alertname": "HighErrorRate|Flask(HighLatencyP95|UncaughtExceptions|PodCrashLooping|PodOOMKilled|Restarting"
            "|ReplicasUnavailable|TargetDown|ErrorBudgetBurnFast|ErrorBudgetBurnSlow)"
        },
    },
    {
        "source": {"alertname": "FlaskHealthProbeFailed", "probe": "inside"},
        "target": {"alertname": "FlaskHealthProbeFailed", "probe": "public"},
    },
    {
        "source": {"alertname": "FlaskHealthProbeFailed", "probe": "inside"},
        "target": {"alertname": "FlaskMetricsAbsent", "source": "targets"},
    },
    {
        "source": {"alertname": "FlaskPodCrashLooping"},
        "target": {"alertname": "Flask(Restarting|ReplicasUnavailable|TargetDown)"},
    },
    {"source": {"alertname": "FlaskPodOOMKilled"}, "target": {"alertname": "FlaskRestarting"}},
    {"source": {"alertname": "FlaskReplicasUnavailable"}, "target": {"alertname": "FlaskTargetDown"}},
    {
        "source": {"alertname": "FlaskErrorBudgetBurnFast"},
        "target": {"alertname": "HighErrorRate|FlaskUncaughtExceptions|FlaskErrorBudgetBurnSlow"},
    },
    {"source": {"alertname": "HighErrorRate"}, "target": {"alertname": "FlaskUncaughtExceptions|FlaskErrorBudgetBurnSlow"}},
)


def detection_seconds(given: dict[str, t.Any], group_wait: float = 30) -> dict[str, tuple[float, float]]:
    """How soon and how late each alert reaches its receiver after a lasting, complete fault began, in seconds.

    The soonest is the `for` time, rounded up to whole evaluations, and Alertmanager's *group_wait*. The latest adds
    a scrape interval (two where a rate needs two samples), an evaluation interval, and the share of the window that
    failing requests must fill at steady traffic before they cross the threshold. What happens before the symptom is
    in a metric (a kubelet's back-off, say) is not in it.
    """
    options = settings(given)
    scrape = seconds(options["scrape_interval"])
    every = seconds(options["evaluation_interval"]) if options["evaluation_interval"] else scrape
    fill = {"HighErrorRate": options["alerts"]["HighErrorRate"]["threshold"], "FlaskHighLatencyP95": 0.05}
    found = {}
    for name, alert in options["alerts"].items():
        if not alert["enabled"] or (name.startswith("FlaskErrorBudget") and not float(options["slo"])):
            continue
        pending = -(-seconds(alert["for"]) // every) * every
        filled = float(fill.get(name, 0)) * seconds(alert.get("window", "0s"))
        scrapes = 2 if name in fill else 1
        found[name] = (pending + group_wait, pending + group_wait + scrapes * scrape + every + filled)
    return found
