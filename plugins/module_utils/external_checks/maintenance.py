# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No alerts for a while: a maintenance window, or a pause where there are no usable windows. Private to this collection."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from .client import CheckError, LostReply
from .model import (
    Found,
    as_documented,
    member,
    texts,
)
from .pingdom import Pingdom
from .reconciler import (
    Outcome,
    Reconciler,
    Wanted,
    reconcile,
)
from .statuscake import StatusCake


class Window(NamedTuple):
    """A maintenance window: id at the provider, end as epoch seconds, and the ids of its checks."""

    id: Any
    end: float
    checks: set[str]


def stamp(seconds: float) -> str:
    """Return an epoch time as RFC 3339 in UTC."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PingdomWindows:
    """Maintenance windows of Pingdom: times are epoch seconds, 1 stands for now, and one that has begun can only be ended."""

    def __init__(self, provider: Pingdom) -> None:
        self.client = provider.client

    def active(self, name: str, now: float) -> list[Window]:
        entries = member(self.client.request("GET", "/maintenance", answer=dict), "maintenance", list, "Pingdom")
        with as_documented("Pingdom"):
            return [
                Window(entry["id"], float(entry["to"]), {str(item) for item in (entry.get("checks") or {}).get("uptime") or []})
                for entry in entries
                if entry.get("description") == name
                and entry["to"] > now
                and entry.get("recurrencetype", "none") == "none"  # ours never come again
            ]

    def open(self, name: str, now: float, end: float, checks: list[Any]) -> None:
        body = {"description": name, "from": 1, "to": int(end), "uptimeids": checks}
        self.client.request("POST", "/maintenance", json_body=body, answer=dict, create=True)

    def move(self, window: Window, end: float, checks: list[Any]) -> None:
        self.client.request("PUT", f"/maintenance/{window.id}", json_body={"to": int(end), "uptimeids": checks})

    def close(self, window: Window) -> None:
        self.client.request("PUT", f"/maintenance/{window.id}", json_body={"to": 1})


class StatusCakeWindows:
    """Maintenance windows of StatusCake."""

    def __init__(self, provider: StatusCake) -> None:
        self.client, self.provider = provider.client, provider

    def active(self, name: str, now: float) -> list[Window]:
        entries = self.provider.pages("/maintenance-windows", [])
        with as_documented("StatusCake"):
            found = [
                Window(entry["id"], datetime.datetime.fromisoformat(entry["end_at"]).timestamp(), set(texts(entry.get("tests"))))
                for entry in entries
                if entry.get("name") == name and entry.get("repeat_interval", "never") == "never"  # ours never come again
            ]
        return [window for window in found if window.end > now]

    def open(self, name: str, now: float, end: float, checks: list[Any]) -> None:
        form = [("name", name), ("start_at", stamp(now)), ("end_at", stamp(end)), ("timezone", "UTC")]
        form += [("tests[]", str(check)) for check in checks]
        self.client.request("POST", "/maintenance-windows", form=form, answer=dict, create=True)

    def move(self, window: Window, end: float, checks: list[Any]) -> None:
        form = [("end_at", stamp(end))] + [("tests[]", str(check)) for check in checks]
        self.client.request("PUT", f"/maintenance-windows/{window.id}", form=form)

    def close(self, window: Window) -> None:
        self.client.request("DELETE", f"/maintenance-windows/{window.id}")


def run(engine: Reconciler, wanted: list[Wanted], begin: bool, seconds: int) -> list[Outcome]:
    """Begin or end maintenance of those checks of the list that exist; return one outcome for all of them."""
    if seconds < 60 or seconds % 60:
        raise CheckError(f"The maintenance_duration is {seconds}: give seconds in steps of 60")
    engine.load()
    there: list[tuple[Wanted, Found]] = []
    for item in wanted:
        if item.state == "absent":
            continue
        found = engine.find(item)
        if found:
            there.append((item, found))
    provider = engine.provider
    windows = (
        PingdomWindows(provider)
        if isinstance(provider, Pingdom)
        else StatusCakeWindows(provider)
        if isinstance(provider, StatusCake)
        else None
    )
    if windows is None:
        # A check that stays paused in the list stays paused here.
        state = "paused" if begin else "started"
        return reconcile(
            engine, [Wanted(item.name, {}, state) for item, _found in there if begin or item.state != "paused"], loaded=True
        )
    now = engine.provider.client.clock()
    active = windows.active(engine.tag, now)
    checks = sorted(found.id for _item, found in there)
    outcome = Outcome(engine.tag)
    if begin and checks:
        end = now + seconds
        outcome.after = {"maintenance_until": stamp(end), "checks": [str(check) for check in checks]}
        if active:
            outcome.id = active[0].id
            outcome.before = {"maintenance_until": stamp(active[0].end), "checks": sorted(active[0].checks)}
            outcome.actions.append("move window")
            if not engine.check_mode:
                windows.move(active[0], end, checks)
        else:
            outcome.actions.append("open window")
            if not engine.check_mode:
                try:
                    windows.open(engine.tag, now, end, checks)
                except LostReply:
                    # It may be there all the same, and a second one would be left over when this one is closed.
                    if not engine.until(lambda: windows.active(engine.tag, now)):
                        windows.open(engine.tag, now, end, checks)
    elif not begin:
        for window in active:
            outcome.id = window.id
            outcome.before = {"maintenance_until": stamp(window.end), "checks": sorted(window.checks)}
            outcome.actions.append("close window")
            if not engine.check_mode:
                windows.close(window)
    return [outcome]
