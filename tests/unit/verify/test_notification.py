# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody would be notified of each alert."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify.notification import (
    Alert,
    Alertmanager,
    Judge,
    alert_of,
)
from ansible_collections.flaskops.observability.plugins.module_utils.verify.routing import Labels

NOW = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC)
TEAM = {"name": "team", "slack_configs": [{"channel": "#a"}]}
PAGER = {"name": "pager", "pagerduty_configs": [{}]}
NONE = {"name": "none"}
INBOX = {"name": "alert-inbox", "webhook_configs": [{}]}


def alert(name: str, severity: str = "critical", **labels: str) -> Alert:
    known: dict[str, str | None] = {"alertname": name, "severity": severity, "namespace": "web", "app": "web", **labels}
    return Alert(name, severity, Labels(known))


DOWN, SLOW = alert("FlaskTargetDown"), alert("FlaskHighLatencyP95", "warning")
WATCHDOG = Alert("Watchdog", "none", Labels({"alertname": "Watchdog", "severity": "none"}))


def config(route: dict[str, Any], *receivers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"route": route, "receivers": [NONE, *receivers], **more}


def judged(given: dict[str, Any], alerts: list[Alert] | None = None, **known: Any) -> Judge:
    alerts = [DOWN, SLOW] if alerts is None else alerts
    judge = Judge(Alertmanager(given, **known), [*alerts, WATCHDOG], NOW)
    judge.judge(alerts)
    return judge


ALL = {"receiver": "team"}
MUTED = {"receiver": "none", "routes": [{"receiver": "team", "matchers": ['app="web"'], "mute_time_intervals": ["long"]}]}
HELD = {"source_matchers": ['alertname="Watchdog"'], "target_matchers": ['namespace="web"']}
DROPPED = {"receiver": "team", "routes": [{"receiver": "none", "matchers": ['severity="critical"']}, {"receiver": "team"}]}
SILENCE = {
    "status": {"state": "active"},
    "endsAt": "2027-01-01T10:00:00.000Z",
    "createdBy": "ann",
    "comment": "no idea",
    "matchers": [{"name": "namespace", "value": "web", "isRegex": False, "isEqual": True}],
}
TEAM_X = {"name": "team", "value": "x", "isRegex": False, "isEqual": True}
BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "the default receiver is none": (config({"receiver": "none"}), {}, ["FlaskTargetDown (critical)", "none", "nobody"]),
    "only the inbox": (config({"receiver": "alert-inbox"}, INBOX), {}, ["alert-inbox", "nobody"]),
    "a receiver without integrations": (config({"receiver": "own"}, {"name": "own"}), {}, ["own", "nobody"]),
    "a route before it drops critical ones": (config(DROPPED, TEAM), {}, ["FlaskTargetDown", "none"]),
    "the receiver of a former configuration": (config({"receiver": "gone"}), {}, ["gone"]),
    "muted for years": (
        config(MUTED, TEAM, time_intervals=[{"name": "long", "time_intervals": [{}]}]),
        {},
        ["long", "seven days"],
    ),
    "held back by what nobody hears of": (
        config(ALL, TEAM, inhibit_rules=[HELD])
        | {"route": {**ALL, "routes": [{"receiver": "none", "matchers": ['alertname="Watchdog"']}]}},
        {},
        ["Watchdog", "inhibition"],
    ),
    "held back by what always fires, though somebody gets it": (
        config(ALL, TEAM, inhibit_rules=[HELD]),
        {},
        ["Watchdog", "always fires"],
    ),
    "only the dead man's switch": (
        config({"receiver": "dead-mans-switch"}, {"name": "dead-mans-switch", "webhook_configs": [{}]}),
        {},
        ["dead-mans-switch", "nobody"],
    ),
    "held back by what fires": (
        config(
            {**ALL, "routes": [{"receiver": "none", "matchers": ["team=x"]}]},
            TEAM,
            inhibit_rules=[{"source_matchers": ["team=x"], "target_matchers": ["app=web"]}],
        ),
        {"firing": [{"alertname": "Own", "team": "x"}]},
        ["Own"],
    ),
    "silenced": (config(ALL, TEAM), {"silences": [SILENCE]}, ["silence", "2027-01-01", "ann"]),
    "told of after a month": (
        config({"receiver": "none", "group_wait": "30d", "routes": [ALL]}, TEAM),
        {},
        ["FlaskTargetDown (critical), FlaskHighLatencyP95 (warning)", "group_wait"],
    ),
    "told of another day": (config({**ALL, "group_interval": "1w"}, TEAM), {}, ["FlaskTargetDown", "group_interval"]),
    "a critical one is collected for hours": (
        config({**ALL, "group_wait": "4h"}, TEAM),
        {},
        ["FlaskTargetDown (critical) would"],
    ),
    "held back by what fires and is silenced": (
        config(ALL, TEAM, inhibit_rules=[{"source_matchers": ["team=x"], "target_matchers": ["app=web"]}]),
        {"firing": [{"alertname": "Own", "team": "x"}], "silences": [{**SILENCE, "matchers": [TEAM_X]}]},
        ["Own", "inhibition"],
    ),
}


@pytest.mark.parametrize(("given", "known", "words"), BROKEN.values(), ids=BROKEN)
def test_nobody_would_be_notified(given: dict[str, Any], known: dict[str, Any], words: list[str]) -> None:
    (problem,) = judged(given, **known).problems
    assert [word for word in words if word not in problem] == []


