# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inline_secrets
short_description: Find credentials in settings
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Lists the keys whose value is a credential, such as C(password) or C(api_key), and the addresses with a user name.
  - A key that ends in C(_file) names a file, and is none.
options:
  _input:
    description:
      - Settings of any depth.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Refuse credentials in settings
  ansible.builtin.assert:
    that: settings | flaskops.observability.inline_secrets == []
"""

RETURN = r"""
_value:
  description: Where they are, without their values.
  type: list
  elements: str
  sample: [http_config.basic_auth.password]
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.credentials.guard import inline_secrets


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"inline_secrets": inline_secrets}
