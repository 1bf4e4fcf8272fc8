# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the archive that is released, and what the collection declares of itself."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RELEASED = {
    *(
        "app",
        "changelogs",
        "charts",
        "docs",
        "in_cluster",
        "inventories",
        "meta",
        "playbooks",
        "plugins",
        "roles",
        "tasks",
        "toolchain",
    ),
    *("CHANGELOG.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "images.yml", "site.yml"),
    *("requirements.txt", "requirements.yml"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("release")
    command = ["ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        return [member.name for member in content if member.isfile()]


def test_nothing_but_the_collection_is_released(files: list[str]) -> None:
    assert {name.split("/")[0] for name in files} == RELEASED
    assert [name for name in files if re.search(r"(^|/)(__pycache__|\.\w+_cache)/|\.pyc$", name)] == []


def test_what_a_program_reads_beside_itself_is_released(files: list[str]) -> None:
    """Templates, style sheets and data of the plugins are no Python."""
    folders = [ROOT / name for name in ("plugins", "in_cluster", "roles", "charts", "toolchain")]
    wanted = {str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert {name for name in wanted if "__pycache__" not in name} - set(files) == set()


def test_the_group_of_what_talks_to_a_cluster() -> None:
    """By its documentation, each has the options kubeconfig and context."""
    pages = {path.stem: path.read_text() for path in (ROOT / "plugins/modules").glob("*.py")}
    found = {name for name, text in pages.items() if "flaskops.observability.cluster" in text.partition("EXAMPLES")[0]}
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
    assert set(groups["cluster"]) == found and len(found) > 10
    assert {name for group in groups.values() for name in group} <= set(pages)
