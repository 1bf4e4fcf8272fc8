# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role app_monitoring on an API server, beside an application that flask_app deploys there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_rig import Rig
from tests.fakes.operator import KINDS, operator, path
from tests.harness import Run, run_role

NAME = "watched"
RULE = path("PrometheusRule", NAME, NAME)
BOARDS = "/api/v1/namespaces/default/configmaps?labelSelector=app.kubernetes.io/part-of=flaskops-app-monitoring"
MERGE = "application/merge-patch+json"


@pytest.fixture(autouse=True)
def stack(rig: Rig) -> Iterator[None]:
    with operator(rig, ruleSelector={"matchLabels": {"release": "stack"}}):
        yield


def test_life(rig: Rig, tmp_path: Path) -> None:
    def run(role: str, *args: str, **options: Any) -> Run:
        given = {"kubeconfig": str(rig.kubeconfig()), "name": NAME, "namespace": NAME, **options}
        return run_role(role, tmp_path, {f"{role}_{key}": value for key, value in given.items()}, *args)

    def monitoring(*args: str, **options: Any) -> int:
        return run("app_monitoring", *args, **options).changed

    def there() -> dict[str, int]:
        found = {kind: len(rig.request("GET", path(kind, NAME))["items"]) for kind in KINDS}
        return {kind: number for kind, number in found.items() if number} | {"boards": len(rig.request("GET", BOARDS)["items"])}

    assert monitoring("--check") == 1, "check mode comes before the application"
    assert run("flask_app", image="watched:1", replicas=0).changed == 1
    assert (monitoring("--check"), there()) == (1, {"boards": 0})
    assert monitoring(public_url="https://watched.test/health") == 1
    whole = {"PrometheusRule": 1, "ServiceMonitor": 1, "Probe": 2, "AlertmanagerConfig": 1, "boards": 3}
    assert there() == whole
    assert rig.request("GET", RULE)["metadata"]["labels"]["release"] == "stack"
    assert monitoring(public_url="https://watched.test/health") == 0
    assert (monitoring(), there()) == (1, whole | {"Probe": 1})
    rig.request("PATCH", RULE, {"spec": {"groups": []}}, MERGE)
    assert (monitoring("--check"), monitoring(), monitoring("--check")) == (1, 1, 0)
    assert rig.request("GET", RULE)["spec"]["groups"]

    rig.request("PATCH", RULE, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}, MERGE)
    refused = run("app_monitoring")
    assert f"PrometheusRule {NAME}/{NAME} (of Helm)" in refused.error and "app_monitoring_adopt" in refused.error
    assert monitoring(adopt=True) == 1

    assert (monitoring(state="absent"), there()) == (1, {"boards": 0})
    assert monitoring(state="absent") == 0
    assert run("flask_app", state="absent").changed == 1
    assert run("flask_app", state="absent").changed == 0
