# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock, what a killed drill leaves behind, the dead-man, and the sentences with which a drill refuses to begin."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import dead_man, guard
from ansible_collections.flaskops.observability.plugins.module_utils.drill import run as drill_run
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import DrillError, Guard
from ansible_collections.flaskops.observability.plugins.modules.drill import ARGUMENTS

NS = "flaskops-drill"
NAMESPACE = f"/api/v1/namespaces/{NS}"
LEASE = dead_man.lease_path(NS)
RECORD = dead_man.record_path(NS)
UNDO = [{"do": "patch", "path": "/apis/apps/v1/namespaces/shop/deployments/shop", "body": {"spec": {"replicas": 2}}}]


class Server:
    """As much of an API server as a lock needs: objects by path; whatever is in a namespace goes with it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.patched: list[tuple[str, Any]] = []
        self.away = threading.Event()
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        path = path.split("?")[0]
        if self.away.is_set():
            return 0, "no route to host"
        with self._lock:
            return self._answer(method, path, body, (headers or {}).get("Content-Type", ""))

    def _answer(self, method: str, path: str, body: Any, kind: str) -> tuple[int, str]:
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return 409, "it exists"
            self.objects[path] = json.loads(json.dumps(body))
            self.objects[path]["metadata"]["uid"] = f"uid-{self.count}-of-{path}"
            return 201, json.dumps(self.objects[path])
        if method == "PATCH" and path not in self.objects and "/flaskops-drill/" not in path:
            self.patched.append((path, body))
            return 200, "{}"
        if path not in self.objects:
            return 404, "not found"
        found = self.objects[path]
        if method == "DELETE":
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
    found = Guard(server, NS, "me")
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
        Guard(server, NS, "you").recover()
    with pytest.raises(DrillError, match="Another drill has just begun"):
        Guard(server, NS, "you").acquire()
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "me"


def test_what_a_killed_drill_has_left_is_undone_by_the_next(server: Server, held: Guard) -> None:
    held.record(UNDO)
    held._stop.set()  # as after kill -9: nobody renews
    server.objects[LEASE]["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    threading.Event().wait(0.1)
    found = Guard(server, NS, "you").recover()
    assert found == ["1 recorded steps of a drill that was killed were undone"]
    assert server.patched == [(UNDO[0]["path"], UNDO[0]["body"])]
    assert server.objects == {}
    assert Guard(server, NS, "you").recover() == []


def test_what_could_not_be_undone_keeps_its_record(server: Server, held: Guard) -> None:
    held.record(UNDO)
    held.release()
    assert json.loads(server.objects[RECORD]["data"]["undo"]) == UNDO
    held.record([])
    held.release()
    assert server.objects == {}


def test_a_drill_that_comes_back_late_leaves_the_next_one_alone(server: Server, held: Guard) -> None:
    held._stop.set()
    server("DELETE", NAMESPACE)  # by the dead-man
    other = Guard(server, NS, "you")
    server.count += 1
    other.acquire()
    other.record(UNDO)
    with pytest.raises(dead_man.StepError, match="422"):
        held.record([])
    held.release()
    assert json.loads(server.objects[RECORD]["data"]["undo"]) == UNDO
    other._stop.set()


def test_a_namespace_of_somebody_else_is_left_alone(server: Server) -> None:
    server("POST", "/api/v1/namespaces", {"metadata": {"name": NS, "labels": {"team": "shop"}}})
    with pytest.raises(DrillError, match="exists and is no drill's"):
        Guard(server, NS, "me").recover()
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
    assert thread.is_alive() and said == ["armed"] and server.patched == []
    assert dead_man.ARMED in server.objects[LEASE]["metadata"]["annotations"]
    held._stop.set()
    thread.join(5)
    over.set()
    assert said[-1] == "restored" and server.patched == [(UNDO[0]["path"], UNDO[0]["body"])]
    assert server.objects == {}


def test_dead_man_ends_with_the_drill(server: Server, held: Guard) -> None:
    thread, said, over = watched(server)
    held.release()
    thread.join(5)
    over.set()
    assert said[-1] == "the drill has ended" and server.patched == []


def test_dead_man_tries_until_everything_is_undone(server: Server, held: Guard) -> None:
    held.record([{"do": "patch", "path": f"{NAMESPACE}/services/x", "body": {}}, *UNDO])
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
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"], "resourceNames": ["shop"]}
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


def test_a_broken_chain_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [{"link": "rules", "status": "failed", "cause": "3 of 9 are loaded"}, {"link": "node", "status": "ok", "cause": ""}]
    monkeypatch.setattr(drill_run, "verify", lambda _cluster, target: (results, "url"))
    with pytest.raises(DrillError, match=r"1 links of the monitoring chain are broken \(rules: 3 of 9 are loaded\)"):
        drill_run.refuse_a_broken_chain(None, params())  # type: ignore[arg-type]
    monkeypatch.setattr(drill_run, "verify", lambda _cluster, target: (results[1:], "url"))
    drill_run.refuse_a_broken_chain(None, params())  # type: ignore[arg-type]
