# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill's report as one HTML page that needs nothing beside it: no script, no font, no picture, no network."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from . import report_timeline as timeline
from . import report_words as words
from .report_data import Change, Difference, Drill, Observation, Scenario, ScenarioChange
from .report_markup import Child, Html, element, markup
from .report_style import STYLE

# The browser itself refuses whatever would be loaded from elsewhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TICK, CROSS = "M3 8.5 6.5 12 13 4.5", "M4 4l8 8M12 4l-8 8"
ICONS = {
    "passed": TICK,
    "within": TICK,
    "failed": CROSS,
    "missed": CROSS,
    "aborted": "M4.5 4.5h7v7h-7z",
    "left_out": "M4 8h8",
    "late": "M3 8h9M8.5 4.5 12 8l-3.5 3.5",
    "early": "M13 8H4M7.5 4.5 4 8l3.5 3.5",
}
# A page of this many bytes is still quick on a telephone; PROBLEMS are the most that one scenario lists above its table.
LIMIT, PROBLEMS = 480_000, 6
BRIEF = "Its timeline and its table are left out to keep this page small; the JSON report has their times."
LEGEND = {
    "within": "within what the settings allow",
    "late": "late: a stage added time",
    "early": "early: sooner than the settings allow",
    "missed": "missed: it never came",
    "unbounded": "measured, no limits known",
}


def time(at: datetime.datetime | None, form: str = "%Y-%m-%d %H:%M:%S UTC") -> Html | None:
    if at is None:
        return None
    return element("time", at.strftime(form), datetime=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def status(known: dict[str, str], value: str) -> Html:
    """A status or a verdict: an icon, a colour, and the word that says the same."""
    path = ICONS.get(value)
    icon = Html(f'<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d="{path}"/></svg>') if path else None
    name = value if value in known else "unbounded"
    return element("span", icon, words.word(known, value), class_=f"status {name}")


def cell(label: str, *content: Child, class_: str | None = None) -> Html:
    """A cell that names its column where a row is shown as a card; the roles keep it a cell there."""
    return element("td", *content, role="cell", data_label=label, class_=class_)


def small(text: str) -> Html | None:
    return element("small", text) if text else None


def breakable(name: str) -> Html:
    """A name that breaks, where it has to, at a capital or after a sign, rather than anywhere."""
    return Html(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-zA-Z0-9][-_./:])(?=\w)", "<wbr>", markup(name)))


def table(caption: Child, columns: list[str], rows: list[Html]) -> Html:
    """A table; the roles keep it one where a telephone's style takes the display of its parts."""
    heads = [element("th", name, scope="col", role="columnheader") for name in columns]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", heads, role="row"), role="rowgroup"),
        element("tbody", rows, role="rowgroup"),
        role="table",
    )


def anchor(place: int) -> str:
    return f"scenario-{place + 1}"


def _header(drill: Drill) -> Html:
    place = " · ".join(part for part in (f"cluster {drill.cluster}", drill.environment) if part)
    took = None
    if drill.started_at and drill.ended_at:
        took = f", took {words.seconds((drill.ended_at - drill.started_at).total_seconds())}"
    namespace = f" in namespace {drill.namespace}" if drill.namespace else ""
    return element(
        "header",
        element("h1", f"Fault drill of {drill.app}{namespace}"),
        element("p", place, " · ", time(drill.started_at) or "time unknown", took, class_="where"),
        element("p", "image ", element("code", drill.image), class_="where") if drill.image else None,
    )


def _verdict(drill: Drill) -> Html:
    lost, sent = drill.requests
    share = f"of {words.amount(sent)} sent, {words.share(lost, sent)}" if sent else "none were sent"
    facts = [
        ("Scenarios", *(words.tally(drill) if drill.scenarios else ("none", ""))),
        ("Slowest page", *words.slowest_page(drill)),
        ("Requests lost", words.amount(lost), share),
        ("Objectives met", *words.objectives_met(drill)),
    ]
    return element(
        "section",
        element("p", words.headline(drill)),
        element(
            "dl",
            [element("div", element("dt", n), element("dd", v, element("span", d) if d else None)) for n, v, d in facts],
            class_="glance",
        ),
        class_=f"verdict {words.tone(drill)}",
        aria_label="Verdict",
    )


def _attention(drill: Drill) -> Html | None:
    items = []
    for place, scenario in enumerate(drill.scenarios):
        found = words.problems(scenario)
        if not found and scenario.status in ("passed", "left_out"):
            continue
        items.append(
            element(
                "li",
                element("a", scenario.title, href=f"#{anchor(place)}"),
                " ",
                status(words.STATUSES, scenario.status),
                element("ul", [element("li", sentence) for sentence in found[:2]]) if found else None,
            )
        )
    if not items:
        return None
    return element(
        "section",
        element("h2", "Look at these first", id="attention"),
        element("ul", items, class_="attention"),
        aria_labelledby="attention",
    )


