# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sending log lines costs: `python -m tests.bench.logs`.

Throughput, CPU for 10,000 lines a second, and memory while VictoriaLogs is away for ten minutes, of the log agent that is there.
It makes a cluster and removes it, or uses one: `--kubeconfig FILE --context NAME`.
Figures are shown beside their goals and judged by nobody, but a line that is missing makes the exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import threading
from types import TracebackType

from kubernetes import client, config

from . import common, loss

RATE = 10_000  # lines a second of the steady load
STEADY, BURST = 60 * RATE, 1_000_000  # lines
AS_FAST_AS_IT_CAN = 10**9
OUTAGE, OUTAGE_RATE = 600, 1_000  # seconds without VictoriaLogs, lines a second meanwhile
PADDING = 100
CPU_GOAL, MEMORY_GOAL, BURST_GOAL = 1.0, 256, 10_000  # cores for 10,000 lines/s, MiB, lines/s


class Usage:
    """CPU seconds and the largest working set of the log agent's container while the block runs, as kubelet counts them."""

    def __init__(self, cluster: loss.Cluster) -> None:
        self.cluster = cluster
        self.cpu = self.memory = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _read(self) -> tuple[float, float]:
        pod = self.cluster.pod()
        path = f"/api/v1/nodes/{pod.spec.node_name}/proxy/stats/summary"
        for item in self.cluster.objects.request("GET", path)["pods"]:
            if item["podRef"]["name"] == pod.metadata.name:
                (container,) = item["containers"]
                return container["cpu"]["usageCoreNanoSeconds"] / 1e9, container["memory"]["workingSetBytes"] / 2**20
        raise common.StepFailed(f"kubelet knows no usage of the pod {pod.metadata.name}.")

    def _watch(self) -> None:
        while not self._stop.wait(5):
            self.memory = max(self.memory, self._read()[1])

    def __enter__(self) -> Usage:
        self._before = self._read()[0]
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        # kubelet looks at its containers every ten seconds.
        self.cluster.pause.wait(15)
        after, memory = self._read()
        self.cpu, self.memory = after - self._before, max(self.memory, memory)


def rows(cluster: loss.Cluster, outage: int) -> tuple[list[list[str]], int]:
    """The table's rows, and how many lines are missing."""
    image, found, missing = cluster.image(), [], 0
    with Usage(cluster) as usage:
        result = loss.measure(cluster, "none", STEADY, RATE, PADDING, image)
    missing += len(result.missing)
    cores = usage.cpu / (result.written / 10_000)
    found.append(["CPU for 10,000 lines/s", f"{cores:.2f} cores", f"at most {CPU_GOAL} cores", str(result)])
    found.append(["memory at 10,000 lines/s", f"{usage.memory:.0f} MiB", f"at most {MEMORY_GOAL} MiB", ""])
    result = loss.measure(cluster, "none", BURST, AS_FAST_AS_IT_CAN, PADDING, image)
    missing += len(result.missing)
    speed = result.written / (result.seconds + result.late)
    remark = f"{len(result.missing)} missing, written in {result.seconds:.0f} s, found {result.late:.0f} s later"
    found.append([f"{BURST} lines at once", f"{speed:.0f} lines/s", f"at least {BURST_GOAL}", remark])
    cluster.outage_seconds = outage
    with Usage(cluster) as usage:
        result = loss.measure(cluster, "outage", outage * OUTAGE_RATE * 3 // 2, OUTAGE_RATE, PADDING, image)
    missing += len(result.missing)
    name = f"memory, {outage} s without VictoriaLogs"
    found.append([name, f"{usage.memory:.0f} MiB", f"at most {MEMORY_GOAL} MiB", str(result)])
    return found, missing


def main() -> int:
    """Measure and print the table; 1 when a step failed or a line is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kubeconfig", help="of a cluster that is there; without it one is made")
    parser.add_argument("--context")
    parser.add_argument("--outage", type=int, default=OUTAGE, help="seconds without VictoriaLogs")
    options = parser.parse_args()
    print(f"What sending log lines costs ({common.machine()})")
    kubeconfig, context = options.kubeconfig or str(common.KUBECONFIG), options.context or common.HOST
    try:
        if not options.kubeconfig:
            common.playbook("logs up", "site.yml", "--tags", "cluster,image,app,logging")
        cluster = loss.Cluster(
            config.new_client_from_config(kubeconfig, context=context), "victoria-logs/victoria-logs", "", f"{context}-node"
        )
        found, missing = rows(cluster, options.outage)
        print(f"\nThe log agent is {cluster.shipper}\n\n" + common.table(["what", "measured", "goal", "remarks"], found))
        if options.kubeconfig:
            loss.remove_namespace(cluster)
        else:
            common.playbook("logs down", "playbooks/teardown.yml")
    except (common.StepFailed, common.EngineError, loss.LossError, client.ApiException, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
