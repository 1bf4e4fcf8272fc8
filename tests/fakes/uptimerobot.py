# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UptimeRobot API v3: JSON, PATCH, cursor pages, pause and start as operations of their own."""

from __future__ import annotations

import html
import secrets
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from .core import Fake, Plan, Refused, Reply, Request, Target

DEFAULTS: dict[str, Any] = {
    "type": "HTTP",
    "timeout": 30,
    "tagNames": [],
    "assignedAlertContacts": [],
    "regionData": {"REGION": ["na"]},
    "httpMethodType": "HEAD",
    "authType": "NONE",
    "httpUsername": "",
    "httpPassword": "",
    "postValueData": None,
    "postValueType": None,
    "customHttpHeaders": {},
    "successHttpResponseCodes": ["2xx", "3xx"],
    "checkSSLErrors": False,
    "sslExpirationReminder": False,
    "domainExpirationReminder": False,
    "followRedirections": True,
    "keywordType": None,
    "keywordCaseType": None,
    "keywordValue": None,
    "config": None,
    "port": None,
    "gracePeriod": None,
    "responseTimeThreshold": 0,
}
# Answered as they are stored; the others are renamed or reshaped by `show`.
PLAIN = (
    "type",
    "interval",
    "timeout",
    "assignedAlertContacts",
    "httpMethodType",
    "authType",
    "postValueData",
    "postValueType",
    "customHttpHeaders",
    "successHttpResponseCodes",
    "checkSSLErrors",
    "sslExpirationReminder",
    "domainExpirationReminder",
    "followRedirections",
    "keywordType",
    "keywordCaseType",
    "keywordValue",
    "port",
    "gracePeriod",
)
HEARTBEATS = "/heartbeat/"  # below which heartbeats are sent
ERRORS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 429: "Too Many Requests"}


