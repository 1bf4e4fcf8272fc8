#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drill
short_description: Break an app on purpose and measure what notices
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Causes one fault after the other in one app on a Kubernetes cluster, measures what notices it and how fast, restores
    everything, and proves that it is as before.
  - Faults are caused through the fault switches of the reference app, or else through the Kubernetes API alone, so that any app
    can be drilled without a change to it. What can't be caused is skipped with its reason.
  - What undoes a fault is recorded in a namespace of the drill's own before the fault is caused. A pod there, the dead man's
    switch, undoes it when this module is gone; without one, O(state=restored) or the next drill does.
  - Refuses to begin when a link of the monitoring chain is broken, when another drill runs, or in an environment that
    O(safe_environments) does not name, unless O(confirm) names the cluster. Where another namespace is in such an
    environment, scenarios that break what it needs too are skipped.
  - The namespace of the drill is its lock, one for a cluster, and is removed in the end.
extends_documentation_fragment: [flaskops.observability.cluster, flaskops.observability.app]
options:
  state:
    description:
      - V(run) runs the scenarios.
      - V(restored) undoes what a drill that was killed has left, and does nothing else.
    type: str
    choices: [run, restored]
    default: run
  error_path:
    description: A path of the app that is answered with 5xx; causes errors where the app has no fault switches.
    type: str
    default: ""
  slow_path:
    description: A path of the app that takes longer than a second; causes latency where the app has no fault switches.
    type: str
    default: ""
  dependency:
    description: Host name of something the app needs, which the scenario C(dependency_timeout) makes unreachable for its pods.
    type: str
    default: ""
  memory_limit:
    description: Memory limit at which the app can't run, for the scenario C(oom) of an app without fault switches.
    type: str
    default: 16Mi
  request_timeout:
    description: Seconds after which a request of the steady probe is lost.
    type: float
    default: 5
  scenarios:
    description: Names of the scenarios, in their order; all where it is empty.
    type: list
    elements: str
    default: []
  own_scenarios:
    description: Scenarios of your own, each a patch of one object that is taken back afterwards.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the scenario.
        type: str
        required: true
      title:
        description: What happens, in a few words.
        type: str
        required: true
      kind:
        description: Kind of the object.
        type: str
        required: true
        choices: [Deployment, StatefulSet, Service]
      object:
        description: Name of the object.
        type: str
        required: true
      namespace:
        description: Namespace of the object, where it is not the app's.
        type: str
      patch:
        description: Strategic merge patch of the object.
        type: dict
        required: true
      alerts:
        description: Names of the alerts that should notice.
        type: list
        elements: str
        default: []
      seconds:
        description: Seconds that the fault lasts at least.
        type: int
        default: 30
  notice_timeout:
    description: Seconds that a scenario waits for what should notice; what may take longer by its configuration is skipped.
    type: int
    default: 240
  settle_timeout:
    description: Seconds that are waited for the ends of alerts after a restoration.
    type: int
    default: 120
  objectives:
    description: >-
      Seconds within which something must have happened; C(page) is the first alert at its receiver, in scenarios that hurt users.
    type: dict
    default: {}
  environment_name:
    description: Environment of the cluster, such as C(staging).
    type: str
    default: ""
  safe_environments:
    description: Environments in which a drill needs no O(confirm).
    type: list
    elements: str
    default: [local, test, development, staging]
  cluster_label:
    description: Name of the cluster, for the report and for O(confirm).
    type: str
    default: ""
  confirm:
    description: Name of the cluster once more, where the environment is not a safe one.
    type: str
    default: ""
  check_environment:
    description: Environment of these checks, as in M(flaskops.observability.external_checks).
    type: str
    default: ""
  lock_namespace:
    description: Namespace that is made for the drill and removed with it.
    type: str
    default: flaskops-drill
  image:
    description:
      - Image for the dead man's switch; anything with C(python3) will do.
      - Where it is empty, that of the alert inbox, or else the app's own.
    type: str
    default: ""
  verify_timeout:
    description: Bound for the verification before the first scenario, in seconds.
    type: int
    default: 180
  report:
    description:
      - Folder for the report (C(drill.html), C(drill.md), C(drill.json)) and the journal (C(journal.jsonl)).
      - It is made where it is missing.
      - A C(drill.json) that is there already is the report to which the new one is compared.
    type: path
  queries:
    description: What Prometheus is asked. The action hands it over from a file of the collection; it is not for users.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: none
    details: Is skipped in check mode, because it breaks the app.
