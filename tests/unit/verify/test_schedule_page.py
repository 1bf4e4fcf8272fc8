# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where role verify says that the page of the scheduled verification is, and how its objects are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import ROOT, evaluate

ROLE = ROOT / "roles/verify"
OBJECTS = "lookup('ansible.builtin.template', 'schedule.yml.j2') | from_yaml_all | select | list"
KNOWN = {
    "verify_name": "shop",
    "verify_namespace": "web",
    "verify_schedule": 300,
    "verify_schedule_image": "runner:1",
    "__verify_access": {"namespaces": ["web"], "logins": [], "former": [], "untrusted": []},
}
FOUND = {"objects": {"addresses": {"shop-verify": "10.89.240.101"}}}


@pytest.mark.parametrize(
    ("given", "kind", "page"),
    [
        (
            {"verify_schedule_local_cluster": "flaskops", "__verify_schedule_found": FOUND},
            "LoadBalancer",
            "http://10.89.240.101:8080/",
        ),
        (
            {"verify_kubeconfig": "/k", "verify_context": "staging", "__verify_schedule_found": {"skipped": True}},
            "ClusterIP",
            "kubectl --kubeconfig /k --context staging -n web port-forward service/shop-verify 8080 leads to http://127.0.0.1:8080/",
        ),
        # A load balancer that has given no address yet.
        (
            {"verify_schedule_local_cluster": "flaskops", "__verify_schedule_found": {"objects": {"addresses": {}}}},
            "LoadBalancer",
            "kubectl -n web port-forward service/shop-verify 8080 leads to http://127.0.0.1:8080/",
        ),
    ],
)
def test_where_the_page_is(tmp_path: Path, given: dict[str, Any], kind: str, page: str) -> None:
    found = evaluate(tmp_path, {"page": "__verify_schedule_page", "objects": OBJECTS}, KNOWN | given, ROLE)
    assert found["page"] == page
    (service,) = [item for item in found["objects"] if item["kind"] == "Service"]
    assert service["spec"]["type"] == kind


def test_the_objects_have_what_an_admission_policy_may_ask_for(tmp_path: Path) -> None:
    given = {"labels": {"team": "web"}, "pod_labels": {"tier": "watch"}, "pod_annotations": {"scrape": "no"}}
    options = {f"verify_{key}": value for key, value in given.items()} | {"verify_image_pull_secrets": ["harbor", "other"]}
    made = evaluate(tmp_path, {"objects": OBJECTS}, KNOWN | options, ROLE)["objects"]
    assert [item["kind"] for item in made if item["metadata"]["labels"].get("team") != "web"] == []
    (template,) = [item["spec"]["template"] for item in made if item["kind"] == "Deployment"]
    assert template["metadata"]["labels"].items() >= {"team": "web", "tier": "watch"}.items()
    assert template["metadata"]["annotations"] == {"scrape": "no"}
    assert template["spec"]["imagePullSecrets"] == [{"name": "harbor"}, {"name": "other"}]
