# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The row that says why no Prometheus is asked."""

from __future__ import annotations

from ..result import Result, skipped
from ..run import Run


def look(run: Run) -> list[Result]:
    return [skipped("metrics stack", run.stack.absent)]
