# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten hosts in one run beside one host: CPU seconds of each, by `python -m tests.bench.hosts`.

A control plane without a node stands for the clusters (tests/api_rig.py): each host has namespaces of its own on it.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from . import common

sys.path.insert(0, str(common.ROOT))
from tests.api_rig import CONTEXT, Rig, running
from tests.harness import inventory_of, playbook
from tests.toolchain import programs

HOSTS, RUNS = 10, 3
MADE = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-made"}, "data": {"word": "one"}}


def write(folder: Path) -> None:
    """A play that deploys an application and a small release, and the release's chart."""
    (folder / "small/templates").mkdir(parents=True)
    (folder / "small/Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 1.2.3\n")
    (folder / "small/templates/made.yaml").write_text(yaml.safe_dump(MADE))
    role = {"name": "flaskops.observability.flask_app"}
    release = {
        "kubeconfig": "{{ cluster_kubeconfig }}",
        "context": "{{ cluster_context }}",
        "name": "small",
        "namespace": "{{ inventory_hostname }}",
        "chart": {"ref": str(folder / "small")},
    }
    tasks: list[dict[str, Any]] = [
        {"name": "Deploy", "ansible.builtin.include_role": role},
        {"name": "Install", "flaskops.observability.release": release},
    ]
    play = {"name": "Bring clusters to a state", "hosts": "all", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))


def cpu(folder: Path, rig: Rig, number: int, first: bool = False) -> float:
    """The CPU seconds of a run on some hosts; it must change all of them the first time, and none after that."""
    names = [f"host-{index}" for index in range(number)]
    hosts = {
        name: {f"flask_app_{key}": value for key, value in (("name", "web"), ("namespace", name), ("image", "web:1"))}
        for name in names
    }
    inventory = inventory_of(folder, hosts, cluster_kubeconfig=str(rig.kubeconfig()), cluster_context=CONTEXT)
    env = {"PATH": f"{programs('helm')}:{os.environ['PATH']}"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = playbook(str(folder / "play.yml"), inventory=inventory, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or (not first and done.changed):
        raise common.StepFailed(f"The run on {number} hosts failed or changed something: {done.error or done.stdout[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Converge ten hosts, then time runs on one and on ten by turns, and print the table."""
    print(f"One host and {HOSTS} hosts in one run, with nothing to do ({common.machine()})")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder)
        (folder / "rig").mkdir()
        try:
            with running(folder / "rig", node=True) as rig:
                cpu(folder, rig, HOSTS, first=True)
                pairs = [(cpu(folder, rig, 1), cpu(folder, rig, HOSTS) / HOSTS) for _ in range(RUNS)]
        except common.StepFailed as error:
            print(error, file=sys.stderr)
            return 1
    alone, each = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(many / one for one, many in pairs)
    rows = [
        ["one host", f"{alone:.1f} s", "-", f"CPU, median of {RUNS}"],
        [f"each of {HOSTS} hosts", f"{each:.1f} s", "-", "CPU"],
        ["ratio", f"{ratio:.2f}", "at most 1.0", "each of ten : one alone"],
    ]
    print("\n" + common.table(["step", "measured", "goal", "remarks"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
