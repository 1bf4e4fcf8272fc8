# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""StatusCake API v1: forms in, JSON out, PUT of the changed fields answered 204, numbered pages, ids as texts."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from .core import Fake, Plan, Refused, Target

DEFAULTS: dict[str, Any] = {
    "basic_username": "",
    "basic_password": "",
    "confirmation": 2,
    "contact_groups": [],
    "custom_header": "",
    "do_not_find": False,
    "enable_ssl_alert": False,
    "final_endpoint": "",
    "find_string": "",
    "follow_redirects": False,
    "host": "",
    "include_header": False,
    "paused": False,
    "post_body": "",
    "post_raw": "",
    "regions": [],
    "status_codes_csv": ",".join(
        str(code)
        for code in (
            204,
            205,
            206,
            303,
            400,
            401,
            403,
            404,
            405,
            406,
            408,
            410,
            413,
            429,
            444,
            494,
            495,
            496,
            499,
            500,
            501,
            502,
            503,
            504,
            505,
            506,
            507,
            508,
            509,
            510,
            511,
            520,
            521,
            522,
            523,
            524,
            598,
            599,
        )
    ),
    "tags": [],
    "test_type": "HTTP",
    "timeout": 15,
    "trigger_rate": 0,
    "use_jar": False,
    "user_agent": "",
}
OVERVIEW = ("id", "name", "website_url", "test_type", "check_rate", "contact_groups", "paused", "tags")
DETAIL = (
    "confirmation",
    "do_not_find",
    "enable_ssl_alert",
    "follow_redirects",
    "include_header",
    "timeout",
    "trigger_rate",
    "use_jar",
)
# Omitted from answers while empty.
OPTIONAL = ("custom_header", "final_endpoint", "find_string", "host", "post_body", "post_raw", "user_agent")
REGIONS = {
    "london": "United Kingdom / London",
    "new-york": "United States / New York",
    "sydney": "Australia / Sydney",
    "tokyo": "Japan / Tokyo",
    "frankfurt": "Germany / Frankfurt",
}


