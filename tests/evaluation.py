# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible itself makes of a role's variables, without a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def evaluate(
    folder: Path,
    expressions: dict[str, str],
    given: dict[str, Any],
    role: Path | None = None,
    variables: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The values of Jinja *expressions*, by the names that are theirs here.

    :param folder: a place for the play. :param given: extra variables, which win.
    :param role: whose defaults, variables and templates are at hand. :param variables: those of the play.
    """
    text = "{{ {" + ", ".join(f"'{name}': {expression}" for name, expression in expressions.items()) + "} | to_json }}"
    task = {"ansible.builtin.copy": {"content": text, "dest": str(folder / "out.json"), "mode": "0600"}}
    play: dict[str, Any] = {"hosts": "localhost", "gather_facts": False, "vars": dict(variables or {}), "tasks": [task]}
    if role:
        play["vars"]["role_path"] = str(role)
        play["vars_files"] = [f"{role}/defaults/main.yml", f"{role}/vars/main.yml"]
        if not (folder / "templates").exists():
            (folder / "templates").symlink_to(role / "templates")
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", "play.yml"]
    command += ["-e", json.dumps({"ansible_python_interpreter": sys.executable, **given})]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((folder / "out.json").read_text()))
