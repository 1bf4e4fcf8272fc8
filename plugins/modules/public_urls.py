# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: public_urls
short_description: Find where applications are reached from outside
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Reads the address of each application of an Ingress or HTTPRoute whose host leads to its Service, https first, or of the
    Service's load balancer, for which it waits.
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
  places:
    description: What is looked for.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the result calls it.
        type: str
        required: true
      app:
        description: Name of the Service; without it O(places[].name).
        type: str
      namespace:
        description: Namespace of the Service; without it O(namespace).
        type: str
      path:
        description: Path that is added to the address; without it C(/health).
        type: str
  namespace:
    description: Namespace of Services that name none.
    type: str
    default: default
  wait_timeout:
    description: Seconds to wait at most for the address of a load balancer.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Find the shop
  flaskops.observability.public_urls:
    context: staging
    places:
      - {name: shop, namespace: shop}
"""

RETURN = r"""
urls:
  description: The url of each of O(places), by its name.
  type: dict
  returned: success
  sample: {shop: "https://shop.example.com/health"}
"""
