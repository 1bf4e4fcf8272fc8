# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node is drained or lost: which one, whose pods, and what stays as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import app as app_module
from ansible_collections.flaskops.observability.plugins.module_utils.drill import dead_man, machine, nodes
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import Options, Skipped
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import Guard
from ansible_collections.flaskops.observability.plugins.module_utils.drill.observers import Observers, Timeline, requests
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError

from .test_drill_scenarios import a_node, a_pod, json_patched, merged

BUDGET = '{"message": "Cannot evict pod as it would violate the pod\'s disruption budget."}'


class Shop:
    """An application of two pods on a cluster with a control plane and two workers."""

    name = namespace = "shop"
    replicas = 2
    prometheus, stack_namespace = "/prometheus", "monitoring"
    logs: Any = SimpleNamespace(namespace="logs")

    def __init__(self) -> None:
        self.options, self.page = Options(name="shop", namespace="shop"), "/"
        self.pod_spec: dict[str, Any] = {}
        self.deployment = {"spec": {"template": {"spec": self.pod_spec}}}
        self.container = {"readinessProbe": {"initialDelaySeconds": 5, "periodSeconds": 5}}
        self.nodes = [a_node("control", control_plane=True), a_node("one"), a_node("two")]
        self.own = [a_pod("shop-1", node="one"), a_pod("shop-2", node="two")]
        self.others: dict[str, list[dict[str, Any]]] = {"monitoring": [], "logs": []}
        self.command: list[str] = []
        self.minor = "37"
        self.refused: dict[str, tuple[int, str]] = {}  # by a part of the path
        self.asked: list[tuple[str, str, Any]] = []

    def get(self, path: str) -> Any:
        if path in self.refused:
            raise ApiError(*self.refused[path])
        if path == "/version":
            return {"major": "1", "minor": self.minor}
        if "kube-system" in path:
            return {"items": [{"spec": {"containers": [{"command": self.command}]}}]}
        if path.startswith("/api/v1/nodes/"):
            return next(node for node in self.nodes if node["metadata"]["name"] == path.rsplit("/", 1)[1])
        return {"items": self.nodes if path == "/api/v1/nodes" else self.others[path.split("/")[4]]}

    def pods(self) -> list[dict[str, Any]]:
        return self.own

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        self.asked.append((method, path, body))
        if refused := [answer for part, answer in self.refused.items() if part in path]:
            return refused[0]
        if method != "PATCH":
            return 201, "{}"
        kind = headers["Content-Type"]
        return 200, json.dumps((json_patched if kind == dead_man.PATCH else merged)(self.get(path.split("?")[0]), body))


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(machine, "engine_of", lambda node: "podman")
    return Shop()


def watcher(name: str, node: str, kind: str = "StatefulSet") -> dict[str, Any]:
    pod = a_pod(name, node=node)
    pod["metadata"]["ownerReferences"] = [{"kind": kind}]
    return pod


def test_only_the_apps_own_pods_of_one_node_are_evicted_and_the_node_is_freed_again(shop: Any) -> None:
    shop.own = [a_pod("shop-1", node="one"), a_pod("shop-2", node="two"), a_pod("shop-3", node="two")]
    plan = nodes.drain(shop)
    cordon, evict = plan.steps
    # The node with the fewest of its pods.
    assert (cordon["path"], cordon["body"]) == ("/api/v1/nodes/one", {"spec": {"unschedulable": True}})
    assert (evict["do"], evict["namespace"], evict["names"]) == ("evict", "shop", ["shop-1"])
    fields = [{"at": ["spec", "unschedulable"], "wrote": True, "was": None}]
    assert plan.undo == [{"do": "put_back", "path": "/api/v1/nodes/one", "uid": "one", "fields": fields}]
    # It only asked whether it may.
    for method, path, body in shop.asked:
        assert "dryRun=All" in path if method == "PATCH" else body["deleteOptions"] == {"dryRun": ["All"]}
    (starts, probe) = plan.stages["pods ready"]
    assert (probe[1], probe[2]) == (5, 11) and starts[2] == 30


