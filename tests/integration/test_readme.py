# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of the README, as it stands there, by the installed collection, on the shared cluster and its Prometheus operator.

The application is the reference application, by the name that the playbook gives its image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.harness import Cluster, on_node
from tests.readme import ABSENT, PLAYBOOK, Home, rows

ROLES: dict[str, dict[str, Any]] = {
    role["role"].rpartition(".")[2]: role["vars"] for role in yaml.safe_load(PLAYBOOK)[0]["roles"]
}
IMAGE, NAMESPACE = ROLES["flask_app"]["flask_app_image"], ROLES["flask_app"]["flask_app_namespace"]
CTR = ("ctr", "-n", "k8s.io", "images")
# No Grafana is here, which alone reads data sources, and the playbook says that nobody is to be notified.
SKIPPED = {"route", "grafana", "data sources", "alert routes"}


def watching(cluster: Cluster) -> set[str]:
    """The objects of the Prometheus operator that are about the playbook's application, wherever they are."""
    objects = client.CustomObjectsApi(cluster.api)
    found = set()
    for plural in ("servicemonitors", "probes", "prometheusrules"):
        for item in objects.list_cluster_custom_object("monitoring.coreos.com", "v1", plural)["items"]:
            if item["metadata"]["namespace"] == NAMESPACE:
                found.add(f"{plural}/{item['metadata']['name']}")
    return found


@pytest.fixture(scope="module")
def home(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    assert NAMESPACE not in cluster.namespaces(), f"namespace {NAMESPACE} is there already: remove it"
    reference = cluster.apps.read_namespaced_deployment("flask-app", "flask-app").spec.template.spec.containers[0].image
    on_node(cluster, *CTR, "tag", "--force", reference, IMAGE)
    found = Home(tmp_path_factory.mktemp("home"), cluster.kubeconfig)
    try:
        yield found
    finally:
        found.play(PLAYBOOK, *ABSENT)
        on_node(cluster, *CTR, "rm", IMAGE)


def test_the_playbook_ends_with_the_verified_table(cluster: Cluster, home: Home) -> None:
    done = home.play(PLAYBOOK)
    assert done.changed >= 2
    found = rows(done)
    assert found.keys() >= {"rollout", "target", "rules", "alert path", "logs"}, done.stdout
    assert {link for link, status in found.items() if status != "ok"} <= SKIPPED, done.stdout
    assert watching(cluster)


def test_what_it_made_can_be_removed(cluster: Cluster, home: Home) -> None:
    """By the options that the README names, twice; nothing is left."""
    assert home.play(PLAYBOOK, *ABSENT).changed > 0
    assert home.play(PLAYBOOK, *ABSENT).changed == 0
    assert NAMESPACE not in cluster.namespaces() and not watching(cluster)
