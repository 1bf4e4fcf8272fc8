#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: statuscake_uptime_check
short_description: Manage an uptime check of StatusCake
version_added: 0.1.0
description:
  - Manages one uptime check of the type HTTP or HEAD of StatusCake through its API v1.
  - Checks of other types are never changed or deleted, whether they are found by name or by id.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.external_checks
  - flaskops.observability.external_checks.check
  - flaskops.observability.external_checks.statuscake
options:
  id:
    description:
      - Id of the check, instead of its O(name). The check need not be one of ours, and with O(state=absent) it is deleted
        whatever its tags.
    type: str
  interval:
    description:
      - Seconds between two checks; V(300) for a new check where this is not set.
      - What the account's plan does not allow is refused by StatusCake, whose words are shown.
    type: int
    choices: [30, 60, 300, 900, 1800, 3600, 86400]
  check_timeout:
    description: Seconds, from 5 to 75, after which no answer counts as down.
    type: int
  method:
    description:
      - Method of the request, V(GET) for a new check where this is not set. StatusCake can't change it later, see
        O(recreate).
    type: str
    choices: [GET, HEAD]
  request_body:
    description: Data to send with the request, which then is a POST; an empty text ends this.
    type: str
  keyword_in_headers:
    description: Whether the O(keyword) is looked for in the answer's headers too.
    type: bool
  down_status_codes:
    description: Codes that count as down, all of them. Once set, StatusCake's own list can't be brought back by its API.
    type: list
    elements: str
  contacts:
    description: Ids or exact names of the contact groups to alert, all of them. A name costs further requests.
    type: list
    elements: str
  regions:
    description: Codes of the regions to check from, as V(london); StatusCake's C(/v1/uptime-locations) lists them.
    type: list
    elements: str
  tls_alert:
    description: Whether to alert before the certificate ends.
    type: bool
  redirects:
    description: Whether redirects are followed.
    type: bool
  final_url:
    description: Address at which redirects must end.
    type: str
  confirmations:
    description: Number of further servers, 0 to 3, that must find the check down.
    type: int
  trigger_delay:
    description: Seconds, in steps of 60 up to 3600, from an outage to the alert.
    type: int
  user_agent:
    description: Text with which the request names its program.
    type: str
  cookies:
    description: Whether cookies are kept from one request to the next.
    type: bool
seealso:
  - module: flaskops.observability.statuscake_uptime_check_info
  - module: flaskops.observability.statuscake_contact_info
  - module: flaskops.observability.external_checks
"""

EXAMPLES = r"""
- name: Watch the shop from outside
  flaskops.observability.statuscake_uptime_check:
    name: shop
    environment: production
    url: https://shop.example.com/health
    interval: 60
    keyword: '"status": "ok"'
    contacts: [On call]
    regions: [london, frankfurt]
    tags: [shop]

- name: Pause it during work
  flaskops.observability.statuscake_uptime_check:
    name: shop
    environment: production
    state: paused

- name: Delete it
  flaskops.observability.statuscake_uptime_check:
    name: shop
    environment: production
    state: absent
"""

RETURN = r"""
id:
  description: Id of the check at StatusCake.
  returned: success, but not when a check would be created in check mode or when there is nothing to delete
  type: str
  sample: "6714321"
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
from ..module_utils.external_checks import modules, statuscake


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **modules.api_spec("statuscake"),
            **modules.CHECK,
            "id": {"type": "str"},
            **statuscake.SPEC,
        },
        required_one_of=[("id", "name")],
        supports_check_mode=True,
    )
    modules.run_check(module, "statuscake")


if __name__ == "__main__":
    careful(main)()
