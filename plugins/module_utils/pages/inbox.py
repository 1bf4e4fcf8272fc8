# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the alert inbox: one row for each alert from firing to resolved, however many notifications were about it."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from . import parts
from .markup import Child, Html, element
from .words import NONE, SPACE, lasted, moment, several, some, text

Json = dict[str, Any]

TEST = "VerifyTestAlert"  # what verify sends to prove the alert path
REFRESH = 15  # seconds
MOST = 200  # rows: a telephone shows that many; /alerts.json has the rest
# Severities of which nobody is to do anything, as of Watchdog, which fires always.
QUIET = frozenset({"none", "info"})
KINDS = {"critical": "bad", "warning": "none"}
FIRING, RESOLVED, UNKNOWN = "firing", "resolved", "end unknown"
# Labels that have a place of their own in a row.
PLACED = frozenset({"alertname", "severity"})
DAY = "%b %d, %H:%M:%S"


@dataclass
class Episode:
    """An alert from the moment at which it began to fire to that at which it was resolved."""

    labels: dict[str, str]
    annotations: dict[str, str]
    began: float
    arrived: float | None  # when the first notification of it came; None where only its end did
    told: float  # when the newest notification came
    notified: int = 1
    ended: float | None = None
    state: str = FIRING

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "") or "unnamed alert"

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "")

    @property
    def urgent(self) -> bool:
        return self.state == FIRING and self.severity not in QUIET

    def seconds(self, now: float) -> float:
        return max(0.0, (now if self.ended is None else self.ended) - self.began)


def seconds_of(written: str) -> float | None:
    """A time as Alertmanager writes it, in seconds since 1970; None for none, which it writes as the year 1."""
    try:
        found = datetime.datetime.fromisoformat(written).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None
    return found.timestamp() if found.year > 1970 else None


def episodes(notifications: list[Json]) -> list[Episode]:
    """The alerts that notifications, oldest first, report: what fires first, then what was heard of last."""
    found: dict[tuple[str, str], Episode] = {}
    newest: dict[str, Episode] = {}
    for one in notifications:
        identity = one["fingerprint"] or str(sorted(one["labels"].items()))
        received = one["received_ms"] / 1000
        began = seconds_of(one["startsAt"])
        key = (identity, one["startsAt"])
        episode = found.get(key)
        if episode is None:
            before = newest.get(identity)
            if before and before.state == FIRING:
                # It fires again, so it was over; that notification never came.
                before.state = UNKNOWN
            began = received if began is None else began
            arrived = received if one["status"] == FIRING else None
            episode = found[key] = newest[identity] = Episode(one["labels"], one["annotations"], began, arrived, received)
        else:
            episode.annotations, episode.told = one["annotations"], received
            episode.notified += 1
        episode.state, episode.ended = one["status"], None
        if one["status"] == RESOLVED:
            ended = seconds_of(one["endsAt"])
            episode.ended = received if ended is None else ended
    return sorted(found.values(), key=lambda e: (not e.urgent, e.state != FIRING, -e.told))


def page(found: Json, now: float, refreshes: int = 0, tests: bool = False) -> str:
    """The page of what ``/alerts.json`` has.

    :param refreshes: after how many seconds the browser reads it again; 0 where it does not.
    :param tests: whether the test alerts are shown.
    """
    every = episodes(found["alerts"])
    real, proven = [e for e in every if e.name != TEST], [e for e in every if e.name == TEST]
    tone, headline = judge(real, proven)
    again = f"This page refreshes itself every {refreshes}{SPACE}s." if refreshes else "This page does not refresh itself."
    switch = address(not refreshes, tests)
    return parts.document(
        f"{headline}: alert inbox",
        parts.style(parts.HERE / "served.css"),
        element(
            "header",
            element("h1", "Alert inbox"),
            element("p", "Which alerts arrived here, and when; as it was at ", parts.time(moment(now)), class_="where"),
            element(
                "p",
                again,
                " ",
                element("a", "Stop refreshing" if refreshes else "Refresh it by itself", href=switch),
                class_="where top",
            ),
        ),
        element(
            "main",
            parts.verdict(tone, headline, parts.glance(glance(real, proven, found, now)) if every else None),
            parts.section("alerts", "Alerts", alerts(real, now) if real else element("p", "None has arrived.")),
            parts.section("tests", "Test alerts", folded(proven, now, bool(refreshes), tests)) if proven else None,
        ),
        footer(),
    )


def address(refreshes: bool, tests: bool) -> str:
    """The page as a reader has chosen it."""
    chosen = ([] if refreshes else [("refresh", "no")]) + ([("tests", "shown")] if tests else [])
    return f"?{urlencode(chosen)}" if chosen else "./"


def judge(real: list[Episode], proven: list[Episode]) -> tuple[str, str]:
    """The verdict: its tone, and the sentence."""
    urgent = [e for e in real if e.urgent]
    if urgent:
        return "bad", several(len(urgent), "alert is", "alerts are") + " firing"
    return ("good", "No alert is firing") if real or proven else ("none", "Nothing has arrived yet")


