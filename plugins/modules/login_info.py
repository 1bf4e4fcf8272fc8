# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: login_info
short_description: Read what clients of a program need that asks for a login and speaks TLS
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Reads the Secrets with the login and the certificate of a program. Refuses what no client could use, and shows no value of it.
  - The certificate is tried by a handshake.
  - What it returns is a credential, so its task needs C(no_log).
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
  host:
    description: The name by which the program is reached.
    type: str
    required: true
  namespace:
    description: Namespace of the Secrets.
    type: str
    required: true
  existing_secret:
    description: Name of the Secret with the keys C(username) and C(password); empty where no login is asked for.
    type: str
    default: ""
  tls_secret:
    description: Name of the Secret with the keys C(tls.crt), C(tls.key) and C(ca.crt); empty where it does not speak TLS.
    type: str
    default: ""
  username:
    description: Takes, with O(password), the place of O(existing_secret).
    type: str
    default: ""
  password:
    description: Belongs to O(username).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Read the login
  flaskops.observability.login_info:
    context: staging
    host: logs.logs.svc
    namespace: logs
    existing_secret: logs-login
    tls_secret: logs-tls
  register: access
  no_log: true
"""

RETURN = r"""
username:
  description: The user name; empty where no login is asked for.
  type: str
  returned: success
password:
  description: The password.
  type: str
  returned: success
ca:
  description: The certificates of the authority; empty where the program does not speak TLS.
  type: str
  returned: success
"""
