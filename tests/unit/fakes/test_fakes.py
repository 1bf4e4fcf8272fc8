# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests that use the fakes rely on: state, refusals, limits, faults, paging, probing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fakes import ROOT
from fakes.support import CHECKS, CREATE, LISTED, PROVIDERS, UPDATE, call, everything, form, new, read, state_of
from tests.fakes import FAKES, Clock, Fake, PingdomFake, StatusCakeFake, UptimeRobotFake
from tests.fakes.core import FORM, JSON

every = pytest.mark.parametrize("provider", PROVIDERS)
NAME = {"uptimerobot": "friendlyName", "pingdom": "name", "statuscake": "name"}


def pages(fake: Fake, limit: int = 0) -> list[Any]:
    """Ids of all checks, page by page in the provider's way."""
    ids: list[Any] = []
    path, number = CHECKS[fake.provider], 1
    query = f"limit={limit}" if limit else ""
    while True:
        if fake.provider == "uptimerobot":
            answer = call(fake, "GET", f"{path}?{query}").body
            ids += [entry["id"] for entry in answer["data"]]
            if not answer["nextLink"]:
                return ids
            assert answer["nextLink"].startswith(fake.url + path)
            query = answer["nextLink"].partition("?")[2]
        elif fake.provider == "pingdom":
            answer = call(fake, "GET", f"{path}?limit={limit or 25000}&offset={len(ids)}").body
            ids += [entry["id"] for entry in answer["checks"]]
            if len(ids) >= answer["counts"]["filtered"] or not answer["checks"]:
                return ids
        else:
            answer = call(fake, "GET", f"{path}?page={number}&{query or 'limit=100'}&nouptime").body
            ids += [entry["id"] for entry in answer["data"]]
            if number >= answer["metadata"]["page_count"]:
                return ids
            number += 1


@every
def test_a_check_lives_and_dies(provider: str) -> None:
    with FAKES[provider]() as fake:
        key = new(fake)
        assert fake.names() == ["shop"] and fake.find("shop") == key and pages(fake) == [key]
        assert state_of(fake, key) == "up"
        body = everything(fake)
        answer = call(fake, UPDATE[provider], f"{CHECKS[provider]}/{key}", body)
        assert answer.status == (204 if provider == "statuscake" else 200)
        assert fake.names() == ["shop 2"]
        fake.clear()
        if provider == "uptimerobot":
            for verb, state in (("pause", "paused"), ("pause", "paused"), ("start", "up"), ("start", "up")):
                assert call(fake, "POST", f"/monitors/{key}/{verb}", {}).status == 201
                assert state_of(fake, key) == state
        else:
            for paused in (True, False):
                call(fake, "PUT", f"{CHECKS[provider]}/{key}", {"paused": paused})
                assert state_of(fake, key) == ("paused" if paused else "up")
        assert len(fake.writes) == len(fake.reads)
        assert call(fake, "DELETE", f"{CHECKS[provider]}/{key}").status == (204 if provider == "statuscake" else 200)
        assert call(fake, "DELETE", f"{CHECKS[provider]}/{key}").status == 404
        assert call(fake, "GET", f"{CHECKS[provider]}/{key}").status == 404
        assert fake.checks == {}


@every
def test_the_log_has_what_was_sent(provider: str) -> None:
    with FAKES[provider]() as fake:
        new(fake)
        call(fake, "GET", CHECKS[provider] + "?limit=5")
        first, second = fake.requests
        assert str(first) == f"POST {CHECKS[provider]}" and first.body == CREATE[provider] and first.operation == "create_check"
        assert second.query == {"limit": 5} and second.status == 200 and fake.reads == [second] and fake.writes == [first]


