# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""StatusCake's API v1 (https://developers.statuscake.com/api). Private to this collection."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from .client import CheckError, LostReply
from .model import (
    Found,
    Provider,
    as_documented,
    check_choice,
    check_range,
    check_tags,
    check_url,
    kind_of,
    member,
    missing_is_gone,
    parsed,
    texts,
)

TITLE = "StatusCake"
API_URL = "https://api.statuscake.com/v1"
PAGE = 100  # the most that a page may hold
LISTINGS = 3  # tries to read a list that changes meanwhile
INTERVALS = [30, 60, 300, 900, 1800, 3600, 86400]
# A check with a body is of the type HTTP too.
METHODS = {"GET": "HTTP", "HEAD": "HEAD"}
LISTED = ("name", "url", "interval", "method", "contacts", "tags")
# Options that only change their name on the wire.
FIELDS = {
    "name": "name",
    "url": "website_url",
    "interval": "check_rate",
    "check_timeout": "timeout",
    "request_body": "post_raw",
    "http_username": "basic_username",
    "http_password": "basic_password",
    "keyword": "find_string",
    "keyword_in_headers": "include_header",
    "tls_alert": "enable_ssl_alert",
    "redirects": "follow_redirects",
    "final_url": "final_endpoint",
    "confirmations": "confirmation",
    "user_agent": "user_agent",
    "cookies": "use_jar",
}
LISTS = {"tags": "tags", "contacts": "contact_groups", "regions": "regions"}
# Options of the module beside those of every provider.
SPEC: dict[str, Any] = {
    "interval": {"type": "int", "choices": INTERVALS},
    "check_timeout": {"type": "int"},
    "method": {"type": "str", "choices": list(METHODS)},
    "keyword_in_headers": {"type": "bool", "no_log": False},
    "down_status_codes": {"type": "list", "elements": "str"},
    "contacts": {"type": "list", "elements": "str"},
    "regions": {"type": "list", "elements": "str"},
    "tls_alert": {"type": "bool"},
    "redirects": {"type": "bool"},
    "final_url": {"type": "str"},
    "confirmations": {"type": "int"},
    "trigger_delay": {"type": "int"},
    "user_agent": {"type": "str"},
    "cookies": {"type": "bool"},
}


def options_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return a check, as read one by one, in the words of the module's options. Texts that are empty are not told."""
    headers = parsed(body.get("custom_header") or "{}")
    return {
        "name": str(body.get("name", "")),
        "url": str(body.get("website_url", "")),
        "interval": body.get("check_rate"),
        "check_timeout": body.get("timeout"),
        "method": "HEAD" if body.get("test_type") == "HEAD" else "GET",
        "request_headers": headers if isinstance(headers, dict) else {},
        "request_body": body.get("post_raw") or "",
        "keyword": body.get("find_string") or "",
        "keyword_match": "not_contains" if body.get("do_not_find") else "contains",
        "keyword_in_headers": bool(body.get("include_header")),
        "down_status_codes": texts(body.get("status_codes")),
        "tags": texts(body.get("tags")),
        "contacts": texts(body.get("contact_groups")),
        "regions": sorted({str(server.get("region_code")) for server in body.get("servers") or []}),
        "tls_alert": bool(body.get("enable_ssl_alert")),
        "redirects": bool(body.get("follow_redirects")),
        "final_url": body.get("final_endpoint") or "",
        "confirmations": body.get("confirmation"),
        "trigger_delay": (body.get("trigger_rate") or 0) * 60,
        "user_agent": body.get("user_agent") or "",
        "cookies": bool(body.get("use_jar")),
    }


