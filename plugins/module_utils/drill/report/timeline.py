# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scenario as a plot over time: injection, each observation on its range, and the restoration.

Places along the time axis are percentages and everything else is in pixels, so that the plot takes any width
while its text keeps its size.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from ...pages.markup import Html, element
from . import words
from .data import Observation, ScenarioReport

LEFT, RIGHT = 1.5, 97.0  # percent: room for half a mark at both ends
HEAD, LANE, FOOT = 20, 38, 22
BAR_TOP, BAR = 20, 10  # within a lane, below its label
NARROW, ROOMY = 44, 84  # as many characters fit into a line on a telephone, and on paper
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
# Each verdict has a form of its own, so that nobody needs the colours.
MARKS = {
    "within": '<circle r="5.5"/>',
    "late": '<path d="M-4-6.5 7 0-4 6.5z"/>',
    "early": '<path d="M4-6.5-7 0 4 6.5z"/>',
    "missed": '<path d="M-5-5 5 5M-5 5 5-5"/>',
    "unbounded": '<circle r="4.5"/>',
}


def columns(text: str) -> int:
    """The width of text, where a wide character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def short(text: str, room: int) -> str:
    """Text cut to so many columns."""
    if columns(text) <= room:
        return text
    while text and columns(text) >= room:
        text = text[:-1]
    return text.rstrip() + "…"


def symbols() -> Html:
    """The marks, once for all plots of a page."""
    found = [Html(f'<g id="mark-{verdict}" class="mark {verdict}">{form}</g>') for verdict, form in MARKS.items()]
    hatch = Html(
        '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<path class="hatch" d="M0 0V6"/></pattern>'
    )
    return element("svg", element("defs", found, hatch), class_="defs", width="0", height="0", aria_hidden="true")


def mark(verdict: str, x: str, y: float) -> Html:
    name = verdict if verdict in MARKS else "unbounded"
    return element("use", href=f"#mark-{name}", x=x, y=f"{y:g}")


def ticks(start: float, end: float) -> list[float]:
    """Round times, at most seven."""
    step = next((s for s in STEPS if (end - start) / s <= 6), (end - start) / 6)
    first = -int(-start / step) if start < 0 else 0
    return [n * step for n in range(first, int(end / step) + 1)]


def tick_label(value: float) -> str:
    if value and value % 60 == 0:
        return f"{value / 60:g}{words.SPACE}min"
    return f"{value:g}{words.SPACE}s"


def line(x: str, y1: float, y2: float, class_: str) -> Html:
    return element("line", x1=x, x2=x, y1=f"{y1:g}", y2=f"{y2:g}", class_=class_)


def level(x1: str, x2: str, y: float, class_: str) -> Html:
    return element("line", x1=x1, x2=x2, y1=f"{y:g}", y2=f"{y:g}", class_=class_)


def bar(x: Callable[[float], str], start: float, end: float, y: float, class_: str) -> Html:
    width = float(x(end)[:-1]) - float(x(start)[:-1])
    return element("rect", x=x(start), y=f"{y:g}", width=f"{max(width, 0.4):.2f}%", height=BAR, rx="3", class_=class_)


def _name(y: float, name: str, detail: str, room: int, class_: str) -> Html:
    """The name of a lane; where it is too long its end is cut, for the detail tells it from its neighbours."""
    tail = short(detail, room // 2)
    name = short(name, room - columns(tail) - 1)
    detailed = element("tspan", f" {tail}", class_="detail") if tail else None
    return element("text", name, detailed, x=f"{LEFT}%", dx=7, y=f"{y:g}", class_=class_)


def label(y: float, name: str, detail: str, value: str, class_: str = "") -> list[Html]:
    """The name of a lane at its left and the measured value at its right.

    A long name is there in two lengths, of which the style shows the one that fits.
    """
    y += 14
    room = [width - columns(value) for width in (NARROW, ROOMY)]
    if columns(f"{name} {detail}") <= room[0]:
        names = [_name(y, name, detail, room[0], "name")]
    else:
        names = [_name(y, name, detail, width, f"name {kind}") for width, kind in zip(room, ("narrow", "roomy"), strict=True)]
    return [*names, element("text", value, x="100%", y=f"{y:g}", class_=f"value {class_}".strip())]


def _lane(o: Observation, x: Callable[[float], str], y: float, end: float) -> list[Html]:
    """An observation: its range as a band, its mark, and between the two how much it was late or early."""
    top, middle = y + BAR_TOP, y + BAR_TOP + BAR / 2
    found = label(y, o.observer, o.event, words.measured(o), o.verdict if o.verdict in MARKS else "")
    found.append(level(f"{LEFT}%", "100%", middle, "track"))
    if o.shortest is not None or o.longest is not None:
        low = 0 if o.shortest is None else o.shortest
        found.append(bar(x, low, end if o.longest is None else o.longest, top, "band"))
    if o.at is None:
        return [*found, mark("missed", x(end if o.longest is None else o.longest), middle)] if o.verdict == "missed" else found
    for limit, apart in ((o.longest, 1), (o.shortest, -1)):
        if limit is not None and (o.at - limit) * apart > 0:
            found.append(level(x(limit), x(o.at), middle, f"beyond {o.verdict if o.verdict in MARKS else ''}".strip()))
    return [*found, mark(o.verdict, x(o.at), middle)]


def _described(scenario: ScenarioReport) -> str:
    """The plot in words, for those who can't see it."""
    parts = ["Injected at 0 s"]
    for o in scenario.observations:
        verdict = "" if o.verdict in ("within", "missed") else f" ({words.word(words.VERDICTS, o.verdict)})"
        parts.append(f"{words.subject(o)} {words.measured(o)}{verdict}")
    if scenario.restored_after is not None:
        parts.append(f"restored at {words.seconds(scenario.restored_after)}")
    return "; ".join(parts) + ". The table has the same times and their ranges."


