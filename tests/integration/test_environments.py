# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The staging and production inventories, in check mode against the real cluster."""

from __future__ import annotations

import pytest

from tests.harness import Cluster, Run, playbook

# The cluster was deployed for it, and says so.
OF_THE_CLUSTER = ("-e", "environment_name=local")


def check(cluster: Cluster, environment: str, *args: str, file: str = "site.yml") -> Run:
    named = {"FLASKOPS_KUBECONFIG": str(cluster.kubeconfig), "FLASKOPS_CONTEXT": cluster.context}
    # The cluster has a Prometheus operator; installing a second one, or Loki, would need the chart's registry.
    extra = ("-e", "monitoring_provider=existing", "-e", "logging_provider=none")
    return playbook(file, "--check", *extra, *args, inventory=("-i", f"inventories/{environment}"), env=named)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_check_mode_tells_what_would_change(cluster: Cluster, environment: str) -> None:
    before = cluster.apps.read_namespaced_deployment("flask-app", "flask-app").metadata.resource_version
    run = check(cluster, environment, *OF_THE_CLUSTER)
    # At least the image of another registry, the replicas and the fault switches differ from the local environment.
    assert run.changed >= 2
    assert cluster.apps.read_namespaced_deployment("flask-app", "flask-app").metadata.resource_version == before


@pytest.mark.parametrize("file", ["site.yml", "playbooks/teardown.yml"])
def test_an_inventory_that_leads_to_another_environment_s_cluster_is_refused(cluster: Cluster, file: str) -> None:
    error = check(cluster, "production", file=file).error
    assert "Deployment flask-app/flask-app" in error and "of the environment local" in error


def test_production_refuses_fault_switches(cluster: Cluster) -> None:
    apps = '{"flask_apps": [{"name": "flask-app", "image": "localhost/flask-app:1", "environment": {"FLASKOPS_FAULTS": "1"}}]}'
    assert "environment sets FLASKOPS_FAULTS, which flask_app_refused_environment forbids" in (
        check(cluster, "production", "-e", apps).error
    )


def test_a_cluster_that_was_not_named_is_not_used() -> None:
    run = playbook("site.yml", "--check", "--tags", "app", inventory=("-i", "inventories/staging"))
    assert "No cluster was named" in run.error
