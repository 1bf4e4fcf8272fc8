# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever Alertmanager notifies: a webhook, Slack, PagerDuty and Teams by HTTPS, and a mail server.

Each checks what it is sent as its original does, keeps it by the receiver's name, and refuses in its original's words. Written
after the public pages of Slack (incoming webhooks), PagerDuty (Events API v2), Microsoft (adaptive cards of a workflow) and RFC
5321, 3207 and 4954. What begins with `busy` is sent too much.
"""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .certificates import certificate

TOKEN = "right-token"  # what a receiver must have, but for PagerDuty, whose key says whose it is
BUSY = "busy"


class Refused(Exception):
    """An error answer: status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class OnCall:
    """Those who are notified, and what each of them got.

    :param known: the names of receivers; anybody else's address leads nowhere.
    """

    def __init__(self, folder: Path, known: set[str]) -> None:
        self.known = known
        self.got: list[tuple[str, Any]] = []
        self.authority = folder / "authority.pem"
        self.https = self.mail = self.strangers_https = self.strangers_mail = (
            0  # ports; nobody trusts the strangers' certificates
        )
        self._folder = folder

    def context(self, name: str) -> ssl.SSLContext:
        """A TLS context with a certificate of its own, which is kept where the name is that of the authority."""
        text, key = certificate("127.0.0.1", "localhost")
        (self._folder / f"{name}.pem").write_text(text)
        (self._folder / f"{name}.key").write_text(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        return context

    def names(self) -> list[str]:
        """Whom something came to, in order."""
        return [name for name, _ in self.got]

    def take(self, name: str, token: str, payload: Any, unknown: Refused, wrong: Refused, busy: Refused) -> None:
        """Keep what a receiver got, unless it is refused."""
        if name not in self.known:
            raise unknown
        if token != TOKEN:
            raise wrong
        if name.startswith(BUSY):
            raise busy
        self.got.append((name, payload))


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise Refused(400, text)


def webhook(on_call: OnCall, name: str, query: dict[str, list[str]], body: Any, token: str) -> tuple[int, str]:
    _need(body.get("version") == "4" and bool(body.get("alerts")) and body.get("status") in ("firing", "resolved"), "no alerts")
    no = Refused(404, "not found"), Refused(401, "who are you"), Refused(429, "slow down")
    on_call.take(name, token.removeprefix("Bearer "), body, *no)
    return 200, ""


def slack(on_call: OnCall, name: str, query: dict[str, list[str]], body: Any, token: str) -> tuple[int, str]:
    _need(bool(body.get("attachments")) and bool(body["attachments"][0].get("fallback")), "no_text")
    no = Refused(404, "no_service"), Refused(403, "invalid_token"), Refused(429, "rate_limited")
    on_call.take(name, query.get("token", [""])[0], body, *no)
    return 200, "ok"


def pagerduty(on_call: OnCall, name: str, query: dict[str, list[str]], body: Any, token: str) -> tuple[int, str]:
    def invalid(what: str) -> Refused:
        return Refused(400, json.dumps({"status": "invalid event", "message": "Event object is invalid", "errors": [what]}))

    payload = body.get("payload") or {}
    if body.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        raise invalid("'event_action' is invalid")
    if body["event_action"] == "trigger" and not all(payload.get(key) for key in ("summary", "source", "severity")):
        raise invalid("'payload' is missing or blank")
    # The key says whose it is: 32 characters, as PagerDuty's.
    key = body.get("routing_key", "")
    whose = key.split("-")[0] if len(key) == 32 else ""
    wrong = invalid("Invalid routing key")
    on_call.take(
        whose, TOKEN, body, wrong, wrong, Refused(429, json.dumps({"status": "throttled", "message": "Requests throttled"}))
    )
    return 202, json.dumps({"status": "success", "message": "Event processed", "dedup_key": body.get("dedup_key")})


def teams(on_call: OnCall, name: str, query: dict[str, list[str]], body: Any, token: str) -> tuple[int, str]:
    cards = [each for each in body.get("attachments") or [] if each["contentType"] == "application/vnd.microsoft.card.adaptive"]
    _need(body.get("type") == "message" and bool(cards) and cards[0]["content"]["type"] == "AdaptiveCard", "BadRequest")

    def said(status: int, code: str) -> Refused:
        return Refused(status, json.dumps({"error": {"code": code, "message": "The request was not taken."}}))

    no = said(404, "WorkflowNotFound"), said(401, "DirectApiInvalidAuthorizationScheme"), said(429, "TooManyRequests")
    on_call.take(name, query.get("sig", [""])[0], body, *no)
    return 202, ""


PROVIDERS = {"webhook": webhook, "slack": slack, "v2": pagerduty, "workflows": teams}


class Https(BaseHTTPRequestHandler):
    """The providers, by the first part of the path; the second is the receiver's name."""

    on_call: OnCall

    def do_POST(self) -> None:
        where = urlsplit(self.path)
        kind, _, name = where.path.strip("/").partition("/")
        try:
            if kind not in PROVIDERS or (kind == "v2" and name != "enqueue"):
                raise Refused(404, "not found")
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, text = PROVIDERS[kind](self.on_call, name, parse_qs(where.query), body, self.headers.get("Authorization", ""))
        except Refused as refused:
            status, text = refused.status, refused.text
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_given: Any) -> None:
        pass


