# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes that carry the app are ready."""

from __future__ import annotations

from typing import Any

from ..facts import is_live, is_ready
from ..result import Result, failed, ok
from ..run import Run


def judge(nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> Result:
    """The nodes that carry the app are ready; where no pod is placed, at least one node is."""
    ready = {n["metadata"]["name"] for n in nodes if is_ready(n)}
    carrying = {p["spec"]["nodeName"] for p in pods if p.get("spec", {}).get("nodeName") and is_live(p)}
    evidence = f"{len(ready)} of {len(nodes)} nodes ready"
    if not ready:
        return failed("node", evidence, "no node of the cluster is ready")
    broken = sorted(carrying - ready)
    if broken:
        return failed("node", evidence, f"the app has pods on nodes that are not ready: {', '.join(broken)}")
    return ok("node", f"{evidence}, {len(carrying)} of them with the app's pods")


def look(run: Run) -> list[Result]:
    return [judge(run.get("/api/v1/nodes").get("items", []), run.pods).asked("GET /api/v1/nodes")]


def next_command(run: Run) -> str:
    return run.target.kubectl("describe", "nodes", namespaced=False)
