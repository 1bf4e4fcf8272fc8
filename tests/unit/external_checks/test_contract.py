# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules send and read, field by field: one that the contract or the provider's document lacks fails a run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import maintenance as maintenance_module
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import modules
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.client import CheckError, ProviderError
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.reconciler import (
    Reconciler,
    Wanted,
    reconcile,
)
from fakes.support import edit, needs_documents, rename

from tests.fakes import documents
from tests.fakes.core import contract_of

from . import support
from .support import TAG, Bench, bench
from .test_check_modules import CASES, NEEDED, renamed

PROVIDERS = sorted(support.MODULES)
Journey = Callable[[Bench], None]


def life(case: tuple[Any, ...]) -> Journey:
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
    used: set[str | None] = set()
    with bench(provider) as made:
        for journey in journeys(provider):
            made.fake.reset()
            journey(made)
            used |= {request.operation for request in made.fake.requests}
            for request in made.fake.writes:
                found.update({(str(request.operation), field): journey for field in request.body or {}})
        made.fake.clear()
        made.run(f"{provider}_contact_info")
        made.run(f"{support.MODULES[provider]}_info", id=1)
        used |= {request.operation for request in made.fake.requests}
    assert used == set(contract_of(provider).operations), "the contract has the operations that are used, and no others"
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


def forget_pattern(schema: Any, field: str) -> None:
    """Take away the pattern by which a field without a name of its own is allowed."""
    for part in [*schema.get("allOf", []), *schema.get("anyOf", [])]:
        forget_pattern(part, field)
    if field not in schema.get("properties", {}) and f"{field}_renamed" not in schema.get("properties", {}):
        schema.pop("patternProperties", None)


# ---- answers of another form ---------------------------------------------------------------------------------------------

MISSING = object()
INSTEAD = (MISSING, None, [], {"a": 1}, "x", 7, ["x"])


def altered(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Each path in the value, what comes in its place there, and the whole that this makes."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(entries):
        for other in INSTEAD:
            changed = copy.copy(value)
            if other is MISSING:
                del changed[key]
            else:
                changed[key] = other
            yield (*path, key), other, changed
        for below, other, changed_part in altered(part, (*path, key)):
            changed = copy.copy(value)
            changed[key] = changed_part
            yield below, other, changed


class Answers:
    """Stands for the client: gives the answers of the fake, one of them altered."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def request(self, method: str, path: str, answer: type | None = None, **_: Any) -> Any:
        if f"{method} {path}" not in self.answers:
            raise ProviderError("The fake", f"{method} {path}", 404, "no such check")
        found = self.answers[f"{method} {path}"]
        if answer and not isinstance(found, answer):
            raise CheckError("The client has refused it")
        return found

    def clock(self) -> float:
        return support.Clock().now


FULL: dict[str, dict[str, Any]] = {
    "uptimerobot": {
        "keyword": "ok", "request_headers": {"X-One": "1"}, "http_username": "ann", "regions": ["na"], "tls_expiry_days": [7],
        "expected_status_codes": ["2xx"], "ip_version": "ipv4", "contacts": [{"contact": "On call"}],
    },
    "pingdom": {
        "keyword": "ok", "request_headers": {"X-One": "1"}, "http_username": "ann", "http_password": "hidden-1",
        "regions": ["NA"], "integrations": ["7"], "tls_expiry_days": 7, "check_timeout": 10, "alert_message": "look",
        "contacts": ["On call"],
    },
    "statuscake": {
        "keyword": "ok", "request_headers": {"X-One": "1"}, "regions": ["london"], "down_status_codes": ["500"],
        "user_agent": "one", "final_url": "https://a.test/", "contacts": ["On call"],
    },
}  # fmt: skip


@pytest.mark.parametrize("provider", PROVIDERS)
def test_answers_of_another_form_end_in_one_sentence(provider: str) -> None:
    """Whatever part of an answer is missing or something else: no trace, and our check isn't taken for somebody else's."""
    made_of = modules.PROVIDERS[provider]
    with bench(provider) as made:
        made.fake.add_contact("On call")
        assert not made.check(**FULL[provider], tags=["web"])["failed"]
        shop = {"provider": provider, "environment": "test", "checks": [{"name": "shop"}]}
        made.run("external_checks", **shop, maintenance="begin")
        made.fake.clear()
        made.check(True, **FULL[provider], interval=900)
        made.check(True, id=made.fake.find("shop"), interval=900)
        made.run("external_checks", True, **shop, maintenance="end")
        seen = {str(request): support.get(made, request) for request in made.fake.reads}

    def play(answers: dict[str, Any]) -> list[str]:
        engine = Reconciler(made_of(cast(Any, Answers(answers))), TAG, True, warn=print)
        options = copy.deepcopy({**support.BASE, **FULL[provider], "interval": 900, "state": "present"})
        for contact in options["contacts"]:
            if isinstance(contact, dict):
                contact.update(delay=0, repeat=0)
        (done,) = reconcile(engine, [modules.wanted_of(made_of, options)])
        for found in engine.provider.read_all(None):
            json.dumps(modules.seen(engine.provider, found))
        maintenance_module.run(engine, [Wanted("shop", {})], False, 60)
        return [*done.actions, done.error]

    assert play(seen) == ["update", ""]
    refused = 0
    for call, answer in seen.items():
        for path, other, changed in altered(answer):
            try:
                actions = play({**seen, call: changed})
            except CheckError as exc:
                support.check_sentence(f"{exc}.")
                refused += 1
                continue
            # Another name or tag, and an UptimeRobot without any monitor, are what somebody else's would be.
            is_other = {"name", "friendlyName"} & set(path) or (provider == "uptimerobot" and path[0] == "data" and len(path) < 3)
            is_other = is_other or ("tags" in path and (path[-1] != "tags" or other == ["x"]))
            assert "create" not in actions or is_other, (call, path, other)
    assert refused > 50
