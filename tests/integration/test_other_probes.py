# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five applications of others whose owners chose other probes, paths and numbers of pods: verify blames none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import applications
from tests.harness import LONG, Cluster, playbook

pytestmark = LONG

METRICS_SERVER = {"local_cluster_metrics_server": True}
ASKS = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/hello')"
APPS: dict[str, dict[str, Any]] = {
    "httpbin": {
        "path": "/get",
        "replicas": 1,
        "probes": {
            "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 20},
            "readinessProbe": {"timeoutSeconds": 5},
        },
    },
    "flask-limiter": {"path": "/ping", "replicas": 0},
    "flask-tutorial": {
        "path": "/hello",
        "autoscale": {"min": 1, "max": 3, "cpu": 80},
        "probes": {"readinessProbe": {"exec": {"command": ["python", "-c", ASKS]}, "timeoutSeconds": 5}, "livenessProbe": None},
    },
    "flask-javascript": {
        "path": "/shop/",
        "health_path": "/shop/health",
        "environment": {"SCRIPT_NAME": "/shop"},
        "start_timeout": 60,
    },
    "fava": {
        "path": "/",
        "replicas": 1,
        # A page of the application's own, which answers with a redirect.
        "probes": {"readinessProbe": {"httpGet": {"path": "/tour/"}}, "livenessProbe": {"httpGet": {"path": "/"}}},
    },
}
# Only Grafana reads data sources, and nobody is to be notified of this cluster's alerts.
SKIPPED = {"route", "grafana", "data sources", "alert routes"}
IDLE = "replicas is 0, as it was applied"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder of the reports, and the variables of the run."""
    folder = tmp_path_factory.mktemp("applications")
    apps = []
    for name, chosen in APPS.items():
        image = applications.options(applications.named(name), folder)
        apps.append({"name": name, **{key.removeprefix("flask_image_"): value for key, value in image.items()}, **chosen})
    assert playbook("playbooks/cluster.yml", extra=METRICS_SERVER).changed > 0
    variables = {"flask_apps": apps, "verify_report": f"{folder}/{{{{ app.name }}}}.json"}
    assert playbook("site.yml", "--tags", "app,monitoring", extra={**variables, **METRICS_SERVER}).changed > 0
    yield folder, variables
    gone = [{**app, "state": "absent"} for app in apps]
    assert playbook("site.yml", "--tags", "app,monitoring,verify", extra={"flask_apps": gone}).changed > 0
    applications.clear(folder, apps)
    assert playbook("playbooks/cluster.yml").changed > 0
    assert not cluster.namespaces() & set(APPS)


@pytest.mark.parametrize("look", range(10))
def test_each_look_finds_every_link_well(deployed: tuple[Path, dict[str, Any]], look: int) -> None:
    folder, variables = deployed
    done = playbook("playbooks/verify.yml", extra=variables)
    assert done.returncode == 0, done.error
    for name, chosen in APPS.items():
        rows = json.loads((folder / f"{name}.json").read_text())["results"]
        idle = {row["link"] for row in rows if row["evidence"] == IDLE}
        others = {row["link"]: row["status"] for row in rows if row["status"] != "ok" and row["link"] not in idle}
        assert others == dict.fromkeys(SKIPPED - idle, "skipped"), name
        assert bool(idle) is (chosen.get("replicas") == 0), name
        assert not idle or {"rollout", "health", "logs", "victoria_logs", "health probe", "dashboards", "dead rules"} <= idle
