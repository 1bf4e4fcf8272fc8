# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is asked for and whatever fails, in any order: at most one check of ours per name, and in the end what was wanted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import support
from .support import OTHER, TAG, Bench

NAMES = ["shop", "Shop", "shop & co", "lädchen"]
FAULTS: list[dict[str, Any]] = [
    {"status": 500}, {"status": 500, "after_write": True}, {"status": 429, "retry_after": 1}, {"status": 429, "times": 3},
    {"status": 403}, {"status": 503, "times": 20}, {"status": 404}, {"kind": "reset"}, {"kind": "reset_after_write"},
    {"kind": "half_json"}, {"kind": "empty", "times": 2}, {"kind": "malformed"},
]  # fmt: skip
STEP = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES),
        "state": st.sampled_from(["present", "started", "paused", "absent"]),
        "interval": st.sampled_from([60, 300, 900]),
        "keyword": st.sampled_from([None, "ok"]),
        "check_mode": st.booleans(),
        "fault": st.none() | st.tuples(st.sampled_from(["* *", "POST *", "GET *", "P* *", "DELETE *"]), st.sampled_from(FAULTS)),
        "meddle": st.sampled_from([None, None, None, "remove", "pause", "rename"]),
    }
)


def ours(made: Bench, name: str) -> list[Any]:
    field = support.FIELD_TAGS[made.provider]
    key = "friendlyName" if made.provider == "uptimerobot" else "name"
    return [check for check in made.fake.checks.values() if check[key] == name and TAG in check[field]]


def meddle(made: Bench, name: str, what: str | None) -> None:
    """What somebody does at the provider meanwhile."""
    there = [key for key in made.fake.checks if made.fake.checks[key] in ours(made, name)]
    if not there or what is None:
        return
    if what == "remove":
        made.fake.remove(there[0])
    elif what == "pause":
        made.fake.edit(there[0], paused=True)
    else:
        made.fake.edit(there[0], **{"friendlyName" if made.provider == "uptimerobot" else "name": "renamed"})


# Only UptimeRobot is known to answer from copies that lag behind.
@pytest.mark.parametrize(("provider", "stale"), [*((provider, 0) for provider in sorted(support.MODULES)), ("uptimerobot", 2)])
def test_sequences(provider: str, stale: int) -> None:
    with support.bench(provider, stale_reads=stale, page_size=2) as made:
        foreign = {"uptimerobot": {"friendlyName": "shop"}}.get(provider, {"name": "shop"})

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
        @given(st.lists(STEP, min_size=1, max_size=6))
        def play(steps: list[dict[str, Any]]) -> None:
            made.fake.reset()
            theirs = made.fake.seed(1, name="shop", tags=["theirs"])[0]
            for step in steps:
                play_one(made, dict(step))
            # Somebody else's check of the same name was never touched.
            assert all(made.fake.checks[theirs][key] == value for key, value in foreign.items())

        play()


def play_one(made: Bench, step: dict[str, Any]) -> None:
    name, check_mode, fault, what = step["name"], step.pop("check_mode"), step.pop("fault"), step.pop("meddle")
    meddle(made, name, what)
    if fault:
        made.fake.fail(fault[0], **fault[1])
    made.fake.clear()
    params = {**step, "environment": "test", "url": f"https://{NAMES.index(name)}.test/", "recreate": True}
    result = made.run(support.MODULES[made.provider], check_mode, **params)
    if check_mode:
        assert made.fake.writes == []
    made.heal()
    for other in NAMES:
        assert len(ours(made, other)) <= 1, other
    if result["failed"] or check_mode:
        return
    found = ours(made, name)
    assert len(found) == (step["state"] != "absent")
    if found and step["state"] in ("started", "paused"):
        assert found[0]["paused"] is (step["state"] == "paused")
    made.fake.clear()
    again = made.run(support.MODULES[made.provider], **params)
    assert not again["failed"], again["msg"]
    assert again["changed"] is False and made.fake.writes == []


