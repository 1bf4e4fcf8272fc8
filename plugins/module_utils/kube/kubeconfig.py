# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubeconfig, read as strictly as kubectl does. Private to this collection.

Kubernetes' Python client ignores impersonation, takes a token as it is, and quotes whole entries in its errors.
So this reads the entries first: what it refuses it names by its key, and it never quotes a value.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from ..credentials.guard import is_address, is_header, is_token
from .transport import loopback

KINDS = {str: "text", bool: "true or false", list: "a list", dict: "a mapping"}
CLUSTER: dict[str, type] = {
    "server": str,
    "tls-server-name": str,
    "insecure-skip-tls-verify": bool,
    "certificate-authority": str,
    "certificate-authority-data": str,
    "proxy-url": str,
}
USER: dict[str, type] = {
    "client-certificate": str,
    "client-certificate-data": str,
    "client-key": str,
    "client-key-data": str,
    "token": str,
    "tokenFile": str,
    "username": str,
    "password": str,
    "as": str,
    "as-uid": str,
    "as-groups": list,
    "as-user-extra": dict,
    "auth-provider": dict,
    "exec": dict,
}
FILES = ("certificate-authority", "client-certificate", "client-key")
IMPERSONATION = ("as-uid", "as-groups", "as-user-extra")


class Malformed(Exception):
    """What is wrong with a kubeconfig, and what to do, without a value of it."""


@dataclass
class Access:
    """What a context of a kubeconfig says; paths in its entries are absolute."""

    paths: list[str]
    context: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    token: str = ""  # trimmed, as kubectl does with a file
    trimmed: bool = False  # whether Kubernetes' Python client would send another token
    headers: list[tuple[str, str]] = field(default_factory=list)  # of impersonation

    @property
    def own_host(self) -> str:
        """The API server's host where it is this machine, to which no proxy of the environment has a way; else empty.

        kubectl and Helm know that of 127.0.0.1, and not of 0.0.0.0, which k3d writes. A proxy of the kubeconfig is asked.
        """
        server = str(self.cluster.get("server", ""))
        host = urlsplit(server if "://" in server else f"http://{server}").hostname or ""
        return host if loopback(host) and not self.cluster.get("proxy-url") else ""


def read(kubeconfig: str, context: str) -> Access:
    """The entries of a context.

    :param kubeconfig: one path or several, separated as in KUBECONFIG, which stands in for an empty one.
    :raises Malformed: where something can't be used.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [os.path.expanduser(path) for path in named.split(os.pathsep) if path]
    found = [path for path in paths if os.path.isfile(path)]
    if not found:
        raise Malformed(f"The kubeconfig {named} does not exist: give the path of a readable file.")
    entries: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {"clusters": {}, "contexts": {}, "users": {}}
    current: Any = None
    for path in found:
        document = _load(path)
        # Of entries of one name the first counts; of current-context the last, as for Kubernetes' Python client.
        current = document.get("current-context") or current
        for section, items in entries.items():
            for item in _items(document, section, path):
                items.setdefault(item["name"], (path, item))

    shown = " and ".join(found)
    chosen = context or current
    if not isinstance(chosen, str) or chosen not in entries["contexts"]:
        which = f"has no context {context}" if context else "has no current-context that exists in it"
        raise Malformed(f"The kubeconfig {shown} {which}: name a context that the kubeconfig holds.")
    _path, body = _body(entries["contexts"][chosen], "context")
    bodies: dict[str, tuple[str, dict[str, Any]]] = {}
    for key in ("cluster", "user"):
        name = body.get(key)
        if name is None and key == "user":
            bodies[key] = (found[0], {})
        elif isinstance(name, str) and name in entries[f"{key}s"]:
            bodies[key] = _body(entries[f"{key}s"][name], key)
        else:
            raise Malformed(f"The kubeconfig {shown} has no {key} with the name that its context {chosen} uses: add the {key}.")
    cluster = _checked(*bodies["cluster"], CLUSTER, "cluster")
    user = _checked(*bodies["user"], USER, "user")
    access = Access(found, chosen, cluster, user)
    _check_cluster(cluster, bodies["cluster"][0])
    _read_login(access, *bodies["user"])
    access.headers = _impersonation(user, bodies["user"][0])
    return access


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = yaml.load(file.read().decode("utf-8-sig"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise Malformed(f"The kubeconfig {path} can't be read ({error.strerror}): check its permissions.") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Malformed(f"The kubeconfig {path} can't be read: it is no YAML{where}.") from None
    if not isinstance(content, dict):
        what = "is empty" if content is None else f"is {_kind(content)}"
        raise Malformed(f"The kubeconfig {path} {what} and not a mapping with clusters, contexts and users.")
    return content


def _kind(value: object) -> str:
    return next((words for kind, words in KINDS.items() if isinstance(value, kind)), "a number or a date")


def _items(document: dict[str, Any], section: str, path: str) -> list[dict[str, Any]]:
    items = document.get(section) or []
    if not isinstance(items, list):
        raise Malformed(f"The kubeconfig {path} can't be used: its {section} are {_kind(items)} and not a list.")
    if any(not isinstance(item, dict) or not isinstance(item.get("name"), str) for item in items):
        raise Malformed(f"The kubeconfig {path} can't be used: one of its {section} has no name that is text.")
    return items


def _body(entry: tuple[str, dict[str, Any]], key: str) -> tuple[str, dict[str, Any]]:
    path, item = entry
    body = item.get(key)
    if not isinstance(body, dict):
        what = "lacks" if body is None else f"has {_kind(body)} as"
        raise Malformed(f"The kubeconfig {path} can't be used: an entry of its {key}s {what} the mapping {key}.")
    return path, body


def _refused(path: str, part: str, key: str, what: str, advice: str) -> Malformed:
    return Malformed(f"The kubeconfig {path} can't be used: {key} of its {part} {what}: {advice}.")


def _checked(path: str, body: dict[str, Any], types: dict[str, type], part: str) -> dict[str, Any]:
    """The entry's keys that say something, each of its type, with absolute paths to files that are there."""
    known = {key: value for key, value in body.items() if value not in (None, "")}
    for key, kind in types.items():
        if key in known and not isinstance(known[key], kind):
            raise _refused(path, part, key, f"is {_kind(known[key])}", f"write it as {KINDS[kind]}, in quotes if need be")
    for key in ("certificate-authority-data", "client-certificate-data", "client-key-data"):
        try:
            base64.b64decode("".join(str(known.get(key, "")).split()), validate=True)
        except (ValueError, binascii.Error):
            raise _refused(path, part, key, "is no base64", "copy it again") from None
    folder = os.path.dirname(os.path.abspath(path))
    for key in FILES:
        if key in known and f"{key}-data" not in known:
            known[key] = os.path.join(folder, known[key])
            if not os.path.isfile(known[key]):
                raise _refused(path, part, key, "names a file that does not exist", "give the path of a readable file")
    return known