"""

EXAMPLES = r"""
- name: Drill the shop on the staging cluster
  flaskops.observability.drill:
    context: staging
    namespace: shop
    name: shop
    environment_name: staging
    cluster_label: staging-1
    objectives: {page: 180}
    report: reports/shop

- name: Undo what a drill that was killed has left
  flaskops.observability.drill:
    context: staging
    namespace: shop
    name: shop
    state: restored
"""

RETURN = r"""
summary:
  description: The report as docs/drill.md describes it.
  returned: when O(state=run) and the drill began
  type: dict
failed_scenarios:
  description: Names of the scenarios that failed or were aborted.
  returned: when O(state=run) and the drill began
  type: list
  elements: str
restored:
  description: What of an earlier drill was undone, one sentence each.
  returned: success
  type: list
  elements: str
dead_man:
  description: Why no dead man's switch waits in the cluster; empty when one does.
  returned: when O(state=run) and the drill began
  type: str
"""

from typing import Any

from ..module_utils._module import MaskingModule
from ..module_utils.credentials.guard import careful
from ..module_utils.drill.dead_man import StepError
from ..module_utils.drill.guard import DrillError
from ..module_utils.drill.run import bring, problem
from ..module_utils.kube.transport import ApiError, KubeError
from ..module_utils.verify import queries
from ..module_utils.verify.options import APP
from ..module_utils.verify.run import VerifyError

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    "state": {"type": "str", "choices": ["run", "restored"], "default": "run"},
    "error_path": {"type": "str", "default": ""},
    "slow_path": {"type": "str", "default": ""},
    "dependency": {"type": "str", "default": ""},
    "memory_limit": {"type": "str", "default": "16Mi"},
    "request_timeout": {"type": "float", "default": 5},
    "scenarios": {"type": "list", "elements": "str", "default": []},
    "own_scenarios": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "title": {"type": "str", "required": True},
            "kind": {"type": "str", "required": True, "choices": ["Deployment", "StatefulSet", "Service"]},
            "object": {"type": "str", "required": True},
            "namespace": {"type": "str"},
            "patch": {"type": "dict", "required": True},
            "alerts": {"type": "list", "elements": "str", "default": []},
            "seconds": {"type": "int", "default": 30},
        },
    },
    "notice_timeout": {"type": "int", "default": 240},
    "settle_timeout": {"type": "int", "default": 120},
    "objectives": {"type": "dict", "default": {}},
    "environment_name": {"type": "str", "default": ""},
    "safe_environments": {"type": "list", "elements": "str", "default": ["local", "test", "development", "staging"]},
    "cluster_label": {"type": "str", "default": ""},
    "confirm": {"type": "str", "default": ""},
    "check_environment": {"type": "str", "default": ""},
    "lock_namespace": {"type": "str", "default": "flaskops-drill"},
    "image": {"type": "str", "default": ""},
    "verify_timeout": {"type": "int", "default": 180},
    "report": {"type": "path"},
    "queries": {"type": "dict", "default": {}},
}


def main() -> None:
    module = MaskingModule(argument_spec=ARGUMENTS, supports_check_mode=False)
    params = dict(module.params)
    queries.QUERIES.update(params.pop("queries"))
    wrong = problem(params)
    if wrong:
        module.fail_json(msg=wrong)
    result: dict[str, Any] = {"restored": []}
    try:
        bring(params, result)
    except (KubeError, DrillError, StepError, VerifyError) as error:
        module.fail_json(msg=str(error), **result)
    except ApiError as error:
        msg = f"The API server refuses a request of the drill ({error}): give it an account that may do what docs/drill.md lists."
        module.fail_json(msg=msg, **result)
    except OSError as error:
        msg = f"The report can't be written to {params['report']} ({error.strerror}): choose another folder."
        module.fail_json(msg=msg, **result)
    module.exit_json(changed=bool(result["restored"]), **result)


if __name__ == "__main__":
    careful(main)()
