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


class Slow:
    """An API server on which the operator calls an object reconciled before it changes the StatefulSet, in some way or not."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events, self.versions, self.conditions = events, [], [RECONCILED, {**RECONCILED, "type": "Available"}]
        self.stateful = {**STATEFUL, "metadata": {**STATEFUL["metadata"], "uid": "a", "generation": 1, "resourceVersion": "5"}}

    def get(self, item: dict[str, Any]) -> dict[str, Any] | None:
        return {**SERVER, "status": {"conditions": self.conditions}} if item["kind"] == "Prometheus" else self.stateful

    def watch(self, item: dict[str, Any], version: str, seconds: float) -> Iterator[dict[str, Any]]:
        self.versions.append((version, seconds))
        for event in self.events:
            self.stateful = event["object"]
            yield event

    def each(self, function: Any, items: list[Any]) -> list[Any]:
        return [function(item) for item in items]


def changed(**more: Any) -> dict[str, Any]:
    meta = {**STATEFUL["metadata"], "uid": "a", "generation": 1, "resourceVersion": "6", **more}
    return {"type": "MODIFIED", "object": {**STATEFUL, "metadata": meta}}


@pytest.mark.parametrize(
    ("events", "seen"),
    [
        ([], ("a", 1)),
        ([changed(), changed(generation=2), changed(uid="never read")], ("a", 2)),
        ([changed(uid="b")], ("b", 1)),
    ],
    ids=["nothing to change", "its status, then itself", "another one"],
)
def test_the_operator_is_waited_for_where_an_object_has_changed(
    monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]], seen: tuple[str, int]
) -> None:
    waited: list[dict[str, Any]] = []
    monkeypatch.setattr(workloads, "wait_for", lambda objects, live, seconds: waited.append(live))
    slow: Any = Slow(events)
    live = {**SERVER, "status": {"conditions": slow.conditions}}
    before = workloads.versions(slow, [{**live, "metadata": {**META, "generation": 0}}])
    workloads.settle(slow, [live], 60, before)
    assert [workloads._version(item) for item in waited] == [seen]
    assert slow.versions == [("5", workloads.NOTICE)]
    # Nobody waits for one that is as it was, and ready.
    workloads.settle(slow, [live], 60, workloads.versions(slow, [live]))
    assert len(waited) == 1 and len(slow.versions) == 1


def test_one_that_was_changed_at_once_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[dict[str, Any]] = []
    monkeypatch.setattr(workloads, "wait_for", lambda objects, live, seconds: waited.append(live))
    slow: Any = Slow([])
    before = {"Prometheus monitoring/stack": (0, ("a", 1))}
    slow.stateful = changed(generation=2)["object"]
    workloads.settle(slow, [{**SERVER, "status": {"conditions": slow.conditions}}], 60, before)
    assert len(waited) == 1 and slow.versions == []
