# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill breaks on a real API server, how it is taken back, by whom, and what is not believed of a record."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill import dead_man, guard, scenarios, watchers
from ansible_collections.flaskops.observability.plugins.module_utils.drill import run as drill_run
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import (
    App,
    Options,
    Plan,
    Skipped,
    patched,
    requester,
    written,
)
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import DrillError, Guard
from ansible_collections.flaskops.observability.plugins.module_utils.drill.record import Record
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster

from tests.api_rig import Rig
from tests.fakes.kubelet import kubelet
from tests.harness import Run, run_role, until
from tests.toolchain import programs

NAME, LOCK = "broken", "drill-lock"
NS, APPS = f"/api/v1/namespaces/{NAME}", f"/apis/apps/v1/namespaces/{NAME}"
DEPLOYMENT, SERVICE, HISTORY = f"{APPS}/deployments/{NAME}", f"{NS}/services/{NAME}", f"{APPS}/replicasets"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE, PASSWORD = "application/merge-patch+json", "postgres://u:canary@db"
SPREAD = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": NAME}}}
POD = {
    "containers": [
        {
            "name": NAME,
            "image": "shop:1",
            "env": [{"name": "DB", "value": PASSWORD}, {"name": "MODE", "value": "x"}],
            "ports": [{"containerPort": 5000}],
            "volumeMounts": [{"name": "data", "mountPath": "/a"}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": 5000}},
            "resources": {"limits": {"memory": "256Mi"}},
        }
    ],
    "volumes": [{"name": "data", "emptyDir": {}}],
    "topologySpreadConstraints": [{**SPREAD, "topologyKey": "zone"}],
}


@pytest.fixture
def app(rig: Rig) -> Iterator[App]:
    """An application whose pods nobody starts."""
    labels = {"app": NAME}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": POD}}
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAME}})
    rig.request("POST", f"{APPS}/deployments?fieldManager=owner", {"metadata": {"name": NAME}, "spec": spec})
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 5000}]}
    rig.request("POST", f"{NS}/services?fieldManager=owner", {"metadata": {"name": NAME}, "spec": service})
    until(lambda: len(rig.request("GET", HISTORY)["items"]) == 1, 20, "the first ReplicaSet")
    yield App(KubeCluster(rig.api), Options(name=NAME, namespace=NAME, dependency="db.example.com"))
    rig.remove(NS)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RENEWAL", 0.2)
    monkeypatch.setattr(guard, "LEASE_SECONDS", 2)


@pytest.fixture
def lock(rig: Rig, app: App) -> Iterator[Callable[[str], Guard]]:
    made: list[Guard] = []

    def guard_of(holder: str) -> Guard:
        refusal = Record(app.request, app.options, []).refusal
        made.append(Guard(app.request, LOCK, holder, f"{NAME}/{NAME}", refusal))
        return made[-1]

    yield guard_of
    for item in made:
        item._stop.set()
    if any(space["metadata"]["name"] == LOCK for space in rig.request("GET", "/api/v1/namespaces")["items"]):
        rig.remove(f"/api/v1/namespaces/{LOCK}")


def state(rig: Rig, path: str) -> Any:
    """What users wrote into an object, and who manages which field of it."""
    found = rig.request("GET", path)
    parts, notes = written(found), found["metadata"].get("annotations") or {}
    parts["metadata"]["annotations"] = {key: value for key, value in notes.items() if not key.startswith("deployment.kubernetes")}
    owners = [(entry["manager"], entry["fieldsV1"]) for entry in found["metadata"]["managedFields"] if "subresource" not in entry]
    return parts, [owner for owner in owners if owner[0] != "kube-controller-manager"]


def names(rig: Rig, path: str) -> set[str]:
    return {item["metadata"]["name"] for item in rig.request("GET", path)["items"]}


