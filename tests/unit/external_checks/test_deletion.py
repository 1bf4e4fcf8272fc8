# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deleted, and what never is: checks of other types, and a whole environment because a list came out empty."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.core import contract_of
from tests.fakes.documents import load
from tests.fakes.statuscake import stamp

from . import support
from .support import NULL, OTHER, ROOT, TAG, Bench, bench, get

PROVIDERS = sorted(support.MODULES)
SHOP = {"name": "shop", "url": "https://shop.example.com/h"}
MANAGED = {"uptimerobot": {"HTTP", "KEYWORD"}, "pingdom": {"http"}, "statuscake": {"HTTP", "HEAD"}}
# The list of all types in the provider's document: schema and property.
TYPES = {
    "uptimerobot": ("UpdateMonitorDto", "type"),
    "pingdom": ("CreateCheck", "type"),
    "statuscake": ("UptimeTest", "test_type"),
}
MISSING = "no type at all"
ODD = ["BRAND_NEW", "", None, 7, MISSING]  # what no document has, or has yet
# An option that can't be changed on a check that exists, and a neutral one that can't; Pingdom has none.
FIXED: dict[str, dict[str, Any]] = {
    "uptimerobot": {"keyword": "ok"},
    "statuscake": {"method": "HEAD"},
    "pingdom": {"interval": 60},
}
FIXED_IN_LIST = {"uptimerobot": {"keyword": "ok"}, "statuscake": {"statuscake": {"method": "HEAD"}}, "pingdom": {"interval": 60}}


def lst(made: Bench, *checks: dict[str, Any], check_mode: bool = False, **params: Any) -> dict[str, Any]:
    return made.run("external_checks", check_mode, provider=made.provider, environment="test", checks=list(checks), **params)


# Every way to ask for a deletion, or for what deletes or disturbs: db is the check of another type, and ours by its tag.
REFUSED: dict[str, Callable[[Bench, Any, bool], dict[str, Any]]] = {
    "absent by name": lambda made, key, dry: made.check(dry, name="db", url=None, state="absent"),
    "absent by id": lambda made, key, dry: made.check(dry, id=key, state="absent"),
    "absent by id and name": lambda made, key, dry: made.check(dry, id=key, name="db", environment="test", state="absent"),
    "absent in the list": lambda made, key, dry: lst(made, {"name": "db", "state": "absent"}, check_mode=dry),
    "absent in the list, all pruned": lambda made, key, dry: lst(
        made, {"name": "db", "state": "absent"}, prune=True, prune_all=True, check_mode=dry
    ),
    "recreate by name": lambda made, key, dry: made.check(dry, name="db", recreate=True, **FIXED[made.provider]),
    "recreate by id": lambda made, key, dry: made.check(dry, id=key, recreate=True, **FIXED[made.provider]),
    "recreate in the list": lambda made, key, dry: lst(
        made, {**SHOP, "name": "db", **FIXED_IN_LIST[made.provider]}, recreate=True, prune=True, check_mode=dry
    ),
    "maintenance begins": lambda made, key, dry: lst(made, {"name": "db"}, maintenance="begin", check_mode=dry),
    "maintenance ends": lambda made, key, dry: lst(made, {"name": "db"}, maintenance="end", check_mode=dry),
}


def documented(provider: str) -> list[str]:
    """All types of the provider's own document that aren't managed."""
    document = load(contract_of(provider).document)
    if document is None:
        return []
    schema, name = TYPES[provider]
    types = document.data["components"]["schemas"][schema]["properties"][name]["enum"]
    assert MANAGED[provider] < set(types)
    return sorted(set(types) - MANAGED[provider])


