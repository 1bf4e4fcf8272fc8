# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill from its options to its document; what the module drill does. Private to this collection."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._files import write_whole
from ..external_checks.modules import token_of
from ..kube.client import api_client
from ..kube.ours import ENVIRONMENT
from ..kube.transport import ApiError, KubeCluster
from ..verify.chain import verify
from ..verify.run import Target
from . import bounds, scenarios
from .app import App, Options, requester
from .dead_man import Request, Step, StepError
from .execution import Drill, Interruption, Journal, stamp
from .guard import DrillError, Guard, Strange
from .judgement import Limits
from .record import Record

OBJECTIVES = ("page",)
JOURNAL = "journal.jsonl"
DOCUMENT = "drill.json"


def problem(params: dict[str, Any]) -> str:
    """Why the drill is refused by its options alone, in one sentence; empty when it is not."""
    if not params["kubeconfig"] and not params["context"]:
        return "Neither kubeconfig nor context is set; name the cluster to drill."
    if params["state"] == "restored":
        return ""
    environment, cluster = params["environment_name"], params["cluster_label"]
    if environment not in params["safe_environments"]:
        words = f"the environment {environment}" if environment else "an environment without a name"
        if not cluster:
            return f"A drill breaks the app, and this is {words}: name the cluster by cluster_label and confirm if you mean it."
        if params["confirm"] != cluster:
            given = f"confirm is {params['confirm']}" if params["confirm"] else "confirm is not set"
            return f"A drill breaks the app, and {cluster} is {words}; {given}: set confirm to {cluster} if you mean it."
    for name, value in params["objectives"].items():
        if name not in OBJECTIVES:
            return f"There is no objective {name}; use one of: {', '.join(OBJECTIVES)}."
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            return f"The objective {name} is {value}; give a number of seconds."
    for option in ("notice_timeout", "settle_timeout", "request_timeout", "verify_timeout"):
        if params[option] <= 0:
            return f"Option {option} is {params[option]}; give a number of seconds above 0."
    if params["path"] and not params["path"].startswith("/"):
        return f"Option path is {params['path']}; give a path that begins with a slash."
    return ""


def environments(app: App) -> dict[str, str]:
    """What the cluster says of the environment that an application is in, by the object that says it."""
    found = {f"Deployment {app.name}": app.deployment}
    if namespace := _readable(app, f"/api/v1/namespaces/{app.namespace}"):
        found[f"namespace {app.namespace}"] = namespace
    return _said(found)


def _readable(app: App, path: str) -> Any:
    """What is there; None for an account that may not read it, such as a namespace, where the Deployment says enough."""
    try:
        return app.get(path)
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return None


def _said(found: dict[str, Any]) -> dict[str, str]:
    said = {name: (item["metadata"].get("annotations") or {}).get(ENVIRONMENT, "") for name, item in found.items()}
    return {name: value for name, value in said.items() if value}


def spared(params: dict[str, Any], app: App) -> str:
    """Why nothing may be broken that other applications of the cluster need too; empty where it may."""
    if params["cluster_label"] and params["confirm"] == params["cluster_label"]:
        return ""
    items = (_readable(app, "/api/v1/namespaces") or {}).get("items") or []
    said = _said({item["metadata"]["name"]: item for item in items if item["metadata"]["name"] != app.namespace})
    unsafe = [
        f"namespace {name}, in the environment {value}"
        for name, value in said.items()
        if value not in params["safe_environments"]
    ]
    return f"it is also needed by {unsafe[0]}: set confirm to the name of the cluster if you mean it" if unsafe else ""


def refuse_another_environment(params: dict[str, Any], said: dict[str, str]) -> None:
    """An inventory may lead to another cluster than its name says; the cluster knows.

    :param said: what it says, by object.
    :raises DrillError: where that is another environment than the option says, or where none that is safe is known.
    """
    given, cluster = params["environment_name"], params["cluster_label"]
    for where, value in said.items():
        if given and value != given:
            raise DrillError(
                f"The cluster says that {where} is in the environment {value}, and environment_name is {given}: drill it by the"
                f" inventory of {value}, or point this one at its own cluster."
            )
    if cluster and params["confirm"] == cluster:
        return
    mean = f"set confirm to {cluster} if you mean it" if cluster else "name the cluster by cluster_label and by confirm"
    for where in [where for where, value in said.items() if value not in params["safe_environments"]]:
        raise DrillError(f"A drill breaks the app, and {where} on the cluster is in the environment {said[where]}: {mean}.")
    if not said:
        raise DrillError(
            f"A drill breaks the app, and nothing on the cluster says in which environment it is: deploy it again by the role"
            f" flask_app, or annotate namespace {params['namespace']} with {ENVIRONMENT}, or {mean}."
        )


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
    names = (
        "name",
        "namespace",
        "port",
        "path",
        "metrics_port",
        "metrics_path",
        "metrics_prefix",
        "log_check",
        "external_checks",
    )
    # Whom the alerts reach is verify's affair; a drill watches how soon they come.
    target = Target(**{name: params[name] for name in names}, notified_severities=[])
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


