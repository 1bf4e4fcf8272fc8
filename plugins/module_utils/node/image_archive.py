# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image archives of one static binary each, without a container engine. Private to this collection."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def write(
    archive: Path, ref: str, binary: Path, inside: str, entrypoint: list[str], arch: str, files: dict[str, Path] | None = None
) -> None:
    """Write a ``docker save`` archive of a scratch image that holds *binary* at the path *inside*.

    :param ref: the image's full name with its tag.
    :param arch: the architecture as the image specification names it, ``amd64`` or ``arm64``.
    :param files: further files, readable by all, by their paths in the image.
    """
    layer_file = archive.with_suffix(".layer")
    with tarfile.open(layer_file, "w") as layer:
        for target, source in {inside: binary, **(files or {})}.items():
            with source.open("rb") as content:
                info = layer.gettarinfo(arcname=target.lstrip("/"), fileobj=content)
                info.uid = info.gid = info.mtime = 0
                info.uname = info.gname = ""
                info.mode = 0o755 if source is binary else 0o644
                layer.addfile(info, content)
    with layer_file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    config = json.dumps(
        {
            "architecture": arch,
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [ref], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as image:
        for name, content_bytes in ((config_name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(content_bytes)
            image.addfile(info, io.BytesIO(content_bytes))
        image.add(layer_file, "layer.tar")
    layer_file.unlink()
