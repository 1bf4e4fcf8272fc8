#!/usr/bin/python
# Copyright (c) flaskops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster
short_description: A real one-node Kubernetes in a container of this machine
version_added: 0.1.0
author: flaskops maintainers (@flaskops)
description:
  - Runs a kubeadm node as one privileged container of podman or docker, as kind does, from binaries that are at hand.
  - The container is disposable and the volume is the cluster. Whatever died, O(state=present) brings the same cluster back.
  - It ends when the API tells nothing from before the node was started, and kube-proxy serves what the API tells.
  - Everything it makes carries the label C(io.flaskops.cluster); containers, networks, volumes and kubeconfigs of others are not
    touched.
  - Needs root, podman or docker, Linux 5.13, and some commands; what is missing is named in one sentence before anything changes.
attributes:
  check_mode:
    support: full
    description: Reports whether something would be made or removed.
  idempotent:
    support: full
    description:
      - A cluster that answers is left as it is; its kubeconfig is written again where it differs.
      - One that kubeadm did not finish is made again.
options:
  name:
    description: The cluster, its kubeconfig's context, and the first part of its container's, network's and volume's names.
    type: str
    default: flaskops
  state:
    description: Whether the cluster runs, or nothing of it is left.
    type: str
    choices: [present, absent]
    default: present
  engine:
    description: The container engine. V(auto) takes the one that has this cluster, else podman, else docker.
    type: str
    choices: [auto, podman, docker]
    default: auto
  files:
    description:
      - The folder with the node image's files and C(kubeadm.yaml), which reaches only a cluster that is made, and no image.
    type: path
  binaries:
    description: The folder of binaries for each component, as the module M(flaskops.observability.toolchain) returns it.
    type: dict
    default: {}
  versions:
    description: The version of each component.
    type: dict
    default: {}
  subnet:
    description: The network of the node and of C(LoadBalancer) addresses, a /24.
    type: str
    default: 10.89.240.0/24
  api_port:
    description: The port of 127.0.0.1 that the API server is published on.
    type: int
    default: 6443
  kubeconfig:
    description: Where the kubeconfig is written, with mode 0600. A file that is another cluster's is refused.
    type: path
    required: true
  wait_timeout:
    description: How many seconds the node may take to become ready; kubeadm's own waits have the same limit.
    type: int
    default: 180
"""

EXAMPLES = r"""
- name: No cluster is left
  flaskops.observability.local_cluster:
    state: absent
    kubeconfig: ~/.local/share/flaskops/clusters/flaskops/kubeconfig
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  type: list
  elements: str
  returned: always
seconds:
  description: How long it took.
  type: float
  returned: success
