# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of one control plane and two workers with the reference application, made and taken away here.

The tests follow each other: workers are killed, removed, drained and added, and the application's pods and images follow. At the
end the whole chain runs there, and drills take nodes from it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import App, Options
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine
from ansible_collections.flaskops.observability.plugins.module_utils.verify.facts import is_ready
from kubernetes import client
from kubernetes.stream import stream

from tests.harness import LONG, ROOT, Cluster, Run, playbook, processes, until
from tests.node import free_network, free_port, host, kill_node, left, output

pytestmark = LONG
NAME = "flaskops-nodes-test"
WORKERS = [f"{NAME}-worker-1", f"{NAME}-worker-2"]
NODES = [f"{NAME}-node", *WORKERS]
KUBECONFIG = Path.home() / f".local/share/flaskops/clusters/{NAME}/kubeconfig"
PODMAN = Engine.find("podman")
PORT = free_port()
NETWORK = free_network(60)
RESTORED_WITHIN = 180  # seconds from the kill of a drill to the state from before
# On a busy machine everything is later than configured, which is reported and is no defect of a drill.
FINE = {"within", "late", "unbounded"}
LOOK = "import urllib.request as u; print(u.urlopen('http://{}/health', timeout=5).status)"


class Own:
    """The cluster of these tests, which need not run."""

    def __init__(self, folder: Path) -> None:
        inventory = folder / "inventory.yml"
        options = f"{{local_cluster_api_port: {PORT}, local_cluster_subnet: {NETWORK}.0/24, local_cluster_workers: 2}}"
        inventory.write_text(f"local: {{hosts: {{{NAME}: {options}}}}}\n")
        self.inventory = ("-i", "inventories/local", "-i", str(inventory), "--limit", NAME)
        self.before: dict[str, set[str]] = {}

    def up(self, *args: str) -> Run:
        return playbook("site.yml", "--tags", "cluster,image,app", *args, inventory=self.inventory)

    def cluster_only(self, *args: str, workers: int = 2) -> Run:
        return playbook("playbooks/cluster.yml", "-e", f"local_cluster_workers={workers}", *args, inventory=self.inventory)

    def run(self, name: str, **extra: Any) -> Run:
        return playbook(name, inventory=self.inventory, extra=extra)

    def absent(self) -> Run:
        return self.cluster_only("-e", "local_cluster_state=absent")

    @property
    def cluster(self) -> Cluster:
        return Cluster(KUBECONFIG, NAME)

    def pods(self) -> dict[str, tuple[str, str]]:
        """Node and address of each pod of the application that is ready."""
        items = self.cluster.core.list_namespaced_pod("flask-app", label_selector="app=flask-app").items
        return {
            pod.metadata.name: (pod.spec.node_name, pod.status.pod_ip)
            for pod in items
            if pod.metadata.deletion_timestamp is None
            and any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])
        }

    def in_pod(self, pod: str, program: str) -> str:
        command = ["python3", "-c", program]
        core = self.cluster.core
        return str(stream(core.connect_get_namespaced_pod_exec, pod, "flask-app", command=command, stderr=True, stdout=True))

    def identity(self, node: str) -> tuple[str, str]:
        """What must outlive a container: the node's object, and a file on its volume."""
        return self.cluster.core.read_node(node).metadata.uid, output(PODMAN, "exec", node, "cat", "/var/lib/flaskops/kept")

    @property
    def app(self) -> App:
        return App(KubeCluster(self.cluster.api), Options())

    def nodes(self) -> dict[str, tuple[bool, bool, list[str]]]:
        """By name whether each is ready, whether it is cordoned, and the keys of its taints."""
        plain = self.cluster.api.sanitize_for_serialization(self.cluster.core.list_node().items)
        return {
            node["metadata"]["name"]: (
                is_ready(node),
                bool(node["spec"].get("unschedulable")),
                sorted(taint["key"] for taint in node["spec"].get("taints", [])),
            )
            for node in plain
        }

    def health(self) -> int:
        address = self.cluster.address("flask-app", "flask-app")
        with urllib.request.urlopen(f"http://{address}/health", timeout=5) as reply:
            return int(reply.status)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    own = Own(tmp_path_factory.mktemp("local-nodes"))
    own.absent()
    own.before = host(PODMAN, KUBECONFIG, PORT, alone=False)
    yield own
    own.absent()


def test_pods_run_on_both_workers(own: Own, record_property: pytest.RecordProperty) -> None:
    began = time.monotonic()
    assert own.up().changed > 0
    record_property("seconds", round(time.monotonic() - began))
    assert {node for node, _ in own.pods().values()} == set(WORKERS)
    assert own.up().changed == 0
    assert own.up("--check").changed == 0


