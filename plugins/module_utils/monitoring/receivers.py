# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers of alerts, as the role kube_prometheus_stack takes them."""

from __future__ import annotations

from typing import Any

from ..credentials.guard import inline_secrets, is_address

# Every option, so that whoever reads a receiver needs no defaults of its own.
OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("url", "secret", "key", "to", "from", "smarthost", "username", "channel"), ""),
    "send_resolved": True,
    "settings": {},
}


def problem(receivers: list[dict[str, Any]]) -> str:
    """What the first receiver lacks that can't work, as a sentence; empty where all can."""
    return next((found for found in map(_problem, receivers) if found), "")


def _problem(given: dict[str, Any]) -> str:
    item = {**OPTIONS, **given}
    name, kind, settings = item["name"], item["type"], item["settings"]
    named = item["secret"] and item["key"]
    if kind == "webhook" and not item["url"] and not named:
        return f"Receiver {name} is a webhook without an address: set its url, or its secret and key."
    if kind in ("slack", "pagerduty") and not named:
        return f"Receiver {name} of type {kind} has no credentials: set its secret and key."
    if kind == "email" and not (item["to"] and item["from"] and item["smarthost"]):
        return f"Receiver {name} is for mail and lacks to, from or smarthost: set all three."
    inline = inline_secrets(settings) or (["url"] if inline_secrets(item["url"]) else [])
    if inline:
        return (
            f"Receiver {name} has a credential in {' and '.join(inline)}: put it into a Secret, and name that by secret and key."
        )
    if not all(is_address(url) for url in (item["url"], settings.get("url")) if url):
        return f"Receiver {name} has a url that is no web address: write it like https://example.com/hook."
    if item["secret"] and not item["key"]:
        return f"Receiver {name} names the secret {item['secret']} without a key: set its key."
    return ""
