# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes that are containers of this machine: how one is lost, and how it is started again.

No API server can do either, so these steps are done by the drill itself, and by whoever undoes what it left, on this machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

from ..node.engine import ASK_TIMEOUT, LABEL, Engine, EngineError
from . import dead_man
from .dead_man import Request, Step, StepError

# A node that was started has its supervisor, which leaves to others when kubelet and what needs the API server begin.
START = """"$0" start "$1" && "$0" exec "$1" bash -c '
for _ in {1..150}; do supervisorctl pid >/dev/null 2>&1 && break; sleep 0.2; done
supervisorctl start kubelet services:* || true'"""
# Waits until the drill's process is gone, however it ended, and does what its arguments say unless it was told that it need not.
SENTINEL = "import subprocess, sys\nif not sys.stdin.read(): subprocess.run(sys.argv[1:])"
_sentinels: dict[str, subprocess.Popen[bytes]] = {}


def engine_of(node: dict[str, Any]) -> str:
    """The engine of this machine that runs a node as a container; empty where none does."""
    name = node["metadata"]["name"]
    with contextlib.suppress(EngineError):
        engine = Engine.find(only=("podman", "docker"), having=(("container", name),), here=True)
        found = engine.inspect("container", name)
        if found and (engine.labels("container", name) or {}).get(LABEL) and found["State"]["Running"]:
            # A node of another cluster may have this name; it has not this address.
            networks = found["NetworkSettings"]["Networks"].values()
            here = {item.get("IPAddress") for item in networks}
            told = {item["address"] for item in node["status"].get("addresses") or [] if item["type"] == "InternalIP"}
            return engine.name if here & told else ""
    return ""


def _start(engine: Engine, node: str) -> list[str]:
    """The command that starts a node."""
    return ["sh", "-c", START, engine.path, node]


def kill_node(step: Step, request: Request) -> None:
    """Kill a node at once, as a power cut does."""
    node = step["node"]
    try:
        engine = Engine.find(step["engine"])
        # It is no child of this process, so that it outlives whatever ends it.
        command = ["setsid", "--fork", sys.executable, "-c", SENTINEL, *_start(engine, node)]
        quiet = subprocess.DEVNULL
        _sentinels[node] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, env=engine.env)
        engine.run(["kill", "--signal", "KILL", node], timeout=ASK_TIMEOUT)
    except (EngineError, OSError) as error:
        raise StepError(f"the node {node} can't be killed: {error}") from error


def start_node(step: Step, request: Request) -> None:
    """Start a node that was killed; one that runs is left alone, and on another machine it is awaited."""
    node = step["node"]
    try:
        engine = Engine.find(step["engine"])
        found = engine.inspect("container", node)
        if found and not (engine.labels("container", node) or {}).get(LABEL):
            raise EngineError("the container of this name is no node of a local cluster")
        if found and not found["State"]["Running"]:
            done = subprocess.run(_start(engine, node), capture_output=True, env=engine.env, timeout=ASK_TIMEOUT)
            if done.returncode:
                raise EngineError(" ".join(done.stderr.decode(errors="replace").split())[:300])
    except (EngineError, OSError, subprocess.TimeoutExpired) as error:
        raise StepError(f"the node {node} can't be started: {error}") from error
    if not found:
        dead_man.do_start_node(step, request)
    if sentinel := _sentinels.pop(node, None):
        with contextlib.suppress(OSError):
            sentinel.communicate(b"started")


DO: dead_man.Steps = {**dead_man.DO, "kill_node": kill_node, "start_node": start_node}
