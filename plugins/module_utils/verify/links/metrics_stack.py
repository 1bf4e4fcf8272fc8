# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The row that says why no Prometheus is asked: there was none, or the one that the app's monitoring was made for is gone."""

from __future__ import annotations

from ..result import Result, failed, skipped
from ..run import Run
from ..stack import OPERATOR

LINK = "metrics stack"


def look(run: Run) -> list[Result]:
    stack = run.stack
    if stack.unread:
        raise stack.unread
    if not stack.lost:
        return [skipped(LINK, stack.absent)]
    return [failed(LINK, stack.absent, cause(stack.lost), f"GET {OPERATOR}/v1/prometheuses")]


def cause(gone: list[str]) -> str:
    return f"the Prometheus {', '.join(gone)}, for which the app's monitoring was made, is gone"


def next_command(run: Run) -> str:
    return run.target.kubectl("get", "prometheuses", "-A", namespaced=False)
