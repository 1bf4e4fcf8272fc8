# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_merge
short_description: Merge what a user sets into the specification of a pod
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Merges as C(kubectl patch) does by default. Dictionaries are merged. In lists of containers, volumes, mounts, ports and the
    like, an item is merged into the one with the same name (C(mountPath), C(containerPort)); others are added.
  - A volume of another kind takes the whole place of the one of its name. So does what a probe or a hook does, which is one of
    C(httpGet), C(tcpSocket), C(grpc), C(exec) and C(sleep).
  - What is null is taken away.
options:
  _input:
    description: The specification of the pod.
    type: dict
    required: true
  overrides:
    description: What the user sets.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Give /tmp more room
  ansible.builtin.debug:
    msg: "{{ pod | flaskops.observability.pod_merge({'volumes': [{'name': 'tmp', 'emptyDir': {'sizeLimit': '1Gi'}}]}) }}"
"""

RETURN = r"""
_value:
  description: The merged specification.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

# The key by which Kubernetes tells the items of a list apart (x-kubernetes-patch-merge-key of its OpenAPI document).
KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
# An item of these is of one kind, so keys of two don't go together: a volume, and a variable with a value or a source of it.
ONE_KIND = {"volumes", "env"}
ASKED = {"livenessProbe", "readinessProbe", "startupProbe", "preStop", "postStart"}
HANDLERS = {"httpGet", "tcpSocket", "grpc", "exec", "sleep"}


def pod_merge(base: Any, overrides: Any, field: str = "") -> Any:
    """*base*, None for nothing, with *overrides* merged into it, neither of them changed.

    :param field: the name under which both stand.
    :raises AnsibleFilterError: where a field is of another type than Kubernetes'.
    """
    key = KEYS.get(field)
    if key and not (isinstance(overrides, list) and all(isinstance(item, dict) and key in item for item in overrides)):
        raise AnsibleFilterError(f"{field} is no list of mappings that have {key} each: correct what is set of the pod.")
    if isinstance(overrides, dict):
        return _merged(base if isinstance(base, dict) else {}, overrides, field)
    if isinstance(base, dict):
        raise AnsibleFilterError(f"{field} is no mapping: correct what is set of the pod.")
    if not isinstance(overrides, list):
        return overrides
    if key is None:
        return [*(base or []), *(item for item in overrides if item not in (base or []))]
    found = {item.get(key): item for item in base or []}
    for item in overrides:
        name = item[key]
        same_kind = name in found and (field not in ONE_KIND or set(found[name]) == set(item))
        found[name] = pod_merge(found[name] if same_kind else None, item)
    return list(found.values())


def _merged(base: dict[str, Any], overrides: dict[str, Any], field: str) -> dict[str, Any]:
    if field in ASKED and HANDLERS & overrides.keys():
        base = {key: value for key, value in base.items() if key not in HANDLERS - overrides.keys()}
    kept = {key: value for key, value in base.items() if key not in overrides}
    given = {key: value for key, value in overrides.items() if value is not None}
    return {**kept, **{key: pod_merge(base.get(key), value, key) for key, value in given.items()}}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pod_merge": pod_merge}
