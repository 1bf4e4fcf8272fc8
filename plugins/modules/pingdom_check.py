#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pingdom_check
short_description: Manage an uptime check of Pingdom
version_added: 0.1.0
description:
  - Manages one uptime check of the type http of Pingdom through its API 3.1.
  - Checks of other types are never changed or deleted, whether they are found by name or by id.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.external_checks
  - flaskops.observability.external_checks.check
  - flaskops.observability.external_checks.pingdom
options:
  id:
    description:
      - Id of the check, instead of its O(name). The check need not be one of ours, and with O(state=absent) it is deleted
        whatever its tags.
    type: int
  interval:
    description:
      - Seconds between two checks; V(300) for a new check where this is not set.
      - What the account's plan does not allow is refused by Pingdom, whose words are shown.
    type: int
    choices: [60, 300, 900, 1800, 3600]
  check_timeout:
    description: Seconds, up to 30, after which a slow answer counts as down; not on every plan.
    type: int
  request_body:
    description: Data to send with the request, which then is a POST; an empty text ends this.
    type: str
  contacts:
    description: Ids or exact names of the contacts to alert, all of them. A name costs further requests.
    type: list
    elements: str
  teams:
    description: Ids or exact names of the teams to alert, all of them. A name costs further requests.
    type: list
    elements: str
  integrations:
    description: Ids of the integrations to alert, all of them. Pingdom's API does not list them, so names can't be used.
    type: list
    elements: str
  regions:
    description: Regions to check from; North America, Europe, Asia Pacific and Latin America. An empty list stands for all.
    type: list
    elements: str
    choices: [NA, EU, APAC, LATAM]
  verify_certificate:
    description: Whether a bad certificate counts as down.
    type: bool
  tls_expiry_days:
    description: The check counts as down when the certificate ends within so many days; V(0) ends this.
    type: int
  ipv6:
    description: Whether to use IPv6.
    type: bool
  alert_after:
    description: Number of failed checks in a row after which to alert.
    type: int
  alert_again_every:
    description: Number of further failed checks after which to alert again; V(0) for never.
    type: int
  alert_when_up:
    description: Whether to tell when the check is up again.
    type: bool
  alert_message:
    description: Text to add to alerts by email and webhook; an empty one ends this.
    type: str
seealso:
  - module: flaskops.observability.pingdom_check_info
  - module: flaskops.observability.pingdom_contact_info
  - module: flaskops.observability.external_checks
"""

EXAMPLES = r"""
- name: Watch the shop from outside
  flaskops.observability.pingdom_check:
    name: shop
    environment: production
    url: https://shop.example.com/health
    interval: 60
    keyword: '"status": "ok"'
    tls_expiry_days: 7
    teams: [On call]
    regions: [EU, NA]
    tags: [shop]

- name: Start a check that was paused by hand
  flaskops.observability.pingdom_check:
    id: 12345678
    state: started

- name: Delete it
  flaskops.observability.pingdom_check:
    name: shop
    environment: production
    state: absent
"""

RETURN = r"""
id:
  description: Id of the check at Pingdom.
  returned: success, but not when a check would be created in check mode or when there is nothing to delete
  type: int
  sample: 12345678
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
from ..module_utils.external_checks import modules, pingdom


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **modules.api_spec("pingdom"),
            **modules.CHECK,
            "id": {"type": "int"},
            **pingdom.SPEC,
        },
        required_one_of=[("id", "name")],
        supports_check_mode=True,
    )
    modules.run_check(module, "pingdom")


if __name__ == "__main__":
    careful(main)()
