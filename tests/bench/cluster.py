# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time and memory of the local cluster: `python -m tests.bench.cluster`.

Figures are shown beside their goals and judged by nobody; the exit status is 0 unless a step failed.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from kubernetes import client

from . import common
from .load import bench_workload

UP_GOAL, ALL_GOAL, WORKERS_GOAL, MEMORY_GOAL = 60, 150, 120, 1.5  # seconds, GiB
FIRST = "cluster,image,app,verify"


def up(step: str, *arguments: str, stages: str = FIRST) -> tuple[float, int]:
    """`make up`, as users type it; the seconds and the number of changes."""
    seconds, output = common.make(step, "up", *([f"STAGES={stages}"] if stages else []), arguments=arguments)
    recap = re.search(r"changed=(\d+)", output)
    if recap is None:
        raise common.StepFailed(f"The step '{step}' ended without a recap: read its log in {common.LOGS}.")
    return seconds, int(recap.group(1))


def working_set() -> float:
    """GiB in use by the node container: its cgroup without the page cache that can be dropped, as kubelet counts."""
    node = f"{common.HOST}-node"
    found = common.engine().run(["inspect", "--format", "{{.Id}} {{.State.Pid}}", node]).stdout.decode()
    container, process = found.split()
    mounts = {"memory": Path("/sys/fs/cgroup/memory"), "": Path("/sys/fs/cgroup")}
    entries = [line.split(":", 2)[1:] for line in Path(f"/proc/{process}/cgroup").read_text().splitlines()]
    # cgroup v1 lists a controller "memory"; with v2 there is only the entry without a name.
    name, path = max((entry for entry in entries if entry[0] in mounts), key=lambda entry: len(entry[0]))
    # The process may be in a group further down; the container's own group is the one that has its id.
    below = re.match(rf".*?{container}[^/]*", path)
    if below is None:
        raise common.StepFailed(f"The memory of {node} can't be read: its cgroup is {path}, without the container's id.")
    group = mounts[name] / below.group(0).lstrip("/")
    usage = int((group / ("memory.usage_in_bytes" if name else "memory.current")).read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return (usage - int(stat["total_inactive_file" if name else "inactive_file"])) / 2**30


def main() -> int:
    """Measure and print the table; 1 when a step failed."""
    print(f"The local cluster from nothing to a verified application ({common.machine()})")
    rows: list[list[str]] = []
    try:
        common.make("down before", "down")
        seconds, changes = up("up")
        rows.append(["make up, no cluster", f"{seconds:.1f} s", f"at most {UP_GOAL} s", f"{changes} changed"])
        seconds, changes = up("up again")
        rows.append(["make up again", f"{seconds:.1f} s", "-", f"{changes} changed (goal 0)"])
        rows.append(
            ["memory, working set", f"{working_set():.2f} GiB", f"at most {MEMORY_GOAL} GiB", "with two pods of the application"]
        )
        with tempfile.TemporaryDirectory() as folder:
            seconds, changes = up("up changed", "-e", f"bench_source={common.changed_app(Path(folder))}")
        image = bench_workload().image()
        rows.append(["make up, application changed", f"{seconds:.1f} s", "-", f"{changes} changed, its image built"])
        seconds, _output = common.make("down", "down")
        rows.append(["make down", f"{seconds:.1f} s", "-", ""])
        common.remove_image(image)
        for step, goal, stages, arguments in (
            ("up with two workers", WORKERS_GOAL, FIRST, ["-e", "local_cluster_workers=2"]),
            ("up of everything", ALL_GOAL, "", []),
        ):
            seconds, changes = up(step, *arguments, stages=stages)
            rows.append([f"make {step}, no cluster", f"{seconds:.1f} s", f"at most {goal} s", f"{changes} changed"])
            common.make(f"down after {step}", "down")
    except (common.StepFailed, common.EngineError, client.ApiException, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if rows:
            print("\n" + common.table(["step", "measured", "goal", "remarks"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
