# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scenario's timeline means, that restoration comes before everything else, and what is shown meanwhile."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.action.drill import words
from ansible_collections.flaskops.observability.plugins.module_utils.drill import execution
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import Plan, wall
from ansible_collections.flaskops.observability.plugins.module_utils.drill.bounds import LATE, Rule, Settings
from ansible_collections.flaskops.observability.plugins.module_utils.drill.dead_man import StepError
from ansible_collections.flaskops.observability.plugins.module_utils.drill.execution import (
    Drill,
    Interrupted,
    Interruption,
    Journal,
)
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import DrillError
from ansible_collections.flaskops.observability.plugins.module_utils.drill.judgement import Judgement, Limits
from ansible_collections.flaskops.observability.plugins.module_utils.drill.observers import (
    Observers,
    Timeline,
    Users,
    ready_addresses,
)
from ansible_collections.flaskops.observability.plugins.module_utils.drill.scenarios import Expect, Scenario, Skipped
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError

LABELS = {"alertname": "HighErrorRate", "namespace": "shop", "app": "shop"}
RULE = Rule("HighErrorRate", 10, 5, LABELS, {"window": "30s", "threshold": "0.05"})
SETTINGS = Settings(
    scrape={"app": 5},
    rules={"HighErrorRate": RULE},
    routing={"group_by": ["namespace"], "group_wait": "1s", "group_interval": "5s"},
)
SCENARIO = Scenario("errors", "Errors", (), (Expect("alert HighErrorRate", source="app", share=0.5),), page=True)


def timeline(**at: float) -> Timeline:
    found = Timeline(lambda entry: None)
    for event, after in at.items():
        found.see("alert HighErrorRate", event, found.began + after, labels=LABELS)
    return found


def judged(line: Timeline, scenario: Scenario = SCENARIO, **more: Any) -> Judgement:
    app = SimpleNamespace(inbox=more.get("inbox", "/inbox"), prometheus="/p", logs=more.get("logs", "/l"))
    tellings = [(line.began + after, LABELS) for after in more.get("told", [])]
    observers: Any = SimpleNamespace(app=app, skipped=[], tellings=tellings)
    limits = Limits(more.get("wait", 240), 0, more.get("objectives", {"page": 30}))
    return Judgement(scenario, more.get("settings", SETTINGS), line, observers, limits, Plan("", [], **more.get("plan", {})))


def test_what_a_way_need_not_cause_is_skipped_until_it_is_seen() -> None:
    excuses = {"alert HighErrorRate": "no exception"}
    silent = judged(timeline(), plan={"excuses": excuses})
    assert silent.skipped == [{"observer": "alert HighErrorRate", "reason": "no exception"}]
    assert silent.awaited() == [] and "HighErrorRate" not in " ".join(silent.problems())
    begun = judged(timeline(pending=8), plan={"excuses": excuses})
    assert begun.skipped == [] and begun.awaited() == ["alert HighErrorRate"]


def test_every_event_of_an_alert_has_its_own_bounds() -> None:
    found = {o["event"]: o for o in judged(timeline(pending=8, firing=18, received=19.2)).observations([], 99)}
    assert {event: (o["shortest"], o["longest"], o["verdict"]) for event, o in found.items()} == {
        "pending": (0, 18, "within"),
        "firing": (10, 28, "within"),
        "received": (11, 29, "within"),
    }
    assert [stage["name"] for stage in found["received"]["stages"]] == [
        "2 scrapes", "window fills", "evaluation", "for", "group wait"
    ]  # fmt: skip


def test_a_late_alert_names_the_stage() -> None:
    found = {o["event"]: o for o in judged(timeline(pending=8, firing=18, received=60)).observations([], 99)}
    assert found["firing"]["verdict"] == "within" and found["received"]["verdict"] == "late"
    assert found["received"]["note"] == "group wait took 42.0 s before received, 41.0 s more than configured"


def test_a_group_that_was_told_a_moment_before_waits_for_its_interval() -> None:
    line = timeline(pending=8, firing=18, received=22)
    (stage,) = [o["stages"][-1] for o in judged(line, told=[-20.0]).observations([], 99) if o["event"] == "received"]
    assert stage == {"name": "group interval", "shortest": 0, "longest": 5}
    (stage,) = [o["stages"][-1] for o in judged(line, told=[-500.0, 22.0]).observations([], 99) if o["event"] == "received"]
    assert stage["name"] == "group wait"


