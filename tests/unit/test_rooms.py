# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rooms of module_utils import downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "plugins/module_utils"
PACKAGE = "ansible_collections.flaskops.observability.plugins.module_utils"
# From the bottom to the top. A room may import from any below it, and from itself.
FLOORS = (
    {"_files", "_module", "app", "credentials", "log_lines", "pages"},
    {"kube", "toolchain"},
    {"helm", "node"},
    {"image"},
    {"monitoring", "fluent_bit", "elastic", "external_checks"},
    {"verify"},
    {"drill"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room(module: str) -> str:
    """The room of a module, by its name below module_utils."""
    return module.partition(".")[0]


def imported(text: str, module: str) -> Iterator[str]:
    """What a module imports of the others, also inside its functions."""
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = f"{PACKAGE}.{module}".split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}."))


def upward(text: str, module: str) -> list[str]:
    mine = room(module)
    return [found for found in imported(text, module) if room(found) != mine and FLOOR[room(found)] >= FLOOR[mine]]


MODULES = {
    ".".join(path.relative_to(UTILS).with_suffix("").parts): path
    for path in sorted(UTILS.rglob("*.py"))
    if path.name != "__init__.py"
}


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_from_those_below_it_alone(module: str) -> None:
    assert room(module) in FLOOR, f"{module} is in a room that no floor has: name it in FLOORS"
    assert upward(MODULES[module].read_text(), module) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from ..verify import autoscalers", "verify.autoscalers"),
        ("def f():\n    from ..helm.release import Release", "helm.release.Release"),
        (f"from {PACKAGE}.drill import bounds", "drill.bounds"),
        (f"import {PACKAGE}.monitoring.rules", "monitoring.rules"),
        ("from ..node.engine import Engine", "node.engine.Engine"),
    ],
)
def test_an_upward_import_would_be_found(line: str, found: str) -> None:
    assert upward(line, "kube.state") == [found]
    assert (
        upward("from . import replicas\nfrom ..credentials.guard import hide\nfrom .._files import cache_dir", "kube.state") == []
    )


def test_no_two_classes_share_a_name() -> None:
    """Else a reader who meets one can't know which it is."""
    found: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}
