# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon and how late something must be noticed, and what a measured time means."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import bounds
from ansible_collections.flaskops.observability.plugins.module_utils.drill.bounds import Rule, Settings
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import rules
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.durations import seconds

# What the local inventory gives, and 5 s between evaluations.
SHORT: dict[str, Any] = {
    "scrape_interval": "5s",
    "evaluation_interval": "5s",
    "alerts": {"HighErrorRate": {"window": "30s", "for": "10s"}, "FlaskHealthProbeFailed": {"for": "12s"}},
}
ROUTE = {
    "receiver": "null",
    "group_by": ["namespace"],
    "group_wait": "30s",
    "group_interval": "5m",
    "routes": [
        {"matchers": ['alertname="Watchdog"'], "group_wait": "0s"},
        {
            "matchers": ['namespace="shop"', 'severity=~"critical|warning"'],
            "group_wait": "1s",
            "routes": [
                {"matchers": ['severity!="warning"'], "group_interval": "7s", "group_by": ["..."]},
            ],
        },
    ],
}


def live(name: str, given: dict[str, Any]) -> Rule:
    """A rule as Prometheus has it loaded, made from the rules that are really installed."""
    ((group, rule),) = [(g, r) for g in rules.rule_groups(given) for r in g["rules"] if r.get("alert") == name]
    return Rule(name, seconds(rule["for"]), seconds(group["interval"]), rule["labels"], rule["annotations"])


def settings(**scrape: float) -> Settings:
    return Settings(probe_period=5, probe_timeout=1, probe_threshold=3, scrape=scrape)


@pytest.mark.parametrize("name", ["HighErrorRate", "FlaskHighLatencyP95"])
def test_bounds_agree_with_the_ones_that_the_docs_print(name: str) -> None:
    rule = live(name, SHORT)
    stages = bounds.stages_of_alert(settings(app=5), rule, [], "app", 1.0, 0)
    assert stages is not None
    found = bounds.total([*stages, bounds.for_stage(rule), ("group wait", 5.0, 5.0)])
    assert found == pytest.approx(rules.detection_seconds(SHORT, 5)[name])


def test_stages_of_the_error_rate() -> None:
    rule = live("HighErrorRate", SHORT)
    assert (rule.window, rule.threshold) == (30, 0.05)
    assert bounds.stages_of_alert(settings(app=5), rule, [], "app", 0.5, 0) == [
        ("2 scrapes", 0.0, 10),
        ("window fills", 0.0, 3.0),
        ("evaluation", 0.0, 5),
    ]


def test_a_source_that_nobody_scrapes_has_no_bounds() -> None:
    assert bounds.stages_of_alert(settings(app=5), live("FlaskHealthProbeFailed", SHORT), [], "probe", 1.0, 0) is None


def test_probe_time_out_counts() -> None:
    found = settings(probe=5)
    found.scrape_timeout = {"probe": 4}
    stages = bounds.stages_of_alert(found, live("FlaskHealthProbeFailed", SHORT), [], "probe", 1.0, 0)
    assert stages == [("scrape", 0.0, 9), ("evaluation", 0.0, 5)]


def test_series_of_a_target_that_went_ends_two_scrapes_later() -> None:
    rule = Rule("VictoriaLogsDown", 300, 5, {})
    stages = bounds.stages_of_alert(settings(**{"log back end": 30}), rule, [], "log back end", 1.0, 0)
    assert stages == [("end of the series", 0.0, 68.0), ("evaluation", 0.0, 5)]


def test_for_ends_with_an_evaluation() -> None:
    assert bounds.for_stage(live("FlaskHealthProbeFailed", SHORT)) == ("for", 15, 15)


def test_silence_needs_its_whole_window_and_a_burst_fills_one() -> None:
    silence = Rule("LogSilence", 0, 5, {}, {"window": "60s"})
    assert bounds.stages_of_alert(Settings(), silence, [], "", 1.0, 0) == [
        ("window without lines", 55, 60),
        ("evaluation", 0.0, 5),
    ]
    burst = Rule("LogErrorLines", 0, 30, {}, {"window": "5m", "threshold": "0.2"})
    assert bounds.stages_of_alert(Settings(), burst, [], "", 1.0, 100) == [("window fills", 0.0, 0.6), ("evaluation", 0.0, 30)]


def test_readiness_is_lost_after_the_probes_failures_in_a_row() -> None:
    assert settings().readiness() == [("readiness probe", 10, 16)]


@pytest.mark.parametrize(
    ("labels", "wait", "interval"),
    [
        ({}, 30, 300),
        ({"alertname": "Watchdog"}, 0, 300),
        ({"namespace": "shop", "severity": "warning"}, 1, 300),
        ({"namespace": "shop", "severity": "critical"}, 1, 7),
        ({"namespace": "shop", "severity": "info"}, 30, 300),
    ],
)
def test_the_route_of_an_alert_decides_its_group_wait(labels: dict[str, str], wait: float, interval: float) -> None:
    found = bounds.grouping(ROUTE, labels)
    assert (found.wait, found.interval) == (wait, interval)


