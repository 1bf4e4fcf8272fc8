# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options make of the rules; that the rules are right is shown by tests/rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import objects, rules

ROOT = Path(__file__).resolve().parents[3]


def alerts(**options: Any) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in rules.rule_groups(options) for rule in group["rules"] if "alert" in rule}


def test_reference_rule_is_kept() -> None:
    rule = alerts()["HighErrorRate"]
    assert (rule["for"], rule["labels"]["severity"], rule["annotations"]["summary"]) == ("2m", "warning", "High 5xx error rate")
    assert "[5m]" in rule["expr"] and "> 0.05" in rule["expr"]


def test_literal_rule_is_the_references_text() -> None:
    rule = alerts(literal_error_rate=True)["HighErrorRate"]
    assert rule["expr"] == 'rate(http_requests_total{status=~"5.."}[5m]) > 0.05'
    assert (rule["for"], rule["labels"], rule["annotations"]["summary"]) == ("2m", {"severity": "warning"}, "High 5xx error rate")


def test_each_option_of_an_alert_acts() -> None:
    changed = {"threshold": 0.2, "window": "10m", "for": "7m", "severity": "critical"}
    rule = alerts(alerts={"HighErrorRate": changed})["HighErrorRate"]
    assert "> 0.2" in rule["expr"] and "[10m]" in rule["expr"] and "[5m]" not in rule["expr"]
    assert (rule["for"], rule["labels"]["severity"]) == ("7m", "critical")
    assert "HighErrorRate" not in alerts(alerts={"HighErrorRate": {"enabled": False}})


@pytest.mark.parametrize("name", sorted(rules.ALERTS))
def test_no_option_of_an_alert_is_idle(name: str) -> None:
    having: dict[str, Any] = {"slo": 0.99, "slo_latency": 0.9, "workers": [{"name": "mail"}]}
    plain = alerts(**having, alerts={name: {"enabled": True}})[name]
    other = {"threshold": 7, "window": "42m", "for": "43m", "severity": "info"}
    for key in set(rules.ALERTS[name]) - {"enabled"}:
        assert alerts(**having, alerts={name: {"enabled": True, key: other[key]}})[name] != plain, key


def test_two_applications_share_no_matcher() -> None:
    for rule in alerts(name="shop", namespace="one", slo=0.99, slo_latency=0.9, workers=[{"name": "mail"}]).values():
        assert 'namespace="one"' in rule["expr"] and "flask-app" not in rule["expr"]
        assert rule["labels"]["app"] == "shop"


def test_probe_slo_dashboard_and_interval_are_optional() -> None:
    assert "FlaskHealthProbeFailed" not in alerts(probe=False)
    assert "FlaskErrorBudgetBurnFast" not in alerts()
    assert "dashboard_url" not in alerts()["HighErrorRate"]["annotations"]
    url = alerts(grafana_url="https://grafana.example.com/")["HighErrorRate"]["annotations"]["dashboard_url"]
    assert url == "https://grafana.example.com/d/flaskops-service?var-namespace=flask-app&var-job=flask-app"
    assert [g["interval"] for g in rules.rule_groups({"evaluation_interval": "5s", "slo": 0.9})] == ["5s"] * 3


