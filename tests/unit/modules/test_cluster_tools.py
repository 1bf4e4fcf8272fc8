# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image gets into a cluster of kind, minikube, k3d and Docker Desktop; the commands are stand-ins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.image import deliver
from ansible_collections.flaskops.observability.plugins.module_utils.image.cluster_tools import TOOLS, cluster_of
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine, EngineError
from ansible_collections.flaskops.observability.plugins.modules import container_image

from tests.fakes.cluster_tools import COMMANDS, Machine

KIND = ["c-control-plane", "c-worker", "c-external-load-balancer", "other-control-plane"]
K3D = ["k3d-c-server-0", "k3d-c-agent-0", "k3d-c-serverlb", "k3d-other-server-0"]
# delivery, engine: the containers, those that get the image, and the command that puts it there.
WAYS: dict[tuple[str, str], tuple[list[str], list[str], list[str]]] = {
    ("kind", "docker"): (KIND, KIND[:2], ["load", "docker-image", "REF", "--name", "c"]),
    ("kind", "podman"): (KIND, KIND[:2], ["load", "image-archive", "ARCHIVE", "--name", "c"]),
    ("k3d", "docker"): (K3D, K3D[:2], ["image", "import", "REF", "--cluster", "c"]),
    ("k3d", "podman"): (K3D, K3D[:2], ["image", "import", "ARCHIVE", "--cluster", "c"]),
    ("minikube", "docker"): (["c", "other"], ["c"], ["image", "load", "ARCHIVE", "--profile", "c"]),
    ("minikube", "podman"): (["c", "other"], ["c"], ["image", "load", "ARCHIVE", "--profile", "c"]),
}
LOADS = ("load", "import", "docker-image", "image-archive")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(nodes: list[str], engine: str = "docker", commands: tuple[str, ...] = COMMANDS) -> Machine:
        found = Machine(tmp_path / "bin", nodes, engine, commands)
        monkeypatch.setenv("PATH", str(found.folder))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return found

    return make


class FakeModule:
    def __init__(self, check_mode: bool = False, **params: Any) -> None:
        self.params = {key: value.get("default") for key, value in container_image.ARGUMENTS["argument_spec"].items()} | params
        self.check_mode = check_mode

    def warn(self, text: str) -> None:
        raise AssertionError(text)


def run(check_mode: bool = False, **params: Any) -> dict[str, Any]:
    """The module's work, with the engine that it would choose."""
    options = {"containerfile_content": "FROM scratch\n", "repository": "localhost/a", "cluster": "c", **params}
    module = FakeModule(check_mode, **options)
    node = deliver.first_node(module.params)
    engine = Engine.find(module.params["engine"], having=(("container", node),) if node else ())
    return (deliver.absent if module.params["state"] == "absent" else deliver.present)(module, engine)  # type: ignore[arg-type]


def loads(machine: Machine, tool: str) -> list[list[str]]:
    return [words for words in machine.calls(tool) if set(words[:2]) & set(LOADS)]


@pytest.mark.parametrize(("delivery", "engine"), WAYS)
def test_the_tool_loads_the_image_once(machine: Any, delivery: str, engine: str) -> None:
    nodes, taken, command = WAYS[delivery, engine]
    desk = machine(nodes, engine)
    assert run(True, delivery=delivery)["delivered"]
    assert loads(desk, delivery) == [] and desk.calls(engine).count(["build"]) == 0
    first = run(delivery=delivery)
    assert (first["changed"], first["built"], first["delivered"]) == (True, True, True)
    ((*words,),) = loads(desk, delivery)
    assert ["ARCHIVE" if word.startswith("/") else word.replace(first["image"], "REF") for word in words] == command
    assert {node: refs for node, refs in desk.read()["nodes"].items() if refs} == {node: [first["image"]] for node in taken}
    assert not any(run(check, delivery=delivery)["changed"] for check in (False, True))
    assert len(loads(desk, delivery)) == 1
    other = {"docker": "podman", "podman": "docker"}[engine]
    assert desk.read()["images"][other] == []


@pytest.mark.parametrize(("delivery", "engine"), WAYS)
def test_an_image_of_docker_hub_is_found_and_removed(machine: Any, delivery: str, engine: str) -> None:
    nodes, taken, _command = WAYS[delivery, engine]
    desk = machine(nodes, engine)
    first = run(delivery=delivery, repository="docker.io/me/app")
    assert first["delivered"] and first["image"].startswith("docker.io/me/app:")
    assert not run(delivery=delivery, repository="docker.io/me/app")["changed"]
    assert {node for node, refs in desk.read()["nodes"].items() if refs == [first["image"]]} == set(taken)
    assert run(delivery=delivery, repository="docker.io/me/app", state="absent")["removed"] == [first["image"]] * 2
    assert not any(desk.read()["nodes"].values()) and not desk.read()["images"][engine]


@pytest.mark.parametrize(("delivery", "engine"), WAYS)
def test_what_is_removed_is_ours(machine: Any, delivery: str, engine: str) -> None:
    nodes, _taken, _command = WAYS[delivery, engine]
    desk = machine(nodes, engine)
    ref = run(delivery=delivery)["image"]
    kept = ["localhost/a:mine", "localhost/ab:0123456789ab"]
    desk.change(nodes={node: [*refs, *kept] for node, refs in desk.read()["nodes"].items() if "balancer" not in node})
    assert run(delivery=delivery, state="absent")["removed"] == [ref, ref]
    assert all(refs == kept for refs in desk.read()["nodes"].values())
    assert not run(delivery=delivery, state="absent")["changed"]
    desk.change(nodes={})
    assert not run(delivery=delivery, state="absent")["changed"]


