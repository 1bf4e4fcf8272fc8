# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the modules verify and drill have in common."""

from __future__ import annotations

from typing import Any

# The cluster (documented by the fragment cluster) and the application (by the fragment app).
APP: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "namespace": {"type": "str", "default": "flask-app"},
    "name": {"type": "str", "default": "flask-app"},
    "port": {"type": "int", "default": 5000},
    "path": {"type": "str", "default": "/"},
    "metrics_port": {"type": "int", "default": 9200},
    "metrics_path": {"type": "str", "default": "/metrics"},
    "metrics_prefix": {"type": "str", "default": "flask"},
    "log_check": {"type": "bool", "default": True},
    "external_checks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "provider": {"type": "str", "required": True, "choices": ["uptimerobot", "pingdom", "statuscake"]},
            "api_token": {"type": "str", "no_log": True},
            "api_url": {"type": "str"},
            "ca_path": {"type": "path"},
        },
    },
}