class Smtp(socketserver.StreamRequestHandler):
    """A mail server that wants TLS and a login."""

    on_call: OnCall
    tls: ssl.SSLContext

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def handle(self) -> None:
        """One connection."""
        self.secure, self.known, self.to = False, False, ""
        self.say("220 mail.test ESMTP")
        while line := self.rfile.readline().decode().strip():
            word, _, rest = line.partition(" ")
            if word.upper() == "QUIT":
                self.say("221 2.0.0 Bye")
                return
            try:
                getattr(self, f"do_{word.lower()}", self.unknown)(rest)
            except OSError:
                return

    def unknown(self, _rest: str) -> None:
        self.say("500 5.5.2 Syntax error")

    def do_ehlo(self, _rest: str) -> None:
        self.wfile.write(b"250-mail.test\r\n250 " + (b"AUTH PLAIN" if self.secure else b"STARTTLS") + b"\r\n")

    def do_starttls(self, _rest: str) -> None:
        self.say("220 2.0.0 Ready")
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]
        self.secure = True

    def do_auth(self, rest: str) -> None:
        self.known = base64.b64decode(rest.split()[1]).decode().split("\0")[2] == TOKEN
        self.say("235 2.7.0 Accepted" if self.known else "535 5.7.8 Username and Password not accepted")

    def do_mail(self, _rest: str) -> None:
        self.say("250 2.1.0 Ok" if self.known else "530 5.7.0 Authentication required")

    def do_rcpt(self, rest: str) -> None:
        self.to = rest.split("<")[1].split("@")[0]
        if self.to not in self.on_call.known:
            self.say("550 5.1.1 The email account that you tried to reach does not exist")
        elif self.to.startswith(BUSY):
            self.say("450 4.2.1 The user you are trying to contact is receiving mail too quickly")
        else:
            self.say("250 2.1.5 Ok")

    def do_data(self, _rest: str) -> None:
        self.say("354 Go on")
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        mail = message_from_bytes(b"".join(lines))
        if line and mail["Subject"]:
            self.on_call.got.append((self.to, mail))
        self.say("250 2.0.0 Taken" if mail["Subject"] else "554 5.6.0 A mail without a subject")


@contextmanager
def running(folder: Path, known: set[str]) -> Iterator[OnCall]:
    """All of them on loopback, twice: with certificates of an authority that is kept, and with others."""
    on_call, servers = OnCall(folder, known), []
    for name in ("authority", "strangers"):
        context = on_call.context(name)
        https = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHttps", (Https,), {"on_call": on_call}))
        https.socket = context.wrap_socket(https.socket, server_side=True)
        mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("BoundSmtp", (Smtp,), {"on_call": on_call, "tls": context}))
        mail.daemon_threads = True
        servers += [https, mail]
        ports = https.server_address[1], mail.server_address[1]
        if name == "authority":
            on_call.https, on_call.mail = ports
        else:
            on_call.strangers_https, on_call.strangers_mail = ports
    try:
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield on_call
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
