# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each receiver that verify_receivers names takes a notification of verify's own, which reaches nobody else."""

from __future__ import annotations

import datetime
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ...kube.transport import ApiError, message_of
from .. import routing
from ..deliveries import FEATURE, Key, Refusal, read_counters, read_log
from ..labels import end, reached, solve
from ..notification import bare
from ..result import Result, failed, ok, skipped
from ..routing import Json, Labels
from ..run import Run
from ..stack import Server, Stack

ALERT = "VerifyReceiver"  # its name goes on with the mark of the run, so that it has a group of its own where groups are by name
PAUSE = 0.5  # seconds between two looks at Alertmanager's counters
RETRIES = 3.0  # seconds in which a receiver may take at the second attempt what it refused at the first
AGAIN = 60.0  # seconds after which the alert is sent again, for Alertmanager ends what is not (resolve_timeout)


@dataclass
class Sent:
    """A notification on its way.

    :param receivers: whom it reaches, each with the name that the user gave it.
    :param kinds: the integrations of each of them, with their numbers.
    """

    receivers: dict[str, str]
    kinds: dict[str, Counter[str]]
    labels: dict[str, str]
    settings: Json
    before: dict[Key, tuple[float, float]] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)  # after how many seconds
    refused: dict[str, float] = field(default_factory=dict)

    def alert(self, over: bool = False) -> Json:
        """It as Alertmanager's API takes it, which sets the time by its own clock; :param over: whether it is resolved."""
        names = " and ".join(self.receivers.values())
        said = {
            "summary": f"Test of {names}: nothing is wrong",
            "description": "verify was asked to send it (verify_receivers), and resolves it at once.",
        }
        ends = {"endsAt": datetime.datetime.now(datetime.UTC).isoformat()} if over else {}
        return {"labels": self.labels, "annotations": said, **ends}

    def look(self, counters: dict[Key, tuple[float, float]], seconds: float, by_name: bool) -> None:
        """Note whom the counters say took or refused it."""
        for receiver in set(self.receivers) - set(self.took):
            new = [self._new(counters, Key(receiver if by_name else "", kind)) for kind in self.kinds[receiver]]
            if all(took >= count for (took, _), count in zip(new, self.kinds[receiver].values(), strict=True)):
                self.took[receiver] = seconds
            elif any(refused for _, refused in new):
                self.refused.setdefault(receiver, seconds)

    def _new(self, counters: dict[Key, tuple[float, float]], key: Key) -> tuple[float, float]:
        """How many requests were taken and how many were refused since it was sent."""
        (sent, refused), (sent_before, refused_before) = counters.get(key, (0.0, 0.0)), self.before.get(key, (0.0, 0.0))
        return sent - sent_before - (refused - refused_before), refused - refused_before

    def done(self, seconds: float) -> bool:
        """Whether each receiver took it, or refused it and does not take it at another attempt."""
        late = {name for name, at in self.refused.items() if seconds > at + RETRIES}
        return set(self.receivers) <= set(self.took) | late


def look(run: Run) -> list[Result]:
    names, stack = list(dict.fromkeys(run.target.receivers)), run.stack
    if not names:
        return []
    rows = {name: f"receiver {name}" for name in names}
    found = [] if stack.absent else stack.alertmanagers()
    if not found:
        why = stack.absent or f"namespace {stack.alerting} has no Alertmanager"
        return [
            failed(row, "nothing sent", why, next_command=run.target.kubectl("get", "alertmanagers")) for row in rows.values()
        ]
    path = stack.alertmanager(found)
    config = stack.alertmanager_config(path)
    tests, results = plan(config, names, run.target.namespace)
    try:
        results |= Sender(stack, stack.alertmanager_servers(found), routing.intervals(config)).send(tests)
    except ApiError as error:
        # Somebody asked for it, so that it is no row to omit where the account may not.
        told = {name for test in tests for name in test.receivers.values()} - results.keys()
        results |= {name: failed("", "nothing known", str(error)) for name in told}
    query = f"POST and GET {path}/api/v2/alerts; GET {path}/metrics; the log of Alertmanager"
    for name, result in results.items():
        result.link, result.query = rows[name], query
    return [results[name] for name in names]


