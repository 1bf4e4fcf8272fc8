# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long verify looks for dead rules among 500: `python -m tests.bench.rules`.

A real Prometheus on loopback with the series of a healthy cluster and rules of which each asks for something else; no cluster.
Each request takes as much longer as one that goes through a cluster's API server.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from . import common  # which knows where the collection is

# isort: split
from ansible_collections.flaskops.observability.plugins.module_utils.verify.dead import LoadedRule, RuleJudge, Standing

from tests.healthy import PAGE, many_rules, scraped, series_of
from tests.prometheus import Prometheus

RUNS, RULES, APPS, GOAL = 5, 500, 20, 10.0  # goal in seconds
WAY = 0.025  # seconds that the way to Prometheus and back takes


def page(apps: int) -> str:
    """The series of so many applications; each metric in one piece."""
    lines = []
    for line in PAGE.splitlines():
        several = apps if "web" in line and not line.startswith("#") else 1
        lines += [re.sub(r"\bweb\b", f"web-{number}", line) for number in range(several)]
    return "\n".join(lines) + "\n"


def look(prometheus: Prometheus, given: list[LoadedRule]) -> tuple[float, int, Counter[str]]:
    """The seconds and the requests of one look, and how many rules are what."""
    asked = Counter[str]()
    get = prometheus.get

    def counted(path: str, **query: str) -> object:
        asked[path] += 1
        time.sleep(WAY)
        return get(path, **query)

    prometheus.get = counted  # type: ignore[method-assign]
    try:
        began = time.perf_counter()
        found = RuleJudge(series_of(prometheus), given).of_rules()
        return time.perf_counter() - began, asked.total(), Counter(Standing(verdict.state).name.lower() for verdict in found)
    finally:
        del prometheus.get  # type: ignore[attr-defined]


def main() -> int:
    given, rows = many_rules(RULES), []
    for name, apps in {"as they should be": APPS, "of applications that are not there": 1}.items():
        with tempfile.TemporaryDirectory() as folder, scraped(Path(folder), {}, page(apps)) as prometheus:
            looks = [look(prometheus, given) for _ in range(RUNS)]
        _seconds, requests, found = looks[-1]
        remark = f"median of {RUNS}; {requests} requests; {', '.join(f'{count} {what}' for what, count in sorted(found.items()))}"
        seconds = statistics.median(took for took, _requests, _found in looks)
        rows.append([f"{len(given)} rules {name}", f"{seconds:.1f} s", f"at most {GOAL:.0f} s", remark])
    print(f"Dead rules, {WAY * 1000:.0f} ms away ({common.machine()})\n")
    print(common.table(["step", "measured", "goal", "remarks"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
