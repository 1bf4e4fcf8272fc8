# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios' declarations, their plans, and that what undoes them really does."""

from __future__ import annotations

import copy
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import bounds, dead_man, machine, scenarios, watchers
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import App, Options, Plan, differences, patched
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import DrillError, rights
from ansible_collections.flaskops.observability.plugins.module_utils.drill.record import Record
from ansible_collections.flaskops.observability.plugins.module_utils.drill.scenarios import SCENARIOS, Expect, Scenario, Skipped
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.verify.facts import LACKED
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
    "metadata": {"name": "shop", "namespace": "shop", "uid": "s1", "managedFields": [{"manager": "flaskops"}]},
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


def json_patched(found: Any, body: list[dict[str, Any]]) -> Any:
    """An object after a JSON patch; AssertionError where a test in it fails."""
    found = copy.deepcopy(found)
    for op in body:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
        at = found
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if op["op"] == "test":
            assert at[last] == op["value"]
        elif op["op"] == "remove":
            del at[int(last) if isinstance(at, list) else last]
        elif isinstance(at, list):
            at.insert(len(at) if last == "-" else int(last), op["value"])
        else:
            at[last] = op["value"]
    return found


def a_node(name: str, control_plane: bool = False, **spec: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name} | ({"node-role.kubernetes.io/control-plane": ""} if control_plane else {})
    status = {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.1.0.3"}]}
    metadata = {"name": name, "uid": name, "labels": labels, "resourceVersion": "1"}
    return {"kind": "Node", "metadata": metadata, "spec": spec, "status": status}


@pytest.fixture(autouse=True)
def containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes are containers of this machine."""
    monkeypatch.setattr(machine, "engine_of", lambda node: "podman")


OPERATED = "/apis/monitoring.coreos.com/v1/namespaces/monitoring"
ROUTES = {"receiver": "duty", "routes": [{"receiver": "alert-inbox", "matchers": ['alertname="VerifyTestAlert"']}]}


class FakeApp:
    """An application of which everything is at hand, on an API server that keeps the objects that are broken."""

    base = "/api/v1/namespaces/shop"
    deployment_path = "/apis/apps/v1/namespaces/shop/deployments/shop"
    service_path = "/api/v1/namespaces/shop/services/shop"
    name = namespace = "shop"
    selector = "app=shop"
    replicas = 2
    prometheus, alertmanager, inbox = "/prometheus", "/alertmanager", "/inbox"
    prometheus_name, stack_namespace = "main", "monitoring"
    store, logs = STORES["victoria_logs"], SimpleNamespace(namespace="logs")

    def __init__(self, switches: bool = True, **options: Any) -> None:
        self.deployment, self.service = copy.deepcopy(DEPLOYMENT), copy.deepcopy(SERVICE)
        self.container = self.deployment["spec"]["template"]["spec"]["containers"][0]
        self.switches = switches
        self.options, self.page = Options(name="shop", namespace="shop", **options), "/"
        self.routes, self.silences = copy.deepcopy(ROUTES), []
        inbox = {**copy.deepcopy(SERVICE), "spec": {"selector": {"app": "alert-inbox"}}}
        self.objects: dict[str, Any] = {
            self.deployment_path: self.deployment,
            self.service_path: self.service,
            "/api/v1/namespaces/monitoring/services/alert-inbox": inbox,
            "/apis/apps/v1/namespaces/logs/daemonsets/daemonsets": self.workload("daemonsets", ""),
            "/apis/apps/v1/namespaces/logs/statefulsets/statefulsets": self.workload("statefulsets", ""),
            f"{OPERATED}/prometheuses/main": {"metadata": {"name": "main", "uid": "p1"}, "spec": {"replicas": 2}},
            f"{OPERATED}/alertmanagers/main": {"metadata": {"name": "main", "uid": "a1"}, "spec": {}},
            **{f"/api/v1/nodes/{name}": a_node(name) for name in ("one", "two")},
        }
        for found in self.objects.values():
            found["metadata"].setdefault("resourceVersion", "1")

    def pod_names(self) -> list[str]:
        return ["shop-1", "shop-2"]

    def get(self, path: str) -> Any:
        path, _sign, query = path.partition("?")
        if "fieldSelector" in query:
            return {"items": [{}] if "name+in" in query or "victoria" in query else []}
        if path.endswith("/replicasets"):
            owner = [{"uid": "d1"}]
            mine = {"metadata": {"name": "shop-old", "ownerReferences": owner}, "spec": copy.deepcopy(DEPLOYMENT["spec"])}
            return {"items": [mine, {"metadata": {"name": "other"}}]}
        if path == "/api/v1/nodes":
            return {"items": [a_node("control", control_plane=True), a_node("one"), a_node("two")]}
        if path == "/version":
            return {"major": "1", "minor": "37"}
        if path == "/alertmanager/api/v2/status":
            return {"config": {"original": json.dumps({"route": self.routes})}}
        if path == "/alertmanager/api/v2/silences":
            return self.silences
        if path.endswith("/alertmanagers"):
            return {"items": [self.objects[f"{path}/main"]]}
        if path in self.objects:
            return self.objects[path]
        if path.endswith("/pods"):
            return {"items": [{"metadata": {"name": "prometheus-0"}, "spec": {"nodeName": "two", "containers": [{}]}}]}
        raise ApiError(404, "not found")

    def pods(self) -> list[dict[str, Any]]:
        return [a_pod("shop-1", node="one"), a_pod("shop-2", node="two")]

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        bare = path.split("?")[0]
        try:
            if method == "PATCH":
                kind, found = headers["Content-Type"], self.get(bare)
                after = json_patched(found, body) if kind == dead_man.PATCH else merged(found, body)
                if "dryRun=All" not in path:
                    self.objects[bare] = after
                return 200, json.dumps(after)
            return (201, "{}") if method == "POST" else (200, json.dumps(self.get(path)))
        except ApiError as error:
            return error.status, str(error)

    def workload(self, kind: str, _selector: str) -> Any:
        metadata = {"name": kind, "namespace": "logs", "uid": "w1"}
        return {"metadata": metadata, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {}}}}

    def record(self, **changes: Any) -> Record:
        return Record(self.request, self.options, **{"own": [], **changes})


def planned(name: str, app: Any) -> Plan:
    return scenarios.plan(next(scenario for scenario in SCENARIOS if scenario.name == name), app)


def test_names_are_unique_and_every_scenario_can_be_named() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names) >= 13
    assert [scenario.name for scenario in scenarios.chosen([], [])] == names
    assert [scenario.name for scenario in scenarios.chosen(["oom", "errors", "oom"], [])] == ["oom", "errors"]


OF_SETTINGS = (bounds.READINESS, bounds.LATE, bounds.MISSING, bounds.SILENT, bounds.FORGOTTEN)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_declaration_is_whole(scenario: Scenario) -> None:
    assert scenario.title and scenario.ways and scenario.expects
    seen = {(expect.observer, expect.event) for expect in scenario.expects}
    for expect in scenario.expects:
        if isinstance(expect.symptom, str) and expect.symptom not in OF_SETTINGS:
            observer, event = expect.symptom.rsplit(" ", 1)
            # What an alert's time is counted from is itself expected, before it.
            assert (observer, event) in seen


@pytest.mark.parametrize("switches", [True, False], ids=["switches", "API alone"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_plan_is_data_and_is_undone_by_its_own_steps(scenario: Scenario, switches: bool) -> None:
    app = FakeApp(switches, error_path="/status/500", slow_path="/delay/2", dependency="db.example.com")
    try:
        plan = scenarios.plan(scenario, app)  # type: ignore[arg-type]
    except Skipped as error:
        # Nothing but the application itself can write its log lines.
        assert (scenario.name, switches) == ("log_burst", False) and "fault switch logs" in str(error)
        return
    assert plan.how
    text = json.dumps([plan.steps, plan.undo])
    assert "canary-secret" not in text
    for step in [*plan.steps, *plan.undo]:
        assert step["do"] in machine.DO
    # What undoes a fault has to be possible inside the cluster, and is believed of who finds it there.
    assert {step["do"] for step in plan.undo} <= set(dead_man.DO)
    assert app.record().refusal(json.loads(json.dumps(plan.undo))) == ""
    patches = [step for step in plan.steps if step["do"] == "patch"]
    named = [f"/api/v1/nodes/{step['node']}" for step in plan.steps if step["do"] == "kill_node"]
    assert {step["path"] for step in patches} | set(named) == set(plan.touched)
    switched = [step["path"] for step in plan.steps if step["do"] == "switch"]
    assert sorted(switched) == sorted(step["path"] for step in plan.undo if step["do"] == "switch")
    before = copy.deepcopy(app.objects)
    assert before == FakeApp(switches).objects, "planning changes something"
    dead_man.run(patches, app.request)
    assert {path for path in before if app.objects[path] != before[path]} == {step["path"] for step in patches}
    back = [step for step in plan.undo if step["do"] == "put_back"]
    for _ in range(2):  # once more does no harm: the dead man's switch and the drill may both have done it
        assert dead_man.undo(json.loads(json.dumps(back)), app.request) == []
        assert app.objects == before


def test_what_stays_in_the_namespace_of_the_application() -> None:
    names = {scenario.name for scenario in SCENARIOS if planned(scenario.name, FakeApp()).stays_in("shop")}
    others = {"node_drained", "node_lost", "log_silence", "log_backend_down", "prometheus_restart", "receiver_refuses"}
    others |= {"prometheus_down", "alertmanager_down", "cluster_dark"}
    assert {scenario.name for scenario in SCENARIOS} - names == others


def test_what_somebody_changes_meanwhile_stays() -> None:
    app: Any = FakeApp(switches=False)
    plan = planned("crash_loop", app)
    dead_man.run(plan.steps, app.request)
    live = app.objects[app.deployment_path]["spec"]
    live["template"]["spec"]["containers"][0] |= {"image": "shop:2", "command": ["run"]}
    live["replicas"] = 5
    assert dead_man.undo([step for step in plan.undo if step["do"] == "put_back"], app.request) == []
    after = app.objects[app.deployment_path]["spec"]
    assert after["template"]["spec"]["containers"][0]["command"] == ["run"] and after["replicas"] == 5
    assert after["strategy"] == DEPLOYMENT["spec"]["strategy"]


def test_another_object_of_the_same_name_is_left_alone() -> None:
    app: Any = FakeApp()
    plan = planned("endpoint_lost", app)
    dead_man.run(plan.steps, app.request)
    app.objects[app.service_path]["metadata"]["uid"] = "s2"
    broken = copy.deepcopy(app.objects)
    assert dead_man.undo(plan.undo, app.request) == [] and app.objects == broken


OLD = [{"manager": "flaskops", "operation": "Apply", "time": "1"}, {"manager": "kubelet", "subresource": "status", "time": "1"}]
OURS = {"manager": dead_man.MANAGER, "operation": "Update", "time": "2"}


@pytest.mark.parametrize(
    ("live", "after"),
    [
        ([OLD[0], OURS, {**OLD[1], "time": "9"}], [OLD[0], {**OLD[1], "time": "9"}]),
        ([OLD[0], OURS, {"manager": "helm", "operation": "Update", "time": "3"}], None),
        ([{**OLD[0], "time": "3"}, OURS], None),
        ([OLD[0]], None),
    ],
    ids=["only the drill", "somebody else too", "its owner again", "nobody"],
)
def test_who_manages_a_field_is_put_back_where_nobody_else_has_changed_any(live: Any, after: Any) -> None:
    app: Any = FakeApp()
    metadata = app.service["metadata"] | {"managedFields": live}
    app.objects[app.service_path] = {**app.service, "metadata": metadata}
    dead_man.do_owners({"do": "owners", "path": app.service_path, "uid": "s1", "value": OLD}, app.request)
    assert app.objects[app.service_path]["metadata"]["managedFields"] == (after or live)


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({"a": 1}, {"a": 2}, [(["a"], 2, 1)]),
        ({}, {"a": {"b": 1}}, [(["a"], {"b": 1}, None)]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, [(["a", "b"], None, 1)]),
        ({"a": [{"name": "x", "v": 1}]}, {"a": [{"name": "y"}, {"name": "x", "v": 2}]},
         [(["a", {"name": "y"}], {"name": "y"}, None), (["a", {"name": "x"}, "v"], 2, 1)]),
        # Mounts are told apart by their paths, of which one volume may have several.
        ({"m": [{"name": "d", "mountPath": "/a"}]}, {"m": [{"name": "d", "mountPath": "/a"}, {"name": "d", "mountPath": "/b"}]},
         [(["m", {"mountPath": "/b"}], {"name": "d", "mountPath": "/b"}, None)]),
        # An item that is gone, or another order, can only be put back with the whole list.
        ({"a": [{"name": "x"}, {"name": "y"}]}, {"a": [{"name": "y"}]},
         [(["a"], [{"name": "y"}], [{"name": "x"}, {"name": "y"}])]),
    ],
)  # fmt: skip
def test_differences_are_as_small_as_can_be(before: Any, after: Any, fields: Any) -> None:
    assert [(field["at"], field["wrote"], field["was"]) for field in differences(before, after)] == fields


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ({"spec": {"ports": [{"name": "x", "$patch": "delete"}]}}, r"the directive \$patch"),
        ({"$retainKeys": ["a"]}, r"the directive \$retainKeys"),
        ({"spec": {"selector": {"app": "shop"}}}, "changes nothing"),
    ],
)
def test_a_patch_that_can_not_be_taken_back_is_refused(patch: dict[str, Any], reason: str) -> None:
    app: Any = FakeApp()
    with pytest.raises(Skipped, match=reason):
        patched(app, app.service_path, patch)


def test_what_the_server_does_not_take_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a webhook that adds something to whatever is changed."""
    app: Any = FakeApp()
    plain = app.request

    def request(method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        status, text = plain(method, path, body, headers)
        found = json.loads(text)
        if method == "PATCH":
            found["spec"]["extra"] = len(body)
        return status, json.dumps(found)

    monkeypatch.setattr(app, "request", request)
    with pytest.raises(Skipped, match="can't be taken back exactly"):
        patched(app, app.service_path, {"spec": {"selector": {"x": "y"}}})


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


@pytest.mark.parametrize(
    ("path", "first", "lacked", "asked"),
    [("/", 500, 404, "/"), ("/hello", 500, 404, "/hello"), ("", 404, 500, "/"), ("", 500, 404, LACKED), ("", 500, 500, "/")],
)
def test_users_ask_for_the_given_page_or_for_one_that_does_not_fail_by_design(
    monkeypatch: pytest.MonkeyPatch, path: str, first: int, lacked: int, asked: str
) -> None:
    monkeypatch.setattr(App, "ask", lambda self, path: {"/": first, LACKED: lacked}[path])
    cluster: Any = FakeCluster([a_pod("a")])
    assert App(cluster, Options(name="shop", namespace="shop", path=path)).page == asked


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
    asked = app.container["readinessProbe"] | probe
    app.container["readinessProbe"] = {key: value for key, value in asked.items() if value is not None}
    plan = planned("health", app)
    assert plan.how.startswith(how)


def test_template_is_restored_before_its_history_and_the_limit_of_the_history_last() -> None:
    plan = planned("crash_loop", FakeApp(switches=False))
    assert [step["do"] for step in plan.undo] == ["put_back", "history", "put_back", "owners"]
    first, history, last, owners = plan.undo
    command = ["spec", "template", "spec", "containers", {"name": "shop"}, "command"]
    assert [field["was"] for field in first["fields"] if field["at"] == command] == [None]
    # The history is not cut while the broken template is still in it.
    limit = {"at": ["spec", "revisionHistoryLimit"], "wrote": 12, "was": None}
    assert limit not in first["fields"] and last["fields"] == [limit] and first["fields"]
    assert history["owner"] == "d1" and history["resource"] == "replicasets"
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
    with pytest.raises(Skipped, match=reason):
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
    assert plan.undo[0]["fields"] == [{"at": ["spec", "selector", "x"], "wrote": "y", "was": None}]
    (gone,) = scenarios.chosen(["mine"], [{**mine, "object": "nothing"}])
    with pytest.raises(Skipped, match="there is no Service nothing in namespace shop"):
        scenarios.plan(gone, FakeApp())  # type: ignore[arg-type]


def test_rights_are_no_more_than_the_steps_need() -> None:
    app: Any = FakeApp()
    plans = [scenarios.plan(scenario, app) for scenario in SCENARIOS]
    found = rights(step for plan in plans for step in plan.undo)
    assert set(found) == {"shop", "logs", "monitoring", ""}
    assert {tuple(rule["resources"]): (rule["resourceNames"], rule["verbs"]) for rule in found[""]} == {
        ("nodes",): (["one"], ["get", "patch"])
    }
    assert {tuple(rule["resources"]): rule["resourceNames"] for rule in found["monitoring"]} == {
        ("prometheuses",): ["main"], ("alertmanagers",): ["main"], ("services",): ["alert-inbox"]
    }  # fmt: skip
    flat = {(namespace, tuple(rule["resources"])): rule for namespace, rules in found.items() for rule in rules}
    assert flat["shop", ("deployments",)]["resourceNames"] == ["shop"]
    assert flat["shop", ("deployments",)]["verbs"] == ["get", "patch"]
    assert flat["shop", ("pods/proxy",)]["verbs"] == ["delete"]
    assert flat["logs", ("statefulsets",)]["resourceNames"] == ["statefulsets"]
    assert all("*" not in value for rule in flat.values() for values in rule.values() for value in values)


LEAVES = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2))
ITEMS = st.lists(st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"v": LEAVES}), max_size=3)
OBJECTS = st.recursive(
    st.fixed_dictionaries({}, optional={"n": LEAVES, "o": LEAVES, "items": ITEMS}),
    lambda inner: st.fixed_dictionaries({}, optional={"l": inner, "m": inner, "n": LEAVES}),
    max_leaves=6,
)