class StatusCakeFake(Fake):
    """Quirks that clients must cope with: the list shows few fields, regions come back as servers, JSON texts are written
    again, user name and password never come back, `status_codes_csv` (the codes that count as down) comes back as a list
    whose default can't be set again, and a paused check still has a status."""

    provider = "statuscake"
    plans = {"free": Plan(10, 300, [(5, 1), (60, 60)]), "paid": Plan(20_000, 30, [(5, 1)])}

    def error(self, refused: Refused) -> Any:
        if refused.extra.get("denied"):
            return None
        errors: dict[str, list[str]] = {}
        for name, text in refused.problems:
            if name:
                errors.setdefault(name, []).append(text)
        if not errors:
            return {"message": str(refused)}
        return {
            "message": "The provided parameters are invalid. Check the errors output for details information.",
            "errors": errors,
        }

    def limit_headers(self, left: list[tuple[int, int, float]], refused: bool) -> dict[str, str]:
        rate, remaining, reset = min(left, key=lambda window: window[1])  # the window in force
        policy = ", ".join(f"{count};w={seconds}" for count, seconds in reversed(self.rates))
        return {
            "x-ratelimit-limit": f"{rate}, {policy}",
            "x-ratelimit-remaining": str(max(remaining, 0)),
            "x-ratelimit-reset": str(int(reset + 0.999)),
        }

    def key(self, number: int) -> str:
        return str(number)

    def neutral(self, name: str, url: str, interval: int, tags: list[str], paused: bool) -> dict[str, Any]:
        return {"name": name, "website_url": url, "check_rate": interval, "tags": tags, "paused": paused}

    def new_check(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self.merge(DEFAULTS, fields)

    def merge(self, check: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        """The check with the fields of a request taken over as the provider does."""
        fields = dict(fields)
        for name in ("custom_header", "post_body"):
            if fields.get(name):
                try:
                    fields[name] = json.dumps(json.loads(fields[name]), sort_keys=True, separators=(",", ":"))
                except ValueError as error:
                    raise Refused(400, f"must be JSON: {error}", name, off_contract=True) from error
        return {**check, **fields}

    def overview(self, check: dict[str, Any]) -> dict[str, Any]:
        return {**{name: check[name] for name in OVERVIEW}, "status": "down" if check["_status"] == "down" else "up"}

    def show(self, check: dict[str, Any]) -> dict[str, Any]:
        answer = {
            **self.overview(check),
            **{name: check[name] for name in DETAIL},
            "dns_ips": [],
            "processing": False,
            "uptime": 100.0,
            "servers": [location(code, 1) for code in check["regions"]],
            "status_codes": [code for code in check["status_codes_csv"].split(",") if code],
        }
        if check["_status"] != "new":
            answer["last_tested_at"] = stamp(self.clock())
        return {**answer, **{name: check[name] for name in OPTIONAL if check[name]}}

    def target(self, check: dict[str, Any]) -> Target | None:
        if check["paused"] or check["test_type"] not in ("HTTP", "HEAD"):
            return None
        headers = json.loads(check["custom_header"] or "{}")
        if check["basic_username"]:
            pair = f"{check['basic_username']}:{check['basic_password']}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        bad = check["status_codes_csv"].split(",")
        method = "HEAD" if check["test_type"] == "HEAD" else "POST" if check["post_body"] or check["post_raw"] else "GET"
        return Target(
            check["website_url"],
            max(check["check_rate"], 1),
            min(check["timeout"], 10),
            method,
            headers,
            lambda status: str(status) not in bad,
            check["find_string"],
            not check["do_not_find"],
            check["follow_redirects"],
            check["enable_ssl_alert"],
        )

    # ---- uptime checks -----------------------------------------------------------------------------------------------

    def list_checks(self, query: dict[str, Any]) -> dict[str, Any]:
        tags = set(query.get("tags", "").split(",")) - {""}
        match = any if query.get("matchany") else all
        found = [
            check
            for check in self.seen().values()
            if (not tags or match(tag in check["tags"] for tag in tags))
            and query.get("status") in (None, "down" if check["_status"] == "down" else "up")
        ]
        page = self._page(found, query)
        uptime = {} if query.get("nouptime") else {"uptime": 100.0}
        return {**page, "data": [{**self.overview(check), **uptime} for check in page["data"]]}

    def _page(self, entries: list[Any], query: dict[str, Any]) -> dict[str, Any]:
        number, limit = query.get("page", 1), min(query.get("limit", 25), self.page_size or 100)
        return {
            "data": entries[(number - 1) * limit : number * limit],
            "metadata": {"page": number, "per_page": limit, "page_count": -(-len(entries) // limit), "total_count": len(entries)},
        }

    def read_check(self, test_id: str, query: dict[str, Any]) -> dict[str, Any]:
        return {"data": self.show(self.need(self.seen(), test_id, "Uptime check"))}

    def create_check(self, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if len(self.checks) >= self.max_checks:
            raise Refused(403, f"Your plan allows {self.max_checks} uptime checks")
        self.refuse_duplicate(body["name"])
        self._check_plan(body)
        return {"data": {"new_id": self.add_check(body)}}

    def update_check(self, test_id: str, query: dict[str, Any], body: dict[str, Any]) -> None:
        check = self.need(self.checks, test_id, "Uptime check")
        self._check_plan(body)
        self.checks[test_id] = self.merge(check, body)
        if check["paused"] and not self.checks[test_id]["paused"]:
            self.checks[test_id]["_status"] = "new"
            self._new.add(test_id)

    def delete_check(self, test_id: str, query: dict[str, Any]) -> None:
        self.need(self.checks, test_id, "Uptime check")
        del self.checks[test_id]

    def _check_plan(self, body: dict[str, Any]) -> None:
        if body.get("check_rate", self.min_interval) < self.min_interval:
            raise Refused(400, f"must be at least {self.min_interval} on your plan", "check_rate")
        for key in body.get("contact_groups", []):
            if key not in self.contacts:
                raise Refused(400, f"contact group {key} does not exist", "contact_groups")
        for code in body.get("regions", []):
            if code not in REGIONS:
                raise Refused(400, f"{code} is not a region code", "regions")

    # ---- contact groups, maintenance windows --------------------------------------------------------------------------

    def add_contact(self, name: str, **fields: Any) -> str:
        key = self.key(self.next_id())
        with self.lock:
            self.contacts[key] = {
                "id": key,
                "name": name,
                "email_addresses": ["on-call@example.test"],
                "integrations": [],
                "mobile_numbers": [],
                **fields,
            }
        return key

    def list_contacts(self, query: dict[str, Any]) -> dict[str, Any]:
        return self._page(list(self.contacts.values()), query)

    def show_maintenance(self, window: dict[str, Any]) -> dict[str, Any]:
        now = self.clock()
        if now < seconds(window["start_at"]):
            state = "pending"
        elif now < seconds(window["end_at"]):
            state = "active"
        else:
            state = "paused" if window["repeat_interval"] == "never" else "pending"
        return {**window, "state": state}

    def list_maintenance(self, query: dict[str, Any]) -> dict[str, Any]:
        windows = [self.show_maintenance(window) for window in self.maintenance.values()]
        return self._page([window for window in windows if query.get("state") in (None, window["state"])], query)

    def create_maintenance(self, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        window = {"repeat_interval": "never", "tests": [], "tags": [], **body}
        self._check_maintenance(window)
        key = self.key(self.next_id())
        self.maintenance[key] = {**window, "id": key}
        return {"data": {"new_id": key}}

    def update_maintenance(self, window_id: str, query: dict[str, Any], body: dict[str, Any]) -> None:
        window = {**self.need(self.maintenance, window_id, "Maintenance window"), **body}
        self._check_maintenance(window)
        self.maintenance[window_id] = window

    def delete_maintenance(self, window_id: str, query: dict[str, Any]) -> None:
        self.need(self.maintenance, window_id, "Maintenance window")
        del self.maintenance[window_id]

    def _check_maintenance(self, window: dict[str, Any]) -> None:
        if seconds(window["end_at"]) <= seconds(window["start_at"]):
            raise Refused(400, "must be after start_at", "end_at")
        if not window["tests"] and not window["tags"]:
            raise Refused(400, "tests or tags must name something", "tests")
        for key in window["tests"]:
            if key not in self.checks:
                raise Refused(400, f"uptime check {key} does not exist", "tests")


def location(code: str, number: int) -> dict[str, Any]:
    """A monitoring server of a region."""
    index = list(REGIONS).index(code)
    return {
        "description": f"{REGIONS[code]} - {number}",
        "region": REGIONS[code],
        "region_code": code,
        "ipv4": f"198.51.100.{index * 10 + number}",
        "status": "up",
    }


def seconds(text: str) -> float:
    """Epoch seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def stamp(epoch: float) -> str:
    """Epoch seconds as the provider writes times."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
