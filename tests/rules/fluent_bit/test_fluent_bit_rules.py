# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alerts of role fluent_bit as Prometheus evaluates them: promtool runs `alerts.yml`, on the role's own file."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.rules import role_groups

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
GROUPS: dict[str, Any] = {"groups": role_groups("fluent_bit", {})}
RULES = {rule["alert"]: rule for group in GROUPS["groups"] for rule in group["rules"]}


def run(promtool: str, folder: Path, **expressions: str) -> subprocess.CompletedProcess[str]:
    """Run the tests, with some alerts' expressions replaced."""
    rules = [{**rule, "expr": expressions.get(name, rule["expr"])} for name, rule in RULES.items()]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "fluent-bit", "rules": rules}]}))
    (folder / "alerts.yml").write_text((HERE / "alerts.yml").read_text())
    return subprocess.run([promtool, "test", "rules", "alerts.yml"], cwd=folder, capture_output=True, text=True, timeout=60)


def test_promtool(promtool: str, tmp_path: Path) -> None:
    done = run(promtool, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_has_tests_that_can_fail(promtool: str, tmp_path: Path, alert: str) -> None:
    for expression in ("vector(1) < 0", "vector(1)"):
        assert run(promtool, tmp_path, **{alert: expression}).returncode != 0, expression


@pytest.mark.parametrize("alert", RULES)
def test_form_of_each_alert(alert: str) -> None:
    rule = RULES[alert]
    assert re.fullmatch(r"FluentBit([A-Z][a-z]+)+", alert)
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    annotations = rule["annotations"]
    assert (
        set(annotations) - {"threshold", "window"} == {"summary", "description", "runbook_url"}
        and "{{" not in annotations["summary"]
    )
    page, anchor = annotations["runbook_url"].rsplit("/", 1)[1].split("#")
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    assert anchor == alert.lower() and alert in headings


def test_the_operator_takes_the_rules() -> None:
    specs = os.environ.get("FLASKOPS_SPECS")
    if not specs:
        pytest.skip("FLASKOPS_SPECS is not set: the operator's definition of PrometheusRule is not at hand")
    crd = yaml.safe_load((Path(specs) / "monitoring.coreos.com_prometheusrules.crd.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    validator = jsonschema.Draft7Validator(schema)  # Kubernetes' form of schema; checking the schema itself would fail
    assert list(validator.iter_errors(GROUPS)) == []
    assert list(validator.iter_errors({"groups": [{"name": "x", "rules": [{"alert": "X"}]}]}))
