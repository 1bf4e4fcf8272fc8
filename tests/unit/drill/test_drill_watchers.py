# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen when that which watches is gone: by a real Alertmanager, at a provider, and by nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.drill import bounds, dead_man, far_end, observers
from ansible_collections.flaskops.observability.plugins.module_utils.drill.app import Options, Plan
from ansible_collections.flaskops.observability.plugins.module_utils.drill.bounds import Rule, Settings
from ansible_collections.flaskops.observability.plugins.module_utils.drill.judgement import Judgement, Limits
from ansible_collections.flaskops.observability.plugins.module_utils.drill.observers import Observers, Timeline
from ansible_collections.flaskops.observability.plugins.module_utils.drill.scenarios import SCENARIOS
from ansible_collections.flaskops.observability.plugins.module_utils.drill.watchers import TEST
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import PlainCluster, read_object

from tests.alertmanager import started
from tests.fakes import FAKES, Clock
from tests.harness import until
from tests.node import free_port

LABELS = {**TEST, "namespace": "shop"}
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@contextmanager
def alertmanager(folder: Path, inbox: int) -> Iterator[PlainCluster]:
    """A real one with the role's route of test alerts, whose inbox listens at a port or not."""
    own = {"receiver": "alert-inbox", "matchers": ['alertname="VerifyTestAlert"'], "group_wait": "0s", "group_interval": "1s"}
    hooks = [{"url": f"http://127.0.0.1:{inbox}/alerts", "send_resolved": True}]
    config = {"route": {"receiver": "none", "routes": [{**own, "group_by": ["namespace", "service"]}]}}
    config["receivers"] = [{"name": "none"}, {"name": "alert-inbox", "webhook_configs": hooks}]  # type: ignore[assignment]
    with started(folder, yaml.safe_dump(config)) as address:
        yield PlainCluster(address)


