# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link to the dead man's switch: through a fake stack, and to the fake provider at its far end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.modules import TOKEN_VARIABLES
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import alert_path, dead_mans_switch

from tests.fakes import Clock, UptimeRobotFake

from .test_verify_stack import OPERATOR, PROMISING, SWITCH, FakeStack, run

LINK = dead_mans_switch.LINK
TOKEN = "secret-token"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SETTLE", 0)
    monkeypatch.setattr(alert_path, "PAUSE", 0.01)


def stack(**attributes: Any) -> FakeStack:
    """A whole stack with a dead man's switch, and what is otherwise with it."""
    made = FakeStack(**{f"{OPERATOR}/prometheuses": (200, {"items": [PROMISING]})})
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def watchdog(*receivers: str, **status: Any) -> list[dict[str, Any]]:
    return [{"status": {"state": "active", **status}, "labels": {}, "receivers": [{"name": name} for name in receivers]}]


def test_one_that_was_never_promised_is_skipped() -> None:
    found = run(FakeStack())[LINK]
    assert (found["status"], "kube_prometheus_stack_dead_mans_switch" in found["evidence"]) == ("skipped", True)


def test_watchdog_arrives() -> None:
    found = run(stack())[LINK]
    assert (found["status"], found["cause"]) == ("ok", "")
    assert "5 notifications taken and 0 not in 300 s" in found["evidence"] and "Watchdog" in found["query"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"empty": ("ALERTS{alertname=",)}, "its rule is gone"),
        ({"watchdog": []}, "Alertmanager does not have it"),
        ({"watchdog": watchdog("none", "team")}, "lead Watchdog to none, team, and not to dead-mans-switch"),
        ({"watchdog": watchdog("dead-mans-switch", state="suppressed", silencedBy=["s-1"])}, "s-1"),
        ({"empty": ("requests_total",)}, "nobody counts"),
        ({"asked": "5", "refused": "5"}, "in 300 s the receiver dead-mans-switch has taken no"),
        ({"asked": "0"}, "in 300 s the receiver dead-mans-switch has taken no"),
        ({"asked": "9", "refused": "6"}, "refused or missed more notifications"),
    ],
)
def test_where_watchdog_ends_it_is_said(broken: dict[str, Any], words: str) -> None:
    found = run(stack(**broken))[LINK]
    assert found["status"] == "failed" and words in found["cause"]
    assert found["next_command"].startswith("kubectl") and found["query"]


@pytest.mark.parametrize(("cluster", "words"), [("a", ""), ("b", "Alertmanager does not have it")])
def test_the_watchdog_of_another_prometheus_is_another_one(cluster: str, words: str) -> None:
    (alert,) = watchdog("dead-mans-switch")
    made = stack(watchdog=[{**alert, "labels": {"cluster": "a"}}])
    made.config = f"global: {{external_labels: {{cluster: {cluster}, prometheus_replica: '0'}}}}"
    found = run(made)[LINK]
    assert (found["status"], words in found["cause"]) == ("failed" if words else "ok", True)


def test_a_promise_without_an_alertmanager_is_broken() -> None:
    made = stack()
    made.answers[f"{OPERATOR}/namespaces/monitoring/alertmanagers"] = (200, {"items": []})
    found = run(made)[LINK]
    assert found["status"] == "failed" and "no Alertmanager" in found["cause"]


def test_one_refusal_among_many_notifications_is_no_fault() -> None:
    assert run(stack(asked="5", refused="1"))[LINK]["status"] == "ok"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[UptimeRobotFake]:
    monkeypatch.delenv(TOKEN_VARIABLES["uptimerobot"], raising=False)
    with UptimeRobotFake(token=TOKEN, clock=Clock()) as fake:
        yield fake


def heartbeat(far: UptimeRobotFake, **more: Any) -> int:
    """The heartbeat that the role has made."""
    contact = {"alertContactId": far.add_contact("On call"), "threshold": 0, "recurrence": 0}
    given = {"type": "HEARTBEAT", "gracePeriod": 60, "assignedAlertContacts": [contact], **more}
    return int(far.seed(1, name=SWITCH["heartbeat"]["name"], tags=["flaskops-heartbeat-test-one"], **given)[0])


def ask(far: UptimeRobotFake, token: str = TOKEN, **options: Any) -> dict[str, Any]:
    given = {"provider": "uptimerobot", "api_token": token, "api_url": far.url}
    found: dict[str, Any] = run(stack(), dead_mans_switch=given, **options)[LINK]
    assert TOKEN not in str(found)
    return found


def test_the_far_end_is_up_as_long_as_it_hears(far: UptimeRobotFake) -> None:
    key = heartbeat(far)
    silent = ask(far)
    assert (silent["status"], "never had a heartbeat" in silent["cause"]) == ("failed", True)
    with urlopen(far.checks[key]["url"], timeout=10):
        pass
    well = ask(far)
    assert (well["status"], "uptimerobot has it up" in well["evidence"]) == ("ok", True)
    far.clock.advance(361)
    assert "is down at uptimerobot" in ask(far)["cause"]
    far.edit(key, paused=True)
    assert "is paused at uptimerobot" in ask(far)["cause"]
    far.remove(key)
    assert "is missing at uptimerobot" in ask(far)["cause"]


def test_a_far_end_that_alerts_nobody_is_none(far: UptimeRobotFake) -> None:
    key = heartbeat(far, assignedAlertContacts=[])
    with urlopen(far.checks[key]["url"], timeout=10):
        pass
    assert "alerts nobody" in ask(far)["cause"]
    assert ask(far, notified_severities=[])["status"] == "ok"


def test_a_far_end_that_can_not_be_asked_is_not_well(far: UptimeRobotFake) -> None:
    heartbeat(far)
    refused = ask(far, "wrong")
    assert refused["status"] == "failed" and "401" in refused["cause"] and "wrong" not in str(refused)
    assert TOKEN_VARIABLES["uptimerobot"] in ask(far, "")["cause"]


def test_where_the_cluster_is_broken_the_far_end_is_not_asked(far: UptimeRobotFake) -> None:
    given = {"provider": "uptimerobot", "api_token": TOKEN, "api_url": far.url}
    assert run(stack(watchdog=[]), dead_mans_switch=given)[LINK]["status"] == "failed"
    assert far.requests == []
