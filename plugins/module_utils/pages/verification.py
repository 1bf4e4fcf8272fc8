# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a verification that is repeated: what is broken and where to look, and since when each link has its status."""

from __future__ import annotations

import re
from typing import Any

from . import parts
from .markup import Child, Html, element
from .words import NONE, SPACE, lasted, moment, several, text

Json = dict[str, Any]

DOCS = "https://github.com/flaskops/observability/blob/main/docs/verify.md"
# By a status: what the page calls it, and how that looks.
STATUSES = {
    "ok": ("ok", "good", parts.TICK),
    "failed": ("failed", "bad", parts.CROSS),
    "skipped": ("skipped", "", parts.DASH),
    "": ("no row", "", ""),
}
# Without a run that ended for so many times the time between two of them, nothing on the page is news. So says VerifyStale.
STALE = 3
SOONEST, LATEST = 10, 60  # seconds after which the page refreshes itself
COMMAND = 4000  # characters: a command is no use if it is cut
SINCE = "Since (UTC)"
LINES = ("written", "late", "missing", "double", "unknown")


def refresh(found: Json, now: float) -> int:
    """In how many seconds there is something new: with the end of the run that is under way, or of the next one."""
    begins = found["next"] - (found["every"] if found["running"] else 0)
    return round(min(max(begins + found["seconds"] + 1 - now, SOONEST), LATEST))


def page(found: Json, now: float, refreshes: int = 0) -> str:
    """The page of what ``/results.json`` has.

    :param refreshes: after how many seconds the browser reads it again; 0 where it does not.
    """
    who = f"{found['app']} in namespace {found['namespace']}"
    tone, headline = judge(found, now)
    blamed = [r for r in found["results"] if r["status"] == "failed" and not r["follows"]]
    names = idents(found["results"])
    again = f"This page refreshes itself every {refreshes}{SPACE}s." if refreshes else "This page does not refresh itself."
    switch = element("a", "Stop refreshing", href="?refresh=no") if refreshes else element("a", "Refresh it by itself", href="./")
    return parts.document(
        f"{headline}: verification of {text(found['app'])}",
        parts.style(parts.HERE / "served.css"),
        element(
            "header",
            element("h1", f"Verification of {text(who)}"),
            element("p", "Every ", lasted(found["every"]), ", as it was at ", parts.time(moment(now)), class_="where"),
            element("p", again, " ", switch, class_="where top"),
        ),
        element(
            "main",
            parts.verdict(tone, headline, problems(found), parts.glance(glance(found, now)) if found["runs"] else None),
            parts.section("attention", "Look at these first", attention(found, blamed, names, now)) if blamed else None,
            parts.section("links", "All links", links(found, names, now)) if found["results"] else None,
            parts.section("changes", "What changed", changes(found, now)) if found["runs"] else None,
            parts.section("lines", "Numbered lines", lines(found)) if found["lines"] else None,
        ),
        footer(found),
    )


def judge(found: Json, now: float) -> tuple[str, str]:
    """The verdict: its tone, and the sentence."""
    if not found["runs"]:
        if found["error"]:
            return "bad", "No verification could begin"
        return "none", "The first verification is under way"
    if (silent := now - found["ended"]) > STALE * found["every"]:
        return "bad", f"No verification has ended for {lasted(silent)}"
    if found["error"]:
        return "bad", "The last verification could not begin"
    broken = [r for r in found["results"] if r["status"] == "failed"]
    follow = len([r for r in broken if r["follows"]])
    if broken:
        blamed = len(broken) - follow
        because = f", and {follow} more because of {'it' if blamed == 1 else 'them'}" if follow and blamed else ""
        return "bad", several(blamed or follow, "link is", "links are") + " broken" + because
    well = len([r for r in found["results"] if r["status"] == "ok"])
    return ("good", f"All {several(well, 'link')} work") if well > 1 else ("none", "Nothing was verified")


def problems(found: Json) -> Html | None:
    """Why a run or a part of it could not be done, in the words of what failed."""
    said = [text(found[key], COMMAND) for key in ("error", "lines_error") if found[key]]
    return element("ul", [element("li", sentence) for sentence in said], class_="errors") if said else None


def glance(found: Json, now: float) -> list[tuple[str, Child, Child]]:
    """What it comes to: each a name, a value, and a detail that may be empty."""
    counts = {status: len([r for r in found["results"] if r["status"] == status]) for status in STATUSES}
    ended = moment(found["ended"])
    under_way = found["running"] or found["next"] <= now
    newest = found["changes"][0] if found["changes"] else None
    last: Child = "none since the first run"
    if newest:
        last = f"{text(newest['link'])}: {STATUSES[newest['before']][0]}, now {STATUSES[newest['after']][0]}"
    return [
        ("Links", f"{counts['ok']} ok", f"{counts['failed']} failed, {counts['skipped']} skipped"),
        (
            "Last run",
            f"{lasted(now - found['ended'])} ago",
            [parts.time(ended, "%H:%M:%S UTC"), f", took {lasted(found['seconds'])}"],
        ),
        (
            "Next run",
            "under way" if under_way else f"in {lasted(found['next'] - now)}",
            None if under_way else parts.time(moment(found["next"]), "%H:%M:%S UTC"),
        ),
        ("Last change", f"{lasted(now - newest['at'])} ago" if newest else NONE, last),
    ]


