# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of several nodes: what is made, joined, brought back and removed, on an engine that remembers what it was told."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.image import deliver
from ansible_collections.flaskops.observability.plugins.module_utils.node import cluster as cluster_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import engine as engine_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import host as host_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import images as images_module
from ansible_collections.flaskops.observability.plugins.module_utils.node import node as node_module
from ansible_collections.flaskops.observability.plugins.module_utils.node.cluster import LocalCluster
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import (
    LABEL,
    Engine,
    EngineError,
    SlowEngineError,
)
from ansible_collections.flaskops.observability.plugins.module_utils.node.given_images import import_archive
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import ImageError, NodeImages
from ansible_collections.flaskops.observability.plugins.module_utils.node.node import ClusterError

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "abcdef.0123456789abcdef"
CONFIG = yaml.safe_dump(
    {"clusters": [{"name": "c", "cluster": {"certificate-authority-data": base64.b64encode(b"authority").decode()}}]}
)
MARK = LocalCluster._mark(CONFIG)
READY, LOST = [{"type": "Ready", "status": "True"}], [{"type": "Ready", "status": "Unknown"}]


class Machine(Engine):
    """An engine, with the cluster that its nodes would make."""

    def __init__(self) -> None:
        super().__init__("podman", "podman", {})
        self.calls: list[tuple[list[str], str]] = []
        self.running: dict[str, str] = {}  # container: image
        self.marks: dict[str, str] = {}  # volume: mark
        self.nodes_of_api: dict[str, list[dict[str, str]]] = {}
        self.tainted = True
        self.failing: tuple[str, str] = ("", "")

    def run(self, args: list[str], input: bytes | None = None, timeout: float | None = None) -> Any:
        self.calls.append((args, (input or b"").decode()))
        words, printed = " ".join(args), ""
        if self.failing[0] and self.failing[0] in words:
            raise EngineError(self.failing[1])
        if args[0] == "run":
            self.running[args[args.index("--name") + 1]] = args[-1]
        elif args[:2] == ["container", "ls"]:
            printed = "\n".join(self.running)
        elif args[:2] == ["volume", "ls"]:
            printed = "\n".join(self.marks)
        elif args[:2] == ["volume", "create"]:
            self.marks[args[-1]] = ""
        elif args[:2] == ["volume", "rm"]:
            del self.marks[args[-1]]
        elif args[0] == "exec":
            printed = self.in_node([word for word in args[1:] if word != "--interactive"])
        return subprocess.CompletedProcess(args, 0, printed.encode(), b"")

    def in_node(self, words: list[str]) -> str:
        node, command = words[0], " ".join(words[1:])
        if node not in self.running:
            raise EngineError(f"no container {node}")
        volume = "c-data" if node == "c-node" else f"{node}-data"
        if command == "cat /var/lib/flaskops/initialised" and not self.marks[volume]:
            raise EngineError("no such file")
        if command == "cat /var/lib/flaskops/initialised":
            return f"{self.marks[volume]}\n"
        if command.startswith("bootstrap.sh"):
            self.marks[volume], self.nodes_of_api[node] = "made", READY
        elif command.startswith("join.sh"):
            self.marks[volume], self.nodes_of_api[node] = words[-1], READY
        elif command.startswith("reserve.sh"):
            self.tainted = words[-1] == "yes"
        elif "delete node" in command:
            for name in words[1:]:
                self.nodes_of_api.pop(name, None)
        elif command.startswith("kubeadm token create"):
            return f"kubeadm join 10.0.0.2:6443 --token {TOKEN} --discovery-token-ca-cert-hash sha256:1234 \n"
        elif command == "cat /var/lib/flaskops/proxy.conf":
            return "access"
        return ""

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        there = name in (self.running if kind == "container" else self.marks if kind == "volume" else {"c"})
        state = {"Running": True, "StartedAt": "2026-01-01T12:00:00.6Z"}
        return {"Id": name, "State": state, "Labels": {LABEL: "c"}, "ImageName": self.running.get(name)} if there else None

    def image_exists(self, ref: str) -> bool:
        return True

    def fetch(self, path: str, seconds: float = 0) -> tuple[int, str]:
        """What the API server answers."""
        if path == "/api/v1/nodes":
            items = [{"metadata": {"name": name}, "status": {"conditions": told}} for name, told in self.nodes_of_api.items()]
            return 200, json.dumps({"items": items})
        if path == "/api/v1/nodes/c-node":
            return 200, json.dumps({"spec": {"taints": [{"key": cluster_module.TAINT}] if self.tainted else []}})
        selector = {cluster_module.TAINT: ""} if self.said("reserve.sh") or self.tainted else {}
        return 200, json.dumps({"spec": {"template": {"spec": {"nodeSelector": selector}}}})

    def said(self, words: str) -> list[str]:
        """The commands that have these words."""
        return [line for args, _ in self.calls if words in (line := " ".join(args))]

    def made(self, *workers: str) -> None:
        """A control plane and workers that run."""
        self.tainted = bool(workers)
        self.running = {"c-node": "localhost/flaskops/node:v1.0-0", **{name: "x" for name in workers}}
        self.marks = {"c-data": "made", **{f"{name}-data": MARK for name in workers}}
        self.nodes_of_api = dict.fromkeys(self.running, READY)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(Engine, "find", classmethod(lambda cls, *args, **kwargs: found))
    monkeypatch.setattr(node_module.subprocess, "run", lambda words, **kwargs: found.running.pop(words[-1], None))
    monkeypatch.setattr(node_module, "CGROUPS", Path("/nowhere"))
    monkeypatch.setattr(cluster_module, "PATIENCE", 0)
    monkeypatch.setattr(cluster_module, "MODULES", {"br_netfilter": Path("/")})
    monkeypatch.setattr(cluster_module, "dropped", lambda engine, subnet: "")
    monkeypatch.setattr(cluster_module, "machine", lambda engine, build: {})
    monkeypatch.setattr(cluster_module, "lacks", lambda *args: [])
    monkeypatch.setattr(cluster_module, "image_name", lambda params: "localhost/flaskops/node:v1.0-0")
    monkeypatch.setattr(LocalCluster, "check_free", lambda self: None)
    monkeypatch.setattr(LocalCluster, "_volumes", lambda self: [])
    monkeypatch.setattr(LocalCluster, "_connect", lambda self, kubeconfig: found)
    monkeypatch.setattr(
        LocalCluster, "_node_kubeconfig", lambda self: CONFIG if found.marks.get("c-data") and found.running else None
    )
    monkeypatch.setattr(LocalCluster, "_answers", lambda self, kubeconfig, seconds=0: "c-node" in found.running)
    monkeypatch.setattr(LocalCluster, "_unsettled", lambda self, read, started: [])
    monkeypatch.setattr(LocalCluster, "_unserved", staticmethod(lambda address: []))
    return found


