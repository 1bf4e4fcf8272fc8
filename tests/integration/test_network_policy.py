# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local cluster that enforces NetworkPolicies: what one denies is denied, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.stream import stream

from tests.harness import LONG, Cluster, playbook
from tests.node import free_network, free_port, wait_until

NAME = "flaskops-np-test"
APP = "flask-app"
NO_EGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "no-egress", "namespace": APP},
    "spec": {"podSelector": {"matchLabels": {"app": APP}}, "policyTypes": ["Egress"], "egress": []},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    inventory = tmp_path_factory.mktemp("inventory") / "inventory.yml"
    options = (
        f"local_cluster_api_port: {free_port()}, local_cluster_subnet: {free_network()}.0/24, "
        "local_cluster_enforce_network_policies: true"
    )
    inventory.write_text(f"local: {{hosts: {{{NAME}: {{{options}}}}}}}\n")
    given: dict[str, Any] = {"inventory": ("-i", "inventories/local", "-i", str(inventory), "--limit", NAME)}
    try:
        assert playbook("site.yml", "--tags", "cluster,image,app,verify", **given).changed
        yield Cluster(Path.home() / f".local/share/flaskops/clusters/{NAME}/kubeconfig", NAME)
    finally:
        playbook("playbooks/teardown.yml", **given)


def reaches(cluster: Cluster, source: Any, target: Any) -> bool:
    """Whether one pod of the application connects to another one's metrics."""
    code = f"import socket; socket.create_connection(('{target.status.pod_ip}', 9200), 3).close(); print('reached')"
    core = client.CoreV1Api(client.ApiClient(cluster.api.configuration))  # stream changes the client that it is given
    said = stream(
        core.connect_get_namespaced_pod_exec,
        source.metadata.name,
        APP,
        command=["python3", "-c", code],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    return "reached" in said


@LONG
def test_connection_that_a_policy_denies_is_denied(cluster: Cluster) -> None:
    first, second = cluster.core.list_namespaced_pod(APP, label_selector=f"app={APP}").items[:2]
    networking = client.NetworkingV1Api(cluster.api)
    assert reaches(cluster, first, second)
    networking.create_namespaced_network_policy(APP, NO_EGRESS)
    assert wait_until(lambda: not reaches(cluster, first, second), 30)
    assert not reaches(cluster, second, first)
    # kubelet's probes still come through, and so does the load balancer.
    ready = cluster.apps.read_namespaced_deployment(APP, APP).status.ready_replicas
    assert ready == 2
    networking.delete_namespaced_network_policy("no-egress", APP)
    assert wait_until(lambda: reaches(cluster, first, second), 30)
