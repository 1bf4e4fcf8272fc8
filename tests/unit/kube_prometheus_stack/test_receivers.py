# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers that can't work are named, without a credential."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.receivers import problem

SECRET = {"secret": "s", "key": "k"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "none"}, ""),
        ({"type": "webhook"}, "without an address"),
        ({"type": "webhook", "secret": "s"}, "without an address"),
        ({"type": "webhook", "url": "https://a.test/hook"}, ""),
        ({"type": "webhook", **SECRET}, ""),
        ({"type": "slack"}, "type slack has no credentials"),
        ({"type": "pagerduty", "secret": "s"}, "type pagerduty has no credentials"),
        ({"type": "slack", **SECRET}, ""),
        ({"type": "email", "to": "a", "from": "b"}, "lacks to, from or smarthost"),
        ({"type": "email", "to": "a", "from": "b", "smarthost": "c"}, ""),
        ({"type": "email", "to": "a", "from": "b", "smarthost": "c", "secret": "s"}, "secret s without a key"),
        ({"type": "webhook", "url": "https://ann:hunter2@a.test"}, "credential in url"),
        (
            {"type": "webhook", "url": "https://a.test", "settings": {"http_config": {"password": "hunter2"}}},
            "http_config.password",
        ),
        ({"type": "webhook", "url": "a.test"}, "no web address"),
        ({"type": "none", "settings": {"url": "a.test"}}, "no web address"),
    ],
)
def test_problem(given: dict[str, Any], words: str) -> None:
    found = problem([{"name": "fine", "type": "none"}, {"name": "it", **given}])
    assert words in found and bool(found) == bool(words)
    assert "hunter2" not in found and found.startswith("Receiver it " if words else "")
