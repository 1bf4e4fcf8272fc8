# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that watch from outside say that every check of the environment is up."""

from __future__ import annotations

from typing import Any

from ..result import Look, Result, failed, left_out, ok
from ..run import Run


def look(run: Run) -> list[Result]:
    def one(given: dict[str, Any]) -> Look:
        return Look((f"check at {given['provider']}",), lambda: [provider_link(run.target.environment, given)])

    return run.side_by_side([one(given) for given in run.target.external_checks])


def provider_link(environment: str, given: dict[str, Any]) -> Result:
    """Whether one provider says that every check of the environment is up.

    :param given: ``provider``, and where they are set ``api_token``, ``api_url`` and ``ca_path``.
    """
    # Only here: a scheduled verification, which has no tokens, also has no Ansible, whose HTTP settings the clients use.
    from ...external_checks.client import CheckError
    from ...external_checks.modules import TOKEN_VARIABLES, token_of
    from ...external_checks.status import check_states

    name = given["provider"]
    link = f"check at {name}"
    token = token_of(name, given.get("api_token"))
    try:
        if not token:
            raise CheckError(f"no token is set: set api_token or the environment variable {TOKEN_VARIABLES[name]}")
        states = check_states(name, environment, (), token, given.get("api_url") or "", given.get("ca_path"))
    except CheckError as error:
        return failed(link, "not asked", str(error))
    return judge(link, environment, states)


def judge(link: str, environment: str, states: list[dict[str, Any]]) -> Result:
    """None of the checks is down, and of at least one something is known."""
    bad = [f"{item['name']} is {item['state']}" for item in states if item["state"] in ("down", "missing", "ambiguous")]
    idle = [f"{item['name']} is {item['state']}" for item in states if item["state"] in ("unknown", "paused")]
    if not states:
        return failed(link, "no check", f"the account has no check with the tag of the environment {environment}")
    if bad:
        return failed(link, f"{len(states) - len(bad)} of {len(states)} checks are well", "; ".join(bad[:4]))
    if len(idle) == len(states):
        return left_out(link, "; ".join(idle[:4]) + ", so nothing is known yet")
    return ok(link, f"{len(states) - len(idle)} of {len(states)} checks are up" + "".join(f"; {i}" for i in idle[:2]))


def next_command(_run: Run) -> str:
    return "ansible-playbook site.yml --tags external_checks --check --diff"
