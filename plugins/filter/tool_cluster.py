# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: tool_cluster
short_description: Tell what kind, minikube or k3d calls the cluster of a context
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes of a kubeconfig and a context the name by which the program that made the cluster knows it.
  - A context may have been renamed, for the entry of its cluster keeps its name.
positional: context, tool
options:
  _input:
    description: The path of a kubeconfig, or several as in E(KUBECONFIG).
    type: str
    required: true
  context:
    description: The context.
    type: str
    required: true
  tool:
    description:
      - The program, as O(flaskops.observability.container_image#module:delivery) names it.
      - Where that is another way of delivery, the name is the context.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the cluster
  ansible.builtin.debug:
    msg: "{{ '~/.kube/config' | flaskops.observability.tool_cluster('kind-two', 'kind') }}"
"""

RETURN = r"""
_value:
  description: The name.
  type: str
  sample: two
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.image.cluster_tools import cluster_of


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"tool_cluster": cluster_of}
