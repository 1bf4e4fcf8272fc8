# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: verify
short_description: Make the alert rules about a verification that is repeated
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes the rule groups about a scheduled verification of one application.
  - They stand in C(files/rules.yml) of the role verify. A filter fills them in, because Jinja and Prometheus both write double
    braces.
options:
  _input:
    description:
      - C(name) and C(namespace) of the application, C(every), the seconds between two runs, C(alerts), what differs from the
        defaults by alert, and C(runbook_url).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the rules
  ansible.builtin.debug:
    msg: "{{ {'name': 'shop', 'namespace': 'shop', 'every': 300, 'alerts': {}} | flaskops.observability.verify }}"
"""

RETURN = r"""
_value:
  description: The rule groups, as a PrometheusRule has them.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.monitoring.rules import verify_rule_groups


def verify(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rule groups about a scheduled verification."""
    try:
        return verify_rule_groups(**options)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The collection's filter for role verify."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verify": verify}
