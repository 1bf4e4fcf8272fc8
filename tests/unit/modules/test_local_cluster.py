# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What local_cluster refuses before it changes anything, and when it takes a node for settled; no test makes a cluster."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from copy import deepcopy
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.flaskops.observability.plugins.module_utils.node import cluster as cluster_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import host as host_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import node as node_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import options as options_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import registry_mirrors
from ansible_collections.flaskops.observability.plugins.module_utils.node import settled as settled_module
from ansible_collections.flaskops.observability.plugins.module_utils.node.cluster import LocalCluster
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import LABEL, Engine, EngineError
from ansible_collections.flaskops.observability.plugins.module_utils.node.node import Node
from ansible_collections.flaskops.observability.plugins.modules import local_cluster

from tests.evaluation import evaluate

ROOT = Path(__file__).resolve().parents[3]
NAME = f"flaskops-test-{os.getpid()}"
FREE = "10.231.77.0/24"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(**params: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"name": NAME, "files": str(tmp_path), "kubeconfig": str(tmp_path / "kubeconfig"), "subnet": FREE}
        given |= {"api_port": free_port(), "versions": {"kubernetes": "1.0.0"}, "_ansible_check_mode": True}
        with patch_module_args(given | params), pytest.raises(SystemExit):
            local_cluster.main()
        done: dict[str, Any] = json.loads(capsys.readouterr().out)
        return done

    return call


class Refused:
    """What every command answers: nothing is there, and the machine has one route."""

    returncode = 1
    stderr = b"no such object"
    stdout = "default via 10.77.0.1 dev eth0\n10.77.0.0/16 dev eth0 proto kernel scope link \n"


class Empty:
    """What a list of objects answers."""

    returncode, stdout, stderr = 0, b"", b""


