#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a container image whose tag is a hash of what it was built from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Build a content-addressed container image from a source tree
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Builds an image from a source tree and tags it with the first twelve hexadecimal digits of a SHA-256
    over the tree, the Containerfile, the build arguments and the choice of base image.
  - An image that already has this tag is never built again.
  - Optionally imports the image into the node of a local cluster, or pushes it to its registry.
options:
  state:
    description:
      - V(present) builds and delivers; V(absent) removes every image of the repository that has a content tag,
        here and, with O(node) or O(cluster), in the cluster. Nothing is ever removed from a registry.
    type: str
    choices: [present, absent]
    default: present
  source:
    description: Folder of the source tree. Not needed where O(containerfile_content) is set.
    type: path
  containerfile:
    description: Containerfile to use, a path in O(source); C(Containerfile) or C(Dockerfile) by default.
    type: path
  containerfile_content:
    description: Text of a Containerfile, used instead of a file.
    type: str
  extra_files:
    description: Further files of the build context, as a mapping of relative path to text.
    type: dict
    default: {}
  extra_folders:
    description: Further folders of the build context, as a mapping of relative path to folder.
    type: dict
    default: {}
  repository:
    description: Name of the image without its tag.
    type: str
    required: true
  build_args:
    description:
      - Build arguments. They are visible in the image's history, so they must not hold secrets.
      - One that the Containerfile has no C(ARG) for is refused.
    type: dict
    default: {}
  build_secrets:
    description:
      - Secrets of the build by their ids, each a text or a mapping with C(src), the file that has it.
      - The engine gets them from a private file, for C(RUN --mount=type=secret,id=...).
      - They are in no layer, in no command line, and not in the tag.
      - One that the Containerfile does not mount is refused.
    type: dict
    default: {}
  target:
    description: Stage of the Containerfile to build; the last one by default.
    type: str
    default: ""
  platform:
    description:
      - Platform to build for, such as V(linux/arm64); that of this machine by default.
      - Where it is set, the base image comes from its registry.
    type: str
    default: ""
  rebuild:
    description:
      - A text that is part of the tag, such as a date.
      - A new one pulls the base image again and builds without the engine's cache, though the tree is the same.
      - V(true) does so at each run.
    type: str
    default: ""
  base_image:
    description: Base image, handed to the build as E(BASE_IMAGE) and E(RUNTIME_IMAGE).
    type: str
    default: docker.io/library/python:3.13-slim-bookworm
  base:
    description:
      - V(registry) pulls O(base_image); V(debian) makes a Debian base image with Python on this machine;
        V(auto) tries the registry for O(pull_timeout) seconds and then makes the Debian one.
    type: str
    choices: [auto, registry, debian]
    default: auto
  pull_timeout:
    description: Seconds that O(base=auto) waits for the base image.
    type: int
    default: 20
  trust_host_ca:
    description:
      - Let the build trust the certificate authorities of this machine, for networks with a private one.
      - podman and buildah mount this machine's bundle read-only, for the build arguments E(PIP_CERT) and E(SSL_CERT_FILE).
      - docker mounts no folders, so E(BASE_IMAGE) becomes the base image with that bundle, E(RUNTIME_IMAGE) stays plain.
    type: bool
    default: false
  engine:
    description: >-
      Container engine. V(auto) takes the one that has O(node), or the first node of O(cluster), else podman, docker or buildah.
    type: str
    choices: [auto, podman, buildah, docker]
    default: auto
  exclude:
    description:
      - Further patterns of what is neither hashed nor handed to the build, as in a C(.dockerignore).
      - One without a slash is a name in any folder.
      - The tree's own C(.containerignore) or C(.dockerignore) counts for both too.
      - Version control, caches, virtual environments and credentials are skipped by default.
      - A pattern that begins with V(!) brings back what is skipped by default, for example V(!.env).
    type: list
    elements: str
    default: []
  delivery:
    description:
      - V(import) puts the image into the cluster of O(node), V(push) into its registry; one on C(localhost) needs no TLS.
      - V(kind), V(minikube) and V(k3d) have that program load the image into its cluster O(cluster).
      - V(none) is for a cluster that runs the images of O(engine), as Docker Desktop does.
    type: str
    choices: [none, import, push, kind, minikube, k3d]
    default: none
  node:
    description: Name of the container that is a node of the local cluster; the image reaches all its nodes that run.
    type: str
  cluster:
    description: Name that kind or k3d has for its cluster, or the profile of minikube.
    type: str
  registry_username:
    description: User of the registry; E(FLASK_IMAGE_REGISTRY_USERNAME) where it is not set.
    type: str
  registry_password:
    description: Password of the registry; E(FLASK_IMAGE_REGISTRY_PASSWORD) where it is not set.
    type: str