def test_the_api_says_the_truth_of_nodes_and_their_pods(own: Own) -> None:
    core = own.cluster.core
    nodes = {node.metadata.name: node for node in core.list_node().items}
    assert sorted(nodes) == sorted(NODES)
    taints = {name: [taint.key for taint in node.spec.taints or []] for name, node in nodes.items()}
    assert taints == {NODES[0]: ["node-role.kubernetes.io/control-plane"], **{name: [] for name in WORKERS}}
    subnets = {name: ipaddress.ip_network(node.spec.pod_cidr) for name, node in nodes.items()}
    assert len(set(subnets.values())) == 3
    for pod in core.list_pod_for_all_namespaces().items:
        if not pod.spec.host_network:
            assert ipaddress.ip_address(pod.status.pod_ip) in subnets[pod.spec.node_name], pod.metadata.name


def test_pods_services_and_names_are_reached_from_each_node(own: Own) -> None:
    pods = own.pods()
    first, second = pods
    address = own.cluster.address("flask-app", "flask-app")
    assert own.health() == 200
    for node in NODES:
        printed = output(
            PODMAN,
            "exec",
            node,
            "bash",
            "-c",
            f"exec 3<>/dev/tcp/{address}/80; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3",
        )
        assert " 200 " in printed, node
    for here, there in ((first, second), (second, first)):
        for target in (f"{pods[there][1]}:5000", "flask-app.flask-app.svc", address):
            assert own.in_pod(here, LOOK.format(target)).strip() == "200", (here, target)
    # Without another address on the way: a pod sees who asks it.
    listen = "import socket; s = socket.create_server(('', 9999)); s.settimeout(30); print(s.accept()[1][0])"
    with ThreadPoolExecutor() as pool:
        seen = pool.submit(own.in_pod, second, listen)
        ask = f"import socket; socket.create_connection(('{pods[second][1]}', 9999), timeout=1)"
        until(lambda: own.in_pod(first, ask).strip() == "", 20, "a connection to the other pod")
        assert seen.result().strip() == pods[first][1]


def kill_all(node: str) -> None:
    kill_node(PODMAN, node)


def remove(node: str) -> None:
    output(PODMAN, "rm", "--force", node)


@pytest.mark.parametrize(("lose", "worker"), [(kill_all, WORKERS[0]), (remove, WORKERS[1])])
def test_a_lost_worker_comes_back_with_its_volume(own: Own, lose: Callable[[str], None], worker: str) -> None:
    output(PODMAN, "exec", worker, "sh", "-c", "date +%N > /var/lib/flaskops/kept")
    identity, before = own.identity(worker), {name: node for name, (node, _) in own.pods().items()}
    lose(worker)
    assert own.cluster_only("--check").changed == 1
    assert own.cluster_only().changed == 1
    assert own.identity(worker) == identity
    # The same pods, in new containers that need some seconds.
    until(lambda: {name: node for name, (node, _) in own.pods().items()} == before, 60, "the pods of before")
    assert own.health() == 200
    assert own.cluster_only().changed == 0


def test_a_worker_that_joined_by_half_is_joined_again(own: Own) -> None:
    output(PODMAN, "exec", WORKERS[0], "rm", "/var/lib/flaskops/initialised", "/etc/kubernetes/kubelet.conf")
    output(PODMAN, "kill", WORKERS[0])
    assert own.cluster_only().changed == 1
    until(lambda: {node for node, _ in own.pods().values()} == set(WORKERS) or len(own.pods()) == 2, 60, "two ready pods")
    assert own.cluster_only().changed == 0


def test_a_worker_too_many_is_drained_and_removed(own: Own) -> None:
    assert own.cluster_only("--check", workers=1).changed == 1
    assert own.cluster_only(workers=1).changed == 1
    assert [node.metadata.name for node in own.cluster.core.list_node().items] == NODES[:2]
    assert WORKERS[1] not in output(PODMAN, "ps", "--all", "--format", "{{.Names}}").split()
    assert f"{WORKERS[1]}-data" not in output(PODMAN, "volume", "ls", "--quiet").split()
    until(lambda: [node for node, _ in own.pods().values()] == WORKERS[:1] * 2, 60, "both pods on the worker that is left")
    assert own.health() == 200


def test_a_worker_that_is_added_gets_the_images(own: Own) -> None:
    run = own.up()
    assert run.changed == 2  # the cluster and the image
    (image,) = {
        container.image
        for pod in own.cluster.core.list_namespaced_pod("flask-app", label_selector="app=flask-app").items
        for container in pod.spec.containers
    }
    for node in NODES:
        assert image in output(PODMAN, "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q").split(), node
    own.cluster.core.delete_collection_namespaced_pod("flask-app", label_selector="app=flask-app")
    until(lambda: {node for node, _ in own.pods().values()} == set(WORKERS), 60, "pods on both workers")


def drilled(own: Own, folder: Path, *names: str) -> dict[str, Any]:
    """The report's scenarios by name, each passed, and restored to the nodes from before."""
    before = own.nodes()
    done = own.run("playbooks/drill.yml", drill_scenarios=list(names), drill_report=str(folder))
    assert done.returncode == 0, done.error
    summary = json.loads((folder / "drill.json").read_text())
    found = {item["name"]: item for item in summary["scenarios"]}
    for item in found.values():
        assert item["status"] == "passed" and item["restored"]["ok"], (item["name"], item["reason"])
        for seen in item["observations"]:
            assert seen["verdict"] in FINE and (seen["verdict"] != "late" or seen["note"]), seen
    assert own.nodes() == before
    return found


