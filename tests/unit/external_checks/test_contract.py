# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules send and read, field by field: one that the contract or the provider's document lacks fails a run."""

from __future__ import annotations

import copy
import typing as t

import pytest
from fakes.support import edit, needs_documents, rename

from tests.fakes import documents
from tests.fakes.core import contract_of

from . import support
from .support import TAG, Bench, bench
from .test_check_modules import CASES, NEEDED, renamed

PROVIDERS = sorted(support.MODULES)
Journey = t.Callable[[Bench], None]


def life(case: tuple[t.Any, ...]) -> Journey:
    """A check that is made and changed as a line of the table of options says."""
    provider, option, first, second = case[:4]

    def play(made: Bench) -> None:
        ids = {old: str(made.fake.add_contact(f"Contact {old}", **({"team": True} if option == "teams" else {}))) for old in "78"}
        for value in (first, second):
            value = renamed(value, ids) if option in ("contacts", "teams") else value
            if made.check(**NEEDED.get((provider, option), {}), **{option: value})["failed"]:
                return

    return play


def login_and_states(made: Bench) -> None:
    for more in ({}, {"update_password": "always"}, {"state": "paused"}, {"state": "started"}, {"state": "absent"}):
        made.check(http_username="ann", http_password="hidden-1", **more)
    made.check(state="paused", name="paused from the start")


def maintenance(made: Bench) -> None:
    checks = [{"name": "shop", "url": "https://shop.example.com/"}]
    common = {"provider": made.provider, "environment": "test", "checks": checks}
    for more in ({}, {"maintenance": "begin"}, {"maintenance": "begin"}, {"maintenance": "end"}):
        made.run("external_checks", **common, **more)
        made.clock.advance(60)


def journeys(provider: str) -> list[Journey]:
    return [*(life(case) for case in CASES if case[0] == provider), login_and_states, maintenance]


def sent(provider: str) -> dict[tuple[str, str], Journey]:
    """Every operation and field that the modules send, and a journey on which they do."""
    found: dict[tuple[str, str], Journey] = {}
    with bench(provider) as made:
        for journey in journeys(provider):
            made.fake.reset()
            journey(made)
            for request in made.fake.writes:
                found.update({(str(request.operation), field): journey for field in request.body or {}})
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_field_that_the_contract_lacks_is_refused(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLASKOPS_SPECS", raising=False)
    whole = contract_of(provider)
    fields = sent(provider)
    assert len(fields) > 30
    with bench(provider, strict=False) as made:
        for (operation, field), journey in fields.items():
            body = whole.operations[operation]["body"]
            known = {name: part for name, part in body["properties"].items() if name != field}
            patterns = {} if field not in body["properties"] else body.get("patternProperties", {})
            made.fake.reset()
            made.fake.contract = less = copy.copy(whole)
            less._validators = {}
            less.operations = {
                **whole.operations,
                operation: {**whole.operations[operation], "body": {**body, "properties": known, "patternProperties": patterns}},
            }
            journey(made)
            assert any(field in text for text in made.fake.violations), (operation, field)


@needs_documents
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_field_that_the_document_calls_otherwise_is_refused(provider: str) -> None:
    contract = contract_of(provider)
    document = documents.load(contract.document)
    assert document
    with bench(provider, strict=False) as made:
        for (operation, field), journey in sent(provider).items():
            place = contract.operations[operation]["method"], contract.operations[operation]["path"]
            theirs = copy.deepcopy(document.operation(*place))
            for schema in theirs["body"].values():
                edit(schema, (field,), rename)
                forget_pattern(schema, field)
            made.fake.reset()
            made.fake.spec = documents.Document(document.data)
            made.fake.spec._cache[place] = theirs
            journey(made)
            assert any(field in text for text in made.fake.violations), (operation, field)


def forget_pattern(schema: t.Any, field: str) -> None:
    """Take away the pattern by which a field without a name of its own is allowed."""
    for part in [*schema.get("allOf", []), *schema.get("anyOf", [])]:
        forget_pattern(part, field)
    if field not in schema.get("properties", {}) and f"{field}_renamed" not in schema.get("properties", {}):
        schema.pop("patternProperties", None)


# ---- answers of another form ---------------------------------------------------------------------------------------------

MISSING = object()
INSTEAD = (MISSING, None, [], {"a": 1}, "x", 7, ["x"])


def altered(value: t.Any, path: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[tuple[t.Any, ...], t.Any]]:
    """The value with one part of it, at the path, missing or of another form; once for each part and form."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(entries):
        for other in INSTEAD:
            if other is MISSING and isinstance(value, list):
                continue
            changed = copy.copy(value)
            if other is MISSING:
                del changed[key]
            else:
                changed[key] = other
            yield (*path, key), changed
        for below, changed_part in altered(part, (*path, key)):
            changed = copy.copy(value)
            changed[key] = changed_part
            yield below, changed


FULL: dict[str, dict[str, t.Any]] = {
    "uptimerobot": {
        "keyword": "ok", "request_headers": {"X-One": "1"}, "http_username": "ann", "regions": ["na"], "tls_expiry_days": [7],
        "expected_status_codes": ["2xx"], "ip_version": "ipv4",
    },
    "pingdom": {
        "keyword": "ok", "request_headers": {"X-One": "1"}, "http_username": "ann", "http_password": "hidden-1",
        "regions": ["NA"], "integrations": ["7"], "tls_expiry_days": 7, "check_timeout": 10, "alert_message": "look",
    },
    "statuscake": {
        "keyword": "ok", "request_headers": {"X-One": "1"}, "regions": ["london"], "down_status_codes": ["500"],
        "user_agent": "one", "final_url": "https://a.test/",
    },
}  # fmt: skip


@pytest.mark.parametrize("provider", PROVIDERS)
def test_answers_of_another_form_end_in_one_sentence(provider: str) -> None:
    """Whatever part of an answer is missing or something else: no trace, no second check (bench.run looks at the sentence)."""
    contact = {"uptimerobot": [{"contact": "On call"}]}.get(provider, ["On call"])
    with bench(provider) as made:
        made.fake.add_contact("On call")
        assert not made.check(**FULL[provider], contacts=contact, tags=["web"])["failed"]
        made.run("external_checks", provider=provider, environment="test", checks=[{"name": "shop"}], maintenance="begin")
        made.fake.clear()
        wanted = {**FULL[provider], "contacts": contact, "interval": 900}
        made.check(True, **wanted)
        made.run("external_checks", True, provider=provider, environment="test", checks=[{"name": "shop"}], maintenance="end")
        seen = {str(request): support.get(made, request) for request in made.fake.reads}
        assert len(seen) >= 3
        tried = 0
        for call, answer in seen.items():
            for path, changed in altered(answer):
                made.heal()
                made.fake.fail(call, status=200, body=changed, times=None)
                if "maintenance" in call:
                    made.run(
                        "external_checks", True, provider=provider, environment="test", checks=[{"name": "shop"}],
                        maintenance="end",
                    )  # fmt: skip
                    continue
                result = made.check(True, **wanted, api_retries=0)
                made.run(f"{support.MODULES[provider]}_info", True, api_retries=0)
                tried += 1
                other = (
                    {"name", "friendlyName"} & set(path) or "tags" in path or (provider == "uptimerobot" and path == ("data",))
                )
                assert result["failed"] or "create" not in result["actions"] or other, (call, path, changed)
        assert tried > 100
        made.heal()
        assert [check["tags"] for check in made.info()] == [[TAG, "web"]]