OTHER = {**SILENCE, "matchers": [{"name": "namespace", "value": "other", "isRegex": False, "isEqual": True}]}
PART = {
    **SILENCE,
    "matchers": [*SILENCE["matchers"], {"name": "severity", "value": "warning", "isRegex": False, "isEqual": True}],
}
WELL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one receiver for all": (config(ALL, TEAM), {}),
    "critical ones to the pager too": (
        config(
            {"receiver": "team", "routes": [{"receiver": "pager", "matchers": ["severity=critical"], "continue": True}]},
            TEAM,
            PAGER,
        ),
        {},
    ),
    "an inhibition by what is notified": (
        config(
            ALL, TEAM, inhibit_rules=[{"source_matchers": ["alertname=FlaskTargetDown"], "target_matchers": ["severity=warning"]}]
        ),
        {},
    ),
    "at once at one of two": (
        config({"receiver": "team", "group_wait": "2d", "routes": [{**ALL, "group_wait": "30s", "continue": True}, ALL]}, TEAM),
        {},
    ),
    "a silence of others": (config(ALL, TEAM), {"silences": [OTHER]}),
    "a silence that is over": (config(ALL, TEAM), {"silences": [{**SILENCE, "status": {"state": "expired"}}]}),
    "a silence of warnings": (config(ALL, TEAM), {"silences": [PART]}),
    "an object of the operator": (
        config(
            {"receiver": "none", "routes": [{"receiver": "web/web/night", "matchers": ["app=web"]}]},
            {**TEAM, "name": "web/web/night"},
        ),
        {},
    ),
}


@pytest.mark.parametrize(("given", "known"), WELL.values(), ids=WELL)
def test_somebody_would_be_notified(given: dict[str, Any], known: dict[str, Any]) -> None:
    judge = judged(given, **known)
    assert judge.problems == [] and sum(judge.reached.values()) >= 2


def test_a_silence_of_warnings_is_noted() -> None:
    assert "FlaskHighLatencyP95" in judged(config(ALL, TEAM), silences=[PART]).notes[0]


def test_night_is_noted() -> None:
    day = {"name": "day", "time_intervals": [{"times": [{"start_time": "08:00", "end_time": "20:00"}]}]}
    judge = judged(
        config(MUTED | {"routes": [{**MUTED["routes"][0], "mute_time_intervals": ["day"]}]}, TEAM, time_intervals=[day])
    )
    assert judge.problems == [] and "8 h 0 min" in judge.notes[0]


def test_an_alert_without_the_labels_of_its_route_is_named() -> None:
    """Such as `sum(rate(x[5m])) > 1`, which has neither namespace nor app."""
    route = {"receiver": "none", "routes": [{"receiver": "team", "matchers": ["app=web", "namespace=web"]}]}
    bare = Alert("Own", "critical", Labels({"alertname": "Own", "severity": "critical"}))
    assert "Own" in judged(config(route, TEAM), [DOWN, bare]).problems[0]
    unknown = Alert("Own", "critical", Labels({"alertname": "Own", "severity": "critical"}, open=True))
    assert judged(config(route, TEAM), [DOWN, unknown]).problems == []


def test_labels_of_a_loaded_rule() -> None:
    rule = {"name": "Own", "query": "up", "labels": {"severity": "warning", "who": "{{ $labels.team }}", "app": "web"}}
    found = alert_of(rule, {"type": "numberLiteral", "val": "1"}, {"global": {"external_labels": {"cluster": "c"}}})
    assert (found.severity, found.labels.open) == ("warning", False)
    assert found.labels.known == {"alertname": "Own", "severity": "warning", "who": None, "app": "web", "cluster": "c"}
    assert alert_of(rule, None, {}).labels.open


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ([{"source_labels": ["severity"], "regex": "critical", "action": "drop"}], None),
        ([{"source_labels": ["severity", "app"], "separator": "-", "regex": "critical-.*", "action": "Drop"}], None),
        ([{"source_labels": ["severity"], "regex": "warning", "action": "keep"}], None),
        ([{"source_labels": ["pod"], "regex": "web-1", "action": "drop"}], {}),
        ([{"source_labels": ["pod"], "regex": ".*", "action": "drop"}], None),
        ([{"regex": "app|replica", "action": "labeldrop"}], {"app": ""}),
        ([{"source_labels": ["app"], "regex": "(w)(.*)", "target_label": "team", "replacement": "${2}-$1"}], {"team": "eb-w"}),
        ([{"source_labels": ["app"], "regex": "shop", "target_label": "severity", "replacement": "none"}], {}),
        ([{"source_labels": ["pod"], "target_label": "where"}], {"where": None}),
        ([{"target_label": "severity", "replacement": ""}], {"severity": ""}),
        ([{"source_labels": ["app"], "target_label": "n", "action": "hashmod", "modulus": 3}], {"n": None}),
    ],
)
def test_labels_that_prometheus_changes_before_it_sends(
    rules: list[dict[str, Any]], wanted: dict[str, str | None] | None
) -> None:
    labels = {"severity": "critical", "app": "web", "replica": "r"}
    found = alert_of(
        {"name": "A", "query": "a", "labels": {**labels, "pod": "{{ $labels.pod }}"}},
        {"type": "numberLiteral", "val": "1"},
        {"alerting": {"alertmanagers": [{"alert_relabel_configs": rules[1:]}], "alert_relabel_configs": rules[:1]}},
    )
    assert found.dropped is (wanted is None) and found.severity == "critical"
    assert {name: found.labels.value(name) for name in wanted or ()} == (wanted or {})


def test_what_prometheus_drops_reaches_nobody_and_holds_nobody_back() -> None:
    lost = Alert("Lost", "critical", Labels({"alertname": "Lost"}), dropped=True)
    (problem,) = judged(config(ALL, TEAM), [DOWN, lost]).problems
    assert "alert_relabel_configs" in problem and "Lost (critical)" in problem and "FlaskTargetDown" not in problem
