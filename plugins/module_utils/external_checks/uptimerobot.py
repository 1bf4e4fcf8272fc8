# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UptimeRobot's API v3 (https://uptimerobot.com/api/v3). Private to this collection."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .client import (
    CheckError,
    LostReply,
    ProviderError,
)
from .model import (
    HIDDEN,
    Found,
    Gone,
    Provider,
    already,
    as_documented,
    check_choice,
    check_range,
    check_tags,
    check_url,
    kind_of,
    member,
    missing_is_gone,
    parsed,
)

TITLE = "UptimeRobot"
API_URL = "https://api.uptimerobot.com/v3"
PAGE = 200  # the most that a page may hold
METHODS = ["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Which of them send no body, and which bring none back; the first is UptimeRobot's default.
BODILESS = ("HEAD", "GET")
BLIND = ("HEAD",)
REGIONS = ["na", "eu", "as", "oc"]
STATUS_CODES = ["2xx", "3xx"]  # UptimeRobot's own, which an empty list brings back
STATUS = {"UP": "up", "DOWN": "down", "LOOKS_DOWN": "down", "PAUSED": "paused"}
# A contact's state is not in the API's description; these are its words for one that is paused or was never activated.
OFF = re.compile(r"(?i)paused|inactive|not.?activated")
NOT_OF_DOWN = ("None", "Up")
KEYWORD_TYPES = {"not_contains": "ALERT_EXISTS", "contains": "ALERT_NOT_EXISTS"}
IP_VERSIONS = {"ipv4": "ipv4Only", "ipv6": "ipv6Only"}
# Options that only change their name on the wire.
FIELDS = {
    "name": "friendlyName",
    "url": "url",
    "interval": "interval",
    "grace_period": "gracePeriod",
    "check_timeout": "timeout",
    "method": "httpMethodType",
    "request_headers": "customHttpHeaders",
    "expected_status_codes": "successHttpResponseCodes",
    "tags": "tagNames",
    "verify_certificate": "checkSSLErrors",
    "domain_expiry_reminder": "domainExpirationReminder",
    "redirects": "followRedirections",
    "http_password": "httpPassword",
}
CONTACTS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "contact": {"type": "str", "required": True},
        "delay": {"type": "int", "default": 0},
        "repeat": {"type": "int", "default": 0},
    },
}
# Options of the module beside those of every provider.
SPEC: dict[str, Any] = {
    "check_timeout": {"type": "int"},
    "method": {"type": "str", "choices": METHODS},
    "keyword_case_sensitive": {"type": "bool", "no_log": False},
    "expected_status_codes": {"type": "list", "elements": "str"},
    "contacts": CONTACTS,
    "regions": {"type": "list", "elements": "str", "choices": REGIONS},
    "tls_expiry_days": {"type": "list", "elements": "int"},
    "verify_certificate": {"type": "bool"},
    "domain_expiry_reminder": {"type": "bool"},
    "redirects": {"type": "bool"},
    "ip_version": {"type": "str", "choices": list(IP_VERSIONS)},
}


def shared_options_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return what monitors of every type have, in the words of the modules' options."""
    return {
        # Names and addresses come back with HTML's escapes.
        "name": unescape(str(body.get("friendlyName", ""))),
        "interval": body.get("interval"),
        "tags": [tag["name"] for tag in body.get("tags") or []],
        "contacts": [
            {"contact": str(item["alertContactId"]), "delay": item["threshold"] * 60, "repeat": item["recurrence"] * 60}
            for item in body.get("assignedAlertContacts") or []
        ],
    }


