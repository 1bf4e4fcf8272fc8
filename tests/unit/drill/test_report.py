# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill: what it says, that nothing in a document can spoil it, and that everybody can read it."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.action import drill as drill_action
from ansible_collections.flaskops.observability.plugins.module_utils.drill import report
from ansible_collections.flaskops.observability.plugins.module_utils.pages import markup

from tests import browser
from tests import pages as page

LIMIT = 500_000  # bytes of a page
HERE = Path(__file__).parent
SAMPLE: dict[str, Any] = json.loads((HERE / "sample.json").read_text())
HOSTILE = (
    "<script>alert(1)</script> \"'>&amp; | `x` **b** [a](http://evil.example) @octocat #1 \x00\x1b[31m\u202e日本語 \ud83d 🔥"
    + "w" * 900
)


def previous_of_sample() -> dict[str, Any]:
    """A drill a week earlier: times within their phases, two scenarios that were well, and two that were not there."""
    found = copy.deepcopy(SAMPLE)
    found |= {"started_at": "2026-11-19T09:31:04.118Z", "app": SAMPLE["app"] | {"image": "localhost/flask-app:0d44e81c9f3b"}}
    found["scenarios"] = [s for s in found["scenarios"] if s["name"] not in ("dependency_timeout", "external_outage")]
    scenarios = {s["name"]: s for s in found["scenarios"]}
    for scenario, shift in zip(found["scenarios"], itertools.cycle((0.4, -1.1, 2.3, 0, -0.7)), strict=False):
        for o in scenario["observations"]:
            if o["verdict"] == "within":
                o["at"] = round(min(max(o["at"] + shift, o["shortest"]), o["longest"]), 1)
    for o, at in zip(scenarios["latency"]["observations"][1:], (11.2, 21.2, 26.3), strict=True):
        o |= {"at": at, "verdict": "within", "note": ""}
    scenarios["log_burst"]["observations"][1] |= {"at": 29.7, "verdict": "within", "note": ""}
    for name in ("latency", "log_burst"):
        scenarios[name] |= {"status": "passed", "reason": ""}
    return found


def document(*scenarios: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"format": 1, "cluster": "one", "app": {"name": "shop", "namespace": "shop"}, "scenarios": list(scenarios), **more}


def scenario(name: str = "errors", status: str = "passed", **more: Any) -> dict[str, Any]:
    return {"name": name, "status": status, **more}


def observation(at: float | None, shortest: float | None = 10, longest: float | None = 20, **more: Any) -> dict[str, Any]:
    found = {"observer": "alert A", "event": "received", "at": at, "shortest": shortest, "longest": longest, "verdict": "within"}
    return found | more


def hostile(value: Any) -> Any:
    """The same document with every text that is free replaced by one that tries everything."""
    fixed = ("status", "verdict", "event", "injected_at", "restored_at", "started_at", "ended_at", "format")
    if isinstance(value, dict):
        return {key: item if key in fixed else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def nulled(value: Any) -> Any:
    """The same document with nothing in it but its shape."""
    if isinstance(value, dict):
        return {key: nulled(item) for key, item in value.items()}
    return [nulled(item) for item in value] if isinstance(value, list) else None


def many(number: int) -> dict[str, Any]:
    """So many scenarios with fifteen observations of long names each."""
    one = next(s for s in SAMPLE["scenarios"] if s["name"] == "latency")
    long = [o | {"observer": f"alert {'Very' * 20}LongName{n}", "note": "n" * 200} for n, o in enumerate(one["observations"] * 4)]
    return SAMPLE | {
        "scenarios": [one | {"name": f"s{n}", "title": f"{'t' * 90} {n}", "observations": long[:15]} for n in range(number)]
    }


DOCUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "sample": (SAMPLE, previous_of_sample()),
    "first": (SAMPLE, None),
    "hostile": (hostile(SAMPLE), hostile(previous_of_sample())),
    "null": (nulled(SAMPLE) | {"format": 1}, nulled(SAMPLE) | {"format": 1}),
    "bare": ({"format": 1}, {"format": 1}),
    "odd types": (document("x", scenario(observations={"a": 1}, requests=[], restored=7, objectives=None)), None),  # type: ignore[arg-type]
    "no numbers": (document(scenario(observations=[observation(float("nan"), float("inf"), True)])), None),  # type: ignore[arg-type]
    "negative": (document(scenario(observations=[observation(-3.0)])), None),
    "aborted": (document(scenario(status="aborted", observations=[observation(None)])), None),
    "unknown words": (document(scenario(status="puzzled", observations=[observation(1, verdict="odd", event="")])), None),
    "thirty": (many(30), many(30)),
}


