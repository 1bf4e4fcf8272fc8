# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control plane without a node on loopback: etcd, kube-apiserver and kube-controller-manager, ready in seconds.

It shows what admission, RBAC, quotas, autoscalers and somebody's releases do to the roles. No pod ever runs on it: where
something must get ready, kwok plays the node and says that every pod runs.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

import urllib3
import yaml
from kubernetes import client, config

from tests.fakes.certificates import certificate
from tests.toolchain import programs

CONTEXT = "rig"
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "kwok-1", "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": "kwok-1"}},
    "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "500"}},
}
# What the API server lacks without a manager; the role admin is empty without clusterrole-aggregation.
CONTROLLERS = (
    "deployment,replicaset,daemonset,namespace,serviceaccount,serviceaccount-token,disruption,endpointslice,resourcequota,"
    "garbagecollector,clusterrole-aggregation,cronjob,job,statefulset,persistentvolume-binder,pvc-protection,pv-protection"
)
# As on GKE: a pod of these priority classes needs a ResourceQuota that names them.
GKE_ADMISSION = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "ResourceQuota",
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "ResourceQuotaConfiguration",
                "limitedResources": [
                    {
                        "resource": "pods",
                        "matchScopes": [
                            {
                                "scopeName": "PriorityClass",
                                "operator": "In",
                                "values": ["system-node-critical", "system-cluster-critical"],
                            }
                        ],
                    }
                ],
            },
        }
    ],
}


