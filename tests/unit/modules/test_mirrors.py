# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of registry mirrors: what containerd reads in them, and how they get into a node; a shell stands for the node."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.node import registry_mirrors
from ansible_collections.flaskops.observability.plugins.module_utils.node.registry_mirrors import (
    MirrorError,
    check,
    differ,
    files,
    mirrored,
    write,
)

from tests.fakes.certificates import certificate

GATEWAY = "10.89.240.1"
PASSWORD = 'p"a\\ss'


class Shell:
    """Runs what an engine would run in a node on this machine."""

    def run(self, args: list[str], input: bytes | None = None, timeout: float | None = None) -> Any:
        command = args[args.index("node") + 1 :]
        assert PASSWORD not in " ".join(args)
        return subprocess.run(command, input=input, capture_output=True, check=True)


def mirror(endpoint: str = "https://mirror.test:5000", registry: str = "docker.io", **rest: str) -> dict[str, Any]:
    return {"registry": registry, "endpoint": endpoint, **rest}


def hosts(mirrors: list[dict[str, Any]], registry: str = "docker.io") -> dict[str, Any]:
    check(mirrors, GATEWAY)
    found: dict[str, Any] = tomllib.loads(files(mirrors)[f"{registry}/hosts.toml"].decode())
    return dict(found["host"])


def test_mirrors_of_a_registry_are_asked_in_their_order() -> None:
    found = hosts([mirror("https://one.test"), mirror("http://two.test:5000/"), mirror("https://else.test", "quay.io")])
    assert list(found) == ["https://one.test", "http://two.test:5000"]
    assert found["https://one.test"] == {"capabilities": ["pull", "resolve"]}


@pytest.mark.parametrize("path", ["/proxy/hub", "/v2/proxy/hub"])
def test_a_path_is_that_of_a_project(path: str) -> None:
    found = hosts([mirror(f"https://harbor.test{path}")])
    assert found == {"https://harbor.test/v2/proxy/hub": {"capabilities": ["pull", "resolve"], "override_path": True}}


def test_a_login_is_a_header() -> None:
    found = hosts([mirror(username="user", password=PASSWORD)])["https://mirror.test:5000"]
    assert found["header"] == {"Authorization": "Basic dXNlcjpwImFcc3M="}


def test_authorities_of_several_mirrors_are_kept_apart(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        texts.append(certificate(f"{name}.test")[0])
        (tmp_path / name).write_text(texts[-1])
    mirrors = [mirror(f"https://{name}.test", ca_file=str(tmp_path / name)) for name in ("a", "b")]
    found = hosts(mirrors)
    named = [found[f"https://{name}.test"]["ca"] for name in ("a", "b")]
    assert [files(mirrors)[f"docker.io/{name}"].decode() for name in named] == texts


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (mirror(registry="registry-1.docker.io"), "docker.io"),
        (mirror(registry="https://quay.io"), "no host"),
        (mirror(registry="quay.io/prometheus"), "no host"),
        (mirror(registry="../etc"), "no host"),
        (mirror("mirror.test:5000"), "https://host:port"),
        (mirror("https://mirror.test:0"), "https://host:port"),
        (mirror("https://mirror.test/a b"), "https://host:port"),
        (mirror("https://u:p4ss@mirror.test"), "with a login"),
        (mirror("https://localhost:5000"), GATEWAY),
        (mirror("https://127.8.0.1:5000"), GATEWAY),
        (mirror("https://[::1]:5000"), GATEWAY),
        (mirror("https://0.0.0.0:5000"), GATEWAY),
        (mirror(username="user"), "give both"),
        (mirror(password=PASSWORD), "give both"),
        (mirror("http://mirror.test", username="user", password=PASSWORD), "no TLS"),
        (mirror(ca_file="/nonexistent"), "name a PEM file"),
        (mirror(ca_file=__file__), "name a PEM file"),
    ],
)
def test_a_mirror_that_cannot_work_is_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(MirrorError) as refused:
        check([wrong], GATEWAY)
    assert word in str(refused.value) and "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value) and "p4ss" not in str(refused.value)


@pytest.mark.parametrize(
    "again", ["https://m.test/hub", "https://m.test/hub/", "https://M.test/hub", "HTTPS://m.test/hub", "https://m.test/v2/hub"]
)
def test_a_mirror_that_is_there_twice_is_refused(again: str) -> None:
    """However it is written: containerd reads no file with the same table twice, and then asks no mirror."""
    with pytest.raises(MirrorError, match="twice"):
        check([mirror("https://m.test/hub"), mirror(again)], GATEWAY)
    assert len(hosts([mirror("https://m.test/hub"), mirror("https://m.test/other")])) == 2


def test_a_node_has_the_files_that_are_wanted_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "certs.d"
    monkeypatch.setattr(registry_mirrors, "FOLDER", str(folder))
    node: Any = Shell()
    first = files([mirror(username="user", password=PASSWORD), mirror(registry="registry.test:5000")])
    assert not differ(node, "node", {}) and differ(node, "node", first)
    write(node, "node", first)
    assert not differ(node, "node", first) and differ(node, "node", {})
    assert (folder / "registry.test:5000/hosts.toml").is_file()
    assert mirrored(node, "node", "docker.io") and not mirrored(node, "node", "quay.io")
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}
    second = files([mirror("https://other.test")])
    assert differ(node, "node", second)
    write(node, "node", second)
    assert not differ(node, "node", second) and not (folder / "registry.test:5000").exists()
    write(node, "node", files([mirror(registry="_default")]))
    assert mirrored(node, "node", "quay.io")
    write(node, "node", {})
    assert not differ(node, "node", {})