@every
@pytest.mark.parametrize(
    "wrong",
    [
        "unknown field",
        "wrong type",
        "missing field",
        "unknown query",
        "wrong encoding",
        "unreadable",
        "unknown path",
        "wrong method",
        "body on delete",
        "enum",
        "double query",
    ],
)
def test_off_contract_requests_are_refused_and_counted(provider: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLASKOPS_SPECS", raising=False)  # by our contract alone
    path, good = CHECKS[provider], CREATE[provider]
    interval = {"uptimerobot": "interval", "pingdom": "resolution", "statuscake": "check_rate"}[provider]
    other = JSON if FAKES[provider]().contract.encoding == FORM else FORM
    with FAKES[provider](strict=False) as fake:
        answer = {
            "unknown field": lambda: call(fake, "POST", path, {**good, "nmae": "x"}),
            "wrong type": lambda: call(fake, "POST", path, {**good, interval: "often"}),
            "missing field": lambda: call(fake, "POST", path, {key: good[key] for key in good if key != NAME[provider]}),
            "unknown query": lambda: call(fake, "GET", path + "?colour=red"),
            "wrong encoding": lambda: call(fake, "POST", path, good, kind=other),
            "unreadable": lambda: call(
                fake, "POST", path, {**good, "custom_header": "{no"} if provider == "statuscake" else "{no"
            ),
            "unknown path": lambda: call(fake, "GET", "/nothing"),
            "wrong method": lambda: call(fake, "PUT", path, good),
            "body on delete": lambda: call(fake, "DELETE", f"{path}/1", {"a": "b"}),
            "enum": lambda: call(fake, "POST", path, {**good, "test_type" if provider == "statuscake" else "type": "PIGEON"}),
            "double query": lambda: call(fake, "GET", path + "?limit=1&limit=2"),
        }[wrong]()
        assert answer.status == {"unknown path": 404, "wrong method": 405, "wrong encoding": 415}.get(wrong, 400)
        assert len(fake.violations) == 1 and str(fake.requests[0]) in fake.violations[0]
        assert fake.checks == {}
        text = {
            "uptimerobot": lambda body: body["message"],
            "pingdom": lambda body: body["error"]["errormessage"],
            "statuscake": lambda body: body["message"],
        }[provider](answer.body)
        assert text
        if wrong == "unknown field" and provider == "statuscake":
            assert "nmae" in json.dumps(answer.body["errors"])


@every
def test_violations_fail_the_test_that_caused_them(provider: str) -> None:
    with pytest.raises(AssertionError, match="off the contract: GET /nothing"), FAKES[provider]() as fake:
        call(fake, "GET", "/nothing")
    with pytest.raises(KeyError), FAKES[provider]() as fake:  # the first error stays
        call(fake, "GET", "/nothing")
        raise KeyError("own")


@every
def test_an_answer_off_the_contract_is_loud(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FAKES[provider](strict=False) as fake:
        [key] = fake.seed(1)
        shown = fake.shown(key)
        monkeypatch.setattr(fake, "show", lambda check: {**shown, "surprise": 1})
        assert call(fake, "GET", f"{CHECKS[provider]}/{key}").status == 500
        assert "surprise" in fake.violations[0]


@every
def test_tokens(provider: str) -> None:
    with FAKES[provider](token="good", read_token="reader") as fake:
        assert call(fake, "GET", CHECKS[provider], token="bad").status == 401
        assert call(fake, "GET", CHECKS[provider], token="").status == 401
        assert call(fake, "GET", CHECKS[provider], token="reader").status == 200
        assert call(fake, "POST", CHECKS[provider], CREATE[provider], token="reader").status == 403
        assert fake.checks == {} and "good" not in repr(fake.requests) and fake.violations == []
    with StatusCakeFake(auth_status=403) as fake:
        answer = call(fake, "GET", "/uptime", token="bad")
        assert (answer.status, answer.body, answer.headers["x-ext-authz"]) == (403, None, "denied")


@every
def test_plan_limits(provider: str) -> None:
    rate = {"uptimerobot": {"interval": 60}, "pingdom": {"resolution": 1}, "statuscake": {"check_rate": 60}}[provider]
    with FAKES[provider](max_checks=1, min_interval=300) as fake:
        assert call(fake, "POST", CHECKS[provider], {**CREATE[provider], **rate}).status in (400, 403)
        key = new(fake)
        assert call(fake, "POST", CHECKS[provider], CREATE[provider]).status == 403
        assert call(fake, UPDATE[provider], f"{CHECKS[provider]}/{key}", rate).status in (400, 403)
        assert len(fake.checks) == 1
        fake.seed(3)
        assert len(fake.checks) == 4  # seeding is past the limits


@every
def test_names_may_repeat_unless_told_otherwise(provider: str) -> None:
    with FAKES[provider]() as fake:
        new(fake), new(fake)
        assert fake.names() == ["shop", "shop"]
        with pytest.raises(KeyError, match="2 checks"):
            fake.find("shop")
    with FAKES[provider](unique_names=True) as fake:
        new(fake)
        assert call(fake, "POST", CHECKS[provider], CREATE[provider]).status == 409


def test_rate_limits_in_each_providers_words() -> None:
    clock = Clock(1_800_000_000.0)
    with UptimeRobotFake(plan="free", rate_limit=True, clock=clock) as fake:
        for left in reversed(range(10)):
            answer = call(fake, "GET", "/monitors")
            assert (answer.status, answer.headers["x-ratelimit-remaining"]) == (200, str(left))
        clock.advance(20)
        answer = call(fake, "GET", "/monitors")
        assert (answer.status, answer.headers["retry-after"], answer.headers["x-ratelimit-reset"]) == (429, "40", "1800000060")
        clock.sleep(40)
        assert call(fake, "GET", "/monitors").status == 200 and clock.slept == [40]
    with PingdomFake(rates=[(2, 60), (3, 3600)], rate_limit=True, clock=clock) as fake:
        call(fake, "GET", "/checks")
        answer = call(fake, "GET", "/checks")
        assert answer.headers["req-limit-short"] == "Remaining: 0 Time until reset: 60"
        assert answer.headers["req-limit-long"] == "Remaining: 1 Time until reset: 3600"
        answer = call(fake, "GET", "/checks")
        assert answer.status == 429 and "retry-after" not in answer.headers
        clock.advance(60)
        assert call(fake, "GET", "/checks").status == 200
        assert call(fake, "GET", "/checks").status == 429  # the long window
    with StatusCakeFake(plan="free", rate_limit=True, clock=clock) as fake:
        for _ in range(5):
            answer = call(fake, "GET", "/uptime")
        assert answer.status == 200 and answer.headers["x-ratelimit-limit"] == "5, 60;w=60, 5;w=1"
        answer = call(fake, "GET", "/uptime")
        assert (answer.status, answer.headers["x-ratelimit-remaining"], answer.headers["x-ratelimit-reset"]) == (429, "0", "1")
        for _ in range(11):
            clock.advance(1)
            for _ in range(5):
                assert call(fake, "GET", "/uptime").status == 200
        clock.advance(1)
        assert call(fake, "GET", "/uptime").headers["x-ratelimit-reset"] == "48"  # the minute is in force now


@every
def test_without_a_rate_limit_nothing_is_refused_but_the_headers_are_there(provider: str) -> None:
    with FAKES[provider](rates=[(1, 60)]) as fake:
        answers = [call(fake, "GET", CHECKS[provider]) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert any("limit" in name for name in answers[-1].headers)


@every
def test_pages_hold_every_check_once(provider: str) -> None:
    with FAKES[provider](page_size=3) as fake:
        ids = fake.seed(10)
        assert pages(fake) == ids and len(fake.requests) == 4
        fake.remove(ids[-1])
        assert pages(fake) == ids[:9]
        assert pages(fake, limit=2) == ids[:9]


@every
def test_ten_thousand_checks(provider: str) -> None:
    with FAKES[provider]() as fake:
        ids = fake.seed(10_000, name="shop {i}", tags=["env:test"])
        assert pages(fake, limit={"uptimerobot": 200, "pingdom": 0, "statuscake": 100}[provider]) == ids
        assert len(fake.requests) == {"uptimerobot": 50, "pingdom": 1, "statuscake": 100}[provider]
        assert fake.names().count("shop 9999") == 1


@every
def test_the_list_can_change_between_two_pages(provider: str) -> None:
    with FAKES[provider](page_size=2) as fake:
        ids = fake.seed(5)
        fake.after(f"GET {CHECKS[provider]}", lambda: fake.remove(ids[0]))
        found = pages(fake)
        # Numbered pages and offsets skip an entry, a cursor doesn't: what clients must notice.
        assert found == (ids if provider == "uptimerobot" else [ids[0], ids[1], ids[3], ids[4]])
        fake.after(f"GET {CHECKS[provider]}", lambda: fake.seed(1, name="late"))
        assert len(pages(fake)) == 5 and "late" in fake.names()


@every
def test_filters(provider: str) -> None:
    with FAKES[provider]() as fake:
        fake.seed(2, name="a {i}", tags=["one", "env"])
        fake.seed(1, name="b", tags=["two", "env"], paused=True)

        def names(query: str) -> list[str]:
            found = call(fake, "GET", f"{CHECKS[provider]}?{query}").body[LISTED[provider]]
            return [entry[NAME[provider]] for entry in found]

        assert names("tags=one") == ["a 0", "a 1"] and names("tags=none") == []
        if provider == "uptimerobot":
            assert names("tags=one,two") == ["a 0", "a 1", "b"] and names("name=A") == ["a 0", "a 1"]
            assert names("status=paused") == ["b"] and names("url=test/1") == ["a 1"]
        elif provider == "pingdom":
            assert names("tags=one,two") == ["a 0", "a 1", "b"]
        else:
            assert names("tags=one,two") == [] == names("status=down")
            assert names("tags=one,two&matchany") == ["a 0", "a 1", "b"]


@every
def test_stale_reads(provider: str) -> None:
    with FAKES[provider](stale_reads=2) as fake:
        key = new(fake)
        assert pages(fake) == [] and call(fake, "GET", f"{CHECKS[provider]}/{key}").status == 404
        assert pages(fake) == [key]


@every
@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("status", False),
        ("timeout", False),
        ("reset", False),
        ("reset_after_write", True),
        ("half_json", True),
        ("malformed", True),
        ("content_type", True),
        ("empty", True),
    ],
)
def test_faults(provider: str, kind: str, written: bool) -> None:
    path = CHECKS[provider]
    with FAKES[provider]() as fake:
        fake.fail(f"POST {path}", kind, skip=1, seconds=0.2)
        new(fake)
        expected = {
            "reset": ConnectionResetError,
            "reset_after_write": ConnectionResetError,
            "timeout": http.client.RemoteDisconnected,
        }
        broken: Any = None
        with pytest.raises(expected[kind]) if kind in expected else contextlib.nullcontext():
            broken = call(fake, "POST", path, CREATE[provider])
        if kind == "status":
            assert broken.status == 503
        elif kind in ("half_json", "malformed", "content_type"):
            assert isinstance(broken.body, str) and broken.status in (200, 201)
            assert broken.headers["content-type"].startswith("text/html" if kind == "content_type" else "application/json")
        elif kind == "empty":
            assert broken.body is None
        assert len(fake.checks) == 1 + written and fake.requests[1].fault == kind
        new(fake)
        assert len(fake.checks) == 2 + written


@every
@pytest.mark.parametrize("status", [403, 404, 409, 422, 429, 500, 502, 503, 504])
def test_injected_statuses(provider: str, status: int) -> None:
    path = CHECKS[provider]
    with FAKES[provider]() as fake:
        fake.fail("* *", status=status, retry_after=3)
        fake.fail(f"GET {path}*", status=status, headers={"X-Own": "1"}, body="<html>oops</html>", times=2)
        fake.fail(f"POST {path}", status=status, after_write=True)
        first = call(fake, "GET", path)
        assert (first.status, first.headers["retry-after"]) == (status, "3") and isinstance(first.body, dict)
        second = call(fake, "GET", f"{path}/1")
        assert (second.status, second.body, second.headers["x-own"]) == (status, "<html>oops</html>", "1")
        assert "retry-after" not in second.headers and second.headers["content-type"] == "text/html"
        assert call(fake, "POST", path, CREATE[provider]).status == status and len(fake.checks) == 1
        assert call(fake, "GET", path).status == status
        assert call(fake, "GET", path).status == 200
        assert [request.status for request in fake.requests] == [status] * 4 + [200]


def test_a_fault_for_ever_and_a_wrong_kind() -> None:
    with UptimeRobotFake() as fake:
        fake.fail("GET *", times=None)
        assert [call(fake, "GET", "/monitors").status for _ in range(4)] == [503] * 4
        with pytest.raises(ValueError, match="half_json"):
            fake.fail("* *", "explode")


@every
def test_reset_forgets_everything(provider: str) -> None:
    with FAKES[provider](stale_reads=5, rates=[(2, 60)], rate_limit=True, clock=Clock()) as fake:
        new(fake)
        fake.add_contact("ops")
        call(fake, "GET", "/nothing")
        fake.fail("* *", times=None)
        fake.reset()
        assert not any((fake.checks, fake.contacts, fake.maintenance, fake.requests, fake.violations))
        key = new(fake)
        assert call(fake, "GET", CHECKS[provider]).status == 200 and list(fake.checks) == [key]


@every
def test_somebody_else_edits_and_removes(provider: str) -> None:
    with FAKES[provider]() as fake:
        key = new(fake)
        fake.edit(key, **{NAME[provider]: "renamed"})
        fake.set_status(key, "down")
        assert read(fake, key)[NAME[provider]] == "renamed" and state_of(fake, key) == "down"
        fake.remove(key)
        assert pages(fake) == []


def test_uptimerobot_quirks() -> None:
    with UptimeRobotFake() as fake:
        key = new(
            fake,
            friendlyName="a & b",
            tagNames=["Env:X", "env:x"],
            responseTimeThreshold=700,
            regionData={"REGION": ["eu", "na"]},
            httpUsername="u",
            httpPassword="canary",
        )
        shown = read(fake, key)
        assert shown["friendlyName"] == "a &amp; b" and [tag["name"] for tag in shown["tags"]] == ["env:x"]
        assert shown["responseTimeThreshold"] == 0 and shown["regionalData"]["THRESHOLD"] == {"eu": 700, "na": 700}
        assert "canary" not in json.dumps(shown) and shown["apiKey"]
        call(fake, "PATCH", f"/monitors/{key}", {"config": {"ipVersion": "ipv4Only"}})
        call(fake, "PATCH", f"/monitors/{key}", {"config": {"sslExpirationPeriodDays": [7]}})
        assert read(fake, key)["config"] == {"ipVersion": "ipv4Only", "sslExpirationPeriodDays": [7]}
        word = new(fake, type="KEYWORD", keywordType="ALERT_EXISTS", keywordCaseType="CaseInsensitive", keywordValue=" no ")
        assert read(fake, word)["keywordCaseType"] == 1 and read(fake, word)["keywordValue"] == "no"


def test_a_heartbeat_of_uptimerobot_keeps_time() -> None:
    clock = Clock()
    with UptimeRobotFake(clock=clock) as fake:
        made = call(
            fake, "POST", "/monitors", {"type": "HEARTBEAT", "friendlyName": "job", "interval": 60, "gracePeriod": 30}
        ).body
        address = urlsplit(made["url"])

        def beat(path: str) -> int:
            connection = http.client.HTTPConnection(address.netloc, timeout=10)
            try:
                connection.request("POST", path, "{}")
                return connection.getresponse().status
            finally:
                connection.close()

        assert made["status"] == "STARTED"
        clock.advance(91)
        assert read(fake, made["id"])["status"] == "DOWN"
        assert (beat(f"{address.path}0"), beat(address.path), fake.checks[made["id"]]["beats"]) == (404, 200, 1)
        assert read(fake, made["id"])["status"] == "UP"
        clock.advance(91)
        assert read(fake, made["id"])["status"] == "DOWN"
        for verb, state in (("pause", "PAUSED"), ("start", "STARTED")):
            assert call(fake, "POST", f"/monitors/{made['id']}/{verb}", {}).body["status"] == state
    with UptimeRobotFake(strict=False) as fake:
        for more in ({"url": "https://a.test/"}, {"timeout": 30}, {"keywordValue": "x"}):
            body = {"type": "HEARTBEAT", "friendlyName": "job", "interval": 60, **more}
            assert call(fake, "POST", "/monitors", body).status == 400
        body = {"type": "HTTP", "friendlyName": "web", "url": "https://a.test/", "interval": 60, "timeout": 30, "gracePeriod": 30}
        assert call(fake, "POST", "/monitors", body).status == 400


def test_pingdom_quirks() -> None:
    with PingdomFake() as fake:
        fake.seed(1, tags=["often"])
        key = new(fake, auth="u:p:w", tags=["rare", "often"], requestheaders=["X-A: b"], shouldcontain="ok", paused=True)
        fake.edit(key, autotags=["auto"])
        shown = read(fake, key)
        http_type = shown["type"]["http"]
        assert shown["status"] == "paused" and shown["hostname"] == "shop.test" and "host" not in shown
        assert [(tag["name"], tag["type"], tag["count"]) for tag in shown["tags"]] == [
            ("often", "u", 2),
            ("auto", "a", 1),
            ("rare", "u", 1),
        ]
        assert (http_type["username"], http_type["password"], http_type["port"]) == ("u", "p:w", 443)
        assert set(http_type["requestheaders"]) == {"User-Agent", "X-A"} and "postdata" not in http_type
        call(
            fake,
            "PUT",
            f"/checks/{key}",
            {"shouldnotcontain": "", "requestheaders": [], "auth": "", "probe_filters": ["region:EU"]},
        )
        shown = read(fake, key)
        assert {"shouldcontain", "username"} & shown["type"]["http"].keys() == set() and shown["probe_filters"] == ["region: EU"]
        listed = call(fake, "GET", "/checks").body["checks"][0]
        assert not {"tags", "url", "encryption"} & listed.keys() and listed["type"] == "http"
        assert "tags" in call(fake, "GET", "/checks?include_tags=true").body["checks"][0]
        fake.strict = False
        assert call(fake, "PUT", f"/checks/{key}", {"shouldcontain": "", "shouldnotcontain": "x"}).status == 400


def test_statuscake_quirks() -> None:
    with StatusCakeFake() as fake:
        key = new(
            fake,
            basic_username="u",
            basic_password="canary",
            regions=["london"],
            custom_header='{"B": "2", "A": "1"}',
            tags=["a"],
        )
        shown = read(fake, key)
        assert isinstance(key, str) and "canary" not in json.dumps(shown) and "basic_username" not in shown
        assert [server["region_code"] for server in shown["servers"]] == ["london"] and len(shown["status_codes"]) > 30
        assert shown["custom_header"] == '{"A":"1","B":"2"}' and "find_string" not in shown
        assert call(fake, "PUT", f"/uptime/{key}", {"tags": [], "status_codes_csv": "500"}).status == 204
        assert read(fake, key)["tags"] == [] and read(fake, key)["status_codes"] == ["500"]
        assert form({"tags": []}) == "tags%5B%5D="
        assert "uptime" in call(fake, "GET", "/uptime").body["data"][0]
        assert "uptime" not in call(fake, "GET", "/uptime?nouptime=").body["data"][0]
        assert call(fake, "PUT", f"/uptime/{key}", {"regions": ["atlantis"]}).status == 400


def test_contacts() -> None:
    with UptimeRobotFake(page_size=1) as fake:
        mail, other, slack = fake.add_contact("ops"), fake.add_contact("dev"), fake.add_contact("slack", integration=True)
        page = call(fake, "GET", "/alert-contacts").body
        assert [entry["id"] for entry in page["data"]] == [mail] and f"cursor={mail}" in page["nextLink"]
        assert call(fake, "GET", f"/alert-contacts?cursor={mail}").body["data"][0]["id"] == other
        assert call(fake, "GET", "/integrations").body == {
            "data": [{key: value for key, value in fake.contacts[slack].items() if key != "_integration"}],
            "nextLink": None,
        }
        unknown = [{"alertContactId": 1, "threshold": 0, "recurrence": 0}]
        assert call(fake, "POST", "/monitors", {**CREATE["uptimerobot"], "assignedAlertContacts": unknown}).status == 404
    with PingdomFake() as fake:
        person, team = fake.add_contact("ops"), fake.add_contact("team", team=True)
        assert [entry["id"] for entry in call(fake, "GET", "/alerting/contacts").body["contacts"]] == [person]
        assert [entry["id"] for entry in call(fake, "GET", "/alerting/teams").body["teams"]] == [team]
        key = new(fake, userids=str(person), teamids=str(team))
        assert read(fake, key)["userids"] == [person] and read(fake, key)["teams"] == [{"id": team, "name": "team"}]
        assert call(fake, "POST", "/checks", {**CREATE["pingdom"], "userids": str(team)}).status == 400
    with StatusCakeFake() as fake:
        group = fake.add_contact("ops")
        page = call(fake, "GET", "/contact-groups?limit=10").body
        assert page["data"][0]["id"] == group and page["metadata"]["total_count"] == 1
        assert call(fake, "POST", "/uptime", {**CREATE["statuscake"], "contact_groups": ["9"]}).status == 400


def test_pingdom_maintenance() -> None:
    clock = Clock(1_800_000_000.0)
    with PingdomFake(clock=clock) as fake:
        key = new(fake)
        body = {"description": "Release", "from": 1_800_000_100, "to": 1_800_000_700, "uptimeids": [key]}
        window = call(fake, "POST", "/maintenance", body).body["maintenance"]["id"]
        assert call(fake, "GET", "/maintenance").body["maintenance"][0]["checks"] == {"uptime": [key], "tms": []}
        assert call(fake, "POST", "/maintenance", {**body, "from": 1_700_000_000}).status == 400
        clock.advance(200)
        assert call(fake, "PUT", f"/maintenance/{window}", {"to": 1}).status == 200
        assert fake.maintenance[window]["to"] == fake.maintenance[window]["effectiveto"] == 1_800_000_200
        later = call(fake, "POST", "/maintenance", {**body, "from": 1_800_000_300}).body["maintenance"]["id"]
        listed = call(fake, "GET", "/maintenance?orderby=from&order=desc").body["maintenance"]
        assert [entry["id"] for entry in listed] == [later, window]


def test_statuscake_maintenance() -> None:
    clock = Clock(1_800_000_000.0)  # 2027-01-15T08:00:00Z
    with StatusCakeFake(clock=clock) as fake:
        key = new(fake)
        body = {
            "name": "Release",
            "start_at": "2027-01-15T08:10:00Z",
            "end_at": "2027-01-15T08:20:00Z",
            "timezone": "UTC",
            "tests": [key],
        }
        window = call(fake, "POST", "/maintenance-windows", body).body["data"]["new_id"]

        def state() -> str:
            return call(fake, "GET", "/maintenance-windows").body["data"][0]["state"]

        assert state() == "pending"
        clock.advance(700)
        assert state() == "active" and len(call(fake, "GET", "/maintenance-windows?state=active").body["data"]) == 1
        assert call(fake, "PUT", f"/maintenance-windows/{window}", {"end_at": "2027-01-15T08:00:00Z"}).status == 400
        assert call(fake, "POST", "/maintenance-windows", {**body, "tests": []}).status == 400
        assert call(fake, "DELETE", f"/maintenance-windows/{window}").status == 204


@contextlib.contextmanager
def site() -> Iterator[tuple[str, Callable[[int], None]]]:
    """A web site on loopback whose status can be set; its address and the setter."""
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0])
            self.end_headers()
            self.wfile.write(b"hello")

        def do_HEAD(self) -> None:
            self.send_response(status[0])
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()

    def set_status(code: int) -> None:
        status[0] = code

    try:
        yield f"http://127.0.0.1:{server.server_port}/health", set_status
    finally:
        server.shutdown()
        server.server_close()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.05)


