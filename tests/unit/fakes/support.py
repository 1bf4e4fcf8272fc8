# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain client of the fakes, and for each provider one request with every field that the contract takes."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.fakes import FAKES, Fake
from tests.fakes.core import FORM

PROVIDERS = sorted(FAKES)
CHECKS = {"uptimerobot": "/monitors", "pingdom": "/checks", "statuscake": "/uptime"}
UPDATE = {"uptimerobot": "PATCH", "pingdom": "PUT", "statuscake": "PUT"}
LISTED = {"uptimerobot": "data", "pingdom": "checks", "statuscake": "data"}
CREATE: dict[str, dict[str, Any]] = {
    "uptimerobot": {"type": "HTTP", "friendlyName": "shop", "url": "https://shop.test/", "interval": 300, "timeout": 30},
    "pingdom": {"type": "http", "name": "shop", "host": "shop.test", "url": "/", "encryption": True, "resolution": 5},
    "statuscake": {"test_type": "HTTP", "name": "shop", "website_url": "https://shop.test/", "check_rate": 300},
}


needs_documents = pytest.mark.skipif(
    not os.environ.get("FLASKOPS_SPECS"),
    reason="FLASKOPS_SPECS names no folder with the providers' own documents, so our contracts are compared with nothing",
)


@dataclass
class Answer:
    """Status, headers in lower case, body as parsed (or as text where it isn't JSON)."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def call(
    fake: Fake, method: str, path: str, body: Any = None, token: str | None = None, kind: str | None = None, timeout: float = 20
) -> Answer:
    """Send one request, the body in the provider's encoding; errors of the connection are raised."""
    kind = kind or fake.contract.encoding
    headers = {"Authorization": f"Bearer {fake.token if token is None else token}"}
    raw = None
    if body is not None:
        headers["Content-Type"] = kind
        raw = form(body) if kind == FORM else json.dumps(body)
    parts = urlsplit(fake.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request(method, parts.path + path, raw, headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        found = {name.lower(): value for name, value in reply.getheaders()}
    finally:
        connection.close()
    try:
        return Answer(reply.status, json.loads(text) if text else None, found)
    except ValueError:
        return Answer(reply.status, text, found)


def form(body: dict[str, Any]) -> str:
    pairs: list[tuple[str, Any]] = []
    for name, value in body.items():
        if isinstance(value, list):
            pairs += [(f"{name}[]", item) for item in value or [""]]
        else:
            pairs.append((name, str(value).lower() if isinstance(value, bool) else value))
    return urlencode(pairs)


def new(fake: Fake, **fields: Any) -> Any:
    """Create a check over the API; its id."""
    answer = call(fake, "POST", CHECKS[fake.provider], {**CREATE[fake.provider], **fields})
    assert answer.status in (200, 201), answer
    where = {"uptimerobot": ["id"], "pingdom": ["check", "id"], "statuscake": ["data", "new_id"]}[fake.provider]
    found = answer.body
    for name in where:
        found = found[name]
    return found


def read(fake: Fake, key: Any) -> dict[str, Any]:
    """A check over the API, out of its envelope."""
    answer = call(fake, "GET", f"{CHECKS[fake.provider]}/{key}{'?include_teams=true' if fake.provider == 'pingdom' else ''}")
    assert answer.status == 200, answer
    envelope = {"pingdom": "check", "statuscake": "data"}.get(fake.provider)
    return answer.body[envelope] if envelope else answer.body


def state_of(fake: Fake, key: Any) -> str:
    """up, down, paused or something else, in small letters."""
    check = read(fake, key)
    return "paused" if check.get("paused") else check["status"].lower()


def everything(fake: Fake) -> dict[str, Any]:
    """Every field that an update takes, with contacts that exist."""
    if fake.provider == "uptimerobot":
        contact = fake.add_contact("ops")
        return {
            "friendlyName": "shop 2",
            "url": "https://shop.test/2",
            "interval": 600,
            "timeout": 20,
            "tagNames": ["a"],
            "assignedAlertContacts": [{"alertContactId": contact, "threshold": 0, "recurrence": 0}],
            "gracePeriod": 60,
            "regionData": {"REGION": ["eu"], "MANUAL_SELECTED": True, "THRESHOLD": {"eu": 500}},
            "responseTimeThreshold": 900,
            "httpMethodType": "POST",
            "authType": "HTTP_BASIC",
            "httpUsername": "u",
            "httpPassword": "p",
            "postValueData": {"a": "b"},
            "postValueType": "RAW_JSON",
            "customHttpHeaders": {"X-A": "b"},
            "successHttpResponseCodes": ["204"],
            "checkSSLErrors": True,
            "sslExpirationReminder": True,
            "domainExpirationReminder": True,
            "followRedirections": False,
            "keywordType": "ALERT_EXISTS",
            "keywordValue": "no",
            "keywordCaseType": 1,
            "config": {"sslExpirationPeriodDays": [7], "ipVersion": "ipv4Only", "applicationErrorRetries": 1},
        }
    if fake.provider == "pingdom":
        return {
            "name": "shop 2",
            "host": "www.shop.test",
            "paused": False,
            "resolution": 15,
            "userids": str(fake.add_contact("ops")),
            "teamids": str(fake.add_contact("team", team=True)),
            "integrationids": [7],
            "sendnotificationwhendown": 3,
            "notifyagainevery": 2,
            "notifywhenbackup": False,
            "tags": ["a"],
            "probe_filters": ["region:EU"],
            "ipv6": True,
            "responsetime_threshold": 900,
            "custom_message": "hi",
            "url": "/2",
            "encryption": True,
            "port": 8443,
            "auth": "u:p:w",
            "shouldcontain": "ok",
            "postdata": "a=b",
            "requestheaders": ["X-A: b"],
            "requestheaders1": ["X-C: d"],
            "verify_certificate": True,
            "ssl_down_days_before": 7,
        }
    return {
        "name": "shop 2",
        "website_url": "https://shop.test/2",
        "check_rate": 900,
        "basic_username": "u",
        "basic_password": "p",
        "confirmation": 1,
        "contact_groups": [fake.add_contact("ops")],
        "custom_header": '{"X-A": "b"}',
        "do_not_find": True,
        "enable_ssl_alert": True,
        "final_endpoint": "https://shop.test/3",
        "find_string": "no",
        "follow_redirects": True,
        "host": "h",
        "include_header": True,
        "paused": False,
        "post_body": '{"a": 1}',
        "post_raw": "raw",
        "regions": ["london"],
        "status_codes_csv": "500,503",
        "tags": ["a"],
        "timeout": 20,
        "trigger_rate": 5,
        "use_jar": True,
        "user_agent": "me",
    }


def rename(parent: dict[str, Any], name: str) -> None:
    parent["properties"][f"{name}_renamed"] = parent["properties"].pop(name)
    if name in parent.get("required", []):
        parent["required"] = [f"{name}_renamed" if other == name else other for other in parent["required"]]


def edit(schema: Any, path: tuple[str, ...], change: Callable[[dict[str, Any], str], None]) -> None:
    """Change the field at the path wherever the schema has it, in all its alternatives."""
    if not isinstance(schema, dict):
        return
    for part in [*schema.get("allOf", []), *schema.get("anyOf", [])]:
        edit(part, path, change)
    head, rest = path[0], path[1:]
    if head == "[]":
        edit(schema.get("items"), rest, change)
    elif head in schema.get("properties", {}):
        if rest:
            edit(schema["properties"][head], rest, change)
        else:
            change(schema, head)
