# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does every line arrive? A pod logs numbered lines, something breaks on the way, and the numbers are looked for in Loki.

    python tests/bench/loss.py --kubeconfig FILE --context NAME --fault kill

The shipper is the DaemonSet of the embedded chart unless --shipper names another.
A fault begins when a third of the lines is written.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.flaskops.observability.plugins.module_utils._engine import Engine
from ansible_collections.flaskops.observability.plugins.module_utils._objects import Objects

NAMESPACE = "log-loss"
PAGE = 5000  # lines of one answer; Loki's limit
OUTAGE = 120  # seconds that Loki is away
WRITER = """
import sys, time
count, rate, padding = map(int, sys.argv[1:])
begin, out, pad = time.monotonic(), sys.stdout.buffer, b"x" * padding
for start in range(0, count, 50):
    wait = begin + start / rate - time.monotonic()
    if wait > 0:
        time.sleep(wait)
    out.write(b"".join(b"number=%d %s\\n" % (number, pad) for number in range(start, min(start + 50, count))))
    out.flush()
"""


class LossError(Exception):
    """One sentence that says why nothing could be measured."""


@dataclass
class Result:
    """What arrived of `written` lines; `late` is how many seconds after the last was written the last was found."""

    fault: str
    written: int
    missing: list[int]
    duplicates: int
    seconds: float
    late: float

    def __str__(self) -> str:
        text = f"{self.fault}: {self.written} lines in {self.seconds:.0f} s ({self.written / self.seconds:.0f}/s), "
        text += (
            f"{len(self.missing)} missing, {self.duplicates} double, the last one found {self.late:.1f} s after it was written"
        )
        return text + (f"; missing are {self.missing[:10]} ..." if self.missing else "")


class Cluster:
    """A cluster with Loki and a shipper."""

    def __init__(self, api: client.ApiClient, loki: str, shipper: str, node: str) -> None:
        self.objects = Objects(api)
        self.core: Any = client.CoreV1Api(api)
        self.apps: Any = client.AppsV1Api(api)
        self.loki_namespace, self.loki_name = loki.split("/")
        self.shipper_namespace, self.shipper = shipper.split("/")
        self.node = node
        self.pause = threading.Event()

    def query(self, kind: str, **query: Any) -> list[dict[str, Any]]:
        """The result of a query of Loki, through the API server."""
        path = f"/api/v1/namespaces/{self.loki_namespace}/services/{self.loki_name}:3100/proxy/loki/api/v1/{kind}"
        found: list[dict[str, Any]] = self.objects.request("GET", path, {k: str(v) for k, v in query.items()})["data"]["result"]
        return found

    def pod(self) -> Any:
        """The shipper's pod."""
        selector = self.apps.read_namespaced_daemon_set(self.shipper, self.shipper_namespace).spec.selector.match_labels
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        pods = self.core.list_namespaced_pod(self.shipper_namespace, label_selector=labels).items
        running = [pod for pod in pods if pod.status.phase == "Running" and not pod.metadata.deletion_timestamp]
        if not running:
            raise LossError(f"No pod of the shipper {self.shipper_namespace}/{self.shipper} runs: install it first.")
        return running[0]

    def kill(self) -> None:
        """End the shipper's process with signal 9."""
        container = self.pod().status.container_statuses[0].container_id.removeprefix("containerd://")
        Engine.find("auto", only=("podman", "docker")).run(
            ["exec", self.node, "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container], timeout=30
        )

    def evict(self) -> None:
        """Evict the shipper's pod."""
        name = self.pod().metadata.name
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=self.shipper_namespace))
        self.core.create_namespaced_pod_eviction(name, self.shipper_namespace, body)

    def outage(self) -> None:
        """Take Loki away for OUTAGE seconds."""
        for replicas in (0, 1):
            patch = {"spec": {"replicas": replicas}}
            self.apps.patch_namespaced_stateful_set_scale(self.loki_name, self.loki_namespace, patch)
            if not replicas:
                self.pause.wait(OUTAGE)

    def outage_and_kill(self) -> None:
        """Take Loki away, and end the shipper meanwhile: what it holds back must not be in its memory."""
        timer = threading.Timer(OUTAGE / 2, self.kill)
        timer.start()
        self.outage()
        timer.join()


