# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""elastic_content against a server with state; the way through the Kubernetes API is left to tests/integration."""

from __future__ import annotations

import copy
import http.client
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils import elastic as ec
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeError

from tests.evaluation import evaluate
from tests.fakes.certificates import certificate
from tests.fakes.elastic import State, serve

PASSWORD = "canary-elastic-5e1f"
ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles/elastic_stack"
OPTIONS = {"elastic_stack_index": "logs-kubernetes", "elastic_stack_retention": "30d", "__elastic_stack_index_replicas": 1}
TEMPLATE: dict[str, Any] = yaml.safe_load(jinja2.Template((ROLE / "templates/index_template.yml.j2").read_text()).render(OPTIONS))
VIEW = {
    "type": "index-pattern",
    "id": "logs",
    "attributes": {"title": "logs-*", "name": "Logs", "timeFieldName": "@timestamp"},
    "references": [],
}
SEARCH = {
    "type": "search",
    "id": "shop",
    "attributes": {"title": "shop", "description": "Lines", "columns": ["message"], "kibanaSavedObjectMeta": {"a": "b"}},
    "references": [{"type": "index-pattern", "id": "logs", "name": "x"}],
}


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(state: State, tmp_path: Path) -> Iterator[Callable[..., ec.ElasticServer]]:
    """Make a client of a fresh server; its password and authority can be wrong."""
    pem, key = certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_text(pem)
    (tmp_path / "tls.key").write_text(key)
    fake = serve(state, 0, str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"), {"elastic": PASSWORD}, "127.0.0.1")

    def make(password: str = PASSWORD, authority: str = pem) -> ec.ElasticServer:
        made = ec.ElasticServer(None, "elastic", "logs-es-http", authority, password)

        def connect() -> http.client.HTTPConnection:
            context = ssl.create_default_context(cadata=authority)
            return http.client.HTTPSConnection("127.0.0.1", fake.server_port, timeout=10, context=context)

        made._connect = connect  # type: ignore[method-assign]
        return made

    yield make
    fake.shutdown()
    fake.server_close()


def test_template_is_written_once_and_repaired(server: Callable[..., ec.ElasticServer], state: State) -> None:
    client, wanted = server(), {"logs-kubernetes": TEMPLATE}
    assert ec.keep_templates(client, wanted, check=True) == ["index template logs-kubernetes"]
    assert state.templates == {}
    assert ec.keep_templates(client, wanted, check=False) == ["index template logs-kubernetes"]
    assert ec.keep_templates(client, wanted, check=False) == []
    state.templates["logs-kubernetes"]["template"]["mappings"]["properties"]["message"] = {"type": "keyword"}
    assert ec.keep_templates(client, wanted, check=True) == ["index template logs-kubernetes"]
    assert ec.keep_templates(client, wanted, check=False) == ["index template logs-kubernetes"]
    assert state.writes == ["PUT /_index_template/logs-kubernetes"] * 2


def test_retention_reaches_the_streams_that_exist(server: Callable[..., ec.ElasticServer], state: State) -> None:
    client = server()
    ec.keep_templates(client, {"logs-kubernetes": TEMPLATE}, check=False)
    for name in ("logs-kubernetes-default", "logs-kubernetes-shop"):
        state.stream(name)
    wanted = {"logs-kubernetes-*": "30d"}
    assert ec.keep_retention(client, wanted, check=False) == []
    wanted = {"logs-kubernetes-*": "7d"}
    expected = ["lifecycle of logs-kubernetes-default", "lifecycle of logs-kubernetes-shop"]
    assert ec.keep_retention(client, wanted, check=True) == expected
    assert ec.keep_retention(client, wanted, check=False) == expected
    assert ec.keep_retention(client, wanted, check=False) == []
    assert {item["lifecycle"]["data_retention"] for item in state.streams.values()} == {"7d"}


def test_no_stream_is_no_fault(server: Callable[..., ec.ElasticServer]) -> None:
    assert ec.keep_retention(server(), {"logs-kubernetes-*": "30d"}, check=False) == []


def test_saved_objects_are_imported_once_and_repaired(server: Callable[..., ec.ElasticServer], state: State) -> None:
    client, wanted = server(), [VIEW, SEARCH]
    assert ec.keep_saved_objects(client, wanted, check=True) == ["index-pattern logs", "search shop"]
    assert state.saved == {}
    assert ec.keep_saved_objects(client, wanted, check=False) == ["index-pattern logs", "search shop"]
    assert ec.keep_saved_objects(client, wanted, check=False) == []
    state.saved["search", "shop"]["attributes"]["title"] = "renamed"
    # Kibana rewrites what is no plain text.
    state.saved["index-pattern", "logs"]["attributes"]["fields"] = "[]"
    state.saved["search", "shop"]["attributes"].pop("columns")
    assert ec.keep_saved_objects(client, wanted, check=False) == ["search shop"]
    assert ec.keep_saved_objects(client, wanted, check=False) == []


def test_errors_are_one_sentence(server: Callable[..., ec.ElasticServer]) -> None:
    wrong = copy.deepcopy(TEMPLATE)
    wrong["template"]["lifecycle"]["data_retention"] = "soon"
    other, _key = certificate("127.0.0.1")
    cases: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: ec.keep_templates(server(), {"a": wrong}, check=False),
            "answers PUT /_index_template/a with 400 (failed to parse",
        ),
        (lambda: ec.keep_templates(server("wrong"), {"a": TEMPLATE}, check=False), "refuses the user elastic"),
        (lambda: ec.keep_templates(server(authority=other), {"a": TEMPLATE}, check=False), "its certificate is for that name"),
        (
            lambda: ec.keep_saved_objects(server(), [SEARCH], check=False),
            "Kibana does not take the saved objects: missing_references.",
        ),
    ]
    for call, text in cases:
        with pytest.raises(KubeError) as caught:
            call()
        assert text in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith(".")
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("Elasticsearch", {}, "was not looked at by the operator yet"),
        (
            "Elasticsearch",
            {"observedGeneration": 2, "phase": "ApplyingChanges", "health": "red"},
            "phase ApplyingChanges with health red",
        ),
        ("Elasticsearch", {"observedGeneration": 2, "phase": "Ready", "health": "yellow"}, ""),
        ("Kibana", {"observedGeneration": 1, "health": "green"}, "was not looked at by the operator yet"),
        ("Kibana", {"observedGeneration": 2, "health": "red"}, "has health red"),
        ("Kibana", {"observedGeneration": 2, "health": "green"}, ""),
    ],
)
def test_readiness(kind: str, status: dict[str, Any], text: str) -> None:
    found = ec.unready({"kind": kind, "metadata": {"generation": 2}, "status": status})
    assert text in found and bool(found) == bool(text)


