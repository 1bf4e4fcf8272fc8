# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._engine import cache_dir
from ..modules.toolchain import ARGUMENTS, key

display = Display()


class ActionModule(ActionBase):
    """Runs the module for one missing component after the other, and says which; a module alone is silent until its end.

    Where the cache has all of them, there is nothing that a module in a process of its own could do.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(**ARGUMENTS)
        components: dict[str, dict[str, Any]] = options["components"] or {options["name"]: options["spec"]}
        folders = self._folders(options, components)
        missing = [name for name, folder in folders.items() if not folder.is_dir()]
        if folders and not missing:
            return self._cached(folders, options["name"])
        arguments, warnings, origins = dict(self._task.args), [], {}
        if not self._task.check_mode:
            for number, name in enumerate(missing, 1):
                display.display(f"{name} {components[name]['version']} ({number} of {len(missing)} that are missing) ...")
                one = {option: value for option, value in arguments.items() if option not in ("components", "name", "spec")}
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
    def _folders(options: dict[str, Any], components: dict[str, dict[str, Any]]) -> dict[str, Path]:
        """Where the cache has each component, or would have it; nothing where that can't be told, and the module says why."""
        source = Path(options["source"])
        cache = Path(options["cache"]) if options["cache"] else cache_dir()
        found = {}
        for name, spec in components.items():
            base = (options["base"] or spec.get("base") or "") if options["mode"] == "download" else ""
            if options["mode"] == "download" and not base:
                return {}
            try:
                found[name] = cache / "bin" / key(name, spec, source, base)
            except (OSError, KeyError):
                return {}
        return found

    @staticmethod
    def _cached(folders: dict[str, Path], name: str | None) -> dict[str, Any]:
        """What the module returns when it has nothing to get."""
        result: dict[str, Any] = {
            "changed": False,
            "paths": {component: str(folder) for component, folder in folders.items()},
            "origins": dict.fromkeys(folders, "cache"),
            "seconds": 0.0,
        }
        return result | ({"path": str(folders[name]), "origin": "cache"} if name else {})
