#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: statuscake_uptime_check_info
short_description: Show uptime checks of StatusCake
version_added: 0.1.0
description:
  - Shows all checks of the account, those of one environment, those of one name, or one by its id.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.external_checks
  - flaskops.observability.external_checks.info
  - flaskops.observability.external_checks.read_only
  - flaskops.observability.external_checks.statuscake
options:
  id:
    description: Id of one check; the list is empty where there is none.
    type: str
  details:
    description: Whether to read each check one by one too, since the list has few of the options. Costs one request a check.
    type: bool
    default: false
seealso:
  - module: flaskops.observability.statuscake_uptime_check
"""

EXAMPLES = r"""
- name: Show what is watched in production
  flaskops.observability.statuscake_uptime_check_info:
    environment: production
  register: watched

- name: Refuse to go on while something is down
  ansible.builtin.assert:
    that: watched.checks | rejectattr('status', 'in', ['up', 'paused']) | list | length == 0
"""

RETURN = r"""
checks:
  description:
    - The checks that were found, in the words of the options of M(flaskops.observability.statuscake_uptime_check).
    - An empty list where there are none.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id of the check at StatusCake.
      returned: always
      type: str
      sample: "6714321"
    name:
      description: Name of the check.
      returned: always
      type: str
      sample: shop
    type:
      description:
        - V(http) for a check that M(flaskops.observability.statuscake_uptime_check) can manage.
        - Else StatusCake's own name of the type, or V(unknown) where it tells none.
      returned: always
      type: str
      sample: http
    status:
      description: V(up), V(down), V(paused), or V(unknown) for a check that was not run yet.
      returned: always
      type: str
      sample: up
    paused:
      description: Whether the check is paused.
      returned: always
      type: bool
      sample: false
    tags:
      description: All tags of the check.
      returned: always
      type: list
      elements: str
      sample: [flaskops-production, shop]
    interval:
      description: Seconds between two checks.
      returned: always
      type: int
      sample: 300
    url:
      description: Address that is checked.
      returned: always
      type: str
      sample: https://shop.example.com/health
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.external_checks import modules


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **modules.api_spec("statuscake"),
            **modules.INFO,
            "id": {"type": "str"},
            "details": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("id", "name"), ("id", "environment")],
        supports_check_mode=True,
    )
    modules.run_info(module, "statuscake")


if __name__ == "__main__":
    careful(main)()
