#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: elastic_content
short_description: Keep index templates, lifecycles, data views and saved searches in a stack of the ECK operator
version_added: 0.1.0
description:
  - Waits until the Elasticsearch and the Kibana of one name are ready, and sets them up through their APIs.
  - They are reached through the Kubernetes API (port-forward), over TLS that is verified with the operator's certificate
    authority, with the password that the operator keeps in a Secret. Nothing has to be exposed, and no password passes
    through Ansible.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: Reports what would be changed, and does not wait.
  diff_mode:
    support: full
    description: Shows what is changed, by name.
  idempotent:
    support: full
    description: What holds all that was asked for is left as it is.
options:
  namespace:
    description:
      - Namespace of Elasticsearch and Kibana.
    type: str
    required: true
  name:
    description:
      - Name of both.
    type: str
    required: true
  index_templates:
    description:
      - Index templates by their names, as C(PUT _index_template) takes them.
      - Write settings as Elasticsearch gives them back, below C(index) and as texts.
    type: dict
    default: {}
  retention:
    description:
      - How long the data streams that a pattern names keep their documents.
      - It is for streams that exist; templates are for new ones.
    type: dict
    default: {}
  saved_objects:
    description:
      - Kibana's saved objects, each with V(type), V(id), V(attributes) and V(references), as Kibana exports and imports them.
      - Kibana rewrites attributes when it moves objects to a newer version, so only those that are plain text are compared.
    type: list
    elements: dict
    default: []
  timeout:
    description:
      - Seconds to wait at most until both are ready.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Keep log lines for 30 days
  flaskops.observability.elastic_content:
    context: staging
    namespace: elastic
    name: logs
    index_templates:
      logs-kubernetes:
        index_patterns: [logs-kubernetes-*]
        priority: 500
        data_stream: {}
        template: {lifecycle: {data_retention: 30d}}
    retention:
      logs-kubernetes-*: 30d
    saved_objects:
      - type: index-pattern
        id: logs-kubernetes
        attributes: {title: logs-kubernetes-*, name: Logs, timeFieldName: "@timestamp"}
        references: []
"""

RETURN = r"""
ca:
  description: Certificate authority of Elasticsearch, as the text of a PEM file. It is public.
  returned: success
  type: str
changes:
  description: What was, or in check mode would be, changed.
  returned: success
  type: list
  elements: str
  sample: ["index template logs-kubernetes", "search logs-kubernetes-shop-shop"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.elastic import keep
from ..module_utils.kube.transport import KubeError


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "index_templates": {"type": "dict", "default": {}},
            "retention": {"type": "dict", "default": {}},
            "saved_objects": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    try:
        changes, authority = keep(module.params, module.check_mode)
    except KubeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        ca=authority,
        diff={"before": "", "after": "".join(f"{line}\n" for line in changes)},
    )


if __name__ == "__main__":
    careful(main)()