WAYS = {
    "command": scenarios.crash_by_command,
    "memory": scenarios.memory_by_limit,
    "probe": scenarios.health_by_probe,
    "hosts": scenarios.timeout_by_hosts,
    "names": scenarios.no_dns,
    "endpoints": scenarios.no_endpoints,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_fault_is_taken_back_without_a_trace_by_the_rights_of_the_dead_man(rig: Rig, app: App, way: str) -> None:
    path = SERVICE if way == "endpoints" else DEPLOYMENT
    before, history, versions = state(rig, path), names(rig, HISTORY), rig.versions(f"{APPS}/deployments", f"{NS}/services")
    plan = WAYS[way](app)
    assert rig.versions(f"{APPS}/deployments", f"{NS}/services") == versions, "planning changes something"
    assert Record(app.request, app.options, []).refusal(plan.undo) == ""
    dead_man.run(plan.steps, app.request)
    assert state(rig, path)[0] != before[0]
    if path == DEPLOYMENT:
        until(lambda: names(rig, HISTORY) > history, 20, "the broken ReplicaSet")
    small = request_with(rig, guard.rights(plan.undo))
    until(lambda: dead_man.undo(plan.undo, small) == [], 20, "the restoration by the least rights")
    until(lambda: state(rig, path) == before and names(rig, HISTORY) == history, 20, "the state from before")
    assert dead_man.undo(plan.undo, small) == [] and state(rig, path) == before


def request_with(rig: Rig, rules: dict[str, list[Any]]) -> dead_man.Request:
    """Requests of an account that may do what the rules say, and nothing else."""
    for namespace, granted in rules.items():
        name = {"metadata": {"name": "small"}}
        where = f"{RBAC}/namespaces/{namespace}"
        rig.request("POST", f"{where}/roles", {**name, "rules": granted})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "small"}
        subject = {"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"}
        rig.request("POST", f"{where}/rolebindings", {**name, "roleRef": role, "subjects": [subject]})
    return requester(KubeCluster(api_client(str(rig.kubeconfig("nobody")), "")))


def test_what_somebody_changes_meanwhile_stays_and_stays_theirs(rig: Rig, app: App) -> None:
    plan = scenarios.crash_by_command(app)
    dead_man.run(plan.steps, app.request)
    theirs = {"spec": {"template": {"spec": {"containers": [{"name": NAME, "image": "shop:2", "command": ["run"]}]}}}}
    rig.request("PATCH", f"{DEPLOYMENT}?fieldManager=them", theirs, dead_man.STRATEGIC)
    assert dead_man.undo(plan.undo, app.request) == []
    found = rig.request("GET", DEPLOYMENT)
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["command"]) == ("shop:2", ["run"])
    assert found["spec"]["strategy"]["type"] == "RollingUpdate" and found["spec"]["revisionHistoryLimit"] == 10
    assert "them" in [entry["manager"] for entry in found["metadata"]["managedFields"]]


def test_another_object_of_that_name_is_not_undone(rig: Rig, app: App) -> None:
    plan = scenarios.no_endpoints(app)
    dead_man.run(plan.steps, app.request)
    broken = rig.request("GET", SERVICE)["spec"]["selector"]
    rig.remove(SERVICE)
    made = {"metadata": {"name": NAME}, "spec": {"selector": broken, "ports": [{"port": 80, "targetPort": 5000}]}}
    rig.request("POST", f"{NS}/services", made)
    assert dead_man.undo(plan.undo, app.request) == []
    assert rig.request("GET", SERVICE)["spec"]["selector"] == broken


def template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


def container(**fields: Any) -> dict[str, Any]:
    return template(containers=[{"name": NAME, **fields}])


