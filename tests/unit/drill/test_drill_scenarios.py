# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios' declarations, their plans, and that what undoes them really does."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import bounds, dead_man, machine, scenarios
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import App, Options, Plan, inverse
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import DrillError, rights
from ansible_collections.flaskops.observability.plugins.module_utils.drill.scenarios import SCENARIOS, Expect, LeftOut, Scenario
from ansible_collections.flaskops.observability.plugins.module_utils.verify.log_stores import STORES
from hypothesis import given
from hypothesis import strategies as st

DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "shop", "namespace": "shop", "uid": "d1", "managedFields": [{"manager": "flaskops"}]},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "shop"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "shop",
                        "image": "shop:1",
                        "env": [{"name": "PASSWORD", "value": "canary-secret"}],
                        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "10m"}},
                        "readinessProbe": {"httpGet": {"path": "/health", "port": 5000}, "periodSeconds": 5},
                    },
                    {"name": "sidecar", "image": "sidecar:1"},
                ]
            }
        },
    },
}
SERVICE: dict[str, Any] = {
    "metadata": {"name": "shop", "namespace": "shop", "managedFields": [{"manager": "flaskops"}]},
    "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 5000}]},
}


def merged(old: Any, patch: Any) -> Any:
    """A strategic merge patch as the API server does it, for what the scenarios patch."""
    if not isinstance(patch, dict):
        return patch
    found = dict(old or {})
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
            names = [item["name"] for item in found.get(key, [])]
            items = {item["name"]: item for item in found.get(key, [])}
            for item in value:
                items[item["name"]] = merged(items.get(item["name"]), item)
            found[key] = [items[name] for name in dict.fromkeys([*names, *items])]
        else:
            found[key] = merged(found.get(key), value) if isinstance(value, dict) else value
    return found


