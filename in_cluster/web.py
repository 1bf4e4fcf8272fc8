# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the programs of one image have in common: a small web server that ends with SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TIMEOUT = 10  # seconds that a client may keep a connection open without sending


class Handler(BaseHTTPRequestHandler):
    """Answers with a text."""

    timeout = TIMEOUT

    def answer(self, status: HTTPStatus, text: str, kind: str = "text/plain", refresh: int = 0) -> None:
        """Send a whole answer of a content type, which a browser reads again after so many seconds; 0 for not."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if refresh:
            self.send_header("Refresh", str(refresh))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: requests are not logged."""


class Server(ThreadingHTTPServer):
    """One thread for each connection; a client that goes away is one line of log."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, without a traceback."""
        print(json.dumps({"client": str(client_address), "error": repr(sys.exc_info()[1])}), flush=True)


def stays(query: str) -> bool:
    """Whether a reader has asked that the page does not refresh itself while they read."""
    return "no" in parse_qs(query).get("refresh", [])


def serve(listening: Server) -> None:
    """Serve until SIGTERM."""
    # shutdown() waits for serve_forever(), which a signal handler would hold up.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=listening.shutdown).start())
    listening.serve_forever()
    listening.server_close()


def port() -> int:
    """The port to listen on."""
    return int(os.environ.get("PORT", "8080"))
