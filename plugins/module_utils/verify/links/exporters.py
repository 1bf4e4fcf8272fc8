# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube-state-metrics and the kubelet report the app, and the blackbox exporter is there."""

from __future__ import annotations

from functools import partial

from .. import queries
from ..facts import IN_CLUSTER, is_ready, ready_endpoints
from ..result import Result, failed, ok, skipped
from ..run import Run
from ..stack import KUBE_STATE_METRICS


def look(run: Run) -> list[Result]:
    stack = run.stack
    if not stack.ours():
        return [skipped("exporters", "the role app_monitoring has installed nothing that needs them")]
    return run.settled(partial(read, run))


def read(run: Run) -> list[Result]:
    """What they tell now; a test alert needs them too."""
    stack, target = run.stack, run.target
    nodes = {pod["metadata"]["name"]: pod["spec"].get("nodeName", "?") for pod in run.pods if is_ready(pod)}
    pods = "|".join(name.replace(".", "[.]") for name in nodes)
    names = {"namespace": target.namespace, "name": target.name, "pods": pods}
    wanted: dict[str, str] = {}
    problems: list[str] = []
    if KUBE_STATE_METRICS not in stack.skipped:
        expr = wanted["kube-state-metrics"] = queries.filled("replicas", **names)
        problems += [] if stack.query(expr) else ["kube-state-metrics reports nothing about the app"]
    if nodes:  # there is one kubelet on each node
        expr = wanted["the kubelet"] = queries.filled("memory", **names)
        told = {series["metric"].get("pod") for series in stack.query(expr)}
        untold = [f"pod {pod} on {node}" for pod, node in nodes.items() if pod not in told]
        whom = "the app" if len(untold) == len(nodes) else " and ".join(untold[:3])
        problems += [f"the kubelet reports nothing about {whom}"] if untold else []
    query = "PromQL " + "; PromQL ".join(wanted.values())
    seen = list(wanted)
    for prober in sorted({item["spec"].get("prober", {}).get("url", "") for item in stack.probes()}):
        inside = IN_CLUSTER.match(prober.rsplit(":", 1)[0])
        if inside:
            seen.append(inside["name"])
            query += f"; EndpointSlices of {prober}"
            if not ready_endpoints(run.slices(inside["namespace"], inside["name"])):
                problems.append(f"nobody answers at {prober}, which the Probe asks")
    if not seen:
        return [skipped("exporters", "the app has no ready pod that a kubelet could report")]
    if problems:
        evidence = f"{max(len(seen) - len(problems), 0)} of {len(seen)} exporters report the app"
        command = stack.command("get", "pods,servicemonitors", "-o", "wide")
        return [failed("exporters", evidence, "; ".join(problems), query, command)]
    return [ok("exporters", f"{', '.join(seen)} report the app", query)]
