# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack's life with the upstream charts, as Helm, the API server and the real Prometheus operator take them.

FLASKOPS_UPSTREAM_CHARTS names a folder with kube-prometheus-stack and prometheus-blackbox-exporter, with their subcharts;
FLASKOPS_UPSTREAM_CHARTS_BEFORE one with those of a version before, from which the stack is upgraded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.test_roles import APPS, CORE, OPERATOR, WATCHED, changes, holds
from tests.api_rig import CONTEXT, Rig, running
from tests.harness import LONG, inventory_of, playbook
from tests.toolchain import programs

CHARTS, BEFORE = (os.environ.get(f"FLASKOPS_UPSTREAM_CHARTS{which}", "") for which in ("", "_BEFORE"))
pytestmark = [
    LONG,
    pytest.mark.skipif(not (CHARTS and BEFORE), reason="FLASKOPS_UPSTREAM_CHARTS and ..._BEFORE name no upstream charts"),
]
HOST, PLACE = "stack", "monitoring"
PROMETHEUS = f"{OPERATOR}/namespaces/{PLACE}/prometheuses/kube-prometheus-stack-prometheus"
# Somebody's changes: of an object of either chart, and of what Prometheus is told.
DRIFTS: dict[str, dict[str, Any]] = {
    PROMETHEUS: {"spec": {"retention": "77d"}},
    f"{APPS}/namespaces/{PLACE}/deployments/kube-prometheus-stack-operator": {"spec": {"replicas": 0}},
    f"{CORE}/namespaces/{PLACE}/services/prometheus-blackbox-exporter": {"spec": {"selector": {"app": "none"}}},
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("rig"), node=True) as found:
        yield found


def version(charts: str) -> str:
    return str(yaml.safe_load(Path(charts, "kube-prometheus-stack/Chart.yaml").read_text())["version"])


class Stack:
    """The role with the charts of a folder."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder

    def run(self, charts: str, *args: str, **options: Any) -> int:
        """How many tasks changed something; none may fail."""
        given = {
            "namespace": PLACE,
            "source": "upstream",
            "chart_ref": f"{charts}/kube-prometheus-stack",
            "blackbox_chart_ref": f"{charts}/prometheus-blackbox-exporter",
            "grafana": False,
            "wait_timeout": 120,
            **options,
        }
        hosts = {HOST: {f"kube_prometheus_stack_{name}": value for name, value in given.items()}}
        common = {"cluster_kubeconfig": str(self.rig.kubeconfig()), "cluster_context": CONTEXT}
        role = {"name": "Run it", "ansible.builtin.include_role": {"name": "flaskops.observability.kube_prometheus_stack"}}
        (self.folder / "play.yml").write_text(
            yaml.safe_dump([{"name": "Run the role", "hosts": "all", "gather_facts": False, "tasks": [role]}])
        )
        env = {"PATH": f"{programs('helm')}:{os.environ['PATH']}"}
        inventory = inventory_of(self.folder, hosts, **common)
        done = playbook(str(self.folder / "play.yml"), *args, inventory=inventory, env=env, timeout=900)
        assert done.returncode == 0, done.error
        return changes(done)[HOST]

    def charts(self) -> set[str]:
        """The charts whose objects are there."""
        found = self.rig.request("GET", f"{APPS}/namespaces/{PLACE}/deployments")["items"]
        return {item["metadata"]["labels"].get("chart") or item["metadata"]["labels"]["helm.sh/chart"] for item in found}


def test_the_upstream_stack_from_the_version_before_to_its_end(rig: Rig, tmp_path: Path) -> None:
    stack = Stack(rig, tmp_path)
    before = set(rig.versions(*WATCHED))
    assert stack.run(BEFORE, "--check") > 0
    assert set(rig.versions(*WATCHED)) == before, "check mode made something"
    assert stack.run(BEFORE) > 0
    assert stack.run(BEFORE) == 0
    assert f"kube-prometheus-stack-{version(BEFORE)}" in stack.charts()

    assert stack.run(CHARTS, "--check") > 0
    assert stack.run(CHARTS) > 0
    assert f"kube-prometheus-stack-{version(CHARTS)}" in stack.charts()
    made = rig.versions(*WATCHED)
    assert stack.run(CHARTS) == 0
    assert stack.run(CHARTS, "--check") == 0
    assert {path for path, found in rig.versions(*WATCHED).items() if made.get(path) != found} == set()

    wanted = {path: rig.request("GET", path)["spec"] for path in DRIFTS}
    for path, body in DRIFTS.items():
        rig.request("PATCH", path, body, "application/merge-patch+json")
    assert stack.run(CHARTS, "--check") > 0
    assert all(holds(rig.request("GET", path), body) for path, body in DRIFTS.items()), "check mode repaired it"
    assert stack.run(CHARTS) > 0
    assert {path: rig.request("GET", path)["spec"] for path in DRIFTS} == wanted
    assert stack.run(CHARTS) == 0

    assert stack.run(CHARTS, state="absent", remove_data=True) > 0
    assert stack.run(CHARTS, state="absent", remove_data=True) == 0
    left = set(rig.versions(*WATCHED)) - before
    assert not left, json.dumps(sorted(left))