def next_command(run: Run) -> str:
    return run.stack.alertmanager_log()


def plan(config: Json, names: list[str], namespace: str) -> tuple[list[Sent], dict[str, Result]]:
    """What is sent to reach the receivers that somebody named, and what is wrong with the others, before anything is sent."""
    kinds = {name: Counter(found) for name, found in routing.integrations(config).items()}
    resolved, wrong = {}, {}
    for name in names:
        there = [name] if name in kinds else [each for each in kinds if bare(each) == name]
        there = [each for each in there if each.startswith(f"{namespace}/")] or there
        if len(there) != 1:
            known = ", ".join(sorted(there or kinds))
            what = "several receivers are called so" if there else "Alertmanager has no receiver of that name"
            wrong[name] = failed("", "nothing sent", f"{what}: name one of {known}")
        elif not kinds[there[0]]:
            wrong[name] = failed("", "nothing sent", "it has no integration, so it drops what it gets")
        else:
            resolved[there[0]] = name
    harmless = {name for name, found in kinds.items() if not found}
    tests: list[Sent] = []
    route = config.get("route") or {}
    for receiver, name in resolved.items():
        if any(receiver in test.receivers for test in tests):
            continue
        mark = uuid.uuid4().hex[:12]
        # A group of its own is notified after group_wait, and not with what fires already.
        given = {**dict.fromkeys(_grouped(route), f"verify-{mark}"), "alertname": f"{ALERT}-{mark}"}
        labels = solve(route, receiver, harmless | set(resolved), given)
        if labels is None:
            wrong[name] = failed("", "nothing sent", _unreachable(route, receiver, set(kinds), given))
            continue
        met = reached(route, Labels(dict(labels)))[0] & set(resolved)
        settings = end(route, Labels(dict(labels)), receiver) or {}
        tests.append(Sent({each: resolved[each] for each in met}, {each: kinds[each] for each in met}, labels, settings))
    return tests, wrong


def _grouped(route: Json) -> Iterator[str]:
    """The labels by which alerts are put into groups."""
    yield from (name for name in route.get("group_by") or [] if name != "...")
    for child in route.get("routes") or []:
        yield from _grouped(child)


def _unreachable(route: Json, receiver: str, everybody: set[str], given: dict[str, str]) -> str:
    """Why no labels reach a receiver alone."""
    labels = solve(route, receiver, everybody, given)
    if labels is None:
        return "no alert can reach it: earlier routes take everything that its own route would take"
    others = ", ".join(sorted(bare(name) for name in reached(route, Labels(dict(labels)))[0] - {receiver}))
    return f"no labels of an alert lead to it and not to {others} as well: name them too, or take continue from a route"