def test_a_node_that_came_later_gets_the_image(machine: Any) -> None:
    desk = machine(KIND[:1])
    run(delivery="kind")
    desk.change(nodes={**desk.read()["nodes"], "c-worker": []})
    again = run(delivery="kind")
    assert (again["built"], again["delivered"]) == (False, True)
    assert desk.read()["nodes"]["c-worker"] == [again["image"]]


@pytest.mark.parametrize("delivery", TOOLS)
def test_a_load_that_did_nothing_is_no_success(machine: Any, delivery: str) -> None:
    nodes, taken, _command = WAYS[delivery, "docker"]
    desk = machine(nodes)
    desk.change(deaf=taken[-1:])
    with pytest.raises(EngineError, match=taken[-1]):
        run(delivery=delivery)


@pytest.mark.parametrize("delivery", TOOLS)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_cluster_that_is_not_there_is_named_before_a_build(machine: Any, delivery: str, check_mode: bool) -> None:
    desk = machine(WAYS[delivery, "docker"][0])
    with pytest.raises(EngineError, match=f"{delivery} has no cluster gone: make it .*gone"):
        run(check_mode, delivery=delivery, cluster="gone")
    assert desk.read()["images"] == {"docker": [], "podman": []}


@pytest.mark.parametrize("delivery", TOOLS)
def test_a_tool_that_is_not_there_is_named_before_a_build(machine: Any, delivery: str) -> None:
    desk = machine(WAYS[delivery, "docker"][0], commands=("docker",))
    with pytest.raises(EngineError, match=f"{delivery} is not installed"):
        run(delivery=delivery)
    assert desk.read()["images"] == {"docker": [], "podman": []}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_gets_the_settings_of_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    """It calls podman itself, which has to take our configuration."""
    (tmp_path / tool).write_text('#!/bin/sh\necho "$CONTAINERS_CONF $KIND_EXPERIMENTAL_PROVIDER"\n')
    (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    engine = Engine("podman", "/usr/bin/podman", {**os.environ, "CONTAINERS_CONF": "/ours.conf"})
    assert TOOLS[tool](engine, "c").run("version") == "/ours.conf podman\n"


def test_buildah_alone_is_refused(machine: Any) -> None:
    machine(KIND, commands=("kind",))
    with pytest.raises(EngineError, match="docker or podman"):
        TOOLS["kind"](Engine("buildah", "/usr/bin/buildah", {}), "c")


def test_an_old_minikube_names_images_in_its_own_way(machine: Any) -> None:
    desk = machine(["c"])
    desk.change(old=True)
    assert run(delivery="minikube")["delivered"]
    assert not run(delivery="minikube")["changed"]


def test_docker_desktop_has_the_image_when_docker_has_built_it(machine: Any) -> None:
    """As inventories/docker-desktop has it; podman, which comes first elsewhere, is not asked."""
    desk = machine([])
    first = run(delivery="none", engine="docker")
    assert first["built"] and desk.read()["images"] == {"docker": [first["image"]], "podman": []}
    assert not run(delivery="none", engine="docker")["changed"]
    assert desk.calls("podman") == []


def test_what_minikube_says_before_its_answer_is_no_part_of_it(machine: Any) -> None:
    desk = machine(["c"])
    desk.change(before='! Executing "docker container inspect" took an unusually long time: {2.1s}')
    assert run(delivery="minikube")["delivered"] and not run(delivery="minikube")["changed"]


def test_the_cause_is_told_and_not_the_frame_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As minikube ends."""
    said = "X Exiting due to GUEST_STATUS: it is stopped\n\n╭────╮\n│    │\n│  Run `minikube logs`   │\n│    │\n╰────╯\n"
    (tmp_path / "said").write_text(said)
    (tmp_path / "minikube").write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nexit 80\n")
    (tmp_path / "minikube").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EngineError, match=r"image ls' failed with status 80: X Exiting due to GUEST_STATUS: it is stopped$"):
        TOOLS["minikube"](Engine("docker", "/usr/bin/docker", dict(os.environ)), "c").run("image", "ls")


@pytest.mark.parametrize(
    ("tool", "context", "entry", "cluster"),
    [
        ("kind", "kind-two", "kind-two", "two"),
        ("kind", "kind-kind-two", "kind-kind-two", "kind-two"),
        ("kind", "dev", "kind-two", "two"),
        ("kind", "kind-two", "renamed-too", "two"),
        ("kind", "dev", "renamed-too", "dev"),
        ("k3d", "dev", "k3d-kind-a", "kind-a"),
        ("minikube", "kind-lab", "kind-lab", "kind-lab"),
        ("minikube", "dev", "minikube-two", "minikube-two"),
        ("push", "kind-two", "kind-two", "kind-two"),
    ],
)
def test_the_cluster_of_a_context(tmp_path: Path, tool: str, context: str, entry: str, cluster: str) -> None:
    """A context may be renamed, and its kubeconfig be one of several."""
    contexts = [{"name": name, "context": {"cluster": f"{name}-entry", "user": "u"}} for name in ("other", "kind-other")]
    (tmp_path / "one").write_text(yaml.safe_dump({"contexts": contexts}))
    (tmp_path / "two").write_text(yaml.safe_dump({"contexts": [{"name": context, "context": {"cluster": entry}}]}))
    (tmp_path / "wrong").write_text("contexts: 7\n")
    named = os.pathsep.join(str(tmp_path / name) for name in ("none", "wrong", "one", "two"))
    assert cluster_of(named, context, tool) == cluster
    assert cluster_of(str(tmp_path / "none"), "kind-two", "kind") == "two"
