#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_image
short_description: Put somebody else's image into the embedded cluster
version_added: 0.2.0
description:
  - Makes sure that each node of the local cluster that runs has an image, from an archive, or else from the image's registry.
  - An image that neither node nor registry has is no failure; RV(available) is false then, and RV(reason) says why.
    Nothing has been changed, so that whoever needs the image can be left out.
author:
  - flaskops (@flaskops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
  diff_mode:
    support: none
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
  idempotent:
    support: full
    description: An image that a node has is neither imported nor pulled again.
options:
  node:
    description:
      - Name of the container that is a node of the cluster, which stands for all of them.
    type: str
    required: true
  image:
    description:
      - The image's full name with its tag.
    type: str
    required: true
  archive:
    description:
      - Archive of the image, as C(podman save) and C(docker save) write it. The image's name must be the one in O(image).
    type: path
  pull_timeout:
    description:
      - Seconds that pulling from the registry may take.
    type: int
    default: 300
  engine:
    description:
      - The container engine that runs the node. V(auto) takes the one that has it.
    type: str
    choices: [auto, podman, docker]
    default: auto
"""

EXAMPLES = r"""
- name: Put Fluent Bit into the embedded cluster
  flaskops.observability.node_image:
    node: flaskops-node
    image: cr.fluentbit.io/fluent/fluent-bit:5.1.3
    archive: /srv/images/fluent-bit.tar
"""

RETURN = r"""
available:
  description: Whether the nodes have the image (in check mode, whether they would have it).
  returned: success
  type: bool
reason:
  description: Why the image is not available, as part of a sentence.
  returned: success
  type: str
  sample: the node flaskops-node has no image x:1 and the registry cr.fluentbit.io does not answer
source:
  description: Where the image comes from.
  returned: success
  type: str
  sample: archive
"""

import contextlib
import json
import tarfile
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful
from ansible_collections.flaskops.observability.plugins.module_utils.node import registry_mirrors
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import Engine, EngineError
from ansible_collections.flaskops.observability.plugins.module_utils.node.host import registry_answers
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import NodeImages


class ImageError(Exception):
    """One sentence for the user."""


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


def _docker_names(manifest: t.Any) -> list[str]:
    return [name for image in manifest for name in image.get("RepoTags") or []]


def _oci_names(index: t.Any) -> list[str]:
    notes = [entry.get("annotations") or {} for entry in index.get("manifests") or []]
    names = [note.get("io.containerd.image.name") or note.get("org.opencontainers.image.ref.name") for note in notes]
    return [name for name in names if name]


def import_archive(images: NodeImages, image: str, path: str, nodes: list[str]) -> None:
    """Stream the archive into the nodes."""
    try:
        with open(path, "rb") as archive:
            images.load(image, archive.read(), nodes)
    except (EngineError, OSError) as error:
        raise ImageError(f"The archive {path} could not be imported ({error}): check the archive.") from error
    if without := images.lacking(image):
        raise ImageError(
            f"The node {' and '.join(without)} has no image {image} after the import of {path}: check the archive's content."
        )


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Make the image available, or tell why it is not."""
    params = module.params
    node, image, path = params["node"], params["image"], params["archive"]
    engine = Engine.find(params["engine"], only=("podman", "docker"), having=(("container", node),))
    names = archive_names(path) if path else set()
    if path and image not in names:
        found = ", ".join(sorted(names)) or "no named image"
        raise ImageError(f"The archive {path} holds {found} and not {image}: correct the archive, or the name of the image.")
    images = NodeImages(engine, node)
    lacking = images.lacking(image)
    if not lacking:
        return {"changed": False, "available": True, "reason": "", "source": "node"}
    if path:
        if not module.check_mode:
            import_archive(images, image, path, lacking)
        return {"changed": True, "available": True, "reason": "", "source": "archive"}
    registry = image.split("/", 1)[0]
    without = f"the node {lacking[0]}" if len(lacking) == 1 else f"each of the nodes {', '.join(lacking)}"
    reason = f"{without} has no image {image} and the registry {registry} does not answer"
    # With a mirror a node may have what this machine does not reach.
    mirrored = registry_mirrors.mirrored(engine, lacking[0], registry)
    if mirrored or registry_answers(registry):
        if module.check_mode:
            return {"changed": True, "available": True, "reason": "", "source": "registry"}
        with contextlib.suppress(EngineError):
            words = ("pull", "--hosts-dir", registry_mirrors.FOLDER, image)
            images.each(lambda name: images.run(name, *words, timeout=params["pull_timeout"]), lacking)
            return {"changed": True, "available": True, "reason": "", "source": "registry"}
        reason = f"{without} has no image {image} and could not pull it from {registry}{' or its mirrors' if mirrored else ''}"
    return {"changed": False, "available": False, "reason": reason, "source": ""}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "pull_timeout": {"type": "int", "default": 300},
            "engine": {"type": "str", "choices": ["auto", "podman", "docker"], "default": "auto"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (EngineError, ImageError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    careful(main)()
