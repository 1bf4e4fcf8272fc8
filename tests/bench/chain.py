# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time, the processor's time and the requests of one verification; `python -m tests.bench.noop` has it in its table."""

from __future__ import annotations

import statistics
import time
from typing import Any

from . import common  # which knows where the collection is

# isort: split
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Target

GOAL = 12  # seconds of the chain, without the test alert's own way


class Counted(KubeCluster):
    """A cluster that counts its requests."""

    requests = 0

    def _open(self, *words: Any, **options: Any) -> Any:
        self.requests += 1
        return super()._open(*words, **options)


def follow() -> tuple[float, float, float, int]:
    """The seconds of the chain, of its test alert, and of the processor, and the number of requests."""
    target = Target(kubeconfig=str(common.KUBECONFIG), context=common.HOST, notified_severities=[])
    cluster = Counted(api_client(target.kubeconfig, target.context))
    began = time.process_time()
    results, _url = verify(cluster, target)
    used = time.process_time() - began
    broken = [f"{result['link']} ({result['cause']})" for result in results if result["status"] == "failed"]
    if broken:
        raise common.StepFailed(f"verify finds broken links: {', '.join(broken)}.")
    seconds = {result["link"]: float(result["seconds"]) for result in results}
    alert = seconds.pop("alert path")
    return max(seconds.values()), alert, used, cluster.requests


def rows(runs: int) -> list[list[str]]:
    """What so many verifications took."""
    chain, alert, used, requests = zip(*(follow() for _ in range(runs)), strict=True)
    remarks = f"median of {runs}, at most {max(chain):.1f} s; {statistics.median(requests):.0f} requests"
    return [
        ["verify, whole chain", f"{statistics.median(chain):.1f} s", f"at most {GOAL} s", remarks],
        ["  its test alert", f"{statistics.median(alert):.1f} s", "-", "beside the chain"],
        ["  processor", f"{statistics.median(used):.1f} s", "-", ""],
    ]
