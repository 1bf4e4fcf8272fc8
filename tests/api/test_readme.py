# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory and the playbook of the README, as they stand there, in check mode by the installed collection.

kubectl's configuration, the source tree and the engine are a home's; the cluster has a Prometheus operator's kinds and no node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.api_rig import Rig
from tests.fakes.cluster_tools import Machine
from tests.fakes.operator import operator
from tests.harness import ROOT, Run, installed_collection, playbook

INVENTORY, PLAYBOOK = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
# Charts and images of the stack and of the logs are in registries.
HERE = ("-e", "monitoring_provider=existing", "-e", "logging_provider=none")


class Home:
    """An empty folder with what the README takes for granted."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.folder, self.collections = folder, installed_collection(folder)
        self.machine = Machine(folder / "bin", [])
        config = yaml.safe_load(rig.kubeconfig().read_text())
        config["contexts"][0]["name"] = "my-context"
        (folder / ".kube").mkdir()
        (folder / ".kube/config").write_text(yaml.safe_dump(config))
        (folder / "src/shop").mkdir(parents=True)
        (folder / "src/shop/app.py").write_text("from flask import Flask\n\napp = Flask(__name__)\n")
        (folder / "src/shop/requirements.txt").write_text("flask==3.1.3\n")

    def run(self, *args: str, inventory: tuple[str, ...] = ()) -> Run:
        env = {
            "HOME": str(self.folder),
            "PATH": f"{self.machine.folder}:/usr/bin:/bin",
            "XDG_CACHE_HOME": f"{self.folder}/.cache",
        }
        return playbook(*args, "--check", inventory=inventory, cwd=self.folder, collections=self.collections, env=env)

    def site(self, text: str) -> Run:
        (self.folder / "my-cluster.yml").write_text(text)
        return self.run("flaskops.observability.site", *HERE, inventory=("-i", "my-cluster.yml"))

    def play(self, text: str) -> Run:
        (self.folder / "shop.yml").write_text(text)
        return self.run("shop.yml")


@pytest.fixture(scope="module")
def home(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with operator(rig):
        yield Home(rig, tmp_path_factory.mktemp("home"))


def test_the_inventory_is_accepted(home: Home) -> None:
    """The image, the application and its monitoring are planned, and verify says that it does nothing here."""
    assert home.site(INVENTORY).changed >= 3
    assert home.machine.read()["images"]["docker"] == []


def test_the_playbook_is_accepted(home: Home) -> None:
    assert home.play(PLAYBOOK).changed >= 2


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("source:", "sources:", "sources"),
        ("verify: {", "verify: {schedul: 1, ", "schedul"),
        ("image_delivery: push", "image_delivery: mail", "flask_image_delivery"),
        ("my-context ", "another ", "another"),
    ],
)
def test_a_wrong_inventory_is_refused(home: Home, right: str, wrong: str, named: str) -> None:
    assert right in INVENTORY and named in home.site(INVENTORY.replace(right, wrong)).error


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("flask_app_image:", "flask_app_imagee:", "flask_app_image"),
        ("verify_notified_severities: []", "verify_notified_severities: [loud]", "verify_notified_severities"),
        ("my-context", "another", "another"),
    ],
)
def test_a_wrong_playbook_is_refused(home: Home, right: str, wrong: str, named: str) -> None:
    assert right in PLAYBOOK and named in home.play(PLAYBOOK.replace(right, wrong)).error
