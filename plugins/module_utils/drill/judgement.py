# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scenario's timeline means: what must be seen of it, whether it was in time, and what it may cost users."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from . import bounds
from .app import Plan
from .bounds import Settings, Stage
from .observers import NO_STORE, SLOW, Answer, Observers, Timeline
from .scenarios import Expect, Scenario

SILENCE = 5.0  # seconds without an answer after which an application does not answer throughout
AFTERWARDS = 60.0  # seconds for which a told group of alerts is remembered by Alertmanager, in addition to its interval


@dataclass
class Limits:
    """How long a drill waits, in seconds."""

    wait: float = 240.0  # for what should notice
    settle: float = 120.0  # for alerts to be resolved after a restoration
    objectives: dict[str, float] = field(default_factory=dict)


class Judgement:
    """What a scenario's timeline means."""

    def __init__(
        self,
        scenario: Scenario,
        settings: Settings,
        timeline: Timeline,
        observers: Observers,
        limits: Limits,
        plan: Plan | None = None,
    ) -> None:
        self.scenario = scenario
        self.plan = plan or Plan("", [])
        self.settings = settings
        self.timeline = timeline
        self.observers = observers
        self.limits = limits
        self.app = observers.app
        self.skipped: list[dict[str, str]] = []
        self.expects = [expect for expect in scenario.expects if self._there(expect)]

    def _there(self, expect: Expect) -> bool:
        """Whether an expectation has its observer on this cluster."""
        reason = ""
        if expect.observer.startswith("alert "):
            rule = self.settings.rules.get(expect.observer[6:])
            if rule is None:
                reason = "no rule of this name is loaded"
            elif expect.source == "scheduled verification" and not self.settings.verified:
                reason = "Prometheus scrapes no scheduled verification"
            else:
                reason = self._too_slow(expect)
        elif expect.observer in ("log line", "log back end") and not self.app.logs:
            reason = NO_STORE
        elif expect.observer == "external check" and not self.app.options.external_checks:
            reason = "no outside service is registered, so nobody outside the cluster notices"
        elif expect.observer == "dead man's switch":
            reason = self.observers.no_switch or self._too_slow(expect)
        if not reason and not self.timeline.has(expect.observer, self._events(expect)[0]):
            reason = self.plan.excuses.get(expect.observer, "")
        if reason:
            self.skipped.append({"observer": expect.observer, "reason": reason})
        return not reason

    def _too_slow(self, expect: Expect) -> str:
        """Why something is not waited for, that has not begun to be seen; empty where it may come in time."""
        # Until its symptom was seen, an alert has at least the stages of its own rule before it.
        chain = self._chain(expect) or self._chain(replace(expect, symptom=()))
        longest = bounds.total([s for _event, stages in chain for s in stages])[1] if chain else 0.0
        if longest + bounds.TOLERANCE <= self.limits.wait or self.timeline.has(expect.observer, self._events(expect)[0]):
            return ""
        return f"by its configuration it may take {longest:.0f} s, and the drill waits {self.limits.wait:.0f} s"

    def _symptom(self, expect: Expect) -> list[Stage] | None:
        if known := self.plan.stages.get(f"{expect.observer} {expect.event}"):
            return known
        if expect.symptom == bounds.READINESS:
            return self.settings.readiness()
        if expect.symptom in (bounds.LATE, bounds.MISSING):
            return self.settings.numbered_lines(expect.symptom == bounds.MISSING) if self.settings.verified else None
        if expect.symptom in (bounds.SILENT, bounds.FORGOTTEN):
            switch = self.observers.switch
            return self.settings.signs(switch.waits, expect.symptom == bounds.FORGOTTEN) if switch else None
        if isinstance(expect.symptom, str):
            observer, event = expect.symptom.rsplit(" ", 1)
            at = self.timeline.at.get((observer, event))
            return None if at is None else [(expect.symptom + bounds.MEASURED, at, at)]
        return list(expect.symptom)

    def _chain(self, expect: Expect) -> list[tuple[str, list[Stage]]]:
        """The events of an expectation in their order, each with the stages since the one before; empty without bounds."""
        symptom = self._symptom(expect)
        if symptom is None:
            return []
        if not expect.observer.startswith("alert "):
            return [(expect.event, symptom)] if symptom else []
        rule = self.settings.rules[expect.observer[6:]]
        pending = bounds.stages_of_alert(self.settings, rule, symptom, expect.source, expect.share, expect.rate)
        if pending is None:
            return []
        chain = [("pending", pending), ("firing", [bounds.for_stage(rule)])]
        if self.app.inbox:
            chain.append(("received", [self._group_stage(expect.observer)]))
        return chain

    def _group_stage(self, observer: str) -> Stage:
        labels = self.timeline.labels.get(observer, {})
        found = self.settings.grouping(labels)
        key, began = found.key(labels), self.timeline.began
        own = self.timeline.at.get((observer, "received"))
        until = began + own if own is not None else time.monotonic()
        told = any(
            found.key(other) == key and began - found.interval - AFTERWARDS < moment < until - 0.3
            for moment, other in list(self.observers.tellings)
        )
        return bounds.group_stage(found, told)

    def _events(self, expect: Expect) -> list[str]:
        if not expect.observer.startswith("alert "):
            return [expect.event]
        return ["pending", "firing", *(["received"] if self.app.inbox and not self._inhibited(expect.observer) else [])]

    def _inhibited(self, observer: str) -> bool:
        """Whether an alert was kept back, because somebody was told by another one."""
        told = any(event == "received" for _observer, event in list(self.timeline.at))
        return told and self.timeline.has(observer, "inhibited") and not self.timeline.has(observer, "received")

    def awaited(self) -> list[str]:
        """What is expected and has not been seen yet."""
        found = [e.observer for e in self.expects if not self.timeline.has(e.observer, self._events(e)[-1])]
        recovery = self.scenario.recovers
        return found + ([recovery[0]] if recovery and not self.timeline.has(*recovery) else [])

    def patience(self) -> float:
        """Seconds after which what has not come is missed."""
        if self.scenario.recovers:
            return self.limits.wait
        longest = [bounds.total([s for _event, stages in self._chain(e) for s in stages])[1] for e in self.expects]
        unknown = any(not self._chain(e) and not self.timeline.has(e.observer, self._events(e)[-1]) for e in self.expects)
        # What is late is waited for as well, so that the report can say how late.
        return self.limits.wait if unknown else min(self.limits.wait, max([0.0, *longest]) * 1.5 + 10)

    def observations(self, done: list[Answer], fault: float) -> list[dict[str, Any]]:
        """Every event with its time, bounds and verdict, in the order of time; missed ones last.

        :param done: the requests of the steady probe. :param fault: seconds that the fault lasted.
        """
        found: dict[tuple[str, str], dict[str, Any]] = {}
        at = dict(self.timeline.at)
        for expect in self.expects:
            chain = self._chain(expect)
            stages: list[Stage] = []
            parts: list[tuple[str, float | None, list[Stage]]] = []
            for event in self._events(expect):
                more = dict(chain).get(event)
                measured = at.get((expect.observer, event))
                if more is None:
                    shortest = longest = None
                else:
                    stages = [*stages, *more]
                    shortest, longest = bounds.total(stages)
                    parts.append((event, measured, more))
                verdict = bounds.verdict(measured, shortest, longest)
                note = bounds.note(parts) if verdict == "late" else ""
                found[expect.observer, event] = observation(
                    expect.observer, event, measured, shortest, longest, verdict, note, stages if more is not None else []
                )
        for (observer, event), measured in at.items():
            found.setdefault((observer, event), observation(observer, event, measured))
        lost = [began for began, _took, good in done if not good]
        slow = [began + took for began, took, good in done if good and took > SLOW and began < fault]
        good_again = [began for began, _took, good in done if good and lost and began > lost[-1]]
        for event, times in (("lost", lost), ("slow", slow), ("up", good_again)):
            if times:
                found["users", event] = observation("users", event, times[0])
        return sorted(found.values(), key=lambda item: (item["at"] is None, item["at"] or 0.0))

    def objectives(self) -> list[dict[str, Any]]:
        """Whether somebody was told in time, for scenarios that hurt users."""
        limit = self.limits.objectives.get("page")
        if limit is None or not self.scenario.page or not self.app.prometheus:
            return []
        event = "received" if self.app.inbox else "firing"
        times = [at for (name, what), at in self.timeline.at.items() if what == event and name.startswith("alert ")]
        measured = round(min(times), 1) if times else None
        return [{"name": "page", "limit": limit, "measured": measured, "ok": measured is not None and measured <= limit}]

    def hurt(self, counted: dict[str, Any], lines: dict[str, Any] | None) -> list[str]:
        """What users and logs lost that the scenario must not cost them."""
        found = []
        if self.scenario.lossless and counted["lost"]:
            found.append(f"{counted['lost']} of {counted['sent']} requests were lost, and the goal is none")
        if self.scenario.answering and counted["silent"] > SILENCE:
            found.append(f"no request was answered for {counted['silent']} s")
        if lines and lines["missing"]:
            found.append(f"the lines of {lines['missing']} of {lines['answered']} answered requests did not arrive")
        return found

    def problems(self) -> list[str]:
        """Why the scenario did not pass, but for its restoration."""
        found = [
            f"{expect.observer} was not {event}" if expect.observer.startswith("alert ") else f"{expect.observer}: no {event}"
            for expect in self.expects
            for event in self._events(expect)[-1:]
            if not self.timeline.has(expect.observer, event)
        ]
        for item in self.objectives():
            if not item["ok"]:
                told = "nobody was told" if item["measured"] is None else f"it took {item['measured']} s to tell somebody"
                found.append(f"{told}, and the objective is {item['limit']:g} s")
        return found


def observation(
    observer: str,
    event: str,
    at: float | None,
    shortest: float | None = None,
    longest: float | None = None,
    verdict: str = "unbounded",
    note: str = "",
    stages: list[Stage] | None = None,
) -> dict[str, Any]:
    """One entry of the report; its form is that of docs/drill.md."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 1)

    return {
        "observer": observer,
        "event": event,
        "at": rounded(at),
        "shortest": rounded(shortest),
        "longest": rounded(longest),
        "verdict": verdict,
        "note": note,
        "stages": [{"name": name, "shortest": round(low, 1), "longest": round(high, 1)} for name, low, high in stages or []],
    }