def tell_type(made: Bench, key: Any, shown: Any) -> None:
    """Have the provider show this type of a check, in its list and one by one; the fakes have only types of their documents."""
    field = "test_type" if made.provider == "statuscake" else "type"
    made.info(environment="test")
    made.info(id=key)
    for request, match in zip(made.fake.requests[-2:], (support.LIST[made.provider], f"GET */{key}"), strict=True):
        body = get(made, request)
        entries = body.get("checks") or body.get("data") or [body.get("check") or body]
        entry = next(item for item in (entries if isinstance(entries, list) else [entries]) if item["id"] == key)
        if shown == MISSING:
            del entry[field]
        elif made.provider == "pingdom" and match.endswith(f"/{key}"):
            entry[field] = {shown: {"port": 80}} if isinstance(shown, str) else shown
        else:
            entry[field] = shown
        made.fake.fail(match, status=200, body=body, times=None)
    made.fake.clear()


def walk(provider: str, shown: Any) -> None:
    """Take every path to a deletion with a check that is shown with this type: nothing is written, and the type is named."""
    named = shown if isinstance(shown, str) and shown not in ("", MISSING) else "unknown"
    for dry in (True, False):
        with bench(provider) as made:
            key = made.fake.seed(1, name="db", url="https://db.example.com/", tags=[TAG])[0]
            tell_type(made, key, shown)
            for path, call in REFUSED.items():
                result = call(made, key, dry)
                assert result["failed"] and named in result["msg"] and not result["changed"], (path, result)
                assert "type" in result["msg"] and str(key) in result["msg"], (path, result)
                assert made.fake.writes == [], path
        with bench(provider) as made:
            made.fake.seed(1, **SHOP)  # theirs
            key = made.fake.seed(1, name="db", url="https://db.example.com/", tags=[TAG])[0]
            ours = made.fake.seed(1, **SHOP, tags=[TAG])[0]
            tell_type(made, key, shown)
            result = lst(made, SHOP, prune=True, check_mode=dry)
            assert not result["failed"] and not result["changed"] and made.fake.writes == [], result
            kept_with_a_warning(result, key, named)
            result = lst(made, prune=True, prune_all=True, check_mode=dry, wait=False)
            assert not result["failed"] and [check["id"] for check in result["checks"]] == [ours], result
            kept_with_a_warning(result, key, named)
            assert [request.path.rpartition("/")[2] for request in made.fake.writes] == ([] if dry else [str(ours)])


def kept_with_a_warning(result: dict[str, Any], key: Any, kind: str) -> None:
    (warning,) = result["warnings"]
    assert "'db'" in warning and str(key) in warning and kind in warning and TAG in warning


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_type_of_the_documents_is_kept_on_every_path(provider: str) -> None:
    types = documented(provider)
    if not types:
        pytest.skip("FLASKOPS_SPECS is not set, so that the providers' lists of types aren't known")
    for shown in types:
        walk(provider, shown)


@pytest.mark.parametrize("shown", ODD)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_types_that_no_document_has_are_kept_on_every_path(provider: str, shown: Any) -> None:
    walk(provider, shown)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_managed_types_of_the_documents_can_be_deleted(provider: str) -> None:
    for shown in sorted(MANAGED[provider]):
        with bench(provider) as made:
            key = made.fake.seed(1, name="db", url="https://db.example.com/", tags=["theirs", TAG])[0]
            tell_type(made, key, shown)
            # It need not be of the environment: an id is as plain as one can ask.
            assert made.check(id=key, environment="other", state="absent")["actions"] == ["delete"] and made.fake.names() == []


