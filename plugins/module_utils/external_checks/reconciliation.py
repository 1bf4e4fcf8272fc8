# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module external_checks: a whole list at one provider. Private to this collection."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from . import (
    maintenance,
    modules,
    neutral,
    pingdom,
    statuscake,
    uptimerobot,
)
from .client import CheckError
from .model import owner_tag
from .reconciler import (
    Outcome,
    Reconciler,
    Wanted,
    reconcile,
)

OWN = {"uptimerobot": uptimerobot.SPEC, "pingdom": pingdom.SPEC, "statuscake": statuscake.SPEC}


def own_options(key: str, check: dict[str, Any]) -> dict[str, Any]:
    """Return the provider's own options of a check, with the types that they must have."""
    given = check.get(key) or {}
    secret = sorted({"http_password", "request_body", "secret_request_headers"} & set(given))
    if secret:
        raise CheckError(
            f"The check {check['name']!r} is refused: {key} holds {secret[0]}: move it beside {key}, where it is kept secret"
        )
    result = ArgumentSpecValidator(OWN[key]).validate(given)
    if result.error_messages:
        raise CheckError(
            f"The check {check['name']!r} is refused: in {key}, {result.error_messages[0]}: see the module's page for its options"
        )
    return {name: value for name, value in result.validated_parameters.items() if value is not None}


def wanted_list(module: AnsibleModule, key: str) -> list[Wanted]:
    """Return the checks that this provider gets, translated; nothing was asked of the provider yet."""
    params = module.params
    found: list[Wanted] = []
    names: set[str] = set()
    for check in params["checks"]:
        if check["providers"] is not None and key not in check["providers"]:
            continue
        if params["maintenance"] and not check["maintenance"]:
            continue
        name = check["name"].strip()
        if not name or name in names:
            raise CheckError(f"The name {check['name']!r} is empty or twice in checks: give each check a name of its own")
        names.add(name)
        if check["url"] and not params["allow_private_urls"] and check["state"] != "absent":
            neutral.check_public(check["url"], f"check {name!r}")
        options = {option: check[option] for option in ("state", "request_headers", "secret_request_headers")}
        if not params["maintenance"]:
            translation = neutral.Translation(key, {**check, "name": name, key: own_options(key, check)}, params["downgrade"])
            for warning in translation.warnings:
                module.warn(warning)
            options.update(translation.options)
        options.update({"name": name, "recreate": params["recreate"]})
        found.append(modules.wanted_of(modules.PROVIDERS[key], options))
    return found


def report(key: str, outcome: Outcome) -> dict[str, Any]:
    """Return an outcome in neutral words."""
    shown: dict[str, Any] = {"name": outcome.name, "actions": outcome.actions}
    if outcome.id is not None:
        shown["id"] = outcome.id
    if outcome.check:
        shown["check"] = neutral.neutral_of(key, outcome.check)
    if outcome.error:
        shown["error"] = outcome.error
    return shown


def run(module: AnsibleModule) -> None:
    """Run the module."""
    params, key = module.params, module.params["provider"]
    params["api_url"] = params["api_url"] or modules.API_URLS[key]
    outcomes: list[Outcome] = []
    failure = ""
    calls = 0
    try:
        provider = modules.make_provider(key, params)
        tag = owner_tag(params["environment"])
        wanted = wanted_list(module, key)
        for item in wanted:
            modules.hide_secrets(provider.client, item)
        engine = Reconciler(provider, tag, module.check_mode, module.warn, params["wait"])
        try:
            if params["maintenance"]:
                seconds = params["maintenance_duration"]
                outcomes = maintenance.run(engine, wanted, params["maintenance"] == "begin", seconds)
            else:
                outcomes = reconcile(engine, wanted, params["prune"], params["prune_all"])
        finally:
            calls = provider.client.calls
    except CheckError as exc:
        outcomes, failure = list(exc.outcomes), str(exc)
    refused = [outcome for outcome in outcomes if outcome.error]
    if refused and not failure:
        more = f" (and {len(refused) - 1} more, see checks)" if len(refused) > 1 else ""
        failure = refused[0].error + more
    result = {
        "changed": any(outcome.changed for outcome in outcomes),
        "checks": [report(key, outcome) for outcome in outcomes],
        "calls": calls,
        "diff": modules.diff_of(outcomes),
    }
    if failure:
        module.fail_json(msg=f"{failure}.", **result)
    module.exit_json(**result)
