# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials in texts, in addresses, and in what a module does not foresee."""

from __future__ import annotations

import base64
import html
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import quote, quote_plus
from urllib.request import Request

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.credentials import guard

SECRET = "pa  ss/\"w'ö+rd&<1>"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        " ".join(SECRET.split()),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="").lower(),
        html.escape(SECRET),
        html.escape(SECRET, quote=False),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        repr(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_hidden_as_others_write_it(written: str) -> None:
    assert guard.hide(f"refused: {written}!", [SECRET, ""]).rstrip("=!") in ("refused: ***", "refused: ***")
    assert guard.hide("nothing", [""]) == "nothing"


def test_the_longest_is_hidden_first() -> None:
    assert guard.hide("abcdef abc", ["abc", "abcdef"]) == "*** ***"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://logs.test:9200/x", True),
        ("http://[::1]:9200", True),
        ("https://ann@logs.test", False),
        ("https://ann:pass@logs.test", False),
        ("https://[bad", False),
        ("https://logs.test\n", False),
        ("https://logs.test:99999", False),
        ("logs.test", False),
        ("file:///etc/passwd", False),
        (None, False),
    ],
)
def test_addresses(url: object, good: bool) -> None:
    assert guard.is_address(url) is good


def test_nothing_is_sent_on_to_another_host() -> None:
    asked: list[str | None] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/there")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        request = Request(f"http://127.0.0.1:{server.server_port}/", headers={"Authorization": "Basic x"})
        with pytest.raises(HTTPError, match="302"):
            guard.opener(None).open(request, timeout=5)
        server.shutdown()
    assert asked == ["Basic x"]


def test_what_is_not_foreseen_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise ValueError(f"Invalid header value {SECRET}")

    with pytest.raises(SystemExit) as ended:
        guard.careful(main)()
    said = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1 and said["failed"]
    assert "ValueError" in said["msg"] and "test_guard.py:" in said["msg"] and "rd&" not in said["msg"]