def options_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return a monitor in the words of the module's options."""
    config = body.get("config") or {}
    is_keyword = str(body.get("type", "")).upper() == "KEYWORD"
    keyword_types = {value: key for key, value in KEYWORD_TYPES.items()}
    regional = body.get("regionalData") or {}
    return {
        **shared_options_of(body),
        # Whoever knows the address of a heartbeat can send one.
        "url": HIDDEN if body.get("type") == "HEARTBEAT" else unescape(str(body.get("url", ""))),
        "check_timeout": body.get("timeout"),
        "method": body.get("httpMethodType") or "HEAD",
        "request_headers": body.get("customHttpHeaders") or {},
        "request_body": body.get("postValueData") or "",
        "http_username": (body.get("httpUsername") or "") if body.get("authType") not in (None, "NONE") else "",
        "keyword": (body.get("keywordValue") or "") if is_keyword else "",
        "keyword_match": keyword_types.get(str(body.get("keywordType")), "contains"),
        # 0 and 1 in answers and updates, words in creates.
        "keyword_case_sensitive": body.get("keywordCaseType") in (0, "0", "CaseSensitive"),
        "expected_status_codes": body.get("successHttpResponseCodes") or [],
        "regions": regional.get("REGION") or [] if isinstance(regional, dict) else [regional],
        "tls_expiry_days": (config.get("sslExpirationPeriodDays") or []) if body.get("sslExpirationReminder") else [],
        "verify_certificate": bool(body.get("checkSSLErrors")),
        "domain_expiry_reminder": bool(body.get("domainExpirationReminder")),
        "redirects": bool(body.get("followRedirections")),
        "ip_version": {value: key for key, value in IP_VERSIONS.items()}.get(config.get("ipVersion", "")),
    }


def fitting_method(options: dict[str, Any]) -> str | None:
    """Return the method of the options, or one in its place that sends their body and can find their keyword."""
    method: str | None = options.get("method")
    if options.get("request_body") and (method or "HEAD") in BODILESS:
        return "POST"
    return "GET" if options.get("keyword") and (method or "HEAD") in BLIND else method


