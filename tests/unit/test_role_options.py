# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task of a role does not say is the role's own option, where an action declares it; and nothing else is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.action import app_monitoring, objects, release, verify
from ansible_collections.flaskops.observability.plugins.plugin_utils.cluster_action import take_from_role

from tests.harness import ROOT

VARIABLES = {
    "loki_kubeconfig": "{{ cluster_kubeconfig }}",
    "loki_wait_timeout": 7,
    "loki_values": {"a": 1},
    "mine_kubeconfig": "x",
    "kubeconfig": "y",
}


def role(name: str) -> SimpleNamespace:
    return SimpleNamespace(get_name=lambda include_role_fqcn=True: name if include_role_fqcn else name.rpartition(".")[2])


@pytest.mark.parametrize(
    ("name", "said", "found"),
    [
        ("flaskops.observability.loki", {}, {"kubeconfig": "made of {{ cluster_kubeconfig }}", "timeout": "made of 7"}),
        ("flaskops.observability.loki", {"timeout": 3, "kubeconfig": ""}, {"timeout": 3, "kubeconfig": ""}),
        ("other.collection.loki", {}, {}),
        ("mine", {}, {}),
        (None, {}, {}),
    ],
)
def test_what_a_task_does_not_say_is_the_role_s(name: str | None, said: dict[str, Any], found: dict[str, Any]) -> None:
    task = SimpleNamespace(_role=role(name) if name else None, args=dict(said))
    action = SimpleNamespace(_task=task, _templar=SimpleNamespace(template=lambda value: f"made of {value}"))
    take_from_role(action, {"kubeconfig": "kubeconfig", "context": "context", "timeout": "wait_timeout"}, VARIABLES)
    assert task.args == found


def test_every_option_of_the_monitoring_of_an_application_is_the_role_s() -> None:
    defaults = yaml.safe_load((ROOT / "roles/app_monitoring/defaults/main.yml").read_text())
    known = {*app_monitoring.SPEC, "kubeconfig", "context"}
    assert {name.removeprefix("app_monitoring_") for name in defaults} == known


@pytest.mark.parametrize(
    ("action", "others"), [(objects, {"secrets", "known", "data"}), (release, {"values", "chart", "binary"})]
)
def test_an_option_that_means_something_else_in_a_role_is_not_taken(action: Any, others: set[str]) -> None:
    """Such as fluent_bit_secrets, which has credentials, and loki_values, which are only a part of what the release gets."""
    assert not others & set(action.ActionModule.OF_ROLE)
    assert set(action.ActionModule.OF_ROLE) <= set(action.ActionModule.SPEC)


def test_every_option_of_verify_is_the_role_s() -> None:
    """But the environment of outside checks, of which the role has the name."""
    defaults = yaml.safe_load((ROOT / "roles/verify/defaults/main.yml").read_text())
    taken = verify.ActionModule.OF_ROLE
    assert set(taken) == {*verify.SPEC} - {"environment"}
    assert {f"verify_{name}" for name in taken.values()} <= set(defaults)
