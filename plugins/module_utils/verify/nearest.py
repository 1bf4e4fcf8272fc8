# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name or the value that somebody may have meant who wrote another one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

from .routing import Labels

Json = dict[str, Any]

ALIKE = 0.7  # of two words of which one may be meant by the other
TYPO = 0.85  # of two values of which nobody knows what may come


def near(word: str, words: Collection[str], cutoff: float = ALIKE) -> str:
    """The word that is most like another one, or begins with it; empty where none is."""
    slack = max(3, len(word) // 3)
    close = sorted(each for each in words if each and abs(len(each) - len(word)) <= slack)
    found = difflib.get_close_matches(word, close, 1, cutoff)
    return next(iter(found), "") or min((each for each in words if len(word) > 4 and each.startswith(word)), key=len, default="")


def meant(matchers: list[Json]) -> list[str]:
    """The plain words of matchers, such as web and shop of ``web|shop.*``."""
    words = [word for m in matchers for word in (m["value"].split("|") if "~" in m["type"] else [m["value"]])]
    return [found for word in words if (found := re.sub(r"[.][*+]|[\\^$()]", "", word))]


def nearest(label: str, matchers: list[Json], there: Collection[str], cutoff: float = ALIKE) -> str:
    """The value that is there and most like one that is asked for."""
    words = meant(matchers)
    if label == "le":
        numbers = {number: value for value in there if (number := number_of(value)) is not None}
        asked = next((number for word in words if (number := number_of(word)) is not None), None)
        if asked is not None and numbers:
            return numbers[min(numbers, key=lambda number: abs(number - asked))]
    found = next((value for word in words if (value := near(word, there, cutoff))), "")
    inside = [value for value in sorted(there) for word in words if len(word) > 2 and value and (word in value or value in word)]
    return found or next(iter(inside), "")


def number_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def holds(matchers: Iterable[Json], value: str) -> bool:
    """Whether a value of a label is one that all its matchers take."""
    return all(Labels({"x": value}).holds("x", m["type"], m["value"]) is not False for m in matchers)
