# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action objects on an API server: each step of a life says what it changes, and changes that alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.state import State, Wish
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeError
from ansible_collections.flaskops.observability.plugins.module_utils.kube.wait import NotReady

from tests.api_rig import Rig
from tests.canary import CANARY, leaks
from tests.fakes.operator import operator
from tests.harness import inventory_of, playbook, run_role, until

NAME = "thing"
OWNER = {"app.kubernetes.io/managed-by": "flaskops", "flaskops/owner": "role.thing"}
MERGE = "application/merge-patch+json"
HERE = {"name": NAME, "namespace": NAME}
SERVICE = f"/api/v1/namespaces/{NAME}/services/{NAME}"
CLAIMS = f"/api/v1/namespaces/{NAME}/persistentvolumeclaims"
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
CONFIG = f"/api/v1/namespaces/{NAME}/configmaps/{NAME}"


def an(api: str, kind: str, metadata: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": dict(metadata), **body}


SPACE = an("v1", "Namespace", {"name": NAME, "labels": {"team": "a"}})
MAP = an("v1", "ConfigMap", HERE, data={"a": "1"})
SECRET = an("v1", "Secret", HERE, stringData={"password": CANARY})
PORTS = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
WEB = an("v1", "Service", HERE, spec={"selector": {"app": NAME}, "ports": PORTS})
TEMPLATE = {
    "metadata": {"labels": {"app": NAME}, "annotations": {"flaskops/credentials-version": NAME}},
    "spec": {"containers": [{"name": "main", "image": "main:1"}]},
}
APP = an("apps/v1", "Deployment", HERE, spec={"replicas": 1, "selector": {"matchLabels": {"app": NAME}}, "template": TEMPLATE})
BUDGET = an("policy/v1", "PodDisruptionBudget", HERE, spec={"maxUnavailable": 1, "selector": {"matchLabels": {"app": NAME}}})
ROLE = an("rbac.authorization.k8s.io/v1", "ClusterRole", {"name": NAME}, rules=[])
RULE = an("monitoring.coreos.com/v1", "PrometheusRule", HERE, spec={"groups": []})
ALL = [SPACE, MAP, SECRET, WEB, APP, BUDGET, ROLE, RULE]
MADE = [
    "Namespace thing",
    *(f"{kind} thing/thing" for kind in ("ConfigMap", "Secret", "Service", "Deployment")),
    "ClusterRole thing",
]
LISTS = [
    *(f"/api/v1/{plural}" for plural in ("namespaces", "configmaps", "secrets", "services")),
    *(f"/apis/rbac.authorization.k8s.io/v1/{plural}" for plural in ("roles", "rolebindings", "clusterroles")),
]
# Controllers go on writing the status of these.
CONTROLLED = ["/apis/apps/v1/deployments", "/apis/policy/v1/poddisruptionbudgets"]


def seen(rig: Rig) -> dict[str, Any]:
    """What tells one state of the cluster from another."""
    found: dict[str, Any] = rig.versions(*LISTS)
    for path in CONTROLLED:
        for item in rig.request("GET", path)["items"]:
            found[f"{path} {item['metadata']['name']}"] = (item["metadata"]["uid"], item["metadata"]["generation"])
    return found


@dataclass
class Step:
    """One call, what is done by hand before it, and what it says."""

    name: str
    options: dict[str, Any]
    changes: list[str] = field(default_factory=list)
    before: tuple[Any, ...] = ()  # a request by hand
    check: bool = False
    error: str = ""
    writes: int | None = None


def present(*definitions: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"definitions": list(definitions), "wait": False, **options}


GONE = {"state": "absent", "known": [an("v1", "Namespace", {"name": NAME}), ROLE, APP, SECRET, WEB, MAP]}
LIFE = [
    Step("check mode on empty", present(*ALL), [f"created {name}" for name in MADE], check=True, writes=0),
    Step("converge", present(*ALL), [f"created {name}" for name in MADE], writes=7),
    Step("again", present(*ALL), writes=0),
    Step("check mode", present(*ALL), check=True, writes=0),
    Step(
        "drift in check mode",
        present(*ALL),
        ["changed ConfigMap thing/thing"],
        before=("PATCH", CONFIG, {"data": {"a": "2"}}, MERGE),
        check=True,
        writes=0,
    ),
    Step("drift", present(*ALL), ["changed ConfigMap thing/thing"], writes=1),
    Step(
        "a port by hand",
        present(*ALL),
        ["changed Service thing/thing"],
        before=("PATCH", SERVICE, {"spec": {"ports": [{**PORTS[0], "port": 81}]}}, MERGE),
    ),
    Step(
        "a Secret rolls the pods out",
        present(*[SECRET | {"stringData": {"password": CANARY + "2"}} if item is SECRET else item for item in ALL]),
        ["changed Secret thing/thing", "changed Deployment thing/thing"],
        writes=2,
    ),
    Step("the Secret as before", present(*ALL), ["changed Secret thing/thing", "changed Deployment thing/thing"], writes=2),
    Step("nothing of another owner is taken", present(MAP, owner="other"), error="of role.thing"),
    Step(
        "prune",
        present(SPACE, SECRET, APP, ROLE, known=[MAP, WEB]),
        [f"removed {k} thing/thing" for k in ("ConfigMap", "Service")],
    ),
    Step(
        "a budget for two pods",
        present(SPACE, SECRET, {**APP, "spec": {**APP["spec"], "replicas": 2}}, BUDGET, ROLE),
        ["created PodDisruptionBudget thing/thing", "changed Deployment thing/thing"],
    ),
    Step(
        "no budget for one",
        present(*ALL),
        ["created ConfigMap", "created Service", "changed Deployment", "removed PodDisruptionBudget"],
    ),
    Step(
        "somebody else's is refused",
        present(*ALL),
        before=("PATCH", CONFIG, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}, MERGE),
        error="ConfigMap thing/thing (of Helm) is somebody else's",
    ),
    Step("and adopted", present(*ALL, adopt=True), ["changed ConfigMap thing/thing"]),
    Step("absent in check mode", GONE, ["removed"] * 6, check=True, writes=0),
    Step(
        "a namespace with something in it stays",
        GONE,
        ["removed"] * 5,
        before=("POST", CLAIMS, {"metadata": {"name": "precious"}, "spec": CLAIM}),
    ),
    Step("absent", GONE, ["removed Namespace thing"], before=("DELETE", f"{CLAIMS}/precious")),
    Step("absent again", GONE, writes=0),
]


