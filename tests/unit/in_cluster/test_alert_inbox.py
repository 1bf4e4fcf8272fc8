# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert inbox, over real HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# The folder is no package: its files are copied into an image.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "in_cluster"))

import alert_inbox


@pytest.fixture
def url() -> Iterator[str]:
    listening = alert_inbox.server("127.0.0.1", 0, alert_inbox.Inbox(limit=3))
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def webhook(*names: str, status: str = "firing", **annotations: str) -> dict[str, Any]:
    alerts = [
        {
            "status": status,
            "labels": {"alertname": name, "namespace": "shop", "severity": "critical"},
            "annotations": annotations,
            "startsAt": "2026-01-02T03:04:05.678Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus/graph",
            "fingerprint": f"f-{name}",
        }
        for name in names
    ]
    return {"version": "4", "groupKey": "{}", "receiver": "inbox", "status": status, "alerts": alerts, "truncatedAlerts": 0}


def post(url: str, body: Any, path: str = "/alerts") -> int:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data=data), timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def get(url: str, path: str) -> str:
    with urllib.request.urlopen(url + path, timeout=5) as reply:
        return str(reply.read().decode())


def names(url: str, query: str = "") -> list[str]:
    return [alert["labels"]["alertname"] for alert in json.loads(get(url, f"/alerts.json{query}"))["alerts"]]


def test_what_was_received_is_told_with_its_time(url: str) -> None:
    assert post(url, webhook("Down", summary="It is down")) == 200
    assert post(url, webhook("Down", status="resolved")) == 200
    first, second = json.loads(get(url, "/alerts.json"))["alerts"]
    assert (first["status"], second["status"]) == ("firing", "resolved")
    assert first["labels"] == {"alertname": "Down", "namespace": "shop", "severity": "critical"}
    assert (first["annotations"], first["receiver"], first["fingerprint"]) == ({"summary": "It is down"}, "inbox", "f-Down")
    assert alert_inbox.parse_since(first["received"]) == first["received_ms"]
    assert first["received_ms"] <= second["received_ms"]


def test_since_is_exclusive_and_takes_both_forms(url: str) -> None:
    post(url, webhook("One"))
    received = json.loads(get(url, "/alerts.json"))["alerts"][0]
    for form in (str(received["received_ms"]), received["received"], received["received"].replace("Z", "+00:00")):
        assert names(url, f"?since={form}") == []
    assert names(url, f"?since={received['received_ms'] - 1}") == ["One"]


@pytest.mark.parametrize("since", ["yesterday", "2026-01-02T03:04:05", "-1", "1e9", "9" * 40])
def test_since_that_is_no_time(url: str, since: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        names(url, f"?since={since}")
    assert error.value.code == 400


def test_memory_is_bounded_and_says_so(url: str) -> None:
    post(url, webhook("A", "B", "C", "D"))
    assert names(url) == ["B", "C", "D"]
    assert json.loads(get(url, "/alerts.json"))["dropped"] == 1
    assert "of 3 notifications, 1 older one dropped" in get(url, "/")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        {"version": "3", "alerts": []},
        {"version": "4", "alerts": {}},
        {"version": "4", "alerts": ["x"]},
        {"version": "4", "alerts": [{"status": "maybe"}]},
        {"version": "4", "alerts": [{"status": "firing", "labels": []}]},
    ],
)
def test_what_is_no_webhook_is_refused(url: str, body: Any) -> None:
    assert post(url, body) == 400
    assert names(url) == []


def test_one_bad_alert_refuses_the_whole_webhook(url: str) -> None:
    message = webhook("Good", "Bad")
    message["alerts"][1]["status"] = "maybe"
    assert post(url, message) == 400
    assert names(url) == []


def test_too_large_a_body_is_refused_unread(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
        assert client.recv(100).split()[1] == b"413"


def test_page_escapes_what_it_shows(url: str) -> None:
    post(url, webhook("<script>", summary="a & b"))
    page = get(url, "/")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; b" in page


def test_page_refreshes_itself_unless_its_reader_stops_that(url: str) -> None:
    post(url, webhook("VerifyTestAlert"))
    for path, header, rows in (("/", "15", 0), ("/?refresh=no", None, 0), ("/?refresh=no&tests=shown", None, 1)):
        with urllib.request.urlopen(url + path, timeout=5) as reply:
            assert (reply.headers["Refresh"], reply.headers["Content-Type"]) == (header, "text/html; charset=utf-8")
            assert reply.read().decode().count('<th scope="row"') == rows, path


def test_it_runs_in_its_image_by_a_python_without_packages(runner: Path) -> None:
    code = "import alert_inbox as a; print(a.inbox.page(a.Inbox().since(0), 0))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=runner, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("<!DOCTYPE html>") and "--page" in done.stdout, done.stderr


def test_other_addresses(url: str) -> None:
    assert get(url, "/healthz") == "ok\n"
    assert post(url, webhook("A"), path="/other") == 404
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url, "/etc/passwd")
    assert error.value.code == 404


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode())
)
@settings(max_examples=200, deadline=None)
def test_no_body_is_worse_than_a_value_error(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        alert_inbox.read_webhook(body)


def test_deep_nesting_is_refused(url: str) -> None:
    assert post(url, b"[" * 100_000) == 400


@given(st.integers(min_value=0, max_value=4102444800000))
@settings(deadline=None)
def test_times_survive_the_round_trip(milliseconds: int) -> None:
    assert alert_inbox.parse_since(alert_inbox.rfc3339(milliseconds)) == milliseconds
