# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill's report: a page for people, Markdown for a pull request, and JSON for the next report to compare with."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from typing import Any

from . import markdown, page
from .data import difference, read


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers that are none become null, text is text that can be written as UTF-8."""
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value).encode(errors="replace").decode()


def render(current: dict[str, Any], previous: dict[str, Any] | None) -> dict[str, str]:
    """The report of one drill.

    :param current: the drill's document, format 1.
    :param previous: the document, or the JSON report, of an earlier drill; None where there is none. One of another
        format, another app or with other scenarios is not compared, and the report says so.
    :returns: ``html`` (one self-contained page), ``markdown`` (GitHub's) and ``json`` (the document and, as
        ``difference``, what changed; keys are sorted).
    :raises ValueError: *current* is no document of format 1.
    """
    drill = read(current)
    changed = difference(drill, previous)
    document = _plain({**current, "difference": dataclasses.asdict(changed)})
    return {
        "html": page.render(drill, changed),
        "markdown": markdown.render(drill, changed),
        "json": json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n",
    }