def test_an_autoscaler_reads_what_metrics_server_tells(own: Own) -> None:
    """On the whole chain, of which metrics-server is no part unless it is asked for."""
    made = own.run("site.yml", local_cluster_metrics_server=True)
    assert made.returncode == 0, made.error
    scaling = client.AutoscalingV2Api(own.cluster.api)
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 90}}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "coredns"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2, "metrics": [metric]}
    scaling.create_namespaced_horizontal_pod_autoscaler("kube-system", {"metadata": {"name": "dns"}, "spec": spec})
    try:

        def read() -> Any:
            status = scaling.read_namespaced_horizontal_pod_autoscaler("dns", "kube-system").status
            return [item.resource.current.average_utilization for item in status.current_metrics or [] if item.resource]

        (used,) = until(read, 120, "a metric that the autoscaler has read")
        assert 0 <= used < 1000
        metrics = client.CustomObjectsApi(own.cluster.api).list_cluster_custom_object("metrics.k8s.io", "v1beta1", "nodes")
        assert {item["metadata"]["name"] for item in metrics["items"]} == set(own.nodes())
    finally:
        scaling.delete_namespaced_horizontal_pod_autoscaler("dns", "kube-system")


def test_a_lost_node_is_noticed_in_time_and_its_lines_arrive(own: Own, tmp_path: Path) -> None:
    item = drilled(own, tmp_path, "node_lost")["node_lost"]
    seen = {(each["observer"], each["event"]): each for each in item["observations"]}
    assert seen["node", "NotReady"]["at"] <= seen["alert FlaskReplicasUnavailable", "received"]["at"]
    assert seen["node", "NotReady"]["longest"] and seen["endpoints", "removed"]["longest"]
    # It answers throughout; what is lost is what went to the pods of the lost node until the node counted as lost.
    counted = item["requests"]
    assert counted["silent"] < 5 and counted["lost"] < counted["sent"] / 2
    assert item["lines"]["answered"] > 100 and item["lines"]["missing"] == 0


@pytest.mark.parametrize("how", ["drill", "everything"])
def test_a_killed_drill_leaves_no_lost_node(own: Own, tmp_path: Path, how: str) -> None:
    """The process beside it starts the node; where that is gone too, as after a power cut, the next run does."""
    before = own.nodes()
    command = [str(Path(sys.executable).with_name("ansible-playbook")), *own.inventory, "playbooks/drill.yml"]
    command += ["-e", json.dumps({"drill_scenarios": ["node_lost"], "drill_report": str(tmp_path)})]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    with (tmp_path / "log").open("w") as log:
        drill = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

        def lost() -> bool:
            assert drill.poll() is None, (tmp_path / "log").read_text()[-3000:]
            return not all(ready for ready, _cordoned, _taints in own.nodes().values())

        until(lost, 600, "the loss of the node")
        began = time.monotonic()
        victims = (sentinels() if how == "everything" else []) + processes(drill.pid)
        for pid in victims:  # kill -9 of all, as when a machine loses its power
            os.kill(pid, signal.SIGKILL)
        drill.wait()
    if how == "everything":
        # As long as the lease is young, it could be of a drill that runs.
        until(lambda: own.run("playbooks/drill.yml", drill_state="restored").returncode == 0, 120, "the restoration")
    until(lambda: own.nodes() == before and not own.app.unhealthy(), RESTORED_WITHIN, "the state from before")
    until(lambda: "flaskops-drill" not in own.cluster.namespaces(), RESTORED_WITHIN, "the end of the drill's namespace")
    print(f"restored {time.monotonic() - began:.0f} s after kill -9 of {how}")


def sentinels() -> list[int]:
    """The processes that would start a node of this cluster."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if any(word.startswith(f"{NAME}-worker-") for word in words) and "-c" in words:
                found.append(int(entry.name))
    return found


def test_a_drained_node_costs_no_request(own: Own, tmp_path: Path) -> None:
    item = drilled(own, tmp_path, "node_drained")["node_drained"]
    assert item["requests"]["lost"] == 0 and item["requests"]["sent"] > 50
    seen = {(each["observer"], each["event"]): each for each in item["observations"]}
    assert seen["pods", "lost"]["at"] < seen["pods", "ready"]["at"] and seen["pods", "ready"]["longest"]


def test_absent_leaves_the_host_as_it_was(own: Own) -> None:
    assert own.absent().changed == 1
    assert own.absent().changed == 0
    now = host(PODMAN, KUBECONFIG, PORT, alone=False)
    found = left(own.before, now, rf"{NAME}|{re.escape(NETWORK)}\.|:{PORT}\b")
    assert not {aspect: lines for aspect, lines in found.items() if any(NAME in line or NETWORK in line for line in lines)}, found
