# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: chart
short_description: Have a Helm chart on this machine, and see which images it runs
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Finds a chart in a folder, or keeps it in C(~/.cache/flaskops/charts); nothing of a cluster changes.
  - It does not fail where the chart can't be obtained, but says why.
  - This is an action that runs where Ansible does. It refuses a host whose connection is not local.
extends_documentation_fragment:
  - flaskops.observability.cluster
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - Gets the chart in check mode too.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  kubeconfig:
    description: Not used.
  context:
    description: Not used.
  ref:
    description: A folder, an archive (C(.tgz)), an address (V(oci://) or V(https://)), or a name in O(repository).
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
  release:
    description: Name of the release for which O(values) are.
    type: str
    default: release
  namespace:
    description: Namespace of the release for which O(values) are.
    type: str
    default: default
  values:
    description: With these the chart is rendered, so that RV(images) are known.
    type: dict
  binary:
    description: Path of Helm; empty for the one in E(PATH).
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: See which images a chart needs
  flaskops.observability.chart:
    ref: oci://ghcr.io/prometheus-community/charts/kube-prometheus-stack
    version: 88.5.3
    values: {}
  register: chart
"""

RETURN = r"""
folder:
  description: Where the chart is; empty where it can't be obtained.
  returned: success
  type: str
reason:
  description: Why it can't be obtained, or does not take the values, in the words of Helm; else empty.
  returned: success
  type: str
name:
  description: Name of the chart.
  returned: when the chart is there
  type: str
version:
  description: Version of the chart.
  returned: when the chart is there
  type: str
app_version:
  description: Version of what the chart runs.
  returned: when the chart is there
  type: str
images:
  description:
    - For each image what runs it, by the values of the label C(app.kubernetes.io/name), else C(app); V(hook) is any hook.
      Hooks count, except those that only C(helm test) runs.
    - The names are full ones, as a node's C(ctr) takes them, so C(docker.io/library/busybox:latest) for C(busybox).
  returned: success
  type: dict
  sample: {"docker.io/grafana/grafana:13.2.0": ["grafana"]}
"""
