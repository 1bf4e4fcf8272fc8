# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
from typing import Any

from ..module_utils.helm.program import Helm, on_this_machine, reaching
from ..module_utils.helm.state import ReleaseState, ReleaseWish
from ..module_utils.kube.client import api_client
from ..plugin_utils.cluster_action import ClusterAction

CHART: dict[str, dict[str, Any]] = {
    "ref": {"type": "str", "required": True},
    "version": {"type": "str", "default": ""},
    "repository": {"type": "str", "default": ""},
}
SIGN: dict[str, dict[str, Any]] = {
    "release": {"type": "str", "default": ""},
    "values": {"type": "dict", "required": True},
    "object": {"type": "dict", "required": True},
}


class ActionModule(ClusterAction):
    """Brings a Helm release to a state."""

    SPEC = {
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "chart": {"type": "dict", "options": CHART},
        "values": {"type": "dict", "default": {}},
        "adopt": {"type": "bool", "default": False},
        "signs": {"type": "list", "elements": "dict", "default": [], "options": SIGN},
        "definitions": {"type": "path"},
        "version_annotation": {"type": "str", "default": "operator.prometheus.io/version"},
        "skip_crds": {"type": "bool", "default": False},
        "same_chart": {"type": "bool", "default": False},
        "wait": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 300},
        "binary": {"type": "path", "default": ""},
    }
    OF_ROLE = {"name": "release_name", "namespace": "namespace", "adopt": "adopt", "wait": "wait", "timeout": "wait_timeout"}
    RULES = {"required_if": [["state", "present", ["chart"]]]}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        cluster = {name: options.pop(name) or "" for name in ("kubeconfig", "context")}
        state, binary = options.pop("state"), options.pop("binary")
        options |= json.loads(json.dumps({name: options[name] for name in ("values", "signs", "chart")}, default=str))
        options["signs"] = [sign for sign in options["signs"] if sign["release"] in ("", options["name"])]
        wish = ReleaseWish(**options, check_mode=self._task.check_mode, called=self.called)
        with contextlib.ExitStack() as stack:

            def helm() -> Helm | None:
                path = binary or on_this_machine()
                return Helm(path, stack.enter_context(reaching(**cluster))) if path else None

            found = ReleaseState(api_client(**cluster), wish, helm).run(state)
        if self._task.diff:
            found["diff"] = {"before": "", "after": "".join(f"{line}\n" for line in found["actions"])}
        return found
