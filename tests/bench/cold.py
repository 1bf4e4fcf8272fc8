# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time of a first `make up`, with nothing of it on this machine: `python -m tests.bench.cold`.

It takes some twenty minutes on two cores, and means nothing beside other work. Programs, caches, Python environments and images
go to an empty folder, which is removed at the end, so that what this machine has stays as it is.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import common

# Minutes.
APP_GOAL, ALL_GOAL = 13, 22
# What ends a part of the run: a task or line of its output.
MARKS = {
    r"^PLAY \[Programs\]": "Python environment",
    r"^TASK \[.*local_cluster : Run the node\]": "programs of the cluster",
    r"^PLAY \[Image\]": "node image and cluster",
    r"^PLAY \[App\]": "image of the application",
    r"^PLAY \[Monitoring\]": "application, verified for the first time",
    r"^PLAY \[Logging\]": "monitoring",
    r"^PLAY \[External checks\]": "logging",
    r"^PLAY RECAP": "verified as a whole",
}


def up(folder: Path) -> list[tuple[str, float]]:
    """`make up` for the benchmark's cluster with all that it keeps in the folder; what ended, and after how many seconds.

    Raises common.StepFailed when it ends with another status than 0.
    """
    (folder / "images").mkdir()
    # An empty storage would have podman choose again.
    network = common.engine().run(["info", "--format", "{{.Host.NetworkBackend}}"]).stdout.decode().strip()
    (folder / "images/defaultNetworkBackend").write_text(network)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n'
    )
    env = common.environment() | {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    command = ["make", "up", f"ARGS={' '.join([*common.LIMITED, '-e', 'local_cluster_engine=podman'])}"]
    common.LOGS.mkdir(parents=True, exist_ok=True)
    log, ended, left = common.LOGS / "cold.log", [], dict(MARKS)
    began = time.monotonic()
    try:
        run = subprocess.Popen(command, cwd=common.ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert run.stdout is not None
        with log.open("w") as file:
            for line in run.stdout:
                file.write(line)
                for pattern in [pattern for pattern in left if re.search(pattern, line)]:
                    ended.append((left.pop(pattern), time.monotonic() - began))
        if run.wait():
            raise common.StepFailed(f"`make up` ended with status {run.returncode}: read {log}.")
        return ended
    finally:
        down = ["make", "down", *command[2:]]
        subprocess.run(down, cwd=common.ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> int:
    """Measure and print the tables; 1 when a step failed."""
    print(f"A first `make up` ({common.machine()}); its output goes to {common.LOGS}/cold.log", flush=True)
    with tempfile.TemporaryDirectory(prefix="flaskops-cold-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            ended = up(folder)
        except common.StepFailed as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            built = {file.stem: file.read_text().split() for file in (folder / "cache/flaskops/building").glob("*.seconds")}
            # Go's modules are read-only.
            subprocess.run(["chmod", "-R", "u+w", str(folder)], capture_output=True)
        size = sum(file.lstat().st_size for file in (folder / "cache").rglob("*") if not file.is_dir()) / 2**30
    goals = {"application, verified for the first time": APP_GOAL, "verified as a whole": ALL_GOAL}
    rows, before = [], 0.0
    for part, seconds in ended:
        goal = f"at most {goals[part]} min" if part in goals else "-"
        rows.append([part, f"{seconds - before:.0f} s", f"{seconds / 60:.1f} min", goal])
        before = seconds
    print("\n" + common.table(["part", "takes", "is there after", "goal"], rows))
    parts = [[component, how, seconds] for component, (how, seconds) in built.items()]
    print("\n" + common.table(["component", "how", "seconds"], sorted(parts, key=lambda row: -int(row[2]))))
    print(f"\nThe seconds of components overlap. The cache holds {size:.1f} GiB.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
