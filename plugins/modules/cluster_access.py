#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_access
short_description: Read how a cluster is reached, for the modules of kubernetes.core
version_added: 0.1.0
description:
  - Refuses a kubeconfig that is malformed, in one sentence that quotes no credential.
  - Returns the options with which the modules of C(kubernetes.core) do what kubectl does with it.
    By themselves they ignore C(as) and C(as-groups) of a user, send a token with the line break that ends its file,
    and send no login to a proxy.
  - The result may hold a token, so set C(no_log) on the task.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: It only reads.
  idempotent:
    support: full
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Read how the cluster is reached
  flaskops.observability.cluster_access:
    kubeconfig: ~/.kube/staging
  register: access
  no_log: true

- name: Apply an object as the kubeconfig says
  kubernetes.core.k8s:
    definition: "{{ object }}"
  module_defaults:
    group/kubernetes.core.k8s: "{{ access.k8s }}"
"""

RETURN = r"""
k8s:
  description: Options of C(kubernetes.core.k8s) and the modules of its group.
  returned: success
  type: dict
helm:
  description: Options of C(kubernetes.core.helm) and the modules of its group. Helm itself reads C(as) and logs in to a proxy.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.credentials.guard import careful
from ..module_utils.kube.client import proxy_login, unconnected
from ..module_utils.kube.transport import KubeError

NAME = "flaskops-cluster-access"
UNKNOWN = ("as-uid", "as-user-extra")


def options(kubeconfig: str, context: str) -> dict[str, dict[str, Any]]:
    """The options for both groups of modules.

    :raises KubeError: when the kubeconfig can't be used, or says what kubernetes.core can't do.
    """
    access, api = unconnected(kubeconfig, context)
    unknown = [key for key in UNKNOWN if access.user.get(key)]
    if unknown:
        raise KubeError(
            f"The user of context {access.context} sets {' and '.join(unknown)}, which kubernetes.core can't send:"
            " use a kubeconfig with as and as-groups alone."
        )
    helm: dict[str, Any] = {"kubeconfig": kubeconfig, "context": context}
    k8s: dict[str, Any] = dict(helm)
    if access.trimmed:
        helm["api_key"] = access.token
        # The Python client prefers the token of a kubeconfig to an option, so the kubeconfig has to hold another.
        user = {key: value for key, value in access.user.items() if key != "tokenFile" and not key.startswith("as")}
        k8s["context"] = NAME
        k8s["kubeconfig"] = {
            "clusters": [{"name": NAME, "cluster": access.cluster}],
            "users": [{"name": NAME, "user": {**user, "token": access.token}}],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
            "current-context": NAME,
        }
    if "as" in access.user:
        k8s["impersonate_user"] = access.user["as"]
    if access.user.get("as-groups"):
        k8s["impersonate_groups"] = access.user["as-groups"]
    k8s["no_proxy"] = access.own_host
    login = proxy_login(api.configuration.proxy)
    if login:
        k8s["proxy_headers"] = {"proxy_basic_auth": login}
    return {name: {key: value for key, value in found.items() if value} for name, found in (("k8s", k8s), ("helm", helm))}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={"kubeconfig": {"type": "path"}, "context": {"type": "str"}},
        supports_check_mode=True,
    )
    try:
        found = options(module.params["kubeconfig"] or "", module.params["context"] or "")
    except KubeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    careful(main)()
