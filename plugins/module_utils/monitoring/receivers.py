# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers of alerts: one shape for Alertmanager's own configuration and for the operator's AlertmanagerConfig."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..credentials.guard import inline_secrets, is_address, is_secret_address
from .rules import SEVERITIES

Json = dict[str, Any]

REFERENCE: Json = {
    "type": "dict",
    "no_log": False,  # it names a Secret
    "options": {"name": {"type": "str", "required": True}, "key": {"type": "str", "required": True, "no_log": False}},
}
SPEC: Json = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "required": True, "choices": ["webhook", "email", "slack", "pagerduty", "teams", "none"]},
    "severities": {"type": "list", "elements": "str", "choices": list(SEVERITIES)},
    "secret": REFERENCE,
    "url": {"type": "str"},
    "channel": {"type": "str"},
    "to": {"type": "str"},
    "from": {"type": "str"},
    "smarthost": {"type": "str"},
    "username": {"type": "str"},
    "send_resolved": {"type": "bool"},
    "settings": {"type": "dict"},
}
# What both call otherwise than the type: Teams' connectors, which the name msteams is for, are no more.
INTEGRATIONS = {"teams": "msteamsv2"}
FILES = "/etc/alertmanager/secrets"  # where the operator mounts the Secrets of an Alertmanager object
# What the operator calls otherwise than Alertmanager, in addition to the case of the letters.
ACRONYMS = {"url", "tls", "http2"}
RENAMED = {("pagerduty", "images"): "pagerDutyImageConfigs", ("pagerduty", "links"): "pagerDutyLinkConfigs"}
LISTED = ("headers", "details")  # mappings of which the operator makes lists of keys and values


def integration(kind: str) -> str:
    """What Alertmanager and its operator call receivers of a type, such as ``slack``."""
    return INTEGRATIONS.get(kind, kind)


def told(receiver: Json) -> list[str]:
    """The severities that a receiver is notified of."""
    return list(receiver.get("severities") or SEVERITIES)


def problem(receivers: list[Json], operated: bool = False) -> str:
    """What the first receiver lacks that can't work, as a sentence without a credential; empty where all can.

    :param operated: whether they become an AlertmanagerConfig, which names no files, and which many may read.
    """
    return next((found for item in receivers if (found := _problem(item, operated))), "")


def _problem(given: Json, operated: bool) -> str:
    name, kind, secret = given["name"], given["type"], given.get("secret")
    url, settings = given.get("url") or "", given.get("settings") or {}
    if operated and is_secret_address(url):
        return (
            f"The url of receiver {name} holds a credential, and all who may read an AlertmanagerConfig see it:"
            " put the address into a Secret, and name that by secret."
        )
    if kind == "webhook" and not url and not secret:
        return f"Receiver {name} is a webhook without an address: set its url, or its secret."
    if kind in ("slack", "pagerduty", "teams") and not secret:
        return f"Receiver {name} of type {kind} has no credentials: set its secret."
    if kind == "email" and not all(given.get(key) for key in ("to", "from", "smarthost")):
        return f"Receiver {name} is for mail and lacks to, from or smarthost: set all three."
    inline = inline_secrets(_without_references(settings)) or (["url"] if inline_secrets(url) else [])
    if inline:
        return f"Receiver {name} has a credential in {' and '.join(inline)}: put it into a Secret, and name that by name and key."
    if not all(is_address(address) for address in (url, settings.get("url")) if address):
        return f"Receiver {name} has a url that is no web address: write it like https://example.com/hook."
    files = sorted(key for key in _keys(settings) if key.endswith("_file")) if operated else []
    if files:
        return f"Receiver {name} has {files[0]} in its settings, and an AlertmanagerConfig names no files: name a Secret instead."
    return ""


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"name", "key"}


def _without_references(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_references(item) for key, item in value.items() if not _is_reference(item)}
    return [_without_references(item) for item in value] if isinstance(value, list) else value


def _keys(value: Any) -> Iterator[str]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)
    if isinstance(value, dict):
        yield from map(str, value)


