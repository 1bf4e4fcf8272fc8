# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One JSON object per line on stdout, for the application, for its requests and for gunicorn."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import state_dir

REQUEST_KEYS = ("request_id", "method", "path", "route", "status", "duration")
# The request that this thread or task answers, or answered last: gunicorn writes its traceback after the application returned.
current: ContextVar[dict[str, Any]] = ContextVar("request", default={})  # noqa: B039


class JsonFormatter(logging.Formatter):
    """Every line has the same keys; those of a request are null outside one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        request = current.get()
        line.update({key: getattr(record, key, request.get(key)) for key in REQUEST_KEYS})
        line["logger"] = record.name
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class LineHandler(logging.Handler):
    """Writes whole lines: a lock between processes keeps two workers' long lines apart."""

    def __init__(self, lock_path: str) -> None:
        super().__init__()
        self._lock_fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.setFormatter(JsonFormatter())

    def close(self) -> None:
        """Stay open: an application that configures logging closes all handlers, also those that go on being used."""

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


def lock() -> Path:
    """The file that keeps the lines of two processes apart."""
    return state_dir() / "log.lock"


def config(level: str) -> dict[str, Any]:
    """The logging.config dictionary that gunicorn applies to itself and its workers."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stdout": {"()": "flaskops_runtime.logs.LineHandler", "lock_path": str(lock())}},
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"handlers": ["stdout"], "propagate": False},
            # A request has its line from the layer; with a logging dictionary gunicorn would write one too.
            "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
    }


def own_logger() -> logging.Logger:
    """The logger of requests. Logging's register does not know it, so no configuration of the application reaches it."""
    logger = logging.Logger("flaskops.request", logging.INFO)
    logger.addHandler(LineHandler(str(lock())))
    return logger


def keep_gunicorn() -> None:
    """Let gunicorn be heard again after an application that configured logging while it was imported."""
    logger = logging.getLogger("gunicorn.error")
    logger.disabled = False
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, LineHandler) for handler in logger.handlers):
        logger.addHandler(LineHandler(str(lock())))
    logger.propagate = False