def test_what_is_missing_is_named() -> None:
    assert ec.unready(None) == "does not exist"


def made(folder: Path, **given: Any) -> dict[str, Any]:
    """What the role makes of its options and of what it found out."""
    expressions = {name: f"__elastic_stack_{name}" for name in ("values", "kibana", "index_template")}
    expressions["datasource"] = "lookup('ansible.builtin.template', 'datasource.yml.j2') | from_yaml"
    return evaluate(folder, expressions, {"__elastic_stack_content": {"ca": "pem"}, **given}, ROLE)


def test_role_s_pods_pass_the_restricted_level_and_grafana_gets_the_password_that_was_given(tmp_path: Path) -> None:
    values = {"podSecurityContext": {"runAsUser": 7}, "replicaCount": 2}
    found = made(tmp_path, elastic_stack_values=values, elastic_stack_reader_password="a$B$$c")
    profile = {"type": "RuntimeDefault"}
    context = {"runAsNonRoot": True, "seccompProfile": profile, "runAsUser": 7}
    assert found["values"] == {"podSecurityContext": context, "replicaCount": 2}
    context = {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": profile}
    assert found["kibana"]["podTemplate"]["spec"]["securityContext"] == context
    # As Grafana reads it: it splits at $$, expands each part, and joins them with $.
    (source,) = yaml.safe_load(found["datasource"]["stringData"]["elasticsearch.yaml"])["datasources"]
    password = source["secureJsonData"]["basicAuthPassword"]
    assert "$".join(os.path.expandvars(part) for part in password.split("$$")) == "a$B$$c"


def test_no_value_of_a_line_is_too_long_for_the_index(tmp_path: Path) -> None:
    fields = made(tmp_path)["index_template"]["template"]["mappings"]["properties"]
    limits = {name: field.get("ignore_above") for name, field in fields.items() if field["type"] in ("keyword", "flattened")}
    # A term has at most 32766 bytes, and a character at most four.
    assert limits.pop("data") == 8000 and set(limits.values()) == {1024}


@pytest.mark.parametrize(("nodes", "given", "replicas"), [(1, None, "0"), (3, None, "1"), (3, 0, "0"), (3, 2, "2")])
def test_copies_follow_the_number_of_nodes_where_nobody_names_one(
    nodes: int, given: int | None, replicas: str, tmp_path: Path
) -> None:
    found = made(tmp_path, elastic_stack_nodes=nodes, elastic_stack_index_replicas=given)
    assert found["index_template"]["template"]["settings"]["index"]["number_of_replicas"] == replicas
