# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Bring a Helm release to a state
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Installs, upgrades, repairs or removes a release of Helm 3 or Helm 4.
  - Before anything is changed, Helm renders the chart, and the API server tries the objects of a release that is there.
  - Compares status, chart, version, values and the chart's content with what Helm stores, and each object with the live one by a
    server-side dry run. So an object that was changed by hand is found and put back, which C(helm upgrade) does not do for all.
  - Forgets a revision that Helm began and never finished, so that the next one goes on from the revision before it.
  - Refuses a release of somebody else's by name. A release of this collection carries the label C(flaskops/managed=true) on what
    Helm stores of it.
  - Sends only reads and dry runs where nothing is to be done.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    details:
      - Shows names and versions, not values.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  name:
    description: Name of the release.
    type: str
    required: true
  namespace:
    description: Namespace of the release. It must exist before a first installation.
    type: str
    required: true
  state:
    description:
      - V(absent) removes the release and returns when its objects are gone. A release of somebody else's stays.
    type: str
    choices: [present, absent]
    default: present
  chart:
    description:
      - The chart. One that is not a folder is kept in C(~/.cache/flaskops/charts).
      - Required with O(state=present).
    type: dict
    suboptions:
      ref:
        description: A folder, an archive (C(.tgz)), an address (V(oci://) or V(https://)), or a name in O(chart.repository).
        type: str
        required: true
      version:
        description: Version of the chart; empty for the newest at the time when it is first pulled.
        type: str
        default: ""
      repository:
        description: Address of the repository.
        type: str
        default: ""
  values:
    description: The release's values. They reach Helm by its standard input, and no message shows a credential in them.
    type: dict
    default: {}
  adopt:
    description: Take over a release of this name that somebody else made.
    type: bool
    default: false
  signs:
    description: What tells a release that this collection made before it marked releases; one of them is enough.
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
  definitions:
    description:
      - Folder of YAML files with CustomResourceDefinitions, which are applied server-side before the release.
        Helm installs those of a chart once and never upgrades them.
      - A definition on the cluster that is newer stays as it is, with a warning.
    type: path
  version_annotation:
    description: Annotation that holds the version of a definition.
    type: str
    default: operator.prometheus.io/version
  skip_crds:
    description: Do not let Helm install the definitions in the chart's folder C(crds).
    type: bool
    default: false
  same_chart:
    description:
      - Refuse to turn a release into one of another chart. Charts label their pods differently, and a selector can't be changed.
    type: bool
    default: false
  wait:
    description:
      - Return when the workloads have rolled out, and the Prometheus operator has taken note of its objects.
        Where one can't, the message holds the pods' reasons, the last events and the last log lines.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that Helm and each workload may take at most.
      - A revision that is unfinished for longer counts as given up.
    type: int
    default: 300
  binary:
    description: Path of Helm; empty for the one in E(PATH).
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Install a chart of a repository
  flaskops.observability.release:
    context: staging
    name: elastic-operator
    namespace: elastic-system
    chart:
      ref: eck-operator
      repository: https://helm.elastic.co
      version: 3.4.1

- name: Take over a release that was installed by hand
  flaskops.observability.release:
    context: staging
    name: loki
    namespace: loki
    chart: {ref: ./charts/loki-6.0.0.tgz}
    adopt: true
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: success
  type: list
  elements: str
  sample: ["repair Deployment monitoring/blackbox-exporter: spec.replicas"]
needed:
  description: Whether something is to be done, or waited for.
  returned: success
  type: bool
helm_needed:
  description: Whether Helm is needed and this machine has none. Then check mode has not seen whether the chart takes the values.
  returned: success
  type: bool
release:
  description: Status as Helm names it, or V(absent); and revision, date, chart and version, and whether it is marked.
  returned: success
  type: dict
foreign:
  description: With O(state=absent), chart, revision and date of a release of somebody else's, which stays; else empty.
  returned: success
  type: str
  sample: "chart loki 6.0.0, revision 4 of 2026-11-28 09:14 UTC"
drift:
  description: Objects that differed from what the release says, with the paths.
  returned: success
  type: list
  elements: str
workloads:
  description: The Deployments, DaemonSets and StatefulSets that the release leads to, as they were found, with C(ready).
  returned: success
  type: list
  elements: dict
requests:
  description: How many reads, dry runs and writes were sent, without those of Helm.
  returned: success
  type: dict
"""
