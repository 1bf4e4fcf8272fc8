# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a module writes for people, the folder of those that it can make again, and files that processes keep locked.

Private to this collection; its interface can change at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


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


@contextlib.contextmanager
def locked(path: Path, shared: bool = False, wait: bool = True, make: bool = True) -> Iterator[IO[str] | None]:
    """Keep a file locked, which keeps its content; open to be read, and written at its end.

    :param shared: let others that ask for the same have it too.
    :param wait: until nobody else has it, else there is None where somebody does.
    :param make: it where it is missing; else it is open to be read alone.
    :raises OSError: where it can't be made, or is missing.
    """
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+" if make else "r") as file:
        free = True
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            free = False
        yield file if free else None
