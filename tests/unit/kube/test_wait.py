# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken for a workload that is done, for one that is hopeless, and what is said."""

from __future__ import annotations

import http.server
import pathlib
import sys
import threading
from typing import Any, cast

import pytest

COLLECTIONS = str(pathlib.Path(__file__).resolve().parents[3] / "collections")
if COLLECTIONS not in sys.path:
    sys.path.insert(0, COLLECTIONS)

from ansible_collections.flaskops.observability.plugins.module_utils.kube import client as kube
from ansible_collections.flaskops.observability.plugins.module_utils.kube import transport
from ansible_collections.flaskops.observability.plugins.module_utils.kube import wait as ww

from tests.canary import CANARY, leaks


def typed(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """An object of a kind."""
    return {"kind": kind, **data}


def deployment(generation: int = 1, desired: int = 2, **status: Any) -> Any:
    full = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    return typed(
        "Deployment",
        {
            "metadata": {"name": "flask-app", "generation": generation, "uid": "d1"},
            "spec": {
                "replicas": desired,
                "selector": {"matchLabels": {"app": "flask-app"}},
                "template": {"spec": {"containers": [{"name": "flask-app", "image": "a:1"}]}},
            },
            "status": {**full, **status},
        },
    )


def pod(state: dict[str, Any], ready: bool = False, **status: Any) -> Any:
    container = {"name": "flask-app", "image": "a:1", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
    return typed("Pod", {"metadata": {"name": "p1"}, "status": {"containerStatuses": [container], "phase": "Pending", **status}})


def waiting(reason: str) -> Any:
    return pod({"waiting": {"reason": reason, "message": "Back-off pulling.\nMore"}})


@pytest.mark.parametrize(
    ("workload", "done"),
    [
        (deployment(), True),
        (deployment(generation=2), False),
        (deployment(updatedReplicas=1), False),
        (deployment(readyReplicas=1), False),
        (deployment(availableReplicas=None), False),
        (deployment(replicas=3), False),
        (deployment(desired=0), False),
        (deployment(desired=0, replicas=0, updatedReplicas=0, readyReplicas=0, availableReplicas=0), True),
    ],
)
def test_deployment_done(workload: Any, done: bool) -> None:
    assert ww.is_done(workload) is done


def stateful_set(updated: int, strategy: dict[str, Any]) -> Any:
    return typed(
        "StatefulSet",
        {
            "metadata": {"generation": 1},
            "spec": {"replicas": 3, "serviceName": "s", "selector": {}, "template": {}, "updateStrategy": strategy},
            "status": {
                "observedGeneration": 1,
                "replicas": 3,
                "updatedReplicas": updated,
                "readyReplicas": 3,
                "availableReplicas": 3,
            },
        },
    )


@pytest.mark.parametrize(
    ("updated", "strategy", "done"),
    [
        (3, {"type": "RollingUpdate"}, True),
        (1, {"type": "RollingUpdate"}, False),
        (1, {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, True),
        (0, {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, False),
        (0, {"type": "OnDelete"}, True),
    ],
)
def test_stateful_set_done(updated: int, strategy: dict[str, Any], done: bool) -> None:
    assert ww.is_done(stateful_set(updated, strategy)) is done


@pytest.mark.parametrize(("ready", "done"), [(2, True), (1, False)])
def test_daemon_set_done(ready: int, done: bool) -> None:
    status = {
        "observedGeneration": 1,
        "currentNumberScheduled": 2,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 2,
        "updatedNumberScheduled": 2,
        "numberReady": ready,
        "numberAvailable": ready,
    }
    workload = typed(
        "DaemonSet",
        {"metadata": {"generation": 1}, "spec": {"selector": {}, "template": {}}, "status": status},
    )
    assert ww.is_done(workload) is done


def test_crash_loop_is_fatal_at_once() -> None:
    troubles = ww.pod_troubles(waiting("CrashLoopBackOff"))
    assert ww.fatal_trouble(troubles, {}, 0) == troubles[0]


@pytest.mark.parametrize("reason", sorted(ww.AFTER_GRACE))
def test_grace(reason: str) -> None:
    troubles = ww.pod_troubles(waiting(reason))
    since: dict[tuple[str, str], float] = {}
    assert ww.fatal_trouble(troubles, since, 100) is None
    assert ww.fatal_trouble(troubles, since, 100 + ww.GRACE - 1) is None
    assert ww.fatal_trouble(troubles, since, 100 + ww.GRACE) == troubles[0]


def test_grace_starts_anew_after_recovery() -> None:
    troubles = ww.pod_troubles(waiting("ErrImagePull"))
    since: dict[tuple[str, str], float] = {}
    assert ww.fatal_trouble(troubles, since, 0) is None
    assert ww.fatal_trouble([], since, 10) is None
    assert ww.fatal_trouble(troubles, since, 20) is None


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_ordinary_waiting_is_not_fatal(reason: str) -> None:
    since: dict[tuple[str, str], float] = {}
    troubles = ww.pod_troubles(waiting(reason))
    assert ww.fatal_trouble(troubles, since, 0) is None
    assert ww.fatal_trouble(troubles, since, 1000) is None


def test_texts() -> None:
    assert ww.pod_troubles(waiting("ErrImagePull"))[0].text == "container flask-app waits, ErrImagePull (Back-off pulling)"
    assert ww.pod_troubles(pod({"running": {}}))[0].text == "container flask-app runs but is not ready"
    assert ww.pod_troubles(pod({"running": {}}, ready=True)) == []
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes."}
    unscheduled = typed("Pod", {"metadata": {"name": "p1"}, "status": {"conditions": [condition]}})
    assert ww.pod_troubles(unscheduled)[0].text == "Unschedulable (0/1 nodes)"


def test_blocking_condition() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "forbidden."}
    assert ww.blocking_condition(deployment(conditions=[condition])) == "FailedCreate: forbidden"
    assert ww.blocking_condition(deployment()) == ""


@pytest.mark.parametrize(
    ("newest", "said"), [([], ""), ([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}], "FailedCreate: ")]
)
def test_replica_set_of_an_older_revision_is_not_blamed(newest: list[dict[str, Any]], said: str) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "the older one"}
    replica_set = typed("ReplicaSet", {"spec": {"selector": {}}, "status": {"replicas": 0, "conditions": newest}})
    assert ww.blocking_condition(deployment(conditions=[condition]), replica_set).startswith(said)
    assert "older" not in ww.blocking_condition(deployment(conditions=[condition]), replica_set)


def refused(version: int) -> Any:
    event = {
        "metadata": {"uid": "e1", "resourceVersion": str(version)},
        "reason": "FailedCreate",
        "message": f"refused {version}.",
        "lastTimestamp": f"2026-01-01T00:00:0{version}Z",
        "involvedObject": {"uid": "s1"},
    }
    return typed("CoreV1Event", event)


def test_refusals_of_pods() -> None:
    waiter = ww.Waiter(cast(Any, None), "StatefulSet", "shop", "flask-app")
    listed: list[list[Any]] = [[refused(1)], [refused(1)], [refused(2)], [refused(2)], [refused(2)], [refused(3)], []]
    waiter.listed = lambda *_, **__: listed.pop(0)  # type: ignore[method-assign]
    said = []
    for updated in (0, 0, 0, 0, 1, 1, 3):
        waiter.workload = stateful_set(updated, {"type": "RollingUpdate"})
        said.append(waiter.refusal())
    # What was there before counts as little as what came before a pod was made.
    assert said == ["", "", "FailedCreate: refused 2", "FailedCreate: refused 2", "", "FailedCreate: refused 3", ""]


class FakeWaiter(ww.Waiter):
    """A waiter whose cluster is a list of answers."""

    def __init__(self, answers: list[Any], pods: list[Any]) -> None:
        super().__init__(cast(Any, None), "Deployment", "shop", "flask-app")
        self.answers, self.found = answers, pods
        self.workload = answers.pop(0)

    def read(self) -> None:
        if self.answers:
            self.workload = self.answers.pop(0)

    def watch(self, seconds: float) -> None:
        assert 0 < seconds <= ww.WINDOW

    def pods(self) -> list[Any]:
        return self.found

    def events(self, pods: list[Any]) -> list[str]:
        return ["p1: BackOff, Back-off restarting"]

    def log(self, trouble: ww.Trouble) -> list[str]:
        return ["KeyError: 'DATABASE_URL'"]


def test_wait_ends_when_done() -> None:
    waiter = FakeWaiter([deployment(readyReplicas=0), deployment(readyReplicas=1), deployment()], [])
    assert waiter.wait(60) == ""


def test_wait_times_out_with_numbers() -> None:
    text = FakeWaiter([deployment(readyReplicas=1)], []).wait(0)
    assert text == (
        "The Deployment flask-app in namespace shop is not ready after 0 s: of 2 pods 2 are updated, 1 ready and 2 available."
    )


@pytest.mark.parametrize(
    ("probe", "seconds"),
    [
        (None, 0),
        ({"httpGet": {}}, 2 * 30),
        ({"periodSeconds": 5, "failureThreshold": 60}, 2 * 300),
        ({"initialDelaySeconds": 7, "periodSeconds": 1, "failureThreshold": 3}, 2 * 10),
    ],
)
def test_the_time_that_startup_probes_allow_each_pod(probe: Any, seconds: int) -> None:
    workload = deployment()
    containers = workload["spec"]["template"]["spec"]["containers"]
    containers += [{"name": "beside", "startupProbe": probe}] if probe else []
    assert ww.start_seconds(workload) == seconds


def test_crash_loop_is_explained() -> None:
    waiter = FakeWaiter([deployment(readyReplicas=0)], [waiting("CrashLoopBackOff")])
    failure = waiter.explain(waiter.wait(60))
    assert "can't become ready, pod p1: container flask-app waits, CrashLoopBackOff" in failure["msg"].splitlines()[0]
    assert "  KeyError: 'DATABASE_URL'" in failure["msg"].splitlines()
    assert failure["pods"] and failure["events"] and failure["log"]


def test_stale_status_is_not_judged() -> None:
    waiter = FakeWaiter([deployment(generation=2)], [waiting("CrashLoopBackOff")])
    assert waiter.hopeless() == ""


def kubeconfig(path: pathlib.Path, server: str) -> str:
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n"
        "users: [{name: u, user: {token: x}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    return str(path)


def test_client_refuses_what_it_cannot_use(tmp_path: pathlib.Path) -> None:
    with pytest.raises(transport.KubeError, match="No cluster was named"):
        kube.api_client("", "")
    with pytest.raises(transport.KubeError, match="does not exist"):
        kube.api_client(str(tmp_path / "none"), "")
    good = kubeconfig(tmp_path / "good", "http://127.0.0.1:9")
    with pytest.raises(transport.KubeError, match="name a context that the kubeconfig holds"):
        kube.api_client(good, "other")
    with pytest.raises(transport.KubeError, match="can't be reached"):
        kube.api_client(good, "c")
    (tmp_path / "bad").write_text("{")
    with pytest.raises(transport.KubeError, match=r"can't be (read|used)"):
        kube.api_client(str(tmp_path / "bad"), "")


@pytest.mark.parametrize(("status", "message"), [(200, ""), (403, ""), (401, "refuses the credentials"), (500, "answers 500")])
def test_client_asks_the_api(tmp_path: pathlib.Path, status: int, message: str) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (
                b'{"major":"1","minor":"34","gitVersion":"v1","gitCommit":"c","gitTreeState":"t","buildDate":"b",'
                b'"goVersion":"g","compiler":"c","platform":"p"}'
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        path = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{server.server_port}")
        if message:
            with pytest.raises(transport.KubeError, match=message):
                kube.api_client(path, "c")
        else:
            assert kube.api_client(path, "c") is not None
    finally:
        server.shutdown()
        server.server_close()


def test_pod_without_containers_is_named() -> None:
    pending = typed("Pod", {"metadata": {"name": "p1"}, "status": {"phase": "Pending"}})
    assert ww.pod_troubles(pending)[0].text == "phase Pending, no container has started"


def test_what_explains_a_failure_shows_no_secret() -> None:
    failure = {"msg": f"it said {CANARY}", "pods": [], "log": [f"login as ann:{CANARY} refused"], "replicas": {"ready": 0}}
    found = ww.without(ww.NotReady(failure), [CANARY])
    assert isinstance(found, ww.NotReady) and found.failure["replicas"] == {"ready": 0}
    assert not leaks(str(found) + str(found.failure))
    assert not leaks(str(ww.without(transport.KubeError(f"no {CANARY}"), [CANARY])))


SPEC = {
    "volumes": [{"secret": {"secretName": "files"}}, {"emptyDir": {}}],
    "initContainers": [{"envFrom": [{"secretRef": {"name": "first"}}]}],
    "containers": [
        {
            "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "words"}}],
            "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "a"}}},
                {"name": "COLOUR", "value": "red"},
                {"name": "DB_PASSWORD", "value": "hunter2"},
                {"name": "BROKER", "value": "amqp://guest:somebody@queue"},
            ],
        }
    ],
}


def test_what_a_pod_s_log_may_quote() -> None:
    assert ww.secrets_of(SPEC) == ["files", "first", "key", "words"]
    assert ww.plain_secrets(SPEC) == ["hunter2", "amqp://guest:somebody@queue"]


def test_a_secret_that_a_pod_reads_is_in_no_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Objects:
        def get(self, item: dict[str, Any]) -> dict[str, Any]:
            if item["metadata"]["name"] != "words":
                raise transport.ApiError(403, "forbidden")
            return {"kind": "Secret", "data": {"URL": "cG9zdGdyZXM6Ly9zaG9wOnRvcHNlY3JldEBkYg=="}}  # postgres://shop:topsecret@db

    waiter = ww.Waiter(cast(Any, Objects()), "Deployment", "shop", "shop")
    waiter.workload = typed("Deployment", {"metadata": {}, "spec": {"template": {"spec": SPEC}, "selector": {}}})
    lines = ["login with topsecret failed", "amqp://other:p@ss@queue and hunter2", "all is well"]
    monkeypatch.setattr(waiter, "pods", lambda: [waiting("CrashLoopBackOff")])
    monkeypatch.setattr(waiter, "events", lambda pods: [])
    monkeypatch.setattr(waiter, "log", lambda trouble: lines)
    assert waiter.explain("x")["log"] == ["login with *** failed", "amqp://other:***@queue and ***", "all is well"]
