#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_image
short_description: Put somebody else's image into the local cluster
version_added: 0.1.0
description:
  - Makes sure that each node of the local cluster that runs has an image, from an archive, or else from the image's registry.
  - An image that neither node nor registry has is no failure; RV(available) is false then, and RV(reason) says why.
    Nothing has been changed, so that whoever needs the image can be skipped.
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
- name: Put Fluent Bit into the local cluster
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.node.engine import EngineError
from ..module_utils.node.given_images import make_available
from ..module_utils.node.images import ImageError

ARGUMENTS = {
    "argument_spec": {
        "node": {"type": "str", "required": True},
        "image": {"type": "str", "required": True},
        "archive": {"type": "path"},
        "pull_timeout": {"type": "int", "default": 300},
        "engine": {"type": "str", "choices": ["auto", "podman", "docker"], "default": "auto"},
    }
}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        **ARGUMENTS,
        supports_check_mode=True,
    )
    try:
        result = make_available(module.params, module.check_mode)
    except (EngineError, ImageError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    careful(main)()
