# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered lines: what is late, missing, double and unknown, in a back end that does as it likes; and whom they are asked of."""

from __future__ import annotations

import json
import random
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.verify import given_backends, log_agents, numbered_lines
from ansible_collections.flaskops.observability.plugins.module_utils.verify.numbered_lines import (
    BOUND,
    GIVEN_UP,
    LINES,
    MISSING,
    NumberedLines,
)
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Run, Target

from tests.victoria_logs import VictoriaLogs

EVERY = 300.0


class World:
    """A clock, an output, and back ends that get each line after some seconds, never, or more than once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.now = 1000.0
        self.ways: dict[str, Callable[[int], list[float]]] = {name: lambda number: [1.0] for name in names}
        self.errors: dict[str, str] = {}
        self.stored: dict[str, list[tuple[float, str]]] = {name: [] for name in names}
        self.asked = 0
        self.unfound = ""
        monkeypatch.setattr(numbered_lines, "find", self.find)
        self.lines = self.process()

    def process(self) -> NumberedLines:
        found = NumberedLines(EVERY, self.write)
        found.clock, found.wait = lambda: self.now, self.wait
        return found

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def write(self, text: str) -> None:
        number = int(text.split("/")[0].rsplit(" ", 1)[1])
        for name, way in self.ways.items():
            self.stored[name] += [(self.now + after, text) for after in way(number)]

    def find(self, run: Any) -> dict[str, Any]:
        if self.unfound:
            raise ApiError(0, self.unfound)

        def asking(name: str) -> Callable[[str, float], list[str]]:
            def ask(text: str, seconds: float) -> list[str]:
                self.asked += 1
                if name in self.errors:
                    raise ApiError(503, self.errors[name])
                assert seconds > 0
                return [line for at, line in self.stored[name] if at <= self.now and text in line]

            return ask

        return {name: asking(name) for name in self.ways}

    def round(self, times: int = 1) -> None:
        """As the program does: from start to start in equal steps."""
        for _ in range(times):
            began = self.now
            self.lines.round(SimpleNamespace(ways={}))  # type: ignore[arg-type]
            self.now = max(self.now, began + EVERY)

    def counts(self, name: str = "one") -> tuple[int, ...]:
        tally = self.lines.tallies[name]
        return tally.written, tally.late, tally.missing, tally.double, tally.unknown


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch, "one")


def test_lines_that_arrive_cost_one_run_of_looks(world: World) -> None:
    world.round(3)
    assert world.counts() == (3 * LINES, 0, 0, 0, 0)
    # Only the last run's lines are asked for once more.
    assert len(world.lines.tallies["one"].waiting) == 1


def test_lines_in_any_order_are_whole(world: World) -> None:
    world.ways["one"] = lambda number: [random.uniform(0, BOUND - 5)]
    world.round(2)
    random.shuffle(world.stored["one"])
    world.round()
    assert world.counts() == (3 * LINES, 0, 0, 0, 0)


def test_lines_that_come_after_the_bound_are_late_and_not_missing(world: World) -> None:
    world.ways["one"] = lambda number: [BOUND + 10 if number % 4 == 0 else 1.0]
    world.round()
    assert world.counts() == (LINES, LINES // 4, 0, 0, 0)
    world.ways["one"] = lambda number: [1.0]
    world.round(3)
    assert world.counts() == (4 * LINES, LINES // 4, 0, 0, 0)


def test_lines_that_never_come_are_late_first_and_then_missing(world: World) -> None:
    world.ways["one"] = lambda number: [] if number in (3, 20) else [1.0]
    world.round()
    assert world.counts() == (LINES, 2, 0, 0, 0)
    world.ways["one"] = lambda number: [1.0]
    world.round()
    assert world.counts() == (2 * LINES, 2, 2, 0, 0)
    # Counted once, and asked for no more.
    world.round(3)
    assert world.counts() == (5 * LINES, 2, 2, 0, 0)


def test_a_line_that_is_there_twice_is_counted_once(world: World) -> None:
    world.ways["one"] = lambda number: [1.0, 1.0, 2.0] if number == 7 else [1.0]
    world.round()
    world.ways["one"] = lambda number: [1.0]
    first = world.counts()[3]
    world.round(3)
    assert 1 <= first <= 2 and world.counts() == (4 * LINES, 0, 0, 2, 0)


def test_a_double_that_comes_after_the_run_is_seen_by_the_next_one(world: World) -> None:
    world.ways["one"] = lambda number: [1.0, 200.0] if number <= 5 else [1.0]
    world.round()
    assert world.counts() == (LINES, 0, 0, 0, 0)
    world.ways["one"] = lambda number: [1.0]
    world.round(2)
    assert world.counts() == (3 * LINES, 0, 0, 5, 0)


def test_an_error_is_named_and_nothing_is_missing_because_of_it(world: World) -> None:
    world.errors["one"] = "it answers 503 no endpoints available"
    world.round(3)
    # They could not be read in time, which is all that is known.
    assert world.counts() == (3 * LINES, 3 * LINES, 0, 0, 0)
    assert world.lines.shown()["one"]["error"] == "it answers 503 no endpoints available"
    world.errors.clear()
    world.round()
    assert world.counts() == (4 * LINES, 3 * LINES, 0, 0, 0)
    assert "error" not in world.lines.shown()["one"] and len(world.lines.tallies["one"].waiting) == 1


def test_after_an_error_a_backlog_has_as_long_as_any_line(world: World) -> None:
    """The agent needs a while for what waited: what is not there at the first answer is not missing yet."""
    world.errors["one"] = "away"
    arrives = world.now + 2 * EVERY + 100
    world.ways["one"] = lambda number: [arrives - world.now if number > 10 else 1.0]
    world.round(2)
    world.errors.clear()
    world.ways["one"] = lambda number: [1.0]
    world.round()  # It answers, and has half of them.
    assert world.counts()[2] == 0
    world.round(2)
    assert world.counts() == (5 * LINES, 2 * LINES, 0, 0, 0)


def test_what_nothing_is_known_of_is_given_up_and_asks_do_not_pile_up(world: World) -> None:
    world.errors["one"] = "away"
    rounds = int(GIVEN_UP / EVERY) + 3
    world.round(5)
    before = world.asked
    world.round()
    looks = world.asked - before
    world.round(rounds - 6)
    before = world.asked
    world.round()
    # A back end that is away is not asked for each of the runs before.
    assert world.asked - before == looks
    written, late, missing, _double, unknown = world.counts()
    assert (written, late, missing) == ((rounds + 1) * LINES, (rounds + 1) * LINES, 0)
    assert unknown and unknown + sum(len(lines.absent) for lines in world.lines.tallies["one"].waiting) == written


def test_one_back_end_says_nothing_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "one", "two")
    world.ways["two"] = lambda number: [] if number == 1 else [1.0, 2.0] if number == 2 else [1.0]
    world.round(2)
    assert world.counts("one") == (2 * LINES, 0, 0, 0, 0)
    assert world.counts("two") == (2 * LINES, 2, 1, 2, 0)


def test_an_answer_that_nobody_foresaw_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered_lines, "count", lambda run, texts: {}["x"])
    world.round()
    assert world.counts()[2] == 0 and world.lines.shown()["one"]["error"] == "KeyError: 'x'"


def test_lines_that_could_not_be_written_are_not_missed(world: World) -> None:
    broken, write = [7], world.write

    def breaking(text: str) -> None:
        if f" {broken[0]}/" in text:
            raise BrokenPipeError
        write(text)

    world.lines.write = breaking
    world.round(3)
    assert world.counts() == (3 * 6, 0, 0, 0, 0)


def test_a_run_that_was_killed_in_the_middle_is_no_loss_of_the_next_process(world: World) -> None:
    world.ways["one"] = lambda number: [1.0]
    killed = "verify-" + "0" * 32
    for number in range(1, 8):
        world.write(numbered_lines.line(killed, number))
    before = world.lines
    world.lines = world.process()
    assert world.lines.tallies == {} and before.tallies == {}
    world.round(3)
    # From zero again, which Prometheus takes for what it is.
    assert world.counts() == (3 * LINES, 0, 0, 0, 0)


def test_counters_are_there_before_anything_is_counted(world: World) -> None:
    seen: list[dict[str, Any]] = []
    world.lines.write = lambda text: seen.append(world.lines.shown())
    world.round()
    assert seen[0] == {"one": {"written": 0, "late": 0, "missing": 0, "double": 0, "unknown": 0}}


def test_a_back_end_that_is_gone_is_named(world: World) -> None:
    world.ways["one"] = lambda number: [] if number == 1 else [1.0]
    world.round()
    world.ways.clear()
    world.round()
    assert world.lines.shown()["one"]["error"] == "it is not installed any more"
    assert world.counts() == (LINES, 1, 0, 0, 0)


def test_an_api_server_that_is_away_is_named_and_nothing_is_written(world: World) -> None:
    world.round()
    world.unfound = "connection refused"
    world.round()
    assert world.counts() == (LINES, 0, 0, 0, 0) and "connection refused" in world.lines.error
    world.unfound = ""
    world.round()
    assert world.counts() == (2 * LINES, 0, 0, 0, 0) and world.lines.error == ""


# The lines, and whom they are asked of.


def test_lines_are_text_and_one_is_json() -> None:
    lines = [numbered_lines.line("verify-ab", number) for number in range(1, LINES + 1)]
    assert json.loads(lines[-1])["message"].startswith(f"numbered line verify-ab {LINES}/{LINES} ")
    assert not any(line.startswith("{") for line in lines[:-1])
    assert numbered_lines.count("verify-ab", lines) == {number: 1 for number in range(1, LINES + 1)}
    assert numbered_lines.count("verify-abc", lines) == {}
    assert MISSING > BOUND


def test_a_line_is_written_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    numbered_lines.say("x")
    assert capsys.readouterr().out == "x\n"


SHIPPER = {
    "metadata": {
        "name": "fluent-bit",
        "namespace": "logging",
        "annotations": {
            log_agents.OUTPUTS: json.dumps(
                [
                    {"type": "es", "host": "search.logs.svc", "port": 9200, "index": "app", "daily_index": True},
                    {"type": "opensearch", "host": "search.example.com", "port": 9200, "tls": True, "login": True},
                    {"type": "cloudwatch_logs", "log_group": "/kubernetes/x"},
                ]
            )
        },
    }
}


class Api:
    """An API server with both stores and an Elasticsearch, all of which have one line."""

    host = "https://api"

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.down = False

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        self.paths.append(path)
        address, query = urlsplit(path).path, parse_qs(urlsplit(path).query)
        selector = query.get("labelSelector", [""])[0]
        if address == "/api/v1/services":
            name = "loki" if "name=loki" in selector else "vl"
            item = {"metadata": {"name": name, "namespace": "logs"}, "spec": {"ports": [{"port": 80}]}}
            return 200, json.dumps({"items": [item]})
        if address == "/apis/apps/v1/daemonsets":
            return 200, json.dumps({"items": [SHIPPER] if "component" in selector else []})
        if self.down:
            return 503, json.dumps({"message": "no endpoints available"})
        text = "numbered line verify-ab 4/20 now"
        if "/loki/api" in address:
            return 200, json.dumps({"data": {"result": [{"stream": {"app": "x"}, "values": [["1000000000", text]]}]}})
        if "/select/logsql" in address:
            return 200, json.dumps({"_time": "2026-01-31T12:00:00.123456789Z", "_stream": '{app="x"}', "_msg": text}) + "\n"
        return 200, json.dumps({"hits": {"hits": [{"_source": {"message": text}}]}})


def test_every_back_end_of_the_cluster_without_a_login_is_asked() -> None:
    api = Api()
    places = numbered_lines.find(Run(api, Target(namespace="web")))  # type: ignore[arg-type]
    # Nobody gave an account for the other two.
    assert list(places) == ["loki", "victoria_logs", "elasticsearch"]
    for ask in places.values():
        assert numbered_lines.count("verify-ab", ask("verify-ab", 90)) == {4: 1}
    loki, victoria_logs, search = (parse_qs(urlsplit(path).query) for path in api.paths[-3:])
    assert loki["query"] == ['{namespace="web", app="flaskops-verify"} |= "verify-ab"'] and loki["limit"] == ["200"]
    assert victoria_logs["query"] == ['_time:90s {namespace="web",app="flaskops-verify"} "verify-ab"']
    assert "/services/search:9200/proxy/app-" in api.paths[-1] and search["size"] == ["200"]
    api.down = True
    for ask in places.values():
        with pytest.raises(ApiError, match="503 no endpoints available"):
            ask("verify-ab", 90)


def test_back_ends_with_credentials_are_asked_and_never_named_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        {"type": "elasticsearch", "url": "https://one/", "username": "reader", "password": "canary-pass"},
        {"type": "elasticsearch", "url": "https://two", "api_key": "canary-key"},
        {"type": "victoria_logs", "url": "https://vl", "password": "canary-pass"},
    ]
    asked: list[str] = []

    def refuse(item: dict[str, Any], url: str, run: Any) -> str:
        asked.append(url)
        raise ApiError(401, f"refused for {item.get('password')} and {item.get('api_key')}")

    monkeypatch.setattr(given_backends, "from_here", refuse)
    places = numbered_lines.find(Run(Api(), Target(namespace="web", log_backends=given)))  # type: ignore[arg-type]
    # Those of the cluster of the same kind are what the account is for.
    assert list(places) == ["elasticsearch", "elasticsearch 2", "victoria_logs", "loki"]
    for name in list(places)[:3]:
        with pytest.raises(ApiError) as caught:
            places[name]("verify-ab", 90)
        assert "refused for" in str(caught.value) and "canary" not in str(caught.value)
    assert [urlsplit(url).netloc for url in asked] == ["one", "two", "vl"]


class ClientError(Exception):
    """boto3's."""


