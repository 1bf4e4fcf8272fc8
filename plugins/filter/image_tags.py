# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_tags
short_description: Name the images of programs as charts do
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Gives each program its image in the three parts that charts have, with the tag of the version that it really has.
positional: components
options:
  _input:
    description: The programs by their names; each has its C(component), and as C(image) the official name of its image.
    type: dict
    required: true
  components:
    description: The components of C(images.yml) by their names.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the image of Prometheus
  ansible.builtin.debug:
    msg: "{{ {'main': program} | flaskops.observability.image_tags(images.toolchain) }}"
  vars:
    program: {component: prometheus, image: quay.io/prometheus/prometheus}
"""

RETURN = r"""
_value:
  description: C(registry), C(repository) and C(tag) of each program's image.
  type: dict
"""

from collections.abc import Callable
from typing import Any

Named = dict[str, dict[str, Any]]


def image_tags(programs: Named, components: Named) -> dict[str, dict[str, str]]:
    found = {}
    for name, program in programs.items():
        registry, _, repository = program["image"].partition("/")
        component = components[program["component"]]
        tag = f"v{component.get('release') or component['version']}"
        found[name] = {"registry": registry, "repository": repository, "tag": tag}
    return found


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"image_tags": image_tags}
