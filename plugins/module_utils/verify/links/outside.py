# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that watch from outside have each check of the application, which alerts somebody, and all of them are up."""

from __future__ import annotations

from typing import Any

from ..result import Look, Result, failed, ok, skipped
from ..run import Run, Target


def look(run: Run) -> list[Result]:
    def one(given: dict[str, Any]) -> Look:
        return Look((f"check at {given['provider']}",), lambda: [provider_link(run.target, given)])

    return run.side_by_side([one(given) for given in run.target.external_checks])


def provider_link(target: Target, given: dict[str, Any]) -> Result:
    """Whether one provider says that every check of the environment is up, those of the application among them.

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
        api, told = (given.get("api_url") or "", given.get("ca_path")), bool(target.notified_severities)
        states = check_states(name, target.environment, (), token, *api, ask_contacts=told)
    except CheckError as error:
        return failed(link, "not asked", str(error))
    return judge(link, target.environment, states, target.check_names)


def judge(link: str, environment: str, states: list[dict[str, Any]], running: list[str]) -> Result:
    """None of the checks is down, each alerts somebody, and of at least one something is known.

    :param running: the names of those that must be there and run; another one may be paused.
    """
    gone = [{"name": name, "state": "missing"} for name in running if name not in {item["name"] for item in states}]
    states = sorted([*states, *gone], key=lambda item: str(item["name"]))
    bad = [
        f"{item['name']} is {item['state']}"
        for item in states
        if item["state"] in ("down", "missing", "ambiguous") or (item["state"] == "paused" and item["name"] in running)
    ]
    silent = [item["name"] for item in states if not item.get("alerts", True)]
    bad += [f"{', '.join(silent[:4])} {'alert' if len(silent) > 1 else 'alerts'} nobody: set contacts"] if silent else []
    idle = [f"{item['name']} is {item['state']}" for item in states if item["state"] in ("unknown", "paused")]
    if not states:
        return failed(link, "no check", f"the account has no check with the tag of the environment {environment}")
    if bad:
        up = sum(item["state"] == "up" for item in states)
        return failed(link, f"{up} of {len(states)} checks are up", "; ".join(bad[:4]))
    if len(idle) == len(states):
        return skipped(link, "; ".join(idle[:4]) + ", so nothing is known yet")
    return ok(link, f"{len(states) - len(idle)} of {len(states)} checks are up" + "".join(f"; {i}" for i in idle[:2]))


def next_command(_run: Run) -> str:
    return "ansible-playbook site.yml --tags external_checks --check --diff"