@pytest.fixture
def cluster(machine: Machine, tmp_path: Path) -> Callable[..., list[str]]:
    def run(workers: int, check: bool = False, state: str = "present") -> list[str]:
        params = {"name": "c", "subnet": "10.0.0.0/24", "engine": "auto", "kubeconfig": str(tmp_path / "kubeconfig")}
        params |= {"api_port": 6443, "wait_timeout": 5, "files": str(ROOT / "roles/local_cluster/files"), "workers": workers}
        params |= {"registry_mirrors": []}
        params |= {"versions": {"kubernetes": "1.0", "etcd": "3", "coredns": "1"}, "binaries": {}}
        made = LocalCluster(params, check)
        machine.calls.clear()
        getattr(made, state)()
        return [action for action in made.actions if "kubeconfig" not in action]

    return run


def test_a_cluster_is_made_with_its_workers(machine: Machine, cluster: Any) -> None:
    wanted = ["make the cluster c", "add the worker c-worker-1", "add the worker c-worker-2"]
    assert cluster(2, check=True) == wanted and machine.running == {} and machine.marks == {}
    assert cluster(2) == wanted
    assert set(machine.running) == set(machine.nodes_of_api) == {"c-node", "c-worker-1", "c-worker-2"}
    assert machine.marks == {"c-data": "made", "c-worker-1-data": MARK, "c-worker-2-data": MARK}
    starts = {line.split()[3]: line for line in machine.said("run --detach")}
    assert {name: line.split("--ip ")[1].split()[0] for name, line in starts.items()} == {
        "c-node": "10.0.0.2",
        "c-worker-1": "10.0.0.3",
        "c-worker-2": "10.0.0.4",
    }
    assert "--publish" in starts["c-node"] and "--publish" not in starts["c-worker-1"]
    assert machine.tainted and cluster(2) == [] == cluster(2, check=True)


