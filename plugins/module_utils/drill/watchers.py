# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which what watches the application, or reports it, is taken away."""

from __future__ import annotations

from dataclasses import replace

from ..kube.selectors import selector_of
from ..kube.transport import ApiError
from ..verify import routing
from ..verify.log_agents import SELECTORS
from ..verify.log_stores import STORES
from ..verify.notification import INBOX, bare
from ..verify.stack import OPERATOR
from . import bounds
from .app import App, Plan, Skipped, both, history, patched
from .dead_man import MERGE, Step
from .record import NOBODY

LASTS = 300  # seconds of the alert that a receiver refuses
TEST = {"alertname": "VerifyTestAlert", "severity": "none", "service": "flaskops-drill"}  # and the application's namespace
NO_PROMETHEUS = "no Prometheus of an operator runs on this cluster"


def silence_by_logs(app: App) -> Plan:
    found = app.workload("daemonsets", SELECTORS[0])
    if found is None:
        raise Skipped("no log agent that is a DaemonSet is installed on this cluster")
    namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"
    steps, undo = patched(app, path, {"spec": {"template": {"spec": {"nodeSelector": NOBODY}}}})
    revisions = history(undo[0], "controllerrevisions", selector_of(found))
    return Plan(f"DaemonSet {namespace}/{name} runs on no node", steps, [undo[0], revisions, *undo[1:]], [path])


def stop_store(app: App) -> Plan:
    found = app.workload("statefulsets", app.store.pods) if app.logs else None
    if found is None:
        raise Skipped("no Loki and no VictoriaLogs that is a single StatefulSet is installed on this cluster")
    namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"
    steps, undo = patched(app, path, {"spec": {"replicas": 0}})
    others = [store for store in STORES.values() if store is not app.store]
    excuses = {f"alert {store.down}": f"{store.title} is not the back end that is stopped" for store in others}
    return Plan(f"StatefulSet {namespace}/{name} scaled to 0", steps, undo, [path], excuses=excuses)


def kill_prometheus(app: App) -> Plan:
    if not app.prometheus:
        raise Skipped(NO_PROMETHEUS)
    selector = f"operator.prometheus.io/name={app.prometheus_name}"
    found = app.get(f"/api/v1/namespaces/{app.stack_namespace}/pods?labelSelector={selector}")["items"]
    names = [item["metadata"]["name"] for item in found]
    if not names:
        raise Skipped(f"the Prometheus {app.prometheus_name} has no pod")
    step: Step = {"do": "delete_pods", "namespace": app.stack_namespace, "names": names}
    return Plan(f"pods {', '.join(names)} deleted at once", [step])


def _stopped(app: App, plural: str, name: str) -> Plan:
    """An object of the operator without pods."""
    path = f"{OPERATOR}/v1/namespaces/{app.stack_namespace}/{plural}/{name}"
    steps, undo = patched(app, path, {"spec": {"replicas": 0}}, MERGE)
    return Plan(f"{app.stack_namespace}/{name} scaled to 0", steps, undo, [path])


def stop_prometheus(app: App) -> Plan:
    if not app.prometheus:
        raise Skipped(NO_PROMETHEUS)
    plan = _stopped(app, "prometheuses", app.prometheus_name)
    return replace(plan, how=f"Prometheus {plan.how}")


def stop_alertmanager(app: App) -> Plan:
    if not app.alertmanager:
        raise Skipped("no Alertmanager of an operator runs beside Prometheus")
    kept = app.get(f"{OPERATOR}/v1/namespaces/{app.stack_namespace}/alertmanagers")["items"]
    silences = [item for item in app.get(f"{app.alertmanager}/api/v2/silences") if item["status"]["state"] != "expired"]
    if silences and not all(item["spec"].get("storage") for item in kept):
        raise Skipped(f"Alertmanager has no volume, so {len(silences)} silences would be lost with its pods")
    plan = both("", *(_stopped(app, "alertmanagers", item["metadata"]["name"]) for item in kept))
    return replace(plan, how=f"Alertmanager {' and '.join(path.split('/')[-1] for path in plan.touched)} scaled to 0")


def refuse_at_inbox(app: App) -> Plan:
    """Nobody listens where a receiver should be; a test alert, which goes to nobody else, has Alertmanager try."""
    if not app.inbox or not app.alertmanager:
        raise Skipped("no alert inbox runs beside Prometheus, and no other receiver is the drill's to break")
    labels = {**TEST, "namespace": app.namespace}
    try:
        ways = routing.outcomes(bounds.read_routing(app), routing.Labels(dict(labels)))
    except (ApiError, ValueError) as error:
        raise Skipped(f"where Alertmanager would send a test alert can't be told ({error})") from error
    reached = sorted({way.receiver for found in ways for way in found})
    if [bare(name) for name in reached] != [INBOX]:
        raise Skipped(f"a test alert would reach {' and '.join(reached) or 'nobody'}, and it is for the alert inbox alone")
    service = {"namespace": app.stack_namespace, "name": INBOX}
    path = f"/api/v1/namespaces/{app.stack_namespace}/services/{INBOX}"
    steps, undo = patched(app, path, {"spec": {"selector": NOBODY}})
    alert: Step = {"do": "alert", "path": f"{app.alertmanager}/api/v2/alerts", "service": service, "labels": labels}
    how = "the Service of the alert inbox selects no pod, and Alertmanager has a test alert for it"
    return Plan(how, [*steps, {**alert, "seconds": LASTS}], undo, [path])


def darken(app: App) -> Plan:
    """From outside it is as if the cluster were gone: nobody is answered, and nobody is told."""
    steps, undo = patched(app, app.service_path, {"spec": {"selector": NOBODY}})
    nobody = Plan("", steps, undo, [app.service_path])
    how = "Prometheus and Alertmanager scaled to 0, and the Service selects no pod"
    return both(how, stop_alertmanager(app), stop_prometheus(app), nobody)
