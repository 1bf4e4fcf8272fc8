# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a module writes for people, and the folder of those that it can make again.

Private to this collection; its interface can change at any time.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """The folder for everything that can be made again: ``$XDG_CACHE_HOME/flaskops``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"


def write_whole(path: str | os.PathLike[str], content: str, mode: int = 0o644) -> None:
    """Replace a file in one step, so that nobody reads half of it.

    :raises OSError: when it can't be written; the file from before is still there.
    """
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".draft-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
        os.chmod(draft, mode)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
