# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a file and a function of the plugins may be, so that each can be read as a whole."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
MODULE, FILE, FUNCTION = 120, 500, 60
PAGES = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
# What may be longer, and why.
EXCEPTIONS: dict[str, str] = {}

FILES = {str(path.relative_to(PLUGINS)): path for path in sorted(PLUGINS.rglob("*.py"))}


def code(text: str) -> int:
    """The lines that are neither empty, nor comment, nor a module's documentation."""
    documented: set[int] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and {getattr(target, "id", "") for target in node.targets} & PAGES:
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if line.strip() and not line.lstrip().startswith("#") and number not in documented)


def too_long(name: str, text: str) -> Iterator[tuple[str, int]]:
    """A file, and those of its functions, that have more lines than they may."""
    limit = MODULE if name.startswith("modules/") else FILE
    if (lines := code(text)) > limit:
        yield name, lines
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION:
                yield f"{name}:{node.name}", lines


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_can_be_read_as_a_whole(name: str) -> None:
    found = dict(too_long(name, FILES[name].read_text()))
    assert {where: lines for where, lines in found.items() if where not in EXCEPTIONS} == {}


def test_every_exception_is_needed() -> None:
    found = {where for name, path in FILES.items() for where, _ in too_long(name, path.read_text())}
    assert set(EXCEPTIONS) <= found


def test_what_is_too_long_would_be_found() -> None:
    page = 'DOCUMENTATION = r"""\n' + "x\n" * 200 + '"""\n'
    assert dict(too_long("modules/a.py", page + "a = 1\n" * MODULE + "# comment\n\n")) == {}
    assert dict(too_long("modules/a.py", page + "a = 1\n" * (MODULE + 1))) == {"modules/a.py": MODULE + 1}
    assert dict(too_long("action/a.py", "a = 1\n" * (FILE + 1))) == {"action/a.py": FILE + 1}
    method = "class A:\n    def f(self):\n" + "        a = 1\n" * FUNCTION
    assert dict(too_long("action/a.py", method)) == {"action/a.py:f": FUNCTION + 1}
