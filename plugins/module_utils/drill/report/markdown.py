# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill's report as a comment for a pull request, in GitHub's Markdown."""

from __future__ import annotations

import html
import re

from . import words
from .data import Difference, DrillReport, ScenarioChange, ScenarioReport

SYMBOLS = {"passed": "✅", "failed": "❌", "aborted": "🛑", "skipped": "⚪"}
TONES = {"good": "✅", "bad": "❌", "none": "⚪"}


def quiet(text: str) -> str:
    """Text that is no HTML, and neither mentions a user nor links an issue."""
    return re.sub(r"(@|#)(?=\w)|(GH)(?=-\d)", "\\1\\2\u200b", html.escape(text, quote=False))


def safe(text: str) -> str:
    """Text that is no markup at all."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", quiet(text))


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *rows]]


def _status(status: str) -> str:
    return f"{SYMBOLS.get(status, '❔')} {safe(words.word(words.STATUSES, status))}"


def _details(scenario: ScenarioReport, change: ScenarioChange | None) -> list[str]:
    lines = ["", "<details>", f"<summary>{_status(scenario.status)}: {quiet(scenario.title)}</summary>", ""]
    lines += [f"- {safe(sentence)}" for sentence in words.problems(scenario)]
    if scenario.how:
        lines.append(f"- Fault: {safe(scenario.how)}")
    if scenario.restored:
        lines.append(f"- Restored: {safe(scenario.evidence or 'yes')}")
    if scenario.observations:
        compare = change is not None and any(change.observations)
        changes = change.observations if change else (None,) * len(scenario.observations)
        rows = [
            [
                safe(words.subject(o)),
                words.measured(o),
                words.span(o.shortest, o.longest) or words.NONE,
                safe(words.word(words.VERDICTS, o.verdict)),
                *([words.changed(c)] if compare else []),
            ]
            for o, c in zip(scenario.observations, changes, strict=True)
        ]
        lines += ["", *table(["observer", "measured", "expected", "verdict", *(["since last"] if compare else [])], rows)]
    return [*lines, "", "</details>"]


def render(drill: DrillReport, difference: Difference) -> str:
    compare = not difference.reason
    changes = difference.scenarios if compare else (None,) * len(drill.scenarios)
    lost, sent = drill.requests
    page, of = words.slowest_page(drill)
    met, missed = words.objectives_met(drill)
    when = f"{drill.started_at:%Y-%m-%d %H:%M} UTC" if drill.started_at else "at an unknown time"
    place = f"{drill.app} on {drill.cluster}" + (f" ({drill.environment})" if drill.environment else "")
    lines = [
        f"### {TONES[words.tone(drill)]} {safe(words.headline(drill))}",
        "",
        f"Fault drill of {safe(place)}, {when}: {safe(', '.join(words.tally(drill)))}.",
        f"Slowest page: {page} ({safe(of)}). Requests lost: {words.amount(lost)} of {words.amount(sent)}.",
        f"Objectives met: {met} ({safe(missed)}).",
    ]
    if drill.scenarios:
        columns = ["scenario", "result", "first sign", "paged", "requests lost", "restored", *(["since last"] if compare else [])]
        rows = [
            [
                safe(s.title),
                _status(s.status),
                words.seconds(s.noticed.at) if s.noticed else words.NONE,
                words.page(s),
                words.lost(s),
                words.restored(s),
                *([safe(words.scenario_changed(change))] if compare else []),
            ]
            for s, change in zip(drill.scenarios, changes, strict=True)
        ]
        lines += ["", *table(columns, rows)]
    for scenario, change in zip(drill.scenarios, changes, strict=True):
        if scenario.status not in ("passed", "skipped") or scenario.restored is False:
            lines += _details(scenario, change)
    skipped = [f"- {safe(s.title)}: {safe(s.reason or 'no reason was given')}" for s in drill.having("skipped")]
    lines += ["", "Skipped:", "", *skipped] if skipped else []
    unwatched = [f"- {safe(s.title)}: {safe('; '.join(s.unwatched))}" for s in drill.scenarios if s.ran and s.unwatched]
    lines += ["", "Not looked for:", "", *unwatched] if unwatched else []
    if notes := words.compared(difference):
        lines += ["", *(safe(sentence) for sentence in notes)]
    return "\n".join(lines) + "\n"
