# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles make of a local cluster that reaches upstream's charts, and all, some or none of their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evaluation import ROOT, evaluate

PROGRAMS = ["operator", "prometheus-config-reloader", "prometheus", "alertmanager", "kube-state-metrics", "node_exporter"]
PROGRAMS += ["blackbox_exporter"]
IMAGES = yaml.safe_load((ROOT / "images.yml").read_text())


def stack(folder: Path, **gone: str) -> dict[str, Any]:
    """Of a first installation: which charts are used, the values of the stack, and the Secret of Grafana."""
    names = {name: f"__kube_prometheus_stack_{name}" for name in ("used", "grafana_secret", "needed_secrets", "lessened")}
    given = {
        "kube_prometheus_stack_local_cluster": "local",
        "__kube_prometheus_stack_images": IMAGES,
        "__kube_prometheus_stack_tried": "upstream",
        "__kube_prometheus_stack_found": {"releases": {"kube-prometheus-stack": {"status": "absent"}}},
        "__kube_prometheus_stack_gone": gone,
    }
    expressions = names | {"values": "__kube_prometheus_stack_values"}
    return evaluate(folder, expressions, given, ROOT / "roles/kube_prometheus_stack")


def test_a_local_cluster_that_has_all_gets_grafana_with_a_password_of_its_own(tmp_path: Path) -> None:
    found = stack(tmp_path)
    assert found["used"] == "upstream" and found["values"]["grafana"]["enabled"] is True
    assert (
        found["values"]["grafana"]["admin"]["existingSecret"] == found["grafana_secret"] == "kube-prometheus-stack-grafana-admin"
    )
    assert found["needed_secrets"] == []  # the role makes it
    # The chart's own defaults stay: its image names, and its webhooks.
    assert "image" not in found["values"]["prometheus"]["prometheusSpec"]
    assert "admissionWebhooks" not in found["values"]["prometheusOperator"]


def test_a_part_without_an_image_is_skipped_alone(tmp_path: Path) -> None:
    found = stack(tmp_path, grafana="no image", webhooks="no image")
    assert found["used"] == "upstream" and found["values"]["grafana"] == {"enabled": False}
    assert found["values"]["prometheusOperator"]["admissionWebhooks"] == {"enabled": False}


@pytest.mark.parametrize(
    ("values", "lessened"),
    [
        ({"grafana": {"enabled": True}}, False),
        ({"grafana": {"enabled": False}}, True),
        ({"grafana": {"enabled": True}, "prometheusOperator": {"admissionWebhooks": {"enabled": False}}}, True),
    ],
)
def test_what_a_release_was_made_without_is_asked_for_again(tmp_path: Path, values: dict[str, Any], lessened: bool) -> None:
    release = {"status": "deployed", "chart": "kube-prometheus-stack", "values": values}
    given = {"__kube_prometheus_stack_found": {"releases": {"kube-prometheus-stack": release}}}
    expressions = {"lessened": "__kube_prometheus_stack_lessened"}
    assert evaluate(tmp_path, expressions, given, ROOT / "roles/kube_prometheus_stack")["lessened"] is lessened


@pytest.mark.parametrize(
    ("options", "images"),
    [
        (
            {"__kube_prometheus_stack_programs": {"paths": {"blackbox-exporter": "/cache/blackbox"}}},
            {"/cache/blackbox/blackbox_exporter"},
        ),
        # Nothing is obtained for a stack that goes.
        ({"kube_prometheus_stack_state": "absent"}, {f"/{name}" for name in PROGRAMS}),
    ],
)
def test_images_of_the_programs(tmp_path: Path, options: dict[str, Any], images: set[str]) -> None:
    role = ROOT / "roles/kube_prometheus_stack"
    expressions = {"images": f"lookup('ansible.builtin.template', '{role}/templates/images.yml.j2') | from_yaml"}
    found = evaluate(tmp_path, expressions, {"__kube_prometheus_stack_images": IMAGES, **options}, role)["images"]
    assert {image["binary"] for image in found} == images
    assert all(image["ref"].count(":") == 1 and "/" in image["ref"] for image in found)


LOGS: list[tuple[dict[str, Any], str, bool | None]] = [
    ({}, "upstream", False),
    # Nothing else would bring the lines.
    ({"victoria_logs_collector": True}, "embedded", None),
    ({"chart": "victoria-logs-single", "victoria_logs_collector": True}, "upstream", False),
    ({"victoria_logs_chart_ref": "oci://registry.test/victoria-logs-single", "victoria_logs_collector": True}, "upstream", False),
    ({"victoria_logs_local_cluster": ""}, "upstream", None),
]


@pytest.mark.parametrize(("options", "used", "persistent"), LOGS)
def test_victoria_logs(tmp_path: Path, options: dict[str, Any], used: str, persistent: bool | None) -> None:
    """A local cluster makes no volumes, for which the server would wait."""
    chart = {"chart": options["chart"], "values": {}} if "chart" in options else {}
    given = {
        "victoria_logs_local_cluster": "local",
        "__victoria_logs_tried": "upstream",
        "__victoria_logs_can_monitor": False,
        "__victoria_logs_found": {"releases": {"victoria-logs": {"status": "absent", **chart}}, "monitoring_labels": {}},
        **{name: value for name, value in options.items() if name != "chart"},
    }
    expressions = {"used": "__victoria_logs_used", "values": "__victoria_logs_values", "collector": "__victoria_logs_collector"}
    found = evaluate(tmp_path, expressions, given, ROOT / "roles/victoria_logs")
    assert found["used"] == used and found["values"]["server"]["persistentVolume"].get("enabled") is persistent
    assert found["collector"] is (used == "embedded")
