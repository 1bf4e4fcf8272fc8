# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Read Helm releases, whose they are, and what is around them
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Reads releases as Helm 3 and Helm 4 store them, without calling Helm.
  - Tells releases that this collection made or took over, which carry the mark of M(flaskops.observability.release),
    from those of somebody else.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  namespace:
    description: Namespace of the releases.
    type: str
    required: true
  releases:
    description: Names of the releases.
    type: list
    elements: str
    default: []
  adopt:
    description: Names of O(releases) that count as this collection's, whoever made them.
    type: list
    elements: str
    default: []
  signs:
    description: What tells a release that this collection made before it marked releases.
    type: list
    elements: dict
    default: []
    suboptions:
      release:
        description: Name of the release that the others are about; empty for any.
        type: str
        default: ""
      values:
        description: What its values say, and nobody else's do.
        type: dict
        required: true
      object:
        description: An object that this collection keeps beside the release, by C(apiVersion), C(kind) and C(metadata).
        type: dict
        required: true
  charts:
    description: Charts to look for on this machine.
    type: list
    elements: dict
    default: []
    suboptions:
      ref:
        description: A folder, an archive (C(.tgz)), an address (V(oci://) or V(https://)), or a name in O(charts[].repository).
        type: str
        required: true
      version:
        description: Version of the chart.
        type: str
        default: ""
      repository:
        description: Address of the repository.
        type: str
        default: ""
  objects:
    description: Objects beside the releases, by C(apiVersion), C(kind) and C(metadata). RV(objects) tells whose they are.
    type: list
    elements: dict
    default: []
  secrets:
    description:
      - Names of Secrets in O(namespace). RV(secret_digests) has hashes of their values, so that a content can be compared unseen.
    type: list
    elements: str
    default: []
  keys:
    description:
      - Keys that Secrets in O(namespace) should have, as C(secret) and C(key).
      - RV(missing) names those that are not there.
    type: list
    elements: dict
    default: []
  authorities:
    description: Names of Secrets in O(namespace) with a certificate. RV(authorities) has what it is verified by.
    type: list
    elements: str
    default: []
  kinds:
    description: Kinds of objects, as C(apiVersion) and C(kind). RV(unknown) has those that the cluster does not know.
    type: list
    elements: dict
    default: []
  running:
    description: Workloads of the whole cluster to look for. RV(running) names them.
    type: dict
    suboptions:
      kind:
        description: Kind of the workloads.
        type: str
        choices: [Deployment, StatefulSet]
        required: true
      selector:
        description: A selector of labels.
        type: str
        default: ""
      argument:
        description: An argument of a program that they run.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Look at the monitoring releases
  flaskops.observability.release_info:
    context: staging
    namespace: monitoring
    releases: [kube-prometheus-stack, blackbox-exporter]
"""

RETURN = r"""
namespace:
  description: The namespace object without its managed fields; empty where it does not exist.
  returned: success
  type: dict
releases:
  description:
    - For each release V(status), as Helm names it, or V(absent); and V(revision), V(age) in seconds, V(deployed) as a date,
      V(chart), V(chart_version), V(values) without the credentials among them, V(digest) of its templates,
      and whether it is V(marked) as this collection's.
  returned: success
  type: dict
foreign:
  description: For each release that is there and is somebody else's, its chart, revision and date in words.
  returned: success
  type: dict
  sample: {"kube-prometheus-stack": "chart kube-prometheus-stack 88.5.3, revision 4 of 2026-11-28 09:14 UTC"}
neighbour:
  description: The name of one more release in O(namespace), whoever made it; empty where O(releases) are all.
  returned: success
  type: str
charts:
  description: For each of O(charts) its folder, name and version; an empty folder where it has to be pulled first.
  returned: success
  type: list
  elements: dict
objects:
  description:
    - Those of O(objects) that exist, as they were given.
      V(ours) carry the label C(app.kubernetes.io/managed-by=flaskops), V(others) do not. V(missing) has those that do not exist.
    - V(addresses) has the address of each Service among them that a load balancer gave one, by its name.
  returned: success
  type: dict
monitoring:
  description: Whether the cluster knows the kinds ServiceMonitor and PrometheusRule.
  returned: success
  type: bool
monitoring_labels:
  description:
    - The labels that a ServiceMonitor in O(namespace) needs, so that the cluster's Prometheus takes it.
    - Empty where it needs none, or where none can do it.
  returned: success
  type: dict
missing:
  description: Those of O(keys) that are not there, as they were given.
  returned: success
  type: list
  elements: dict
authorities:
  description:
    - For each Secret of O(authorities) that has one, its C(ca.crt), or its C(tls.crt) where a certificate came without.
  returned: success
  type: dict
unknown:
  description: Those of O(kinds) that the cluster does not know, as they were given.
  returned: success
  type: list
  elements: dict
running:
  description: The workloads that O(running) asks for, as namespace and name.
  returned: success
  type: list
  elements: str
secret_digests:
  description: For each of O(secrets) that exists, the SHA-256 of each key's value.
  returned: success
  type: dict
"""
