# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the shared cluster have in common: the cluster, and playbooks run as users run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml
from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[1]
# What would make `make test` too long; `make test-long` runs it.
LONG = pytest.mark.skipif(not os.environ.get("FLASKOPS_LONG"), reason="it takes minutes: `make test-long` runs it")
# Port 1 of the loopback address answers nobody.
DEAD_KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: dead
clusters: [{name: dead, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: dead, user: {}}]
contexts: [{name: dead, context: {cluster: dead, user: dead}}]
"""
# The inventory of `molecule test`; its host is the shared cluster.
INVENTORY = ("-i", "inventories/local", "-i", "molecule/default/inventory.yml", "--limit", "flaskops-test")


@dataclass
class Cluster:
    """The cluster that `molecule converge` has made."""

    kubeconfig: Path
    context: str = "flaskops-test"

    @cached_property
    def api(self) -> client.ApiClient:
        return config.new_client_from_config(str(self.kubeconfig), context=self.context)

    @cached_property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    @cached_property
    def apps(self) -> client.AppsV1Api:
        return client.AppsV1Api(self.api)

    def namespaces(self) -> set[str]:
        return {namespace.metadata.name for namespace in self.core.list_namespace().items}

    @property
    def host(self) -> str:
        """The address of this machine on the node's network, where pods reach it."""
        node = self.core.list_node().items[0]
        inside = next(each.address for each in node.status.addresses if each.type == "InternalIP")
        return f"{inside.rpartition('.')[0]}.1"

    def address(self, service: str, namespace: str) -> str:
        """The load balancer's address of a Service."""
        status = self.core.read_namespaced_service(service, namespace).status
        return str(status.load_balancer.ingress[0].ip)


@dataclass
class Run:
    """An ansible-playbook that has ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def changed(self) -> int:
        """How many tasks reported a change; a run that failed fails the test."""
        assert self.returncode == 0, self.stdout[-3000:] + self.stderr[-1000:]
        found = re.findall(r"changed=(\d+)", self.stdout)
        assert found, self.stdout[-2000:]
        return sum(map(int, found))

    @property
    def error(self) -> str:
        """The message of the task that failed, in one line; a run that did not fail fails the test."""
        assert self.returncode != 0, self.stdout[-2000:]
        found = re.search(r"^\[ERROR\]: (.*?)(?=^Origin: |^fatal: )", self.stdout + self.stderr, re.MULTILINE | re.DOTALL)
        assert found, self.stdout[-3000:]
        return " ".join(found.group(1).split())


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values in what a file of YAML has, each with the key above it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value


def clean_environment() -> dict[str, str]:
    """This process's environment without what Ansible and Kubernetes' clients read from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_", "KUBECONFIG"))}


def installed_collection(folder: Path) -> Path:
    """Build the collection and install it below *folder*, as a stranger does; the path for `collections`."""
    galaxy = [str(Path(sys.executable).with_name("ansible-galaxy")), "collection"]
    # Where the checkout's own links are on the path, ansible-galaxy takes them for an installed collection.
    common: dict[str, Any] = {"cwd": folder, "check": True, "capture_output": True, "timeout": 120, "env": clean_environment()}
    subprocess.run([*galaxy, "build", str(ROOT), "--output-path", str(folder)], **common)
    (archive,) = folder.glob("*.tar.gz")
    target = folder / "collections"
    subprocess.run([*galaxy, "install", str(archive), "--no-deps", "--offline", "-p", str(target)], **common)
    assert (target / "ansible_collections/flaskops/observability/MANIFEST.json").is_file()
    return target


