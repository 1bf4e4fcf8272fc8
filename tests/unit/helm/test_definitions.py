# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about one definition; that they are applied is shown on an API server."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.helm import definitions
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeError

KEY = "operator.prometheus.io/version"


def definition(version: str = "0.93.1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "probes.monitoring.coreos.com", "annotations": {KEY: version}},
        "spec": {"group": "monitoring.coreos.com", "versions": [{"name": "v1", "schema": {"enum": ["a", "b"]}}], **spec},
    }


def on_cluster(version: str = "0.93.1", **spec: Any) -> dict[str, Any]:
    """The same with what a server adds."""
    live = definition(version, conversion={"strategy": "None"}, **spec)
    live["metadata"] |= {"uid": "1", "resourceVersion": "7"}
    live["metadata"]["annotations"]["somebody/elses"] = "x"
    return live


def test_missing() -> None:
    assert definitions.decide(None, definition(), KEY) == ("apply", "missing")


def test_same_with_the_servers_defaults() -> None:
    assert definitions.decide(on_cluster(), definition(), KEY) == ("", "")


@pytest.mark.parametrize(
    ("live", "ours"), [("0.94.0", "0.93.1"), ("0.100.0", "0.93.1"), ("1.0", "0.93.1"), ("v0.93.2", "0.93.1")]
)
def test_newer_is_kept_even_where_it_differs(live: str, ours: str) -> None:
    assert definitions.decide(on_cluster(live, scope="Cluster"), definition(ours), KEY) == (
        "keep",
        f"{live} is newer than {ours}",
    )


@pytest.mark.parametrize("live", ["0.9.0", "0.92.0", "0.93.0"])
def test_older_is_replaced(live: str) -> None:
    assert definitions.decide(on_cluster(live), definition(), KEY) == ("apply", f"{live} to 0.93.1")


def test_changed_by_hand() -> None:
    live = on_cluster()
    live["spec"]["versions"][0]["schema"]["enum"].append("c")
    assert definitions.decide(live, definition(), KEY) == ("apply", "changed by hand")
    live = on_cluster()
    del live["spec"]["versions"][0]["schema"]
    assert definitions.decide(live, definition(), KEY) == ("apply", "changed by hand")


def test_without_a_version() -> None:
    live = on_cluster()
    del live["metadata"]["annotations"][KEY]
    assert definitions.decide(live, definition(), KEY) == ("apply", " to 0.93.1")


@pytest.mark.parametrize(
    ("live", "served"),
    [
        (None, False),
        ({}, False),
        ({"status": {"conditions": None}}, False),
        ({"status": {"conditions": [{"type": "Established", "status": "False"}]}}, False),
        ({"status": {"conditions": [{"type": "NamesAccepted", "status": "True"}]}}, False),
        ({"status": {"conditions": [{"type": "Established", "status": "True"}]}}, True),
    ],
)
def test_established(live: dict[str, Any] | None, served: bool) -> None:
    assert definitions.established(live) is served


def test_decision_changes_neither_side() -> None:
    live, ours = on_cluster(), definition()
    before = copy.deepcopy((live, ours))
    definitions.decide(live, ours, KEY)
    assert (live, ours) == before


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "flaskops" / "definitions"


def test_read_is_kept_by_content(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: CustomResourceDefinition\nspec: {a: 1}\n")
    first = definitions.read(str(tmp_path))
    (kept,) = cache.iterdir()
    assert definitions.read(str(tmp_path)) == first
    (tmp_path / "a.yaml").write_text("kind: CustomResourceDefinition\nspec: {a: 2}\n")
    assert definitions.read(str(tmp_path))[0]["spec"] == {"a": 2}
    kept.write_text("half a fi")
    (tmp_path / "a.yaml").write_text("kind: CustomResourceDefinition\nspec: {a: 1}\n")
    assert definitions.read(str(tmp_path)) == first


def test_read_takes_a_lone_equals_sign_and_leaves_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: CustomResourceDefinition\nspec: {enum: [!!str =, =, '!=']}\n---\nkind: Other\n---\n")
    assert definitions.read(str(tmp_path)) == [{"kind": "CustomResourceDefinition", "spec": {"enum": ["=", "=", "!="]}}]


def test_read_of_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match="holds no CustomResourceDefinition"):
        definitions.read(str(tmp_path))


def test_read_of_broken_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(KubeError, match=r"a.yaml can't be read as YAML") as error:
        definitions.read(str(tmp_path))
    assert "\n" not in str(error.value)


class Operated:
    """An API server with definitions of some groups, and objects of their kinds."""

    GROUPS = ("beat.k8s.elastic.co", "k8s.elastic.co", "example.com", "k8s.elastic.co.example.com")

    def __init__(self, items: list[tuple[str, str, dict[str, str]]]) -> None:
        self.items = items

    def each(self, function: Any, items: list[Any]) -> list[Any]:
        return [function(item) for item in items]

    def request(self, method: str, path: str, accept: str = "") -> Any:
        if path.endswith("/customresourcedefinitions"):
            names = {"kind": "Beat", "plural": "beats"}
            versions = [{"name": "v1", "served": False}, {"name": "v2", "served": True}]
            managers = ["flaskops", "helm", "flaskops", "flaskops"]
            return {
                "items": [
                    {
                        "metadata": {"name": f"beats.{group}", "managedFields": [{"manager": manager}]},
                        "spec": {"group": group, "names": names, "versions": versions},
                    }
                    for group, manager in zip(self.GROUPS, managers, strict=True)
                ]
            }
        assert path.endswith("k8s.elastic.co/v2/beats") and "PartialObjectMetadata" in accept
        found = [{"namespace": namespace, "name": name, "annotations": notes} for namespace, name, notes in self.items]
        return {"items": [{"metadata": meta} for meta in found] if path.startswith("/apis/beat") else []}


def of(release: str, namespace: str) -> dict[str, str]:
    return {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"mine/own", "mine/made", "other/made", "other/bare"}),
        ({"releases": ["r"], "namespace": "mine"}, {"mine/own", "other/made", "other/bare"}),
        (
            {"own": [{"kind": "Beat", "metadata": {"namespace": "mine", "name": "own"}}]},
            {"mine/made", "other/made", "other/bare"},
        ),
        (
            {"own": [{"kind": "Other", "metadata": {"namespace": "mine", "name": "own"}}]},
            {"mine/own", "mine/made", "other/made", "other/bare"},
        ),
        ({"kinds": ["Prometheus"]}, {"mine/made", "other/made"}),
        ({"kinds": ["Beat"]}, {"mine/own", "mine/made", "other/made", "other/bare"}),
    ],
)
def test_definitions_stay_for_what_somebody_needs(options: dict[str, Any], expected: set[str]) -> None:
    items = [("mine", "own", {}), ("mine", "made", of("r", "mine")), ("other", "made", of("r", "other")), ("other", "bare", {})]
    retired = definitions.Retired(Operated(items), "k8s.elastic.co", **options)  # type: ignore[arg-type]
    assert {name.removeprefix("Beat ") for name in retired.in_use()} == expected


@pytest.mark.parametrize(("manager", "groups"), [("", Operated.GROUPS[:2]), ("flaskops", Operated.GROUPS[:1])])
def test_definitions_of_a_group_and_those_below_it(manager: str, groups: tuple[str, ...]) -> None:
    retired = definitions.Retired(Operated([]), "k8s.elastic.co", manager)  # type: ignore[arg-type]
    assert [item["spec"]["group"] for item in retired.found] == list(groups) and not retired.in_use()
