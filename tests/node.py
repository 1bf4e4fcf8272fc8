# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the local cluster's node have in common, whichever engine runs it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from ansible_collections.flaskops.observability.plugins.module_utils.node.cluster import SYSCTLS
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine, EngineError, NoEngineError

from tests.harness import Cluster, until

# Settings that change by themselves, and those of single links, which come and go with everybody's containers.
VOLATILE = re.compile(
    r"/(random|ns_last_pid|dentry-state|file-nr|inode-(nr|state)|aio-nr|nf_conntrack_count|pty/nr|perf_event_max_sample_rate|quota/syncs)"
    r"|/net/ipv[46]/(conf|neigh)/(?!all|default|lo)"
)
# Control groups that docker keeps.
DOCKERS = ("/docker", "/docker/buildkit")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_network(first: int = 200) -> str:
    """The first three numbers of a /24 that no route leads to."""
    routes = subprocess.run(["ip", "-4", "route", "show"], capture_output=True, text=True, check=True).stdout
    return next(found for third in range(first, 240) if (found := f"10.89.{third}") not in routes)


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true within some seconds."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not (done := true()) and time.monotonic() < deadline:
        pause.wait(0.5)
    return done


def output(engine: Engine, *args: str) -> str:
    return engine.run([*args]).stdout.decode()


def engines() -> list[Engine]:
    """All that answer."""
    found = []
    for name in ("podman", "docker"):
        with contextlib.suppress(NoEngineError):
            found.append(Engine.find(name))
    return found


def pids(engine: Engine, node: str) -> set[int]:
    """The processes of a node: its monitor, and all in its control group."""
    identity = output(engine, "container", "inspect", "--format", "{{.Id}}", node).strip()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if identity in (folder / "cmdline").read_text() + (folder / "cgroup").read_text():
                found.add(int(folder.name))
        except OSError:
            continue  # it has ended
    return found


def kill(found: Iterable[int]) -> None:
    """kill -9 of processes, some of which may have ended."""
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_node(engine: Engine, node: str) -> None:
    """As after the hard stop of a machine: the monitor too, so that podman may go on saying that the container is up."""
    monitor = int(output(engine, "container", "inspect", "--format", "{{.State.ConmonPid}}", node))
    found = pids(engine, node)
    assert monitor in found and len(found) > 10
    kill((monitor, *(found - {monitor})))


def host(engine: Engine, kubeconfig: Path, port: int, alone: bool) -> dict[str, set[str]]:
    """All of this machine that a cluster could leave something in; `alone` says that no other cluster runs."""

    def lines(*command: str) -> set[str]:
        text = subprocess.run(command, capture_output=True, text=True, check=True, env=engine.env).stdout
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
    for root in (home / ".kube", home / ".config/containers", Path("/etc/containers"), Path("/etc/cni"), kubeconfig.parent):
        for path in [root, *root.rglob("*")] if root.exists() else []:
            if home / ".kube/cache" in [path, *path.parents]:
                continue  # what kubectl and Helm remember of the clusters that somebody asks now
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            paths.add(f"{path} {path.stat().st_mode:o} {content}")

    def deserted(folder: str) -> bool:
        """Whether a control group has no process: what we left would have none, and what others run has some."""
        try:
            return not (Path(folder) / "cgroup.procs").read_text().strip()
        except OSError:
            return False  # it has gone

    running = [identity for each in engines() for identity in output(each, "ps", "--quiet", "--no-trunc").split()]
    mounts = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {
        "kernel settings": settings,
        "files": paths,
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        # Each link that comes up has link-local ones, and links are judged above.
        "routes": {
            line for line in lines("ip", "route", "show", "table", "all") if "fe80::" not in line and "ff00::/8" not in line
        },
        "nftables": lines("nft", "list", "ruleset"),
        "iptables": lines("iptables-save"),
        # podman mounts its storage on itself as long as anybody's container is mounted.
        "mounts": {f"{fields[4]} {fields[-2]}" for fields in mounts if not fields[4].endswith("/storage/overlay")},
        "control groups": {
            folder
            for folder, _, _ in os.walk("/sys/fs/cgroup")
            if not any(other in folder for other in running) and not folder.endswith(DOCKERS) and deserted(folder)
        },
        "containers": lines(engine.path, "ps", "--all", "--format", "{{.Names}}"),
        "networks": lines(engine.path, "network", "ls", "--format", "{{.Name}}"),
        "volumes": lines(engine.path, "volume", "ls", "--format", "{{.Name}}"),
        "others": {*running, *(name for each in engines() for name in output(each, "volume", "ls", "--quiet").split())},
        "listeners": {line for line in lines("ss", "-Hltn") if f":{port} " in line},
    }


def left(before: dict[str, set[str]], now: dict[str, set[str]], ours: str) -> dict[str, set[str]]:
    """What differs of a host without our cluster.

    Where somebody made or removed another container meanwhile, only what matches `ours`, our name or addresses, is judged.
    """
    foreign = before["others"] != now["others"]
    return {
        aspect: found
        for aspect in before.keys() - {"others"}
        if (found := {line for line in before[aspect] ^ now[aspect] if not foreign or re.search(ours, line)})
    }


def assert_nothing_left(before: dict[str, set[str]], look: Callable[[], dict[str, set[str]]], ours: str) -> None:
    """Wait until the host, as `look` finds it, is as before: what others do on it passes, and what we had left would stay."""
    difference: dict[str, set[str]] = {}

    def same() -> bool:
        difference.clear()
        difference.update(left(before, look(), ours))
        return not difference

    assert wait_until(same, 15), difference


def kill_kubeadm(engine: Engine, node: str, address: str) -> None:
    """Kill the kubeadm that is making a node's cluster, after the API server has answered and before kubeadm ends."""
    context = ssl._create_unverified_context()

    def running() -> int:
        found = [pid for pid in pids(engine, node) if b"init\0--config" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found[0] if found else 0

    def answered() -> int:
        pid = running()
        if pid:
            with urllib.request.urlopen(f"https://{address}:6443/readyz", context=context, timeout=1) as reply:
                return pid if reply.read() == b"ok" else 0
        return 0

    os.kill(until(answered, 900, "an API server beside kubeadm", pause=0.05, passing=(OSError, EngineError)), signal.SIGKILL)


def assert_whole(cluster: Cluster, address: str) -> None:
    """What kubeadm does last, and what the bootstrap does after it, is there and works."""
    (node,) = cluster.core.list_node().items
    conditions = {each.type: each.status for each in node.status.conditions}
    assert conditions["Ready"] == "True", conditions
    assert not node.spec.taints, node.spec.taints
    dns = cluster.apps.read_namespaced_deployment("coredns", "kube-system").status
    assert dns.ready_replicas == 1, dns
    with urllib.request.urlopen(f"http://{address}:10249/healthz", timeout=5) as reply:
        assert reply.status == 200