def _check_cluster(cluster: dict[str, Any], path: str) -> None:
    server = cluster.get("server", "")
    # kubectl takes a bare host too.
    if not is_address(server if "://" in server else f"http://{server}"):
        advice = "write it like https://10.0.0.1:6443, and credentials into the user"
        raise _refused(path, "cluster", "server", "is missing, is no web address, or holds a user name", advice)
    proxy = cluster.get("proxy-url")
    if proxy is not None and not is_proxy(proxy):
        advice = "write it like http://proxy.example.com:3128, with special characters of a login as %XX"
        raise _refused(path, "cluster", "proxy-url", "is no address of a proxy", advice)


def is_proxy(url: str) -> bool:
    """Whether it is the address of a proxy, with a login or without."""
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    bare = login.replace(":", "", 1)
    return (
        scheme in ("http", "https", "socks5", "socks5h")
        and is_address(f"http://{host}")
        and (not at or (is_token(login) and not set(bare) & set(":/?#@[]")))
    )


def _read_login(access: Access, path: str, body: dict[str, Any]) -> None:
    user = access.user
    token = user.get("token", "")
    if "tokenFile" in user:
        # Where both are given, the file counts, as for kubectl.
        user["tokenFile"] = os.path.join(os.path.dirname(os.path.abspath(path)), user["tokenFile"])
        try:
            with open(user["tokenFile"], "rb") as file:
                token = file.read().decode(errors="replace")
        except (OSError, ValueError):
            raise _refused(
                path, "user", "tokenFile", "names a file that can't be read", "give the path of a readable file"
            ) from None
    key = "tokenFile" if "tokenFile" in user else "token"
    if key in user:
        access.token = token.strip()
        if not is_token(access.token):
            advice = "one line of ASCII without spaces is a token, so copy it again"
            raise _refused(path, "user", key, "holds no token, or characters that no token has", advice)
        access.trimmed = access.token != body.get("token", token)
    for key in ("username", "password"):
        if key in user and not is_header(user[key]):
            raise _refused(path, "user", key, "holds a line break or other characters that can't be sent", "write it again")


def _impersonation(user: dict[str, Any], path: str) -> list[tuple[str, str]]:
    """The headers with which requests are sent as somebody else."""
    if "as" not in user:
        for key in IMPERSONATION:
            if user.get(key):
                raise _refused(path, "user", key, "is given without as", "name the user too")
        return []
    headers = [("Impersonate-User", user["as"])]
    headers += [("Impersonate-Uid", user["as-uid"])] if "as-uid" in user else []
    headers += [("Impersonate-Group", group) for group in user.get("as-groups", [])]
    for key, values in user.get("as-user-extra", {}).items():
        if not isinstance(key, str) or not isinstance(values, list):
            raise _refused(path, "user", "as-user-extra", "is no mapping of lists", "write it as kubectl reads it")
        name = "Impersonate-Extra-" + quote(key, safe="!#$&'*+^`|")
        headers += [(name, value) for value in values]
    if not all(is_header(value) for _name, value in headers):
        keys = " and ".join(key for key in ("as", *IMPERSONATION) if key in user)
        raise _refused(path, "user", keys, "holds what can't be sent in a header", "use text of printable ASCII")
    return headers
