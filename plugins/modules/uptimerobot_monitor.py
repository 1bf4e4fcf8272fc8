#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: uptimerobot_monitor
short_description: Manage a monitor of UptimeRobot
version_added: 0.1.0
description:
  - Manages one HTTP or keyword monitor of UptimeRobot through its API v3.
  - Monitors of other types are never changed or deleted, whether they are found by name or by id.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.external_checks
  - flaskops.observability.external_checks.check
  - flaskops.observability.external_checks.uptimerobot
options:
  id:
    description:
      - Id of the check, instead of its O(name). The check need not be one of ours, and with O(state=absent) it is deleted
        whatever its tags.
    type: int
  check_timeout:
    description: Seconds, up to 60, after which no answer counts as down; V(30) for a new monitor where this is not set.
    type: int
  method:
    description:
      - Method of the request; UptimeRobot's own default is V(HEAD).
      - Where this is not set, a monitor with a O(request_body) that has V(HEAD) or V(GET) gets V(POST), and one with a
        O(keyword) that has V(HEAD) gets V(GET), since it could neither send the one nor find the other.
    type: str
    choices: [HEAD, GET, POST, PUT, PATCH, DELETE, OPTIONS]
  request_body:
    description: JSON object to send with the request, as text. Refused with O(method=HEAD) and O(method=GET), which send none.
    type: str
  keyword_case_sensitive:
    description: Whether the O(keyword) must be found in this case.
    type: bool
  expected_status_codes:
    description: Codes that count as up, as V(200) or V(2xx). An empty list brings UptimeRobot's default back.
    type: list
    elements: str
  contacts:
    description: Whom to alert, all of them.
    type: list
    elements: dict
    suboptions:
      contact:
        description: Id or exact name of an alert contact or an integration. A name costs further requests.
        type: str
        required: true
      delay:
        description: Seconds, in steps of 60, from an outage to the alert. V(0) on the free plan.
        type: int
        default: 0
      repeat:
        description: Seconds, in steps of 60, after which the alert is repeated; V(0) for never. V(0) on the free plan.
        type: int
        default: 0
  regions:
    description: Regions to check from; North America, Europe, Asia and Oceania.
    type: list
    elements: str
    choices: [na, eu, as, oc]
  tls_expiry_days:
    description:
      - Days before the end of the certificate on which to remind, at most 10 of 0 to 365; an empty list ends the reminders.
    type: list
    elements: int
  verify_certificate:
    description: Whether a bad certificate counts as down.
    type: bool
  domain_expiry_reminder:
    description: Whether to remind before the domain ends.
    type: bool
  redirects:
    description: Whether redirects are followed.
    type: bool
  ip_version:
    description: The only version of IP to use.
    type: str
    choices: [ipv4, ipv6]
  wait:
    description:
      - Whether to wait, up to a minute, until the list of monitors shows what was written.
      - UptimeRobot answers from copies that lag behind, so that another task would otherwise not see the monitor and make a
        second one.
    type: bool
    default: true
seealso:
  - module: flaskops.observability.uptimerobot_monitor_info
  - module: flaskops.observability.uptimerobot_contact_info
  - module: flaskops.observability.external_checks
"""

EXAMPLES = r"""
- name: Watch the shop from outside
  flaskops.observability.uptimerobot_monitor:
    name: shop
    environment: production
    url: https://shop.example.com/health
    interval: 300
    keyword: '"status": "ok"'
    tls_expiry_days: [21, 7, 1]
    contacts:
      - contact: On call
    tags: [shop]

- name: Pause it during work
  flaskops.observability.uptimerobot_monitor:
    name: shop
    environment: production
    state: paused

- name: Delete it
  flaskops.observability.uptimerobot_monitor:
    name: shop
    environment: production
    state: absent
"""

RETURN = r"""
id:
  description: Id of the check at UptimeRobot.
  returned: success, but not when a check would be created in check mode or when there is nothing to delete
  type: int
  sample: 803114272
actions:
  description:
    - What was done, or would be in check mode, in this order.
    - One or more of C(create), C(update), C(recreate), C(pause), C(start), C(delete).
    - In a failure, what was done before it.
  returned: success, and a failure at the provider
  type: list
  elements: str
  sample: [update, pause]
check:
  description:
    - The check as it is now, or would be, in the words of this module's options; passwords, bodies and secret headers are masked.
    - Holds what had to be read or was set. Empty for O(state=absent).
  returned: success
  type: dict
  sample:
    name: shop
    url: https://shop.example.com/health
    interval: 300
    paused: false
diff:
  description: The options that change, before and after.
  returned: success
  type: dict
  sample: {"before": {"interval": 300}, "after": {"interval": 60}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.external_checks import modules, uptimerobot


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **modules.api_spec("uptimerobot"),
            **modules.CHECK,
            "id": {"type": "int"},
            **uptimerobot.SPEC,
            "wait": {"type": "bool", "default": True},
        },
        required_one_of=[("id", "name")],
        supports_check_mode=True,
    )
    modules.run_check(module, "uptimerobot")


if __name__ == "__main__":
    careful(main)()
