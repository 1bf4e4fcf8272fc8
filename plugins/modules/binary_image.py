#!/usr/bin/python
# Copyright (c) flaskops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: binary_image
short_description: Put static binaries into the embedded cluster as images
version_added: 0.2.0
author: flaskops maintainers (@flaskops)
description:
  - Packs each binary, with this machine's certificate authorities, into an image that holds nothing else,
    and imports it into each running node of the local cluster under the name that charts use.
  - For machines that reach no image registry. The tag must be the version that the binary really has.
attributes:
  check_mode:
    support: full
    description: Reports which images would be imported.
  idempotent:
    support: full
    description: An image that was made of the same binary is not imported again into a node that has it.
options:
  state:
    description: Whether the images are in the nodes, or those that this module once imported are removed from them.
    type: str
    choices: [present, absent]
    default: present
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      ref:
        description: The image's full name with its tag.
        type: str
        required: true
      binary:
        description: The static binary, in a folder as M(flaskops.observability.toolchain) returns it.
        type: path
        required: true
      inside:
        description: The path in the image, which is also its entrypoint.
        type: str
        required: true
  node:
    description: A container that is a node of the cluster, which stands for all of them.
    type: str
    required: true
  engine:
    description: The container engine that runs the node. V(auto) takes the one that has it.
    type: str
    choices: [auto, podman, docker]
    default: auto
"""

EXAMPLES = r"""
- name: Put Alertmanager into the embedded cluster
  flaskops.observability.binary_image:
    node: flaskops-node
    images:
      - ref: quay.io/prometheus/alertmanager:v0.28.1
        binary: "{{ binaries.paths.alertmanager }}/alertmanager"
        inside: /bin/alertmanager
"""

RETURN = r"""
images:
  description: The images that were, or in check mode would be, imported or removed.
  type: list
  elements: str
  returned: success
"""

import platform
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful

from ..module_utils.node import image_archive
from ..module_utils.node.engine import Engine, EngineError
from ..module_utils.node.host import ARCH, host_bundle
from ..module_utils.node.images import NodeImages

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
    """Import one image into the nodes and label it."""
    with tempfile.TemporaryDirectory(prefix="flaskops-image-") as scratch:
        archive = Path(scratch) / "image.tar"
        bundle = host_bundle()
        files = {"/etc/ssl/certs/ca-certificates.crt": bundle} if bundle else {}
        arch = ARCH[platform.machine()]
        image_archive.write(archive, image["ref"], Path(image["binary"]), image["inside"], [image["inside"]], arch, files)
        images.load(image["ref"], archive.read_bytes(), nodes, f"{LABEL}={label}")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "ref": {"type": "str", "required": True},
                    "binary": {"type": "path", "required": True},
                    "inside": {"type": "str", "required": True},
                },
            },
            "node": {"type": "str", "required": True},
            "engine": {"type": "str", "choices": ["auto", "podman", "docker"], "default": "auto"},
        },
        supports_check_mode=True,
    )
    present = module.params["state"] == "present"
    # The folder's name has a hash of all that the binary was made of.
    wanted = {image["ref"]: Path(image["binary"]).parent.name for image in module.params["images"]}
    try:
        name = module.params["node"]
        images = NodeImages(Engine.find(module.params["engine"], only=("podman", "docker"), having=(("container", name),)), name)
        there = images.each(lambda node: labels(images, node))
        todo = {
            ref: [node for node, found in there.items() if (found.get(ref) != label if present else ref in found)]
            for ref, label in wanted.items()
        }
        refs = [ref for ref in wanted if todo[ref]]
        if not module.check_mode and present:
            for image in module.params["images"]:
                if todo[image["ref"]]:
                    put(images, image, wanted[image["ref"]], todo[image["ref"]])
        elif not module.check_mode:
            images.remove({node: [ref for ref in refs if node in todo[ref]] for node in there})
    except (EngineError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(refs), images=refs)


if __name__ == "__main__":
    careful(main)()
