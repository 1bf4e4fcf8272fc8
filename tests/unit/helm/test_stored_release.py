# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How releases are read and compared; on the cluster they are those that Helm wrote."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.helm import surroundings, workloads
from ansible_collections.flaskops.observability.plugins.module_utils.helm.chart import Chart
from ansible_collections.flaskops.observability.plugins.module_utils.helm.release import MARK, Release
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import difference, load_all
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError

DEPLOYED, UPGRADING = "2026-01-02T03:04:05.123456789Z", "2026-01-02T04:04:05Z"
MANIFEST = """\
---
# Source: chart/templates/a.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {sign: =}
---
apiVersion: batch/v1
kind: Job
metadata: {name: hook, annotations: {helm.sh/hook: pre-install}}
---
"""


class Server:
    """The requests that Release makes of an API server."""

    def __init__(self, *revisions: tuple[str, str], store: str = "secrets") -> None:
        self.store = store
        self.secrets: list[dict[str, Any]] = []
        for number, (status, manifest) in enumerate(revisions, 1):
            content = {
                "name": "stack",
                "version": number,
                "info": {"status": status, "last_deployed": DEPLOYED},
                "chart": {
                    "metadata": {"name": "chart", "version": f"1.0.{number}"},
                    "values": {"a": 1},
                    "templates": [{"name": "templates/a.yaml", "data": base64.b64encode(b"text").decode()}],
                },
                "config": {"replicas": number},
                "manifest": manifest,
            }
            packed = base64.b64encode(gzip.compress(json.dumps(content).encode()))
            if store == "secrets":
                packed = base64.b64encode(packed)
            labels = {"version": str(number), "status": status}
            name = f"sh.helm.release.v1.stack.v{number}"
            self.secrets.append({"metadata": {"name": name, "labels": labels}, "data": {"release": packed.decode()}})

    def request(self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None, kind: str = "") -> Any:
        folder = f"/api/v1/namespaces/monitoring/{self.store}"
        if method == "GET":
            assert query == {"labelSelector": "owner=helm,name=stack"}
            # An API server sorts by name, so that revision 10 comes before 2.
            return {"items": sorted(self.secrets, key=lambda secret: secret["metadata"]["name"]) if path == folder else []}
        found = [secret for secret in self.secrets if path == f"{folder}/{secret['metadata']['name']}"]
        if not found:
            raise ApiError(404, "not found")
        if method == "PATCH":
            assert kind == "application/merge-patch+json" and list(body) == ["metadata"]
            found[0]["metadata"]["labels"] |= body["metadata"]["labels"]
        else:
            self.secrets.remove(found[0])
        return {}


def release(*revisions: tuple[str, str]) -> Release:
    return Release(Server(*revisions), "monitoring", "stack")  # type: ignore[arg-type]


def test_no_release() -> None:
    assert release().info() == {"status": "absent"}
    assert release().manifest() == []


def test_newest_of_many_revisions() -> None:
    found = release(*[("superseded", "")] * 10, ("deployed", "")).info()
    assert (found["status"], found["revision"], found["chart_version"]) == ("deployed", 11, "1.0.11")
    assert (found["chart"], found["values"]) == ("chart", {"replicas": 11})
    assert found["age"] > 0


def test_manifest_is_that_of_the_deployed_revision_without_hooks() -> None:
    found = release(("deployed", MANIFEST), ("pending-upgrade", "kind: Other\nmetadata: {name: b}\n")).manifest()
    notes = {"meta.helm.sh/release-name": "stack", "meta.helm.sh/release-namespace": "monitoring"}
    # What Helm adds; Helm 4 applies on the server, and would lose it to an object that lacks it.
    metadata = {"name": "a", "labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": notes}
    assert found == [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"sign": "="}}]


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback"])
def test_unfinished_revision_is_forgotten(status: str) -> None:
    server = Server(("deployed", ""), (status, ""))
    assert Release(server, "monitoring", "stack").drop_pending() == "sh.helm.release.v1.stack.v2"  # type: ignore[arg-type]
    assert [secret["metadata"]["name"] for secret in server.secrets] == ["sh.helm.release.v1.stack.v1"]


@pytest.mark.parametrize("status", ["deployed", "failed", "uninstalling"])
def test_finished_revision_stays(status: str) -> None:
    server = Server((status, ""))
    assert Release(server, "monitoring", "stack").drop_pending() == ""  # type: ignore[arg-type]
    assert len(server.secrets) == 1


