# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

from ..module_utils.helm.chart import Reference, images
from ..module_utils.helm.program import Helm, HelmError, on_this_machine
from ..plugin_utils.cluster_action import ClusterAction
from .release import CHART


class ActionModule(ClusterAction):
    """Has a chart on this machine, and says what it runs."""

    SPEC = {
        **CHART,
        "binary": {"type": "path", "default": ""},
        "release": {"type": "str", "default": "release"},
        "namespace": {"type": "str", "default": "default"},
        "values": {"type": "dict"},
    }

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        reference = Reference(**{name: options[name] for name in CHART})
        helm = Helm(options["binary"] or on_this_machine() or "helm")
        result: dict[str, Any] = {"changed": False, "folder": "", "reason": "", "images": {}}
        try:
            chart = reference.get(helm)
        except HelmError as error:
            return result | {"reason": str(error)}
        result |= {"folder": str(chart.folder), "name": chart.name, "version": chart.version}
        result["app_version"] = str(chart.metadata.get("appVersion", ""))
        if options["values"] is not None:
            values = json.loads(json.dumps(options["values"], default=str))
            try:
                result["images"] = images(chart.render(helm, options["release"], options["namespace"], values, hooks=True))
            except HelmError as error:
                result["reason"] = str(error)
        return result
