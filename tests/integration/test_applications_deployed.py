# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five of these applications through site.yml on the shared cluster: all links are well, and a drill reports no other one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects

from tests import applications
from tests.harness import LONG, Cluster, playbook

pytestmark = LONG

PROMETHEUS = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/query"
# The scenario, what verify and the drill ask, what fails where the scenario needs that, and the alerts that may fire.
DRILLS: dict[str, tuple[str, str, str, set[str]]] = {
    "httpbin": ("errors", "/get", "/status/500", {"HighErrorRate", "LogErrorLines"}),
    "flask-limiter": (
        "errors",
        "/ping",
        "/half/0",
        {"HighErrorRate", "FlaskUncaughtExceptions", "LogTraceback", "LogErrorLines"},
    ),
    # Its first page raises an exception until somebody has made its tables.
    "flask-tutorial": ("endpoint_lost", "/hello", "", {"FlaskHealthProbeFailed"}),
    "flask-javascript": (
        "crash_loop",
        "/",
        "",
        {
            "FlaskPodCrashLooping",
            "FlaskHealthProbeFailed",
            "FlaskReplicasUnavailable",
            "FlaskRestarting",
            "FlaskTargetDown",
            "FlaskMetricsAbsent",
        },
    ),
    "fava": ("pod_killed", "/", "", set()),
}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder of the reports, and the variables of the run."""
    folder = tmp_path_factory.mktemp("applications")
    apps = []
    for name in DRILLS:
        options = applications.options(applications.named(name), folder)
        keys = {key.removeprefix("flask_image_"): value for key, value in options.items()}
        _scenario, path, error_path, *_rest = DRILLS[name]
        apps.append({"name": name, **keys, "path": path, "drill": {"error_path": error_path}})
    variables = {"flask_apps": apps, "verify_report": f"{folder}/{{{{ app.name }}}}.json"}
    done = playbook("site.yml", extra=variables)
    assert done.returncode == 0, done.error
    yield folder, variables
    applications.clear(folder, apps)
    assert not cluster.namespaces() & set(DRILLS)


@pytest.mark.parametrize("name", DRILLS)
def test_every_link_is_well(deployed: tuple[Path, dict[str, Any]], name: str) -> None:
    report = json.loads((deployed[0] / f"{name}.json").read_text())
    others = {link["link"]: link["status"] for link in report["results"] if link["status"] != "ok"}
    # Only Grafana reads data sources, and nobody is to be notified of this cluster's alerts.
    assert others == dict.fromkeys(("route", "grafana", "data sources", "alert routes"), "skipped")


def test_a_drill_tells_of_the_application_that_is_drilled_and_of_no_other(
    cluster: Cluster, deployed: tuple[Path, dict[str, Any]]
) -> None:
    folder, variables = deployed
    began = time.time()
    scenarios = json.dumps({name: [scenario] for name, (scenario, *_rest) in DRILLS.items()})
    options = {
        "drill_scenarios": "{{ " + scenarios + "[app.name] }}",
        "drill_report": f"{folder}/drill-{{{{ app.name }}}}",
    }
    done = playbook("playbooks/drill.yml", extra={**variables, **options})
    assert done.returncode == 0, done.error
    for name, (scenario, *_rest) in DRILLS.items():
        report = json.loads((folder / f"drill-{name}/drill.json").read_text())
        assert [(item["name"], item["status"]) for item in report["scenarios"]] == [(scenario, "passed")]
    seconds = int(time.time() - began)
    # But for the one by which verify tests the alert path.
    chosen = f'alertstate="firing",alertname!="VerifyTestAlert",app=~"{"|".join(DRILLS)}"'
    query = f"max by (app, alertname) (max_over_time(ALERTS{{{chosen}}}[{seconds}s]))"
    answer = Objects(cluster.api).request("GET", PROMETHEUS, {"query": query})
    fired = {(item["metric"]["app"], item["metric"]["alertname"]) for item in answer["data"]["result"]}
    assert fired <= {(name, alert) for name, (*_rest, alerts) in DRILLS.items() for alert in alerts}
    assert {name for name, _alert in fired} == {name for name, (*_rest, alerts) in DRILLS.items() if alerts}
