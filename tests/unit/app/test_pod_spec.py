# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role flask_app makes of its options for a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.evaluation import evaluate

ROLE = Path(__file__).resolve().parents[3] / "roles/flask_app"


def test_pods_are_spread_over_nodes_unless_that_is_overridden(tmp_path: Path) -> None:
    own = [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
    found: list[Any] = []
    for overrides in ({}, {"topologySpreadConstraints": own}):
        given = {"flask_app_image": "x:1", "flask_app_name": "shop", "flask_app_pod_overrides": overrides}
        found.append(evaluate(tmp_path, {"pod": "__flask_app_pod_spec"}, given, ROLE)["pod"]["topologySpreadConstraints"])
    (spread,) = found[0]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert spread["labelSelector"] == {"matchLabels": {"app": "shop"}} and spread["matchLabelKeys"] == ["pod-template-hash"]
    assert found[1] == own