def test_a_proxy_is_for_registries_and_not_for_the_cluster(
    machine: Machine, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """podman would have kubelet and kubeadm ask the API server by it. Its password is in no argument."""
    for name in ("HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    cluster(1)
    assert not machine.said("--env")
    cluster(0, state="absent")
    monkeypatch.setenv("https_proxy", "http://ann:p4ss@proxy.test:3128")
    monkeypatch.setenv("no_proxy", "intra.test")
    cluster(1)
    for line, node in zip(sorted(machine.said("run --detach")), ("c-node", "c-worker-1"), strict=True):
        words = line.split()
        given = dict(word.partition("=")[::2] for flag, word in pairwise(words) if flag == "--env")
        assert node in words and given.pop("https_proxy") == "" and given["NO_PROXY"] == given.pop("no_proxy")
        direct = given.pop("NO_PROXY").split(",")
        assert {"intra.test", "10.0.0.0/24", "10.96.0.0/12", "10.244.0.0/16", "127.0.0.0/8", ".svc"} <= set(direct) and not given
    assert not machine.said("p4ss")
    for own in ("http://127.0.0.1:3128", "localhost:3128", "http://ann:p4ss@[::1]:3128"):
        cluster(0, state="absent")
        monkeypatch.setenv("https_proxy", own)
        cluster(0)
        assert len(machine.said("--env https_proxy= ")) == 1 and not machine.said("p4ss")


@pytest.mark.parametrize(("script", "words"), [("bootstrap.sh", ["10.0.0.2"]), ("join.sh", [MARK])])
def test_kubeadm_has_no_proxy(tmp_path: Path, script: str, words: list[str]) -> None:
    """It would write its address into the pods of the control plane, for all who read those; images are pulled before."""
    data, noted = tmp_path / "data", tmp_path / "noted"
    for folder in (data, tmp_path / "bin", tmp_path / "run"):
        folder.mkdir()
    for name in ("kubeadm", "kubectl", "supervisorctl", "prepare.sh"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $https_proxy" >> {noted}\n')
        (tmp_path / "bin" / name).chmod(0o755)
    text = (ROOT / "roles/local_cluster/files/node/scripts" / script).read_text()
    text = text.replace("/var/lib/flaskops", str(data)).replace("/run/", f"{tmp_path}/run/")
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "https_proxy": "http://ann:p4ss@proxy.test:3128"}
    subprocess.run(["bash", "-c", text, script, *words], input=b"", env=env, check=True)
    said = noted.read_text().splitlines()
    assert "kubeadm " in said and not any("p4ss" in line for line in said if not line.startswith("prepare.sh"))
    assert script == "join.sh" or "prepare.sh http://ann:p4ss@proxy.test:3128" in said


def test_the_token_is_in_no_argument_and_does_not_outlive_the_join(machine: Machine, cluster: Any) -> None:
    machine.made()
    cluster(1)
    assert not machine.said(TOKEN)
    (sent,) = [text for args, text in machine.calls if "join.sh" in args]
    join = yaml.safe_load(sent)
    assert join["discovery"]["bootstrapToken"]["token"] == TOKEN
    assert join["discovery"]["bootstrapToken"]["caCertHashes"] == ["sha256:1234"]
    assert join["nodeRegistration"]["name"] == "c-worker-1"
    # kubeadm's limits are ours here too.
    assert set(join["timeouts"].values()) == {"5s"} and {"kubernetesAPICall", "tlsBootstrap"} <= set(join["timeouts"])
    assert machine.said("kubeadm token create --ttl 15m") and machine.said("kubeadm token delete abcdef")


def test_a_join_that_fails_tells_no_token(machine: Machine, cluster: Any) -> None:
    machine.made()
    machine.failing = ("join.sh", f"'podman exec' failed with status 1: token {TOKEN} is unknown")
    with pytest.raises(ClusterError, match=r"c-worker-1 could not join the cluster c: .*status 1") as raised:
        cluster(1)
    assert TOKEN not in str(raised.value)
    assert machine.said("kubeadm token delete abcdef")
    machine.failing = ("", "")
    # What has begun is finished: its volume is there, and no mark on it.
    assert cluster(1)[0] == "bring back the worker c-worker-1" and machine.marks["c-worker-1-data"] == MARK
    assert machine.said("delete nodes --ignore-not-found c-worker-1")


def test_a_join_that_takes_too_long_says_what_to_raise(machine: Machine, cluster: Any) -> None:
    machine.made()
    machine.failing = ("join.sh", "'podman exec' failed with status 1: client rate limiter Wait: context deadline exceeded")
    with pytest.raises(ClusterError, match=r"could not join the cluster c within 5 s \(raise 'wait_timeout' .*deadline exceeded"):
        cluster(1)


def killed(machine: Machine) -> None:
    del machine.running["c-worker-1"]


def not_ready(machine: Machine) -> None:
    machine.nodes_of_api["c-worker-1"] = LOST


def unknown_to_the_api(machine: Machine) -> None:
    del machine.nodes_of_api["c-worker-1"]


@pytest.mark.parametrize("lose", [killed, not_ready, unknown_to_the_api])
def test_a_lost_worker_comes_back_with_its_volume(machine: Machine, cluster: Any, lose: Callable[[Machine], None]) -> None:
    machine.made("c-worker-1", "c-worker-2")
    lose(machine)
    assert cluster(2, check=True) == ["bring back the worker c-worker-1"]
    assert cluster(2) == ["bring back the worker c-worker-1"]
    assert [line.split()[3] for line in machine.said("run --detach")] == ["c-worker-1"]
    # It is the same node: nothing is made on its volume, and it needs no token.
    assert not machine.said("volume create") and not machine.said("token create")


def test_a_worker_of_another_cluster_is_joined_again(machine: Machine, cluster: Any) -> None:
    """A cluster that was made again has another certificate authority."""
    machine.made("c-worker-1")
    machine.marks["c-worker-1-data"] = "of before"
    assert cluster(1) == ["bring back the worker c-worker-1"]
    assert machine.marks["c-worker-1-data"] == MARK


def test_what_is_too_many_is_drained_and_removed(machine: Machine, cluster: Any) -> None:
    machine.made("c-worker-1", "c-worker-2")
    wanted = ["drain and remove the worker c-worker-1", "drain and remove the worker c-worker-2"]
    wanted.append("let ordinary pods on the control plane")
    assert cluster(0, check=True) == wanted and len(machine.running) == 3
    assert cluster(0) == wanted
    assert set(machine.running) == set(machine.nodes_of_api) == {"c-node"} and set(machine.marks) == {"c-data"}
    order = [
        each for line in machine.said("exec") for each in ("reserve.sh", "drain c-worker-1", "drain c-worker-2") if each in line
    ]
    assert order == ["reserve.sh", "drain c-worker-1", "drain c-worker-2"]
    assert cluster(0) == []


def test_a_worker_whose_pods_are_kept_stays(machine: Machine, cluster: Any) -> None:
    machine.made("c-worker-1")
    machine.failing = (" drain ", "failed: Cannot evict pod as it would violate the pod's disruption budget.")
    with pytest.raises(ClusterError, match=r"c-worker-1 could not be drained within \d+ s, so it stays: .*budget"):
        cluster(0)
    assert "c-worker-1" in machine.running and machine.said("uncordon c-worker-1")


def test_a_dead_worker_is_removed_without_a_drain(machine: Machine, cluster: Any) -> None:
    machine.made("c-worker-1")
    killed(machine)
    cluster(0)
    assert not machine.said(" drain ") and set(machine.marks) == {"c-data"} and set(machine.nodes_of_api) == {"c-node"}


def test_a_worker_that_somebody_removed_by_hand_is_no_node_any_more(machine: Machine, cluster: Any) -> None:
    """Its container and its volume are gone, and the cluster would have a lost node for ever."""
    machine.made("c-worker-1", "c-worker-2")
    machine.nodes_of_api["other-worker-3"] = LOST
    del machine.running["c-worker-2"], machine.marks["c-worker-2-data"]
    not_ready_too = {**machine.nodes_of_api, "c-worker-2": LOST}
    machine.nodes_of_api = not_ready_too
    assert cluster(1, check=True) == ["drain and remove the worker c-worker-2"]
    assert cluster(1) == ["drain and remove the worker c-worker-2"] and not machine.said(" drain ")
    assert set(machine.nodes_of_api) == {"c-node", "c-worker-1", "other-worker-3"}
    assert cluster(1) == []


def test_absent_removes_every_node(machine: Machine, cluster: Any) -> None:
    machine.made("c-worker-1", "c-worker-4")
    killed(machine)
    actions = cluster(0, state="absent")
    assert {"remove the container c-worker-4", "remove the volume c-worker-1-data", "remove the volume c-data"} <= set(actions)
    assert machine.running == {} == machine.marks


def test_a_control_plane_from_before_workers_comes_back_with_the_image_of_its_workers(machine: Machine, cluster: Any) -> None:
    machine.made()
    machine.running["c-node"], machine.failing = "localhost/flaskops/node:v1.0-1", ("test -e /usr/local/bin/join.sh", "no")
    assert cluster(1)[:2] == ["bring back the cluster c", "add the worker c-worker-1"]
    assert machine.running == dict.fromkeys(["c-node", "c-worker-1"], "localhost/flaskops/node:v1.0-0")


def test_a_worker_has_the_image_of_the_control_plane(machine: Machine, cluster: Any) -> None:
    machine.made()
    machine.running["c-node"] = "localhost/flaskops/node:v0.9-1"
    assert cluster(1)[0] == "add the worker c-worker-1"
    assert set(machine.running.values()) == {"localhost/flaskops/node:v0.9-1"}


def test_workers_that_run_join_a_control_plane_that_is_made_again(machine: Machine, cluster: Any) -> None:
    machine.made("c-worker-1")
    del machine.running["c-node"], machine.marks["c-data"]
    machine.marks["c-worker-1-data"] = "of before"
    assert cluster(1)[0] == "make the cluster c"
    assert machine.marks["c-worker-1-data"] == MARK


def test_a_worker_of_another_version_is_refused(machine: Machine, cluster: Any) -> None:
    machine.made()
    machine.running["c-node"], machine.failing = "localhost/flaskops/node:v0.9-0", ("test -e /usr/local/bin/join.sh", "no")
    with pytest.raises(ClusterError, match=r"Kubernetes 0\.9, and a worker would have 1\.0"):
        cluster(1)
    assert "c-worker-1" not in machine.running


def test_each_worker_needs_its_share_of_the_machine() -> None:
    base = {"root": True, "arch": "x86_64", "kernel": "6.1", "modules": [], "controllers": host_module.CONTROLLERS, "engine": ""}
    found = {**base, "folder": "/x", "packages": [], "base": []}
    enough = {"memory": host_module.MEMORY, "inotify": (0, host_module.INOTIFY), "disk": 0}
    assert host_module.lacks({**found, **enough}, build=False, volumes=0) == []
    for workers in (1, 2):
        memory, inotify = workers * host_module.WORKER_MEMORY, workers * host_module.WORKER_INOTIFY
        said = " ".join(host_module.lacks({**found, **enough}, False, True, workers, workers))
        assert f"{host_module.MEMORY + memory} MiB" in said and f"{host_module.INOTIFY + inotify} free inotify" in said
        assert f"{workers * host_module.VOLUME_DISK} GiB" in said
        room = {"memory": memory, "inotify": (0, inotify), "disk": workers * host_module.VOLUME_DISK}
        assert host_module.lacks({**found, **room}, False, False, workers, workers) == []


# Images on all nodes


class Shelf(Machine):
    """An engine whose nodes have images."""

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[str, set[str]] = {"c-node": {"a:1"}, "c-worker-1": set()}
        self.running = dict.fromkeys(self.images, "x")

    def in_node(self, words: list[str]) -> str:
        words = [word for word in words if word != "-i"]
        node, verb, ref = words[0], words[5], words[-1].removeprefix("name==")
        if verb == "rm":
            self.images[node] -= set(words[6:])
        return " ".join(self.images[node] & {ref}) if verb == "ls" else ""


def test_a_node_that_lacks_an_image_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Shelf()
    images = NodeImages(engine, "c-node")
    assert images.nodes == ["c-node", "c-worker-1"] and images.lacking("a:1") == ["c-worker-1"]
    streamed: list[list[str]] = []

    def stream(engine: Shelf, nodes: list[str], ref: str, timeout: float, archive: Path | None) -> dict[str, str]:
        streamed.append(nodes)
        for node in nodes:
            engine.images[node].add(ref)
        return {"c-worker-1": "no space"} if ref == "b:1" else {}

    monkeypatch.setattr(images_module, "stream", stream)
    deliver.node_import(images, "a:1", images.lacking("a:1"))
    assert streamed == [["c-worker-1"]] and images.lacking("a:1") == []
    # What was imported by half keeps no name.
    with pytest.raises(ImageError, match=r"b:1 into the node c-worker-1 failed: no space"):
        deliver.node_import(images, "b:1", images.lacking("b:1"))
    assert images.lacking("b:1") == ["c-worker-1"]


@pytest.mark.parametrize(("ref", "label", "named"), [("c:1", "", ""), ("d:1", "x=y", ""), ("gone:1", "x=y", "gone:1")])
def test_an_archive_goes_the_same_way(monkeypatch: pytest.MonkeyPatch, ref: str, label: str, named: str) -> None:
    """A label is for a whole import, and what the archive did not hold is told apart from a program that failed."""
    engine = Shelf()
    images = NodeImages(engine, "c-node")

    def stream(engine: Shelf, nodes: list[str], ref: str, timeout: float, archive: Path | None) -> dict[str, str]:
        assert archive == Path("a.tar")
        for node in nodes if ref != "gone:1" else []:
            engine.images[node].add(ref)
        return {}

    monkeypatch.setattr(images_module, "stream", stream)
    if named:
        with pytest.raises(ImageError, match=f"c-worker-1 has no image {named} after the import of a.tar"):
            import_archive(images, ref, "a.tar", ["c-worker-1"])
    else:
        images.put(ref, ["c-worker-1"], Path("a.tar"), label)
        assert images.lacking(ref) == ["c-node"]
    assert [line.endswith(f" label {ref} {label}") for line in engine.said(" label ")] == [True] * bool(label and not named)


def test_a_node_of_no_cluster_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Shelf()
    monkeypatch.setattr(engine, "inspect", lambda kind, name: {"Labels": {}})
    assert engine.nodes("mine") == ["mine"]


PODMAN = """\
#!/bin/bash
case "$1 $3" in
  "save ") head -c 3000000 /dev/zero;;
  "exec good") cat > {folder}/good;;
  "exec full") head -c 10 >/dev/null; echo no space >&2; exit 1;;
  "exec stuck") exec sleep 60;;
esac
"""


def test_an_image_is_saved_once_for_all_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "podman"
    path.write_text(PODMAN.replace("{folder}", str(tmp_path)))
    path.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engine_module, "plain_host", lambda: False)
    engine = Engine("podman", str(path), {"PATH": "/usr/bin:/bin"})
    assert images_module.stream(engine, ["good"], "x:1", 30) == {}
    assert images_module.stream(engine, ["full", "good"], "x:1", 30) == {"full": "no space\n"}
    assert (tmp_path / "good").stat().st_size == 3000000
    (tmp_path / "a.tar").write_bytes(b"archive")
    assert images_module.stream(engine, ["full", "good"], "x:1", 30, tmp_path / "a.tar") == {"full": "no space\n"}
    assert (tmp_path / "good").read_bytes() == b"archive"
    with pytest.raises(SlowEngineError, match="x:1 into stuck, good"):
        images_module.stream(engine, ["stuck", "good"], "x:1", 0.5)