def test_extra_rules_stay_as_they_are() -> None:
    extra = {"alert": "Mine", "expr": "vector(1)", "annotations": {"summary": "{{ $labels.x }}"}}
    assert rules.rule_groups({"extra_rules": [extra]})[-1] == {"name": "flask-app.extra", "rules": [extra]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alerts": {"Nope": {}}}, "There is no alert Nope: use one of FlaskHighLatencyP95"),
        (
            {"alerts": {"HighErrorRate": {"treshold": 1}}},
            "The alert HighErrorRate has no option treshold: use one of enabled, threshold",
        ),
        ({"alerts": {"HighErrorRate": {"for": "2 minutes"}}}, "'2 minutes' is no duration"),
        ({"alerts": {"HighErrorRate": {"severity": "page"}}}, "'page' is none of critical, warning, info"),
        ({"alerts": {"HighErrorRate": {"threshold": "much"}}}, "The option threshold of the alert HighErrorRate can't be used"),
        ({"alerts": {"HighErrorRate": {"threshold": -1}}}, "it is negative"),
        ({"alerts": {"HighErrorRate": {"enabled": "no"}}}, "'no' is neither true nor false"),
        ({"alerts": {"HighErrorRate": {"window": "1m"}}}, "shorter than four scrape intervals of 30s"),
        ({"slo": 99.9}, "The SLO is 99.9: give the share of good requests, below 1"),
        ({"slo_latency": 1}, "The SLO of the latency is 1: give the share of good requests, below 1"),
        (
            {"slo_latency": 0.9, "slo_latency_seconds": 0},
            "slo_latency_seconds is 0: give the bound of one of the histogram's buckets",
        ),
        ({"scrape_interval": "fast"}, "'fast' is no duration"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        rules.rule_groups(options)
    assert message in str(error.value)


def test_detection_times() -> None:
    times = rules.detection_seconds({"scrape_interval": "30s", "evaluation_interval": "30s"}, group_wait=30)
    # 2m and group_wait; then two scrapes, an evaluation and a twentieth of 5m.
    assert times["HighErrorRate"] == (150, 255)
    assert times["FlaskHealthProbeFailed"] == (90, 150)
    assert "FlaskErrorBudgetBurnFast" not in times
    assert rules.detection_seconds({"alerts": {"FlaskTargetDown": {"for": "31s"}}}, 0)["FlaskTargetDown"][0] == 60


def test_documented_defaults() -> None:
    """The table of docs/alerts.md says what the code does."""
    lines = (ROOT / "docs/alerts.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| [")]
    found = {row[0].split("]")[0].strip("["): row[1:5] for row in rows}
    assert {name: found.pop(name, None) for name in rules.ALERTS} == {
        name: [alert["severity"], str(alert.get("threshold", "")) or "-", alert.get("window", "-"), alert["for"]]
        for name, alert in rules.ALERTS.items()
    }
    schedule = {"$three_runs": "15m", "$two_runs": "twice the schedule"}
    assert {name: row[:3] for name, row in found.items()} == {
        name: [alert["severity"], *(schedule.get(text, text) for text in (alert.get("window", "-"), alert["for"]))]
        for name, alert in rules.VERIFY_ALERTS.items()
    }


def test_workers_have_alerts_of_their_own() -> None:
    def exprs(**options: Any) -> dict[str, str]:
        rules_of = [
            rule for group in rules.rule_groups({"name": "shop", **options}) for rule in group["rules"] if "alert" in rule
        ]
        return {rule["alert"]: rule["expr"] for rule in rules_of if "Worker" in rule["alert"]}

    assert exprs() == {}
    found = exprs(workers=[{"name": "mail"}, {"name": "beat"}])
    assert set(found) == {"FlaskWorkerCrashLooping", "FlaskWorkerUnavailable"}
    assert all('"shop-(mail|beat)' in expr for expr in found.values())
    # One worker that crashes does not hide that another one is missing.
    options = {**rules.OPTIONS, "labels": {}, "receivers": []}
    inhibitions = objects.alertmanager_config(options, {})["spec"]["inhibitRules"]
    equal = {rule["sourceMatch"][1]["value"]: rule["equal"] for rule in inhibitions}
    assert equal["FlaskWorkerCrashLooping"] == ["namespace", "app", "deployment"]
    assert equal["FlaskPodCrashLooping"] == ["namespace", "app"]


def short_times() -> dict[str, Any]:
    """The options of docs/alerts.md for test clusters."""
    profile = yaml.safe_load((ROOT / "docs/alerts.md").read_text().split("```yaml\n")[1].split("```")[0])
    given = {key.removeprefix("app_monitoring_"): value for key, value in profile.items()}
    return {key: value for key, value in {**given, **profile["flask_app_defaults"]}.items() if key in rules.OPTIONS}


def test_documented_detection_times() -> None:
    text = (ROOT / "docs/alerts.md").read_text().split("## How soon")[1]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    usual, short = rules.detection_seconds({}, 30), rules.detection_seconds(short_times(), 5)
    assert {name: cells for name, *cells in rows} == {
        name: [f"{low:.0f} to {high:.0f}" for low, high in (usual[name], short[name])] for name in usual
    }


@pytest.mark.parametrize(
    ("alerts", "message"),
    [
        ({"Nope": {}}, "There is no alert Nope: use one of VerifyLinkBroken, VerifyStale, LogLinesMissing"),
        ({"VerifyStale": {"for": "soon"}}, "'soon' is no duration"),
        ({"VerifyStale": {"window": "1h"}}, "The alert VerifyStale has no option window: use one of enabled, for"),
        ({"LogLinesLate": {"window": "long"}}, "'long' is no duration"),
        (
            {"VerifyStale": {"severity": "loud"}},
            "The option severity of the alert VerifyStale can't be used: 'loud' is none of critical",
        ),
    ],
)
def test_options_of_the_alerts_about_a_verification(alerts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rules.verify_rule_groups("shop", "shop", 300, alerts)


def test_alerts_about_a_verification_follow_its_interval() -> None:
    ((broken, last_run, stale, *lines),) = (group["rules"] for group in rules.verify_rule_groups("shop", "web", 60, {}))
    assert broken["for"] == "120s" and stale["expr"].endswith("> 180")
    assert 'namespace="web", app="shop"' in broken["expr"]
    assert last_run["record"] in stale["expr"] and last_run["labels"] == {"namespace": "web", "app": "shop"}
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in lines}
    # A back end that keeps doubles on purpose wakes nobody.
    assert severities == {"LogLinesMissing": "critical", "LogLinesLate": "warning", "LogLinesDouble": "info"}
    assert all("[900s]" in rule["expr"] for rule in lines)
    ((*_three, hourly, given, _double),) = (
        group["rules"] for group in rules.verify_rule_groups("shop", "web", 3600, {"LogLinesLate": {"window": "1m"}})
    )
    # Longer than the time between two runs, or the alert would come and go.
    assert "[10800s]" in hourly["expr"] and "[1m]" in given["expr"]


def held_back(firing: dict[str, str]) -> set[str]:
    """What Alertmanager holds back while an alert with these labels fires; its expressions are whole matches."""
    labelled = {
        **{name: {"alertname": name} for name in rules.ALERTS},
        "public probe": {"alertname": "FlaskHealthProbeFailed", "probe": "public"},
        "no targets": {"alertname": "FlaskMetricsAbsent", "source": "targets"},
        "no metrics": {"alertname": "FlaskMetricsAbsent", "source": "requests"},
    }

    def takes(wanted: dict[str, str], labels: dict[str, str]) -> bool:
        return all(re.fullmatch(value, labels.get(key, "")) for key, value in wanted.items())

    held = [item["target"] for item in rules.INHIBITIONS if takes(item["source"], firing)]
    return {name for name, labels in labelled.items() if any(takes(target, labels) for target in held)}


@pytest.mark.parametrize(
    ("firing", "held"),
    [
        (
            {"alertname": "FlaskHealthProbeFailed", "probe": "inside"},
            "HighErrorRate FlaskHighLatencyP95 FlaskUncaughtExceptions FlaskPodCrashLooping FlaskPodOOMKilled FlaskRestarting"
            " FlaskReplicasUnavailable FlaskTargetDown FlaskErrorBudgetBurnFast FlaskErrorBudgetBurnSlow"
            " FlaskLatencyBudgetBurnFast FlaskLatencyBudgetBurnSlow public+probe no+targets",
        ),
        ({"alertname": "FlaskHealthProbeFailed", "probe": "public"}, ""),
        ({"alertname": "FlaskPodCrashLooping"}, "FlaskRestarting FlaskReplicasUnavailable FlaskTargetDown"),
        ({"alertname": "FlaskWorkerCrashLooping"}, "FlaskWorkerUnavailable"),
        ({"alertname": "FlaskPodOOMKilled"}, "FlaskRestarting"),
        ({"alertname": "FlaskReplicasUnavailable"}, "FlaskTargetDown"),
        ({"alertname": "FlaskErrorBudgetBurnFast"}, "HighErrorRate FlaskUncaughtExceptions FlaskErrorBudgetBurnSlow"),
        ({"alertname": "HighErrorRate"}, "FlaskUncaughtExceptions FlaskErrorBudgetBurnSlow"),
        ({"alertname": "FlaskLatencyBudgetBurnFast"}, "FlaskHighLatencyP95 FlaskLatencyBudgetBurnSlow"),
        ({"alertname": "FlaskHighLatencyP95"}, "FlaskLatencyBudgetBurnSlow"),
        ({"alertname": "FlaskTargetDown"}, ""),
    ],
)
def test_one_fault_pages_once(firing: dict[str, str], held: str) -> None:
    assert held_back(firing) == {name.replace("+", " ") for name in held.split()}
