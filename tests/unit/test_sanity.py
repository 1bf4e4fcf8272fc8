# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ansible-test sanity --test validate-modules` runs, without the network and the container that ansible-test wants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "ansible_collections/flaskops/observability"


def validate(folder: Path, *modules: str) -> dict[str, str]:
    """Findings of validate-modules for the modules of a collection below the folder."""
    program = files("ansible_test") / "_util/controller/sanity/validate-modules/validate.py"
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    command = [sys.executable, str(program), "--format", "json", "--arg-spec", "--collection", COLLECTION]
    command += ["--collection-version", version, *modules]
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        command,
        cwd=folder / COLLECTION,
        env={**env, "ANSIBLE_COLLECTIONS_PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 3) and not done.stderr, done.stdout + done.stderr
    return {
        f"{path} validate-modules:{error['code']}": error["msg"]
        for path, found in json.loads(done.stdout).items()
        for error in found["errors"]
    }


def test_modules() -> None:
    modules = sorted(f"plugins/modules/{path.name}" for path in (ROOT / "plugins/modules").glob("*.py"))
    assert validate(ROOT / "collections", *modules) == {}


def test_a_page_that_differs_from_its_module_is_found(tmp_path: Path) -> None:
    folder = tmp_path / COLLECTION
    folder.mkdir(parents=True)
    for name in ("meta", "galaxy.yml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "plugins/modules").mkdir(parents=True)
    for name in ("doc_fragments", "module_utils"):
        (folder / "plugins" / name).symlink_to(ROOT / "plugins" / name)
    text = (ROOT / "plugins/modules/pingdom_check.py").read_text()
    (folder / "plugins/modules/pingdom_check.py").write_text(text.replace("choices: [60, 300,", "choices: [300,"))
    found = validate(tmp_path, "plugins/modules/pingdom_check.py")
    assert [where.partition(":")[2] for where in found] == ["doc-choices-do-not-match-spec"]