@pytest.fixture
def no_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that has no container, volume, network or image, on a machine with one route."""
    monkeypatch.setattr(Engine, "find", classmethod(lambda cls, *args, **kwargs: cls("podman", "podman", {})))
    monkeypatch.setattr(options_module.subprocess, "run", lambda args, **kwargs: Empty if {"ls", "ps"} & {*args} else Refused)
    monkeypatch.setattr(cluster_module, "machine", lambda engine, build: deepcopy(FIT))
    monkeypatch.setattr(cluster_module, "dropped", lambda engine, subnet: "")
    monkeypatch.setattr(LocalCluster, "_ask", lambda self, kubeconfig, path: {"items": []})


ADMIN_CONF = f"clusters: [{{name: {NAME}}}]\n".encode()
RUNNING = {"State": {"Running": True, "StartedAt": "2026-01-01T12:00:00.600762489Z"}, "Labels": {LABEL: NAME}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("subnet", ["nonsense", "10.89.240.7/24", "10.89.0.0/16", "8.8.8.0/24", "fd00::/24"])
def test_bad_subnet(run: Any, subnet: str) -> None:
    done = run(subnet=subnet)
    assert done["msg"].startswith(f"The subnet {subnet} can't be used (")
    assert done["msg"].endswith("name a private /24 network.")


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_port_out_of_range(run: Any, port: int) -> None:
    assert run(api_port=port)["msg"] == f"The api_port {port} is no port: choose one from 1 to 65535."


@pytest.mark.usefixtures("no_objects")
@pytest.mark.parametrize("name", ["my_cluster", "My", "a..b", "-a", "a-", "1\n", "a" * 55, ""])
def test_a_name_that_no_node_can_have(run: Any, name: str) -> None:
    """kubeadm refuses it, but after the programs were built, and a network and a volume made."""
    message = run(name=name)["msg"]
    assert message.startswith(f"The name '{name}' can't be used") and "54" in message
    # What an earlier version left of such a cluster can be removed.
    assert "msg" not in run(name=name, state="absent")


@pytest.mark.usefixtures("no_objects")
@pytest.mark.parametrize("name", ["a", "shop-2", "2", "lab.shop", "a" * 54])
def test_a_name_that_nodes_can_have(run: Any, name: str) -> None:
    assert run(name=name)["changed"]


@pytest.mark.usefixtures("no_objects")
def test_free_name_port_and_subnet_pass(run: Any) -> None:
    done = run()
    assert done["changed"] and done["actions"][-1] == f"make the cluster {NAME}"


@pytest.mark.usefixtures("no_objects")
def test_a_network_that_is_cut_off_is_warned_of(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "dropped", lambda engine, subnet: f"{subnet} is cut off")
    said: list[str] = []
    monkeypatch.setattr(local_cluster.AnsibleModule, "warn", lambda self, text: said.append(text))
    run()
    assert said == [f"{FREE} is cut off"]


@pytest.mark.usefixtures("no_objects")
def test_taken_port(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(api_port=port)["msg"] == f"Port {port} of 127.0.0.1 is taken: choose another 'api_port'."


@pytest.mark.usefixtures("no_objects")
def test_overlapping_subnet(run: Any) -> None:
    assert run(subnet="10.77.7.0/24")["msg"] == (
        "The address range 10.77.7.0/24 overlaps the route '10.77.0.0/16 dev eth0 proto kernel scope link':"
        " choose another 'subnet'."
    )


@pytest.mark.usefixtures("no_objects")
@pytest.mark.parametrize(("subnet", "kind"), [("10.244.7.0/24", "pods"), ("10.98.0.0/24", "Services")])
def test_subnet_that_the_cluster_uses_itself(run: Any, subnet: str, kind: str) -> None:
    """The node could be reached from this machine, and not from its own pods."""
    assert f"{subnet} is in that of the {kind}, {options_module.INSIDE[kind]}: choose" in run(subnet=subnet)["msg"]


@pytest.mark.usefixtures("no_objects")
@pytest.mark.parametrize(
    "network", [{"subnets": [{"subnet": FREE, "gateway": "10.231.77.1"}]}, {"IPAM": {"Config": [{"Subnet": FREE}]}}]
)
def test_another_subnet_than_the_cluster_has(run: Any, monkeypatch: pytest.MonkeyPatch, network: dict[str, Any]) -> None:
    """A node would get an address of another network, and one that runs would be asked at an address that it has not."""
    there = {"network": {**network, "Labels": {LABEL: NAME}}}
    monkeypatch.setattr(Engine, "inspect", lambda self, kind, name: there.get(kind))
    done = run(subnet="10.231.78.0/24")
    assert done["failed"] and done["msg"].startswith(f"The cluster {NAME} has the subnet {FREE}, ")
    assert not run().get("failed")


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_volume_of_somebody_else(run: Any) -> None:
    engine = Engine.find("podman")
    engine.run(["volume", "create", f"{NAME}-data"])
    try:
        assert run(engine="podman")["msg"] == f"The volume '{NAME}-data' exists and is not ours: choose another 'name'."
        assert run(engine="podman", state="absent")["actions"] == []
    finally:
        subprocess.run([engine.path, "volume", "rm", f"{NAME}-data"], env=engine.env, check=True, capture_output=True)


# What a machine has that can run a node.
FIT: dict[str, Any] = {
    "root": True,
    "arch": "x86_64",
    "kernel": "6.1.0-28-amd64",
    "modules": [],
    "controllers": {"cpu", "cpuset", "memory", "pids"},
    "memory": 4000,
    "inotify": (40, 128),
    "engine": "",
    "folder": "/var/lib/containers/storage",
    "disk": 20,
    "packages": [],
    "base": [],
}
UNFIT = {
    "root": (False, "the rights of root"),
    "arch": ("s390x", "a processor of type x86_64 or aarch64 (has s390x)"),
    "kernel": ("5.4.0-generic", "Linux 5.13 or newer (has 5.4.0-generic)"),
    "modules": (["br_netfilter", "overlay"], "the kernel module br_netfilter; the kernel module overlay"),
    "controllers": ({"cpu", "pids"}, "the cgroup controller memory"),
    "memory": (700, "1536 MiB of available memory (has 700)"),
    "inotify": (
        (100, 128),
        "32 free inotify instances (has 28: raise the sysctl fs.inotify.max_user_instances of 128)",
    ),
    "disk": (1, "4 GiB of free space in /var/lib/containers/storage (has 1)"),
    "packages": (["iptables", "iproute2"], "the packages iptables, iproute2"),
    "base": (
        ["mmdebstrap"],
        "a Debian for the node: the image docker.io/library/debian:bookworm-slim, or the packages mmdebstrap",
    ),
}


def test_a_fit_machine_lacks_nothing() -> None:
    assert host_module.lacks(FIT, build=True) == []


@pytest.mark.parametrize("fact", UNFIT)
def test_each_lack_is_named(fact: str) -> None:
    value, words = UNFIT[fact]
    assert "; ".join(host_module.lacks({**FIT, fact: value}, build=True)) == words


def test_no_space_is_needed_for_an_image_that_is_there() -> None:
    assert host_module.lacks({**FIT, "disk": 1}, build=False) == []


@pytest.mark.usefixtures("no_objects")
def test_all_lacks_are_named_together(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {fact: value for fact, (value, _) in UNFIT.items()}
    monkeypatch.setattr(cluster_module, "machine", lambda engine, build: {**FIT, **found})
    wanted = "; ".join(words for _, words in UNFIT.values())
    # Not in check mode either: what is missing is found before the first change.
    for check in (True, False):
        done = run(_ansible_check_mode=check)
        assert done["failed"] and done["actions"] == []
        assert done["msg"] == f"This machine lacks what a node needs, so nothing was changed: {wanted}."
    assert list(tmp_path.iterdir()) == []


def test_no_engine(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(host_module, "PLACES", ())
    monkeypatch.setattr(host_module.os, "geteuid", lambda: 1000)
    message = run()["msg"]
    assert message.startswith("This machine lacks what a node needs, so nothing was changed: the rights of root; ")
    assert "a container engine (podman is not installed; docker is not installed)" in message
    assert "; the packages ip; a Debian for the node: " in message
    assert "mmdebstrap" in message
    assert run(state="absent")["msg"].startswith("No container engine can be used (podman is not installed; docker")


def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control plane that has its pods where they belong."""
    monkeypatch.setattr(LocalCluster, "_lost", lambda self, kubeconfig: [])
    monkeypatch.setattr(LocalCluster, "_misplaced", lambda self, kubeconfig: False)