"""

import base64
import contextlib
import hashlib
import http.client
import ipaddress
import json
import os
import platform
import re
import shutil
import socket
import ssl
import string
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful

from ..module_utils import _archive, _settled
from ..module_utils._engine import (
    ASK_TIMEOUT,
    PULL_TIMEOUT,
    Engine,
    EngineError,
    NoEngineError,
    SlowEngineError,
    debian_base,
)
from ..module_utils._host import (
    ARCH,
    DEBIAN_IMAGE,
    MODULES,
    NODE_BASE,
    NODE_PACKAGES,
    NOT_LINUX,
    command,
    dropped,
    lacks,
    machine,
    missing,
    modprobe,
    refusal,
)

LABEL = "io.flaskops.cluster"
PULL_PATIENCE = 60  # seconds for a registry, where the node's Debian can be made here too
NODE_DEBIAN = f"""\
FROM {DEBIAN_IMAGE}
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {" ".join(NODE_PACKAGES)} \\
 && rm -rf /var/lib/apt/lists/*
"""
# kubelet sets these for the whole host; the values from before are kept as labels of the volume, and put back at the end.
SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
PATIENCE = 30  # seconds for an API server to come back by itself
BOOTSTRAP = 3  # times wait_timeout, for the import of the images and kubeadm's waits, one after the other
CGROUPS = Path("/sys/fs/cgroup")
PROC_SYS = Path("/proc/sys")
RESOLV_CONF = Path("/etc/resolv.conf")
NAME_SERVER = re.compile(r"^nameserver\s+(\S+)", re.MULTILINE)
# What the engines take where this machine names no server that a container reaches.
FALLBACK = {"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"}


class ClusterError(Exception):
    """One sentence that says what is wrong, where, and what to do."""


class Cluster:
    """One cluster: its container, network, volume and kubeconfig."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        self.name = params["name"]
        self.node = f"{self.name}-node"
        self.volume = f"{self.name}-data"
        self.address = ipaddress.IPv4Network(params["subnet"])[2]
        parts = (("container", self.node), ("volume", self.volume))
        self.engine = Engine.find(params["engine"], only=("podman", "docker"), having=parts)
        self.kubeconfig = Path(params["kubeconfig"]).expanduser()
        self.actions: list[str] = []
        self.warnings: list[str] = []
        self.deadline = 0.0

    def _volumes(self) -> list[dict[str, str]]:
        """The labels of all clusters' volumes, of any engine: they share one kernel."""
        found = []
        for name in ("podman", "docker"):
            with contextlib.suppress(EngineError):
                engine = Engine.find(name)
                for volume in engine.run(["volume", "ls", "--quiet", "--filter", f"label={LABEL}"]).stdout.decode().split():
                    found.append(engine.labels("volume", volume) or {})
        return found

    def _node_kubeconfig(self) -> str | None:
        """The kubeconfig for this machine, from the running node; None where it does not run, or kubeadm did not end."""
        script = "test -e /var/lib/flaskops/initialised && cat /etc/kubernetes/admin.conf"
        try:
            config = self.engine.run(["exec", self.node, "sh", "-c", script], timeout=PATIENCE).stdout.decode()
        except EngineError:
            return None
        config = re.sub(r"server: \S+", f"server: https://127.0.0.1:{self.params['api_port']}", config)
        return config.replace(f"kubernetes-admin@{self.name}", self.name)

    def _saved_kubeconfig(self) -> str | None:
        """The kubeconfig as it was written; None where it is missing or another cluster's."""
        try:
            text = self.kubeconfig.read_text()
            return text if yaml.safe_load(text)["clusters"][0]["name"] == self.name else None
        except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError):
            return None

    def _write_kubeconfig(self, text: str) -> None:
        path = self.kubeconfig
        if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == 0o600:
            return
        self.actions.append(f"write {path}")
        if self.check_mode:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".kubeconfig-", delete=False) as file:  # mode 0600
            file.write(text)
        os.replace(file.name, path)

    def _connect(self, kubeconfig: str) -> Callable[[str], str]:
        """A function that reads one path of the API server, which raises OSError where it does not answer."""
        config = yaml.safe_load(kubeconfig)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            tls.load_cert_chain(pair.name)
        # Never by a proxy of the environment: the server is this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))

        def read(path: str) -> str:
            url = path if path.startswith("http:") else cluster["server"] + path
            with opener.open(url, timeout=5) as reply:
                return str(reply.read().decode())

        return read

    def _answers(self, kubeconfig: str, seconds: float = 0) -> bool:
        """Whether the API server of this very cluster says within some seconds that it is ready."""
        pause, deadline = threading.Event(), time.monotonic() + seconds
        while True:
            try:
                return self._connect(kubeconfig)("/readyz") == "ok"
            except (ValueError, KeyError, IndexError, TypeError):
                return False  # no kubeconfig
            except (OSError, http.client.HTTPException):
                if time.monotonic() >= deadline:
                    return False
            pause.wait(0.2)

    def check_ours(self) -> None:
        """Refuse a name or file that is somebody else's, before anything is changed."""
        for kind, name in (("container", self.node), ("volume", self.volume), ("network", self.name)):
            labels = self.engine.labels(kind, name)
            if labels is not None and labels.get(LABEL) != self.name:
                raise ClusterError(f"The {kind} '{name}' exists and is not ours: choose another 'name'.")
        if self.kubeconfig.exists() and self.kubeconfig.read_text().strip() and self._saved_kubeconfig() is None:
            raise ClusterError(f"The file {self.kubeconfig} is not the kubeconfig of {self.name}: name another 'kubeconfig'.")

    def check_free(self) -> None:
        """Refuse a port or network that is somebody else's, before anything is changed."""
        container = self.engine.inspect("container", self.node)
        if container is None or not container["State"]["Running"]:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self.params["api_port"]))
                except OSError as error:
                    raise ClusterError(
                        f"Port {self.params['api_port']} of 127.0.0.1 is taken: choose another 'api_port'."
                    ) from error
        if self.engine.inspect("network", self.name) is None:
            wanted = ipaddress.ip_network(self.params["subnet"])
            routes = subprocess.run([str(command("ip")), "-4", "route", "show"], capture_output=True, text=True).stdout
            for line in routes.splitlines():
                # A line begins with the network, or with the route's type ('blackhole', 'unreachable') and then the network.
                for network in re.findall(r"^(?:[a-z]+ )?(\d[\d./]+)", line):
                    if ipaddress.ip_network(network, strict=False).overlaps(wanted):
                        raise ClusterError(
                            f"The address range {wanted} overlaps the route '{line.strip()}': choose another 'subnet'."
                        )

    def image(self) -> str:
        """The node image's name; its tag is a hash of what goes in."""
        given = [self.params["binaries"], self.params["versions"], NODE_BASE, NODE_DEBIAN]
        digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
        for file in sorted((Path(self.params["files"]) / "node").rglob("*")):
            if file.is_file():
                digest.update(str(file.name).encode() + b"\0" + file.read_bytes())
        return f"localhost/flaskops/node:v{self.params['versions']['kubernetes']}-{digest.hexdigest()[:12]}"

    def build_image(self, ref: str) -> None:
        """Build the node image: Debian, the binaries, and archives of the control plane's images."""
        self.build_base()
        versions, arch = self.params["versions"], ARCH[platform.machine()]
        folders = {name: Path(path) for name, path in self.params["binaries"].items()}
        kube = f"v{versions['kubernetes']}"
        with tempfile.TemporaryDirectory(prefix="flaskops-node-") as scratch:
            context = Path(scratch) / "node"
            shutil.copytree(Path(self.params["files"]) / "node", context)
            catatonit = Path(scratch) / "catatonit"
            look = ["run", "--rm", "--network", "none", "--entrypoint", "cat", NODE_BASE, "/usr/bin/catatonit"]
            catatonit.write_bytes(self.engine.run(look, timeout=ASK_TIMEOUT).stdout)
            (context / "bin").mkdir()
            (context / "images").mkdir()
            inside = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "coredns", "kube-network-policies"}
            for folder in folders.values():
                for binary in folder.iterdir():
                    if binary.name not in inside:
                        shutil.copy(binary, context / "bin")
            archives = [
                (f"registry.k8s.io/{name}:{kube}", folders["kubernetes"] / name, f"/usr/local/bin/{name}", [name])
                for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
            ]
            archives += [
                (f"registry.k8s.io/etcd:{versions['etcd']}", folders["etcd"] / "etcd", "/usr/local/bin/etcd", ["etcd"]),
                (
                    f"registry.k8s.io/coredns/coredns:v{versions['coredns']}",
                    folders["coredns"] / "coredns",
                    "/coredns",
                    ["/coredns"],
                ),
                ("localhost/pause:catatonit", catatonit, "/pause", ["/pause", "-P"]),
            ]
            if policy := folders.get("kube-network-policies"):
                name = f"registry.k8s.io/networking/kube-network-policies:v{versions['kube-network-policies']}"
                archives.append((name, policy / "kube-network-policies", "/bin/netpol", ["/bin/netpol"]))
            for image, binary, target, entrypoint in archives:
                _archive.write(context / "images" / f"{binary.name}.tar", image, binary, target, entrypoint, arch)
            self.engine.build(str(context), str(context / "Containerfile"), ref, {"BASE_IMAGE": NODE_BASE})

    def build_base(self) -> None:
        """The node's Debian: from a registry with packages added to it, or made here where none answers."""
        if self.engine.image_exists(NODE_BASE):
            return
        patience = PULL_TIMEOUT if missing({"mmdebstrap"}) else PULL_PATIENCE
        try:
            if not self.engine.image_exists(DEBIAN_IMAGE):
                self.engine.run(["pull", DEBIAN_IMAGE], timeout=patience)
            with tempfile.TemporaryDirectory(prefix="flaskops-node-") as context:
                containerfile = Path(context) / "Containerfile"
                containerfile.write_text(NODE_DEBIAN)
                self.engine.build(context, str(containerfile), NODE_BASE)
        except EngineError as refused:
            try:
                debian_base(self.engine, NODE_BASE, NODE_PACKAGES)
            except EngineError as error:
                raise ClusterError(f"{error} Nor could it be made of {DEBIAN_IMAGE}: {refused}") from error

    def present(self) -> None:
        """Make the cluster, bring it back, or leave it alone where it answers."""
        self.check_ours()
        self.deadline = time.monotonic() + self.params["wait_timeout"]
        running = self._node_kubeconfig()
        kubeconfig = running or self._saved_kubeconfig()
        # In a node that runs, kubelet may be starting the API server again; it needs not be started as a whole.
        if kubeconfig and self._answers(kubeconfig, PATIENCE if running else 0):
            self._write_kubeconfig(kubeconfig)
            # A run that failed or was interrupted may have left a cluster that answers and does not work.
            container = self.engine.inspect("container", self.node)
            if container and not self.check_mode:
                self._settle(kubeconfig, datetime.fromisoformat(container["State"]["StartedAt"]).replace(microsecond=0))
            return
        if warning := dropped(self.engine, self.params["subnet"]):
            self.warnings.append(warning)
        ref = self.image()
        build = not self.engine.image_exists(ref)
        if lacking := lacks(machine(self.engine, build), build):
            raise ClusterError(refusal(lacking))
        self.check_free()
        revived = self.engine.inspect("volume", self.volume) is not None
        if build:
            self.actions.append(f"build the node image {ref}")
        self.actions.append(f"{'bring back' if revived else 'make'} the cluster {self.name}")
        if self.check_mode:
            return
        if build:
            self.build_image(ref)
        self._make_network()
        if not revived:
            self._make_volume()
        if not MODULES["br_netfilter"].exists():
            modprobe("br_netfilter")
        self._remove_container()
        self._start(ref)

    def _start(self, ref: str) -> None:
        """Run the node and return when nothing in the cluster is as it was before."""
        started, self.deadline = datetime.now(UTC).replace(microsecond=0), time.monotonic() + self.params["wait_timeout"]
        self._run(ref)
        self._until(self._containerd)
        self._give_name_servers(ref)
        self._bootstrap()
        kubeconfig = self._node_kubeconfig()
        if kubeconfig is None:
            raise ClusterError(self._ended())
        self._write_kubeconfig(kubeconfig)
        self._until(lambda: [] if self._answers(kubeconfig) else ["the API server"])
        self._settle(kubeconfig, started)

    def _containerd(self) -> list[str]:
        """That containerd is late; a node that has ended is not waited for."""
        late = self._refused("ctr", "version")
        container = self.engine.inspect("container", self.node) if late else None
        if container and not container["State"]["Running"]:
            raise ClusterError(self._ended())
        return late

    def _ended(self) -> str:
        done = self.engine.run(["logs", "--tail", "3", self.node], timeout=ASK_TIMEOUT)
        last = " | ".join((done.stdout + done.stderr).decode(errors="replace").split("\n")).strip(" |")
        return f"The node {self.node} ended ({last}): see '{self.engine.name} logs {self.node}'."

    def _bootstrap(self) -> None:
        """Let kubeadm make the cluster; its own limits are wait_timeout, so that it says itself what was late."""
        timeout = self.params["wait_timeout"]
        template = string.Template((Path(self.params["files"]) / "kubeadm.yaml").read_text())
        values = {"name": self.name, "address": self.address, "timeout": f"{max(timeout, 1)}s", **self.params["versions"]}
        try:
            self._exec("bootstrap.sh", str(self.address), text=template.substitute(values), timeout=BOOTSTRAP * timeout)
        except EngineError as error:
            if isinstance(error, SlowEngineError) or re.search("deadline exceeded|timed out", str(error)):
                raise ClusterError(
                    f"kubeadm has not made the cluster {self.name} within its limits of {timeout} s:"
                    f" raise 'wait_timeout' where this machine is slow ({error})."
                ) from error
            raise

    def _settle(self, kubeconfig: str, started: datetime) -> None:
        """Return when the cluster tells and serves nothing from before *started*."""
        # What ends at once is started again by the supervisor; if that does not help, the wait below says so.
        self._refused("supervisorctl", "start", "services:*")
        read = self._connect(kubeconfig)
        self._until(lambda: self._unsettled(read, started))

    def _give_name_servers(self, ref: str) -> None:
        """Let the node's resolv.conf, which kubelet hands to pods, name servers that pods reach.

        On a network of the user's own, docker gives a container a server on its loopback, which in CoreDNS's pod is CoreDNS.
        On its default network it gives those of this machine, or of its own configuration.
        """
        engine = self.engine.name
        text = self._exec("cat", "/etc/resolv.conf")
        if engine == "docker":
            look = ["run", "--rm", "--userns", "host", "--network", "bridge", "--entrypoint", "cat", ref, "/etc/resolv.conf"]
            text = self.engine.run(look, timeout=ASK_TIMEOUT).stdout.decode()
            self._exec("tee", "/etc/resolv.conf", text=text)
        given = NAME_SERVER.findall(text)
        here = NAME_SERVER.findall(RESOLV_CONF.read_text()) if RESOLV_CONF.exists() else []
        if FALLBACK.issuperset(given) and all(each == "::1" or each.startswith("127.") for each in here):
            self.warnings.append(
                f"{RESOLV_CONF} names no server that a pod reaches ({', '.join(here) or 'none at all'}), so {engine} has them"
                f" ask a public one ({', '.join(given)}): name another one in {engine}'s configuration."
            )

    def _until(self, late: Callable[[], list[str]]) -> None:
        """Wait until *late* names nothing more.

        :raises ClusterError: wait_timeout seconds after the node's start, with what is late and the end of a log.
        """
        pause = threading.Event()
        while left := late():
            if time.monotonic() > self.deadline:
                log = {"'ctr version'": "containerd", "kube-proxy": "kube-proxy"}.get(left[-1], "kubelet")
                last = self._exec("tail", "-n", "3", f"/var/log/{log}.log").strip().replace("\n", " | ")
                raise ClusterError(
                    f"The cluster {self.name} still waits for {', '.join(left)} after {self.params['wait_timeout']} s"
                    f" (the log of {log} ends: {last}): see '{self.engine.name} exec {self.node} less /var/log/{log}.log',"
                    " and raise 'wait_timeout' where this machine is slow."
                )
            pause.wait(0.2)

    def _make_network(self) -> None:
        if self.engine.inspect("network", self.name) is None:
            plain = ["--disable-dns"] if self.engine.name == "podman" else []
            self.engine.run(
                ["network", "create", *plain, "--subnet", self.params["subnet"], "--label", f"{LABEL}={self.name}", self.name]
            )

    def _make_volume(self) -> None:
        others = self._volumes()
        before = others[0] if others else {}
        labels = [f"{LABEL}={self.name}"]
        for key in SYSCTLS:
            value = before.get(f"{LABEL}.{key}") or (PROC_SYS / key).read_text().strip()
            labels.append(f"{LABEL}.{key}={value}")
        loaded = "present" if MODULES["br_netfilter"].exists() else "absent"
        labels.append(f"{LABEL}.br_netfilter={before.get(f'{LABEL}.br_netfilter', loaded)}")
        flags = [word for label in labels for word in ("--label", label)]
        self.engine.run(["volume", "create", *flags, self.volume])

    def _run(self, ref: str) -> None:
        self.engine.run(
            [
                *("run", "--detach", "--name", self.node, "--hostname", self.node, "--label", f"{LABEL}={self.name}"),
                *("--privileged", "--cgroupns", "private", "--userns", "host", "--network", self.name, "--ip", str(self.address)),
                *("--publish", f"127.0.0.1:{self.params['api_port']}:6443", "--volume", f"{self.volume}:/var/lib/flaskops"),
                *("--tmpfs", "/run", ref),
            ],
            timeout=ASK_TIMEOUT,
        )

    def _exec(self, *command: str, text: str = "", timeout: int = ASK_TIMEOUT) -> str:
        done = self.engine.run(["exec", "--interactive", self.node, *command], input=text.encode(), timeout=timeout)
        return done.stdout.decode()

    def _refused(self, *words: str) -> list[str]:
        """The command in a list where it fails in the node, else an empty list."""
        try:
            self.engine.run(["exec", self.node, *words], timeout=PATIENCE)
        except EngineError:
            return [f"'{' '.join(words)}'"]
        return []

    def _unsettled(self, read: Callable[[str], str], started: datetime) -> list[str]:
        """What the cluster still tells or serves as it was before the node was started at *started*."""
        try:
            objects = {kind: json.loads(read(path))["items"] for kind, path in _settled.PATHS.items()}
        except (OSError, http.client.HTTPException):
            return ["the API server"]
        late = _settled.stale(objects, self.node, started)
        try:
            synced = _settled.synced(read(f"http://{self.address}:10249/metrics"))
        except (OSError, http.client.HTTPException):
            synced = False
        if not synced:
            late.append("kube-proxy")
        if late:
            return late
        have = set(re.findall(r"inet ([\d.]+)/32 ", self._exec("ip", "-4", "-o", "address", "show", "dev", "lo")))
        return [f"the load balancer of {name}" for name, ips in _settled.load_balancers(objects).items() if not ips or ips - have]

    def _remove_container(self) -> None:
        found = self.engine.inspect("container", self.node)
        # podman 4.3 may fail the first removal of a container whose monitor died with it; the second succeeds.
        for _ in range(3):
            if self.engine.inspect("container", self.node) is None:
                break
            subprocess.run([self.engine.path, "rm", "--force", "--volumes", self.node], capture_output=True, env=self.engine.env)
        if self.engine.inspect("container", self.node) is not None:
            raise ClusterError(f"The container {self.node} can't be removed: see '{self.engine.name} rm --force {self.node}'.")
        # Where the monitor was killed too, nobody removes the control groups of the node and its pods.
        for group in CGROUPS.glob(f"**/*{found['Id']}*") if found else []:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def _remove(self, kind: str, name: str, *flags: str) -> None:
        """Remove an object; what is gone is gone, also where podman then fails to free its lock."""
        try:
            self.engine.run([kind, "rm", *flags, name])
        except EngineError:
            if self.engine.inspect(kind, name) is not None:
                raise

    def absent(self) -> None:
        """Remove all that is ours, and put the kernel's settings back with the last cluster."""
        found = [
            (kind, name)
            for kind, name in (("container", self.node), ("volume", self.volume), ("network", self.name))
            if (self.engine.labels(kind, name) or {}).get(LABEL) == self.name
        ]
        self.actions = [f"remove the {kind} {name}" for kind, name in found]
        ours = self._saved_kubeconfig() is not None
        if ours:
            self.actions.append(f"remove {self.kubeconfig}")
        if self.check_mode:
            return
        if ("container", self.node) in found:
            self._remove_container()
        labels = self.engine.labels("volume", self.volume) or {}
        if ("volume", self.volume) in found:
            self._remove("volume", self.volume, "--force")
            if not self._volumes():
                for key in SYSCTLS:
                    if f"{LABEL}.{key}" in labels:
                        (PROC_SYS / key).write_text(labels[f"{LABEL}.{key}"])
                if labels.get(f"{LABEL}.br_netfilter") == "absent":
                    modprobe("--remove", "br_netfilter")
        if ("network", self.name) in found:
            self._remove("network", self.name, *(["--force"] if self.engine.name == "podman" else []))
        if ours:
            self.kubeconfig.unlink()
        folder = self.kubeconfig.parent
        if folder.name == self.name and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": "flaskops"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "engine": {"type": "str", "choices": ["auto", "podman", "docker"], "default": "auto"},
            "files": {"type": "path"},
            "binaries": {"type": "dict", "default": {}},
            "versions": {"type": "dict", "default": {}},
            "subnet": {"type": "str", "default": "10.89.240.0/24"},
            "api_port": {"type": "int", "default": 6443},
            "kubeconfig": {"type": "path", "required": True},
            "wait_timeout": {"type": "int", "default": 180},
        },
        required_if=[("state", "present", ("files",))],
        supports_check_mode=True,
    )
    started = time.monotonic()
    if platform.system() != "Linux":
        module.fail_json(msg=NOT_LINUX, actions=[])
    try:
        try:
            subnet = ipaddress.IPv4Network(module.params["subnet"])
            if subnet.prefixlen != 24 or not subnet.is_private:
                raise ValueError("it is no private /24")
        except ValueError as error:
            raise ClusterError(
                f"The subnet {module.params['subnet']} can't be used ({error}): name a private /24 network."
            ) from error
        if not 0 < module.params["api_port"] < 65536:
            raise ClusterError(f"The api_port {module.params['api_port']} is no port: choose one from 1 to 65535.")
        try:
            cluster = Cluster(module.params, module.check_mode)
        except NoEngineError as error:
            if module.params["state"] == "absent":
                raise
            raise ClusterError(refusal(lacks(machine(error, build=True), build=True))) from None
        getattr(cluster, module.params["state"])()
    except (ClusterError, EngineError, OSError) as error:
        module.fail_json(msg=str(error), actions=[])
    for warning in cluster.warnings:
        module.warn(warning)
    module.exit_json(changed=bool(cluster.actions), actions=cluster.actions, seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    careful(main)()