def playbook(
    *args: str,
    inventory: tuple[str, ...] = INVENTORY,
    cwd: Path = ROOT,
    collections: Path = ROOT / "collections",
    extra: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
) -> Run:
    """Run ansible-playbook of this Python, for `timeout` seconds at most; `extra` becomes its extra variables."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), *inventory, *args]
    if extra:
        command += ["-e", json.dumps(extra)]
    environment = clean_environment() | {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_NOCOLOR": "1", **(env or {})}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)
    return Run(done.returncode, done.stdout, done.stderr)


def run_role(role: str, folder: Path, variables: dict[str, Any], *args: str, env: dict[str, str] | None = None) -> Run:
    """Run one role on localhost; its variables go through a file, as secrets should, and `<role>_skipped` is shown."""
    path = write_play(role, folder)
    (folder / "variables.yml").write_text(yaml.safe_dump({"ansible_python_interpreter": sys.executable, **variables}))
    arguments = ("-c", "local", str(path), "-e", f"@{folder / 'variables.yml'}", *args)
    return playbook(*arguments, inventory=("-i", "localhost,"), env=env)


def watched_role(role: str, folder: Path, variables: dict[str, Any]) -> tuple[str, set[str]]:
    """Run one role at -vvv with differences: its output, and the command lines of all processes meanwhile."""
    (folder / "variables.yml").write_text(yaml.safe_dump({"ansible_python_interpreter": sys.executable, **variables}))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", "-vvv", "--diff"]
    command += [str(write_play(role, folder)), "-e", f"@{folder / 'variables.yml'}"]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    arguments: set[str] = set()
    with (
        (folder / "output").open("w") as output,
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output) as process,
    ):
        while True:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments.add(path.read_text(errors="replace"))
                except OSError:
                    continue
            try:
                code = process.wait(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                continue
    text = (folder / "output").read_text()
    assert code == 0, text[-3000:]
    return text, arguments


def write_play(role: str, folder: Path) -> Path:
    """A playbook in `folder` that runs one role on all hosts."""
    tasks = [
        {"name": "Run it", "ansible.builtin.import_role": {"name": f"flaskops.observability.{role}"}},
        {
            "name": "Show whether it was skipped",
            "ansible.builtin.debug": {"msg": f"skipped: {{{{ {role}_skipped | default('not said') }}}}"},
        },
    ]
    path = folder / "play.yml"
    path.write_text(yaml.safe_dump([{"name": "Run one role", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    return path


def inventory_of(folder: Path, hosts: Mapping[str, dict[str, Any] | None], **variables: Any) -> tuple[str, str]:
    """Write an inventory whose hosts are this machine, each with its own variables; as `inventory` of playbook.

    :param variables: of all hosts.
    """
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"hosts": dict(hosts), "vars": common}}))
    return "-i", str(path)


def failures(
    role: str, folder: Path, hosts: dict[str, dict[str, Any]], *args: str, shared: dict[str, Any] | None = None
) -> tuple[Run, dict[str, str]]:
    """Run one role on several hosts at once, each with its own variables: the run, and what each host failed with.

    :param shared: variables of all hosts.
    """
    inventory, env = inventory_of(folder, hosts, **(shared or {})), {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = playbook(str(write_play(role, folder)), *args, inventory=inventory, env=env)
    # A task that is done for several items says it of the one that failed.
    pattern = r"^(?:fatal: \[([^]]+)\]: FAILED!|failed: \[([^]]+)\] \(item=.*?\)) => (\{.*\})$"
    results = {one or other: text for one, other, text in re.findall(pattern, done.stdout, re.MULTILINE)}
    assert set(results) == set(hosts), done.stdout[-3000:] + done.stderr[-1000:]
    said = {}
    for host, text in results.items():
        result = json.loads(text)
        said[host] = " ".join(result.get("argument_errors") or [result["msg"]])
    return done, said


def refusals(role: str, folder: Path, cases: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What a role says about options that it should refuse, by the case's name; it must be one line and no Traceback.

    The cluster does not answer, so that what gets past the checks would say so.
    """
    (folder / "config").write_text(DEAD_KUBECONFIG)
    shared = {f"{role}_kubeconfig": str(folder / "config")}
    _done, said = failures(role, folder, {f"case-{n}": {**shared, **options} for n, options in enumerate(cases.values())})
    found = {name: said[f"case-{n}"] for n, name in enumerate(cases)}
    for name, text in found.items():
        assert "\n" not in text and "Traceback" not in text, f"{name}: {text}"
    return found


def until(
    function: Callable[[], Any], seconds: float, what: str, pause: float = 0.5, passing: tuple[type[Exception], ...] = ()
) -> Any:
    """What `function` returns as soon as it is true; errors that are `passing` are no answer yet."""
    waiting, deadline = Event(), time.monotonic() + seconds
    while True:
        trouble = ""
        try:
            found = function()
        except passing as error:
            found, trouble = None, f" ({error})"
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:.0f} s{trouble}"
        waiting.wait(pause)


def over(pid: int) -> bool:
    """Whether a process has ended with all its threads: as long as one is left, its files are open and locked."""
    try:
        return all(path.read_text().rsplit(")", 1)[1].split()[0] in "ZX" for path in Path(f"/proc/{pid}/task").glob("*/stat"))
    except OSError:
        return False


def processes(root: int) -> list[int]:
    """A process and all that come from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def start_program(cluster: Cluster, namespace: str, program: str, labels: dict[str, str], image: str) -> str:
    """Have a pod of a restricted namespace run a Python program; the pod's name."""
    name = f"program-{time.time_ns() // 10**6}"
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-u", "-c", program],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    cluster.core.create_namespaced_pod(namespace, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    return name


def on_node(cluster: Cluster, *words: str) -> str:
    """What a command prints in the node of the shared cluster."""
    command = ["podman", "exec", f"{cluster.context}-node", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=engine_env(), timeout=60).stdout


def engine_env() -> dict[str, str]:
    """The environment in which podman finds the clusters' containers."""
    from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine

    return Engine.find("podman").env
