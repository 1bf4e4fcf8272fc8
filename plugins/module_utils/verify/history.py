# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when each row of a verification that is repeated has its status; known as long as the process lives."""

from __future__ import annotations

from typing import Any

CHANGES = 20  # the newest ones that are kept


class History:
    """What the runs have found one after the other.

    ``rows`` has, by link, the ``status``, ``since`` when it has it, and ``before`` and ``lasted``: which one it had, and for how
    many seconds; ``before`` is empty where no other one was seen. ``changes`` has the newest first; a status is empty where there
    was no row.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.changes: list[dict[str, Any]] = []
        self._began = False

    def add(self, results: list[dict[str, Any]], at: float) -> None:
        """Take what a run found that ended at this time. Whoever reads meanwhile has what was known before."""
        found = {result["link"]: result["status"] for result in results}
        rows, changes = {}, []
        for link in [*found, *(link for link in self.rows if link not in found)]:
            known, status = self.rows.get(link), found.get(link, "")
            if known and known["status"] == status:
                rows[link] = known
                continue
            before, lasted = (known["status"], at - known["since"]) if known else ("", 0.0)
            if self._began:
                changes.append({"at": at, "link": link, "before": before, "after": status})
            if status:
                rows[link] = {"status": status, "since": at, "before": before, "lasted": lasted}
        self.rows, self.changes, self._began = rows, (changes + self.changes)[:CHANGES], True