OWN = {
    # A list that Kubernetes merges by another key than a name.
    "spread": (DEPLOYMENT, template(topologySpreadConstraints=[{**SPREAD, "topologyKey": "host"}]), ""),
    "changed spread": (DEPLOYMENT, template(topologySpreadConstraints=[{"topologyKey": "zone", "maxSkew": 2}]), ""),
    "environment": (DEPLOYMENT, container(env=[{"name": "DB", "value": "nowhere"}, {"name": "NEW", "value": "1"}]), ""),
    "mount": (DEPLOYMENT, container(volumeMounts=[{"name": "data", "mountPath": "/b"}]), ""),
    "container": (DEPLOYMENT, template(containers=[{"name": "other", "image": "other:1"}]), ""),
    "removed": (DEPLOYMENT, container(resources=None, env=None), ""),
    "quantity": (DEPLOYMENT, container(resources={"limits": {"memory": "1024Mi"}}), ""),
    "annotation": (SERVICE, {"metadata": {"annotations": {"a/b": "c"}, "labels": {"x": "y"}}}, ""),
    "ports": (SERVICE, {"spec": {"ports": [{"port": 80, "targetPort": 1}]}}, ""),
    "replicas": (DEPLOYMENT, {"spec": {"replicas": 0}}, ""),
    "directive": (DEPLOYMENT, template(volumes=[{"name": "data", "$patch": "delete"}]), r"the directive \$patch"),
    "replaced": (DEPLOYMENT, {"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}}, r"the directive \$patch"),
    "nothing": (DEPLOYMENT, {"spec": {"replicas": 1}}, "changes nothing"),
    "refused": (DEPLOYMENT, {"spec": {"replicas": -1}}, "can't be patched: .*must be greater than or equal to 0"),
    "immutable": (DEPLOYMENT, {"spec": {"selector": {"matchLabels": {"x": "y"}}}}, "can't be patched: .*immutable"),
}


@pytest.mark.parametrize("name", OWN)
def test_a_patch_of_ones_own_is_taken_back_exactly_or_never_sent(rig: Rig, app: App, name: str) -> None:
    path, patch, reason = OWN[name]
    before, version = state(rig, path), rig.request("GET", path)["metadata"]["generation" if path == DEPLOYMENT else "uid"]
    if reason:
        with pytest.raises(Skipped, match=reason):
            patched(app, path, patch)
        assert state(rig, path) == before
        assert version == rig.request("GET", path)["metadata"]["generation" if path == DEPLOYMENT else "uid"]
        return
    steps, undo = patched(app, path, patch)
    assert state(rig, path) == before
    dead_man.run(steps, app.request)
    assert state(rig, path) != before
    assert dead_man.undo(undo, app.request) == [] and state(rig, path) == before


def test_a_value_that_a_patch_replaces_is_in_a_secret(rig: Rig, app: App, lock: Callable[[str], Guard]) -> None:
    held = lock("me")
    held.acquire()
    _steps, undo = patched(app, *OWN["environment"][:2])
    held.record(undo)
    assert PASSWORD in str(dead_man.recorded(LOCK, app.request))
    elsewhere = [rig.request("GET", f"/api/v1/namespaces/{LOCK}/{kind}") for kind in ("configmaps", "events")]
    assert PASSWORD not in str(elsewhere)
    held.record([])
    held.release()
    assert LOCK not in names(rig, "/api/v1/namespaces")


def broken(rig: Rig, app: App, lock: Callable[[str], Guard]) -> tuple[Guard, Plan, Any]:
    """A drill that has just broken something."""
    before, held, plan = state(rig, SERVICE), lock("me"), scenarios.no_endpoints(app)
    held.acquire()
    held.record(plan.undo)
    dead_man.run(plan.steps, held.change)
    return held, plan, before


def test_what_a_killed_drill_left_is_undone_by_the_next(rig: Rig, app: App, lock: Callable[[str], Guard]) -> None:
    held, _plan, before = broken(rig, app, lock)
    with pytest.raises(DrillError, match="Another drill runs"):
        lock("you").recover()
    held._stop.set()
    threading.Event().wait(3)
    assert lock("you").recover() == ["2 recorded steps of a drill that was killed were undone"]
    assert state(rig, SERVICE) == before and LOCK not in names(rig, "/api/v1/namespaces")


def test_a_drill_that_lost_its_lock_to_another_writes_nothing(rig: Rig, app: App, lock: Callable[[str], Guard]) -> None:
    held, plan, _before = broken(rig, app, lock)
    lease = rig.request("GET", dead_man.lease_path(LOCK))
    taken = until(
        lambda: dead_man.take_over(LOCK, rig.request("GET", dead_man.lease_path(LOCK)), "dead-man", app.request), 10, ""
    )
    assert lease["spec"]["holderIdentity"] == "me" and held.lost.wait(5) and not held.regain(), taken
    everything = ("/api/v1/services", "/apis/apps/v1/deployments", f"/api/v1/namespaces/{LOCK}/secrets")
    versions = rig.versions(*everything)
    assert dead_man.undo(plan.undo, held.change)
    with pytest.raises(dead_man.StepError):
        held.record([])
    assert rig.versions(*everything) == versions


def test_a_drill_whose_lock_nobody_took_restores_itself(rig: Rig, app: App, lock: Callable[[str], Guard]) -> None:
    held, plan, before = broken(rig, app, lock)
    held.lost.set()
    assert not held.holds() and dead_man.undo(plan.undo, held.change)
    assert held.regain() and dead_man.undo(plan.undo, held.change) == [] and state(rig, SERVICE) == before
    held.record([])
    held.release()


def test_a_forged_record_is_refused_before_anything_is_done(rig: Rig, app: App, lock: Callable[[str], Guard]) -> None:
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": LOCK, "labels": guard.LABELS}})
    step = {"do": "patch", "path": f"{RBAC}/clusterrolebindings/cluster-admin", "body": {"subjects": []}}
    secret = {"metadata": {"name": dead_man.RECORD}, "data": {"undo": dead_man.encoded([step])}}
    rig.request("POST", f"/api/v1/namespaces/{LOCK}/secrets", secret)
    versions = rig.versions("/api/v1/namespaces", "/api/v1/services", "/apis/apps/v1/deployments", f"{RBAC}/clusterrolebindings")
    with pytest.raises(DrillError, match=r"Nothing is undone.*'patch'"):
        lock("me").recover()
    # One that a plan could have made does nothing where nothing is broken.
    real = scenarios.crash_by_command(app).undo
    body = {"data": {"undo": dead_man.encoded(real)}}
    rig.request("PATCH", dead_man.record_path(LOCK), body, MERGE)
    deployment, history = state(rig, DEPLOYMENT), names(rig, HISTORY)
    found = rig.versions("/api/v1/services", "/apis/apps/v1/deployments", f"{RBAC}/clusterrolebindings")
    assert found == {key: value for key, value in versions.items() if not key.startswith("/api/v1/namespaces:")}
    assert lock("me").recover() == ["4 recorded steps of a drill that was killed were undone"]
    assert state(rig, DEPLOYMENT) == deployment and names(rig, HISTORY) == history


def test_a_template_that_never_was_is_not_put_back(rig: Rig, app: App) -> None:
    record = Record(app.request, app.options, [])
    plan = scenarios.crash_by_command(app)
    dead_man.run(plan.steps, app.request)
    until(lambda: len(names(rig, HISTORY)) == 2, 20, "the broken ReplicaSet")
    assert record.refusal(plan.undo) == ""
    for step in plan.undo:
        for field in step.get("fields", []):
            if "command" in field["at"]:
                field["was"] = ["sh", "-c", "evil"]
    assert "have never been what they would become" in record.refusal(plan.undo)


def test_what_the_operator_keeps_is_scaled_and_put_back(rig: Rig, app: App) -> None:
    """Its kinds take no strategic merge patch."""
    definitions = programs("prometheus-operator") / "crds"
    kubectl = [programs("kubernetes") / "kubectl", f"--kubeconfig={rig.kubeconfig()}", "apply", "--server-side"]
    subprocess.run([*kubectl, f"--filename={definitions}"], check=True, capture_output=True, timeout=120)
    base = f"/apis/monitoring.coreos.com/v1/namespaces/{NAME}"
    kinds = {"prometheuses": ("Prometheus", {"replicas": 2}), "alertmanagers": ("Alertmanager", {}), "prometheusrules": ("", {})}
    until(lambda: all(app.request("GET", f"{base}/{plural}")[0] == 200 for plural in kinds), 30, "the operator's kinds")
    for plural, (kind, spec) in list(kinds.items())[:2]:
        item = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "main"}, "spec": spec}
        rig.request("POST", f"{base}/{plural}?fieldManager=owner", item)
    found = App(KubeCluster(rig.api), app.options)
    assert found.prometheus and (found.stack_namespace, found.prometheus_name) == (NAME, "main")
    before = [state(rig, f"{base}/{plural}/main") for plural in ("prometheuses", "alertmanagers")]
    for plan in (watchers.stop_prometheus(found), watchers._stopped(found, "alertmanagers", "main")):
        (path,) = plan.touched
        assert Record(found.request, found.options, []).refusal(plan.undo) == ""
        dead_man.run(plan.steps, found.request)
        assert rig.request("GET", path)["spec"]["replicas"] == 0
        assert dead_man.undo(plan.undo, found.request) == []
    assert [state(rig, f"{base}/{plural}/main") for plural in ("prometheuses", "alertmanagers")] == before


