# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..modules.cluster_access import options as read
from ..plugin_utils.cluster_action import ClusterAction


class ActionModule(ClusterAction):
    """Reads how a cluster is reached. Each role does it first, so it does without a module's process where it can."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        if self._connection.transport == "local":
            return super().run(tmp, task_vars)
        return self._execute_module(task_vars=task_vars)

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return {"changed": False, **read(options["kubeconfig"] or "", options["context"] or "")}