def test_digest_of_a_folder_is_that_of_the_release_made_of_it(tmp_path: Path) -> None:
    stored = release(("deployed", "")).info()["digest"]
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("name: chart\n")
    (tmp_path / "values.yaml").write_text("# a comment\na: 1\n")
    (tmp_path / "templates" / "a.yaml").write_text("text")
    assert Chart(tmp_path).digest == stored
    (tmp_path / "values.yaml").write_text("a: 2\n")
    assert Chart(tmp_path).digest != stored
    (tmp_path / "values.yaml").write_text("a: 1\n")
    (tmp_path / "templates" / "a.yaml").write_text("other")
    assert Chart(tmp_path).digest != stored


def test_digest_of_a_chart_without_values(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text("name: chart\n")
    without = Chart(tmp_path).digest
    (tmp_path / "values.yaml").write_text("# nothing\n")
    assert Chart(tmp_path).digest == without != ""


@pytest.mark.parametrize("store", ["secrets", "configmaps"])
def test_mark_of_a_release(store: str) -> None:
    """On every revision, for a rollback takes the labels of the one that it goes back to; in both of Helm's stores."""
    server = Server(("superseded", ""), ("deployed", ""), store=store)
    found = Release(server, "monitoring", "stack")  # type: ignore[arg-type]
    assert found.info()["marked"] is False and found.describe() == "chart chart 1.0.2, revision 2 of 2026-01-02 03:04 UTC"
    found.mark()
    assert found.marked()
    assert [secret["metadata"]["labels"]["flaskops/managed"] for secret in server.secrets] == ["true", "true"]


def test_newest_revision_decides_whose_a_release_is() -> None:
    server = Server(("superseded", ""), ("deployed", ""))
    server.secrets[0]["metadata"]["labels"] |= MARK
    assert Release(server, "monitoring", "stack").info()["marked"] is False  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "label", "known"),
    [
        ({"replicas": 1}, "flaskops", True),
        ({"replicas": 1}, "somebody", False),
        ({"replicas": 1}, "", False),
        ({"replicas": 2}, "flaskops", False),
        ({"replicas": 1, "more": 1}, "flaskops", False),
    ],
)
def test_release_from_before_the_mark_is_known_by_its_values_and_an_object(
    values: dict[str, Any], label: str, known: bool
) -> None:
    beside = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}

    class Beside(Server):
        def get(self, item: dict[str, Any], namespace: str) -> dict[str, Any] | None:
            assert (item, namespace) == (beside, "monitoring")
            return {"metadata": {"labels": {"app.kubernetes.io/managed-by": label}}} if label else None

    found = Release(Beside(("deployed", "")), "monitoring", "stack")  # type: ignore[arg-type]
    assert found.is_ours([{"values": values, "object": beside}]) is known
    assert not found.is_ours([])


AUTOSCALER = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}


@pytest.mark.parametrize(
    ("status", "items", "paths", "applied"),
    [
        (200, [AUTOSCALER], ["spec.paused"], 7),
        (403, [], ["spec.paused"], 7),
        (200, [], ["spec.paused", "spec.replicas"], 1),
    ],
)
def test_number_of_an_autoscaler_is_no_difference(
    status: int, items: list[dict[str, Any]], paths: list[str], applied: int
) -> None:
    item = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}}
    live: dict[str, Any] = {
        **item,
        "metadata": {"name": "web", "namespace": "monitoring"},
        "spec": {"replicas": 7, "paused": True},
    }

    class Scaled(Server):
        def compare(self, item: dict[str, Any], manager: str, namespace: str) -> dict[str, Any]:
            return {"item": item, "live": live, "paths": ["spec.paused", "spec.replicas"]}

        def each(self, function: Any, items: list[Any]) -> list[Any]:
            return [function(item) for item in items]

        def ask(self, path: str) -> tuple[int, dict[str, Any]]:
            return (status, {"items": items}) if "autoscaling" in path else (404, {})

    (found,) = Release(Scaled(("deployed", json.dumps(item))), "monitoring", "stack").compare()  # type: ignore[arg-type]
    assert (found["paths"], found["item"]["spec"]["replicas"]) == (paths, applied)


