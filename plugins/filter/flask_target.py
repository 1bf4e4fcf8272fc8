# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: flask_target
short_description: Find the Flask application of a source tree
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Finds the application as C(flask run) does, by reading the tree; nothing of it is run.
  - C(FLASK_APP) of C(.env) or C(.flaskenv) comes first, then C(wsgi.py) and C(app.py), then the only module that has one.
options:
  _input:
    description: The folder of the source tree, on the machine that runs Ansible.
    type: path
    required: true
  folder:
    description: The application's folder in the tree.
    type: str
    default: ""
  wsgi:
    description: The application, where it is known.
    type: str
    default: ""
  containerfile:
    description: The tree's own Containerfile, where it is not at its root; then there is nothing to find.
    type: str
    default: ""
  base_image:
    description: The base image, where it is named; then the project is not asked for its Python.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show the application
  ansible.builtin.debug:
    msg: "{{ (playbook_dir ~ '/shop') | flaskops.observability.flask_target }}"
"""

RETURN = r"""
_value:
  description:
    - C(wsgi), the application as gunicorn names it, which is empty where the tree has a Containerfile.
    - C(problem), which is empty where all is well.
    - C(base_image), with the Python that the project asks for (C(requires-python), C(.python-version)), or the usual one.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ..module_utils.image.flask_target import described


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"flask_target": described}
