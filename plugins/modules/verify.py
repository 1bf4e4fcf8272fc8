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
  - Follows the links of the monitoring chain of one app on a Kubernetes cluster, all of them side by side.
  - The links are the nodes, the image, the probes, the rollout, the Service's endpoints, what the readiness probe asks, the
    metrics of every ready pod, the names of an Ingress or HTTPRoute, and a request that must be found again in the app's log, in
    the cluster's own log back end and in O(log_backends), with the log agent and the alerts about log lines.
  - Where a Prometheus operator runs, also Prometheus itself, the exporters, the scrape targets, the health probe, the rules,
    the queries of the installed dashboards, Grafana and its data sources, the clocks, Alertmanager, the path of a test alert to
    its receiver and back, the receivers, and the dead man's switch up to its far end.
  - Other probes than the reference's are no broken link; the row C(reference probes) notes them.
  - A broken link does not make this module fail; look at RV(results). It fails when it cannot ask the cluster at all.
  - Sends a few requests to the app. Changes nothing on the cluster but for the test alert's own mark, which it removes;
    writing O(report) and O(junit) does not count as a change.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment: [flaskops.observability.cluster, flaskops.observability.app]
options:
  image:
    description: Image the Deployment must run; empty accepts any.
    type: str
    default: ""
  hosts:
    description:
      - Names by which users reach the app, each of which must lead through an Ingress or HTTPRoute to its pods.
      - Empty for those that an Ingress or HTTPRoute has which leads to the app's Service.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The host name, such as V(shop.example.com).
        type: str
        required: true
      path:
        description: Path below which the app answers; V(/) where it is not set.
        type: str
      tls_secret:
        description: Secret with the certificate; where it is set the host must have TLS.
        type: str
  alert_check:
    description:
      - Whether a test alert is sent through Prometheus and Alertmanager, where the role C(app_monitoring) has installed its rule.
      - It needs permission to create and delete one Service without pods in O(namespace), and goes to no receiver but our own.
    type: bool
    default: true
  notified_severities:
    description:
      - Severities of which each alert must reach a receiver that notifies somebody.
      - Empty where nobody is to be notified, as on a cluster for trials.
    type: list
    elements: str
    choices: [critical, warning, info]
    default: [critical, warning]
  notify:
    description:
      - Whether the test alert goes on to whoever is notified of a critical alert, after it reached our own receiver.
      - The routes of the role C(kube_prometheus_stack) have it; with others the alert takes their routes.
    type: bool
    default: false
  receivers:
    description:
      - Names of receivers of Alertmanager, each of which gets one notification that says it is a test, and is over at once.
      - It reaches nobody else; where the routes leave no labels for that, the row of the receiver fails and nothing is sent.
      - It needs permission to C(create) C(services/proxy) in Alertmanager's namespace, C(pods/proxy) where it has several pods.
    type: list
    elements: str
    default: []
  log_backends:
    description:
      - Where the request's line must be found, in addition to or instead of the Loki or VictoriaLogs on the cluster.
      - Asked from this machine.
      - What the log agent sends to and is not named here is skipped, with the reason.
    type: list
    elements: dict
    default: []
    suboptions:
      type:
        description: >-
          The kind of backend. V(cloudwatch) needs the Python package boto3, which looks for its credentials itself.
        type: str
        required: true
        choices: [loki, victoria_logs, elasticsearch, opensearch, cloudwatch]
      url:
        description: Address of the backend; not needed for V(cloudwatch).
        type: str
      index:
        description: Index or data stream of V(elasticsearch) and V(opensearch); V(logs-*) where it is not set.
        type: str
      username:
        description: Account that may search.
        type: str
      password:
        description: Its password.
        type: str
      api_key:
        description: API key of Elasticsearch instead of an account.
        type: str
      tenant:
        description: Tenant of Loki or VictoriaLogs; for the latter a number, or two with a colon between them.
        type: str
      ca_path:
        description: File with certificates of authorities to trust.
        type: path
      region:
        description: AWS region.
        type: str
      log_group:
        description: Log group of V(cloudwatch).
        type: str
  app_only:
    description: Whether only the links of the app itself are followed, to its metrics and its log.
    type: bool
    default: false
  skipped:
    description: Parts that an installation did without, each with the reason. Each is a row that is skipped.
    type: dict
    default: {}
  environment:
    description: Environment of the checks, as in M(flaskops.observability.external_checks).
    type: str
    default: ""
  check_names:
    description: Names of checks of the environment that must be there and run. Any other may be paused.
    type: list
    elements: str
    default: []
  dead_mans_switch:
    description:
      - How the provider is asked that has the heartbeat of the stack's dead man's switch. Empty where it is not asked.
    type: dict
    default: {}
    suboptions:
      provider:
        description: The provider.
        type: str
        choices: [uptimerobot]
      api_token:
        description: Token of its API; E(UPTIMEROBOT_API_KEY) where it is not set.
        type: str
      api_url:
        description: Address of its API, where it is not the provider's own.
        type: str
      ca_path:
        description: File with certificates of authorities to trust.
        type: path
  schedule:
    description:
      - Seconds between two verifications by the cluster itself, where the run goes on to apply those, as the role C(verify) does.
      - What was applied for them before is not compared then. V(0) where the run applies none.
    type: int
    default: 0
  timeout:
    description: Bound for the whole verification, in seconds.
    type: int
    default: 60
  report:
    description: JSON file to write the results to; its folder must exist.
    type: path
  junit:
    description: JUnit XML file to write the results to, with one test case for each link; its folder must exist.
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
    junit: /tmp/shop.xml
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
      description: One of V(ok), V(failed) and V(skipped).
      type: str
      returned: always
    query:
      description: What was asked; empty when the link was skipped.
      type: str
      returned: always
    evidence:
      description: What came back.
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
    follows:
      description: The broken link that explains this one; empty when none does, and when the link is not broken.
      type: str
      returned: always
table:
  description: The results as plain text, at most 100 columns wide.
  returned: success
  type: str
blamed:
  description: Names of the broken links that no other broken link explains; begin there.
  returned: success
  type: list
  elements: str
broken:
  description: Names of all broken links.
  returned: success
  type: list
  elements: str
url:
  description: >-
    The app's address, by the name of a host, through its load balancer or else through the API server; empty when it has none.
  returned: success
  type: str
"""
