# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters that kind, minikube and k3d made on this machine. Private to this collection; its interface can change at any time.

An image gets into them by their own commands, and the nodes are asked whether it is there: k3d says that it imported
an image where it did not, and kind loads one again that is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from ..node.engine import ASK_TIMEOUT, Engine, EngineError

LOAD_TIMEOUT = 600


class ClusterTool(ABC):
    """One cluster, named as its tool names it."""

    name: str
    make: str  # the command that makes such a cluster
    node: str  # the container of its first node, by which its engine is known
    prefix = ""  # what the tool puts before a cluster's name in kubeconfigs

    def __init__(self, engine: Engine, cluster: str) -> None:
        """:raises EngineError: when the program is not there, or the engine can't be of use to it."""
        path = shutil.which(self.name)
        if path is None:
            raise EngineError(
                f"{self.name} is not installed, or not in PATH: it has to put the image into the cluster {cluster}."
            )
        if engine.name == "buildah":
            raise EngineError(f"{self.name} takes images from docker or podman, and this machine has buildah only: install one.")
        self.path, self.engine, self.cluster = path, engine, cluster

    def run(self, *words: str, timeout: float = ASK_TIMEOUT) -> str:
        """What one command of the tool prints.

        :raises EngineError: when it fails or gives no answer in time.
        """
        # Tools call the engine too, which needs its own settings; without the name kind would ask docker first, where both are.
        env = {**self.engine.env, "KIND_EXPERIMENTAL_PROVIDER": self.engine.name}
        shown = f"'{self.name} {' '.join(words[:2])}'"
        try:
            done = subprocess.run([self.path, *words], capture_output=True, text=True, env=env, errors="replace", timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{shown} gave no answer within {timeout:.0f} s.") from error
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
            # minikube ends with a frame, in which it says where to report faults of its own.
            tail = " | ".join([line for line in lines if line.strip() and line.lstrip()[0] not in "╭│╰"][-5:])
            raise EngineError(f"{shown} failed with status {done.returncode}: {tail}")
        return done.stdout

    @abstractmethod
    def nodes(self) -> list[str]:
        """The nodes that run containers; none where the tool has no cluster of this name."""

    @abstractmethod
    def put(self, ref: str) -> None:
        """Have the tool take the image *ref* from the engine."""

    def images(self) -> dict[str, set[str]]:
        """The references that each node has."""
        found = {}
        for node in self.nodes():
            try:
                found[node] = set(self.engine.node_images(node, "ls", "-q", timeout=ASK_TIMEOUT).stdout.decode().split())
            except EngineError as error:
                raise EngineError(f"The node {node} can't be asked for its images ({error}): does the cluster run?") from error
        return found

    def lacking(self, ref: str) -> list[str]:
        """The nodes without the image *ref*.

        :raises EngineError: when there is no cluster of this name.
        """
        found = self.images()
        if not found:
            raise EngineError(
                f"{self.name} has no cluster {self.cluster}: make it ('{self.make} {self.cluster}'),"
                " or name another by flask_image_local_cluster."
            )
        return [node for node, refs in found.items() if ref not in refs]

    def load(self, ref: str) -> None:
        """Put the image *ref* into every node.

        :raises EngineError: when a node lacks it then.
        """
        self.put(ref)
        if without := self.lacking(ref):
            raise EngineError(f"{self.name} said that it loaded {ref}, and {' and '.join(without)} has no such image.")

    def remove(self, ref: str) -> None:
        """Remove the image *ref* from every node that has it."""
        for node, refs in self.images().items():
            if ref in refs:
                self.engine.node_images(node, "rm", ref, timeout=ASK_TIMEOUT)

    def put_archive(self, ref: str, *words: str) -> None:
        """Save the image and run one command of the tool, whose word ``ARCHIVE`` is the file."""
        with tempfile.TemporaryDirectory(prefix="container_image.") as folder:
            path = os.path.join(folder, "image.tar")
            self.engine.run(["save", "--output", path, ref], timeout=LOAD_TIMEOUT)
            self.run(*(path if word == "ARCHIVE" else word for word in words), timeout=LOAD_TIMEOUT)


class Kind(ClusterTool):
    """kind, whose nodes are containers with containerd."""

    name, make, node, prefix = "kind", "kind create cluster --name", "{}-control-plane", "kind-"

    def nodes(self) -> list[str]:
        found = self.run("get", "nodes", "--name", self.cluster).split()
        # The load balancer of several control planes is listed, and is no node.
        return [node for node in found if node != f"{self.cluster}-external-load-balancer"]

    def put(self, ref: str) -> None:
        if self.engine.name == "docker":
            self.run("load", "docker-image", ref, "--name", self.cluster, timeout=LOAD_TIMEOUT)
        else:  # docker-image is docker's only
            self.put_archive(ref, "load", "image-archive", "ARCHIVE", "--name", self.cluster)


class K3d(ClusterTool):
    """k3d, whose nodes are containers with k3s."""

    name, make, node, prefix = "k3d", "k3d cluster create", "k3d-{}-server-0", "k3d-"

    def nodes(self) -> list[str]:
        rows = [line.split() for line in self.run("node", "list", "--no-headers").splitlines()]
        return [row[0] for row in rows if len(row) >= 3 and row[1] in ("server", "agent") and row[2] == self.cluster]

    def put(self, ref: str) -> None:
        if self.engine.name == "docker":
            self.run("image", "import", ref, "--cluster", self.cluster, timeout=LOAD_TIMEOUT)
        else:
            self.put_archive(ref, "image", "import", "ARCHIVE", "--cluster", self.cluster)


class Minikube(ClusterTool):
    """minikube, whose nodes may be virtual machines with any runtime, so that minikube itself is asked."""

    name, make, node = "minikube", "minikube start --profile", "{}"

    def nodes(self) -> list[str]:
        printed = self.run("profile", "list", "--light", "--output", "json")
        # What else it has to say stands before it, such as that there is a newer version.
        _before, brace, rest = f"\n{printed}".partition("\n{")
        try:
            profiles, _end = json.JSONDecoder().raw_decode(brace.strip() + rest)
        except ValueError as error:
            raise EngineError(f"'minikube profile list' printed no JSON: {printed[:200]!r}") from error
        known = {profile.get("Name") for kind in ("valid", "invalid") for profile in profiles.get(kind) or []}
        return [self.cluster] if self.cluster in known else []

    def images(self) -> dict[str, set[str]]:
        # Those of all nodes of the profile, which minikube does not tell apart.
        found = {node: set(self.run("image", "ls", "--profile", node).split()) for node in self.nodes()}
        # Older versions write docker.io/ before localhost/, and a repository may be on docker.io.
        return {node: refs | {ref.removeprefix("docker.io/") for ref in refs} for node, refs in found.items()}

    def put(self, ref: str) -> None:
        # By name it would look for localhost/... on Docker Hub, and keep a copy in its own cache.
        self.put_archive(ref, "image", "load", "ARCHIVE", "--profile", self.cluster)

    def remove(self, ref: str) -> None:
        if self.cluster in self.nodes():
            self.run("image", "rm", ref, "--profile", self.cluster)


TOOLS: dict[str, type[ClusterTool]] = {tool.name: tool for tool in (Kind, Minikube, K3d)}


def cluster_of(kubeconfig: str, context: str, tool: str) -> str:
    """The name that a tool has for the cluster of a context, which may have been renamed: the entry of its cluster was not.

    :param kubeconfig: one path or several, as in KUBECONFIG. What can't be read is told by those who need all of it.
    """
    import yaml  # which a machine on which the tools run may lack

    if tool not in TOOLS:
        return context
    entries = []
    for path in map(os.path.expanduser, kubeconfig.split(os.pathsep)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            contexts = yaml.safe_load(Path(path).read_text())["contexts"]
            entries += [str(each["context"]["cluster"]) for each in contexts if each["name"] == context]
    prefix = TOOLS[tool].prefix
    names = [context, *entries[:1]] if prefix else [*entries[:1], context]
    return next((name for name in names if name.startswith(prefix)), context).removeprefix(prefix)
