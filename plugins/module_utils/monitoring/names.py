# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the monitoring objects of an application, verify and the drill call the same.

Verify also runs where the rule files are not: nothing is read here.
"""

from __future__ import annotations

PART_OF = {"app.kubernetes.io/part-of": "flaskops-app-monitoring"}
OURS = {"app.kubernetes.io/managed-by": "flaskops", **PART_OF}
# On each object of an application: all that were installed with it, so that verify can tell what is gone, and the Prometheus
# that they are for, so that verify and drill ask that one.
PARTS = "flaskops/parts"
# On a PrometheusRule: the alerts that it was installed with.
ALERTS = "flaskops/alerts"

# Annotations of an alert rule, from which the drill computes when the alert must fire: what its expression compares with, the
# range that it looks back, and whose it is, as namespace and name.
THRESHOLD, WINDOW, APPLICATION = "threshold", "window", "application"
# Another one, of anybody's alert: why it is meant to have no series, so that verify does not call it dead.
QUIET = "quiet"

# A Service with this prefix in its name, made by verify, fires VerifyTestAlert: every kube-state-metrics counts Services.
TEST_SERVICE = "flaskops-verify-"
# Where it is followed by this the alert is critical, and goes on to whoever is notified of such alerts.
NOTIFY = "notify-"
# A label that no alert has but those of verify_receivers, so that each of them has a group of its own, which waits for no other.
VERIFY_GROUP = "flaskops_verify"


def job_of_probe(name: str) -> str:
    """The job label of an application's health probes; not that of its metrics, or their ``up`` would mix."""
    return f"{name}-health"