def test_an_alert_that_is_kept_back_need_not_be_received_where_another_one_tells() -> None:
    kept_back = timeline(pending=8, firing=18, inhibited=19)
    alone = judged(kept_back, objectives={})
    assert alone.awaited() == ["alert HighErrorRate"] and alone.problems() == ["alert HighErrorRate was not received"]
    kept_back.see("alert FlaskHealthProbeFailed", "received", kept_back.began + 20)
    told = judged(kept_back)
    assert (told.awaited(), told.problems()) == ([], [])
    assert ("inhibited", "unbounded") in {(o["event"], o["verdict"]) for o in told.observations([], 99)}
    kept_back.see("alert HighErrorRate", "received", kept_back.began + 90, labels=LABELS)
    assert ("received", "late") in {(o["event"], o["verdict"]) for o in judged(kept_back).observations([], 99)}


def test_what_does_not_come_is_missed_and_fails_the_objective() -> None:
    found = judged(timeline(pending=8))
    assert [o["verdict"] for o in found.observations([], 99)] == ["within", "missed", "missed"]
    assert found.awaited() == ["alert HighErrorRate"]
    assert found.problems() == ["alert HighErrorRate was not received", "nobody was told, and the objective is 30 s"]


def test_objective_is_about_the_first_page() -> None:
    good = judged(timeline(pending=1, firing=11, received=12))
    assert good.objectives() == [{"name": "page", "limit": 30, "measured": 12, "ok": True}] and good.problems() == []
    slow = judged(timeline(pending=1, firing=11, received=31))
    assert slow.problems() == ["it took 31.0 s to tell somebody, and the objective is 30 s"]
    assert judged(timeline(), Scenario("x", "X", ())).objectives() == []


def test_what_is_not_there_is_skipped_with_its_reason() -> None:
    absent = judged(timeline(), settings=Settings())
    assert absent.skipped == [{"observer": "alert HighErrorRate", "reason": "no rule of this name is loaded"}]
    assert absent.awaited() == []
    slow = judged(timeline(), wait=20)
    assert slow.skipped[0]["reason"] == "by its configuration it may take 29 s, and the drill waits 20 s"
    unseen = Scenario("x", "X", (), (Expect("alert HighErrorRate", symptom="pods lost", source="app"),))
    assert judged(timeline(), unseen, wait=20).skipped, "what is not seen yet has the rule's own stages ahead"
    assert not judged(timeline(), unseen).skipped
    lines = Scenario("x", "X", (), (Expect("log line", "seen"),))
    assert judged(timeline(), lines, logs="").skipped[0]["observer"] == "log line"


def test_without_an_inbox_firing_is_the_last_that_is_known() -> None:
    found = judged(timeline(pending=1, firing=11), inbox="")
    assert found.awaited() == [] and found.objectives()[0]["measured"] == 11


def test_measured_symptom_takes_the_place_of_stages() -> None:
    scenario = Scenario(
        "oom", "OOM", (), (Expect("pods", "OOMKilled"), Expect("alert HighErrorRate", symptom="pods OOMKilled", source="app"))
    )
    line = timeline(pending=40)
    assert next(o for o in judged(line, scenario).observations([], 99) if o["event"] == "pending")["verdict"] == "unbounded"
    line.see("pods", "OOMKilled", line.began + 35)
    found = next(o for o in judged(line, scenario).observations([], 99) if o["event"] == "pending")
    assert (found["shortest"], found["verdict"]) == (35, "within")
    assert found["stages"][0] == {"name": "pods OOMKilled (measured)", "shortest": 35, "longest": 35}


def test_a_way_knows_the_stages_of_its_own_events() -> None:
    scenario = Scenario("lost", "Lost", (), (Expect("node", "NotReady"), Expect("pods", "lost")))
    line = Timeline(lambda entry: None)
    line.see("node", "NotReady", line.began + 42)
    found = judged(line, scenario, plan={"stages": {"node NotReady": [("grace", 40.0, 55.0)]}})
    (node,) = [o for o in found.observations([], 99) if o["observer"] == "node"]
    assert (node["shortest"], node["longest"], node["verdict"]) == (40, 55, "within")
    assert found.awaited() == ["pods"]


