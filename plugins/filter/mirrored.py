# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: mirrored
short_description: Have the releases of components come from other addresses
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Gives each component the address that stands for that of its releases, as M(flaskops.observability.toolchain) takes it.
positional: bases
options:
  _input:
    description: The components of C(images.yml) by their names.
    type: dict
    required: true
  bases:
    description: The addresses by the components' names, as role C(local_cluster) has them in C(local_cluster_release_bases).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the components
  ansible.builtin.debug:
    msg: "{{ images.toolchain | flaskops.observability.mirrored({'helm': 'https://mirror.example.com/helm'}) }}"
"""

RETURN = r"""
_value:
  description: The same components, those with another address having it as C(base).
  type: dict
"""

from collections.abc import Callable
from typing import Any

Components = dict[str, dict[str, Any]]


def mirrored(components: Components, bases: dict[str, str]) -> Components:
    return {name: {**spec, **({"base": bases[name]} if name in bases else {})} for name, spec in components.items()}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mirrored": mirrored}
