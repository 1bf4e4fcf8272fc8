# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: checks_of_apps
short_description: Make the checks of a list of applications
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Lists what each application has as C(external_checks). Those of an application that is to be absent are, too.
positional: environment, host
options:
  _input:
    description: The applications, as M(flaskops.observability.flask_apps) returns them.
    type: list
    elements: dict
    required: true
  environment:
    description: Follows the application's name in the name of a check that has none of its own.
    type: str
    required: true
  host:
    description: Follows the environment.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the checks
  ansible.builtin.debug:
    msg: "{{ applications.apps | flaskops.observability.checks_of_apps(environment_name, inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The checks, as role C(external_checks) takes them.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.external_checks.addresses import of_apps


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"checks_of_apps": of_apps}