@pytest.mark.parametrize(
    ("scenario", "lost", "silent", "lines", "problem"),
    [
        ({"lossless": True}, 0, 9.0, None, ""),
        ({"lossless": True}, 1, 0.1, None, "1 of 99 requests were lost"),
        ({"answering": True}, 40, 1.0, {"answered": 9, "missing": 0}, ""),
        ({"answering": True}, 40, 5.1, None, "no request was answered for 5.1 s"),
        ({"answering": True}, 0, 0.1, {"answered": 9, "missing": 2}, "the lines of 2 of 9 answered requests"),
        ({}, 99, 99.0, None, ""),
    ],
)
def test_what_a_scenario_must_not_cost_its_users(
    scenario: dict[str, Any], lost: int, silent: float, lines: Any, problem: str
) -> None:
    found = judged(timeline(), Scenario("x", "X", (), **scenario)).hurt({"sent": 99, "lost": lost, "silent": silent}, lines)
    assert (problem in found[0]) if problem else found == []


def test_lines_are_those_of_requests_that_had_time_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    drill, _guard, entries = drill_of(app, monkeypatch)
    monkeypatch.setattr(execution, "LINES", 0.1)
    began = time.monotonic() - 30
    times = {"old": -20.0, "written": -5.0, "just": -0.5, "broken": 0.5, "after": 2.0}
    drill.observers.users._answered = {name: (began + at, began + at + 0.01) for name, at in times.items()}
    assert drill._lines(began, began + 1) is None
    app.logs, app.options.log_check = "/l", True
    monkeypatch.setattr(app, "request_ids", lambda run_id, seconds: {"written"}, raising=False)
    assert drill._lines(began, began + 1) == {"answered": 2, "missing": 1} and entries[-1]["event"] == "lines"


def test_users_are_observed_too() -> None:
    found = judged(timeline()).observations(
        [(0.1, 0.01, True), (0.2, 0.9, True), (0.3, 0.1, False), (0.9, 0.1, True), (7.0, 0.9, True)], 5
    )
    seen = {o["event"]: o["at"] for o in found if o["observer"] == "users"}
    assert seen == {"slow": 1.1, "lost": 0.3, "up": 0.9}


@pytest.mark.parametrize("before", [-3.0, -4e-7, 0.0, 1.5])
def test_lines_are_lost_from_the_last_one_that_came_or_from_the_fault_on(before: float) -> None:
    line = Timeline(lambda entry: None)
    line.began = time.monotonic() - 20
    observers = Observers(SimpleNamespace(page="/"), "run", lambda entry: None)  # type: ignore[arg-type]
    observers._timeline = line
    observers.users.last_answer = time.monotonic()
    observers._judge_lines(line, wall(line.began) + before)
    assert line.at == {("log line", "lost"): pytest.approx(max(0.0, before), abs=0.01)}


def test_timeline_keeps_the_first_time_and_the_last_where_that_is_asked_for() -> None:
    line = Timeline(lambda entry: None)
    for after in (-1, 2, 3):
        line.see("pods", "lost", line.began + after)
        line.see("pods", "ready", line.began + after, last=True)
    assert line.at == {("pods", "lost"): pytest.approx(2), ("pods", "ready"): pytest.approx(3)}


class FakeApp:
    """An application that gets well again after its restoration was asked for a few times."""

    replicas = 2
    container: dict[str, Any] = {}
    prometheus = logs = alertmanager = inbox = ""
    name = namespace = "shop"
    health = "/healthz answered 204"

    def __init__(self, failures: int = 0, stays: bool = False) -> None:
        self.options, self.page = SimpleNamespace(request_timeout=0.1), "/"
        self.failures, self.stays = failures, stays
        self.broken = False
        self.done: list[str] = []

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        name = path.split("?")[0]
        if name == "/undo" and self.failures:
            self.failures -= 1
            return 500, "busy"
        self.done.append(name)
        self.broken = name == "/break" or (self.broken and self.stays)
        return 200, "{}"

    def digest(self, path: str, replicas: bool = True) -> str:
        return "broken" if self.broken else "whole"

    def unready(self, path: str) -> str:
        return ""

    def unhealthy(self) -> str:
        return "it is broken" if self.broken else ""


