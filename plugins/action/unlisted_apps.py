# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects
from ..module_utils.kube.ours import owner_of
from ..module_utils.kube.promise import owner_named
from ..plugin_utils.cluster_action import ClusterAction


class ActionModule(ClusterAction):
    """Finds applications of ours that nobody lists any more."""

    SPEC = {"listed": {"type": "list", "elements": "str", "required": True}}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        objects = Objects(api_client(options["kubeconfig"] or "", options["context"] or ""))
        ours = set()
        for live in objects.every("apps/v1", "Deployment"):
            space, name = live["metadata"]["namespace"], live["metadata"]["name"]
            if owner_of(live) == owner_named("flask_app", space, name):
                ours.add(f"{space}/{name}")
        return {"changed": False, "apps": sorted(ours - set(options["listed"]))}
