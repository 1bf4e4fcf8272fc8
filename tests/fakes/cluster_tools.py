# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for kind, minikube, k3d and the engine with their nodes: commands in a folder that keep a state and log their calls.

They print what the real ones print, as far as the collection reads it, and fail where those fail.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

COMMANDS = ("docker", "podman", "kind", "k3d", "minikube", "apt-get", "sudo")


class Machine:
    """The folder with the commands, for PATH."""

    def __init__(self, folder: Path, nodes: list[str], engine: str = "docker", commands: tuple[str, ...] = COMMANDS) -> None:
        """:param nodes: the containers of *engine* that are nodes; for minikube its profiles."""
        self.folder, self.state = folder, folder / "state.json"
        folder.mkdir()
        self.change(nodes={node: [] for node in nodes}, engine=engine, images={"docker": [], "podman": []}, deaf=[])
        (folder / "calls").touch()
        for command in commands:
            (folder / command).write_text(f'#!/bin/sh\nexec {sys.executable} -ISB {__file__} "$0" "$@"\n')
            (folder / command).chmod(0o755)

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self.state.read_text())) if self.state.exists() else {}

    def change(self, **values: Any) -> None:
        self.state.write_text(json.dumps(self.read() | values))

    def calls(self, command: str) -> list[list[str]]:
        """The arguments of each call of a command."""
        lines = map(json.loads, (self.folder / "calls").read_text().splitlines())
        return [words for name, *words in lines if name == command]


def fail(text: str, status: int = 1) -> None:
    print(text, file=sys.stderr)
    sys.exit(status)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def engine(name: str, words: list[str], state: dict[str, Any]) -> None:
    images, nodes = state["images"][name], state["nodes"] if state["engine"] == name else {}
    match words:
        case ["version", *_]:
            print("28.0.0")
        case ["container", "inspect", node] if node in nodes:
            print('[{"Id": "1"}]')
        case ["image", "inspect", ref] if ref in images:
            print('[{"Id": "1"}]')
        case ["container" | "image", "inspect", what]:
            fail(f"Error: no such object: {what}")
        case ["pull", ref]:
            images.append(ref)
        case ["build", *_]:
            images.append(option(words, "--tag"))
        case ["images", *_]:
            print("\n".join(ref.removeprefix("docker.io/") if name == "docker" else ref for ref in images))
        case ["rmi", ref]:
            images.remove(ref)
        case ["save", "--output", path, ref] if ref in images:
            Path(path).write_text(ref)
        case ["exec", node, "ctr", "-n", "k8s.io", "images", *rest] if node in nodes:
            match rest:
                case ["ls", "-q"]:
                    print("\n".join(nodes[node]))
                case ["rm", ref]:
                    nodes[node].remove(ref)
        case _:
            fail(f"{name} {words}: not known to this stand-in", 125)


def load(what: str, nodes: list[str], state: dict[str, Any]) -> None:
    """An archive, or an image of docker, into nodes; those that are deaf do not hear of it."""
    if what.startswith("/"):
        ref = Path(what).read_text()
    elif what in state["images"]["docker"]:
        ref = what
    else:
        fail(f'ERROR: image: "{what}" not present locally')
    for node in nodes:
        if node not in state["deaf"] and ref not in state["nodes"][node]:
            state["nodes"][node].append(ref)


def kind(words: list[str], state: dict[str, Any]) -> None:
    cluster = option(words, "--name")
    nodes = [node for node in state["nodes"] if node.startswith(f"{cluster}-")]
    match words[:2]:
        case ["get", "nodes"]:
            print("\n".join(nodes)) if nodes else print(f'No kind nodes found for cluster "{cluster}".', file=sys.stderr)
        case ["load", "docker-image" | "image-archive"]:
            load(words[2], [node for node in nodes if not node.endswith("-external-load-balancer")], state)


def k3d(words: list[str], state: dict[str, Any]) -> None:
    match words:
        case ["node", "list", "--no-headers"]:
            for node in state["nodes"]:
                cluster, role = re.findall(r"^k3d-(.+)-(serverlb|server|agent)", node)[0]
                print(f"{node}   {'loadbalancer' if role == 'serverlb' else role}   {cluster}   running")
            print("registry.localhost   registry      running")
        case ["image", "import", what, "--cluster", cluster]:
            load(what, [node for node in state["nodes"] if node.startswith(f"k3d-{cluster}-") and "serverlb" not in node], state)


def minikube(words: list[str], state: dict[str, Any]) -> None:
    match words:
        case ["profile", "list", "--light", "--output", "json"]:
            print(state.get("before", ""))
            print(json.dumps({"invalid": [], "valid": [{"Name": profile} for profile in state["nodes"]]}))
        case ["image", "ls", "--profile", profile]:
            print("registry.k8s.io/pause:3.10")
            refs = state["nodes"][profile]
            print("\n".join(f"docker.io/{ref}" if state.get("old") and ref.startswith("localhost/") else ref for ref in refs))
        case ["image", "load", what, "--profile", profile]:
            load(what, [profile], state)
        case ["image", "rm", ref, "--profile", profile]:
            state["nodes"][profile].remove(ref)


def main() -> None:
    folder, name, words = Path(sys.argv[1]).parent, Path(sys.argv[1]).name, sys.argv[2:]
    with (folder / "calls").open("a") as log:
        log.write(json.dumps([name, *words]) + "\n")
    state = json.loads((folder / "state.json").read_text())
    match name:
        case "docker" | "podman":
            engine(name, words, state)
        case "kind":
            if os.environ.get("KIND_EXPERIMENTAL_PROVIDER", "docker") != state["engine"]:
                state["nodes"] = {}
            kind(words, state)
        case "k3d":
            k3d(words, state)
        case "minikube":
            minikube(words, state)
        case _:
            fail(f"{name} was called", 126)
    (folder / "state.json").write_text(json.dumps(state))


if __name__ == "__main__":
    main()
