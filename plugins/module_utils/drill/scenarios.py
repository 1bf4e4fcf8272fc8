# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios: what is broken, how, and what should notice.

A scenario has several ways to be caused; the first whose precondition holds is taken. A way only plans: its steps and
those that undo it are data (see dead_man), so that they can be recorded before anything is changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..verify.links.health import DEFAULT_PATH, question
from ..verify.log_stores import STORES
from .app import App, Plan, Skipped, both, history, patched
from .bounds import ENDS, FORGOTTEN, LATE, MISSING, READINESS, SILENT, Stage
from .dead_man import PAUSE, Step
from .guard import DrillError
from .nodes import drain, lose
from .record import (
    CRASHES,
    KINDS,
    LIMIT,
    LONGER,
    NO_NAMES,
    NOBODY,
    NOT_READY,
    NOWHERE,
    broken_template,
    out_of_memory,
    unresolved,
)
from .watchers import darken, kill_prometheus, refuse_at_inbox, silence_by_logs, stop_alertmanager, stop_prometheus, stop_store

SECONDS = 600  # after so long a fault switch ends by itself
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


Way = Callable[[App], Plan]


@dataclass(frozen=True)
class Expect:
    """One thing that should be seen, and from what its time is computed.

    :param observer: ``alert NAME``, ``pods``, ``endpoints``, ``node``, ``log line``, ``log back end``, ``prometheus``,
        ``alertmanager``, ``receiver``, ``external check``, ``dead man's switch``.
    :param event: of that observer; for an alert its last one, ``received``, with ``pending`` and ``firing`` before.
    :param symptom: the stages before the fault is in what the alert's rule reads; READINESS for the live readiness probe's,
        LATE and MISSING for the live scheduled verification's, SILENT and FORGOTTEN for those of the dead man's switch; or the
        event of another observer (``pods OOMKilled``) whose
        measured time takes their place. A way may know better (Plan.stages).
    :param source: whose scrape interval counts: ``app``, ``probe``, ``log agent``, ``log back end``,
        ``scheduled verification`` or ``kube-state-metrics``.
    :param share: the part of the requests that the fault hits, by which a window fills.
    :param rate: lines a second that the fault writes, by which a window fills.
    """

    observer: str
    event: str = "received"
    symptom: tuple[Stage, ...] | str = ()
    source: str = ""
    share: float = 1.0
    rate: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """One thing that can happen to an application."""

    name: str
    title: str
    ways: tuple[Way, ...]
    expects: tuple[Expect, ...] = ()
    least: float = 5.0  # seconds that the fault lasts at least
    recovers: tuple[str, str] | None = None  # what is seen when the cluster has repaired it by itself
    page: bool = False  # whether somebody has to be told within the objective
    lossless: bool = False  # whether no request may be lost
    answering: bool = False  # whether some requests are answered all the time, and no line of an answered one is lost


# Building plans.


def switch(app: App, name: str, how: str, names: list[str] | None = None, **options: float) -> Plan:
    """A fault switch of the reference application, in every pod or in those named."""
    if not app.switches:
        raise Skipped(f"the application has no fault switch {name}")
    common = {"do": "switch", "namespace": app.namespace, "selector": app.selector, "port": app.options.port}
    path = f"/faults/{name}"
    step: Step = {**common, "method": "POST", "path": path, "body": {**options, "seconds": SECONDS}}
    if names is not None:
        step["names"] = names
    undo: list[Step] = [{**common, "method": "DELETE", "path": path, "or_delete": True}]
    where = f"{len(names)} of {app.replicas} pods" if names is not None else f"{app.replicas} pods"
    return Plan(f"fault switch {how}, on {where}", [step], undo)


def fresh_pods(app: App) -> Step:
    """A pod that a kubelet keeps waiting after its crashes is replaced at once."""
    return {"do": "delete_pods", "namespace": app.namespace, "selector": app.selector, "waiting": True}


def template(app: App, how: str, spec: dict[str, Any]) -> Plan:
    """Another pod template for the Deployment, for all pods at once: a rolling update would stop at the first pod that fails.

    Its history is kept longer meanwhile, and the ReplicaSet of the broken template is removed from it.
    """
    limit = int(app.deployment["spec"].get("revisionHistoryLimit", 10))
    path = app.deployment_path
    steps, undo = patched(app, path, broken_template(spec, limit + LONGER))
    back = undo[0]
    lasting = [field for field in back["fields"] if field["at"] != LIMIT]
    shortened = [field for field in back["fields"] if field not in lasting]
    restored = [{**back, "fields": lasting}, history(back, "replicasets", app.selector), {**back, "fields": shortened}]
    return Plan(how, steps, [*restored, *undo[1:]], [path])


