# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs scenarios one after the other: record, break, observe, restore, prove.

Nothing here is left by an exception at a random place: signals, a lost lease and a caller that is gone only set a flag,
which the waits look at, and what was broken is restored in any case.
"""

from __future__ import annotations

import datetime
import json
import select
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

from ..kube.transport import ApiError
from . import bounds, dead_man, machine
from .app import App, LeftOut, Plan
from .bounds import Settings, Stage
from .dead_man import StepError
from .guard import DrillError, Guard
from .observers import NO_STORE, SLOW, Answer, Observers, Timeline, requests
from .scenarios import Expect, Scenario
from .scenarios import plan as plan_of

LOOK = 0.1
WARM_UP = 2  # scrapes of the application under steady requests before the first fault: a rate needs samples
QUIET = 240.0  # seconds that an alert of an earlier scenario may need to end
RESTORING = 120.0  # seconds that a restoration may take
HEALTHY = 90.0  # seconds that an application may need to be well before its next scenario
LINES = 90.0  # seconds for the lines of a node that was lost to arrive, when it is back
BEFORE, WRITTEN = 10.0, 1.0  # of which requests before the fault the lines are counted: those that had time to be written
SILENCE = 5.0  # seconds without an answer after which an application does not answer throughout
AFTERWARDS = 60.0  # seconds for which a told group of alerts is remembered by Alertmanager, besides its interval


class Interrupted(Exception):
    """The drill has to end; why."""


@dataclass
class Limits:
    """How long a drill waits, in seconds."""

    wait: float = 240.0  # for what should notice
    settle: float = 120.0  # for alerts to be resolved after a restoration
    objectives: dict[str, float] = field(default_factory=dict)


class Interruption:
    """Says that the drill has to end: by a signal, a lost lease, or a caller that is gone."""

    def __init__(self) -> None:
        self.reason = ""
        self._caller = select.poll()
        # Ansible runs a module in a session of its own, where no Ctrl-C arrives: that its pipe has no reader is all there is.
        self._caller.register(1, select.POLLERR)

    def _by_signal(self, number: int, _frame: Any) -> None:
        self.reason = self.reason or f"signal {signal.Signals(number).name}"

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Signals end the drill in order instead of the process."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._by_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self, guard: Guard) -> None:
        """:raises Interrupted: when there is a reason."""
        if not self.reason and any(event & (select.POLLERR | select.POLLHUP) for _fd, event in self._caller.poll(0)):
            self.reason = "the playbook that ran the drill is gone"
        if not self.reason and guard.lost.is_set():
            self.reason = "the lease could not be renewed, so the dead-man restores"
        if self.reason:
            raise Interrupted(self.reason)


class Journal:
    """One line of JSON for everything that happens, written when it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.scenario = ""

    def __call__(self, entry: dict[str, Any]) -> None:
        line = json.dumps({"at": stamp(time.time()), "scenario": self.scenario, **entry})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def stamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Drill:
    """One drill of one application. Its lock is held by the caller."""

    def __init__(self, app: App, guard: Guard, limits: Limits, journal: Journal, interruption: Interruption) -> None:
        self.app = app
        self.guard = guard
        self.limits = limits
        self.journal = journal
        self.interruption = interruption
        self.observers = Observers(app, f"drill-{uuid.uuid4().hex[:12]}", journal)

    # Waiting.

    def _idle(self, seconds: float) -> None:
        """Let time pass. :raises Interrupted: when the drill has to end."""
        self._until(lambda: False, seconds)

    def _until(self, condition: Callable[[], Any], seconds: float, pause: float = LOOK) -> bool:
        """Whether something became true in time. :raises Interrupted: when the drill has to end."""
        end = time.monotonic() + seconds
        while not condition():
            self.interruption.check(self.guard)
            if time.monotonic() > end:
                return False
            time.sleep(pause)
        return True

    def _in_spite(self, condition: Callable[[], Any], seconds: float, pause: float = 0.5) -> bool:
        """The same, whatever asks the drill to end: what is broken is restored first."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(pause)
        return True

    def _request(self, *given: Any) -> tuple[int, str]:
        """A request of a step, of which one may wait long. :raises Interrupted: when the drill has to end."""
        self.interruption.check(self.guard)
        return self.app.request(*given)

    # The drill.

    def run(self, scenarios: list[Scenario]) -> list[dict[str, Any]]:
        """Run the scenarios; those after an interruption are not begun, and its own is aborted."""
        found: list[dict[str, Any]] = []
        self.observers.start()
        try:
            self._idle(WARM_UP * bounds.read_settings(self.app).scrape.get("app", 5.0))
            for scenario in scenarios:
                self.journal.scenario = scenario.name
                result = self._scenario(scenario)
                found.append(result)
                self.journal({"status": result["status"], "reason": result["reason"]})
                # What is not whole is not broken further.
                if result["status"] == "aborted" or not (result["restored"] or {"ok": True})["ok"]:
                    break
        except Interrupted as error:
            self.journal({"status": "aborted", "reason": str(error)})
        finally:
            self.observers.stop()
        return found

    def _scenario(self, scenario: Scenario) -> dict[str, Any]:
        result: dict[str, Any] = {
            "name": scenario.name,
            "title": scenario.title,
            "how": "",
            "status": "left_out",
            "reason": "",
            "injected_at": None,
            "restored_at": None,
            "restore_seconds": None,
            "restored": None,
            "requests": None,
            "lines": None,
            "observations": [],
            "left_out": [],
            "objectives": [],
        }
        try:
            self._until(lambda: not self.app.unhealthy(), HEALTHY, 0.5)
            # A user may have changed something since the scenario before.
            self.app = self.observers.app = App(self.app.cluster, self.app.options)
            plan = plan_of(scenario, self.app)
            result["how"] = plan.how
            self._wait_for_quiet(scenario)
            return self._break(scenario, plan, result)
        except LeftOut as error:
            return {**result, "reason": str(error)}
        except DrillError as error:
            return {**result, "status": "failed", "reason": str(error)}
        except ApiError as error:
            return {**result, "status": "failed", "reason": f"The API server refuses a request ({error})."}
        except Interrupted as error:
            return {**result, "status": "aborted", "reason": str(error)}

    def _wait_for_quiet(self, scenario: Scenario) -> None:
        trouble = self.app.unhealthy()
        if trouble:
            raise LeftOut(f"the application is not well before it: {trouble}")
        # Only what will be waited for: an alert that takes too long to come may also take too long to go.
        settings, nothing = bounds.read_settings(self.app), Timeline(lambda _entry: None)
        judged = Judgement(scenario, settings, nothing, self.observers, self.limits)
        wanted = {expect.observer.removeprefix("alert ") for expect in judged.expects}

        def noisy() -> set[str]:
            return wanted & {name.split(" ", 1)[1] for name in self.observers.active()}

        if loud := noisy():
            self.journal({"event": "wait", "alerts": sorted(loud)})
        if not self._until(lambda: not noisy(), QUIET):
            raise LeftOut(f"the alert {', '.join(sorted(noisy()))} fires already, so nothing could be told by it")

    def _digests(self, plan: Plan) -> dict[str, str]:
        """What the objects that a plan touches are like, by path."""
        return {path: self.app.digest(path, plan.scales(path)) for path in plan.touched}

    def _break(self, scenario: Scenario, plan: Plan, result: dict[str, Any]) -> dict[str, Any]:
        """From here on everything is restored, whatever happens."""
        settings = bounds.read_settings(self.app)
        before = self._digests(plan)
        status, reason = "passed", ""
        lines: dict[str, Any] | None = None
        timeline = self.observers.begin()
        caused = timeline.began
        try:
            self.guard.record(plan.undo)
            if not self.guard.holds():
                raise Interrupted("the lease could not be renewed in time")
            timeline.began = time.monotonic()
            result["injected_at"] = stamp(time.time())
            self.journal({"event": "inject", "how": plan.how})
            dead_man.run(plan.steps, self._request, machine.DO)
            caused = time.monotonic()
            self.observers.users.path, self.observers.users.every = plan.path or self.app.options.path, plan.every
            self._observe(scenario, plan, settings, timeline)
        except StepError as error:
            status, reason = "failed", f"It could not be caused: {error}."
        except Interrupted as error:
            status, reason = "aborted", f"The drill was ended: {error}."
        finally:
            fault = time.monotonic() - timeline.began
            self.observers.users.path, self.observers.users.every = self.app.options.path, 1
            restored = self._restore(plan, before, result)
        try:
            if status == "passed" and restored:
                if scenario.answering:
                    lines = self._lines(timeline.began, caused)
                if lines and not lines["missing"]:
                    result["restored"]["evidence"] += f", the lines of {lines['answered']} answered requests arrived"
                self._settle(timeline)
        except Interrupted as error:
            status, reason = "aborted", f"The drill was ended after the restoration: {error}."
        self.observers.end()
        end, users = time.monotonic(), self.observers.users
        self._in_spite(lambda: users.ended(end), self.app.options.request_timeout + 1, LOOK)
        done = users.since(timeline.began, end)
        result["requests"], result["lines"] = requests(done, end - timeline.began), lines
        judged = Judgement(scenario, settings, timeline, self.observers, self.limits, plan)
        result["observations"] = judged.observations(done, fault)
        result["left_out"] = judged.left_out
        result["objectives"] = judged.objectives()
        if status == "passed":
            problems = judged.problems() + judged.hurt(result["requests"], lines)
            problems += [] if restored else [f"it was not restored: {result['restored']['evidence']}"]
            if problems:
                status, reason = "failed", "; ".join(problems) + "."
        return {**result, "status": status, "reason": reason}

    def _observe(self, scenario: Scenario, plan: Plan, settings: Settings, timeline: Timeline) -> None:
        """Wait until everything that is expected was seen, or can't come any more."""
        judged = Judgement(scenario, settings, timeline, self.observers, self.limits, plan)

        def complete() -> bool:
            after = time.monotonic() - timeline.began
            return after >= scenario.least and (not judged.awaited() or after > judged.patience())

        self._until(complete, self.limits.wait + scenario.least)

    def _restore(self, plan: Plan, before: dict[str, str], result: dict[str, Any]) -> bool:
        """Undo, prove that everything is as before, and only then forget how to undo it."""
        began = time.monotonic()
        self.journal({"event": "restore"})
        problems: list[str] = []

        def undone() -> bool:
            problems[:] = dead_man.undo(plan.undo, self.app.request, machine.DO)
            return not problems

        def whole() -> str:
            try:
                now = self._digests(plan)
                changed = [path.rsplit("/", 1)[1] for path, digest in before.items() if now[path] != digest]
            except Exception as error:  # whatever an API server that is away makes of a request
                return f"what was touched can't be compared: {error}"
            if changed:
                return f"{', '.join(changed)} is not what it was"
            unready = [text for text in map(self.app.unready, plan.touched) if text]
            return unready[0] if unready else self.app.unhealthy()

        self._in_spite(undone, RESTORING)
        good = self._in_spite(lambda: not whole(), RESTORING)
        trouble = "; ".join(problems) or whole()
        if good and not problems:
            try:
                self.guard.record([])
            except StepError as error:
                self.journal({"event": "record", "problem": str(error)})
        objects = f"{len(before)} touched objects as before" if before else "no object was changed"
        evidence = trouble or f"{objects}, {self.app.replicas} of {self.app.replicas} pods ready, {self.app.health}"
        result["restored"] = {"ok": good and not problems, "evidence": evidence}
        result["restore_seconds"] = round(time.monotonic() - began, 1)
        result["restored_at"] = stamp(time.time())
        self.journal({"event": "restored", **result["restored"]})
        return bool(result["restored"]["ok"])

    def _lines(self, began: float, caused: float) -> dict[str, Any] | None:
        """Of how many answered requests the line did not arrive; None where nobody can tell.

        Those of the moment in which it was broken don't count: their lines need not have reached a disk.
        """
        options, users = self.app.options, self.observers.users
        if not self.app.logs or not options.log_check:
            return None
        asked = users.answered(began - BEFORE, began - WRITTEN) | users.answered(caused, time.monotonic())
        missing = set(asked)

        def arrived() -> bool:
            with suppress(ApiError):
                missing.difference_update(self.app.request_ids(self.observers.run_id, time.monotonic() - began + 2 * BEFORE))
            return not missing

        self._until(arrived, LINES, 1.0)
        found = {"answered": len(asked), "missing": len(missing)}
        self.journal({"event": "lines", **found})
        return found

    def _settle(self, timeline: Timeline) -> None:
        """Wait for the ends of the alerts that were told, and of the logs' silence."""

        def open_ends() -> list[str]:
            found = [name for (name, event) in list(timeline.at) if event == "received" and not timeline.has(name, "resolved")]
            return found + (["log line"] if timeline.has("log line", "lost") and not timeline.has("log line", "back") else [])

        self._until(lambda: not open_ends(), self.limits.settle)


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
        self.left_out: list[dict[str, str]] = []
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
                # Until its symptom was seen, an alert has at least the stages of its own rule before it.
                chain = self._chain(expect) or self._chain(replace(expect, symptom=()))
                longest = bounds.total([s for _event, stages in chain for s in stages])[1] if chain else 0.0
                seen = self.timeline.has(expect.observer, "pending")
                if longest + bounds.TOLERANCE > self.limits.wait and not seen:
                    reason = f"by its configuration it may take {longest:.0f} s, and the drill waits {self.limits.wait:.0f} s"
        elif expect.observer in ("log line", "log back end") and not self.app.logs:
            reason = NO_STORE
        elif expect.observer == "prometheus" and not self.app.prometheus:
            reason = "no Prometheus of an operator runs on this cluster"
        if not reason and not self.timeline.has(expect.observer, self._events(expect)[0]):
            reason = self.plan.excuses.get(expect.observer, "")
        if reason:
            self.left_out.append({"observer": expect.observer, "reason": reason})
        return not reason

    def _symptom(self, expect: Expect) -> list[Stage] | None:
        if known := self.plan.stages.get(f"{expect.observer} {expect.event}"):
            return known
        if expect.symptom == bounds.READINESS:
            return self.settings.readiness()
        if expect.symptom in (bounds.LATE, bounds.MISSING):
            return self.settings.numbered_lines(expect.symptom == bounds.MISSING) if self.settings.verified else None
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
        return ["pending", "firing", *(["received"] if self.app.inbox else [])]

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
            found.append(f"{counted['lost']} of {counted['sent']} requests were lost, and none need be")
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