@functools.cache
def report_of(name: str) -> dict[str, str]:
    return report.render(*DOCUMENTS[name])


@pytest.fixture(params=sorted(DOCUMENTS))
def rendered(request: pytest.FixtureRequest) -> dict[str, str]:
    return report_of(request.param)


def text_of(html: str) -> str:
    """What a page says, on one line, with common spaces."""
    return " ".join(next(page.read(html).all("body")).text().replace("\u202f", " ").split())


def section(html: str, place: int) -> str:
    """What the section of one scenario says."""
    (found,) = [a for a in page.read(html).all("article") if a["aria-labelledby"] == f"scenario-{place}"]
    return " ".join(found.text().split())


# What every document must give, however odd it is.


def test_page_is_accessible(rendered: dict[str, str]) -> None:
    assert page.problems(page.read(rendered["html"])) == []


def test_page_is_small(rendered: dict[str, str]) -> None:
    assert len(rendered["html"].encode()) < LIMIT


def test_page_needs_nothing_beside_it(rendered: dict[str, str]) -> None:
    """No script, nothing from elsewhere, and a policy that lets the browser refuse both."""
    root = page.read(rendered["html"])
    assert page.beside(root) == []
    assert [node["href"] for node in root.all("a") if not node["href"].startswith("#")] == []


def test_json_is_whole_and_stable(rendered: dict[str, str]) -> None:
    read = json.loads(rendered["json"], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert rendered["json"].encode()
    assert json.dumps(read, indent=2, sort_keys=True, ensure_ascii=False) + "\n" == rendered["json"]
    assert "reason" in read["difference"]


def test_markdown_has_even_tables_and_details(rendered: dict[str, str]) -> None:
    columns = 0
    for line in rendered["markdown"].split("\n"):
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not cells or not columns or cells == columns, line
        columns = cells
    assert rendered["markdown"].count("<details>") == rendered["markdown"].count("</details>")


# Text that is meant to do harm.


def test_no_text_becomes_markup() -> None:
    found = report_of("hostile")
    assert "<script" not in found["html"] and "<script>alert(1)</script> \"'>&amp; |" in text_of(found["html"])
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", found["html"] + found["markdown"])
    names = {node.name for node in page.read(found["html"]).all()} - {"wbr"}
    assert names <= {node.name for node in page.read(report_of("sample")["html"]).all()}


def test_markup_escapes_text_and_attributes_but_not_itself() -> None:
    inner = markup.element("b", "1 < 2")
    found = markup.element("a", inner, ["<i>", None], title='"><i>', class_=None)
    assert found == '<a title="&quot;&gt;&lt;i&gt;"><b>1 &lt; 2</b>&lt;i&gt;</a>'


def test_markdown_neither_calls_nor_links_anybody() -> None:
    found = report_of("hostile")["markdown"]
    assert set(re.findall(r"<\w+", found)) <= {"<details", "<summary"}
    assert "octocat" in found and not re.search(r"@octocat|#1\b", found)
    markdown = re.sub("<summary>.*</summary>", "", found)  # a line of HTML, in which these signs mean nothing
    assert not re.search(r"(?<!\\)\[a|(?<!\\)`|(?<!\\)\*\*b", markdown)


def test_a_page_that_would_be_too_large_leaves_out_times_of_what_passed_and_says_so() -> None:
    large = many(30)
    for n, one in enumerate(large["scenarios"]):
        one["status"] = "failed" if n == 29 else "passed"
    html = report.render(large, None)["html"]
    said = "Its timeline and its table are not shown, to keep this page small; the JSON report has their times."
    brief = [said in section(html, place) for place in range(1, 31)]
    assert brief[0] is False and brief[28] is True and brief[29] is False
    assert len(html.encode()) > LIMIT * 0.9
    assert said not in report_of("sample")["html"]


def test_long_text_is_cut_on_the_page_and_whole_in_json() -> None:
    found = report.render(document(scenario(status="failed", reason="x" * 5000)), None)
    assert "x" * 599 + "…" in found["html"] and "x" * 600 not in found["html"] + found["markdown"]
    assert json.loads(found["json"])["scenarios"][0]["reason"] == "x" * 5000


@pytest.mark.parametrize("wrong", [{}, {"format": 2}, [], None])
def test_another_format_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="this report reads format 1"):
        report.render(wrong, None)


# What the page says.