def _axis(x: Callable[[float], str], start: float, end: float, head: float, bottom: float) -> list[Html]:
    """The times, each with its line."""
    drawn = []
    for tick in ticks(start, end):
        place = float(x(tick)[:-1])
        anchor = "end" if place > 94 else "start" if place < 4 else "middle"
        drawn.append(line(x(tick), head, bottom + 4, "tick"))
        drawn.append(element("text", tick_label(tick), x=x(tick), y=bottom + 17, text_anchor=anchor, class_="axis"))
    return drawn


def _restoration(x: Callable[[float], str], restored: float, head: float, bottom: float) -> list[Html]:
    """The moment at which the application was as before."""
    right = float(x(restored)[:-1]) > 60
    caption = element(
        "text",
        f"restored {words.seconds(restored)}",
        x=x(restored),
        y=head - 7,
        dx=-5 if right else 5,
        text_anchor="end" if right else "start",
        class_="caption restore",
    )
    return [line(x(restored), head - HEAD + 4, bottom, "restore"), caption]


def plot(scenario: ScenarioReport, ident: str) -> Html | None:
    """The plot, or None where there is no time to show. *ident* makes its ids unique in the page."""
    known = [scenario.restored_after, scenario.first_lost, scenario.last_lost]
    known += [time for o in scenario.observations for time in (o.at, o.shortest, o.longest)]
    times = [time for time in known if time is not None]
    if not times:
        return None
    start, end = min(0.0, *times), max(1.0, *times)
    # The line of the restoration stays left of the values.
    end = max(end, (scenario.restored_after or 0) / 0.85)

    def x(time: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * (time - start) / (end - start):.2f}%"

    hit = scenario.lost and scenario.first_lost is not None and scenario.last_lost is not None
    lanes = len(scenario.observations) + (1 if hit else 0)
    restored = scenario.restored_after
    # Both captions fit side by side unless the restoration follows close upon the injection.
    head = HEAD if restored is None or float(x(restored)[:-1]) > 30 else 2 * HEAD - 4
    bottom = head + lanes * LANE
    drawn: list[Html | list[Html]] = []
    if restored is not None:
        began = max(restored - (scenario.restore_seconds or 0), 0)
        width = float(x(began)[:-1]) - float(x(0)[:-1])
        drawn.append(element("rect", x=x(0), y=head, width=f"{width:.2f}%", height=bottom - head, class_="fault"))
        width = float(x(restored)[:-1]) - float(x(began)[:-1])
        drawn.append(element("rect", x=x(began), y=head, width=f"{width:.2f}%", height=bottom - head, class_="restoring"))
    drawn += _axis(x, start, end, head, bottom)
    drawn.append(line(x(0), 4, bottom, "inject"))
    drawn.append(element("text", "inject", x=x(0), y=13, dx=5, class_="caption inject"))
    if restored is not None:
        drawn += _restoration(x, restored, head, bottom)
    y = float(head)
    if hit and scenario.first_lost is not None and scenario.last_lost is not None:
        drawn.append(label(y, "requests", "lost", words.lost(scenario)))
        drawn.append(bar(x, scenario.first_lost, scenario.last_lost, y + BAR_TOP, "losing"))
        y += LANE
    for observation in scenario.observations:
        drawn.append(_lane(observation, x, y, end))
        y += LANE
    return element(
        "svg",
        element("title", f"Timeline of {scenario.name}", id=f"{ident}-title"),
        element("desc", _described(scenario), id=f"{ident}-desc"),
        drawn,
        class_="plot",
        role="img",
        aria_labelledby=f"{ident}-title",
        aria_describedby=f"{ident}-desc",
        width="100%",
        height=bottom + FOOT,
    )