@pytest.mark.parametrize("tag", [TAG, "x"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_check_of_another_type_of_the_fake(provider: str, tag: str) -> None:
    """As the provider stores and shows it, tagged as ours or not."""
    with bench(provider) as made:
        key = made.fake.seed(1, name="db port", tags=[tag], **OTHER[provider])[0]
        for dry in (True, False):
            result = made.check(dry, id=key, state="absent")
            assert result["failed"] and next(iter(OTHER[provider].values())) in result["msg"]
        assert lst(made, SHOP, prune=True)["changed"] and lst(made, SHOP, prune=True)["changed"] is False
        assert made.fake.names() == ["db port", "shop"]
        assert [request.method for request in made.fake.writes].count("DELETE") == 0


def test_one_place_deletes_checks() -> None:
    """What refuses other types can't be gone around; the second place ends maintenance windows."""
    folder = ROOT / "plugins"
    files = [*folder.glob("module_utils/external_checks/*.py"), *folder.glob("modules/*.py")]
    found = {path.name: len(re.findall(r"request\(\s*\"DELETE\"", path.read_text())) for path in files}
    assert {name: count for name, count in found.items() if count} == {"model.py": 1, "maintenance.py": 1}


# ---- lists that leave nothing -------------------------------------------------------------------------------------------

ELSEWHERE = {"uptimerobot": "pingdom", "pingdom": "statuscake", "statuscake": "uptimerobot"}


def leaving_nothing(provider: str) -> dict[str, list[dict[str, Any]]]:
    return {
        "empty": [],
        "for another provider": [{**SHOP, "providers": [ELSEWHERE[provider]]}, {"name": "b", "providers": []}],
        "absent": [{"name": "c", "state": "absent"}],
    }


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("case", ["empty", "for another provider", "absent"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_list_that_leaves_nothing_prunes_only_what_is_asked_for_twice(provider: str, case: str, dry: bool) -> None:
    checks = leaving_nothing(provider)[case]
    with bench(provider) as made:
        made.fake.seed(1, name="theirs", tags=["flaskops-test-2"])
        assert lst(made, *checks, prune=True, check_mode=dry)["changed"] is False, "nothing is there to be asked about"
        for name in "abc":
            made.fake.seed(1, name=name, tags=[TAG])
        before = made.fake.names()
        result = lst(made, *checks, prune=True, check_mode=dry)
        assert result["failed"] and not result["changed"] and "prune_all" in result["msg"] and TAG in result["msg"]
        assert "'a'" in result["msg"] and made.fake.writes == [] and made.fake.names() == before
        # Only the second word: nothing is pruned.
        alone = lst(made, *checks, prune_all=True, check_mode=dry)
        assert not alone["failed"] and {"a", "b", "theirs"} <= set(made.fake.names())
        both = lst(made, *checks, prune=True, prune_all=True, check_mode=dry)
        assert not both["failed"] and both["changed"]
        assert made.fake.names() == (before if dry else ["theirs"])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_list_of_null_is_no_empty_list(provider: str) -> None:
    with bench(provider) as made:
        made.fake.seed(1, name="a", tags=[TAG])
        for params in ({}, {"prune": True}, {"prune": True, "prune_all": True}, {"maintenance": "end"}):
            result = made.run("external_checks", provider=provider, environment="test", checks=NULL, **params)
            assert result["failed"] and "checks" in result["msg"] and made.fake.requests == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_empty_environment_is_refused(provider: str) -> None:
    with bench(provider) as made:
        made.fake.seed(1, name="a")
        for environment in ("", " ", "-"):
            result = made.run(
                "external_checks", provider=provider, environment=environment, checks=[], prune=True, prune_all=True
            )
            assert result["failed"] and "environment" in result["msg"] and made.fake.requests == []


# ---- maintenance windows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["pingdom", "statuscake"])
def test_a_window_that_comes_again_is_somebody_elses(provider: str) -> None:
    """Also under our name: ours are opened for one time only."""
    with bench(provider) as made:
        lst(made, SHOP)
        shop, now = made.fake.find("shop"), made.clock()
        common: dict[str, Any] = (
            {
                **{"description": TAG, "from": int(now), "to": int(now) + 600, "effectiveto": int(now) + 10**7},
                **{"recurrencetype": "week", "repeatevery": 1, "uptimeids": [shop]},
            }
            if provider == "pingdom"
            else {
                **{"name": TAG, "start_at": stamp(now), "end_at": stamp(now + 600), "timezone": "UTC"},
                **{"repeat_interval": "1w", "tests": [shop], "tags": []},
            }
        )
        key = made.fake.key(7)
        made.fake.maintenance[key] = {"id": key, **common}
        before = dict(made.fake.maintenance[key])
        assert lst(made, SHOP, maintenance="end")["changed"] is False
        assert lst(made, SHOP, maintenance="begin")["checks"][0]["actions"] == ["open window"]
        assert lst(made, SHOP, maintenance="end")["checks"][0]["actions"] == ["close window"]
        assert made.fake.maintenance[key] == before