def write(cluster: Cluster, run: str, lines: int, rate: int, padding: int, image: str) -> None:
    """Start the pod that logs the lines."""
    if NAMESPACE not in {item.metadata.name for item in cluster.core.list_namespace().items}:
        cluster.core.create_namespace({"metadata": {"name": NAMESPACE}})
    container = {
        "name": "writer",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", WRITER, str(lines), str(rate), str(padding)],
    }
    pod = {"metadata": {"name": run, "labels": {"app": run}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    cluster.core.create_namespaced_pod(NAMESPACE, pod)


def found(cluster: Cluster, run: str, since: int) -> Counter[int]:
    """How often each number is in Loki."""
    counts: Counter[int] = Counter()
    seen: set[tuple[str, str]] = set()  # of the last nanosecond, with which the next page begins
    start = since
    while True:
        query = {"query": f'{{namespace="{NAMESPACE}", app="{run}"}}', "direction": "forward", "limit": PAGE}
        streams = cluster.query("query_range", start=start, end=time.time_ns(), **query)
        values = sorted((int(value[0]), value[1]) for stream in streams for value in stream["values"])
        fresh = [value for value in values if (str(value[0]), value[1]) not in seen]
        counts.update(int(line.split(" ", 1)[0].removeprefix("number=")) for _, line in fresh)
        if len(values) < PAGE or not fresh:
            return counts
        start = values[-1][0]
        seen = {(str(at), line) for at, line in values if at == start}


def count(cluster: Cluster, run: str) -> int:
    """How many lines of the run Loki has, 0 while it does not answer."""
    try:
        result = cluster.query("query", query=f'sum(count_over_time({{namespace="{NAMESPACE}", app="{run}"}}[1h]))')
    except Exception:  # away, as some of the faults want it
        return 0
    return int(float(result[0]["value"][1])) if result else 0


def measure(cluster: Cluster, fault: str, lines: int, rate: int, padding: int, image: str, wait: int = 300) -> Result:
    """Write the lines, break something, and look for every number.

    :raises LossError: when the writer fails.
    """
    run, since = f"loss-{fault.replace('_', '-')}-{time.time_ns() // 10**6}", time.time_ns()
    write(cluster, run, lines, rate, padding, image)
    failures: list[BaseException] = []

    def breaks() -> None:
        try:
            getattr(cluster, fault)()
        except BaseException as error:
            failures.append(error)

    timer = threading.Timer(lines / rate / 3, breaks) if fault != "none" else None
    if timer:
        timer.start()
    try:
        while True:
            status = cluster.core.read_namespaced_pod(run, NAMESPACE).status
            if status.phase in ("Succeeded", "Failed"):
                break
            if time.time_ns() - since > (lines / rate * 3 + 120) * 10**9:
                raise LossError(f"The writer {NAMESPACE}/{run} is still {status.phase} after three times its time.")
            cluster.pause.wait(0.5)
        state = status.container_statuses[0].state.terminated
        if status.phase == "Failed":
            raise LossError(f"The writer {NAMESPACE}/{run} failed with status {state.exit_code}.")
        seconds = (state.finished_at - state.started_at).total_seconds() or 1
        ended = time.monotonic()
        if timer:
            timer.join()
        if failures:
            raise LossError(f"The fault {fault} could not be made: {failures[0]}")
        late = 0.0
        while time.monotonic() - ended < wait:
            late = time.monotonic() - ended
            if count(cluster, run) >= lines:
                break
            cluster.pause.wait(1)
        counts = found(cluster, run, since)
    finally:
        cluster.core.delete_namespaced_pod(run, NAMESPACE, grace_period_seconds=0)
    missing = [number for number in range(lines) if number not in counts]
    return Result(fault, lines, missing, sum(counts.values()) - len(counts), seconds, late)


def remove_namespace(cluster: Cluster) -> None:
    """Remove the namespace of the writers."""
    if NAMESPACE in {item.metadata.name for item in cluster.core.list_namespace().items}:
        cluster.core.delete_namespace(NAMESPACE)


FAULTS = ("none", "kill", "evict", "outage", "outage_and_kill")


def main() -> None:
    """Entry point; the exit status says whether a line is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--context", required=True)
    parser.add_argument("--loki", default="loki/loki", help="namespace/name of Loki's Service")
    parser.add_argument("--shipper", default="loki-node/loki-collector", help="namespace/name of the shipper's DaemonSet")
    parser.add_argument("--node", help="container of the embedded cluster's node; <context>-node by default")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="may be given several times; kill by default")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=5_000, help="lines a second")
    parser.add_argument("--padding", type=int, default=100, help="bytes of each line after its number")
    parser.add_argument("--image", help="an image with python3 that the node has; the shipper's by default")
    options = parser.parse_args()
    api = config.new_client_from_config(options.kubeconfig, context=options.context)
    cluster = Cluster(api, options.loki, options.shipper, options.node or f"{options.context}-node")
    results = []
    try:
        image = options.image or cluster.pod().spec.containers[0].image
        for fault in options.fault or ["kill"]:
            # The lines go on for as long as the fault.
            lines = max(options.lines, options.rate * OUTAGE * 3 // 2 if fault.startswith("outage") else 0)
            results.append(measure(cluster, fault, lines, options.rate, options.padding, image))
            print(results[-1], flush=True)
    except LossError as error:
        sys.exit(str(error))
    finally:
        remove_namespace(cluster)
    sys.exit(1 if any(result.missing for result in results) else 0)


if __name__ == "__main__":
    main()
