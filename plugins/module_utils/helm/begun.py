# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a Helm that this machine began is still at work.

A run that was killed leaves a release that stays pending, and the cluster does not tell whether a Helm is still at work on it.
A file on this machine does: it holds the revision that was begun. Helm itself keeps it locked, and it goes when Helm has ended.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from .._files import cache_dir, locked


def note(server: str, namespace: str, name: str) -> Path:
    """The file of a release on the cluster at an address."""
    return cache_dir() / "helm" / hashlib.sha256("|".join((server, namespace, name)).encode()).hexdigest()[:16]


@contextlib.contextmanager
def begun(path: Path, revision: int) -> Iterator[tuple[int, ...]]:
    """Note that a revision is begun; the descriptors that Helm has to inherit, none where nothing can be noted."""
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(locked(path, wait=False))
            if file:
                file.truncate(0)
                file.write(str(revision))
                file.flush()
        except OSError:
            file = None
        if not file:
            yield ()
            return
        try:
            yield (file.fileno(),)
        finally:
            path.unlink(missing_ok=True)


def ended(path: Path, revision: int, age: float, now: float) -> bool:
    """Whether a revision was begun here, and whoever began it has ended.

    :param age: how long ago it was begun by what Helm has stored, in seconds; one that was begun before the note is another one.
    :param now: the time of *age*, in seconds since 1970.
    """
    try:
        with locked(path, wait=False, make=False) as file:
            if not file:
                return False
            # Helm stores the time in parts of a second, and age is a whole number.
            return file.read() == str(revision) and now - age >= path.stat().st_mtime - 1
    except OSError:
        return False
