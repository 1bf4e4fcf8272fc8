# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody else's image for the nodes: from an archive, or else from its registry. Private to this collection."""

from __future__ import annotations

import contextlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

from . import registry_mirrors
from .engine import Engine, EngineError
from .host import registry_answers
from .images import ImageError, NodeImages, PutError


def full_name(image: str) -> str:
    """What containerd and kubelet call an image: it is one of Docker Hub, and the latest, where its name does not say so.

    Of a tag and a digest the digest counts.
    """
    first, slash, rest = image.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", first):
        first, rest = "docker.io", image
    if first == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    name = re.sub(r":[^:@/]+@", "@", f"{first}/{rest}")
    return name if re.search("[:@][^/]*$", name) else f"{name}:latest"


def archive_names(path: str) -> set[str]:
    """Return the names of the images in an archive; both forms, docker's and OCI's, are read."""
    names: set[str] = set()
    try:
        with tarfile.open(path) as archive:
            members = {member.name.removeprefix("./"): member for member in archive.getmembers()}
            for file, read in (("manifest.json", _docker_names), ("index.json", _oci_names)):
                content = archive.extractfile(members[file]) if file in members else None
                if content:
                    names |= set(read(json.load(content)))
    except (OSError, tarfile.TarError, ValueError, TypeError, AttributeError) as error:
        raise ImageError(
            f"The archive {path} can't be read ({error}): write it again with podman save or docker save."
        ) from error
    return names


def _docker_names(manifest: Any) -> list[str]:
    return [name for image in manifest for name in image.get("RepoTags") or []]


def _oci_names(index: Any) -> list[str]:
    notes = [entry.get("annotations") or {} for entry in index.get("manifests") or []]
    names = [note.get("io.containerd.image.name") or note.get("org.opencontainers.image.ref.name") for note in notes]
    return [name for name in names if name]


def import_archive(images: NodeImages, image: str, path: str, nodes: list[str]) -> None:
    """Put the archive into the nodes."""
    try:
        images.put(image, nodes, Path(path))
    except (EngineError, OSError) as error:
        if isinstance(error, PutError) and not error.printed:
            without = " and ".join(error.nodes)
            raise ImageError(
                f"The node {without} has no image {image} after the import of {path}: check the archive's content."
            ) from error
        raise ImageError(f"The archive {path} could not be imported ({error}): check the archive.") from error


def make_available(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make the image available, or tell why it is not; the result of the module.

    :raises EngineError, ImageError: with one sentence for the user.
    """
    node, given, path = params["node"], params["image"], params["archive"]
    image = full_name(given)
    engine = Engine.find(params["engine"], only=("podman", "docker"), having=(("container", node),), here=True)
    names = archive_names(path) if path else set()
    if path and image not in map(full_name, names):
        found = ", ".join(sorted(names)) or "no named image"
        raise ImageError(f"The archive {path} holds {found} and not {given}: correct the archive, or the name of the image.")
    images = NodeImages(engine, node)
    lacking = images.lacking(image)
    if not lacking:
        return {"changed": False, "available": True, "reason": "", "source": "node"}
    if path:
        if not check_mode:
            import_archive(images, image, path, lacking)
        return {"changed": True, "available": True, "reason": "", "source": "archive"}
    registry = image.split("/", 1)[0]
    without = f"the node {lacking[0]}" if len(lacking) == 1 else f"each of the nodes {', '.join(lacking)}"
    reason = f"{without} has no image {image} and the registry {registry} does not answer"
    # With a mirror a node may have what this machine does not reach.
    mirrored = registry_mirrors.mirrored(engine, lacking[0], registry)
    if mirrored or registry_answers(registry):
        if check_mode:
            return {"changed": True, "available": True, "reason": "", "source": "registry"}
        with contextlib.suppress(EngineError):
            words = ("pull", "--hosts-dir", registry_mirrors.FOLDER, image)
            images.each(lambda name: images.run(name, *words, timeout=params["pull_timeout"]), lacking)
            return {"changed": True, "available": True, "reason": "", "source": "registry"}
        reason = f"{without} has no image {image} and could not pull it from {registry}{' or its mirrors' if mirrored else ''}"
    return {"changed": False, "available": False, "reason": reason, "source": ""}
