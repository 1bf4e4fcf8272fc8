# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead man's switch as the role writes it: a real Alertmanager sends Watchdog to a far end that keeps time."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring.receivers import FILES
from ansible_collections.flaskops.observability.plugins.module_utils.verify import queries
from ansible_collections.flaskops.observability.plugins.module_utils.verify.facts import samples
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.dead_mans_switch import ALERT, Seen, judge

from tests.alertmanager import started
from tests.evaluation import evaluate
from tests.fakes import UptimeRobotFake
from tests.harness import until

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/kube_prometheus_stack"
HEARTBEAT = {"provider": "uptimerobot", "api_token": "x", "environment_name": "Test 1"}
PREFIX = "kube_prometheus_stack_"
# What the link asks of them.
COUNTERS = tuple(queries.QUERIES[name].partition("increase(")[2].partition("{")[0] for name in ("switch_asked", "switch_refused"))


def written(folder: Path, switch: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What the role makes of its options: Alertmanager's configuration, the promise, and what is wrong with them."""
    given = {f"{PREFIX}{key}": value for key, value in {**options, "dead_mans_switch": switch}.items()}
    given["__kube_prometheus_stack_images"] = yaml.safe_load((ROOT / "images.yml").read_text())
    given["__kube_prometheus_stack_found"] = {"releases": {}, "foreign": {}}
    expressions = {
        "config": f"__{PREFIX}config",
        "values": f"__{PREFIX}values",
        "problems": f"__{PREFIX}checks | rejectattr('holds') | map(attribute='message') | list",
    }
    return evaluate(folder, expressions, given, ROLE)


def annotations(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["values"]["prometheus"].get("annotations") or {})


def watchdog(found: dict[str, Any]) -> dict[str, Any]:
    routes = yaml.safe_load(found["config"])["route"]["routes"]
    return dict(next(route for route in routes if route["matchers"] == [f'alertname="{ALERT}"']))


def test_without_one_nothing_is_promised(tmp_path: Path) -> None:
    found = written(tmp_path, {})
    assert (annotations(found), watchdog(found)["receiver"], found["problems"]) == ({}, "none", [])
    assert "dead-mans-switch" not in json.dumps(found)


@pytest.mark.parametrize(
    ("switch", "every", "secret"),
    [
        (HEARTBEAT, 60, "kube-prometheus-stack-dead-mans-switch/url"),
        ({"url": "https://ping.test/a", "interval": 120}, 30, "kube-prometheus-stack-dead-mans-switch/url"),
        ({"secret": {"name": "ours", "key": "ping"}, "interval": 3600}, 60, "ours/ping"),
    ],
)
def test_watchdog_is_sent_there_often_enough(tmp_path: Path, switch: dict[str, Any], every: int, secret: str) -> None:
    found = written(tmp_path, switch)
    assert found["problems"] == []
    promised = json.loads(annotations(found)["flaskops/dead-mans-switch"])
    assert (promised["receiver"], promised["every"]) == ("dead-mans-switch", every)
    assert promised.get("heartbeat") == (
        {"environment": "test-1", "name": "Watchdog of monitoring/kube-prometheus-stack"} if switch is HEARTBEAT else None
    )
    route = watchdog(found)
    assert (route["receiver"], route["group_interval"], route["repeat_interval"]) == ("dead-mans-switch", *[f"{every}s"] * 2)
    # It is no receiver of anything else.
    assert yaml.safe_load(found["config"])["route"]["receiver"] == "none"
    assert f'"url_file": "{FILES}/{secret}"' in found["config"] and "ping.test" not in json.dumps(found)
    alertmanager = found["values"]["alertmanager"]
    assert alertmanager["alertmanagerSpec"]["secrets"] == [secret.partition("/")[0]]


@pytest.mark.parametrize(
    ("switch", "options", "word"),
    [
        ({"interval": 60}, {}, "no address"),
        ({**HEARTBEAT, "url": "https://ping.test/a"}, {}, "provider and url"),
        ({"url": "ping.test/canary"}, {}, "no web address"),
        ({"url": "https://ann:canary@ping.test/"}, {}, "no web address"),
        ({"url": "https://ping.test/a", "interval": 20}, {}, "at least 30"),
        ({"url": "https://ping.test/a"}, {"watchdog_receiver": "none"}, "watchdog_receiver"),
        ({"provider": "uptimerobot", "api_token": "x"}, {}, "environment_name"),
        ({"provider": "uptimerobot", "environment_name": "e"}, {}, "UPTIMEROBOT_API_KEY"),
        ({"url": "https://ping.test/a"}, {"receivers": [{"name": "dead-mans-switch", "type": "none"}]}, "dead-mans-switch"),
    ],
)
def test_what_can_not_work_is_refused(
    tmp_path: Path, switch: dict[str, Any], options: dict[str, Any], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPTIMEROBOT_API_KEY", raising=False)
    (problem,) = written(tmp_path, switch, **options)["problems"]
    assert word in problem and "canary" not in problem


class Alertmanager:
    """A running one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, body: Any = None) -> str:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            return str(reply.read().decode())

    def seen(self) -> Seen:
        """What the link would see; the counters as they are, and not as they grew lately."""
        own = "\n".join(line for line in self.get("/metrics").splitlines() if 'receiver_name="dead-mans-switch"' in line)
        found = samples(own, COUNTERS)
        alerts = json.loads(self.get(f"/api/v2/alerts?{urlencode({'filter': f'alertname={ALERT}'})}"))
        return Seen(True, alerts, found.get(COUNTERS[0]), found.get(COUNTERS[1], 0.0))


@pytest.fixture
def far() -> Iterator[UptimeRobotFake]:
    with UptimeRobotFake() as fake:
        yield fake


@pytest.fixture
def alertmanager(tmp_path: Path, far: UptimeRobotFake) -> Iterator[Alertmanager]:
    """Alertmanager with the role's configuration and features, and the heartbeat's address where its Secret would be."""
    (key,) = far.seed(type="HEARTBEAT", gracePeriod=0, interval=30)
    found = written(tmp_path, {**HEARTBEAT, "interval": 30})
    place = tmp_path / "secrets/kube-prometheus-stack-dead-mans-switch/url"
    place.parent.mkdir(parents=True)
    place.write_text(far.checks[key]["url"])
    features = found["values"]["alertmanager"]["enableFeatures"]
    with started(tmp_path, found["config"].replace(FILES, str(tmp_path / "secrets")), *features) as address:
        made = Alertmanager(address)
        made.get("/api/v2/alerts", [{"labels": {"alertname": ALERT, "severity": "none"}}])
        yield made


def test_a_real_alertmanager_keeps_the_far_end_up(alertmanager: Alertmanager, far: UptimeRobotFake) -> None:
    (key,) = far.checks
    # The first one at once, and the next ones before the far end would be down.
    until(lambda: far.checks[key]["beats"], 10, "the first heartbeat")
    until(lambda: far.checks[key]["beats"] >= 3, 45, "two more heartbeats")
    assert far.shown(key)["status"] == "UP"
    seen = alertmanager.seen()
    assert judge(seen, "dead-mans-switch", 120) == "" and seen.taken >= 2 and seen.refused == 0
    assert "and not to another" in judge(seen, "another", 120)


def test_a_real_alertmanager_counts_what_is_refused(alertmanager: Alertmanager, far: UptimeRobotFake) -> None:
    (key,) = far.checks
    until(lambda: far.checks[key]["beats"], 10, "the first heartbeat")
    far.remove(key)
    until(lambda: alertmanager.seen().refused >= 2, 60, "refused heartbeats")
    assert "more notifications" in judge(alertmanager.seen(), "dead-mans-switch", 120)