class FakeGuard:
    """A lock that notes what it records."""

    def __init__(self, app: FakeApp) -> None:
        self.app, self.lost, self.records = app, threading.Event(), []
        self.refused = ""
        self.taken = False  # whether another has the lock

    def refusal(self, steps: list[Any]) -> str:
        return self.refused

    def record(self, steps: list[Any]) -> None:
        if self.taken:
            raise StepError("the drill has lost its lock")
        self.records.append((len(steps), self.app.broken))

    def change(self, *given: Any) -> tuple[int, str]:
        return (0, "the drill has lost its lock") if self.taken else self.app.request(*given)

    def holds(self) -> bool:
        return not self.taken

    def regain(self) -> bool:
        return not self.taken


def drill_of(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> tuple[Drill, Any, list[dict[str, Any]]]:
    monkeypatch.setattr(execution, "RESTORING", 1.0)
    guard, stream = FakeGuard(app), io.StringIO()
    drill = Drill(app, guard, Limits(1, 1), Journal(stream), Interruption())  # type: ignore[arg-type]
    entries: list[dict[str, Any]] = []
    drill.journal = lambda entry: entries.append(entry)  # type: ignore[assignment]
    return drill, guard, entries


PLAN = Plan(
    "broken",
    [{"do": "patch", "path": "/break", "body": {}}],
    # Any step will do that is one request.
    [{"do": "patch", "path": "/undo", "body": {}}],
    ["/thing"],
)
QUICK = Scenario("quick", "Quick", (), (), least=0.2)


def test_undoing_is_recorded_before_breaking_and_forgotten_after_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp(failures=1)
    drill, guard, entries = drill_of(app, monkeypatch)
    result = drill._break(QUICK, PLAN, {"status": "", "reason": ""})
    # The first record is made while the application is whole, the last when it is whole again.
    assert guard.records == [(1, False), (0, False)]
    assert app.done == ["/break", "/undo"] and result["status"] == "passed"
    assert result["restored"] == {"ok": True, "evidence": "1 touched objects as before, 2 of 2 pods ready, /healthz answered 204"}
    assert [entry["event"] for entry in entries] == ["inject", "restore", "restored"]


def test_what_is_not_restored_keeps_its_record_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp(stays=True)
    drill, guard, _entries = drill_of(app, monkeypatch)
    result = drill._break(QUICK, PLAN, {"status": "", "reason": ""})
    assert guard.records == [(1, False)]
    assert result["status"] == "failed" and result["reason"] == "it was not restored: thing is not what it was."


def test_a_refused_request_costs_one_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    drill, _guard, _entries = drill_of(FakeApp(), monkeypatch)

    def refused(*given: Any) -> None:
        raise ApiError(403, "replicasets is forbidden")

    monkeypatch.setattr(execution, "App", refused)
    monkeypatch.setattr(drill.app, "cluster", None, raising=False)
    result = drill._scenario(QUICK)
    assert (result["status"], result["restored"]) == ("failed", None)
    assert result["reason"] == "The API server refuses a request (replicasets is forbidden)."


@pytest.mark.parametrize(("waited", "plans"), [(False, 1), (True, 2)])
def test_what_changed_while_it_waited_is_planned_for_again(monkeypatch: pytest.MonkeyPatch, waited: bool, plans: int) -> None:
    """Else a change of somebody's would be put back to what it was before."""
    drill, _guard, _entries = drill_of(FakeApp(), monkeypatch)
    drill.app.cluster, made = None, []  # type: ignore[assignment]
    monkeypatch.setattr(execution, "App", lambda _cluster, _options: drill.app)
    monkeypatch.setattr(execution, "plan_of", lambda *_given: made.append(replace(PLAN, how=f"plan {len(made) + 1}")) or made[-1])
    monkeypatch.setattr(drill, "_wait_for_quiet", lambda _scenario: waited)
    monkeypatch.setattr(drill, "_break", lambda _scenario, plan, _result: plan)
    assert [drill._scenario(QUICK), len(made)] == [made[-1], plans]


def test_what_others_need_too_is_not_broken_where_it_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    drill, _guard, _entries = drill_of(FakeApp(), monkeypatch)
    drill.app.cluster, drill.spared = None, "namespace pay needs it"  # type: ignore[assignment]
    monkeypatch.setattr(execution, "App", lambda _cluster, _options: drill.app)
    monkeypatch.setattr(execution, "plan_of", lambda *_given: PLAN)
    result = drill._scenario(QUICK)
    assert (result["status"], result["reason"], drill.app.done) == ("skipped", "namespace pay needs it", [])  # type: ignore[attr-defined]


def test_what_fires_already_is_waited_for_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    drill, _guard, entries = drill_of(FakeApp(), monkeypatch)
    drill.limits = Limits(240, 1)
    monkeypatch.setattr(execution.bounds, "read_settings", lambda app: SETTINGS)
    found = iter([{"prometheus HighErrorRate", "loki Other"}, {"prometheus HighErrorRate"}, set[str]()])
    last: list[set[str]] = []

    def active() -> set[str]:
        last[:] = [next(found, set())]
        return last[0]

    monkeypatch.setattr(drill.observers, "active", active)
    assert drill._wait_for_quiet(SCENARIO)
    assert last == [set()] and entries == [{"event": "wait", "alerts": ["HighErrorRate"]}]
    monkeypatch.setattr(execution, "QUIET", 0.2)
    monkeypatch.setattr(drill.observers, "active", lambda: {"prometheus HighErrorRate"})
    with pytest.raises(Skipped, match="the alert HighErrorRate fires already"):
        drill._wait_for_quiet(SCENARIO)
    # What the drill would not wait for may fire as long as it likes.
    drill.limits = Limits(1, 1)
    assert not drill._wait_for_quiet(SCENARIO)


def test_numbered_lines_take_as_long_as_the_live_schedule() -> None:
    late = Rule("LogLinesLate", 0, 5, LABELS, {"window": "15m"})
    scenario = Scenario("down", "Down", (), (Expect("alert LogLinesLate", symptom=LATE, source="scheduled verification"),))

    def skipped(every: float) -> list[dict[str, str]]:
        settings = Settings(scrape={"scheduled verification": 5}, rules={"LogLinesLate": late}, verified=every)
        return judged(timeline(), scenario, settings=settings, inbox="").skipped

    assert skipped(60) == []
    (slow,) = skipped(300)
    # 40 s for the pods, the next run, the bound and one answer, two scrapes and one evaluation.
    assert slow["reason"] == "by its configuration it may take 395 s, and the drill waits 240 s"
    (none,) = skipped(0)
    assert "no scheduled verification" in none["reason"]


def test_without_a_lock_nothing_is_broken_and_nothing_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    drill, guard, _entries = drill_of(app, monkeypatch)
    guard.taken = True
    with pytest.raises(DrillError, match="Nothing was broken, because what undoes it could not be recorded"):
        drill._break(QUICK, PLAN, {"status": "", "reason": ""})
    # It was recorded, and the lock was lost then.
    monkeypatch.setattr(guard, "record", lambda steps: None)
    with pytest.raises(Interrupted, match="nothing was broken"):
        drill._break(QUICK, PLAN, {"status": "", "reason": ""})
    assert app.done == [] and guard.records == []


def test_a_drill_whose_lock_was_taken_waits_for_the_other_to_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    drill, guard, _entries = drill_of(app, monkeypatch)

    def taken() -> None:
        guard.taken = True
        guard.lost.set()

    threading.Timer(0.2, taken).start()
    threading.Timer(0.6, app.request, ["PATCH", "/undo"]).start()  # the dead man's switch
    result = drill._break(Scenario("long", "Long", (), (), least=30), PLAN, {"status": "", "reason": ""})
    assert result["status"] == "aborted" and result["restored"]["ok"]
    assert app.done == ["/break", "/undo"] and guard.records == [(1, False)]


def test_a_drill_whose_lock_was_taken_says_what_is_not_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    drill, _guard, _entries = drill_of(app, monkeypatch)
    monkeypatch.setattr(execution, "RESTORING", 0.2)
    monkeypatch.setattr(drill.interruption, "check", lambda guard: setattr(guard, "taken", guard.app.broken))
    result = drill._break(QUICK, PLAN, {"status": "", "reason": ""})
    assert app.done == ["/break"] and result["status"] == "failed" and not result["restored"]["ok"]
    assert result["restored"]["evidence"] == "thing is not what it was"


def test_what_would_not_be_believed_after_a_kill_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    drill, guard, _entries = drill_of(app, monkeypatch)
    guard.refused = "no scenario makes it"
    with pytest.raises(Skipped, match="no scenario makes it"):
        drill._break(QUICK, PLAN, {"status": "", "reason": ""})
    assert app.done == [] and guard.records == []


@pytest.mark.parametrize("end", ["signal", "lease"])
def test_an_interruption_restores_first(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    app = FakeApp()
    drill, guard, _entries = drill_of(app, monkeypatch)
    began = time.monotonic()
    with drill.interruption.caught():
        if end == "signal":
            threading.Timer(0.3, signal.raise_signal, [signal.SIGTERM]).start()
        else:
            threading.Timer(0.3, guard.lost.set).start()
        result = drill._break(Scenario("long", "Long", (), (), least=30), PLAN, {"status": "", "reason": ""})
    assert time.monotonic() - began < 10 and app.done == ["/break", "/undo"]
    assert result["status"] == "aborted" and result["restored"]["ok"]
    assert ("signal SIGTERM" if end == "signal" else "the lease could not be renewed") in result["reason"]


def test_a_fault_that_can_not_be_caused_is_undone_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    drill, _guard, _entries = drill_of(app, monkeypatch)
    plan = Plan("x", [*PLAN.steps, {"do": "patch", "path": "/gone", "body": {}}], PLAN.undo, PLAN.touched)
    original = app.request
    monkeypatch.setattr(
        app, "request", lambda m, p, b=None, h=None: (403, "no") if p.startswith("/gone") else original(m, p, b, h)
    )
    result = drill._break(QUICK, plan, {"status": "", "reason": ""})
    assert result["status"] == "failed" and result["reason"] == "It could not be caused: PATCH /gone was answered 403: no."
    assert app.done == ["/break", "/undo"] and result["restored"]["ok"]


def test_steady_probe_counts_what_is_still_open() -> None:
    release, stop = threading.Event(), threading.Event()

    def ask(path: str, headers: dict[str, str]) -> int:
        release.wait(5)
        return 503

    users = Users(SimpleNamespace(page="/", ask=ask), "run", stop)  # type: ignore[arg-type]
    began = time.monotonic()
    users.start()
    threading.Event().wait(0.5)
    end = time.monotonic()
    assert not users.ended(end)
    release.set()
    while not users.ended(end):
        assert time.monotonic() < end + 10
        threading.Event().wait(0.05)
    stop.set()
    assert len(users.since(began, end)) >= 2 and not any(good for _began, _took, good in users.since(began, end))


def test_only_ready_addresses_of_a_slice_count() -> None:
    ready, going = {"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}
    assert ready_addresses({"endpoints": [ready, going]}) == {"10.0.0.1"}
    assert ready_addresses({"endpoints": None}) == set()


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"scenario": "oom", "observer": "pods", "event": "OOMKilled", "after": 3.2}, "oom:     3.2 s  pods OOMKilled"),
        ({"scenario": "oom", "status": "skipped", "reason": "no limit"}, "oom: skipped: no limit"),
        ({"scenario": "oom", "event": "inject", "how": "memory"}, "oom: memory"),
        (
            {"scenario": "oom", "event": "wait", "alerts": ["A", "B"]},
            "oom: waits for the end of A, B, which was there before (a few minutes at most)",
        ),
        ({"scenario": "oom", "event": "restored", "ok": False, "evidence": "x"}, "oom: NOT RESTORED: x"),
        ({"scenario": "", "event": "dead-man", "skipped": ""}, ""),
        ({"scenario": "oom", "event": "restore"}, ""),
        (
            {"scenario": "x", "event": "lines", "answered": 9, "missing": 2},
            "x: the lines of 7 of 9 answered requests have arrived",
        ),
    ],
)
def test_journal_in_words(entry: dict[str, Any], text: str) -> None:
    assert words(json.loads(json.dumps(entry))) == text
