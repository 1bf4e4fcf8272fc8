# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pingdom API 3.1: JSON, PUT of the changed fields, offset pages, answers shaped unlike the requests."""

from __future__ import annotations

import base64
from collections import Counter
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from .core import Fake, Plan, Refused, Target

DEFAULTS: dict[str, Any] = {
    "type": "http",
    "paused": False,
    "resolution": 5,
    "userids": "",
    "teamids": "",
    "integrationids": [],
    "sendnotificationwhendown": 2,
    "notifyagainevery": 0,
    "notifywhenbackup": True,
    "tags": [],
    "autotags": [],
    "probe_filters": [],
    "ipv6": False,
    "responsetime_threshold": 30000,
    "custom_message": "",
    "url": "/",
    "encryption": False,
    "port": None,
    "auth": "",
    "shouldcontain": "",
    "shouldnotcontain": "",
    "postdata": "",
    "headers": [],
    "verify_certificate": True,
    "ssl_down_days_before": 0,
}
PLAIN = ("name", "resolution", "ipv6")
DETAIL = ("sendnotificationwhendown", "notifyagainevery", "notifywhenbackup", "responsetime_threshold", "integrationids")
BOT = {"User-Agent": "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)"}


class PingdomFake(Fake):
    """Quirks that clients must cope with: create answers only id and name; `host` comes back as `hostname`, `paused` only
    as a status, `auth` split in two, tags as objects with automatic ones among them, filters with a space, headers as a
    map with a User-Agent that nobody set; empty texts are skipped; the list has no URL and tags only on request."""

    provider = "pingdom"
    plans = {
        "free": Plan(10, 60, [(400, 3600), (72_000, 2_592_000)]),
        "paid": Plan(20_000, 60, [(4000, 3600), (720_000, 2_592_000)]),
    }

    def error(self, refused: Refused) -> Any:
        return {
            "error": {"statuscode": refused.status, "statusdesc": HTTPStatus(refused.status).phrase, "errormessage": str(refused)}
        }

    def limit_headers(self, left: list[tuple[int, int, float]], refused: bool) -> dict[str, str]:
        return {
            name: f"Remaining: {max(remaining, 0)} Time until reset: {int(reset + 0.999)}"
            for name, (_, remaining, reset) in zip(("Req-Limit-Short", "Req-Limit-Long"), left, strict=False)
        }

    def neutral(self, name: str, url: str, interval: int, tags: list[str], paused: bool) -> dict[str, Any]:
        parts = urlsplit(url)
        fields = {
            "name": name,
            "host": parts.hostname,
            "url": (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            "encryption": parts.scheme == "https",
            "resolution": interval // 60,
            "tags": tags,
            "paused": paused,
        }
        return {**fields, "port": parts.port} if parts.port else fields

    def new_check(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self.merge(DEFAULTS, fields)

    def merge(self, check: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        """The check with the fields of a request taken over as the provider does."""
        fields = dict(fields)
        names = sorted(name for name in fields if name.startswith("requestheaders"))
        if names:
            fields["headers"] = [entry for name in names for entry in fields.pop(name)]
        # The two exclude each other: the one that is given, even empty, takes the place of both.
        if "shouldcontain" in fields or "shouldnotcontain" in fields:
            fields = {"shouldcontain": "", "shouldnotcontain": "", **fields}
        if "encryption" in fields and fields["encryption"] != check["encryption"] and "port" not in fields:
            fields["port"] = None
        if fields.get("url") == "":
            fields["url"] = "/"
        return {**check, **fields}

    def status(self, check: dict[str, Any]) -> str:
        return "paused" if check["paused"] else "unknown" if check["_status"] == "new" else check["_status"]

    def show_tags(self, check: dict[str, Any], uses: Counter[str]) -> list[dict[str, Any]]:
        tags = [{"name": tag, "type": "u", "count": uses[tag]} for tag in check["tags"]]
        tags += [{"name": tag, "type": "a", "count": 1} for tag in check["autotags"]]
        return sorted(tags, key=lambda tag: (-tag["count"], tag["name"]))

    def uses(self) -> Counter[str]:
        return Counter(tag for check in self.checks.values() for tag in check["tags"])

    def overview(self, check: dict[str, Any]) -> dict[str, Any]:
        answer = {
            **{name: check[name] for name in PLAIN},
            "id": check["id"],
            "hostname": check["host"],
            "created": int(check["_created"]),
            "status": self.status(check),
            "type": check["type"],
        }
        return answer if check["_status"] == "new" else {**answer, "lasttesttime": int(self.clock()), "lastresponsetime": 87}

    def show(self, check: dict[str, Any]) -> dict[str, Any]:
        answer = {
            **self.overview(check),
            **{name: check[name] for name in DETAIL},
            "tags": self.show_tags(check, self.uses()),
            "probe_filters": [f"region: {entry.partition(':')[2].strip()}" for entry in check["probe_filters"]],
            "userids": numbers(check["userids"]),
        }
        if check["custom_message"]:
            answer["custom_message"] = check["custom_message"]
        answer["type"] = {check["type"]: self.show_http(check) if check["type"] == "http" else {"port": check["port"] or 80}}
        return answer

    def show_http(self, check: dict[str, Any]) -> dict[str, Any]:
        pairs = [entry.partition(":") for entry in check["headers"]]
        headers = {**BOT, **{name.strip(): value.strip() for name, _, value in pairs}}
        user, _, password = check["auth"].partition(":")
        answer = {
            "url": check["url"],
            "encryption": check["encryption"],
            "port": check["port"] or (443 if check["encryption"] else 80),
            "requestheaders": headers,
            "verify_certificate": check["verify_certificate"],
        }
        optional = {
            "username": user,
            "password": password,
            "shouldcontain": check["shouldcontain"],
            "shouldnotcontain": check["shouldnotcontain"],
            "postdata": check["postdata"],
            "ssl_down_days_before": check["ssl_down_days_before"] if check["verify_certificate"] else 0,
        }
        return {**answer, **{name: value for name, value in optional.items() if value}}

    def target(self, check: dict[str, Any]) -> Target | None:
        if check["paused"] or check["type"] != "http":
            return None
        http = self.show_http(check)
        headers = dict(http["requestheaders"])
        if check["auth"]:
            headers["Authorization"] = "Basic " + base64.b64encode(check["auth"].encode()).decode()
        url = f"{'https' if http['encryption'] else 'http'}://{check['host']}:{http['port']}{check['url']}"
        return Target(
            url,
            check["resolution"] * 60,
            min(check["responsetime_threshold"] / 1000, 10),
            "POST" if check["postdata"] else "GET",
            headers,
            keyword=check["shouldcontain"] or check["shouldnotcontain"],
            keyword_expected=bool(check["shouldcontain"]),
            verify=check["verify_certificate"],
        )

    # ---- checks ------------------------------------------------------------------------------------------------------

    def list_checks(self, query: dict[str, Any]) -> dict[str, Any]:
        if "offset" in query and "limit" not in query:
            raise Refused(400, "requires limit", "offset")
        tags = set(query.get("tags", "").split(",")) - {""}
        found = [check for check in self.seen().values() if not tags or tags & {*check["tags"], *check["autotags"]}]
        start, limit = query.get("offset", 0), min(query.get("limit", 25_000), self.page_size or 25_000)
        page = found[start : start + limit]
        uses = self.uses() if query.get("include_tags") else Counter()
        return {
            "checks": [
                {**self.overview(check), **({"tags": self.show_tags(check, uses)} if query.get("include_tags") else {})}
                for check in page
            ],
            "counts": {"total": len(self.seen()), "limited": len(page), "filtered": len(found)},
        }

    def read_check(self, checkid: int, query: dict[str, Any]) -> dict[str, Any]:
        check = self.need(self.seen(), checkid, "Check")
        answer = self.show(check)
        if query.get("include_teams"):
            answer["teams"] = [{"id": key, "name": self.contacts[key]["name"]} for key in numbers(check["teamids"])]
        return {"check": answer}

    def create_check(self, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if len(self.checks) >= self.max_checks:
            raise Refused(403, f"You have no more available checks: your plan allows {self.max_checks}")
        self.refuse_duplicate(body["name"])
        self._check_plan(body)
        return {"check": {"id": self.add_check(body), "name": body["name"]}}

    def update_check(self, checkid: int, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        check = self.need(self.checks, checkid, "Check")
        self._check_plan(body)
        self.checks[checkid] = self.merge(check, body)
        if check["paused"] and not self.checks[checkid]["paused"]:
            self.checks[checkid]["_status"] = "new"
            self._new.add(checkid)
        return {"message": "Modification of check was successful!"}

    def delete_check(self, checkid: int, query: dict[str, Any]) -> dict[str, Any]:
        self.need(self.checks, checkid, "Check")
        del self.checks[checkid]
        return {"message": "Deletion of check was successful!"}

    def _check_plan(self, body: dict[str, Any]) -> None:
        if body.get("resolution", self.min_interval) * 60 < self.min_interval:
            raise Refused(403, f"must be at least {self.min_interval // 60} on your plan", "resolution")
        if self.plan_name == "free" and "responsetime_threshold" in body:
            raise Refused(403, "is not available on your plan", "responsetime_threshold")
        for name, team in (("userids", False), ("teamids", True)):
            for key in numbers(body.get(name, "")):
                if self.contacts.get(key, {}).get("_team") is not team:
                    raise Refused(400, f"{key} does not exist", name)

    # ---- contacts, maintenance windows -------------------------------------------------------------------------------

    def add_contact(self, name: str, team: bool = False, **fields: Any) -> int:
        key = self.next_id()
        kind: dict[str, Any] = (
            {"members": [{"id": 1, "name": "Somebody", "type": "user"}]}
            if team
            else {"paused": False, "type": "contact", "owner": False, "teams": []}
        )
        with self.lock:
            self.contacts[key] = {"id": key, "name": name, **kind, **fields, "_team": team}
        return key

    def _contacts(self, team: bool) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in contact.items() if name != "_team"}
            for contact in self.contacts.values()
            if contact["_team"] is team
        ]

    def list_contacts(self, query: dict[str, Any]) -> dict[str, Any]:
        return {"contacts": self._contacts(False)}

    def list_teams(self, query: dict[str, Any]) -> dict[str, Any]:
        return {"teams": self._contacts(True)}

    def show_maintenance(self, window: dict[str, Any]) -> dict[str, Any]:
        answer = {name: value for name, value in window.items() if name != "uptimeids"}
        return {**answer, "checks": {"uptime": window["uptimeids"], "tms": []}}

    def list_maintenance(self, query: dict[str, Any]) -> dict[str, Any]:
        windows = sorted(
            self.maintenance.values(), key=lambda window: window[query.get("orderby", "id")], reverse=query.get("order") == "desc"
        )
        start = query.get("offset", 0)
        limit = min(query.get("limit", 25_000), self.page_size or 25_000)
        return {"maintenance": [self.show_maintenance(window) for window in windows[start : start + limit]]}

    def create_maintenance(self, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        key = self.next_id()
        window = {"recurrencetype": "none", "repeatevery": 0, "uptimeids": [], **self._times(body, {})}
        self.maintenance[key] = {"effectiveto": window["to"], **window, "id": key}
        return {"maintenance": {"id": key}}

    def update_maintenance(self, id: int, query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        window = self.need(self.maintenance, id, "Maintenance")
        window.update(self._times(body, window))
        if window["recurrencetype"] == "none":
            window["effectiveto"] = window["to"]
        return {"message": "Maintenance window successfully modified!"}

    def _times(self, body: dict[str, Any], window: dict[str, Any]) -> dict[str, Any]:
        """The body with 1 replaced by the present second; only the future may be set, but what is may stay."""
        now = int(self.clock())
        body = {**body, **{name: now for name in ("from", "to", "effectiveto") if body.get(name) == 1}}
        for name in ("from", "to", "effectiveto"):
            if name in body and body[name] < now and body[name] != window.get(name):
                raise Refused(400, "must not be in the past", name)
        after = {**window, **body}
        if after["to"] < after["from"]:
            raise Refused(400, "must not be before from", "to")
        for key in body.get("uptimeids", []):
            if key not in self.checks:
                raise Refused(400, f"check {key} does not exist", "uptimeids")
        return body


def numbers(text: str) -> list[int]:
    """Comma-separated ids as numbers."""
    return [int(part) for part in text.split(",") if part]
