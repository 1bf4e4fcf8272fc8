# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for one check: a whole life against each fake, every option, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import modules

from . import support
from .support import BASE, TAG, TOKEN, Bench, bench

PROVIDERS = sorted(support.MODULES)
# Option, first value, second value; the fake's field that must hold the second one, and what it must hold.
FIELDS: dict[str, list[tuple[str, Any, Any, str, Any]]] = {
    "uptimerobot": [
        ("url", "https://a.test/x?y=1&z=2", "http://b.test:8080/", "url", "http://b.test:8080/"),
        ("interval", 300, 600, "interval", 600),
        ("check_timeout", 10, 45, "timeout", 45),
        ("method", "GET", "POST", "httpMethodType", "POST"),
        ("request_headers", {"X-One": "1"}, {"X-Two": "2", "x-three": "3"}, "customHttpHeaders", None),
        ("request_headers", {"X-One": "1"}, {}, "customHttpHeaders", None),
        ("secret_request_headers", {"X-Key": "hidden-1"}, {"X-Key": "hidden-2"}, "customHttpHeaders", None),
        ("request_body", '{"a": 1}', '{"a": 2, "b": [1]}', "postValueData", {"a": 2, "b": [1]}),
        ("http_username", "ann", "bob", "httpUsername", "bob"),
        ("http_username", "ann", "", "authType", "NONE"),
        ("keyword", "ok", "fine ✓", "keywordValue", "fine ✓"),
        ("keyword_match", "contains", "not_contains", "keywordType", "ALERT_EXISTS"),
        ("keyword_case_sensitive", False, True, "keywordCaseType", 0),
        ("expected_status_codes", ["204"], [], "successHttpResponseCodes", ["2xx", "3xx"]),
        ("expected_status_codes", ["2xx"], ["204", "200"], "successHttpResponseCodes", None),
        ("tags", ["One"], ["two", "Drei"], "tagNames", None),
        ("tags", ["one"], [], "tagNames", None),
        ("contacts", [{"contact": "7", "delay": 60}], [{"contact": "7"}, {"contact": "8", "repeat": 120}], "", None),
        ("contacts", [{"contact": "7"}], [], "assignedAlertContacts", []),
        ("regions", ["na"], ["eu", "as"], "", None),
        ("tls_expiry_days", [7], [30, 1], "", None),
        ("tls_expiry_days", [7], [], "sslExpirationReminder", False),
        ("verify_certificate", True, False, "checkSSLErrors", False),
        ("domain_expiry_reminder", False, True, "domainExpirationReminder", True),
        ("redirects", True, False, "followRedirections", False),
        ("ip_version", "ipv4", "ipv6", "", None),
    ],
    "pingdom": [
        ("url", "https://a.test/x?y=1&z=2", "http://b.test:8080/", "port", 8080),
        ("url", "https://a.test:8443/", "https://a.test/", "port", 443),
        ("interval", 300, 900, "resolution", 15),
        ("check_timeout", 10, 20, "responsetime_threshold", 20000),
        ("request_headers", {"X-One": "1"}, {"X-Two": "2", "x-three": "a:b"}, "", None),
        ("request_headers", {"X-One": "1"}, {}, "", None),
        ("secret_request_headers", {"X-Key": "hidden-1"}, {"X-Key": "hidden-2"}, "", None),
        ("request_body", "a=1", "a=2&b=ü", "postdata", "a=2&b=ü"),
        ("keyword", "ok", "fine ✓", "shouldcontain", "fine ✓"),
        ("keyword", "ok", "", "", None),
        ("keyword_match", "contains", "not_contains", "shouldnotcontain", "ok"),
        ("http_username", "ann", "bob", "auth", "bob:hidden-0"),
        ("http_password", "hidden-1", "hidden-2", "auth", "ann:hidden-2"),
        ("tags", ["one"], ["two", "drei"], "", None),
        ("tags", ["one"], [], "", None),
        ("contacts", ["7"], ["8", "7"], "", None),
        ("teams", ["7"], ["8"], "", None),
        ("teams", ["7"], [], "", None),
        ("integrations", ["7"], ["9", "8"], "integrationids", [8, 9]),
        ("regions", ["NA"], ["EU", "APAC"], "", None),
        ("regions", ["NA"], [], "probe_filters", []),
        ("verify_certificate", True, False, "verify_certificate", False),
        ("tls_expiry_days", 7, 30, "ssl_down_days_before", 30),
        ("tls_expiry_days", 7, 0, "ssl_down_days_before", 0),
        ("ipv6", False, True, "ipv6", True),
        ("alert_after", 2, 4, "sendnotificationwhendown", 4),
        ("alert_again_every", 0, 3, "notifyagainevery", 3),
        ("alert_when_up", True, False, "notifywhenbackup", False),
        ("alert_message", "look", "look twice", "custom_message", "look twice"),
    ],
    "statuscake": [
        ("url", "https://a.test/x?y=1&z=2", "http://b.test:8080/", "website_url", "http://b.test:8080/"),
        ("interval", 300, 900, "check_rate", 900),
        ("check_timeout", 10, 20, "timeout", 20),
        ("method", "GET", "HEAD", "test_type", "HEAD"),
        ("request_headers", {"X-One": "1"}, {"X-Two": "2", "x-three": "3"}, "", None),
        ("request_headers", {"X-One": "1"}, {}, "", None),
        ("secret_request_headers", {"X-Key": "hidden-1"}, {"X-Key": "hidden-2"}, "", None),
        ("request_body", "a=1", "a=2&b=ü", "post_raw", "a=2&b=ü"),
        ("keyword", "ok", "fine ✓", "find_string", "fine ✓"),
        ("keyword", "ok", "", "", None),
        ("keyword_match", "contains", "not_contains", "do_not_find", True),
        ("keyword_in_headers", False, True, "include_header", True),
        ("down_status_codes", ["500"], ["502", "404"], "", None),
        ("tags", ["one"], ["two", "drei"], "", None),
        ("tags", ["one"], [], "tags", [TAG]),
        ("contacts", ["7"], ["8", "7"], "", None),
        ("contacts", ["7"], [], "contact_groups", []),
        ("regions", ["london"], ["frankfurt", "sydney"], "", None),
        ("tls_alert", False, True, "enable_ssl_alert", True),
        ("redirects", False, True, "follow_redirects", True),
        ("final_url", "https://a.test/end", "https://b.test/end", "final_endpoint", "https://b.test/end"),
        ("confirmations", 2, 3, "confirmation", 3),
        ("trigger_delay", 60, 300, "trigger_rate", 5),
        ("user_agent", "one", "two", "user_agent", "two"),
        ("cookies", False, True, "use_jar", True),
    ],
}
CASES = [(provider, *case) for provider, cases in FIELDS.items() for case in cases]
# What an option can't do without.
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    ("uptimerobot", "keyword_match"): {"keyword": "ok"},
    ("uptimerobot", "keyword_case_sensitive"): {"keyword": "ok"},
    ("pingdom", "keyword_match"): {"keyword": "ok"},
    ("pingdom", "http_username"): {"http_password": "hidden-0"},
    ("pingdom", "http_password"): {"http_username": "ann"},
    ("statuscake", "keyword_match"): {"keyword": "ok"},
    ("statuscake", "keyword_in_headers"): {"keyword": "ok"},
    ("statuscake", "method"): {"recreate": True},
}


