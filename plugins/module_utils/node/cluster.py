# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local cluster: its nodes, network and kubeconfig. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import json
import os
import re
import ssl
import string
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..kube.transport import ApiError, PlainCluster, read_object
from . import registry_mirrors, settled
from .build import build_image, image_name
from .engine import ASK_TIMEOUT, LABEL, Engine, EngineError, NoEngineError, SlowEngineError, elsewhere
from .host import MODULES, dropped, lacks, machine, modprobe, refusal
from .node import PATIENCE, ClusterError, Node
from .options import check_network, check_options, check_port

# kubelet sets these for the whole host; the values from before are kept as labels of the volume, and put back at the end.
SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
ASK = 5  # seconds of one request
BOOTSTRAP = 3  # times wait_timeout, for the import of the images and kubeadm's waits, one after the other
PROC_SYS = Path("/proc/sys")
ADMIN = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")  # in the control plane's node
DRAIN_TIMEOUT = 180
TAINT = "node-role.kubernetes.io/control-plane"


class LocalCluster:
    """One cluster: its nodes, network and kubeconfig."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        self.name = params["name"]
        parts = (("container", f"{self.name}-node"), ("volume", f"{self.name}-data"))
        self.engine = Engine.find(params["engine"], only=("podman", "docker"), having=parts, here=True)
        self.control = self._node(f"{self.name}-node", f"{self.name}-data", 2)
        self.workers = [self._worker(number) for number in range(1, params["workers"] + 1)]
        self.kubeconfig = Path(params["kubeconfig"]).expanduser()
        self.actions: list[str] = []
        self.warnings: list[str] = []
        self.images: dict[str, str] = {}

    def _node(self, name: str, volume: str, number: int) -> Node:
        address = ipaddress.IPv4Network(self.params["subnet"])[number]
        mirrors = registry_mirrors.files(self.params["registry_mirrors"])
        return Node(self.engine, self.name, name, volume, address, self.params["wait_timeout"], mirrors)

    def _worker(self, number: int) -> Node:
        return self._node(f"{self.name}-worker-{number}", f"{self.name}-worker-{number}-data", 2 + number)

    def _there(self, kubeconfig: str | None = None) -> list[Node]:
        """The workers of which this machine has a container or a volume, or the cluster of *kubeconfig* a node."""
        label = ["--filter", f"label={LABEL}={self.name}"]
        lists = (["container", "ls", "--all", *label, "--format", "{{.Names}}"], ["volume", "ls", "--quiet", *label])
        names = " ".join(self.engine.run(words, timeout=ASK_TIMEOUT).stdout.decode() for words in lists)
        if kubeconfig:  # somebody may have removed the rest
            known = self._ask(kubeconfig, settled.PATHS["Node"])["items"]
            names += "".join(f" {node['metadata']['name']}" for node in known)
        numbers = re.findall(rf"(?<!\S){re.escape(self.name)}-worker-(\d+)(?:-data)?(?!\S)", names)
        return [self._worker(number) for number in sorted({int(each) for each in numbers})]

    def _volumes(self) -> list[dict[str, str]]:
        """The labels of all clusters' volumes, of any engine: they share one kernel."""
        found = []
        for name in ("podman", "docker"):
            with contextlib.suppress(EngineError):
                engine = Engine.find(name)
                if elsewhere(engine):
                    continue
                for volume in engine.run(["volume", "ls", "--quiet", "--filter", f"label={LABEL}"]).stdout.decode().split():
                    found.append(engine.labels("volume", volume) or {})
        return found

    def _node_kubeconfig(self) -> str | None:
        """The kubeconfig for this machine, from the running node; None where it does not run, or kubeadm did not end."""
        script = "test -e /var/lib/flaskops/initialised && cat /etc/kubernetes/admin.conf"
        try:
            config = self.control.ask("sh", "-c", script)
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

    def _connect(self, kubeconfig: str) -> PlainCluster:
        """The API server, with the certificate of its kubeconfig; never by a proxy, for it is this machine."""
        config = yaml.safe_load(kubeconfig)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            tls.load_cert_chain(pair.name)
        return PlainCluster(cluster["server"], tls)

    def _answers(self, kubeconfig: str, seconds: float = 0) -> bool:
        """Whether the API server of this very cluster says within some seconds that it is ready."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self._connect(kubeconfig).fetch("/readyz", seconds=ASK) == (200, "ok"):
                    return True
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                return False  # no kubeconfig
            except ApiError:
                pass
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)

    def _ask(self, kubeconfig: str, path: str) -> dict[str, Any]:
        """One object or list of the API server, which may be busy for a moment.

        :raises ClusterError: where it does not answer.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return dict(read_object(*self._connect(kubeconfig).fetch(path, seconds=ASK)))
            except ApiError as error:
                if time.monotonic() >= deadline:
                    raise ClusterError(
                        f"The API server of cluster {self.name} did not answer {path} within {PATIENCE} s ({error}): run again."
                    ) from error
            time.sleep(0.5)

    def check_ours(self) -> None:
        """Refuse a name or file that is somebody else's, before anything is changed."""
        parts = [part for node in (self.control, *self.workers) for part in node.labels()]
        for kind, name, labels in [*parts, ("network", self.name, self.engine.labels("network", self.name))]:
            if labels is not None and labels.get(LABEL) != self.name:
                raise ClusterError(f"The {kind} '{name}' exists and is not ours: choose another 'name'.")
        has = re.findall(r'"subnet": "([\d./]+)"', json.dumps(self.engine.inspect("network", self.name)), re.IGNORECASE)
        if has and self.params["subnet"] not in has:
            raise ClusterError(
                f"The cluster {self.name} has the subnet {has[0]}, and a cluster keeps its addresses: set 'subnet' to that,"
                " or remove the cluster first by 'state: absent'."
            )
        if self.kubeconfig.exists() and self.kubeconfig.read_bytes().strip() and self._saved_kubeconfig() is None:
            raise ClusterError(f"The file {self.kubeconfig} is not the kubeconfig of {self.name}: name another 'kubeconfig'.")

    def check_free(self) -> None:
        """Refuse a port or network that is somebody else's, before anything is changed."""
        container = self.engine.inspect("container", self.control.name)
        port = self.params["api_port"]
        if container is None or not container["State"]["Running"] or not publishes(container, port):
            check_port(port)
        if self.engine.inspect("network", self.name) is None:
            check_network(self.params["subnet"], self.engine.subnets())

    def present(self) -> None:
        """Make the cluster, bring back what is lost of it, and leave alone what answers."""
        self.check_ours()
        running = self._node_kubeconfig()
        kubeconfig = running or self._saved_kubeconfig()
        # In a node that runs, kubelet may be starting the API server again; it needs not be started as a whole.
        if kubeconfig and self._answers(kubeconfig, PATIENCE if running else 0):
            self._write_kubeconfig(kubeconfig)
            lost = self._lost(kubeconfig)
        else:
            kubeconfig, lost = None, [self.control, *self._lost(None)]
        self._give_mirrors([node for node in (self.control, *self.workers) if node not in lost])
        if lost:
            kubeconfig = self._start(lost) or kubeconfig
        surplus = [node for node in self._there(kubeconfig) if node.name not in {each.name for each in self.workers}]
        self.actions += [f"drain and remove the worker {node.name}" for node in surplus]
        if kubeconfig is None:  # check mode, and there is none to ask
            return
        reserve = self._misplaced(kubeconfig)
        if reserve and self.control not in lost:
            self.actions.append(
                f"{'keep' if self.workers else 'let'} ordinary pods {'off' if self.workers else 'on'} the control plane"
            )
        if self.check_mode:
            return
        if reserve:
            self.control.exec("reserve.sh", "yes" if self.workers else "no")
        if surplus:
            self._retire(surplus, kubeconfig)
        # A run that failed or was interrupted may have left a cluster that answers and does not work.
        self._settle(kubeconfig)

    def _give_mirrors(self, nodes: list[Node]) -> None:
        """Have nodes that run ask the mirrors that are wanted, and no others."""
        for node in nodes:
            if node.started() and registry_mirrors.differ(self.engine, node.name, node.mirrors):
                self.actions.append(f"write the registry mirrors of {node.name}")
                if not self.check_mode:
                    registry_mirrors.write(self.engine, node.name, node.mirrors)

    def _lost(self, kubeconfig: str | None) -> list[Node]:
        """The workers that do not run, or that the cluster of *kubeconfig* does not have as ready nodes."""
        with ThreadPoolExecutor() as pool:
            marks = dict(zip((node.name for node in self.workers), pool.map(Node.mark, self.workers), strict=True))
        if kubeconfig is None:
            return [node for node in self.workers if marks[node.name] is None]
        mark = self._mark(kubeconfig)
        lost = [node for node in self.workers if marks[node.name] != mark]
        waiting = {node.name for node in self.workers if marks[node.name] == mark}
        deadline = time.monotonic() + PATIENCE
        while waiting:
            # kubelet of a node that runs may be starting again.
            waiting -= settled.ready(self._ask(kubeconfig, settled.PATHS["Node"])["items"])
            if time.monotonic() >= deadline:
                break
            time.sleep(0.5 if waiting else 0)
        return [node for node in self.workers if node in lost or node.name in waiting]

    @staticmethod
    def _mark(kubeconfig: str) -> str:
        """What tells this cluster from another one of its name: a hash of its certificate authority."""
        authority = yaml.safe_load(kubeconfig)["clusters"][0]["cluster"]["certificate-authority-data"]
        return hashlib.sha256(str(authority).encode()).hexdigest()

    def _misplaced(self, kubeconfig: str) -> bool:
        """Whether ordinary pods may run on the control plane with workers, or may not without, or CoreDNS may be anywhere."""
        taints = self._ask(kubeconfig, f"/api/v1/nodes/{self.control.name}")["spec"].get("taints", [])
        dns = self._ask(kubeconfig, "/apis/apps/v1/namespaces/kube-system/deployments/coredns")["spec"]["template"]["spec"]
        reserved = TAINT in {taint["key"] for taint in taints}
        return reserved != bool(self.workers) or (bool(self.workers) and TAINT not in dns.get("nodeSelector", {}))

    def _start(self, lost: list[Node]) -> str | None:
        """Make or bring back the nodes *lost*; the kubeconfig, or None in check mode."""
        if warning := dropped(self.engine, self.params["subnet"]):
            self.warnings.append(warning)
        ref = image_name(self.params)
        workers = [node for node in lost if node is not self.control]
        control = self.control in lost
        if not control:
            container = self.engine.inspect("container", self.control.name) or {}
            has = str(container.get("ImageName") or container["Config"]["Image"])
            if self.control.refused("test", "-e", "/usr/local/bin/join.sh"):
                # A control plane from before there were workers needs what makes a network of several nodes.
                self._check_version(has, ref)
                lost, control = [self.control, *lost], True
            else:
                ref = has  # the same programs as the control plane's, whatever version made it
        build = not self.engine.image_exists(ref)
        there = {node.name: self.engine.inspect("volume", node.volume) is not None for node in lost}
        volumes = list(there.values()).count(False)
        if lacking := lacks(machine(self.engine, build), build, control, len(workers), volumes):
            raise ClusterError(refusal(lacking))
        self.check_free()
        if build:
            self.actions.append(f"build the node image {ref}")
        if control:
            self.actions.append(f"{'bring back' if there[self.control.name] else 'make'} the cluster {self.name}")
        self.actions += [f"{'bring back' if there[node.name] else 'add'} the worker {node.name}" for node in workers]
        if self.check_mode:
            return None
        if build:
            build_image(self.engine, self.params, ref)
        self._make_network()
        for node in lost:
            if not there[node.name]:
                self._make_volume(node)
        return self._run(workers, ref, control)

    def _run(self, workers: list[Node], ref: str, control: bool) -> str:
        """Run the containers of nodes whose volumes are there, and make them a cluster; its kubeconfig."""
        if not MODULES["br_netfilter"].exists():
            modprobe("br_netfilter")
        publish = ("--publish", f"127.0.0.1:{self.params['api_port']}:6443")
        with ThreadPoolExecutor() as pool:
            begun = [pool.submit(self._begin, node, ref) for node in workers]
            if control:
                self.warnings += filter(None, [self.control.start(ref, *publish)])
                self._bootstrap()
            warnings = [each.result() for each in begun]
        self.warnings += [each for each in dict.fromkeys(warnings) if each and each not in self.warnings]
        kubeconfig = self._node_kubeconfig()
        if kubeconfig is None:
            raise ClusterError(self.control.ended())
        if control:
            self._write_kubeconfig(kubeconfig)
            self.control.until(lambda: [] if self._answers(kubeconfig) else ["the API server"])
            self._serve(self.control)
            mark = self._mark(kubeconfig)
            for node in [each for each in self.workers if each not in workers]:
                if node.mark() == mark:  # its watches have met a dead API server
                    node.refused("supervisorctl", "restart", "services:*")
                else:  # of a control plane that has been made again
                    self._begin(node, ref)
                    workers.append(node)
        if workers:
            self._join(workers, kubeconfig)
        return kubeconfig

    @staticmethod
    def _check_version(has: str, wants: str) -> None:
        """Refuse a worker that is not of the control plane's version of Kubernetes."""
        versions = [re.findall(r":v([\d.]+)-", ref) for ref in (has, wants)]
        if versions[0] != versions[1]:
            raise ClusterError(
                f"The cluster runs Kubernetes {''.join(versions[0]) or has}, and a worker would have {''.join(versions[1])}:"
                " remove the cluster by 'state: absent' and make it again, or use the collection's version that made it."
            )

    @staticmethod
    def _begin(node: Node, ref: str) -> str:
        """Start a worker up to where it needs the control plane: a warning, or empty."""
        warning = node.start(ref)
        node.exec("prepare.sh", str(node.address), "worker", timeout=BOOTSTRAP * node.wait_timeout)
        return warning

    @staticmethod
    def _serve(node: Node) -> None:
        """Start what serves pods on a node; what ends at once is started again by the supervisor."""
        control = ["load-balancer"] if node.name.endswith("-node") else []
        node.refused("supervisorctl", "start", "services:*", *control)

    def _join(self, workers: list[Node], kubeconfig: str) -> None:
        """Make the started *workers* nodes of the cluster, side by side."""
        mark = self._mark(kubeconfig)
        access = self.control.exec("cat", "/var/lib/flaskops/proxy.conf")
        new = [node for node in workers if node.mark() != mark]
        token = digest = ""
        if new:
            # kubeadm refuses the name of a node that still counts as ready.
            names = [node.name for node in new]
            self.control.exec(*ADMIN, "delete", "nodes", "--ignore-not-found", *names)
            command = self.control.exec("kubeadm", "token", "create", "--ttl", "15m", "--print-join-command").split()
            token, digest = command[command.index("--token") + 1], command[command.index("--discovery-token-ca-cert-hash") + 1]
        template = string.Template((Path(self.params["files"]) / "join.yaml").read_text())
        timeout = max(self.params["wait_timeout"], 1)

        def join(node: Node) -> None:
            values = {"address": self.control.address, "node": node.name, "token": token, "hash": digest}
            node.exec("sh", "-c", "umask 077 && cat > /var/lib/flaskops/proxy.conf", text=access)
            try:
                node.exec("join.sh", mark, text=template.substitute(values, timeout=f"{timeout}s"), timeout=2 * timeout)
            except EngineError as error:
                text = str(error).replace(token, "...") if token else str(error)
                slow = f" within {timeout} s (raise 'wait_timeout' where this machine is slow)" if too_slow(error) else ""
                raise ClusterError(f"The worker {node.name} could not join the cluster {self.name}{slow}: {text}") from None
            self._serve(node)

        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(join, workers))
        finally:
            if new:
                self.control.refused("kubeadm", "token", "delete", token.split(".")[0])

    def _retire(self, surplus: list[Node], kubeconfig: str) -> None:
        """Drain workers and remove them with their volumes."""
        ready = settled.ready(self._ask(kubeconfig, settled.PATHS["Node"])["items"])
        living = [node.name for node in surplus if node.name in ready and node.mark()]
        flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={DRAIN_TIMEOUT}s")
        if living:  # all at once, so that no pod goes from one of them to the next
            self.control.exec(*ADMIN, "cordon", *living)
        for node in surplus:
            if node.name in living:
                try:
                    self.control.exec(*ADMIN, "drain", node.name, *flags, timeout=DRAIN_TIMEOUT + ASK_TIMEOUT)
                except EngineError as error:
                    self.control.refused(*ADMIN, "uncordon", *living[living.index(node.name) :])
                    raise ClusterError(
                        f"The worker {node.name} could not be drained within {DRAIN_TIMEOUT} s, so it stays: {error}"
                    ) from error
            self.control.exec(*ADMIN, "delete", "node", node.name, "--ignore-not-found")
            node.remove_container()
            if self.engine.inspect("volume", node.volume):
                self._remove("volume", node.volume, "--force")

    def _bootstrap(self) -> None:
        """Let kubeadm make the cluster; its own limits are wait_timeout, so that it says itself what was late."""
        timeout, address = self.params["wait_timeout"], self.control.address
        template = string.Template((Path(self.params["files"]) / "kubeadm.yaml").read_text())
        values = {"name": self.name, "address": address, "timeout": f"{max(timeout, 1)}s", **self.params["versions"]}
        try:
            words = ("bootstrap.sh", str(address))
            printed = self.control.exec(*words, text=template.substitute(values), timeout=BOOTSTRAP * timeout)
            self.images = {ref: how for how, ref in re.findall(r"^(pulled|imported) (\S+)$", printed, re.MULTILINE)}
        except EngineError as error:
            if too_slow(error):
                raise ClusterError(
                    f"kubeadm has not made the cluster {self.name} within its limits of {timeout} s:"
                    f" raise 'wait_timeout' where this machine is slow ({error})."
                ) from error
            raise

    def _settle(self, kubeconfig: str) -> None:
        """Return when the cluster tells and serves nothing from before its nodes were started."""
        nodes = [self.control, *self.workers]
        for node in nodes:
            self._serve(node)
        api, started = self._connect(kubeconfig), {node.name: node.started() for node in nodes}
        since = {name: time for name, time in started.items() if time}
        self.control.deadline = time.monotonic() + self.params["wait_timeout"]
        self.control.until(lambda: self._unsettled(api, since))
        for node in nodes:
            node.deadline = self.control.deadline
            node.until(partial(self._unserved, node.address))

    def _make_network(self) -> None:
        if self.engine.inspect("network", self.name) is None:
            plain = ["--disable-dns"] if self.engine.name == "podman" else []
            self.engine.run(
                ["network", "create", *plain, "--subnet", self.params["subnet"], "--label", f"{LABEL}={self.name}", self.name]
            )

    def _make_volume(self, node: Node) -> None:
        others = self._volumes()
        before = others[0] if others else {}
        labels = [f"{LABEL}={self.name}"]
        for key in SYSCTLS:
            value = before.get(f"{LABEL}.{key}") or (PROC_SYS / key).read_text().strip()
            labels.append(f"{LABEL}.{key}={value}")
        loaded = "present" if MODULES["br_netfilter"].exists() else "absent"
        labels.append(f"{LABEL}.br_netfilter={before.get(f'{LABEL}.br_netfilter', loaded)}")
        flags = [word for label in labels for word in ("--label", label)]
        self.engine.run(["volume", "create", *flags, node.volume])

    def _unsettled(self, api: PlainCluster, started: dict[str, datetime]) -> list[str]:
        """What the cluster still tells or serves as it was before a node was started, each at its time of *started*."""
        try:
            objects = {kind: read_object(*api.fetch(path, seconds=ASK))["items"] for kind, path in settled.PATHS.items()}
        except ApiError:
            return ["the API server"]
        if late := settled.stale(objects, started):
            return late
        have = set(re.findall(r"inet ([\d.]+)/32 ", self.control.exec("ip", "-4", "-o", "address", "show", "dev", "lo")))
        return [f"the load balancer of {name}" for name, ips in settled.load_balancers(objects).items() if not ips or ips - have]

    @staticmethod
    def _unserved(address: ipaddress.IPv4Address) -> list[str]:
        """That kube-proxy of the node of this address has not written all rules."""
        with contextlib.suppress(ApiError):
            if settled.synced(PlainCluster(f"http://{address}:10249").fetch("/metrics", seconds=ASK)[1]):
                return []
        return ["kube-proxy"]

    def _remove(self, kind: str, name: str, *flags: str) -> None:
        """Remove an object; what is gone is gone, also where podman then fails to free its lock."""
        try:
            self.engine.run([kind, "rm", *flags, name])
        except EngineError:
            if self.engine.inspect(kind, name) is not None:
                raise

    def absent(self) -> None:
        """Remove all that is ours, and put the kernel's settings back with the last cluster."""
        if problem := elsewhere(self.engine):
            raise ClusterError(f"Nothing was changed, because {problem}.")
        nodes = [self.control, *self._there()]
        parts = [(part, node) for node in nodes for part in node.labels()]
        ours = [(kind, name, node) for (kind, name, labels), node in parts if (labels or {}).get(LABEL) == self.name]
        network = (self.engine.labels("network", self.name) or {}).get(LABEL) == self.name
        self.actions = [f"remove the {kind} {name}" for kind, name, _ in ours]
        if network:
            self.actions.append(f"remove the network {self.name}")
        builds = self.engine.unfinished_builds()
        self.actions += [f"remove the container {name} of a build that was killed" for name in builds]
        kubeconfig = self._saved_kubeconfig() is not None
        if kubeconfig:
            self.actions.append(f"remove {self.kubeconfig}")
        if os.geteuid() != 0:
            if self.actions:  # the volume, which a member of the group docker may remove, has the kernel's settings
                raise ClusterError(
                    f"The cluster {self.name} is removed by root, who puts the kernel's settings back, so nothing was changed:"
                    " run the same command as root."
                )
            self.warnings.append(
                f"{self.engine.name} has nothing of the cluster {self.name} for this user; what root made, root alone sees."
            )
        if self.check_mode:
            return
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.remove_container, [node for kind, _, node in ours if kind == "container"]))
        volumes = [name for kind, name, _ in ours if kind == "volume"]
        kept = self.engine.labels("volume", volumes[0]) or {} if volumes else {}
        for volume in volumes:
            self._remove("volume", volume, "--force")
        if volumes and not self._volumes():
            for key in SYSCTLS:
                if f"{LABEL}.{key}" in kept:
                    (PROC_SYS / key).write_text(kept[f"{LABEL}.{key}"])
            if kept.get(f"{LABEL}.br_netfilter") == "absent":
                modprobe("--remove", "br_netfilter")
        if network:
            self._remove("network", self.name, *(["--force"] if self.engine.name == "podman" else []))
        if builds:
            self.engine.run(["rm", "--force", *builds], timeout=ASK_TIMEOUT)
        if kubeconfig:
            self.kubeconfig.unlink()
        folder = self.kubeconfig.parent
        if folder.name == self.name and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def publishes(container: dict[str, Any], port: int) -> bool:
    """Whether the control plane's container has a port of this machine."""
    ports: dict[str, list[dict[str, str]]] = container.get("HostConfig", {}).get("PortBindings") or {}
    return any(each["HostPort"] == str(port) for bindings in ports.values() for each in bindings or ())


def too_slow(error: EngineError) -> bool:
    """Whether a program of the node gave up because something took too long."""
    patterns = "deadline exceeded|timed out|handshake timeout|is not healthy after"
    return isinstance(error, SlowEngineError) or re.search(patterns, str(error)) is not None


def bring(params: dict[str, Any], check_mode: bool) -> LocalCluster:
    """Bring the cluster to the state of the options; what was done stands in the result.

    :raises ClusterError, EngineError, MirrorError, OSError: with one sentence for the user.
    """
    check_options(params)
    try:
        cluster = LocalCluster(params, check_mode)
    except NoEngineError as error:
        if params["state"] == "absent":
            raise
        raise ClusterError(refusal(lacks(machine(error, build=True), build=True))) from None
    getattr(cluster, params["state"])()
    return cluster
