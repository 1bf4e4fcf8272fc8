# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: package_folder
short_description: Find the folder of a Python package
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Gives the folder in which Ansible's own Python has a package, so that an image can have the same one.
options:
  _input:
    description: Name of the package.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show where PyYAML is
  ansible.builtin.debug:
    msg: "{{ 'yaml' | flaskops.observability.package_folder }}"
"""

RETURN = r"""
_value:
  description: The folder.
  type: str
  sample: /usr/lib/python3/dist-packages/yaml
"""

import importlib.util
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def package_folder(name: str) -> str:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise AnsibleFilterError(f"Ansible's Python has no package {name}: install it there.")
    return str(found.submodule_search_locations[0])


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"package_folder": package_folder}
