# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Providers that fail: no duplicate, no lost check, and one sentence that says what happened."""

from __future__ import annotations

from typing import Any

import pytest

from . import support
from .support import TAG, Bench, bench

PROVIDERS = sorted(support.MODULES)
ALWAYS = None
# Name, request that fails, how, what the module is told to do, and words of the failure, or nothing where it succeeds.
Fault = tuple[str, dict[str, str], dict[str, Any], str, str]
FAULTS: list[Fault] = [
    ("list 401", support.LIST, {"status": 401, "times": ALWAYS}, "create", "answered 401"),
    ("list 403", support.LIST, {"status": 403, "times": ALWAYS}, "create", "answered 403"),
    ("list 404", support.LIST, {"status": 404, "times": ALWAYS}, "create", "answered 404"),
    ("list 400", support.LIST, {"status": 400, "times": ALWAYS}, "create", "answered 400"),
    ("list 301", support.LIST, {"status": 301, "headers": {"Location": "http://127.0.0.1:1/"}}, "create", "a redirect"),
    ("list 429 with Retry-After", support.LIST, {"status": 429, "retry_after": 2}, "create", ""),
    ("list 429 without", support.LIST, {"status": 429, "times": 3}, "create", ""),
    ("list 429 for long", support.LIST, {"status": 429, "retry_after": 4000}, "create", "past api_max_wait=900"),
    ("list 429 always", support.LIST, {"status": 429, "times": ALWAYS}, "create", "past api_max_wait=900"),
    (
        "list 429 at a date",
        support.LIST,
        {"status": 429, "headers": {"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}},
        "create",
        "",
    ),
    ("list 429 nonsense", support.LIST, {"status": 429, "headers": {"Retry-After": "soon"}}, "create", ""),
    ("list 500", support.LIST, {"status": 500}, "create", ""),
    ("list 502 in HTML", support.LIST, {"status": 502, "body": "<html>Bad gateway</html>", "times": 2}, "create", ""),
    ("list 503 with Retry-After", support.LIST, {"status": 503, "retry_after": 7}, "create", ""),
    ("list 503 always", support.LIST, {"status": 503, "times": ALWAYS}, "create", "answered 503"),
    ("list 522", support.LIST, {"status": 522, "times": 2}, "create", ""),
    ("list 504 always on delete", support.LIST, {"status": 504, "times": ALWAYS}, "delete", "answered 504"),
    ("list time-out", support.LIST, {"kind": "timeout", "seconds": 2}, "create", ""),
    ("list reset", support.LIST, {"kind": "reset"}, "create", ""),
    ("list reset always", support.LIST, {"kind": "reset", "times": ALWAYS}, "create", "gave no answer"),
    ("list half", support.LIST, {"kind": "half_json"}, "create", ""),
    ("list half always", support.LIST, {"kind": "half_json", "times": ALWAYS}, "create", "not JSON"),
    ("list no JSON", support.LIST, {"kind": "malformed", "times": ALWAYS}, "create", "not JSON"),
    ("list HTML with 200", support.LIST, {"kind": "content_type", "times": ALWAYS}, "create", "not JSON"),
    ("list empty body", support.LIST, {"kind": "empty", "times": ALWAYS}, "create", "is empty"),
    ("list other shape", support.LIST, {"status": 200, "body": "[]", "times": ALWAYS}, "create", "not a JSON object"),
    ("list without entries", support.LIST, {"status": 200, "body": {}, "times": ALWAYS}, "create", "without a usable"),
    ("create 400", support.CREATE, {"status": 400, "times": ALWAYS}, "create", "answered 400"),
    ("create 401", support.CREATE, {"status": 401, "times": ALWAYS}, "create", "valid api_token"),
    ("create 402", support.CREATE, {"status": 402, "times": ALWAYS}, "create", "the plan"),
    ("create 403", support.CREATE, {"status": 403, "times": ALWAYS}, "create", "the plan"),
    ("create 409", support.CREATE, {"status": 409, "times": ALWAYS}, "create", "answered 409"),
    ("create 422", support.CREATE, {"status": 422, "times": ALWAYS}, "create", "answered 422"),
    ("create 429", support.CREATE, {"status": 429, "times": 2, "retry_after": 1}, "create", ""),
    ("create 500, not done", support.CREATE, {"status": 500}, "create", ""),
    ("create 500, but done", support.CREATE, {"status": 500, "after_write": True}, "create", ""),
    ("create 503 always", support.CREATE, {"status": 503, "times": ALWAYS}, "create", "answered 503"),
    ("create 524, but done", support.CREATE, {"status": 524, "after_write": True}, "create", ""),
    ("create time-out, not done", support.CREATE, {"kind": "timeout", "seconds": 2}, "create", ""),
    ("create time-out, but done", support.CREATE, {"kind": "timeout", "seconds": 2, "after_write": True}, "create", ""),
    ("create reset", support.CREATE, {"kind": "reset"}, "create", ""),
    ("create, reply lost", support.CREATE, {"kind": "reset_after_write"}, "create", ""),
    ("create, half a reply", support.CREATE, {"kind": "half_json"}, "create", ""),
    ("create, no JSON", support.CREATE, {"kind": "malformed"}, "create", ""),
    ("create, HTML with 200", support.CREATE, {"kind": "content_type"}, "create", ""),
    ("create, empty reply", support.CREATE, {"kind": "empty"}, "create", ""),
    ("update 404", support.UPDATE, {"status": 404, "times": ALWAYS}, "update", "was deleted"),
    ("update 409", support.UPDATE, {"status": 409, "times": ALWAYS}, "update", "answered 409"),
    ("update 422", support.UPDATE, {"status": 422, "times": ALWAYS}, "update", "answered 422"),
    ("update 429", support.UPDATE, {"status": 429, "retry_after": 1}, "update", ""),
    ("update 500", support.UPDATE, {"status": 500}, "update", ""),
    ("update 500 always", support.UPDATE, {"status": 500, "times": ALWAYS}, "update", "answered 500"),
    ("update time-out", support.UPDATE, {"kind": "timeout", "seconds": 2}, "update", ""),
    ("update, reply lost", support.UPDATE, {"kind": "reset_after_write"}, "update", ""),
    ("update, half a reply", support.UPDATE, {"kind": "half_json"}, "update", ""),
    ("update, then 503 once", support.UPDATE, {"status": 503, "after_write": True}, "update", ""),
    ("delete 403", support.DELETE, {"status": 403, "times": ALWAYS}, "delete", "answered 403"),
    ("delete 404", support.DELETE, {"status": 404, "after_write": True}, "delete", ""),
    ("delete 500", support.DELETE, {"status": 500}, "delete", ""),
    ("delete 500, but done", support.DELETE, {"status": 500, "after_write": True}, "delete", ""),
    ("delete, reply lost", support.DELETE, {"kind": "reset_after_write"}, "delete", ""),
]
# Reading one check, which UptimeRobot's full list makes needless.
READ_FAULTS: list[Fault] = [
    ("read 404", support.READ, {"status": 404, "times": ALWAYS}, "update", "was deleted"),
    ("read 500", support.READ, {"status": 500}, "update", ""),
    ("read half", support.READ, {"kind": "half_json"}, "update", ""),
    ("read other shape", support.READ, {"status": 200, "body": {}, "times": ALWAYS}, "update", "another form"),
]
CASES = [(provider, *fault) for provider in PROVIDERS for fault in FAULTS]
CASES += [(provider, *fault) for provider in ("pingdom", "statuscake") for fault in READ_FAULTS]
WANTED: dict[str, dict[str, Any]] = {"create": {}, "update": {"interval": 900, "keyword": ""}, "delete": {"state": "absent"}}


@pytest.mark.parametrize(
    ("provider", "name", "match", "fault", "action", "words"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES]
)
def test_fault(provider: str, name: str, match: dict[str, str], fault: dict[str, Any], action: str, words: str) -> None:
    short = {"api_timeout": 1} if "time-out" in name else {}
    with bench(provider) as made:
        if action != "create":
            assert not made.check()["failed"]
        made.fake.seed(2, name="other {i}", tags=[TAG])
        made.fake.clear()
        made.clock.slept.clear()
        made.fake.fail(match[provider], **fault)
        result = made.check(**WANTED[action], **short)
        if words:
            assert result["failed"] and words in result["msg"], result["msg"]
            assert made.fake.names().count("shop") <= 1
            if match is support.LIST:
                assert made.fake.writes == [], "a list that can't be read was taken for an empty one"
        else:
            assert not result["failed"], result["msg"]
            assert result["changed"] and made.fake.names().count("shop") == (action != "delete")
        assert sum(made.clock.slept) <= 900 + support.settle(provider) * 2
        recovered(made, action)


def recovered(made: Bench, action: str) -> None:
    """Once the provider works again one more run brings what was wanted, and another one has nothing to do."""
    made.heal()
    assert not made.check(**WANTED[action])["failed"]
    made.fake.clear()
    again = made.check(**WANTED[action])
    assert not again["failed"] and again["changed"] is False and made.fake.writes == []
    assert made.fake.names() == sorted(["other 0", "other 1"] + (["shop"] if action != "delete" else []))


def test_uptimerobot_says_404_to_what_it_did() -> None:
    with bench("uptimerobot") as made:
        made.fake.fail("POST /monitors", status=404, body={"message": "Monitor not found", "code": "000-004"}, after_write=True)
        assert made.check()["id"] == made.fake.find("shop")
        recovered_names = made.fake.names()
        assert recovered_names == ["shop"]


def test_uptimerobot_pause_fails_after_the_create() -> None:
    """What was done before the failure is told: the state of the run is `changed`."""
    with bench("uptimerobot") as made:
        made.fake.fail("POST /monitors/*/pause", status=500, times=ALWAYS)
        failed = made.check(state="paused")
        assert failed["failed"] and (failed["changed"], failed["actions"]) == (True, ["create"])
        failed = made.check(state="paused", interval=900)
        assert failed["failed"] and (failed["changed"], failed["actions"]) == (True, ["update"])
        made.heal()
        assert made.check(state="paused")["actions"] == ["pause"]
        made.fake.fail("POST /monitors/*/start", status=500, times=2)
        assert made.check(state="started")["actions"] == ["start"]
        assert made.fake.names() == ["shop"]


# Options of a check, and others for which the provider needs a new one.
RECREATED = {"uptimerobot": ({}, {"keyword": "ok"}), "statuscake": ({"method": "GET"}, {"method": "HEAD"})}


@pytest.mark.parametrize("provider", sorted(RECREATED))
@pytest.mark.parametrize("status", [400, 401, 403, 409, 429, 503])
def test_a_check_that_is_deleted_but_not_created_again(provider: str, status: int) -> None:
    old, new = RECREATED[provider]
    with bench(provider) as made:
        made.check(**old)
        made.fake.fail(support.CREATE[provider], status=status, times=ALWAYS)
        failed = made.check(**new, recreate=True)
        assert "was deleted to be created again, but is not yet" in failed["msg"]
        assert (failed["changed"], failed["actions"]) == (True, ["delete"])
        made.heal()
        assert made.check(**new)["actions"] == ["create"]
        assert made.check(**new)["changed"] is False and made.fake.names() == ["shop"]


@pytest.mark.parametrize("stale", [0, 1, 3])
@pytest.mark.parametrize("provider", sorted(RECREATED))
def test_a_reply_is_lost_while_a_check_is_created_again(provider: str, stale: int) -> None:
    """An old copy that still has the check that was deleted is no sign of the new one."""
    old, new = RECREATED[provider]
    with bench(provider, stale_reads=stale if provider == "uptimerobot" else 0) as made:
        before = made.check(**old)["id"]
        made.fake.fail(support.CREATE[provider], kind="reset_after_write")
        done = made.check(**new, recreate=True)
        assert done["actions"] == ["recreate"] and done["id"] == made.fake.find("shop") != before
        assert made.check(**new)["changed"] is False


@pytest.mark.parametrize("provider", PROVIDERS)
def test_clocks_that_differ(provider: str) -> None:
    """How long to wait goes by the provider's clock, whatever ours says."""
    with bench(provider, rate_limit=True, rates=[(2, 60)]) as made:
        made.time.time = lambda: made.clock() - 7200
        assert made.check()["actions"] == ["create"] and made.check()["changed"] is False
        made.fake.fail(support.LIST[provider], status=429, headers={"Retry-After": "Fri, 15 Jan 2027 08:05:00 GMT"})
        assert made.check()["changed"] is False
        assert sum(made.clock.slept) <= 400


def test_uptimerobot_reads_old_copies() -> None:
    """Two tasks in a row make one check although the list lags behind, and the second changes nothing."""
    with bench("uptimerobot", stale_reads=2) as made:
        assert made.check()["warnings"] == []
        assert made.check()["changed"] is False
        assert made.check(interval=900)["actions"] == ["update"]
        assert made.check(interval=900)["changed"] is False
        assert made.check(state="absent")["changed"] is True
        assert made.check(state="absent")["changed"] is False
        assert made.check()["actions"] == ["create"]
        assert made.fake.names() == ["shop"]


def test_uptimerobot_lost_reply_and_old_copies() -> None:
    with bench("uptimerobot", stale_reads=3) as made:
        made.fake.fail("POST /monitors", kind="reset_after_write")
        assert made.check()["changed"] is True
        assert made.fake.names() == ["shop"]


def test_uptimerobot_reads_a_monitor_by_the_list_where_it_must() -> None:
    with bench("uptimerobot") as made:
        found = made.check()["id"]
        made.fake.fail("GET /monitors/*", status=500, times=ALWAYS)
        assert made.check(id=found, interval=900)["actions"] == ["update"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_plan_limits_are_told_in_the_providers_words(provider: str) -> None:
    with bench(provider, plan="free", min_interval=300) as made:
        result = made.check(interval=60)
        assert result["failed"] and "answered 4" in result["msg"] and made.fake.names() == []
    with bench(provider, plan="free", max_checks=1) as made:
        made.fake.seed(1, name="other")
        result = made.check()
        assert result["failed"] and "answered 4" in result["msg"] and made.fake.names() == ["other"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_names_that_the_provider_wants_unique(provider: str) -> None:
    with bench(provider, unique_names=True) as made:
        made.fake.seed(1, name="shop")
        assert "409" in made.check()["msg"]
        assert made.fake.names() == ["shop"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_tokens_that_may_not(provider: str) -> None:
    with bench(provider, read_token="read-only-token") as made:
        assert "answered 403" in made.run(support.MODULES[provider], **{**support.BASE, "api_token": "read-only-token"})["msg"]
        assert "answered 401" in made.run(support.MODULES[provider], **{**support.BASE, "api_token": "wrong"})["msg"]
        assert made.fake.names() == []


def test_statuscake_says_403_without_json() -> None:
    with bench("statuscake", auth_status=403) as made:
        assert "answered 403" in made.run("statuscake_uptime_check", **{**support.BASE, "api_token": "wrong"})["msg"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_there_are_enough_cases(provider: str) -> None:
    """The list above, which every provider goes through; the tests below come on top of it."""
    assert len({case[1] for case in CASES if case[0] == provider}) >= 60


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ten_thousand_checks_of_ours(provider: str) -> None:
    """Every page is read, each once, and a name on the last one is found."""
    pages = {"uptimerobot": 50, "pingdom": 1, "statuscake": 100}[provider]
    with bench(provider) as made:
        made.fake.seed(9_999, name="mine {i}", tags=[TAG])
        assert made.check(wait=False if provider == "uptimerobot" else None)["actions"] == ["create"]
        made.fake.clear()
        assert made.check(name="mine 9998", url=None)["changed"] is False
        lists = [request for request in made.fake.requests if str(request) == support.LIST[provider]]
        assert len(lists) == pages and made.fake.writes == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ten_thousand_checks_of_others(provider: str) -> None:
    with bench(provider) as made:
        made.fake.seed(10_000, name="theirs {i}", tags=["theirs"])
        assert made.check()["actions"] == ["create"]
        assert made.check()["changed"] is False
        # Only ours are asked for.
        assert len(made.fake.reads) <= 4


@pytest.mark.parametrize("provider", PROVIDERS)
def test_pages(provider: str) -> None:
    with bench(provider, page_size=10) as made:
        made.fake.seed(95, name="mine {i}", tags=[TAG])
        made.fake.seed(1, name="shop", tags=[TAG], interval=900)
        assert made.check(url=None)["changed"] is False
        assert len([request for request in made.fake.reads if str(request) == support.LIST[provider]]) == 10


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("change", ["remove", "add"])
def test_a_list_that_changes_while_it_is_read(provider: str, change: str) -> None:
    with bench(provider, page_size=10) as made:
        ids = made.fake.seed(10, name="first {i}", tags=[TAG])
        made.fake.seed(1, name="shop", tags=[TAG])
        made.fake.seed(14, name="last {i}", tags=[TAG])

        def meddle() -> None:
            if change == "remove":
                made.fake.remove(ids.pop())
            else:
                made.fake.seed(1, name="new {i}", tags=[TAG])

        made.fake.after(support.LIST[provider], meddle)
        result = made.check()
        assert not result["failed"], result["msg"]
        assert "create" not in result["actions"] and made.fake.names().count("shop") == 1


@pytest.mark.parametrize("provider", ["pingdom", "statuscake"])
def test_a_list_that_never_stands_still(provider: str) -> None:
    with bench(provider, page_size=10) as made:
        ids = made.fake.seed(60, name="mine {i}", tags=[TAG])
        made.fake.after(support.LIST[provider], lambda: made.fake.remove(ids.pop(0)), times=None)
        result = made.check()
        assert result["failed"] and "changed each time" in result["msg"]
        assert made.fake.writes == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_check_that_goes_while_it_is_changed(provider: str) -> None:
    with bench(provider) as made:
        found = made.check()["id"]
        made.fake.after(support.LIST[provider], lambda: made.fake.remove(found))
        assert "meanwhile" in made.check(interval=900)["msg"]
        assert made.check(interval=900)["actions"] == ["create"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_rate_limits_are_kept_without_being_refused(provider: str) -> None:
    """The next request waits until the provider, which tells how many are left, takes it: none is refused."""
    with bench(provider, rate_limit=True, rates=[(3, 60)]) as made:
        checks = [{"name": f"shop {number}", "url": "https://shop.example.com/"} for number in range(8)]
        done = made.run("external_checks", provider=provider, environment="test", checks=checks)
        assert not done["failed"], done["msg"]
        assert [str(request) for request in made.fake.requests if request.status == 429] == []
        assert sum(made.clock.slept) >= 120


def test_nobody_listens() -> None:
    with bench("pingdom") as made:
        url = made.fake.url
    result = made.run("pingdom_check", **{**support.BASE, "api_url": url, "api_retries": 2})
    assert "gave no answer" in result["msg"] and made.clock.slept == [1.0, 2.0]
