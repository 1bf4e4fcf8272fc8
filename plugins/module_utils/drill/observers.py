# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What notices: every observer is a thread of its own that says what it saw at the moment it saw it.

They run for the whole drill, so that none has to begin when something breaks; a Timeline is what one scenario hears of them.
Pods and EndpointSlices are watched. Prometheus, Alertmanager's receiver and the log back end can only be asked again and again.
"""

from __future__ import annotations

import datetime
import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from ..external_checks.client import CheckError
from ..external_checks.status import check_states
from ..kube.transport import ApiError
from ..verify.deliveries import counted
from ..verify.facts import is_ready
from ..verify.notification import INBOX, bare
from ..verify.run import slices_path
from . import far_end
from .app import App, ready_addresses, wall
from .watchers import TEST

RATE = 10  # requests a second of the steady probe
SLOW = 0.5  # seconds from which a request counts as slow
LOOK = 0.1  # seconds between two looks at alerts
LOG_LOOK = 0.5  # and at logs
NODES = "/api/v1/nodes"
STALE = 5.0  # seconds that the newest line in the back end is behind before lines count as lost
OUTSIDE_LOOK, SWITCH_LOOK = 5.0, 15.0
NO_STORE = "no Loki and no VictoriaLogs is installed on this cluster"
# What the names of alerts about the path of the logs and about nodes begin with, which are every application's.
SHARED_ALERTS = ("Log", "Loki", "VictoriaLogs", "FluentBit", "KubeNode")
WATCH = 300  # seconds of one watch
Answer = tuple[float, float, bool]  # when a request began, how many seconds it took, and whether it was answered well


class Timeline:
    """What was seen since a scenario's fault began, each event of an observer once: the first time, or with ``last`` the last."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self.began = time.monotonic()
        self.at: dict[tuple[str, str], float] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.changed = threading.Event()

    def see(self, observer: str, event: str, moment: float, last: bool = False, labels: dict[str, str] | None = None) -> None:
        with self._lock:
            after = moment - self.began
            if after < 0 or ((observer, event) in self.at and not last):
                return
            self.at[observer, event] = after
            if labels:
                self.labels.setdefault(observer, labels)
            self.changed.set()
        self._write({"observer": observer, "event": event, "after": round(after, 1)})

    def has(self, observer: str, event: str) -> bool:
        return (observer, event) in self.at