def test_several_pods_of_a_node_may_have_to_go_one_after_the_other(shop: Any) -> None:
    shop.own = [a_pod("shop-1", node="one"), a_pod("shop-2", node="one")]
    plan = nodes.drain(shop)
    assert plan.steps[1]["names"] == ["shop-1", "shop-2"]
    assert sum(stage[2] for stage in plan.stages["pods ready"]) == 2 * (30 + 11)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"replicas": 1}, "the application has 1 replica"),
        ({"nodes": [a_node("one")]}, "the cluster has 1"),
        ({"nodes": [a_node("one"), a_node("two", unschedulable=True)]}, "the cluster has 1"),
        ({"nodes": [a_node("one"), a_node("two", taints=[{"key": "gpu", "effect": "NoSchedule"}])]}, "the cluster has 1"),
        ({"own": []}, "no node that takes pods has a ready one"),
        ({"refused": {"/api/v1/nodes": (403, "nodes is forbidden")}}, "can't be listed .nodes is forbidden."),
        ({"refused": {"/api/v1/nodes/one": (403, "nodes is forbidden")}}, "one can't be read: nodes is forbidden"),
        ({"refused": {"/api/v1/nodes/one?": (403, '{"message": "cannot patch"}')}}, "one can't be patched: cannot patch"),
        ({"refused": {"/eviction": (403, "cannot create")}}, "shop-1 can't be evicted, the answer was 403: cannot create"),
        ({"refused": {"/eviction": (429, BUDGET)}}, "shop-1 can't be evicted now: Cannot evict pod as it would violate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_drain_that_is_not_possible_says_why(shop: Any, change: dict[str, Any], reason: str) -> None:
    vars(shop).update(change)
    with pytest.raises(Skipped, match=reason):
        nodes.drain(shop)


def test_a_node_takes_what_tolerates_its_taints_and_asks_for_its_labels() -> None:
    taint = {"key": "pool", "value": "web", "effect": "NoSchedule"}
    node = a_node("one", taints=[taint, {"key": "soft", "effect": "PreferNoSchedule"}])
    equal = {"key": "pool", "operator": "Equal", "value": "web", "effect": "NoSchedule"}
    for tolerations, taken in (
        ([], False),
        ([equal], True),
        ([{**equal, "value": "batch"}], False),
        ([{"key": "pool", "operator": "Exists"}], True),
        ([{"operator": "Exists"}], True),
        ([{"key": "pool", "operator": "Exists", "effect": "NoExecute"}], False),
    ):
        assert nodes.takes(node, {"tolerations": tolerations}) is taken, tolerations
    assert nodes.takes(a_node("one"), {"nodeSelector": {"kubernetes.io/hostname": "one"}})
    assert not nodes.takes(a_node("one"), {"nodeSelector": {"kubernetes.io/hostname": "two"}})


class Evictions:
    """An API server that refuses evictions a few times, which notes what is evicted."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers, self.evicted = list(answers), []

    def __call__(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        assert (method, body["kind"]) == ("POST", "Eviction")
        answer = self.answers.pop(0) if self.answers else (201, "{}")
        if answer[0] == 201:
            self.evicted.append(body["metadata"]["name"])
        return answer


EVICT = {"do": "evict", "namespace": "shop", "names": ["a", "b", "c"], "seconds": 30.0}


def test_an_eviction_waits_for_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_man, "PAUSE", 0.01)
    server = Evictions((201, "{}"), (429, BUDGET), (404, "gone"), (429, BUDGET))
    dead_man.run([EVICT], server)
    assert server.evicted == ["a", "b"]


@pytest.mark.parametrize(
    ("seconds", "answer", "said"),
    [(0.0, (429, BUDGET), "within 0 s: .*disruption budget"), (30.0, (403, "forbidden"), "the answer was 403: forbidden")],
)
def test_an_eviction_that_is_refused_says_by_what(seconds: float, answer: tuple[int, str], said: str) -> None:
    with pytest.raises(dead_man.StepError, match=said):
        dead_man.run([{**EVICT, "seconds": seconds}], Evictions(*[answer] * 9))


def test_the_lost_node_is_a_worker_without_what_watches(shop: Any) -> None:
    shop.own = [a_pod(f"shop-{name}", node=name) for name in ("control", "one", "two")]
    shop.others["monitoring"] = [watcher("prometheus-0", "one"), watcher("exporter-x", "two", "DaemonSet")]
    plan = nodes.lose(shop)
    assert plan.how == "node two killed by podman"
    assert plan.steps == [{"do": "kill_node", "engine": "podman", "node": "two"}]
    assert plan.undo == [{"do": "start_node", "engine": "podman", "node": "two"}] and plan.touched == ["/api/v1/nodes/two"]
    shop.others["logs"] = [watcher("victoria-logs-0", "two"), watcher("other-0", "two")]
    assert nodes.lose(shop).how.startswith("node one killed by podman, which also runs prometheus-0: no better one")


@pytest.mark.parametrize(
    ("change", "engine", "reason"),
    [
        ({"replicas": 1}, "podman", "the application has 1 replica"),
        ({"nodes": [a_node("control", control_plane=True)]}, "podman", "no ready node beside its control plane"),
        ({"own": [a_pod("shop-1", node="one"), a_pod("shop-2", node="one")]}, "podman", "while another node has one too"),
        ({}, "", "is a container that podman or docker of this machine runs"),
    ],
)
def test_a_node_that_can_not_be_lost_says_why(
    shop: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], engine: str, reason: str
) -> None:
    monkeypatch.setattr(machine, "engine_of", lambda node: engine)
    vars(shop).update(change)
    with pytest.raises(Skipped, match=reason):
        nodes.lose(shop)


@pytest.mark.parametrize(
    ("command", "minor", "span"),
    [
        ([], "37", (40, 55)),
        ([], "31+", (30, 45)),
        (["kube-controller-manager", "--node-monitor-grace-period=20s", "--node-monitor-period=2s"], "37", (10, 22)),
    ],
)
def test_silence_counts_as_the_controller_manager_has_it(shop: Any, command: list[str], minor: str, span: Any) -> None:
    shop.command, shop.minor = command, minor
    ((_name, shortest, longest),) = nodes.lose(shop).stages["node NotReady"]
    assert (shortest, longest) == span


class Containers:
    """An engine with one container, or with none."""

    name, path, env = "podman", "podman", dict(os.environ)

    def __init__(self, address: str = "10.1.0.3", label: str = "flaskops", running: bool = True) -> None:
        self.address, self.label, self.running = address, label, running
        self.ran: list[str] = []

    def inspect(self, kind: str, name: str) -> Any:
        networks = {"flaskops": {"IPAddress": self.address}}
        found = {"State": {"Running": self.running}, "NetworkSettings": {"Networks": networks}}
        return found if name == "one" else None

    def labels(self, kind: str, name: str) -> dict[str, str]:
        return {machine.LABEL: self.label} if self.label else {}

    def run(self, words: list[str], timeout: float = 0) -> None:
        self.ran.append(" ".join(words))
        self.running = False


@pytest.mark.parametrize(
    ("engine", "node", "found"),
    [
        (Containers(), "one", "podman"),
        (Containers(), "two", ""),
        (Containers(address="10.9.9.9"), "one", ""),
        (Containers(label=""), "one", ""),
        (Containers(running=False), "one", ""),
    ],
    ids=["ours", "another name", "another cluster's", "somebody else's", "not running"],
)
def test_a_node_is_a_container_of_this_machine_by_label_and_address(
    monkeypatch: pytest.MonkeyPatch, engine: Containers, node: str, found: str
) -> None:
    monkeypatch.setattr(machine.Engine, "find", lambda *_given, **_more: engine)
    assert machine.engine_of(a_node(node)) == found


def test_a_killed_node_is_started_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the supervisor has not begun is begun, and a node that runs is left alone."""
    engine, log = Containers(), tmp_path / "log"
    program = tmp_path / "engine"
    program.write_text(f'#!/bin/sh\necho "$1 $2" >> {log}\n[ "$2" = one ] || {{ echo "no such container" >&2; exit 125; }}\n')
    program.chmod(0o755)
    engine.path = str(program)
    monkeypatch.setattr(machine.Engine, "find", lambda *_given, **_more: engine)
    machine.kill_node({"engine": "podman", "node": "one"}, Evictions())
    assert engine.ran == ["kill --signal KILL one"] and "one" in machine._sentinels
    machine.start_node({"engine": "podman", "node": "one"}, Evictions())
    assert log.read_text().splitlines() == ["start one", "exec one"] and not machine._sentinels
    engine.running = True
    machine.start_node({"engine": "podman", "node": "one"}, Evictions())
    assert len(log.read_text().splitlines()) == 2
    engine.running, engine.label = False, ""
    with pytest.raises(dead_man.StepError, match="is no node of a local cluster"):
        machine.start_node({"engine": "podman", "node": "one"}, Evictions())
    engine.label = "flaskops"
    monkeypatch.setattr(engine, "inspect", lambda kind, name: {"State": {"Running": False}})
    with pytest.raises(dead_man.StepError, match="two can't be started: no such container"):
        machine.start_node({"engine": "podman", "node": "two"}, Evictions())


def test_elsewhere_a_lost_node_is_awaited() -> None:
    lost, step = a_node("one"), {"do": "start_node", "engine": "podman", "node": "one"}
    lost["status"]["conditions"][0]["status"] = "Unknown"

    def undo(answer: tuple[int, str]) -> list[str]:
        return dead_man.undo([step], lambda *_given: answer)

    (problem,) = undo((200, json.dumps(lost)))
    assert "one is lost" in problem
    assert undo((200, json.dumps(a_node("one")))) == undo((404, "")) == []


def test_the_sentinel_starts_what_a_killed_drill_left(tmp_path: Path) -> None:
    """It outlives kill -9 of the process that has killed the node, and does nothing for one that has started it again."""
    code = "\n".join(
        (
            "import sys, subprocess, threading",
            "from ansible_collections.flaskops.observability.plugins.module_utils.drill.machine import SENTINEL",
            "command = ['setsid', '--fork', sys.executable, '-c', SENTINEL, 'touch', sys.argv[1]]",
            "started = subprocess.Popen(command, stdin=subprocess.PIPE)",
            "if sys.argv[2] == 'undone': started.communicate(b'started')",
            "print('ready', flush=True)",
            "threading.Event().wait(60)",
        )
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for how in ("killed", "undone"):
        mark = tmp_path / how
        process = subprocess.Popen([sys.executable, "-c", code, str(mark), how], stdout=subprocess.PIPE, env=env)
        assert process.stdout and process.stdout.readline() == b"ready\n"
        assert not mark.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        end = time.monotonic() + (10 if how == "killed" else 0.5)
        while not mark.exists() and time.monotonic() < end:
            threading.Event().wait(0.05)
        assert mark.exists() == (how == "killed")


def test_a_node_is_as_before_when_its_own_taints_are() -> None:
    node = a_node("one")
    before = app_module.node_digest(node)
    node["metadata"]["annotations"] = {"csi": "x"}
    node["spec"]["taints"] = [{"key": "DeletionCandidateOfClusterAutoscaler", "value": "1", "effect": "PreferNoSchedule"}]
    assert app_module.node_digest(node) == before
    for change in ({"unschedulable": True}, {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]}):
        assert app_module.node_digest({**node, "spec": change}) != before


def test_rights_on_nodes_go_with_those_to_remove_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, Any]] = []
    guard = Guard(lambda *_given: (404, ""), "flaskops-drill", "me", "shop/shop", lambda steps: "")
    monkeypatch.setattr(guard, "_create", lambda path, body: made.append((path, body)))
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"], "resourceNames": ["one"]}
    guard._make("image:1", {"": [rule]})
    ((_path, role),) = [item for item in made if item[0].endswith("/clusterroles")]
    assert [rule["resources"] for rule in role["rules"]] == [["namespaces"], ["nodes"]]


def test_nodes_are_observed() -> None:
    app: Any = SimpleNamespace(page="/")
    observers = Observers(app, "run", lambda entry: None)
    observers._nodes = {name: a_node(name) for name in ("one", "two")}
    timeline = observers._timeline = Timeline(lambda entry: None)
    observers._nodes_before = observers._ready_nodes()
    lost = a_node("two")
    lost["status"]["conditions"][0]["status"] = "Unknown"
    observers._watch = lambda path: iter([("MODIFIED", [lost]), ("MODIFIED", [a_node("two")])])  # type: ignore[method-assign]
    observers._watch_nodes()
    assert list(timeline.at) == [("node", "NotReady"), ("node", "Ready")]


def test_silence_is_the_longest_time_without_an_answer() -> None:
    done = [(0.1, 0.01, True), (0.2, 5.0, False), (3.0, 0.01, True), (3.1, 0.01, True)]
    assert requests(done, 4.0)["silent"] == 2.9
    assert requests(done, 9.0)["silent"] == 5.9
    assert requests([(0.1, 5.0, False)], 9.0)["silent"] == 9.0