def renamed(contacts: list[Any], ids: dict[str, str]) -> list[Any]:
    """The contacts of the table with the ids that the fake gave."""
    return [{**item, "contact": ids[item["contact"]]} if isinstance(item, dict) else ids[item] for item in contacts]


def same_without_writing(made: Bench, **params: Any) -> None:
    """The same options again change nothing and write nothing."""
    made.fake.clear()
    again = made.check(**params)
    assert again["changed"] is False and again["actions"] == [], again
    assert again["diff"] == {"before": {}, "after": {}}
    assert made.fake.writes == []


def seen(made: Bench, check_id: Any) -> dict[str, Any]:
    """The check in the words of the module's options, as the provider itself shows it; nothing where there is none."""
    details = {} if made.provider == "uptimerobot" else {"details": True}
    found = [check for check in made.info(**details) if check["id"] == check_id]
    return {name: value for name, value in found[0].items() if name not in ("id", "type", "status")} if found else {}


def comparable(made: Bench, option: str, value: Any) -> Any:
    """A value as the provider's checks are compared; of headers and secrets only the names, since the rest is masked."""
    if option == "request_headers":
        return sorted(value)
    return True if "***" in str(value) else made.provider_object.normal(option, value)


def predicted_then_done(made: Bench, **params: Any) -> dict[str, Any]:
    """Check mode writes nothing and tells exactly what the real run then does; the diff is what changed at the provider."""
    name = params.get("name", BASE["name"])
    old_id = params.get("id") or next((check["id"] for check in made.info(environment="test") if check["name"] == name), None)
    old = seen(made, old_id)
    before = {key: dict(value) for key, value in made.fake.checks.items()}
    made.fake.clear()
    told = made.check(True, **params)
    assert made.fake.writes == [] and made.fake.checks == before
    done = made.check(**params)
    assert not done["failed"], done["msg"]
    for part in ("changed", "actions", "diff", "check"):
        assert told[part] == done[part], part
    new = {} if done["actions"] == ["delete"] else seen(made, done["id"])
    for side, shown in (("before", old), ("after", new)):
        for option, value in done["diff"][side].items():
            if option in made.provider_object.write_only or (value == [] and option not in shown):
                continue  # never shown
            assert comparable(made, option, value) == comparable(made, option, shown[option]), (side, option)
    if old and new:
        differing = {option for option in old.keys() | new.keys() if old.get(option) != new.get(option)}
        assert differing <= set(done["diff"]["after"]), "more was changed than the diff says"
    return done