def _row(scenario: Scenario, place: int, change: ScenarioChange | None, compare: bool) -> Html:
    first = scenario.noticed
    limit = next((o.limit for o in scenario.objectives if o.name == "page"), None)
    page = words.page(scenario)
    kind = None
    if change and change.status_before != change.status_now:
        kind = {"passed": "better", "failed": "worse"}.get(change.status_now)
    return element(
        "tr",
        element("th", element("a", scenario.title, href=f"#{anchor(place)}"), scope="row", role="rowheader"),
        cell("Result", status(words.STATUSES, scenario.status), class_="state"),
        cell("First sign", words.seconds(first.at) if first else words.NONE, small(words.subject(first)) if first else None),
        cell(
            "Paged",
            element("span", page, class_="never") if page == "never" else page,
            small(f"limit {words.limit(limit)}") if limit is not None else None,
            class_="times",
        ),
        cell("Requests lost", words.lost(scenario), class_="times"),
        cell("Restored", words.restored(scenario), class_="times"),
        cell("Since last", element("span", words.scenario_changed(change), class_=kind), class_="since") if compare else None,
        role="row",
    )


def _scenarios(drill: Drill, difference: Difference) -> Html:
    compare = not difference.reason
    columns = ["Scenario", "Result", "First sign", "Paged", "Requests lost", "Restored", *(["Since last"] if compare else [])]
    changes = difference.scenarios if compare else (None,) * len(drill.scenarios)
    rows = [_row(s, n, change, compare) for n, (s, change) in enumerate(zip(drill.scenarios, changes, strict=True))]
    notes = [element("p", sentence, class_="small muted") for sentence in words.compared(difference)]
    if difference.image_before and difference.image_before != drill.image:
        notes.append(element("p", "Image before: ", element("code", difference.image_before), class_="small muted"))
    caption: list[Child] = ["Times are seconds since the injection."]
    if difference.previous_started_at:
        caption += [" Compared with the report of ", time(difference.previous_started_at), "."]
    return element(
        "section",
        element("h2", "All scenarios", id="scenarios"),
        table(caption, columns, rows) if rows else element("p", "The document has no scenario."),
        notes,
        aria_labelledby="scenarios",
    )


def _legend() -> Html:
    def sample(*shapes: Child) -> Html:
        return element("svg", *shapes, width="36", height="16", class_="plot", aria_hidden="true")

    band = Html('<rect x="1" y="3" width="34" height="10" rx="3" class="band"/>')
    items = [(sample(band), "from the shortest to the longest time that the settings allow")]
    items += [(sample(timeline.mark(verdict, "18", 8)), meaning) for verdict, meaning in LEGEND.items()]
    items.append((sample(Html('<rect x="1" y="3" width="34" height="10" rx="3" class="losing"/>')), "requests were lost"))
    items.append((sample(Html('<rect width="36" height="16" class="fault"/>')), "the fault is on"))
    items.append((sample(Html('<rect width="36" height="16" class="restoring"/>')), "it is being taken away"))
    return element(
        "section",
        element("h2", "How to read the timelines", id="legend"),
        element("ul", [element("li", glyph, element("span", meaning)) for glyph, meaning in items], class_="legend"),
        aria_labelledby="legend",
    )


def _observation(o: Observation, change: Change | None, compare: bool) -> Html:
    stages = ", ".join(words.stage(s) for s in o.stages)
    limits = words.span(o.shortest, o.longest)
    since = element("span", words.changed(change), class_=change.kind if change and change.kind != "alike" else None)
    return element(
        "tr",
        element("th", breakable(o.observer), " ", small(o.event), scope="row", role="rowheader"),
        cell("Measured", words.measured(o), class_="times"),
        cell("Expected", limits or words.NONE, class_="times"),
        cell("Verdict", status(words.VERDICTS, o.verdict), class_="state"),
        cell("Since last", since, class_="since") if compare else None,
        cell("Where the time goes", o.note or None, small(stages), class_="wide" if o.note or stages else "wide blank"),
        role="row",
    )


def _observations(scenario: Scenario, change: ScenarioChange | None, compare: bool) -> Html | None:
    if not scenario.observations:
        return None
    columns = ["Observer", "Measured", "Expected", "Verdict", *(["Since last"] if compare else []), "Where the time goes"]
    changes = change.observations if change else (None,) * len(scenario.observations)
    rows = [_observation(o, c, compare) for o, c in zip(scenario.observations, changes, strict=True)]
    return table("What noticed it, and when", columns, rows)


