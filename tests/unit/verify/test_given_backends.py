# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Secret with back ends for the scheduled verification: what is wrong with it is said, and no value of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify.given_backends import FILE, secret_problem

LOKI = {"type": "loki", "url": "https://logs.example.com", "username": "ann", "password": "CANARY"}


def problem(*found: dict[str, Any]) -> str:
    return secret_problem({"name": "readers", "namespace": "shop", "found": list(found)})


def secret(content: Any, key: str = FILE) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    return {"metadata": {"name": "readers"}, "data": {key: base64.b64encode(text.encode()).decode()}}


@pytest.mark.parametrize("content", [[], [LOKI], [LOKI, {"type": "cloudwatch", "region": "r", "log_group": "/shop"}]])
def test_a_secret_of_use(content: list[dict[str, str]]) -> None:
    assert problem(secret(content)) == ""


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "missing": ([], "does not exist"),
    "empty": ([{"metadata": {"name": "readers"}}], f"lacks {FILE}"),
    "other": ([secret([LOKI], "backends.json")], f"lacks {FILE}"),
    "json": ([secret('[{"password": "CANARY"')], "can't be read (JSONDecodeError)"),
    "no list": ([secret({})], "can't be read"),
    "one": ([secret(LOKI)], "can't be read"),
    "text": ([secret('["CANARY"]')], "can't be read"),
    "no url": ([secret([{**LOKI, "url": ""}])], "can't be read"),
    "line": ([secret([LOKI, {**LOKI, "password": "CANARY\n"}])], "Entry 2"),
    "number": ([secret([{**LOKI, "password": 5}])], "Entry 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_secret_of_no_use(case: str) -> None:
    found, words = WRONG[case]
    said = problem(*found)
    assert said.startswith("Secret readers in namespace shop ") and words in said
    assert "CANARY" not in said and "\n" not in said
