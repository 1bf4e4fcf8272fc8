# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill's report says, in the same words on the page and in Markdown."""

from __future__ import annotations

from ...pages.words import NONE, SPACE, amount, several, some
from .data import Change, Difference, DrillReport, Observation, ScenarioChange, ScenarioReport, Stage

STATUSES = {"passed": "passed", "failed": "failed", "aborted": "aborted", "skipped": "skipped"}
VERDICTS = {"within": "within", "early": "early", "late": "late", "missed": "missed", "unbounded": "no limits"}
MINUS = "\u2212"


def word(known: dict[str, str], value: str) -> str:
    """The word for a status or a verdict; one that is not known is said as it is."""
    return known.get(value, value.replace("_", " ")) or "unknown"


def seconds(value: float | None) -> str:
    """17.3 s, or 10 min 30 s from ten minutes on."""
    if value is None:
        return NONE
    if abs(value) < 600:
        return f"{value:.1f}{SPACE}s".replace("-", MINUS)
    minutes, rest = divmod(round(abs(value)), 60)
    return f"{MINUS if value < 0 else ''}{minutes}{SPACE}min" + (f"{SPACE}{rest}{SPACE}s" if rest else "")


def limit(value: float | None) -> str:
    """A limit that somebody set: 60 s rather than 60.0 s."""
    return f"{value:g}{SPACE}s" if value is not None and abs(value) < 600 else seconds(value)


def span(shortest: float | None, longest: float | None) -> str:
    """15.0 to 32.0 s; empty where there is no limit."""
    if shortest is None and longest is None:
        return ""
    if shortest is None:
        return f"at most {seconds(longest)}"
    if longest is None:
        return f"at least {seconds(shortest)}"
    if shortest == longest:
        return seconds(longest)
    least = f"{shortest:.1f}" if max(shortest, longest) < 600 else seconds(shortest)
    return f"{least} to {seconds(longest)}"


def share(part: int, whole: int) -> str:
    """A percentage that is never 0 % for something, nor 100 % for less than all."""
    if not whole or not 0 < part < whole:
        return f"{100 if whole and part else 0}{SPACE}%"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f}{SPACE}%"


def lost(scenario: ScenarioReport) -> str:
    if scenario.lost is None:
        return NONE
    return f"{amount(scenario.lost)} of {amount(scenario.sent)}" if scenario.sent is not None else amount(scenario.lost)


def stage(found: Stage) -> str:
    """scrape 0 to 5, or group wait 5: seconds, without the unit."""
    if found.shortest is None or found.longest is None:
        return found.name
    limits = f"{found.shortest:g}" if found.shortest == found.longest else f"{found.shortest:g} to {found.longest:g}"
    return f"{found.name} {limits}"


def subject(observation: Observation) -> str:
    return f"{observation.observer} {observation.event}".strip()


def measured(observation: Observation) -> str:
    if observation.at is not None:
        return seconds(observation.at)
    return "never" if observation.verdict == "missed" else "not seen"


def page(scenario: ScenarioReport) -> str:
    """When the page came."""
    awaited, at = scenario.page
    if at is not None:
        return seconds(at)
    return "never" if awaited and scenario.ran else NONE


def restored(scenario: ScenarioReport) -> str:
    if scenario.restored is None:
        return NONE
    if not scenario.restored:
        return "no"
    return "yes" if scenario.restore_seconds is None else f"in {seconds(scenario.restore_seconds)}"


def headline(drill: DrillReport) -> str:
    """The verdict in one sentence."""
    total, passed = len(drill.scenarios), len(drill.having("passed"))
    if not total:
        return "No scenario was run"
    if drill.unrestored:
        return f"Not restored: {', '.join(s.name for s in drill.unrestored)}"
    failed, aborted = len(drill.having("failed")), len(drill.having("aborted"))
    others = len(drill.scenarios) - passed - failed - aborted - len(drill.having("skipped"))
    if failed:
        return f"{failed} of {several(total, 'scenario')} failed" + (f", {aborted} aborted" if aborted else "")
    if aborted or others:
        return f"{aborted + others} of {several(total, 'scenario')} did not finish"
    if not passed:
        return f"Nothing was drilled: {several(total, 'scenario was', 'scenarios were')} skipped"
    if passed == total:
        return "The scenario passed" if total == 1 else f"All {total} scenarios passed"
    return f"{several(passed, 'scenario')} passed, {total - passed} skipped"


