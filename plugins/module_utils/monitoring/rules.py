# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules of one application, and of its scheduled verification, as the options make them.

The rules are files of roles, in the form of a Prometheus rule file. A name written ``$name`` is filled in here, and the options
of an alert take the place of what its rule says: ``for``, the label ``severity``, and the annotations ``threshold`` and
``window``, for which ``$threshold`` and ``$window`` stand in the rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .durations import seconds
from .names import APPLICATION, THRESHOLD, WINDOW

Rule = dict[str, Any]
Groups = list[dict[str, Any]]
Options = dict[str, Any]

SEVERITIES = ("critical", "warning", "info")
ROLES = Path(__file__).resolve().parents[3] / "roles"
# Prometheus' own variables, which its templates fill in.
PLACEHOLDER = re.compile(r"\$(?!(?:labels|value|externalLabels|externalURL)\b)(\w+)")
# Alerts that must be enabled, because they are wrong for most applications.
UNASKED = ("LogSilence",)
# What of an alert an annotation says.
ANNOTATED = (THRESHOLD, WINDOW, "severity")


def read(path: Path) -> Groups:
    """The groups of a rule file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    groups: Groups = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)["groups"]
    return groups


def options_of(files: Iterable[Groups]) -> dict[str, Options]:
    """What each alert of some rule files can be told, and what it does untold."""
    found: dict[str, Options] = {}
    for rule in (rule for groups in files for group in groups for rule in group["rules"] if "alert" in rule):
        annotations = rule["annotations"]
        told = {key: annotations[key] for key in (THRESHOLD, WINDOW) if key in annotations}
        severity = annotations.get("severity", rule["labels"]["severity"])
        found[rule["alert"]] = {
            "enabled": rule["alert"] not in UNASKED,
            **told,
            "for": rule.get("for", "0s"),
            "severity": severity,
        }
    return found


# The files of an application's rules by their names.
FILES = {path.stem: read(path) for path in sorted((ROLES / "app_monitoring/files/rules").glob("*.yml"))}
ALERTS = options_of(FILES.values())
VERIFY = read(ROLES / "verify/files/rules.yml")
VERIFY_ALERTS = options_of([VERIFY])

OPTIONS: Options = {
    "name": "flask-app",
    "namespace": "flask-app",
    "deployment": "",  # empty: as name
    "alerts": {},  # alert: the entries of ALERTS that differ
    "probe": True,
    "workers": [],  # each with its name
    "slo": 0.0,  # share of requests that must not fail, 0 for none
    "slo_latency": 0.0,  # share of requests that must not be slow, 0 for none
    "slo_latency_seconds": 0.5,  # what a request may take that is not slow
    "min_errors": 3,
    "min_requests": 10,
    "literal_error_rate": False,
    "extra_rules": [],
    "scrape_interval": "30s",
    "evaluation_interval": "",
    "runbook_url": "https://github.com/flaskops/observability/blob/main/docs/runbooks",
    "grafana_url": "",
}


def _check(name: str, key: str, value: Any) -> None:
    """:raises ValueError: when an option of an alert can't have this value."""
    try:
        if key in (WINDOW, "for"):
            seconds(str(value))
        elif key == THRESHOLD and float(value) < 0:
            raise ValueError("it is negative.")
        elif key == "severity" and value not in SEVERITIES:
            raise ValueError(f"'{value}' is none of {', '.join(SEVERITIES)}.")
        elif key == "enabled" and not isinstance(value, bool):
            raise ValueError(f"'{value}' is neither true nor false.")
    except (TypeError, ValueError) as error:
        raise ValueError(f"The option {key} of the alert {name} can't be used: {error}") from error


def told(defaults: dict[str, Options], given: dict[str, Any]) -> dict[str, Options]:
    """The options of every alert: the *defaults* with those *given* on top; :raises ValueError: with one sentence."""
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(f"There is no alert {unknown[0]}: use one of {', '.join(defaults)}.")
    for name, own in given.items():
        for key, value in (own or {}).items():
            if key not in defaults[name]:
                raise ValueError(f"The alert {name} has no option {key}: use one of {', '.join(defaults[name])}.")
            _check(name, key, value)
    return {name: {**alert, **(given.get(name) or {})} for name, alert in defaults.items()}


