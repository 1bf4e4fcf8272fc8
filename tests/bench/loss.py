# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does every line arrive? A pod logs numbered lines, something breaks on the way, and the numbers are looked for in VictoriaLogs.

    python tests/bench/loss.py --kubeconfig FILE --context NAME --fault kill

The log agent is the one that is there, Fluent Bit or the collector of the embedded chart, unless --shipper names another.
A fault begins when a third of the lines is written. Whatever happens, a number that reached a log file has to arrive.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine

NAMESPACE = "log-loss"
OUTAGE = 120  # seconds that VictoriaLogs is away
ROTATIONS = 3  # as many at least, for the fault of that name
SELECTORS = "app.kubernetes.io/name in (fluent-bit,log-collector)"
LOGS = "/var/log/pods"
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


# Prints the numbers of one pod's log files on the node, of lines that were written to their end.
REACHED = r"""
for file in $(ls -d %s/*/*.log* | grep -v tmp$); do
  case $file in *.gz) zcat $file;; *) cat $file;; esac
done | sed -n 's/^.* F number=\([0-9]*\) x\{%d\}$/\1/p'
"""


class LossError(Exception):
    """One sentence that says why nothing could be measured."""


@dataclass
class Result:
    """What arrived of `written` lines, `torn` of them as two records.

    `late` is how many seconds after the last was written the last was found.
    """

    fault: str
    written: int
    missing: list[int]
    duplicates: int
    torn: int
    seconds: float
    late: float

    def __str__(self) -> str:
        text = f"{self.fault}: {self.written} lines in {self.seconds:.0f} s ({self.written / self.seconds:.0f}/s), "
        text += f"{len(self.missing)} missing, {self.duplicates} double, {self.torn} torn,"
        text += f" the last one found {self.late:.1f} s after it was written"
        return text + (f"; missing are {self.missing[:10]} ..." if self.missing else "")


