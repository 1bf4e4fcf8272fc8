# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: receivers
short_description: Make Alertmanager's configuration of receivers
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Says what is wrong with receivers of alerts, and what Alertmanager's configuration has for them.
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
    that: (receivers | flaskops.observability.receivers).problem == ''
"""

RETURN = r"""
_value:
  description: What follows from the receivers.
  type: dict
  contains:
    problem:
      description: What the first receiver lacks that can't work, in one sentence; empty where nothing is wrong.
      type: str
      sample: "Receiver a of type slack has no credentials: set its secret."
    configs:
      description: The receivers as Alertmanager's configuration has them.
      type: list
      elements: dict
    routes:
      description: A route for each receiver that is notified of some severities only.
      type: list
      elements: dict
    default:
      description: Name of the first receiver that is notified of all severities; empty where there is none.
      type: str
    beyond:
      description: A matcher of the severities that none of these routes takes; empty where there are no such routes.
      type: list
      elements: str
    keys:
      description: The Secrets and keys that they name, with C(name), whose they are, C(secret) and C(key).
      type: list
      elements: dict
    addresses:
      description: Addresses that no message may show.
      type: list
      elements: str
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.monitoring import receivers as of


def receivers(given: list[dict[str, Any]]) -> dict[str, Any]:
    """What Alertmanager's configuration has for the receivers, and what is wrong with them."""
    routes = of.routes(given)
    taken = [word for word in of.SEVERITIES if any(word in (item.get("severities") or []) for item in given)]
    return {
        "problem": (problem := of.problem(given)),
        "configs": [] if problem else [of.configured(item) for item in given],
        "routes": routes,
        "default": next((item["name"] for item in given if not item.get("severities")), ""),
        "beyond": [f'severity!~"{"|".join(taken)}"'] if taken else [],
        "keys": [
            {"name": f"Receiver {item['name']}", "secret": reference["name"], "key": reference["key"]}
            for item in given
            for reference in of.references(item)
        ],
        "addresses": [address for item in given for address in of.addresses(item)],
    }


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"receivers": receivers}
