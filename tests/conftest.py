# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of `make test`, with the failed tests and the slowest ones, and what `make test-long` goes on from."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

# A file that names the tests which have passed, one a line: they are not run again.
PASSED = os.environ.get("FLASKOPS_PASSED", "")


class Failures:
    """Keeps each failure when it happens, so that a run that takes long need not end before its first one can be read."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.keep(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.keep(report)

    def keep(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            _keep(self.config, "failures.txt", [f"{report.nodeid}: {_cause(report)}"])


class Passed:
    """Adds each test to a file when it has passed and has put everything back."""

    def __init__(self, file: Path) -> None:
        self.file, self.called = file, ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.called = report.nodeid if report.passed else ""
        elif report.when == "teardown" and report.passed and self.called == report.nodeid:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\n")

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        known = set(self.file.read_text(encoding="utf-8").splitlines()) if self.file.exists() else set()
        done = [item for item in items if item.nodeid in known]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in known]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a process of xdist, whose reports the main one has too
        config.pluginmanager.register(Failures(config))
        if PASSED:
            config.pluginmanager.register(Passed(Path(PASSED)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Count what could not be shown, by the reason, and keep the durations for the Makefile."""
    if hasattr(config, "workerinput"):
        return  # a process of xdist, whose reports the main one has too
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] += report.duration
    _keep(config, "durations.txt", [f"{taken:7.1f} {name}" for name, taken in seconds.items()])
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number} skipped: {reason}")


def _keep(config: pytest.Config, name: str, lines: list[str]) -> None:
    """Add lines to a file of pytest's cache, which the Makefile empties."""
    path = config.rootpath / ".pytest_cache" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _cause(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What a test failed with, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else report.longrepr).split())[:300]
