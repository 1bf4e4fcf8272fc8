# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of a cluster with which a program asks for a login and speaks TLS: what is in them, and what is wrong with that."""

from __future__ import annotations

import base64
import binascii
import os
import re
import ssl
import tempfile
from typing import Any

# The name is a flag of the program and a key of other programs' settings, which all give a meaning to some characters.
USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
LOGIN = ("username", "password")
TLS = ("tls.crt", "tls.key", "ca.crt")


class SecretError(Exception):
    """What is wrong with a Secret, without a value of it."""


def texts(secret: dict[str, Any] | None, keys: tuple[str, ...]) -> dict[str, str]:
    """The values of a Secret's keys.

    :raises SecretError: where it, or one of them, is missing or no text.
    """
    if not secret:
        raise SecretError("does not exist")
    data = secret.get("data") or {}
    missing = [key for key in keys if not data.get(key)]
    if missing:
        raise SecretError(f"lacks {' and '.join(missing)}")
    found = {}
    for key in keys:
        try:
            found[key] = base64.b64decode(data[key]).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise SecretError(f"holds a {key} that is no text") from None
    return found


def login(secret: dict[str, Any] | None) -> tuple[str, str]:
    """The user name and the password of a Secret.

    :raises SecretError: also for those that not every program could send.
    """
    username, password = texts(secret, LOGIN).values()
    if not USERNAME.fullmatch(username):
        raise SecretError("holds a username with more than letters, digits and . _ @ + - in it, such as a line break")
    # One program strips what another one sends.
    if password != password.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in password):
        raise SecretError("holds a password with a line break, or a space at its beginning or end")
    return username, password


def authority(secret: dict[str, Any] | None, host: str) -> str:
    """The certificates of the authority in a Secret with a server's certificate, after a handshake with them for this host.

    :raises SecretError: in the words of TLS where no client would take the certificate.
    """
    found = texts(secret, TLS)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pair.pem")
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{found['tls.key'].strip()}\n{found['tls.crt']}")
        try:
            # Without a password that is asked for at the terminal.
            server.load_cert_chain(path, password="")
        except ssl.SSLError as error:
            raise SecretError(f"has a tls.crt and a tls.key that are no pair ({_words(error)})") from None
    try:
        client = ssl.create_default_context(cadata=found["ca.crt"])
    except ssl.SSLError as error:
        raise SecretError(f"has a ca.crt that holds no certificate ({_words(error)})") from None
    try:
        _shake(client, server, host)
    except ssl.SSLError as error:
        raise SecretError(f"has a tls.crt that no client with its ca.crt takes for {host} ({_words(error)})") from None
    return found["ca.crt"]


def _words(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error.reason or error).rstrip(".")


def _shake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    """A handshake in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname=host), server.wrap_bio(there, back, server_side=True)]
    # The client speaks and the server answers; a handshake has fewer turns than this.
    for _turn in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            if end is ends[0]:
                return


def access(given: dict[str, Any]) -> dict[str, str]:
    """What a client needs, and in `problem` what is wrong with a Secret; empty where nothing is asked for.

    :param given: `host`, the `namespace` of the Secrets, their names as `login` and `tls`, and what was `found` of them; `inline`
        is a login instead of a Secret's.
    """
    found = {"username": "", "password": "", "ca": "", "problem": ""}
    secrets = {item["metadata"]["name"]: item for item in given["found"]}
    name = given["login"]
    try:
        if any(given["inline"].values()):
            data = {key: base64.b64encode(str(value).encode()).decode() for key, value in given["inline"].items()}
            found["username"], found["password"] = login({"data": data})
        elif name:
            found["username"], found["password"] = login(secrets.get(name))
        name = given["tls"]
        if name:
            found["ca"] = authority(secrets.get(name), given["host"])
    except SecretError as error:
        found["problem"] = f"Secret {name} in namespace {given['namespace']} {error}" if name else f"The login {error}"
    return found
