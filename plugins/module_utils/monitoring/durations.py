# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations as Prometheus writes them."""

from __future__ import annotations

import re

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
DURATION = re.compile(r"0|(?:\d+(?:ms|[smhdwy]))+")


def seconds(duration: str) -> float:
    """The seconds of a Prometheus duration such as ``1h30m``; :raises ValueError: when it is none."""
    if not DURATION.fullmatch(duration):
        raise ValueError(f"'{duration}' is no duration: write a number and ms, s, m, h, d, w or y, as in 5m.")
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))
