#!/usr/bin/python
# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Follow the links of an app's monitoring chain
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Follows the first links of the monitoring chain of one app on a Kubernetes cluster, all of them side by side.
  - The links are the nodes, the rollout, the probes, C(/health) through the Service, the metrics of every ready pod,
    and a request that must be found again in the app's log.
  - Where a Prometheus operator runs, also the scrape targets, the health probe, the rules, the queries of the dashboards,
    Grafana, and the way of a test alert to its receiver and back.
  - A broken link does not make this module fail; look at RV(results). It fails when it cannot ask the cluster at all.
  - Sends a few requests to the app. Changes nothing on the cluster but for the test alert's own mark, which it removes;
    writing O(report) does not count as a change.
requirements:
  - kubernetes
options:
  kubeconfig:
    description: Path of the kubeconfig file.
    type: path
  context:
    description: Context of the kubeconfig.
    type: str
  namespace:
    description: Namespace of the app.
    type: str
    default: flask-app
  name:
    description: Name of the app's Deployment and Service, and value of its pods' label C(app).
    type: str
    default: flask-app
  image:
    description: Image the Deployment must run; empty accepts any.
    type: str
    default: ""
  port:
    description: Port on which the app serves C(/health).
    type: int
    default: 5000
  metrics_port:
    description: Port on which a pod serves its metrics.
    type: int
    default: 9200
  metrics_path:
    description: Path of the metrics page.
    type: str
    default: /metrics
  log_check:
    description: Whether a request's C(X-Request-ID) must be found in the app's log.
    type: bool
    default: true
  alert_check:
    description:
      - Whether a test alert is sent through Prometheus and Alertmanager, where the role C(app_monitoring) has installed its rule.
      - It needs leave to create and delete one Service without pods in O(namespace), and goes to no receiver but our own.
    type: bool
    default: true
  external_checks:
    description: The outside services that must say that every check of O(environment) is up.
    type: list
    elements: dict
    default: []
    suboptions:
      provider:
        description: The service.
        type: str
        required: true
        choices: [uptimerobot, pingdom, statuscake]
      api_token:
        description: >-
          Token of its API, which need only read; E(UPTIMEROBOT_API_KEY), E(PINGDOM_API_TOKEN) or E(STATUSCAKE_API_TOKEN)
          where it is not set.
        type: str
      api_url:
        description: Address of its API, where it is not the service's own.
        type: str
      ca_path:
        description: File with certificates of authorities to trust.
        type: path
  environment:
    description: Environment of the checks, as in M(flaskops.observability.external_checks).
    type: str
    default: ""
  timeout:
    description: Bound for the whole verification, in seconds.
    type: int
    default: 60
  report:
    description: JSON file to write the results to; its folder must exist.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: none
    details: Is skipped in check mode, because it sends requests to the app.
"""

EXAMPLES = r"""
- name: Follow the chain of one app
  flaskops.observability.verify:
    kubeconfig: /home/me/.kube/config
    context: staging
    namespace: shop
    name: shop
    report: /tmp/shop.json
  register: chain

- name: Show what was found
  flaskops.observability.show:
    text: "{{ chain.table }}"
"""

RETURN = r"""
results:
  description: One entry per link, in the order of the chain.
  returned: success
  type: list
  elements: dict
  contains:
    link:
      description: Name of the link.
      type: str
      returned: always
    status:
      description: One of V(ok), V(failed) and V(left_out).
      type: str
      returned: always
    evidence:
      description: What was seen.
      type: str
      returned: always
    seconds:
      description: How long the check took.
      type: float
      returned: always
    cause:
      description: Why the link is broken; empty when it is not.
      type: str
      returned: always
    next_command:
      description: The command to look further with; empty when the link is not broken.
      type: str
      returned: always
table:
  description: The results as plain text, at most 100 columns wide.
  returned: success
  type: str
broken:
  description: Names of the broken links.
  returned: success
  type: list
  elements: str
url:
  description: The app's address, through its load balancer or else through the API server; empty when it has none.
  returned: success
  type: str
"""

import json
import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils._kube import KubeError, api_client
from ansible_collections.flaskops.observability.plugins.module_utils.verify.api import KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import Target, VerifyError, verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.table import render

ARGUMENTS: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "namespace": {"type": "str", "default": "flask-app"},
    "name": {"type": "str", "default": "flask-app"},
    "image": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 5000},
    "metrics_port": {"type": "int", "default": 9200},
    "metrics_path": {"type": "str", "default": "/metrics"},
    "log_check": {"type": "bool", "default": True},
    "alert_check": {"type": "bool", "default": True},
    "external_checks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "provider": {"type": "str", "required": True, "choices": ["uptimerobot", "pingdom", "statuscake"]},
            "api_token": {"type": "str", "no_log": True},
            "api_url": {"type": "str"},
            "ca_path": {"type": "path"},
        },
    },
    "environment": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 60},
    "report": {"type": "path"},
}


def write_report(path: str, content: dict[str, Any]) -> None:
    """Replace the file in one step, so that nobody reads half a report."""
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".verify-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=2)
            stream.write("\n")
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def problem(params: dict[str, Any]) -> str:
    """What is wrong with the options, in one sentence; empty when nothing is."""
    if not params["kubeconfig"] and not params["context"]:
        return "Neither kubeconfig nor context is set; name the cluster to verify."
    for option in ("port", "metrics_port"):
        if not 0 < params[option] < 65536:
            return f"Option {option} is {params[option]}; give a port between 1 and 65535."
    if params["timeout"] < 1:
        return f"Option timeout is {params['timeout']}; give at least 1 second."
    if params["report"]:
        folder = os.path.dirname(os.path.abspath(params["report"]))
        if not os.path.isdir(folder):
            return f"The folder {folder} for the report does not exist; create it or choose another path in option report."
        if os.path.isdir(params["report"]) or not os.access(folder, os.W_OK):
            return f"The report {params['report']} cannot be written; choose a path of a file in option report."
    return ""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=False)
    params = dict(module.params)
    wrong = problem(params)
    if wrong:
        module.fail_json(msg=wrong)
    report = params.pop("report")
    target = Target(**{**params, "kubeconfig": params["kubeconfig"] or "", "context": params["context"] or ""})
    try:
        results, url = verify(KubeCluster(api_client(target.kubeconfig, target.context)), target)
    except (KubeError, VerifyError) as error:
        module.fail_json(msg=str(error))
    table = render(results, f"{target.name} in namespace {target.namespace}: {url or 'no address'}")
    broken = [result["link"] for result in results if result["status"] == "failed"]
    found = {"results": results, "broken": broken, "url": url}
    if report:
        try:
            write_report(report, {"name": target.name, "namespace": target.namespace, **found})
        except OSError as error:
            msg = f"The report {report} cannot be written ({error.strerror}): choose another path in option report."
            module.fail_json(msg=msg, table=table, **found)
    module.exit_json(changed=False, table=table, **found)


if __name__ == "__main__":
    main()
