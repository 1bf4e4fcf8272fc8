# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: located
short_description: Give checks the urls that were found for them
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes of the checks of role C(external_checks) those that module M(flaskops.observability.external_checks) takes.
positional: urls, state
options:
  _input:
    description: The checks.
    type: list
    elements: dict
    required: true
  urls:
    description: The urls of those that have none, by the check's name; see M(flaskops.observability.public_urls).
    type: dict
    required: true
  state:
    description: With V(absent) all checks are to be removed.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Show the checks
  ansible.builtin.debug:
    msg: "{{ [{'name': 'shop', 'app': 'shop'}] | flaskops.observability.located({'shop': 'https://shop.example.com/health'}) }}"
"""

RETURN = r"""
_value:
  description: The checks, with their urls and without what only their search needs.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.external_checks.addresses import located


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"located": located}
