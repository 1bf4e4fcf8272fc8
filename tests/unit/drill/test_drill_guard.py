# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock, what a killed drill leaves behind, the dead man's switch, and the sentences with which a drill refuses to begin."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import dead_man, guard
from ansible_collections.flaskops.observability.plugins.module_utils.drill import run as drill_run
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import DrillError, Guard
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.modules.drill import ARGUMENTS

from .test_drill_scenarios import json_patched

NS = "flaskops-drill"
NAMESPACE = f"/api/v1/namespaces/{NS}"
LEASE = dead_man.lease_path(NS)
RECORD = dead_man.record_path(NS)
SHOP = "/apis/apps/v1/namespaces/shop/deployments/shop"
UNDO = [{"do": "put_back", "path": SHOP, "uid": "d1", "fields": [{"at": ["spec", "replicas"], "wrote": 0, "was": 2}]}]


def guard_of(request: Any, holder: str, app: str = "shop/shop", refused: str = "") -> Guard:
    return Guard(request, NS, holder, app, lambda steps: refused if steps else "")


def recorded(server: Server) -> Any:
    return dead_man.recorded(NS, server)


class Server:
    """As much of an API server as a lock needs: a broken application, and objects by path that go with their namespace."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.shop: dict[str, Any] = {"metadata": {"uid": "d1", "resourceVersion": "1"}, "spec": {"replicas": 0}}
        self.writes: list[str] = []
        self.away = threading.Event()
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        path = path.split("?")[0]
        if self.away.is_set():
            return 0, "no route to host"
        with self._lock:
            self.writes += [f"{method} {path}"] if method != "GET" and path != LEASE else []
            return self._answer(method, path, body, (headers or {}).get("Content-Type", ""))

    def _answer(self, method: str, path: str, body: Any, kind: str) -> tuple[int, str]:
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return 409, "it exists"
            self.objects[path] = json.loads(json.dumps(body))
            self.objects[path]["metadata"]["uid"] = f"uid-{self.count}-of-{path}"
            return 201, json.dumps(self.objects[path])
        if path == SHOP:
            self.shop = json_patched(self.shop, body) if method == "PATCH" else self.shop
            return 200, json.dumps(self.shop)
        if path not in self.objects:
            return 404, "not found"
        found = self.objects[path]
        if method == "DELETE":
            if (body or {}).get("preconditions", found["metadata"])["uid"] != found["metadata"]["uid"]:
                return 409, "another uid"
            inside = f"/namespaces/{path.rsplit('/', 1)[1]}"
            self.objects = {key: value for key, value in self.objects.items() if not (inside in key or key == path)}
        elif kind == dead_man.PATCH:
            for step in body:
                *parents, last = step["path"].strip("/").split("/")
                at = found
                for key in parents:
                    at = at[key]
                if step["op"] == "test" and at.get(last) != step["value"]:
                    return 422, "the test failed"
                at[last] = step["value"]
        elif method == "PATCH":
            for part, value in body.items():
                for key, inner in value.items():
                    if isinstance(inner, dict):
                        found.setdefault(part, {}).setdefault(key, {}).update(inner)
                    else:
                        found.setdefault(part, {})[key] = inner
        return 200, json.dumps(found)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RENEWAL", 0.05)
    monkeypatch.setattr(guard, "LEASE_SECONDS", 1)
    monkeypatch.setattr(guard, "GOING", 0.3)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def held(server: Server) -> Iterator[Guard]:
    found = guard_of(server, "me")
    found.acquire()
    yield found
    found._stop.set()


def test_lock_is_renewed_and_goes_with_its_namespace(server: Server, held: Guard) -> None:
    first = server.objects[LEASE]["spec"]["renewTime"]
    for _ in range(40):
        if server.objects[LEASE]["spec"]["renewTime"] != first:
            break
        threading.Event().wait(0.05)
    assert server.objects[LEASE]["spec"]["renewTime"] != first and held.holds()
    held.release()
    assert server.objects == {}


def test_a_second_drill_is_refused(server: Server, held: Guard) -> None:
    with pytest.raises(DrillError, match=r"Another drill runs on this cluster \(by me\)"):
        guard_of(server, "you").recover()
    with pytest.raises(DrillError, match="Another drill has just begun"):
        guard_of(server, "you").acquire()
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "me"


def test_what_a_killed_drill_has_left_is_undone_by_the_next(server: Server, held: Guard) -> None:
    held.record(UNDO)
    held._stop.set()  # as after kill -9: nobody renews
    server.objects[LEASE]["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    threading.Event().wait(0.1)
    found = guard_of(server, "you").recover()
    assert found == ["1 recorded steps of a drill that was killed were undone"]
    assert server.shop["spec"]["replicas"] == 2
    assert server.objects == {}
    assert guard_of(server, "you").recover() == []


def test_a_lease_that_says_nothing_keeps_nobody_from_undoing(server: Server, held: Guard) -> None:
    held.record(UNDO)
    held._stop.set()
    threading.Event().wait(0.1)
    server.objects[LEASE]["spec"] = {}
    assert guard_of(server, "you").recover() == ["1 recorded steps of a drill that was killed were undone"]
    assert server.shop["spec"]["replicas"] == 2


def test_who_undoes_late_leaves_the_next_drill_alone(server: Server, held: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a closed laptop: somebody else has undone it meanwhile, and drills."""
    held.record([*UNDO, *UNDO])
    held._stop.set()
    server.objects[LEASE]["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    threading.Event().wait(0.1)
    late, other = guard_of(server, "late"), guard_of(server, "other")
    done: list[Any] = []
    put_back = dead_man.DO["put_back"]

    def slow(step: Any, request: Any) -> None:
        if not done:
            server("DELETE", NAMESPACE)
            server.count += 1
            other.acquire()
            late.lost.wait(5)
        done.append(step)
        put_back(step, request)

    monkeypatch.setitem(guard.machine.DO, "put_back", slow)
    with pytest.raises(DrillError):
        late.recover()
    other._stop.set()
    assert len(done) == 2 and server.shop["spec"]["replicas"] == 0
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "other"


def test_what_could_not_be_undone_keeps_its_record(server: Server, held: Guard) -> None:
    held.record(UNDO)
    held.release()
    assert recorded(server) == UNDO
    held.record([])
    held.release()
    assert server.objects == {}


def test_a_drill_that_comes_back_late_leaves_the_next_one_alone(server: Server, held: Guard) -> None:
    held._stop.set()
    server("DELETE", NAMESPACE)  # by the dead man's switch
    other = guard_of(server, "you")
    server.count += 1
    other.acquire()
    other.record(UNDO)
    with pytest.raises(dead_man.StepError, match="422"):
        held.record([])
    held.release()
    assert recorded(server) == UNDO
    other._stop.set()


def killed(server: Server, held: Guard) -> None:
    """As after kill -9: nobody renews."""
    held._stop.set()
    server.objects[LEASE]["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    threading.Event().wait(0.1)


def test_a_record_that_no_drill_has_written_is_refused_and_nothing_is_done(server: Server, held: Guard) -> None:
    held.record(UNDO)
    killed(server, held)
    before, writes = json.loads(json.dumps(server.objects)), len(server.writes)
    with pytest.raises(DrillError, match=r"Nothing is undone, because the Secret drill in namespace flaskops-drill .*\(forged\)"):
        guard_of(server, "you", refused="forged").recover()
    assert server.objects == before and len(server.writes) == writes and server.shop["spec"]["replicas"] == 0
    server.objects[RECORD]["data"]["undo"] = "no base64"
    with pytest.raises(dead_man.StepError, match="is not what a drill writes"):
        guard_of(server, "you").recover()


def test_what_the_drill_of_another_application_left_is_left_to_its_own_options(server: Server, held: Guard) -> None:
    held.record(UNDO)
    killed(server, held)
    with pytest.raises(guard.Strange, match="A drill of shop/shop was killed"):
        guard_of(server, "you", app="shop/other").recover()
    assert recorded(server) == UNDO and server.shop["spec"]["replicas"] == 0


def test_a_drill_that_lost_its_lock_writes_nothing(server: Server, held: Guard) -> None:
    held.record(UNDO)
    server.objects[LEASE]["spec"]["holderIdentity"] = "dead-man"
    assert held.lost.wait(2) and not held.regain()
    writes = len(server.writes)
    assert dead_man.undo(UNDO, held.change) and server.shop["spec"]["replicas"] == 0
    with pytest.raises(dead_man.StepError, match="has lost its lock"):
        held.record([])
    with pytest.raises(DrillError, match="somebody else has taken its lock"):
        held.release()
    assert len(server.writes) == writes and recorded(server) == UNDO
    assert held.change("GET", SHOP)[0] == 200


def test_a_closed_laptop_loses_the_lock_before_anybody_says_so(
    server: Server, held: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held.holds()
    held._stop.set()
    threading.Event().wait(0.1)
    plain = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: plain(clock) + (60 if clock == guard.CLOCK else 0))
    assert not held.lost.is_set() and not held.holds()
    assert held.change("PATCH", SHOP, [])[0] == 0


def test_a_lock_that_nobody_took_meanwhile_is_ours_again(server: Server, held: Guard) -> None:
    server.away.set()
    assert held.lost.wait(3)
    with pytest.raises(dead_man.StepError, match="by nobody"):
        held.regain()
    server.away.clear()
    assert held.regain() and held.holds()
    assert dead_man.undo(UNDO, held.change) == [] and server.shop["spec"]["replicas"] == 2
    # It is renewed again.
    first = server.objects[LEASE]["spec"]["renewTime"]
    for _ in range(40):
        if server.objects[LEASE]["spec"]["renewTime"] != first:
            return
        threading.Event().wait(0.05)
    pytest.fail("the lease is not renewed")


def test_a_lock_of_the_same_holder_on_another_lease_is_not_ours(server: Server, held: Guard) -> None:
    held.lost.set()
    server.objects[LEASE]["metadata"]["uid"] = "another"
    assert not held.regain()


def test_a_namespace_of_somebody_else_is_left_alone(server: Server) -> None:
    server("POST", "/api/v1/namespaces", {"metadata": {"name": NS, "labels": {"team": "shop"}}})
    with pytest.raises(DrillError, match="exists and was not made by a drill"):
        guard_of(server, "me").recover()
    assert NAMESPACE in server.objects


def test_a_lease_that_was_taken_over_is_lost(server: Server, held: Guard) -> None:
    server.objects[LEASE]["spec"]["holderIdentity"] = "dead-man"
    assert held.lost.wait(2) and not held.holds()


def test_a_lost_connection_loses_the_lease_in_the_end(server: Server, held: Guard) -> None:
    server.away.set()
    assert not held.lost.wait(0.3)
    assert held.lost.wait(3)


def watched(server: Server) -> tuple[threading.Thread, list[str], threading.Event]:
    said: list[str] = []
    over = threading.Event()

    def pause(_seconds: float) -> None:
        if over.wait(0.05):
            raise SystemExit

    thread = threading.Thread(target=dead_man.watch, args=(NS, server, said.append, pause), daemon=True)
    thread.start()
    return thread, said, over


def test_dead_man_restores_and_removes_the_drill(server: Server, held: Guard) -> None:
    held.record(UNDO)
    thread, said, over = watched(server)
    thread.join(1.5)
    # As long as the lease is renewed it does nothing.
    assert thread.is_alive() and said == ["armed"] and server.shop["spec"]["replicas"] == 0
    assert dead_man.ARMED in server.objects[LEASE]["metadata"]["annotations"]
    held._stop.set()
    thread.join(5)
    over.set()
    assert said[-1] == "restored" and server.shop["spec"]["replicas"] == 2
    assert server.objects == {}


def test_dead_man_ends_with_the_drill(server: Server, held: Guard) -> None:
    thread, said, over = watched(server)
    held.release()
    thread.join(5)
    over.set()
    assert said[-1] == "the drill has ended" and server.shop["spec"]["replicas"] == 0


def test_dead_man_tries_until_everything_is_undone(server: Server, held: Guard) -> None:
    held.record([{**UNDO[0], "path": f"{NAMESPACE}/services/x"}, *UNDO])
    held._stop.set()
    broken = threading.Event()
    broken.set()

    def request(method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        if path.startswith(UNDO[0]["path"]) and broken.is_set():
            return 500, "boom"
        return server(method, path, body, headers)

    said: list[str] = []

    def pause(_seconds: float) -> None:
        if any("boom" in text for text in said):
            broken.clear()
        threading.Event().wait(0.05)

    thread = threading.Thread(target=dead_man.watch, args=(NS, request, said.append, pause), daemon=True)
    thread.start()
    thread.join(10)
    assert said[-1] == "restored" and any("was answered 500: boom" in text for text in said)


def test_only_one_takes_a_lease_over(server: Server, held: Guard) -> None:
    held._stop.set()
    threading.Event().wait(0.1)
    lease = json.loads(json.dumps(server.objects[LEASE]))
    assert dead_man.take_over(NS, lease, "one", server)
    assert not dead_man.take_over(NS, lease, "two", server)


def test_rights_elsewhere_belong_to_the_namespace(server: Server, held: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ARMING", 0.2)
    assert held.arm("image:1", UNDO) == "its pod did not start within 0 seconds"
    roles = {path: item for path, item in server.objects.items() if "/roles/" in path or "/rolebindings/" in path}
    (elsewhere,) = [item for path, item in roles.items() if "/shop/roles/" in path]
    assert elsewhere["metadata"]["ownerReferences"][0]["uid"] == held.uid
    assert elsewhere["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"], "resourceNames": ["shop"]}
    ]
    (job,) = [item for path, item in server.objects.items() if path.endswith("/jobs/dead-man")]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "image:1"
    (code,) = [item for path, item in server.objects.items() if path.endswith("/configmaps/dead-man")]
    compile(code["data"]["dead_man.py"], "dead_man.py", "exec")
    held.release()
    assert server.objects == {}


def test_without_an_image_there_is_no_dead_man_and_it_says_so(held: Guard) -> None:
    assert held.arm("", []) == "no image with Python 3 is known for it: name one by the option drill_image"


def params(**changes: Any) -> dict[str, Any]:
    found = {name: spec.get("default") for name, spec in ARGUMENTS.items()}
    return {**found, "context": "c", "environment_name": "staging", "cluster_label": "staging-1", **changes}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, ""),
        ({"context": None}, "Neither kubeconfig nor context is set; name the cluster to drill."),
        ({"environment_name": "production"}, "staging-1 is the environment production; confirm is not set: set confirm"),
        ({"environment_name": "production", "confirm": "staging-2"}, "confirm is staging-2: set confirm to staging-1"),
        ({"environment_name": "production", "confirm": "staging-1"}, ""),
        ({"environment_name": ""}, "staging-1 is an environment without a name; confirm is not set"),
        # Two empty names are not the same name.
        ({"environment_name": "production", "cluster_label": ""}, "name the cluster by cluster_label and confirm"),
        ({"environment_name": "production", "state": "restored"}, ""),
        ({"objectives": {"pager": 1}}, "There is no objective pager; use one of: page."),
        ({"objectives": {"page": "soon"}}, "The objective page is soon; give a number of seconds."),
        ({"notice_timeout": 0}, "Option notice_timeout is 0; give a number of seconds above 0."),
        ({"path": "x"}, "Option path is x; give a path that begins with a slash."),
    ],
)
def test_refusals_by_options(changes: dict[str, Any], sentence: str) -> None:
    found = drill_run.problem(params(**changes))
    assert sentence in found and bool(sentence) == bool(found)


