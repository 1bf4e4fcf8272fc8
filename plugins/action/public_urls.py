# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.external_checks.addresses import find
from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects
from ..plugin_utils.cluster_action import ClusterAction


class ActionModule(ClusterAction):
    """Finds where applications are reached from outside."""

    SPEC = {
        "places": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "app": {"type": "str"},
                "namespace": {"type": "str"},
                "path": {"type": "str"},
            },
        },
        "namespace": {"type": "str", "default": "default"},
        "wait_timeout": {"type": "int", "default": 120},
    }
    OF_ROLE = {"namespace": "namespace", "wait_timeout": "wait_timeout"}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        places = options["places"]
        if not places:
            return {"changed": False, "urls": {}}
        objects = Objects(api_client(options["kubeconfig"] or "", options["context"] or ""))
        urls = objects.each(lambda place: find(objects, place, options["namespace"], options["wait_timeout"]), places)
        return {"changed": False, "urls": dict(zip((place["name"] for place in places), urls, strict=True))}