def test_verdict_in_one_glance() -> None:
    said = text_of(report_of("sample")["html"])
    assert said.startswith(
        "Fault drill of flask-app in namespace flask-app cluster flaskops · local · 2026-11-26 09:30:00 UTC , took 13 min"
    )
    assert "2 of 14 scenarios failed, 1 aborted Scenarios 9 passed 2 failed, 1 aborted, 2 skipped" in said
    assert "Slowest page never for log_burst; of the others 48.9 s for crash_loop" in said
    assert "Requests lost 991 of 5 126 sent, 19.3 %" in said
    assert "Objectives met 19 of 20 missed by log_burst" in said


@pytest.mark.parametrize(
    ("scenarios", "headline"),
    [
        ([], "No scenario was run"),
        ([scenario()], "The scenario passed"),
        ([scenario("a"), scenario("b")], "All 2 scenarios passed"),
        ([scenario("a"), scenario("b", "skipped")], "1 scenario passed, 1 skipped"),
        ([scenario("a", "skipped")], "Nothing was drilled: 1 scenario was skipped"),
        ([scenario("a"), scenario("b", "failed")], "1 of 2 scenarios failed"),
        ([scenario("a"), scenario("b", "aborted")], "1 of 2 scenarios did not finish"),
        ([scenario("a", "failed"), scenario("b", restored={"ok": False, "evidence": "1 of 2 pods"})], "Not restored: b"),
    ],
)
def test_headline(scenarios: list[dict[str, Any]], headline: str) -> None:
    found = report.render(document(*scenarios), None)
    (title,) = page.read(found["html"]).all("title", "none")
    assert title.text() == f"{headline}: fault drill of shop on one"
    assert found["markdown"].split("\n")[0].endswith(headline)


def test_what_is_not_restored_comes_first() -> None:
    failed = scenario(status="failed", reason="Late.", restored={"ok": False, "evidence": "1 of 2 pods"})
    assert "errors failed Not restored: 1 of 2 pods Late." in text_of(report.render(document(failed), None)["html"])


def test_scenario_shows_measured_beside_its_range_and_the_stage_that_added_time() -> None:
    said = section(report_of("sample")["html"], 6)
    assert "alert FlaskHighLatencyP95 received" in said
    assert "43.9 s 15.0 to 31.5 s late" in said
    assert "scrape added 12.1 s, the rest came in time" in said
    assert "two scrapes 0 to 10, evaluation 0 to 5, window 0 to 1.5, for 10, group wait 5" in said
    assert "18 of 351, from 1.0 s to 66.9 s" in said
    assert "proven in 4.8 s: same objects, 2 of 2 pods ready, /health 200" in said
    assert "Objective page met 43.9 s, limit 60 s" in said


def test_skipped_scenario_says_why() -> None:
    reason = "This cluster's network enforces no NetworkPolicy, so the app can't be cut off from DNS."
    found = report_of("sample")
    assert reason in section(found["html"], 10) and reason in found["markdown"]


def test_an_early_sign_in_a_passed_scenario_needs_no_attention() -> None:
    root = page.read(report_of("sample")["html"])
    (first,) = [s for s in root.all("section") if s["aria-labelledby"] == "attention"]
    assert [link["href"] for link in first.all("a")] == ["#scenario-6", "#scenario-8", "#scenario-13"]


# The plot.


def shapes(html: str) -> list[page.Node]:
    return [node for node in page.read(html).all("svg") if node["class"] == "plot" and node["role"] == "img"]


def percent(value: str) -> float:
    assert value.endswith("%")
    return float(value[:-1])


def test_plot_is_to_scale() -> None:
    """A mark at three quarters of its band, the band from 10 to 20 s, injection and restoration where they were."""
    times = {"injected_at": "2026-01-01T00:00:00.000Z", "restored_at": "2026-01-01T00:00:40.000Z", "restore_seconds": 10}
    (plot,) = shapes(
        report.render(document(scenario(observations=[observation(17.5), observation(100, None, None)], **times)), None)["html"]
    )
    place = {node["class"]: percent(node["x1"]) for node in plot.all("line")}
    start, restored = place["inject"], place["restore"]
    second = (restored - start) / 40
    band, fault, restoring = (next(n for n in plot.all("rect") if n["class"] == name) for name in ("band", "fault", "restoring"))
    assert percent(band["x"]) == pytest.approx(start + 10 * second, abs=0.02)
    assert percent(band["width"]) == pytest.approx(10 * second, abs=0.02)
    assert (percent(fault["x"]), percent(fault["width"])) == pytest.approx((start, 30 * second), abs=0.02)
    assert percent(restoring["x"]) == pytest.approx(start + 30 * second, abs=0.02)
    marks = [(node["href"], percent(node["x"])) for node in plot.all("use")]
    assert marks == [
        ("#mark-within", pytest.approx(start + 17.5 * second, abs=0.02)),
        ("#mark-within", pytest.approx(97, abs=0.02)),
    ]