@pytest.mark.parametrize(
    ("said", "changes", "sentence"),
    [
        ({"namespace shop": "staging"}, {}, ""),
        ({"namespace shop": "production"}, {}, "shop is in the environment production, and environment_name is staging"),
        # No word of the inventory makes another environment of it.
        ({"namespace shop": "production"}, {"confirm": "staging-1"}, "environment_name is staging"),
        ({"namespace shop": "staging", "Deployment shop": "production"}, {"confirm": "staging-1"}, "Deployment shop is in the"),
        (
            {"namespace shop": "production"},
            {"environment_name": ""},
            "namespace shop on the cluster is in the environment",
        ),
        ({"namespace shop": "production"}, {"environment_name": "production"}, "set confirm to staging-1"),
        ({"namespace shop": "production"}, {"environment_name": "production", "confirm": "staging-1"}, ""),
        ({}, {}, "nothing on the cluster says in which environment it is"),
        ({}, {"confirm": "staging-1"}, ""),
        ({}, {"cluster_label": "", "confirm": ""}, "nothing on the cluster says"),
    ],
)
def test_the_cluster_says_what_production_is(said: dict[str, str], changes: dict[str, Any], sentence: str) -> None:
    given = params(namespace="shop", **changes)
    if not sentence:
        drill_run.refuse_another_environment(given, said)
        return
    with pytest.raises(DrillError, match=sentence):
        drill_run.refuse_another_environment(given, said)


