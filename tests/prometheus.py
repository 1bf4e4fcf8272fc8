# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus on loopback with series of a test's choice."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.harness import until
from tests.node import free_port
from tests.toolchain import programs


class Prometheus:
    """What a running Prometheus answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _sample(text: str, number: int) -> str:
    name, _, value = text.rpartition(" ")
    return f"{name} {int(value) * number}" if value.startswith("+") else text


@contextmanager
def running(
    folder: Path,
    series: list[str],
    files: dict[str, list[dict[str, Any]]] | None = None,
    scrapes: list[dict[str, Any]] | None = None,
    samples: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """Prometheus with a sample of each series now, such as ``up{job="web"} 1``; it ends with the block.

    A value such as ``+5`` grows by that from each of the five samples, half a minute apart, to the next.

    :param folder: an empty one, which holds its data. :param files: groups of rules, by the name of their file.
    :param scrapes: what it scrapes, as its configuration has it.
    :param samples: further ones, each with its time, and those of a name in one piece.
    """
    now, bins = int(time.time()), programs("prometheus")
    # Several samples each, so that rates have something to see.
    lines = [f"{_sample(text, number)} {now - back}" for text in series for number, back in enumerate((120, 90, 60, 30, 0))]
    (folder / "series").write_text("\n".join([*lines, *samples, "# EOF\n"]))
    command = [str(bins / "promtool"), "tsdb", "create-blocks-from", "openmetrics", str(folder / "series"), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for name, groups in (files or {}).items():
        (folder / name).write_text(yaml.safe_dump({"groups": groups}))
    config = {"rule_files": [str(folder / name) for name in files or {}], "scrape_configs": scrapes or []}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    words = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([str(bins / "prometheus"), *words], stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        found = Prometheus(f"http://127.0.0.1:{port}")
        try:
            until(found.ready, 60, "Prometheus to be ready")
            yield found
        finally:
            process.terminate()
