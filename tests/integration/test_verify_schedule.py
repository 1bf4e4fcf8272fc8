# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification that the cluster repeats by itself: its metrics, its rights, and the alerts about links and numbered lines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError, KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.numbered_lines import BOUND
from test_verify_mutations import bench

from tests.breakage import Bench, until
from tests.harness import INVENTORY, LONG, Run, playbook
from tests.verify_cases import named

__all__ = ["bench"]  # the fixture

NAME = "flask-app-verify"
INBOX = "/api/v1/namespaces/monitoring/services/alert-inbox:80/proxy/alerts.json"
OWN = '{namespace="flask-app", app="flask-app"}'
PLAY = """\
- name: Verify again and again
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Run the role
      ansible.builtin.import_role: {name: flaskops.observability.verify}
"""
# Another inventory than that of `molecule test` for a cluster of one's own.
INVENTORY_OF_CLUSTER = tuple(os.environ.get("CLUSTER_INVENTORY", "").split()) or INVENTORY
EVERY = 30  # seconds, the shortest that the role takes
SCRAPE, EVALUATION, GROUP = 5, 5, 6  # seconds, of the shared cluster
END, ANSWER = 40, 10  # seconds that a pod may need to end, and an answer to come


def role(bench: Bench, tmp_path: Path, **options: Any) -> Run:
    (tmp_path / "play.yml").write_text(PLAY)
    variables = {f"verify_{key}": value for key, value in options.items()} | {
        "verify_kubeconfig": str(bench.cluster.kubeconfig),
        "verify_context": bench.cluster.context,
        "verify_schedule_local_cluster": bench.cluster.context,
        "verify_notified_severities": [],
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    return playbook(str(tmp_path / "play.yml"), inventory=("-i", "localhost,", "-c", "local"), extra=variables)


def test_its_findings_are_metrics(bench: Bench) -> None:
    """That of the local inventory, every five minutes."""
    found = until("its series", lambda: bench.query(f"flaskops_verify_link_ok{OWN}"))
    links = {series["metric"]["link"] for series in found}
    assert {"node", "endpoint", "logs", "victoria_logs", "log agent", "target", "rules", "dashboards", "alert path"} <= links
    (ended,) = bench.query(f"time() - flaskops_verify_last_run_timestamp_seconds{OWN}")
    assert float(ended["value"][1]) < 2 * 300
    written = until("its numbered lines", lambda: counted(bench, "written"))
    assert written % 20 == 0 and counted(bench, "missing") == 0
    table = until("its table", lambda: page(bench, "table.txt"))
    assert "flask-app in namespace flask-app" in table and "alert path" in table
    shown = page(bench, "")
    assert "<h1>Verification of flask-app in namespace flask-app</h1>" in shown and 'id="link-alert-path"' in shown


def counted(bench: Bench, kind: str) -> float:
    """How many numbered lines were counted of VictoriaLogs."""
    found = bench.query(f'flaskops_verify_lines_{kind}_total{OWN[:-1]}, backend="victoria_logs"}}')
    return float(found[0]["value"][1]) if found else 0.0


def page(bench: Bench, name: str) -> str:
    path = f"/api/v1/namespaces/flask-app/services/{NAME}:8080/proxy/{name}"
    status, text = KubeCluster(bench.cluster.api).fetch(path)
    return text if status == 200 else ""


@pytest.mark.parametrize(
    ("namespace", "verb", "resource", "allowed"),
    [
        ("flask-app", "create", "services", True),
        ("flask-app", "get", "pods/log", True),
        ("monitoring", "get", "services/proxy", True),
        ("monitoring", "list", "configmaps", True),
        ("monitoring", "create", "services", False),
        ("monitoring", "get", "secrets", False),
        ("flask-app", "get", "secrets", False),
        ("flask-app", "create", "pods", False),
        ("flask-app", "create", "services/proxy", False),
        ("flask-app", "patch", "services", False),
        ("kube-system", "get", "services/proxy", False),
        ("kube-system", "list", "configmaps", False),
        ("kube-system", "list", "pods", False),
    ],
)
def test_its_account_has_few_rights(bench: Bench, namespace: str, verb: str, resource: str, allowed: bool) -> None:
    name, _, sub = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "resource": name, "subresource": sub}
    review = {"spec": {"user": f"system:serviceaccount:flask-app:{NAME}", "resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert bench.objects.request("POST", path, None, review, "application/json")["status"].get("allowed", False) == allowed


BROKEN = {"alertname": "VerifyLinkBroken", "link": "data sources"}
LATE = {"alertname": "LogLinesLate", "backend": "victoria_logs"}


def told(bench: Bench, since: int, status: str, labels: dict[str, str]) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = bench.get(INBOX, {"since": str(since)})["alerts"]
    return next((a for a in found if a["status"] == status and labels.items() <= a["labels"].items()), None)


@LONG
def test_a_broken_link_is_told_and_its_end_too(
    bench: Bench, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert role(bench, tmp_path, schedule=EVERY, schedule_alerts={"VerifyLinkBroken": {"for": "5s"}}).changed == 1
    try:
        until("its rules are loaded", bench.poking("app.kubernetes.io/name=prometheus", lambda: loaded(bench, 5)))
        until("its first run", lambda: bench.query(f"flaskops_verify_interval_seconds{OWN} == {EVERY}"))
        until("all is well", lambda: bench.query(f"min(flaskops_verify_link_ok{OWN}) == 1"), 120)
        began = int(time.time() * 1000)
        with named("data-source-wrong").broken(bench):
            alert = until("the alert arrives", lambda: told(bench, began, "firing", BROKEN), 150)
        mended = int(time.time() * 1000)
        over = until("its end arrives", lambda: told(bench, alert["received_ms"], "resolved", BROKEN), 150)
    finally:
        assert playbook("site.yml", "--tags", "verify", inventory=INVENTORY_OF_CLUSTER).returncode == 0
    assert alert["labels"]["app"] == "flask-app" and alert["labels"]["severity"] == "warning"
    assert alert["annotations"]["runbook_url"].endswith("/VerifyLinkBroken.md")
    latest = 2 * EVERY + SCRAPE + 2 * EVALUATION + GROUP
    after, end = (alert["received_ms"] - began) / 1000, (over["received_ms"] - mended) / 1000
    text = (
        f"VerifyLinkBroken: told after {after:.0f} s, resolved {end:.0f} s after repair; at most {latest} s by its configuration"
    )
    print(f"\n{text}")
    record_property("detection", text)


def loaded(bench: Bench, wait: float, alert: str = "VerifyLinkBroken", window: str = "") -> bool:
    """Whether an alert with this `for` and this window is loaded."""
    groups = bench.get("/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups if group["name"] == "flask-app.verify" for rule in group["rules"]]
    return any(rule["name"] == alert and rule["duration"] == wait and window in rule["query"] for rule in rules)


@LONG
def test_lines_that_a_stopped_back_end_does_not_take_are_late_and_none_is_missing(
    bench: Bench, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert role(bench, tmp_path, schedule=EVERY, schedule_alerts={"LogLinesLate": {"window": "1m"}}).changed == 1
    try:
        rules = partial(loaded, bench, 0, "LogLinesLate", "[1m]")
        until("its rules are loaded", bench.poking("app.kubernetes.io/name=prometheus", rules))
        until("its first run", lambda: bench.query(f"flaskops_verify_interval_seconds{OWN} == {EVERY}"))
        until("its first lines", lambda: counted(bench, "written") >= 20 and counted(bench, "late") == 0)
        until("an earlier alert is over", lambda: not bench.query(f'ALERTS{OWN[:-1]}, alertname="LogLinesLate"}}'))
        began = int(time.time() * 1000)
        with named("victoria-logs-down").broken(bench):
            alert = until("the alert arrives", lambda: told(bench, began, "firing", LATE), 180)
            table = page(bench, "table.txt")
            assert "numbered lines in victoria_logs" in table and "it gave no answer: it answers 503" in table
        mended = int(time.time() * 1000)
        over = until("its end arrives", lambda: told(bench, alert["received_ms"], "resolved", LATE), 240)
        # They waited in the log agent, and came.
        before = counted(bench, "written")
        waiting = until("two more runs", lambda: counted(bench, "written") > before + 20 and page(bench, "table.txt"))
        assert counted(bench, "missing") == counted(bench, "unknown") == counted(bench, "double") == 0, waiting
    finally:
        assert playbook("site.yml", "--tags", "verify", inventory=INVENTORY_OF_CLUSTER).returncode == 0
    assert alert["labels"]["app"] == "flask-app" and alert["labels"]["severity"] == "warning"
    latest = END + EVERY + BOUND + ANSWER + 2 * SCRAPE + EVALUATION + GROUP
    after, end = (alert["received_ms"] - began) / 1000, (over["received_ms"] - mended) / 1000
    text = f"LogLinesLate: told after {after:.0f} s, resolved {end:.0f} s after repair; at most {latest} s by its configuration"
    print(f"\n{text}")
    record_property("detection", text)
    assert after <= latest


@LONG
def test_absent_twice_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    try:
        assert role(bench, tmp_path, state="absent").changed == 1
        assert role(bench, tmp_path, state="absent").changed == 0
        selector = {"labelSelector": "app.kubernetes.io/name=flaskops-verify"}
        for kind in ("clusterroles", "clusterrolebindings", "rolebindings", "roles"):
            assert bench.get(f"/apis/rbac.authorization.k8s.io/v1/{kind}", selector)["items"] == []
        for kind in ("servicemonitors", "prometheusrules"):
            assert bench.get(f"/apis/monitoring.coreos.com/v1/{kind}", selector)["items"] == []
        for kind in ("pods", "services", "serviceaccounts"):
            assert bench.get(f"/api/v1/namespaces/flask-app/{kind}", selector)["items"] == []
        with pytest.raises(ApiError):
            bench.get(f"/apis/apps/v1/namespaces/flask-app/deployments/{NAME}")
    finally:
        assert playbook("site.yml", "--tags", "verify", inventory=INVENTORY_OF_CLUSTER).changed == 1