def wish(options: dict[str, Any], check: bool) -> Wish:
    return Wish(**{"owner": "role thing", "wait_timeout": 30, **options}, check_mode=check)


def test_life(rig: Rig) -> None:
    start, kubeconfig = seen(rig), str(rig.kubeconfig())
    for step in LIFE:
        if step.before:
            rig.request(*step.before)
        before = seen(rig)
        options = {key: value for key, value in step.options.items() if key != "state"}
        state = State(Objects(api_client(kubeconfig, "")), wish(options, step.check))
        if step.error:
            with pytest.raises(KubeError, match=re.escape(step.error)):
                state.run("present")
            assert seen(rig) == before, step.name
            continue
        found = state.run(step.options.get("state", "present"))
        said = found["changes"]
        assert len(said) == len(step.changes), (step.name, said)
        assert all(any(line.startswith(words) for line in said) for words in step.changes), (step.name, said)
        assert found["changed"] == bool(step.changes)
        assert leaks(str(found)) == [], step.name
        if step.writes is not None:
            assert found["requests"]["writes"] == step.writes, (step.name, found["requests"])
        if step.check or not step.changes:
            assert seen(rig) == before, step.name
    assert seen(rig) == start


@pytest.fixture
def stack(rig: Rig) -> Iterator[None]:
    """A Prometheus that asks rules for a label."""
    with operator(rig, ruleSelector={"matchLabels": {"release": "stack"}}):
        yield


