# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ..module_utils.kube.client import api_client
from ..module_utils.kube.objects import Objects, label
from ..module_utils.kube.state import State, Wish
from ..module_utils.kube.transport import KubeError
from ..module_utils.monitoring import receivers, rules
from ..module_utils.monitoring.plan import Planner, plan
from ..plugin_utils.cluster_action import ClusterAction

SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "adopt": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 120},
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "labels": {"type": "dict", "default": {}},
    "deployment": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 5000},
    "metrics_port": {"type": "int", "default": 9200},
    "metrics_path": {"type": "str", "default": "/metrics"},
    "metrics_prefix": {"type": "str", "default": "flask"},
    "scrape_interval": {"type": "str", "default": ""},
    "sample_limit": {"type": "int", "default": 5000},
    "probe": {"type": "bool", "default": True},
    "probe_interval": {"type": "str", "default": "15s"},
    "probe_module": {"type": "str", "default": "http_2xx"},
    "prober_url": {"type": "str", "default": ""},
    "health_path": {"type": "str", "default": "/health"},
    "health_port": {"type": "int", "default": 0},
    "public_url": {"type": "str", "default": ""},
    "workers": {"type": "list", "elements": "dict", "default": []},
    "alerts": {"type": "dict", "default": {}},
    "min_errors": {"type": "int", "default": 3},
    "min_requests": {"type": "int", "default": 10},
    "slo": {"type": "float", "default": 0},
    "slo_latency": {"type": "float", "default": 0},
    "slo_latency_seconds": {"type": "float", "default": 0.5},
    "literal_error_rate": {"type": "bool", "default": False},
    "extra_rules": {"type": "list", "elements": "dict", "default": []},
    "evaluation_interval": {"type": "str", "default": ""},
    "runbook_url": {"type": "str", "default": rules.OPTIONS["runbook_url"]},
    "grafana_url": {"type": "str", "default": ""},
    "receivers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": receivers.SPEC,
    },
    "group_wait": {"type": "str", "default": "30s"},
    "group_interval": {"type": "str", "default": "5m"},
    "repeat_interval": {"type": "str", "default": "4h"},
    "dashboards": {"type": "bool", "default": True},
    "grafana_namespace": {"type": "str", "default": ""},
    "dashboards_labels": {"type": "dict", "default": {"grafana_dashboard": "1"}},
    "dashboards_folder": {"type": "str", "default": "Flask"},
    "prometheus_name": {"type": "str", "default": ""},
    "prometheus_namespace": {"type": "str", "default": ""},
    "promtool": {"type": "path"},
}


class ActionModule(ClusterAction):
    """Makes the Prometheus operator's stack of a cluster watch one application."""

    SPEC = SPEC
    OF_ROLE = {name: name for name in SPEC}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        wrong = receivers.problem(options["receivers"], operated=True)
        if wrong:
            raise KubeError(wrong)
        objects = Objects(api_client(options["kubeconfig"] or "", options["context"] or ""))
        try:
            planned = plan(Planner(objects.cluster, options), self._task.check_mode)
        except ValueError as error:
            raise KubeError(str(error)) from error
        told = {key: value for key, value in planned.items() if key not in ("objects", "known")}
        if not planned["ready"]:
            return {**told, "changed": True, "changes": [f"created {label(item)}" for item in planned["objects"]]}
        wish = Wish(
            owner=f"app_monitoring {options['namespace']} {options['name']}",
            definitions=planned["objects"],
            known=planned["known"],
            adopt=options["adopt"],
            monitoring="always",
            monitoring_labels={},
            labels=options["labels"],
            wait_timeout=options["wait_timeout"],
            check_mode=self._task.check_mode,
            called=self.called,
        )
        found = State(objects, wish).run(options["state"])
        if planned.get("not_applied"):
            found["not_applied"] += planned["not_applied"]
        return {**told, **self.compared(found)}
