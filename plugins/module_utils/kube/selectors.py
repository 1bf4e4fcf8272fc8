# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Label selectors: what they take, and which labels an object needs so that they take it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .transport import KubeError

if TYPE_CHECKING:
    from .objects import Objects

Json = dict[str, Any]

MONITORING = "monitoring.coreos.com"  # the API group of the Prometheus operator
# The fields of a Prometheus object by which it takes an object of a kind: by its labels, and by those of its namespace.
FIELDS = {kind: f"{kind[0].lower()}{kind[1:]}" for kind in ("ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig")}
FIELDS["PrometheusRule"] = "rule"


class NotSelected(KubeError):
    """Why a selector takes no object of ours, and what to do."""


def selector_of(workload: Json) -> str:
    """The selector of a workload's pods, as a query has it."""
    selector = workload["spec"].get("selector") or {}
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for item in selector.get("matchExpressions") or []:
        if item["operator"] in ("In", "NotIn"):
            parts.append(f"{item['key']} {item['operator'].lower()} ({','.join(item.get('values') or [])})")
        else:
            parts.append(item["key"] if item["operator"] == "Exists" else f"!{item['key']}")
    return ",".join(parts)


def selector_labels(selector: Json | None, own: dict[str, str], what: str) -> dict[str, str]:
    """The labels that an object with labels *own* still needs, so that the label *selector* takes it.

    :raises NotSelected: when no labels can do it; *what* names the selector in its message.
    """
    if selector is None:
        raise NotSelected(f"{what} is not set, which selects nothing: set it to {{}} or to labels, or name another Prometheus.")
    labels = dict(selector.get("matchLabels") or {})
    for item in selector.get("matchExpressions") or []:
        key, values, operator = item["key"], item.get("values") or [], item["operator"]
        value = {**own, **labels}.get(key)
        if operator == "In" and value not in values:
            labels[key] = values[0]
        elif operator == "Exists" and value is None:
            labels[key] = "true"
        elif (operator == "NotIn" and value in values) or (operator == "DoesNotExist" and value is not None):
            raise NotSelected(f"{what} refuses objects with the label {key}={value}, which ours need: change the selector.")
    return labels


def selects_namespace(selector: Json | None, home: str, namespace: str, labels: dict[str, str]) -> bool:
    """Whether a namespace *selector* of a stack in namespace *home* takes a namespace; None is only its own."""
    return home == namespace if selector is None else selects(selector, labels)


def selects(selector: Json, labels: dict[str, str]) -> bool:
    """Whether a label *selector* takes an object with these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for item in selector.get("matchExpressions") or []:
        value, values = labels.get(item["key"]), item.get("values") or []
        holds = {"In": value in values, "NotIn": value not in values, "Exists": value is not None, "DoesNotExist": value is None}
        if not holds[item["operator"]]:
            return False
    return True


def labels_for(owner: Json, field: str, own: dict[str, str], namespace: Json) -> dict[str, str]:
    """The labels that an object needs in addition to its *own*, so that a Prometheus or Alertmanager takes it from a namespace.

    :param field: such as ``serviceMonitor`` for the fields serviceMonitorSelector and serviceMonitorNamespaceSelector.
    :raises NotSelected: when no labels can do it.
    """
    spec, meta = owner["spec"], owner["metadata"]
    what = f"{field}Selector of {owner.get('kind', 'Prometheus')} {meta['namespace']}/{meta['name']}"
    space, name = spec.get(f"{field}NamespaceSelector"), namespace["metadata"]["name"]
    if not selects_namespace(space, meta["namespace"], name, namespace["metadata"].get("labels") or {}):
        raise NotSelected(
            f"{what.replace('Selector', 'NamespaceSelector', 1)} does not take the namespace {name}:"
            f" label the namespace as it asks ({json.dumps(space)}), or change it to {{}}."
        )
    return selector_labels(spec.get(f"{field}Selector"), own, what)


class Finder:
    """The labels that the cluster's Prometheus selects; of several the first that takes an object."""

    def __init__(self, objects: Objects) -> None:
        found = objects.every(f"{MONITORING}/v1", "Prometheus")
        self.servers = sorted(found, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))

    def labels(self, item: Json, namespace: Json) -> tuple[dict[str, str], str]:
        """The labels that an object of the operator needs, and why none can do it; empty where no Prometheus is there."""
        field, reason = FIELDS.get(item["kind"]), ""
        for server in self.servers if field else []:
            try:
                return labels_for(
                    {"kind": "Prometheus", **server}, str(field), item["metadata"].get("labels") or {}, namespace
                ), ""
            except NotSelected as error:
                reason = reason or str(error)
        return {}, reason
