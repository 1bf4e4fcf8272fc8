# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of a local cluster's nodes, and the one way into them. Private to this collection.

Its interface can change at any time.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

from .engine import CTR_IMAGES, IMPORT, Engine, EngineError, SlowEngineError

ASK_TIMEOUT = 60
IMPORT_TIMEOUT = 600
T = TypeVar("T")


class ImageError(Exception):
    """One sentence for the user."""


class PutError(EngineError):
    """Nodes that could not take an image; *printed* is what the programs of the first one said, if anything."""

    def __init__(self, nodes: list[str], printed: str) -> None:
        self.nodes, self.printed = nodes, printed
        cause = " | ".join(printed.strip().splitlines()[-5:]) or "it said nothing"
        super().__init__(f"The node {' and '.join(nodes)} can't import an image ({cause}): does the local cluster run?")


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

    def run(self, node: str, *words: str, timeout: float = ASK_TIMEOUT) -> str:
        """What ``ctr images`` prints in one node."""
        try:
            return self.engine.node_images(node, *words, timeout=timeout).stdout.decode()
        except EngineError as error:
            doing = "be asked for its images" if words[0] == "ls" else f"{words[0]} an image"
            raise EngineError(f"The node {node} can't {doing} ({error}): does the local cluster run?") from error

    def refs(self, condition: str) -> dict[str, list[str]]:
        """The references in each node that match."""
        return self.each(lambda node: self.run(node, "ls", "-q", condition).split())

    def lacking(self, ref: str) -> list[str]:
        """The nodes without the image *ref*."""
        return [node for node, refs in self.refs(f"name=={ref}").items() if ref not in refs]

    def put(self, ref: str, nodes: list[str], archive: Path | None = None, label: str = "") -> None:
        """Stream an image into nodes; only a whole import keeps its name, and gets the label.

        :param archive: as ``podman save`` and ``docker save`` write it; without one the image is this machine's.
        :raises PutError: for the nodes that lack it then, or where a program failed.
        """
        problems = stream(self.engine, nodes, ref, IMPORT_TIMEOUT, archive)
        lacking = self.lacking(ref)
        failed = [node for node in nodes if node in problems or node in lacking]
        self.remove({node: [ref] for node in failed if node not in lacking})
        if failed:
            raise PutError(failed, problems.get(failed[0], ""))
        if label:
            self.each(lambda node: self.run(node, "label", ref, label), nodes)

    def remove(self, found: dict[str, list[str]]) -> None:
        """Remove the references that are named for each node."""
        self.each(lambda node: self.run(node, "rm", *found[node]) if found[node] else "", found)


def stream(engine: Engine, nodes: list[str], ref: str, timeout: float, archive: Path | None = None) -> dict[str, str]:
    """Read an archive once, or save an image of this machine once, straight into nodes of a local cluster.

    :returns: for each node where a program failed, what the programs printed.
    :raises SlowEngineError: after *timeout* seconds.
    """
    with contextlib.ExitStack() as stack:
        logs = {name: stack.enter_context(tempfile.TemporaryFile()) for name in ("", *nodes)}

        def start(*words: str, **streams: Any) -> subprocess.Popen[bytes]:
            return stack.enter_context(subprocess.Popen([engine.path, *words], env=engine.env, **streams))

        source = None if archive else start("save", ref, stdout=subprocess.PIPE, stderr=logs[""])
        content = stack.enter_context(archive.open("rb")) if archive else source and source.stdout
        assert content
        targets = {
            node: start("exec", "-i", node, *CTR_IMAGES, *IMPORT, stdin=subprocess.PIPE, stdout=logs[node], stderr=logs[node])
            for node in nodes
        }
        programs, late = [*([source] if source else []), *targets.values()], threading.Event()

        def stop() -> None:
            late.set()
            for program in programs:
                program.kill()

        timer = threading.Timer(timeout, stop)
        timer.start()
        try:
            _copy(content, {node: target.stdin for node, target in targets.items() if target.stdin})
            content.close()
            for target in targets.values():
                with contextlib.suppress(BrokenPipeError):
                    if target.stdin:
                        target.stdin.close()
            for program in programs:
                program.wait()
        finally:
            timer.cancel()
        if late.is_set():
            raise SlowEngineError(f"The import of {ref} into {', '.join(nodes)} took more than {timeout:.0f} s.")
        problems = {}
        for node, target in targets.items():
            if target.returncode or (source and source.returncode):
                for name in ("", node):
                    logs[name].seek(0)
                problems[node] = (logs[""].read() + logs[node].read()).decode(errors="replace") or "no reason was given"
    return problems


def _copy(content: IO[bytes], pipes: dict[str, IO[bytes]]) -> None:
    """Write what is read once to all pipes that take it."""
    while pipes and (chunk := content.read(1 << 20)):
        for node in list(pipes):
            try:
                pipes[node].write(chunk)
            except BrokenPipeError:  # it has ended, and says why
                del pipes[node]


def one_line(error: object, limit: int = 900) -> str:
    """The end of a message, on one line."""
    lines = [line.strip() for line in re.split(r"\n| \| ", str(error))]
    text = " | ".join(line for line in lines if line and not line.startswith("Copying "))
    return text if len(text) <= limit else "..." + text[-limit:]