def _facts(scenario: Scenario, change: ScenarioChange | None) -> Html | None:
    found: list[tuple[str, Child]] = []
    if scenario.lost is not None:
        what = words.lost(scenario)
        if scenario.lost and scenario.first_lost is not None and scenario.last_lost is not None:
            what += f", from {words.seconds(scenario.first_lost)} to {words.seconds(scenario.last_lost)}"
        if change and change.lost_before is not None and change.lost_before != scenario.lost:
            what += f" (before: {words.amount(change.lost_before)})"
        found.append(("Requests lost", what))
    if scenario.restored is not None:
        proof = "proven" if scenario.restored else "NOT restored"
        took = (
            "" if not scenario.restored or scenario.restore_seconds is None else f" in {words.seconds(scenario.restore_seconds)}"
        )
        found.append(("Restoration", f"{proof}{took}: {scenario.evidence or 'no evidence was given'}"))
    for objective in scenario.objectives:
        took = words.seconds(objective.measured) if objective.measured is not None else "never"
        icon = status({"passed": "met", "failed": "missed"}, "passed" if objective.ok else "failed")
        found.append((f"Objective {objective.name}", [icon, f" {took}, limit {words.limit(objective.limit)}"]))
    if change and change.gone:
        found.append(("Observed before, not now", ", ".join(change.gone)))
    if not found:
        return None
    return element("dl", [element("div", element("dt", name), element("dd", value)) for name, value in found], class_="facts")


def _problems(scenario: Scenario) -> Html | None:
    found = words.problems(scenario)
    if len(found) > PROBLEMS:
        found[PROBLEMS - 1 :] = [f"and {len(found) - PROBLEMS + 1} more"]
    return element("ul", [element("li", sentence) for sentence in found], class_="problems") if found else None


def _scenario(scenario: Scenario, place: int, change: ScenarioChange | None, compare: bool, brief: bool) -> Html:
    ident = anchor(place)
    plot = None if brief else timeline.plot(scenario, ident)
    # A scenario that is new, or did not run before, has nothing to be compared with.
    compare = compare and change is not None and any(change.observations)
    ran = scenario.status != "left_out"
    injected = time(scenario.injected_at, "%H:%M:%S UTC")
    # An article is no landmark, of which a page of thirty scenarios would have too many.
    return element(
        "article",
        element(
            "header",
            element("h2", scenario.title, " ", element("code", scenario.name), id=ident),
            status(words.STATUSES, scenario.status),
            element("p", scenario.reason) if scenario.reason and not ran else None,
            element("p", scenario.how, class_="small muted") if scenario.how else None,
            element("p", "Injected at ", injected, class_="small muted") if injected else None,
        ),
        _problems(scenario),
        element("figure", plot) if plot else None,
        element("p", "Nothing was observed.", class_="muted") if ran and not scenario.observations else None,
        element("p", BRIEF, class_="muted") if brief else _observations(scenario, change, compare),
        _facts(scenario, change),
        element("p", element("a", "All scenarios", href="#scenarios"), class_="top"),
        class_="scenario",
        aria_labelledby=ident,
    )


def _settings(drill: Drill) -> Html | None:
    if not drill.settings:
        return None
    settings = sorted(drill.settings.items())
    pairs = [element("div", element("dt", name.replace("_", " ")), element("dd", value)) for name, value in settings]
    return element(
        "section",
        element("h2", "The settings behind the limits", id="settings"),
        element("dl", pairs, class_="settings"),
        aria_labelledby="settings",
    )


def _sections(drill: Drill, changes: Sequence[ScenarioChange | None], compare: bool, room: int) -> list[Html]:
    """A section for each scenario, in *room* bytes.

    Where they are too many, some are shortened: first those that passed, from the last one on.
    """

    def section(place: int, brief: bool) -> Html:
        return _scenario(drill.scenarios[place], place, changes[place], compare, brief)

    places = range(len(drill.scenarios))
    found = [section(place, brief=False) for place in places]
    size = sum(len(text.encode()) for text in found)
    for place in sorted(places, key=lambda place: (drill.scenarios[place].status != "passed", -place)):
        if size <= room:
            break
        if drill.scenarios[place].observations:
            size -= len(found[place].encode())
            found[place] = section(place, brief=True)
            size += len(found[place].encode())
    return found


def render(drill: Drill, difference: Difference) -> str:
    compare = not difference.reason
    changes = difference.scenarios if compare else (None,) * len(drill.scenarios)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{words.headline(drill)}: fault drill of {drill.app} on {drill.cluster}"),
        element("style", Html(STYLE)),
    )
    summary = [
        _verdict(drill),
        _attention(drill),
        _scenarios(drill, difference),
        _legend() if any(s.observations for s in drill.scenarios) else None,
    ]
    settings = _settings(drill)
    room = LIMIT - len(markup(head, summary, settings).encode())
    body = element(
        "body",
        timeline.symbols(),
        _header(drill),
        element("main", summary, _sections(drill, changes, compare, room), settings),
        element("footer", "Written by flaskops.observability. Each time is rounded to 0.1 s."),
    )
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en")
