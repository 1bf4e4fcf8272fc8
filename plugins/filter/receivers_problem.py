# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: receivers_problem
short_description: Say what is wrong with receivers of alerts
version_added: 0.2.0
author:
  - flaskops (@flaskops)
description:
  - Says in one sentence what the first receiver lacks that can't work. No value of a credential is in it.
options:
  _input:
    description:
      - Receivers as the role C(kube_prometheus_stack) takes them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse receivers that can't work
  ansible.builtin.assert:
    that: receivers | flaskops.observability.receivers_problem == ''
"""

RETURN = r"""
_value:
  description: The sentence; empty where nothing is wrong.
  type: str
  sample: "Receiver a of type slack has no credentials: set its secret and key."
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.monitoring.receivers import problem


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"receivers_problem": problem}