def fields_of(options: dict[str, Any], create: bool) -> dict[str, Any]:
    """Return options as the fields of a monitor."""
    body = {FIELDS[option]: value for option, value in options.items() if option in FIELDS}
    config: dict[str, Any] = {}
    if options.get("request_body"):
        body["postValueData"], body["postValueType"] = parsed(options["request_body"]), "RAW_JSON"
    if "http_username" in options:
        body["authType"] = "HTTP_BASIC" if options["http_username"] else "NONE"
        body["httpUsername"] = options["http_username"]
    if options.get("keyword"):
        body["keywordValue"] = options["keyword"]
    if "keyword_match" in options:
        body["keywordType"] = KEYWORD_TYPES[options["keyword_match"]]
    if "keyword_case_sensitive" in options:
        sensitive = options["keyword_case_sensitive"]
        body["keywordCaseType"] = ("CaseSensitive" if sensitive else "CaseInsensitive") if create else (0 if sensitive else 1)
    if "contacts" in options:
        body["assignedAlertContacts"] = [
            {"alertContactId": int(item["contact"]), "threshold": item["delay"] // 60, "recurrence": item["repeat"] // 60}
            for item in options["contacts"]
        ]
    if "regions" in options:
        body["regionData"] = {"REGION": sorted(options["regions"]), "MANUAL_SELECTED": True}
    if "tls_expiry_days" in options:
        body["sslExpirationReminder"] = bool(options["tls_expiry_days"])
        if options["tls_expiry_days"]:
            config["sslExpirationPeriodDays"] = sorted(options["tls_expiry_days"])
    if options.get("ip_version"):
        config["ipVersion"] = IP_VERSIONS[options["ip_version"]]
    if config:
        body["config"] = config  # merged by UptimeRobot with what is there
    return body


class Monitors(Provider):
    """Monitors of some types, and what the API has for those of all."""

    title = TITLE
    path = "/monitors"
    settle = 60
    lags = True
    types: tuple[str, ...] = ()  # those that are managed

    def check_shared(self, options: dict[str, Any]) -> None:
        """Refuse what no monitor can have, whatever its type."""
        check_tags(options.get("tags", []))
        for item in options.get("contacts", []):
            if item["delay"] % 60 or item["repeat"] % 60 or item["delay"] < 0 or item["repeat"] < 0:
                raise CheckError(f"{TITLE} counts in minutes: make delay and repeat of contact {item['contact']} multiples of 60")

    def normal(self, option: str, value: Any) -> Any:
        if option in ("name", "url"):
            return super().normal(option, unescape(value))
        if option == "tags":
            return sorted({str(tag).lower() for tag in value})
        if option == "contacts":
            named = [{"contact": str(item["contact"]), "delay": item["delay"], "repeat": item["repeat"]} for item in value]
            return sorted(named, key=lambda item: tuple(item.values()))
        return super().normal(option, value)

    def resolve(self, option: str, names: Sequence[Any], directory: list[dict[str, Any]]) -> list[Any]:
        ids: list[str] = super().resolve(option, [item["contact"] for item in names], directory)
        return [{**item, "contact": contact} for item, contact in zip(names, ids, strict=True)]

    def parsed_monitor(self, body: dict[str, Any], options: dict[str, Any], extra: dict[str, Any]) -> Found:
        """Return a monitor of the list, all of which is in it."""
        return Found(
            id=member(body, "id", int, TITLE),
            name=options["name"],
            kind=kind_of(body.get("type"), self.types),
            status=STATUS.get(str(body.get("status", "")).upper(), "unknown"),
            tags=[str(tag).lower() for tag in options["tags"]],
            options=options,
            whole=True,
            extra=extra,
        )

    def _pages(self, path: str, query: list[tuple[str, str]]) -> list[Any]:
        """Return the entries of all pages; each page names the cursor of the next one."""
        entries: list[Any] = []
        cursors: set[str] = set()
        more: list[tuple[str, str]] = []
        while True:
            body = self.client.request("GET", path, query=query + more, answer=dict)
            entries += member(body, "data", list, TITLE)
            link = body.get("nextLink")
            if not link:
                return entries
            cursor = parse_qs(urlsplit(str(link)).query).get("cursor", [""])[0]
            if not cursor or cursor in cursors:
                raise CheckError(f"{TITLE} gave a list at {path} whose pages don't end: run again")
            cursors.add(cursor)
            more = [("cursor", cursor)]

    def read_all(self, tag: str | None) -> list[Found]:
        query = [("limit", str(PAGE))] + ([("tags", tag)] if tag else [])
        # A monitor that moved between two pages while they were read is there twice.
        return list({found.id: found for found in map(self.found, self._pages("/monitors", query))}.values())

    def read(self, check_id: Any) -> Found:
        try:
            return self.found(self.client.request("GET", f"/monitors/{check_id}", answer=dict))
        except ProviderError as exc:
            if exc.status in (404, 410):
                raise Gone from exc
            if exc.status < 500:
                raise
            # Some old monitors can't be read one by one, but the list has them.
            for found in self.read_all(None):
                if str(found.id) == str(check_id):
                    return found
            raise

    def create_monitor(self, body: dict[str, Any], paused: bool) -> Any:
        """Create a monitor and return its id."""
        answer = self.client.request("POST", "/monitors", json_body=body, answer=dict, create=True)
        check_id = answer.get("id")
        if not isinstance(check_id, int):
            raise LostReply(TITLE, "POST /monitors", 201, "the answer has no id")
        if paused:
            with already("create"):
                self._run(check_id, paused=True)
        return check_id

    def update_monitor(self, found: Found, body: dict[str, Any], paused: bool | None) -> None:
        """Send the fields that change, if any; paused is None where the run state stays."""
        with missing_is_gone():
            if body:
                self.client.request("PATCH", f"/monitors/{found.id}", json_body=body, answer=dict)
            if paused is not None:
                with already("update") if body else contextlib.nullcontext():
                    self._run(found.id, paused)

    def _run(self, check_id: Any, paused: bool) -> None:
        # Repeating it does no harm: both calls are idempotent.
        self.client.request("POST", f"/monitors/{check_id}/{'pause' if paused else 'start'}", json_body={})

    def contacts(self) -> list[dict[str, Any]]:
        """Alert contacts and integrations, which share one series of ids."""
        entries = self._pages("/alert-contacts", []) + self._pages("/integrations", [])
        with as_documented(TITLE):
            return [
                {
                    "id": str(entry["id"]),
                    "name": unescape(entry.get("friendlyName") or entry.get("value") or ""),
                    "type": str(entry.get("type")),
                    "notifies": entry.get("enableNotificationsFor") not in NOT_OF_DOWN
                    and not OFF.match(str(entry.get("status"))),
                }
                for entry in entries
            ]


class UptimeRobot(Monitors):
    """Monitors of the types HTTP and KEYWORD."""

    types = ("HTTP", "KEYWORD")
    options = (
        "name", "url", "interval", "check_timeout", "method", "request_headers", "request_body", "http_username",
        "http_password", "keyword", "keyword_match", "keyword_case_sensitive", "expected_status_codes", "tags", "contacts",
        "regions", "tls_expiry_days", "verify_certificate", "domain_expiry_reminder", "redirects", "ip_version",
    )  # fmt: skip
    write_only = frozenset({"http_password"})

    def check(self, options: dict[str, Any]) -> None:
        if options.get("url"):
            check_url(options["url"])
        check_range("interval", options.get("interval"), 30, 86400, TITLE)
        check_range("check_timeout", options.get("check_timeout"), 0, 60, TITLE)
        for region in options.get("regions", []):
            check_choice("region", region, REGIONS, TITLE)
        if options.get("regions") == []:
            raise CheckError(f"{TITLE} can't do without a region: name one of {', '.join(REGIONS)}")
        for days in options.get("tls_expiry_days", []):
            check_range("tls_expiry_days", days, 0, 365, TITLE)
        if len(options.get("tls_expiry_days", [])) > 10:
            raise CheckError(f"{TITLE} takes at most 10 tls_expiry_days: name fewer")
        if len(options.get("keyword") or "") > 500:
            raise CheckError(f"{TITLE} takes a keyword of at most 500 characters: shorten it")
        method = options.get("method")
        if options.get("request_body") and method in BODILESS:
            raise CheckError(f"A {method} request sends no request_body: set method to POST, or leave it out")
        if options.get("keyword") and method in BLIND:
            raise CheckError(f"An answer to {method} has no body that could hold the keyword: set method to GET, or leave it out")
        if "request_body" in options and not isinstance(parsed(options["request_body"]), dict):
            raise CheckError(f"{TITLE} takes only a JSON object as request_body: write it as one")
        self.check_shared(options)

    def normal(self, option: str, value: Any) -> Any:
        if option == "keyword":
            return value.strip()
        if option == "tls_expiry_days":
            return sorted(set(value))
        if option == "expected_status_codes":
            return super().normal(option, [str(code).lower() for code in value or STATUS_CODES])
        if option == "request_headers":
            # UptimeRobot adds this one by itself to checks with a body.
            return {name: text for name, text in super().normal(option, value).items() if name != "content-type"}
        return super().normal(option, value)

    def completed(self, options: dict[str, Any], kept: dict[str, Any] | None = None) -> dict[str, Any]:
        full = {"check_timeout": 30, **super().completed(options, kept)}
        if options.get("method") in BODILESS:
            full.pop("request_body", None)
        method = fitting_method(full)
        if method:
            full["method"] = method
        if full.get("keyword"):
            return {"keyword_match": "contains", "keyword_case_sensitive": False, **full}
        return {name: value for name, value in full.items() if not name.startswith("keyword")}

    def implied(self, options: dict[str, Any], found: Found) -> dict[str, Any]:
        present = found.options["method"]
        method = fitting_method({"method": present, **options})
        return {"method": method} if "method" not in options and method != present else {}

    def check_change(self, changes: dict[str, Any], found: Found) -> None:
        method = changes.get("method")
        if method in BLIND and changes.get("keyword", found.options["keyword"]):
            raise CheckError(f"An answer to {method} has no body that could hold the monitor's keyword: set method to GET")

    def fixed_among(self, changes: dict[str, Any], found: Found) -> set[str]:
        # With and without a keyword are two types of monitor.
        return {"keyword"} if "keyword" in changes and bool(changes["keyword"]) != bool(found.options["keyword"]) else set()

    def parsed_check(self, body: dict[str, Any], whole: bool) -> Found:
        regional = body.get("regionalData")
        extra = {"THRESHOLD": dict(regional.get("THRESHOLD") or {})} if isinstance(regional, dict) else {}
        return self.parsed_monitor(body, options_of(body), extra)

    def create(self, options: dict[str, Any], paused: bool) -> Any:
        kind = "KEYWORD" if options.get("keyword") else "HTTP"
        return self.create_monitor({"type": kind, **fields_of(options, create=True)}, paused)

    def update(self, found: Found, changes: dict[str, Any], wanted: dict[str, Any], paused: bool | None) -> None:
        body = fields_of(changes, create=False)
        if "regionData" in body:
            kept = {region: ms for region, ms in found.extra.get("THRESHOLD", {}).items() if region in changes["regions"]}
            body["regionData"].update({"THRESHOLD": kept} if kept else {})
        if "http_username" in changes and wanted.get("http_password"):
            body["httpPassword"] = wanted["http_password"]
        self.update_monitor(found, body, paused)
