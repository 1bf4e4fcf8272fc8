# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube-state-metrics and the kubelet tell of the app, and the blackbox exporter is there."""

from __future__ import annotations

from functools import partial

from .. import queries
from ..facts import IN_CLUSTER, ready_endpoints
from ..result import Result, failed, left_out, ok
from ..run import Run
from ..stack import KUBE_STATE_METRICS


def look(run: Run) -> list[Result]:
    stack = run.stack
    if not stack.ours():
        return [left_out("exporters", "the role app_monitoring has installed nothing that needs them")]
    return run.settled(partial(read, run))


def read(run: Run) -> list[Result]:
    """What they tell now; a test alert needs them too."""
    stack, target = run.stack, run.target
    asked = {"kube-state-metrics": queries.REPLICAS, "the kubelet": queries.MEMORY}
    wanted = {who: queries.filled(query, namespace=target.namespace, name=target.name) for who, query in asked.items()}
    if KUBE_STATE_METRICS in stack.skipped:
        del wanted["kube-state-metrics"]
    query = "PromQL " + "; PromQL ".join(wanted.values())
    problems = [f"{name} tells nothing of the app" for name, expr in wanted.items() if not stack.query(expr)]
    seen = list(wanted)
    for prober in sorted({item["spec"].get("prober", {}).get("url", "") for item in stack.probes()}):
        inside = IN_CLUSTER.match(prober.rsplit(":", 1)[0])
        if inside:
            seen.append(inside["name"])
            query += f"; EndpointSlices of {prober}"
            if not ready_endpoints(run.slices(inside["namespace"], inside["name"])):
                problems.append(f"nobody answers at {prober}, which the Probe asks")
    if problems:
        evidence = f"{len(seen) - len(problems)} of {len(seen)} exporters tell of the app"
        command = stack.command("get", "pods,servicemonitors", "-o", "wide")
        return [failed("exporters", evidence, "; ".join(problems), query, command)]
    return [ok("exporters", f"{', '.join(seen)} tell of the app", query)]