@pytest.mark.parametrize("provider", PROVIDERS)
def test_life_of_a_check(provider: str) -> None:
    with bench(provider) as made:
        created = predicted_then_done(made, tags=["web"])
        assert created["actions"] == ["create"] and created["id"] == made.fake.find("shop")
        same_without_writing(made, tags=["web"])
        same_without_writing(made)
        changed = predicted_then_done(made, interval=900)
        assert changed["diff"] == {"before": {"interval": 300}, "after": {"interval": 900}}
        same_without_writing(made, interval=900)
        assert predicted_then_done(made, state="paused")["actions"] == ["pause"]
        same_without_writing(made, state="paused")
        same_without_writing(made)  # present leaves it paused
        assert predicted_then_done(made, state="started")["actions"] == ["start"]
        same_without_writing(made, state="started")
        both = predicted_then_done(made, state="paused", interval=3600)
        assert both["actions"] == ["update", "pause"]
        assert predicted_then_done(made, state="absent")["actions"] == ["delete"]
        same_without_writing(made, state="absent")
        assert made.fake.checks == {}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_created_paused(provider: str) -> None:
    with bench(provider) as made:
        assert predicted_then_done(made, state="paused")["actions"] == ["create", "pause"]
        assert made.info()[0]["paused"] is True
        same_without_writing(made, state="paused")