def boto3(monkeypatch: pytest.MonkeyPatch, pages: Callable[..., Any]) -> None:
    """A boto3 with the given answers to FilterLogEvents."""
    client = SimpleNamespace(get_paginator=lambda name: SimpleNamespace(paginate=pages))
    errors = SimpleNamespace(ClientError=ClientError, BotoCoreError=ClientError)
    modules = {"boto3": SimpleNamespace(client=lambda *args, **options: client), "botocore": SimpleNamespace()}
    modules |= {"botocore.config": SimpleNamespace(Config=lambda **options: None), "botocore.exceptions": errors}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]


def test_cloudwatch_is_asked_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"type": "cloudwatch", "region": "eu-central-1", "log_group": "/kubernetes/x"}
    asked: list[dict[str, Any]] = []

    def pages(**options: Any) -> list[dict[str, Any]]:
        asked.append(options)
        text = json.dumps({"message": numbered_lines.line("verify-ab", 20)})
        return [{"events": []}, {"events": [{"message": text}, {"message": text}]}]

    boto3(monkeypatch, pages)
    ask = numbered_lines.find(Run(Api(), Target(log_backends=[given])))["cloudwatch"]  # type: ignore[arg-type]
    assert numbered_lines.count("verify-ab", ask("verify-ab", 90)) == {20: 2}
    assert asked[0]["logGroupName"] == "/kubernetes/x" and asked[0]["filterPattern"] == '"verify-ab"'

    def refuse(**options: Any) -> Any:
        raise ClientError("AccessDenied")

    boto3(monkeypatch, refuse)
    with pytest.raises(ApiError, match="CloudWatch refuses the search of /kubernetes/x: AccessDenied"):
        ask("verify-ab", 90)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ApiError, match="boto3 is not in this image"):
        ask("verify-ab", 90)


