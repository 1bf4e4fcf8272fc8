# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the scheduled verification: what it says, that no text can spoil it, and that everybody can read it."""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.pages import verification
from ansible_collections.flaskops.observability.plugins.module_utils.pages.words import lasted, text

from tests import browser, pages

SAMPLE: dict[str, Any] = json.loads((Path(__file__).parent / "verification.json").read_text())
NOW = SAMPLE["ended"] + 95
HOSTILE = "<script>alert(1)</script> \"'>&amp; javascript:x \x00\x1b[31m\u202e日本語 \ud83d 🔥" + "w" * 900


def found(**more: Any) -> dict[str, Any]:
    return copy.deepcopy(SAMPLE) | more


def row(link: str, status: str = "ok", **more: Any) -> dict[str, Any]:
    known = {"evidence": "", "cause": "", "next_command": "", "query": "", "follows": "", "seconds": 0.1}
    return {"link": link, "status": status, "since": NOW - 60, "before": "", "lasted": 0.0, **known, **more}


def hostile() -> dict[str, Any]:
    """The same with every text of the cluster replaced by one that tries everything."""
    made = found(app=HOSTILE, namespace=HOSTILE, error=HOSTILE, lines_error=HOSTILE)
    for place, result in enumerate(made["results"]):
        result |= {key: f"{HOSTILE}{place}" for key in ("link", "evidence", "cause", "query", "next_command")}
        result["follows"] = result["follows"] and HOSTILE
    made["changes"] = [change | {"link": HOSTILE} for change in made["changes"]]
    made["lines"] = {HOSTILE: made["lines"]["victoria_logs"] | {"error": HOSTILE}}
    return made


NOTHING = {"results": [], "changes": [], "lines": {}, "runs": 0, "ended": 0.0, "seconds": 0.0}
STATES: dict[str, dict[str, Any]] = {
    "sample": found(),
    "well": found(results=[row("node"), row("image"), row("grafana", "skipped")], changes=[]),
    "first": found(**NOTHING, running=True),
    "cannot begin": found(**NOTHING, errors=1, error="ApiError: the API server refuses the credentials"),
    "hostile": hostile(),
    "alike": found(results=[row("a b"), row("a-b"), row("日本", "failed", cause="x", next_command="kubectl get x")], changes=[]),
}


@functools.cache
def page_of(name: str) -> str:
    return verification.page(STATES[name], NOW, 60)


def said(html: str) -> str:
    return " ".join(next(pages.read(html).all("body")).text().split())


def cells(html: str, ident: str) -> list[str]:
    (found,) = [node for node in pages.read(html).all("tr") if node["id"] == ident]
    return [" ".join(node.text().split()) for node in found.all("th", "td")]


@pytest.mark.parametrize("name", STATES)
def test_page_is_accessible_and_needs_nothing_beside_it(name: str) -> None:
    root = pages.read(page_of(name))
    assert pages.problems(root) == []
    assert pages.beside(root) == []
    assert [node.name for node in root.all("header", "main", "footer")] == ["header", "main", "footer"]


