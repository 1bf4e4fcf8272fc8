# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: alert_rules
short_description: Make the alert rules of a role
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes the rule groups of a role that has one rule file, C(files/rules.yml), with the options of its alerts that differ.
  - A filter fills them in, because Jinja and Prometheus both write double braces.
options:
  _input:
    description:
      - For each alert that is to differ, some of C(threshold), C(window), C(for), C(severity) and C(enabled).
    type: dict
    required: true
  role:
    description:
      - Name of the role.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the rules
  ansible.builtin.debug:
    msg: "{{ ({'LokiDown': {'for': '10m'}} | flaskops.observability.alert_rules('loki')).groups }}"
"""

RETURN = r"""
_value:
  description: The rules, or why there are none.
  type: dict
  contains:
    problem:
      description: What is wrong with the options, in one sentence; empty where nothing is.
      type: str
    groups:
      description: The rule groups, as a PrometheusRule has them.
      type: list
      elements: dict
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.monitoring.rules import role_groups


def alert_rules(alerts: dict[str, Any], role: str) -> dict[str, Any]:
    """The rule groups of a role, and what is wrong with the options of its alerts."""
    try:
        return {"problem": "", "groups": role_groups(role, alerts)}
    except ValueError as error:
        return {"problem": str(error), "groups": []}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"alert_rules": alert_rules}
