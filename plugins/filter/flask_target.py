# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: flask_target
short_description: Find the Flask application of a source tree
version_added: 0.2.0
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
"""

EXAMPLES = r"""
- name: Show the application
  ansible.builtin.debug:
    msg: "{{ (playbook_dir ~ '/shop') | flaskops.observability.flask_target }}"
"""

RETURN = r"""
_value:
  description: C(wsgi), the application as gunicorn names it, and C(problem), which is empty where one was found.
  type: dict
"""

import typing as t

from ansible_collections.flaskops.observability.plugins.module_utils._flask_target import find


def flask_target(source: str) -> dict[str, str]:
    """The application's name, or what is wrong."""
    return dict(zip(("wsgi", "problem"), find(source), strict=True))


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"flask_target": flask_target}
