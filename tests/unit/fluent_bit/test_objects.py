# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that role fluent_bit makes of its options."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation import ROOT, evaluate

OBJECTS = "lookup('ansible.builtin.template', 'objects.yml.j2') | from_yaml_all | select | list"


def test_labels_and_annotations(tmp_path: Path) -> None:
    given = {
        "fluent_bit_outputs": [{"type": "loki", "host": "loki"}],
        "fluent_bit_labels": {"team": "web", "app": "other"},
        "fluent_bit_pod_labels": {"tier": "logs"},
        "fluent_bit_pod_annotations": {"scrape": "no"},
    }
    planned = {"__fluent_bit_plan": "{{ __fluent_bit_options | flaskops.observability.fluent_bit }}"}
    namespace, *made = evaluate(tmp_path, {"made": OBJECTS}, given, ROOT / "roles/fluent_bit", planned)["made"]
    assert namespace["kind"] == "Namespace" and "team" not in namespace["metadata"]["labels"]
    assert len(made) > 5
    for item in made:
        assert item["metadata"]["labels"].items() >= {"team": "web", "app": "fluent-bit"}.items()
    (template,) = [item["spec"]["template"]["metadata"] for item in made if item["kind"] == "DaemonSet"]
    assert template["labels"].items() >= {"team": "web", "tier": "logs", "app": "fluent-bit"}.items()
    assert {*template["annotations"]} == {"scrape", "flaskops/config-checksum"} and template["annotations"]["scrape"] == "no"
