# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of one static binary each, for nodes that reach no registry. Private to this collection."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import Any

from . import image_archive
from .engine import Engine
from .host import ARCH, host_bundle
from .images import NodeImages

# The image's label in containerd that says which build of the binary it holds.
LABEL = "io.flaskops.binary"


def labels(images: NodeImages, node: str) -> dict[str, str]:
    """The label of each image of a node that has it."""
    found = {}
    for line in images.run(node, "ls").splitlines()[1:]:
        words = line.split()
        for pair in words[-1].split(","):
            if pair.startswith(f"{LABEL}="):
                found[words[0]] = pair.removeprefix(f"{LABEL}=")
    return found


def put(images: NodeImages, image: dict[str, Any], label: str, nodes: list[str]) -> None:
    """Put one image into the nodes and label it."""
    with tempfile.TemporaryDirectory(prefix="flaskops-image-") as scratch:
        archive = Path(scratch) / "image.tar"
        bundle = host_bundle()
        files = {"/etc/ssl/certs/ca-certificates.crt": bundle} if bundle else {}
        arch = ARCH[platform.machine()]
        image_archive.write(archive, image["ref"], Path(image["binary"]), image["inside"], [image["inside"]], arch, files)
        images.put(image["ref"], nodes, archive, f"{LABEL}={label}")


def bring(params: dict[str, Any], check_mode: bool) -> list[str]:
    """Bring the images to the state of the options; those that were, or in check mode would be, put or removed.

    :raises EngineError, OSError: with one sentence for the user, but for the last one.
    """
    present, name = params["state"] == "present", params["node"]
    # The folder's name has a hash of all that the binary was made of.
    wanted = {image["ref"]: Path(image["binary"]).parent.name for image in params["images"]}
    images = NodeImages(Engine.find(params["engine"], only=("podman", "docker"), having=(("container", name),), here=True), name)
    there = images.each(lambda node: labels(images, node))
    todo = {
        ref: [node for node, found in there.items() if (found.get(ref) != label if present else ref in found)]
        for ref, label in wanted.items()
    }
    refs = [ref for ref in wanted if todo[ref]]
    if not check_mode and present:
        for image in params["images"]:
            if todo[image["ref"]]:
                put(images, image, wanted[image["ref"]], todo[image["ref"]])
    elif not check_mode:
        images.remove({node: [ref for ref in refs if node in todo[ref]] for node in there})
    return refs
