# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our contracts against the providers' own documents, and proof that a change of either is noticed."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.support import CHECKS, CREATE, PROVIDERS, UPDATE, call, edit, everything, needs_documents, new, read, rename
from tests.fakes import FAKES, documents
from tests.fakes.core import Contract


def fields(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field that a schema of ours names; `[]` steps into a list."""
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            if part is not False:
                yield (*path, name)
                yield from fields(part, (*path, name))
        if "items" in schema:
            yield from fields(schema["items"], (*path, "[]"))


def retype(parent: dict[str, Any], name: str) -> None:
    kinds = documents.merged(parent["properties"][name])["types"]
    parent["properties"][name] = {"type": "boolean" if kinds & {"array", "object"} else "array"}


def shrink(parent: dict[str, Any], name: str) -> None:
    """Leave one value that we don't know in every enum."""
    part = parent["properties"][name]
    if documents.merged(part)["enum"]:
        parent["properties"][name] = {**part, "enum": ["only_this"]}


@needs_documents
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_document_bears_out_our_contract(provider: str) -> None:
    contract = Contract(provider)
    assert documents.compare(contract, documents.load(contract.document)) == []


@needs_documents
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("part", ["body", "answer"])
@pytest.mark.parametrize("change", [rename, retype, shrink])
def test_any_field_that_changes_in_the_document_is_noticed(provider: str, part: str, change: Any) -> None:
    contract, document = Contract(provider), documents.load(Contract(provider).document)
    tried, seen = 0, set()
    for operation in contract.operations.values():
        place = operation["method"], operation["path"]
        before = document.operation(*place)
        kinds = before["body"] if part == "body" else before["answers"][str(operation["status"])]
        mark = json.dumps([operation[part], kinds], sort_keys=True)
        if mark in seen:
            continue  # the same monitor is the answer of six operations
        seen.add(mark)
        one = copy.copy(contract)
        one.operations = {operation["name"]: operation}
        for path in set(fields(operation[part])):
            changed_kinds = copy.deepcopy(kinds)
            for schema in changed_kinds.values():
                edit(schema, path, change)
            if changed_kinds == kinds:
                continue  # no enum, or the document leaves open what is in there, like the config of a PATCH
            changed = documents.Document(document.data)
            changed._cache[place] = (
                {**before, "body": changed_kinds}
                if part == "body"
                else {**before, "answers": {str(operation["status"]): changed_kinds}}
            )
            assert any(path[-1] in sentence for sentence in documents.compare(one, changed)), (operation["name"], path)
            tried += 1
    assert tried > (0 if change is shrink else 20)


@needs_documents
@pytest.mark.parametrize("provider", PROVIDERS)
def test_operations_parameters_types_and_enums_that_change_in_the_document_are_noticed(provider: str) -> None:
    contract, document = Contract(provider), documents.load(Contract(provider).document)
    for operation in contract.operations.values():
        place = operation["method"], operation["path"]
        one = copy.copy(contract)
        one.operations = {operation["name"]: operation}
        gone = documents.Document({**document.data, "paths": {}})
        assert documents.compare(one, gone) == [f"{place[0]} {place[1]}: no such operation in the document"]
        for name, schema in operation["query"].items():
            theirs = copy.deepcopy(document.operation(*place))
            # A type that none of ours is, or an enum that holds none of ours.
            theirs["query"][name] = {"type": "object", "x-required": False}
            changed = documents.Document(document.data)
            changed._cache[place] = theirs
            assert documents.compare(one, changed), (place, name)
            del theirs["query"][name]
            assert f"the document has no parameter {name}" in documents.compare(one, changed)[0]
            if "enum" in schema:
                theirs["query"][name] = {**schema, "enum": schema["enum"][1:], "x-required": False}
                assert "doesn't know" in documents.compare(one, changed)[0]
        status = copy.deepcopy(document.operation(*place))
        status["answers"] = {"299": {}}
        changed = documents.Document(document.data)
        changed._cache[place] = status
        assert documents.compare(one, changed)[-1].endswith(f"the document has no answer {operation['status']}")


@needs_documents
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_field_that_is_new_required_or_renamed_in_ours_is_noticed(provider: str) -> None:
    contract, document = Contract(provider), documents.load(Contract(provider).document)
    body = contract.operations["create_check"]["body"]
    for name in set(body["required"]):
        dropped = {**body, "required": [other for other in body["required"] if other != name]}
        contract.operations["create_check"]["body"] = dropped
        assert any(f"request.{name}: required by the document" in text for text in documents.compare(contract, document)), name
    for path in set(fields(body)):
        changed = copy.deepcopy(body)
        edit(changed, path, rename)
        contract.operations["create_check"]["body"] = changed
        assert any(f"{path[-1]}_renamed" in text for text in documents.compare(contract, document)), path
    contract.operations["create_check"]["body"] = body
    assert documents.compare(contract, document) == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_request_field_dropped_from_our_contract_is_refused(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLASKOPS_SPECS", raising=False)
    with FAKES[provider](strict=False) as fake:
        key = new(fake)
        update = everything(fake)
        create = {**CREATE[provider], **update}
        if provider == "uptimerobot":
            create |= {"type": "KEYWORD", "keywordCaseType": "CaseInsensitive"}
            del create["gracePeriod"]  # which only a heartbeat has
        for operation, method, path, body in (
            ("update_check", UPDATE[provider], f"{CHECKS[provider]}/{key}", update),
            ("create_check", "POST", CHECKS[provider], create),
        ):
            names = set(Contract(provider).operations[operation]["body"]["properties"])
            other = {"shouldnotcontain", *(["gracePeriod"] if operation == "create_check" else [])}
            assert names - body.keys() <= other, "`everything` must have every field"
            assert call(fake, method, path, body).status in (200, 201, 204)
            assert fake.violations == []
            for name in names & body.keys():
                fake.contract = Contract(provider)
                del fake.contract.operations[operation]["body"]["properties"][name]
                assert call(fake, method, path, body).status == 400, (operation, name)
                assert name in fake.violations.pop()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_field_dropped_from_our_contract_is_loud(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLASKOPS_SPECS", raising=False)
    envelope = {"uptimerobot": [], "pingdom": ["check"], "statuscake": ["data"]}[provider]
    unseen = {"uptimerobot": set(), "pingdom": set(), "statuscake": {"port"}}[provider]
    with FAKES[provider](strict=False) as fake:
        key = new(fake)
        call(fake, UPDATE[provider], f"{CHECKS[provider]}/{key}", everything(fake))

        def item(contract: Contract) -> dict[str, Any]:
            schema = contract.operations["read_check"]["answer"]
            for name in envelope:
                schema = schema["properties"][name]
            return schema["properties"]

        shown = read(fake, key)
        assert item(Contract(provider)).keys() - shown.keys() <= unseen
        for name in shown:
            fake.contract = Contract(provider)
            del item(fake.contract)[name]
            query = "?include_teams=true" if provider == "pingdom" else ""
            assert call(fake, "GET", f"{CHECKS[provider]}/{key}{query}").status == 500, name
            assert name in fake.violations.pop()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_fake_has_every_operation_of_the_contract(provider: str) -> None:
    for name in Contract(provider).operations:
        assert callable(getattr(FAKES[provider], name))


def entries() -> list[dict[str, Any]]:
    return yaml.safe_load(documents.CORRECTIONS.read_text())


def test_corrections_say_what_and_why_and_begin_with_a_test() -> None:
    for entry in entries():
        assert set(entry) - {"absent"} == {"document", "operation", "what", "why", "patch"}
        assert all(entry[name] for name in entry)
        assert entry.get("absent") or entry["patch"][0]["op"] == "test"


@needs_documents
@pytest.mark.parametrize("number", range(len(entries())))
def test_each_correction_is_needed_and_applies(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entries()[number]
    provider = next(name for name in PROVIDERS if Contract(name).document == entry["document"])
    contract = Contract(provider)
    kept = [other for other in entries() if other["document"] == entry["document"]]
    raw = yaml.load((Path(os.environ["FLASKOPS_SPECS"]) / entry["document"]).read_text(), documents.Loader)
    monkeypatch.setattr(documents, "corrections", lambda name: kept)
    whole = documents.corrected(copy.deepcopy(raw), entry["document"])
    assert documents.compare(contract, documents.Document(whole)) == []
    with pytest.raises(ValueError, match="no longer applies"):
        documents.corrected(copy.deepcopy(whole), entry["document"])

    kept.remove(entry)
    without = documents.Document(documents.corrected(raw, entry["document"]))
    assert documents.compare(contract, without), entry["what"]


@needs_documents
@pytest.mark.parametrize("provider", PROVIDERS)
def test_requests_are_held_against_the_document_too(provider: str) -> None:
    """What our contract lets through and the document doesn't is refused, and counted as off the contract."""
    with FAKES[provider](strict=False) as fake:
        key = new(fake)
        assert fake.spec_checked == 1
        fake.contract = Contract(provider)
        operation = fake.contract.operations["update_check"]
        operation["body"] = {**operation["body"], "additionalProperties": True}
        answer = call(fake, UPDATE[provider], f"{CHECKS[provider]}/{key}", {"surprise": 1})
        assert answer.status == 400
        assert "surprise: is no field in the provider's document" in fake.violations[0]