def bring(params: dict[str, Any], result: dict[str, Any]) -> None:
    """Run the drill, or undo an earlier one, and fill the module's result, whatever happens.

    :raises DrillError: with one sentence, also where a report was written.
    :raises KubeError, StepError, VerifyError, ApiError, OSError: of what the drill needs.
    """
    folder = Path(params["report"]) if params["report"] else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    cluster = KubeCluster(api_client(params["kubeconfig"] or "", params["context"] or ""))
    if params["state"] == "restored":
        try:
            result["restored"] = guard_of(params, requester(cluster)).recover()
        except Strange as error:  # a playbook comes to each of its applications
            result["warnings"] = [str(error)]
    else:
        run(params, cluster, folder, result)


def guard_of(params: dict[str, Any], request: Request) -> Guard:
    """The lock of a drill of this application."""
    refusal = Record(request, options_of(params), params["own_scenarios"]).refusal
    return Guard(request, params["lock_namespace"], holder(), f"{params['namespace']}/{params['name']}", refusal)


def options_of(params: dict[str, Any]) -> Options:
    """What the user decides about the drill."""
    names = ("name", "namespace", "port", "path", "error_path", "slow_path", "dependency", "memory_limit", "log_check")
    options = Options(**{name: params[name] for name in (*names, "request_timeout")})
    options.external_checks = [
        {**given, "api_token": token_of(given["provider"], given["api_token"])} for given in params["external_checks"]
    ]
    options.environment = params["check_environment"]
    return options


def undoing(wanted: list[scenarios.Scenario], app: App) -> list[Step]:
    """The steps that undo all scenarios which can be caused."""
    undo = []
    for scenario in wanted:
        with suppress(scenarios.Skipped):
            undo += scenarios.plan(scenario, app).undo
    return undo


def run(params: dict[str, Any], cluster: KubeCluster, folder: Path | None, result: dict[str, Any]) -> None:
    """Run the drill and fill the module's result.

    :raises DrillError: with one sentence, when it does not begin.
    """
    wanted = scenarios.chosen(params["scenarios"], params["own_scenarios"])
    app = App(cluster, options_of(params))
    refuse_another_environment(params, environments(app))
    guard = guard_of(params, app.request)
    result["restored"] = guard.recover()
    refuse_a_broken_chain(cluster, params)
    began, undo = time.time(), undoing(wanted, app)
    interruption = Interruption()
    with interruption.caught(), open(folder / JOURNAL if folder else os.devnull, "w", encoding="utf-8") as stream:
        journal = Journal(stream)
        guard.acquire()
        trouble = ""
        try:
            result["dead_man"] = guard.arm(dead_man_image(app, params["image"]), undo)
            journal({"event": "dead-man", "skipped": result["dead_man"]})
            limits = Limits(params["notice_timeout"], params["settle_timeout"], params["objectives"])
            alerts = {expect.observer.removeprefix("alert ") for scenario in wanted for expect in scenario.expects}
            settings = bounds.read_settings(app).numbers(alerts)
            drill = Drill(app, guard, limits, journal, interruption, spared(params, app))
            found = drill.run(wanted)
        finally:
            trouble = released(guard)
    dead = [{"observer": "dead-man", "reason": result["dead_man"]}] if result["dead_man"] else []
    result["summary"] = {
        "format": 1,
        "cluster": params["cluster_label"],
        "environment": params["environment_name"],
        "app": {"name": app.name, "namespace": app.namespace, "image": app.container.get("image", "")},
        "started_at": stamp(began),
        "ended_at": stamp(time.time()),
        "settings": settings,
        "objectives": params["objectives"],
        "observers_skipped": drill.observers.skipped + dead,
        "scenarios": found,
    }
    result["failed_scenarios"] = [item["name"] for item in found if item["status"] in ("failed", "aborted")]
    if folder:  # also where the controller has ended, which makes a page of it
        write_whole(folder / DOCUMENT, json.dumps(result["summary"], indent=2, sort_keys=True) + "\n")
    if trouble:
        raise DrillError(trouble)
    if interruption.reason:
        raise DrillError(f"The drill was ended ({interruption.reason}); what it had broken is restored.")
