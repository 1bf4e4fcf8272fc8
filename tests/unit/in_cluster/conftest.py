# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs as their image has them: their files, and folders of the collection by another name."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins import module_utils
from ansible_collections.flaskops.observability.plugins.filter.package_folder import package_folder

ROOT = Path(__file__).resolve().parents[3]
# A program that a test imports finds the collection by the name that it has in the image.
sys.modules["flaskops_observability"] = module_utils


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """The folder of the image."""
    folder = tmp_path / "runner"
    (task,) = yaml.safe_load((ROOT / "in_cluster/build.yml").read_text())
    image = task["flaskops.observability.container_image"]
    shutil.copytree(ROOT / "in_cluster", folder)
    for inside, source in image["extra_folders"].items():
        here = Path(package_folder(inside)) if "package_folder" in source else ROOT / source.split("/../../")[1]
        shutil.copytree(here, folder / inside)
    for inside, text in image["extra_files"].items():
        (folder / inside).write_text(text)
    return folder
