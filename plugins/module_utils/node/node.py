# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node of the local cluster. Private to this collection; its interface can change at any time.

The container is disposable, and the volume is the node: whatever died, the same volume in a new container is the same node.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

from ..kube.transport import loopback
from . import registry_mirrors
from .engine import ASK_TIMEOUT, LABEL, Engine, EngineError, docker_config

PATIENCE = 30  # seconds for an API server to come back by itself
CGROUPS = Path("/sys/fs/cgroup")
RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED = Path("/run/systemd/resolve/resolv.conf")  # the servers that systemd's own, on loopback, asks
NAME_SERVER = re.compile(r"^nameserver\s+(\S+)", re.MULTILINE)
LOOPBACK = re.compile(r"127\.|::1$")
# What the engines take where this machine names no server that a container reaches.
FALLBACK = {"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"}

# kubeadm.yaml's, and kubeadm's own; an address in one of them is not the node's for what runs in the cluster.
INSIDE = {"pods": IPv4Network("10.244.0.0/16"), "Services": IPv4Network("10.96.0.0/12")}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY")  # and the same in lower case


class ClusterError(Exception):
    """One sentence that says what is wrong, where, and what to do."""


def own_name_servers() -> str:
    """This machine's resolv.conf, without the servers of its loopback."""
    file = RESOLVED if RESOLVED.is_file() else RESOLV_CONF
    lines = file.read_text(errors="replace").splitlines(keepends=True) if file.is_file() else []
    return "".join(line for line in lines if not any(map(LOOPBACK.match, NAME_SERVER.findall(line))))


