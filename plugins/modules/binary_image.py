#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: binary_image
short_description: Put static binaries into the local cluster as images
version_added: 0.1.0
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
- name: Put Alertmanager into the local cluster
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.node.binary_images import bring
from ..module_utils.node.engine import EngineError

ARGUMENTS = {
    "argument_spec": {
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
    }
}


def main() -> None:
    module = AnsibleModule(
        **ARGUMENTS,
        supports_check_mode=True,
    )
    try:
        refs = bring(module.params, module.check_mode)
    except (EngineError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(refs), images=refs)


if __name__ == "__main__":
    careful(main)()
