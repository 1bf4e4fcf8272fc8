# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the archive that is released, and what the collection declares of itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# What is released, by the first part of its name; the last two are made by the build, and CHANGELOG.md by a release.
RELEASED = {
    *("LICENSES", "app", "changelogs", "charts", "docs", "in_cluster", "inventories", "meta", "playbooks"),
    *("plugins", "roles", "tasks", "toolchain"),
    *("CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "README.md", "REUSE.toml", "SECURITY.md"),
    *("images.yml", "requirements.in", "requirements.txt", "requirements.yml", "site.yml"),
    *("FILES.json", "MANIFEST.json"),
}
# Files of these folders that only work on the collection needs.
KEPT_BACK = re.compile(r"changelogs/(config\.yaml|fragments/.*)|docs/\w+\.py")
# What work on a checkout leaves there.
LITTER = (
    *(".git/config", ".venv/bin/python", ".ansible/tmp", ".cache/x", ".coverage", ".hypothesis/x", ".mypy_cache/x"),
    *(".pytest_cache/x", ".ruff_cache/x", ".env", "reports/shop/index.html", "flaskops-observability-0.0.1.tar.gz"),
    *("plugins/modules/__pycache__/verify.cpython-311.pyc", "docs/__pycache__/x.txt", "tests/output/x"),
)


def tracked() -> set[str]:
    """The files and links of the repository, also those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in found if name and os.path.lexists(ROOT / name)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files, links and folders of an archive that is built of a checkout in which somebody has worked."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("release")
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name, follow_symlinks=False)
    for name in LITTER:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("litter")
    command = ["ansible-galaxy", "collection", "build", "--output-path", str(out), str(tree)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        return {member.name + ("/" if member.isdir() else "") for member in content}


def test_what_is_tracked_and_nothing_else_is_released(files: set[str]) -> None:
    there = tracked()
    released = RELEASED | ({"CHANGELOG.md"} & there)
    assert {name.partition("/")[0] for name in files} == released
    wanted = {name for name in there if name.partition("/")[0] in released and not KEPT_BACK.fullmatch(name)}
    assert {name for name in files if not name.endswith("/")} == wanted | {"FILES.json", "MANIFEST.json"}
    assert [name for name in files if "__pycache__" in name] == []


def test_what_roles_and_playbooks_read_of_their_neighbours_is_released(files: set[str]) -> None:
    folders = ("roles", "playbooks", "tasks", "toolchain", "in_cluster")
    texts = [path.read_text() for name in folders for path in (ROOT / name).rglob("*.yml")]
    by_path = re.compile(r"(?:role_path|playbook_dir) ?(?:}}|~ ')(?:/\.\.)+/([\w./-]+\w)")
    # The reports are written.
    named = {name for text in texts for name in by_path.findall(text)} - {"reports"}
    assert {name for name in named if not {name, f"{name}/"} & files} == set()
    assert len(named) > 10


def test_the_group_of_what_talks_to_a_cluster() -> None:
    """By its documentation, each has the options kubeconfig and context."""
    pages = {path.stem: path.read_text() for path in (ROOT / "plugins/modules").glob("*.py")}
    found = {name for name, text in pages.items() if "flaskops.observability.cluster" in text.partition("EXAMPLES")[0]}
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
    assert set(groups["cluster"]) == found and len(found) > 10
    assert {name for group in groups.values() for name in group} <= set(pages)


def test_nothing_is_said_to_come_with_a_later_version() -> None:
    """A release lists what is new in it by this number, so that what names another one is in no list."""
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    pages = {path: re.findall(r"^\s*version_added: (\S+)", path.read_text(), re.M) for path in (ROOT / "plugins").rglob("*.py")}
    named = {str(path.relative_to(ROOT)): found for path, found in pages.items() if found}
    numbers = [int(part) for part in version.split(".")]
    later = {name for name, found in named.items() if any([int(part) for part in text.split(".")] > numbers for text in found)}
    assert later == set() and len(named) > 10
