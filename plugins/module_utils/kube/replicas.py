# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sets a workload's number of pods: we, or an autoscaler, whose number no run touches."""

from __future__ import annotations

from typing import Any

MANAGER = "flaskops"  # the field manager by which the collection applies
UNKNOWN = "somebody"


def owners(live: dict[str, Any]) -> list[dict[str, Any]]:
    """Who owns a Deployment's number of pods, by its managedFields."""
    entries = live["metadata"].get("managedFields") or []
    return [entry for entry in entries if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})]


def is_ours(entry: dict[str, Any]) -> bool:
    return bool(entry["manager"] == MANAGER and entry["operation"] == "Apply")


def scaler_of(live: dict[str, Any], autoscaler: str | None) -> str:
    """What else than the roles sets the number of pods; empty for nothing.

    :param autoscaler: what `autoscalers.find` says.
    """
    if autoscaler:
        return autoscaler
    found = owners(live)
    if autoscaler is None:
        return "" if any(map(is_ours, found)) else UNKNOWN
    for entry in found:
        # The controller manager scales for autoscalers alone, of which none is left; kubectl is a person's hand.
        if entry.get("subresource") == "scale" and not entry["manager"].startswith(("kubectl", "kube-controller-manager")):
            return str(entry["manager"])
    return ""


def number(live: dict[str, Any], wanted: int | None, scaler: str) -> int | None:
    """The number of pods to apply, or None for none.

    A number that is left to others is best not applied at all: it can't be set back then, whenever the other one changes it.
    But server-side apply removes a field that is no longer applied if nobody else owns it, and the default, 1, would take its
    place. So a number that we alone own, since nothing else has changed it yet, is applied again as it is.
    """
    if wanted is not None and not scaler:
        return wanted
    found = owners(live)
    return int(live["spec"]["replicas"]) if found and all(map(is_ours, found)) else None


def explanation(live: dict[str, Any], wanted: int | None, scaler: str) -> str:
    """Why the live number stays; empty where no other one is wanted."""
    current = live["spec"]["replicas"]
    if not scaler or wanted is None or wanted == current:
        return ""
    name = live["metadata"]["name"]
    if scaler == UNKNOWN:
        return f"{name} stays at {current} pods, not {wanted}: this account may not list the autoscalers that may have set them"
    return f"{name} stays at {current} pods, not {wanted}: {scaler} sets them"
