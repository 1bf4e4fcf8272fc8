#!/usr/bin/python
# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_release_repair
short_description: Bring Helm releases back to what they say they are, and mark those of this collection
version_added: 0.2.0
description:
  - Forgets a revision that Helm began and never finished, so that the next upgrade goes on from the revision before it.
  - Applies each object of a deployed release that differs from the live one.
    C(helm upgrade) does not do that for custom resources, because it compares them with the manifest before, not the live object.
  - Refuses releases of somebody else, which lack the label C(flaskops/managed=true) on what Helm stores of them.
    O(mark) gives a release that label, which Helm 3.13 and newer hand on from revision to revision.
author:
  - flaskops (@flaskops)
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    support: full
    description: Reports what would be repaired.
  idempotent:
    support: full
    description: A release that is what it says is left as it is.
options:
  namespace:
    description:
      - Namespace of the releases.
    type: str
    required: true
  releases:
    description:
      - Names of the releases to repair. One that is not there is passed over.
    type: list
    elements: str
    required: true
  mark:
    description:
      - Names of the releases that this collection made or takes over. They are marked, and nothing else is done to those that
        O(releases) does not name.
    type: list
    elements: str
    default: []
  pending_timeout:
    description:
      - Seconds after which an unfinished revision counts as given up.
        A younger one may belong to a Helm that still runs, and fails the module.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Undo what was changed by hand
  flaskops.observability.helm_release_repair:
    context: staging
    namespace: monitoring
    releases: [kube-prometheus-stack]

- name: Take over a release that was installed by hand
  flaskops.observability.helm_release_repair:
    context: staging
    namespace: monitoring
    releases: []
    mark: [kube-prometheus-stack]
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils._kube import KubeError, api_client
from ansible_collections.flaskops.observability.plugins.module_utils._objects import Objects, label
from ansible_collections.flaskops.observability.plugins.module_utils._release import PENDING, Release
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "namespace": {"type": "str", "required": True},
            "releases": {"type": "list", "elements": "str", "required": True},
            "mark": {"type": "list", "elements": "str", "default": []},
            "pending_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    params, actions = module.params, []
    try:
        objects = Objects(api_client(params["kubeconfig"] or "", params["context"] or ""))
        found = [Release(objects, params["namespace"], name) for name in params["releases"]]
        for release in found:
            info = release.info()
            if info["status"] != "absent" and not info["marked"] and release.name not in params["mark"]:
                raise KubeError(
                    f"Release {release.name} in namespace {params['namespace']} is somebody else's ({release.describe()}),"
                    " and stays as it is: name it in mark to take it over."
                )
            if info["status"] in PENDING and info["age"] < params["pending_timeout"]:
                raise KubeError(
                    f"Release {release.name} in namespace {params['namespace']} has been {info['status']} for {info['age']} s,"
                    f" so Helm may be at work: wait for it, or run again after {params['pending_timeout']} s, and it is cleared."
                )
            if info["status"] == "uninstalling":
                raise KubeError(
                    f"Release {release.name} in namespace {params['namespace']} is half removed:"
                    f" run 'helm uninstall {release.name} --namespace {params['namespace']}', then this again."
                )
        for name in params["mark"]:
            # Those to be repaired need their marks here, too: a revision that is forgotten leaves the one before it.
            release = next((item for item in found if item.name == name), None) or Release(objects, params["namespace"], name)
            if release.mark(dry_run=module.check_mode):
                actions.append(f"mark {name} as a release of flaskops.observability")
        for release in found:
            status = release.info()["status"]
            if status in PENDING:
                actions.append(f"forget revision {release.info()['revision']} of {release.name}, which stayed {status}")
                if not module.check_mode:
                    release.drop_pending()
            if module.check_mode:
                actions += [f"repair {label(item['item'])}" for item in release.compare() if item["paths"]]
            else:
                actions += [f"repair {name}" for name in release.repair()]
    except KubeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    careful(main)()
