# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rendered_images
short_description: Name the images that the objects of a chart run
version_added: 0.3.0
author:
  - flaskops (@flaskops)
description:
  - Takes what C(helm template) prints and gives the images of its pods, of what an operator makes pods of, and the one that the
    Prometheus operator is told to give each Prometheus. Hooks count, except those that only C(helm test) runs.
  - The names are full ones, as a node's C(ctr) takes them, so C(docker.io/library/busybox:latest) for C(busybox).
options:
  _input:
    description: The objects of each chart, as YAML.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: See which images a chart needs
  ansible.builtin.debug:
    msg: "{{ [rendered.stdout] | flaskops.observability.rendered_images }}"
"""

RETURN = r"""
_value:
  description:
    - For each image what runs it, by the values of the label C(app.kubernetes.io/name), else C(app); V(hook) is any hook.
  type: dict
  sample: {"docker.io/grafana/grafana:13.2.0": ["grafana"]}
"""

import typing as t

from ansible_collections.flaskops.observability.plugins.module_utils.helm.chart import images


def rendered_images(texts: list[str]) -> dict[str, list[str]]:
    """The images of objects, each with the names of what runs it."""
    return images("---\n".join(texts))


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rendered_images": rendered_images}
