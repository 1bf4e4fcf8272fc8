# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: schedule_access
short_description: Find what a scheduled verification may read
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Finds the namespaces into which the scheduled verification of one application may look, and the Secrets with which it asks
    log back ends that want a login.
  - A Secret is named by the values of a release of VictoriaLogs that this collection made. Somebody else's release names none.
  - Refuses a Secret with back ends that the verification can't use.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    description: This action reads only. In check mode the Secret may be missing as long as the namespace is.
    support: full
options:
  name:
    description: Name of the application.
    type: str
    required: true
  namespace:
    description: Namespace of the application.
    type: str
    required: true
  namespaces:
    description: Further namespaces into which the verification looks where they exist.
    type: list
    elements: str
    default: []
  secret:
    description: Name of a Secret in O(namespace) with log back ends; empty for none.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Find what the schedule may read
  flaskops.observability.schedule_access:
    context: staging
    name: shop
    namespace: shop
    namespaces: [monitoring, logging]
  register: access
"""

RETURN = r"""
namespaces:
  description: The application's namespace, and those of the others that exist.
  type: list
  elements: str
  returned: success
logins:
  description: For each namespace with a login the names of the C(secrets).
  type: list
  elements: dict
  returned: success
untrusted:
  description: Namespaces of releases whose login it may not read, and why.
  type: list
  elements: str
  returned: success
former:
  description: References to the roles and bindings that this schedule has now.
  type: list
  elements: dict
  returned: success
"""
