# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""promtool for the tests of rules and dashboards."""

from __future__ import annotations

import os

import pytest

from tests.toolchain import programs


@pytest.fixture(scope="session")
def promtool() -> str:
    """The collection's promtool; PROMTOOL names another one."""
    return os.environ.get("PROMTOOL") or str(programs("prometheus") / "promtool")
