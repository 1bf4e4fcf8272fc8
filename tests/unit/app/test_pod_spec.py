# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role flask_app makes of its options for a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import ROOT, evaluate

ROLE = ROOT / "roles/flask_app"


def pod(folder: Path, **options: Any) -> dict[str, Any]:
    given = {"flask_app_image": "x:1", "flask_app_name": "shop", **{f"flask_app_{key}": value for key, value in options.items()}}
    return dict(evaluate(folder, {"pod": "__flask_app_pod_spec"}, given, ROLE)["pod"])


def test_pods_are_spread_over_nodes_unless_that_is_overridden(tmp_path: Path) -> None:
    own = [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
    (spread,) = pod(tmp_path)["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert spread["labelSelector"] == {"matchLabels": {"app": "shop"}} and spread["matchLabelKeys"] == ["pod-template-hash"]
    assert pod(tmp_path, pod_overrides={"topologySpreadConstraints": own})["topologySpreadConstraints"] == own


@pytest.mark.parametrize("names", [[], ["harbor", "other"]])
def test_pull_secrets_are_named_where_there_are_some(tmp_path: Path, names: list[str]) -> None:
    assert pod(tmp_path, image_pull_secrets=names).get("imagePullSecrets", "none") == (
        [{"name": name} for name in names] or "none"
    )


def test_time_to_start_room_in_tmp_and_overrides(tmp_path: Path) -> None:
    assert "startupProbe" not in pod(tmp_path)["containers"][0]
    more = {
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [{"name": "shop", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
    }
    made = pod(tmp_path, start_timeout=61, tmp_size="1Gi", port=8000, pod_overrides=more)
    (container,) = made["containers"]
    probe = container["startupProbe"]
    assert probe["httpGet"] == {"path": "/health", "port": 8000} and probe["periodSeconds"] * probe["failureThreshold"] == 65
    assert made["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "data", "emptyDir": {}}]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp", "/d"]
