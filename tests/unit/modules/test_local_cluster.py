# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What local_cluster refuses before it changes anything; no test makes a cluster."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.flaskops.observability.plugins.module_utils._engine import Engine
from ansible_collections.flaskops.observability.plugins.modules import local_cluster

NAME = f"flaskops-test-{os.getpid()}"
FREE = "10.231.77.0/24"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(**params: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"name": NAME, "files": str(tmp_path), "kubeconfig": str(tmp_path / "kubeconfig"), "subnet": FREE}
        given |= {"api_port": free_port(), "versions": {"kubernetes": "1.0.0"}, "_ansible_check_mode": True}
        with patch_module_args(given | params), pytest.raises(SystemExit):
            local_cluster.main()
        done: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert not (tmp_path / "kubeconfig").exists()
        return done

    return call


class Refused:
    """What every command answers: nothing is there, and the machine has one route."""

    returncode = 1
    stdout = "default via 10.99.0.1 dev eth0\n10.99.0.0/16 dev eth0 proto kernel scope link \n"


@pytest.fixture
def no_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that has no container, volume, network or image, on a machine with one route."""
    monkeypatch.setattr(Engine, "find", classmethod(lambda cls, *args, **kwargs: cls("podman", "podman", {})))
    monkeypatch.setattr(local_cluster.subprocess, "run", lambda *args, **kwargs: Refused)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("subnet", ["nonsense", "10.89.240.7/24", "10.89.0.0/16", "8.8.8.0/24", "fd00::/24"])
def test_bad_subnet(run: Any, subnet: str) -> None:
    done = run(subnet=subnet)
    assert done["msg"].startswith(f"The subnet {subnet} can't be used (")
    assert done["msg"].endswith("name a private /24 network.")


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_port_out_of_range(run: Any, port: int) -> None:
    assert run(api_port=port)["msg"] == f"The api_port {port} is no port: choose one from 1 to 65535."


@pytest.mark.usefixtures("no_objects")
def test_free_name_port_and_subnet_pass(run: Any) -> None:
    done = run()
    assert done["changed"] and done["actions"][-1] == f"make the cluster {NAME}"


@pytest.mark.usefixtures("no_objects")
def test_taken_port(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(api_port=port)["msg"] == f"Port {port} of 127.0.0.1 is taken: choose another 'api_port'."


@pytest.mark.usefixtures("no_objects")
def test_overlapping_subnet(run: Any) -> None:
    assert run(subnet="10.99.7.0/24")["msg"] == (
        "The address range 10.99.7.0/24 overlaps the route '10.99.0.0/16 dev eth0 proto kernel scope link':"
        " choose another 'subnet'."
    )


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_volume_of_somebody_else(run: Any) -> None:
    engine = Engine.find("podman")
    engine.run(["volume", "create", f"{NAME}-data"])
    try:
        assert run(engine="podman")["msg"] == f"The volume '{NAME}-data' exists and is not ours: choose another 'name'."
        assert run(engine="podman", state="absent")["actions"] == []
    finally:
        subprocess.run([engine.path, "volume", "rm", f"{NAME}-data"], env=engine.env, check=True, capture_output=True)


def test_no_engine(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run()["msg"].startswith("No container engine can be used (podman is not installed; docker is not installed)")
