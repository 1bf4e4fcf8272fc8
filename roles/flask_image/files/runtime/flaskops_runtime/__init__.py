# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a generated image puts around a Flask application that it does not change: health, metrics, request lines."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def state_dir() -> Path:
    """The folder for what the processes of one container share."""
    return Path(os.environ.get("FLASKOPS_STATE_DIR") or Path(tempfile.gettempdir(), "flaskops"))


def number(name: str, default: int, low: int, high: int) -> int:
    """A whole number of the environment.

    :raises SystemExit: with one sentence, where it is none or out of bounds.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SystemExit(f"The environment variable {name} is {text!r}; set it to a whole number from {low} to {high}.")
    return int(text)
