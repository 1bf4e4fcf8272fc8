# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""promtool for the tests of rules and dashboards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def promtool() -> str:
    """The collection's promtool, got by its own module as the cluster's binaries are; PROMTOOL names another one."""
    if os.environ.get("PROMTOOL"):
        return os.environ["PROMTOOL"]
    spec = yaml.safe_load((ROOT / "images.yml").read_text())["toolchain"]["prometheus"]
    arguments = json.dumps({"name": "prometheus", "spec": spec, "source": str(ROOT / "toolchain")})
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    env["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
    ansible = shutil.which("ansible", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert ansible, "ansible is not installed beside this Python"
    command = [ansible, "localhost", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    command += ["-m", "flaskops.observability.toolchain", "-a", arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(Path(json.loads(done.stdout[done.stdout.index("{") :])["path"]) / "promtool")
