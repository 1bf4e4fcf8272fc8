# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions have in common that bring a cluster to a state."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils.credentials.guard import unforeseen
from ..module_utils.kube.transport import KubeError

# A second that the playbook pays once: the strategy loads an action in its own process, from which each task is forked.
with contextlib.suppress(ImportError):  # whoever needs it says that it is missing
    import kubernetes.client
    import kubernetes.config  # noqa: F401


COLLECTION = "flaskops.observability."


def take_from_role(action: Any, options: Mapping[str, str], variables: Mapping[str, Any]) -> None:
    """Give a task in a role of this collection what it does not say itself: the role's own options.

    :param options: the action's options, and what the roles call them after their own name.
    """
    role = action._task._role
    if role is None or not role.get_name().startswith(COLLECTION):
        return
    prefix = role.get_name(include_role_fqcn=False)
    for option, name in options.items():
        if option not in action._task.args and f"{prefix}_{name}" in variables:
            action._task.args[option] = action._templar.template(variables[f"{prefix}_{name}"])


class ClusterAction(ActionBase):
    """An action that talks to a cluster in the process of its task, without a module's start and imports.

    So it runs where Ansible does, and refuses a host that is reached otherwise. In a role of this collection the cluster is the
    role's, and so is what `OF_ROLE` names, unless the task says otherwise.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    # The options but those that name the cluster, as AnsibleModule takes them.
    SPEC: ClassVar[dict[str, dict[str, Any]]] = {}
    # Options that are the role's, and what the roles call them.
    OF_ROLE: ClassVar[dict[str, str]] = {}
    # Further rules of AnsibleModule, such as required_if.
    RULES: ClassVar[dict[str, Any]] = {}

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._variables = task_vars or {}
        if self._connection.transport != "local":
            host = (task_vars or {}).get("inventory_hostname", "")
            text = f"{self._task.action} runs where Ansible does, and the host {host} is reached by {self._connection.transport}:"
            return {"failed": True, "msg": f"{text} set ansible_connection to local for it."}
        named = {"kubeconfig": {"type": "path"}, "context": {"type": "str"}}
        take_from_role(self, {**{name: name for name in named}, **self.OF_ROLE}, self._variables)
        _, options = self.validate_argument_spec(argument_spec={**named, **self.SPEC}, **self.RULES)
        try:
            return self.work(options, task_vars or {})
        except KubeError as error:
            return {"failed": True, "msg": str(error), **getattr(error, "failure", {})}
        except AnsibleError:
            raise
        except Exception as error:
            return {"failed": True, "msg": unforeseen(error)}

    def called(self, option: str) -> str:
        """What an option is called where the user sets it: the roles name those of one meaning alike."""
        role = self._task._role
        name = f"{role.get_name(include_role_fqcn=False)}_{option}" if role else option
        return name if name in self._variables else option

    def compared(self, result: dict[str, Any]) -> dict[str, Any]:
        """A result with its differences as Ansible shows them, or without, as the user asked for."""
        parts = result.pop("diff")
        if not self._task.diff:
            return result

        def written(side: dict[str, Any]) -> str:
            return str(yaml.safe_dump(side)) if side else ""

        return result | {
            "diff": [
                {
                    "before_header": part["name"],
                    "after_header": part["name"],
                    "before": written(part["before"]),
                    "after": written(part["after"]),
                }
                for part in parts
            ]
        }

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do it, or in check mode say what would be done, and return the result of the task.

        :raises KubeError: with one sentence for the user.
        """
        raise NotImplementedError
