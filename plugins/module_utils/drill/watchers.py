# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which what watches the application, or tells of it, is taken away."""

from __future__ import annotations

from ..verify.log_agents import SHIPPERS
from ..verify.log_stores import STORES
from .app import App, LeftOut, Plan, history, patched, selector_of
from .dead_man import Step
from .record import NOBODY

NO_PROMETHEUS = "no Prometheus of an operator runs on this cluster"


def silence_by_shipper(app: App) -> Plan:
    found = app.workload("daemonsets", SHIPPERS[0])
    if found is None:
        raise LeftOut("no log agent that is a DaemonSet is installed on this cluster")
    namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"
    steps, undo = patched(app, path, {"spec": {"template": {"spec": {"nodeSelector": NOBODY}}}})
    revisions = history(undo[0], "controllerrevisions", selector_of(found))
    return Plan(f"DaemonSet {namespace}/{name} runs on no node", steps, [undo[0], revisions, *undo[1:]], [path])


def stop_store(app: App) -> Plan:
    found = app.workload("statefulsets", app.store.pods) if app.logs else None
    if found is None:
        raise LeftOut("no Loki and no VictoriaLogs that is a single StatefulSet is installed on this cluster")
    namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"
    steps, undo = patched(app, path, {"spec": {"replicas": 0}})
    others = [store for store in STORES.values() if store is not app.store]
    excuses = {f"alert {store.down}": f"{store.title} is not the back end that is stopped" for store in others}
    return Plan(f"StatefulSet {namespace}/{name} scaled to 0", steps, undo, [path], excuses=excuses)


def kill_prometheus(app: App) -> Plan:
    if not app.prometheus:
        raise LeftOut(NO_PROMETHEUS)
    selector = f"operator.prometheus.io/name={app.prometheus_name}"
    found = app.get(f"/api/v1/namespaces/{app.stack_namespace}/pods?labelSelector={selector}")["items"]
    names = [item["metadata"]["name"] for item in found]
    if not names:
        raise LeftOut(f"the Prometheus {app.prometheus_name} has no pod")
    step: Step = {"do": "delete_pods", "namespace": app.stack_namespace, "names": names}
    return Plan(f"pods {', '.join(names)} deleted at once", [step])