def idents(results: list[Json]) -> dict[str, str]:
    """An id for the row of each link, so that it can be linked to."""
    found: dict[str, str] = {}
    for place, result in enumerate(results):
        ident = "link-" + (re.sub("[^a-z0-9]+", "-", result["link"].lower()).strip("-") or str(place))
        found[result["link"]] = f"{ident}-{place}" if ident in found.values() else ident
    return found


def shown(status: str) -> Html:
    word, kind, icon = STATUSES[status]
    return parts.status(word, kind, icon)


def to_row(link: str, names: dict[str, str]) -> Child:
    """The name of a link, which leads to its row where it has one."""
    name = text(link)
    return element("a", name, href=f"#{names[link]}") if link in names else name


def attention(found: Json, blamed: list[Json], names: dict[str, str], now: float) -> Html:
    """What is broken by itself: the evidence, the cause, the next command, and what follows from it."""
    items = []
    for result in blamed:
        follow = [r["link"] for r in found["results"] if r["follows"] == result["link"]]
        facts: list[tuple[str, Child]] = [
            ("Cause", text(result["cause"], COMMAND)),
            ("Evidence", text(result["evidence"], COMMAND)),
            ("Asked", element("code", text(result["query"], COMMAND)) if result["query"] else ""),
            ("Next command", element("pre", element("code", text(result["next_command"], COMMAND)))),
            ("Broken because of it", [[", " if place else "", to_row(link, names)] for place, link in enumerate(follow)]),
        ]
        items.append(
            element(
                "li",
                element("h3", to_row(result["link"], names), " ", shown("failed")),
                element("p", standing(result, now), class_="small muted"),
                element(
                    "dl",
                    [element("div", element("dt", name), element("dd", value)) for name, value in facts if value],
                    class_="facts",
                ),
            )
        )
    return element("ul", items, class_="attention")


def standing(result: Json, now: float) -> list[Child]:
    """Since when a row has its status."""
    word = STATUSES[result["status"]][0]
    return [f"{word} for {lasted(now - result['since'])}, since ", parts.time(moment(result["since"]))]


def links(found: Json, names: dict[str, str], now: float) -> Html:
    """All rows."""
    rows = []
    for result in found["results"]:
        since, before = moment(result["since"]), result["before"]
        cause: Child = None
        if result["follows"]:
            cause = element("small", "because of ", to_row(result["follows"], names))
        elif result["cause"]:
            cause = element("small", text(result["cause"]))
        rows.append(
            parts.row(
                parts.breakable(text(result["link"])),
                parts.cell("Status", shown(result["status"]), class_="state"),
                parts.cell("Evidence", text(result["evidence"]) or NONE, cause, class_="wide"),
                parts.cell(
                    SINCE,
                    parts.time(since, "%b %d, %H:%M"),
                    element("small", f"for {lasted(now - result['since'])}"),
                    class_="times",
                ),
                parts.cell(
                    "Last change",
                    f"from {STATUSES[before][0]}" if before else "none seen",
                    element("small", f"after {lasted(result['lasted'])}") if before else None,
                ),
                ident=names[result["link"]],
            )
        )
    caption = "In the order of the chain: a broken link may break those below it. Times are those of the run that found it."
    return parts.table(caption, ["Link", "Status", "Evidence", SINCE, "Last change"], rows)


def changes(found: Json, now: float) -> list[Child]:
    """The newest changes, and from when on they are known."""
    items = [
        element(
            "li",
            parts.time(moment(change["at"]), "%b %d, %H:%M:%S UTC"),
            " ",
            element("b", text(change["link"])),
            " ",
            shown(change["before"]),
            " became ",
            shown(change["after"]),
            element("small", f" {lasted(now - change['at'])} ago"),
        )
        for change in found["changes"]
    ]
    known = element(
        "p",
        f"{'' if items else 'Nothing. '}Known from the start of this pod on, ",
        parts.time(moment(found["began"])),
        ", for it keeps no file; a new pod starts again.",
        class_="small muted",
    )
    return [element("ol", items, class_="changes") if items else None, known]


def lines(found: Json) -> Html:
    """Whether log lines arrive, by back end."""
    rows = []
    for backend, numbers in found["lines"].items():
        error = text(numbers.get("error"))
        cells = [parts.cell(name.capitalize(), str(numbers[name])) for name in LINES]
        rows.append(
            parts.row(
                text(backend),
                cells,
                parts.cell("Answer", f"it gave no answer: {error}" if error else "it answers", class_="wide"),
            )
        )
    caption = "Each run writes numbered lines to the log of this pod, and asks each log back end for them."
    return parts.table(caption, ["Back end", *(name.capitalize() for name in LINES), "Answer"], rows)


def footer(found: Json) -> Html:
    """Where the same is, for programs and for terminals."""
    others = [("table.txt", "as text"), ("results.json", "as JSON"), ("metrics", "as metrics")]
    return element(
        "footer",
        "The same ",
        [[", " if place else "", element("a", name, href=to)] for place, (to, name) in enumerate(others)],
        f". {several(found['runs'], 'run')} ended, {found['errors']} could not begin. ",
        element("a", "What each link proves, and how it can break", href=DOCS, rel="noreferrer"),
        ".",
    )