@pytest.mark.usefixtures("stack")
def test_labels_of_the_clusters_prometheus(rig: Rig) -> None:
    def run(*definitions: dict[str, Any], **options: Any) -> dict[str, Any]:
        return State(Objects(api_client(str(rig.kubeconfig()), "")), wish(present(*definitions, **options), False)).run("present")

    def labels() -> dict[str, str]:
        path = "/apis/monitoring.coreos.com/v1/namespaces/default/prometheusrules/thing"
        return dict(rig.request("GET", path)["metadata"]["labels"])

    rule = {**RULE, "metadata": {"name": NAME, "namespace": "default"}}
    assert run(rule)["notes"] == []
    assert labels() == {**OWNER, "release": "stack"}
    assert run(rule, monitoring_labels={"team": "a"})["changed"]
    assert labels() == {**OWNER, "team": "a"}
    assert run(rule, monitoring="never")["changes"] == ["removed PrometheusRule default/thing"]


def test_a_refused_object_leaves_nothing(rig: Rig) -> None:
    before = seen(rig)
    bad = an(
        "v1", "Secret", {"name": "bad", "namespace": NAME}, type="kubernetes.io/dockerconfigjson", stringData={"key": CANARY}
    )
    with pytest.raises(KubeError, match="Secret thing/bad is refused") as error:
        State(Objects(api_client(str(rig.kubeconfig()), "")), wish(present(SPACE, MAP, bad), False)).run("present")
    assert leaks(str(error.value)) == []
    assert seen(rig) == before


def test_a_rollout_has_the_time_of_its_startup_probe_too(rig: Rig) -> None:
    probe = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 2, "failureThreshold": 1}
    containers = [{"name": "main", "image": "main:1", "startupProbe": probe}]
    template = {"metadata": {"labels": {"app": NAME}}, "spec": {"containers": containers}}
    app = {**APP, "metadata": {**HERE, "namespace": "default"}, "spec": {**APP["spec"], "template": template}}

    def state(**options: Any) -> State:
        return State(Objects(api_client(str(rig.kubeconfig()), "")), wish(options, False))

    with pytest.raises(NotReady, match="is not ready after 3 s"):
        state(definitions=[app], wait_timeout=1).run("present")
    state(known=[app]).run("absent")


