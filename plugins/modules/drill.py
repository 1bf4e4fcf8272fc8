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
    can be drilled without a change to it. What can't be caused is left out with its reason.
  - What undoes a fault is recorded in a namespace of the drill's own before the fault is caused. A pod there, the dead-man,
    undoes it when this module is gone; without one, O(state=restored) or the next drill does.
  - Refuses to begin when a link of the monitoring chain is broken, when another drill runs, or in an environment that
    O(safe_environments) does not name, unless O(confirm) names the cluster.
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
  path:
    description: Path that the steady probe asks for, ten times a second.
    type: str
    default: /
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
  wait:
    description: Seconds that a scenario waits for what should notice; what may take longer by its configuration is left out.
    type: int
    default: 240
  settle:
    description: Seconds that are waited for the ends of alerts after a restoration.
    type: int
    default: 120
  objectives:
    description: >-
      Seconds within which something must have happened; C(page) is the first alert at its receiver, in scenarios that hurt users.
    type: dict
    default: {}
  environment:
    description: Environment of the cluster, such as C(staging).
    type: str
    default: ""
  safe_environments:
    description: Environments in which a drill needs no O(confirm).
    type: list
    elements: str
    default: [local, test, development, staging]
  cluster:
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
  drill_namespace:
    description: Namespace that is made for the drill and removed with it.
    type: str
    default: flaskops-drill
  image:
    description:
      - Image for the dead-man; anything with C(python3) will do.
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
    environment: staging
    cluster: staging-1
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
  description: Why no dead-man waits in the cluster; empty when one does.
  returned: when O(state=run) and the drill began
  type: str
"""

import getpass
import json
import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.observability.plugins.module_utils._files import write_whole
from ansible_collections.flaskops.observability.plugins.module_utils._module import MaskingModule
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful
from ansible_collections.flaskops.observability.plugins.module_utils.drill import bounds, report, scenarios
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import App, Options, requester
from ansible_collections.flaskops.observability.plugins.module_utils.drill.dead_man import StepError
from ansible_collections.flaskops.observability.plugins.module_utils.drill.engine import (
    Drill,
    Interruption,
    Journal,
    Limits,
    stamp,
)
from ansible_collections.flaskops.observability.plugins.module_utils.drill.guard import DrillError, Guard
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.modules import token_of
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError, KubeCluster, KubeError
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import Target, VerifyError, verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.options import APP

ARGUMENTS: dict[str, dict[str, Any]] = {
    **APP,
    "state": {"type": "str", "choices": ["run", "restored"], "default": "run"},
    "path": {"type": "str", "default": "/"},
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
    "wait": {"type": "int", "default": 240},
    "settle": {"type": "int", "default": 120},
    "objectives": {"type": "dict", "default": {}},
    "environment": {"type": "str", "default": ""},
    "safe_environments": {"type": "list", "elements": "str", "default": ["local", "test", "development", "staging"]},
    "cluster": {"type": "str", "default": ""},
    "confirm": {"type": "str", "default": ""},
    "check_environment": {"type": "str", "default": ""},
    "drill_namespace": {"type": "str", "default": "flaskops-drill"},
    "image": {"type": "str", "default": ""},
    "verify_timeout": {"type": "int", "default": 180},
    "report": {"type": "path"},
}
OBJECTIVES = ("page",)
JOURNAL = "journal.jsonl"


def problem(params: dict[str, Any]) -> str:
    """Why the drill is refused by its options alone, in one sentence; empty when it is not."""
    if not params["kubeconfig"] and not params["context"]:
        return "Neither kubeconfig nor context is set; name the cluster to drill."
    if params["state"] == "restored":
        return ""
    environment, cluster = params["environment"], params["cluster"]
    if environment not in params["safe_environments"]:
        words = f"the environment {environment}" if environment else "an environment without a name"
        if not cluster:
            return f"A drill breaks the app, and this is {words}: name the cluster by cluster and confirm if you mean it."
        if params["confirm"] != cluster:
            given = f"confirm is {params['confirm']}" if params["confirm"] else "confirm is not set"
            return f"A drill breaks the app, and {cluster} is {words}; {given}: set confirm to {cluster} if you mean it."
    for name, value in params["objectives"].items():
        if name not in OBJECTIVES:
            return f"There is no objective {name}; use one of: {', '.join(OBJECTIVES)}."
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            return f"The objective {name} is {value}; give a number of seconds."
    for option in ("wait", "settle", "request_timeout", "verify_timeout"):
        if params[option] <= 0:
            return f"Option {option} is {params[option]}; give a number of seconds above 0."
    if not params["path"].startswith("/"):
        return f"Option path is {params['path']}; give a path that begins with a slash."
    return ""


def holder() -> str:
    """Who drills, for those who find the lock taken."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex[:8]}"


def dead_man_image(app: App, given: str) -> str:
    """An image with Python that the cluster can run."""
    if given:
        return given
    if app.inbox:
        try:
            found = app.get(f"/apis/apps/v1/namespaces/{app.stack_namespace}/deployments/alert-inbox")
            return str(found["spec"]["template"]["spec"]["containers"][0]["image"])
        except (ApiError, KeyError, IndexError):
            pass
    return str(app.container.get("image", ""))