class Node:
    """A container, its volume, and its address on the cluster's network."""

    def __init__(
        self,
        engine: Engine,
        cluster: str,
        name: str,
        volume: str,
        address: IPv4Address,
        wait_timeout: int,
        mirrors: dict[str, bytes] | None = None,
    ) -> None:
        """:param mirrors: the files of its registry mirrors, see `registry_mirrors.files`."""
        self.engine, self.cluster, self.name, self.volume, self.address = engine, cluster, name, volume, address
        self.wait_timeout, self.mirrors = wait_timeout, mirrors or {}
        self.deadline = 0.0

    def labels(self) -> list[tuple[str, str, dict[str, str] | None]]:
        """Kind, name and labels of its container and its volume; None where there is none."""
        parts = (("container", self.name), ("volume", self.volume))
        return [(kind, name, self.engine.labels(kind, name)) for kind, name in parts]

    def started(self) -> datetime | None:
        """When its container was started; None where there is none."""
        container = self.engine.inspect("container", self.name)
        return datetime.fromisoformat(container["State"]["StartedAt"]).replace(microsecond=0) if container else None

    def mark(self) -> str | None:
        """What says on the volume that it is a node of the cluster; None where the node does not run, or was not finished."""
        try:
            return self.ask("cat", "/var/lib/flaskops/initialised").strip()
        except EngineError:
            return None

    def exec(self, *command: str, text: str = "", timeout: int = ASK_TIMEOUT) -> str:
        """What a command in the node prints."""
        done = self.engine.run(["exec", "--interactive", self.name, *command], input=text.encode(), timeout=timeout)
        return done.stdout.decode(errors="replace")

    def ask(self, *command: str) -> str:
        """What a command in the node prints that takes a moment, where the node runs."""
        return self.engine.run(["exec", self.name, *command], timeout=PATIENCE).stdout.decode()

    def refused(self, *words: str) -> list[str]:
        """The command in a list where it fails in the node, else an empty list."""
        try:
            self.ask(*words)
        except EngineError:
            return [f"'{' '.join(words)}'"]
        return []

    def run(self, ref: str, *flags: str) -> None:
        """Start its container of the image *ref*."""
        self.deadline = time.monotonic() + self.wait_timeout
        self.engine.run(
            [
                *("run", "--detach", "--name", self.name, "--hostname", self.name, "--label", f"{LABEL}={self.cluster}"),
                *("--privileged", "--cgroupns", "private", "--userns", "host", "--network", self.cluster),
                *self.proxies(),
                # podman gives a container 2048, which is all threads of all pods.
                *("--pids-limit", "-1"),
                *("--ip", str(self.address), *flags, "--volume", f"{self.volume}:/var/lib/flaskops", "--tmpfs", "/run", ref),
            ],
            timeout=ASK_TIMEOUT,
        )

    def proxies(self) -> list[str]:
        """Flags by which the node asks registries by this machine's proxy, and nothing of the cluster.

        podman would give it the proxy alone. The engine takes its address from its own environment, for that may hold a password.
        One on this machine's loopback is out of the node's reach. docker gives it those of its own configuration too.
        """
        found = {name: value for name, value in os.environ.items() if name.upper() in PROXIES and value}
        given = docker_proxies() if self.engine.name == "docker" else []
        if not found and not given:
            return []
        names = [f"{name}=" if on_loopback(value) else name for name, value in found.items()]
        own = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "", *(each.get("noProxy", "") for each in given)]
        subnet = IPv4Network(f"{self.address}/24", strict=False)
        direct = [*own, "localhost", "127.0.0.0/8", str(subnet), *map(str, INSIDE.values()), ".svc", ".cluster.local"]
        text = ",".join(filter(None, direct))
        return [word for name in (*names, f"NO_PROXY={text}", f"no_proxy={text}") for word in ("--env", name)]

    def start(self, ref: str, *flags: str) -> str:
        """Run it in a new container until its containerd answers: a warning about its name servers, or empty."""
        self.remove_container()
        self.run(ref, *flags)
        self.until(self.containerd)
        if self.mirrors:
            registry_mirrors.write(self.engine, self.name, self.mirrors)
        return self.give_name_servers(ref)

    def containerd(self) -> list[str]:
        """That containerd is late; a node that has ended is not waited for."""
        late = self.refused("ctr", "version")
        if late:
            self.check_runs()
        return late

    def check_runs(self) -> None:
        """Refuse a node whose container has ended."""
        container = self.engine.inspect("container", self.name)
        if container and not container["State"]["Running"]:
            raise ClusterError(self.ended())

    def ended(self) -> str:
        """That it is no longer there, with the last that it said."""
        try:
            done = self.engine.run(["logs", "--tail", "3", self.name], timeout=ASK_TIMEOUT)
            last = " | ".join((done.stdout + done.stderr).decode(errors="replace").split("\n")).strip(" |")
        except EngineError as error:  # such as where the engine keeps no logs
            last = str(error)
        return f"The node {self.name} ended ({last}): see '{self.engine.name} logs {self.name}'."

    def until(self, late: Callable[[], list[str]]) -> None:
        """Wait until *late* names nothing more.

        :raises ClusterError: wait_timeout seconds after the node's start, with what is late and the end of a log.
        """
        while left := late():
            if time.monotonic() > self.deadline:
                self.check_runs()
                log = {"'ctr version'": "containerd", "kube-proxy": "kube-proxy"}.get(left[-1], "kubelet")
                try:
                    last = self.exec("tail", "-n", "3", f"/var/log/{log}.log").strip().replace("\n", " | ")
                except EngineError as error:  # such as where it has none yet
                    last = str(error)
                raise ClusterError(
                    f"The cluster {self.cluster} still waits for {', '.join(left)} after {self.wait_timeout} s"
                    f" (the log of {log} ends: {last}): see '{self.engine.name} exec {self.name} less /var/log/{log}.log',"
                    " and raise 'wait_timeout' where this machine is slow."
                )
            time.sleep(0.2)

    def give_name_servers(self, ref: str) -> str:
        """Let the node's resolv.conf, which kubelet hands to pods, name servers that pods reach: a warning, or empty.

        On a network of the user's own, docker gives a container a server on its loopback, which in CoreDNS's pod is CoreDNS.
        On its default network it gives those of this machine, or of its own configuration.
        """
        engine = self.engine.name
        text = self.exec("cat", "/etc/resolv.conf")
        if engine == "docker":
            look = ["run", "--rm", "--userns", "host", "--network", "bridge", "--entrypoint", "cat", ref, "/etc/resolv.conf"]
            try:
                text = self.engine.run(look, timeout=ASK_TIMEOUT).stdout.decode(errors="replace")
            except EngineError as error:
                if "network bridge not found" not in str(error):
                    raise
                text = own_name_servers()
            self.exec("tee", "/etc/resolv.conf", text=text)
        given = NAME_SERVER.findall(text)
        here = NAME_SERVER.findall(RESOLV_CONF.read_text(errors="replace")) if RESOLV_CONF.is_file() else []
        # The engines leave servers that IPv6 reaches out of a network without it.
        if FALLBACK.issuperset(given) and all(":" in each or LOOPBACK.match(each) for each in here):
            public = f"a public one ({', '.join(given)})"
            return (
                f"{RESOLV_CONF} names no server that a pod reaches ({', '.join(here) or 'none at all'}), so {engine} has them"
                f" ask {public if given else 'none'}: name another one in {engine}'s configuration."
            )
        return ""

    def remove_container(self) -> None:
        """Remove its container, whatever state that is in."""
        found = self.engine.inspect("container", self.name)
        # podman 4.3 may fail the first removal of a container whose monitor died with it; the second succeeds.
        for _ in range(3):
            if self.engine.inspect("container", self.name) is None:
                break
            subprocess.run([self.engine.path, "rm", "--force", "--volumes", self.name], capture_output=True, env=self.engine.env)
        if self.engine.inspect("container", self.name) is not None:
            raise ClusterError(f"The container {self.name} can't be removed: see '{self.engine.name} rm --force {self.name}'.")
        # A daemon that was killed may keep the place of a container that is gone, and would give it to no other one.
        places = (self.engine.inspect("network", self.cluster) or {}).get("Containers") if self.engine.name == "docker" else None
        if any(each.get("Name") == self.name for each in (places or {}).values()):
            with contextlib.suppress(EngineError):  # what can't be given back is told when the node is run
                self.engine.run(["network", "disconnect", "--force", self.cluster, self.name], timeout=ASK_TIMEOUT)
        # Where the monitor was killed too, nobody removes the control groups of the node and its pods. Others may end meanwhile.
        groups = [folder for folder, _, _ in os.walk(CGROUPS) if found["Id"] in os.path.basename(folder)] if found else []
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


def docker_proxies() -> list[dict[str, str]]:
    """The proxies of docker's configuration, which it gives to every container."""
    found = docker_config()[1].get("proxies")
    return [each for each in found.values() if isinstance(each, dict)] if isinstance(found, dict) else []


def on_loopback(proxy: str) -> bool:
    """Whether the address of a proxy, which may lack the scheme, is this machine's own."""
    try:
        return loopback(urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname or "")
    except ValueError:
        return False
