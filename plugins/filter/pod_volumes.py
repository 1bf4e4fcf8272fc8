# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_volumes
short_description: Divide volumes with their places into volumes and mounts
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes of volumes that say their own place what the specifications of a pod and of its container take.
options:
  _input:
    description: >-
      The volumes, each with C(mountPath) and one source in Kubernetes' words, and perhaps C(subPath), C(readOnly) and C(name), by
      default made of the path.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Mount an empty folder
  ansible.builtin.debug:
    msg: "{{ [{'mountPath': '/data', 'emptyDir': {}}] | flaskops.observability.pod_volumes }}"
"""

RETURN = r"""
_value:
  description: C(volumes) of the pod, C(volumeMounts) of its container, and C(problem), what can't be used; empty for nothing.
  type: dict
"""

import json
import re
from collections.abc import Callable
from typing import Any

PLACE = ("mountPath", "subPath", "readOnly")


def pod_volumes(given: list[dict[str, Any]]) -> dict[str, Any]:
    """The volumes and the mounts of *given*, and what of it can't be used."""
    volumes: list[dict[str, Any]] = []
    mounts, problem = [], ""
    for item in given:
        path = str(item.get("mountPath", ""))
        source = {key: value for key, value in item.items() if key not in (*PLACE, "name")}
        if len(path) < 2 or not path.startswith("/") or len(source) != 1:
            problem = problem or json.dumps(item)
        name = item.get("name") or re.sub("[^a-z0-9]+", "-", path.lower()).strip("-")[:63].rstrip("-")
        volume = {"name": name, **source}
        if not (item.get("name") and volume in volumes):  # a named one may have several places
            problem = problem or (json.dumps(item) if any(other["name"] == name for other in volumes) else "")
            volumes.append(volume)
        mounts.append({"name": name, **{key: item[key] for key in PLACE if key in item}})
    return {"volumes": volumes, "volumeMounts": mounts, "problem": problem}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pod_volumes": pod_volumes}
