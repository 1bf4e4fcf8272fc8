# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found at a link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

OK = "ok"
FAILED = "failed"
SKIPPED = "skipped"


@dataclass
class Result:
    """What was found at one link.

    ``query`` is what was asked, ``evidence`` what came back. ``follows`` names the broken link that explains this one.
    """

    link: str
    status: str
    evidence: str = ""
    cause: str = ""
    next_command: str = ""
    seconds: float = 0.0
    query: str = ""
    follows: str = ""

    def asked(self, query: str) -> Result:
        """The same result, with what was asked for it."""
        self.query = query
        return self

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(link: str, evidence: str, query: str = "") -> Result:
    return Result(link, OK, evidence, query=query)


def failed(link: str, evidence: str, cause: str, query: str = "", next_command: str = "") -> Result:
    return Result(link, FAILED, evidence, cause, next_command, query=query)


def skipped(link: str, why: str) -> Result:
    return Result(link, SKIPPED, why)


class Unanswered(Exception):
    """Nobody says what would have to be known; the message is one sentence. The row is skipped then, and never ok."""


class Look(NamedTuple):
    """What is called to follow a link, or a part of it, and the rows that stand for it in the table."""

    rows: tuple[str, ...]
    follow: Callable[[], list[Result]]
