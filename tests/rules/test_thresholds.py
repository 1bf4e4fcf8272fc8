# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One option moves all that depends on it: the rule, its annotations, the dashboards' line and the drill's bounds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.drill import bounds
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import dashboards, rules

NAME, NAMESPACE = "web", "shop"
PANELS = {"HighErrorRate": "Share of errors", "FlaskHighLatencyP95": "Duration"}


def groups_of(**options: Any) -> list[dict[str, Any]]:
    return rules.rule_groups({"name": NAME, "namespace": NAMESPACE, **options})


def check(promtool: str, folder: Path, groups: list[dict[str, Any]], expected: dict[str, float | None]) -> str:
    """What promtool has against these results of expressions on the rules; empty for nothing."""
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    tests = [
        {"expr": expr, "eval_time": "2m", "exp_samples": [] if value is None else [{"labels": "{}", "value": value}]}
        for expr, value in expected.items()
    ]
    test = {"interval": "30s", "input_series": [{"series": "up", "values": "1x9"}], "promql_expr_test": tests}
    (folder / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "30s", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def limit(alert: str) -> str:
    """The query of the dashed line in the panel about an alert."""
    (board,) = [item for item in dashboards.all_dashboards() if item["uid"] == "flaskops-service"]
    (panel,) = [item for item in board["panels"] if item["title"] == PANELS[alert] and item["type"] == "timeseries"]
    (dashed,) = [item["matcher"]["options"] for item in panel["fieldConfig"]["overrides"]]
    (target,) = [item for item in panel["targets"] if item["legendFormat"] == dashed]
    (query,) = dashboards.queries([{**board, "panels": [{**panel, "targets": [target]}]}], NAMESPACE, NAME)[-1:]
    return query.expr


class App:
    """The application, as the drill knows it."""

    name, namespace = NAME, NAMESPACE


def drilled(groups: list[dict[str, Any]], alert: str) -> tuple[float | None, float | None, list[bounds.Stage]]:
    """Threshold, window and stages that the drill finds for an alert in a Prometheus that has these rules loaded."""
    loaded = [
        {
            "interval": 5,
            "rules": [
                {
                    "type": "alerting",
                    "name": r["alert"],
                    "query": r["expr"],
                    "labels": r["labels"],
                    "annotations": r["annotations"],
                }
                for r in group["rules"]
                if "alert" in r
            ],
        }
        for group in groups
    ]
    found = bounds.Settings(scrape={"app": 5})
    bounds._add_rules(found, loaded, App())
    rule = found.rules[alert]
    return rule.threshold, rule.window, bounds.stages_of_alert(found, rule, [], "app", 1.0, 0) or []


@pytest.mark.parametrize("alert", sorted(PANELS))
@pytest.mark.parametrize("options", [{}, {"threshold": 0.25, "window": "10m"}])
def test_rule_annotation_line_and_bounds_move_together(
    promtool: str, tmp_path: Path, alert: str, options: dict[str, Any]
) -> None:
    wanted = {**rules.ALERTS[alert], **options}
    threshold, window = float(wanted["threshold"]), wanted["window"]
    groups = groups_of(alerts={alert: options})
    (rule,) = [rule for group in groups for rule in group["rules"] if rule.get("alert") == alert]
    assert re.search(rf"> {threshold:g}$", rule["expr"], re.MULTILINE) and f"[{window}]" in rule["expr"]
    assert (rule["annotations"]["threshold"], rule["annotations"]["window"]) == (f"{threshold:g}", window)
    assert check(promtool, tmp_path, groups, {limit(alert): threshold}) == ""
    share = threshold if alert == "HighErrorRate" else 0.05  # the alert on 95 % of the requests looks at the other 5 %
    filled = ("window fills", 0.0, pytest.approx(share * rules.seconds(window)))
    assert drilled(groups, alert) == (threshold, rules.seconds(window), [("2 scrapes", 0.0, 10), filled, ("evaluation", 0.0, 5)])


def test_no_limit_is_drawn_that_no_alert_has(promtool: str, tmp_path: Path) -> None:
    """One that is disabled, and the literal rule's, which counts errors a second and not their share."""
    lines = {limit("HighErrorRate"): None, limit("FlaskHighLatencyP95"): None}
    groups = groups_of(literal_error_rate=True, alerts={"FlaskHighLatencyP95": {"enabled": False}})
    assert check(promtool, tmp_path, groups, lines) == ""


def test_budgets_are_drawn_of_the_goals_that_are_set(promtool: str, tmp_path: Path) -> None:
    board = [item for item in dashboards.all_dashboards() if item["uid"] == "flaskops-service"]
    found = {
        query.panel: query.expr for query in dashboards.queries(board, NAMESPACE, NAME) if query.panel.endswith("budget left")
    }
    both, one = groups_of(slo=0.999, slo_latency=0.99), groups_of(slo=0.999)
    # Nobody asked anything, so nothing is used up.
    assert check(promtool, tmp_path, both, dict.fromkeys(found.values(), 1.0)) == ""
    assert check(promtool, tmp_path, one, {found["Availability budget left"]: 1.0, found["Latency budget left"]: None}) == ""
    recorded = {"namespace_app:slo:budget", "namespace_app:slo_latency:budget"}
    assert {rule["record"] for group in both for rule in group["rules"] if rule.get("record") in recorded} == recorded
