# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that binary_image imports, and what it reads of containerd's answer; the import itself is shown on the cluster."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.node import image_archive
from ansible_collections.flaskops.observability.plugins.module_utils.node.binary_images import labels
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine, EngineError
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import NodeImages

LISTING = """\
REF                              TYPE                                     DIGEST      SIZE      PLATFORMS   LABELS
quay.io/prometheus/node:v1       application/vnd.oci.image.manifest+json  sha256:1    12.0 MiB  linux/amd64 io.cri-containerd.image=managed,io.flaskops.binary=node-1-abc
registry.k8s.io/etcd:3.7.0       application/vnd.oci.image.manifest+json  sha256:2    23.1 MiB  linux/amd64 io.cri-containerd.image=managed
localhost/pause:catatonit        application/vnd.oci.image.manifest+json  sha256:3    690.0 KiB linux/amd64 -
"""  # noqa: E501, as containerd prints it


class Printer(Engine):
    """An engine that prints one listing, or fails."""

    def __init__(self, listing: str = "", error: str = "") -> None:
        self.listing, self.error = listing, error

    def nodes(self, node: str) -> list[str]:
        return [node]

    def run(self, args: list[str], *_args: Any, **_: Any) -> Any:
        if self.error:
            raise EngineError(self.error)
        assert args == ["exec", "n", "ctr", "-n", "k8s.io", "images", "ls"]
        return SimpleNamespace(stdout=self.listing.encode())


def test_only_our_images_have_the_label() -> None:
    assert labels(NodeImages(Printer(LISTING), "n"), "n") == {"quay.io/prometheus/node:v1": "node-1-abc"}


def test_node_that_does_not_answer() -> None:
    with pytest.raises(EngineError, match=r"The node n can't be asked for its images \(no such container\)"):
        labels(NodeImages(Printer(error="no such container"), "n"), "n")


def test_archive_holds_the_binary_and_the_authorities(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(b"\x7fELF")
    (tmp_path / "ca.crt").write_text("certificates")
    archive = tmp_path / "image.tar"
    files = {"/etc/ssl/certs/ca-certificates.crt": tmp_path / "ca.crt"}
    image_archive.write(archive, "quay.io/a/tool:v1", tmp_path / "tool", "/bin/tool", ["/bin/tool"], "amd64", files)
    with tarfile.open(archive) as image:
        (manifest,) = json.load(image.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(image.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        layer = image.extractfile(manifest["Layers"][0])
        assert layer
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.file_digest(layer, 'sha256').hexdigest()}"]
        layer.seek(0)
        with tarfile.open(fileobj=layer) as content:
            modes = {member.name: member.mode for member in content}
            assert modes == {"bin/tool": 0o755, "etc/ssl/certs/ca-certificates.crt": 0o644}
            found = content.extractfile("bin/tool")
            assert found and found.read() == b"\x7fELF"
    assert manifest["RepoTags"] == ["quay.io/a/tool:v1"]
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ca.crt", "image.tar", "tool"]
