# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill's document read into types, what it adds up to, and how it differs from the one before.

A document comes from a run that may have been cut off, so everything in it may be missing or null; what is there is
taken, and nothing is invented. Times are seconds since the injection.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...pages.words import text

FORMAT = 1
NAME_LENGTH = 90  # beyond it a name is cut in a page
# Events by which a thing shows that it is well again; they come after the restoration and detect nothing.
RECOVERIES = frozenset({"added", "ready", "Ready", "resolved", "up"})
# The event of a page's arrival, and the objective that limits it.
RECEIVED, PAGE = "received", "page"

Key = TypeVar("Key")


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def count(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def moment(value: Any) -> datetime.datetime | None:
    """An RFC 3339 time in UTC, or None."""
    try:
        found = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or datetime.UTC).astimezone(datetime.UTC)


def setting(value: Any) -> str:
    """A setting's value, where 5 and 5.0 are the same."""
    found = number(value)
    return text(value, NAME_LENGTH) if found is None else f"{found:g}"


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


@dataclass(frozen=True)
class Stage:
    """A part of the way to an observation, with the least and the most time that it takes."""

    name: str
    shortest: float | None
    longest: float | None


@dataclass(frozen=True)
class Observation:
    observer: str
    event: str
    at: float | None
    shortest: float | None
    longest: float | None
    verdict: str
    note: str
    stages: tuple[Stage, ...]

    @property
    def order(self) -> tuple[float, float]:
        """What happened comes first to last, then what did not, in the order in which it was awaited."""
        return (math.inf if self.at is None else self.at, math.inf if self.longest is None else self.longest)


@dataclass(frozen=True)
class Objective:
    name: str
    limit: float | None
    measured: float | None
    ok: bool


@dataclass(frozen=True)
class ScenarioReport:
    name: str
    title: str
    how: str
    status: str
    reason: str
    injected_at: datetime.datetime | None
    restored_after: float | None  # seconds since the injection
    restore_seconds: float | None  # what the restoration itself took of them
    restored: bool | None  # None: nothing had to be restored, or nobody knows
    evidence: str
    sent: int | None
    lost: int | None
    first_lost: float | None
    last_lost: float | None
    observations: tuple[Observation, ...]
    objectives: tuple[Objective, ...]
    unwatched: tuple[str, ...]  # what nobody could have seen, and why

    @property
    def ran(self) -> bool:
        """Whether its times mean anything beside those of another run."""
        return self.status in ("passed", "failed")

    @property
    def noticed(self) -> Observation | None:
        """The first sign of the fault."""
        signs = [o for o in self.observations if o.at is not None and o.event not in RECOVERIES]
        return min(signs, key=lambda o: o.order, default=None)

    @property
    def page(self) -> tuple[bool, float | None]:
        """Whether somebody was to be paged, and after how many seconds that happened; None for never."""
        limits = [o.measured for o in self.objectives if o.name == PAGE]
        times = [o.at for o in self.observations if o.event == RECEIVED]
        found = [time for time in limits or times if time is not None]
        return bool(limits or times), min(found, default=None)


@dataclass(frozen=True)
class DrillReport:
    cluster: str
    environment: str
    app: str
    namespace: str
    image: str
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    settings: dict[str, str]
    scenarios: tuple[ScenarioReport, ...]

    def having(self, *statuses: str) -> list[ScenarioReport]:
        return [scenario for scenario in self.scenarios if scenario.status in statuses]

    @property
    def unrestored(self) -> list[ScenarioReport]:
        return [scenario for scenario in self.scenarios if scenario.restored is False]

    @property
    def objectives(self) -> list[tuple[ScenarioReport, Objective]]:
        return [(scenario, objective) for scenario in self.scenarios for objective in scenario.objectives]

    @property
    def requests(self) -> tuple[int, int]:
        """Lost and sent, over all scenarios."""
        return sum(s.lost or 0 for s in self.scenarios), sum(s.sent or 0 for s in self.scenarios)

    @property
    def slowest_page(self) -> tuple[ScenarioReport, float] | None:
        pages = [(s, s.page[1]) for s in self.scenarios]
        return max(((s, at) for s, at in pages if at is not None), key=lambda pair: pair[1], default=None)

    @property
    def unpaged(self) -> list[ScenarioReport]:
        """Scenarios that ran, should have paged and did not."""
        return [s for s in self.scenarios if s.ran and s.page == (True, None)]