def test_the_cluster_says_which_environment_it_is(rig: Rig, app: App) -> None:
    given = {
        "environment_name": "staging",
        "cluster_label": "one",
        "confirm": "",
        "namespace": NAME,
        "safe_environments": ["staging"],
    }
    with pytest.raises(DrillError, match="nothing on the cluster says"):
        drill_run.refuse_another_environment(given, drill_run.environments(app))
    rig.request("PATCH", NS, {"metadata": {"annotations": {"flaskops/environment": "production"}}}, MERGE)
    with pytest.raises(DrillError, match="environment production, and environment_name is staging"):
        drill_run.refuse_another_environment({**given, "confirm": "one"}, drill_run.environments(app))
    rig.request("PATCH", NS, {"metadata": {"annotations": {"flaskops/environment": "staging"}}}, MERGE)
    drill_run.refuse_another_environment(given, drill_run.environments(app))


def test_what_another_environment_deployed_is_neither_changed_nor_removed(rig: Rig, tmp_path: Path) -> None:
    given = {"kubeconfig": str(rig.kubeconfig()), "name": "moved", "namespace": "moved", "image": "shop:1"}

    def role(**options: Any) -> Run:
        with kubelet(rig, "moved"):
            return run_role("flask_app", tmp_path, {f"flask_app_{key}": value for key, value in {**given, **options}.items()})

    done = role(environment_name="production")
    assert done.returncode == 0, done.error
    paths = ("/api/v1/namespaces/moved", "/apis/apps/v1/namespaces/moved/deployments/moved")
    found = [rig.request("GET", path)["metadata"] for path in paths]
    assert [item["annotations"]["flaskops/environment"] for item in found] == ["production", "production"]
    versions = rig.versions("/apis/apps/v1/namespaces/moved/deployments", "/api/v1/namespaces/moved/services")
    assert "Deployment moved/moved (of the environment production)" in role(environment_name="staging", image="shop:2").error
    assert "Deployment moved/moved is of the environment production" in role(environment_name="staging", state="absent").error
    assert rig.versions("/apis/apps/v1/namespaces/moved/deployments", "/api/v1/namespaces/moved/services") == versions
    # Somebody may mean it, and who names no environment is asked for none.
    assert role(environment_name="staging", adopt=True).returncode == 0
    assert role().returncode == 0
    assert role(state="absent", environment_name="staging").returncode == 0