def container(app: App, **fields: Any) -> dict[str, Any]:
    """The part of a pod template that says something of the application's container."""
    return {"containers": [{"name": app.container["name"], **fields}]}


def size(quantity: str) -> float:
    """The bytes of a Kubernetes quantity such as 256Mi."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", quantity)
    if not found or found[2] not in UNITS:
        raise Skipped(f"the memory limit {quantity} is in an unknown unit")
    return float(found[1]) * UNITS[found[2]]


# The ways.


def kill_pod(app: App) -> Plan:
    name = app.pod_names()[0]
    return Plan(f"pod {name} deleted at once", [{"do": "delete_pods", "namespace": app.namespace, "names": [name]}])


def crash_by_switch(app: App) -> Plan:
    plan = switch(app, "crash", "crash, again after each restart", app.pod_names()[:1], times=100, after=1)
    return Plan(plan.how, plan.steps, [*plan.undo, fresh_pods(app)])


def crash_by_command(app: App) -> Plan:
    return template(app, "a command that does not exist, for all pods", container(app, command=CRASHES))


def memory_by_switch(app: App) -> Plan:
    limit = (app.container.get("resources") or {}).get("limits", {}).get("memory")
    if not limit:
        raise Skipped("the application's container has no memory limit")
    mb = math.ceil(size(limit) / 2**20 * 1.5)
    plan = switch(app, "memory", f"memory, {mb} MiB beside the limit of {limit}", app.pod_names()[:1], mb=mb)
    return Plan(plan.how, plan.steps, [*plan.undo, fresh_pods(app)])


def memory_by_limit(app: App) -> Plan:
    limit = app.options.memory_limit
    return template(app, f"a memory limit of {limit}, for all pods", container(app, resources=out_of_memory(limit)))


def health_by_switch(app: App) -> Plan:
    asked = question(app.container, app.options.port)
    if app.switches and (asked.instead_of or asked.port or asked.shown != DEFAULT_PATH):
        raise Skipped(f"the fault switch health changes {DEFAULT_PATH}, which the readiness probe does not ask")
    return switch(app, "health", f"health: {DEFAULT_PATH} answers 503")


def health_by_probe(app: App) -> Plan:
    if not app.container.get("readinessProbe"):
        raise Skipped("the application has no readiness probe that could fail")
    how = "a readiness probe of a port where nothing listens, for all pods"
    return template(app, how, container(app, readinessProbe=NOT_READY))


def errors_by_switch(app: App) -> Plan:
    return switch(app, "errors", "errors, ratio 0.5", ratio=0.5)


def errors_by_path(app: App) -> Plan:
    if not app.options.error_path:
        raise Skipped("it has no fault switch errors, and the option drill_error_path names no path that is answered with 5xx")
    how = f"the steady probe asks for {app.options.error_path} every second time"
    why = f"{app.options.error_path} may be answered with 5xx without an exception"
    excuses = {"alert FlaskUncaughtExceptions": why, "alert LogTraceback": why}
    return Plan(how, [], path=app.options.error_path, every=2, excuses=excuses)


def latency_by_switch(app: App) -> Plan:
    return switch(app, "latency", "latency, one second for each request", delay=1)


def latency_by_path(app: App) -> Plan:
    if not app.options.slow_path:
        raise Skipped("it has no fault switch latency, and the option drill_slow_path names no path that is slow")
    return Plan(f"the steady probe asks for {app.options.slow_path}", [], path=app.options.slow_path)


def timeout_by_hosts(app: App) -> Plan:
    host = app.options.dependency
    if not host:
        raise Skipped("the option drill_dependency names no host that the application needs")
    if (app.deployment["spec"]["template"]["spec"]).get("hostAliases"):
        raise Skipped("the pod template has hostAliases of its own")
    return template(app, f"{host} leads to {NOWHERE}, which never answers", unresolved(host))


def timeout_by_switch(app: App) -> Plan:
    how = "fault switches latency and errors: each request waits one second and fails, as one that waits for a dependency"
    return both(how, switch(app, "latency", "", delay=1), switch(app, "errors", "", ratio=1))


def logs_by_switch(app: App) -> Plan:
    return switch(app, "logs", "logs, 100 error lines a second", rate=100)


def no_dns(app: App) -> Plan:
    return template(app, f"the pods' name server is {NOWHERE}, which never answers", NO_NAMES)


def no_endpoints(app: App) -> Plan:
    steps, undo = patched(app, app.service_path, {"spec": {"selector": NOBODY}})
    return Plan("the Service selects no pod", steps, undo, [app.service_path])


COLLECTED: tuple[Stage, ...] = (("log agent", 0.0, 3.0),)
DELAYED: tuple[Stage, ...] = (("duration of a slow request", 1.0, 1.0),)
OPERATED: tuple[Stage, ...] = (("operator, StatefulSet controller and end of the pod", 0.0, ENDS + 5.0),)
REFUSED = Expect("receiver", "refused", (("end of its addresses", PAUSE, PAUSE + 5.0), ("Alertmanager's attempt", 0.0, 5.0)))
SWITCH = "dead man's switch"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "errors",
        "Half of the requests get a 5xx",
        (errors_by_switch, errors_by_path),
        (
            Expect("alert HighErrorRate", source="app", share=0.5),
            Expect("alert FlaskUncaughtExceptions", source="app"),
            Expect("log line", "seen"),
            Expect("alert LogTraceback", symptom=COLLECTED, source="log agent"),
        ),
        page=True,
    ),
    Scenario(
        "latency",
        "Every request takes a second longer",
        (latency_by_switch, latency_by_path),
        (Expect("alert FlaskHighLatencyP95", symptom=DELAYED, source="app"),),
        page=True,
    ),
    Scenario(
        "dependency_timeout",
        "Something the application needs does not answer",
        (timeout_by_hosts, timeout_by_switch),
        (Expect("alert HighErrorRate", symptom=DELAYED, source="app"),),
        page=True,
    ),
    Scenario(
        "health",
        "The health check fails",
        (health_by_switch, health_by_probe),
        (
            Expect("pods", "lost", symptom=READINESS),
            Expect("endpoints", "removed", symptom=READINESS),
            Expect("alert FlaskHealthProbeFailed", source="probe"),
        ),
        page=True,
    ),
    Scenario(
        "endpoint_lost",
        "Nobody reaches the application",
        (no_endpoints,),
        (
            Expect("endpoints", "removed", symptom=(("endpoint controller", 0.0, 1.0),)),
            Expect("alert FlaskHealthProbeFailed", symptom=(("endpoint controller and kube-proxy", 0.0, 2.0),), source="probe"),
        ),
        page=True,
    ),
    Scenario(
        "pod_killed",
        "A pod is killed",
        (kill_pod,),
        (
            Expect("pods", "lost", symptom=(("API server", 0.0, 1.0),)),
            Expect("endpoints", "removed", symptom=(("endpoint controller", 0.0, 2.0),)),
            Expect("pods", "ready"),
        ),
        recovers=("pods", "ready"),
    ),
    # Before the drain, after which a cluster of two workers has all pods on one of them.
    Scenario(
        "node_lost",
        "A node is lost",
        (lose,),
        (
            Expect("node", "NotReady"),
            Expect("pods", "lost"),
            Expect("endpoints", "removed"),
            Expect("alert FlaskReplicasUnavailable", symptom="pods lost", source="kube-state-metrics"),
            Expect("alert KubeNodeNotReady", symptom="node NotReady", source="kube-state-metrics"),
        ),
        page=True,
        answering=True,
    ),
    Scenario(
        "node_drained",
        "A node is drained",
        (drain,),
        (
            Expect("pods", "lost", symptom=(("API server", 0.0, 2.0),)),
            Expect("endpoints", "removed", symptom=(("API server and endpoint controller", 0.0, 4.0),)),
            Expect("pods", "ready"),
        ),
        recovers=("pods", "ready"),
        lossless=True,
    ),
    Scenario(
        "dns",
        "The application can't resolve names",
        (no_dns,),
        (Expect("pods", "lost", symptom=(("Deployment controller", 0.0, 2.0),)),),
        least=20,
    ),
    Scenario(
        "log_silence",
        "The application's log lines do not arrive",
        (silence_by_logs,),
        (
            Expect("log line", "lost"),
            Expect("alert LogSilence", symptom=(("end of the log agent's pods", 0.0, 35.0),), source="log agent"),
            Expect("alert LogLinesLate", symptom=LATE, source="scheduled verification"),
            Expect("alert LogLinesMissing", symptom=MISSING, source="scheduled verification"),
        ),
        least=30,
    ),
    Scenario(
        "log_backend_down",
        "The log back end is gone",
        (stop_store,),
        (
            Expect("log back end", "down", symptom=(("StatefulSet controller and end of the pod", 0.0, ENDS),)),
            *(Expect(f"alert {store.down}", symptom="log back end down", source="log back end") for store in STORES.values()),
            # Not LogLinesMissing: of a back end that does not answer nobody knows what it has.
            Expect("alert LogLinesLate", symptom=LATE, source="scheduled verification"),
        ),
    ),
    Scenario(
        "prometheus_restart",
        "Prometheus is killed",
        (kill_prometheus,),
        (Expect("prometheus", "down", symptom=(("API server", 0.0, 2.0),)), Expect("prometheus", "up")),
        recovers=("prometheus", "up"),
    ),
    Scenario(
        "crash_loop",
        "A pod crashes again and again",
        (crash_by_switch, crash_by_command),
        (
            Expect("pods", "CrashLoopBackOff"),
            Expect("alert FlaskPodCrashLooping", symptom="pods CrashLoopBackOff", source="kube-state-metrics"),
        ),
        page=True,
    ),
    Scenario(
        "oom",
        "A pod uses more memory than it may",
        (memory_by_switch, memory_by_limit),
        (
            Expect("pods", "OOMKilled"),
            Expect("alert FlaskPodOOMKilled", symptom="pods OOMKilled", source="kube-state-metrics"),
        ),
        page=True,
    ),
    Scenario(
        "log_burst",
        "The application writes many error lines",
        (logs_by_switch,),
        (Expect("log line", "seen"), Expect("alert LogErrorLines", symptom=COLLECTED, source="log agent", rate=100)),
    ),
    # What nobody in the cluster can report. At the end, since Prometheus starts again after it.
    Scenario("receiver_refuses", "A receiver refuses its notifications", (refuse_at_inbox,), (REFUSED,)),
    Scenario(
        "alertmanager_down",
        "Alertmanager is gone",
        (stop_alertmanager,),
        (Expect("alertmanager", "down", OPERATED), Expect(SWITCH, "down", SILENT)),
        least=20,
    ),
    Scenario(
        "prometheus_down",
        "Prometheus is gone",
        (stop_prometheus,),
        (Expect("prometheus", "down", OPERATED), Expect(SWITCH, "down", FORGOTTEN)),
        least=20,
    ),
    Scenario(
        "cluster_dark",
        "Nothing is heard of the cluster",
        (darken,),
        (
            Expect("endpoints", "removed", symptom=(("endpoint controller", 0.0, 1.0),)),
            Expect("prometheus", "down", OPERATED),
            Expect("alertmanager", "down", OPERATED),
            Expect("external check", "down"),
            Expect(SWITCH, "down", SILENT),
        ),
        least=20,
    ),
)


# Scenarios of the user's own: the same as data.


def own(given: dict[str, Any]) -> Scenario:
    """A scenario from the option ``drill_own_scenarios``.

    :param given: ``name``, ``title``, ``kind``, ``object`` and ``patch``; ``namespace`` and ``alerts`` where they are set.
    """

    def way(app: App) -> Plan:
        namespace = given.get("namespace") or app.namespace
        path = KINDS[given["kind"]].format(namespace, given["object"])
        status, _text = app.request("GET", path)
        if status != 200:
            raise Skipped(f"there is no {given['kind']} {given['object']} in namespace {namespace}")
        steps, undo = patched(app, path, given["patch"])
        return Plan(f"{given['kind']} {namespace}/{given['object']} patched", steps, undo, [path])

    expects = tuple(Expect(f"alert {name}", source="app") for name in given.get("alerts") or [])
    return Scenario(given["name"], given["title"], (way,), expects, float(given.get("seconds") or 30), page=bool(expects))


def chosen(names: Iterable[str], own_scenarios: Iterable[dict[str, Any]]) -> list[Scenario]:
    """The scenarios of these names, in the order of the list; all for no name.

    :raises DrillError: for a name that there is not, or that there is twice.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for given in own_scenarios:
        if given["name"] in known:
            raise DrillError(f"There are two scenarios called {given['name']}: give the one in drill_own_scenarios another name.")
        known[given["name"]] = own(given)
    wanted = list(names) or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise DrillError(f"There is no scenario {unknown[0]}: use some of {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(wanted)]


def plan(scenario: Scenario, app: App) -> Plan:
    """The plan of the first way that is possible.

    :raises Skipped: with the reason of the last one when none is.
    """
    reason = ""
    for way in scenario.ways:
        try:
            return way(app)
        except Skipped as error:
            reason = str(error)
    raise Skipped(reason)