@dataclass
class Rig:
    """A running control plane."""

    folder: Path
    url: str
    tokens: dict[str, str]

    def kubeconfig(self, name: str = "admin", user: dict[str, Any] | None = None, **cluster: Any) -> Path:
        """A kubeconfig file named *name*; *user* takes the place of the account of that name (admin, nobody)."""
        path = self.folder / f"{name}.kubeconfig"
        authority = (self.folder / "tls.crt").read_bytes()
        entry = {"server": self.url, "certificate-authority-data": base64.b64encode(authority).decode(), **cluster}
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": "c", "cluster": entry}],
            "users": [{"name": "u", "user": {"token": self.tokens[name]} if user is None else user}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(yaml.safe_dump(text))
        path.chmod(0o600)
        return path

    @cached_property
    def api(self) -> client.ApiClient:
        """A client with the rights of system:masters."""
        return config.new_client_from_config(str(self.kubeconfig()), context=CONTEXT)

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One request of the administrator; the answer's JSON. Any status of 400 and more fails the test."""
        reply = self.pool.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {self.tokens['admin']}", "Content-Type": kind},
        )
        assert reply.status < 400, (method, path, reply.status, reply.data[:500])
        return json.loads(reply.data)

    def remove(self, path: str) -> None:
        """Delete an object with all that it owns, and return when it is gone."""
        # The garbage collector would have to know the kind of a definition that is going, which it learns of late.
        policy = "Background" if "customresourcedefinitions" in path else "Foreground"
        self.request("DELETE", path, {"propagationPolicy": policy})
        headers, pause, deadline = {"Authorization": f"Bearer {self.tokens['admin']}"}, Event(), time.monotonic() + 60
        while self.pool.request("GET", self.url + path, headers=headers).status != 404:
            assert time.monotonic() < deadline, f"{path} is not gone after 60 s"
            pause.wait(0.2)

    @cached_property
    def pool(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(ca_certs=str(self.folder / "tls.crt"))

    def versions(self, *paths: str) -> dict[str, str]:
        """The version of every object in the lists at *paths*, by its own path."""
        found = {}
        for path in paths:
            for item in self.request("GET", path)["items"]:
                meta = item["metadata"]
                found[f"{path}:{meta.get('namespace', '')}/{meta['name']}"] = version(item)
        return found


def version(item: dict[str, Any]) -> str:
    """The resourceVersion of an object; of one to which a controller writes at any time, what others wrote last."""
    meta = item["metadata"]
    workload = "observedGeneration" in item.get("status", {}) or "template" in item.get("spec", {})
    if not workload and "aggregationRule" not in item:
        return str(meta["resourceVersion"])
    controllers = ("kube-controller-manager", "clusterrole-aggregation-controller")
    others = [entry for entry in meta["managedFields"] if entry["manager"] not in controllers]
    return json.dumps([meta["uid"], meta.get("generation"), others], sort_keys=True)


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


@contextmanager
def running(folder: Path, admission: dict[str, Any] | None = None, node: bool = False) -> Iterator[Rig]:
    """Start a control plane with its data in *folder*, and stop it in the end.

    :param admission: an AdmissionConfiguration, such as `GKE_ADMISSION`.
    :param node: whether pods get ready, on one node that is kwok's. A Prometheus operator then works beside it, with the
        definitions of its kinds.
    """
    etcd_port, peer_port, port, manager_port, scheduler_port, kwok_port, operator_port = free_ports(7)
    url = f"https://127.0.0.1:{port}"
    tokens = {name: secrets.token_hex(16) for name in ("admin", "nobody")}
    (folder / "tokens.csv").write_text(
        f"{tokens['admin']},admin,admin,system:masters\n{tokens['nobody']},nobody,nobody,nobodies\n"
    )
    subprocess.run(["openssl", "genrsa", "-out", folder / "key.pem", "2048"], check=True, capture_output=True, timeout=60)
    for name, text in zip(("tls.crt", "tls.key"), certificate("127.0.0.1", "localhost"), strict=True):
        (folder / name).write_text(text)
    extra = []
    if admission:
        (folder / "admission.yaml").write_text(yaml.safe_dump(admission))
        extra = [f"--admission-control-config-file={folder}/admission.yaml"]
    etcd, kube = programs("etcd"), programs("kubernetes")
    rig = Rig(folder, url, tokens)
    log = (folder / "log").open("w")
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: object, **environment: str) -> None:
        env = os.environ | environment
        processes.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env=env))

    def until_ready(what: str) -> None:
        deadline, pause = time.monotonic() + 180, Event()
        while True:
            try:
                return rig.request("GET", what) and None
            except (AssertionError, OSError, urllib3.exceptions.HTTPError) as error:
                alive = all(process.poll() is None for process in processes)
                if time.monotonic() > deadline or not alive:
                    raise AssertionError((folder / "log").read_text()[-2000:]) from error
            pause.wait(0.2)

    try:
        start(
            *(etcd / "etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync"),
            *(f"--listen-client-urls=http://127.0.0.1:{etcd_port}", f"--advertise-client-urls=http://127.0.0.1:{etcd_port}"),
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
        )
        start(
            *(kube / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd_port}", f"--secure-port={port}"),
            *(f"--tls-cert-file={folder}/tls.crt", f"--tls-private-key-file={folder}/tls.key"),
            *(f"--cert-dir={folder}/certs", "--bind-address=127.0.0.1", f"--token-auth-file={folder}/tokens.csv"),
            *(f"--service-account-key-file={folder}/key.pem", f"--service-account-signing-key-file={folder}/key.pem"),
            *("--service-account-issuer=https://test", "--service-cluster-ip-range=10.96.0.0/24"),
            *("--authorization-mode=RBAC", "--enable-admission-plugins=NodeRestriction", *extra),
        )
        until_ready("/api/v1/namespaces/default")
        start(
            *(kube / "kube-controller-manager", f"--kubeconfig={rig.kubeconfig()}", "--leader-elect=false"),
            *(f"--secure-port={manager_port}", f"--cert-dir={folder}/certs", f"--controllers={CONTROLLERS}"),
            *(f"--service-account-private-key-file={folder}/key.pem", "--use-service-account-credentials=false"),
        )
        until_ready("/api/v1/namespaces/default/serviceaccounts/default")
        if node:
            rig.request("POST", "/api/v1/nodes", NODE)
            # What a node is given until a controller, which is not here, has seen it.
            rig.request("PATCH", "/api/v1/nodes/kwok-1", {"spec": {"taints": None}}, "application/merge-patch+json")
            start(
                *(kube / "kube-scheduler", f"--kubeconfig={rig.kubeconfig()}", "--leader-elect=false"),
                *(f"--secure-port={scheduler_port}", f"--cert-dir={folder}/certs"),
            )
            kwok = programs("kwok")
            stages = [f"--config={file}" for part in ("pods", "nodes") for file in sorted((kwok / part).glob("*-*.yaml"))]
            start(
                *(kwok / "kwok", f"--kubeconfig={rig.kubeconfig()}", "--manage-all-nodes=true", *stages),
                *(f"--server-address=127.0.0.1:{kwok_port}", f"--node-port={kwok_port}"),
            )
            operator = programs("prometheus-operator")
            apply = [
                kube / "kubectl",
                f"--kubeconfig={rig.kubeconfig()}",
                "apply",
                "--server-side",
                f"--filename={operator}/crds",
            ]
            subprocess.run(apply, check=True, capture_output=True, timeout=120)
            until_ready("/apis/monitoring.coreos.com/v1/prometheuses")
            start(operator / "operator", f"--web.listen-address=127.0.0.1:{operator_port}", KUBECONFIG=str(rig.kubeconfig()))
        yield rig
    finally:
        # The API server before etcd, without which it would wait for minutes.
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=60)
        log.close()
