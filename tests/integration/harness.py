# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the shared cluster have in common: the cluster, and playbooks run as users run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[2]
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


def engine_env() -> dict[str, str]:
    """The environment in which podman finds the clusters' containers."""
    from ansible_collections.flaskops.observability.plugins.module_utils._engine import Engine

    return Engine.find("podman").env
