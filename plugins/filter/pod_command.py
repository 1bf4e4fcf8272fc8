# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_command
short_description: Make the pod of another process of an application
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes of an application's pod one that runs a command in the same image, with the same environment, volumes, account and
    security.
  - What is about serving requests is not in it, which is the ports, the probes and what the container does before it stops. Other
    containers stay.
options:
  _input:
    description: The specification of the application's pod.
    type: dict
    required: true
  container:
    description: Name of the application's container.
    type: str
    required: true
  name:
    description: Name of the container that runs the command.
    type: str
    required: true
  command:
    description: The command, each word by itself.
    type: list
    elements: str
    required: true
  alone:
    description: Whether it is a single pod that ends, without other containers, which would keep it going. Init containers stay.
    type: bool
    default: false
  probe:
    description: A command that ends with 0 while the process is well; none where it is empty.
    type: list
    elements: str
    default: []
  resources:
    description: What is to differ in the container's resources.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show a worker's pod
  ansible.builtin.debug:
    msg: "{{ pod | flaskops.observability.pod_command('shop', 'mail', ['celery', '--app', 'shop', 'worker']) }}"
"""

RETURN = r"""
_value:
  description: The specification of the pod.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from .pod_merge import pod_merge

SERVING = {"args", "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"}
# A command of Python starts for a second or two each time, and a worker may be busy: it is asked seldom, and given time.
TIMES = {"initialDelaySeconds": 30, "periodSeconds": 30, "timeoutSeconds": 15}


def pod_command(
    pod: dict[str, Any],
    container: str,
    name: str,
    command: list[str],
    alone: bool = False,
    probe: list[str] | None = None,
    resources: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The pod in which *name* runs a *command* in the place of the application's *container*."""
    labels = {"app.kubernetes.io/name": container, "flaskops/worker": name}
    probed = {"livenessProbe": {"exec": {"command": probe}, **TIMES}} if probe else {}

    def spread(constraint: dict[str, Any]) -> dict[str, Any]:
        own = constraint.get("labelSelector") == {"matchLabels": {"app": container}}
        return {**constraint, "labelSelector": {"matchLabels": labels}} if own else constraint

    def running(one: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in one.items() if key not in SERVING}
        return {**kept, "name": name, "command": command, "resources": pod_merge(one.get("resources"), resources or {}), **probed}

    kept = [one for one in pod["containers"] if one["name"] == container or not alone]
    made = {**pod, "containers": [running(one) if one["name"] == container else one for one in kept]}
    constraints = made.pop("topologySpreadConstraints", None)
    return made | ({"topologySpreadConstraints": list(map(spread, constraints))} if constraints and not alone else {})


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pod_command": pod_command}
