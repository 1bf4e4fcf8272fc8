# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubectl
short_description: Begin a command of kubectl for a cluster
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Makes the words with which a command begins that a person may copy.
  - The option C(--kubeconfig) takes one file, so that several are named by E(KUBECONFIG).
positional: context
options:
  _input:
    description: The path of a kubeconfig, or several as in E(KUBECONFIG); empty for kubectl's own choice.
    type: str
    required: true
  context:
    description: The context; empty for the current one.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show how to list the nodes
  ansible.builtin.debug:
    msg: "{{ '~/.kube/config' | flaskops.observability.kubectl('staging') }} get nodes"
"""

RETURN = r"""
_value:
  description: The words.
  type: str
  sample: kubectl --kubeconfig ~/.kube/config --context staging
"""

import shlex
from collections.abc import Callable
from typing import Any

from ..module_utils.kube.kubectl import kubectl


def joined(kubeconfig: str, context: str = "") -> str:
    """The words as a person types them."""
    return shlex.join(kubectl(kubeconfig or "", context or ""))


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"kubectl": joined}
