# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log back ends in a file of the user's, for the scheduled verification: what is in it, and what is wrong with that."""

from __future__ import annotations

import json
from typing import Any

from ..credentials.served import SecretError, texts
from . import backends, log_stores

FILE = "log_backends.json"
KINDS = (*log_stores.STORES, "elasticsearch", "opensearch", "cloudwatch")


def parse(text: str) -> list[dict[str, Any]]:
    """The log back ends; :raises ValueError: without a value of the text, as it holds passwords."""
    try:
        found: list[dict[str, Any]] = json.loads(text)
        if not isinstance(found, list):
            raise TypeError
        for item in found:
            needed = ("region", "log_group") if item["type"] == "cloudwatch" else ("url",)
            if item["type"] not in KINDS or not all(item.get(key) for key in needed):
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(error) from None
    for number, item in enumerate(found):
        try:
            wrong = backends.problem(item)
        except (TypeError, ValueError, AttributeError):
            wrong = "one of its values is no text"
        if wrong:
            raise ValueError(f"Entry {number + 1} of {FILE} ({item['type']}) can't be used: {wrong}")
    return found


def unreadable(error: Exception) -> ValueError:
    """That the file can't be read, without its content."""
    return ValueError(
        f"{FILE} can't be read ({type(error).__name__}): write a JSON list of entries as verify_log_backends has them, "
        f"each with a type ({', '.join(KINDS)}) and a url, for cloudwatch with region and log_group"
    )


def secret_problem(given: dict[str, Any]) -> str:
    """What is wrong with the Secret that holds the file; empty when nothing is.

    :param given: the `name` and `namespace` of the Secret, and what was `found` of it, a list.
    """
    who = f"Secret {given['name']} in namespace {given['namespace']}"
    try:
        parse(texts(next(iter(given["found"]), None), (FILE,))[FILE])
    except SecretError as error:
        return f"{who} {error}"
    except ValueError as error:
        return f"{who} is of no use: {error}"
    return ""
