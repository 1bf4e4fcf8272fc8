# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pingdom's API 3.1 (https://docs.pingdom.com/api). Private to this collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .client import CheckError, LostReply
from .model import (
    DEFAULT_PORTS,
    Found,
    Provider,
    as_documented,
    canonical_url,
    check_choice,
    check_range,
    check_tags,
    check_url,
    kind_of,
    member,
    missing_is_gone,
)

TITLE = "Pingdom"
API_URL = "https://api.pingdom.com/api/3.1"
PAGE = 25000  # the most that a page may hold
LISTINGS = 3  # tries to read a list that changes meanwhile
INTERVALS = [60, 300, 900, 1800, 3600]
REGIONS = ["NA", "EU", "APAC", "LATAM"]
STATUS = {"up": "up", "down": "down", "unconfirmed_down": "down", "paused": "paused"}
# Options that only change their name on the wire.
FIELDS = {
    "name": "name",
    "tags": "tags",
    "request_body": "postdata",
    "verify_certificate": "verify_certificate",
    "tls_expiry_days": "ssl_down_days_before",
    "ipv6": "ipv6",
    "alert_after": "sendnotificationwhendown",
    "alert_again_every": "notifyagainevery",
    "alert_when_up": "notifywhenbackup",
    "alert_message": "custom_message",
}
# Options of the module beside those of every provider.
SPEC: dict[str, Any] = {
    "interval": {"type": "int", "choices": INTERVALS},
    "check_timeout": {"type": "int"},
    "contacts": {"type": "list", "elements": "str"},
    "teams": {"type": "list", "elements": "str"},
    "integrations": {"type": "list", "elements": "str"},
    "regions": {"type": "list", "elements": "str", "choices": REGIONS},
    "verify_certificate": {"type": "bool"},
    "tls_expiry_days": {"type": "int"},
    "ipv6": {"type": "bool"},
    "alert_after": {"type": "int"},
    "alert_again_every": {"type": "int"},
    "alert_when_up": {"type": "bool"},
    "alert_message": {"type": "str"},
}


def user_tags(body: dict[str, Any]) -> list[str]:
    """Tags that a user gave; Pingdom adds others of type a by itself."""
    return [str(tag.get("name")) for tag in body.get("tags") or [] if tag.get("type") != "a"]


def options_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return a check, as read one by one, in the words of the module's options."""
    kind = body.get("type")
    http = kind.get("http") or {} if isinstance(kind, dict) else {}
    scheme = "https" if http.get("encryption") else "http"
    port = http.get("port") or DEFAULT_PORTS[scheme]
    host = str(body.get("hostname", ""))
    path = str(http.get("url") or "/")
    limit = body.get("responsetime_threshold")
    headers = http.get("requestheaders") or {}
    if not isinstance(headers, dict):
        headers = dict(line.split(":", 1) for line in headers)
    return {
        "name": str(body.get("name", "")),
        "url": canonical_url(
            f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path if path.startswith('/') else '/' + path}"
        ),
        "interval": (body.get("resolution") or 0) * 60,
        "check_timeout": limit / 1000 if isinstance(limit, int) and not isinstance(limit, bool) else None,
        "request_headers": headers,
        "request_body": http.get("postdata") or "",
        "http_username": http.get("username") or "",
        "http_password": http.get("password") or "",
        "keyword": http.get("shouldcontain") or http.get("shouldnotcontain") or "",
        "keyword_match": "not_contains" if http.get("shouldnotcontain") else "contains",
        "tags": user_tags(body),
        "contacts": [str(user) for user in body.get("userids") or []],
        "teams": [str(team.get("id")) for team in body.get("teams") or []],
        "integrations": [str(item) for item in body.get("integrationids") or []],
        "regions": [str(item).replace(" ", "").removeprefix("region:") for item in body.get("probe_filters") or []],
        "verify_certificate": bool(http.get("verify_certificate", True)),
        # Told only when it is 1 or more.
        "tls_expiry_days": http.get("ssl_down_days_before") or 0,
        "ipv6": bool(body.get("ipv6")),
        "alert_after": body.get("sendnotificationwhendown"),
        "alert_again_every": body.get("notifyagainevery"),
        "alert_when_up": body.get("notifywhenbackup"),
        "alert_message": body.get("custom_message") or "",
    }


