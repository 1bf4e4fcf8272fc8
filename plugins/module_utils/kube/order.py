# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order objects are applied and removed."""

from __future__ import annotations

from typing import Any

from . import promise as promises
from .selectors import FIELDS, MONITORING
from .wait import KINDS as WORKLOADS

Json = dict[str, Any]

# What others need is applied first and removed last.
PHASES = (
    {"Namespace", "PersistentVolume"},
    {"CustomResourceDefinition", "PriorityClass", "ServiceAccount", "Secret", "ConfigMap", "Role", "ClusterRole"},
    {"RoleBinding", "ClusterRoleBinding", "Service", "NetworkPolicy", "PodDisruptionBudget", "PersistentVolumeClaim"},
)
NEEDED = 1  # the phase of what pods can't start without


def phase_of(item: Json) -> int:
    """When an object is applied."""
    if is_promise(item):
        return 0
    if item["kind"] in WORKLOADS:
        return len(PHASES) + 1
    return next((number for number, kinds in enumerate(PHASES) if item["kind"] in kinds), len(PHASES))


def is_promise(item: Json) -> bool:
    return promises.LABEL in (item["metadata"].get("labels") or {})


def owns_others(item: Json) -> bool:
    """Whether other objects may belong to one, which are to be gone before it is."""
    group = item["apiVersion"].rpartition("/")[0]
    # Such a deletion is the garbage collector's, which learns of a new kind up to half a minute after its definition.
    configuration = group == MONITORING and item["kind"] in {*FIELDS, "AlertmanagerConfig"}
    return group in ("apps", "batch") or ("." in group and not group.endswith(".k8s.io") and not configuration)
