# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alerts about Loki, VictoriaLogs and its collector as Prometheus evaluates them: promtool runs the file of each role."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.rules import role_groups

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ROLES = ["loki", "victoria_logs"]
GROUPS: dict[str, list[dict[str, Any]]] = {role: role_groups(role, {}) for role in ROLES}
RULES = [(role, rule) for role, groups in GROUPS.items() for group in groups for rule in group["rules"]]
ALERTS = [rule["alert"] for _role, rule in RULES]


@pytest.fixture(scope="module")
def promtool() -> str:
    """PROMTOOL, or the one that the toolchain module has built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops/bin"
    found = os.environ.get("PROMTOOL") or shutil.which("promtool") or next(map(str, cache.glob("prometheus-0*/promtool")), "")
    if not found:
        pytest.skip("there is no promtool: tests/rules gets it, or name one by PROMTOOL")
    return found


def run(promtool: str, folder: Path, role: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run the tests on the rules; the alert `without` can't fire. The texts are no part of it."""
    groups = []
    for group in GROUPS[role]:
        rules = [
            {"alert": r["alert"], "expr": r["expr"], "for": r.get("for", "0s"), "labels": r["labels"]} for r in group["rules"]
        ]
        groups.append(
            {"name": group["name"], "rules": [{**r, "expr": "vector(1) > 2"} if r["alert"] == without else r for r in rules]}
        )
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    shutil.copy(HERE / f"{role}.yml", folder)
    return subprocess.run([promtool, "test", "rules", f"{role}.yml"], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("role", ROLES)
def test_alerts_fire_and_keep_silent(promtool: str, tmp_path: Path, role: str) -> None:
    done = run(promtool, tmp_path, role)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("role", "rule"), RULES, ids=ALERTS)
def test_each_alert_has_a_test_that_makes_it_fire(promtool: str, tmp_path: Path, role: str, rule: dict[str, Any]) -> None:
    assert run(promtool, tmp_path, role, without=rule["alert"]).returncode != 0


@pytest.mark.parametrize(("role", "rule"), RULES, ids=ALERTS)
def test_each_alert_says_what_is_wrong(role: str, rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"]) - {"threshold", "window"}
    anchor = rule["alert"].lower()
    assert rule["annotations"]["runbook_url"].endswith(f"docs/logging.md#{anchor}")
    assert f"### {rule['alert']}\n" in (ROOT / "docs/logging.md").read_text()
