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
PROXY = re.compile(r"/api/v1/namespaces/monitoring/(?:services|pods)/([^/]+)/proxy(.*)")


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

    :param programs: their addresses, by the names of their Services or pods with the port.
    :param log: that of Alertmanager's pods. :param pods: how many it has.
    """

    host = "https://api"

    def __init__(self, programs: dict[str, str], log: Path, pods: int = 1) -> None:
        self.programs, self.log, self.pods = programs, log, pods
        self.refused: dict[str, int] = {}  # the status of a path or of a method, where it is refused
        self.sent: list[tuple[str, Any]] = []

    def fetch(self, path: str, headers: Any = None, seconds: float = 0) -> tuple[int, str]:
        plain = path.split("?")[0]
        if plain in self.refused:
            return self.refused[plain], json.dumps({"message": "no"})
        if there := PROXY.fullmatch(path):
            return answer(self.programs[there[1]] + there[2])
        if plain.endswith("/log"):
            return 200, self._since(float(parse_qs(urlsplit(path).query)["sinceSeconds"][0]))
        if plain.endswith("/pods"):
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            names = [f"alertmanager-stack-{number}" for number in range(self.pods)]
            return 200, json.dumps({"items": [{"metadata": {"name": name}, "status": ready} for name in names]})
        if plain.endswith("/alertmanagers"):
            found = {"metadata": {"name": "stack", "namespace": "monitoring"}, "spec": {"replicas": self.pods}}
            return 200, json.dumps({"items": [found]})
        return 404, json.dumps({"message": f"{plain} not found"})

    def _since(self, seconds: float) -> str:
        """The lines of the log from so many seconds, which the kubelet knows by their time."""
        begin = time.time() - seconds
        lines = [(re.search(r"time=(\S+)", line), line) for line in self.log.read_text().splitlines()]
        return "\n".join(line for at, line in lines if at and datetime.datetime.fromisoformat(at[1]).timestamp() >= begin)

    def send(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        if method in self.refused:
            return self.refused[method], json.dumps({"message": "no"})
        self.sent.append((path, body))
        there = PROXY.fullmatch(path)
        assert there, path
        return answer(self.programs[there[1]] + there[2], method, body)


@contextmanager
def started(folder: Path, config: str, *features: str, cluster: tuple[str, str] = ("", "")) -> Iterator[str]:
    """The address of an Alertmanager with a configuration; it ends with the block.

    :param folder: an empty one, which gets its data and its log. :param cluster: its own address and another one's, where there
        are several.
    """
    (folder / "alertmanager.yml").write_text(config)
    port = free_port()
    words = [
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--cluster.listen-address={cluster[0]}",
        *([f"--cluster.peer={cluster[1]}"] if cluster[1] else []),
        *([f"--enable-feature={','.join(features)}"] if features else []),
    ]
    command = [str(programs("alertmanager") / "alertmanager"), *words]
    with (folder / "log").open("w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            until(lambda: answer(f"{address}/-/ready")[0] == 200, 60, "Alertmanager to be ready", 0.1, (OSError,))
            yield address
        finally:
            process.terminate()


@contextmanager
def running(folder: Path, config: dict[str, Any], *features: str, cluster: tuple[str, str] = ("", "")) -> Iterator[Api]:
    """An API server that leads to such an Alertmanager."""
    with started(folder, yaml.safe_dump(config), *features, cluster=cluster) as address:
        yield Api({"alertmanager-operated:9093": address}, folder / "log")
