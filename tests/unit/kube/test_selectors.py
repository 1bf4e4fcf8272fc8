# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a selector, as the API server reads it."""

from __future__ import annotations

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.selectors import selector_of


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        (
            {"matchLabels": {"app": "f"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]},
            "app=f,tier in (a,b)",
        ),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a"]}]}, "tier notin (a)"),
        ({"matchExpressions": [{"key": "x", "operator": "Exists"}, {"key": "y", "operator": "DoesNotExist"}]}, "x,!y"),
        (None, ""),
    ],
)
def test_the_text_of_a_selector(selector: dict[str, object] | None, text: str) -> None:
    assert selector_of({"spec": {"selector": selector}}) == text
