# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a Helm of this machine is known to be at work, to have ended, or not known at all."""

from __future__ import annotations

import time
from pathlib import Path

from ansible_collections.flaskops.observability.plugins.module_utils.helm.begun import begun, ended


def test_a_second_helm_at_once_changes_nothing_of_the_first_ones_note(tmp_path: Path) -> None:
    path = tmp_path / "helm/note"
    with begun(path, 2) as held:
        assert len(held) == 1
        with begun(path, 3) as other:
            assert other == ()
        assert path.read_text() == "2"
        assert not ended(path, 2, 0, time.time())
    assert not path.exists()


def test_who_was_killed_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_text("2")
    now = time.time()
    assert ended(path, 2, 0, now)
    # Another revision; one that was begun a minute before the note, so by another machine.
    assert not ended(path, 3, 0, now)
    assert not ended(path, 2, 60, now)


def test_what_cannot_be_noted_is_begun_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file/note"
    with begun(path, 2) as held:
        assert held == ()
    assert not ended(path, 2, 0, time.time())
    assert not ended(tmp_path / "none", 2, 0, time.time())
    assert not (tmp_path / "none").exists()
