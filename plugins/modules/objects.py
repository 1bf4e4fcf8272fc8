# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: objects
short_description: Bring a list of Kubernetes objects to a state
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Applies objects by server-side apply with the field manager C(flaskops), after the API server has tried all of them.
    An object that is refused leaves none of the others behind.
  - Sends a write only for what would change. Removes what the same owner applied before and no longer wants.
  - Refuses objects of somebody else, by name. A namespace of somebody else is used as it is.
  - Leaves the number of pods of a Deployment or StatefulSet to the autoscaler that targets it.
    A PodDisruptionBudget whose workload is in the list with one pod at most is not made.
  - A Job is applied before the others, with the ServiceAccounts, Secrets and ConfigMaps that it may need, and waited for until it
    has succeeded; C(activeDeadlineSeconds) is its time. Where it fails, nothing that follows is touched, and the next run makes
    it again.
  - A pods' template with the annotation C(flaskops/credentials-version), which holds the name of a Secret in the list, gets the
    Secret's version in its place, so that a change of the Secret rolls the pods out.
  - Shows nothing that a Secret holds, neither in its result and its differences nor in an error.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  state:
    description:
      - With V(absent) all objects of O(owner) are removed. It returns when they are gone.
    type: str
    choices: [present, absent]
    default: present
  owner:
    description:
      - Whose objects these are, such as a role and a name. The label C(flaskops/owner) of each object says it.
    type: str
    required: true
  definitions:
    description:
      - The objects; a C(List) stands for what it holds. All but those of the whole cluster name their namespace.
      - A Namespace among them is made where it is missing, labelled where it is ours, and used as it is where it is
        somebody else's. A namespace that is not among them must exist.
      - With O(state=absent) a Namespace is removed where it is ours, nothing else runs in it, no volume is claimed in it, and
        no Helm release is in it.
      - One with the annotation C(flaskops/made-once) is made where it is missing, and stays as it is.
    type: list
    elements: dict
    default: []
  known:
    description:
      - Objects that this owner may have applied in another run, by C(apiVersion), C(kind) and C(metadata).
        They are removed where they are ours and not wanted.
      - Their kinds and namespaces are searched for the label of the owner, as are those of O(definitions).
    type: list
    elements: dict
    default: []
  data:
    description:
      - What others make of these objects and leave behind, such as the volume claims of a StatefulSet.
      - With O(state=absent) it is removed, whoever made it, so name it so that it is nobody else's.
    type: list
    elements: dict
    default: []
    suboptions:
      apiVersion:
        description: Version of the API, such as V(v1).
        type: str
        required: true
      kind:
        description: Kind of the objects.
        type: str
        required: true
      namespace:
        description: Namespace of the objects.
        type: str
      name:
        description: A regular expression that the whole name matches.
        type: str
      selector:
        description: A selector of labels.
        type: str
      holds:
        description: What the object says, as a part of it.
        type: dict
  releases:
    description:
      - Names of Helm releases that were removed before. In check mode they are still there, and their namespace is taken for
        empty all the same.
    type: list
    elements: str
    default: []
  readers:
    description: Pods that read Secrets of the list. Where one has changed, kubelet brings it to them at once.
    type: list
    elements: dict
    default: []
    suboptions:
      namespace:
        description: Namespace of the pods.
        type: str
        required: true
      selector:
        description: A selector of the pods' labels.
        type: str
        required: true
  prune:
    description: Whether what is no longer wanted is removed.
    type: bool
    default: true
  adopt:
    description: Whether objects of somebody else with these names are taken over.
    type: bool
    default: false
  secrets:
    description: Secrets that must be there before anything is applied. One that the account may not read is not checked.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the Secret.
        type: str
        required: true
      namespace:
        description: Namespace of the Secret.
        type: str
        required: true
      keys:
        description: Keys that it must have.
        type: list
        elements: str
        default: []
      type:
        description: Type that it must have, such as V(kubernetes.io/tls); empty for any.
        type: str
        default: ""
  labels:
    description: Labels of the ConfigMap in which the run writes down what it has applied; the definitions have their own. In a
        role it is the option of that name, which an admission policy may ask for.
    type: dict
    default: {}
  annotations:
    description: Annotations of that ConfigMap.
    type: dict
    default: {}
  optional_namespaces:
    description: Namespaces whose objects are skipped where the namespace is missing, such as that of Grafana.
    type: list
    elements: str
    default: []
  monitoring:
    description:
      - Whether objects of C(monitoring.coreos.com) are applied.
        V(auto) skips those whose kind the cluster does not know, V(always) refuses them.
    type: str
    choices: [auto, always, never]
    default: auto
  monitoring_labels:
    description:
      - Labels that are added to objects of C(monitoring.coreos.com). V(auto) finds those that the cluster's Prometheus selects.
    type: raw
    default: auto
  wait:
    description:
      - Whether to wait until the workloads among the objects have rolled out. A Job is waited for in any case.
      - It fails early, with the reasons, where they can't.
    type: bool
    default: true
  wait_timeout:
    description: >-
      Seconds to wait at most, for a rollout and for what is removed. To a rollout is added how long its pods, one after another,
      may take to start by their startup probes.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Apply an application
  flaskops.observability.objects:
    context: staging
    owner: shop
    definitions: "{{ lookup('ansible.builtin.template', 'objects.yml.j2') | from_yaml_all | select | list }}"

- name: Remove it
  flaskops.observability.objects:
    context: staging
    state: absent
    owner: shop
    known:
      - {apiVersion: apps/v1, kind: Deployment, metadata: {name: shop, namespace: shop}}
      - {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be, with kind, namespace and name.
  type: list
  elements: str
  returned: success
  sample: [changed Deployment shop/shop]
not_applied:
  description: What is not applied, and why.
  type: list
  elements: str
  returned: success
notes:
  description: What else is worth saying, such as a number of pods that an autoscaler sets.
  type: list
  elements: str
  returned: success
requests:
  description: How many requests were sent that read, that tried, and that wrote.
  type: dict
  returned: success
  sample: {reads: 12, dry_runs: 6, writes: 0}
replicas:
  description: Numbers of pods that are wanted, of the newest revision, ready and available.
  returned: when a workload, but no Job, does not get ready
  type: dict
pods:
  description: One line for each pod that is not ready, with its reason.
  returned: when a workload does not get ready
  type: list
  elements: str
events:
  description: The last events of the workload and its pods, oldest first.
  returned: when a workload does not get ready
  type: list
  elements: str
log:
  description: The last log lines of the container that fails, without what the Secrets hold that its pod reads.
  returned: when a workload does not get ready
  type: list
  elements: str
"""