def tone(drill: DrillReport) -> str:
    """good, bad, or none where nothing is proven."""
    if drill.unrestored or any(s.status not in ("passed", "skipped") for s in drill.scenarios):
        return "bad"
    return "good" if drill.having("passed") else "none"


def tally(drill: DrillReport) -> tuple[str, str]:
    """10 passed; and the rest: 2 failed, 1 skipped."""
    kinds = [*list(STATUSES)[1:], *sorted({s.status for s in drill.scenarios} - set(STATUSES))]
    found = [(len(drill.having(kind)), word(STATUSES, kind)) for kind in kinds]
    rest = ", ".join(f"{n} {name}" for n, name in found if n or name in ("failed", "skipped"))
    return f"{len(drill.having('passed'))} passed", rest


def slowest_page(drill: DrillReport) -> tuple[str, str]:
    """The slowest page, and of which scenario it is."""
    slowest = drill.slowest_page
    came = f"{seconds(slowest[1])} for {slowest[0].name}" if slowest else ""
    if drill.unpaged:
        return "never", f"for {some([s.name for s in drill.unpaged])}" + (f"; of the others {came}" if came else "")
    return (seconds(slowest[1]), f"for {slowest[0].name}") if slowest else (NONE, "nothing was to page")


def objectives_met(drill: DrillReport) -> tuple[str, str]:
    """19 of 20, and which scenarios missed one."""
    found = drill.objectives
    if not found:
        return NONE, "no objectives are set"
    missed = [scenario.name for scenario, objective in found if not objective.ok]
    detail = f"missed by {some(list(dict.fromkeys(missed)))}" if missed else "all met"
    return f"{len(found) - len(missed)} of {len(found)}", detail


def changed(change: Change | None) -> str:
    """One observation beside the same one in the previous report."""
    if change is None:
        return "new"
    if change.kind == "came":
        return "never before"
    if change.kind == "stayed_away":
        return f"was {seconds(change.before)}"
    if change.before is None or change.now is None:
        return "as before"
    apart = round(change.now - change.before, 1)
    sign = "+" if apart > 0 else "±" if apart == 0 else ""
    return f"{sign}{seconds(apart)}" + (f" {change.kind}" if change.kind != "alike" else "")


def scenario_changed(change: ScenarioChange | None) -> str:
    """One scenario beside the same one in the previous report."""
    if change is None:
        return "new"
    if change.status_before != change.status_now:
        return f"was {word(STATUSES, change.status_before)}"
    kinds = [c.kind for c in change.observations if c]
    parts = [f"{kinds.count(kind)} {kind}" for kind in ("slower", "faster") if kinds.count(kind)]
    parts += [f"{kinds.count('came')} came"] if kinds.count("came") else []
    parts += [f"{kinds.count('stayed_away')} missing"] if kinds.count("stayed_away") else []
    return ", ".join(parts) or "alike"


def compared(difference: Difference) -> list[str]:
    """What is to be known about the comparison as a whole, each a sentence."""
    if difference.reason:
        return [difference.reason]
    found = []
    if difference.settings:
        changes = [f"{name} ({old or 'none'} before, {new or 'none'} now)" for name, (old, new) in difference.settings.items()]
        found.append(f"Settings changed, and with them the times: {', '.join(changes)}.")
    if difference.new:
        found.append(f"Not in the previous report: {several(difference.new, 'scenario')}.")
    if difference.gone:
        found.append(f"Only in the previous report: {', '.join(difference.gone)}.")
    return found


def problems(scenario: ScenarioReport) -> list[str]:
    """Why a scenario needs attention, each a sentence; the worst first. Empty where all is well, or nothing was done."""
    if scenario.status == "skipped" or (
        scenario.status == "passed" and scenario.restored is not False and all(o.ok for o in scenario.objectives)
    ):
        return []
    found = []
    if scenario.restored is False:
        found.append(f"Not restored: {scenario.evidence or 'no evidence was given'}")
    if scenario.reason:
        found.append(scenario.reason)
    for o in scenario.observations:
        if o.verdict in ("late", "early", "missed"):
            limits = span(o.shortest, o.longest)
            came = "did not come" if o.at is None else f"came at {seconds(o.at)}"
            found.append(f"{subject(o)} {came}" + (f", expected {limits}" if limits else "") + (f": {o.note}" if o.note else ""))
    for objective in scenario.objectives:
        if not objective.ok:
            took = "never" if objective.measured is None else seconds(objective.measured)
            found.append(f"Objective {objective.name} missed: {took}, limit {limit(objective.limit)}")
    return found
