# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._engine import cache_dir
from ..modules.toolchain import key

display = Display()


class ActionModule(ActionBase):
    """Runs the module for one missing component after the other, and says which; a module alone is silent until its end."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments, warnings, origins = dict(self._task.args), [], {}
        components = arguments.get("components")
        if isinstance(components, dict) and not self._task.check_mode:
            missing = self._missing(arguments, components)
            for number, name in enumerate(missing, 1):
                display.display(f"{name} {components[name]['version']} ({number} of {len(missing)} that are missing) ...")
                one = {option: value for option, value in arguments.items() if option != "components"}
                result = self._execute_module(module_args={**one, "name": name, "spec": components[name]}, task_vars=task_vars)
                warnings += result.get("warnings", [])
                if result.get("failed"):
                    return result
                origins[name] = result["origin"]
                done = "downloaded" if result["origin"] == "download" else "built"
                display.display(f"{name} {components[name]['version']}: {done} in {result['seconds']:.0f} s")
        result = self._execute_module(module_args=arguments, task_vars=task_vars)
        if origins and not result.get("failed"):
            result |= {"changed": True, "origins": {**result["origins"], **origins}}
            result["warnings"] = warnings + result.get("warnings", [])
        return result

    @staticmethod
    def _missing(arguments: dict[str, Any], components: dict[str, dict[str, Any]]) -> list[str]:
        """The components that the cache lacks, as far as that can be told here; the module itself decides."""
        source = Path(arguments.get("source", "")).expanduser()
        cache = Path(arguments["cache"]).expanduser() if arguments.get("cache") else cache_dir()
        found = []
        for name, spec in components.items():
            try:
                base = spec.get("base", "") if arguments.get("mode") == "download" else ""
                if not (cache / "bin" / key(name, spec, source, base)).is_dir():
                    found.append(name)
            except (OSError, KeyError, AttributeError):
                return []
        return found