def a_node(name: str, control_plane: bool = False, **spec: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name} | ({"node-role.kubernetes.io/control-plane": ""} if control_plane else {})
    status = {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.1.0.3"}]}
    return {"kind": "Node", "metadata": {"name": name, "uid": name, "labels": labels}, "spec": spec, "status": status}


@pytest.fixture(autouse=True)
def containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes are containers of this machine."""
    monkeypatch.setattr(machine, "engine_of", lambda node: "podman")


class FakeApp:
    """An application of which everything is at hand."""

    base = "/api/v1/namespaces/shop"
    deployment_path = "/apis/apps/v1/namespaces/shop/deployments/shop"
    service_path = "/api/v1/namespaces/shop/services/shop"
    name = namespace = "shop"
    selector = "app=shop"
    replicas = 2
    prometheus = "/prometheus"
    prometheus_name, stack_namespace = "main", "monitoring"
    store, logs = STORES["victoria_logs"], SimpleNamespace(namespace="logs")

    def __init__(self, switches: bool = True, **options: Any) -> None:
        self.deployment, self.service = copy.deepcopy(DEPLOYMENT), copy.deepcopy(SERVICE)
        self.container = self.deployment["spec"]["template"]["spec"]["containers"][0]
        self.switches = switches
        self.options = Options(name="shop", namespace="shop", **options)

    def pod_names(self) -> list[str]:
        return ["shop-1", "shop-2"]

    def get(self, path: str) -> Any:
        if path.endswith("/replicasets"):
            owner = [{"uid": "d1"}]
            return {"items": [{"metadata": {"name": "shop-old", "ownerReferences": owner}}, {"metadata": {"name": "other"}}]}
        if path.endswith("/controllerrevisions"):
            return {"items": [{"metadata": {"name": "revision-1"}}]}
        if path == self.service_path:
            return self.service
        if path == "/api/v1/nodes":
            return {"items": [a_node("control", control_plane=True), a_node("one"), a_node("two")]}
        if path == "/version":
            return {"major": "1", "minor": "37"}
        return {"items": [{"metadata": {"name": "prometheus-0"}, "spec": {"nodeName": "two", "containers": [{}]}}]}

    def pods(self) -> list[dict[str, Any]]:
        return [a_pod("shop-1", node="one"), a_pod("shop-2", node="two")]

    def request(self, _method: str, path: str, _body: Any = None, _headers: Any = None) -> tuple[int, str]:
        return (200, "") if path == self.service_path or "dryRun" in path or path.endswith("/eviction") else (404, "")

    def workload(self, kind: str, _selector: str) -> Any:
        metadata = {"name": kind, "namespace": "logs", "uid": "w1"}
        return {"metadata": metadata, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {}}}}


def test_names_are_unique_and_every_scenario_can_be_named() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names) >= 13
    assert [scenario.name for scenario in scenarios.chosen([], [])] == names
    assert [scenario.name for scenario in scenarios.chosen(["oom", "errors", "oom"], [])] == ["oom", "errors"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_declaration_is_whole(scenario: Scenario) -> None:
    assert scenario.title and scenario.ways and scenario.expects
    seen = {(expect.observer, expect.event) for expect in scenario.expects}
    for expect in scenario.expects:
        if isinstance(expect.symptom, str) and expect.symptom not in (bounds.READINESS, bounds.LATE, bounds.MISSING):
            observer, event = expect.symptom.rsplit(" ", 1)
            # What an alert's time is counted from is itself expected, before it.
            assert (observer, event) in seen


@pytest.mark.parametrize("switches", [True, False], ids=["switches", "API alone"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_plan_is_data_and_is_undone_by_its_own_steps(scenario: Scenario, switches: bool) -> None:
    app = FakeApp(switches, error_path="/status/500", slow_path="/delay/2", dependency="db.example.com")
    try:
        plan = scenarios.plan(scenario, app)  # type: ignore[arg-type]
    except LeftOut as error:
        # Nothing but the application itself can write its log lines.
        assert (scenario.name, switches) == ("log_burst", False) and "fault switch logs" in str(error)
        return
    assert plan.how
    text = json.dumps([plan.steps, plan.undo])
    assert "canary-secret" not in text
    for step in [*plan.steps, *plan.undo]:
        assert step["do"] in machine.DO
    # What undoes a fault has to be possible inside the cluster.
    assert {step["do"] for step in plan.undo} <= set(dead_man.DO)
    patches = [step for step in plan.steps if step["do"] == "patch"]
    named = [f"/api/v1/nodes/{step['node']}" for step in plan.steps if step["do"] == "kill_node"]
    assert {step["path"] for step in patches} | set(named) == set(plan.touched)
    switched = [step["path"] for step in plan.steps if step["do"] == "switch"]
    assert sorted(switched) == sorted(step["path"] for step in plan.undo if step["do"] == "switch")
    for step in patches:
        before = app.service if step["path"] == app.service_path else app.deployment
        if step["path"] not in (app.service_path, app.deployment_path):
            before = app.workload("x", "")
        broken = merged(before, step["body"])
        assert broken != before
        for undo in [s for s in plan.undo if s["do"] == "patch" and s["path"] == step["path"]]:
            broken = merged(broken, undo["body"])
        assert broken == before
        # Once more does no harm: the dead-man and the drill may both have done it.
        for undo in [s for s in plan.undo if s["do"] == "patch" and s["path"] == step["path"]]:
            broken = merged(broken, undo["body"])
        assert broken == before


def test_what_a_patch_adds_to_a_list_is_taken_out_again() -> None:
    env = {"env": [{"name": "PASSWORD", "value": "canary-secret"}]}
    assert inverse(env, {"env": [{"name": "DB", "value": "x"}]}) == {"env": [{"name": "DB", "$patch": "delete"}]}
    # Mounts are told apart by their paths, of which one volume may have several.
    mounts = {"volumeMounts": [{"name": "data", "mountPath": "/a"}]}
    added = {"volumeMounts": [{"name": "data", "mountPath": "/b"}]}
    assert inverse(mounts, added) == {"volumeMounts": [{"mountPath": "/b", "$patch": "delete"}]}
    ports = {"ports": [{"port": 80, "targetPort": 5000}]}
    assert inverse(ports, {"ports": [{"port": 80, "targetPort": 1}]}) == {"ports": [{"port": 80, "targetPort": 5000}]}


class FakeCluster:
    """An API server with one application, whose objects a test changes."""

    host = "https://api"

    def __init__(self, pods: list[dict[str, Any]], replicas: int = 2) -> None:
        ready = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas, "readyReplicas": replicas}
        spec = {**DEPLOYMENT["spec"], "replicas": replicas}
        slices = [{"endpoints": [{"addresses": [str(n)]} for n in range(replicas)]}]
        self.answers: dict[str, Any] = {
            "/apis/apps/v1/namespaces/shop/deployments/shop": {"kind": "Deployment", **DEPLOYMENT, "spec": spec, "status": ready},
            "/api/v1/namespaces/shop/services/shop": SERVICE,
            "/api/v1/namespaces/shop/pods": {"items": pods},
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices": {"items": slices},
            "/api/v1/namespaces/shop/services/shop:80/proxy/health": {},
        }

    def fetch(self, path: str, headers: Any = None, seconds: float = 0) -> tuple[int, str]:
        found = self.answers.get(path.split("?")[0])
        return (404, '{"message": "not found"}') if found is None else (200, json.dumps(found))

    def send(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        return self.fetch(path)


def a_pod(name: str, phase: str = "Running", node: str = "one") -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True" if phase == "Running" else "False"}]
    return {"metadata": {"name": name}, "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": ready}}


def test_evicted_pods_are_no_trouble_and_an_autoscaler_may_have_scaled() -> None:
    cluster = FakeCluster([a_pod("a"), a_pod("b"), a_pod("gone", "Failed")])
    app = App(cluster, Options(name="shop", namespace="shop"))  # type: ignore[arg-type]
    assert app.unhealthy() == "" and app.pod_names() == ["a", "b"]
    path = "/apis/apps/v1/namespaces/shop/deployments/shop"
    before = app.digest(path, replicas=False), app.digest(path)
    cluster.answers |= FakeCluster([a_pod(name) for name in "abcd"], 4).answers
    assert app.unhealthy() == ""
    after = app.digest(path, replicas=False), app.digest(path)
    assert before[0] == after[0] and before[1] != after[1]
    assert Plan("x", [{"do": "patch", "path": path, "body": {"spec": {"replicas": 0}}}]).scales(path)
    cluster.answers[path]["status"]["readyReplicas"] = 3
    assert app.unready(path) == "3 of 4 pods of Deployment shop are ready"


@pytest.mark.parametrize(
    ("probe", "how"),
    [
        ({"httpGet": {"path": "/health", "port": 5000}}, "fault switch health"),
        ({"httpGet": {"path": "/health?full=1", "port": 5000}}, "a readiness probe of a port"),
        ({"httpGet": {"path": "/healthz", "port": 5000}}, "a readiness probe of a port"),
        ({"httpGet": {"path": "/health", "port": 8081}}, "a readiness probe of a port"),
        ({"httpGet": None, "tcpSocket": {"port": 5000}}, "a readiness probe of a port"),
        ({"httpGet": None, "exec": {"command": ["true"]}}, "a readiness probe of a port"),
    ],
)
def test_the_switch_of_health_is_for_a_probe_that_sees_it(probe: dict[str, Any], how: str) -> None:
    app = FakeApp()
    app.container["readinessProbe"] |= probe
    plan = scenarios.plan(next(s for s in SCENARIOS if s.name == "health"), app)  # type: ignore[arg-type]
    assert plan.how.startswith(how)


def test_template_is_restored_before_its_history_and_the_limit_of_the_history_last() -> None:
    plan = scenarios.plan(next(s for s in SCENARIOS if s.name == "crash_loop"), FakeApp(switches=False))  # type: ignore[arg-type]
    assert [step["do"] for step in plan.undo] == ["patch", "history", "patch", "owners"]
    first, history, last, owners = plan.undo
    assert first["body"]["spec"]["template"]["spec"]["containers"] == [{"name": "shop", "command": None}]
    # The history is not cut while the broken template is still in it.
    assert first["body"]["spec"]["revisionHistoryLimit"] == plan.steps[0]["body"]["spec"]["revisionHistoryLimit"] == 12
    assert history["keep"] == ["shop-old"] and history["owner"] == "d1"
    assert last["body"]["spec"]["revisionHistoryLimit"] is None
    assert owners["value"] == [{"manager": "flaskops"}]


def test_switches_are_undone_before_pods_that_wait_are_replaced() -> None:
    plan = scenarios.plan(next(s for s in SCENARIOS if s.name == "crash_loop"), FakeApp())  # type: ignore[arg-type]
    assert [step["do"] for step in plan.undo] == ["switch", "delete_pods"]
    both = scenarios.plan(next(s for s in SCENARIOS if s.name == "dependency_timeout"), FakeApp())  # type: ignore[arg-type]
    assert [step["path"] for step in both.steps] == ["/faults/latency", "/faults/errors"]
    assert [step["path"] for step in both.undo] == ["/faults/errors", "/faults/latency"]


@pytest.mark.parametrize(
    ("name", "app", "reason"),
    [
        ("errors", FakeApp(switches=False), "drill_error_path names no path"),
        ("latency", FakeApp(switches=False), "drill_slow_path names no path"),
        ("dependency_timeout", FakeApp(switches=False), "no fault switch latency"),
        ("log_burst", FakeApp(switches=False), "no fault switch logs"),
    ],
)
def test_what_cant_be_caused_says_why(name: str, app: Any, reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        scenarios.plan(next(s for s in SCENARIOS if s.name == name), app)


def test_unknown_and_double_names_are_refused() -> None:
    with pytest.raises(DrillError, match="There is no scenario flood: use some of errors, latency"):
        scenarios.chosen(["flood"], [])
    mine = {"name": "oom", "title": "Mine", "kind": "Service", "object": "x", "patch": {}}
    with pytest.raises(DrillError, match="There are two scenarios called oom"):
        scenarios.chosen([], [mine])


def test_scenario_of_ones_own() -> None:
    mine = {"name": "mine", "title": "Mine", "kind": "Service", "object": "shop", "patch": {"spec": {"selector": {"x": "y"}}}}
    (found,) = scenarios.chosen(["mine"], [{**mine, "alerts": ["HighErrorRate"], "seconds": 5}])
    assert found.expects == (Expect("alert HighErrorRate", source="app"),) and found.least == 5
    plan = scenarios.plan(found, FakeApp())  # type: ignore[arg-type]
    assert plan.undo[0]["body"] == {"spec": {"selector": {"x": None}}}
    (gone,) = scenarios.chosen(["mine"], [{**mine, "object": "nothing"}])
    with pytest.raises(LeftOut, match="there is no Service nothing in namespace shop"):
        scenarios.plan(gone, FakeApp())  # type: ignore[arg-type]


def test_rights_are_no_more_than_the_steps_need() -> None:
    app: Any = FakeApp()
    plans = [scenarios.plan(scenario, app) for scenario in SCENARIOS]
    found = rights(step for plan in plans for step in plan.undo)
    assert set(found) == {"shop", "logs", ""}
    assert {tuple(rule["resources"]): (rule["resourceNames"], rule["verbs"]) for rule in found[""]} == {
        ("nodes",): (["one"], ["get", "patch"])
    }
    flat = {(namespace, tuple(rule["resources"])): rule for namespace, rules in found.items() for rule in rules}
    assert flat["shop", ("deployments",)]["resourceNames"] == ["shop"]
    assert flat["shop", ("deployments",)]["verbs"] == ["patch"]
    assert flat["shop", ("pods/proxy",)]["verbs"] == ["delete"]
    assert flat["logs", ("statefulsets",)]["resourceNames"] == ["statefulsets"]
    assert all("*" not in value for rule in flat.values() for values in rule.values() for value in values)


def objects(leaf: st.SearchStrategy[Any], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects in which n and o are numbers and l and m are maps, where a patch may have null for each."""
    inner = objects(leaf, depth - 1) if depth else st.just({})
    maps = inner if leaf is NUMBERS else st.one_of(st.none(), inner)
    return st.fixed_dictionaries({}, optional={"n": leaf, "o": leaf, "l": maps, "m": maps})


NUMBERS = st.integers(0, 3)


@given(objects(NUMBERS, 2), objects(st.one_of(st.none(), NUMBERS), 2))
def test_inverse_takes_every_patch_back(old: dict[str, Any], patch: dict[str, Any]) -> None:
    back = inverse(old, patch)
    assert merged(merged(old, patch), back) == old
    # The dead-man and the drill may both have done it.
    assert merged(merged(merged(old, patch), back), back) == old


class Pods:
    """An API server with a few pods, which notes what it is asked."""

    def __init__(self, *pods: dict[str, Any], status: int = 200) -> None:
        self.pods, self.status = pods, status
        self.asked: list[str] = []

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        if method == "GET":
            return 200, json.dumps({"items": self.pods})
        self.asked.append(f"{method} {path}")
        return (self.status, "no") if "/proxy/" in path else (200, "{}")


def pod(name: str, state: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "status": {"containerStatuses": [{"state": state or {"running": {}}}]}}


def test_only_pods_that_wait_after_a_crash_are_replaced() -> None:
    server = Pods(
        pod("runs"),
        pod("loops", {"waiting": {"reason": "CrashLoopBackOff"}}),
        pod("dead", {"terminated": {"reason": "OOMKilled"}}),
        pod("begins", {"waiting": {"reason": "ContainerCreating"}}),
    )
    dead_man.run([{"do": "delete_pods", "namespace": "n", "selector": "a=b", "waiting": True}], server)
    assert [path.rsplit("/", 1)[1] for path in server.asked] == ["loops", "dead"]


def test_a_pod_that_does_not_take_back_its_switch_is_replaced_and_one_that_goes_is_left() -> None:
    step = {"do": "switch", "namespace": "n", "selector": "a=b", "port": 5000, "method": "DELETE", "path": "/faults/errors"}
    server = Pods(pod("one"), pod("going", deletionTimestamp="now"), status=503)
    assert dead_man.undo([{**step, "or_delete": True}], server) == []
    assert server.asked[-1].endswith("/pods/one") and len(server.asked) == 2
    with pytest.raises(dead_man.StepError, match="the pod one did not take /faults/errors"):
        dead_man.run([step], server)


def test_history_keeps_what_was_there_and_what_is_somebody_elses() -> None:
    server = Pods(
        {"metadata": {"name": "old", "ownerReferences": [{"uid": "d1"}]}},
        {"metadata": {"name": "new", "ownerReferences": [{"uid": "d1"}]}},
        {"metadata": {"name": "other", "ownerReferences": [{"uid": "d2"}]}},
    )
    step = {"do": "history", "namespace": "n", "resource": "replicasets", "selector": "a=b", "owner": "d1", "keep": ["old"]}
    dead_man.run([step], server)
    assert [path.rsplit("/", 1)[1] for path in server.asked] == ["new"]


def test_undo_does_every_step_whatever_becomes_of_the_others() -> None:
    def request(method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        return (500, "boom") if path.startswith("/a") else (200, "{}")

    steps = [{"do": "patch", "path": "/a", "body": {}}, {"do": "patch", "path": "/b", "body": {}}]
    (problem,) = dead_man.undo(steps, request)
    assert problem == "PATCH /a was answered 500: boom"


def test_an_object_that_is_gone_needs_no_undoing_but_can_not_be_broken() -> None:
    gone = Pods()
    gone.__class__ = type("Gone", (Pods,), {"__call__": lambda *_args, **_more: (404, "not found")})
    assert dead_man.undo([{"do": "patch", "path": "/a", "body": {}}], gone) == []
    with pytest.raises(dead_man.StepError):
        dead_man.run([{"do": "patch", "path": "/a", "body": {}, "gone_ok": False}], gone)


def test_sizes() -> None:
    assert scenarios.size("256Mi") == 256 * 2**20 and scenarios.size("1G") == 10**9
    with pytest.raises(LeftOut, match="unknown unit"):
        scenarios.size("3Q")
    app = FakeApp()
    app.container["resources"] = {}
    with pytest.raises(LeftOut, match="no memory limit"):
        scenarios.memory_by_switch(SimpleNamespace(**{**vars(app), "name": "x"}))  # type: ignore[arg-type]
