# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's cluster and its commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import EngineError as EngineError

HOST = "flaskops-bench"
KUBECONFIG = Path.home() / ".local/share/flaskops/clusters" / HOST / "kubeconfig"
LOGS = ROOT / "reports/bench"
# The order matters: the second inventory adds its host to the first one's group.
LIMITED = ["-i", "tests/bench/inventory.yml", "--limit", HOST]


class StepFailed(Exception):
    """One sentence: the step, its exit status and its log."""


def environment() -> dict[str, str]:
    """What a command of the benchmark is given: nothing of a make around it, and the time of every task."""
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    env["ANSIBLE_CALLBACKS_ENABLED"] = "ansible.posix.profile_tasks"
    return env


def run(step: str, command: Sequence[str]) -> tuple[float, str]:
    """Run a command in the project's folder, with its output in reports/bench/<step>.log.

    Returns its seconds and its output.
    Raises StepFailed when it ends with another status than 0.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{step.replace(' ', '-')}.log"
    env = environment()
    print(f"{time.strftime('%H:%M:%S')} {step} ...", flush=True)
    start = time.monotonic()
    with log.open("w") as file:
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
    seconds = time.monotonic() - start
    if done.returncode:
        raise StepFailed(f"The step '{step}' ended with status {done.returncode} after {seconds:.0f} s: read {log}.")
    return seconds, log.read_text()


def playbook(step: str, *words: str) -> tuple[float, str]:
    """Run ansible-playbook for the benchmark's cluster; returns and raises as run()."""
    return run(step, ["ansible-playbook", "-i", "inventories/local", *LIMITED, *words])


def make(step: str, target: str, *variables: str, arguments: Sequence[str] = ()) -> tuple[float, str]:
    """Run a target of the Makefile as users do, for the benchmark's cluster; returns and raises as run()."""
    return run(step, ["make", target, *variables, f"ARGS={' '.join([*LIMITED, *arguments])}"])


def changed_app(folder: Path) -> Path:
    """Copy app/ into the folder with one more line that no other copy has, so that its image is built, and return the copy."""
    copy = folder / "app"
    shutil.copytree(ROOT / "app", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "flaskops_app/__init__.py").open("a") as file:
        file.write(f"# This line makes another image of the same application: {time.time_ns()}\n")
    return copy


def remove_image(ref: str) -> None:
    """Remove an image of a changed copy from the engine's storage; EngineError says why not."""
    engine().run(["rmi", ref])


def engine() -> Engine:
    """The engine that local_cluster chooses."""
    return Engine.find(only=("podman", "docker"))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns of text, those that hold numbers alone aligned right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    left = [not all(cell.replace(".", "").isdigit() for cell in column) for column in zip(*cells[1:], strict=True)]
    ways = [f"{{:{'<' if to_left else '>'}{width}}}" for width, to_left in zip(widths, left, strict=True)]
    lines = ["  ".join(way.format(cell) for way, cell in zip(ways, row, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def machine() -> str:
    """One line about this machine, because times mean nothing without it."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {gib:.0f} GiB, load of the last minute {os.getloadavg()[0]:.1f}"