@contextmanager
def listener(port: int) -> Iterator[list[dict[str, Any]]]:
    """An inbox: the alerts that arrived."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_given: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield got
    finally:
        server.shutdown()
        server.server_close()


def watching(cluster: Any, **more: Any) -> tuple[Observers, Timeline]:
    """Observers of an application that has nothing else to be seen, and what they see."""

    def get(path: str, _seconds: float = 0) -> Any:
        return read_object(*cluster.fetch(path)) if "/api/" in path else {}

    app: Any = SimpleNamespace(options=Options(), page="/", cluster=cluster, alertmanager="", **{"get": get, **more})
    found = Observers(app, "run", lambda entry: None)
    return found, found.begin()


def test_alertmanager_counts_what_is_refused_and_sends_it_when_it_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_man, "PAUSE", 0.1)
    monkeypatch.setattr(observers, "LOG_LOOK", 0.1)
    port = free_port()
    with alertmanager(tmp_path, port) as cluster:
        found, timeline = watching(cluster)

        def request(method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
            return (
                (200, '{"items": []}')
                if method == "GET"
                else cluster.send(method, path, body, {"Content-Type": "application/json"})
            )

        threading.Thread(target=found._look_at_alertmanager, daemon=True).start()
        step = {
            "do": "alert",
            "path": "/api/v2/alerts",
            "service": {"namespace": "m", "name": "i"},
            "labels": LABELS,
            "seconds": 60,
        }
        dead_man.run([step], request)
        until(lambda: timeline.has("receiver", "refused"), 20, "the refusal")
        assert timeline.at["receiver", "refused"] < 10 and not timeline.has("alertmanager", "down")
        with listener(port) as got:
            until(lambda: got, 30, "the notification after all")
            assert (got[0]["status"], got[0]["labels"]) == ("firing", LABELS)
    until(lambda: timeline.has("alertmanager", "down"), 20, "the end of Alertmanager")
    found.stop()


def test_an_alert_that_is_kept_back_is_seen(tmp_path: Path) -> None:
    """Once it fires, and of this application alone."""
    own = {"namespace": "shop", "app": "shop", "severity": "warning"}
    alerts = [{**own, "alertname": name} for name in ("FlaskHealthProbeFailed", "FlaskPodOOMKilled", "FlaskRestarting")]
    alerts += [{**alert, "app": "other"} for alert in alerts]
    keeps = {"source_matchers": ['alertname="FlaskHealthProbeFailed"'], "target_matchers": ['alertname="FlaskPodOOMKilled"']}
    config = {"route": {"receiver": "none"}, "receivers": [{"name": "none"}], "inhibit_rules": [{**keeps, "equal": ["app"]}]}
    with started(tmp_path, yaml.safe_dump(config)) as address:
        cluster = PlainCluster(address)
        found, timeline = watching(cluster, name="shop", namespace="shop")
        body, kind = [{"labels": labels} for labels in alerts], {"Content-Type": "application/json"}
        assert cluster.send("POST", "/api/v2/alerts", body, kind)[0] == 200
        found._look_at_inhibited()
        assert timeline.at == {}
        for alert in alerts[:3]:
            found._see(f"alert {alert['alertname']}", "firing")

        def kept_back() -> bool:
            found._look_at_inhibited()
            return timeline.has("alert FlaskPodOOMKilled", "inhibited")

        until(kept_back, 20, "the inhibition")
        assert [name for name, event in timeline.at if event == "inhibited"] == ["alert FlaskPodOOMKilled"]


METRICS = """\
# HELP alertmanager_notification_requests_failed_total The total number of failed notification requests.
alertmanager_notification_requests_failed_total{integration="email"} 9
alertmanager_notification_requests_failed_total{integration="webhook",receiver_name="%s"} 2
alertmanager_notification_requests_failed_total{integration="webhook",receiver_name="duty"} 5
"""


@pytest.mark.parametrize(("inbox", "number"), [("alert-inbox", 2), ("shop/shop/alert-inbox", 2), ("other", 0)])
def test_refusals_of_other_receivers_do_not_count(inbox: str, number: float) -> None:
    assert observers.refusals(METRICS % inbox) == number


def test_what_alertmanager_counted_before_is_no_news_and_its_counters_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "LOG_LOOK", 0)
    line = 'alertmanager_notification_requests_failed_total{integration="webhook"} %d'
    answers: list[Any] = [(200, line % 5), (503, ""), (200, line % 0), (200, line % 0)]

    class Cluster:
        def fetch(self, path: str, headers: Any = None, seconds: float = 0) -> tuple[int, str]:
            if not answers:
                found.stop()
                return 200, line % 1
            return answers.pop(0)  # type: ignore[no-any-return]

    found, timeline = watching(Cluster(), get=lambda *given: [])
    found._refused_before = 5
    found._look_at_alertmanager()
    assert [event for _observer, event in timeline.at] == ["down", "up", "refused"]


TOKEN = "canary-token-4f1d"


@pytest.fixture
def provider() -> Iterator[Any]:
    with FAKES["uptimerobot"](token=TOKEN, clock=Clock()) as fake:
        fake.seed(1, name="page", tags=["flaskops-prod"])
        yield fake


def options_of(fake: Any, **more: Any) -> Options:
    given = {"provider": "uptimerobot", "api_token": TOKEN, "api_url": fake.url, "ca_path": None}
    return Options(environment="prod", external_checks=[{"provider": "pingdom", "api_token": "x"}, {**given, **more}])


def test_a_dead_mans_switch_is_found_by_its_tag_and_type(provider: Any) -> None:
    with pytest.raises(LookupError, match=r"nobody in the cluster notices$"):
        far_end.find(options_of(provider))
    provider.seed(1, name="another's", tags=["flaskops-heartbeat-other"], type="HEARTBEAT", interval=60, gracePeriod=60)
    provider.seed(1, name="a page", tags=["flaskops-heartbeat-prod"])
    with pytest.raises(LookupError, match=r"nobody in the cluster notices$"):
        far_end.find(options_of(provider))
    provider.seed(1, name="ours", tags=["flaskops-heartbeat-prod"], type="HEARTBEAT", interval=60, gracePeriod=120)
    found = far_end.find(options_of(provider))
    assert found.waits == 180 and not found.alarms()
    provider.clock.advance(181)  # without a heartbeat
    assert found.alarms()
    assert provider.writes == []


def test_a_provider_that_can_not_be_asked_is_a_reason_without_its_token(provider: Any) -> None:
    with pytest.raises(LookupError, match=r"nobody in the cluster notices \(.*401") as failure:
        far_end.find(options_of(provider, api_token="canary-wrong"))
    assert "canary" not in str(failure.value)


def test_the_alarm_of_the_far_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "SWITCH_LOOK", 0)
    states = [False, True, True, False]
    found, timeline = watching(None)

    class Switch:
        def alarms(self) -> bool:
            if len(states) == 1:
                found.stop()
            return states.pop(0)

    found.switch = Switch()  # type: ignore[assignment]
    found._look_at_switch()
    assert [event for _observer, event in timeline.at] == ["down", "up"]


ROUTES = {
    "receiver": "duty",
    "routes": [{"matchers": ['alertname="Watchdog"'], "group_interval": "1m", "repeat_interval": "1m", "receiver": "heartbeat"}],
}


@pytest.mark.parametrize(
    ("forgotten", "interval", "shortest", "longest"),
    [
        # The last sign came up to two minutes before, and the provider waits for six.
        (False, 30.0, 240.0, 40.0 + 360.0 + 75.0),
        (True, 30.0, 150.0 + 240.0, 40.0 + 300.0 + 360.0 + 75.0),
        # A rule that is evaluated rarely is forgotten later.
        (True, 120.0, 240.0 + 240.0, 40.0 + 540.0 + 360.0 + 75.0),
    ],
)
def test_how_soon_a_dead_mans_switch_alarms(forgotten: bool, interval: float, shortest: float, longest: float) -> None:
    settings = Settings(routing=ROUTES, rules={"Watchdog": Rule("Watchdog", 0, interval, {})})
    assert bounds.total(settings.signs(360.0, forgotten)) == (shortest, longest)
    assert bounds.total(settings.signs(60.0, False))[0] == 0.0


def judged(name: str, wait: float = 900.0, switch: bool = True, checks: bool = True) -> Judgement:
    settings = Settings(routing=ROUTES, rules={"Watchdog": Rule("Watchdog", 0, 30, {})})
    app = SimpleNamespace(
        inbox="/i", prometheus="/p", alertmanager="/a", logs="", options=Options(external_checks=[{}] if checks else [])
    )
    seen: Any = SimpleNamespace(app=app, skipped=[], tellings=[], no_switch="" if switch else far_end.UNKNOWN)
    seen.switch = SimpleNamespace(waits=360.0) if switch else None
    return Judgement(BY_NAME[name], settings, Timeline(lambda entry: None), seen, Limits(wait, 0), Plan("", []))


@pytest.mark.parametrize("name", ["prometheus_down", "alertmanager_down", "cluster_dark"])
def test_without_a_far_end_it_says_that_nobody_notices(name: str) -> None:
    alone = judged(name, switch=False, checks=False)
    skipped = {item["observer"]: item["reason"] for item in alone.skipped}
    assert "nobody in the cluster notices" in skipped["dead man's switch"]
    assert ("external check" in skipped) == (name == "cluster_dark")
    assert "dead man's switch" not in alone.awaited() and alone.awaited()
    watched = judged(name)
    assert watched.skipped == [] and "dead man's switch" in watched.awaited()
    # A drill that would not wait so long says so.
    (slow,) = judged(name, wait=240).skipped
    assert slow["observer"] == "dead man's switch" and "the drill waits 240 s" in slow["reason"]


@pytest.mark.parametrize(
    ("name", "observer", "at", "verdict"),
    [
        ("alertmanager_down", "dead man's switch", 300.0, "within"),
        ("alertmanager_down", "dead man's switch", 200.0, "early"),
        ("prometheus_down", "dead man's switch", 300.0, "early"),
        ("prometheus_down", "dead man's switch", 700.0, "within"),
        ("prometheus_down", "dead man's switch", 800.0, "late"),
        ("receiver_refuses", "receiver", 3.0, "within"),
        ("receiver_refuses", "receiver", 1.0, "early"),
        ("receiver_refuses", "receiver", 15.0, "late"),
    ],
)
def test_a_time_is_held_against_its_bounds(name: str, observer: str, at: float, verdict: str) -> None:
    found = judged(name)
    event = "refused" if observer == "receiver" else "down"
    found.timeline.see(observer, event, found.timeline.began + at)
    seen = next(item for item in found.observations([], 99) if (item["observer"], item["event"]) == (observer, event))
    assert seen["verdict"] == verdict, seen


def looks(found: Observers, alerts: list[dict[str, Any]]) -> Callable[..., Any]:
    def get(path: str, seconds: float = 0) -> Any:
        found.stop()
        return {"now": "2026-01-01T00:00:10Z", "alerts": alerts}

    return get


def test_a_test_alert_that_arrives_after_all_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "LOOK", 0)
    found, timeline = watching(None, inbox="/i", name="shop", namespace="shop")
    timeline.began -= 30
    alert = {"labels": LABELS, "received_ms": 1767225605000, "startsAt": "x", "status": "firing"}
    found.app.get = looks(found, [alert, {**alert, "labels": {"alertname": "VerifyTestAlert"}}])  # type: ignore[method-assign]
    found._look_at_inbox()
    assert {key: round(at) for key, at in timeline.at.items()} == {("receiver", "back"): 25}