def glance(real: list[Episode], proven: list[Episode], found: Json, now: float) -> list[tuple[str, Child, Child]]:
    """What it comes to: each a name, a value, and a detail that may be empty."""
    firing = [e for e in real if e.state == FIRING]
    urgent = [e for e in firing if e.urgent]
    severities = sorted({e.severity for e in urgent}, key=lambda s: (s != "critical", s != "warning", s))
    counts = [f"{len([e for e in urgent if e.severity == s])} {text(s, 60) or 'without severity'}" for s in severities]
    quiet = sorted({text(e.name, 90) for e in firing if not e.urgent})
    counts += [f"in addition to {some(quiet)}"] if quiet else []
    newest = max(real, key=lambda e: e.told, default=None)
    proof = max(proven, key=lambda e: e.told, default=None)
    kept = len(found["alerts"])
    dropped = f", {several(found['dropped'], 'older one', 'older ones')} dropped" if found["dropped"] else ""
    return [
        ("Firing", str(len(urgent)), ", ".join(counts)),
        ("Last news", f"{lasted(now - newest.told)} ago" if newest else NONE, text(newest.name, 90) if newest else ""),
        ("Last test alert", f"{lasted(now - proof.told)} ago" if proof else NONE, proof.state if proof else "none arrived"),
        ("Kept", several(len(real) + len(proven), "alert"), f"of {several(kept, 'notification')}{dropped}"),
    ]


def alerts(shown: list[Episode], now: float, caption: str = "What fires is first, then what was heard of last.") -> list[Child]:
    """A row for each alert."""
    columns = ["Alert", "State", "Severity", "Lasted", "From and to (UTC)", "What it says"]
    rest = len(shown) - MOST
    more = element("p", f"and {several(rest, 'older alert')}, which alerts.json has", class_="small muted") if rest > 0 else None
    return [parts.table(caption, columns, [row(e, now) for e in shown[:MOST]]), more]


def row(episode: Episode, now: float) -> Html:
    labels = ", ".join(f"{key}={value}" for key, value in sorted(episode.labels.items()) if key not in PLACED)
    firing = episode.state == FIRING
    kind = {FIRING: "bad" if episode.urgent else "", RESOLVED: "good"}.get(episode.state, "")
    icon = {FIRING: parts.ALARM, RESOLVED: parts.TICK}.get(episode.state, parts.DASH)
    severity = text(episode.severity, 60)
    told = f", notified {episode.notified} times" if episode.notified > 2 else ""
    return parts.row(
        [parts.breakable(text(episode.name)), element("small", text(labels)) if labels else None],
        parts.cell("State", parts.status(episode.state, kind, icon), class_="state"),
        parts.cell("Severity", parts.status(severity, KINDS[severity]) if firing and severity in KINDS else severity or NONE),
        parts.cell(
            "Lasted",
            NONE if episode.state == UNKNOWN else lasted(episode.seconds(now)),
            element("small", "so far") if firing else None,
            class_="times",
        ),
        parts.cell(
            "From and to (UTC)",
            parts.time(moment(episode.began), DAY),
            None if episode.ended is None else [" to ", parts.time(moment(episode.ended), until(episode))],
            element("small", arrival(episode), told),
            class_="since",
        ),
        parts.cell("What it says", says(episode), class_="wide"),
    )


def arrival(episode: Episode) -> str:
    """How long the alert was on its way."""
    if episode.arrived is None:
        return "only its end arrived"
    return f"arrived {lasted(max(0.0, episode.arrived - episode.began))} later"


def until(episode: Episode) -> str:
    """How the end of an alert is written: without its day, where that is the day on which it began."""
    one_day = episode.ended is not None and moment(episode.began).date() == moment(episode.ended).date()
    return "%H:%M:%S" if one_day else DAY


def says(episode: Episode) -> list[Child]:
    """The words of an alert, and where to read on."""
    summary, description = (text(episode.annotations.get(key)) for key in ("summary", "description"))
    runbook = episode.annotations.get("runbook_url", "")
    # What comes from the cluster may be any text; a link leads to the web, and does nothing.
    leads = re.fullmatch(r"https?://[!-~]+", runbook)
    name = f"Runbook of {text(episode.name, 90)}"
    said: list[Child] = [summary or NONE, element("small", description) if description else None]
    return [*said, element("small", element("a", name, href=runbook, rel="noreferrer")) if leads else None]


def folded(proven: list[Episode], now: float, refreshes: bool, shown: bool) -> list[Child]:
    """The test alerts in one sentence, or as rows for who wants them.

    A link folds them, not the browser, so that they stay as they are when the page refreshes itself.
    """
    newest = max(proven, key=lambda e: e.began)
    over = f" and was resolved after {lasted(newest.seconds(now))}" if newest.state == RESOLVED else f" and is {newest.state}"
    link = element(
        "a", "Fold the test alerts" if shown else "Show the test alerts", href=f"{address(refreshes, not shown)}#tests"
    )
    sentence = element(
        "p",
        f"{several(len(proven), 'test alert')} of verify arrived. The last one began at ",
        parts.time(moment(newest.began)),
        f", {arrival(newest)}{over}. ",
        element("span", link, class_="top"),
    )
    return [sentence, alerts(proven, now, "They prove the alert path, and mean nothing else.") if shown else None]


def footer() -> Html:
    kept = "Kept in memory, and gone with this pod. The same "
    return element("footer", kept, element("a", "as JSON", href="alerts.json"), ".")