def test_the_way_to_the_inbox_counts_where_a_route_continues() -> None:
    duty = {"receiver": "duty", "group_wait": "60s", "matchers": ['severity="critical"'], "continue": True}
    inbox = {"receiver": "alert-inbox", "group_wait": "5s"}
    route = {"receiver": "none", "routes": [duty, inbox]}
    assert bounds.grouping(route, {"severity": "critical"}).wait == 5
    # Without continue the walk ends there.
    assert bounds.grouping({**route, "routes": [{**duty, "continue": False}, inbox]}, {"severity": "critical"}).wait == 60


def test_a_group_is_known_by_its_labels() -> None:
    one = bounds.grouping(ROUTE, {})
    assert one.key({"namespace": "a", "alertname": "x"}) == one.key({"namespace": "a", "alertname": "y"})
    every = bounds.grouping(ROUTE, {"namespace": "shop", "severity": "critical"})
    assert every.key({"a": "1"}) != every.key({"a": "2"})


def test_a_group_that_was_told_already_is_looked_at_each_interval() -> None:
    found = bounds.Grouping(["namespace"], 1, 5)
    assert bounds.group_stage(found, False) == ("group wait", 1, 1)
    assert bounds.group_stage(found, True) == ("group interval", 0.0, 5)


@pytest.mark.parametrize(
    ("at", "shortest", "longest", "verdict"),
    [
        (None, 1, 2, "missed"),
        (None, None, None, "missed"),
        (3, None, None, "unbounded"),
        (0.9, 1, 2, "within"),  # as exact as an observer looks
        (0.7, 1, 2, "early"),
        (4.0, 1, 2, "within"),  # two seconds are tolerated
        (4.1, 1, 2, "late"),
    ],
)
def test_verdicts(at: float | None, shortest: float | None, longest: float | None, verdict: str) -> None:
    assert bounds.verdict(at, shortest, longest) == verdict


def test_the_note_says_which_stage_added_time() -> None:
    scrape, wait, group = ("scrape", 0.0, 5.0), ("for", 10.0, 10.0), ("group wait", 1.0, 1.0)
    slow_scrape = [("pending", 20.0, [scrape]), ("firing", 30.0, [wait]), ("received", 31.0, [group])]
    assert bounds.note(slow_scrape) == "scrape took 20.0 s before pending, 15.0 s more than configured"
    slow_group = [("pending", 4.0, [scrape]), ("firing", 14.0, [wait]), ("received", 44.0, [group])]
    assert bounds.note(slow_group) == "group wait took 30.0 s before received, 29.0 s more than configured"
    after = [("pending", 31.0, [("pods OOMKilled (measured)", 15.0, 15.0), scrape])]
    assert bounds.note(after) == "scrape took 16.0 s before pending, 11.0 s more than configured"
    # An event that was not seen is not blamed; the time goes to the next one.
    assert "before received" in bounds.note([("pending", None, [scrape]), ("received", 60.0, [group])])


def test_rule_of_the_application_goes_before_the_clusters_and_a_strangers_is_none() -> None:
    def group(name: str, application: str, app: str, wait: float) -> dict[str, Any]:
        labels = {"app": app} if app else {}
        annotations = {"application": application} if application else {}
        rule = {"type": "alerting", "name": name, "duration": wait, "labels": labels, "annotations": annotations}
        return {"interval": 30, "rules": [rule]}

    class App:
        name = namespace = "shop"

    found = Settings()
    bounds._add_rules(found, [group("A", "", "", 1), group("A", "shop/shop", "shop", 2)], App())
    bounds._add_rules(found, [group("A", "blog/blog", "blog", 3)], App())
    # One of the same name in another namespace is a stranger too.
    bounds._add_rules(found, [group("A", "staging/shop", "shop", 4)], App())
    assert found.rules["A"].wait == 2
    alone = Settings()
    bounds._add_rules(alone, [group("A", "staging/shop", "shop", 4)], App())
    assert alone.rules == {}


def test_a_rule_of_the_users_own_is_known_by_its_labels() -> None:
    class App:
        name = namespace = "shop"

    def found(**labels: str) -> bool:
        settings = Settings()
        rule = {"type": "alerting", "name": "A", "duration": 0, "labels": labels}
        bounds._add_rules(settings, [{"interval": 30, "rules": [rule]}], App())
        return "A" in settings.rules

    assert [found(), found(app="shop"), found(app="blog"), found(app="shop", namespace="staging")] == [True, True, False, False]


@pytest.mark.parametrize("name", ["HighErrorRate", "LogSilence", "LogErrorLines"])
@pytest.mark.parametrize("annotations", [{}, {"window": "wide", "threshold": "high"}])
def test_what_no_annotation_says_has_no_bounds(name: str, annotations: dict[str, str]) -> None:
    rule = Rule(name, 0, 5, {}, annotations)
    assert bounds.stages_of_alert(settings(app=5), rule, [], "app", 1.0, 100) is None


def test_numbered_lines_are_late_after_their_bound_and_missing_after_the_next_run() -> None:
    found = Settings(verified=60)
    assert bounds.total(found.numbered_lines(missing=False)) == (25, 40 + 60 + 30 + 10)
    # Late first; the run in which five minutes are over tells that they are missing.
    assert bounds.total(found.numbered_lines(missing=True)) == (295, 40 + 60 + 300 + 60 + 30 + 10)
    # The shortest schedule is shorter than the bound.
    assert bounds.total(Settings(verified=20).numbered_lines(missing=False)) == (15, 40 + 20 + 20 + 10)