def test_what_has_to_be_there_and_what_may_be_missing(rig: Rig) -> None:
    def run(**options: Any) -> dict[str, Any]:
        there = {**MAP, "metadata": {"name": NAME, "namespace": "default"}}
        elsewhere = {**MAP, "metadata": {"name": NAME, "namespace": "nowhere"}}
        state = State(Objects(api_client(str(rig.kubeconfig()), "")), wish(present(there, elsewhere, **options), False))
        return state.run("present")

    with pytest.raises(KubeError, match="Namespace nowhere does not exist"):
        run()
    secret = {"name": "needed", "namespace": "default", "keys": ["user"]}
    with pytest.raises(KubeError, match="Secret needed in namespace default does not exist"):
        run(optional_namespaces=["nowhere"], secrets=[secret])
    rig.request("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "needed"}, "stringData": {"a": "b"}})
    with pytest.raises(KubeError, match="Secret needed in namespace default has no key user"):
        run(optional_namespaces=["nowhere"], secrets=[secret])
    found = run(optional_namespaces=["nowhere"], secrets=[{**secret, "keys": ["a"]}])
    assert found["changes"] == ["created ConfigMap default/thing"]
    assert found["not_applied"] == ["ConfigMap nowhere/thing: there is no namespace nowhere"]
    for plural, name in (("secrets", "needed"), ("configmaps", NAME), ("configmaps", "promise-role.thing")):
        rig.request("DELETE", f"/api/v1/namespaces/default/{plural}/{name}")


def test_data_and_releases(rig: Rig) -> None:
    """What others leave goes when it is named, and a namespace stays while data or a release of Helm is in it."""
    start, root = seen(rig), f"/api/v1/namespaces/{NAME}"
    mine = an("v1", "Namespace", {"name": NAME})

    def run(state: str, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"definitions": [SPACE, MAP]} if state == "present" else {"known": [mine, MAP]}
        return State(Objects(rig.api), wish({**given, **options}, check)).run(state)

    run("present")
    for name in ("data-thing-0", "data-thing-12", "data-something-0"):
        rig.request("POST", f"{root}/persistentvolumeclaims", {"metadata": {"name": name}, "spec": CLAIM})
    record = {
        "metadata": {"name": "sh.helm.release.v1.web.v1", "labels": {"owner": "helm", "name": "web"}},
        "type": "helm.sh/release.v1",
    }
    rig.request("POST", f"{root}/secrets", record)
    claims = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": NAME}
    data = [{**claims, "name": "data-thing-[0-9]+", "holds": {"spec": {"accessModes": ["ReadWriteOnce"]}}}]
    assert run("absent", check=True, data=data)["changes"] == [
        "removed ConfigMap thing/thing",
        "removed PersistentVolumeClaim thing/data-thing-0",
        "removed PersistentVolumeClaim thing/data-thing-12",
    ]
    assert run("absent", data=[{**data[0], "holds": {"spec": {"accessModes": ["ReadOnlyMany"]}}}])["changes"] == [
        "removed ConfigMap thing/thing"
    ]
    assert len(run("absent", data=data)["changes"]) == 2
    found = run("absent", data=data)
    assert not found["changed"] and "PersistentVolumeClaim data-something-0 is in it" in found["notes"][0]
    rig.request("DELETE", f"{root}/persistentvolumeclaims/data-something-0")
    until(lambda: not rig.request("GET", f"{root}/persistentvolumeclaims")["items"], 30, "the claim is gone")
    found = run("absent")
    assert not found["changed"] and "Secret sh.helm.release.v1.web.v1 is in it" in found["notes"][0]
    # What was removed just before is still there in check mode, and there alone.
    assert run("absent", check=True, releases=["web"])["changes"] == ["removed Namespace thing"]
    assert not run("absent", releases=["web"])["changed"]
    rig.request("DELETE", f"{root}/secrets/sh.helm.release.v1.web.v1")
    assert run("absent")["changes"] == ["removed Namespace thing"]
    assert seen(rig) == start


def test_a_volume_goes_after_its_claim(rig: Rig) -> None:
    """Kubernetes keeps a volume for as long as a claim is bound to it."""
    start, name = seen(rig), f"{NAME}-volume"
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/var/empty"},
        "storageClassName": "",
        "claimRef": {"namespace": NAME, "name": name},
    }
    made = [SPACE, an("v1", "PersistentVolume", {"name": name}, spec=spec)]
    State(Objects(rig.api), wish({"definitions": made}, False)).run("present")
    claim = CLAIM | {"storageClassName": "", "volumeName": name}
    rig.request("POST", CLAIMS, {"metadata": {"name": name}, "spec": claim})
    until(lambda: rig.request("GET", f"{CLAIMS}/{name}")["status"].get("phase") == "Bound", 30, "the claim is bound")
    data = [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": NAME, "name": name}]
    gone = {"definitions": made, "data": data, "wait_timeout": 20}
    assert State(Objects(rig.api), wish(gone, False)).run("absent")["changes"] == [
        f"removed PersistentVolume {name}",
        f"removed PersistentVolumeClaim {NAME}/{name}",
        f"removed Namespace {NAME}",
    ]
    assert seen(rig) == start


def test_what_is_emptied_in_a_custom_resource(rig: Rig) -> None:
    """The server makes null of a map or a list of maps that loses its last entry, which its definition refuses then."""
    words = {"type": "object", "additionalProperties": {"type": "string"}}
    part = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "words": words}}
    by_name = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    parts = {"type": "array", "items": part, **by_name}
    spec = {
        "type": "object",
        "properties": {"words": words, "parts": parts, "meta": {"type": "object", "properties": {"words": words}}},
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    definition = an(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {"name": "toys.test.example.com"},
        spec={
            "group": "test.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Toy", "plural": "toys", "singular": "toy"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    )
    start, path = seen(rig), "/apis/test.example.com/v1/namespaces/default/toys/toy"
    toy = an("test.example.com/v1", "Toy", {"name": "toy", "namespace": "default"})

    def run(check: bool = False, **spec: Any) -> tuple[list[str], Any]:
        given = {"definitions": [{**toy, "spec": spec}], "wait": False}
        changes = State(Objects(rig.api), wish(given, check)).run("present")["changes"]
        return changes, rig.request("GET", path)["spec"]

    full = {"words": {"a": "1"}, "parts": [{"name": "a", "words": {"b": "2"}}], "meta": {"words": {"c.d": "3"}}}
    inside = {"words": {}, "parts": [{"name": "a", "words": {}}], "meta": {"words": {}}}
    changed = ["changed Toy default/toy"]
    State(Objects(rig.api), wish({"definitions": [definition]}, False)).run("present")
    try:
        until(lambda: Objects(rig.api).resource("test.example.com/v1", "Toy"), 30, "the API server knows the kind")
        run(**full)
        for emptied in (inside, {"words": {}, "parts": [], "meta": {}}):
            assert run(check=True, **emptied) == (changed, full)
            assert run(**emptied) == (changed, emptied)
            assert run(**emptied) == ([], emptied)
            assert run(**full) == (changed, full)
    finally:
        # With what was written down of it.
        State(Objects(rig.api), wish({"known": [toy]}, False)).run("absent")
        State(Objects(rig.api), wish({"definitions": [definition]}, False)).run("absent")
    assert seen(rig) == start


def test_an_object_that_is_made_once(rig: Rig) -> None:
    """It is made where it is missing, neither changed nor pruned afterwards, and removed with the others."""
    path = "/api/v1/namespaces/default/secrets/once"
    before = seen(rig)

    def run(password: str, state: str = "present", **labels: str) -> list[str]:
        meta = {"name": "once", "namespace": "default", "annotations": {"flaskops/made-once": "true"}, "labels": labels}
        state_of = State(Objects(rig.api), wish(present(an("v1", "Secret", meta, stringData={"password": password})), False))
        return list(state_of.run(state)["changes"])

    assert run("one") == ["created Secret default/once"]
    value = rig.request("GET", path)["data"]
    assert run("another") == []
    assert rig.request("GET", path)["data"] == value
    rig.request("PATCH", path, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}, MERGE)
    with pytest.raises(KubeError, match="Secret default/once"):
        run("another")
    rig.request("PATCH", path, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "flaskops"}}}, MERGE)
    assert run("one", "absent") == ["removed Secret default/once"]
    assert seen(rig) == before


