# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module for a heartbeat: its life against the fake, what is refused, and that nobody is shown its address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import heartbeat
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.status import check_states

from .support import TOKEN, Bench, bench

TAG = "flaskops-heartbeat-test"


@pytest.fixture
def made() -> Iterator[Bench]:
    with bench("uptimerobot") as found:
        yield found


def beat(made: Bench, check_mode: bool = False, /, *, hidden: bool = True, **params: Any) -> dict[str, Any]:
    """Run the module on the heartbeat `stack`; hidden is whether the task has no_log."""
    given = {"name": "stack", "environment": "test", "_ansible_no_log": hidden, **params}
    return made.run("uptimerobot_heartbeat", check_mode, **given)


def test_a_heartbeat_lives_and_dies(made: Bench) -> None:
    made.fake.add_contact("On call")
    planned = beat(made, True, interval=60)
    assert planned["changed"] and planned["actions"] == ["create"] and "url" not in planned and made.fake.writes == []

    options = {"interval": 60, "grace_period": 120, "contacts": [{"contact": "On call"}]}
    first = beat(made, **options)
    stored = made.fake.checks[first["id"]]
    assert first["changed"] and first["url"] == stored["url"]
    assert (stored["type"], stored["interval"], stored["gracePeriod"], stored["tagNames"]) == ("HEARTBEAT", 60, 120, [TAG])
    assert len(stored["assignedAlertContacts"]) == 1

    made.fake.clear()
    again = beat(made, **options)
    assert not again["changed"] and again["url"] == first["url"] and made.fake.writes == []
    changed = beat(made, True, **{**options, "grace_period": 30})
    assert changed["diff"] == {"before": {"grace_period": 120}, "after": {"grace_period": 30}} and made.fake.writes == []
    assert beat(made, **{**options, "grace_period": 30})["actions"] == ["update"]
    assert made.fake.checks[first["id"]]["gracePeriod"] == 30

    assert beat(made, True, state="absent")["actions"] == ["delete"] and made.fake.checks
    gone = beat(made, state="absent")
    assert gone["changed"] and "url" not in gone and made.fake.checks == {}
    assert not beat(made, state="absent")["changed"]


def test_defaults_of_a_new_one(made: Bench) -> None:
    stored = made.fake.checks[beat(made)["id"]]
    assert (stored["interval"], stored["gracePeriod"]) == (300, 300)


def test_nobody_is_shown_the_address(made: Bench) -> None:
    open_result = beat(made, hidden=False)
    key = made.fake.checks[open_result["id"]]["url"].rpartition("-")[2]
    shown = [open_result, beat(made, hidden=False, interval=60), made.run("uptimerobot_monitor_info")]
    made.fake.fail("PATCH /monitors/*", status=400, body={"message": f"no heartbeat at {key}"})
    shown += [beat(made, hidden=False, interval=90)]
    assert "url" not in open_result and shown[3]["failed"]
    assert [key in each["raw"] for each in shown] == [False] * 4
    assert shown[2]["checks"][0]["url"] == "********"


@pytest.mark.parametrize("bare", [False, True])
def test_the_address_is_whole_whatever_the_provider_shows_of_it(made: Bench, bare: bool) -> None:
    made.fake.bare_addresses = bare
    done = beat(made)
    end = f"m{done['id']}-" + made.fake.checks[done["id"]]["url"].rpartition("-")[2]
    assert done["url"].endswith(f"/{end}")
    assert done["url"].startswith(heartbeat.ADDRESSES if bare else "http://127.0.0.1")


def test_one_without_an_address_is_no_heartbeat(made: Bench) -> None:
    key = beat(made)["id"]
    made.fake.edit(key, url="")
    result = beat(made)
    assert result["failed"] and str(key) in result["msg"]


def test_a_lagging_provider_makes_no_second_one() -> None:
    with bench("uptimerobot", stale_reads=3) as made:
        first = beat(made, interval=60)
        assert first["url"] == beat(made, interval=60)["url"] and len(made.fake.checks) == 1


def test_a_lost_reply_makes_no_second_one(made: Bench) -> None:
    made.fake.fail("POST /monitors", "reset_after_write")
    done = beat(made, interval=60)
    assert done["url"] and len(made.fake.checks) == 1


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"interval": 5}, "interval"),
        ({"grace_period": 90000}, "grace_period"),
        ({"contacts": [{"contact": "7", "delay": 30}]}, "7"),
        ({"contacts": [{"contact": "Nobody"}]}, "Nobody"),
        ({"environment": "Upper"}, "heartbeat-Upper"),
        ({"name": "  "}, "name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(made: Bench, wrong: dict[str, Any], word: str) -> None:
    result = beat(made, **wrong)
    assert result["failed"] and word in result["msg"] and made.fake.checks == {}


def test_a_monitor_of_another_type_stays_somebody_elses(made: Bench) -> None:
    (key,) = made.fake.seed(name="stack", tags=[TAG])
    for more in ({}, {"state": "absent"}):
        result = beat(made, **more)
        assert result["failed"] and "HTTP" in result["msg"] and key in made.fake.checks


def test_a_list_of_checks_prunes_no_heartbeat(made: Bench) -> None:
    beat(made)
    given = {"provider": "uptimerobot", "environment": "test", "prune": True, "prune_all": True, "checks": []}
    pruned = made.run("external_checks", **given)
    assert not pruned["changed"] and pruned["warnings"] == [] and made.fake.names() == ["stack"]


def test_it_is_up_as_long_as_heartbeats_come(made: Bench) -> None:
    url = beat(made, interval=60, grace_period=30)["url"]

    def state() -> tuple[str, bool]:
        asked = ("uptimerobot_heartbeat", heartbeat.environment_of("test"), ["stack"], TOKEN, made.fake.url)
        (found,) = check_states(*asked, ask_contacts=True)
        return found["state"], found["alerts"]

    assert state() == ("unknown", False)
    with urlopen(url, data=b"{}", timeout=10) as reply:
        assert reply.status == 200
    assert state()[0] == "up"
    made.clock.advance(90)
    assert state()[0] == "up"
    made.clock.advance(1)
    assert state()[0] == "down"
    with urlopen(url, timeout=10):
        assert state()[0] == "up"
