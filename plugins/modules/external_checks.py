#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: external_checks
short_description: Make the checks at UptimeRobot, Pingdom or StatusCake equal to a list
version_added: 0.1.0
description:
  - Takes one list of checks in words that are the same for every provider, and makes the checks of one environment at one
    provider equal to it.
  - The account's checks of the environment are read once, and one by one only where the provider's list lacks an option
    that is set.
  - What the provider can't do is refused before anything is changed, unless O(downgrade) accepts less.
  - A check that the provider refuses does not keep the others from being made; the module fails in the end and names it.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.external_checks
options:
  provider:
    description: Where the checks are made.
    type: str
    choices: [uptimerobot, pingdom, statuscake]
    required: true
  api_token:
    description:
      - Token or key of the provider's API. E(UPTIMEROBOT_API_KEY), E(PINGDOM_API_TOKEN) or E(STATUSCAKE_API_TOKEN), by the
        O(provider), where it is not set.
    type: str
  api_url:
    description: Address of the API; the provider's own where it is not set.
    type: str
  environment:
    description:
      - The checks have the tag C(flaskops-<environment>). Checks without it are neither found nor changed nor deleted.
      - Checks of other types, such as ping or TCP, are neither changed nor deleted, whatever their tags.
      - Lower-case letters, digits and dashes.
    type: str
    required: true
  checks:
    description: All checks of the environment.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the check, which only one check of the list may have.
        type: str
        required: true
      url:
        description: Full address that is checked. Needed where the check does not exist yet.
        type: str
      state:
        description:
          - V(present) creates the check or changes it; V(started) and V(paused) start or pause it as well; V(absent) deletes it.
        type: str
        choices: [present, started, paused, absent]
        default: present
      providers:
        description: The only providers that get this check; all of them where this is not set.
        type: list
        elements: str
        choices: [uptimerobot, pingdom, statuscake]
      interval:
        description: Seconds between two checks; V(300) for a new check where this is not set.
        type: int
      timeout:
        description: Seconds after which no answer counts as down.
        type: int
      expected_status:
        description: Status codes that count as up, as V(200) or V(2xx).
        type: list
        elements: str
      keyword:
        description: Text to look for in the answer; an empty one ends this.
        type: str
      keyword_match:
        description: Whether the answer is good when it has the keyword or when it does not have it.
        type: str
        choices: [contains, not_contains]
      request_headers:
        description: Headers of the request, all of them.
        type: dict
      secret_request_headers:
        description: Further headers of the request whose values are never shown.
        type: dict
      request_body:
        description:
          - Data to send with the request, which then is a POST where no other method is set.
          - For UptimeRobot a JSON object; an empty text ends this at the others.
        type: str
      http_username:
        description: User name for the address; an empty one removes the login.
        type: str
      http_password:
        description: Password for the address. Where the provider never shows it, it is sent only with a new check.
        type: str
      tls_expiry_days:
        description: Days before the end of the certificate on which to alert; V(0) ends this.
        type: int
      regions:
        description: Where to check from.
        type: list
        elements: str
        choices: [north_america, south_america, europe, asia, oceania]
      contacts:
        description:
          - Ids or exact names of whom to alert, all of them; alert contacts, contacts or contact groups, by the provider.
        type: list
        elements: str
      tags:
        description: All tags of the check, beside the one that marks it as ours.
        type: list
        elements: str
      maintenance:
        description: Whether this check is covered by O(maintenance).
        type: bool
        default: true
      uptimerobot:
        description:
          - Options of M(flaskops.observability.uptimerobot_monitor) that are set for UptimeRobot, instead of the neutral
            ones.
        type: dict
      pingdom:
        description: Options of M(flaskops.observability.pingdom_check) that are set for Pingdom, instead of the neutral ones.
        type: dict
      statuscake:
        description:
          - Options of M(flaskops.observability.statuscake_uptime_check) that are set for StatusCake, instead of the
            neutral ones.
        type: dict
  prune:
    description:
      - Delete the checks with the environment's tag whose names are not in the list.
      - Checks of other types that carry the tag are kept, and a warning names them.
      - A list that leaves no check at the provider is refused while there are checks to prune, unless O(prune_all) is true.
        A list can be empty by mistake.
    type: bool
    default: false
  prune_all:
    description:
      - Let O(prune) delete all checks with the environment's tag, where the list leaves none at the provider, since it is
        empty, names other O(checks[].providers), or has only checks whose O(checks[].state) is V(absent).
      - Has no effect without O(prune).
    type: bool
    default: false
  downgrade:
    description:
      - Options of which less is accepted, with a warning, where the provider can't do what is set.
      - C(interval) and C(timeout) take the nearest that the provider has, a longer interval where there is one;
        C(expected_status), C(regions) and C(tls_expiry_days) omit what it lacks.
    type: list
    elements: str
    choices: [interval, timeout, expected_status, regions, tls_expiry_days]
    default: []
  allow_private_urls:
    description: Whether addresses are accepted that can't be reached from the internet.
    type: bool
    default: false
  recreate:
    description: Delete a check with its history and create it again, where the provider can't change an option of it.
    type: bool
    default: false
  maintenance:
    description:
      - V(begin) keeps the provider from alerting for the checks of the list for O(maintenance_duration), V(end) ends that.
        Nothing else is changed then, and checks that do not exist are skipped.
      - Pingdom and StatusCake get a maintenance window, named by the environment's tag. It ends by itself.
      - UptimeRobot's windows follow the account's time zone, which its API does not tell, so that its monitors are paused
        and started.
        V(end) starts those whose O(checks[].state) is not V(paused).
    type: str
    choices: [begin, end]
  maintenance_duration:
    description: Seconds that a maintenance window lasts, in steps of 60.
    type: int
    default: 1800
  wait:
    description: Whether to wait, up to a minute, until UptimeRobot's list shows what was written. The others do not lag.
    type: bool
    default: true
