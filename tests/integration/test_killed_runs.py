# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make up` killed again and again: each run gets past the place where the one before it was killed, and the last ends whole.

A run is killed when the task after a change has begun, once for each task that changes something, and some time into the tasks
that take long. So each run finds what a first run that was killed there would have left. `make down` in between leaves
nothing.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine

from tests.harness import LONG, ROOT, Cluster, Run, clean_environment, playbook, processes
from tests.node import assert_nothing_left, assert_whole, free_network, free_port, host, kill

NAME = "flaskops-killed-test"
KUBECONFIG = Path.home() / f".local/share/flaskops/clusters/{NAME}/kubeconfig"
# At least so many, counted with those in the middle of a task, and of these alone.
STEPS, INSIDE = 20, 6
# How many seconds into a task a run is killed, in addition to after it.
WITHIN = {
    "Run the node": [1.0, 3.0, 5.0, 8.0, 12.0],
    "Build and deliver the image": [0.7],
    "Bring the application to its state": [2.0],
    "Build the runner's image": [1.0],
    "Put the programs into the local cluster": [1.0],
    "Install, upgrade or repair the releases": [3.0],
    "Install, upgrade or repair the release": [2.0],
}
# After these killed runs everything is taken down, and the next run is a first one.
DOWN_AFTER = (2, 9, 15)
pytestmark = LONG


class Own:
    """A machine without our cluster, and runs on it that end early."""

    def __init__(self, folder: Path) -> None:
        self.engine = Engine.find("podman")
        self.port, self.network = free_port(), free_network(210)
        options = f"{{local_cluster_api_port: {self.port}, local_cluster_subnet: {self.network}.0/24}}"
        (folder / "inventory.yml").write_text(f"local: {{hosts: {{{NAME}: {options}}}}}\n")
        self.inventory = ("-i", "inventories/local", "-i", str(folder / "inventory.yml"), "--limit", NAME)

    def run(self, play: str) -> Run:
        return playbook(play, inventory=self.inventory, timeout=900)

    def down(self) -> Run:
        return self.run("playbooks/teardown.yml")

    def killed(self, done: set[str], within: dict[str, list[float]]) -> str | None:
        """Kill a run with -9, in a task of `within` or after a change of a task that is not in `done`, and note it there.

        The place where it was killed, or None if it ended by itself.
        """
        command = [str(Path(sys.executable).with_name("ansible-playbook")), *self.inventory, "site.yml"]
        environment = clean_environment() | {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
        # Else the name of a task is shown at its end.
        environment["ANSIBLE_DISPLAY_SKIPPED_HOSTS"] = "true"
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            assert run.stdout
            task, changed, seconds, timer = "", False, 0.0, threading.Timer(0, int)  # the task with its role, as it is shown
            lines: list[str] = []
            for line in run.stdout:
                lines.append(line)
                changed = changed or (line.startswith("changed: ") and task not in done)
                if not line.startswith("TASK ["):
                    continue
                timer.cancel()
                if changed:
                    done.add(task)
                    kill(processes(run.pid))
                    return f"after {task}"
                task = line.split("[", 1)[1].split("]")[0]
                if left := within.get(task.split(" : ")[-1]):
                    seconds = left.pop(0)
                    timer = threading.Timer(seconds, lambda: kill(processes(run.pid)))
                    timer.start()
            timer.cancel()
        if run.returncode == -signal.SIGKILL:
            return f"{seconds:g} s into {task}"
        assert run.returncode == 0, "".join(lines[-60:])
        return None

    def host(self) -> dict[str, set[str]]:
        return host(self.engine, KUBECONFIG, self.port, alone=False)

    def gone(self, before: dict[str, set[str]]) -> None:
        """Take everything down, and see that nothing is left."""
        assert self.down().returncode == 0
        assert_nothing_left(before, self.host, rf"{NAME}|{re.escape(self.network)}\.|:{self.port}\b")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    own = Own(tmp_path_factory.mktemp("killed"))
    own.down()
    yield own
    own.down()


@pytest.fixture(scope="module")
def before(own: Own) -> dict[str, set[str]]:
    return own.host()


def test_each_run_goes_on_where_the_one_before_was_killed(own: Own, before: dict[str, set[str]]) -> None:
    done: set[str] = set()
    places: list[str] = []
    within = {task: list(seconds) for task, seconds in WITHIN.items()}
    while place := own.killed(done, within):
        places.append(place)
        print(f"{len(places)} killed {place}", flush=True)
        assert len(places) < 3 * STEPS, "the runs do not get further"
        if len(places) in DOWN_AFTER:
            own.gone(before)
    assert len(places) >= STEPS
    assert not any(within.values()), "a task that takes long has another name now"
    # What takes no time here is killed after its end instead.
    assert len([place for place in places if " s into " in place]) >= INSIDE
    cluster = Cluster(KUBECONFIG, NAME)
    assert_whole(cluster, f"{own.network}.2")
    with urllib.request.urlopen(f"http://{cluster.address('flask-app', 'flask-app')}/health", timeout=5) as reply:
        assert reply.status == 200
    assert own.run("site.yml").changed == 0
    own.gone(before)
