# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neutral words to each provider's options, and back."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import (
    model,
    neutral,
    pingdom,
    statuscake,
    uptimerobot,
)
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.client import CheckError

from . import support  # noqa: F401  puts the collection on the path

ALL = tuple(neutral.TITLES)
# Providers, neutral option and value, and the provider's options.
EXACT: list[tuple[tuple[str, ...], str, Any, dict[str, Any]]] = [
    (ALL, "url", "https://a.test/x", {"url": "https://a.test/x"}),
    (ALL, "keyword", "ok", {"keyword": "ok"}),
    (ALL, "keyword_match", "not_contains", {"keyword_match": "not_contains"}),
    (ALL, "tags", ["b", "a"], {"tags": ["b", "a"]}),
    (ALL, "interval", 300, {"interval": 300}),
    (("uptimerobot",), "interval", 600, {"interval": 600}),
    (("pingdom",), "interval", 60, {"interval": 60}),
    (("statuscake",), "interval", 86400, {"interval": 86400}),
    (ALL, "timeout", 20, {"check_timeout": 20}),
    (("uptimerobot",), "expected_status", ["200", "3xx"], {"expected_status_codes": ["200", "3xx"]}),
    (("uptimerobot",), "regions", ["europe", "north_america"], {"regions": ["eu", "na"]}),
    (("uptimerobot",), "regions", ["asia", "oceania"], {"regions": ["as", "oc"]}),
    (("pingdom",), "regions", ["europe", "south_america"], {"regions": ["EU", "LATAM"]}),
    (("pingdom",), "regions", ["asia", "oceania"], {"regions": ["APAC"]}),
    (("uptimerobot",), "tls_expiry_days", 14, {"tls_expiry_days": [14]}),
    (("uptimerobot",), "tls_expiry_days", 0, {"tls_expiry_days": []}),
    (("pingdom",), "tls_expiry_days", 14, {"tls_expiry_days": 14}),
    (("pingdom",), "tls_expiry_days", 0, {"tls_expiry_days": 0}),
    (("pingdom", "statuscake"), "contacts", ["7"], {"contacts": ["7"]}),
    (("uptimerobot",), "contacts", ["7"], {"contacts": [{"contact": "7", "delay": 0, "repeat": 0}]}),
]
# Provider, neutral option and value, which is refused, and the options where less is accepted.
LESS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("pingdom", "interval", 30, {"interval": 60}),
    ("pingdom", "interval", 600, {"interval": 900}),
    ("pingdom", "interval", 86400, {"interval": 3600}),
    ("statuscake", "interval", 120, {"interval": 300}),
    ("statuscake", "interval", 10, {"interval": 30}),
    ("uptimerobot", "timeout", 61, {"check_timeout": 60}),
    ("pingdom", "timeout", 31, {"check_timeout": 30}),
    ("statuscake", "timeout", 2, {"check_timeout": 5}),
    ("statuscake", "timeout", 76, {"check_timeout": 75}),
    ("pingdom", "expected_status", ["200"], {}),
    ("uptimerobot", "regions", ["south_america", "europe"], {"regions": ["eu"]}),
    ("uptimerobot", "regions", ["south_america"], {}),
    ("pingdom", "regions", ["asia"], {"regions": ["APAC"]}),
    ("statuscake", "regions", ["europe"], {}),
    ("statuscake", "tls_expiry_days", 14, {"tls_alert": True}),
]


def translate(provider: str, option: str, value: Any, *downgrade: str, **more: Any) -> tuple[dict[str, Any], list[str]]:
    done = neutral.Translation(provider, {"name": "shop", option: value, **more}, downgrade)
    return {name: found for name, found in done.options.items() if name != "name"}, done.warnings


@pytest.mark.parametrize(
    ("provider", "option", "value", "options"), [(provider, *case[1:]) for case in EXACT for provider in case[0]]
)
def test_there_and_back(provider: str, option: str, value: Any, options: dict[str, Any]) -> None:
    assert translate(provider, option, value) == (options, [])
    back = neutral.neutral_of(provider, options)
    assert back == {option: sorted(value) if isinstance(value, list) and option != "tags" else value}


