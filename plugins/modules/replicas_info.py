#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: replicas_info
short_description: Tell which number of pods a Deployment is to be applied with
version_added: 0.2.0
description:
  - Where a HorizontalPodAutoscaler or a ScaledObject of KEDA targets the Deployment, the number of pods is the autoscaler's.
  - The same holds for a program that has set the number through the subresource C(scale), but not for C(kubectl), which is
    a person's hand.
  - An account that may not list autoscalers can't tell who has set a number. It then stays unless it is what was applied last.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: N/A
    description: This module changes nothing.
  idempotent:
    support: full
    description: Reads only.
options:
  namespace:
    description:
      - Namespace of the Deployment; it need not exist yet.
    type: str
    required: true
  name:
    description:
      - Name of the Deployment; it need not exist yet.
    type: str
    required: true
  replicas:
    description:
      - The number of pods that is wanted where nothing else sets it.
      - Without it the number is left to others in any case.
    type: int
"""

EXAMPLES = r"""
- name: Ask who sets the number of pods
  flaskops.observability.replicas_info:
    context: staging
    namespace: flask-app
    name: flask-app
    replicas: 2
  register: scaling
"""

RETURN = r"""
replicas:
  description: The number to apply; null for none, because another field manager owns the number.
  returned: success
  type: int
  sample: 2
scaler:
  description: What else sets the number; empty for nothing.
  returned: success
  type: str
  sample: HorizontalPodAutoscaler flask-app
note:
  description: Why the live number stays where another one is wanted; empty where none is.
  returned: success
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils._kube import KubeError, api_client
from ansible_collections.flaskops.observability.plugins.module_utils._objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful
from ansible_collections.flaskops.observability.plugins.module_utils.verify import autoscalers

MANAGER = "flaskops"  # the field manager by which the roles apply
UNKNOWN = "somebody"


def owners(live: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Who owns a Deployment's number of pods, by its managedFields."""
    entries = live["metadata"].get("managedFields") or []
    return [entry for entry in entries if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})]


def is_ours(entry: dict[str, t.Any]) -> bool:
    return bool(entry["manager"] == MANAGER and entry["operation"] == "Apply")


def scaler_of(live: dict[str, t.Any], autoscaler: str | None) -> str:
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


def number(live: dict[str, t.Any], wanted: int | None, scaler: str) -> int | None:
    """The number of pods to apply, or None for none.

    A number that is left to others is best not applied at all: it can't be set back then, whenever the other one changes it.
    But server-side apply removes a field that is no longer applied if nobody else owns it, and the default, 1, would take its
    place. So a number that we alone own, since nothing else has changed it yet, is applied again as it is.
    """
    if wanted is not None and not scaler:
        return wanted
    found = owners(live)
    return int(live["spec"]["replicas"]) if found and all(map(is_ours, found)) else None


def explanation(live: dict[str, t.Any], wanted: int | None, scaler: str) -> str:
    """Why the live number stays; empty where no other one is wanted."""
    current = live["spec"]["replicas"]
    if not scaler or wanted is None or wanted == current:
        return ""
    name = live["metadata"]["name"]
    if scaler == UNKNOWN:
        return f"{name} stays at {current} pods, not {wanted}: this account may not list the autoscalers that may have set them"
    return f"{name} stays at {current} pods, not {wanted}: {scaler} sets them"


@careful
def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "replicas": {"type": "int"},
        },
        supports_check_mode=True,
    )
    params, wanted = module.params, module.params["replicas"]
    try:
        objects = Objects(api_client(params["kubeconfig"] or "", params["context"] or ""))
        metadata = {"name": params["name"], "namespace": params["namespace"]}
        live = objects.get({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})
        autoscaler = autoscalers.find(objects.ask, params["namespace"], params["name"])
    except KubeError as error:
        module.fail_json(msg=str(error))
    found = {"replicas": wanted, "scaler": autoscaler or "", "note": ""}
    if live is not None:
        scaler = scaler_of(live, autoscaler)
        found = {"replicas": number(live, wanted, scaler), "scaler": scaler, "note": explanation(live, wanted, scaler)}
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