@given(OBJECTS, OBJECTS)
def test_every_difference_is_taken_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    fields = json.loads(json.dumps(differences(before, after)))
    body, whole = dead_man.taken_back(after, fields)
    assert whole == before and json_patched(after, body) == before
    # The dead man's switch and the drill may both have done it.
    assert dead_man.taken_back(before, fields)[0] == []


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
    # An application without the switch has nothing to take back.
    strange = Pods(pod("one"), status=404)
    assert dead_man.undo([{**step, "or_delete": True}], strange) == [] and len(strange.asked) == 1
    with pytest.raises(dead_man.StepError, match="the pod one did not take /faults/errors"):
        dead_man.run([step], server)


def test_history_loses_the_broken_template_alone() -> None:
    def item(name: str, uid: str, command: str | None) -> dict[str, Any]:
        metadata = {"name": name, "ownerReferences": [{"uid": uid}]}
        spec = {"command": command, "args": "none"} if command else {}
        return {"metadata": metadata, "spec": {"template": {"spec": spec}}}

    revision = item("revision", "d1", "crash")
    revision["data"] = {"spec": revision.pop("spec")}
    half = item("half", "d1", "crash")
    half["spec"]["template"]["spec"]["args"] = "some"
    server = Pods(half, item("old", "d1", None), item("new", "d1", "crash"), item("other", "d2", "crash"), revision)
    fields = [
        {"at": ["spec", "strategy"], "wrote": "Recreate", "was": None},
        {"at": ["spec", "template", "spec", "command"], "wrote": "crash", "was": None},
        {"at": ["spec", "template", "spec", "args"], "wrote": "none", "was": None},
    ]
    step = {"do": "history", "namespace": "n", "resource": "replicasets", "selector": "a=b", "owner": "d1", "fields": fields}
    dead_man.run([step], server)
    assert [path.rsplit("/", 1)[1] for path in server.asked] == ["new", "revision"]
    dead_man.run([{**step, "fields": fields[:1]}], server)
    assert len(server.asked) == 2