@pytest.mark.parametrize("verdict", ["within", "early", "late", "missed", "unbounded"])
def test_every_verdict_has_a_mark_of_its_own(verdict: str) -> None:
    at = {"within": 15, "early": 5, "late": 30, "missed": None, "unbounded": 7}[verdict]
    html = report.render(document(scenario(observations=[observation(at, verdict=verdict)])), None)["html"]
    (plot,) = shapes(html)
    assert [node["href"] for node in plot.all("use")] == [f"#mark-{verdict}"]
    assert len([n for n in plot.all("line") if n["class"].startswith("beyond")]) == (verdict in ("early", "late", "unbounded"))
    forms = {node["id"]: "".join(str(sorted(c.attributes.items())) for c in node.all()) for node in page.read(html).all("g")}
    assert len(set(forms.values())) == 5


def test_plot_in_words() -> None:
    (plot, *_rest) = shapes(report_of("sample")["html"])
    said = next(plot.all("desc")).text().replace("\u00a0", " ")
    assert "log line seen 2.9 s; pod ready 9.6 s; restored at 14.8 s. The table has" in said


def test_every_lane_keeps_its_event_on_a_telephone() -> None:
    long = observation(15, observer="alert " + "A" * 80, event="received")
    (plot,) = shapes(report.render(document(scenario(observations=[long])), None)["html"])
    labels = {node["class"]: " ".join(node.text().split()) for node in plot.all("text") if "name" in node["class"]}
    assert set(labels) == {"name narrow", "name roomy"}
    assert all(label.endswith("… received") for label in labels.values()) and len(labels["name narrow"]) <= 38


# The difference to the previous report.


def test_difference_within_the_phases_is_no_difference() -> None:
    found = report.render(document(scenario(observations=[observation(19)])), document(scenario(observations=[observation(11)])))
    (change,) = json.loads(found["json"])["difference"]["scenarios"][0]["observations"]
    assert (change["before"], change["now"], change["kind"]) == (11, 19, "alike")
    assert "alike" in text_of(found["html"]) and "+8.0 s" in section(found["html"], 1) and "slower" not in text_of(found["html"])


@pytest.mark.parametrize(
    ("before", "now", "kind", "said"),
    [
        (observation(15), observation(40, verdict="late"), "slower", "+25.0 s slower"),
        (observation(40, verdict="late"), observation(15), "faster", "\u221225.0 s faster"),
        (observation(21, verdict="late"), observation(19), "faster", "\u22122.0 s faster"),
        (observation(None, verdict="missed"), observation(15), "came", "never before"),
        (observation(15), observation(None, verdict="missed"), "stayed_away", "was 15.0 s"),
        (observation(None, verdict="missed"), observation(None, verdict="missed"), "alike", "as before"),
        (observation(15, None, None), observation(300, None, None), "alike", "+285.0 s"),
    ],
)
def test_difference(before: dict[str, Any], now: dict[str, Any], kind: str, said: str) -> None:
    found = report.render(document(scenario(observations=[now])), document(scenario(observations=[before])))
    assert json.loads(found["json"])["difference"]["scenarios"][0]["observations"][0]["kind"] == kind
    assert said in section(found["html"], 1)


def test_equal_names_meet_in_their_order() -> None:
    now, before = [observation(11), observation(12)], [observation(13), observation(14), observation(15)]
    found = report.render(document(scenario(observations=now)), document(scenario(observations=before)))
    (changed,) = json.loads(found["json"])["difference"]["scenarios"]
    assert [(c["before"], c["now"]) for c in changed["observations"]] == [(13, 11), (14, 12)]
    assert changed["gone"] == ["alert A received"]


@pytest.mark.parametrize(
    ("previous", "said"),
    [
        (None, "There is no previous report to compare with."),
        ({"format": 7}, "The previous report has the format 7, not 1, so nothing is compared."),
        ({}, "The previous report has the format null, not 1, so nothing is compared."),
        ("text", "The previous report has the format null, not 1, so nothing is compared."),
        (document(scenario("other")), "The previous report has no scenario in common with this one, so nothing is compared."),
        (
            document(scenario()) | {"cluster": "two"},
            "The previous report is about shop in namespace shop on cluster two, so nothing is compared.",
        ),
    ],
)
def test_nothing_is_compared_with_what_is_not_alike(previous: Any, said: str) -> None:
    found = report.render(document(scenario(observations=[observation(15)])), previous)
    assert said in text_of(found["html"]) and said in found["markdown"]
    assert json.loads(found["json"])["difference"]["scenarios"] == []
    assert "Since last" not in text_of(found["html"]) and "since last" not in found["markdown"]


