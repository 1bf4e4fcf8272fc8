# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects
from ..module_utils.kube.state import State, Wish
from ..module_utils.kube.transport import KubeError
from ..plugin_utils.cluster_action import ClusterAction

SPEC: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "owner": {"type": "str", "required": True},
    "definitions": {"type": "list", "elements": "dict", "default": []},
    "known": {"type": "list", "elements": "dict", "default": []},
    "data": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "apiVersion": {"type": "str", "required": True},
            "kind": {"type": "str", "required": True},
            "namespace": {"type": "str"},
            "name": {"type": "str"},
            "selector": {"type": "str"},
            "holds": {"type": "dict"},
        },
    },
    "releases": {"type": "list", "elements": "str", "default": []},
    "readers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"namespace": {"type": "str", "required": True}, "selector": {"type": "str", "required": True}},
    },
    "prune": {"type": "bool", "default": True},
    "adopt": {"type": "bool", "default": False},
    "secrets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "no_log": False,  # it names Secrets
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "type": {"type": "str", "default": ""},
        },
    },
    "optional_namespaces": {"type": "list", "elements": "str", "default": []},
    "monitoring": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
    "monitoring_labels": {"type": "raw", "default": "auto"},
    "labels": {"type": "dict", "default": {}},
    "annotations": {"type": "dict", "default": {}},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 120},
}


class ActionModule(ClusterAction):
    """Brings a list of Kubernetes objects to a state."""

    SPEC = SPEC
    OF_ROLE = {
        name: name for name in ("adopt", "wait", "wait_timeout", "monitoring", "monitoring_labels", "labels", "annotations")
    }

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        labels = options["monitoring_labels"]
        if labels != "auto" and not isinstance(labels, dict):
            raise KubeError(f"{self.called('monitoring_labels')} is neither auto nor a mapping of labels: correct it.")
        cluster = {name: options.pop(name) or "" for name in ("kubeconfig", "context")}
        state = options.pop("state")
        wish = Wish(**options, check_mode=self._task.check_mode, called=self.called)
        return self.compared(State(Objects(api_client(**cluster)), wish).run(state))
