# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run promised, and how a cluster differs from it. tests/api/test_promise.py asks a real API server."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import load_all
from ansible_collections.flaskops.observability.plugins.module_utils.kube.promise import (
    DEFAULTS,
    agreed,
    departures,
    name_of,
    promise,
    promised,
)

from tests.toolchain import programs

Json = dict[str, Any]
CONTAINER = {
    "name": "web",
    "image": "web:1",
    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
    "ports": [{"name": "http", "containerPort": 5000}],
    "resources": {"limits": {"memory": "1Gi", "cpu": "1"}, "requests": {"memory": "1e3", "cpu": 0.7}},
}
DEPLOYMENT: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
    "spec": {"replicas": 2, "template": {"spec": {"containers": [CONTAINER], "volumes": [{"name": "tmp", "emptyDir": {}}]}}},
}
RULES: Json = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PrometheusRule",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"groups": [{"name": "a", "rules": [{"alert": "Down", "expr": "up == 0", "for": "5m"}]}]},
}
SECRET: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "shop"},
    "stringData": {"key": "CANARY"},
}
BOARD: Json = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "b", "namespace": "shop"},
    "data": {"b.json": "x" * 5000},
}


def kept(item: Json) -> Json:
    (found,) = promised(promise("role shop web", "shop", [item], {}))
    return found


def paths(item: Json, change: Callable[[Json], Any]) -> list[str]:
    live = copy.deepcopy(item)
    change(live)
    return [found.path for found in departures(kept(item), live)]


def container(live: Json) -> Json:
    found: Json = live["spec"]["template"]["spec"]["containers"][0]
    return found


def scaled(live: Json) -> None:
    live["spec"] |= {"replicas": 9, "strategy": {"type": "RollingUpdate"}}


def rewritten(live: Json) -> None:
    container(live)["resources"]["limits"] |= {"cpu": "1000m", "memory": "1024Mi"}
    container(live)["resources"]["requests"] |= {"cpu": "700m", "memory": "1k"}


SAME: list[tuple[Json, Callable[[Json], Any]]] = [
    (DEPLOYMENT, lambda live: None),
    (DEPLOYMENT, scaled),
    (DEPLOYMENT, rewritten),
    (DEPLOYMENT, lambda live: container(live)["env"][1].pop("value")),
    (DEPLOYMENT, lambda live: container(live)["env"].append({"name": "C", "value": "3"})),
    (DEPLOYMENT, lambda live: live["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy"})),
    (DEPLOYMENT, lambda live: live["spec"]["template"].update({"metadata": {"annotations": {"restartedAt": "now"}}})),
    (DEPLOYMENT, lambda live: container(live)["ports"][0].update({"protocol": "TCP"})),
    (RULES, lambda live: live["metadata"].update({"generation": 3})),
    (BOARD, lambda live: None),
]
DIFFERENT: list[tuple[Json, Callable[[Json], Any], str]] = [
    (DEPLOYMENT, lambda live: container(live).update({"image": "web:2"}), "spec.template.spec.containers[web].image"),
    (
        DEPLOYMENT,
        lambda live: container(live)["resources"]["requests"].update(cpu="7m"),
        "spec.template.spec.containers[web].resources.requests.cpu",
    ),
    (DEPLOYMENT, lambda live: container(live)["env"].pop(0), "spec.template.spec.containers[web].env[A]"),
    (DEPLOYMENT, lambda live: live["spec"]["template"]["spec"].pop("volumes"), "spec.template.spec.volumes"),
    (RULES, lambda live: live["spec"]["groups"][0]["rules"][0].update({"expr": "vector(0) > 1"}), "spec.groups[a].rules[0].expr"),
    (RULES, lambda live: live["spec"]["groups"][0]["rules"][0].update({"for": "365d"}), "spec.groups[a].rules[0].for"),
    (RULES, lambda live: live["spec"]["groups"][0]["rules"].clear(), "spec.groups[a].rules"),
    (RULES, lambda live: live["spec"].update({"groups": []}), "spec.groups[a]"),
    (RULES, lambda live: live.pop("spec"), "spec.groups"),
    (RULES, lambda live: live["spec"]["groups"][0]["rules"].append({"record": "x"}), "spec.groups[a].rules"),
    (BOARD, lambda live: live["data"].update({"b.json": "y" * 5000}), "data.b.json"),
    (BOARD, lambda live: live["data"].clear(), "data.b.json"),
]


@pytest.mark.parametrize(("item", "change"), SAME)
def test_what_the_server_and_others_may_add(item: Json, change: Callable[[Json], Any]) -> None:
    assert paths(item, change) == []


@pytest.mark.parametrize(("item", "change", "path"), DIFFERENT, ids=[f"{path}-{n}" for n, (*_rest, path) in enumerate(DIFFERENT)])
def test_what_differs_is_named(item: Json, change: Callable[[Json], Any], path: str) -> None:
    assert paths(item, change) == [path]


def test_what_is_gone() -> None:
    assert [(found.item["kind"], found.path) for found in departures(kept(RULES), None)] == [("PrometheusRule", "")]


def test_a_secret_is_promised_by_its_keys() -> None:
    assert "CANARY" not in json.dumps(promise("a", "shop", [SECRET], {}))
    assert departures(kept(SECRET), {**SECRET, "data": {"key": "b3RoZXI="}}) == []
    for emptied in ({}, {"key": ""}):
        assert [found.path for found in departures(kept(SECRET), {**SECRET, "data": emptied})] == ["data.key"]
    assert (
        departures(kept({**SECRET, "stringData": {"key": "CANARY", "empty": ""}}), {**SECRET, "data": {"key": "b3RoZXI="}}) == []
    )


