# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One JSON object per line on stdout, for the application and for gunicorn."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

REQUEST_KEYS = ("request_id", "method", "route", "status", "duration")


class JsonFormatter(logging.Formatter):
    """Every line has the same keys; those of a request are null outside one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        line.update({key: getattr(record, key, None) for key in REQUEST_KEYS})
        line["logger"] = record.name
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class LineHandler(logging.Handler):
    """Writes whole lines: a lock between processes keeps two workers' long lines apart."""

    def __init__(self, lock_path: str) -> None:
        super().__init__()
        self._lock_fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = (self.format(record) + "\n").encode()
            fcntl.lockf(self._lock_fd, fcntl.LOCK_EX)
            try:
                while data:
                    data = data[os.write(1, data) :]
            finally:
                fcntl.lockf(self._lock_fd, fcntl.LOCK_UN)
        except Exception:
            self.handleError(record)


def config(level: str, lock_path: str) -> dict[str, Any]:
    """The logging.config dictionary that gunicorn applies to itself and its workers."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "flaskops_app.logs.JsonFormatter"}},
        "handlers": {
            "stdout": {"()": "flaskops_app.logs.LineHandler", "lock_path": lock_path, "formatter": "json"},
        },
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"handlers": [], "propagate": True},
            # The application writes the line of a request; with a logging dictionary gunicorn would too.
            "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
    }
