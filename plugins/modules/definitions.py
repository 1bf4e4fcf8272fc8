# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: definitions
short_description: Remove an operator's CustomResourceDefinitions where nobody needs them
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Removes the CustomResourceDefinitions of an API group, and with them all objects of their kinds.
  - All of them stay where somebody else has objects of their kinds, which RV(in_use) names.
  - M(flaskops.observability.release) applies definitions.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  group:
    description: API group of the definitions. Those of groups that end in it belong to it.
    type: str
    required: true
  manager:
    description: Take only the definitions that this field manager applied; empty for all.
    type: str
    default: ""
  namespace:
    description: Namespace of O(releases).
    type: str
    default: ""
  releases:
    description: Helm releases whose objects do not count.
    type: list
    elements: str
    default: []
  own:
    description: Objects that do not count, by C(kind) and C(metadata).
    type: list
    elements: dict
    default: []
  kinds:
    description: Kinds of which each object counts; of the others those count that a Helm release made. Empty for all kinds.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait at most until they are gone.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Remove the definitions of the Prometheus operator
  flaskops.observability.definitions:
    context: staging
    group: monitoring.coreos.com
"""

RETURN = r"""
in_use:
  description: Objects of somebody else's, for which all definitions stay.
  returned: success
  type: list
  elements: str
  sample: ["Prometheus monitoring/k8s"]
removed:
  description: Definitions that were, or in check mode would be, removed.
  returned: success
  type: list
  elements: str
"""
