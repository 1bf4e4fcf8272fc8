# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine, Prometheus, the alert inbox and the nodes agree on the time."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

from ...kube.transport import ApiError
from ...monitoring.paths import service_path
from .. import queries
from ..notification import INBOX
from ..result import Result, failed, ok
from ..run import Run

SKEW = 10.0  # seconds that two clocks may differ


def look(run: Run) -> list[Result]:
    stack = run.stack
    now, of_nodes = queries.filled("now"), queries.filled("clocks_of_nodes")
    query = f"PromQL {now}; PromQL {of_nodes}; the alert inbox's time"
    apart: dict[str, float] = {}
    # First, since for this answer somebody may have to be waited for.
    told = stack.query(of_nodes)

    def measure(what: str, ask: Callable[[], float]) -> None:
        before = time.time()
        there = ask()
        # The answer was made at some moment in between.
        after = time.time()
        apart[what] = 0.0 if before - 1 <= there <= after + 1 else there - (before + after) / 2

    measure("Prometheus", lambda: float(stack.query(now)[1]))
    try:
        path = f"{service_path(stack.namespace, INBOX, 80)}/alerts.json?since={int(time.time() * 1000)}"
        measure("the alert inbox", lambda: datetime.datetime.fromisoformat(run.get(path)["now"]).timestamp())
    except ApiError:
        pass  # there is none, or the link of the alert path says so
    skewed = judge(apart, told)
    largest = max(map(abs, apart.values()), default=0.0)
    nodes = f" and {len(told)} nodes" if told else "; no node tells Prometheus its time"
    evidence = f"at most {largest:.0f} s between this machine, {', '.join(apart)}{nodes}"
    if skewed:
        cause = "; ".join(f"the clock of {what} is {abs(s):.0f} s {'ahead' if s > 0 else 'behind'}" for what, s in skewed.items())
        return [failed("clocks", "clocks differ", cause, query, stack.command("get", "nodes", "-o", "wide"))]
    return [ok("clocks", evidence, query)]


def judge(apart: dict[str, float], told: list[dict[str, Any]]) -> dict[str, float]:
    """The clocks that are wrong, and the seconds by which they are ahead.

    :param apart: those of the cluster, seen from this machine. :param told: the series of the nodes' clocks, behind Prometheus'.
    """
    skewed = {what: seconds for what, seconds in apart.items() if abs(seconds) > SKEW}
    if apart and len(skewed) == len(apart) and max(apart.values()) - min(apart.values()) < SKEW:
        skewed = {"the cluster, seen from this machine,": max(apart.values(), key=abs)}
    for series in told:
        seconds = -float(series["value"][1])
        if abs(seconds) > SKEW:
            skewed[f"node {series['metric'].get('node') or series['metric'].get('instance', '?')}"] = seconds
    return skewed