class Cluster:
    """A cluster with VictoriaLogs and a log agent; `revive` brings the local cluster's node back when it was killed."""

    def __init__(
        self, api: client.ApiClient, store: str, shipper: str, node: str, revive: Callable[[], object] | None = None
    ) -> None:
        self.objects, self.raw = Objects(api), KubeCluster(api)
        self.core: Any = client.CoreV1Api(api)
        self.apps: Any = client.AppsV1Api(api)
        self.store_namespace, self.store = store.split("/")
        self.shipper_namespace, self.shipper = (shipper or self._find_shipper()).split("/")
        self.node, self.revive = node, revive
        self.outage_seconds = OUTAGE
        self.pause = threading.Event()

    def _find_shipper(self) -> str:
        found = self.apps.list_daemon_set_for_all_namespaces(label_selector=SELECTORS).items
        if len(found) != 1:
            names = ", ".join(f"{item.metadata.namespace}/{item.metadata.name}" for item in found) or "none"
            raise LossError(f"There should be one log agent, and there is {names}: name the one that is meant.")
        return f"{found[0].metadata.namespace}/{found[0].metadata.name}"

    def image(self) -> str:
        """An image with python3 that the node has: the reference application's."""
        try:
            deployment = self.apps.read_namespaced_deployment("flask-app", "flask-app")
        except client.ApiException as error:
            raise LossError("There is no Deployment flask-app/flask-app, whose image has python3: name an image.") from error
        return str(deployment.spec.template.spec.containers[0].image)

    def on_node(self, *command: str) -> str:
        """The output of a command on the node."""
        engine = Engine.find("auto", only=("podman", "docker"))
        return engine.run(["exec", self.node, *command], timeout=120).stdout.decode()

    def query(self, logsql: str) -> list[dict[str, str]]:
        """What VictoriaLogs answers, through the API server."""
        path = f"/api/v1/namespaces/{self.store_namespace}/services/{self.store}:9428/proxy/select/logsql/query"
        status, body = self.raw.fetch(f"{path}?{urlencode({'query': logsql})}", None, 120)
        if status != 200:
            raise LossError(f"VictoriaLogs answered {status} to {logsql}: {body[:200]}")
        return [json.loads(line) for line in body.splitlines()]

    def lines(self, logsql: str) -> list[tuple[dict[str, str], str]]:
        """Fields and text of the lines of the last hour, a thousand at most."""
        return [(row, row.get("_msg", "")) for row in self.query(f"_time:1h {logsql} | limit 1000")]

    def pod(self) -> Any:
        """The shipper's pod."""
        selector = self.apps.read_namespaced_daemon_set(self.shipper, self.shipper_namespace).spec.selector.match_labels
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        pods = self.core.list_namespaced_pod(self.shipper_namespace, label_selector=labels).items
        running = [pod for pod in pods if pod.status.phase == "Running" and not pod.metadata.deletion_timestamp]
        if not running:
            raise LossError(f"No pod of the log agent {self.shipper_namespace}/{self.shipper} runs: install it first.")
        return running[0]

    def kill(self) -> None:
        """End the log agent's process with signal 9."""
        container = self.pod().status.container_statuses[0].container_id.removeprefix("containerd://")
        self.on_node("ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container)

    def evict(self) -> None:
        """Evict the log agent's pod."""
        name = self.pod().metadata.name
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=self.shipper_namespace))
        self.core.create_namespaced_pod_eviction(name, self.shipper_namespace, body)

    def outage(self) -> None:
        """Take VictoriaLogs away for `outage_seconds`."""
        for replicas in (0, 1):
            patch = {"spec": {"replicas": replicas}}
            self.apps.patch_namespaced_stateful_set_scale(self.store, self.store_namespace, patch)
            if not replicas:
                self.pause.wait(self.outage_seconds)

    def store_kill(self) -> None:
        """End VictoriaLogs' process with signal 9: what it has acknowledged and not saved is gone."""
        status = self.core.read_namespaced_pod(f"{self.store}-0", self.store_namespace).status
        container = status.container_statuses[0].container_id.removeprefix("containerd://")
        self.on_node("ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container)

    def both_killed(self) -> None:
        """End both processes with signal 9."""
        self.store_kill()
        self.kill()

    def rotation(self) -> None:
        """Nothing: the lines are so long that kubelet rotates their file by itself."""

    def node_kill(self) -> None:
        """Kill the container that is the node, and bring it back."""
        if self.revive is None:
            raise LossError("Nobody says how to bring the node back.")
        Engine.find("auto", only=("podman", "docker")).run(["kill", self.node], timeout=30)
        self.revive()

    def outage_and_kill(self) -> None:
        """Take VictoriaLogs away, and end the log agent meanwhile: what it holds back must not be in its memory."""
        timer = threading.Timer(self.outage_seconds / 2, self.kill)
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


def files(cluster: Cluster, run: str) -> str:
    """The folder of a run's log files on the node."""
    uid = cluster.core.read_namespaced_pod(run, NAMESPACE).metadata.uid
    return f"{LOGS}/{NAMESPACE}_{run}_{uid}"


def reached(cluster: Cluster, run: str, padding: int) -> set[int]:
    """The numbers that are in the run's log files."""
    return {int(word) for word in cluster.on_node("sh", "-c", REACHED % (files(cluster, run), padding)).split()}


def found(cluster: Cluster, run: str, padding: int) -> tuple[Counter[int], int]:
    """How often each number is there, and how many lines are there as two records.

    When a log is rotated, containerd ends the old file with the part of a line that it has, and begins the new one with the rest.
    """
    whole = f"number=([0-9]+) x{{{padding}}}"
    stream = f'_time:1h {{namespace="{NAMESPACE}",app="{run}"}}'
    rows = cluster.query(f'{stream} _msg:~"^{whole}$" | extract "number=<number> " from _msg | fields number')
    counts = Counter(int(row["number"]) for row in rows)
    pieces = {(row["_time"], row.get("_msg", "")) for row in cluster.query(f'{stream} !_msg:~"^{whole}$" | fields _time, _msg')}
    # Which piece is the earlier one their times do not say for certain.
    torn = {int(match[1]) for (_, a), (_, b) in permutations(pieces, 2) if (match := re.fullmatch(whole, a + b))} - set(counts)
    counts.update(torn)
    return counts, len(torn)


def count(cluster: Cluster, run: str) -> int:
    """How many lines of the run are there, 0 while nobody answers."""
    try:
        (row,) = cluster.query(f'_time:1h {{namespace="{NAMESPACE}",app="{run}"}} | stats count() lines')
    except Exception:  # away, as some of the faults want it
        return 0
    return int(row["lines"])


def ended(cluster: Cluster, run: str, seconds: float) -> Any:
    """Wait for the end of the writer; its pod's status.

    :raises LossError: when it does not end in time.
    """
    deadline, status = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            status = cluster.core.read_namespaced_pod(run, NAMESPACE).status
        except (client.ApiException, OSError, urllib3.exceptions.HTTPError):
            status = None  # the API server is away with its node
        if status and status.phase in ("Succeeded", "Failed"):
            return status
        cluster.pause.wait(0.5)
    raise LossError(f"The writer {NAMESPACE}/{run} is {status.phase if status else 'not to be read'} after {seconds:.0f} s.")


def rotated(cluster: Cluster, run: str, names: set[str], stop: threading.Event) -> None:
    """Note the names of rotated files until the end; kubelet keeps the newest few."""
    folder = files(cluster, run)
    while not stop.wait(2):
        listed = cluster.on_node("sh", "-c", f"ls {folder}/*/ 2>/dev/null || true")
        names.update(word.removesuffix(".gz") for word in listed.split() if ".log." in word and not word.endswith(".tmp"))


def measure(cluster: Cluster, fault: str, lines: int, rate: int, padding: int, image: str, wait: int = 300) -> Result:
    """Write the lines, break something, and look for every number that reached a log file.

    :raises LossError: when the writer fails, or the fault could not be made.
    """
    run = f"loss-{fault.replace('_', '-')}-{time.time_ns() // 10**6}"
    write(cluster, run, lines, rate, padding, image)
    failures: list[BaseException] = []
    names: set[str] = set()
    stop = threading.Event()

    def breaks() -> None:
        try:
            getattr(cluster, fault)()
        except BaseException as error:
            failures.append(error)

    timer = threading.Timer(lines / rate / 3, breaks) if fault != "none" else None
    watcher = threading.Thread(target=rotated, args=(cluster, run, names, stop)) if fault == "rotation" else None
    for thread in (timer, watcher):
        if thread:
            thread.start()
    try:
        status = ended(cluster, run, lines / rate * 3 + 240)
        finish = time.monotonic()
        if timer:
            timer.join()
        if failures:
            raise LossError(f"The fault {fault} could not be made: {failures[0]}")
        if status.phase == "Failed" and fault != "node_kill":
            raise LossError(f"The writer {NAMESPACE}/{run} failed: {status.container_statuses[0].state.terminated}.")
        if watcher:
            stop.set()
            watcher.join()
            if len(names) < ROTATIONS:
                raise LossError(
                    f"The log was rotated {len(names)} times, and {ROTATIONS} were wanted: write more or longer lines."
                )
        state = status.container_statuses[0].state.terminated if status.container_statuses else None
        known = state and state.finished_at and state.started_at and state.finished_at > state.started_at
        seconds = (state.finished_at - state.started_at).total_seconds() if known else lines / rate
        # The node's end is the writer's: what it had written by then is on the volume.
        wanted = reached(cluster, run, padding) if fault == "node_kill" else set(range(lines))
        late = 0.0
        while time.monotonic() - finish < wait:
            late = time.monotonic() - finish
            if count(cluster, run) >= len(wanted):
                break
            cluster.pause.wait(1)
        counts, torn = found(cluster, run, padding)
    finally:
        stop.set()
        for thread in (timer, watcher):
            if thread:
                thread.join()
        cluster.core.delete_namespaced_pod(run, NAMESPACE, grace_period_seconds=0)
    missing = sorted(wanted - set(counts))
    return Result(fault, len(wanted), missing, sum(counts.values()) - len(counts), torn, seconds, late)


def remove_namespace(cluster: Cluster) -> None:
    """Remove the namespace of the writers."""
    if NAMESPACE in {item.metadata.name for item in cluster.core.list_namespace().items}:
        cluster.core.delete_namespace(NAMESPACE)


FAULTS = ("none", "kill", "store_kill", "both_killed", "evict", "outage", "outage_and_kill", "rotation", "node_kill")
# Lines and padding where the usual ones are too few: they go on for as long as the fault, and fill a file every few seconds.
SIZES = {"outage": (OUTAGE * 3 // 2, 100), "outage_and_kill": (OUTAGE * 3 // 2, 100), "rotation": (60, 900)}


def sizes(fault: str, lines: int, rate: int, padding: int) -> tuple[int, int]:
    """Number of lines and padding for a fault, at least those given."""
    seconds, least = SIZES.get(fault, (0, 0))
    return max(lines, rate * seconds), max(padding, least)


def main() -> None:
    """Entry point; the exit status says whether a line is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--context", required=True)
    parser.add_argument("--store", default="victoria-logs/victoria-logs", help="namespace/name of VictoriaLogs' Service")
    parser.add_argument(
        "--shipper", default="", help="namespace/name of the log agent's DaemonSet; the one that is there by default"
    )
    parser.add_argument("--node", help="container of the local cluster's node; <context>-node by default")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="may be given several times; kill by default")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=5_000, help="lines a second")
    parser.add_argument("--padding", type=int, default=100, help="bytes of each line after its number")
    parser.add_argument("--image", help="an image with python3 that the node has; the reference application's by default")
    parser.add_argument("--revive", help="command that brings the node back, for the fault node_kill")
    options = parser.parse_args()
    api = config.new_client_from_config(options.kubeconfig, context=options.context)
    revive = (lambda: subprocess.run(options.revive, shell=True, check=True)) if options.revive else None
    results = []
    try:
        cluster = Cluster(api, options.store, options.shipper, options.node or f"{options.context}-node", revive)
    except LossError as error:
        sys.exit(str(error))
    try:
        for fault in options.fault or ["kill"]:
            lines, padding = sizes(fault, options.lines, options.rate, options.padding)
            results.append(measure(cluster, fault, lines, options.rate, padding, options.image or cluster.image()))
            print(results[-1], flush=True)
    except LossError as error:
        sys.exit(str(error))
    finally:
        remove_namespace(cluster)
    sys.exit(1 if any(result.missing for result in results) else 0)


if __name__ == "__main__":
    main()
