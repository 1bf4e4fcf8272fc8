# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One licence header, one way to import and one list of words, whoever wrote a file."""

from __future__ import annotations

import re
import subprocess
import sys
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


def misspelled(page: Path, *lines: str) -> list[str]:
    """What `codespell` finds, as `make lint` runs it, in a page with these lines."""
    page.write_text("\n".join(lines))
    command = [str(Path(sys.executable).with_name("codespell")), str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 65), done.stderr
    return [line.split(": ", 1)[1].split(" ==> ")[0] for line in done.stdout.splitlines()]


def test_every_word_that_is_not_used_is_found(tmp_path: Path) -> None:
    """Also those of two words, which the setting `regex` has to know, at the beginning of a sentence and within one."""
    words = [line.split("->")[0] for line in (ROOT / ".words.txt").read_text().splitlines()]
    words += [word.capitalize() for word in words]
    assert misspelled(tmp_path / "page.md", *(f"{word}, or ({word})" for word in words)) == [word for word in words for _ in "ab"]


def test_other_words_are_not_found(tmp_path: Path) -> None:
    fine = "The option elastic_stack_shipper_password of 'shipper': he left outside."
    assert misspelled(tmp_path / "page.md", fine, "A tpyo") == ["tpyo"]