def _scenario(given: dict[str, Any]) -> ScenarioReport:
    injected, restored_at = moment(given.get("injected_at")), moment(given.get("restored_at"))
    requests, restored = mapping(given.get("requests")), mapping(given.get("restored"))
    observations = [
        Observation(
            observer=text(o.get("observer"), NAME_LENGTH) or "unnamed observer",
            event=text(o.get("event"), NAME_LENGTH),
            at=number(o.get("at")),
            shortest=number(o.get("shortest")),
            longest=number(o.get("longest")),
            verdict=text(o.get("verdict"), NAME_LENGTH),
            note=text(o.get("note")),
            stages=tuple(
                Stage(text(s.get("name"), NAME_LENGTH), number(s.get("shortest")), number(s.get("longest")))
                for s in mappings(o.get("stages"))
            ),
        )
        for o in mappings(given.get("observations"))
    ]
    objectives = [
        Objective(text(o.get("name"), NAME_LENGTH), number(o.get("limit")), number(o.get("measured")), o.get("ok") is True)
        for o in mappings(given.get("objectives"))
    ]
    name = text(given.get("name"), NAME_LENGTH) or "unnamed"
    return ScenarioReport(
        name=name,
        title=text(given.get("title"), NAME_LENGTH) or name,
        how=text(given.get("how")),
        status=text(given.get("status"), NAME_LENGTH) or "unknown",
        reason=text(given.get("reason")),
        injected_at=injected,
        restored_after=(restored_at - injected).total_seconds() if injected and restored_at else None,
        restore_seconds=number(given.get("restore_seconds")),
        restored=restored["ok"] if isinstance(restored.get("ok"), bool) else None,
        evidence=text(restored.get("evidence")),
        sent=count(requests.get("sent")),
        lost=count(requests.get("lost")),
        first_lost=number(requests.get("first_lost")),
        last_lost=number(requests.get("last_lost")),
        observations=tuple(sorted(observations, key=lambda o: o.order)),
        objectives=tuple(objectives),
        unwatched=tuple(
            f"{text(item.get('observer'), NAME_LENGTH)}: {text(item.get('reason'))}" for item in mappings(given.get("skipped"))
        ),
    )


def read(document: dict[str, Any]) -> DrillReport:
    """The document of a drill.

    :raises ValueError: it is no document of this format.
    """
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise ValueError(f"The drill's document has the format {found!r}; this report reads format {FORMAT}.")
    app = mapping(document.get("app"))
    return DrillReport(
        cluster=text(document.get("cluster"), NAME_LENGTH) or "unnamed cluster",
        environment=text(document.get("environment"), NAME_LENGTH),
        app=text(app.get("name"), NAME_LENGTH) or "unnamed app",
        namespace=text(app.get("namespace"), NAME_LENGTH),
        image=text(app.get("image")),
        started_at=moment(document.get("started_at")),
        ended_at=moment(document.get("ended_at")),
        settings={text(k, NAME_LENGTH): setting(v) for k, v in mapping(document.get("settings")).items()},
        scenarios=tuple(_scenario(scenario) for scenario in mappings(document.get("scenarios"))),
    )


@dataclass(frozen=True)
class Change:
    """One observation now and in the previous report; a time is None where the event did not come."""

    observer: str
    event: str
    before: float | None
    now: float | None
    verdict_before: str
    verdict_now: str
    # alike: no more apart than the phases of probes, scrapes and evaluations put two equal runs
    kind: str  # alike, slower, faster, came, stayed_away