def settings(given: Options) -> Options:
    """:data:`OPTIONS` with those *given* on top, and under ``alerts`` every alert with all that it can be told.

    :raises ValueError: with one sentence that names the option.
    """
    options = {**OPTIONS, **given}
    options["deployment"] = options["deployment"] or options["name"]
    for key, kind in (("slo", "SLO"), ("slo_latency", "SLO of the latency")):
        if not 0 <= float(options[key]) < 1:
            raise ValueError(
                f"The {kind} is {options[key]}: give the share of good requests, below 1 as in 0.999, or 0 for none."
            )
    if not 0 < float(options["slo_latency_seconds"]) < math.inf:
        raise ValueError(
            f"slo_latency_seconds is {options['slo_latency_seconds']}: give the bound of one of the histogram's buckets, as 0.5."
        )
    scrape = seconds(options["scrape_interval"])
    if options["evaluation_interval"]:
        seconds(options["evaluation_interval"])
    options["alerts"] = alerts = told(ALERTS, options["alerts"])
    for name in ("HighErrorRate", "FlaskHighLatencyP95"):
        window = alerts[name]["window"]
        if seconds(window) < 4 * scrape:
            raise ValueError(
                f"The window {window} of the alert {name} is shorter than four scrape intervals of"
                f" {options['scrape_interval']}: a missed scrape would blind it, so lengthen the window or scrape more often."
            )
    return options


def number(value: Any) -> str:
    """A number as PromQL writes it."""
    return f"{float(value):g}"


def filled(text: Any, values: dict[str, str]) -> Any:
    """What a rule file says, with each ``$name`` filled in; :raises ValueError: when *values* has no such name."""
    if isinstance(text, dict):
        return {key: filled(value, values) for key, value in text.items()}
    if not isinstance(text, str):
        return text
    for name in PLACEHOLDER.findall(text):
        if name not in values:
            raise ValueError(f"${name} in a rule stands for nothing: use one of {', '.join(sorted(values))}.")
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)


def rendered(rule: Rule, alerts: dict[str, Options], values: dict[str, str], more: dict[str, str]) -> Rule | None:
    """A rule of a file as it is installed, or None where its alert is not enabled; *more* are annotations of every alert.

    A recording rule is about the alert that its label ``alert`` names.
    """
    name = rule.get("alert") or rule.get("labels", {}).get("alert")
    if not name:
        return {key: filled(part, values) for key, part in rule.items()}
    alert = alerts[name]
    if not alert["enabled"]:
        return None
    # The defaults may have a placeholder themselves.
    own = {key: filled(str(value), values) for key, value in alert.items() if key != "enabled"}
    if THRESHOLD in own:
        own[THRESHOLD] = number(own[THRESHOLD])
    values = {**values, **own}
    if WINDOW in own:
        values["window_seconds"] = number(seconds(own[WINDOW]))
    if "alert" not in rule:
        return {key: filled(part, values) for key, part in rule.items()}
    labels, annotations = filled(rule["labels"], values), filled(rule["annotations"], values)
    if "{{" not in labels["severity"]:
        labels["severity"] = own["severity"]
    annotations |= {key: own[key] for key in ANNOTATED if key in annotations}
    return {
        "alert": rule["alert"],
        "expr": filled(rule["expr"], values),
        "for": own["for"],
        "labels": labels,
        "annotations": {**annotations, **more},
    }


def installed(options: Options) -> list[Groups]:
    """The rule files that the options ask for."""
    asked = {
        "slo": bool(float(options["slo"])),
        "slo_latency": bool(float(options["slo_latency"])),
        "probe": options["probe"],
        "workers": bool(options["workers"]),
        "error_rate": not options["literal_error_rate"],
        "literal_error_rate": options["literal_error_rate"],
    }
    return [groups for name, groups in FILES.items() if asked.get(name, True)]


def rule_groups(given: Options) -> Groups:
    """The rule groups of one application, as a Prometheus rule file has them under ``groups``.

    :param given: those of :data:`OPTIONS` that differ. :raises ValueError: with one sentence that names the option.
    """
    options = settings(given)
    slo, latency = float(options["slo"]), float(options["slo_latency"])
    values = {
        **{key: str(options[key]) for key in ("name", "namespace", "deployment")},
        **{key: number(options[key]) for key in ("min_errors", "min_requests")},
        "workers": "|".join(worker["name"] for worker in options["workers"]),
        "runbook_url": options["runbook_url"].rstrip("/"),
        "error_budget": number(round(1 - slo, 9)),
        "slo_percent": number(slo * 100),
        "latency_budget": number(round(1 - latency, 9)),
        "slo_latency_percent": number(latency * 100),
        "slo_latency_seconds": number(options["slo_latency_seconds"]),
        # As the exporter writes the label: a whole number too has a decimal point.
        "slo_latency_bucket": str(float(options["slo_latency_seconds"])),
    }
    more = {APPLICATION: f"{options['namespace']}/{options['name']}"}
    if options["grafana_url"]:
        query = f"var-namespace={options['namespace']}&var-job={options['name']}"
        more["dashboard_url"] = f"{options['grafana_url'].rstrip('/')}/d/flaskops-service?{query}"
    # Groups of one name in several files are one.
    found: dict[str, list[Rule]] = {}
    for group in (group for groups in installed(options) for group in groups):
        rules = [rendered(rule, options["alerts"], values, more) for rule in group["rules"]]
        found.setdefault(filled(group["name"], values), []).extend(rule for rule in rules if rule)
    if options["extra_rules"]:
        found[f"{options['name']}.extra"] = list(options["extra_rules"])
    interval = {"interval": options["evaluation_interval"]} if options["evaluation_interval"] else {}
    return [{"name": name, **interval, "rules": rules} for name, rules in found.items()]


