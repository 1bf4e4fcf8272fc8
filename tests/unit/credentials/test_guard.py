# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
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
        ("https://logs.test/%zz", False),
        ("https://logs.test/%2F", True),
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


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"http_config": {"authorization": {"type": "Bearer", "credentials": "x"}}}, ["http_config.authorization.credentials"]),
        ({"http_config": {"authorization": {"credentials_file": "/x"}}}, []),
        ({"http_config": {"basic_auth": {"username": "u", "password": "x"}}}, ["http_config.basic_auth.password"]),
        (
            {"http_config": {"oauth2": {"client_id": "u", "client_secret": "x", "token_url": "https://t"}}},
            ["http_config.oauth2.client_secret"],
        ),
        ({"http_config": {"http_headers": {"X-A": {"secrets": ["x"]}}}}, ["http_config.http_headers.X-A.secrets[0]"]),
        (
            {"http_config": {"proxy_connect_header": {"Proxy-Authorization": ["Basic x"]}}},
            ["http_config.proxy_connect_header.Proxy-Authorization[0]"],
        ),
        (
            {"http_config": {"proxy_url": "http://u:x@proxy", "tls_config": {"key": "x"}}},
            ["http_config.proxy_url", "http_config.tls_config.key"],
        ),
        ({"api_url": "x", "routing_key": "x", "service_key": 5}, ["api_url", "routing_key", "service_key"]),
        ({"auth_password": "x", "auth_secret": "x", "bearer_token": "x"}, ["auth_password", "auth_secret", "bearer_token"]),
        ({"auth_password_file": "/x", "api_url_file": "/x", "password": "", "max_alerts": 5, "client_url": "https://a"}, []),
        (["https://ann:x@logs.test/"], ["[0]"]),
    ],
)
def test_settings_with_credentials_are_found(settings: object, places: list[str]) -> None:
    assert guard.inline_secrets(settings) == places


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://hooks.slack.com/services/T01234567/B01234567/aBcDeFgHiJ0123456789kLmN", True),
        ("https://x.webhook.office.com/webhookb2/0f9c3b5e-1f3c-4d55-9a6e-2f1d3c4b5a69/IncomingWebhook/x", True),
        ("https://events.pagerduty.com/integration/0123456789abcdef0123456789abcdef/enqueue", True),
        ("https://hc-ping.com/0f9c3b5e-1f3c-4d55-9a6e-2f1d3c4b5a69", True),
        ("https://chat.test/hook?sig=aBcDeFgHiJ0123456789", True),
        ("https://ann:x@chat.test", True),
        ("http://alert-inbox.monitoring.svc:80/alerts", False),
        ("https://chat.test/hooks/alerts-for-team-2024-production?severity=critical", False),
    ],
)
def test_addresses_that_are_secrets(url: str, secret: bool) -> None:
    assert guard.is_secret_address(url) is secret
