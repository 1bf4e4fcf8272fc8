# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether each check of ours is up, in the eyes of its provider. Reads only. Private to this collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from . import modules
from .client import ProviderError
from .model import Found, Gone, Provider, owner_tag

ALERTED = ("contacts", "teams", "integrations")  # options that say whom a check alerts


def asked_of(
    provider: str, api_token: str, api_url: str = "", ca_path: str | None = None, timeout: int = 10, max_wait: int = 60
) -> Provider:
    """A provider that can be asked; the parameters are those of check_states."""
    params = {
        "api_token": api_token,
        "api_url": api_url or modules.API_URLS[provider],
        "api_timeout": timeout,
        "api_retries": 2,
        "api_max_wait": max_wait,
        "validate_certs": True,
        "ca_path": ca_path,
    }
    return modules.make_provider(provider, params)


def check_states(
    provider: str,
    environment: str,
    names: Sequence[str],
    api_token: str,
    api_url: str = "",
    ca_path: str | None = None,
    timeout: int = 10,
    max_wait: int = 60,
    ask_contacts: bool = False,
) -> list[dict[str, Any]]:
    """Return the state of each named check, and of every check of the environment where no names are given.

    provider: a key of modules.KINDS. environment: as in the module external_checks. timeout: seconds for one
    answer. max_wait: seconds to wait in all, for rate limits and repeated requests. ask_contacts: whether each entry also has
    alerts, which says whether the check alerts anybody, as one that is paused does not; a provider whose list does not tell is
    asked for each check.
    Each entry has name, id (None where there is none) and state: up, down, paused, unknown (not run yet), missing, or
    ambiguous (several of ours have the name). The list is read once, in as many pages as it has.
    Raises CheckError, one sentence without a full stop, where the provider can't be asked; ProviderError of these has the status.
    """
    tag = owner_tag(environment)
    asked = asked_of(provider, api_token, api_url, ca_path, timeout, max_wait)
    quiet = cache(partial(quiet_contacts, asked))
    ours = [found for found in asked.read_all(tag) if tag in found.tags]
    states = []
    for name in names or sorted({found.name for found in ours}):
        same = [found for found in ours if found.name == name]
        state = same[0].status if len(same) == 1 else "ambiguous" if same else "missing"
        entry: dict[str, Any] = {"name": name, "id": same[0].id if len(same) == 1 else None, "state": state}
        if ask_contacts:
            entry["alerts"] = all(alerts_anybody(asked, found, quiet) for found in same)
        states.append(entry)
    return states


def quiet_contacts(provider: Provider) -> set[tuple[str, str]]:
    """The option and id of each contact through which a provider tells nobody, as one that is paused or has no address."""
    try:
        found = provider.contacts()
    except ProviderError as error:
        if error.status in (401, 403, 404):
            return set()  # a token may be allowed to read checks alone
        raise
    return {("teams" if item["type"] == "team" else "contacts", item["id"]) for item in found if not item["notifies"]}


def alerts_anybody(provider: Provider, found: Found, quiet: Callable[[], set[tuple[str, str]]]) -> bool:
    """Whether a check has anybody whom its provider alerts, without the quiet ones, which are asked for where it has any."""
    if "contacts" not in found.options:
        try:
            found = provider.read(found.id)
        except Gone:
            return True  # what is gone is another matter
    named = [(option, item) for option in ALERTED for item in found.options.get(option) or []]
    return any((option, str(item["contact"] if isinstance(item, dict) else item)) not in quiet() for option, item in named)
