# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client by itself: how long it waits, whom it trusts, and what it keeps to itself."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import client

from .support import TOKEN, bench

NOW = 1_800_000_000.0
PARAMS: dict[str, Any] = {
    "api_url": "http://127.0.0.1:1",
    "api_token": TOKEN,
    "api_timeout": 5,
    "api_retries": 0,
    "api_max_wait": 900,
    "validate_certs": True,
    "ca_path": None,
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert client.retry_after({"retry-after": text}, NOW) == seconds


@pytest.mark.parametrize(
    ("title", "headers", "seconds"),
    [
        ("UptimeRobot", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 40)}, 40),
        ("UptimeRobot", {"x-ratelimit-remaining": "3", "x-ratelimit-reset": str(int(NOW) + 40)}, 0),
        ("UptimeRobot", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) - 40)}, 0),
        ("UptimeRobot", {"x-ratelimit-remaining": "0"}, 0),
        ("UptimeRobot", {}, 0),
        ("StatusCake", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 12),
        ("StatusCake", {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "12"}, 0),
        ("StatusCake", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "?"}, 0),
        ("Pingdom", {"req-limit-short": "Remaining: 0 Time until reset: 9"}, 9),
        (
            "Pingdom",
            {"req-limit-short": "Remaining: 0 Time until reset: 9", "req-limit-long": "Remaining: 0 Time until reset: 99"},
            99,
        ),
        ("Pingdom", {"req-limit-short": "Remaining: 1 Time until reset: 9", "req-limit-long": "?"}, 0),
    ],
)
def test_how_long_a_provider_wants_us_to_wait(title: str, headers: dict[str, str], seconds: float) -> None:
    assert client.DIALECTS[title][0](headers, NOW) == seconds


@pytest.mark.parametrize(
    ("title", "body", "words"),
    [
        ("UptimeRobot", {"message": "no"}, "no"),
        ("UptimeRobot", {"message": ["a", "b"], "code": "000-1", "details": [{"x": 1}, "y"]}, 'a; b; code 000-1; {"x": 1}; y'),
        ("UptimeRobot", {"error": "Bad Request"}, "Bad Request"),
        ("Pingdom", {"error": {"statuscode": 400, "statusdesc": "Bad Request", "errormessage": "no"}}, "no"),
        ("Pingdom", {"error": {"statusdesc": "Bad Request"}}, "Bad Request"),
        ("Pingdom", {"error": "text"}, ""),
        (
            "StatusCake",
            {"message": "bad", "errors": {"name": ["short", "taken"], "tags": "odd"}},
            "bad; name: short, taken; tags: odd",
        ),
        ("StatusCake", {}, ""),
    ],
)
def test_the_providers_words(title: str, body: dict[str, Any], words: str) -> None:
    assert client.DIALECTS[title][1](body) == words


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "a\r\nX: y", "ä"])
def test_a_token_that_is_none_is_not_repeated(token: str) -> None:
    with pytest.raises(client.CheckError) as failure:
        client.Client("Pingdom", {**PARAMS, "api_token": token})
    assert "api_token" in str(failure.value) and (not token.strip() or token not in str(failure.value))


def test_an_echoed_token_is_hidden() -> None:
    with bench("uptimerobot") as made:
        made.fake.fail("POST *", status=400, body={"message": f"Bearer {TOKEN} is odd"})
        assert "Bearer *** is odd" in made.check()["msg"]


def test_waiting_is_bounded_in_all() -> None:
    with bench("uptimerobot") as made:
        made.fake.fail("GET *", status=429, retry_after=100, times=None)
        assert "past api_max_wait=350" in made.check(api_max_wait=350)["msg"]
        assert made.clock.slept == [100, 100, 100]


def test_retries_are_bounded() -> None:
    with bench("uptimerobot") as made:
        made.fake.fail("GET *", status=503, times=None)
        assert made.check(api_retries=8, api_max_wait=3600)["failed"]
        assert made.clock.slept == [1, 2, 4, 8, 16, 32, 60, 60]


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"data": [], "nextLink": null}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An https server with a certificate of its own; its address and the certificate."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", tmp_path / "cert.pem"
    server.shutdown()
    server.server_close()
    thread.join()


def test_certificates(tls: tuple[str, Path], tmp_path: Path) -> None:
    url, certificate = tls

    def ask(**params: Any) -> Any:
        return client.Client("UptimeRobot", {**PARAMS, "api_url": url, **params}).request("GET", "/monitors", answer=dict)

    with pytest.raises(client.ProviderError, match=r"certificate is not trusted.*: check ca_path"):
        ask(api_retries=3)
    assert ask(ca_path=str(certificate))["data"] == []
    assert ask(validate_certs=False)["data"] == []
    for wrong in (tmp_path / "none.pem", tmp_path / "key.pem"):
        with pytest.raises(client.CheckError, match="give a file in PEM form"):
            ask(ca_path=str(wrong))
