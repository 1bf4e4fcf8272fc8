# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What node_image reads in archives; tests/integration/test_fluent_bit.py imports them into a real node."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.node import image_archive
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine
from ansible_collections.flaskops.observability.plugins.module_utils.node.given_images import (
    archive_names,
    full_name,
    make_available,
)
from ansible_collections.flaskops.observability.plugins.module_utils.node.host import registry_answers
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import ImageError


def write(path: Path, files: dict[str, Any]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def test_names_of_our_own_archives(tmp_path: Path) -> None:
    image_archive.write(tmp_path / "a.tar", "quay.io/a/b:1", Path("/bin/true"), "/bin/a", ["/bin/a"], "amd64")
    assert archive_names(str(tmp_path / "a.tar")) == {"quay.io/a/b:1"}


def test_names_of_docker_archives(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {"manifest.json": [{"RepoTags": ["a/b:1", "a/b:2"]}, {"RepoTags": None}]})
    assert archive_names(path) == {"a/b:1", "a/b:2"}


def test_names_of_oci_archives(tmp_path: Path) -> None:
    notes = [{"org.opencontainers.image.ref.name": "a/b:1"}, {"io.containerd.image.name": "c/d:2"}]
    path = write(tmp_path / "a.tar", {"./index.json": {"manifests": [{"annotations": note} for note in notes] + [{}]}})
    assert archive_names(path) == {"a/b:1", "c/d:2"}


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("no archive")
    with pytest.raises(ImageError, match="can't be read"):
        archive_names(str(tmp_path / "a.tar"))
    with pytest.raises(ImageError, match="can't be read"):
        archive_names(str(tmp_path / "none.tar"))


@pytest.mark.parametrize("host", ["localhost:1", "nginx:latest", "nginx:1.27", "", "a b"])
def test_registry_that_is_not_there(host: str) -> None:
    assert not registry_answers(host)


def test_docker_hub_is_asked_where_its_images_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: asked.append(url) or io.BytesIO())
    assert registry_answers("docker.io") and registry_answers("quay.io")
    assert asked == ["https://registry-1.docker.io/v2/", "https://quay.io/v2/"]


DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("quay.io/a/b:1", "quay.io/a/b:1"),
        ("fluent/fluent-bit:5.1.3", "docker.io/fluent/fluent-bit:5.1.3"),
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker.io/nginx:1.27", "docker.io/library/nginx:1.27"),
        ("localhost/a", "localhost/a:latest"),
        ("registry.test:5000/a/b", "registry.test:5000/a/b:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"registry.test:5000/a:1@{DIGEST}", f"registry.test:5000/a@{DIGEST}"),
    ],
)
def test_an_image_has_its_full_name_in_a_node(image: str, name: str) -> None:
    assert full_name(image) == full_name(name) == name


def test_a_short_name_is_found_in_a_node_and_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """containerd knows images by their full names, which kubelet asks for."""
    engine = Engine("podman", "podman", {})
    monkeypatch.setattr(Engine, "find", classmethod(lambda cls, *args, **kwargs: engine))
    monkeypatch.setattr(engine, "nodes", lambda node: [node])
    there = "docker.io/fluent/fluent-bit:5.1.3"

    def node_images(node: str, *words: str, **_rest: Any) -> SimpleNamespace:
        return SimpleNamespace(stdout=there.encode() if words[-1] == f"name=={there}" else b"")

    monkeypatch.setattr(engine, "node_images", node_images)
    path = write(tmp_path / "a.tar", {"manifest.json": [{"RepoTags": ["fluent/fluent-bit:5.1.3"]}]})
    for archive in (None, path):
        params = {"node": "c-node", "image": "fluent/fluent-bit:5.1.3", "archive": archive, "engine": "auto"}
        assert make_available(params, False) == {"changed": False, "available": True, "reason": "", "source": "node"}
    with pytest.raises(ImageError, match=r"holds fluent/fluent-bit:5\.1\.3 and not fluent/fluent-bit:5\.1\.4:"):
        make_available({**params, "image": "fluent/fluent-bit:5.1.4"}, False)
