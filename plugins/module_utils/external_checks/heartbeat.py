# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Heartbeats of UptimeRobot, which are down when nobody calls their address in time. Private to this collection.

Whoever knows the address can send a heartbeat, so no option, message or difference holds it.
"""

from __future__ import annotations

from html import unescape
from typing import Any

from .client import CheckError
from .model import Found, check_range, check_url
from .uptimerobot import CONTACTS, TITLE, Monitors, fields_of, shared_options_of

ADDRESSES = "https://heartbeat.uptimerobot.com"
DEFAULT_GRACE = 300  # seconds
# Options of the module beside those of every check.
SPEC: dict[str, Any] = {"grace_period": {"type": "int"}, "contacts": CONTACTS}


def environment_of(environment: str) -> str:
    """Return the environment as the tag has it: a list of checks that prunes must not come upon its heartbeats."""
    return f"heartbeat-{environment}"


def address(found: Found) -> str:
    """Return where a heartbeat is sent to.

    The API has answered with a whole address, with the last part of one, and with the key that ends it.
    """
    text, prefix = str(found.extra["url"]), f"m{found.id}-"
    if "://" not in text:
        text = f"{ADDRESSES}/{text if text.startswith(prefix) else prefix + text}" if text else ""
    if not text:
        raise CheckError(f"{TITLE} shows no address of the heartbeat {found.name!r} (id {found.id}): run again")
    check_url(text)
    return text


class Heartbeat(Monitors):
    """Monitors of the type HEARTBEAT."""

    types = ("HEARTBEAT",)
    options = ("name", "interval", "grace_period", "tags", "contacts")
    needs_url = False

    def check(self, options: dict[str, Any]) -> None:
        check_range("interval", options.get("interval"), 30, 2678400, TITLE)
        check_range("grace_period", options.get("grace_period"), 0, 86400, TITLE)
        self.check_shared(options)

    def completed(self, options: dict[str, Any], kept: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"grace_period": DEFAULT_GRACE, **super().completed(options, kept)}

    def parsed_check(self, body: dict[str, Any], whole: bool) -> Found:
        options = {**shared_options_of(body), "grace_period": body.get("gracePeriod")}
        url = unescape(str(body.get("url") or ""))
        # What UptimeRobot says of a failure may quote it.
        self.client.hidden.update(filter(None, (url, url.rpartition("-")[2])))
        return self.parsed_monitor(body, options, {"url": url})

    def create(self, options: dict[str, Any], paused: bool) -> Any:
        return self.create_monitor({"type": "HEARTBEAT", **fields_of(options, create=True)}, paused)

    def update(self, found: Found, changes: dict[str, Any], wanted: dict[str, Any], paused: bool | None) -> None:
        self.update_monitor(found, fields_of(changes, create=False), paused)