def test_undo_does_every_step_whatever_becomes_of_the_others() -> None:
    asked = []

    def request(method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        asked.append(path)
        return (500, "boom") if path.startswith("/a") else (404, "")

    steps = [{"do": "put_back", "path": path, "uid": "u", "fields": []} for path in ("/a", "/b")]
    (problem,) = dead_man.undo(steps, request)
    assert problem == "GET /a was answered 500: boom" and asked == ["/a", "/b"]


def test_an_object_that_is_gone_needs_no_undoing_but_can_not_be_broken() -> None:
    gone = Pods()
    gone.__class__ = type("Gone", (Pods,), {"__call__": lambda *_args, **_more: (404, "not found")})
    assert dead_man.undo([{"do": "put_back", "path": "/a", "uid": "u", "fields": []}], gone) == []
    with pytest.raises(dead_man.StepError):
        dead_man.run([{"do": "patch", "path": "/a", "body": {}}], gone)


def test_sizes() -> None:
    assert scenarios.size("256Mi") == 256 * 2**20 and scenarios.size("1G") == 10**9
    with pytest.raises(Skipped, match="unknown unit"):
        scenarios.size("3Q")
    app = FakeApp()
    app.container["resources"] = {}
    with pytest.raises(Skipped, match="no memory limit"):
        scenarios.memory_by_switch(SimpleNamespace(**{**vars(app), "name": "x"}))  # type: ignore[arg-type]


def change(app: Any, **values: Any) -> None:
    vars(app).update(values)


@pytest.mark.parametrize(
    ("name", "breaks", "reason"),
    [
        ("prometheus_down", lambda app: change(app, prometheus=""), "no Prometheus of an operator"),
        ("alertmanager_down", lambda app: change(app, alertmanager=""), "no Alertmanager of an operator"),
        ("alertmanager_down", lambda app: change(app, silences=[{"status": {"state": "active"}}]), "1 silences would be lost"),
        ("cluster_dark", lambda app: change(app, alertmanager=""), "no Alertmanager of an operator"),
        ("receiver_refuses", lambda app: change(app, inbox=""), "no alert inbox runs"),
        (
            "receiver_refuses",
            lambda app: change(app, routes={"receiver": "duty"}),
            "would reach duty, and it is for the alert inbox alone",
        ),
        ("receiver_refuses", lambda app: app.routes["routes"][0].update({"continue": True}), ""),
        (
            "receiver_refuses",
            lambda app: change(app, routes={"receiver": "duty", "routes": [{"receiver": "alert-inbox", "continue": True}, {}]}),
            "would reach alert-inbox and duty",
        ),
        ("receiver_refuses", lambda app: change(app, routes="x"), "can't be told"),
    ],
)
def test_what_watches_is_only_stopped_where_nobody_else_is_told_and_nothing_is_lost(name: str, breaks: Any, reason: str) -> None:
    app: Any = FakeApp()
    breaks(app)
    if not reason:
        assert planned(name, app).steps
        return
    with pytest.raises(Skipped, match=reason):
        planned(name, app)


def test_silences_on_a_volume_outlive_a_stopped_alertmanager() -> None:
    app: Any = FakeApp()
    app.silences = [{"status": {"state": "active"}}, {"status": {"state": "expired"}}]
    app.objects[f"{OPERATED}/alertmanagers/main"]["spec"]["storage"] = {"volumeClaimTemplate": {}}
    assert planned("alertmanager_down", app).how == "Alertmanager main scaled to 0"


def test_a_dark_cluster_answers_again_before_it_is_watched_again() -> None:
    plan = planned("cluster_dark", FakeApp())
    put_back = [step["path"].rsplit("/", 2)[1] for step in plan.undo if step["do"] == "put_back"]
    assert put_back == ["services", "prometheuses", "alertmanagers"]


def test_a_test_alert_is_given_when_nobody_listens_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_man, "PAUSE", 0.01)
    alert = planned("receiver_refuses", FakeApp()).steps[-1]
    left, asked = [[{"addresses": ["10.0.0.1"]}], None], []

    def request(method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        asked.append((method, path.split("?")[0], body))
        return 200, json.dumps({"items": [{"endpoints": left.pop(0)}]}) if method == "GET" else ""

    dead_man.run([alert], request)
    method, path, body = asked[-1]
    assert (method, path, len(asked)) == ("POST", "/alertmanager/api/v2/alerts", 3)
    assert body[0]["labels"] == {**watchers.TEST, "namespace": "shop"}
    left += [[{"addresses": ["10.0.0.1"]}]] * 9
    monkeypatch.setattr(dead_man, "SETTLED", 0.0)
    with pytest.raises(dead_man.StepError, match="still leads to a pod"):
        dead_man.run([alert], request)


EVIL = ["sh", "-c", "evil"]
ADMIN = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin"


def undo_of(name: str, do: str, app: Any, **changes: Any) -> list[Any]:
    """What a scenario would record, with another word in the first step of a kind."""
    steps: list[Any] = json.loads(json.dumps(planned(name, app).undo))
    next(step for step in steps if step["do"] == do).update(changes)
    return steps


def field_of(at: list[Any], wrote: Any, was: Any) -> list[dict[str, Any]]:
    return [{"at": at, "wrote": wrote, "was": was}]


COMMAND = ["spec", "template", "spec", "containers", {"name": "shop"}, "command"]


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda app: [{"do": "patch", "path": ADMIN, "body": {"subjects": []}}], "no step of a restoration is 'patch'"),
        (lambda app: [{"do": "kill_node", "engine": "podman", "node": "one"}], "no step of a restoration is 'kill_node'"),
        (lambda app: undo_of("endpoint_lost", "put_back", app, path=ADMIN), "no scenario makes 'nowhere'"),
        (lambda app: undo_of("endpoint_lost", "put_back", app, path="/api/v1/namespaces/kube-system/services/kube-dns"),
         "no scenario makes 'nowhere'"),
        (lambda app: undo_of("endpoint_lost", "put_back", app, fields=field_of(["spec", "externalIPs"], None, ["10.0.0.9"])),
         "no scenario makes None"),
        (lambda app: undo_of("crash_loop", "put_back", app, fields=field_of(COMMAND, ["run"], EVIL)), r"makes \['run'\]"),
        # A fault that is in place, and what it is to become is no former template.
        (lambda app: undo_of("crash_loop", "put_back", app, fields=field_of(COMMAND, ["/flaskops-drill-crashes"], EVIL)),
         "have never been what they would become"),
        (lambda app: undo_of("log_backend_down", "put_back", app, path="/apis/apps/v1/namespaces/shop/statefulsets/db"),
         "is no log back end"),
        (lambda app: undo_of("node_drained", "put_back", app, fields=field_of(["spec", "taints"], None, [])), "scenario makes"),
        # More than what a scenario makes of it: all the rest of an object that is as the scenario would leave it.
        (lambda app: undo_of("prometheus_down", "put_back", app,
                             fields=field_of(["spec"], {"replicas": 0, "image": "a"}, {"replicas": 2, "image": "evil"})),
         "of .*evil"),
        (lambda app: undo_of("crash_loop", "put_back", app, fields=field_of(["spec", "revisionHistoryLimit"], 10, 0)), "10 of 0"),
        (lambda app: undo_of("endpoint_lost", "owners", app, path="/api/v1/nodes/one"), "nothing else of /api/v1/nodes/one"),
        (lambda app: undo_of("crash_loop", "history", app, fields=[]), "nothing of the history"),
        (lambda app: undo_of("crash_loop", "history", app, owner="d2"), "nothing of the history"),
        (lambda app: undo_of("errors", "switch", app, selector="app=db"), "the pods 'app=db' in shop are not"),
        (lambda app: undo_of("errors", "switch", app, selector=""), "the pods '' in shop are not"),
        (lambda app: undo_of("errors", "switch", app, namespace="db"), "in db are not"),
        (lambda app: undo_of("errors", "switch", app, path="/admin/delete"), "DELETE /admin/delete at port 5000"),
        (lambda app: undo_of("errors", "switch", app, method="POST"), "POST /faults/errors at port 5000"),
        (lambda app: undo_of("errors", "switch", app, port=22), "at port 22"),
        (lambda app: undo_of("errors", "switch", app, body={}), "no step of a restoration is 'switch' with body"),
        (lambda app: undo_of("oom", "delete_pods", app, waiting=False), "only pods that wait"),
        (lambda app: [{"do": "delete_pods", "namespace": "shop", "names": ["shop-1"]}], "restoration is 'delete_pods'"),
        (lambda app: undo_of("node_lost", "start_node", app, engine="/tmp/x"), "'/tmp/x' starts no node"),
        (lambda app: undo_of("node_lost", "start_node", app, node="--all"), "starts no node '--all'"),
        (lambda app: ["x"], "malformed"),
        (lambda app: {"do": "x"}, "malformed"),
        (lambda app: undo_of("endpoint_lost", "put_back", app, fields=[{"at": 3}]), "malformed|no scenario"),
    ],
)  # fmt: skip
def test_a_forged_record_is_not_believed(forge: Any, reason: str) -> None:
    switches = "crash_loop" not in forge.__code__.co_consts
    app: Any = FakeApp(switches)
    if "no log back end" in reason:
        app.objects["/apis/apps/v1/namespaces/shop/statefulsets/db"] = {"metadata": {"uid": "w1"}}
        app.get, plain = lambda path: {"items": []} if "statefulsets?" in path else plain(path), app.get
    assert re.search(reason, app.record().refusal(forge(app)))


def test_a_scenario_of_ones_own_is_believed_with_its_options_alone() -> None:
    own = {"name": "gone", "title": "Gone", "kind": "StatefulSet", "object": "cache", "patch": {"spec": {"replicas": 0}}}
    app: Any = FakeApp()
    path = "/apis/apps/v1/namespaces/shop/statefulsets/cache"
    app.objects[path] = {"metadata": {"name": "cache", "uid": "c1", "resourceVersion": "1"}, "spec": {"replicas": 3}}
    app.get, plain = lambda path: {"items": []} if "statefulsets?" in path else plain(path), app.get
    (scenario,) = scenarios.chosen(["gone"], [own])
    undo = scenarios.plan(scenario, app).undo
    assert app.record(own=[own]).refusal(undo) == ""
    assert app.record(own=[{**own, "patch": {"spec": {"replicas": 1}}}]).refusal(undo)
    forged = [{**undo[0], "fields": field_of(["spec", "replicas"], 3, 0)}]
    assert "no scenario makes 3" in app.record(own=[own]).refusal(forged)
