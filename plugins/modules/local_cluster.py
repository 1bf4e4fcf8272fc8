#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster
short_description: A real Kubernetes in containers of this machine
version_added: 0.1.0
author: flaskops maintainers (@flaskops)
description:
  - Runs kubeadm nodes as privileged containers of podman or docker, as kind does, from binaries that are at hand.
  - The containers are disposable and the volumes are the cluster. Whatever died, O(state=present) brings the same cluster back.
  - It ends when the API tells nothing from before a node was started, and kube-proxy of each node serves what the API tells.
  - Everything it makes carries the label C(io.flaskops.cluster); containers, networks, volumes and kubeconfigs of others are not
    touched.
  - Needs root, podman or docker, Linux 5.13, and some commands; what is missing is named in one sentence before anything changes.
attributes:
  check_mode:
    support: full
    description: Reports whether something would be made or removed.
  idempotent:
    support: full
    description:
      - A cluster that answers is left as it is; its kubeconfig is written again where it differs.
      - One that kubeadm did not finish is made again, and so is a worker.
options:
  name:
    description:
      - The cluster, its kubeconfig's context, its network, and the first part of the names of its containers and volumes.
      - The control plane is the container C(<name>-node) with the volume C(<name>-data), the first worker is
        C(<name>-worker-1) with C(<name>-worker-1-data). The nodes are called as their containers.
    type: str
    default: flaskops
  state:
    description: Whether the cluster runs, or nothing of it is left.
    type: str
    choices: [present, absent]
    default: present
  engine:
    description: The container engine. V(auto) takes the one that has this cluster, else podman, else docker.
    type: str
    choices: [auto, podman, docker]
    default: auto
  workers:
    description:
      - How many nodes there are in addition to the control plane, from 0 to 4. More are added to a cluster; those too many are
        drained and removed, each with its volume.
      - With workers, ordinary pods run on these alone, as in kind; without, the control plane takes them.
    type: int
    default: 0
  files:
    description:
      - The folder with the node image's files, and with C(kubeadm.yaml) and C(join.yaml), which reach only a control plane, or a
        worker, that is made, and no image.
    type: path
  binaries:
    description: The folder of binaries for each component, as the module M(flaskops.observability.toolchain) returns it.
    type: dict
    default: {}
  versions:
    description: The version of each component.
    type: dict
    default: {}
  subnet:
    description:
      - The network of the nodes and of C(LoadBalancer) addresses, a /24.
      - Not in 10.96.0.0/12 or 10.244.0.0/16, which Services and pods have.
    type: str
    default: 10.89.240.0/24
  api_port:
    description: The port of 127.0.0.1 that the API server is published on.
    type: int
    default: 6443
  kubeconfig:
    description: Where the kubeconfig is written, with mode 0600. A file that is another cluster's is refused.
    type: path
    required: true
  wait_timeout:
    description: How many seconds a node may take to become ready; kubeadm's own waits have the same limit.
    type: int
    default: 180
  registry_mirrors:
    description:
      - Mirrors of registries for the nodes' containerd. Those of one registry are asked in their order, then the registry itself.
      - A node that runs gets changed ones at once, for containerd reads them with each pull.
    type: list
    elements: dict
    default: []
    suboptions:
      registry:
        description:
          - The registry as images name it, such as V(docker.io). V(_default) stands for every one without a mirror of its own.
        type: str
        required: true
      endpoint:
        description: The mirror's address; one with V(http://) is asked without TLS. A path is that of a project of the registry.
        type: str
        required: true
      ca_file:
        description: A PEM file with the certificate authority of the mirror, where it is a private one.
        type: path
      username:
        description: The user, where the mirror asks for a login.
        type: str
      password:
        description: The user's password. It is kept in a file of the node that root alone reads.
        type: str
"""

EXAMPLES = r"""
- name: No cluster is left
  flaskops.observability.local_cluster:
    state: absent
    kubeconfig: ~/.local/share/flaskops/clusters/flaskops/kubeconfig
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  type: list
  elements: str
  returned: always
images:
  description: For each image that the control plane lacked, whether it was V(pulled) from its registry, or V(imported).
  type: dict
  returned: success
seconds:
  description: How long it took.
  type: float
  returned: success
"""

import platform
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.node.cluster import bring
from ..module_utils.node.engine import EngineError
from ..module_utils.node.host import NOT_LINUX
from ..module_utils.node.node import ClusterError
from ..module_utils.node.registry_mirrors import OPTIONS, MirrorError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": "flaskops"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "engine": {"type": "str", "choices": ["auto", "podman", "docker"], "default": "auto"},
            "workers": {"type": "int", "default": 0},
            "files": {"type": "path"},
            "binaries": {"type": "dict", "default": {}},
            "versions": {"type": "dict", "default": {}},
            "subnet": {"type": "str", "default": "10.89.240.0/24"},
            "api_port": {"type": "int", "default": 6443},
            "kubeconfig": {"type": "path", "required": True},
            "wait_timeout": {"type": "int", "default": 180},
            "registry_mirrors": {"type": "list", "elements": "dict", "default": [], "options": OPTIONS},
        },
        required_if=[("state", "present", ("files",))],
        supports_check_mode=True,
    )
    started = time.monotonic()
    if platform.system() != "Linux":
        module.fail_json(msg=NOT_LINUX, actions=[])
    try:
        cluster = bring(module.params, module.check_mode)
    except (ClusterError, EngineError, MirrorError, OSError) as error:
        module.fail_json(msg=str(error), actions=[])
    for warning in cluster.warnings:
        module.warn(warning)
    done = {"actions": cluster.actions, "images": cluster.images, "seconds": round(time.monotonic() - started, 1)}
    module.exit_json(changed=bool(cluster.actions), **done)


if __name__ == "__main__":
    careful(main)()