def refuse_a_broken_chain(cluster: KubeCluster, params: dict[str, Any]) -> None:
    """:raises DrillError: when verify finds a broken link."""
    names = ("name", "namespace", "port", "metrics_port", "metrics_path", "log_check", "external_checks")
    target = Target(**{name: params[name] for name in names})
    target.environment, target.timeout = params["check_environment"], params["verify_timeout"]
    results, _url = verify(cluster, target)
    broken = [result for result in results if result["status"] == "failed"]
    if broken:
        causes = "; ".join(f"{result['link']}: {result['cause']}" for result in broken[:3])
        raise DrillError(
            f"The drill does not begin, because {len(broken)} links of the monitoring chain are broken ({causes}):"
            " repair them first; the role verify shows them all."
        )


def released(guard: Guard) -> str:
    """Give the lock back; return what stands in the way."""
    try:
        guard.release()
    except (DrillError, StepError) as error:
        return f"The drill has ended, and its namespace {guard.namespace} could not be removed: {error}"
    if guard.kept:
        return f"What the drill broke could not be restored: it is recorded in namespace {guard.namespace}, for state=restored."
    return ""


def run(params: dict[str, Any], cluster: KubeCluster, folder: Path | None, result: dict[str, Any]) -> None:
    """Run the drill and fill the module's result.

    :raises DrillError: with one sentence, when it does not begin.
    """
    wanted = scenarios.chosen(params["scenarios"], params["own_scenarios"])
    checks = [{**given, "api_token": token_of(given["provider"], given["api_token"])} for given in params["external_checks"]]
    names = (
        "name",
        "namespace",
        "port",
        "path",
        "error_path",
        "slow_path",
        "dependency",
        "memory_limit",
        "log_check",
        "request_timeout",
    )
    options = Options(**{name: params[name] for name in names})
    options.external_checks, options.environment = checks, params["check_environment"]
    app = App(cluster, options)
    guard = Guard(app.request, params["drill_namespace"], holder())
    result["restored"] = guard.recover()
    refuse_a_broken_chain(cluster, params)

    previous: dict[str, Any] | None = None
    if folder and (folder / "drill.json").exists():
        # One that was cut off has nothing to compare with.
        with suppress(ValueError):
            previous = json.loads((folder / "drill.json").read_text(encoding="utf-8"))
    began = time.time()
    undo = []
    for scenario in wanted:
        try:
            undo += scenarios.plan(scenario, app).undo
        except scenarios.LeftOut:
            continue
    interruption = Interruption()
    with interruption.caught(), open(folder / JOURNAL if folder else os.devnull, "w", encoding="utf-8") as stream:
        journal = Journal(stream)
        guard.acquire()
        trouble = ""
        try:
            result["dead_man"] = guard.arm(dead_man_image(app, params["image"]), undo)
            journal({"event": "dead-man", "left_out": result["dead_man"]})
            limits = Limits(params["wait"], params["settle"], params["objectives"])
            alerts = {expect.observer.removeprefix("alert ") for scenario in wanted for expect in scenario.expects}
            settings = bounds.read_settings(app).numbers(alerts)
            drill = Drill(app, guard, limits, journal, interruption)
            found = drill.run(wanted)
        finally:
            trouble = released(guard)
    result["summary"] = {
        "format": 1,
        "cluster": params["cluster"],
        "environment": params["environment"],
        "app": {"name": app.name, "namespace": app.namespace, "image": app.container.get("image", "")},
        "started_at": stamp(began),
        "ended_at": stamp(time.time()),
        "settings": settings,
        "objectives": params["objectives"],
        "observers_left_out": drill.observers.left_out
        + ([{"observer": "dead-man", "reason": result["dead_man"]}] if result["dead_man"] else []),
        "scenarios": found,
    }
    result["failed_scenarios"] = [item["name"] for item in found if item["status"] in ("failed", "aborted")]
    if folder:
        for kind, text in report.render(result["summary"], previous).items():
            write_whole(folder / f"drill.{ {'markdown': 'md'}.get(kind, kind) }", text)
    if trouble:
        raise DrillError(trouble)
    if interruption.reason:
        raise DrillError(f"The drill was ended ({interruption.reason}); what it had broken is restored.")


def main() -> None:
    module = MaskingModule(argument_spec=ARGUMENTS, supports_check_mode=False)
    params = dict(module.params)
    wrong = problem(params)
    if wrong:
        module.fail_json(msg=wrong)
    result: dict[str, Any] = {"restored": []}
    try:
        folder = Path(params["report"]) if params["report"] else None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        cluster = KubeCluster(api_client(params["kubeconfig"] or "", params["context"] or ""))
        if params["state"] == "restored":
            guard = Guard(requester(cluster), params["drill_namespace"], holder())
            result["restored"] = guard.recover()
        else:
            run(params, cluster, folder, result)
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
