# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: web_address
short_description: Is it a web address without a user name
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Tells whether a value is a well-formed address that begins with C(http://) or C(https://) and holds no user name or password.
options:
  _input:
    description:
      - Any value.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Refuse an address that can't be used
  ansible.builtin.assert:
    that: url is flaskops.observability.web_address
"""

RETURN = r"""
_value:
  description: Whether it is one.
  type: bool
"""

from collections.abc import Callable

from ..module_utils.credentials.guard import is_address


class TestModule:
    """The test."""

    def tests(self) -> dict[str, Callable[..., bool]]:
        return {"web_address": is_address}
