# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the alert inbox: an alert is one row, no text can spoil the page, and everybody can read it."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.pages import inbox
from ansible_collections.flaskops.observability.plugins.module_utils.pages.words import NONE
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import browser, pages

SAMPLE: dict[str, Any] = json.loads((Path(__file__).parent / "inbox.json").read_text())
NOW = inbox.seconds_of(SAMPLE["now"]) or 0.0
HOSTILE = "<script>alert(1)</script> \"'>&amp; \x00\x1b[31m\u202e日本語 \ud83d 🔥" + "w" * 900


def at(seconds: float) -> str:
    """A time so many seconds before the page is looked at, as Alertmanager writes it."""
    return inbox.moment(NOW - seconds).isoformat().replace("+00:00", "Z")


def told(
    name: str, status: str, received: float, began: float, ended: float | None = None, **more: str | dict[str, str]
) -> dict[str, Any]:
    """A notification of an alert; times are seconds before the page is looked at."""
    labels = {"alertname": name, "severity": "critical", "namespace": "shop"}
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": f"{name} it is"},
        "startsAt": at(began),
        "endsAt": "0001-01-01T00:00:00Z" if ended is None else at(ended),
        "fingerprint": f"f-{name}",
        "received_ms": round((NOW - received) * 1000),
    } | more


def found(*alerts: dict[str, Any], dropped: int = 0) -> dict[str, Any]:
    return {"alerts": list(alerts), "dropped": dropped}


def hostile() -> dict[str, Any]:
    texts = {"summary": HOSTILE, "description": HOSTILE, "runbook_url": "javascript:alert(1)"}
    labels = {"alertname": HOSTILE, "severity": HOSTILE, HOSTILE: HOSTILE}
    odd = {"startsAt": "9999-12-31T23:59:59-14:00", "endsAt": HOSTILE, "fingerprint": ""}
    return found(
        *[
            one | {"labels": labels, "annotations": texts} | (odd if place % 2 else {})
            for place, one in enumerate(SAMPLE["alerts"])
        ]
    )


STATES: dict[str, dict[str, Any]] = {
    "sample": SAMPLE,
    "nothing": found(),
    "tests only": found(*[one for one in SAMPLE["alerts"] if one["labels"]["alertname"] == inbox.TEST]),
    "hostile": hostile(),
}


@functools.cache
def page_of(name: str, tests: bool = False) -> str:
    return inbox.page(STATES[name], NOW, 15, tests)


def said(html: str) -> str:
    return " ".join(next(pages.read(html).all("body")).text().split())


def rows(given: dict[str, Any]) -> list[list[str]]:
    body = next(pages.read(inbox.page(given, NOW)).all("tbody"))
    return [[" ".join(cell.text().split()) for cell in row.all("th", "td")] for row in body.all("tr")]


