# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user sets of a pod, merged into what a role has."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.observability.plugins.filter.pod_merge import pod_merge

BASE: dict[str, Any] = {
    "serviceAccountName": "shop",
    "containers": [
        {
            "name": "shop",
            "image": "shop:1",
            "args": ["a"],
            "ports": [{"name": "http", "containerPort": 5000}],
            "env": [{"name": "A", "value": "1"}],
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            "securityContext": {"capabilities": {"drop": ["ALL"]}},
            "livenessProbe": {"httpGet": {"path": "/health", "port": 5000}, "periodSeconds": 10},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        }
    ],
    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
}
TMP = {"name": "tmp", "mountPath": "/tmp"}


@pytest.mark.parametrize(
    ("given", "where", "expected"),
    [
        (
            {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]},
            "volumes",
            [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        ),
        (
            {"volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}]},
            "volumes",
            [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi", "medium": "Memory"}}],
        ),
        ({"volumes": [{"name": "tmp", "hostPath": {"path": "/a"}}]}, "volumes", [{"name": "tmp", "hostPath": {"path": "/a"}}]),
        ({"volumes": [{"name": "b", "emptyDir": {}}]}, "volumes", [*BASE["volumes"], {"name": "b", "emptyDir": {}}]),
        ({"containers": [{"name": "shop", "volumeMounts": [TMP]}]}, "volumeMounts", [TMP]),
        (
            {"containers": [{"name": "shop", "volumeMounts": [{"name": "b", "mountPath": "/b"}]}]},
            "volumeMounts",
            [TMP, {"name": "b", "mountPath": "/b"}],
        ),
        ({"containers": [{"name": "shop", "env": [{"name": "A", "value": "2"}]}]}, "env", [{"name": "A", "value": "2"}]),
        ({"containers": [{"name": "shop", "env": [{"name": "A", "valueFrom": {}}]}]}, "env", [{"name": "A", "valueFrom": {}}]),
        (
            {"containers": [{"name": "shop", "ports": [{"containerPort": 5000, "hostPort": 80}]}]},
            "ports",
            [{"name": "http", "containerPort": 5000, "hostPort": 80}],
        ),
        ({"containers": [{"name": "shop", "args": ["a", "b"]}]}, "args", ["a", "b"]),
        (
            {"containers": [{"name": "shop", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]},
            "securityContext",
            {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}},
        ),
        (
            {"containers": [{"name": "shop", "livenessProbe": {"httpGet": {"scheme": "HTTPS"}, "timeoutSeconds": 3}}]},
            "livenessProbe",
            {"httpGet": {"path": "/health", "port": 5000, "scheme": "HTTPS"}, "periodSeconds": 10, "timeoutSeconds": 3},
        ),
        (
            {"containers": [{"name": "shop", "livenessProbe": {"exec": {"command": ["true"]}}}]},
            "livenessProbe",
            {"exec": {"command": ["true"]}, "periodSeconds": 10},
        ),
        (
            {"containers": [{"name": "shop", "lifecycle": {"preStop": {"exec": {"command": ["true"]}}}}]},
            "lifecycle",
            {"preStop": {"exec": {"command": ["true"]}}},
        ),
        # The API server would take a probe that is null for one that lacks its way to ask.
        ({"containers": [{"name": "shop", "livenessProbe": None}]}, "livenessProbe", None),
        ({"containers": [{"name": "shop", "startupProbe": None}]}, "startupProbe", None),
        ({"containers": [{"name": "shop", "resources": {"limits": {"cpu": None}}}]}, "resources", {"limits": {}}),
        ({"initContainers": [{"name": "a", "livenessProbe": None}]}, "initContainers", [{"name": "a"}]),
        ({"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}]}, "hostAliases", [{"ip": "10.0.0.1", "hostnames": ["a"]}]),
    ],
)
def test_lists_are_merged_by_what_tells_their_items_apart(given: dict[str, Any], where: str, expected: Any) -> None:
    before = copy.deepcopy(BASE)
    merged = pod_merge(BASE, given)
    assert (merged[where] if where in merged else merged["containers"][0].get(where)) == expected
    assert "null" not in json.dumps(merged)
    assert before == BASE
    assert merged["serviceAccountName"] == "shop" and len(merged["containers"]) == 1


def test_other_containers_are_added() -> None:
    merged = pod_merge(BASE, {"containers": [{"name": "proxy"}]})
    assert [one["name"] for one in merged["containers"]] == ["shop", "proxy"]
    assert merged["containers"][0] == BASE["containers"][0]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"containers": {"name": "shop"}}, "containers"),
        ({"containers": ["shop"]}, "containers"),
        ({"imagePullSecrets": ["harbor"]}, "imagePullSecrets"),
        ({"containers": [{"name": "shop", "env": [{"value": "s3cret"}]}]}, "env"),
        ({"containers": [{"name": "shop", "livenessProbe": "s3cret"}]}, "livenessProbe"),
    ],
)
def test_what_can_not_be_merged_is_named_without_its_value(given: dict[str, Any], word: str) -> None:
    with pytest.raises(AnsibleFilterError, match=word) as raised:
        pod_merge(BASE, given)
    assert "s3cret" not in str(raised.value)
