# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Alertmanager on loopback, and an API server that leads to it and nowhere else."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.harness import until
from tests.node import free_port
from tests.toolchain import programs

FEATURE = "receiver-name-in-metrics"
SERVICES = "/api/v1/namespaces/monitoring/services/"
POD = {"metadata": {"name": "alertmanager-stack-0"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
OBJECT = {"metadata": {"name": "stack", "namespace": "monitoring"}, "spec": {"replicas": 1}}


def answer(url: str, method: str = "GET", body: Any = None) -> tuple[int, str]:
    """The status and the text of a program on loopback."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as found:
            return int(found.status), found.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Api:
    """What an API server answers of a stack whose programs run on loopback.

    :param programs: their addresses, by the names of their Services with the port.
    :param log: the log of Alertmanager.
    :param answers: of other paths; a number is a status.
    """

    host = "https://api"

    def __init__(self, programs: dict[str, str], log: Path, **answers: Any) -> None:
        self.programs, self.log, self.answers = programs, log, answers
        self.sent: list[tuple[str, Any]] = []

    def _there(self, path: str) -> str:
        name, _, rest = path.removeprefix(SERVICES).partition("/proxy")
        return self.programs[name] + rest

    def fetch(self, path: str, headers: Any = None, seconds: float = 0) -> tuple[int, str]:
        plain = path.split("?")[0]
        if isinstance(found := self.answers.get(plain), int):
            return found, json.dumps({"message": "no"})
        if found is not None:
            return 200, json.dumps(found)
        if path.startswith(SERVICES):
            return answer(self._there(path))
        if plain.endswith("/log"):
            return 200, self._since(float(parse_qs(urlsplit(path).query)["sinceSeconds"][0]))
        if plain.endswith("/pods"):
            return 200, json.dumps({"items": [POD]})
        if plain.endswith("/alertmanagers"):
            return 200, json.dumps({"items": [OBJECT]})
        return 404, json.dumps({"message": f"{plain} not found"})

    def _since(self, seconds: float) -> str:
        """The lines of the log from so many seconds, which the kubelet knows by their time."""
        begin = time.time() - seconds
        lines = [(re.search(r"time=(\S+)", line), line) for line in self.log.read_text().splitlines()]
        return "\n".join(line for at, line in lines if at and datetime.datetime.fromisoformat(at[1]).timestamp() >= begin)

    def send(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        self.sent.append((path, body))
        return answer(self._there(path), method, body)


@contextmanager
def running(folder: Path, config: dict[str, Any], *features: str) -> Iterator[Api]:
    """Alertmanager with a configuration; it ends with the block. :param folder: an empty one, which holds its data."""
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    port, log = free_port(), folder / "log"
    words = [
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        *([f"--enable-feature={','.join(features)}"] if features else []),
    ]
    command = [str(programs("alertmanager") / "alertmanager"), *words]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            until(lambda: answer(f"{address}/-/ready")[0] == 200, 60, "Alertmanager to be ready", 0.1, (OSError,))
            yield Api({"alertmanager-operated:9093": address}, log)
        finally:
            process.terminate()
