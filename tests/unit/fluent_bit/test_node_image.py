# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What node_image reads in archives; tests/integration/test_fluent_bit.py imports them into a real node."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.node import image_archive
from ansible_collections.flaskops.observability.plugins.module_utils.node.given_images import archive_names
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


def test_registry_that_is_not_there() -> None:
    assert not registry_answers("localhost:1")
