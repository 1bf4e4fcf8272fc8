# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real gunicorn on the loopback interface, as a generated image starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.node import free_port

ROOT = Path(__file__).resolve().parents[3]
APP = ROOT / "app"
RUNTIME = ROOT / "roles/flask_image/files/runtime"
COMMAND = [sys.executable, "-m", "gunicorn", "-c", str(RUNTIME / "gunicorn.conf.py"), "flaskops_runtime.wsgi:app"]


def wait_for(condition: Callable[[], Any], seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"nothing after {seconds} seconds"
        time.sleep(0.05)


class Server:
    def __init__(self, tmp_path: Path, folder: Path = APP, **env: str) -> None:
        self.folder = folder
        self.host = env.get("HOST", "127.0.0.1")
        self.port, self.metrics_port = int(env.get("PORT") or free_port()), free_port()
        self.output = tmp_path / "stdout"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "FLASKOPS_STATE_DIR": str(tmp_path / "state"),
            "FLASK_IMAGE_WSGI": "flaskops_app:create_app()",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "DRAIN_SECONDS": "0",
            **env,
        }
        self.start()

    def start(self) -> None:
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(COMMAND, cwd=self.folder, env=self.env, stdout=output, stderr=subprocess.STDOUT)
        wait_for(lambda: self.status("/health") or self.process.poll() is not None)
        assert self.process.poll() is None, self.output.read_text()

    def request(
        self, path: str, method: str = "GET", body: str | None = None, port: int = 0, headers: dict[str, str] | None = None
    ) -> tuple[int, str, Any]:
        """The answer, after the server has closed the connection: only then it has counted and logged the request."""
        sent = None if body is None else body.encode()
        connection = http.client.HTTPConnection(self.host.strip("[]"), port or self.port, timeout=10)
        connection.request(method, path, sent, {"Connection": "close", **(headers or {})})
        # A reader of its own, because the connection lets go of its socket as soon as the body is whole.
        with connection.sock.dup() as end, contextlib.closing(connection):
            response = connection.getresponse()
            answer = response.status, response.read().decode(), response.headers
            with contextlib.suppress(ConnectionError):
                end.recv(1)
        return answer

    def status(self, path: str, **kwargs: Any) -> int:
        try:
            return self.request(path, **kwargs)[0]
        except OSError:
            return 0

    def metrics(self) -> str:
        code, text, _headers = self.request("/metrics", port=self.metrics_port)
        assert code == 200, text
        return text

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["method"]]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            # A worker that has just been forked misses the signal, and is ended by force after graceful_timeout, 20 s.
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
