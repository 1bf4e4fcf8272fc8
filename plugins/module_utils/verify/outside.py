# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link to the services that watch from outside."""

from __future__ import annotations

from typing import Any

from ..external_checks.client import CheckError
from ..external_checks.modules import TOKEN_VARIABLES, token_of
from ..external_checks.status import check_states
from . import checks
from .checks import Result


def provider_link(environment: str, given: dict[str, Any]) -> Result:
    """Whether one provider says that every check of the environment is up.

    :param given: ``provider``, and where they are set ``api_token``, ``api_url`` and ``ca_path``.
    """
    provider = given["provider"]
    link = f"check at {provider}"
    token = token_of(provider, given.get("api_token"))
    try:
        if not token:
            raise CheckError(f"no token is set: set api_token or the environment variable {TOKEN_VARIABLES[provider]}")
        states = check_states(provider, environment, (), token, given.get("api_url") or "", given.get("ca_path"))
    except CheckError as error:
        result = checks.failed(link, "not asked", str(error))
    else:
        bad = [f"{item['name']} is {item['state']}" for item in states if item["state"] in ("down", "missing", "ambiguous")]
        idle = [f"{item['name']} is {item['state']}" for item in states if item["state"] in ("unknown", "paused")]
        if not states:
            result = checks.failed(link, "no check", f"the account has no check with the tag of the environment {environment}")
        elif bad:
            result = checks.failed(link, f"{len(states) - len(bad)} of {len(states)} checks are well", "; ".join(bad[:4]))
        elif len(idle) == len(states):
            return checks.left_out(link, "; ".join(idle[:4]) + ", so nothing is known yet")
        else:
            return checks.ok(
                link, f"{len(states) - len(idle)} of {len(states)} checks are up" + "".join(f"; {i}" for i in idle[:2])
            )
    result.next_command = "ansible-playbook site.yml --tags external_checks --check --diff"
    return result
