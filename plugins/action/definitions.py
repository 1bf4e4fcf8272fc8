# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.helm.definitions import Retired
from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects
from ..plugin_utils.cluster_action import ClusterAction


class ActionModule(ClusterAction):
    """Removes an operator's definitions where nobody needs them."""

    SPEC = {
        "group": {"type": "str", "required": True},
        "manager": {"type": "str", "default": ""},
        "namespace": {"type": "str", "default": ""},
        "releases": {"type": "list", "elements": "str", "default": []},
        "own": {"type": "list", "elements": "dict", "default": []},
        "kinds": {"type": "list", "elements": "str", "default": []},
        "timeout": {"type": "int", "default": 300},
    }
    OF_ROLE = {"timeout": "wait_timeout"}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        objects = Objects(api_client(options.pop("kubeconfig") or "", options.pop("context") or ""))
        timeout = options.pop("timeout")
        retired = Retired(objects, **options)
        in_use = retired.in_use()
        removed = [] if in_use else [item["metadata"]["name"] for item in retired.found]
        if removed and not self._task.check_mode:
            retired.remove(timeout)
        result = {"changed": bool(removed), "in_use": in_use, "removed": removed}
        if self._task.diff:
            result["diff"] = {"before": "".join(f"{name}\n" for name in removed), "after": ""}
        return result