ENVIRONMENTS = ["test", "test-2"]
RUN = st.fixed_dictionaries(
    {
        "environment": st.sampled_from(ENVIRONMENTS),
        "checks": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(NAMES),
                    "state": st.sampled_from(["present", "present", "paused", "absent"]),
                    "interval": st.sampled_from([300, 900]),
                }
            ),
            max_size=4,
            unique_by=lambda check: check["name"],
        ),
        "prune": st.booleans(),
        "prune_all": st.booleans(),
        "maintenance": st.sampled_from([None, None, None, "begin", "end"]),
        "check_mode": st.booleans(),
        "fault": st.none() | st.tuples(st.sampled_from(["* *", "POST *", "GET *", "P* *", "DELETE *"]), st.sampled_from(FAULTS)),
    }
)


def held(made: Bench, environment: str) -> dict[Any, dict[str, Any]]:
    """A copy of the checks with the tag of an environment that are of a type that we manage, by id."""
    field, tag = support.FIELD_TAGS[made.provider], f"flaskops-{environment}"
    return {
        key: {name: value for name, value in check.items() if name != "_status"}
        for key, check in made.fake.checks.items()
        if tag in check[field] and check.get("type", check.get("test_type")) not in OTHER[made.provider].values()
    }


@pytest.mark.parametrize("provider", sorted(support.MODULES))
def test_sequences_of_lists(provider: str) -> None:
    """Two environments of one account, pruned and put under maintenance in any order, under any fault."""
    with support.bench(provider, page_size=2) as made:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
        @given(st.lists(RUN, min_size=1, max_size=6))
        def play(runs: list[dict[str, Any]]) -> None:
            made.fake.reset()
            ids = made.fake.seed(1, name="shop", tags=["theirs"])
            for environment in ENVIRONMENTS:
                ids += made.fake.seed(1, name="of another type", tags=[f"flaskops-{environment}"], **OTHER[provider])
            foreign = {key: dict(made.fake.checks[key]) for key in ids}
            for run in runs:
                play_list(made, dict(run))
            assert {key: made.fake.checks.get(key) for key in ids} == foreign

        play()


def play_list(made: Bench, run: dict[str, Any]) -> None:
    check_mode, fault, environment = run.pop("check_mode"), run.pop("fault"), run["environment"]
    (other,) = (name for name in ENVIRONMENTS if name != environment)
    checks = [{**check, "url": f"https://{NAMES.index(check['name'])}.example.com/"} for check in run["checks"]]
    params = {**run, "checks": checks, "provider": made.provider}
    before, theirs = held(made, environment), held(made, other)
    if fault:
        made.fake.fail(fault[0], **fault[1])
    made.fake.clear()
    result = made.run("external_checks", check_mode, **params)
    made.heal()
    key = "friendlyName" if made.provider == "uptimerobot" else "name"
    names = [check[key] for check in held(made, environment).values()]
    if not (run["prune"] and run["prune_all"]) and all(check["state"] == "absent" for check in checks):
        gone = {check[key] for check in before.values()} - set(names)
        assert gone <= {check["name"] for check in checks}, "nobody asked twice"
    assert len(names) == len(set(names)) and held(made, other) == theirs
    windows = [window.get("description") or window.get("name") for window in open_windows(made)]
    assert len(windows) == len(set(windows))
    if check_mode:
        assert made.fake.writes == [] and held(made, environment) == before
    elif not run["maintenance"] and not result["failed"]:
        present, absent = ({c["name"] for c in checks if (c["state"] == "absent") is gone} for gone in (False, True))
        kept = set() if run["prune"] else {check[key] for check in before.values()} - absent
        assert set(names) == present | kept
        made.fake.clear()
        again = made.run("external_checks", **params)
        assert not again["failed"] and again["changed"] is False and made.fake.writes == []
    made.clock.advance(1)


def open_windows(made: Bench) -> list[dict[str, Any]]:
    """The maintenance windows that haven't ended."""
    now = made.clock()
    ends = [
        (window, window.get("to") or datetime.fromisoformat(window["end_at"]).timestamp())
        for window in made.fake.maintenance.values()
    ]
    return [window for window, end in ends if end > now]
