# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule files of the roles, as somebody edits them: one form, and defaults that the rules really use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import names, rules

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted([*ROOT.glob("roles/*/files/rules.yml"), *ROOT.glob("roles/*/files/rules/*.yml")])
RULES = [(path, rule) for path in FILES for group in rules.read(path) for rule in group["rules"]]
ALERTS = [(path, rule) for path, rule in RULES if "alert" in rule]


def test_no_rule_file_is_overlooked() -> None:
    assert {path.relative_to(ROOT / "roles").parts[0] for path in FILES} == {
        "app_monitoring",
        "fluent_bit",
        "loki",
        "verify",
        "victoria_logs",
    }
    # Whatever else has an alert is the embedded chart's, whose rules are Helm's templates.
    others = [
        p
        for folder in ("roles", "plugins", "playbooks")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".py", ".j2", ".yml")
    ]
    assert [p for p in others if p not in FILES and re.search(r"^\s*- alert: ", p.read_text(), re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("path", "rule"), RULES, ids=[f"{p.relative_to(ROOT).parts[1]}: {r.get('alert') or r['record']}" for p, r in RULES]
)
def test_form(path: Path, rule: dict[str, Any]) -> None:
    if "record" in rule:
        assert set(rule) <= {"record", "expr", "labels"}
        return
    assert {"alert", "expr", "labels", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert {"summary", "description", "runbook_url"} <= set(rule["annotations"])
    assert all(isinstance(text, str) for text in (*rule["labels"].values(), *rule["annotations"].values()))


@pytest.mark.parametrize(("path", "rule"), ALERTS, ids=[f"{p.relative_to(ROOT).parts[1]}: {r['alert']}" for p, r in ALERTS])
def test_what_an_annotation_says_is_what_the_expression_has(path: Path, rule: dict[str, Any]) -> None:
    for name in (names.THRESHOLD, names.WINDOW):
        assert (name in rule["annotations"]) == bool(re.search(rf"\${name}\b", rule["expr"]))


def test_rules_of_one_alert_have_the_same_defaults() -> None:
    for file in (*rules.FILES.values(), rules.VERIFY):
        for rule in (rule for group in file for rule in group["rules"] if "alert" in rule):
            alone = rules.options_of([[{"rules": [rule]}]])[rule["alert"]]
            assert alone == {**rules.ALERTS, **rules.VERIFY_ALERTS}[rule["alert"]]


def test_a_name_that_stands_for_nothing_is_refused() -> None:
    assert rules.filled("{{ $labels.app }} {{ $value }} $a-b", {"a": "x"}) == "{{ $labels.app }} {{ $value }} x-b"
    with pytest.raises(ValueError, match=r"\$treshold .* threshold, window"):
        rules.filled("up > $treshold", {"window": "1m", "threshold": "1"})


def test_the_test_alert_knows_the_services_that_verify_makes() -> None:
    (rule,) = [rule for _path, rule in ALERTS if rule["alert"] == "VerifyTestAlert"]
    assert f'service=~"{names.TEST_SERVICE}.+"' in rule["expr"]
    assert f'match "^{names.TEST_SERVICE}{names.NOTIFY}"' in rule["labels"]["severity"]


@pytest.mark.parametrize("record", [rule for _path, rule in RULES if "record" in rule], ids=lambda rule: rule["record"])
def test_a_recorded_rate_is_of_the_window_in_its_name(record: dict[str, Any]) -> None:
    if window := re.search(r":ratio_rate(\w+)$", record["record"]):
        assert set(re.findall(r"\[(\w+)\]", record["expr"])) == {window[1]}
