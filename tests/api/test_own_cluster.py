# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`inventories/kind` for a user without root, whose kind, engine, apt-get and sudo are stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api_rig import Rig
from tests.fakes.cluster_tools import Machine
from tests.fakes.kubelet import kubelet
from tests.harness import ROOT, Run, clean_environment

NOBODY = 65534
# As another user who may read all files, since a checkout and its Python may be in root's home.
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
AS_NOBODY += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search"]
NODES = ["kind-control-plane", "kind-worker", "kind-external-load-balancer"]


@pytest.fixture
def desk(rig: Rig) -> Iterator[Machine]:
    """Stand-ins in the folder `bin` of a home, which has the kubeconfig that kind writes."""
    # Not in pytest's folder, which is its user's alone: whether a program is there is asked without the capability.
    with tempfile.TemporaryDirectory(prefix="home.") as folder:
        home = Path(folder)
        made = Machine(home / "bin", NODES)
        config = yaml.safe_load(rig.kubeconfig().read_text())
        config["contexts"][0]["name"] = config["current-context"] = "kind-kind"
        (home / ".kube").mkdir()
        (home / ".kube/config").write_text(yaml.safe_dump(config))
        if os.geteuid() == 0:
            for path in (home, *home.rglob("*")):
                shutil.chown(path, NOBODY, NOBODY)
        yield made


def up(desk: Machine, stages: str, *args: str, inventory: str = "kind", **environment: str) -> Run:
    """What `make up INVENTORY=inventories/kind` runs, or with another one of a cluster of one's own, as a user without root."""
    command = [*(AS_NOBODY if os.geteuid() == 0 else []), str(Path(sys.executable).with_name("ansible-playbook"))]
    command += ["-i", f"inventories/{inventory}", "site.yml", "--tags", stages, *args]
    home = desk.folder.parent
    env = clean_environment() | {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_REMOTE_TMP": f"{home}/.ansible/tmp",  # Ansible takes the home of the password file, which nobody does not have
        "HOME": str(home),
        "PATH": f"{desk.folder}:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": f"{home}/.cache",
        **environment,
    }
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    return Run(done.returncode, done.stdout, done.stderr)


def test_a_user_without_root(rig: Rig, desk: Machine) -> None:
    def loads() -> list[list[str]]:
        return [words for words in desk.calls("kind") if words[0] == "load"]

    def deployed() -> dict[str, Any]:
        return rig.request("GET", "/apis/apps/v1/namespaces/flask-app/deployments/flask-app")["spec"]["template"]["spec"]

    with kubelet(rig, "flask-app"):
        assert up(desk, "image", "--check").changed > 0
        assert loads() == [] and desk.read()["images"]["docker"] == []
        assert up(desk, "image,app").changed > 0
        image = deployed()["containers"][0]["image"]
        assert loads() == [["load", "docker-image", image, "--name", "kind"]]
        assert [desk.read()["nodes"][node] for node in NODES] == [[image], [image], []]
        assert up(desk, "image,app").changed == 0
    assert len(loads()) == 1
    rig.remove("/api/v1/namespaces/flask-app")
    # No package, no root, and nothing of the other engine but whether it is there and has kind's node.
    assert desk.calls("apt-get") == desk.calls("sudo") == []
    assert {tuple(words[:2]) for words in desk.calls("podman")} == {("version", "--format"), ("container", "inspect")}
    assert {path.stat().st_uid for path in (desk.folder.parent / ".ansible").rglob("*")} == {os.geteuid() or NOBODY}


def test_a_cluster_that_kind_does_not_have(desk: Machine) -> None:
    """Nothing is built for it, and what is wrong is one sentence."""
    desk.change(nodes={})
    assert "kind has no cluster kind: make it ('kind create cluster --name kind')" in up(desk, "image").error
    assert desk.read()["images"]["docker"] == []


def test_a_context_that_was_renamed(desk: Machine) -> None:
    """In one of several kubeconfigs, as people merge and rename what kind writes."""
    desk.change(nodes={"two-control-plane": []})
    config = desk.folder.parent / ".kube/config"
    renamed = yaml.safe_load(config.read_text())
    renamed["contexts"][0] |= {"name": "dev", "context": {"cluster": "kind-two", "user": "kind-two"}}
    (config.parent / "dev").write_text(yaml.safe_dump(renamed))
    assert up(desk, "image", FLASKOPS_CONTEXT="dev", KUBECONFIG=f"{config}:{config.parent}/dev").changed > 0
    ((*words,),) = [words for words in desk.calls("kind") if words[0] == "load"]
    assert words[-2:] == ["--name", "two"]


@pytest.mark.parametrize(
    ("inventory", "context", "nodes", "words"),
    [
        ("k3d", "", ["k3d-k3s-default-server-0", "k3d-k3s-default-agent-0"], ["image", "import", "--cluster", "k3s-default"]),
        ("minikube", "kind-lab", ["minikube", "kind-lab"], ["image", "load", "--profile", "kind-lab"]),
        ("docker-desktop", "", [], []),
    ],
)
def test_the_inventories_of_other_programs(
    desk: Machine, inventory: str, context: str, nodes: list[str], words: list[str]
) -> None:
    desk.change(nodes={node: [] for node in nodes})
    assert up(desk, "image", inventory=inventory, FLASKOPS_CONTEXT=context).changed > 0
    assert up(desk, "image", inventory=inventory, FLASKOPS_CONTEXT=context).changed == 0
    calls = [call for tool in ("kind", "k3d", "minikube") for call in desk.calls(tool) if call[1] in ("load", "import")]
    assert [[*call[:2], *call[3:]] for call in calls] == ([words] if words else [])
    (image,) = desk.read()["images"]["docker"][-1:]
    assert [node for node, refs in desk.read()["nodes"].items() if image in refs] == ([context] if context else nodes)
    assert desk.calls("apt-get") == desk.calls("sudo") == []
