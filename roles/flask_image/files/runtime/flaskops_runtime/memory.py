# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A word in time, where the container has little memory left: the kernel kills it without one."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

LOOK_EVERY, SAY_EVERY = 60, 3600  # seconds
NEAR = 0.9
# The files of cgroup v2 and v1, and the entry of memory.stat for what the kernel gives back when it is needed.
FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def used(root: Path = Path("/sys/fs/cgroup")) -> tuple[int, int] | None:
    """How many bytes the container uses, as Kubernetes counts them, and how many it may; None where that can't be told."""
    for limit, current, statistics, inactive in FILES:
        try:
            most, now = int((root / limit).read_text()), int((root / current).read_text())
            stat = dict(line.split() for line in (root / statistics).read_text().splitlines())
        except (OSError, ValueError):  # the limit may be the word max
            continue
        return now - int(stat.get(inactive, 0)), most
    return None


def watch(log: logging.Logger, root: Path = Path("/sys/fs/cgroup"), look_every: float = LOOK_EVERY) -> None:
    """Say once an hour that memory is nearly used up, for as long as the process lives."""
    pause = threading.Event()
    while not pause.wait(look_every):
        found = used(root)
        if found and found[0] > NEAR * found[1]:
            log.warning(
                "The container uses %s of its %s MiB of memory, and is killed when it needs more:"
                " raise the limit in flask_app_resources, or have fewer workers (WEB_CONCURRENCY).",
                found[0] >> 20,
                found[1] >> 20,
            )
            pause.wait(SAY_EVERY)