def test_pods_read_a_changed_secret_at_once(rig: Rig) -> None:
    meta = {"name": "reads", "namespace": "default", "labels": {"app": "reads"}}
    rig.request("POST", "/api/v1/namespaces/default/pods", {"metadata": meta, "spec": TEMPLATE["spec"]})
    notes: list[dict[str, str]] = []
    for password, check in (("one", True), ("one", False), ("one", False), ("two", False)):
        secret = an("v1", "Secret", {"name": NAME, "namespace": "default"}, stringData={"password": password})
        readers = [{"namespace": "default", "selector": "app=reads"}]
        State(Objects(rig.api), wish(present(secret, readers=readers), check)).run("present")
        notes.append(rig.request("GET", "/api/v1/namespaces/default/pods/reads")["metadata"].get("annotations") or {})
    assert [bool(note) for note in notes] == [False, True, True, True]
    assert notes[1] == notes[2] != notes[3]
    rig.request("DELETE", "/api/v1/namespaces/default/pods/reads", {"gracePeriodSeconds": 0})
    rig.request("DELETE", f"/api/v1/namespaces/default/secrets/{NAME}")
    rig.request("DELETE", "/api/v1/namespaces/default/configmaps/promise-role.thing")


@pytest.fixture
def team(rig: Rig) -> Iterator[str]:
    """An account that may hand on no more than it may do itself, and may neither list nor watch."""
    path = "/apis/rbac.authorization.k8s.io/v1"
    verbs = ["get", "create", "patch", "delete"]
    groups = {"": ["configmaps"], "rbac.authorization.k8s.io": ["roles", "rolebindings"]}
    rules: list[dict[str, Any]] = [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds in groups.items()]
    rules.append({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]})
    rig.request("POST", f"{path}/clusterroles", {"metadata": {"name": "team"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "team"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}]
    rig.request("POST", f"{path}/clusterrolebindings", {"metadata": {"name": "team"}, "roleRef": reference, "subjects": subjects})
    yield str(rig.kubeconfig("nobody"))
    rig.request("DELETE", f"{path}/clusterrolebindings/team")
    rig.request("DELETE", f"{path}/clusterroles/team")


def test_account_of_a_team(rig: Rig, team: str) -> None:
    """A binding can't be tried before its role is there; one that is refused for more leaves nothing behind."""
    rbac, here = "rbac.authorization.k8s.io/v1", {"name": NAME, "namespace": "default"}

    def items(name: str, verb: str) -> list[dict[str, Any]]:
        meta = {"name": name, "namespace": "default"}
        role = an(rbac, "Role", meta, rules=[{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}])
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        return [an("v1", "ConfigMap", here), role, an(rbac, "RoleBinding", meta, roleRef=reference, subjects=[])]

    def run(state: str, *definitions: dict[str, Any]) -> list[str]:
        done = State(Objects(api_client(team, "")), wish(present(*definitions), False)).run(state)
        return list(done["changes"])

    before = seen(rig)
    with pytest.raises(KubeError, match="Role default/greedy is refused"):
        run("present", *items("greedy", "list"))
    with pytest.raises(KubeError, match="RoleBinding default/wide is refused"):
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        run("present", *items("modest", "get")[:2], an(rbac, "RoleBinding", {**here, "name": "wide"}, roleRef=reference))
    assert seen(rig) == before
    assert len(run("present", *items("modest", "get"))) == 3
    assert run("present", *items("modest", "get")) == []
    assert len(run("absent", *items("modest", "get"))) == 3
    assert seen(rig) == before


def test_connections_are_few(rig: Rig) -> None:
    """Requests go side by side over connections that stay."""
    api = api_client(str(rig.kubeconfig()), "")
    many = [an("v1", "ConfigMap", {"name": f"many-{number}", "namespace": "default"}) for number in range(40)]
    found = State(Objects(api), wish(present(*many), True)).run("present")
    assert found["requests"] == {"reads": 44, "dry_runs": 41, "writes": 0}
    pools = api.rest_client.pool_manager.pools
    assert sum(pools[key].num_connections for key in pools.keys()) <= 8  # noqa: SIM118 (urllib3's container is no dict)


def test_action(rig: Rig, tmp_path: Path) -> None:
    """Check mode, differences and what is registered, without a credential at any verbosity; and who is refused."""
    call = {"kubeconfig": str(rig.kubeconfig()), "owner": "role thing"}
    tasks = [
        {"flaskops.observability.objects": {**call, **present(*ALL)}, "register": "found", "check_mode": True},
        {"flaskops.observability.objects": {**call, **present(*ALL)}},
        {"flaskops.observability.objects": {**call, **present(*ALL)}, "register": "again"},
        {"flaskops.observability.objects": {**call, **GONE}, "register": "gone"},
        {
            "ansible.builtin.assert": {
                "that": ["found is changed and again is not changed", "again.requests.writes == 0", "gone.changes | length == 6"]
            }
        },
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = playbook(str(tmp_path / "play.yml"), "-vvv", "--diff", inventory=inventory_of(tmp_path, {"here": {}}))
    assert done.changed == 3
    assert leaks(done.stdout + done.stderr) == []
    assert "+++ after: Secret thing/thing" in done.stdout and "(changed)" not in done.stdout
    far = inventory_of(tmp_path, {"far": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1"}})
    assert (
        "the host far is reached by ssh: set ansible_connection to local"
        in playbook(str(tmp_path / "play.yml"), inventory=far).error
    )


def test_the_schedule_takes_the_namespace_of_an_application_that_is_gone(rig: Rig, tmp_path: Path) -> None:
    """As in site.yml, where it comes after the application."""
    spaces, options = "/api/v1/namespaces", {"verify_kubeconfig": str(rig.kubeconfig()), "verify_state": "absent"}
    for name, labels, gone in (("parted", {"app.kubernetes.io/managed-by": "flaskops"}, True), ("theirs", {}, False)):
        rig.request("POST", spaces, {"metadata": {"name": name, "labels": labels}})
        options |= {"verify_name": name, "verify_namespace": name}
        assert [run_role("verify", tmp_path, options).changed for _ in range(2)] == [int(gone), 0]
        assert (name in {item["metadata"]["name"] for item in rig.request("GET", spaces)["items"]}) is not gone
    rig.remove(f"{spaces}/theirs")


def test_a_port_of_a_container_by_hand(rig: Rig) -> None:
    """Server-side apply knows it by its number, so that it stays beside ours with the same name."""
    path, before = "/apis/apps/v1/namespaces/default/deployments/thing", seen(rig)
    containers = [{"name": "main", "image": "main:1", "ports": [{"name": "http", "containerPort": 5000}]}]
    template = {"metadata": {"labels": {"app": NAME}}, "spec": {"containers": containers}}
    app = {**APP, "metadata": {**HERE, "namespace": "default"}, "spec": {**APP["spec"], "template": template}}

    def run(check: bool = False, state: str = "present") -> list[str]:
        return list(State(Objects(rig.api), wish(present(app), check)).run(state)["changes"])

    def ports() -> list[int]:
        (container,) = rig.request("GET", path)["spec"]["template"]["spec"]["containers"]
        return [port["containerPort"] for port in container["ports"]]

    run()
    number = "/spec/template/spec/containers/0/ports/0/containerPort"
    rig.request("PATCH", path, [{"op": "replace", "path": number, "value": 5001}], "application/json-patch+json")
    assert run(check=True) == ["changed Deployment default/thing"] and ports() == [5001]
    assert run() == ["changed Deployment default/thing"] and ports() == [5000]
    assert run() == []
    run(state="absent")
    assert seen(rig) == before


def test_an_object_of_the_whole_cluster_that_names_a_namespace(rig: Rig) -> None:
    """As many write it; the server ignores the namespace."""
    role, before = {**ROLE, "metadata": {"name": NAME, "namespace": "default"}}, seen(rig)
    config = an("v1", "ConfigMap", {"name": NAME, "namespace": "default"})

    def run(state: str = "present") -> list[str]:
        return list(State(Objects(rig.api), wish(present(role, config), False)).run(state)["changes"])

    assert len(run()) == 2
    assert run() == [] and rig.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/thing")
    assert len(run("absent")) == 2
    assert seen(rig) == before


def test_a_key_of_a_secret_that_is_no_longer_wanted(rig: Rig) -> None:
    path, before = "/api/v1/namespaces/default/secrets/thing", seen(rig)

    def run(state: str = "present", **texts: str) -> list[str]:
        secret = an("v1", "Secret", {"name": NAME, "namespace": "default"}, stringData=texts)
        return list(State(Objects(rig.api), wish(present(secret), False)).run(state)["changes"])

    run(user="somebody", password=CANARY)
    assert run(user="somebody") == ["changed Secret default/thing"]
    assert list(rig.request("GET", path)["data"]) == ["user"]
    assert run(user="somebody") == []
    run("absent")
    assert seen(rig) == before


def test_a_difference_shows_no_copy_of_a_secret(rig: Rig) -> None:
    """As kubectl and others keep one of all that they apply, in an annotation."""
    meta, before = {"name": NAME, "namespace": "default"}, seen(rig)
    theirs = an("v1", "Secret", meta, stringData={"password": CANARY})
    notes = dict.fromkeys(("kubectl.kubernetes.io/last-applied-configuration", "kapp.k14s.io/original"), str(theirs))
    rig.request("POST", "/api/v1/namespaces/default/secrets", {**theirs, "metadata": {**meta, "annotations": notes}})
    secret = an("v1", "Secret", meta, stringData={"password": "another-one"})
    options = present(secret, adopt=True)
    for state, check in (("present", True), ("present", False), ("absent", False)):
        found = State(Objects(rig.api), wish(options, check)).run(state)
        assert found["changed"] and leaks(str(found)) == []
    assert seen(rig) == before