def fields_of(options: dict[str, Any]) -> list[tuple[str, str]]:
    """Return options as the fields of a form."""
    form: list[tuple[str, str]] = []
    for option, value in options.items():
        if option in FIELDS:
            form.append((FIELDS[option], str(value).lower() if isinstance(value, bool) else str(value)))
        elif option in LISTS:
            # A list is replaced as a whole; one empty element clears it.
            form += [(f"{LISTS[option]}[]", item) for item in sorted({str(item) for item in value}) or [""]]
        elif option == "keyword_match":
            form.append(("do_not_find", "true" if value == "not_contains" else "false"))
        elif option == "request_headers":
            form.append(("custom_header", json.dumps(value, ensure_ascii=False)))
        elif option == "down_status_codes":
            form.append(("status_codes_csv", ",".join(sorted({str(code) for code in value}))))
        elif option == "trigger_delay":
            form.append(("trigger_rate", str(value // 60)))
    return form


class StatusCake(Provider):
    """Uptime checks of the types HTTP and HEAD."""

    title = TITLE
    path = "/uptime"
    options = (
        "name", "url", "interval", "check_timeout", "method", "request_headers", "request_body", "http_username",
        "http_password", "keyword", "keyword_match", "keyword_in_headers", "down_status_codes", "tags", "contacts", "regions",
        "tls_alert", "redirects", "final_url", "confirmations", "trigger_delay", "user_agent", "cookies",
    )  # fmt: skip
    write_only = frozenset({"http_username", "http_password"})

    def check(self, options: dict[str, Any]) -> None:
        if options.get("url"):
            check_url(options["url"])
        check_choice("interval", options.get("interval"), INTERVALS, TITLE)
        check_range("check_timeout", options.get("check_timeout"), 5, 75, TITLE)
        check_range("confirmations", options.get("confirmations"), 0, 3, TITLE)
        check_range("trigger_delay", options.get("trigger_delay"), 0, 3600, TITLE)
        if (options.get("trigger_delay") or 0) % 60:
            raise CheckError(f"{TITLE} counts trigger_delay in minutes: give a multiple of 60")
        if options.get("method") == "HEAD" and (options.get("keyword") or options.get("request_body")):
            raise CheckError("A HEAD request has no body to send or to search for a keyword: set method to GET")
        if options.get("down_status_codes") == []:
            raise CheckError(f"{TITLE} can't clear down_status_codes: name at least one")
        check_tags(options.get("tags", []))

    def check_change(self, changes: dict[str, Any], found: Found) -> None:
        needs_body = [option for option in ("keyword", "request_body") if changes.get(option)]
        if needs_body and found.options["method"] == "HEAD" and "method" not in changes:
            raise CheckError(
                f"The check {found.name!r} (id {found.id}) asks by HEAD, which has no body for {needs_body[0]}:"
                " set method to GET, and recreate to true"
            )

    def fixed_among(self, changes: dict[str, Any], found: Found) -> set[str]:
        return set(changes) & {"method"}

    def parsed_check(self, body: dict[str, Any], whole: bool) -> Found:
        options = options_of(body)
        status = str(body.get("status"))
        return Found(
            id=member(body, "id", str, TITLE),
            name=options["name"],
            kind=kind_of(body.get("test_type"), METHODS.values()),
            status="paused" if body.get("paused") else status if status in ("up", "down") else "unknown",
            tags=options["tags"],
            options=options if whole else {option: options[option] for option in LISTED},
            whole=whole,
        )

    def pages(self, path: str, query: list[tuple[str, str]]) -> list[Any]:
        """Return the entries of all pages, read again from the start where they changed meanwhile."""
        for _listing in range(LISTINGS):
            entries: dict[Any, Any] = {}
            totals: set[int] = set()
            page = received = 0
            while True:
                page += 1
                where = [("page", str(page)), ("limit", str(PAGE))]
                body = self.client.request("GET", path, query=where + query, answer=dict)
                data = member(body, "data", list, TITLE)
                metadata = member(body, "metadata", dict, TITLE)
                received += len(data)
                entries.update({str(entry.get("id")) if isinstance(entry, dict) else received: entry for entry in data})
                totals.add(member(metadata, "total_count", int, TITLE))
                if not data or page >= member(metadata, "page_count", int, TITLE):
                    break
            # Another length from page to page, or an entry that is there twice: one may have been missed.
            if totals == {len(entries)}:
                return list(entries.values())
        raise CheckError(f"The list at {TITLE} ({path}) changed each time while it was read: run again when nobody edits it")

    def read_all(self, tag: str | None) -> list[Found]:
        query = [("nouptime", "true")] + ([("tags", tag)] if tag else [])
        return [self.found(entry, whole=False) for entry in self.pages("/uptime", query)]

    def read(self, check_id: Any) -> Found:
        with missing_is_gone():
            body = self.client.request("GET", f"/uptime/{quote(str(check_id), safe='')}", answer=dict)
        return self.found(body.get("data"))

    def create(self, options: dict[str, Any], paused: bool) -> Any:
        form = [("test_type", METHODS[options.get("method") or "GET"]), *fields_of(options)]
        if paused:
            form.append(("paused", "true"))
        answer = self.client.request("POST", "/uptime", form=form, answer=dict, create=True)
        data = answer.get("data")
        check_id = data.get("new_id") if isinstance(data, dict) else None
        if not isinstance(check_id, str):
            raise LostReply(TITLE, "POST /uptime", 201, "the answer has no new_id")
        return check_id

    def update(self, found: Found, changes: dict[str, Any], wanted: dict[str, Any], paused: bool | None) -> None:
        form = fields_of(changes)
        if paused is not None:
            form.append(("paused", "true" if paused else "false"))
        with missing_is_gone():
            self.client.request("PUT", f"/uptime/{quote(str(found.id), safe='')}", form=form)

    def contacts(self) -> list[dict[str, Any]]:
        """Contact groups."""
        entries = self.pages("/contact-groups", [])
        with as_documented(TITLE):
            return [
                {
                    "id": str(entry["id"]),
                    "name": str(entry["name"]),
                    "type": "contact_group",
                    "notifies": any(entry.get(way) for way in ("email_addresses", "mobile_numbers", "integrations", "ping_url")),
                }
                for entry in entries
            ]
