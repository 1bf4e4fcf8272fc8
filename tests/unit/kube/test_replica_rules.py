# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which number of pods is applied, by who owns the live one; tests/api/test_replicas.py shows it on an API server."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube import replicas as info

HPA = "HorizontalPodAutoscaler shop"
OURS = ("flaskops", "Apply", "")


def live(*owners: tuple[str, str, str]) -> dict[str, Any]:
    """A Deployment of 7 pods, whose number these field managers own."""
    fields = {"f:spec": {"f:replicas": {}}}
    entries = [{"manager": m, "operation": o, "fieldsV1": fields} | ({"subresource": s} if s else {}) for m, o, s in owners]
    others: dict[str, Any] = {"manager": "flaskops", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}
    return {"metadata": {"name": "shop", "managedFields": [others, *entries]}, "spec": {"replicas": 7}}


@pytest.mark.parametrize(
    ("owners", "autoscaler", "scaler", "wanted_2", "wanted_none"),
    [
        # Where an autoscaler is: only what is ours alone is applied, as it is.
        ([("kube-controller-manager", "Update", "scale")], HPA, HPA, None, None),
        ([OURS], HPA, HPA, 7, 7),
        ([OURS, ("kube-controller-manager", "Update", "scale")], HPA, HPA, None, None),
        ([], HPA, HPA, None, None),
        # Where none is: the option holds, but for programs that scale.
        ([OURS], "", "", 2, 7),
        ([], "", "", 2, None),
        ([("kubectl", "Update", "scale")], "", "", 2, None),
        ([("kubectl-edit", "Update", "")], "", "", 2, None),
        ([("flaskops", "Update", "")], "", "", 2, None),
        ([("kube-controller-manager", "Update", "scale")], "", "", 2, None),
        ([("predictor", "Update", "scale")], "", "predictor", None, None),
        # Where none can be read: the option holds as long as the number is the one that was applied.
        ([OURS], None, "", 2, 7),
        ([("kubectl", "Update", "scale")], None, info.UNKNOWN, None, None),
        ([], None, info.UNKNOWN, None, None),
    ],
)
def test_number(
    owners: list[tuple[str, str, str]], autoscaler: str | None, scaler: str, wanted_2: int | None, wanted_none: int | None
) -> None:
    item = live(*owners)
    assert info.scaler_of(item, autoscaler) == scaler
    assert (info.number(item, 2, scaler), info.number(item, None, scaler)) == (wanted_2, wanted_none)
    assert bool(info.explanation(item, 2, scaler)) == bool(scaler)
    assert not info.explanation(item, 7, scaler) and not info.explanation(item, None, scaler)
