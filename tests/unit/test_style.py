# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One licence header and one way to import, whoever wrote a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("app", "docs", "in_cluster", "molecule", "plugins", "roles", "tests", "toolchain")
HEADER = "\n".join(Path(__file__).read_text().split("\n")[:3])
FILES = {
    str(path.relative_to(ROOT)): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.stat().st_size and not {".venv", "__pycache__"} & set(path.parts)
}
# In the plugins: our own package by relative imports, and the names of typing by themselves.
OTHERWISE = re.compile(
    r"^\s*(?:from ansible_collections\.flaskops|import ansible_collections\.flaskops|import typing\b)", re.MULTILINE
)


@pytest.mark.parametrize("name", FILES)
def test_header(name: str) -> None:
    text = FILES[name].read_text()
    text = text.partition("\n")[2] if text.startswith("#!") else text
    assert text.startswith(f"{HEADER}\n"), f"{name} begins otherwise than the others: give it the header of this test"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("plugins/")])
def test_imports(name: str) -> None:
    assert OTHERWISE.findall(FILES[name].read_text()) == []


def test_another_import_would_be_found() -> None:
    for line in ("import typing as t", "    from ansible_collections.flaskops.observability.plugins import x"):
        assert OTHERWISE.search(f"import os\n{line}\n")
    assert not OTHERWISE.search("from typing import Any\nfrom ..module_utils import x\n# import typing\n")
