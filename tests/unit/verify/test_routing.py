# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Alertmanager sends an alert; amtool, which has Alertmanager's own code, says what is right."""

from __future__ import annotations

import datetime
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.verify import routing
from ansible_collections.flaskops.observability.plugins.module_utils.verify.routing import Delivery, Labels, outcomes, parsed

from tests.toolchain import programs

NAMES = ("severity", "app", "namespace", "team")
VALUES = ("critical", "warning", "web", "shop", "")


def receivers(config: dict[str, Any], labels: Labels) -> list[list[str]]:
    return [[way.receiver for way in ways] for ways in outcomes(config["route"], labels)]


def tree(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A route that anybody might have."""
    made: dict[str, Any] = {}
    if depth == 0 or rng.random() < 0.7:
        made["receiver"] = f"r{rng.randrange(6)}"
    if depth:
        name, value = rng.choice(NAMES), rng.choice(VALUES)
        form = rng.randrange(4)
        if form == 0:
            made["match"] = {name: value}
        elif form == 1:
            made["match_re"] = {name: f"{value}|shop"}
        else:
            op = rng.choice(("=", "!=", "=~", "!~"))
            made["matchers"] = [f'{name}{op}"{value or "x"}"', *([f"{rng.choice(NAMES)}!=nothing"] if form == 3 else [])]
        made["continue"] = rng.random() < 0.4
    if depth < 3:
        made["routes"] = [tree(rng, depth + 1) for _ in range(rng.randrange(4))]
    return made


@pytest.mark.parametrize("seed", range(12))
def test_receivers_are_amtools(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    config = {"route": tree(rng), "receivers": [{"name": f"r{number}"} for number in range(6)]}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    labels = {name: rng.choice(VALUES[:-1]) for name in NAMES if rng.random() < 0.7}
    command = [str(programs("alertmanager") / "amtool"), "config", "routes", "test", f"--config.file={tmp_path / 'config.yml'}"]
    said = subprocess.run([*command, *(f"{k}={v}" for k, v in labels.items())], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert [",".join(found) for found in receivers(config, Labels(dict(labels)))] == [said.stdout.strip()]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('severity="critical"', ("severity", "=", "critical")),
        ("severity =~ critical|warning", ("severity", "=~", "critical|warning")),
        ('"a b" != "c\\"d"', ("a b", "!=", 'c"d')),
        ("app!~x", ("app", "!~", "x")),
        ('team=""', ("team", "=", "")),
    ],
)
def test_matchers(text: str, wanted: tuple[str, str, str]) -> None:
    assert parsed(text) == wanted


def test_no_matcher() -> None:
    with pytest.raises(ValueError, match="severity critical"):
        parsed("severity critical")


ROUTES: dict[str, Any] = {
    "receiver": "none",
    "routes": [
        {"matchers": ['pod="web-1"'], "receiver": "one"},
        {"matchers": ['app="web"'], "receiver": "team", "continue": True},
        {"matchers": ['severity="critical"'], "receiver": "pager"},
    ],
}


def test_what_depends_on_an_unknown_label_is_followed_both_ways() -> None:
    known = {"app": "web", "severity": "critical"}
    assert receivers({"route": ROUTES}, Labels({**known})) == [["team", "pager"]]
    for labels in (Labels({**known, "pod": None}), Labels({**known}, open=True)):
        assert sorted(receivers({"route": ROUTES}, labels)) == [["one"], ["team", "pager"]]
    assert receivers({"route": ROUTES}, Labels({"severity": "info"})) == [["none"]]


NIGHT = {"times": [{"start_time": "20:00", "end_time": "24:00"}, {"start_time": "00:00", "end_time": "06:00"}]}
WEEKEND = {"weekdays": ["saturday", "sunday"]}
SUNDAY = datetime.datetime(2026, 11, 29, 21, 30, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("interval", "moment", "wanted"),
    [
        (NIGHT, SUNDAY, True),
        (NIGHT, SUNDAY.replace(hour=12), False),
        (WEEKEND, SUNDAY, True),
        (WEEKEND, SUNDAY + datetime.timedelta(days=1), False),
        ({"weekdays": ["monday:friday"]}, SUNDAY, False),
        ({"days_of_month": ["-2:-1"]}, SUNDAY, True),
        ({"days_of_month": ["1:5"]}, SUNDAY, False),
        ({"months": ["november:december"]}, SUNDAY, True),
        ({"months": ["1:3"]}, SUNDAY, False),
        ({"years": ["2026"]}, SUNDAY, True),
        ({"years": [2030]}, SUNDAY, False),
        ({**NIGHT, "location": "Asia/Tokyo"}, SUNDAY, False),
        ({}, SUNDAY, True),
    ],
)
def test_time_intervals(interval: dict[str, Any], moment: datetime.datetime, wanted: bool) -> None:
    assert routing.covers(interval, moment) is wanted


def test_when_a_way_opens() -> None:
    named = {"night": [NIGHT], "always": [{}], "never": [{"years": ["2030"]}]}
    assert routing.opens(Delivery("a"), named, SUNDAY) == 0
    assert routing.opens(Delivery("a", muted=("night",)), named, SUNDAY) == 8 * 60 + 30
    assert routing.opens(Delivery("a", active=("night",)), named, SUNDAY) == 0
    assert routing.opens(Delivery("a", muted=("always",)), named, SUNDAY) is None
    assert routing.opens(Delivery("a", active=("never",)), named, SUNDAY) is None


RULE = {
    "source_matchers": ['severity="critical"'],
    "target_matchers": ['severity=~"warning|info"'],
    "equal": ["namespace", "alertname"],
}


def test_inhibitions() -> None:
    def labels(**known: str | None) -> Labels:
        return Labels(dict(known))

    critical = labels(alertname="A", namespace="web", severity="critical")
    warning = labels(alertname="A", namespace="web", severity="warning")
    assert routing.inhibits(RULE, critical, warning) is True
    assert routing.inhibits(RULE, warning, critical) is False
    assert routing.inhibits(RULE, critical, labels(alertname="B", namespace="web", severity="warning")) is False
    assert routing.inhibits(RULE, critical, labels(alertname="A", namespace=None, severity="warning")) is None
    # Alertmanager lets no alert hold itself back, nor one that is on both sides as well.
    both = {"source_matchers": ['app="web"'], "target_matchers": ['app="web"']}
    assert routing.inhibits(both, labels(app="web", pod="1"), labels(app="web", pod="2")) is False
    assert [routing.inhibitions({"inhibit_rules": [RULE]}, each) for each in (critical, warning)] == [[], [RULE]]


@pytest.mark.parametrize(
    ("matchers", "wanted"),
    [
        ([("alertname", "Flask.*", True, True), ("namespace", "web", False, True)], True),
        ([("alertname", "Flask.*", True, False)], False),
        ([("namespace", "web", False, False)], False),
        ([("instance", "10.0.0.1", False, True)], None),
        ([("instance", "10.0.0.1", False, True), ("namespace", "other", False, True)], False),
        # Whatever the label is, or is not there.
        ([("instance", ".*", True, True), ("namespace", "web", False, True)], True),
        ([("instance", ".*", True, False)], False),
        ([("namespace", "[[:alpha:]]+", True, True)], None),
    ],
)
def test_silences(matchers: list[tuple[str, str, bool, bool]], wanted: bool | None) -> None:
    labels = Labels({"alertname": "FlaskTargetDown", "namespace": "web", "instance": None})
    silence = {"matchers": [dict(zip(("name", "value", "isRegex", "isEqual"), item, strict=True)) for item in matchers]}
    assert routing.silenced(silence, labels) is wanted


def test_integrations_of_receivers() -> None:
    given = [
        {"name": "none"},
        {"name": "a", "slack_configs": [{}, {}], "email_configs": [{}]},
        {"name": "b", "webhook_configs": []},
    ]
    assert routing.integrations({"receivers": given}) == {"none": [], "a": ["slack", "slack", "email"], "b": []}
