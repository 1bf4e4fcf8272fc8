# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An option that is a truth may be a text, as `-e <option>=false` gives it: what takes the text `false` for true is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, nodes

from tests.harness import ROOT, leaves

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
TRUTHS = {
    name
    for role in ROLES
    for entry in yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"].values()
    for name, option in entry["options"].items()
    if option["type"] == "bool"
}
CONDITIONS = {"when", "that", "until", "failed_when", "changed_when"}
SHARED = ("playbooks", "tasks", "toolchain", "in_cluster")
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # Ansible takes a backslash in a template as it is


def taken(node: nodes.Node) -> Iterator[str]:
    """The options in a part of a template that nothing converts."""
    if isinstance(node, nodes.Filter) and node.name == "bool":
        return
    if isinstance(node, nodes.Name) and node.name in TRUTHS:
        yield node.name
    for child in node.iter_child_nodes():
        yield from taken(child)


def unconverted(text: str, handed_on: bool = False) -> set[str]:
    """The options that a template takes as they are.

    :param handed_on: a module, or another role, converts what is nothing but the option.
    """
    found = Environment().parse(text)
    match found.body:
        case [nodes.Output(nodes=[nodes.Name()])] if handed_on:
            return set()
    return set(taken(found))


def wrong(path: Path) -> set[str]:
    if path.suffix == ".j2":
        return unconverted(path.read_text())
    found: set[str] = set()
    for key, text in leaves(yaml.safe_load(path.read_text())):
        if not isinstance(text, str):
            continue
        condition = key in CONDITIONS
        found |= unconverted(f"{{{{ ({text}) }}}}" if condition else text, handed_on=path.parent.name != "vars" and not condition)
    return found


@pytest.mark.parametrize("place", [*(f"roles/{role}" for role in ROLES), *SHARED])
def test_a_truth_is_no_text(place: str) -> None:
    paths = [path for suffix in ("yml", "j2") for path in (ROOT / place).rglob(f"*.{suffix}")]
    if place not in SHARED:
        paths = [path for path in paths if path.relative_to(ROOT / place).parts[0] in ("tasks", "vars", "templates")]
    assert paths
    assert {str(path.relative_to(ROOT)): names for path in paths if (names := wrong(path))} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ loki_adopt }}", True),
        ("{% if loki_adopt and other %}a{% endif %}", True),
        ("{{ ['a'] if loki_adopt else [] }}", True),
        ("{{ loki_adopt | default(true) }}", True),
        ("{{ {'adopt': loki_adopt} }}", True),
        ("{% if loki_adopt | bool and other | flaskops.observability.front_door %}a{% endif %}", False),
        ("{{ loki_adopt | default(true) | bool }}", False),
        ("set loki_adopt to true", False),
    ],
)
def test_a_text_that_is_taken_for_true_would_be_found(text: str, found: bool) -> None:
    assert bool(unconverted(text)) == found
    assert not unconverted("{{ loki_adopt }}", handed_on=True)
