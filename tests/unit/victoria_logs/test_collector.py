# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log collector: files as containerd and kubelet write and rotate them, before VictoriaLogs and what answers as it does."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.collector import load
from tests.victoria_logs import VictoriaLogs

ROOT = Path(__file__).resolve().parents[3]
FOLDER = "shop_web-5d9-x2x_uid-1"
RETENTION = 100 * 365 * 86400.0


c = load()


class Backend:
    """Takes pushes and finds their batches again; `answers` are the statuses of the next pushes, 204 when there is none left."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.pushes: list[dict[str, Any]] = []
        self.silent = 0  # how many of the next pushes are taken without an answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                status = outer.answers.pop(0) if outer.answers else 204
                if status == 204:
                    outer.pushes.append(json.loads(body))
                if outer.silent:
                    outer.silent -= 1
                    self.close_connection = True
                    return
                self.reply(status, b"")

            def do_GET(self) -> None:
                (query,) = parse_qs(urlsplit(self.path).query)["query"]
                wanted, found = re.findall(r'"(\w+)"', query), Counter(outer.batches)
                rows = [json.dumps({"batch": name, "records": str(found[name])}) for name in wanted if found[name]]
                self.reply(200, "\n".join(rows).encode())

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def values(self) -> list[list[Any]]:
        return [value for push in self.pushes for stream in push["streams"] for value in stream["values"]]

    @property
    def lines(self) -> list[str]:
        return [value[1] for value in self.values]

    @property
    def batches(self) -> list[str]:
        return [value[2]["batch"] for value in self.values]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    monkeypatch.setattr(c, "SHOWN", 0.05)
    monkeypatch.setattr(c, "PAUSES", (0.01,))
    server = Backend()
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
    """A node's logs and the collector's state; `collector()` is one that was started again."""

    def __init__(self, root: Path, url: str) -> None:
        self.logs, self.state, self.url = root / "pods", root / "state", url
        self.container = self.logs / FOLDER / "web"
        self.container.mkdir(parents=True)
        self.state.mkdir()
        self.number = 0

    def collector(self, limit: int = 1 << 20) -> Any:
        collector = c.Collector(self.logs, self.state, self.url, "test", "node-1", limit, RETENTION)
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
def node(tmp_path: Path, backend: Backend) -> Node:
    return Node(tmp_path, backend.url)


def drain(collector: Any) -> None:
    """Read and send until there is nothing left."""
    while collector.read():
        pass
    sender = threading.Thread(target=collector.sender)
    sender.start()
    for _ in range(2000):
        with collector.spool.changed:
            if not collector.spool.waiting:
                break
        sender.join(0.005)
    collector.stopping.set()
    with collector.spool.changed:
        collector.spool.changed.notify()
    sender.join(10)
    assert not sender.is_alive() and not collector.spool.waiting
    collector.stopping.clear()


def test_a_line_has_the_labels_and_the_metadata_of_the_contract(node: Node, backend: Backend) -> None:
    line = json.dumps({"level": "WARNING", "message": "slow", "request_id": "r-1"})
    node.write(line)
    drain(node.collector())
    (stream,) = backend.pushes[0]["streams"]
    assert stream["stream"] == {"namespace": "shop", "app": "shop-web", "container": "web", "cluster": "test", "level": "warning"}
    (value,) = stream["values"]
    assert len(value[2].pop("batch")) == 16
    assert value == [
        "1769860800000000001",
        line,
        {"pod": "web-5d9-x2x", "node": "node-1", "stream": "stdout", "request_id": "r-1"},
    ]


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


def test_cut_lines_are_joined_per_stream(node: Node, backend: Backend) -> None:
    node.write("a1", flag="P")
    node.write("b1", flag="P", stream="stderr")
    node.write("a2", flag="P")
    node.write("b2", flag="F", stream="stderr")
    node.write("a3", flag="F")
    drain(node.collector())
    assert sorted(backend.lines) == ["a1a2a3", "b1b2"]


def test_a_cut_line_survives_a_kill_and_a_rotation(node: Node, backend: Backend) -> None:
    node.write("whole")
    node.write("begin", flag="P")
    drain(node.collector())
    assert backend.lines == ["whole"]
    node.rotate("20260131-120000")
    node.write("end")
    drain(node.collector())
    assert backend.lines == ["whole", "beginend"]


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


def test_a_traceback_is_one_record(node: Node, backend: Backend) -> None:
    node.write("before", *TRACEBACK.splitlines(), "after")
    drain(node.collector())
    assert backend.lines == ["before", TRACEBACK, "after"] or sorted(backend.lines) == sorted(["before", TRACEBACK, "after"])


def test_a_traceback_that_nothing_follows_is_sent(node: Node, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write(*TRACEBACK.splitlines())
    collector = node.collector()
    drain(collector)
    assert backend.lines == []
    monkeypatch.setattr(c, "HELD", 0)
    drain(collector)
    assert backend.lines == [TRACEBACK]


def test_what_is_compressed_is_not_read_again_and_not_lost(node: Node, backend: Backend) -> None:
    node.write("1", "2")
    collector = node.collector()
    drain(collector)
    first = node.rotate("20260131-120000")
    node.write("3")
    drain(collector)
    node.compress(first)
    node.write("4")
    drain(collector)
    assert sorted(backend.lines) == ["1", "2", "3", "4"]
    # Nobody reads while a file is rotated and compressed. It was known under another name, so that it is read from its beginning.
    node.write("5")
    second = node.rotate("20260131-120100")
    node.write("6")
    node.compress(second)
    drain(node.collector())
    assert set(backend.lines) == {"1", "2", "3", "4", "5", "6"}


def test_a_file_that_the_listing_missed_is_not_read_again(node: Node, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write("1")
    collector = node.collector()
    drain(collector)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", lambda *_: iter(()))
        collector.read()
    drain(collector)
    assert backend.lines == ["1"]


def test_positions_that_can_t_be_read_lose_nothing(node: Node, backend: Backend) -> None:
    (node.state / "positions.json").write_text("{")
    node.write("1")
    drain(node.collector())
    assert backend.lines == ["1"]


def test_a_deleted_file_is_read_to_its_end(node: Node, backend: Backend) -> None:
    node.write("1")
    collector = node.collector()
    collector.discover()
    (node.container / "0.log").unlink()
    drain(collector)
    collector.discover()
    assert backend.lines == ["1"] and not collector.files


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_kill_while_a_batch_is_written_neither_loses_nor_doubles(
    node: Node, backend: Backend, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Before the positions that follow, before the batch, and before the positions take effect."""
    node.write("1", "2")
    collector, write, calls = node.collector(), c.write, []

    def killed(*args: Any) -> None:
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(write(*args))

    monkeypatch.setattr(c, "write", killed)
    if after == 2:
        monkeypatch.setattr(c.Path, "rename", lambda path, to: killed() if to.name == "positions.json" else os.rename(path, to))
    with pytest.raises(KeyboardInterrupt):
        collector.read()
    monkeypatch.undo()
    monkeypatch.setattr(c, "SHOWN", 0.05)
    drain(node.collector())
    assert sorted(backend.lines) == ["1", "2"]