def verify_rule_groups(name: str, namespace: str, every: int, alerts: dict[str, Any], runbook_url: str = "") -> Groups:
    """The rule groups about a verification of one application that is repeated, as :func:`rule_groups` gives them.

    :param every: seconds between two runs. :param alerts: those of :data:`VERIFY_ALERTS` that differ.
    :raises ValueError: with one sentence that names the option.
    """
    options = told(VERIFY_ALERTS, alerts)
    values = {
        "name": name,
        "namespace": namespace,
        "runbook_url": (runbook_url or OPTIONS["runbook_url"]).rstrip("/"),
        "two_runs": f"{2 * every}s",
        "three_runs": f"{max(900, 3 * every)}s",
        "three_runs_seconds": str(3 * every),
    }
    more = {APPLICATION: f"{namespace}/{name}"}
    return [
        {
            "name": filled(group["name"], values),
            "rules": [found for rule in group["rules"] if (found := rendered(rule, options, values, more))],
        }
        for group in VERIFY
    ]


def role_groups(role: str, alerts: dict[str, Any]) -> Groups:
    """The rule groups of a role that has one rule file, with the options of its *alerts* that differ.

    :raises ValueError: with one sentence that names the option.
    """
    groups = read(ROLES / role / "files/rules.yml")
    options = told(options_of([groups]), alerts)
    made = [
        {**group, "rules": [found for rule in group["rules"] if (found := rendered(rule, options, {}, {}))]} for group in groups
    ]
    return [group for group in made if group["rules"]]


# One fault pages once: what a first alert explains, a second need not say. The values are regular expressions.
# Each holds within one namespace and app, so that one application never hides another; `equal` has further labels.
INHIBITIONS: tuple[dict[str, Any], ...] = (
    # Nobody reaches the application: the rest is cause or consequence, and the runbook of this alert begins there.
    {
        "source": {"alertname": "FlaskHealthProbeFailed", "probe": "inside"},
        "target": {
            "alertname": "HighErrorRate|Flask(HighLatencyP95|UncaughtExceptions|PodCrashLooping|PodOOMKilled|Restarting"
            "|ReplicasUnavailable|TargetDown|(Error|Latency)BudgetBurn(Fast|Slow))"
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
    {
        "source": {"alertname": "FlaskWorkerCrashLooping"},
        "target": {"alertname": "FlaskWorkerUnavailable"},
        "equal": ["deployment"],
    },
    {"source": {"alertname": "FlaskPodOOMKilled"}, "target": {"alertname": "FlaskRestarting"}},
    {"source": {"alertname": "FlaskReplicasUnavailable"}, "target": {"alertname": "FlaskTargetDown"}},
    {
        "source": {"alertname": "FlaskErrorBudgetBurnFast"},
        "target": {"alertname": "HighErrorRate|FlaskUncaughtExceptions|FlaskErrorBudgetBurnSlow"},
    },
    {"source": {"alertname": "HighErrorRate"}, "target": {"alertname": "FlaskUncaughtExceptions|FlaskErrorBudgetBurnSlow"}},
    {
        "source": {"alertname": "FlaskLatencyBudgetBurnFast"},
        "target": {"alertname": "FlaskHighLatencyP95|FlaskLatencyBudgetBurnSlow"},
    },
    {"source": {"alertname": "FlaskHighLatencyP95"}, "target": {"alertname": "FlaskLatencyBudgetBurnSlow"}},
)


def detection_seconds(given: dict[str, Any], group_wait: float = 30) -> dict[str, tuple[float, float]]:
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
    found, there = {}, options_of(installed(options))
    for name, alert in options["alerts"].items():
        if not alert["enabled"] or name not in there:
            continue
        pending = -(-seconds(alert["for"]) // every) * every
        filled = float(fill.get(name, 0)) * seconds(alert.get("window", "0s"))
        scrapes = 2 if name in fill else 1
        found[name] = (pending + group_wait, pending + group_wait + scrapes * scrape + every + filled)
    return found
