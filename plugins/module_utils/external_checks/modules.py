# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules for external checks have in common: their options, and how they run. Private to this collection."""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback

from .client import CheckError, Client
from .heartbeat import Heartbeat, address, environment_of
from .model import (
    Found,
    Gone,
    Provider,
    owner_tag,
    parsed,
)
from .pingdom import API_URL as PINGDOM_URL
from .pingdom import Pingdom
from .reconciler import (
    Outcome,
    Reconciler,
    Wanted,
    reconcile,
    shown,
)
from .statuscake import API_URL as STATUSCAKE_URL
from .statuscake import StatusCake
from .uptimerobot import API_URL as UPTIMEROBOT_URL
from .uptimerobot import UptimeRobot

PROVIDERS: dict[str, type[Provider]] = {"uptimerobot": UptimeRobot, "pingdom": Pingdom, "statuscake": StatusCake}
# What has an API of its own within a provider's: other types of checks than the list of external_checks has.
KINDS: dict[str, type[Provider]] = {**PROVIDERS, "uptimerobot_heartbeat": Heartbeat}
API_URLS = {
    "uptimerobot": UPTIMEROBOT_URL,
    "uptimerobot_heartbeat": UPTIMEROBOT_URL,
    "pingdom": PINGDOM_URL,
    "statuscake": STATUSCAKE_URL,
}
# The names that the vendors' own tools use.
TOKEN_VARIABLES = {
    "uptimerobot": "UPTIMEROBOT_API_KEY",
    "uptimerobot_heartbeat": "UPTIMEROBOT_API_KEY",
    "pingdom": "PINGDOM_API_TOKEN",
    "statuscake": "STATUSCAKE_API_TOKEN",
}


def token_of(provider: str, given: str | None) -> str:
    """The token that was given, else that of the environment; empty where there is none."""
    return given or os.environ.get(TOKEN_VARIABLES[provider], "")


def api_spec(provider: str) -> dict[str, Any]:
    """Return the options with which a module reaches a provider."""
    return {
        "api_token": {
            "type": "str",
            "required": True,
            "no_log": True,
            "fallback": (env_fallback, [TOKEN_VARIABLES[provider]]),
        },
        "api_url": {"type": "str", "default": API_URLS[provider]},
        **TRANSPORT,
    }


TRANSPORT: dict[str, Any] = {
    "api_timeout": {"type": "int", "default": 30},
    "api_retries": {"type": "int", "default": 4},
    "api_max_wait": {"type": "int", "default": 900},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
}
CHECK: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "started", "paused", "absent"], "default": "present"},
    "name": {"type": "str"},
    "environment": {"type": "str", "default": "default"},
    "url": {"type": "str"},
    "interval": {"type": "int"},
    "check_timeout": {"type": "int"},
    "request_headers": {"type": "dict"},
    "secret_request_headers": {"type": "dict", "no_log": True},
    "request_body": {"type": "str", "no_log": True},
    "http_username": {"type": "str"},
    "http_password": {"type": "str", "no_log": True},
    "update_password": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
    "keyword": {"type": "str", "no_log": False},
    "keyword_match": {"type": "str", "choices": ["contains", "not_contains"], "no_log": False},
    "tags": {"type": "list", "elements": "str"},
    "recreate": {"type": "bool", "default": False},
}
INFO: dict[str, Any] = {
    "name": {"type": "str"},
    "environment": {"type": "str"},
}


def make_provider(key: str, params: dict[str, Any]) -> Provider:
    """Return a provider for a module's api_* options."""
    for name in ("api_timeout", "api_max_wait", "api_retries"):
        if params[name] < (1 if name == "api_timeout" else 0):
            raise CheckError(f"The {name} is {params[name]}: give {'one second' if name == 'api_timeout' else 'zero'} or more")
    return KINDS[key](Client(KINDS[key].title, params))


def wanted_of(provider: type[Provider], params: dict[str, Any]) -> Wanted:
    """Return the check that a module's options describe; only those that were set."""
    # Providers cut spaces off, and would then not find the check under its name.
    name = (params["name"] or "").strip()
    if not name and params.get("id") is None:
        raise CheckError("The name is empty: give the check a name, or an id")
    options = {option: params[option] for option in provider.options if option != "name" and params.get(option) is not None}
    open_headers = params.get("request_headers") or {}
    secret_headers = params.get("secret_request_headers") or {}
    if params.get("request_headers") is not None or params.get("secret_request_headers") is not None:
        options["request_headers"] = {header: str(value) for header, value in {**open_headers, **secret_headers}.items()}
    for header, value in options.get("request_headers", {}).items():
        if any(character in f"{header}{value}" for character in "\r\n") or ":" in header or not header.strip():
            raise CheckError(f"The request header {header!r} is not a valid one: write it without a colon or a line break")
    return Wanted(
        name=name,
        options=options,
        state=params["state"],
        id=params.get("id"),
        recreate=params.get("recreate", False),
        update_password=params.get("update_password", "on_create"),
        open_headers=frozenset(header.lower() for header in open_headers if header not in secret_headers),
    )


