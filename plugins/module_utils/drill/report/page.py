# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill's report as one HTML page that needs nothing beside it: no script, no font, no picture, no network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...pages import parts
from ...pages.markup import Html
from . import timeline, words
from .data import Difference, DrillReport, ScenarioChange, ScenarioReport

ICONS = {
    "passed": parts.TICK,
    "within": parts.TICK,
    "failed": parts.CROSS,
    "missed": parts.CROSS,
    "aborted": "M4.5 4.5h7v7h-7z",
    "skipped": parts.DASH,
    "late": parts.ARROW,
    "early": "M13 8H4M7.5 4.5 4 8l3.5 3.5",
}
# A page of this many bytes is still quick on a telephone; PROBLEMS are the most that one scenario lists above its table.
LIMIT, PROBLEMS = 484_000, 6
LEGEND = {
    "within": "within what the settings allow",
    "late": "late: a stage added time",
    "early": "early: sooner than the settings allow",
    "missed": "missed: it never came",
    "unbounded": "measured, no limits known",
}
HERE = Path(__file__).parent
# What a scenario's facts are: a name, a sentence, and whether an objective was met; None for what is no objective.
Facts: TypeAlias = "list[tuple[str, str, bool | None]]"


def status(known: dict[str, str], value: str) -> Html:
    """A status or a verdict, by the words that are known for it."""
    return parts.status(words.word(known, value), value if value in known else "unbounded", ICONS.get(value, ""))


@functools.cache
def environment() -> Environment:
    """The templates beside this file, which escape all that is no markup."""
    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals |= {"words": words, "timeline": timeline, "status": status, "time": parts.time, "most": PROBLEMS}
    made.filters |= {"breakable": parts.breakable, "stage": words.stage}
    return made


def glance(drill: DrillReport) -> list[tuple[str, str, str]]:
    """What the whole drill comes to: each a name, a value, and a detail that may be empty."""
    lost, sent = drill.requests
    share = f"of {words.amount(sent)} sent, {words.share(lost, sent)}" if sent else "none were sent"
    return [
        ("Scenarios", *(words.tally(drill) if drill.scenarios else ("none", ""))),
        ("Slowest page", *words.slowest_page(drill)),
        ("Requests lost", words.amount(lost), share),
        ("Objectives met", *words.objectives_met(drill)),
    ]


def attention(drill: DrillReport) -> list[tuple[int, ScenarioReport, list[str]]]:
    """The scenarios to look at first, with their place and their problems."""
    found = [(place, scenario, words.problems(scenario)) for place, scenario in enumerate(drill.scenarios, 1)]
    return [each for each in found if each[2] or each[1].status not in ("passed", "skipped")]


def legend() -> list[tuple[Html, str]]:
    """The shapes of the timelines, and what they mean."""
    band = Html('<rect x="1" y="3" width="34" height="10" rx="3" class="band"/>')
    items = [(band, "from the shortest to the longest time that the settings allow")]
    items += [(timeline.mark(verdict, "18", 8), meaning) for verdict, meaning in LEGEND.items()]
    items.append((Html('<rect x="1" y="3" width="34" height="10" rx="3" class="losing"/>'), "requests were lost"))
    items.append((Html('<rect width="36" height="16" class="fault"/>'), "the fault is on"))
    items.append((Html('<rect width="36" height="16" class="restoring"/>'), "it is being taken away"))
    return items


def facts(scenario: ScenarioReport, change: ScenarioChange | None) -> Facts:
    """What is to be said of a scenario below its table."""
    found: Facts = []
    if scenario.lost is not None:
        what = words.lost(scenario)
        if scenario.lost and scenario.first_lost is not None and scenario.last_lost is not None:
            what += f", from {words.seconds(scenario.first_lost)} to {words.seconds(scenario.last_lost)}"
        if change and change.lost_before is not None and change.lost_before != scenario.lost:
            what += f" (before: {words.amount(change.lost_before)})"
        found.append(("Requests lost", what, None))
    if scenario.restored is not None:
        proof = "proven" if scenario.restored else "NOT restored"
        took = (
            "" if not scenario.restored or scenario.restore_seconds is None else f" in {words.seconds(scenario.restore_seconds)}"
        )
        found.append(("Restoration", f"{proof}{took}: {scenario.evidence or 'no evidence was given'}", None))
    for objective in scenario.objectives:
        took = words.seconds(objective.measured) if objective.measured is not None else "never"
        found.append((f"Objective {objective.name}", f"{took}, limit {words.limit(objective.limit)}", objective.ok))
    if scenario.ran and scenario.unwatched:
        found.append(("Not looked for", "; ".join(scenario.unwatched), None))
    if change and change.gone:
        found.append(("Observed before, not now", ", ".join(change.gone), None))
    return found


def _sections(drill: DrillReport, section: Callable[[int, bool], Html], room: int) -> list[Html]:
    """A section for each scenario, in *room* bytes.

    Where they are too many, some are shortened: first those that passed, from the last one on.

    :param section: makes that of a place, which may be brief.
    """
    places = range(len(drill.scenarios))
    found = [section(place, False) for place in places]
    size = sum(len(text.encode()) for text in found)
    for place in sorted(places, key=lambda place: (drill.scenarios[place].status != "passed", -place)):
        if size <= room:
            break
        if drill.scenarios[place].observations:
            size -= len(found[place].encode())
            found[place] = section(place, True)
            size += len(found[place].encode())
    return found


def render(drill: DrillReport, difference: Difference) -> str:
    """The page."""
    compare = not difference.reason
    changes = difference.scenarios if compare else (None,) * len(drill.scenarios)
    one = environment().get_template("scenario.html.j2")

    def section(place: int, brief: bool) -> Html:
        scenario, change = drill.scenarios[place], changes[place]
        # A scenario that is new, or did not run before, has nothing to be compared with.
        compared = compare and change is not None and any(change.observations)
        return Html(
            one.render(
                scenario=scenario,
                ident=f"scenario-{place + 1}",
                change=change,
                compare=compared,
                brief=brief,
                facts=facts(scenario, change),
            )
        )

    whole = functools.partial(
        environment().get_template("page.html.j2").render,
        drill=drill,
        difference=difference,
        compare=compare,
        rows=list(zip(drill.scenarios, changes, strict=True)),
        glance=glance(drill),
        attention=attention(drill),
        legend=legend(),
        style=parts.style(HERE / "style.css"),
        policy=parts.POLICY,
    )
    return str(whole(sections=_sections(drill, section, LIMIT - len(whole(sections=[]).encode()))))