def test_no_text_of_the_cluster_becomes_markup() -> None:
    html = page_of("hostile")
    assert "<script" not in html and "<script>alert(1)</script> \"'>&amp; javascript:x" in said(html)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", html)
    assert {node.name for node in pages.read(html).all()} - {"wbr"} <= {
        node.name for node in pages.read(page_of("sample")).all()
    } | {
        "ul",
        "li",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    (style,) = (node.text() for node in pages.read(page_of("sample")).all("style"))
    assert set(re.findall(r"var\(--([a-z-]+)\)", style)) - {"tone", "back"} <= set(pages.colours(style)[scheme])
    assert pages.weak(style, scheme) == {}


def test_what_is_broken_comes_first_with_its_cause_and_the_next_command() -> None:
    root = pages.read(page_of("sample"))
    (first,) = [s for s in root.all("section") if s["aria-labelledby"] == "attention"]
    text = " ".join(first.text().split())
    assert "rules failed failed for 21 min 35 s, since 2026-11-29 09:10:42 UTC" in text.replace("\u00a0", " ")
    assert "the alert HighErrorRate was taken out of the PrometheusRule flask-app" in text
    assert [node.text().strip() for node in first.all("pre")] == ["kubectl -n flask-app get prometheusrules -o yaml"]
    assert [node["href"] for node in first.all("a")] == ["#link-rules", "#link-promise"]


def test_each_row_says_since_when_it_has_its_status_and_what_it_was_before() -> None:
    html = page_of("sample").replace("\u00a0", " ")
    assert cells(html, "link-node") == [
        *("node", "ok", "1 of 1 nodes ready, 1 of them with the app's pods", "Nov 26, 02:30 for 3 d 7 h", "none seen"),
    ]
    assert cells(html, "link-victoria-logs")[-2:] == ["Nov 28, 06:55 for 1 d 2 h", "from failed after 10 min"]
    assert cells(html, "link-promise")[1:3] == ["failed", "41 objects of 3 promises compared because of rules"]
    assert cells(html, "link-grafana")[1] == "skipped"


def test_the_newest_changes_and_from_when_on_they_are_known() -> None:
    (section,) = [s for s in pages.read(page_of("sample")).all("section") if s["aria-labelledby"] == "changes"]
    items = [" ".join(node.text().split()) for node in section.all("li")]
    assert items[0] == "Nov 29, 09:10:42 UTC rules ok became failed 21 min 35 s ago" and len(items) == 4
    assert "Known from the start of this pod on, 2026-11-26 02:30:01 UTC" in " ".join(section.text().split())


def test_last_and_next_run() -> None:
    text = said(page_of("sample"))
    assert "Last run 1 min 35 s ago 09:30:42 UTC , took 12 s Next run in 3 min 13 s 09:35:30 UTC" in text
    assert "Last change 21 min 35 s ago rules: ok, now failed" in text
    assert "Next run under way" in said(verification.page(found(running=True), NOW))


@pytest.mark.parametrize(
    ("state", "tone", "headline"),
    [
        ({}, "bad", "1 link is broken, and 1 more because of it"),
        (
            {"results": [row("a", "failed"), row("b", "failed"), row("c", "failed", follows="a")]},
            "bad",
            "2 links are broken, and 1",
        ),
        ({"results": [row("a"), row("b"), row("c", "skipped")]}, "good", "All 2 links work"),
        ({"results": [row("c", "skipped")]}, "none", "Nothing was verified"),
        (NOTHING, "none", "The first verification is under way"),
        (NOTHING | {"error": "E"}, "bad", "No verification could begin"),
        ({"error": "E"}, "bad", "The last verification could not begin"),
        # As VerifyStale has it, after three times the time between two runs.
        ({"results": [row("a"), row("b")], "ended": NOW - 899}, "good", "All 2 links work"),
        ({"results": [row("a"), row("b")], "ended": NOW - 901}, "bad", "No verification has ended for 15 min 1 s"),
    ],
)
def test_verdict(state: dict[str, Any], tone: str, headline: str) -> None:
    given = found(**state)
    assert (verification.judge(given, NOW)[0], verification.judge(given, NOW)[1].replace("\u00a0", " ")[: len(headline)]) == (
        tone,
        headline,
    )
    (verdict, *_) = pages.read(verification.page(given, NOW)).all("section")
    assert verdict["class"] == f"verdict {tone}"


def test_why_a_run_could_not_be_done_is_said_whole() -> None:
    reason = "the API server refuses the credentials " + "x" * 900
    html = verification.page(found(error=reason, lines_error="the back ends can't be found"), NOW)
    assert reason in said(html) and "the back ends can't be found" in said(html)


def test_numbered_lines_by_back_end() -> None:
    html = verification.page(found(lines={"loki": SAMPLE["lines"]["victoria_logs"] | {"error": "it answers 503"}}), NOW)
    assert "loki 18980 40 0 0 0 it gave no answer: it answers 503" in said(html)


@pytest.mark.parametrize(
    ("state", "after", "seconds"),
    [
        ({}, 95, 60),  # long before the next run
        ({}, 288, 13),  # the next run begins, and takes as long as the last one
        ({"running": True, "next": SAMPLE["ended"] + 588.4}, 290, 11),
        ({}, 2000, 10),
    ],
)
def test_page_refreshes_itself_when_there_is_something_new(state: dict[str, Any], after: float, seconds: int) -> None:
    assert verification.refresh(found(**state), SAMPLE["ended"] + after) == seconds


def test_a_reader_can_stop_the_refreshing() -> None:
    on, off = page_of("sample"), verification.page(found(), NOW, 0)
    assert [node["href"] for node in pages.read(on).all("a") if node["href"] in ("?refresh=no", "./")] == ["?refresh=no"]
    assert [node["href"] for node in pages.read(off).all("a") if node["href"] in ("?refresh=no", "./")] == ["./"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (4.24, "4.2 s"), (9.96, "10 s"), (59.6, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (7265, "2 h 1 min")),
        *((86400 + 1800, "1 d"), (3 * 86400 + 4 * 3600, "3 d 4 h"), (-5, "0 s")),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert lasted(seconds).replace("\u00a0", " ") == words


def test_texts_are_made_fit() -> None:
    assert text("a\n\x00b\u202ec") == "a b c" and text(None) == "" and len(text("x" * 900)) == 600


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_browser_shows_all_of_it_without_scrolling_sideways_or_asking_for_more(name: str) -> None:
    if not browser.CHROMIUM:
        pytest.skip("There is no Chromium here; install the package chromium to look at the page in a real browser.")
    widths = (320, 390, 736, 1280)
    wider, asked = browser.overflows(page_of(name), widths)
    assert wider == [0] * len(widths)
    assert asked == ["/"] + ["/page"] * len(widths)
