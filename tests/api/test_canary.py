# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Malformed kubeconfigs with a credential, through the role of every stage at -vvv: each is refused, and nothing shows it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

from tests.api.test_access import ROLES
from tests.canary import MALFORMED, leaks
from tests.harness import playbook

# The unit tests have more.
CASES = (
    "a line break inside a token",
    "a line break inside a token's file",
    "a token that is a mapping",
    "a list",
    "a user's keys beside the user",
    "broken in the line of the token",
    "a key that is no base64",
    "a proxy that is malformed",
)


def test_every_role_refuses_it_and_shows_nothing(tmp_path: Path) -> None:
    hosts, wanted = {}, {}
    for number, case in enumerate(CASES):
        folder = tmp_path / f"case-{number}"
        folder.mkdir()
        path, wanted[folder.name] = MALFORMED[case](folder)
        hosts[folder.name] = {
            "cluster_kubeconfig": path,
            **{key: value for role in ROLES.values() for key, value in role.items()},
        }
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": shared}}))
    tasks = [
        {
            "block": [{"ansible.builtin.include_role": {"name": f"flaskops.observability.{role}"}}],
            "rescue": [{"ansible.builtin.debug": {"msg": f"{role} has failed: {{{{ ansible_failed_result.msg }}}}"}}],
        }
        for role in ROLES
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    args = (str(tmp_path / "play.yml"), "-vvv", "--diff", "--forks", "4")
    done = playbook(*args, inventory=("-i", str(tmp_path / "hosts.yml")), env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
    said = done.stdout + done.stderr
    assert not leaks(said), leaks(said)[:3]
    for host, key in wanted.items():
        failed = re.findall(rf'^ok: \[{host}\] => \{{\n    "msg": "(\w+) has failed: (.*)"$', done.stdout, re.MULTILINE)
        assert [role for role, _text in failed] == list(ROLES), (host, failed)
        assert all(key in text and f"{host}/config" in text for _role, text in failed), (host, key, failed)
