# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What looks for newer versions knows each that is pinned, and what is tested elsewhere begins at what is supported."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RENOVATE: dict[str, Any] = json.loads((ROOT / ".github/renovate.json").read_text())
IMAGES: dict[str, Any] = yaml.safe_load((ROOT / "images.yml").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())


def found(text: str, datasource: str) -> dict[str, str]:
    """What the patterns of a data source find: names and versions. JavaScript names groups in another way than Python."""
    managers = [manager for manager in RENOVATE["customManagers"] if manager["datasourceTemplate"] == datasource]
    patterns = [pattern.replace("(?<", "(?P<") for manager in managers for pattern in manager["matchStrings"]]
    return {match["depName"]: match["currentValue"] for pattern in patterns for match in re.finditer(pattern, text)}


def test_every_version_of_images_is_looked_for() -> None:
    text = (ROOT / "images.yml").read_text()
    programs = IMAGES["toolchain"].values()
    assert found(text, "go") == {entry["module"]: entry["version"] for entry in programs}
    assert found(text, "github-releases") == {entry["module"]: entry["release"] for entry in programs if "release" in entry}
    charts = {entry["ref"].removeprefix("oci://"): entry["version"] for entry in IMAGES["charts"].values()}
    assert found(text, "docker") | found(text, "helm") == charts


def test_each_program_is_looked_for_in_its_go_module() -> None:
    rules = [rule for rule in RENOVATE["packageRules"] if rule.get("matchManagers") == ["gomod"]]
    assert [(rule["enabled"], rule["matchPackageNames"] == ["*"]) for rule in rules] == [(False, True), (True, False)]
    assert rules[1]["matchPackageNames"] == sorted(entry["module"] for entry in IMAGES["toolchain"].values())


def test_pinned_requirements_are_compiled_in_a_way_that_renovate_can_repeat() -> None:
    (pattern,) = RENOVATE["pip-compile"]["managerFilePatterns"]
    files = [path for path in ROOT.glob("*.txt") if re.search(pattern.strip("/"), path.name)]
    texts = [path.read_text() for path in files]
    assert len(files) == 2
    assert [path.name for path, text in zip(files, texts, strict=True) if re.search("^--find-links", text, re.M)] == [], (
        "compile it without PIP_FIND_LINKS"
    )
    options = {word.split("=")[0] for text in texts for word in re.findall(r"#    pip-compile (.*)", text)[0].split()}
    known = {"--allow-unsafe", "--generate-hashes", "--no-emit-index-url", "--output-file", "--strip-extras"}
    assert {option for option in options if option.startswith("-")} <= known


def test_the_matrix_begins_at_the_oldest_version_that_is_supported() -> None:
    tried = WORKFLOW["jobs"]["unit"]["strategy"]["matrix"]["include"]
    versions = {tuple(int(part) for part in entry["ansible-core"].split(".")) for entry in tried}
    oldest = re.fullmatch(r">=(\d+)\.(\d+)\.0", yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"])
    assert oldest and min(versions) == tuple(int(part) for part in oldest.groups())
    assert len(versions) == max(versions)[1] - min(versions)[1] + 1, "a version between the oldest and the newest is missing"
