# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unlisted_apps
short_description: Find applications of ours that nobody lists any more
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Names the applications on a cluster that the role C(flask_app) deployed and that are not in a list. Changes nothing.
  - Finds none where the account may not list the Deployments of all namespaces.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  listed:
    description: Namespace and name of each application that is known, with a slash between them.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Look for applications that are not in the list
  flaskops.observability.unlisted_apps:
    context: staging
    listed: [shop/shop, web/api]
"""

RETURN = r"""
apps:
  description: Namespace and name of each application that is not in O(listed).
  type: list
  elements: str
  returned: success
  sample: [web/former]
"""