FOREIGN = "clusters: [{name: mine, cluster: {server: 'https://10.0.0.1:6443'}}]\n"


@pytest.mark.usefixtures("no_objects")
@pytest.mark.parametrize("text", [FOREIGN, "not a kubeconfig"])
def test_kubeconfig_of_somebody_else(run: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    assert run(_ansible_check_mode=False)["msg"] == (
        f"The file {path} is not the kubeconfig of {NAME}: name another 'kubeconfig'."
    )
    assert run(state="absent", _ansible_check_mode=False)["actions"] == []
    assert path.read_text() == text


@pytest.mark.usefixtures("no_objects")
def test_kubeconfig_of_a_living_cluster_is_kept_right(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node that answers is not started again for it."""
    answering(monkeypatch)
    path, text = tmp_path / "kubeconfig", f"clusters: [{{name: {NAME}}}]\n"
    monkeypatch.setattr(LocalCluster, "_node_kubeconfig", lambda self: text)
    monkeypatch.setattr(LocalCluster, "_answers", lambda self, kubeconfig, seconds: kubeconfig == text)
    monkeypatch.setattr(LocalCluster, "_settle", lambda self, kubeconfig: None)

    def missing() -> None:
        path.unlink(missing_ok=True)

    for drift in (missing, lambda: path.chmod(0o644), lambda: path.write_text(text + "# by hand\n"), lambda: path.write_text("")):
        drift()
        before = (path.read_text(), path.stat().st_mode) if path.exists() else None
        assert run()["actions"] == [f"write {path}"]
        assert before == ((path.read_text(), path.stat().st_mode) if path.exists() else None)
        assert run(_ansible_check_mode=False)["actions"] == [f"write {path}"]
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o600)
        assert run(_ansible_check_mode=False)["actions"] == []
    assert [each.name for each in tmp_path.iterdir()] == ["kubeconfig"]


@pytest.mark.parametrize(("others", "after"), [([], "7\n"), (["another-data"], "1\n")])
def test_sysctls_are_put_back_with_the_last_cluster(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, others: list[str], after: str
) -> None:
    """The values from before are labels of the volume."""
    for key in cluster_module.SYSCTLS:
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_text("1\n")
    labels = {LABEL: NAME} | {f"{LABEL}.{key}": "7\n" for key in cluster_module.SYSCTLS}

    class Fake(Engine):
        def run(self, args: list[str], **kwargs: Any) -> Any:
            # The other cluster is docker's, ours is podman's.
            listed = "\n".join(others).encode() if args[1] == "ls" and self.name == "docker" else b""
            return subprocess.CompletedProcess(args, 0, listed, b"")

        def labels(self, kind: str, name: str) -> dict[str, str] | None:
            return labels if kind == "volume" else None

    def find(cls: Any, name: str, **kwargs: Any) -> Engine:
        return Fake("podman" if name == "auto" else name, name, {})

    monkeypatch.setattr(cluster_module.Engine, "find", classmethod(find))
    monkeypatch.setattr(cluster_module, "PROC_SYS", tmp_path)
    assert run(state="absent", _ansible_check_mode=False)["changed"]
    assert {(tmp_path / key).read_text() for key in cluster_module.SYSCTLS} == {after}


def test_who_may_not_put_the_kernel_back_removes_nothing(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A member of the group docker may remove the volume, which alone knows the values from before."""
    removed: list[list[str]] = []

    class Fake(Engine):
        def run(self, args: list[str], **kwargs: Any) -> Any:
            removed.extend([args] if "rm" in args else [])
            return subprocess.CompletedProcess(args, 0, b"", b"")

        def labels(self, kind: str, name: str) -> dict[str, str] | None:
            return {LABEL: NAME} | {f"{LABEL}.{key}": "7\n" for key in cluster_module.SYSCTLS} if kind == "volume" else None

    def denied(self: Path, text: str) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(cluster_module.Engine, "find", classmethod(lambda cls, *args, **kwargs: Fake("docker", "docker", {})))
    monkeypatch.setattr(cluster_module, "PROC_SYS", tmp_path)
    monkeypatch.setattr(cluster_module.Path, "write_text", denied)
    monkeypatch.setattr(cluster_module.os, "geteuid", lambda: 1000)
    for check in (False, True):
        done = run(state="absent", _ansible_check_mode=check)
        assert removed == []
        assert f"The cluster {NAME} " in done["msg"] and "root" in done["msg"]


@pytest.mark.usefixtures("no_objects")
def test_who_can_not_see_roots_clusters_is_told_so(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own podman knows nothing of root's, whose cluster may run on."""
    said: list[str] = []
    monkeypatch.setattr(local_cluster.AnsibleModule, "warn", lambda self, text: said.append(text))
    for user in (0, 1000):
        monkeypatch.setattr(cluster_module.os, "geteuid", lambda user=user: user)
        assert not run(state="absent", _ansible_check_mode=False)["changed"]
    assert len(said) == 1 and "root" in said[0] and NAME in said[0]


@pytest.mark.usefixtures("no_objects")
def test_a_cluster_that_kubeadm_did_not_finish_is_made_again(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its API server answers, as /readyz asks for no rights."""

    def exec_in_node(self: Engine, args: list[str], *_: Any, **__: Any) -> Any:
        # As in the node: the mark of bootstrap.sh is missing, admin.conf is there.
        if "/var/lib/flaskops/initialised" in args[-1]:
            raise EngineError("failed with status 1")
        return subprocess.CompletedProcess(args, 0, ADMIN_CONF, b"")

    monkeypatch.setattr(Engine, "run", exec_in_node)
    monkeypatch.setattr(Engine, "inspect", lambda self, kind, name: RUNNING)
    monkeypatch.setattr(LocalCluster, "_answers", lambda self, kubeconfig, seconds: True)
    assert run()["actions"][-1] == f"bring back the cluster {NAME}"


def no_log(self: Node, *words: str, text: str = "") -> str:
    raise EngineError("tail: cannot open the log")


@pytest.mark.usefixtures("no_objects")
@pytest.mark.parametrize("execute", [lambda self, *words, text="": "", no_log])
def test_a_cluster_that_answers_and_does_not_work_is_named(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, execute: Any
) -> None:
    (tmp_path / "kubeconfig").write_text(f"clusters: [{{name: {NAME}}}]\n")
    answering(monkeypatch)
    asked: list[datetime] = []

    def unsettled(self: LocalCluster, api: Any, started: dict[str, datetime]) -> list[str]:
        asked.append(started[f"{NAME}-node"])
        return ["the Deployment kube-system/coredns"]

    monkeypatch.setattr(Engine, "inspect", lambda self, kind, name: RUNNING)
    monkeypatch.setattr(LocalCluster, "_answers", lambda self, kubeconfig, seconds: True)
    monkeypatch.setattr(LocalCluster, "_connect", lambda self, kubeconfig: None)
    monkeypatch.setattr(Node, "exec", execute)
    monkeypatch.setattr(LocalCluster, "_unsettled", unsettled)
    monkeypatch.setattr(registry_mirrors, "differ", lambda engine, node, wanted: False)
    done = run(_ansible_check_mode=False, wait_timeout=0)
    assert "still waits for the Deployment kube-system/coredns after 0 s" in done["msg"]
    assert asked[0] == datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("engine", "here", "given", "warnings"),
    [
        ("docker", "10.0.0.53", "10.0.0.53", 0),
        ("docker", "127.0.0.53", "10.0.0.53", 0),
        ("docker", "127.0.0.1", "8.8.8.8", 1),
        ("podman", "127.0.0.1", "8.8.8.8", 1),
        ("podman", "10.0.0.53", "10.0.0.53", 0),
        ("docker", "8.8.8.8", "8.8.8.8", 0),
    ],
)
def test_pods_get_name_servers_that_they_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, here: str, given: str, warnings: int
) -> None:
    """With docker those of its default network, instead of the one on the node's own loopback."""
    written: list[tuple[str, ...]] = []
    own = given if engine == "podman" else "127.0.0.11"

    class Fake(Engine):
        def run(self, args: list[str], input: bytes | None = None, timeout: float | None = None) -> Any:
            if "tee" in args:
                written.append((args[-1], (input or b"").decode()))
            text = given if args[0] == "run" else own
            return subprocess.CompletedProcess(args, 0, f"nameserver {text}\noptions ndots:0\n".encode(), b"")

        def inspect(self, kind: str, name: str) -> None:
            return None

    (tmp_path / "resolv.conf").write_text(f"search lan\nnameserver {here}\n")
    monkeypatch.setattr(Engine, "find", classmethod(lambda cls, *args, **kwargs: Fake(engine, engine, {})))
    monkeypatch.setattr(node_module, "RESOLV_CONF", tmp_path / "resolv.conf")
    warning = Node(Engine.find(), NAME, f"{NAME}-node", f"{NAME}-data", IPv4Address("10.0.0.2"), 1).give_name_servers("node:1")
    expected = [("/etc/resolv.conf", f"nameserver {given}\noptions ndots:0\n")] if engine == "docker" else []
    assert (written, bool(warning)) == (expected, bool(warnings))


STARTED = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
BEFORE, AFTER = "2026-01-01T11:59:59Z", "2026-01-01T12:00:03Z"


def settled() -> settled_module.Objects:
    """The lists of a cluster with CoreDNS and one application, all of it after the start."""
    ready = [{"type": "Ready", "status": "True", "lastHeartbeatTime": AFTER}]

    def pod(name: str, namespace: str, ip: str) -> dict[str, Any]:
        return {
            "metadata": {"uid": f"pod-{name}", "name": name, "namespace": namespace, "ownerReferences": [{"uid": f"rs-{name}"}]},
            "spec": {"nodeName": "n-node"},
            "status": {
                "conditions": ready,
                "podIPs": [{"ip": ip}],
                "containerStatuses": [{"state": {"running": {"startedAt": AFTER}}}, {"state": {"waiting": {}}}],
            },
        }

    def owned(kind: str, name: str, namespace: str, owners: list[dict[str, str]]) -> dict[str, Any]:
        meta = {"uid": f"{kind}-{name}", "name": name, "namespace": namespace, "ownerReferences": owners}
        return {"metadata": meta, "status": {"readyReplicas": 1}}

    both = (("coredns", "kube-system", "10.244.0.2"), ("app", "web", "10.244.0.3"))
    return {
        "Node": [{"metadata": {"name": "n-node"}, "spec": {}, "status": {"conditions": ready}}],
        "Pod": [pod(*each) for each in both],
        "ReplicaSet": [owned("rs", name, space, [{"uid": f"deploy-{name}"}]) for name, space, _ in both],
        "Deployment": [owned("deploy", name, space, []) for name, space, _ in both],
        "StatefulSet": [],
        "DaemonSet": [],
        "EndpointSlice": [
            {
                "metadata": {"name": "app-1", "namespace": "web"},
                "endpoints": [
                    {"addresses": ["10.244.0.3"], "conditions": {"serving": True}, "targetRef": {"uid": "pod-app"}},
                ],
            },
            {"metadata": {"name": "empty", "namespace": "web"}, "endpoints": None},
        ],
        "Service": [],
    }


def test_a_settled_cluster_has_nothing_stale() -> None:
    assert settled_module.stale(settled(), {"n-node": STARTED}) == []


def node_of_before(objects: settled_module.Objects) -> None:
    objects["Node"][0]["status"]["conditions"][0] = {"type": "Ready", "status": "True", "lastHeartbeatTime": BEFORE}


def node_that_still_evicts(objects: settled_module.Objects) -> None:
    """It is ready again, and the taint that keeps new pods away has gone."""
    objects["Node"][0]["spec"]["taints"] = [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]


def pod_of_before(objects: settled_module.Objects) -> None:
    objects["Pod"][1]["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = BEFORE


def pod_not_ready_yet(objects: settled_module.Objects) -> None:
    """kubelet has told so, the controllers have not heard."""
    objects["Pod"][1]["status"]["conditions"] = [{"type": "Ready", "status": "False"}]


def deployment_of_before(objects: settled_module.Objects) -> None:
    objects["Deployment"][1]["status"]["readyReplicas"] = 2


def pod_with_new_address(objects: settled_module.Objects) -> None:
    objects["Pod"][1]["status"]["podIPs"] = [{"ip": "10.244.0.9"}]


def pod_gone(objects: settled_module.Objects) -> None:
    del objects["Pod"][1]
    for kind in ("ReplicaSet", "Deployment"):
        objects[kind][1]["status"] = {}


def no_dns(objects: settled_module.Objects) -> None:
    objects["Pod"][0]["status"]["conditions"] = []
    for kind in ("ReplicaSet", "Deployment"):
        objects[kind][0]["status"] = {}


@pytest.mark.parametrize(
    ("change", "late"),
    [
        (node_of_before, ["the node n-node"]),
        (node_that_still_evicts, ["the taint node.kubernetes.io/not-ready of the node n-node"]),
        (pod_of_before, ["the pod web/app"]),
        (pod_not_ready_yet, ["the ReplicaSet web/app", "the EndpointSlice web/app-1"]),
        (deployment_of_before, ["the Deployment web/app"]),
        (pod_with_new_address, ["the EndpointSlice web/app-1"]),
        (pod_gone, ["the EndpointSlice web/app-1"]),
        (no_dns, ["the Deployment kube-system/coredns"]),
    ],
)
def test_what_is_from_before_the_start_is_named(change: Any, late: list[str]) -> None:
    objects = settled()
    change(objects)
    assert settled_module.stale(objects, {"n-node": STARTED}) == late


def test_pods_of_other_nodes_are_not_waited_for() -> None:
    objects = settled()
    pod_of_before(objects)
    objects["Pod"][1]["spec"]["nodeName"] = "fake-1"
    assert settled_module.stale(objects, {"n-node": STARTED}) == []


@pytest.mark.parametrize(
    ("queued", "last", "done"), [("1.79e+09", "1.79e+09", True), ("1.80e+09", "1.79e+09", False), ("0", "0", False)]
)
def test_kube_proxy_is_synced_when_its_last_queued_rules_are_written(queued: str, last: str, done: bool) -> None:
    name = "kubeproxy_sync_proxy_rules_last"
    metrics = f'# HELP {name}\n{name}_queued_timestamp_seconds{{ip_family="IPv4"}} {queued}\n'
    metrics += f'{name}_timestamp_seconds{{ip_family="IPv4"}} {last}\n{name}_timestamp_seconds{{ip_family="IPv6"}} 9e+09\n'
    assert settled_module.synced(metrics) is done
    assert not settled_module.synced("")


@pytest.mark.usefixtures("no_objects")
@pytest.mark.parametrize("check", [True, False])
def test_changed_mirrors_reach_a_cluster_that_runs(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, check: bool
) -> None:
    (tmp_path / "kubeconfig").write_text(f"clusters: [{{name: {NAME}}}]\n")
    (tmp_path / "kubeconfig").chmod(0o600)
    written: list[dict[str, bytes]] = []
    monkeypatch.setattr(Engine, "inspect", lambda self, kind, name: RUNNING)
    monkeypatch.setattr(LocalCluster, "_answers", lambda self, kubeconfig, seconds: True)
    monkeypatch.setattr(LocalCluster, "_settle", lambda self, kubeconfig: None)
    monkeypatch.setattr(LocalCluster, "_lost", lambda self, kubeconfig: [])
    monkeypatch.setattr(LocalCluster, "_misplaced", lambda self, kubeconfig: False)
    monkeypatch.setattr(registry_mirrors, "differ", lambda engine, node, wanted: wanted not in written)
    monkeypatch.setattr(registry_mirrors, "write", lambda engine, node, wanted: written.append(wanted))
    mirrors = [{"registry": "docker.io", "endpoint": "https://r.test", "username": "u", "password": "s3cr3t"}]
    done = run(registry_mirrors=mirrors, _ansible_check_mode=check)
    assert done["changed"] and done["actions"] == [f"write the registry mirrors of {NAME}-node"]
    assert "s3cr3t" not in json.dumps(done)
    assert [set(files) for files in written] == ([] if check else [{"docker.io/hosts.toml"}])
    assert check or not run(registry_mirrors=mirrors, _ansible_check_mode=False)["changed"]


@pytest.mark.usefixtures("no_objects")
def test_a_mirror_on_loopback_is_refused_with_the_address_that_a_node_reaches(run: Any) -> None:
    done = run(registry_mirrors=[{"registry": "docker.io", "endpoint": "http://127.0.0.1:5000"}])
    assert done["failed"] and "listen on 10.231.77.1" in done["msg"] and done["actions"] == []


def test_additions_are_marked_as_ours_and_are_what_tells_so(tmp_path: Path) -> None:
    """What a later run knows them by, and their programs' images."""
    lookup = "lookup('ansible.builtin.template', item.name ~ '.yml.j2', template_vars={'addition': item}) | from_yaml_all"
    made = {str(number): lookup.replace("item", f"__local_cluster_additions[{number}]") + " | list" for number in range(2)}
    given = {"local_cluster_ingress": True}
    found = evaluate(tmp_path, {"additions": "__local_cluster_additions", **made}, given, ROOT / "roles/local_cluster")
    assert [addition["wanted"] for addition in found["additions"]] == [False, True]
    for number, addition in enumerate(found["additions"]):
        objects = {item["kind"]: item for item in found[str(number)]}
        assert {item["metadata"]["labels"]["app.kubernetes.io/managed-by"] for item in found[str(number)]} == {"flaskops"}
        assert objects[addition["sign"]["kind"]]["metadata"]["name"] == addition["sign"]["metadata"]["name"]
        spec = objects["Deployment"]["spec"]
        assert [container["image"] for container in spec["template"]["spec"]["containers"]] == [addition["image"]]
        for selector in (spec["selector"]["matchLabels"], objects["Service"]["spec"]["selector"]):
            assert selector.items() <= spec["template"]["metadata"]["labels"].items()