@pytest.mark.parametrize(("provider", "option", "value", "options"), LESS)
def test_less_is_refused_or_accepted(provider: str, option: str, value: Any, options: dict[str, Any]) -> None:
    with pytest.raises(CheckError, match=f"change {option}, or add it to downgrade"):
        translate(provider, option, value)
    others = [name for name in neutral.DOWNGRADES if name != option]
    with pytest.raises(CheckError):
        translate(provider, option, value, *others)
    found, warnings = translate(provider, option, value, option)
    assert found == options and len(warnings) == 1 and warnings[0].endswith(".")


@pytest.mark.parametrize("codes", [["200"], ["2xx"], ["2xx", "3xx"], ["2xx", "304", "404"], ["5XX"]])
def test_statuscake_counts_the_codes_that_are_down(codes: list[str]) -> None:
    options, warnings = translate("statuscake", "expected_status", codes)
    down = options["down_status_codes"]
    assert warnings == [] and not [code for code in down if neutral.expects(codes, code)]
    assert "500" in down or codes == ["5XX"]
    assert neutral.neutral_of("statuscake", options) == {"expected_status": sorted(code.lower() for code in codes)}


def test_own_options_win() -> None:
    own = {"regions": ["london"], "interval": 60, "down_status_codes": ["500"]}
    options, warnings = translate("statuscake", "regions", ["europe"], statuscake=own, expected_status=["200"])
    assert options == {**own} and warnings == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://A.test", "https://a.test/", True),
        ("https://a.test:443/x", "https://a.test/x", True),
        ("http://a.test:80", "http://a.test/", True),
        ("http://a.test:443/", "http://a.test/", False),
        ("https://a.test/X", "https://a.test/x", False),
        ("https://a.test/?a=1", "https://a.test/", False),
        ("http://[FD00::1]:8080/", "http://[fd00::1]:8080", True),
        ("https://a.test/#top", "https://a.test/", True),
    ],
)
def test_addresses_that_are_the_same(one: str, other: str, same: bool) -> None:
    assert (model.canonical_url(one) == model.canonical_url(other)) is same


@pytest.mark.parametrize(
    "url", ["https://a.test/", "http://a.test:8080/x?y=1&z=%20", "https://[fd00::1]:8443/", "https://bücher.test/ü"]
)
def test_pingdom_takes_an_address_apart_and_puts_it_together(url: str) -> None:
    sent = pingdom.fields_of({"url": url}, {})
    body = {"hostname": sent["host"], "type": {"http": {name: sent[name] for name in ("url", "encryption", "port")}}}
    assert pingdom.options_of(body)["url"] == model.canonical_url(url)


def test_texts_come_back_from_uptimerobot_with_escapes() -> None:
    body = {"friendlyName": "a &amp; b &lt;c&gt;", "url": "https://a.test/?x=1&amp;y=2"}
    found = uptimerobot.options_of(body)
    assert (found["name"], found["url"]) == ("a & b <c>", "https://a.test/?x=1&y=2")


@pytest.mark.parametrize("module", [uptimerobot, pingdom, statuscake])
def test_an_answer_may_lack_what_the_document_promises(module: Any) -> None:
    assert module.options_of({})["name"] == ""


def test_every_option_of_a_module_has_a_place_in_its_provider() -> None:
    for module, provider in (
        (uptimerobot, uptimerobot.UptimeRobot),
        (pingdom, pingdom.Pingdom),
        (statuscake, statuscake.StatusCake),
    ):
        assert set(module.SPEC) <= set(provider.options)


@pytest.mark.parametrize("tag", ["", "A", "a_b", "-a", "a-", "a" * 56, "ä", "a,b", "a b"])
def test_environments_that_make_no_tag(tag: str) -> None:
    with pytest.raises(CheckError):
        model.owner_tag(tag)
