# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Go proxy that refuses one component at a time: what needs it is skipped and named, everything else is verified.

Each component has a run of the whole chain on a new cluster, with a cache that has all programs but that one. `pytest -k NAME`
runs one, and `pytest --lf` those that failed.
"""

from __future__ import annotations

import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import NEEDS

from tests.harness import LONG, ROOT, Run, playbook
from tests.node import free_network, free_port
from tests.toolchain import programs

NAME = "flaskops-skip-test"
IMAGES = yaml.safe_load((ROOT / "images.yml").read_text())
PARTS: dict[str, list[str]] = IMAGES["parts"]
# There is no cluster without them.
REQUIRED = {"cluster", "network_policy"}
# Only a cluster whose user asks for them has these, and none without them.
BY_OPTION = {"metrics-server", "traefik"}
OPTIONAL = sorted(component for part, needed in PARTS.items() if part not in REQUIRED for component in needed)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"
# What the part is to the chain: the links that have nothing to say without it.
SILENT = {
    "charts": {"metrics stack", "victoria_logs", "log agent", "log alerts"},
    "metrics": {"metrics stack"},
    "alerts": {"alertmanager", "alert path"},
    "kube_state_metrics": {"alert path"},
    "node_exporter": set(),
    "blackbox": {"health probe"},
    "logs": {"victoria_logs"},
}


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(403)

    def log_message(self, *args: Any) -> None:
        """Nothing: the requests are of no interest."""


class Machine:
    """A machine with a proxy that refuses everything, and the programs that are given to it."""

    def __init__(self, folder: Path, proxy: str) -> None:
        self.cache, self.inventory = folder / "cache", folder / "inventory.yml"
        options = f"{{local_cluster_api_port: {free_port()}, local_cluster_subnet: {free_network()}.0/24}}"
        self.inventory.write_text(f"local: {{hosts: {{{NAME}: {options}}}}}\n")
        # No Helm of the machine's own.
        path = [each for each in os.environ["PATH"].split(os.pathsep) if not Path(each, "helm").exists()]
        self.env = {"XDG_CACHE_HOME": str(self.cache), "GOPROXY": proxy, "PATH": os.pathsep.join(path)}

    def without(self, component: str) -> None:
        """Give it all programs of this machine but those of one component."""
        have = {name: programs(name) for name in IMAGES["toolchain"] if name not in {component, *BY_OPTION}}
        (self.cache / "flaskops/bin").mkdir(parents=True)
        for folder in have.values():
            (self.cache / "flaskops/bin" / folder.name).symlink_to(folder)
        (self.cache / "flaskops/containers.conf").symlink_to(CACHE / "containers.conf")

    def run(self, play: str) -> Run:
        inventory = ("-i", "inventories/local", "-i", str(self.inventory), "--limit", NAME)
        return playbook(play, inventory=inventory, env=self.env, timeout=1800)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        made = Machine(tmp_path, f"http://127.0.0.1:{proxy.server_port}")
        yield made
        made.run("playbooks/teardown.yml")
        proxy.shutdown()


def rows(text: str) -> dict[str, str]:
    """The status of each link in the last table that was shown."""
    table = text[text.rindex("\nlink ") :]
    return dict(re.findall(r"^(\S.*?) +(ok|FAILED|skipped) +\d+\.\d\d ", table, re.MULTILINE))


@LONG
@pytest.mark.parametrize("component", OPTIONAL)
def test_part_is_skipped_and_named_and_the_rest_is_verified(machine: Machine, component: str) -> None:
    machine.without(component)
    done = machine.run("site.yml")
    assert done.returncode == 0, done.stdout[-6000:]
    (part,) = (part for part, needed in PARTS.items() if component in needed)
    name = part.replace("_", " ")
    assert re.search(rf"the part {name} is skipped, because {component} [\d.]+ does not build: .*403 Forbidden", done.stdout)
    found = rows(done.stdout)
    assert found.pop(f"part {name}") not in ("ok", "FAILED")
    assert "FAILED" not in found.values()
    assert {"health", "logs", "metric requests"} <= {link for link, status in found.items() if status == "ok"}
    assert {link for link in SILENT[part] if found.get(link) == "ok"} == set()


@LONG
def test_without_a_program_of_the_cluster_nothing_is_made(machine: Machine) -> None:
    machine.without("etcd")
    done = machine.run("site.yml")
    assert done.returncode != 0
    assert set(re.findall(r"msg: '?(etcd [\d.]+ does not build: .*?403 Forbidden)", re.sub(r"\s+", " ", done.stdout)))
    assert "changed=0" in done.stdout
    assert "the part" not in done.stdout


def test_every_component_belongs_to_one_part() -> None:
    listed = [component for needed in PARTS.values() for component in needed]
    assert sorted([*listed, *BY_OPTION]) == sorted(IMAGES["toolchain"])
    assert set(SILENT) == set(PARTS) - REQUIRED
    assert set().union(*SILENT.values()) <= set(NEEDS)