class RealStore(VictoriaLogs):
    """The real VictoriaLogs, to which each line is sent at once, as a log agent does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lost, self.twice = {0}, {0}

    def write(self, text: str) -> None:
        number = int(text.split("/")[0].rsplit(" ", 1)[1])
        stream = {"namespace": "web", "app": "flaskops-verify", "level": "unknown"}
        values = [[str(time.time_ns()), text, {"pod": "one"}]] * (0 if number in self.lost else 2 if number in self.twice else 1)
        body = json.dumps({"streams": [{"stream": stream, "values": values}]}).encode()
        path, headers = "/insert/loki/api/v1/push?disable_message_parsing=1", {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=10).close()


def test_the_real_victoria_logs_keeps_doubles_and_tells_what_is_not_there(tmp_path: Path) -> None:
    store = RealStore(tmp_path)
    run = Run(NoStores(), Target(namespace="web", log_backends=[{"type": "victoria_logs", "url": store.url}]))  # type: ignore[arg-type]
    try:
        store.wait()
        lines = NumberedLines(3, store.write)  # seconds until a line is late
        lines.round(run)
        store.lost, store.twice = {5, LINES}, {7}
        lines.round(run)
        found = {"written": 2 * LINES, "late": 2, "missing": 0, "double": 1, "unknown": 0}
        assert lines.shown() == {"victoria_logs": found}
        # Five minutes later.
        lines.clock = lambda: time.monotonic() + MISSING
        store.lost, store.twice = {0}, {0}
        lines.round(run)
        found |= {"written": 3 * LINES, "missing": 2}
        assert lines.shown() == {"victoria_logs": found}
    finally:
        store.stop()
    lines.write = lambda text: None
    lines.round(run)
    shown = lines.shown()["victoria_logs"]
    assert "refused" in shown.pop("error") and shown == found | {"written": 4 * LINES, "late": 2 + LINES}


class NoStores(Api):
    """A cluster on which no log back end runs."""

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        return 200, json.dumps({"items": []})
