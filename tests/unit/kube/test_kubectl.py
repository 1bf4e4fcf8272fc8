# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that a person may copy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.filter.kubectl import joined


@pytest.mark.parametrize(
    ("kubeconfig", "context", "words"),
    [
        ("", "", ["NONE"]),
        ("/a b", "", ["NONE", "--kubeconfig", "/a b"]),
        ("/a", "kind-two", ["NONE", "--kubeconfig", "/a", "--context", "kind-two"]),
        ("/a b:/c", "two", ["/a b:/c", "--context", "two"]),
    ],
)
def test_a_command_names_its_cluster(tmp_path: Path, kubeconfig: str, context: str, words: list[str]) -> None:
    """Several files are named by the variable, for the option takes one."""
    program = tmp_path / "kubectl"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "${KUBECONFIG:-NONE}" "$@"\n')
    program.chmod(0o755)
    command = joined(kubeconfig, context)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.stdout.splitlines() == words, (command, done.stderr)