class Sender:
    """Sends tests and watches Alertmanager's counters; :param named: the time intervals of its configuration."""

    def __init__(self, stack: Stack, servers: list[Server], named: dict[str, list[Json]]) -> None:
        self.stack, self.servers, self.named = stack, servers, named
        self.run = stack.run

    def send(self, tests: list[Sent]) -> dict[str, Result]:
        """The results, by the names that the user gave."""
        results: dict[str, Result] = {}
        open_tests = []
        for test in tests:
            muted = self._muted(test)
            results |= {name: skipped("", muted) for name in test.receivers.values() if muted}
            open_tests += [] if muted else [test]
        if not open_tests:
            return results
        before = read_counters(self.stack, self.servers)
        by_name = any(key.receiver for key in before)
        # Where nobody counts by name, one at a time is told apart.
        for batch in [open_tests] if by_name else [[test] for test in open_tests]:
            results |= self._batch(batch, by_name)
        return results

    def _muted(self, test: Sent) -> str:
        """Why nothing is sent now by a time interval; empty where something is."""
        muted, active = (tuple(test.settings.get(f"{kind}_time_intervals") or ()) for kind in ("mute", "active"))
        way = routing.Delivery("", muted, active)
        if routing.opens(way, self.named, datetime.datetime.now(datetime.UTC)) == 0:
            return ""
        return f"nothing was sent: the time interval {' and '.join((*muted, *active))} holds it back now"

    def _post(self, alerts: list[Json]) -> None:
        # To each pod, as Prometheus does: they agree on who notifies.
        for server in self.servers:
            status, text = self.run.cluster.send("POST", f"{server.api}/api/v2/alerts", alerts)
            if status != 200:
                advice = "; the account needs permission to create services/proxy and pods/proxy there" if status == 403 else ""
                what = f"{server.pod or 'Alertmanager'} does not take an alert: {status} {message_of(text)}{advice}"
                raise ApiError(status, what)

    def _batch(self, tests: list[Sent], by_name: bool) -> dict[str, Result]:
        before, began = read_counters(self.stack, self.servers), time.monotonic()
        for test in tests:
            test.before = before
        try:
            sent = -AGAIN
            while True:
                if time.monotonic() - began > sent + AGAIN:
                    sent = time.monotonic() - began
                    self._post([test.alert() for test in tests])
                counters, seconds = read_counters(self.stack, self.servers), time.monotonic() - began
                for test in tests:
                    test.look(counters, seconds, by_name)
                if all(test.done(seconds) for test in tests) or time.monotonic() > self.run.deadline:
                    break
                time.sleep(PAUSE)
            held = {id(test): self._held(test) for test in tests if not test.done(seconds)}
        finally:
            self._post([test.alert(over=True) for test in tests])
        log, unread = read_log(self.stack, time.monotonic() - began + RETRIES)
        limits = "" if by_name else f"; counted by integration alone, because Alertmanager runs without its feature {FEATURE}"
        found = {}
        for test in tests:
            for receiver, name in test.receivers.items():
                said = [each for each in log if each.key.receiver == receiver]
                result = self._judged(test, receiver, said, unread, held.get(id(test), ""))
                result.evidence += limits if result.evidence else ""
                result.seconds = round(time.monotonic() - began, 3)
                found[name] = result
        return found

    def _judged(self, test: Sent, receiver: str, log: list[Refusal], unread: str, held: str) -> Result:
        kinds = " and ".join(test.kinds[receiver])
        labels = ", ".join(f"{name}={value}" for name, value in sorted(test.labels.items()))
        if receiver in test.took:
            return ok("", f"{kinds} took it after {test.took[receiver]:.1f} s; labels {labels}")
        if receiver in test.refused:
            last = {each.key: each for each in log}
            said = "; ".join(f"{each.key.integration}: {each}" for each in last.values())
            cause = said or f"{kinds} refused it, {unread or 'and the log has no words of it'}"
            return failed("", f"refused after {test.refused[receiver]:.1f} s; labels {labels}", cause)
        return skipped("", held) if held else failed("", f"sent with labels {labels}", self._late(test))

    def _held(self, test: Sent) -> str:
        """What holds an alert back that Alertmanager has; empty where nothing does."""
        name = test.labels["alertname"]
        found: list[dict[str, Any]] = self.stack.ask(
            f"{self.servers[0].api}/api/v2/alerts?{urlencode({'filter': f'alertname={name}'})}"
        )
        held = [mark for alert in found for key in ("silencedBy", "inhibitedBy") for mark in alert["status"].get(key) or []]
        return f"a silence or another alert holds it back in Alertmanager ({', '.join(held)})" if held else ""

    def _late(self, test: Sent) -> str:
        wait, interval = (test.settings.get(key) or default for key, default in (("group_wait", "30s"), ("group_interval", "5m")))
        return (
            f"Alertmanager has sent nothing within {self.run.target.timeout:.0f} s: its route waits {wait} with a"
            f" new group of alerts and {interval} with one that is there; verify_wait_timeout bounds the verification"
        )
