# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who would be notified of what the inventories install, as they stand: verify judges the configuration that they make."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.rules import rule_groups
from ansible_collections.flaskops.observability.plugins.module_utils.verify import notification
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.alert_routes import ADVICE
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Target

from tests.evaluation import evaluate

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/kube_prometheus_stack"
RULES = [rule for group in rule_groups({"name": "flask-app", "namespace": "flask-app"}) for rule in group["rules"]]
ON_CALL = {"name": "on-call", "type": "webhook", "url": "https://hooks.example.com/"}


def variables(inventory: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted((ROOT / f"inventories/{inventory}/group_vars").glob("*.yml")):
        found |= yaml.safe_load(path.read_text())
    return found


def problems(folder: Path, inventory: str, **options: Any) -> list[str]:
    """What verify says of the alerts of an application with an inventory's receivers."""
    given = {
        **options,
        "__kube_prometheus_stack_images": yaml.safe_load((ROOT / "images.yml").read_text()),
        "__kube_prometheus_stack_found": {"releases": {}, "foreign": {}},
    }
    (text,) = evaluate(folder, {"config": "__kube_prometheus_stack_config"}, given, ROLE, variables(inventory)).values()
    judge = notification.Judge(notification.Alertmanager(yaml.safe_load(text)), [], datetime.datetime.now(datetime.UTC))
    loaded = [{**rule, "name": rule["alert"], "query": rule["expr"], "type": "alerting"} for rule in RULES if "alert" in rule]
    judge.judge(notification.wanted(notification.read(loaded, lambda _expr: None, {}), Target().notified_severities))
    assert judge.problems or judge.reached
    return judge.problems


@pytest.mark.parametrize("inventory", ["staging", "production"])
def test_an_environment_without_a_receiver_notifies_nobody(tmp_path: Path, inventory: str) -> None:
    (told,) = problems(tmp_path, inventory)
    assert told.startswith("FlaskPodCrashLooping (critical), ") and "notifies nobody" in told
    # The option that verify names changes it.
    assert "kube_prometheus_stack_receivers" in ADVICE
    assert problems(tmp_path, inventory, kube_prometheus_stack_receivers=[ON_CALL]) == []


@pytest.mark.parametrize(("inventory", "severities"), [("local", []), ("kind", []), ("staging", None), ("production", None)])
def test_only_where_one_tries_it_out_nobody_is_to_be_notified(inventory: str, severities: list[str] | None) -> None:
    defaults = variables(inventory).get("flask_app_defaults", {})
    assert defaults.get("verify", {}).get("notified_severities") == severities