def meta(**more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", **more}}


def test_difference_names_the_paths() -> None:
    before = {**meta(), "spec": {"replicas": 1, "list": [{"a": 1}, {"b": 2}], "same": [1]}}
    after = {**meta(labels={"x": "y"}), "spec": {"replicas": 2, "list": [{"a": 1}, {"b": 3}], "same": [1]}}
    assert difference(before, after) == ["metadata.labels", "spec.list[1].b", "spec.replicas"]
    assert difference({**meta(), "items": [1]}, {**meta(), "items": [1, 2]}) == ["items"]


def test_difference_leaves_out_what_the_server_keeps() -> None:
    before = {**meta(resourceVersion="1", generation=1, managedFields=[1]), "status": {"ready": 1}}
    assert difference(before, meta(resourceVersion="2", generation=2)) == []


@pytest.mark.parametrize(
    ("before", "after", "said", "found"),
    [
        # An annotation that a webhook adds, to none, to others, and where an empty map is applied.
        (meta(), meta(annotations={"w": "1"}), meta(), []),
        (meta(annotations={"b": "1"}), meta(annotations={"b": "1", "w": "1"}), meta(annotations={"b": "1"}), []),
        (meta(), meta(annotations={"w": "1"}), meta(annotations={}), []),
        (meta(), meta(annotations={"w": "1"}), meta(annotations=None), []),
        (meta(), meta(annotations={"b": "1", "w": "1"}), meta(annotations={"b": "1"}), ["metadata.annotations.b"]),
        # A field that was applied before is the server's default now.
        ({**meta(), "spec": {"replicas": 3}}, {**meta(), "spec": {"replicas": 1}}, {**meta(), "spec": {}}, ["spec.replicas"]),
        # What goes had been applied before, or somebody has it back.
        (meta(annotations={"b": "1"}), meta(), meta(), ["metadata.annotations"]),
        (meta(annotations={"b": "1", "w": "1"}), meta(annotations={"w": "1"}), meta(), ["metadata.annotations.b"]),
        (meta(finalizers=["b", "w"]), meta(finalizers=["w"]), meta(), ["metadata.finalizers"]),
        # Elements of a list that others have part in.
        (
            {**meta(), "l": [{"n": "a", "v": 1}]},
            {**meta(), "l": [{"n": "a", "v": 2, "w": 1}]},
            {**meta(), "l": [{"n": "a", "v": 2}]},
            ["l[0].v"],
        ),
        (
            {**meta(), "l": [{"n": "w"}, {"n": "a", "v": 1}]},
            {**meta(), "l": [{"n": "w"}, {"n": "a", "v": 2}]},
            {**meta(), "l": [{"n": "a", "v": 2}]},
            ["l[1].v"],
        ),
        ({**meta(), "l": [1]}, {**meta(), "l": [1, 2]}, {**meta(), "l": [1, 2]}, ["l"]),
        (
            {**meta(), "l": [{"name": "w"}, {"name": "a"}]},
            {**meta(), "l": [{"name": "w", "v": 2}, {"name": "a"}]},
            {**meta(), "l": [{"name": "a"}, {"name": "w", "v": 2}]},
            ["l[0].v"],
        ),
        # An empty map that is gone, with the server's defaults too, a null, and a Secret's text.
        ({**meta(), "spec": {}}, {**meta(), "spec": {"tls": {"mode": "auto"}}}, {**meta(), "spec": {"tls": {}}}, ["spec.tls"]),
        ({**meta(), "data": {}}, {**meta(), "data": {"k": ""}}, {**meta(), "data": {"k": None}}, ["data.k"]),
        ({**meta(), "v": {"a": 1}}, {**meta(), "v": {"a": 1, "emptyDir": {}}}, {**meta(), "v": {"emptyDir": {}}}, ["v.emptyDir"]),
        (
            {**meta(), "data": {}},
            {**meta(), "data": {"k": "eA=="}},
            {**meta(), "kind": "Secret", "stringData": {"k": "x"}},
            ["data.k"],
        ),
        ({**meta(), "data": [1]}, {**meta(), "data": [1]}, {**meta(), "kind": "Odd", "data": [1], "stringData": {"k": "x"}}, []),
        (
            {**meta(), "data": {"k": "b2xk"}},
            {**meta(), "data": {"k": "bmV3"}},
            {**meta(), "kind": "Secret", "stringData": {"k": "new"}},
            ["data.k"],
        ),
    ],
)
def test_what_others_add_to_an_object_on_its_way_is_no_difference(
    before: dict[str, Any], after: dict[str, Any], said: dict[str, Any], found: list[str]
) -> None:
    assert difference(before, after, said=said) == found


def test_load_all_leaves_out_empty_documents() -> None:
    assert load_all("---\n---\na: =\n---\n") == [{"a": "="}]


def operated(available: str = "True", reconciled: str = "True", seen: int = 3) -> dict[str, Any]:
    conditions = [{"type": "Available", "status": available}, {"type": "Reconciled", "status": reconciled}]
    return {
        "kind": "Prometheus",
        "metadata": {"name": "k-prometheus", "namespace": "monitoring", "generation": 3},
        "spec": {},
        "status": {"conditions": [{**item, "observedGeneration": seen} for item in conditions]},
    }


@pytest.mark.parametrize(
    ("live", "ready"),
    [(operated(), True), (operated(available="False"), False), (operated(reconciled="False"), False), (operated(seen=2), False)],
)
def test_operated_object_leads_to_a_statefulset(live: dict[str, Any], ready: bool) -> None:
    expected = {"kind": "StatefulSet", "name": "prometheus-k-prometheus", "namespace": "monitoring", "ready": ready}
    assert workloads.workload(live) == expected


@pytest.mark.parametrize(
    ("kind", "spec", "status", "ready"),
    [
        ("Deployment", {"replicas": 2}, {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}, True),
        ("Deployment", {"replicas": 2}, {"updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1}, False),
        ("Deployment", {"replicas": 0}, {}, True),
        (
            "DaemonSet",
            {},
            dict.fromkeys(("desiredNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable"), 3),
            True,
        ),
        ("DaemonSet", {}, {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 2}, False),
    ],
)
def test_workload_is_ready(kind: str, spec: dict[str, Any], status: dict[str, Any], ready: bool) -> None:
    live = {"kind": kind, "metadata": {"name": "a", "namespace": "n", "generation": 1}, "spec": spec}
    assert workloads.ready({**live, "status": {**status, "observedGeneration": 1}}) is ready
    assert workloads.ready({**live, "status": {**status, "observedGeneration": 0}}) is False


def test_other_kinds_are_no_workloads() -> None:
    assert workloads.workload({"kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {}}) is None


def test_contents_of_secrets_are_told_as_hashes_only() -> None:
    class Secrets:
        def get(self, item: dict[str, Any], namespace: str) -> dict[str, Any] | None:
            assert namespace == "monitoring"
            data = {"a.yaml": base64.b64encode(b"text").decode()}
            return {"metadata": item["metadata"], "data": data} if item["metadata"]["name"] == "there" else None

    found = surroundings.secret_digests(Secrets(), "monitoring", ["there", "gone"])  # type: ignore[arg-type]
    assert found == {"there": {"a.yaml": hashlib.sha256(b"text").hexdigest()}}


@pytest.mark.parametrize(
    ("data", "authority"),
    [
        ({"ca.crt": "YQ==", "tls.crt": "Yg=="}, {"certs": "a"}),
        ({"tls.crt": "Yg=="}, {"certs": "b"}),
        ({"ca.crt": "", "tls.crt": "Yg=="}, {"certs": "b"}),
        ({"ca.crt": ""}, {}),
        (None, {}),
    ],
)
def test_a_certificate_that_came_without_its_authority_is_its_own(data: dict[str, str] | None, authority: dict[str, str]) -> None:
    class Secrets:
        def get(self, _item: dict[str, Any], _namespace: str) -> dict[str, Any] | None:
            return None if data is None else {"data": data}

    assert surroundings.authorities(Secrets(), "elastic", ["certs"]) == authority  # type: ignore[arg-type]


def test_who_runs_a_program_with_an_argument() -> None:
    def deployment(namespace: str, *arguments: str) -> dict[str, Any]:
        containers = [{"args": list(arguments)}, {}]
        return {"metadata": {"namespace": namespace, "name": "o"}, "spec": {"template": {"spec": {"containers": containers}}}}

    class Deployments:
        def resource(self, *_kind: str) -> tuple[str, bool]:
            return "deployments", True

        def request(self, _method: str, path: str, query: dict[str, str] | None) -> dict[str, Any]:
            assert path == "/apis/apps/v1/deployments" and query in (None, {"labelSelector": "a=b"})
            return {"items": [deployment("ours", "--a=1"), deployment("theirs", "--b", "--a=1"), deployment("others", "--a=2")]}

    def found(selector: str, argument: str) -> list[str]:
        return surroundings.running(Deployments(), "Deployment", selector, argument)  # type: ignore[arg-type]

    assert found("", "--a=1") == ["ours/o", "theirs/o"]
    assert found("a=b", "") == ["ours/o", "theirs/o", "others/o"]
