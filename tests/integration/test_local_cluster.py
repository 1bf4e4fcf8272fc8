# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role local_cluster on a cluster of its own, made and taken away here, beside any other that runs on this machine.

The tests follow each other. The host is compared from before the first to after the last of them; the kernel settings that
kubelet changes are put back with the last cluster, so they are compared only where no other one runs.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import LABEL, Engine
from kubernetes import client, config

from tests.harness import LONG, Cluster, Run, playbook
from tests.node import (
    assert_nothing_left,
    assert_whole,
    free_network,
    free_port,
    host,
    kill_kubeadm,
    kill_node,
    output,
    pids,
    wait_until,
)

NAME = "flaskops-lc-test"
NODE = f"{NAME}-node"
KUBECONFIG = Path.home() / f".local/share/flaskops/clusters/{NAME}/kubeconfig"
PODMAN = Engine.find("podman")
PORT = free_port()
NETWORK = free_network()


def others() -> set[str]:
    """The volumes of other clusters."""
    return set(output(PODMAN, "volume", "ls", "--quiet", "--filter", f"label={LABEL}").split()) - {f"{NAME}-data"}


class Neighbour(threading.Thread):
    """Asks another cluster's API, and its application where there is one, all the time; collects what went wrong."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(daemon=True)
        self.core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        services = self.core.list_service_for_all_namespaces().items
        self.urls = [
            f"http://{service.status.load_balancer.ingress[0].ip}/health"
            for service in services
            if service.spec.type == "LoadBalancer"
            and service.metadata.name == "flask-app"
            and service.status.load_balancer.ingress
        ]
        self.identity = self.core.read_namespace("kube-system").metadata.uid
        self.asked = 0
        self.errors: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.asked += 1
            try:
                assert self.core.read_namespace("kube-system", _request_timeout=10).metadata.uid == self.identity
                for url in self.urls:
                    urllib.request.urlopen(url, timeout=10).read()
            except Exception as error:
                self.errors.append(f"{time.strftime('%T')} {error}")


class Own:
    """The cluster of these tests, which need not run."""

    def __init__(self, folder: Path) -> None:
        inventory = folder / "inventory.yml"
        options = f"{{local_cluster_api_port: {PORT}, local_cluster_subnet: {NETWORK}.0/24}}"
        inventory.write_text(f"local: {{hosts: {{{NAME}: {options}}}}}\n")
        self.inventory = ("-i", "inventories/local", "-i", str(inventory), "--limit", NAME)
        self.uids: dict[str, str] = {}

    def run(self, *args: str) -> Run:
        return playbook("playbooks/cluster.yml", *args, inventory=self.inventory)

    def absent(self) -> Run:
        return self.run("-e", "local_cluster_state=absent")

    def cluster(self) -> Cluster:
        return Cluster(KUBECONFIG, NAME)

    def read(self) -> dict[str, str]:
        """The identity of what must outlive a restart."""
        cluster = self.cluster()
        return {
            "ConfigMap": cluster.core.read_namespaced_config_map("kept", "default").metadata.uid,
            "Namespace": cluster.core.read_namespace("kube-system").metadata.uid,
            "Deployment": cluster.apps.read_namespaced_deployment("coredns", "kube-system").metadata.uid,
        }

    def connect(self) -> None:
        """Reach CoreDNS through its load balancer, within five seconds."""
        address = (self.cluster().address("dns", "kube-system"), 53)

        def reached() -> bool:
            try:
                socket.create_connection(address, timeout=5).close()
            except OSError:
                return False
            return True

        assert wait_until(reached, 5), f"{address} does not answer"


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour | None]:
    path = os.environ.get("CLUSTER_KUBECONFIG")
    if not path or not Path(path).exists():
        yield None
        return
    thread = Neighbour(Path(path))
    thread.start()
    yield thread
    thread.over.set()
    thread.join()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, neighbour: Neighbour | None) -> Iterator[Own]:
    own = Own(tmp_path_factory.mktemp("local-cluster"))
    own.absent()
    yield own
    own.absent()


@pytest.fixture(scope="module", autouse=True)
def before(own: Own) -> dict[str, set[str]]:
    return host(PODMAN, KUBECONFIG, PORT, alone=not others())


def test_check_mode_on_nothing_makes_nothing(own: Own) -> None:
    assert own.run("--check").changed == 1
    now = host(PODMAN, KUBECONFIG, PORT, alone=False)
    for aspect in ("containers", "networks", "volumes", "files"):
        assert not {line for line in now[aspect] if NAME in line}


@LONG
def test_run_whose_kubeadm_is_killed_is_one_sentence(own: Own) -> None:
    with ThreadPoolExecutor() as pool:
        run = pool.submit(own.run)
        kill_kubeadm(PODMAN, NODE, f"{NETWORK}.2")
    assert "failed with status 137: " in run.result().error
    assert "Traceback" not in run.result().stdout


def test_converge_makes_a_cluster(own: Own) -> None:
    """Also out of what a killed kubeadm has left, whose API server answers."""
    assert own.run().changed == 1
    assert_whole(own.cluster(), f"{NETWORK}.2")
    assert KUBECONFIG.stat().st_mode & 0o777 == 0o600
    cluster = own.cluster()
    (node,) = cluster.core.list_node().items
    assert {each.type: each.status for each in node.status.conditions}["Ready"] == "True"
    kept = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="kept"), data={"by": "the volume"})
    cluster.core.create_namespaced_config_map("default", kept)
    ports = [client.V1ServicePort(name="dns-tcp", port=53, protocol="TCP")]
    spec = client.V1ServiceSpec(type="LoadBalancer", selector={"k8s-app": "kube-dns"}, ports=ports)
    service = client.V1Service(metadata=client.V1ObjectMeta(name="dns"), spec=spec)
    cluster.core.create_namespaced_service("kube-system", service)
    own.uids = own.read()

    def reached() -> bool:
        try:
            own.connect()
        except (OSError, TypeError):  # no address yet
            return False
        return True

    assert wait_until(reached, 30)


def test_converged_cluster_is_left_alone(own: Own) -> None:
    started = output(PODMAN, "container", "inspect", "--format", "{{.State.StartedAt}}", NODE)
    assert own.run().changed == 0
    assert own.run("--check").changed == 0
    assert output(PODMAN, "container", "inspect", "--format", "{{.State.StartedAt}}", NODE) == started


def test_metrics_are_served_on_the_nodes_network_alone(own: Own) -> None:
    context = ssl._create_unverified_context()
    for url in (f"http://{NETWORK}.2:10249/metrics", f"http://{NETWORK}.2:2381/metrics"):
        with urllib.request.urlopen(url, timeout=5) as reply:
            assert b"process_start_time_seconds" in reply.read()
    for port in (10257, 10259):
        with pytest.raises(urllib.error.HTTPError, match="403"):  # it answers, and wants a token
            urllib.request.urlopen(f"https://{NETWORK}.2:{port}/metrics", context=context, timeout=5)
    assert output(PODMAN, "port", NODE).split() == ["6443/tcp", "->", f"127.0.0.1:{PORT}"]


def test_removed_kubeconfig_is_written_again(own: Own) -> None:
    text, started = KUBECONFIG.read_text(), output(PODMAN, "container", "inspect", "--format", "{{.State.StartedAt}}", NODE)
    KUBECONFIG.unlink()
    assert own.run("--check").changed == 1
    assert not KUBECONFIG.exists()
    assert own.run().changed == 1
    assert KUBECONFIG.read_text() == text and KUBECONFIG.stat().st_mode & 0o777 == 0o600
    assert output(PODMAN, "container", "inspect", "--format", "{{.State.StartedAt}}", NODE) == started


def test_killed_container_comes_back(own: Own) -> None:
    KUBECONFIG.chmod(0o644)
    output(PODMAN, "kill", NODE)
    assert own.run().changed == 1
    own.connect()
    assert own.read() == own.uids
    assert KUBECONFIG.stat().st_mode & 0o777 == 0o600


def test_node_whose_processes_were_all_killed_comes_back(own: Own) -> None:
    kill_node(PODMAN, NODE)
    assert own.run().changed == 1
    own.connect()
    assert own.read() == own.uids


def test_absent_leaves_the_host_as_it_was(own: Own, before: dict[str, set[str]]) -> None:
    running = pids(PODMAN, NODE)
    assert own.absent().changed == 1
    assert own.absent().changed == 0
    assert not KUBECONFIG.parent.exists()
    assert not {pid for pid in running if Path(f"/proc/{pid}").exists()}
    ours = rf"{NAME}|{re.escape(NETWORK)}\.|:{PORT}\b"
    assert_nothing_left(before, lambda: host(PODMAN, KUBECONFIG, PORT, alone=not others()), ours)


def test_neighbour_was_not_disturbed(neighbour: Neighbour | None) -> None:
    if neighbour is None:
        pytest.skip("CLUSTER_KUBECONFIG names no other cluster: run by `molecule test` to have one beside this one.")
    assert neighbour.asked > 20
    assert neighbour.errors == []
