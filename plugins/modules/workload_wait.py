#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_wait
short_description: Wait until a Kubernetes workload has rolled out
version_added: 0.1.0
description:
  - Waits until the newest revision of a Deployment, StatefulSet or DaemonSet runs, is ready and is available in full.
  - On failure the message holds the pods' reasons, the last events, and the last log lines of the container that fails.
  - Ends early when the rollout can't succeed, for example when a container crashes in a loop, an image can't be pulled,
    or the API server goes on refusing the pods, as a quota makes it do.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - Does not wait in check mode.
  diff_mode:
    support: N/A
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    details:
      - This module changes nothing.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
options:
  namespace:
    description:
      - Namespace of the workload.
    type: str
    required: true
  kind:
    description:
      - Kind of the workload.
    type: str
    choices:
      - Deployment
      - StatefulSet
      - DaemonSet
    default: Deployment
  name:
    description:
      - Name of the workload.
    type: str
    required: true
  image:
    description:
      - An image that one of the workload's containers must have been given; fails at once if none has.
    type: str
  timeout:
    description:
      - Seconds to wait at most.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Wait for the application
  flaskops.observability.workload_wait:
    kubeconfig: ~/.kube/config
    context: staging
    namespace: flask-app
    name: flask-app

- name: Wait for a log shipper on every node
  flaskops.observability.workload_wait:
    context: staging
    namespace: logging
    kind: DaemonSet
    name: fluent-bit
    timeout: 300
"""

RETURN = r"""
replicas:
  description: Numbers of pods that are wanted, of the newest revision, ready and available.
  returned: when the workload was read
  type: dict
  sample: {"desired": 2, "updated": 2, "ready": 2, "available": 2}
pods:
  description: One line for each pod that is not ready, with its reason.
  returned: failure
  type: list
  elements: str
  sample: ["flask-app-5d8c-x2x7p: container flask-app waits, CrashLoopBackOff"]
events:
  description: The last events of the workload and its pods, oldest first.
  returned: failure
  type: list
  elements: str
log:
  description: The last log lines of the container that fails.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client, describe
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError, KubeError, first_line
from ansible_collections.flaskops.observability.plugins.module_utils.kube.wait import KINDS, Waiter, replica_counts


def run(module: AnsibleModule) -> None:
    """Wait and report."""
    params = module.params
    kubeconfig, context = params["kubeconfig"] or "", params["context"] or ""
    if module.check_mode:
        module.exit_json(changed=False, msg="Nothing is waited for in check mode.")
    try:
        waiter = Waiter(Objects(api_client(kubeconfig, context)), params["kind"], params["namespace"], params["name"])
        waiter.read()
        if params["image"]:
            waiter.check_image(params["image"])
        reason = waiter.wait(params["timeout"])
        failure = waiter.explain(reason) if reason else None
    except ApiError as exc:  # the connection broke, or the API refused a request on the way
        where = describe(kubeconfig, context)
        module.fail_json(
            msg=f"Waiting for {params['kind']} {params['name']} in namespace {params['namespace']} ({where})"
            f" was cut short ({first_line(exc)}): check the cluster's API and run again."
        )
    except KubeError as exc:
        module.fail_json(msg=str(exc))
    if failure:
        module.fail_json(**failure)
    module.exit_json(changed=False, replicas=replica_counts(waiter.workload))


def main() -> None:
    """Entry point."""
    run(
        AnsibleModule(
            argument_spec={
                "kubeconfig": {"type": "path"},
                "context": {"type": "str"},
                "namespace": {"type": "str", "required": True},
                "kind": {"type": "str", "choices": list(KINDS), "default": "Deployment"},
                "name": {"type": "str", "required": True},
                "image": {"type": "str"},
                "timeout": {"type": "int", "default": 120},
            },
            supports_check_mode=True,
        )
    )


if __name__ == "__main__":
    careful(main)()