@every
def test_probing_sees_the_site_go_down_and_come_back(provider: str) -> None:
    words = {
        "uptimerobot": {"type": "KEYWORD", "keywordType": "ALERT_NOT_EXISTS", "keywordCaseType": 0, "keywordValue": "hello"},
        "pingdom": {"shouldcontain": "hello"},
        "statuscake": {"find_string": "hello"},
    }[provider]
    wrong = {
        "uptimerobot": {"keywordType": "ALERT_EXISTS"},
        "pingdom": {"shouldcontain": "", "shouldnotcontain": "hello"},
        "statuscake": {"do_not_find": True},
    }[provider]
    with site() as (url, set_status), FAKES[provider](probe=True, probe_interval=0.1) as fake:
        [plain] = fake.seed(1, name="plain", url=url)
        [paused] = fake.seed(1, name="paused", url=url, paused=True)
        [word] = fake.seed(1, name="word", url=url, **words)
        [unwanted] = fake.seed(1, name="unwanted", url=url, **{**words, **wrong})
        until(lambda: state_of(fake, unwanted) == "down")
        assert state_of(fake, plain) == state_of(fake, word) == "up"
        set_status(503)
        until(lambda: state_of(fake, plain) == state_of(fake, word) == "down")
        assert state_of(fake, paused) == "paused"
        set_status(200)
        until(lambda: state_of(fake, plain) == state_of(fake, word) == "up")


@every
def test_run_by_hand(provider: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("by-hand\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes", provider, "--token-file", str(token), "--plan", "free"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    try:
        url = process.stdout.readline().strip()
        parts = url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(parts[0], timeout=20)
        connection.request("GET", f"/{parts[2]}{CHECKS[provider]}", headers={"Authorization": "Bearer by-hand"})
        assert connection.getresponse().status == 200
        assert process.stdout.readline().strip() == f"GET {CHECKS[provider]} 200"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_closing_is_quick_while_a_request_hangs() -> None:
    fake = UptimeRobotFake()
    fake.fail("GET /monitors", "timeout", seconds=60)
    failed: list[BaseException] = []

    def hang() -> None:
        try:
            call(fake, "GET", "/monitors", timeout=30)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    until(lambda: len(fake.requests) == 1)
    fake.close()
    thread.join(timeout=10)
    assert not thread.is_alive() and failed
