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
  - Everything it makes carries the label C(io.flaskops.cluster); containers, networks and volumes of others are not touched.
attributes:
  check_mode:
    support: full
    description: Reports whether something would be made or removed.
  idempotent:
    support: full
    description: A cluster that answers is left as it is.
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
    description: The container engine. V(auto) takes podman, else docker.
    type: str
    choices: [auto, podman, docker]
    default: auto
  files:
    description: The folder with the node image's files and C(kubeadm.yaml).
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
    description: Where the kubeconfig is written, with mode 0600.
    type: path
    required: true
  wait_timeout:
    description: How many seconds the node may take to become ready.
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

import hashlib
import ipaddress
import json
import platform
import shutil
import socket
import ssl
import string
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _archive
from ..module_utils._engine import Engine, EngineError, debian_base

LABEL = "io.flaskops.cluster"
BASE = "localhost/flaskops/node-base:bookworm"
PACKAGES = [
    "runc", "nftables", "iptables", "conntrack", "mount", "iproute2", "procps", "ca-certificates", "supervisor", "ethtool",
    "socat", "kmod",
]  # fmt: skip
# kubelet sets these for the whole host; the values from before are kept as labels of the volume, and put back at the end.
SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


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
        self.engine = Engine.find(params["engine"], only=("podman", "docker"))
        self.kubeconfig = Path(params["kubeconfig"]).expanduser()
        self.actions: list[str] = []

    def _inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        done = subprocess.run([self.engine.path, kind, "inspect", name], capture_output=True, env=self.engine.env)
        return json.loads(done.stdout)[0] if done.returncode == 0 else None

    def _labels(self, kind: str, name: str) -> dict[str, str] | None:
        found = self._inspect(kind, name)
        if found is None:
            return None
        return found.get("Labels") or found.get("labels") or found.get("Config", {}).get("Labels") or {}

    def _volumes(self) -> list[str]:
        return self.engine.run(["volume", "ls", "--quiet", "--filter", f"label={LABEL}"]).stdout.decode().split()

    def api_answers(self) -> bool:
        """Whether the API server of this very cluster says that it is ready."""
        if not self.kubeconfig.exists():
            return False
        try:
            return self._api("/readyz") == "ok"
        except (OSError, KeyError, ValueError, IndexError):
            return False

    def _api(self, path: str) -> str:
        import base64

        import yaml

        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        with urllib.request.urlopen(cluster["server"] + path, context=context, timeout=5) as reply:
            return reply.read().decode()

    def check_free(self) -> None:
        """Refuse a name, port or network that is somebody else's, before anything is changed."""
        for kind, name in (("container", self.node), ("volume", self.volume), ("network", self.name)):
            labels = self._labels(kind, name)
            if labels is not None and labels.get(LABEL) != self.name:
                raise ClusterError(f"The {kind} '{name}' exists and is not ours: choose another 'name'.")
        if self._inspect("container", self.node) is None:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self.params["api_port"]))
                except OSError as error:
                    raise ClusterError(
                        f"Port {self.params['api_port']} of 127.0.0.1 is taken: choose another 'api_port'."
                    ) from error
        if self._inspect("network", self.name) is None:
            wanted = ipaddress.ip_network(self.params["subnet"])
            routes = subprocess.run(["ip", "-4", "route", "show"], capture_output=True, text=True).stdout
            for line in routes.splitlines():
                word = line.split()[0]
                if word != "default" and ipaddress.ip_network(word, strict=False).overlaps(wanted):
                    raise ClusterError(
                        f"The address range {wanted} overlaps the route '{line.strip()}': choose another 'subnet'."
                    )

    def image(self) -> str:
        """The node image's name; its tag is a hash of what goes in."""
        digest = hashlib.sha256(json.dumps([self.params["binaries"], self.params["versions"], PACKAGES], sort_keys=True).encode())
        for file in sorted((Path(self.params["files"]) / "node").rglob("*")):
            if file.is_file():
                digest.update(str(file.name).encode() + b"\0" + file.read_bytes())
        return f"localhost/flaskops/node:v{self.params['versions']['kubernetes']}-{digest.hexdigest()[:12]}"

    def build_image(self, ref: str) -> None:
        """Build the node image: Debian, the binaries, and archives of the control plane's images."""
        catatonit = shutil.which("catatonit")
        if catatonit is None:
            raise ClusterError("catatonit is not installed, and the pause image is made of it: install the package catatonit.")
        debian_base(self.engine, BASE, PACKAGES)
        versions, arch = self.params["versions"], ARCH[platform.machine()]
        folders = {name: Path(path) for name, path in self.params["binaries"].items()}
        kube = f"v{versions['kubernetes']}"
        with tempfile.TemporaryDirectory(prefix="flaskops-node-") as scratch:
            context = Path(scratch) / "node"
            shutil.copytree(Path(self.params["files"]) / "node", context)
            (context / "bin").mkdir()
            (context / "images").mkdir()
            inside = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "coredns"}
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
                ("localhost/pause:catatonit", Path(catatonit), "/pause", ["/pause", "-P"]),
            ]
            for image, binary, target, entrypoint in archives:
                _archive.write(context / "images" / f"{binary.name}.tar", image, binary, target, entrypoint, arch)
            self.engine.build(str(context), str(context / "Containerfile"), ref, {"BASE_IMAGE": BASE})

    def present(self) -> None:
        """Make the cluster, bring it back, or leave it alone where it answers."""
        self.check_free()
        ref = self.image()
        if self.api_answers():
            return
        if not self.engine.image_exists(ref):
            self.actions.append(f"build the node image {ref}")
        revived = self._inspect("volume", self.volume) is not None
        self.actions.append(f"{'bring back' if revived else 'make'} the cluster {self.name}")
        if self.check_mode:
            return
        if not self.engine.image_exists(ref):
            self.build_image(ref)
        self._make_network()
        if not revived:
            self._make_volume()
        self._remove_container()
        started = datetime.now(UTC).replace(microsecond=0)
        self._run(ref)
        self._bootstrap()
        self._wait(started)

    def _make_network(self) -> None:
        if self._inspect("network", self.name) is None:
            plain = ["--disable-dns"] if self.engine.name == "podman" else []
            self.engine.run(
                ["network", "create", *plain, "--subnet", self.params["subnet"], "--label", f"{LABEL}={self.name}", self.name]
            )

    def _make_volume(self) -> None:
        others = self._volumes()
        before = (self._labels("volume", others[0]) or {}) if others else {}
        labels = [f"{LABEL}={self.name}"]
        for key in SYSCTLS:
            value = before.get(f"{LABEL}.{key}") or Path("/proc/sys", key).read_text().strip()
            labels.append(f"{LABEL}.{key}={value}")
        flags = [word for label in labels for word in ("--label", label)]
        self.engine.run(["volume", "create", *flags, self.volume])

    def _run(self, ref: str) -> None:
        self.engine.run(
            [
                *("run", "--detach", "--name", self.node, "--hostname", self.node, "--label", f"{LABEL}={self.name}"),
                *("--privileged", "--cgroupns", "private", "--network", self.name, "--ip", str(self._address())),
                *("--publish", f"127.0.0.1:{self.params['api_port']}:6443", "--volume", f"{self.volume}:/var/lib/flaskops"),
                *("--tmpfs", "/run", ref),
            ],
            timeout=60,
        )

    def _address(self) -> ipaddress.IPv4Address:
        return ipaddress.IPv4Network(self.params["subnet"])[2]

    def _exec(self, *command: str, text: str = "") -> str:
        done = self.engine.run(
            ["exec", "--interactive", self.node, *command], input=text.encode(), timeout=self.params["wait_timeout"]
        )
        return done.stdout.decode()

    def _bootstrap(self) -> None:
        template = string.Template((Path(self.params["files"]) / "kubeadm.yaml").read_text())
        self._exec("bootstrap.sh", text=template.substitute(name=self.name, address=self._address(), **self.params["versions"]))
        config = self._exec("cat", "/etc/kubernetes/admin.conf")
        config = config.replace(f"https://{self._address()}:6443", f"https://127.0.0.1:{self.params['api_port']}")
        config = config.replace(f"kubernetes-admin@{self.name}", self.name)
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.chmod(0o600)
        self.kubeconfig.write_text(config)

    def _stale_pods(self, started: datetime) -> list[str]:
        """The pods whose status is still from before the node was started, so that nothing may trust it."""
        stale = []
        for pod in json.loads(self._api("/api/v1/pods"))["items"]:
            for container in pod["status"].get("containerStatuses", []):
                running = container["state"].get("running")
                if running and datetime.fromisoformat(running["startedAt"]) < started:
                    stale.append(pod["metadata"]["name"])
        return stale

    def _wait(self, started: datetime) -> None:
        deadline = time.monotonic() + self.params["wait_timeout"]
        pause = threading.Event()
        while not self.api_answers():
            if time.monotonic() > deadline:
                log = self._exec("tail", "-n", "5", "/var/log/kubelet.log").strip().replace("\n", " | ")
                raise ClusterError(
                    f"The API server of {self.name} gave no answer in {self.params['wait_timeout']} s; kubelet says: {log}"
                )
            pause.wait(0.2)
        while stale := self._stale_pods(started):
            if time.monotonic() > deadline:
                late = f"in {self.params['wait_timeout']} s: see their events"
                raise ClusterError(f"The pods {', '.join(stale)} were not started again {late}.")
            pause.wait(0.2)
        kubectl = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"]
        left = f"--timeout={max(1, int(deadline - time.monotonic()))}s"
        self._exec(*kubectl, "wait", "--for=condition=Ready", "node", "--all", left)
        self._exec(*kubectl, "-n", "kube-system", "rollout", "status", "deployment/coredns", left)

    def _remove_container(self) -> None:
        # podman 4.3 may fail the first removal of a container whose monitor died with it; the second succeeds.
        for _ in range(3):
            if self._inspect("container", self.node) is None:
                return
            subprocess.run([self.engine.path, "rm", "--force", "--volumes", self.node], capture_output=True, env=self.engine.env)
        if self._inspect("container", self.node) is not None:
            raise ClusterError(f"The container {self.node} can't be removed: see '{self.engine.name} rm --force {self.node}'.")

    def absent(self) -> None:
        """Remove all that is ours, and put the kernel's settings back with the last cluster."""
        found = [
            (kind, name)
            for kind, name in (("container", self.node), ("volume", self.volume), ("network", self.name))
            if (self._labels(kind, name) or {}).get(LABEL) == self.name
        ]
        self.actions = [f"remove the {kind} {name}" for kind, name in found]
        if self.kubeconfig.exists():
            self.actions.append(f"remove {self.kubeconfig}")
        if self.check_mode:
            return
        if ("container", self.node) in found:
            self._remove_container()
        labels = self._labels("volume", self.volume) or {}
        if ("volume", self.volume) in found:
            self.engine.run(["volume", "rm", "--force", self.volume])
            if not self._volumes():
                for key in SYSCTLS:
                    if f"{LABEL}.{key}" in labels:
                        Path("/proc/sys", key).write_text(labels[f"{LABEL}.{key}"])
        if ("network", self.name) in found:
            force = ["--force"] if self.engine.name == "podman" else []
            self.engine.run(["network", "rm", *force, self.name])
        self.kubeconfig.unlink(missing_ok=True)
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
        cluster = Cluster(module.params, module.check_mode)
        getattr(cluster, module.params["state"])()
    except (ClusterError, EngineError, urllib.error.URLError, OSError) as error:
        module.fail_json(msg=str(error), actions=[])
    module.exit_json(changed=bool(cluster.actions), actions=cluster.actions, seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    main()
