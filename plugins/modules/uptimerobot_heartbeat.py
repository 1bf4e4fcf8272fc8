#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: uptimerobot_heartbeat
short_description: Manage a heartbeat monitor of UptimeRobot
version_added: 0.1.0
description:
  - Manages one monitor of the type heartbeat of UptimeRobot through its API v3.
  - Such a monitor has an address of its own. It is down when nobody has called that for O(interval) and O(grace_period) together.
  - Whoever knows the address can send heartbeats, so it is a secret. RV(url) has it in a task with C(no_log=true) alone.
  - Monitors of other types are never changed or deleted.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.external_checks
  - flaskops.observability.external_checks.uptimerobot
options:
  state:
    description:
      - V(present) makes the heartbeat or changes it, and leaves it running or paused as it is.
      - V(absent) deletes it with its history. A new one has another address.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - Name of the heartbeat. It is found by this exact name among the monitors with the tag C(flaskops-heartbeat-<environment>).
    type: str
    required: true
  environment:
    description: Lower-case letters, digits and dashes, at most 45; see O(name).
    type: str
    default: default
  interval:
    description:
      - Seconds within which a heartbeat is expected, from 30 to 2678400; V(300) for a new one where this is not set.
      - What the account's plan does not allow is refused by UptimeRobot, whose words are shown.
    type: int
  grace_period:
    description: Seconds after O(interval), up to 86400, in which it may still come; V(300) for a new one where this is not set.
    type: int
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
  tags:
    description: All tags of the heartbeat, beside the one that marks it as ours.
    type: list
    elements: str
  wait:
    description:
      - Whether to wait, up to a minute, until the list of monitors shows what was written. UptimeRobot's copies lag behind.
    type: bool
    default: true
notes:
  - An option that is not set is not managed, and what somebody set at UptimeRobot stays.
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
  diff_mode:
    support: full
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    details:
      - The address is in none.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
seealso:
  - module: flaskops.observability.uptimerobot_monitor
  - module: flaskops.observability.uptimerobot_contact_info
"""

EXAMPLES = r"""
- name: Expect a heartbeat of the nightly backup
  flaskops.observability.uptimerobot_heartbeat:
    name: backup
    environment: production
    interval: 86400
    grace_period: 3600
    contacts:
      - contact: On call
  register: heartbeat
  no_log: true

- name: Tell the backup where to send it
  ansible.builtin.copy:
    content: "{{ heartbeat.url }}"
    dest: /etc/backup/heartbeat
    mode: "0600"
  no_log: true
"""

RETURN = r"""
id:
  description: Id of the heartbeat at UptimeRobot.
  returned: success, but not when it would be created in check mode or when there is nothing to delete
  type: int
  sample: 803114272
url:
  description: Where a heartbeat is sent to, by GET or POST.
  returned: >-
    O(state=present) in a task with C(no_log=true), but not when the heartbeat would be created in check mode
  type: str
  sample: https://heartbeat.uptimerobot.com/m803114272-...
actions:
  description:
    - What was done, or would be in check mode, in this order.
    - One or more of C(create), C(update), C(delete).
    - In a failure, what was done before it.
  returned: success, and a failure at the provider
  type: list
  elements: str
  sample: [create]
check:
  description:
    - The heartbeat as it is now, or would be, in the words of this module's options. Empty for O(state=absent).
  returned: success
  type: dict
  sample:
    name: backup
    interval: 86400
    grace_period: 3600
    paused: false
diff:
  description: The options that change, before and after.
  returned: success
  type: dict
  sample: {"before": {"interval": 300}, "after": {"interval": 60}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.external_checks import heartbeat, modules


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **modules.api_spec("uptimerobot"),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str", "required": True},
            "environment": {"type": "str", "default": "default"},
            "interval": {"type": "int"},
            **heartbeat.SPEC,
            "tags": {"type": "list", "elements": "str"},
            "wait": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    modules.run_heartbeat(module)


if __name__ == "__main__":
    careful(main)()
