# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions that run their module only where something is to be done, by ansible itself; the engine is a stand-in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import playbook

IMAGES = [{"ref": "quay.io/a/tool:v1", "binary": "/cache/tool-1-abc/tool", "inside": "/bin/tool"}]
NODE = "quay.io/a/tool:v1 type digest 1 MiB linux/amd64 io.flaskops.binary={label}"
# podman, of which the test says what it has.
PODMAN = """\
#!/bin/bash
case "$*" in
  "container ls"*) echo n;;
  "exec n ctr -n k8s.io images ls") echo REF; cat "$NODE";;
  "exec n ctr -n k8s.io images ls -q"*) sed -n 's/^name //p' "$NODE";;
  "image inspect"*) [ -e "$HAS" ] && echo '[{}]';;
  *) echo "unexpected: $*" >&2; exit 1;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    """Runs one task with the engine; its result, and whether a process of its own had to say it."""
    (tmp_path / "podman").write_text(PODMAN)
    (tmp_path / "podman").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NODE": str(tmp_path / "node"), "HAS": str(tmp_path / "has")}

    def run(module: str, *words: str, **options: Any) -> tuple[dict[str, Any], bool]:
        tasks = [
            {f"flaskops.observability.{module}": {**options, "engine": "podman"}, "register": "found", "ignore_errors": True},
            {"ansible.builtin.copy": {"content": "{{ found | to_json }}", "dest": str(tmp_path / "found")}, "check_mode": False},
        ]
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
        extra = {"ansible_python_interpreter": sys.executable}
        done = playbook(str(tmp_path / "play.yml"), "-vvv", *words, inventory=("-i", "localhost,"), extra=extra, env=env)
        assert done.returncode == 0, done.error
        found = json.loads((tmp_path / "found").read_text())
        return found, f"AnsiballZ_{module}.py" in done.stdout

    return run


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_a_binary_that_the_node_has_needs_no_process(machine: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "node").write_text(NODE.format(label="tool-1-abc"))
    found, apart = machine("binary_image", *words, node="n", images=IMAGES)
    assert (found["changed"], found["images"], found["failed"], apart) == (False, [], False, False)


def test_another_build_of_it_is_put_by_the_module(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "node").write_text(NODE.format(label="tool-1-old"))
    found, apart = machine("binary_image", "--check", node="n", images=IMAGES)
    assert (found["changed"], found["images"], apart) == (True, ["quay.io/a/tool:v1"], True)


def test_the_module_says_what_stands_in_the_way(machine: Any) -> None:
    found, apart = machine("binary_image", node="n", images=IMAGES)
    assert found["failed"] and "The node n can't be asked for its images" in found["msg"] and apart
    found, apart = machine("binary_image", node="n", images=[{"ref": "a"}])
    assert found["failed"] and "missing required arguments: binary, inside found in images" in found["msg"]


def test_somebody_elses_image(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "node").write_text("name registry.invalid/a:v1\n")
    found, apart = machine("node_image", node="n", image="registry.invalid/a:v1")
    assert (found["changed"], found["available"], found["source"], apart) == (False, True, "node", False)
    found, apart = machine("node_image", node="n", image="registry.invalid/a:v1", archive=str(tmp_path / "none.tar"))
    assert found["failed"] and "none.tar can't be read" in found["msg"] and apart


def test_an_image_that_is_there_needs_no_process(machine: Any, tmp_path: Path) -> None:
    content = "FROM scratch\nRUN --mount=type=secret,id=login true\n"
    wanted = {"containerfile_content": content, "repository": "localhost/a", "build_secrets": {"login": "canary-token"}}
    missing, apart = machine("container_image", "--check", **wanted)
    assert (missing["built"], apart) == (True, True)
    (tmp_path / "has").touch()
    (tmp_path / "node").write_text(f"name {missing['image']}\n")
    for more in ({}, {"delivery": "import", "node": "n"}):
        found, apart = machine("container_image", **wanted, **more)
        assert (found["changed"], found["image"], apart) == (False, missing["image"], False)
        assert "canary-token" not in json.dumps(found)
    found, apart = machine("container_image", **wanted, delivery="import")
    assert "delivery is import but all of the following are missing: node" in found["msg"] and apart