def test_what_arrived_without_an_answer_is_not_sent_again(node: Node, backend: Backend) -> None:
    backend.silent = 1
    node.write("1")
    drain(node.collector())
    assert backend.lines == ["1"]


def test_what_a_killed_collector_had_sent_is_not_sent_again(node: Node, backend: Backend) -> None:
    node.write("1")
    drain(node.collector())
    assert list((node.state / "spool").iterdir())
    node.write("2")
    drain(node.collector())
    assert backend.lines == ["1", "2"]


def test_what_was_taken_and_is_gone_is_sent_again(node: Node, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write("1")
    collector = node.collector()
    drain(collector)
    assert len(collector.spool.held) == 1
    monkeypatch.setattr(c, "HOLD", 0)
    backend.pushes.clear()
    drain(collector)
    drain(collector)
    assert backend.lines == ["1"] and collector.counts["resent_records"] == 1
    drain(collector)
    assert not list((node.state / "spool").iterdir()) and collector.counts["sent_records"] == 1


def test_what_is_taken_and_dropped_again_and_again_is_kept(node: Node, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "HOLD", 0)
    node.write("1")
    collector = node.collector()
    for _ in range(c.TRIES + 1):
        drain(collector)
        backend.pushes.clear()
    assert collector.counts["rejected_records"] == 1 and len(list((node.state / "rejected").iterdir())) == 1


def test_lines_of_a_time_that_is_not_kept_are_counted(node: Node, backend: Backend) -> None:
    collector = node.collector()
    collector.retention = 60.0
    node.write("1", "2")
    drain(collector)
    assert backend.lines == [] and collector.counts["out_of_time_records"] == 2


def test_a_client_that_goes_leaves_no_traceback(node: Node, backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    collector = node.collector()
    asked, gone = threading.Event(), threading.Event()

    def metrics() -> str:
        asked.set()
        gone.wait(5)
        return "x" * 10_000_000

    collector.metrics = metrics
    server = c.serve(collector, 0)
    server.daemon_threads = False  # so that they are waited for
    try:
        with socket.create_connection(server.server_address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert asked.wait(5)
        gone.set()
        server.shutdown()
    finally:
        server.server_close()  # waits for the threads
    assert capfd.readouterr().err == ""


def test_counters_begin_with_zeros_and_are_exact(node: Node, backend: Backend) -> None:
    (node.container / "0.log").touch()
    collector = node.collector()
    collector.read()
    zeros = [line for line in collector.metrics().splitlines() if line.startswith("flaskops_log_")]
    assert len(zeros) == 7 and all(line.endswith(" 0") for line in zeros)
    node.write("ERROR x", "INFO y", "ERROR z", *TRACEBACK.splitlines(), "INFO last")
    drain(collector)
    own = '{namespace="shop",app="shop-web",level='
    page = collector.metrics()
    assert f'flaskops_log_lines_total{own}"error"}} 3\n' in page and f'flaskops_log_lines_total{own}"info"}} 2\n' in page
    assert 'flaskops_log_tracebacks_total{namespace="shop",app="shop-web"} 1\n' in page


class Program(VictoriaLogs):
    """The real VictoriaLogs as the role starts it, but for lines of any age."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, retentionPeriod="100y", inmemoryDataFlushInterval="1s", defaultMsgValue="")

    def rows(self) -> list[dict[str, str]]:
        query = urlencode({"query": "*", "limit": 100_000})
        with urllib.request.urlopen(f"{self.url}/select/logsql/query?{query}", timeout=10) as reply:
            return [json.loads(line) for line in reply]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    found = Program(tmp_path / "storage")
    yield found
    found.kill()


def test_the_real_program_is_killed_and_no_line_is_lost_or_doubled(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c, "HOLD", 5)
    node = Node(tmp_path, program.url)
    collector = node.collector()
    threads = [threading.Thread(target=target) for target in (collector.reader, collector.sender)]
    for thread in threads:
        thread.start()
    for number in range(40):
        node.write(*(f"<{number}-{line}>" for line in range(100)))
        time.sleep(0.05)
        if number in (10, 30):
            program.kill()
            program.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (collector.spool.waiting or collector.spool.held or collector.unread):
        time.sleep(0.2)
    collector.stopping.set()
    for thread in threads:
        thread.join()
    program.stop()
    program.start()
    deadline = time.monotonic() + 10
    rows: list[dict[str, str]] = []
    while not rows and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            rows = program.rows()
        time.sleep(0.1)
    assert Counter(row["_msg"] for row in rows) == Counter(f"<{number}-{line}>" for number in range(40) for line in range(100))
    row = rows[0]
    stream = '{app="shop-web",cluster="test",container="web",level="unknown",namespace="shop"}'
    assert (row["_stream"], row["pod"], row["node"]) == (stream, "web-5d9-x2x", "node-1")
    assert collector.counts["resent_records"] > 0


def test_the_real_program_keeps_lines_as_they_were_written(tmp_path: Path, program: Program) -> None:
    node = Node(tmp_path, program.url)
    lines = ["", "plain", '{"message": "no _msg", "deep": {"a": 1}}', "x" * 100_000]
    node.write(*lines)
    with (node.container / "0.log").open("ab") as out:
        for _ in range(60):
            out.write(b"2026-01-31T12:00:01.000000001Z stdout P " + b"\xff" * 16_000 + b"\n")
        out.write(b"2026-01-31T12:00:01.000000001Z stdout F end\n")
    drain(node.collector())
    deadline = time.monotonic() + 10
    rows: list[dict[str, str]] = []
    while len(rows) < 6 and time.monotonic() < deadline:
        time.sleep(0.2)
        rows = program.rows()
    texts = [row.get("_msg", "") for row in rows]
    assert sorted(texts)[:4] == sorted(lines) and "".join(texts).count("\ufffd") == 60 * 16_000


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_what_may_pass_is_tried_again(node: Node, backend: Backend, status: int) -> None:
    backend.answers = [status, status]
    node.write("1")
    collector = node.collector()
    drain(collector)
    assert backend.lines == ["1"] and collector.counts["errors"] == 2 and not list((node.state / "rejected").iterdir())


def test_what_is_refused_is_kept_and_counted(node: Node, backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.answers = [400]
    node.write("1", "2")
    collector = node.collector()
    drain(collector)
    node.write("3")
    drain(collector)
    (kept,) = (node.state / "rejected").iterdir()
    assert backend.lines == ["3"] and collector.counts["rejected_records"] == 2
    assert [value[1] for stream in json.loads(gzip.decompress(kept.read_bytes()))["streams"] for value in stream["values"]] == [
        "1",
        "2",
    ]
    assert "log_collector_rejected_records_total 2" in collector.metrics()
    assert "rejected/" in capsys.readouterr().err


def test_a_full_spool_stops_the_reader(node: Node, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "HOLD", 0)
    collector = node.collector(limit=1)
    node.write("1")
    collector.read()
    node.write("2")
    collector.read()
    assert len(collector.spool.waiting) == 1 and collector.unread > 0
    for _ in range(3):
        drain(collector)
    assert backend.lines == ["1", "2"]


def test_the_label_is_asked_for_once_and_outlives_the_pod(node: Node, backend: Backend) -> None:
    node.write("1")
    drain(node.collector())
    collector = node.collector()
    answer(collector, None)
    node.write("2")
    drain(collector)
    assert {stream["stream"]["app"] for push in backend.pushes for stream in push["streams"]} == {"shop-web"}
    assert backend.lines == ["1", "2"]


def test_a_file_waits_for_the_labels(node: Node, backend: Backend) -> None:
    node.write("1")
    collector = node.collector()
    answer(collector, None)
    collector.read()
    assert not collector.spool.waiting and collector.unread > 0
    answer(collector, {"shop_web-5d9-x2x": {"app.kubernetes.io/name": "other"}})
    drain(collector)
    assert backend.pushes[0]["streams"][0]["stream"]["app"] == "other"


class Api(BaseHTTPRequestHandler):
    """An API server that knows the pods of one node, for who has the token."""

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        known = self.headers["Authorization"] == "Bearer secret-token"
        pods = [{"metadata": {"namespace": "shop", "name": "web-5d9-x2x", "labels": {"app": "shop-web"}}}]
        body = json.dumps({"items": pods if asked == {"fieldSelector": ["spec.nodeName=one"]} else []}).encode()
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("token", "known", "said"),
    [("secret-token\n", True, ""), ("another\n", False, "answered 403"), (None, False, "gave no answer")],
)
def test_the_labels_are_read_with_the_account_of_the_pod(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str | None,
    known: bool,
    said: str,
) -> None:
    if token:
        (tmp_path / "token").write_text(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    inside = functools.partial(c.PodCluster, str(tmp_path), f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(c, "PodCluster", inside)
    pods = c.Pods("one")
    assert pods.app("shop_web-5d9-x2x_uid-1/web") == ("shop-web" if known else None)
    assert said in "".join(capsys.readouterr())
    server.shutdown()
    server.server_close()


def test_the_image_has_what_the_program_imports(tmp_path: Path) -> None:
    """Run by a Python that finds no other package."""
    (task,) = yaml.safe_load((ROOT / "roles/victoria_logs/tasks/collector.yml").read_text())
    image = task["flaskops.observability.container_image"]
    shutil.copytree(ROOT / "in_cluster/log_collector", tmp_path / "image")
    for inside, folder in image["extra_folders"].items():
        shutil.copytree(ROOT / folder.split("/../../")[1], tmp_path / "image" / inside)
    for inside, text in image["extra_files"].items():
        (tmp_path / "image" / inside).write_text(text)
    copied = re.findall(r"^COPY (\S+) /\1$", (tmp_path / "image/Containerfile").read_text(), re.MULTILINE)
    assert set(copied) == {"collector.py", *(inside.partition("/")[0] for inside in image["extra_folders"])}
    command = [sys.executable, "-S", "-c", "import collector"]
    done = subprocess.run(command, cwd=tmp_path / "image", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_positions_of_an_older_collector_are_taken(node: Node, backend: Backend) -> None:
    node.write("1")
    drain(node.collector())
    path = node.state / "positions.json"
    known = json.loads(path.read_text())
    known["files"] = {inode: [name, min(done.values())] for inode, (name, done) in known["files"].items()}
    path.write_text(json.dumps(known))
    node.write("2")
    drain(node.collector())
    assert backend.lines == ["1", "2"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(["F", "P"]), st.sampled_from(["stdout", "stderr"])),
        st.tuples(st.sampled_from(["read", "rotate", "compress", "restart"]), st.none(), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, at_a_time=st.sampled_from([60, 150, 1 << 20]))
# The older file is read again for one stream only; what the other one has in it was finished in the newer file.
@example(
    steps=[
        ("write", "P", "stderr"),
        ("write", "P", "stdout"),
        ("rotate", None, None),
        ("write", "F", "stdout"),
        ("read", None, None),
        ("restart", None, None),
    ],
    at_a_time=1 << 20,
)
# The older file has more than is read of it at a time, and its last line ends in the newer file.
@example(
    steps=[("write", "F", "stdout")] * 4 + [("write", "P", "stdout"), ("rotate", None, None), ("write", "F", "stdout")],
    at_a_time=60,
)
def test_each_line_arrives_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any]], at_a_time: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c, "READ", at_a_time)
        each_line_arrives_once(tmp_path_factory, steps)


def each_line_arrives_once(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any]]) -> None:
    node = Node(tmp_path_factory.mktemp("node"), "http://127.0.0.1:1")
    collector = node.collector()
    wanted: list[str] = []
    begun: dict[str, str] = {}
    rotated: list[Path] = []
    for step, flag, stream in [*steps, ("write", "F", "stdout"), ("write", "F", "stderr")]:
        if step == "write":
            text = f"<{node.number}>"
            node.write(text, flag=flag, stream=stream)
            begun[stream] = begun.get(stream, "") + text
            if flag == "F":
                wanted.append(begun.pop(stream))
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
    while collector.read():
        pass
    found: list[str] = []
    for path in (node.state / "spool").iterdir():
        for item in json.loads(gzip.decompress(path.read_bytes()))["streams"]:
            found += [value[1] for value in item["values"]]
    assert sorted(found) == sorted(wanted)
