# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that nobody invited, at the reference application and at one without an exporter of its own."""

from __future__ import annotations

import contextlib
import socket
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import processes

from .support import APP, Server, wait_for

FLOOD = 10_000
MORE_SERIES, MORE_MEMORY, SCRAPE = 20, 10 * 2**20, 0.2
PLAIN = """
from flask import Flask, request
app = Flask(__name__)
@app.get("/")
def hello():
    return "hello"
@app.post("/up")
def up():
    return str(len(request.get_data()))
"""


@pytest.fixture(params=["reference", "generated"])
def start(request: pytest.FixtureRequest, serve: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Starts the reference application, or one that has nothing of a collection's."""
    if request.param == "reference":
        return lambda **env: serve(folder=APP, **env)
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "app.py").write_text(PLAIN)
    return lambda **env: serve(folder=folder, FLASK_IMAGE_WSGI="app:app", **env)


class Kept:
    """A kept-alive connection, for requests one after the other."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=30)

    def status(self, method: str, path: str) -> int:
        self.connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += self.connection.recv(65536)
        return int(head.split()[1])


def series(server: Server) -> int:
    """How many series Prometheus keeps of the page: the ServiceMonitor drops the times of their creation."""
    names = [line.split("{")[0] for line in server.metrics().splitlines() if not line.startswith("#")]
    return sum(not name.endswith("_created") for name in names)


def memory(server: Server) -> int:
    """What all processes of the server have for themselves, and their share of what they have together."""
    found = 0
    for pid in processes(server.process.pid):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return found * 1024


def made_up() -> Iterator[str]:
    """Words of four capital letters, which are methods by their form."""
    letters = string.ascii_uppercase
    for number in range(FLOOD):
        yield "".join(letters[number // 26**place % 26] for place in range(4))


def test_made_up_methods_and_paths_cost_nothing(start: Callable[..., Server], request: pytest.FixtureRequest) -> None:
    # Two workers have their series in files.
    server = start(WEB_CONCURRENCY="2" if "generated" in request.node.name else "1")
    kept = Kept(server.port)
    for number in range(2000):  # its threads and caches are there
        kept.status("GET", f"/?{number}")
    before, had = series(server), memory(server)
    assert {kept.status(word, path) for word in made_up() for path in ("/", f"/nope/{word}")} == {404, 405}
    assert {kept.status("GET", f"/{word}/{word}") for word in made_up()} == {404}
    assert series(server) - before <= MORE_SERIES
    more = memory(server) - had
    began = time.perf_counter()
    server.metrics()
    took = time.perf_counter() - began
    assert more <= MORE_MEMORY and took < SCRAPE, (more, took)
    wait_for(lambda: len(server.requests()) == 3 * FLOOD + 2000, 60)


def test_half_sent_requests_do_not_starve_the_health_check(start: Callable[..., Server]) -> None:
    server = start(THREADS="4")
    whole = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc"
    with contextlib.ExitStack() as held:
        for number in range(64):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            # Nothing at all, a part of the first line, a part of the head, and a part of the body.
            connection.sendall(whole[: (0, 8, 40, len(whole))[number % 4]])
        for _ in range(20):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", server.port), timeout=1) as probe:
                probe.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert probe.recv(100).startswith(b"HTTP/1.1 200")
            assert time.monotonic() - began < 1
        assert any("hold all 4 threads" in line["message"] for line in server.lines())
    assert server.status("/") == 200
