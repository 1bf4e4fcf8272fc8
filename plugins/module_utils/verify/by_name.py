# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request to an address for the name of a host, as users send it."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..kube import front
from ..kube.transport import ApiError, reason


@dataclass(frozen=True)
class Answer:
    """What came back from a door: the header ``X-Request-ID`` and the redirect's address, where it has them.

    :param certificate: in DER; empty without TLS. :param distrust: why this machine does not trust it.
    """

    status: int
    request_id: str = ""
    location: str = ""
    certificate: bytes = b""
    distrust: str = ""


def resolve(host: str) -> list[str]:
    """The addresses of a name, as this machine knows them; none where it knows none."""
    try:
        return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))
    except OSError:
        return []


def ask(address: str, port: int, tls: bool, host: str, path: str, headers: dict[str, str], seconds: float) -> Answer:
    """A request for a host at an address, whoever has signed the certificate there.

    :raises ApiError: where there is no answer.
    """
    distrust = ""
    try:
        try:
            connection = _connected(address, port, host, ssl.create_default_context() if tls else None, seconds)
        except ssl.SSLCertVerificationError as error:
            distrust = error.verify_message
            connection = _connected(address, port, host, _trusting(), seconds)
        try:
            # The connection may give it away with the answer.
            sock = connection.sock
            certificate = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
            name = urlsplit(front.url("https" if tls else "http", host, port)).netloc
            connection.request("GET", path, headers={**headers, "Host": name})
            response = connection.getresponse()
            response.read(65536)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ApiError(0, reason(error)) from error
    ids, location = response.getheader("X-Request-ID") or "", response.getheader("Location") or ""
    return Answer(response.status, ids, location, certificate or b"", distrust)


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _connected(address: str, port: int, host: str, context: ssl.SSLContext | None, seconds: float) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    sock = socket.create_connection((address, port), seconds)
    try:
        connection.sock = context.wrap_socket(sock, server_hostname=host) if context else sock
    except OSError:
        sock.close()
        raise
    return connection