attributes:
  check_mode:
    description: Tells whether an image would be built or delivered, and builds nothing.
    support: full
"""

EXAMPLES = r"""
- name: Build the app and put it into the local cluster
  flaskops.observability.container_image:
    source: /srv/app
    repository: localhost/flask-app
    delivery: import
    node: flaskops-node

- name: Build the app and have kind load it into the cluster that kind names kind
  flaskops.observability.container_image:
    source: /srv/app
    repository: localhost/flask-app
    delivery: kind
    cluster: kind
"""

RETURN = r"""
image:
  description: Full reference of the image.
  returned: when state is present
  type: str
  sample: localhost/flask-app:0a1b2c3d4e5f
tag:
  description: The content tag.
  returned: when state is present
  type: str
base:
  description: Base image that this build used; empty when nothing was built or the Containerfile names its own.
  returned: when state is present
  type: str
built:
  description: Whether an image was built (in check mode, would be built).
  returned: when state is present
  type: bool
delivered:
  description: Whether the image was imported, loaded or pushed (in check mode, would be).
  returned: when state is present
  type: bool
removed:
  description: Images that were removed.
  returned: when state is absent
  type: list
  elements: str
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ..module_utils.credentials.guard import careful
from ..module_utils.image.build_context import ContextError
from ..module_utils.image.cluster_tools import TOOLS
from ..module_utils.image.deliver import bring
from ..module_utils.image.inputs import secret_parts
from ..module_utils.node.engine import EngineError
from ..module_utils.node.images import ImageError, one_line

# Of a short name each engine makes another one, and of Docker Hub's without an owner, or by its old address, a node does.
REPOSITORY = re.compile(
    r"^(?=localhost[:/]|[^/]*[.:])(?!docker\.io/[^/]+$|index\.docker\.io/)"
    r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+$"
)


ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "source": {"type": "path"},
        "containerfile": {"type": "path"},
        "containerfile_content": {"type": "str"},
        "extra_files": {"type": "dict", "default": {}},
        "extra_folders": {"type": "dict", "default": {}},
        "repository": {"type": "str", "required": True},
        "build_args": {"type": "dict", "default": {}},
        "build_secrets": {"type": "dict", "default": {}, "no_log": True},
        "target": {"type": "str", "default": ""},
        "platform": {"type": "str", "default": ""},
        "rebuild": {"type": "str", "default": ""},
        "base_image": {"type": "str", "default": "docker.io/library/python:3.13-slim-bookworm"},
        "base": {"type": "str", "choices": ["auto", "registry", "debian"], "default": "auto"},
        "pull_timeout": {"type": "int", "default": 20},
        "trust_host_ca": {"type": "bool", "default": False},
        "engine": {"type": "str", "choices": ["auto", "podman", "buildah", "docker"], "default": "auto"},
        "exclude": {"type": "list", "elements": "str", "default": []},
        "delivery": {"type": "str", "choices": ["none", "import", "push", *TOOLS], "default": "none"},
        "node": {"type": "str"},
        "cluster": {"type": "str"},
        "registry_username": {"type": "str", "fallback": (env_fallback, ["FLASK_IMAGE_REGISTRY_USERNAME"])},
        "registry_password": {
            "type": "str",
            "no_log": True,
            "fallback": (env_fallback, ["FLASK_IMAGE_REGISTRY_PASSWORD"]),
        },
    },
    "mutually_exclusive": [("containerfile", "containerfile_content")],
    "required_if": [("delivery", "import", ["node"]), *(("delivery", tool, ["cluster"]) for tool in TOOLS)],
}


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **ARGUMENTS)
    # Ansible hides a text that it was given, but not what it has made of one like "netrc=...".
    for given in module.params["build_secrets"].values():
        module.no_log_values.update(secret_parts(given) if isinstance(given, str) else ())
    repository = module.params["repository"]
    if not REPOSITORY.match(repository):
        module.fail_json(
            msg=f"repository {repository} is not a full image name without a tag; write it like localhost/flask-app"
            " or docker.io/myuser/shop."
        )
    try:
        result = bring(module)
    except (ContextError, EngineError, ImageError) as error:
        module.fail_json(msg=one_line(error, 2000))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'A file'} can't be used: {error.strerror or error}.")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    careful(main)()
