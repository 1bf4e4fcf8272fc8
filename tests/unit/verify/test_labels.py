# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels that reach one receiver: what is found is right, and nothing is there where nothing was found."""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify.labels import end, samples, solve
from ansible_collections.flaskops.observability.plugins.module_utils.verify.routing import Labels, outcomes

from .test_routing import NAMES, VALUES, tree

GIVEN = {"alertname": "VerifyReceiver"}


def ends(route: dict[str, Any], labels: dict[str, str]) -> set[str]:
    """The receivers of an alert, by what amtool has confirmed."""
    (ways,) = outcomes(route, Labels(dict(labels)))
    return {way.receiver for way in ways}


@pytest.mark.parametrize("seed", range(40))
def test_what_is_found_is_all_that_there_is(seed: int) -> None:
    route = tree(random.Random(seed))
    # What no matcher names stands for all of its kind, and nothing for a label that is not there.
    alerts = [dict(zip(NAMES, each, strict=True)) for each in itertools.product((*VALUES, "other", "nothing", "x"), repeat=4)]
    reached = [ends(route, {**GIVEN, **{name: value for name, value in each.items() if value}}) for each in alerts]
    for number in range(6):
        wanted, allowed = f"r{number}", {f"r{number}", "r0"}
        labels = solve(route, wanted, allowed, GIVEN)
        assert (labels is None) == (not any(wanted in found <= allowed for found in reached))
        if labels is not None:
            assert wanted in ends(route, labels) <= allowed and labels["alertname"] == "VerifyReceiver"


@pytest.mark.parametrize(
    "pattern",
    [
        *("critical|warning", "^(?:a|b)$", "web-(a|b)+", "shop-.+", r"10\.0\.[0-9]+\.\d+", "[^/]+/x", ".*", "(prod|stag.*)"),
        *(r"prod-\d{2}", "(?i)critical", "[a-z]{2,}", r"[\w-]+", ".{1,5}", r"\bweb\b", "(ab|c){2}d+", r"\S+"),
    ],
)
def test_samples_fit_their_expression(pattern: str) -> None:
    found = samples(pattern)
    assert found and all(re.fullmatch(pattern, text) for text in found)


def test_each_alternative_has_a_sample() -> None:
    assert samples("critical|warning") == ["critical", "warning"] and samples(r"\p{L}+") == []


def test_the_settings_of_the_route() -> None:
    below = {"receiver": "team", "matchers": ["app=web"], "group_wait": "1s", "mute_time_intervals": ["night"]}
    route = {"receiver": "none", "group_by": ["app"], "group_wait": "30s", "group_interval": "5m", "routes": [below]}
    found = end(route, Labels({"app": "web"}), "team") or {}
    wanted = {"group_by": ["app"], "group_wait": "1s", "group_interval": "5m", "mute_time_intervals": ["night"]}
    assert {key: found.get(key) for key in wanted} == wanted
    assert end(route, Labels({"app": "shop"}), "team") is None


def test_a_tree_like_ours_is_solved_at_once() -> None:
    """Forty applications with receivers of their own, before those of the stack."""
    own = [
        {
            "receiver": f"shop{n}/shop{n}/team",
            "matchers": [f'namespace="shop{n}"', f'app="shop{n}"', 'severity=~"critical|warning|info"'],
            "continue": True,
            "routes": [
                {"receiver": f"shop{n}/shop{n}/{name}", "matchers": [f'severity=~"{severities}"'], "continue": True}
                for name, severities in (("team", "critical|warning|info"), ("pager", "critical"))
            ],
        }
        for n in range(40)
    ]
    stack = [{"receiver": "on-call", "matchers": ['severity=~"critical"'], "continue": True}]
    route = {"receiver": "none", "routes": [{"receiver": "none", "matchers": ['alertname="Watchdog"']}, *own, *stack]}
    labels = solve(route, "shop39/shop39/team", {"none"}, GIVEN)
    assert labels == {**GIVEN, "namespace": "shop39", "app": "shop39", "severity": "warning"}
    assert solve(route, "shop39/shop39/pager", {"none"}, GIVEN) is None
    found = solve(route, "shop39/shop39/pager", {"none", "on-call", "shop39/shop39/team"}, GIVEN)
    assert found == {**labels, "severity": "critical"}
    assert solve(route, "on-call", {"none"}, GIVEN) == {**GIVEN, "severity": "critical"}
