# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-doc shows, beside what validate-modules looks at (test_sanity.py): attributes, results, examples, secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .support import ROOT, specification

MODULES = sorted(
    path.stem
    for path in (ROOT / "plugins/modules").glob("*.py")
    if path.stem.startswith(("external_checks", "uptimerobot", "pingdom", "statuscake"))
)
COLLECTION = "flaskops.observability"


@pytest.fixture(scope="module")
def pages() -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ansible-doc")), "-j", *(f"{COLLECTION}.{name}" for name in MODULES)]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MODULES)
def test_page(name: str, pages: dict[str, Any]) -> None:
    page = pages[f"{COLLECTION}.{name}"]
    assert specification(name)["supports_check_mode"] is True
    assert {"check_mode", "diff_mode", "idempotent"} <= set(page["doc"]["attributes"])
    assert page["return"] and all(entry["description"] and entry["returned"] for entry in page["return"].values())
    for task in yaml.safe_load(page["examples"]):
        for action, arguments in task.items():
            if action.startswith(COLLECTION):
                assert set(arguments) <= set(pages[action]["doc"]["options"]) if action in pages else False, task["name"]


@pytest.mark.parametrize("name", MODULES)
def test_secrets_are_marked(name: str) -> None:
    def look(spec: dict[str, Any]) -> Iterator[str]:
        for option, entry in spec.items():
            if option in ("api_token", "http_password", "request_body", "secret_request_headers"):
                yield option if entry.get("no_log") is True else f"{option} is shown"
            yield from look(entry.get("options", {}))

    found = list(look(specification(name)["argument_spec"]))
    assert "api_token" in found and not [entry for entry in found if entry.endswith("shown")]


def test_every_module_is_there() -> None:
    assert len(MODULES) == 11
