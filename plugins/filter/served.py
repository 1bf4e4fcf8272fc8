# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: served
short_description: Read the Secrets with which a program asks for a login and speaks TLS
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Gives what a client of the program needs, or what is wrong with one of the Secrets, without a value of it.
  - The certificate is tried by a handshake.
options:
  _input:
    description:
      - C(host), the name by which the program is reached; C(namespace) of the Secrets; their names as C(login), with the keys
        C(username) and C(password), and C(tls), with the keys C(tls.crt), C(tls.key) and C(ca.crt), empty where there is none;
        C(found), the Secrets that exist; and C(inline), a C(username) and C(password) that take the place of the Secret's.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Read the login
  ansible.builtin.set_fact:
    logs_access: >-
      {{ {'host': 'logs.logs.svc', 'namespace': 'logs', 'login': 'logs-login', 'tls': '', 'found': secrets.resources,
      'inline': {'username': '', 'password': ''}} | flaskops.observability.served }}
  no_log: true
"""

RETURN = r"""
_value:
  description: C(username), C(password) and C(ca), empty where there is none, and C(problem), empty where nothing is wrong.
  type: dict
"""

import typing as t

from ansible_collections.flaskops.observability.plugins.module_utils.credentials.served import access


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"served": access}
