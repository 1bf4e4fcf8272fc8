# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real VictoriaLogs on loopback, for tests that end it, fill it, or ask it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import urllib.request
from functools import cache
from pathlib import Path

from tests.harness import until
from tests.toolchain import programs


@cache
def binary() -> Path:
    return programs("victoria-logs") / "victoria-logs-prod"


class VictoriaLogs:
    """One program with its flags, without their dash; its port stays the same when it starts again."""

    def __init__(self, folder: Path, scheme: str = "http", **flags: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        flags |= {"storageDataPath": folder, "httpListenAddr": f"127.0.0.1:{self.port}"}
        self.command = [str(binary()), *(f"-{name}={value}" for name, value in flags.items())]
        # Whatever its certificate is: its clients' trust is not what is waited for.
        self.context = ssl._create_unverified_context() if scheme == "https" else None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)

    def wait(self) -> None:
        """Return when it answers."""

        def answers() -> bytes:
            assert self.process.poll() is None, "VictoriaLogs has ended"
            with urllib.request.urlopen(f"{self.url}/health", timeout=5, context=self.context) as reply:
                return bytes(reply.read())

        until(answers, 20, "the start of VictoriaLogs", 0.05, passing=(OSError,))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