notes:
  - An option of a check that is not set is not managed. Nothing is sent or compared for it.
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
  diff_mode:
    support: full
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    details:
      - Secrets are masked.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - Except that O(maintenance=begin) moves the end of the window.
seealso:
  - module: flaskops.observability.uptimerobot_monitor
  - module: flaskops.observability.pingdom_check
  - module: flaskops.observability.statuscake_uptime_check
"""

EXAMPLES = r"""
- name: Watch production by two services
  flaskops.observability.external_checks:
    provider: "{{ item }}"
    environment: production
    prune: true
    downgrade: [expected_status]
    checks:
      - name: shop
        url: https://shop.example.com/health
        interval: 300
        expected_status: ["200"]
        keyword: '"status": "ok"'
        regions: [europe, north_america]
        tags: [shop]
        pingdom:
          teams: [On call]
        statuscake:
          regions: [london, frankfurt, new-york]
      - name: shop API
        url: https://api.shop.example.com/health
  loop: [uptimerobot, statuscake]

- name: Be quiet during a rollout
  flaskops.observability.external_checks:
    provider: pingdom
    environment: production
    maintenance: begin
    maintenance_duration: 900
    checks:
      - name: shop
"""

RETURN = r"""
checks:
  description: What became of each check, or would in check mode; those that were pruned come last.
  returned: always, as far as it went
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      returned: always
      type: str
      sample: shop
    id:
      description: Id at the provider, a number, or a text at StatusCake.
      returned: when it exists
      type: raw
      sample: 803114272
    actions:
      description:
        - What was done; one or more of C(create), C(update), C(recreate), C(pause), C(start), C(delete), or nothing.
        - With O(maintenance), C(open window), C(move window) or C(close window) for all checks together.
        - Beside an RV(checks[].error), what was done before it.
      returned: always
      type: list
      elements: str
      sample: [create]
    check:
      description: The check as it is now, in neutral words where there are any.
      returned: when it was made or compared
      type: dict
      sample: {"name": "shop", "url": "https://shop.example.com/health", "interval": 300}
    error:
      description: Why this check was not made.
      returned: when it was not
      type: str
calls:
  description: Number of requests to the provider's API.
  returned: always
  type: int
  sample: 3
diff:
  description: The checks that change, before and after, by name.
  returned: success
  type: dict
  sample: {"before": {}, "after": {"shop": {"interval": 60}}}
"""

from collections.abc import Iterator
from typing import Any

from ..module_utils._module import MaskingModule, texts
from ..module_utils.credentials.guard import careful
from ..module_utils.external_checks import modules, neutral, reconciliation

SECRET = ("http_password", "request_body", "secret_request_headers")


def secrets_in(params: dict[str, Any]) -> Iterator[str]:
    """What is secret among the options of one provider, which are refused or taken later."""
    checks = params.get("checks")
    for check in checks if isinstance(checks, list) else []:
        for provider in modules.PROVIDERS if isinstance(check, dict) else ():
            own = check.get(provider)
            if isinstance(own, dict):
                yield from texts([own.get(option) for option in SECRET])


def main() -> None:
    """Entry point."""
    check = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str"},
        "state": modules.CHECK["state"],
        "providers": {"type": "list", "elements": "str", "choices": list(modules.PROVIDERS)},
        "interval": {"type": "int"},
        "timeout": {"type": "int"},
        "expected_status": {"type": "list", "elements": "str"},
        "keyword": {"type": "str", "no_log": False},
        "keyword_match": {"type": "str", "choices": ["contains", "not_contains"], "no_log": False},
        "request_headers": {"type": "dict"},
        "secret_request_headers": {"type": "dict", "no_log": True},
        "request_body": {"type": "str", "no_log": True},
        "http_username": {"type": "str"},
        "http_password": {"type": "str", "no_log": True},
        "tls_expiry_days": {"type": "int"},
        "regions": {"type": "list", "elements": "str", "choices": neutral.REGIONS},
        "contacts": {"type": "list", "elements": "str"},
        "tags": {"type": "list", "elements": "str"},
        "maintenance": {"type": "bool", "default": True},
        **{provider: {"type": "dict"} for provider in modules.PROVIDERS},
    }
    module = MaskingModule(
        secrets_in,
        argument_spec={
            "provider": {"type": "str", "choices": list(modules.PROVIDERS), "required": True},
            "api_token": {"type": "str", "no_log": True},
            "api_url": {"type": "str"},
            **modules.TRANSPORT,
            "environment": {"type": "str", "required": True},
            "checks": {"type": "list", "elements": "dict", "required": True, "options": check},
            "prune": {"type": "bool", "default": False},
            "prune_all": {"type": "bool", "default": False},
            "downgrade": {"type": "list", "elements": "str", "choices": neutral.DOWNGRADES, "default": []},
            "allow_private_urls": {"type": "bool", "default": False},
            "recreate": {"type": "bool", "default": False},
            "maintenance": {"type": "str", "choices": ["begin", "end"]},
            "maintenance_duration": {"type": "int", "default": 1800},
            "wait": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    # Which variable stands in for the token depends on another option, which a fallback in the specification can't see.
    token = modules.token_of(module.params["provider"], module.params["api_token"])
    if token:
        module.no_log_values.add(token)
    module.params["api_token"] = token
    reconciliation.run(module)


if __name__ == "__main__":
    careful(main)()