@pytest.mark.parametrize(
    ("provider", "option", "first", "second", "field", "value"), CASES, ids=[f"{c[0]}-{c[1]}-{n}" for n, c in enumerate(CASES)]
)
def test_each_option(provider: str, option: str, first: Any, second: Any, field: str, value: Any) -> None:
    needed = NEEDED.get((provider, option), {})
    with bench(provider) as made:
        kind = {"team": True} if option == "teams" else {}
        if option in ("contacts", "teams"):
            ids = {old: str(made.fake.add_contact(f"Contact {old}", **kind)) for old in ("7", "8")}
            first, second = renamed(first, ids), renamed(second, ids)
        created = predicted_then_done(made, **needed, **{option: first})
        assert created["actions"] == ["create"]
        same_without_writing(made, **needed, **{option: first})
        # Somebody who doesn't set the option leaves it alone.
        before = dict(made.fake.checks[made.fake.find("shop")])
        if option not in ("url", "interval"):
            same_without_writing(made)
        updated = predicted_then_done(made, **needed, **{option: second})
        shown = "request_headers" if option == "secret_request_headers" else option
        assert updated["actions"] == ["recreate" if "recreate" in needed else "update"]
        assert list(updated["diff"]["after"]) == [shown]
        assert updated["diff"]["before"] != updated["diff"]["after"]
        same_without_writing(made, **needed, **{option: second})
        stored = made.fake.checks[made.fake.find("shop")]
        assert before != stored
        if value is not None:
            assert stored[field] == value
        assert "hidden-" not in created["raw"] + updated["raw"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_table_has_every_option(provider: str) -> None:
    """The name is changed below, and what is never shown again has a test of its own."""
    made = modules.PROVIDERS[provider]
    tried = {case[1] for case in CASES if case[0] == provider}
    assert tried | made.write_only | {"name"} == {*made.options, "secret_request_headers"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_another_name(provider: str) -> None:
    with bench(provider) as made:
        found = made.check()["id"]
        renamed = predicted_then_done(made, id=found, name="store", environment="test")
        assert renamed["diff"] == {"before": {"name": "shop"}, "after": {"name": "store"}} and made.fake.names() == ["store"]
        made.fake.clear()
        assert made.check(id=found, name="store")["changed"] is False
        assert made.check(id=found, name="  store ")["changed"] is False and made.fake.writes == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_what_changed_is_sent(provider: str) -> None:
    with bench(provider) as made:
        made.check(tags=["web"])
        made.fake.clear()
        made.check(tags=["web"], interval=900)
        sent = {"uptimerobot": {"interval"}, "pingdom": {"resolution"}, "statuscake": {"check_rate"}}[provider]
        assert [set(request.body) for request in made.fake.writes] == [sent]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_tags_of_others_and_of_ours(provider: str) -> None:
    """Our tag stays whatever tags are wanted; an id finds a check that isn't ours, and leaves it so."""
    with bench(provider) as made:
        foreign = made.fake.seed(1, name="shop", tags=["theirs"])[0]
        assert predicted_then_done(made)["actions"] == ["create"]
        assert len(made.fake.checks) == 2
        updated = predicted_then_done(made, id=foreign, interval=900)
        assert updated["actions"] == ["update"] and updated["warnings"] == []
        assert [check["tags"] for check in made.info(id=foreign)] == [["theirs"]]
        assert made.check(id=foreign, state="paused")["actions"] == ["pause"]
        # It is in no list of ours, so it is read by itself, at once.
        assert sum(made.clock.slept) < 10
        # Naming our tag makes it one of ours.
        assert made.check(id=foreign, name="adopted", tags=["theirs", TAG])["actions"] == ["update"]
        assert sorted(check["name"] for check in made.info(environment="test")) == ["adopted", "shop"]
        assert made.check(name="adopted", state="absent")["actions"] == ["delete"]
        assert made.fake.names() == ["shop"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_environments_do_not_meet(provider: str) -> None:
    with bench(provider) as made:
        first = made.check(environment="staging")
        second = made.check(environment="staging-2")
        assert first["id"] != second["id"]
        assert made.check(environment="staging", state="absent")["changed"]
        assert [check["id"] for check in made.info()] == [second["id"]]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ambiguous_names_are_refused(provider: str) -> None:
    with bench(provider) as made:
        ids = made.fake.seed(2, name="shop", tags=[TAG])
        for state in ("present", "paused", "absent"):
            result = made.check(state=state)
            assert result["failed"] and all(str(check_id) in result["msg"] for check_id in ids)
        assert made.fake.writes == []
        assert made.check(id=ids[0], state="absent")["changed"]
        assert not made.check()["failed"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_similar_names_are_other_checks(provider: str) -> None:
    with bench(provider) as made:
        for name in ("shop", "Shop", "shop 2", "sho", "shop & <b>", "laden ü ☃ 店", "a'b\"c"):
            assert made.check(name=name)["actions"] == ["create"]
            assert made.check(name=name)["actions"] == []
        assert len(made.fake.checks) == 7


@pytest.mark.parametrize("provider", PROVIDERS)
def test_contacts_by_name(provider: str) -> None:
    with bench(provider) as made:
        wanted = made.fake.add_contact("On call")
        made.fake.add_contact("Other")
        name: Any = [{"contact": "On call"}] if provider == "uptimerobot" else ["On call"]
        assert predicted_then_done(made, contacts=name)["actions"] == ["create"]
        same_without_writing(made, contacts=name)
        found = made.run(f"{provider}_contact_info", name="On call")["contacts"]
        assert [(item["id"], item["name"]) for item in found] == [(str(wanted), "On call")]
        nobody: Any = [{"contact": "Nobody"}] if provider == "uptimerobot" else ["Nobody"]
        assert "nobody named 'Nobody'" in made.check(contacts=nobody)["msg"]
        made.fake.add_contact("On call")
        assert "2 entries" in made.check(contacts=name)["msg"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_how_to_look_for_nothing_is_no_change(provider: str) -> None:
    """Without a keyword nobody keeps how it is looked for."""
    with bench(provider) as made:
        assert made.check(keyword="", keyword_match="not_contains")["actions"] == ["create"]
        same_without_writing(made, keyword="", keyword_match="not_contains")
        same_without_writing(made, keyword_match="not_contains")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_login_in_a_foreign_url_is_not_shown(provider: str) -> None:
    with bench(provider, strict=False) as made:
        field = {"uptimerobot": "url", "pingdom": "url", "statuscake": "website_url"}[provider]
        (foreign,) = made.fake.seed(1, name="theirs")
        made.fake.edit(foreign, **{field: "https://ann:hidden-1@shop.test/" if provider != "pingdom" else "/"})
        result = made.run(f"{support.MODULES[provider]}_info", id=foreign)
        assert "shop.test" in result["raw"] or provider == "pingdom"
        assert "hidden-1" not in result["raw"]


def test_contacts_are_shown_in_the_words_of_the_options() -> None:
    with bench("uptimerobot") as made:
        ids = [str(made.fake.add_contact(name)) for name in ("one", "two")]
        wanted = [{"contact": ids[1], "delay": 60, "repeat": 0}, {"repeat": 120, "contact": ids[0], "delay": 0}]
        created = made.check(contacts=wanted)
        assert created["check"]["contacts"] == [wanted[1], wanted[0]] == made.info()[0]["contacts"]
        assert made.check(contacts=list(reversed(wanted)))["changed"] is False


def test_pingdom_ignores_tls_days_where_it_does_not_verify() -> None:
    with bench("pingdom") as made:
        made.check(verify_certificate=False)
        for check_mode in (True, False):
            assert "set that to true" in made.check(check_mode, tls_expiry_days=7)["msg"]
        assert len(made.fake.writes) == 1
        assert made.check(tls_expiry_days=7, verify_certificate=True)["actions"] == ["update"]


def test_names_with_escapes_are_one_check_whoever_escapes_them() -> None:
    """UptimeRobot escapes what it shows; should it stop to do so, the check is found all the same."""
    with bench("uptimerobot") as made:
        made.check(name="a &amp; b")
        same_without_writing(made, name="a &amp; b")
        same_without_writing(made, name="a & b")
        assert len(made.fake.checks) == 1


def test_what_belongs_together_is_sent_together() -> None:
    with bench("pingdom") as made:
        team = made.fake.add_contact("Night", team=True)
        assert made.check(teams=["Night"])["actions"] == ["create"]
        assert made.info(id=made.fake.find("shop"))[0]["teams"] == [str(team)]
        for match in ("contains", "not_contains", "contains"):
            assert made.check(keyword="ok", keyword_match=match)["changed"]
            assert not made.check(keyword="ok", keyword_match=match)["changed"]
        assert made.check(http_username="ann", http_password="hidden-1")["actions"] == ["update"]
        same_without_writing(made, http_username="ann", http_password="hidden-1")
        changed = predicted_then_done(made, http_username="ann", http_password="hidden-2")
        assert list(changed["diff"]["after"]) == ["http_password"] and "hidden-" not in changed["raw"]
        assert made.check(http_username="", http_password="")["actions"] == ["update"]
        same_without_writing(made, http_username="", http_password="")


@pytest.mark.parametrize("provider", ["uptimerobot", "statuscake"])
def test_passwords_that_are_never_shown(provider: str) -> None:
    with bench(provider) as made:
        login = {"http_username": "ann", "http_password": "hidden-1"}
        made.check(**login)
        same_without_writing(made, **login)
        same_without_writing(made, **{**login, "http_password": "hidden-2"})
        changed = predicted_then_done(made, **{**login, "http_password": "hidden-2"}, update_password="always")
        assert changed["changed"] and "hidden-" not in changed["raw"]
        stored = made.fake.checks[made.fake.find("shop")]
        assert "hidden-2" in (stored.get("httpPassword"), stored.get("basic_password"))


def test_uptimerobot_keywords() -> None:
    with bench("uptimerobot") as made:
        made.check()
        refused = made.check(keyword="ok", keyword_match="contains")
        assert "recreate" in refused["msg"] and made.fake.names() == ["shop"]
        old = made.fake.find("shop")
        assert predicted_then_done(made, keyword="ok", keyword_match="contains", recreate=True)["actions"] == ["recreate"]
        assert made.fake.names() == ["shop"] and made.fake.find("shop") != old
        for change in ({"keyword": "fine"}, {"keyword_match": "not_contains"}, {"keyword_case_sensitive": True}):
            wanted = {"keyword": "fine", **change}
            assert predicted_then_done(made, **wanted)["actions"] == ["update"]
            same_without_writing(made, **wanted)


BODY = '{"a": 1}'


def methods(made: Bench) -> list[str | None]:
    """The method of each write with a body since the last look."""
    found = [request.body.get("httpMethodType") for request in made.fake.writes if request.body]
    made.fake.clear()
    return found


def test_uptimerobot_asks_by_a_method_that_can_do_what_is_wanted() -> None:
    shop = {"name": "shop", "url": BASE["url"], "uptimerobot": {}}
    with bench("uptimerobot") as made:

        def listed(**more: Any) -> dict[str, Any]:
            common: dict[str, Any] = {"provider": "uptimerobot", "environment": "test", "allow_private_urls": True}
            return made.run("external_checks", checks=[{**shop, **more}], recreate=True, **common)

        # A new monitor, by the list that has no method: a body, a body and a keyword, a keyword, nothing.
        for options, method in (
            ({"request_body": BODY}, "POST"),
            ({"request_body": BODY, "keyword": "ok"}, "POST"),
            ({"request_body": BODY, "uptimerobot": {"method": "PUT"}}, "PUT"),
            ({"keyword": "ok"}, "GET"),
            ({}, None),
        ):
            assert listed(**options)["changed"] and methods(made) == [method]
            assert listed(**options)["changed"] is False
            made.check(state="absent")
            made.fake.clear()
        # On one that asks by HEAD, which is what a monitor without a method does.
        made.check()
        made.fake.clear()
        assert made.check(request_body=BODY, method="HEAD")["failed"] and made.fake.writes == []
        assert made.check(True, request_body=BODY)["check"]["method"] == "POST" and made.fake.writes == []
        assert made.check(request_body=BODY)["check"]["method"] == "POST"
        assert methods(made) == ["POST"]
        same_without_writing(made, request_body=BODY)
        # What somebody set at the provider meanwhile, and what nobody asks about.
        made.fake.edit(made.fake.find("shop"), httpMethodType="GET")
        same_without_writing(made, interval=300)
        assert predicted_then_done(made, request_body=BODY)["changed"] and methods(made) == ["POST"]


def test_uptimerobot_looks_for_a_keyword_by_a_method_that_brings_an_answer() -> None:
    with bench("uptimerobot") as made:
        made.check(method="HEAD")
        made.fake.clear()
        assert predicted_then_done(made, keyword="ok", recreate=True)["actions"] == ["recreate"]
        assert methods(made) == ["GET"]
        same_without_writing(made, keyword="ok")
        result = made.check(method="HEAD")
        assert result["failed"] and "set method to GET" in result["msg"] and made.fake.writes == []
        assert predicted_then_done(made, keyword="", method="HEAD", recreate=True)["actions"] == ["recreate"]
        assert methods(made) == ["HEAD"]
    with bench("uptimerobot") as made:
        made.check(request_body=BODY)
        made.fake.clear()
        # What is kept of the old monitor still fits what is wanted of the new one.
        assert made.check(keyword="ok", method="GET", recreate=True)["actions"] == ["recreate"]
        (create,) = (request for request in made.fake.writes if request.body)
        assert create.body["httpMethodType"] == "GET" and "postValueData" not in create.body


@pytest.mark.parametrize("option", ["keyword", "request_body"])
def test_statuscake_asks_by_head_without_a_body(option: str) -> None:
    with bench("statuscake") as made:
        made.check(method="HEAD")
        made.fake.clear()
        for params in ({option: "x"}, {option: "x", "method": "HEAD"}):
            result = made.check(**params)
            assert result["failed"] and "set method to GET" in result["msg"] and made.fake.writes == []
        assert made.check(**{option: "x"}, method="GET", recreate=True)["actions"] == ["recreate"]


def test_statuscake_method_is_fixed() -> None:
    with bench("statuscake") as made:
        made.check(method="HEAD", tags=["web"], interval=900)
        assert "recreate" in made.check(method="GET")["msg"]
        assert predicted_then_done(made, method="GET", recreate=True)["actions"] == ["recreate"]
        found = made.info(details=True)[0]
        # What nobody set again was kept.
        assert (found["method"], found["interval"], found["tags"]) == ("GET", 900, [TAG, "web"])
        same_without_writing(made, method="GET")


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("uptimerobot", {"url": "shop.test"}, "not a full web address"),
    ("uptimerobot", {"url": "https://u:p@shop.test/"}, "holds a user name"),
    ("uptimerobot", {"url": "https://shop.test/a b"}, "not a full web address"),
    ("uptimerobot", {"interval": 10}, "interval from 30"),
    ("uptimerobot", {"check_timeout": 61}, "check_timeout from 0 to 60"),
    ("uptimerobot", {"keyword": "x", "method": "HEAD"}, "set method to GET"),
    ("uptimerobot", {"request_body": '{"a": 1}', "method": "HEAD"}, "set method to POST"),
    ("uptimerobot", {"request_body": '{"a": 1}', "method": "GET"}, "set method to POST"),
    ("uptimerobot", {"keyword": "x" * 501}, "at most 500"),
    ("uptimerobot", {"regions": []}, "without a region"),
    ("uptimerobot", {"tls_expiry_days": [366]}, "from 0 to 365"),
    ("uptimerobot", {"tls_expiry_days": list(range(11))}, "at most 10"),
    ("uptimerobot", {"contacts": [{"contact": "1", "delay": 30}]}, "multiples of 60"),
    ("uptimerobot", {"request_body": "text"}, "JSON object"),
    ("uptimerobot", {"tags": ["a,b"]}, "holds a comma"),
    ("uptimerobot", {"environment": "A_B"}, "can't be part of a tag"),
    ("uptimerobot", {"name": ""}, "name is empty"),
    ("uptimerobot", {"request_headers": {"A": "b\r\nC: d"}}, "not a valid one"),
    ("uptimerobot", {"api_url": "ftp://x"}, "not a web address"),
    ("uptimerobot", {"api_token": "two words"}, "line breaks"),
    ("uptimerobot", {"api_timeout": 0}, "api_timeout is 0"),
    ("uptimerobot", {"url": None}, "needs a url"),
    ("pingdom", {"interval": 600}, "value of interval must be one of"),
    ("pingdom", {"check_timeout": 31}, "from 1 to 30"),
    ("pingdom", {"http_username": "ann"}, "set both"),
    ("pingdom", {"http_username": "a:b", "http_password": "x"}, "holds a colon"),
    ("pingdom", {"http_username": "", "http_password": "x"}, "has no http_username"),
    ("pingdom", {"api_url": "http://[x"}, "not a web address"),
    ("pingdom", {"integrations": ["Slack"]}, "give its id"),
    ("pingdom", {"tls_expiry_days": 3, "verify_certificate": False}, "leave one of them out"),
    ("pingdom", {"url": None}, "needs a url"),
    ("statuscake", {"check_timeout": 4}, "from 5 to 75"),
    ("statuscake", {"trigger_delay": 90}, "multiple of 60"),
    ("statuscake", {"confirmations": 4}, "from 0 to 3"),
    ("statuscake", {"method": "HEAD", "keyword": "x"}, "set method to GET"),
    ("statuscake", {"down_status_codes": []}, "at least one"),
    ("statuscake", {"url": None}, "needs a url"),
]


@pytest.mark.parametrize(
    ("provider", "params", "words"), REFUSED, ids=[f"{n}-{c[0]}-{'-'.join(c[1])}" for n, c in enumerate(REFUSED)]
)
def test_refused_before_anything_is_sent(provider: str, params: dict[str, Any], words: str) -> None:
    with bench(provider) as made:
        given = {**BASE, "api_token": TOKEN, "api_url": made.fake.url, **params}
        name = support.MODULES[provider]
        assert words in made.run(name, **given)["msg"]
        assert made.fake.writes == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_info(provider: str) -> None:
    with bench(provider) as made:
        assert made.info() == []
        made.fake.seed(3, name="seen {i}", tags=["theirs"])
        mine = made.check(interval=900, state="paused")["id"]
        assert [check["name"] for check in made.info()] == ["seen 0", "seen 1", "seen 2", "shop"]
        assert [check["id"] for check in made.info(environment="test")] == [mine]
        assert [check["id"] for check in made.info(name="shop")] == [mine]
        assert made.info(environment="other") == made.info(id=999999) == []
        one = made.info(id=mine)[0]
        assert (one["interval"], one["paused"], one["status"], one["url"]) == (900, True, "paused", BASE["url"])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_only_shows_runs_in_check_mode_too(provider: str) -> None:
    with bench(provider) as made:
        made.fake.add_contact("On call")
        made.fake.seed(2, name="seen {i}")
        contacts = f"{provider}_contact_info"
        for name, part in ((f"{support.MODULES[provider]}_info", "checks"), (contacts, "contacts")):
            told, shown = made.run(name, True), made.run(name)
            assert told[part] == shown[part] != [] and (told["changed"], shown["changed"]) == (False, False)
        assert made.fake.writes == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_checks_of_other_types_are_left_alone(provider: str) -> None:
    kind = {"uptimerobot": {"type": "PING"}, "pingdom": {"type": "ping"}, "statuscake": {"test_type": "PING"}}[provider]
    with bench(provider, strict=False) as made:
        made.fake.seed(1, name="shop", tags=[TAG], **kind)
        result = made.check()
        assert result["failed"] and "type" in result["msg"]
        assert made.fake.writes == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_id_that_is_not_there(provider: str) -> None:
    with bench(provider) as made:
        assert "no check with the id 4242" in made.check(id=4242, interval=900)["msg"]
        assert made.check(id=4242, state="absent")["changed"] is False
