# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions have in common that see for themselves whether their module has anything to do."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action.normal import ActionModule as ModuleAction


class LookingFirst(ModuleAction):  # type: ignore[misc]
    """Runs the module, whose own process takes half a second to begin, only where something is to be done.

    What stands in the way of the look, the module says.
    """

    ARGUMENTS: dict[str, Any]

    def look(self, options: dict[str, Any]) -> dict[str, Any]:
        """What the module would return in check mode."""
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        here = self._connection.transport == "local" and not self._play_context.become
        if here and not any(self._task.environment or []) and not self._task.async_val:
            try:
                _, options = self.validate_argument_spec(**self.ARGUMENTS)
                found = self.look(options)
            except Exception:  # whose words may hold a secret; the module knows how to say them
                found = {"changed": True}
            if not found["changed"]:
                return found
        done: dict[str, Any] = super().run(tmp, task_vars)
        return done
