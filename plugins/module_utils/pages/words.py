# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that pages share: texts of others made fit for a page, times, and numbers."""

from __future__ import annotations

import datetime
import re
from typing import Any

# Beyond this a text is cut in a page, so that one stack trace can't fill it.
LENGTH = 600
# Control characters can't be in a page, and those that turn the direction of writing could hide what a name really is.
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+")
SPACE = "\u00a0"  # keeps a number and its unit on one line
NONE = "\u2013"
UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def text(value: Any, limit: int = LENGTH) -> str:
    """A value as one line that any page can hold; empty for null."""
    line = " ".join(UNFIT.sub(" ", "" if value is None else str(value)).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def amount(number: int) -> str:
    """A count with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def several(number: int, one: str, many: str = "") -> str:
    return f"{amount(number)} {one if number == 1 else many or one + 's'}"


def some(names: list[str], most: int = 2) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def moment(seconds: float) -> datetime.datetime:
    """A time in UTC from its seconds since 1970."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def lasted(seconds: float) -> str:
    """A duration by its two largest units, as 2 min 5 s or 3 d 4 h; below ten seconds with a decimal."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}{SPACE}s"
    rest, parts = max(0, round(seconds)), list[str]()
    for unit, size in UNITS:
        number, rest = divmod(rest, size)
        # The second unit is the next one below the first, or none.
        if number or parts:
            parts.append(f"{number}{SPACE}{unit}" if number else "")
        if len(parts) == 2:
            break
    return SPACE.join(part for part in parts if part) or f"0{SPACE}s"
