# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that tests run, got by the collection's own module as the cluster's are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def programs(component: str) -> Path:
    """The folder of a component of images.yml; a build can take minutes."""
    spec = yaml.safe_load((ROOT / "images.yml").read_text())["toolchain"][component]
    arguments = json.dumps({"name": component, "spec": spec, "source": str(ROOT / "toolchain")})
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    env["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
    command = [str(Path(sys.executable).with_name("ansible")), "localhost", "-c", "local"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    command += ["-m", "flaskops.observability.toolchain", "-a", arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout[done.stdout.index("{") :])["path"])
