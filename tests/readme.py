# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory and the playbook of the README, as they stand there, and an empty folder in which a reader runs them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.fakes.cluster_tools import Machine
from tests.harness import ROOT, Run, installed_collection, playbook

TEXT = (ROOT / "README.md").read_text()
INVENTORY, PLAYBOOK = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
# The options with which the playbook removes what it made.
ABSENT = re.findall(r"^The same playbook with `(.*?)` removes", TEXT, re.MULTILINE)[0].split()
# What they call the context.
CONTEXT = "my-context"


def rows(run: Run) -> dict[str, str]:
    """The rows of the table that verify has printed, each with its status."""
    return dict(re.findall(r"^(\w.*?) +(ok|FAILED|skipped) +\d+\.\d\d ", run.stdout, re.MULTILINE))


class Home:
    """A home with the collection from its built tarball, a kubeconfig, and the source tree that the inventory names."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder, self.collections = folder, installed_collection(folder)
        self.machine = Machine(folder / "bin", [])
        config = yaml.safe_load(kubeconfig.read_text())
        (context,) = config["contexts"]
        context["name"] = CONTEXT
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
        return playbook(*args, inventory=inventory, cwd=self.folder, collections=self.collections, env=env)

    def site(self, text: str, *args: str) -> Run:
        """The collection's `site` with this inventory."""
        (self.folder / "my-cluster.yml").write_text(text)
        return self.run("flaskops.observability.site", *args, inventory=("-i", "my-cluster.yml"))

    def play(self, text: str, *args: str) -> Run:
        """This playbook."""
        (self.folder / "shop.yml").write_text(text)
        return self.run("shop.yml", *args)
