# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application behind an autoscaler under 100 requests a second: nothing that its pods go through costs a request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.stream import stream

from tests.bench.load import Load, Workload, evicted, rolled_out
from tests.harness import LONG, ROOT, Cluster, playbook, until

pytestmark = LONG
NAME = "busy"
FEW, MANY = 2, 6
APP = {
    "name": NAME,
    "source": str(ROOT / "app"),
    "service_type": "LoadBalancer",
    # 100 millicores for each pod: twice what 100 requests/s need of two pods, a third of what BURN takes on a busy machine.
    "autoscale": {"min": FEW, "max": MANY, "cpu": 200},
    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
}
# Work for a processor until a file appears, for ten minutes at most; the exec that starts it ends at once.
BURN = """
import os, time
if os.fork():
    raise SystemExit
os.setsid()
for number in range(3):
    os.close(number)
end = time.monotonic() + 600
while time.monotonic() < end and not os.path.exists('/tmp/cool'):
    spun = time.monotonic() + 0.075
    while time.monotonic() < spun:
        pass
    time.sleep(0.025)
"""
COOL = "open('/tmp/cool', 'w').close()"


class Busy(Workload):
    """The application of this test."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.api, NAME, NAME, timeout=180)
        self.cluster = cluster
        self.scaling = client.AutoscalingV2Api(cluster.api)

    def keep(self, seconds: int) -> None:
        """Have the autoscaler keep pods for so long that it no longer needs: an administrator's own addition."""
        body = {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": seconds}}}}
        self.scaling.patch_namespaced_horizontal_pod_autoscaler(NAME, NAME, body, field_manager="administrator")

    def kept(self) -> int:
        found = self.scaling.read_namespaced_horizontal_pod_autoscaler(NAME, NAME)
        return int(found.spec.behavior.scale_down.stabilization_window_seconds)

    def within(self, pods: list[str], code: str) -> None:
        """Run Python code in pods."""
        for pod in pods:
            # The stream changes its client for good, so it has one of its own.
            core = client.CoreV1Api(client.ApiClient(self.cluster.api.configuration))
            call = {"container": NAME, "command": ["python", "-c", code], "stdout": True, "stderr": True}
            told = stream(core.connect_get_namespaced_pod_exec, pod, NAME, **call)
            assert told == "", told

    def replicas(self) -> int:
        return int(self.cluster.apps.read_namespaced_deployment(NAME, NAME).spec.replicas)

    def scaled(self, replicas: int, seconds: float) -> None:
        """Wait until the autoscaler has asked for so many pods and they are ready."""
        until(lambda: self.replicas() == replicas, seconds, f"the autoscaler's {replicas} replicas")
        self.wait()


def options(**more: Any) -> dict[str, Any]:
    return {"flask_apps": [APP], **more}


@pytest.fixture(scope="module")
def busy(cluster: Cluster) -> Iterator[Busy]:
    assert playbook("site.yml", "--tags", "cluster,app", extra=options(local_cluster_metrics_server=True)).changed > 0
    workload = Busy(cluster)
    workload.keep(240)

    def measured() -> bool:
        status = workload.scaling.read_namespaced_horizontal_pod_autoscaler(NAME, NAME).status
        return any(each.container_resource for each in status.current_metrics or [])

    until(measured, 180, "a metric that the autoscaler has read")
    workload.wait()
    yield workload
    playbook("site.yml", "--tags", "app", extra={"flask_apps": [{**APP, "state": "absent"}]})
    playbook("site.yml", "--tags", "cluster")


def test_a_rollout_and_evictions_lose_no_request(busy: Busy) -> None:
    with Load(busy.url, rate=50) as load:
        rolled_out(load, busy)
        evicted(load, busy)
    print(load.report())
    assert load.lost == 0, load.report()


def test_from_two_pods_to_six_and_back_loses_no_request(busy: Busy) -> None:
    with Load(busy.url, rate=50) as load:
        busy.scaled(FEW, 240)
        few = busy.pods()
        load.phase("to six")
        busy.within(few, BURN)
        busy.scaled(MANY, 300)
        load.phase("six")
        # A run beside the autoscaler leaves it its pods, and the administrator what is his.
        assert playbook("site.yml", "--tags", "cluster,app", extra=options(local_cluster_metrics_server=True)).changed == 0
        assert (busy.replicas(), busy.kept()) == (MANY, 240)
        load.phase("back to two")
        busy.keep(0)
        busy.within(few, COOL)
        busy.scaled(FEW, 240)
    print(load.report())
    assert load.lost == 0, load.report()