def fields_of(options: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return options as the fields of a check; wanted has what goes together with a changed option."""
    body = {FIELDS[option]: value for option, value in options.items() if option in FIELDS}
    if "url" in options:
        parts = urlsplit(options["url"])
        body["host"] = parts.hostname
        body["encryption"] = parts.scheme == "https"
        body["port"] = parts.port or DEFAULT_PORTS[parts.scheme]
        body["url"] = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if "interval" in options:
        body["resolution"] = options["interval"] // 60
    if "check_timeout" in options:
        body["responsetime_threshold"] = options["check_timeout"] * 1000
    if "request_headers" in options:
        # One header a field: requestheaders, requestheaders1, requestheaders2; an empty first one clears.
        lines = [f"{name}:{value}" for name, value in options["request_headers"].items()]
        body["requestheaders"] = lines[:1]
        body.update({f"requestheaders{index}": [line] for index, line in enumerate(lines[1:], 1)})
    if "http_username" in options or "http_password" in options:
        user, password = wanted.get("http_username") or "", wanted.get("http_password") or ""
        body["auth"] = f"{user}:{password}" if user else ""
    if "keyword" in options or "keyword_match" in options:
        # One of the two must be sent, and an empty one clears.
        field = "shouldnotcontain" if wanted.get("keyword_match") == "not_contains" else "shouldcontain"
        body[field] = wanted.get("keyword") or ""
    for option, field in (("contacts", "userids"), ("teams", "teamids")):
        if option in options:
            body[field] = ",".join(sorted({str(item) for item in options[option]}))
    if "integrations" in options:
        body["integrationids"] = sorted({int(item) for item in options["integrations"]})
    if "regions" in options:
        body["probe_filters"] = [f"region:{region}" for region in sorted(options["regions"])]
    return body


class Pingdom(Provider):
    """Uptime checks of the type http."""

    title = TITLE
    path = "/checks"
    options = (
        "name", "url", "interval", "check_timeout", "request_headers", "request_body", "http_username", "http_password",
        "keyword", "keyword_match", "tags", "contacts", "teams", "integrations", "regions", "verify_certificate",
        "tls_expiry_days", "ipv6", "alert_after", "alert_again_every", "alert_when_up", "alert_message",
    )  # fmt: skip

    def check(self, options: dict[str, Any]) -> None:
        if options.get("url"):
            check_url(options["url"])
        check_choice("interval", options.get("interval"), INTERVALS, TITLE)
        check_range("check_timeout", options.get("check_timeout"), 1, 30, TITLE)
        for region in options.get("regions", []):
            check_choice("region", region, REGIONS, TITLE)
        if options.get("tls_expiry_days") and options.get("verify_certificate") is False:
            raise CheckError(f"{TITLE} ignores tls_expiry_days where verify_certificate is false: leave one of them out")
        if ":" in (options.get("http_username") or ""):
            raise CheckError("The http_username holds a colon, which ends it: use another")
        if ("http_username" in options) != ("http_password" in options):
            raise CheckError(f"{TITLE} takes http_username and http_password together: set both")
        if options.get("http_password") and not options.get("http_username"):
            raise CheckError("The http_password has no http_username: set it, or leave both empty")
        for item in options.get("integrations", []):
            if not str(item).isdigit():
                raise CheckError(f"{TITLE} doesn't list integrations, so {item!r} can't be found by name: give its id")
        check_tags(options.get("tags", []))

    def check_change(self, changes: dict[str, Any], found: Found) -> None:
        verified = changes.get("verify_certificate", found.options.get("verify_certificate"))
        if changes.get("tls_expiry_days") and verified is False:
            raise CheckError(f"{TITLE} ignores tls_expiry_days where verify_certificate is false: set that to true")

    def normal(self, option: str, value: Any) -> Any:
        if option == "request_headers":
            # Pingdom adds its own.
            own = super().normal(option, value)
            return {name: text for name, text in own.items() if not text.startswith("Pingdom.com_bot")}
        return super().normal(option, value)

    def parsed_check(self, body: dict[str, Any], whole: bool) -> Found:
        kind = body.get("type")
        if isinstance(kind, dict):
            kind = next(iter(kind)) if len(kind) == 1 else None
        options = options_of(body)
        if not whole:
            options = {option: options[option] for option in ("name", "interval", "tags", "ipv6")}
        return Found(
            id=member(body, "id", int, TITLE),
            name=options["name"],
            kind=kind_of(kind, ("HTTP",)),
            status=STATUS.get(str(body.get("status")), "unknown"),
            tags=options["tags"],
            options=options,
            whole=whole,
        )

    def read_all(self, tag: str | None) -> list[Found]:
        query = [("include_tags", "true"), ("limit", str(PAGE))] + ([("tags", tag)] if tag else [])
        for _listing in range(LISTINGS):
            entries: dict[int, Found] = {}
            totals: set[int] = set()
            received = 0
            while True:
                body = self.client.request("GET", "/checks", query=[*query, ("offset", str(received))], answer=dict)
                page = [self.found(entry, whole=False) for entry in member(body, "checks", list, TITLE)]
                received += len(page)
                entries.update({found.id: found for found in page})
                # Of these two one is the number on this page and the other that of all pages; the document and the names
                # disagree about which is which.
                counts = body.get("counts")
                told = [counts.get(name) for name in ("limited", "filtered")] if isinstance(counts, dict) else []
                known = [count for count in told if isinstance(count, int)]
                total = max(known) if known else received + (len(page) == PAGE)
                totals.add(total)
                if not page or received >= total:
                    break
            # Another number from page to page, or a check that is there twice: one may have been missed.
            if totals == {len(entries)}:
                return list(entries.values())
        raise CheckError(f"The list of checks at {TITLE} changed each time while it was read: run again when nobody edits it")

    def read(self, check_id: Any) -> Found:
        with missing_is_gone():
            body = self.client.request("GET", f"/checks/{check_id}", query=[("include_teams", "true")], answer=dict)
        return self.found(body.get("check"))

    def create(self, options: dict[str, Any], paused: bool) -> Any:
        body = {"type": "http", **fields_of(options, options)}
        if paused:
            body["paused"] = True
        answer = self.client.request("POST", "/checks", json_body=body, answer=dict, create=True)
        check = answer.get("check")
        check_id = check.get("id") if isinstance(check, dict) else None
        if not isinstance(check_id, int):
            raise LostReply(TITLE, "POST /checks", 200, "the answer has no id")
        return check_id

    def update(self, found: Found, changes: dict[str, Any], wanted: dict[str, Any], paused: bool | None) -> None:
        body = fields_of(changes, {**found.options, **wanted})
        if paused is not None:
            body["paused"] = paused
        with missing_is_gone():
            self.client.request("PUT", f"/checks/{found.id}", json_body=body, answer=dict)

    def contacts(self) -> list[dict[str, Any]]:
        """Contacts (users) and teams; the API doesn't list integrations."""
        people = member(self.client.request("GET", "/alerting/contacts", answer=dict), "contacts", list, TITLE)
        teams = member(self.client.request("GET", "/alerting/teams", answer=dict), "teams", list, TITLE)
        with as_documented(TITLE):
            paused = {str(entry["id"]) for entry in people if entry.get("paused")}
            # A team tells its members.
            told = [("contact", entry, [entry]) for entry in people] + [
                ("team", entry, entry.get("members") or []) for entry in teams
            ]
            return [
                {
                    "id": str(entry["id"]),
                    "name": str(entry["name"]),
                    "type": kind,
                    "notifies": any(str(person["id"]) not in paused for person in persons),
                }
                for kind, entry, persons in told
            ]

    def resolve(self, option: str, names: Sequence[Any], directory: list[dict[str, Any]]) -> list[str]:
        kind = "team" if option == "teams" else "contact"
        return super().resolve(option, names, [entry for entry in directory if entry["type"] == kind])
