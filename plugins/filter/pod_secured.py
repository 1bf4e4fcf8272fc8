# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_secured
short_description: Give every container of a pod a security context
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Gives each container, and each init container, what a security context has and the container does not say otherwise.
options:
  _input:
    description: The specification of the pod.
    type: dict
    required: true
  context:
    description: The security context.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Give a pod what the restricted Pod Security level asks for
  ansible.builtin.debug:
    msg: "{{ pod | flaskops.observability.pod_secured({'allowPrivilegeEscalation': false, 'capabilities': {'drop': ['ALL']}}) }}"
"""

RETURN = r"""
_value:
  description: The specification with these contexts.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from .pod_merge import pod_merge

KINDS = ("initContainers", "containers")


def pod_secured(pod: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """*pod* with *context* under what each container says of its own, none of them changed."""

    def secured(container: dict[str, Any]) -> dict[str, Any]:
        return {**container, "securityContext": pod_merge(context, container.get("securityContext") or {})}

    return {**pod, **{kind: [secured(container) for container in pod[kind]] for kind in KINDS if pod.get(kind)}}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pod_secured": pod_secured}