@dataclass(frozen=True)
class ScenarioChange:
    name: str
    status_before: str
    status_now: str
    lost_before: int | None
    lost_now: int | None
    observations: tuple[Change | None, ...]  # in the order of the scenario's; None: nothing to compare with
    gone: tuple[str, ...]  # what was observed before and is not now


@dataclass(frozen=True)
class Difference:
    """What changed since the previous report; *reason* says why nothing is compared, where nothing is."""

    reason: str
    previous_started_at: datetime.datetime | None = None
    image_before: str = ""
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    scenarios: tuple[ScenarioChange | None, ...] = ()  # in the order of the drill's; None: not in the previous report
    gone: tuple[str, ...] = ()  # scenarios of the previous report that are not in this one

    @property
    def new(self) -> int:
        return sum(1 for scenario in self.scenarios if scenario is None)


def numbered(keys: Iterable[Key]) -> list[tuple[Key, int]]:
    """Each key with how often it came before, so that the second of two equal ones meets the second."""
    seen: dict[Key, int] = {}
    found = []
    for key in keys:
        found.append((key, seen.get(key, 0)))
        seen[key] = seen.get(key, 0) + 1
    return found


def _change(before: Observation, now: Observation) -> Change:
    kind = "alike"
    if before.at is None or now.at is None:
        if before.at != now.at:
            kind = "stayed_away" if now.at is None else "came"
    elif now.shortest is not None and now.longest is not None:
        apart = now.at - before.at
        if apart and (abs(apart) > now.longest - now.shortest or now.verdict != before.verdict):
            kind = "slower" if apart > 0 else "faster"
    return Change(now.observer, now.event, before.at, now.at, before.verdict, now.verdict, kind)


def _observation_keys(observations: Sequence[Observation]) -> list[tuple[tuple[str, str], int]]:
    return numbered((o.observer, o.event) for o in observations)


def _scenario_change(before: ScenarioReport, now: ScenarioReport) -> ScenarioChange:
    changes: list[Change | None] = [None] * len(now.observations)
    gone: list[str] = []
    if before.ran and now.ran:
        earlier = dict(zip(_observation_keys(before.observations), before.observations, strict=True))
        for place, (key, observation) in enumerate(zip(_observation_keys(now.observations), now.observations, strict=True)):
            if key in earlier:
                changes[place] = _change(earlier.pop(key), observation)
        gone = [f"{o.observer} {o.event}".strip() for o in earlier.values()]
    return ScenarioChange(now.name, before.status, now.status, before.lost, now.lost, tuple(changes), tuple(gone))


def difference(now: DrillReport, previous: dict[str, Any] | None) -> Difference:
    """Each scenario and observation beside the same one of the previous report's document."""
    if previous is None:
        return Difference("There is no previous report to compare with.")
    try:
        before = read(previous)
    except ValueError:
        found = previous.get("format") if isinstance(previous, dict) else None
        return Difference(f"The previous report has the format {text(found) or 'null'}, not {FORMAT}, so nothing is compared.")
    if (before.cluster, before.namespace, before.app) != (now.cluster, now.namespace, now.app):
        whose = f"{before.app} in namespace {before.namespace or '?'} on cluster {before.cluster}"
        return Difference(f"The previous report is about {whose}, so nothing is compared.")
    earlier = dict(zip(numbered(s.name for s in before.scenarios), before.scenarios, strict=True))
    keys = numbered(s.name for s in now.scenarios)
    if not earlier.keys() & set(keys):
        return Difference("The previous report has no scenario in common with this one, so nothing is compared.")
    both = now.settings.keys() | before.settings.keys()
    settings = {name: (before.settings.get(name, ""), now.settings.get(name, "")) for name in sorted(both)}
    return Difference(
        reason="",
        previous_started_at=before.started_at,
        image_before=before.image,
        settings={name: pair for name, pair in settings.items() if pair[0] != pair[1]},
        scenarios=tuple(
            _scenario_change(earlier[key], s) if key in earlier else None for key, s in zip(keys, now.scenarios, strict=True)
        ),
        gone=tuple(s.name for key, s in earlier.items() if key not in keys),
    )
