# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alerts about Loki, its canary and its collector as Prometheus evaluates them: promtool runs `alerts.yml`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
GROUPS: list[dict[str, Any]] = yaml.safe_load((ROOT / "roles/loki/files/rules.yml").read_text())["groups"]
ALERTS = [rule["alert"] for group in GROUPS for rule in group["rules"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    """PROMTOOL, or the one that the toolchain module has built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops/bin"
    found = os.environ.get("PROMTOOL") or shutil.which("promtool") or next(map(str, cache.glob("prometheus-0*/promtool")), "")
    if not found:
        pytest.skip("there is no promtool: tests/rules gets it, or name one by PROMTOOL")
    return found


def run(promtool: str, folder: Path, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run the tests on the rules; the alert `without` can't fire. The texts are no part of it."""
    groups = []
    for group in GROUPS:
        rules = [
            {"alert": r["alert"], "expr": r["expr"], "for": r.get("for", "0s"), "labels": r["labels"]} for r in group["rules"]
        ]
        groups.append(
            {"name": group["name"], "rules": [{**r, "expr": "vector(1) > 2"} if r["alert"] == without else r for r in rules]}
        )
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    (folder / "alerts.yml").write_text((HERE / "alerts.yml").read_text())
    return subprocess.run([promtool, "test", "rules", "alerts.yml"], cwd=folder, capture_output=True, text=True, timeout=60)


def test_alerts_fire_and_keep_silent(promtool: str, tmp_path: Path) -> None:
    done = run(promtool, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_test_that_makes_it_fire(promtool: str, tmp_path: Path, alert: str) -> None:
    assert run(promtool, tmp_path, without=alert).returncode != 0


@pytest.mark.parametrize("rule", [rule for group in GROUPS for rule in group["rules"]], ids=ALERTS)
def test_each_alert_says_what_is_wrong(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")
