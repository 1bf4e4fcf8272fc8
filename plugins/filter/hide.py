# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hide
short_description: Hide credentials in a text
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Replaces each secret in a text, also where another program has written it with escapes or in Base64.
options:
  _input:
    description:
      - A text, such as the message of a program that was given the secrets.
    type: str
    required: true
  secrets:
    description:
      - What must not be seen. Empty ones are skipped.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Say what the program says
  ansible.builtin.fail:
    msg: "{{ result.stderr | flaskops.observability.hide([webhook_url]) }}"
"""

RETURN = r"""
_value:
  description: The text without them.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.credentials.guard import hide


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hide": hide}
