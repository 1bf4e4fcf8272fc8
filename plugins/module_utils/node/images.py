# Copyright (c) flaskops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of a local cluster's nodes. Private to this collection; its interface can change at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .engine import IMPORT, Engine, EngineError

ASK_TIMEOUT = 60
IMPORT_TIMEOUT = 600
T = TypeVar("T")


class NodeImages:
    """containerd of each running node, all of them asked and changed side by side."""

    def __init__(self, engine: Engine, node: str) -> None:
        """:param node: any node of the cluster."""
        self.engine = engine
        self.nodes = engine.nodes(node)

    def each(self, do: Callable[[str], T], nodes: Iterable[str] | None = None) -> dict[str, T]:
        """What *do* returns for each node.

        :raises EngineError: that of a node where it failed, after all nodes were done.
        """
        names = self.nodes if nodes is None else list(nodes)
        with ThreadPoolExecutor(max_workers=max(len(names), 1)) as pool:
            return dict(zip(names, pool.map(do, names), strict=True))

    def run(self, node: str, *words: str, input: bytes | None = None, timeout: float = ASK_TIMEOUT) -> str:
        """What ``ctr images`` prints in one node."""
        try:
            return self.engine.node_images(node, *words, input=input, timeout=timeout).stdout.decode()
        except EngineError as error:
            doing = "be asked for its images" if words[0] == "ls" else f"{words[0]} an image"
            raise EngineError(f"The node {node} can't {doing} ({error}): does the local cluster run?") from error

    def refs(self, condition: str) -> dict[str, list[str]]:
        """The references in each node that match."""
        return self.each(lambda node: self.run(node, "ls", "-q", condition).split())

    def lacking(self, ref: str) -> list[str]:
        """The nodes without the image *ref*."""
        return [node for node, refs in self.refs(f"name=={ref}").items() if ref not in refs]

    def load(self, ref: str, archive: bytes, nodes: Iterable[str], label: str = "") -> None:
        """Import an archive into the nodes; only a whole import gets the label."""

        def one(node: str) -> None:
            self.run(node, *IMPORT, input=archive, timeout=IMPORT_TIMEOUT)
            if label:
                self.run(node, "label", ref, label)

        self.each(one, nodes)

    def remove(self, found: dict[str, list[str]]) -> None:
        """Remove the references that are named for each node."""
        self.each(lambda node: self.run(node, "rm", *found[node]) if found[node] else "", found)
