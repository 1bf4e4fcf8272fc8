# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an installation went without, because what it is made of can't be obtained."""

from __future__ import annotations

from ..result import Result, skipped
from ..run import Run


def look(run: Run) -> list[Result]:
    without = run.target.skipped | ({} if run.stack.absent else run.stack.skipped)
    return [skipped(f"part {part.replace('_', ' ')}", why) for part, why in without.items()]
