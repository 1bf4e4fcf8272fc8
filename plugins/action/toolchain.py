# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._files import locked
from ..module_utils.node.host import registry_answers
from ..module_utils.toolchain import LATER, SOON, Place, ToolchainError, end_with, get_behind, lanes, needing
from ..modules.toolchain import ARGUMENTS

display = Display()
# Beside the modules: the seconds that each build takes on two cores that do nothing else.
EXPECTED = "seconds.yml"


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
        place = Place.of(options)
        try:
            folders = {name: place.folder(name, spec) for name, spec in components.items()}
        except (OSError, KeyError, ToolchainError):
            # The module says why.
            return self._execute_module(task_vars=task_vars)
        missing = [name for name, folder in folders.items() if not folder.is_dir()]
        if not missing or options["background"]:
            if missing and not self._task.check_mode:
                if options["unless_answers"] and registry_answers(options["unless_answers"]):
                    missing = []
                _begin(place, {name: components[name] for name in missing}, LATER)
            return {"background": missing, **_had(folders, options["name"])}
        if self._task.check_mode:
            return self._execute_module(task_vars=task_vars)
        return self._get(place, components, missing, options, task_vars)

    def _get(
        self,
        place: Place,
        components: dict[str, dict[str, Any]],
        missing: list[str],
        options: dict[str, Any],
        task_vars: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Get what is missing, first what nobody else is getting."""
        one = {
            option: value for option, value in self._task.args.items() if option not in ("components", "parts", "name", "spec")
        }
        if self._connection.transport == "local":
            one["while_running"] = os.getppid()
        progress = Progress(place, missing)
        parts: dict[str, list[str]] = options["parts"]
        skipped: dict[str, str] = {}
        origins: dict[str, str] = {}
        warnings: list[str] = []
        left = list(missing)
        _begin(place, {name: components[name] for name in missing[1:]}, SOON)
        while left:
            name = next((name for name in left if not _busy(place, name)), left[0])
            left.remove(name)
            hit = needing(parts, name)
            if hit and all(part in skipped for part in hit):
                continue
            title = f"{name} {components[name]['version']}"
            display.display(f"{title} ({progress.where(left)}) ...")
            began = time.monotonic()
            result = self._execute_module(module_args={**one, "name": name, "spec": components[name]}, task_vars=task_vars)
            warnings += result.get("warnings", [])
            if result.get("failed"):
                if not hit:
                    return result
                skipped |= dict.fromkeys(hit, result["msg"])
                display.display(f"{title}: can't be obtained")
                continue
            origins[name] = result["origin"]
            seconds = time.monotonic() - began
            progress.done(name, result["origin"], seconds)
            how = {"download": "downloaded", "build": "built"}.get(result["origin"], "built beside it")
            display.display(f"{title}: {how} in {seconds:.0f} s")
        folders = {name: place.folder(name, spec) for name, spec in components.items()}
        had = _had({name: folder for name, folder in folders.items() if folder.is_dir()}, options["name"])
        had |= {"changed": bool(origins), "origins": had["origins"] | origins, "lacking": skipped, "warnings": warnings}
        return had | ({"origin": origins[options["name"]]} if options["name"] in origins else {})


class Progress:
    """What is left, and how long that takes as far as it can be told."""

    def __init__(self, place: Place, missing: list[str]) -> None:
        file = place.source / EXPECTED
        self.expected: dict[str, float] = yaml.safe_load(file.read_text()) if file.is_file() else {}
        self.total = len(missing)
        self.building = place.mode == "build"
        self.paces: list[float] = []

    def done(self, name: str, origin: str, seconds: float) -> None:
        """Note how fast this machine is."""
        self.building = self.building or origin == "build"
        if origin == "build" and name in self.expected:
            self.paces.append(seconds / self.expected[name])

    def where(self, left: list[str]) -> str:
        """The number of the component, and the minutes that those after it take, where this is known."""
        place = f"{self.total - len(left)} of {self.total} that are missing"
        if not self.building or not left or any(name not in self.expected for name in left):
            return place
        pace = self.paces[-1] if self.paces else 1
        minutes = sum(self.expected[name] for name in left) * pace / 60
        return f"{place}, after it about {max(1, round(minutes))} min for {len(left)} more"


def _busy(place: Place, name: str) -> bool:
    """Whether another process is getting a component. A folder that can't be used is told by the module."""
    with contextlib.suppress(OSError), locked(place.building / f"{name}.lock", wait=False) as free:
        return not free
    return False


def _begin(place: Place, wanted: dict[str, dict[str, Any]], nice: int) -> None:
    """Get components in a process of its own, which ends with this run of Ansible."""
    if not wanted or not hasattr(os, "pidfd_open") or not lanes():
        return
    run = os.getppid()
    if child := os.fork():
        os.waitpid(child, 0)
        return
    # A child that Ansible waits for no longer, with nothing of Ansible's open.
    try:
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nothing, stream)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            end_with(run)
            get_behind(place, wanted, nice)
    finally:
        os._exit(0)


def _had(folders: dict[str, Path], name: str | None) -> dict[str, Any]:
    """What the module returns when it has nothing to get."""
    result: dict[str, Any] = {
        "changed": False,
        "paths": {component: str(folder) for component, folder in folders.items()},
        "origins": dict.fromkeys(folders, "cache"),
        "lacking": {},
        "seconds": 0.0,
    }
    return result | ({"path": str(folders[name]), "origin": "cache"} if name in folders else {})
