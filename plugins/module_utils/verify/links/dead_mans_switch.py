# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watchdog arrives at whoever notices when it stops arriving: the dead man's switch that was promised with the stack."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .. import notification, queries
from ..result import Result, failed, ok, skipped
from ..run import Run

LINK = "dead man's switch"
PROMISE = "flaskops/dead-mans-switch"  # on the Prometheus object, by the role kube_prometheus_stack
ALERT = "Watchdog"
# Seconds that are looked back for notifications: more than two scrapes, and several notifications.
LEAST, TIMES = 120, 5
ASK_AGAIN = 10.0  # seconds from one question to the provider to the next, whose free plan allows ten in a minute
NOBODY = (
    "nobody would notice that Prometheus or Alertmanager is silent, because kube_prometheus_stack_dead_mans_switch is not set"
)


class Seen(NamedTuple):
    """What the stack says of Watchdog.

    :param fires: whether Prometheus has it firing. :param alerts: those of its name that Alertmanager has.
    :param asked: how often the receiver was notified lately; None where nobody counts. :param refused: how often that failed.
    """

    fires: bool
    alerts: list[dict[str, Any]]
    asked: float | None
    refused: float

    @property
    def taken(self) -> float:
        return (self.asked or 0.0) - self.refused


def look(run: Run) -> list[Result]:
    text = (run.stack.server["metadata"].get("annotations") or {}).get(PROMISE)
    if not text:
        return [skipped(LINK, NOBODY)]
    promised = json.loads(text)
    found = run.settled(lambda: [_look(run, promised)])
    if found[0].status != "ok" or not run.target.dead_mans_switch.get("provider") or "heartbeat" not in promised:
        return found
    return [_far_end(run, promised["heartbeat"], found[0])]


def next_command(run: Run) -> str:
    return run.stack.alertmanager_log()


def _look(run: Run, promised: dict[str, Any]) -> Result:
    stack, window = run.stack, max(LEAST, TIMES * promised["every"])
    items = stack.alertmanagers()
    if not items:
        return failed(LINK, "no Alertmanager", f"namespace {stack.alerting} has no Alertmanager that could send {ALERT}")
    path = f"{stack.alertmanager(items)}/api/v2/alerts?{urlencode({'filter': f'alertname={ALERT}'})}"
    names = {"namespace": stack.alerting, "receiver": promised["receiver"], "window": f"{window}s"}
    fires = queries.filled("alert_fires", alert=ALERT)
    asked, refused = queries.filled("switch_asked", **names), queries.filled("switch_refused", **names)
    counted, failures = ([float(series["value"][1]) for series in stack.query(text)] for text in (asked, refused))
    # Another Prometheus may send its Watchdog there too, with other labels.
    own = notification.alert_of({"name": ALERT}, None, stack.series.config()).labels.known
    found = stack.ask(path)
    alerts = [each for each in found if all(value in (None, each["labels"].get(name, value)) for name, value in own.items())]
    seen = Seen(bool(stack.query(fires)), alerts, sum(counted) if counted else None, sum(failures))
    query = f"GET {path}; PromQL {fires}; {asked}; {refused}"
    cause = judge(seen, promised["receiver"], window)
    evidence = f"{round(seen.taken)} notifications taken and {round(seen.refused)} not in {window} s"
    return failed(LINK, evidence, cause, query) if cause else ok(LINK, evidence, query)


def judge(seen: Seen, receiver: str, window: int) -> str:
    """Why Watchdog does not arrive at the receiver; empty where it does."""
    if not seen.fires:
        return f"the alert {ALERT}, which has to fire all the time, does not: its rule is gone, or is not evaluated"
    if not seen.alerts:
        return f"{ALERT} fires in Prometheus, and Alertmanager does not have it"
    led = sorted({each["name"] for alert in seen.alerts for each in alert["receivers"]})
    if receiver not in led:
        return f"Alertmanager's loaded routes lead {ALERT} to {', '.join(led) or 'nobody'}, and not to {receiver}"
    held = [alert["status"] for alert in seen.alerts if alert["status"]["state"] == "suppressed"]
    if len(held) == len(seen.alerts):
        by = [name for status in held for key in ("silencedBy", "inhibitedBy", "mutedBy") for name in status.get(key) or []]
        return f"{ALERT} is held back by a silence or another alert ({', '.join(by[:2]) or 'Alertmanager does not say which'})"
    if seen.asked is None:
        return f"nobody counts what the receiver {receiver} takes: Alertmanager is not scraped, or counts by no receiver's name"
    if seen.taken < 0.5:
        return f"in {window} s the receiver {receiver} has taken no notification, and refused or missed {round(seen.refused)}"
    if seen.refused > seen.taken:
        return f"in {window} s the receiver {receiver} has refused or missed more notifications than it has taken"
    return ""


def _far_end(run: Run, heartbeat: dict[str, str], near: Result) -> Result:
    """What the provider says of the heartbeat, which may be behind for a moment."""
    # Only here: a scheduled verification, which has no tokens, also has no Ansible, whose HTTP settings the client uses.
    from ...external_checks.client import CheckError
    from ...external_checks.heartbeat import environment_of
    from ...external_checks.modules import TOKEN_VARIABLES, token_of
    from ...external_checks.status import check_states

    given = run.target.dead_mans_switch
    kind = f"{given['provider']}_heartbeat"
    token, until = token_of(kind, given.get("api_token")), time.monotonic() + run.settle
    if not token:
        why = f"no token is set: set api_token or the environment variable {TOKEN_VARIABLES[kind]}"
        return failed(LINK, f"{near.evidence}; {given['provider']} is not asked", why, near.query)
    asked = (kind, environment_of(heartbeat["environment"]), [heartbeat["name"]], token)
    api, told = (given.get("api_url") or "", given.get("ca_path")), bool(run.target.notified_severities)
    while True:
        try:
            (state,) = check_states(*asked, *api, ask_contacts=told)
        except CheckError as error:
            return failed(LINK, f"{near.evidence}; {given['provider']} is not asked", str(error), near.query)
        if state["state"] != "unknown" or time.monotonic() + ASK_AGAIN > min(until, run.deadline):
            return judge_far_end(near, given["provider"], heartbeat["name"], state)
        time.sleep(ASK_AGAIN)


def judge_far_end(near: Result, provider: str, name: str, state: dict[str, Any]) -> Result:
    """The heartbeat is up, which it is as long as one has come in time, and somebody is alerted when it is not.

    :param near: the row as far as the cluster goes. :param state: an entry of check_states.
    """
    query, evidence = f"{near.query}; the heartbeat {name} at {provider}", f"{near.evidence}; {provider} has it {state['state']}"
    if state["state"] == "unknown":
        return failed(LINK, evidence, f"{provider} has never had a heartbeat: something on the way answers in its place", query)
    if state["state"] != "up":
        return failed(LINK, evidence, f"the heartbeat {name} is {state['state']} at {provider}", query)
    if not state.get("alerts", True):
        return failed(LINK, evidence, f"the heartbeat {name} alerts nobody at {provider}: set its contacts", query)
    return ok(LINK, evidence, query)