@pytest.mark.parametrize("tests", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_page_is_accessible_and_needs_nothing_beside_it(name: str, tests: bool) -> None:
    root = pages.read(page_of(name, tests))
    assert pages.problems(root) == []
    assert pages.beside(root) == []
    assert [node.name for node in root.all("header", "main", "footer")] == ["header", "main", "footer"]


def test_no_text_of_an_alert_becomes_markup_and_no_link_does_anything() -> None:
    html = page_of("hostile")
    assert "<script" not in html and "<script>alert(1)</script> \"'>&amp;" in said(html)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", html)
    assert [node["href"] for node in pages.read(html).all("a")] == ["?refresh=no", "alerts.json"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    (style,) = (node.text() for node in pages.read(page_of("sample")).all("style"))
    assert pages.weak(style, scheme) == {}


def test_an_alert_is_one_row_from_firing_to_resolved() -> None:
    firing = told("Down", "firing", 594, 600)
    assert rows(found(firing)) == [
        ["Down namespace=shop", "firing", "critical", "10 min so far", "Nov 29, 09:22:17 arrived 6.0 s later", "Down it is"]
    ]
    again = told("Down", "firing", 300, 600)
    over = told("Down", "resolved", 58, 600, 60)
    assert rows(found(firing, again, over)) == [
        [
            *("Down namespace=shop", "resolved", "critical", "9 min"),
            *("Nov 29, 09:22:17 to 09:31:17 arrived 6.0 s later, notified 3 times", "Down it is"),
        ]
    ]


def test_an_alert_that_fires_again_is_another_row() -> None:
    first = (told("Down", "firing", 594, 600), told("Down", "resolved", 498, 600, 500))
    shown = rows(found(*first, told("Down", "firing", 94, 100)))
    assert [row[1:4] for row in shown] == [["firing", "critical", "1 min 40 s so far"], ["resolved", "critical", "1 min 40 s"]]


def test_an_alert_of_which_the_end_never_arrived_does_not_fire_for_ever() -> None:
    given = found(told("Down", "firing", 594, 600), told("Down", "firing", 94, 100), told("Down", "resolved", 48, 100, 50))
    assert [row[1:4] for row in rows(given)] == [["resolved", "critical", "50 s"], ["end unknown", "critical", NONE]]
    assert inbox.judge(inbox.episodes(given["alerts"]), [])[0] == "good"


def test_an_alert_of_which_only_the_end_arrived() -> None:
    (row,) = rows(found(told("Down", "resolved", 58, 600, 60), dropped=1))
    assert row[3:5] == ["9 min", "Nov 29, 09:22:17 to 09:31:17 only its end arrived"]


def test_an_end_on_another_day_says_so() -> None:
    (row,) = rows(found(told("Down", "firing", 86000, 86400), told("Down", "resolved", 58, 86400, 60)))
    assert row[4].startswith("Nov 28, 09:32:17 to Nov 29, 09:31:17")


def test_alerts_without_a_fingerprint_are_told_apart_by_their_labels() -> None:
    one, other = (told("Down", "firing", 94, 100, fingerprint="", labels={"alertname": "Down", "pod": pod}) for pod in "ab")
    assert [row[0] for row in rows(found(one, other, one))] == ["Down pod=a", "Down pod=b"]


@pytest.mark.parametrize(
    ("alerts", "tone", "headline"),
    [
        ([], "none", "Nothing has arrived yet"),
        ([told("Down", "firing", 94, 100)], "bad", "1 alert is firing"),
        ([told("A", "firing", 94, 100), told("B", "firing", 94, 100)], "bad", "2 alerts are firing"),
        ([told("Down", "firing", 94, 100), told("Down", "resolved", 48, 100, 50)], "good", "No alert is firing"),
        # Nobody is to do anything about them.
        (
            [told("Watchdog", "firing", 94, 100, labels={"alertname": "Watchdog", "severity": "none"})],
            "good",
            "No alert is firing",
        ),
        ([told(inbox.TEST, "firing", 94, 100)], "good", "No alert is firing"),
    ],
)
def test_verdict(alerts: list[dict[str, Any]], tone: str, headline: str) -> None:
    root = pages.read(inbox.page(found(*alerts), NOW))
    (verdict, *_) = root.all("section")
    assert verdict["class"] == f"verdict {tone}" and next(verdict.all("p")).text() == headline


def test_what_fires_is_first() -> None:
    assert [row[1] for row in rows(SAMPLE)] == ["firing"] * 3 + ["resolved"] * 4
    assert [row[0].split(" ")[-1] for row in rows(SAMPLE)][2] == "prometheus=monitoring/kube-prometheus-stack-prometheus"
    assert "1 critical, 1 warning, in addition to Watchdog" in said(page_of("sample"))


def test_test_alerts_are_folded_and_can_be_shown() -> None:
    closed, opened = page_of("sample"), page_of("sample", True)
    assert "14 test alerts of verify arrived. The last one began at 2026-11-29 09:30:49 UTC" in said(closed)
    assert "arrived 1.2 s later and was resolved after 5.1 s. Show the test alerts" in said(closed).replace("\u00a0", " ")
    heads = [[" ".join(th.text().split()) for th in next(t.all("tbody")).all("th")] for t in pages.read(closed).all("table")]
    assert len(heads) == 1 and not any(inbox.TEST[:6] in head and "Test" in head for head in heads[0])
    tables = list(pages.read(opened).all("table"))
    assert len(tables) == 2 and len(list(next(tables[1].all("tbody")).all("tr"))) == 14
    assert [node["href"] for node in pages.read(closed).all("a") if "tests" in node["href"]] == ["?tests=shown#tests"]
    assert [node["href"] for node in pages.read(opened).all("a") if node["href"].endswith("#tests")] == ["./#tests"]


@pytest.mark.parametrize(
    ("refreshes", "tests", "links"),
    [
        (15, False, ["?refresh=no", "?tests=shown#tests"]),
        (0, False, ["./", "?refresh=no&tests=shown#tests"]),
        (15, True, ["?refresh=no&tests=shown", "./#tests"]),
        (0, True, ["?tests=shown", "?refresh=no#tests"]),
    ],
)
def test_a_reader_s_choices_do_not_undo_one_another(refreshes: int, tests: bool, links: list[str]) -> None:
    hrefs = [node["href"] for node in pages.read(inbox.page(SAMPLE, NOW, refreshes, tests)).all("a")]
    assert [href for href in hrefs if not href.startswith("http") and href != "alerts.json"] == links


@pytest.mark.parametrize("url", ["https://example.com/a?b=c#d", "http://runbooks/Down.md"])
def test_runbook(url: str) -> None:
    html = inbox.page(found(told("Down", "firing", 94, 100, annotations={"runbook_url": url})), NOW)
    assert [(node["href"], node.text()) for node in pages.read(html).all("a") if "Runbook" in node.text()] == [
        (url, "Runbook of Down")
    ]


@pytest.mark.parametrize(
    "url", ["", "javascript:alert(1)", " https://a", "data:text/html,x", "//example.com", "https://a b", "https://"]
)
def test_what_is_no_address_of_the_web_is_no_link(url: str) -> None:
    html = inbox.page(found(told("Down", "firing", 94, 100, annotations={"runbook_url": url})), NOW)
    assert "Runbook" not in html


def test_many_alerts_are_cut_and_the_page_says_so() -> None:
    html = inbox.page(found(*[told(f"A{n}", "firing", 94, 100) for n in range(inbox.MOST + 7)]), NOW)
    assert len(list(pages.read(html).all("tr"))) == inbox.MOST + 1
    assert "and 7 older alerts, which alerts.json has" in said(html)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_time_is_worse_than_none(written: str) -> None:
    inbox.page(found(told("Down", "resolved", 94, 100, startsAt=written, endsAt=written)), NOW)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1970-01-01T00:00:01Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2026-11-29T09:32:17.123456789Z", 1795944737.123456),
        ("2026-11-29T10:32:17+01:00", 1795944737),
        ("yesterday", None),
    ],
)
def test_times_of_alertmanager(written: str, seconds: float | None) -> None:
    assert inbox.seconds_of(written) == (pytest.approx(seconds, abs=1e-5) if seconds else None)


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_browser_shows_all_of_it_without_scrolling_sideways_or_asking_for_more(name: str) -> None:
    if not browser.CHROMIUM:
        pytest.skip("There is no Chromium here; install the package chromium to look at the page in a real browser.")
    widths = (320, 390, 736, 1280)
    wider, asked = browser.overflows(page_of(name, True), widths)
    assert wider == [0] * len(widths)
    assert asked == ["/"] + ["/page"] * len(widths)
