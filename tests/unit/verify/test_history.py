# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when a row of a verification that is repeated has its status."""

from __future__ import annotations

from typing import Any

from ansible_collections.flaskops.observability.plugins.module_utils.verify.history import CHANGES, History


def results(**statuses: str) -> list[dict[str, Any]]:
    return [{"link": link, "status": status} for link, status in statuses.items()]


def test_a_row_that_stays_keeps_its_time() -> None:
    history = History()
    for at in (10.0, 20.0, 30.0):
        history.add(results(rules="ok"), at)
    assert history.rows == {"rules": {"status": "ok", "since": 10.0, "before": "", "lasted": 0.0}}
    assert history.changes == []


def test_a_row_that_changes_says_what_it_was_and_how_long() -> None:
    history = History()
    for at, status in ((10.0, "ok"), (20.0, "ok"), (30.0, "failed"), (40.0, "failed"), (50.0, "ok")):
        history.add(results(rules=status, node="ok"), at)
    assert history.rows["rules"] == {"status": "ok", "since": 50.0, "before": "failed", "lasted": 20.0}
    assert history.rows["node"]["since"] == 10.0
    assert history.changes == [
        {"at": 50.0, "link": "rules", "before": "failed", "after": "ok"},
        {"at": 30.0, "link": "rules", "before": "ok", "after": "failed"},
    ]


def test_a_row_that_goes_and_one_that_comes_are_changes_after_the_first_run() -> None:
    history = History()
    history.add(results(loki="ok"), 10.0)
    history.add(results(backend="skipped"), 20.0)
    assert history.rows == {"backend": {"status": "skipped", "since": 20.0, "before": "", "lasted": 0.0}}
    assert history.changes == [
        {"at": 20.0, "link": "backend", "before": "", "after": "skipped"},
        {"at": 20.0, "link": "loki", "before": "ok", "after": ""},
    ]


def test_only_the_newest_changes_are_kept() -> None:
    history = History()
    for at in range(CHANGES + 10):
        history.add(results(rules=("ok", "failed")[at % 2]), float(at))
    assert [change["at"] for change in history.changes] == [float(at) for at in range(CHANGES + 9, 9, -1)]