def references(receiver: Json) -> list[Json]:
    """The Secrets and keys that a receiver names, each as name and key."""

    def inside(value: Any) -> Iterator[Json]:
        if _is_reference(value):
            yield value
        elif isinstance(value, (dict, list)):
            for item in value.values() if isinstance(value, dict) else value:
                yield from inside(item)

    return [*([receiver["secret"]] if receiver.get("secret") else []), *inside(receiver.get("settings") or {})]


def addresses(receiver: Json) -> list[str]:
    """The addresses of a receiver: whoever knows that of a webhook can post to it, so no message shows it."""
    return [url for url in (receiver.get("url"), (receiver.get("settings") or {}).get("url")) if url]


def _config(given: Json, credential: Callable[[str], Json]) -> Json:
    """What both configurations say of a receiver, without its settings.

    :param credential: makes the entry of an option that is a credential.
    """
    kind, said = given["type"], given.get("send_resolved")
    config: Json = {"send_resolved": True if said is None else said}
    if kind == "webhook":
        return config | ({"url": given["url"]} if given.get("url") else credential("url"))
    if kind == "slack":
        return config | credential("api_url") | ({"channel": given["channel"]} if given.get("channel") else {})
    if kind == "pagerduty":
        return config | credential("routing_key")
    if kind == "teams":
        return config | credential("webhook_url")
    config |= {key: given.get(key) for key in ("to", "from", "smarthost")}
    if given.get("secret"):
        config |= {"auth_username": given.get("username") or given.get("from")} | credential("auth_password")
    return config


def configured(given: Json) -> Json:
    """A receiver as Alertmanager's configuration has it; a credential is a file of the Secret that `given` names."""
    kind, secret = given["type"], given.get("secret")
    if kind == "none":
        return {"name": given["name"]}
    config = _config(given, lambda option: {f"{option}_file": _file(secret) if secret else ""})
    return {"name": given["name"], f"{integration(kind)}_configs": [config | _with_files(given.get("settings") or {})]}


def _file(reference: Json) -> str:
    return f"{FILES}/{reference['name']}/{reference['key']}"


def _with_files(value: Any) -> Any:
    """Settings with a file instead of each reference to a Secret."""
    if isinstance(value, list):
        return [_with_files(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        f"{key}_file" if _is_reference(item) else key: _file(item) if _is_reference(item) else _with_files(item)
        for key, item in value.items()
    }


def operated(given: Json) -> Json:
    """A receiver as an AlertmanagerConfig has it; a credential stays in the Secret that `given` names."""
    kind, secret = given["type"], given.get("secret")
    if kind == "none":
        return {"name": given["name"]}
    # A webhook's address is the one credential that may also be no Secret, and has a name for each.
    config = _config(given, lambda option: {"url_secret" if option == "url" else option: secret})
    return {"name": given["name"], f"{integration(kind)}Configs": [_camel(kind, config | (given.get("settings") or {}))]}


def _camel(kind: str, value: Any) -> Any:
    """Settings as the operator names them, such as clientURL for client_url."""
    if isinstance(value, list):
        return [_camel(kind, item) for item in value]
    if not isinstance(value, dict):
        return value
    found: Json = {}
    for key, item in value.items():
        first, *rest = str(key).split("_")
        name = RENAMED.get((kind, key)) or first + "".join(word.upper() if word in ACRONYMS else word.title() for word in rest)
        if key in LISTED and isinstance(item, dict):
            found[name] = [{"key": each, "value": str(text)} for each, text in item.items()]
        elif name == "pagerDutyLinkConfigs" and isinstance(item, list):
            found[name] = [{"alt" if word == "text" else word: text for word, text in link.items()} for link in item]
        else:
            found[name] = _camel(kind, item)
    return found


def routes(receivers: list[Json]) -> list[Json]:
    """A route for each receiver that is notified of some severities only; none keeps an alert from another one."""
    return [
        {"receiver": item["name"], "matchers": [f'severity=~"{"|".join(item["severities"])}"'], "continue": True}
        for item in receivers
        if item.get("severities")
    ]
