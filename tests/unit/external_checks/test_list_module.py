# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module external_checks: a whole list, with as few requests as the provider's list allows."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import client
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.status import check_states

from . import support
from .support import TAG, TOKEN, Bench, bench, specification

PROVIDERS = sorted(support.MODULES)
MANY = 500
PAGE = {"uptimerobot": 200, "pingdom": 25000, "statuscake": 100}


def listed(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "url": f"https://{name.replace(' ', '-')}.example.com/health", **more} for name in names]


def run(made: Bench, checks: list[dict[str, Any]], check_mode: bool = False, **params: Any) -> dict[str, Any]:
    made.fake.clear()
    return made.run("external_checks", check_mode, provider=made.provider, environment="test", checks=checks, **params)


def calls(made: Bench) -> dict[str, int]:
    """Number of requests by method and the first part of the path."""
    counted: dict[str, int] = {}
    for request in made.fake.requests:
        key = request.method + (" one" if request.path.count("/") > 1 else "")
        counted[key] = counted.get(key, 0) + 1
    return counted


@pytest.mark.parametrize("provider", PROVIDERS)
def test_five_hundred_checks(provider: str) -> None:
    """Pages of the list, one write a check; then pages, and one read a check only where the list has no keyword."""
    # What each provider allows its smallest paying customer.
    rates = {"uptimerobot": [(120, 60)], "pingdom": [(200, 60)], "statuscake": [(5, 1), (180, 60)]}[provider]
    with bench(provider, rate_limit=True, rates=rates) as made:
        checks = listed(*(f"shop {number}" for number in range(MANY)), keyword="ok")
        pages = -(-MANY // PAGE[provider])
        first = run(made, checks, api_max_wait=3600)
        assert not first["failed"], first["msg"]
        # UptimeRobot's list lags: it is read once more, to see that it has them all.
        confirm = pages if provider == "uptimerobot" else 0
        assert calls(made) == {"GET": 1 + confirm, "POST": MANY}
        assert first["calls"] == 1 + confirm + MANY and len(made.fake.checks) == MANY
        assert {request.status for request in made.fake.requests} <= {200, 201}
        # No request was refused, and none waited longer than it had to; a header's full seconds cost up to 1 s a window.
        slept, windows = sum(made.clock.slept), (first["calls"] - 1) // rates[-1][0]
        assert windows * rates[-1][1] <= slept <= windows * (rates[-1][1] + 1) + rates[-1][1]
        made.clock.advance(60)  # a new run knows nothing of the requests of the last one
        if provider == "uptimerobot":
            # The confirmation is all that can be spared.
            some = run(made, [*checks, *listed("one more")], wait=False, api_max_wait=3600)
            assert some["calls"] == pages + 1
            made.fake.remove(made.fake.find("one more"))
            made.clock.advance(60)
        again = run(made, checks, api_max_wait=3600)
        assert again["changed"] is False
        reads = {} if provider == "uptimerobot" else {"GET one": MANY}
        assert calls(made) == {"GET": pages, **reads}
        # Nothing is read one by one for what the list has.
        made.clock.advance(60)
        plain = run(made, [{"name": f"shop {number}", "interval": 300} for number in range(MANY)], api_max_wait=3600)
        assert plain["changed"] is False and calls(made) == {"GET": pages}


ID = "CONTACT"  # stands for the id of a contact that the fake has
# Neutral option, first value, second value, what goes with them, and the providers that can do it without a downgrade.
ALL = tuple(PROVIDERS)
NEUTRAL: list[tuple[str, Any, Any, dict[str, Any], tuple[str, ...]]] = [
    ("url", "https://a.example.com/", "https://b.example.com:8443/x?y=1", {}, ALL),
    ("interval", 300, 900, {}, ALL),
    ("timeout", 10, 20, {}, ALL),
    ("expected_status", ["200"], ["2xx", "304"], {}, ("uptimerobot", "statuscake")),
    ("keyword", "ok", "fine ✓", {}, ALL),
    ("keyword_match", "contains", "not_contains", {"keyword": "ok"}, ALL),
    ("request_headers", {"X-One": "1"}, {"X-One": "2", "x-two": "3"}, {}, ALL),
    ("secret_request_headers", {"X-Key": "hidden-1"}, {"X-Key": "hidden-2"}, {}, ALL),
    ("request_body", '{"a": "hidden-1"}', '{"a": "hidden-2"}', {}, ALL),
    ("http_username", "ann", "bob", {"http_password": "hidden-0"}, ("uptimerobot", "pingdom")),
    ("http_password", "hidden-1", "hidden-2", {"http_username": "ann"}, ("pingdom",)),
    ("tls_expiry_days", 7, 30, {}, ("uptimerobot", "pingdom")),
    ("tls_expiry_days", 7, 0, {"downgrade": ["tls_expiry_days"]}, ("statuscake",)),
    ("regions", ["europe"], ["north_america"], {}, ("uptimerobot", "pingdom")),
    ("contacts", [ID], [], {}, ALL),
    ("tags", ["one"], ["two"], {}, ALL),
    ("uptimerobot", {"method": "GET"}, {"method": "PUT"}, {}, ("uptimerobot",)),
    ("pingdom", {"alert_after": 2}, {"alert_after": 4}, {}, ("pingdom",)),
    ("statuscake", {"confirmations": 1}, {"confirmations": 3}, {}, ("statuscake",)),
]
LIVES = [(provider, *case[:4]) for case in NEUTRAL for provider in case[4]]


def told_then_done(made: Bench, actions: list[str], check: dict[str, Any], **params: Any) -> None:
    """Check mode writes nothing and tells what is then done; once more, nothing is left to do."""
    told = run(made, [check], True, **params)
    assert made.fake.writes == [], "check mode"
    done = run(made, [check], **params)
    assert not done["failed"], done["msg"]
    assert made.fake.writes != []
    for result in (told, done):
        assert [entry["actions"] for entry in result["checks"]] == [actions]
    assert told["diff"] == done["diff"] != {"before": {}, "after": {}}
    assert [entry.get("check") for entry in told["checks"]] == [entry.get("check") for entry in done["checks"]]
    assert "hidden-" not in told["raw"] + done["raw"]
    for check_mode in (True, False):
        again = run(made, [check], check_mode, **params)
        assert again["changed"] is False and again["diff"] == {"before": {}, "after": {}} and made.fake.writes == []


@pytest.mark.parametrize(("provider", "option", "first", "second", "needed"), LIVES, ids=[f"{c[0]}-{c[1]}" for c in LIVES])
def test_life_of_a_check_in_the_list(provider: str, option: str, first: Any, second: Any, needed: dict[str, Any]) -> None:
    """Create, repeat, change, repeat, pause, start, delete, delete again, each in check mode before."""
    with bench(provider) as made:
        contact = str(made.fake.add_contact("On call"))
        first = [contact if value == ID else value for value in first] if isinstance(first, list) else first
        needed = dict(needed)
        params = {"downgrade": needed.pop("downgrade", [])}
        needed = {name: value for name, value in needed.items() if name not in PROVIDERS or name == provider}
        before = {**listed("shop")[0], **needed, option: first}
        after = {**before, option: second}
        told_then_done(made, ["create"], before, **params)
        made.clock.advance(60)
        told_then_done(made, ["update"], after, **params)
        made.clock.advance(60)
        told_then_done(made, ["pause"], {**after, "state": "paused"}, **params)
        assert run(made, [after], **params)["changed"] is False, "present leaves it paused"
        told_then_done(made, ["start"], {**after, "state": "started"}, **params)
        made.clock.advance(60)
        told_then_done(made, ["delete"], {**after, "state": "absent"}, **params)
        assert made.fake.checks == {}


def test_the_lives_have_every_option_of_a_check() -> None:
    suboptions = set(specification("external_checks")["argument_spec"]["checks"]["options"])
    for provider in PROVIDERS:
        other = {name for name in PROVIDERS if name != provider}
        lacks = {"pingdom": {"expected_status"}, "statuscake": {"regions", "http_username", "http_password"}}
        lacks["uptimerobot"] = {"http_password"}
        tried = {case[0] for case in NEUTRAL if provider in case[4]}
        assert tried | lacks[provider] | other | {"name", "state", "providers", "maintenance"} == suboptions


@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_waiting_for_the_list(provider: str) -> None:
    with bench(provider) as made:
        run(made, listed("a", "b"), wait=False)
        assert calls(made) == {"GET": 1, "POST": 2}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_prune_keeps_to_the_environment(provider: str) -> None:
    with bench(provider) as made:
        made.fake.seed(1, name="theirs")
        made.fake.seed(1, name="production", tags=["flaskops-production"])
        made.fake.seed(1, name="longer", tags=["flaskops-test-2"])
        made.fake.seed(2, name="twice", tags=[TAG])
        run(made, listed("a", "b", "c"))
        kept = run(made, listed("a"))
        assert kept["changed"] is False and len(made.fake.checks) == 8
        told = run(made, listed("a", "d"), True, prune=True)
        assert made.fake.writes == []
        done = run(made, listed("a", "d"), prune=True)
        assert told["diff"] == done["diff"] and sorted(done["diff"]["before"]) == ["b", "c", "twice"]
        assert made.fake.names() == ["a", "d", "longer", "production", "theirs"]
        assert run(made, listed("a", "d"), prune=True)["changed"] is False
        assert run(made, [], prune=True, prune_all=True)["changed"] is True
        assert made.fake.names() == ["longer", "production", "theirs"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_one_bad_check_does_not_keep_the_others(provider: str) -> None:
    with bench(provider, min_interval=300) as made:
        made.fake.seed(1, name="gone from the list", tags=[TAG])
        checks = listed("a") + listed("bad", interval=60) + listed("c")
        result = run(made, checks, prune=True)
        assert result["failed"] and "'bad'" in result["msg"] and result["changed"]
        assert [bool(check.get("error")) for check in result["checks"]] == [False, True, False]
        # What can't be trusted to be whole is not pruned.
        assert made.fake.names() == ["a", "c", "gone from the list"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_token_that_may_not_write_is_not_tried_for_each_check(provider: str) -> None:
    with bench(provider) as made:
        made.fake.fail(support.CREATE[provider], status=403, times=None)
        result = run(made, listed(*"abcdefgh"))
        assert result["failed"] and "answered 403" in result["msg"] and len(made.fake.writes) == 3


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_outage_on_the_way_tells_what_was_done(provider: str) -> None:
    with bench(provider) as made:
        made.fake.fail(support.CREATE[provider], status=503, skip=2, times=None)
        result = run(made, listed("a", "b", "c", "d"))
        assert result["failed"] and "'c'" in result["msg"] and result["changed"]
        assert [check["actions"] for check in result["checks"]] == [["create"], ["create"], []]
        assert "answered 503" in result["checks"][2]["error"]
        made.heal()
        assert [check["name"] for check in run(made, listed("a", "b", "c", "d"))["checks"] if check["actions"]] == ["c", "d"]
        assert made.fake.names() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_states_in_a_list(provider: str) -> None:
    with bench(provider) as made:
        run(made, listed("a", "b", "c"))
        result = run(made, listed("a", state="paused") + listed("b", state="absent") + listed("c", state="started"))
        assert [check["actions"] for check in result["checks"]] == [["pause"], ["delete"], []]
        assert run(made, listed("a") + listed("b", state="absent"))["changed"] is False
        assert [check["actions"] for check in run(made, listed("a", state="started"))["checks"]] == [["start"]]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_the_named_providers_get_a_check(provider: str) -> None:
    with bench(provider) as made:
        run(made, listed("all") + listed("one", providers=["pingdom"]))
        assert made.fake.names() == (["all", "one"] if provider == "pingdom" else ["all"])


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        (listed("a", "a"), "twice in checks"),
        (listed(" "), "is empty"),
        (listed("a", regions=["south_america"]), "uptimerobot has no region"),
        ([{"name": "a", "url": "http://10.0.0.1/"}], "can't be reached from the internet"),
        ([{"name": "a", "url": "http://shop.default.svc/"}], "can't be reached from the internet"),
        ([{"name": "a", "url": "http://[fd00::1]/"}], "can't be reached from the internet"),
        ([{"name": "a", "url": "http://shop/"}], "can't be reached from the internet"),
        (listed("a", uptimerobot={"nonsense": 1}), "nonsense"),
        (listed("a", uptimerobot={"check_timeout": "long"}), "check_timeout"),
        (listed("a", uptimerobot={"http_password": "hidden-1"}), "kept secret"),
        ([{"name": "a"}], "needs a url"),
    ],
)
def test_refused_lists(checks: list[dict[str, Any]], words: str) -> None:
    with bench("uptimerobot") as made:
        result = run(made, checks)
        assert result["failed"] and words.lower() in result["msg"].lower()
        assert made.fake.writes == [] and made.fake.checks == {}


def test_nothing_is_sent_for_a_list_that_holds_what_cannot_be() -> None:
    with bench("pingdom") as made:
        result = run(made, listed("good") + listed("bad", interval=600))
        assert "no interval of 600 s" in result["msg"] and made.fake.requests == []


def test_private_addresses_on_request() -> None:
    with bench("uptimerobot") as made:
        assert run(made, [{"name": "a", "url": "http://10.0.0.1/"}], allow_private_urls=True)["changed"]
        # To remove one needs no permission.
        assert run(made, [{"name": "a", "url": "http://10.0.0.1/", "state": "absent"}])["changed"]
        assert made.fake.checks == {}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_own_options_of_a_provider(provider: str) -> None:
    own = {
        "uptimerobot": {"method": "POST", "check_timeout": "20"},
        "pingdom": {"alert_after": 4, "interval": "900"},
        "statuscake": {"regions": ["london"], "confirmations": "1"},
    }
    with bench(provider) as made:
        run(made, listed("a", regions=["europe"], **own))
        found = made.info(id=made.fake.find("a"))[0]
        for name, value in own[provider].items():
            assert found[name] == (int(value) if isinstance(value, str) and value.isdigit() else value)
        assert run(made, listed("a", regions=["europe"], **own))["changed"] is False


@pytest.mark.parametrize("provider", PROVIDERS)
def test_contacts_are_looked_up_once(provider: str) -> None:
    with bench(provider) as made:
        made.fake.add_contact("On call")
        run(made, listed("a", "b", "c", contacts=["On call"]), wait=False)
        lists = [request for request in made.fake.reads if "contact" in request.path or "integration" in request.path]
        assert (
            len(lists) == (0 if provider == "pingdom" else {"uptimerobot": 2, "statuscake": 1}[provider]) or provider == "pingdom"
        )
        assert len(made.fake.checks) == 3


@pytest.mark.parametrize("provider", ["pingdom", "statuscake"])
def test_maintenance_window(provider: str) -> None:
    with bench(provider) as made:
        assert run(made, listed("a", "b"), maintenance="begin")["changed"] is False
        run(made, listed("a", "b", "c"))
        told = run(made, listed("a", "b", "missing"), True, maintenance="begin")
        assert told["changed"] and made.fake.writes == []
        assert run(made, listed("a", "b", "missing"), maintenance="begin", maintenance_duration=600)["changed"]
        assert len(made.fake.maintenance) == 1
        window = next(iter(made.fake.maintenance.values()))
        assert sorted(map(str, window.get("uptimeids") or window.get("tests"))) == sorted(
            str(made.fake.find(name)) for name in ("a", "b")
        )
        # A second rollout has its own full time, and no second window.
        run(made, listed("a", "b"), maintenance="begin", maintenance_duration=1200)
        assert len(made.fake.maintenance) == 1
        assert run(made, listed("a", "b"), True, maintenance="end")["changed"] and made.fake.writes == []
        assert run(made, listed("a", "b"), maintenance="end")["changed"]
        made.clock.advance(1)
        assert run(made, listed("a", "b"), maintenance="end")["changed"] is False
        assert [check["paused"] for check in made.info()] == [False] * 3


@pytest.mark.parametrize("provider", ["pingdom", "statuscake"])
@pytest.mark.parametrize("kind", ["reset", "reset_after_write", "half_json", "empty"])
def test_a_maintenance_window_is_not_opened_twice(provider: str, kind: str) -> None:
    path = {"pingdom": "/maintenance", "statuscake": "/maintenance-windows"}[provider]
    with bench(provider) as made:
        run(made, listed("a"))
        made.fake.fail(f"POST {path}", kind=kind)
        assert run(made, listed("a"), maintenance="begin")["changed"] and len(made.fake.maintenance) == 1
        for call, status in ((f"GET {path}", 403), (f"PUT {path}/*", 404), (f"PUT {path}/*", 503), (f"POST {path}", 422)):
            made.fake.fail(call, status=status, times=None)
            result = run(made, listed("a"), maintenance="begin")
            assert result["failed"] == (not call.startswith("POST")) and len(made.fake.maintenance) == 1
            made.heal()
        assert run(made, listed("a"), maintenance="end")["changed"]
        made.clock.advance(1)
        assert run(made, listed("a"), maintenance="end")["changed"] is False


def test_maintenance_at_uptimerobot_is_a_pause() -> None:
    with bench("uptimerobot") as made:
        run(made, listed("a", "b") + listed("off", state="paused"))
        assert [c["actions"] for c in run(made, listed("a", "none"), maintenance="begin")["checks"]] == [["pause"]]
        assert run(made, listed("a", "none"), maintenance="begin")["changed"] is False
        ended = run(made, listed("a", "b") + listed("off", state="paused"), maintenance="end")
        assert [(check["name"], check["actions"]) for check in ended["checks"]] == [("a", ["start"]), ("b", [])]
        assert made.fake.names() == ["a", "b", "off"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_check_may_stay_out_of_maintenance(provider: str) -> None:
    with bench(provider) as made:
        run(made, listed("a"))
        assert run(made, listed("a", maintenance=False), maintenance="begin")["changed"] is False
        assert made.fake.writes == []


def test_maintenance_needs_whole_minutes() -> None:
    with bench("pingdom") as made:
        assert "steps of 60" in run(made, listed("a"), maintenance="begin", maintenance_duration=90)["msg"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_token_may_come_from_the_environment(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = {"uptimerobot": "UPTIMEROBOT_API_KEY", "pingdom": "PINGDOM_API_TOKEN", "statuscake": "STATUSCAKE_API_TOKEN"}[
        provider
    ]
    with bench(provider) as made:
        assert "api_token" in run(made, listed("a"), api_token=None)["msg"]
        monkeypatch.setenv(variable, TOKEN)
        assert run(made, listed("a"), api_token=None)["changed"]
        assert made.check(api_token=None)["changed"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_states_for_verify(provider: str) -> None:
    with bench(provider) as made:
        made.fake.seed(1, name="theirs")
        run(made, listed("up", "down", "new") + listed("off", state="paused"))
        made.fake.seed(2, name="twice", tags=[TAG])
        for name in ("up", "down"):
            made.fake.set_status(made.fake.find(name), name)
        made.fake.clear()
        names = ["up", "down", "off", "missing", "twice", "theirs"]
        found = check_states(provider, "test", names, TOKEN, made.fake.url)
        assert [entry["state"] for entry in found] == ["up", "down", "paused", "missing", "ambiguous", "missing"]
        assert found[0]["id"] == made.fake.find("up")
        assert [entry["name"] for entry in check_states(provider, "test", [], TOKEN, made.fake.url)] == [
            "down", "new", "off", "twice", "up",
        ]  # fmt: skip
        assert made.fake.writes == [] and len(made.fake.reads) == 2
        with pytest.raises(client.ProviderError) as failure:
            check_states(provider, "test", [], "wrong", made.fake.url)
        assert failure.value.status == 401 and "wrong" not in str(failure.value)


QUIET: dict[str, list[dict[str, Any]]] = {
    "uptimerobot": [
        {"status": "Paused"},
        {"enableNotificationsFor": "Up"},
        {"enableNotificationsFor": "None", "integration": True},
    ],
    "pingdom": [{"paused": True}],
    "statuscake": [{"email_addresses": []}],
}


@pytest.mark.parametrize(("provider", "quiet"), [(provider, quiet) for provider in PROVIDERS for quiet in QUIET[provider]])
def test_a_contact_that_tells_nobody_is_nobody(provider: str, quiet: dict[str, Any]) -> None:
    def told(made: Bench, *contacts: Any) -> bool:
        ids = [{"contact": str(one)} if provider == "uptimerobot" else str(one) for one in contacts]
        made.check(name="a", contacts=ids)
        (found,) = check_states(provider, "test", ["a"], TOKEN, made.fake.url, ask_contacts=True)
        return bool(found["alerts"])

    with bench(provider) as made:
        off, on = made.fake.add_contact("Off", **quiet), made.fake.add_contact("On")
        assert told(made, off) is False
        assert told(made, on) is True and told(made, off, on) is True


def test_a_team_tells_its_members() -> None:
    with bench("pingdom") as made:
        off, on = made.fake.add_contact("Off", paused=True), made.fake.add_contact("On")
        for members, told in (([off], False), ([off, on], True), ([], False)):
            team = made.fake.add_contact("Team", team=True, members=[{"id": member} for member in members])
            made.check(name="a", teams=[str(team)])
            (found,) = check_states("pingdom", "test", ["a"], TOKEN, made.fake.url, ask_contacts=True)
            assert found["alerts"] is told


def test_a_token_that_may_not_read_contacts_blames_nobody() -> None:
    with bench("pingdom") as made:
        made.check(name="a", contacts=[str(made.fake.add_contact("Off", paused=True))])
        asked = partial(check_states, "pingdom", "test", ["a"], TOKEN, made.fake.url, ask_contacts=True)
        made.fake.fail("GET */alerting/*", "status", status=403)
        assert asked()[0]["alerts"] is True
        made.fake.fail("GET */alerting/*", "status", status=500, times=None)
        with pytest.raises(client.ProviderError, match="500"):
            asked()