class UptimeRobotFake(Fake):
    """Quirks that clients must cope with: names and URLs come back HTML-escaped, tags in lower case and as objects,
    `keywordCaseType` as a number, regions as `regionalData`, `responseTimeThreshold` always 0, no password, and a
    `nextLink` that names the cursor but not the filters.

    A heartbeat has an address of this server, without any token. `beats` counts what came to it."""

    provider = "uptimerobot"
    name_field = "friendlyName"
    plans = {"free": Plan(50, 300, [(10, 60)]), "paid": Plan(20_000, 30, [(5000, 60)])}
    bare_addresses = False  # whether answers have only the key of a heartbeat's address, as has been seen of the provider

    def error(self, refused: Refused) -> Any:
        message: Any = [f"{name} {text}" for name, text in refused.problems] if refused.status == 400 else str(refused)
        body = {"message": message, "statusCode": refused.status, "error": ERRORS.get(refused.status, "Error")}
        return {**body, "code": refused.extra["code"]} if "code" in refused.extra else body

    def limit_headers(self, left: list[tuple[int, int, float]], refused: bool) -> dict[str, str]:
        rate, remaining, reset = left[0]
        headers = {
            "X-RateLimit-Limit": str(rate),
            "X-RateLimit-Remaining": str(max(remaining, 0)),
            "X-RateLimit-Reset": str(int(self.clock() + reset)),
        }
        return {**headers, "Retry-After": str(max(1, int(reset + 0.999)))} if refused else headers

    def neutral(self, name: str, url: str, interval: int, tags: list[str], paused: bool) -> dict[str, Any]:
        return {"friendlyName": name, "url": url, "interval": interval, "tagNames": tags, "paused": paused}

    def new_check(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self.merge({**DEFAULTS, "paused": False}, fields)

    def merge(self, check: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        """The check with the fields of a request taken over as the provider does."""
        fields = dict(fields)
        if "tagNames" in fields:
            fields["tagNames"] = list(dict.fromkeys(tag.lower() for tag in fields["tagNames"]))
        if isinstance(fields.get("keywordCaseType"), str):
            fields["keywordCaseType"] = ["CaseSensitive", "CaseInsensitive"].index(fields["keywordCaseType"])
        if fields.get("keywordValue"):
            fields["keywordValue"] = fields["keywordValue"].strip()
        if "successHttpResponseCodes" in fields and not fields["successHttpResponseCodes"]:
            fields["successHttpResponseCodes"] = DEFAULTS["successHttpResponseCodes"]
        if "config" in fields:
            fields["config"] = {**(check["config"] or {}), **(fields["config"] or {})} or None
        if fields.get("responseTimeThreshold"):
            regions = fields.get("regionData") or check["regionData"]
            fields["regionData"] = {**regions, "THRESHOLD": {name: fields["responseTimeThreshold"] for name in regions["REGION"]}}
        return {**check, **fields}

    def add_check(self, fields: dict[str, Any]) -> Any:
        key = super().add_check(fields)
        if self.checks[key]["type"] == "HEARTBEAT":
            secret = secrets.token_hex(20)
            address = f"{self.url.removesuffix(self.contract.base)}{HEARTBEATS}m{key}-{secret}"
            self.checks[key] |= {"url": address, "timeout": None, "beats": 0, "_beat": None, "_since": self.clock()}
        return key

    def status(self, check: dict[str, Any]) -> str:
        if check["paused"]:
            return "PAUSED"
        if check["type"] != "HEARTBEAT":
            return {"new": "STARTED", "up": "UP", "down": "DOWN"}[check["_status"]]
        allowed = check["interval"] + (check["gracePeriod"] or 0)
        if self.clock() > (check["_beat"] or check["_since"]) + allowed:
            return "DOWN"
        return "UP" if check["_beat"] else "STARTED"

    def _answer(self, method: str, target: str, headers: Any, raw: bytes) -> Reply:
        """A heartbeat, which is no request to the API; else as usual."""
        if not target.startswith(HEARTBEATS):
            return super()._answer(method, target, headers, raw)
        with self.lock:
            found = [check for check in self.checks.values() if check["url"].endswith(target) and check["type"] == "HEARTBEAT"]
            for check in found:
                check["beats"] += 1
                check["_beat"] = self.clock()
        status = 200 if found else 404
        return Request(method, target, {}, status=status), status, {}, "OK" if found else "Not found", None

    def show(self, check: dict[str, Any]) -> dict[str, Any]:
        heartbeat = check["type"] == "HEARTBEAT"
        url = check["url"].rpartition("-")[2] if heartbeat and self.bare_addresses else check["url"]
        answer = {
            **{name: check[name] for name in PLAIN},
            "id": check["id"],
            "status": self.status(check),
            "friendlyName": html.escape(check["friendlyName"]),
            "url": html.escape(url),
            "tags": [{"id": 1 + sum(tag.encode()), "name": tag, "color": "#cccccc"} for tag in check["tagNames"]],
            "regionalData": check["regionData"],
            "responseTimeThreshold": 0,
            "config": check["config"],
            "maintenanceWindows": [],
            "psps": [],
            "sslBrand": None,
            "sslExpiryDateTime": None,
            "domainExpireDate": None,
            "currentStateDuration": int(self.clock() - check["_created"]),
            "lastIncidentId": None,
            "userId": 1,
            "lastDayUptimes": {"bucketSize": 0, "histogram": []},
            "createDateTime": stamp(check["_created"]),
            "apiKey": f"m{check['id']}-fake-monitor-key",
        }
        return {**answer, "httpUsername": check["httpUsername"]} if check["httpUsername"] else answer

    def target(self, check: dict[str, Any]) -> Target | None:
        if check["paused"] or check["type"] not in ("HTTP", "KEYWORD"):
            return None
        codes = [code.lower().replace("x", "") for code in check["successHttpResponseCodes"]]
        keyword = check["type"] == "KEYWORD"
        return Target(
            check["url"],
            check["interval"],
            min(check["timeout"] or 30, 10),
            "GET" if keyword else check["httpMethodType"],
            check["customHttpHeaders"],
            lambda status: any(str(status).startswith(code) for code in codes),
            check["keywordValue"] if keyword else "",
            check["keywordType"] == "ALERT_NOT_EXISTS",
            check["followRedirections"],
            check["checkSSLErrors"],
        )

    # ---- monitors ----------------------------------------------------------------------------------------------------

    def list_checks(self, query: dict[str, Any]) -> dict[str, Any]:
        statuses = {status.strip().upper() for status in query.get("status", "").split(",")} - {""}
        tags = set(query.get("tags", "").split(",")) - {""}
        cursor, name, url = query.get("cursor", 0), query.get("name", "").lower(), query.get("url", "").lower()
        limit = min(query.get("limit", 50), self.page_size or 200)
        matching = (
            check
            for key, check in self.seen().items()  # ids rise, so the order of making is the order of the cursor
            if key > cursor
            and name in check["friendlyName"].lower()
            and url in check["url"].lower()
            and (not tags or tags & set(check["tagNames"]))
            and (not statuses or self.show(check)["status"] in statuses)
        )
        found = list(islice(matching, limit + 1))
        page = found[:limit]
        more = f"{self.url}/monitors?limit={limit}&cursor={page[-1]['id']}" if len(found) > limit else None
        return {"data": [self.show(check) for check in page], "nextLink": more}

    def read_check(self, id: int, query: dict[str, Any]) -> dict[str, Any]:
        return self.show(self.need(self.seen(), id, "Monitor"))

    def create_check(self, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if len(self.checks) >= self.max_checks:
            raise Refused(403, f"Your plan allows {self.max_checks} monitors", code="MONITOR_LIMIT")
        self.refuse_duplicate(body["friendlyName"])
        self._check_plan(body)
        return self.show(self.checks[self.add_check(body)])

    def update_check(self, id: int, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        check = self.need(self.checks, id, "Monitor")
        self._check_plan(body)
        self.checks[id] = self.merge(check, body)
        return self.show(self.checks[id])

    def _check_plan(self, body: dict[str, Any]) -> None:
        if body.get("interval", self.min_interval) < self.min_interval:
            raise Refused(400, f"must not be less than {self.min_interval} on your plan", "interval")
        for contact in body.get("assignedAlertContacts", []):
            self.need(self.contacts, contact["alertContactId"], "Alert contact")
            if self.plan_name == "free" and (contact["threshold"] or contact["recurrence"]):
                raise Refused(400, "threshold and recurrence must be 0 on your plan", "assignedAlertContacts")

    def delete_check(self, id: int, query: dict[str, Any]) -> None:
        self.need(self.checks, id, "Monitor")
        del self.checks[id]

    def pause_check(self, id: int, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return self._run(id, True)

    def start_check(self, id: int, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return self._run(id, False)

    def _run(self, id: int, paused: bool) -> dict[str, Any]:
        check = self.need(self.checks, id, "Monitor")
        if check["paused"] and not paused:
            check |= {"_status": "new", "_beat": None, "_since": self.clock()}
            self._new.add(id)
        check["paused"] = paused
        return self.show(check)

    # ---- contacts ----------------------------------------------------------------------------------------------------

    def add_contact(self, name: str, integration: bool = False, **fields: Any) -> int:
        key = self.next_id()
        common = {
            "id": key,
            "friendlyName": name,
            "value": f"{key}@example.test",
            "customValue": None,
            "status": "Active",
            "enableNotificationsFor": "UpAndDown",
            "sslExpirationReminder": False,
            "customHeaders": None,
        }
        kind = (
            {"type": "Slack", "customValue2": None, "customValue3": None, "customValue4": None}
            if integration
            else {
                "type": "Email",
                "httpUsername": None,
                "httpPassword": None,
                "authType": None,
                "mobileProviderId": None,
                "orgAlertContactId": None,
                "config": None,
            }
        )
        with self.lock:
            self.contacts[key] = {**common, **kind, **fields, "_integration": integration}
        return key

    def _contacts(self, integration: bool) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in contact.items() if name != "_integration"}
            for contact in self.contacts.values()
            if contact["_integration"] == integration
        ]

    def _page(self, entries: list[dict[str, Any]], path: str, cursor: int) -> dict[str, Any]:
        rest = [entry for entry in entries if entry["id"] > cursor]
        limit = self.page_size or 50
        more = f"{self.url}{path}?cursor={rest[limit - 1]['id']}" if len(rest) > limit else None
        return {"data": rest[:limit], "nextLink": more}

    def list_alert_contacts(self, query: dict[str, Any]) -> dict[str, Any]:
        return self._page(self._contacts(False), "/alert-contacts", query.get("cursor", 0))

    def list_integrations(self, query: dict[str, Any]) -> dict[str, Any]:
        return self._page(self._contacts(True), "/integrations", query.get("cursor", 0))


def stamp(seconds: float) -> str:
    """Epoch seconds as the provider writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
