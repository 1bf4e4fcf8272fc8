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
from typing import Any, TextIO

from ..kube.transport import ApiError
from . import bounds, dead_man, machine
from .app import App, Plan, Skipped
from .bounds import Settings
from .dead_man import StepError
from .guard import DrillError, Guard
from .judgement import Judgement, Limits
from .observers import Observers, Timeline, requests
from .scenarios import Scenario
from .scenarios import plan as plan_of

LOOK = 0.1
WARM_UP = 2  # scrapes of the application under steady requests before the first fault: a rate needs samples
QUIET = 240.0  # seconds that an alert of an earlier scenario may need to end
RESTORING = 120.0  # seconds that a restoration may take
HEALTHY = 90.0  # seconds that an application may need to be well before its next scenario
LINES = 90.0  # seconds for the lines of a node that was lost to arrive, when it is back
BEFORE, WRITTEN = 10.0, 1.0  # of which requests before the fault the lines are counted: those that had time to be written


class Interrupted(Exception):
    """The drill has to end; why."""


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
            self.reason = "the lease could not be renewed, so the dead man's switch restores"
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
    """One drill of one application. Its lock is held by the caller.

    :param spared: why nothing outside of its namespace may be broken; empty where it may.
    """

    def __init__(
        self, app: App, guard: Guard, limits: Limits, journal: Journal, interruption: Interruption, spared: str = ""
    ) -> None:
        self.app = app
        self.guard = guard
        self.limits = limits
        self.journal = journal
        self.interruption = interruption
        self.spared = spared
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
        return self.guard.change(*given)

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
            "status": "skipped",
            "reason": "",
            "injected_at": None,
            "restored_at": None,
            "restore_seconds": None,
            "restored": None,
            "requests": None,
            "lines": None,
            "observations": [],
            "skipped": [],
            "objectives": [],
        }
        try:
            self._until(lambda: not self.app.unhealthy(), HEALTHY, 0.5)
            plan = self._planned(scenario)
            result["how"] = plan.how
            if self._wait_for_quiet(scenario):
                plan = self._planned(scenario)
            return self._break(scenario, plan, result)
        except Skipped as error:
            return {**result, "reason": str(error)}
        except DrillError as error:
            return {**result, "status": "failed", "reason": str(error)}
        except ApiError as error:
            return {**result, "status": "failed", "reason": f"The API server refuses a request ({error})."}
        except Interrupted as error:
            return {**result, "status": "aborted", "reason": str(error)}

    def _planned(self, scenario: Scenario) -> Plan:
        """How a scenario is caused and undone by what the cluster has now: a user may have changed something since the last look.

        :raises Skipped: where it can't be caused.
        """
        self.app = self.observers.app = App(self.app.cluster, self.app.options)
        plan = plan_of(scenario, self.app)
        if self.spared and not plan.stays_in(self.app.namespace):
            raise Skipped(self.spared)
        return plan

    def _wait_for_quiet(self, scenario: Scenario) -> bool:
        """Wait until nothing fires that a scenario is to show; whether that took time."""
        trouble = self.app.unhealthy()
        if trouble:
            raise Skipped(f"the application was not healthy before the scenario: {trouble}")
        # Only what will be waited for: an alert that takes too long to come may also take too long to go.
        settings, nothing = bounds.read_settings(self.app), Timeline(lambda _entry: None)
        judged = Judgement(scenario, settings, nothing, self.observers, self.limits)
        wanted = {expect.observer.removeprefix("alert ") for expect in judged.expects}

        def noisy() -> set[str]:
            return wanted & {name.split(" ", 1)[1] for name in self.observers.active()}

        loud = noisy()
        if loud:
            self.journal({"event": "wait", "alerts": sorted(loud)})
        if not self._until(lambda: not noisy(), QUIET):
            raise Skipped(f"the alert {', '.join(sorted(noisy()))} fires already, so it can't show anything")
        return bool(loud)

    def _digests(self, plan: Plan) -> dict[str, str]:
        """What the objects that a plan touches are like, by path."""
        return {path: self.app.digest(path, plan.scales(path)) for path in plan.touched}

    def _record(self, plan: Plan) -> None:
        """Save how a plan is undone, before anything is broken.

        :raises Skipped, DrillError, Interrupted: where nothing may be broken, since nobody would undo it.
        """
        if refusal := self.guard.refusal(plan.undo):
            raise Skipped(f"a killed drill could not be undone, because its record would be refused: {refusal}")
        try:
            self.guard.record(plan.undo)
        except StepError as error:
            raise DrillError(f"Nothing was broken, because what undoes it could not be recorded: {error}.") from error
        if not self.guard.holds():
            raise Interrupted("the lease could not be renewed in time, and nothing was broken")

    def _break(self, scenario: Scenario, plan: Plan, result: dict[str, Any]) -> dict[str, Any]:
        """From here on everything is restored, whatever happens."""
        settings = bounds.read_settings(self.app)
        before = self._digests(plan)
        self._record(plan)
        status, reason = "passed", ""
        lines: dict[str, Any] | None = None
        timeline = self.observers.begin()
        caused = timeline.began
        try:
            timeline.began = time.monotonic()
            result["injected_at"] = stamp(time.time())
            self.journal({"event": "inject", "how": plan.how})
            dead_man.run(plan.steps, self._request, machine.DO)
            caused = time.monotonic()
            self.observers.users.path, self.observers.users.every = plan.path or self.app.page, plan.every
            self._observe(scenario, plan, settings, timeline)
        except StepError as error:
            status, reason = "failed", f"It could not be caused: {error}."
        except Interrupted as error:
            status, reason = "aborted", f"The drill was ended: {error}."
        finally:
            fault = time.monotonic() - timeline.began
            self.observers.users.path, self.observers.users.every = self.app.page, 1
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
        result["skipped"] = judged.skipped
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
        """Undo, prove that everything is as before, and only then forget how to undo it.

        Whoever has taken the lock meanwhile undoes it instead, and nothing is written here.
        """
        began = time.monotonic()
        self.journal({"event": "restore"})
        problems: list[str] = []

        def undone() -> bool:
            try:
                held = self.guard.regain()
            except StepError as error:
                problems[:] = [str(error)]
                return False
            problems[:] = dead_man.undo(plan.undo, self.guard.change, machine.DO) if held else list(filter(None, [whole()]))
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
        if good and not problems and self.guard.holds():
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
        """Wait for the ends of the alerts that were told, and until what was silent or refused arrives again."""

        def open_ends() -> list[str]:
            found = [name for (name, event) in list(timeline.at) if event == "received" and not timeline.has(name, "resolved")]
            ends = (("log line", "lost"), ("receiver", "refused"))
            return found + [name for name, event in ends if timeline.has(name, event) and not timeline.has(name, "back")]

        self._until(lambda: not open_ends(), self.limits.settle)
