# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A credential that must not be seen anywhere, in kubeconfigs that are malformed in the ways of real ones."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

CANARY = "eyJhbGciOi.Canary7f3a/9b+1c"
# A part of it is a leak too.
PARTS = {CANARY[:12], CANARY[-12:], "Canary7f3a"}


def leaks(text: str) -> list[str]:
    """The places where a text shows the canary or a part of it, however it is written."""
    wanted = {form for part in PARTS for form in (part, quote(part, safe=""), html.escape(part))}
    # Base64 of a text that holds the canary somewhere depends on where it begins.
    for begin in range(3):
        for part in PARTS:
            encoded = base64.b64encode(b" " * begin + part.encode()).decode()
            wanted.add(encoded[4 if begin else 0 : -4])
    return [
        text[max(0, found.start() - 80) : found.end() + 20] for form in wanted for found in re.finditer(re.escape(form), text)
    ]


def kubeconfig(user: Any, **cluster: Any) -> dict[str, Any]:
    """A kubeconfig of one context c, for an API server that does not answer."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }


def _user(user: Any, **cluster: Any) -> Callable[[Path], str]:
    return lambda folder: yaml.safe_dump(kubeconfig(user, **cluster))


def _file(content: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / "token").write_text(content)
        return yaml.safe_dump(kubeconfig({"tokenFile": "token"}))

    return make


def _part(**changes: Any) -> Callable[[Path], str]:
    return lambda folder: yaml.safe_dump({**kubeconfig({"token": CANARY}), **changes})


def _text(text: str) -> Callable[[Path], str]:
    return lambda folder: text


# What the sentence must name, and the kubeconfig.
CASES: dict[str, tuple[str, Callable[[Path], str]]] = {
    "a line break inside a token": ("token", _user({"token": f"{CANARY}\n{CANARY}\n"})),
    "a control character in a token": ("token", _user({"token": f"{CANARY}\x07"})),
    "a space in a token": ("token", _user({"token": f"Bearer {CANARY}"})),
    "a token that is not latin": ("token", _user({"token": f"{CANARY}\u20ac\u4e2d"})),
    "a token that is a number": ("token", _user({"token": 12345678, "password": CANARY})),
    "a token that is a list": ("token", _user({"token": [CANARY]})),
    "a token that is a mapping": ("token", _user({"token": {"value": CANARY}})),
    "a line break inside a token's file": ("tokenFile", _file(f"{CANARY}\n{CANARY}")),
    "a token in the place of its file": ("tokenFile", _user({"tokenFile": CANARY})),
    "a user that is text": ("user", _user(CANARY)),
    "a user's keys beside the user": ("user", _part(users=[{"name": "u", "token": CANARY}])),
    "users that are no list": ("users", _part(users=3)),
    "users that are a mapping": ("users", _part(users={"u": {"token": CANARY}})),
    "a user without a name": ("users", _part(users=[{"user": {"token": CANARY}}])),
    "a context without its mapping": ("context", _part(contexts=[{"name": "c", "user": CANARY}])),
    "a user that is missing": ("user", _part(users=[{"name": "other", "user": {"token": CANARY}}])),
    "a list": ("a list", _text(yaml.safe_dump([{"token": CANARY}]))),
    "text": ("text", _text(CANARY)),
    "nothing": ("empty", _text("")),
    "broken in the line of the token": ("YAML", _text(f"users:\n- name: u\n  user: {{token: {CANARY}: {CANARY}\n")),
    "an alias that is not defined": ("YAML", _text(f"users: *{CANARY}\n")),
    "no text": ("YAML", _text(f"users: [{{name: u, user: {{token: '{CANARY}\x00'}}}}]")),
    "a key that is no base64": ("client-key-data", _user({"client-certificate-data": "YQ==", "client-key-data": f"-{CANARY}!"})),
    "a key in the place of its file": ("client-key", _user({"client-certificate-data": "YQ==", "client-key": CANARY})),
    "a password with a line break": ("password", _user({"username": "ann", "password": f"{CANARY}\n"})),
    "a proxy that is malformed": ("proxy-url", _user({"token": "x"}, **{"proxy-url": f"http://ann:{CANARY}@[proxy:1"})),
    "a server with a password": ("server", _user({"token": "x"}, server=f"https://ann:{CANARY}@127.0.0.1:1")),
    "a server that is malformed": ("server", _user({"token": "x"}, server=f"https://ann:{CANARY}@[127.0.0.1")),
    "a user to act for with a line break": ("as", _user({"token": CANARY, "as": f"{CANARY}\nx"})),
}


def _malformed(key: str, make: Callable[[Path], str]) -> Callable[[Path], tuple[str, str]]:
    def write(folder: Path) -> tuple[str, str]:
        path = folder / "config"
        path.write_text(make(folder))
        path.chmod(0o600)
        return str(path), key

    return write


# Each writes a kubeconfig into a folder, and gives its path and what a refusal must name.
MALFORMED = {name: _malformed(*case) for name, case in CASES.items()}
