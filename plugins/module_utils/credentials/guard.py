# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that are checked before they are sent, hidden in every text, and sent to one host only."""

from __future__ import annotations

import base64
import functools
import html
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from ssl import SSLContext
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
)

HIDDEN = "***"
# Python's HTTP clients quote the value of a header that can't be sent in their error, so none may come that far.
TOKEN = re.compile(r"[\x21-\x7e]+")
HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


# Keys whose value is a credential; one that ends in _file names a file with it.
SECRET_KEY = re.compile(
    r"passw|token(?!_url)|api_?key|credential|bearer|(^|_)secrets?(_key)?$|(routing|service|user|access|private)_key$|^key$"
    r"|^(api|webhook)_url$|^(proxy-)?authorization$",
    re.IGNORECASE,
)
# An address with a login; a password may hold the characters that end a host.
LOGIN = re.compile(r"(://[^\s/:@]*:)(\S+)@")
# As in the addresses that Slack, Teams, PagerDuty and others give out: whoever knows one can post to it.
RANDOM = re.compile(r"[0-9a-fA-F-]{24,}|(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*[0-9])[\w-]{16,}")


def is_token(value: object) -> bool:
    """Whether it can be sent as a token: printable characters of ASCII without a space."""
    return isinstance(value, str) and TOKEN.fullmatch(value) is not None


def is_header(value: object) -> bool:
    """Whether it can be the value of a header: printable characters of ASCII."""
    return isinstance(value, str) and HEADER.fullmatch(value) is not None


def is_address(url: object) -> bool:
    """Whether it is a web address without a user name or password."""
    if not isinstance(url, str) or re.search(r"[^\x21-\x7e]|%(?![0-9A-Fa-f]{2})", url):
        return False
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0 and "@" not in address.netloc
    except ValueError:
        return False


def is_secret_address(url: str) -> bool:
    """Whether an address holds a credential: a login, or a part that somebody drew at random."""
    # A password may hold the characters that end a host.
    return "@" in url or any(RANDOM.fullmatch(part) for part in re.split("[/?#&=]", url))


def inline_secrets(value: Any, path: str = "", secret: bool = False) -> list[str]:
    """Where settings hold a credential themselves, instead of naming a file with it.

    :param secret: whether `value` is that of a key at `path` that is told to be secret.
    """
    if isinstance(value, dict):
        return [
            name
            for key, item in value.items()
            if key != "type" and not str(key).endswith("_file")
            for name in inline_secrets(item, f"{path}.{key}".lstrip("."), secret or SECRET_KEY.search(str(key)) is not None)
        ]
    if isinstance(value, list):
        return [name for number, item in enumerate(value) for name in inline_secrets(item, f"{path}[{number}]", secret)]
    if isinstance(value, bool) or value in (None, ""):
        return []
    return [path] if secret or (isinstance(value, str) and re.search(r"//.*@", value)) else []


def _forms(secret: str) -> Iterator[str]:
    """A secret as other programs write it."""
    yield secret
    yield " ".join(secret.split())
    yield secret.strip()
    for escaped in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield escaped
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), escaped)
    yield html.escape(secret)
    yield html.escape(secret, quote=False)
    yield html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield repr(secret.encode())[2:-1]
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
    yield base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")


def basic(username: str, password: str) -> str:
    """The value of the header Authorization for a login, as HTTP's Basic scheme has it (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def login_secrets(username: str, password: str) -> list[str]:
    """What no text may show of a login; the pair is what is sent."""
    return [password, f"{username}:{password}"] if password else []


def hide(text: str, secrets: Iterable[str]) -> str:
    """A text without the secrets, however they are written in it. Cut a text only afterwards: half a secret is not found."""
    forms = {form for secret in secrets if secret for form in _forms(secret)} - {""}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def passwords_in(texts: Iterable[str]) -> list[str]:
    """The passwords of the addresses in some texts."""
    return [found[2] for text in texts for found in LOGIN.finditer(text)]


def hide_logins(text: str) -> str:
    """A text without the passwords of the addresses in it, whoever they are of."""
    return LOGIN.sub(rf"\1{HIDDEN}@", text)


def hidden_in(value: Any, secrets: Iterable[str]) -> Any:
    """A value of texts, lists and dictionaries without the secrets."""
    if isinstance(value, str):
        return hide(value, secrets)
    if isinstance(value, dict):
        return {key: hidden_in(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hidden_in(item, secrets) for item in value]
    return value


def opener(context: SSLContext | None) -> OpenerDirector:
    """What sends requests: by a proxy where the environment names one, and never on to another host.

    :param context: trusts the server of an address that begins with https.
    """
    made = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPErrorProcessor(), HTTPDefaultErrorHandler()):
        made.add_handler(handler)
    if context:
        made.add_handler(HTTPSHandler(context=context))
    return made


def unforeseen(error: Exception) -> str:
    """What may be said of an error that nobody thought of."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{PurePath(place.filename).name}:{place.lineno}"
    return (
        f"The module failed with a {type(error).__name__} at {where}, which it does not foresee."
        " The error's own words are kept back, for they may quote a credential: report the place and what leads to it."
    )


def careful(main: Callable[[], None]) -> Callable[[], None]:
    """Let a module end with one sentence when something happens that it does not foresee: a traceback may quote its options."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except Exception as error:
            if type(error).__name__ == "AnsibleModuleCallError":
                raise  # so validate-modules of ansible-test reads a module's options
            print(json.dumps({"failed": True, "msg": unforeseen(error)}))
            sys.exit(1)

    return run
