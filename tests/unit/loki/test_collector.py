# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log collector: files as containerd and kubelet write and rotate them, and a server that answers as Loki does."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[3]
FOLDER = "shop_web-5d9-x2x_uid-1"


def load() -> ModuleType:
    """The program, which is a role's file and no package."""
    spec = importlib.util.spec_from_file_location("log_collector", ROOT / "roles/loki/files/collector/collector.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["log_collector"] = module
    spec.loader.exec_module(module)
    return module


c = load()


class Loki:
    """Takes pushes; `answers` are the statuses of the next ones, 204 when there is none left."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.pushes: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                status = outer.answers.pop(0) if outer.answers else 204
                if status == 204:
                    outer.pushes.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def lines(self) -> list[str]:
        return [value[1] for push in self.pushes for stream in push["streams"] for value in stream["values"]]


@pytest.fixture
def loki() -> Iterator[Loki]:
    server = Loki()
    yield server
    server.server.shutdown()
    server.server.server_close()


def answer(collector: Any, pods: dict[str, dict[str, str]] | None) -> None:
    """What the API server says from now on; nothing where `pods` is None."""

    def ask() -> bool:
        collector.pods._pods = pods or {}
        return pods is not None

    collector.pods._ask, collector.pods._asked = ask, -10.0


class Node:
    """A node's logs and the collector's state; `collector()` is one that was started anew."""

    def __init__(self, root: Path, url: str) -> None:
        self.logs, self.state, self.url = root / "pods", root / "state", url
        self.container = self.logs / FOLDER / "web"
        self.container.mkdir(parents=True)
        self.state.mkdir()
        self.number = 0

    def collector(self, limit: int = 1 << 20) -> Any:
        collector = c.Collector(self.logs, self.state, self.url, "test", "node-1", limit)
        answer(collector, {"shop_web-5d9-x2x": {"app": "shop-web"}})
        return collector

    def write(self, *texts: str, flag: str = "F", stream: str = "stdout", file: str = "0.log") -> None:
        with (self.container / file).open("ab") as out:
            for text in texts:
                self.number += 1
                out.write(f"2026-01-31T12:00:00.{self.number:09d}Z {stream} {flag} {text}\n".encode())

    def rotate(self, time: str) -> Path:
        return (self.container / "0.log").rename(self.container / f"0.log.{time}")

    def compress(self, path: Path) -> None:
        fresh = path.with_name(f"{path.name}.tmp")
        fresh.write_bytes(gzip.compress(path.read_bytes()))
        fresh.rename(path.with_name(f"{path.name}.gz"))
        path.unlink()


@pytest.fixture
def node(tmp_path: Path, loki: Loki) -> Node:
    return Node(tmp_path, loki.url)


def drain(collector: Any) -> None:
    """Read and send until there is nothing left."""
    while collector.read():
        pass
    sender = threading.Thread(target=collector.sender)
    sender.start()
    for _ in range(2000):
        with collector.spool.changed:
            if not collector.spool.files:
                break
        sender.join(0.005)
    collector.stopping.set()
    sender.join(10)
    assert not sender.is_alive() and not collector.spool.files
    collector.stopping.clear()


def test_a_line_has_the_labels_and_the_metadata_of_the_contract(node: Node, loki: Loki) -> None:
    line = json.dumps({"level": "WARNING", "message": "slow", "request_id": "r-1"})
    node.write(line)
    drain(node.collector())
    (stream,) = loki.pushes[0]["streams"]
    assert stream["stream"] == {"namespace": "shop", "app": "shop-web", "container": "web", "cluster": "test", "level": "warning"}
    metadata = {"pod": "web-5d9-x2x", "node": "node-1", "stream": "stdout", "request_id": "r-1"}
    assert stream["values"] == [["1769860800000000001", line, metadata]]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ('{"level": "INFO"}', "info"),
        ('{"message": "x", "severity": "fatal"}', "critical"),
        ("E0131 12:00:00.1 1 file.go:1] broken", "error"),
        ('time=2026 level=warn msg="x"', "warning"),
        ("2026-01-31 ERROR broken", "error"),
        ("Traceback (most recent call last):\n  x", "error"),
        ("an error of no level", "unknown"),
        ('{"level": "strange"}', "unknown"),
    ],
)
def test_level(line: str, level: str) -> None:
    assert c.level(line) == level


def test_a_time_with_a_zone() -> None:
    clock = c.Clock()
    assert clock.nanoseconds(b"2026-01-31T12:00:00", b"5", b"Z") == 1769860800500000000
    assert clock.nanoseconds(b"2026-01-31T14:00:00", None, b"+02:00") == 1769860800000000000
    assert clock.nanoseconds(b"2026-01-31T08:30:00", None, b"-03:30") == 1769860800000000000


def test_cut_lines_are_joined_per_stream(node: Node, loki: Loki) -> None:
    node.write("a1", flag="P")
    node.write("b1", flag="P", stream="stderr")
    node.write("a2", flag="P")
    node.write("b2", flag="F", stream="stderr")
    node.write("a3", flag="F")
    drain(node.collector())
    assert sorted(loki.lines) == ["a1a2a3", "b1b2"]


def test_a_cut_line_survives_a_kill_and_a_rotation(node: Node, loki: Loki) -> None:
    node.write("whole")
    node.write("begin", flag="P")
    drain(node.collector())
    assert loki.lines == ["whole"]
    node.rotate("20260131-120000")
    node.write("end")
    drain(node.collector())
    assert loki.lines == ["whole", "beginend"]


TRACEBACK = """\
Traceback (most recent call last):
  File "a.py", line 1, in f
    g()
    ~^^
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 2, in h
    f()
ValueError: y"""


def test_a_traceback_is_one_record(node: Node, loki: Loki) -> None:
    node.write("before", *TRACEBACK.splitlines(), "after")
    drain(node.collector())
    assert loki.lines == ["before", TRACEBACK, "after"] or sorted(loki.lines) == sorted(["before", TRACEBACK, "after"])


def test_a_traceback_that_nothing_follows_is_sent(node: Node, loki: Loki, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write(*TRACEBACK.splitlines())
    collector = node.collector()
    drain(collector)
    assert loki.lines == []
    monkeypatch.setattr(c, "HELD", 0)
    drain(collector)
    assert loki.lines == [TRACEBACK]


def test_what_is_compressed_is_not_read_again_and_not_lost(node: Node, loki: Loki) -> None:
    node.write("1", "2")
    collector = node.collector()
    drain(collector)
    first = node.rotate("20260131-120000")
    node.write("3")
    drain(collector)
    node.compress(first)
    node.write("4")
    drain(collector)
    assert sorted(loki.lines) == ["1", "2", "3", "4"]
    # Nobody reads while a file is rotated and compressed. It was known under another name, so that it is read from its beginning.
    node.write("5")
    second = node.rotate("20260131-120100")
    node.write("6")
    node.compress(second)
    drain(node.collector())
    assert set(loki.lines) == {"1", "2", "3", "4", "5", "6"}


def test_a_file_that_the_listing_missed_is_not_read_again(node: Node, loki: Loki, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write("1")
    collector = node.collector()
    drain(collector)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", lambda *_: iter(()))
        collector.read()
    drain(collector)
    assert loki.lines == ["1"]


def test_positions_that_can_t_be_read_lose_nothing(node: Node, loki: Loki) -> None:
    (node.state / "positions.json").write_text("{")
    node.write("1")
    drain(node.collector())
    assert loki.lines == ["1"]


def test_a_deleted_file_is_read_to_its_end(node: Node, loki: Loki) -> None:
    node.write("1")
    collector = node.collector()
    collector.discover()
    (node.container / "0.log").unlink()
    drain(collector)
    collector.discover()
    assert loki.lines == ["1"] and not collector.files


def test_a_kill_between_spool_and_positions_only_repeats(node: Node, loki: Loki, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write("1", "2")
    collector = node.collector()

    def killed() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(collector, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        collector.read()
    drain(node.collector())
    assert sorted(loki.lines) == ["1", "1", "2", "2"]
    # With the same times, so that Loki keeps each once.
    values = [tuple(value[:2]) for push in loki.pushes for stream in push["streams"] for value in stream["values"]]
    assert len(set(values)) == 2


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_what_may_pass_is_tried_again(node: Node, loki: Loki, status: int) -> None:
    loki.answers = [status, status]
    node.write("1")
    collector = node.collector()
    drain(collector)
    assert loki.lines == ["1"] and collector.counts["errors"] == 2 and not list((node.state / "rejected").iterdir())


def test_what_loki_refuses_is_kept_and_counted(node: Node, loki: Loki, capsys: pytest.CaptureFixture[str]) -> None:
    loki.answers = [400]
    node.write("1", "2")
    collector = node.collector()
    drain(collector)
    node.write("3")
    drain(collector)
    (kept,) = (node.state / "rejected").iterdir()
    assert loki.lines == ["3"] and collector.counts["rejected_records"] == 2
    assert [value[1] for stream in json.loads(gzip.decompress(kept.read_bytes()))["streams"] for value in stream["values"]] == [
        "1",
        "2",
    ]
    assert "log_collector_rejected_records_total 2" in collector.metrics()
    assert "rejected/" in capsys.readouterr().err


def test_a_full_spool_stops_the_reader(node: Node, loki: Loki) -> None:
    collector = node.collector(limit=1)
    node.write("1")
    collector.read()
    node.write("2")
    collector.read()
    assert len(collector.spool.files) == 1 and collector.unread > 0
    drain(collector)
    drain(collector)
    assert loki.lines == ["1", "2"]


def test_the_label_is_asked_for_once_and_outlives_the_pod(node: Node, loki: Loki) -> None:
    node.write("1")
    drain(node.collector())
    collector = node.collector()
    answer(collector, None)
    node.write("2")
    drain(collector)
    assert {stream["stream"]["app"] for push in loki.pushes for stream in push["streams"]} == {"shop-web"}
    assert loki.lines == ["1", "2"]


def test_a_file_waits_for_the_labels(node: Node, loki: Loki) -> None:
    node.write("1")
    collector = node.collector()
    answer(collector, None)
    collector.read()
    assert not collector.spool.files and collector.unread > 0
    answer(collector, {"shop_web-5d9-x2x": {"app.kubernetes.io/name": "other"}})
    drain(collector)
    assert loki.pushes[0]["streams"][0]["stream"]["app"] == "other"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(["F", "P"]), st.sampled_from(["stdout", "stderr"])),
        st.tuples(st.sampled_from(["read", "rotate", "compress", "restart"]), st.none(), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_every_line_arrives(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any]]) -> None:
    node = Node(tmp_path_factory.mktemp("node"), "http://127.0.0.1:1")
    collector = node.collector()
    wanted: set[str] = set()
    begun: dict[str, str] = {}
    rotated: list[Path] = []
    for step, flag, stream in [*steps, ("write", "F", "stdout"), ("write", "F", "stderr")]:
        if step == "write":
            text = f"<{node.number}>"
            node.write(text, flag=flag, stream=stream)
            begun[stream] = begun.get(stream, "") + text
            if flag == "F":
                wanted.add(begun.pop(stream))
        elif step == "read":
            collector.read()
        elif step == "rotate" and (node.container / "0.log").exists():
            # kubelet compresses the older file when it rotates the next one, and the collector has looked in between.
            collector.read()
            if rotated:
                node.compress(rotated.pop())
            rotated.append(node.rotate(f"20260131-{node.number:06d}-{len(list(node.container.iterdir()))}"))
        elif step == "restart":
            collector = node.collector()
    collector.read()
    found: set[str] = set()
    for path in collector.spool.files:
        for item in json.loads(gzip.decompress(path.read_bytes()))["streams"]:
            found |= {value[1] for value in item["values"]}
    assert wanted <= found