def hide_secrets(client: Client, wanted: Wanted) -> None:
    """Keep the client from quoting what the provider says about passwords, headers and bodies; Ansible knows them only whole."""
    options = wanted.options
    headers = {name: text for name, text in options.get("request_headers", {}).items() if name.lower() not in wanted.open_headers}
    found = [options.get("http_password"), *headers.values()]
    parts = [parsed(options.get("request_body"))]  # grows by what is in it
    for part in parts:
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        # Shorter ones are hardly secret, and would blot out half of what the provider says.
        found += [part] if isinstance(part, str) and len(part) > 5 else []
    client.hidden.update(filter(None, found))


def diff_of(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return, by name, before and after of what changes, as Ansible's --diff shows it."""
    changed = [outcome for outcome in outcomes if outcome.changed]
    return {
        "before": {outcome.name: outcome.before for outcome in changed if outcome.before},
        "after": {outcome.name: outcome.after for outcome in changed if outcome.after},
    }


def run_check(module: AnsibleModule, key: str) -> None:
    """Run a module that manages one check."""
    _engine, result = made_one(module, key, module.params["environment"])
    module.exit_json(**result)


def run_heartbeat(module: AnsibleModule) -> None:
    """Run the module that manages one heartbeat; only a task that hides its result learns the address."""
    engine, result = made_one(module, "uptimerobot_heartbeat", environment_of(module.params["environment"]))
    check_id = result["id"] if module.params["state"] == "present" else None
    if check_id is not None and module.no_log:
        try:
            found = engine.ours.get(check_id) or engine.provider.read(check_id)
            result["url"] = address(found)
        except Gone:
            module.fail_json(msg=f"The heartbeat (id {check_id}) was deleted at UptimeRobot meanwhile: run again.")
        except CheckError as exc:
            module.fail_json(msg=f"{exc}.", changed=result["changed"], actions=result["actions"])
    module.exit_json(**result)


def made_one(module: AnsibleModule, key: str, environment: str) -> tuple[Reconciler, dict[str, Any]]:
    """Make one check what a module's options say; return what did it and the module's result, or fail the module."""
    params = module.params
    try:
        provider = make_provider(key, params)
        wanted = wanted_of(KINDS[key], params)
        hide_secrets(provider.client, wanted)
        engine = Reconciler(provider, owner_tag(environment), module.check_mode, module.warn, params.get("wait", True))
        outcome = reconcile(engine, [wanted])[0]
    except CheckError as exc:
        done = [action for outcome in exc.outcomes for action in outcome.actions]
        module.fail_json(msg=f"{exc}.", changed=bool(done), actions=done)
    if outcome.error:
        module.fail_json(msg=f"{outcome.error}.", changed=outcome.changed, actions=outcome.actions)
    return engine, {
        "changed": outcome.changed,
        "id": outcome.id,
        "actions": outcome.actions,
        "check": outcome.check,
        "diff": {"before": outcome.before, "after": outcome.after},
    }


def seen(provider: Provider, found: Found) -> dict[str, Any]:
    """Return a check without secrets, as an info module shows it."""
    return {
        **shown(provider, found.options, Wanted(found.name, {})),
        "id": found.id,
        "type": found.kind,
        "status": found.status,
        "paused": found.paused,
        "tags": found.tags,
    }


def run_info(module: AnsibleModule, key: str) -> None:
    """Run a module that shows checks."""
    params = module.params
    try:
        provider = make_provider(key, params)
        if params["id"] is not None:
            try:
                found = [provider.read(params["id"])]
            except Gone:
                found = []
        else:
            tag = owner_tag(params["environment"]) if params["environment"] else None
            found = [item for item in provider.read_all(tag) if tag is None or tag in item.tags]
        if params["name"]:
            found = [item for item in found if item.name == params["name"]]
        if params.get("details"):
            found = [item if item.whole else provider.read(item.id) for item in found]
    except Gone:
        module.fail_json(msg=f"A check was deleted at {PROVIDERS[key].title} while it was read: run again.")
    except CheckError as exc:
        module.fail_json(msg=f"{exc}.")
    module.exit_json(changed=False, checks=[seen(provider, item) for item in found])


def run_contacts(module: AnsibleModule, key: str) -> None:
    """Run a module that shows whom a provider can alert."""
    params = module.params
    try:
        found = make_provider(key, params).contacts()
    except CheckError as exc:
        module.fail_json(msg=f"{exc}.")
    module.exit_json(changed=False, contacts=[item for item in found if params["name"] in (None, item["name"])])
