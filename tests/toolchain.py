# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that tests run, got by the collection's own module as the cluster's are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.flaskops.observability.plugins.module_utils._files import cache_dir
from ansible_collections.flaskops.observability.plugins.module_utils.toolchain import go_binary

ROOT = Path(__file__).resolve().parents[1]
# What only tests run, pinned in tests/<name>/go.mod.
OWN: dict[str, dict[str, Any]] = {
    "kwok": {
        "version": "0.8.0",
        "module": "sigs.k8s.io/kwok",
        "packages": {"kwok": "cmd/kwok"},
        # When a pod or node is what, as kwok's own cluster has it.
        "files": {"pods": "kustomize/stage/pod/fast", "nodes": "kustomize/stage/node/fast"},
    },
}


def gateway_definitions() -> Path:
    """The folder of the Gateway API's definitions, in the Go module that tests/gateway-api/go.mod pins."""
    cache = cache_dir()
    env = {**os.environ, "GOMODCACHE": str(cache / "go" / "mod"), "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    command = [go_binary("1.26.0", cache), "mod", "download", "-json", "sigs.k8s.io/gateway-api"]
    done = subprocess.run(command, cwd=ROOT / "tests/gateway-api", env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"], "config/crd/standard")


def programs(component: str) -> Path:
    """The folder of a component of images.yml or `OWN`; a build can take minutes."""
    arguments: dict[str, Any] = {"name": component}
    if component in OWN:
        arguments |= {"spec": OWN[component], "source": str(ROOT / "tests"), "mode": "build"}
    else:
        spec = yaml.safe_load((ROOT / "images.yml").read_text())["toolchain"][component]
        arguments |= {"spec": spec, "source": str(ROOT / "toolchain")}
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    env["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
    command = [str(Path(sys.executable).with_name("ansible")), "localhost", "-c", "local"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    command += ["-m", "flaskops.observability.toolchain", "-a", json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout[done.stdout.index("{") :])["path"])
