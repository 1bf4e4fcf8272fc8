# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that talk to a cluster have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """The options that name the cluster; a cluster that was not named is never used."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig.
      - At least one of O(kubeconfig) and O(context) must be set.
      - In a role of this collection, actions that run where Ansible does take both from the role where the task sets neither.
    type: path
  context:
    description:
      - Name of the context in the kubeconfig.
    type: str
requirements:
  - Python package C(kubernetes)
"""