def test_a_field_that_somebody_else_wrote_into_an_object_of_the_monitoring() -> None:
    ours = {"f:groups": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:rules": {}}}}
    theirs = {"f:groups": {'k:{"name":"a"}': {"f:partial_response_strategy": {}}}, "f:limit": {}}
    entries = [{"manager": "flaskops", "fieldsV1": {"f:spec": ours}}, {"manager": "kubectl-edit", "fieldsV1": {"f:spec": theirs}}]
    entries += [{"manager": "operator", "subresource": "status", "fieldsV1": {"f:status": {}}}]
    live = copy.deepcopy(RULES)
    live["spec"] |= {"groups": [{**RULES["spec"]["groups"][0], "partial_response_strategy": "warn"}], "limit": 5}
    live["metadata"]["managedFields"] = entries
    found = [(item.path, item.by) for item in departures(kept(RULES), live)]
    assert found == [("spec.groups[a].partial_response_strategy", "kubectl-edit"), ("spec.limit", "kubectl-edit")]
    live["metadata"]["managedFields"] = entries[:1]
    assert departures(kept(RULES), live) == []


MONITOR: dict[str, Any] = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "ServiceMonitor",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "endpoints": [{"port": "metrics", "metricRelabelings": [{"regex": "a"}]}],
        "limits": {"samples": 5},
        "prober": {"url": "x"},
    },
}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        # Changed and put back by hand, and completed by the server.
        ({}, ""),
        ({"endpoints": [{"port": "metrics", "metricRelabelings": [{"regex": "a", "action": "replace"}]}]}, ""),
        ({"limits": {"samples": 5}}, ""),
        ({"endpoints": [{"port": "metrics", "metricRelabelings": [{"regex": "a"}], "path": "/x"}]}, "spec.endpoints"),
        ({"endpoints": [{"port": "metrics", "metricRelabelings": [{"regex": "a"}, {"action": "drop"}]}]}, "spec.endpoints"),
        ({"endpoints": [{"port": "metrics", "metricRelabelings": [{"regex": "a", "action": "drop"}]}]}, "spec.endpoints"),
        ({"jobLabel": "team"}, "spec.jobLabel"),
        # As the server has an object that somebody deleted and made again.
        ({"prober": {"url": "x", "path": "/probe"}}, ""),
        ({"prober": {"url": "x", "path": "/other"}}, "spec.prober"),
        ({"portName": "web", "shards": 1, "paused": False}, ""),
    ],
)
def test_somebody_s_field_is_a_departure_where_it_says_more(change: dict[str, Any], path: str) -> None:
    live = copy.deepcopy(MONITOR)
    live["spec"] |= change
    theirs: dict[str, Any] = {f"f:{key}": {} for key in change or {"endpoints": 0}}
    if "prober" in change:
        theirs["f:prober"] = {"f:url": {}, "f:path": {}}
    live["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": {"f:spec": theirs}}]
    assert [item.path.split("[")[0].replace("prober.path", "prober") for item in departures(kept(MONITOR), live)] == (
        [path] if path else []
    )


def defaults(schema: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a schema that get a value of the server's, with it; volumes are those of pods."""
    if "default" in schema:
        yield name, schema["default"]
    for key, inner in (schema.get("properties") or {}).items():
        if key != "volumes":
            yield from defaults(inner, key)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from defaults(schema[key], name)


def test_every_value_that_the_definitions_give_is_known() -> None:
    found = set()
    for file in sorted((programs("prometheus-operator") / "crds").glob("*.yaml")):
        (definition,) = load_all(file.read_text())
        if definition["spec"]["names"]["kind"] not in ("ThanosRuler", "PrometheusAgent"):
            for version in definition["spec"]["versions"]:
                found |= set(defaults(version["schema"]["openAPIV3Schema"]["properties"]["spec"]))
    assert {pair for pair in found if pair[1] not in ("", False)} == set(DEFAULTS)


def test_a_promise_is_the_same_in_any_order() -> None:
    one, other = promise("a", "shop", [DEPLOYMENT, RULES], {}), promise("a", "shop", [RULES, DEPLOYMENT], {})
    assert one == other
    assert promised({"data": {"objects.json": "no json"}}) == [] == promised({})


def test_names() -> None:
    assert name_of("flask_app.shop.web") == "promise-flask-app.shop.web"


def test_only_what_the_server_took_is_promised() -> None:
    """A chart may have a field that the definitions of the cluster do not know, and a webhook may change another one."""
    wanted = {**RULES, "spec": {"groups": [{"name": "a"}], "unknown": 1, "inner": {"kept": "x", "changed": "y"}}}
    live = {**RULES, "spec": {"groups": [{"name": "a"}], "inner": {"kept": "x", "changed": "z"}}}
    assert agreed(wanted, live) == {**RULES, "spec": {"groups": [{"name": "a"}], "inner": {"kept": "x"}}}


def test_a_promise_fits_into_a_config_map() -> None:
    rules = [{**RULES, "metadata": {"name": f"r{n}", "namespace": "shop"}} for n in range(3)]
    rules[1] = {**rules[1], "spec": {"groups": [{"name": f"g{n}", "rules": [{"expr": "x" * 1900}]} for n in range(400)]}}
    found = promise("a", "shop", rules, {})
    assert len(found["data"]["objects.json"]) < 1_000_000
    assert [("spec" in item) for item in promised(found)] == [True, False, True]
    assert departures(promised(found)[1], rules[1]) == []
    assert [one.path for one in departures(promised(found)[1], None)] == [""]
