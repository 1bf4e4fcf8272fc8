# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A link is one file, one line of the table and one section of docs/verify.md: no more, no less, in one order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import CHAIN, Link

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "plugins/module_utils/verify/links"
HEADS = ["Proves", "Needs", "Breaks", "Can't see", "Next"]
SECTIONS = dict(
    section.partition("\n")[::2] for section in re.split("^## ", (ROOT / "docs/verify.md").read_text(), flags=re.MULTILINE)[1:]
)


def test_a_link_is_a_file_a_line_and_a_section() -> None:
    files = sorted(path.stem for path in FILES.glob("*.py") if path.stem != "__init__")
    lines = [link.look.__module__.rpartition(".")[2] for link in CHAIN]
    assert sorted(lines) == files, "a link is one file in verify/links and one line of CHAIN"
    assert list(SECTIONS) == [link.title for link in CHAIN], "docs/verify.md has one section for each line of CHAIN, in its order"


@pytest.mark.parametrize("link", CHAIN, ids=lambda link: link.title)
def test_a_section_has_the_five_heads_and_the_needs_of_the_table(link: Link) -> None:
    found = re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=^- \*\*|^$|\Z)", SECTIONS[link.title], re.MULTILINE | re.DOTALL)
    assert [head for head, _text in found] == HEADS
    needs = {need for needs in link.rows.values() for need in needs}
    assert set(re.findall("`(.+?)`", dict(found)["Needs"])) == needs