class Observers:
    """All observers of one drill.

    :param write: takes each line of the journal.
    """

    def __init__(self, app: App, run_id: str, write: Callable[[dict[str, Any]], None]) -> None:
        self.app = app
        self.run_id = run_id
        self._write = write
        self._stop = threading.Event()
        self._timeline: Timeline | None = None
        self.skipped: list[dict[str, str]] = []
        self.users = Users(app, run_id, self._stop)
        self._pods: dict[str, dict[str, Any]] = {}
        self._ready_before: set[str] = set()
        self._restarts_before: dict[str, int] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._nodes_before: set[str] = set()
        self._addresses: dict[str, set[str]] = {}
        self._addresses_before: set[str] = set()
        self._incomplete: set[str] = set()  # the observers that miss something of what was there before
        self._active: dict[str, dict[str, str]] = {}  # alerts by name: state by labels
        self._active_before: set[str] = set()
        self._told_before: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str, str]] = set()
        self.tellings: list[tuple[float, dict[str, str]]] = []  # when something of an alert was received, and its labels
        self._prometheus_up = True
        self._store_up = True
        self._line_lost = False
        self._refused = self._refused_before = 0.0
        self.switch: far_end.Switch | None = None
        self.no_switch = ""  # why there is none

    def start(self) -> None:
        """Begin to observe; what is not there is skipped with its reason."""
        threads: list[tuple[str, Callable[[], None]]] = [("pods", self._watch_pods), ("endpoints", self._watch_endpoints)]
        app = self.app
        try:
            app.get(f"{NODES}?limit=1")
            threads.append(("node", self._watch_nodes))
        except ApiError as error:
            self._leave_out("node", f"the nodes can't be listed: {error}")
        if app.prometheus:
            threads.append(("alerts", self._look_at_alerts))
        else:
            self._leave_out("alerts", "no Prometheus of an operator runs on this cluster")
        if app.inbox:
            threads.append(("receiver", self._look_at_inbox))
        else:
            self._leave_out("receiver", "no alert inbox runs beside Prometheus, so that nobody knows when an alert was received")
        if app.alertmanager:
            threads.append(("alertmanager", self._look_at_alertmanager))
        if app.logs:
            threads.append(("log line", self._look_at_lines))
        else:
            self._leave_out("log line", NO_STORE)
        try:
            self.switch = far_end.find(app.options)
            threads.append(("dead man's switch", self._look_at_switch))
        except LookupError as error:
            self.no_switch = str(error)
            self._leave_out("dead man's switch", self.no_switch)
        if app.options.external_checks:
            threads.append(("external check", self._look_outside))
        else:
            self._leave_out("external check", "no outside service is registered")
        for name, target in threads:
            threading.Thread(target=target, name=name, daemon=True).start()
        self.users.start()

    def stop(self) -> None:
        self._stop.set()

    def _leave_out(self, observer: str, reason: str) -> None:
        self.skipped.append({"observer": observer, "reason": reason})

    def begin(self) -> Timeline:
        """A new timeline, to which everything that is not so already is an event."""
        timeline = Timeline(self._write)
        self._ready_before = self._ready()
        self._restarts_before = {name: restarts(pod) for name, pod in self._pods.items()}
        self._nodes_before = self._ready_nodes()
        self._addresses_before = self._leads_to()
        self._active_before = {name for name, states in self._active.items() if states}
        self._told_before = {(name, starts) for name, starts, _status in self._told}
        self._line_lost = False
        self._refused_before = self._refused
        timeline.began = time.monotonic()
        self._timeline = timeline
        return timeline

    def active_before(self) -> set[str]:
        """The alerts that were pending or firing when the timeline began."""
        return self._active_before

    def active(self) -> set[str]:
        """The alerts that are pending or firing now."""
        return {name for name, states in self._active.items() if states}

    def end(self) -> None:
        self._timeline = None

    def _see(self, observer: str, event: str, moment: float | None = None, **more: Any) -> None:
        timeline = self._timeline
        if timeline is not None:
            timeline.see(observer, event, time.monotonic() if moment is None else moment, **more)

    # Pods and addresses.

    def _ready(self) -> set[str]:
        return {name for name, pod in self._pods.items() if is_ready(pod)}

    def _ready_nodes(self) -> set[str]:
        return {name for name, node in self._nodes.items() if is_ready(node)}

    def _leads_to(self) -> set[str]:
        return {address for addresses in self._addresses.values() for address in addresses}

    def _watch(self, path: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """``LIST`` with all objects of a list, then one event of the watch after it at a time; and so on for ever."""
        sign = "&" if "?" in path else "?"
        while not self._stop.is_set():
            try:
                found = self.app.get(path)
                yield "LIST", found["items"]
                version = found["metadata"]["resourceVersion"]
                query = urlencode({"watch": "true", "resourceVersion": version, "timeoutSeconds": WATCH})
                for line in self.app.cluster.lines(f"{path}{sign}{query}", WATCH + 10):
                    event = json.loads(line)
                    if self._stop.is_set() or event["type"] == "ERROR":
                        break
                    yield event["type"], [event["object"]]
            except (ApiError, ValueError, KeyError):
                self._stop.wait(0.5)

    def _watch_pods(self) -> None:
        path = f"{self.app.base}/pods?{urlencode({'labelSelector': self.app.selector})}"
        for kind, items in self._watch(path):
            known = {} if kind == "LIST" else dict(self._pods)
            for item in items:
                known[item["metadata"]["name"]] = item
                if kind == "DELETED":
                    del known[item["metadata"]["name"]]
                else:
                    self._look_at_containers(item)
            self._pods = known
            self._compare("pods", self._ready_before, self._ready(), "lost", "ready")

    def _watch_nodes(self) -> None:
        for kind, items in self._watch(NODES):
            known = {} if kind == "LIST" else dict(self._nodes)
            for item in items:
                known[item["metadata"]["name"]] = item
                if kind == "DELETED":
                    del known[item["metadata"]["name"]]
            self._nodes = known
            self._compare("node", self._nodes_before, self._ready_nodes(), "NotReady", "Ready")

    def _look_at_containers(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        # An end that was there before is not news; one of now is told before the restart after it is counted.
        parts = ("state",) if restarts(pod) == self._restarts_before.get(name) else ("state", "lastState")
        for status in pod.get("status", {}).get("containerStatuses") or []:
            for detail in [detail for part in parts for detail in (status.get(part) or {}).values()]:
                if detail.get("reason") in ("CrashLoopBackOff", "OOMKilled"):
                    self._see("pods", detail["reason"])

    def _compare(self, observer: str, before: set[str], now: set[str], gone: str, back: str) -> None:
        """See what is missing of what was there before, that all is, and that as many are there again."""
        if before - now:
            self._see(observer, gone)
        if before and not now:
            self._see(observer, "down")
        timeline, whole = self._timeline, len(now) >= len(before)
        if timeline is not None and whole and observer in self._incomplete and timeline.has(observer, gone):
            self._see(observer, back, last=True)
        if whole:
            self._incomplete.discard(observer)
        else:
            self._incomplete.add(observer)

    def _watch_endpoints(self) -> None:
        for kind, items in self._watch(slices_path(self.app.namespace, self.app.name)):
            known = {} if kind == "LIST" else dict(self._addresses)
            for item in items:
                known[item["metadata"]["name"]] = set() if kind == "DELETED" else ready_addresses(item)
            self._addresses = known
            self._compare("endpoints", self._addresses_before, self._leads_to(), "removed", "up")

    # Alerts.

    def _ours(self, labels: dict[str, str]) -> bool:
        """Of the application, or of nobody in particular: other applications' alerts are not what is drilled."""
        if labels.get("alertname") in ("Watchdog", "InfoInhibitor", "VerifyTestAlert"):
            return False
        namespace, app = labels.get("namespace"), labels.get("app")
        if app is not None:
            return app == self.app.name and namespace in (None, self.app.namespace)
        return namespace in (None, self.app.namespace) or labels.get("alertname", "").startswith(SHARED_ALERTS)

    def _look_at_alerts(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                found = self.app.get(f"{self.app.prometheus}/api/v1/alerts", 5)["data"]["alerts"]
            except (ApiError, KeyError):
                if self._prometheus_up:
                    self._see("prometheus", "down")
                self._prometheus_up = False
                continue
            if not self._prometheus_up:
                self._see("prometheus", "up", last=True)
            self._prometheus_up = True
            self._take_alerts("prometheus", found)

    def _take_alerts(self, origin: str, found: list[dict[str, Any]]) -> None:
        seen: dict[str, dict[str, str]] = {}
        labels_of: dict[str, dict[str, str]] = {}
        for alert in found:
            labels = alert["labels"]
            if self._ours(labels):
                key = json.dumps(labels, sort_keys=True)
                seen.setdefault(f"{origin} {labels['alertname']}", {})[key] = alert["state"]
                labels_of[labels["alertname"]] = labels
        for full in {*seen, *(name for name in self._active if name.startswith(f"{origin} "))}:
            name, states = full.split(" ", 1)[1], seen.get(full, {})
            if states and full not in self._active_before:
                if "pending" in states.values() or "firing" in states.values():
                    self._see(f"alert {name}", "pending", labels=labels_of[name])
                if "firing" in states.values():
                    self._see(f"alert {name}", "firing")
            elif not states and self._active.get(full):
                self._active_before.discard(full)
                timeline = self._timeline
                if timeline is not None and timeline.has(f"alert {name}", "firing"):
                    self._see(f"alert {name}", "inactive", last=True)
            self._active[full] = states

    def _look_at_inbox(self) -> None:
        since = 0
        while not self._stop.wait(2 * LOOK):
            try:
                found = self.app.get(f"{self.app.inbox}/alerts.json?since={since}", 5)
            except ApiError:
                continue
            # The inbox's clock may be another one than ours: what counts is how long ago something came.
            now = datetime.datetime.fromisoformat(found["now"]).timestamp() * 1000
            for alert in found["alerts"]:
                since = max(since, alert["received_ms"])
                labels = alert["labels"]
                name, told = labels.get("alertname", ""), (labels.get("alertname", ""), alert["startsAt"])
                self._told.add((*told, alert["status"]))
                if labels.get("service") == TEST["service"]:
                    self._see("receiver", "back", time.monotonic() - (now - alert["received_ms"]) / 1000)
                if not self._ours(labels) or told in self._told_before:
                    continue
                moment = time.monotonic() - (now - alert["received_ms"]) / 1000
                self.tellings.append((moment, labels))
                if alert["status"] == "firing":
                    self._see(f"alert {name}", "received", moment, labels=labels)
                else:
                    self._see(f"alert {name}", "resolved", moment, last=True)

    def _look_at_alertmanager(self) -> None:
        """Whether it answers, and whether it counts attempts that the alert inbox refused."""
        up = True
        while not self._stop.wait(LOG_LOOK):
            try:
                status, text = self.app.cluster.fetch(f"{self.app.alertmanager}/metrics", None, 5)
            except ApiError:
                status, text = 0, ""
            if status != 200:
                if up:
                    self._see("alertmanager", "down")
                up = False
                continue
            if not up:
                self._see("alertmanager", "up", last=True)
            up, self._refused = True, refusals(text)
            # Its counters start again with it.
            self._refused_before = min(self._refused_before, self._refused)
            if self._refused > self._refused_before:
                self._see("receiver", "refused")
            self._look_at_inhibited()

    def _look_at_inhibited(self) -> None:
        """Which alerts of the fault Alertmanager keeps back, because another one is raised by the same fault."""
        timeline = self._timeline
        firing = {name for name, event in list(timeline.at) if event == "firing"} if timeline is not None else set()
        if not firing:
            return
        try:
            found = self.app.get(f"{self.app.alertmanager}/api/v2/alerts?inhibited=true&active=false&silenced=false", 5)
        except ApiError:
            return
        for labels in [alert["labels"] for alert in found if alert["status"]["inhibitedBy"]]:
            name = f"alert {labels.get('alertname', '')}"
            if name in firing and self._ours(labels):
                self._see(name, "inhibited")

    # Logs.

    def _look_at_lines(self) -> None:
        """The first error line of a fault, and whether the lines of the steady probe go on arriving."""
        newest = 0.0
        while not self._stop.wait(LOG_LOOK):
            timeline = self._timeline
            try:
                arrived = self.app.lines(60, self.run_id)
                if not self._store_up:
                    self._see("log back end", "up", last=True)
                self._store_up = True
                newest = max([newest, *arrived])
                if timeline is not None:
                    self._judge_lines(timeline, newest)
                    began = wall(timeline.began)
                    if not timeline.has("log line", "seen") and self._errors_since(began):
                        self._see("log line", "seen")
            except (ApiError, KeyError):
                if self._store_up:
                    self._see("log back end", "down")
                self._store_up = False

    def _errors_since(self, began: float) -> list[float]:
        """The times of the newest error lines of after a moment."""
        return [at for at in self.app.lines(time.time() - began + 1, levels="error|critical") if at >= began]

    def _judge_lines(self, timeline: Timeline, newest: float) -> None:
        answered = self.users.last_answer
        if not newest or not answered:
            return
        # Only lines that must exist can be missing: those of requests that were answered.
        behind = wall(answered) - newest
        if behind > STALE and not self._line_lost and newest > wall(timeline.began) - STALE:
            self._line_lost = True
            # The last line that came stands for the moment at which they stopped; none of before the fault was lost.
            self._see("log line", "lost", timeline.began + max(0.0, newest - wall(timeline.began)))
        elif behind < STALE and self._line_lost:
            self._line_lost = False
            self._see("log line", "back", last=True)

    # From outside.

    def _look_outside(self) -> None:
        down = False
        options = self.app.options
        while not self._stop.wait(OUTSIDE_LOOK):
            for given in options.external_checks:
                try:
                    states = check_states(
                        given["provider"],
                        options.environment,
                        (),
                        given["api_token"],
                        given.get("api_url") or "",
                        given.get("ca_path"),
                    )
                except CheckError:
                    continue
                if any(item["state"] == "down" for item in states):
                    down = True
                    self._see("external check", "down")
                elif down:
                    down = False
                    self._see("external check", "up", last=True)

    def _look_at_switch(self) -> None:
        down = False
        while self.switch and not self._stop.wait(SWITCH_LOOK):
            try:
                alarms = self.switch.alarms()
            except CheckError:
                continue
            if alarms:
                self._see("dead man's switch", "down")
            elif down:
                self._see("dead man's switch", "up", last=True)
            down = alarms


def refusals(metrics: str) -> float:
    """How many requests of Alertmanager to webhooks have failed; where it tells receivers apart, of those to the inbox."""
    webhooks = {key: failed for key, (_sent, failed) in counted(metrics).items() if key.integration == "webhook"}
    return sum(failed for key, failed in webhooks.items() if not key.receiver or bare(key.receiver) == INBOX)


def restarts(pod: dict[str, Any]) -> int:
    return sum(int(status.get("restartCount", 0)) for status in pod.get("status", {}).get("containerStatuses") or [])


class Users:
    """The steady probe: requests by the clock, over a new connection each, whether earlier ones were answered or not."""

    def __init__(self, app: App, run_id: str, stop: threading.Event) -> None:
        self._app = app
        self._run_id = run_id
        self._stop = stop
        self._lock = threading.Lock()
        self._done: list[Answer] = []
        self._answered: dict[str, tuple[float, float]] = {}  # by request id, when it began and was answered
        self._open: dict[int, float] = {}  # requests that have not ended, by number: when they began
        self.last_answer = 0.0
        self.path, self.every = app.page, 1

    def start(self) -> None:
        threading.Thread(target=self._pace, name="users", daemon=True).start()

    def _pace(self) -> None:
        began, number = time.monotonic(), 0
        with ThreadPoolExecutor(max_workers=RATE * 6, thread_name_prefix="user") as pool:
            while not self._stop.wait(max(0.0, began + number / RATE - time.monotonic())):
                path = self.path if number % self.every == 0 else self._app.page
                with self._lock:
                    self._open[number] = time.monotonic()
                pool.submit(self._one, number, path)
                number += 1

    def _one(self, number: int, path: str) -> None:
        began, name = self._open[number], f"{self._run_id}-{uuid.uuid4().hex[:8]}"
        status = self._app.ask(path, {"X-Request-ID": name})
        good = 0 < status < 500
        with self._lock:
            del self._open[number]
            self._done.append((began, time.monotonic() - began, good))
            if status:
                self.last_answer = max(self.last_answer, began)
            if good:
                self._answered[name] = (began, time.monotonic())

    def answered(self, since: float, until: float) -> set[str]:
        """The ids of the requests that began and were answered between two moments."""
        with self._lock:
            return {name for name, (began, ended) in self._answered.items() if since <= began and ended < until}

    def ended(self, until: float) -> bool:
        """Whether every request that began before a moment has ended."""
        with self._lock:
            return all(began >= until for began in self._open.values())

    def since(self, moment: float, until: float) -> list[Answer]:
        """The requests that began between two moments and have ended, in seconds after the first moment."""
        with self._lock:
            return sorted((began - moment, took, good) for began, took, good in self._done if moment <= began < until)


def requests(done: list[Answer], length: float) -> dict[str, Any]:
    """How many requests were sent and lost, when the first and last lost one was sent, and how long none at all was answered.

    :param length: seconds in which they were sent.
    """
    answered = [0.0, *(began for began, _took, good in done if good), max(length, 0.0)]
    silent = max(after - before for before, after in itertools.pairwise(answered))
    lost = [began for began, _took, good in done if not good]
    first, last = (round(lost[0], 1), round(lost[-1], 1)) if lost else (None, None)
    return {"sent": len(done), "lost": len(lost), "first_lost": first, "last_lost": last, "silent": round(silent, 1)}
