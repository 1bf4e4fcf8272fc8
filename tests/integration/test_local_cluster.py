# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role local_cluster on a cluster of its own, made and taken away here, beside any other that runs on this machine.

The tests follow each other. The host is compared from before the first to after the last of them; the kernel settings that
kubelet changes are put back with the last cluster, so they are compared only where no other one runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.modules.local_cluster import LABEL, SYSCTLS
from kubernetes import client, config

from tests.harness import Cluster, Run, engine_env, playbook

NAME = "flaskops-lc-test"
NODE = f"{NAME}-node"
KUBECONFIG = Path.home() / f".local/share/flaskops/clusters/{NAME}/kubeconfig"
# Settings that change by themselves, and those of single links, which come and go with everybody's containers.
VOLATILE = re.compile(
    r"/(random|ns_last_pid|dentry-state|file-nr|inode-(nr|state)|aio-nr|nf_conntrack_count|pty/nr|perf_event_max_sample_rate|quota/syncs)"
    r"|/net/ipv[46]/(conf|neigh)/(?!all|default|lo)"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_network() -> str:
    """The first three numbers of a /24 that no route leads to."""
    routes = subprocess.run(["ip", "-4", "route", "show"], capture_output=True, text=True, check=True).stdout
    return next(found for third in range(200, 240) if (found := f"10.89.{third}") not in routes)


PORT = free_port()
NETWORK = free_network()


def podman(*args: str) -> str:
    return subprocess.run(["podman", *args], capture_output=True, text=True, env=engine_env(), check=True).stdout


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true within some seconds."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not (done := true()) and time.monotonic() < deadline:
        pause.wait(0.5)
    return done


def others() -> set[str]:
    """The volumes of other clusters."""
    return set(podman("volume", "ls", "--quiet", "--filter", f"label={LABEL}").split()) - {f"{NAME}-data"}


def pids() -> set[int]:
    """The processes of our node: its monitor, and all in its control group."""
    identity = podman("container", "inspect", "--format", "{{.Id}}", NODE).strip()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if identity in (folder / "cmdline").read_text() + (folder / "cgroup").read_text():
                found.add(int(folder.name))
        except OSError:
            continue  # it has ended
    return found


def host(alone: bool) -> dict[str, set[str]]:
    """All of this machine that a cluster could leave something in; `alone` says that no other cluster runs."""

    def lines(*command: str) -> set[str]:
        text = subprocess.run(command, capture_output=True, text=True, check=True, env=engine_env()).stdout
        kept = (line for line in text.splitlines() if not line.startswith("#"))
        return {re.sub(r"\[\d+:\d+\]|packets \d+ bytes \d+", "", line).strip() for line in kept}

    settings, paths = set(), set()
    for path in Path("/proc/sys").rglob("*"):
        key = str(path.relative_to("/proc/sys"))
        if VOLATILE.search(str(path)) or path.stat().st_mode & 0o444 == 0 or not path.is_file() or (key in SYSCTLS and not alone):
            continue
        try:
            settings.add(f"{key} = {path.read_text(errors='replace').strip()}")
        except OSError:
            continue  # this kernel doesn't tell
    home = Path.home()
    for root in (home / ".kube", home / ".config/containers", Path("/etc/containers"), Path("/etc/cni"), KUBECONFIG.parent):
        for path in [root, *root.rglob("*")] if root.exists() else []:
            if home / ".kube/cache" in [path, *path.parents]:
                continue  # what kubectl and Helm remember of the clusters that somebody asks now
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            paths.add(f"{path} {path.stat().st_mode:o} {content}")
    running = podman("ps", "--quiet", "--no-trunc").split()
    mounts = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {
        "kernel settings": settings,
        "files": paths,
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        "routes": lines("ip", "route", "show", "table", "all"),
        "nftables": lines("nft", "list", "ruleset"),
        "iptables": lines("iptables-save"),
        "mounts": {f"{fields[4]} {fields[-2]}" for fields in mounts},
        "control groups": {folder for folder, _, _ in os.walk("/sys/fs/cgroup") if not any(other in folder for other in running)},
        "containers": lines("podman", "ps", "--all", "--format", "{{.Names}}"),
        "networks": lines("podman", "network", "ls", "--format", "{{.Name}}"),
        "volumes": lines("podman", "volume", "ls", "--format", "{{.Name}}"),
        "listeners": {line for line in lines("ss", "-Hltn") if f":{PORT} " in line},
    }


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
    return host(alone=not others())


def test_check_mode_on_nothing_makes_nothing(own: Own) -> None:
    assert own.run("--check").changed == 1
    now = host(alone=False)
    for aspect in ("containers", "networks", "volumes", "files"):
        assert not {line for line in now[aspect] if NAME in line}


def test_converge_makes_a_cluster(own: Own) -> None:
    assert own.run().changed == 1
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
    started = podman("container", "inspect", "--format", "{{.State.StartedAt}}", NODE)
    assert own.run().changed == 0
    assert own.run("--check").changed == 0
    assert podman("container", "inspect", "--format", "{{.State.StartedAt}}", NODE) == started


def test_metrics_are_served_on_the_nodes_network_alone(own: Own) -> None:
    context = ssl._create_unverified_context()
    for url in (f"http://{NETWORK}.2:10249/metrics", f"http://{NETWORK}.2:2381/metrics"):
        with urllib.request.urlopen(url, timeout=5) as reply:
            assert b"process_start_time_seconds" in reply.read()
    for port in (10257, 10259):
        with pytest.raises(urllib.error.HTTPError, match="403"):  # it answers, and wants a token
            urllib.request.urlopen(f"https://{NETWORK}.2:{port}/metrics", context=context, timeout=5)
    assert podman("port", NODE).split() == ["6443/tcp", "->", f"127.0.0.1:{PORT}"]


def test_removed_kubeconfig_is_written_again(own: Own) -> None:
    text, started = KUBECONFIG.read_text(), podman("container", "inspect", "--format", "{{.State.StartedAt}}", NODE)
    KUBECONFIG.unlink()
    assert own.run("--check").changed == 1
    assert not KUBECONFIG.exists()
    assert own.run().changed == 1
    assert KUBECONFIG.read_text() == text and KUBECONFIG.stat().st_mode & 0o777 == 0o600
    assert podman("container", "inspect", "--format", "{{.State.StartedAt}}", NODE) == started


def test_killed_container_comes_back(own: Own) -> None:
    KUBECONFIG.chmod(0o644)
    podman("kill", NODE)
    assert own.run().changed == 1
    own.connect()
    assert own.read() == own.uids
    assert KUBECONFIG.stat().st_mode & 0o777 == 0o600


def test_node_whose_processes_were_all_killed_comes_back(own: Own) -> None:
    """As after a machine's hard stop; podman may go on saying that the container is up."""
    monitor = int(podman("container", "inspect", "--format", "{{.State.ConmonPid}}", NODE))
    found = pids()
    assert monitor in found and len(found) > 10
    for pid in (monitor, *(found - {monitor})):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert own.run().changed == 1
    own.connect()
    assert own.read() == own.uids


def test_absent_leaves_the_host_as_it_was(own: Own, before: dict[str, set[str]]) -> None:
    running = pids()
    assert own.absent().changed == 1
    assert own.absent().changed == 0
    assert not KUBECONFIG.parent.exists()
    assert not {pid for pid in running if Path(f"/proc/{pid}").exists()}
    difference: dict[str, set[str]] = {}

    def same() -> bool:
        now = host(alone=not others())
        difference.clear()
        # Where somebody made or removed another cluster meanwhile, only what bears our name or addresses is judged.
        foreign = now["volumes"] ^ before["volumes"] != set()
        for name in before:
            lines = before[name] ^ now[name]
            if found := {line for line in lines if not foreign or re.search(rf"{NAME}|{re.escape(NETWORK)}\.|:{PORT}\b", line)}:
                difference[name] = found
        return not difference

    # What others do on this machine meanwhile passes; what we had left would stay.
    assert wait_until(same, 15), difference


def test_neighbour_was_not_disturbed(neighbour: Neighbour | None) -> None:
    if neighbour is None:
        pytest.skip("CLUSTER_KUBECONFIG names no other cluster: run by `molecule test` to have one beside this one.")
    assert neighbour.asked > 20
    assert neighbour.errors == []
