# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions as they are given, and as they are applied."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.ours import prepared, secrets_in
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeError

META = {"name": "a", "namespace": "default"}
SECRET: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": META, "stringData": {"password": "canary-4711"}}


@pytest.mark.parametrize(
    "listed",
    [
        {"apiVersion": "v1", "kind": "List", "items": [SECRET]},
        {
            "apiVersion": "v1",
            "kind": "SecretList",
            "metadata": {},
            "items": [{"metadata": META, "stringData": SECRET["stringData"]}],
        },
    ],
)
def test_a_list_is_what_it_holds(listed: dict[str, Any]) -> None:
    (secret,) = prepared([listed], "somebody")
    assert secret["kind"] == "Secret" and secret["data"] == {"password": "Y2FuYXJ5LTQ3MTE="} and "stringData" not in secret
    assert {"canary-4711", "Y2FuYXJ5LTQ3MTE="} <= {*secrets_in([listed])}


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": 4711}}, "Number 1 of the definitions is no object"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": "a"}, "Number 1 of the definitions is no object"),
        ({"apiVersion": 1, "kind": "ConfigMap", "metadata": META}, "Number 1 of the definitions is no object"),
        ({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": META}, "Deployment default/a has no specification"),
        ({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": META, "spec": None}, "has no specification"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": META, "spec": "http"}, "Service default/a has no specification"),
    ],
)
def test_what_is_no_object_is_refused(definition: dict[str, Any], words: str) -> None:
    with pytest.raises(KubeError, match=words):
        prepared([definition], "somebody")