def test_scenario_that_did_not_run_before_is_not_compared() -> None:
    before = document(scenario(status="aborted", observations=[observation(11)]))
    found = report.render(document(scenario(observations=[observation(15)])), before)
    assert "was aborted" in text_of(found["html"]) and "Since last" not in section(found["html"], 1)


def test_changed_settings_are_named_before_their_times_are_blamed() -> None:
    before = document(scenario(), settings={"scrape_interval": 30, "group_wait": 5.0})
    found = report.render(document(scenario(), settings={"scrape_interval": 5, "group_wait": 5}), before)
    assert "Settings changed, and with them the times: scrape_interval (30 before, 5 now)." in text_of(found["html"])
    assert json.loads(found["json"])["difference"]["settings"] == {"scrape_interval": ["30", "5"]}


def test_report_is_the_next_one_s_previous() -> None:
    first = json.loads(report_of("sample")["json"])
    found = json.loads(report.render(first, first)["json"])["difference"]
    assert found["reason"] == "" and found["gone"] == []
    assert {c["kind"] for s in found["scenarios"] for c in s["observations"] if c} == {"alike"}


# The colours, the packaging, and a real browser.


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    (style,) = (node.text() for node in page.read(report_of("sample")["html"]).all("style"))
    colour = page.colours(style)[scheme]
    assert set(colour) == set(page.colours(style)["light"])
    assert set(re.findall(r"var\(--([a-z-]+)\)", style)) - {"tone", "back"} == set(colour)
    assert page.weak(style, scheme) == {}


def test_the_controller_writes_the_report_and_compares_it_with_the_one_before(tmp_path: Path) -> None:
    """The module writes its document alone, for Jinja is the controller's."""
    first, second = document(scenario(observations=[observation(11)])), document(scenario(observations=[observation(19)]))
    for given, reason in ((first, True), (second, False)):
        previous = drill_action.read(tmp_path / "drill.json")
        (tmp_path / "drill.json").write_text(json.dumps(given))
        assert drill_action.write(tmp_path, previous) == ""
        found = json.loads((tmp_path / "drill.json").read_text())
        assert found["scenarios"] == given["scenarios"] and bool(found["difference"]["reason"]) == reason
        assert (tmp_path / "drill.html").read_text() == report.render(given, previous)["html"]
        assert (tmp_path / "drill.md").read_text() == report.render(given, previous)["markdown"]
    (tmp_path / "drill.json").write_text('{"cut')
    assert drill_action.read(tmp_path / "drill.json") is None


def test_a_folder_that_takes_no_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "drill.json").write_text(json.dumps(document()))
    (tmp_path / "drill.html").mkdir()
    assert str(tmp_path) in drill_action.write(tmp_path, None)


def test_no_module_takes_a_page_along() -> None:
    """Templates and style sheet are not Python, which is all that Ansible takes to a target."""
    folder = Path(report.__file__).parents[2]
    users = [*folder.rglob("*.py"), *folder.parent.glob("modules/*.py")]
    users = [path for path in users if not {"report", "pages"} & set(path.parts)]
    takes = re.compile(r"^\s*(from|import) .*\b(report|pages)\b", re.MULTILINE)
    assert [path.name for path in users if takes.search(path.read_text())] == []


@pytest.mark.parametrize("name", ["sample", "hostile", "thirty"])
def test_browser_shows_the_page_without_scrolling_sideways_or_asking_for_more(name: str) -> None:
    if not browser.CHROMIUM:
        pytest.skip("There is no Chromium here; install the package chromium to look at the page in a real browser.")
    widths = (320, 390, 736, 1280)
    wider, asked = browser.overflows(report_of(name)["html"], widths)
    assert wider == [0] * len(widths)
    assert asked == ["/"] + ["/page"] * len(widths)


def test_what_nobody_could_have_seen_is_said() -> None:
    skipped = [{"observer": "dead man's switch", "reason": "nobody in the cluster notices"}, {"observer": HOSTILE}, None]
    texts = report.render(document(scenario("alertmanager_down", skipped=skipped)), None)
    for kind in ("html", "markdown"):
        assert "nobody in the cluster notices" in texts[kind] and "<script>alert" not in texts[kind]
    # One that did not run says why itself.
    unrun = report.render(document(scenario("alertmanager_down", "skipped", skipped=skipped, reason="no Alertmanager")), None)
    assert "Not looked for" not in unrun["html"] + unrun["markdown"]
