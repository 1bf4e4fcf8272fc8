#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: toolchain
short_description: Get a component's binaries, from its releases or built from its Go module
version_added: 0.1.0
author: flaskops maintainers (@flaskops)
description:
  - Downloads a project's official release files and checks them against the published checksum,
    or builds the same version from a Go module that C(go.sum) pins byte by byte.
  - Binaries are cached by content, so that a second run does nothing.
  - Says on the screen which component it gets while it does, and what is left, for a build can take minutes.
  - What one process builds, another one waits for. A build ends with the run of Ansible that asked for it, however that ends.
attributes:
  check_mode:
    support: full
    description: Reports whether a component is missing, and gets nothing.
  idempotent:
    support: full
    description: A component that is in the cache is not fetched again.
options:
  name:
    description: The component, which is also the folder of its C(go.mod) below O(source). Goes with O(spec).
    type: str
  spec:
    description:
      - The component's entry in C(images.yml), with C(version), C(module) and C(packages), which maps a binary to its package.
      - Optional are C(release), where the release has another number than the module; C(ldflags) and C(tags) of the build;
        C(files), which maps a folder beside the binaries to one of the module, for a build; C(instead), which maps a module
        to packages in it and the folders beside C(go.mod) that take their places in a build; C(base), C(file) and
        C(checksum) of the release, without which it is always built; and C(sha256), which maps C(arch/file) to a checksum
        that wins over the published one.
    type: dict
  components:
    description: Several components at once, each with its entry; replaces O(name) and O(spec).
    type: dict
  parts:
    description:
      - What can be skipped, by its name, with the components that it can't go without. A component that can't be obtained skips
        the parts that list it, RV(lacking) names them, and their other components are not tried. Without an entry it fails.
    type: dict
    default: {}
  background:
    description:
      - Returns at once and gets the components while the run goes on, one after the other and with low priority; some at once
        where the machine has many cores. Whoever needs one of them asks for it as usual, and learns why it can't be obtained.
      - Nothing is begun where a build beside another one would take the memory that the machine has left.
      - Without it, what comes next is got beside what is being got.
    type: bool
    default: false
  unless_answers:
    description: With O(background), a registry; where it answers, its images are used, and nothing is begun.
    type: str
    default: ""
  while_running:
    description: The number of a process; a build ends when it does. On the machine itself that is Ansible, and need not be given.
    type: int
  source:
    description:
      - The folder that holds one folder with a C(go.mod) for each component. Where that has a C(main.go) too, this is built.
    type: path
    required: true
  mode:
    description: Where binaries come from. V(auto) downloads the release, or builds without one and warns with the reason.
    type: str
    choices: [auto, download, build]
    default: auto
  base:
    description: Replaces the address of the project's releases, for a mirror with the same layout. It may hold a login.
    type: str
  cache:
    description: The folder that keeps binaries and build caches. The default is C($XDG_CACHE_HOME/flaskops).
    type: path
"""

EXAMPLES = r"""
- name: Get etcd
  flaskops.observability.toolchain:
    name: etcd
    spec: "{{ (lookup('ansible.builtin.file', 'images.yml') | from_yaml).toolchain.etcd }}"
    source: toolchain

- name: Get all components
  flaskops.observability.toolchain:
    components: "{{ (lookup('ansible.builtin.file', 'images.yml') | from_yaml).toolchain }}"
    source: toolchain
"""

RETURN = r"""
path:
  description: The folder that holds the binaries.
  type: str
  returned: with O(name)
origin:
  description: Where they came from, V(cache), V(download) or V(build); V(missing) in check mode.
  type: str
  returned: with O(name)
paths:
  description: The folder of each component.
  type: dict
  returned: success
origins:
  description: Where each component came from.
  type: dict
  returned: success
lacking:
  description: Why each of O(parts) that is skipped can't be obtained.
  type: dict
  returned: success
  sample: {alerts: "alertmanager 0.28.1 does not build: ..."}
seconds:
  description: How long it took.
  type: float
  returned: success
"""

import platform
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.toolchain import ARCH, ToolchainError, end_with, get_all, logins

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str"},
        "spec": {"type": "dict"},
        "components": {"type": "dict"},
        "parts": {"type": "dict", "default": {}},
        "background": {"type": "bool", "default": False},
        "unless_answers": {"type": "str", "default": ""},
        "while_running": {"type": "int"},
        "source": {"type": "path", "required": True},
        "mode": {"type": "str", "choices": ["auto", "download", "build"], "default": "auto"},
        "base": {"type": "str"},
        "cache": {"type": "path"},
    },
    "required_one_of": [("name", "components")],
    "mutually_exclusive": [("name", "components"), ("base", "components")],
    "required_together": [("name", "spec")],
}


def main() -> None:
    module = AnsibleModule(**ARGUMENTS, supports_check_mode=True)
    if platform.machine() not in ARCH:
        module.fail_json(msg=f"No binaries exist for {platform.machine()}: use an amd64 or arm64 machine.")
    specs = [module.params["spec"] or {}, *(module.params["components"] or {}).values()]
    module.no_log_values.update(logins([module.params["base"], *(spec.get("base") for spec in specs)]))
    if module.params["while_running"]:
        end_with(module.params["while_running"])
    try:
        result = get_all(module.params, module.check_mode, module.warn)
    except ToolchainError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'A file'} can't be used: {error.strerror or error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    careful(main)()
