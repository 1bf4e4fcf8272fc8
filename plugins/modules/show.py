# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: show
short_description: Print text as it is
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Prints a text on the controller exactly as it is, without JSON quoting, also in check mode.
  - This is an action; there is no module that runs on a host.
options:
  text:
    description: The text; may have several lines.
    type: str
    required: true
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
"""

EXAMPLES = r"""
- name: Show a table
  flaskops.observability.show:
    text: "{{ chain.table }}"
"""

RETURN = r""" # """
