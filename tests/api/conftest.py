# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane that the tests of this folder share; see `tests/api_rig.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api_rig import GKE_ADMISSION, Rig, running


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests of a process; its ResourceQuota admission is that of GKE, which only concerns critical pods."""
    with running(tmp_path_factory.mktemp("rig"), GKE_ADMISSION) as found:
        yield found
