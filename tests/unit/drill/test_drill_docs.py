# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/drill.md says what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.drill import bounds
from ansible_collections.flaskops.observability.plugins.module_utils.drill.bounds import Rule, Settings
from ansible_collections.flaskops.observability.plugins.module_utils.drill.scenarios import SCENARIOS, Expect
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import rules
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.durations import seconds as of

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/drill.md").read_text()
LOCAL: dict[str, Any] = yaml.safe_load((ROOT / "inventories/local/group_vars/local.yml").read_text())


APPS: dict[str, Any] = LOCAL["flask_app_defaults"]


def seconds(option: str) -> float:
    return of(LOCAL[option])


# The operator's intervals, the chart's route and the roles' rules, as nobody has changed them; then those of the local inventory.
DEFAULT = (
    {"scrape_interval": "30s", "evaluation_interval": "30s"},
    Settings(
        probe_period=5,
        scrape={"app": 30, "probe": 15, "kube-state-metrics": 30, "log agent": 30},
        scrape_timeout={"probe": 10},
    ),
    30.0,
)
SHORT = (
    {"scrape_interval": "5s", "evaluation_interval": "5s", "alerts": APPS["alerts"]},
    Settings(
        probe_period=5,
        scrape={
            "app": rules.seconds(APPS["scrape_interval"]),
            "probe": rules.seconds(APPS["probe_interval"]),
            "kube-state-metrics": seconds("kube_prometheus_stack_scrape_interval"),
            "log agent": seconds("victoria_logs_scrape_interval"),
        },
        scrape_timeout={"probe": 5},
    ),
    seconds("kube_prometheus_stack_group_wait"),
)


def span(expect: Expect, profile: tuple[dict[str, Any], Settings, float]) -> str:
    given, settings, group_wait = profile
    alert = expect.observer[6:]
    ((group, rule),) = [(g, r) for g in rules.rule_groups(given) for r in g["rules"] if r.get("alert") == alert]
    live = Rule(rule["alert"], of(rule["for"]), of(group["interval"]), rule["labels"], rule["annotations"])
    symptom = [] if isinstance(expect.symptom, str) else list(expect.symptom)
    stages = bounds.stages_of_alert(settings, live, symptom, expect.source, expect.share, expect.rate)
    assert stages is not None
    shortest, longest = bounds.total([*stages, bounds.for_stage(live), ("group wait", group_wait, group_wait)])
    return f"{shortest:.0f} to {longest:.0f}"


def test_table_of_detection_times() -> None:
    installed = {item.get("alert") for group in rules.rule_groups({}) for item in group["rules"]}
    rows = []
    for scenario in SCENARIOS:
        for expect in scenario.expects:
            if expect.observer.removeprefix("alert ") in installed:
                start = expect.symptom if isinstance(expect.symptom, str) else "the fault"
                row = (scenario.name, expect.observer[6:], start, span(expect, DEFAULT), span(expect, SHORT))
                rows.append("| `{}` | `{}` | {} | {} | {} |".format(*row))
    wanted = "\n".join(rows)
    assert wanted in TEXT, f"docs/drill.md must have:\n{wanted}"


@pytest.mark.parametrize("scenario", [scenario.name for scenario in SCENARIOS])
def test_every_scenario_is_described(scenario: str) -> None:
    assert f"| `{scenario}` |" in TEXT
