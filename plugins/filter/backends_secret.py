# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: backends_secret
short_description: Say what is wrong with the Secret of the scheduled verification
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Reads the key C(log_backends.json) of a Secret as the scheduled verification does before each run.
options:
  _input:
    description:
      - C(name) and C(namespace) of the Secret, and C(found), a list with the Secret, empty where it does not exist.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Look at the Secret
  ansible.builtin.set_fact:
    problem: >-
      {{ {'name': 'log-readers', 'namespace': 'shop', 'found': secrets.resources} | flaskops.observability.backends_secret }}
"""

RETURN = r"""
_value:
  description: What is wrong, without a value of the Secret; empty when nothing is.
  type: str
"""

import typing as t

from ansible_collections.flaskops.observability.plugins.module_utils.verify.given_backends import secret_problem


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"backends_secret": secret_problem}
