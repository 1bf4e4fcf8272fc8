#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: uptimerobot_contact_info
short_description: Show alert contacts and integrations of UptimeRobot
version_added: 0.1.0
description:
  - Shows whom UptimeRobot can alert, all of them or those of one name.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.external_checks
  - flaskops.observability.external_checks.read_only
  - flaskops.observability.external_checks.uptimerobot
options:
  name:
    description: Only entries of this exact name.
    type: str
seealso:
  - module: flaskops.observability.uptimerobot_monitor
"""

EXAMPLES = r"""
- name: Look up who is on call
  flaskops.observability.uptimerobot_contact_info:
    name: On call
  register: on_call
"""

RETURN = r"""
contacts:
  description: The entries that were found, an empty list where there are none.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id, as O(flaskops.observability.uptimerobot_monitor#module:contacts) takes it.
      returned: always
      type: str
      sample: "4711"
    name:
      description: Name at UptimeRobot.
      returned: always
      type: str
      sample: On call
    type:
      description: UptimeRobot's name of the kind of contact or integration.
      returned: always
      type: str
      sample: Email
    notifies:
      description: Whether it is switched on and is told when a monitor is down.
      returned: always
      type: bool
      sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.external_checks import modules


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**modules.api_spec("uptimerobot"), "name": {"type": "str"}},
        supports_check_mode=True,
    )
    modules.run_contacts(module, "uptimerobot")


if __name__ == "__main__":
    careful(main)()
