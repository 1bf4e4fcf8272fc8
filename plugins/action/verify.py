# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from typing import Any

from ..module_utils._files import write_whole
from ..module_utils.credentials.guard import hidden_in
from ..module_utils.kube.client import api_client
from ..module_utils.kube.transport import KubeCluster, KubeError
from ..module_utils.verify import given_backends
from ..module_utils.verify.chain import verify
from ..module_utils.verify.junit import render as render_junit
from ..module_utils.verify.options import APP
from ..module_utils.verify.run import Target, VerifyError
from ..module_utils.verify.table import render
from ..plugin_utils.cluster_action import ClusterAction

SPEC: dict[str, dict[str, Any]] = {
    **APP,
    "image": {"type": "str", "default": ""},
    "hosts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "path": {"type": "str"},
            "tls_secret": {"type": "str", "no_log": False},  # it names one
        },
    },
    "alert_check": {"type": "bool", "default": True},
    "notify": {"type": "bool", "default": False},
    "receivers": {"type": "list", "elements": "str", "default": []},
    "notified_severities": {
        "type": "list",
        "elements": "str",
        "choices": ["critical", "warning", "info"],
        "default": ["critical", "warning"],
    },
    "log_backends": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "type": {
                "type": "str",
                "required": True,
                "choices": ["loki", "victoria_logs", "elasticsearch", "opensearch", "cloudwatch"],
            },
            "url": {"type": "str"},
            "index": {"type": "str"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "api_key": {"type": "str", "no_log": True},
            "tenant": {"type": "str"},
            "ca_path": {"type": "path"},
            "region": {"type": "str"},
            "log_group": {"type": "str"},
        },
        "required_if": [
            ("type", "loki", ["url"]),
            ("type", "victoria_logs", ["url"]),
            ("type", "elasticsearch", ["url"]),
            ("type", "opensearch", ["url"]),
            ("type", "cloudwatch", ["region", "log_group"]),
        ],
    },
    "app_only": {"type": "bool", "default": False},
    "skipped": {"type": "dict", "default": {}},
    "environment": {"type": "str", "default": ""},
    "check_names": {"type": "list", "elements": "str", "default": []},
    "dead_mans_switch": {
        "type": "dict",
        "default": {},
        "options": {
            "provider": {"type": "str", "choices": ["uptimerobot"]},
            "api_token": {"type": "str", "no_log": True},
            "api_url": {"type": "str"},
            "ca_path": {"type": "path"},
        },
    },
    "schedule": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 60},
    "report": {"type": "path"},
    "junit": {"type": "path"},
}


class ActionModule(ClusterAction):
    """Follows the chain of one application and writes what was found."""

    _supports_check_mode = False
    SPEC = SPEC
    OF_ROLE = {name: name for name in SPEC if name not in ("environment", "timeout")} | {"timeout": "wait_timeout"}

    def work(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if wrong := problem(options):
            raise KubeError(wrong)
        files = {option: options.pop(option) for option in ("report", "junit")}
        target = Target(**{**options, "kubeconfig": options["kubeconfig"] or "", "context": options["context"] or ""})
        try:
            results, url = verify(KubeCluster(api_client(target.kubeconfig, target.context)), target)
        except VerifyError as error:
            raise KubeError(str(error)) from error
        table = render(results, f"{target.name} in namespace {target.namespace}: {url or 'no address'}", target.opening(url))
        failed = [result for result in results if result["status"] == "failed"]
        names = {"broken": [r["link"] for r in failed], "blamed": [r["link"] for r in failed if not r["follows"]]}
        found = {"results": results, **names, "url": url}
        told = hidden_in({"changed": False, "table": table, **found}, list(given_backends.logins_in(options)))
        contents = {
            "report": json.dumps({"name": target.name, "namespace": target.namespace, **found}, indent=2) + "\n",
            "junit": render_junit(results, target.name, target.namespace),
        }
        for option, path in files.items():
            try:
                if path:
                    write_whole(path, contents[option], 0o600)
            except OSError as error:
                msg = f"The report {path} cannot be written ({error.strerror}): choose another path in option {option}."
                return {"failed": True, "msg": msg, **told}
        return dict(told)


def problem(params: dict[str, Any]) -> str:
    """What is wrong with the options, in one sentence; empty when nothing is."""
    if not params["kubeconfig"] and not params["context"]:
        return "Neither kubeconfig nor context is set; name the cluster to verify."
    for option in ("port", "metrics_port"):
        if not 0 < params[option] < 65536:
            return f"Option {option} is {params[option]}; give a port between 1 and 65535."
    if params["path"] and not params["path"].startswith("/"):
        return f"Option path is {params['path']}; give a path that begins with a slash."
    if params["timeout"] < 1:
        return f"Option timeout is {params['timeout']}; give at least 1 second."
    for number, given in enumerate(params["log_backends"]):
        wrong = given_backends.problem(given)
        if wrong:
            return f"Entry {number + 1} of log_backends ({given['type']}) can't be used: {wrong}."
    for option in ("report", "junit"):
        path = params[option]
        folder = os.path.dirname(os.path.abspath(path or ""))
        if path and not os.path.isdir(folder):
            return f"The folder {folder} for the report does not exist; create it or choose another path in option {option}."
        if path and (os.path.isdir(path) or not os.access(folder, os.W_OK)):
            return f"The report {path} cannot be written; choose a path of a file in option {option}."
    return ""