def test_the_environment_is_on_the_namespace_and_on_the_deployment() -> None:
    class App:
        name = namespace = "shop"
        deployment: dict[str, Any] = {"metadata": {"annotations": {"flaskops/environment": "production"}}}
        status = 200

        def get(self, path: str) -> Any:
            if self.status != 200:
                raise ApiError(self.status, "namespaces")
            names = {"shop": "staging", "pay": "production"}
            found = {name: {"metadata": {"name": name, "annotations": {"flaskops/environment": names[name]}}} for name in names}
            return found.get(path.rsplit("/", 1)[1], {"items": list(found.values())})

    app: Any = App()
    # What is shared with an application in production is spared, unless that is meant.
    assert "namespace pay, in the environment production" in drill_run.spared(params(), app)
    assert drill_run.spared(params(confirm="staging-1"), app) == ""
    assert drill_run.spared(params(safe_environments=["staging", "production"]), app) == ""
    assert drill_run.environments(app) == {"Deployment shop": "production", "namespace shop": "staging"}
    app.status = 403
    assert drill_run.environments(app) == {"Deployment shop": "production"} and drill_run.spared(params(), app) == ""
    app.status = 500
    with pytest.raises(ApiError):
        drill_run.environments(app)
    app.status = 403
    app.deployment = {"metadata": {}}
    assert drill_run.environments(app) == {}


def test_a_broken_chain_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [{"link": "rules", "status": "failed", "cause": "3 of 9 are loaded"}, {"link": "node", "status": "ok", "cause": ""}]
    monkeypatch.setattr(drill_run, "verify", lambda _cluster, target: (results, "url"))
    with pytest.raises(DrillError, match=r"1 links of the monitoring chain are broken \(rules: 3 of 9 are loaded\)"):
        drill_run.refuse_a_broken_chain(None, params())  # type: ignore[arg-type]
    monkeypatch.setattr(drill_run, "verify", lambda _cluster, target: (results[1:], "url"))
    drill_run.refuse_a_broken_chain(None, params())  # type: ignore[arg-type]
