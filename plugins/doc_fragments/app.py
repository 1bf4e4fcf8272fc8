# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify and drill document alike."""

from __future__ import annotations


class ModuleDocFragment:
    """The options that name an application, its pages and what watches it from outside; `APP` in verify/options.py."""

    DOCUMENTATION = r"""
options:
  namespace:
    description: Namespace of the app.
    type: str
    default: flask-app
  name:
    description: Name of the app's Deployment and Service, and value of its pods' label C(app).
    type: str
    default: flask-app
  port:
    description: Port on which the app serves requests.
    type: int
    default: 5000
  path:
    description: >-
      Path of the app that verify's own request asks for, and the drill's steady probe ten times a second. Any answer below 500
      will do; give another path where the first page fails by design.
    type: str
    default: /
  metrics_port:
    description: Port on which a pod serves its metrics.
    type: int
    default: 9200
  metrics_path:
    description: Path of the metrics page.
    type: str
    default: /metrics
  metrics_prefix:
    description: Prefix of the exporter's names on that page; may be empty.
    type: str
    default: flask
  log_check:
    description: Whether the app logs the C(X-Request-ID) of a request, which is then looked for.
    type: bool
    default: true
  external_checks:
    description: The outside services that watch the app. Each must say that every check of the environment is up.
    type: list
    elements: dict
    default: []
    suboptions:
      provider:
        description: The service.
        type: str
        required: true
        choices: [uptimerobot, pingdom, statuscake]
      api_token:
        description: >-
          Token of its API, which need only read; E(UPTIMEROBOT_API_KEY), E(PINGDOM_API_TOKEN) or E(STATUSCAKE_API_TOKEN)
          where it is not set.
        type: str
      api_url:
        description: Address of its API, where it is not the service's own.
        type: str
      ca_path:
        description: File with certificates of authorities to trust.
        type: path
"""
