# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shared cluster of the integration tests."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.harness import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that `molecule converge` has made."""
    path = os.environ.get("CLUSTER_KUBECONFIG")
    assert path, "CLUSTER_KUBECONFIG is not set; run these tests by `molecule test`."
    return Cluster(Path(path))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Count what could not be shown, by the reason, and keep the failures for the Makefile."""
    failed = [report for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])]
    if failed:
        lines = [f"{report.nodeid}: {_cause(report)}\n" for report in failed]
        path = config.rootpath / ".pytest_cache/failures.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number} left out: {reason}")


def _cause(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What a test failed with, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else report.longrepr).split())[:300]
