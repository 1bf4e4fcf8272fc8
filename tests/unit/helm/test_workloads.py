# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When what the Prometheus operator makes of an object is there; what it really does is seen on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.helm import workloads
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeError

META = {"name": "stack", "namespace": "monitoring", "generation": 1, "resourceVersion": "7"}
RECONCILED = {"type": "Reconciled", "status": "True", "observedGeneration": 1}
SERVER = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "Prometheus",
    "metadata": META,
    "status": {"conditions": [RECONCILED]},
}
STATEFUL = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "prometheus-stack", "namespace": "monitoring"}}


GOING = STATEFUL | {"metadata": {**STATEFUL["metadata"], "resourceVersion": "5", "deletionTimestamp": "2026-11-30T05:00:00Z"}}


class Late:
    """An API server on which the operator makes its StatefulSet only after it has said that it took note."""

    def __init__(self, looks: int, before: dict[str, Any] | None = None) -> None:
        self.looks, self.watched, self.before = looks, 0, before

    def get(self, item: dict[str, Any]) -> dict[str, Any] | None:
        return SERVER if item["kind"] == "Prometheus" else STATEFUL if self.watched >= self.looks else self.before

    def watch(self, item: dict[str, Any], version: str, seconds: float) -> Iterator[dict[str, Any]]:
        assert (item["kind"], version) == ("StatefulSet", self.before["metadata"]["resourceVersion"] if self.before else "")
        self.watched += 1
        yield {"type": "ADDED"}


@pytest.mark.parametrize("before", [None, GOING], ids=["none before", "one that goes"])
@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_stateful_set_that_comes_later_is_waited_for(looks: int, before: dict[str, Any] | None) -> None:
    late: Any = Late(looks, before)
    assert workloads._reconciled(late, SERVER, 5) == STATEFUL
    assert late.watched == looks


def test_one_that_never_comes_is_named() -> None:
    late: Any = Late(1)
    with pytest.raises(KubeError, match="no StatefulSet prometheus-stack"):
        workloads._reconciled(late, SERVER, 0)
