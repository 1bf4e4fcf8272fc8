# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert inbox: receives Alertmanager's webhooks and shows which alerts arrived, and when.

    POST /alerts                  an Alertmanager webhook of version 4
    GET  /alerts.json?since=...   what was received after that time (milliseconds since 1970, or RFC 3339), oldest first
    GET  /                        the same as a page: one row for each alert from firing to resolved
    GET  /healthz                 200

Everything is kept in memory, the newest LIMIT notifications of single alerts at most, and is gone with the pod.
"""

from __future__ import annotations

import collections
import datetime
import json
import threading
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import web
from flaskops_observability.pages import inbox

LIMIT = 2000
MAX_BODY = 4 * 1024 * 1024  # bytes of one webhook
MAX_TEXT = 4096  # characters of one label or annotation that are kept


def rfc3339(milliseconds: int) -> str:
    """A time in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_since(text: str) -> int:
    """Milliseconds since 1970 from a number of them or from RFC 3339.

    :raises ValueError: when it is neither.
    """
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone, such as Z at the end")
    return round(moment.timestamp() * 1000)


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("labels and annotations are objects")
    return {str(key)[:MAX_TEXT]: str(text)[:MAX_TEXT] for key, text in value.items()}


def read_webhook(body: bytes) -> list[dict[str, Any]]:
    """The alerts of one webhook.

    :raises ValueError: when it is no webhook of version 4.
    """
    try:
        message = json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(message, dict) or message.get("version") != "4" or not isinstance(message.get("alerts"), list):
        raise ValueError("this is no Alertmanager webhook of version 4")
    found = []
    for alert in message["alerts"]:
        if not isinstance(alert, dict) or alert.get("status") not in ("firing", "resolved"):
            raise ValueError("each alert is firing or resolved")
        found.append(
            {
                "status": alert["status"],
                "receiver": str(message.get("receiver", "")),
                "labels": _texts(alert.get("labels", {})),
                "annotations": _texts(alert.get("annotations", {})),
                "startsAt": str(alert.get("startsAt", "")),
                "endsAt": str(alert.get("endsAt", "")),
                "fingerprint": str(alert.get("fingerprint", "")),
            }
        )
    return found


class Inbox:
    """The newest notifications, oldest first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._lock = threading.Lock()
        self._kept: collections.deque[dict[str, Any]] = collections.deque(maxlen=limit)
        self.received = 0

    def add(self, alerts: list[dict[str, Any]]) -> None:
        """Keep alerts with the time of now. No two calls get a time in the wrong order."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            for alert in alerts:
                self.received += 1
                self._kept.append({"received": rfc3339(now), "received_ms": now, **alert})

    def since(self, milliseconds: int) -> dict[str, Any]:
        """What was received after a time, and how many older ones were dropped for want of room."""
        with self._lock:
            kept = [alert for alert in self._kept if alert["received_ms"] > milliseconds]
            dropped = self.received - len(self._kept)
        return {"now": rfc3339(time.time_ns() // 1_000_000), "dropped": dropped, "alerts": kept}


class Handler(web.Handler):
    """The four addresses."""

    inbox: Inbox
    server_version = "alert-inbox"

    def do_GET(self) -> None:
        """Answer one of the pages."""
        parts = urlsplit(self.path)
        if parts.path == "/healthz":
            self.answer(HTTPStatus.OK, "ok\n")
        elif parts.path == "/":
            seconds = 0 if web.stays(parts.query) else inbox.REFRESH
            tests = "shown" in parse_qs(parts.query).get("tests", [])
            self.answer(HTTPStatus.OK, inbox.page(self.inbox.since(0), time.time(), seconds, tests), "text/html", seconds)
        elif parts.path == "/alerts.json":
            try:
                # A plus sign of a time zone arrives as a blank.
                since = parse_since(parse_qs(parts.query).get("since", ["0"])[0].replace(" ", "+"))
            except ValueError as error:
                self.answer(HTTPStatus.BAD_REQUEST, f"since is milliseconds since 1970 or RFC 3339 ({error}).\n")
                return
            self.answer(HTTPStatus.OK, json.dumps(self.inbox.since(since)), "application/json")
        else:
            self.answer(HTTPStatus.NOT_FOUND, "There is nothing here but /, /alerts.json and /healthz.\n")

    def do_POST(self) -> None:
        """Take a webhook."""
        if urlsplit(self.path).path != "/alerts":
            self.answer(HTTPStatus.NOT_FOUND, "Webhooks go to /alerts.\n")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            # The body stays unread, so that the connection can't go on.
            self.close_connection = True
            self.answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Send at most {MAX_BODY} bytes with a Content-Length.\n")
            return
        try:
            alerts = read_webhook(self.rfile.read(int(length)))
        except ValueError as error:
            self.answer(HTTPStatus.BAD_REQUEST, f"Refused: {error}.\n")
            return
        self.inbox.add(alerts)
        for alert in alerts:
            print(json.dumps({"status": alert["status"], "labels": alert["labels"], "startsAt": alert["startsAt"]}), flush=True)
        self.answer(HTTPStatus.OK, "")


def server(host: str, port: int, inbox: Inbox) -> web.Server:
    """An inbox that listens and does not yet serve; port 0 takes a free one."""
    return web.Server((host, port), type("BoundHandler", (Handler,), {"inbox": inbox}))


if __name__ == "__main__":
    web.serve(server("0.0.0.0", web.port(), Inbox()))
