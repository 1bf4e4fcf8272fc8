# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors of registries, as a node's containerd reads them. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import hashlib
import io
import json
import re
import ssl
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..credentials.guard import basic
from ..kube.transport import loopback
from .engine import ASK_TIMEOUT, Engine

FOLDER = "/etc/containerd/certs.d"
OPTIONS = {
    "registry": {"type": "str", "required": True},
    "endpoint": {"type": "str", "required": True},
    "ca_file": {"type": "path"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
}
HOST = re.compile(r"_default|[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")
# Docker Hub has several addresses, and images have one name of it.
HUB = ("index.docker.io", "registry-1.docker.io", "hub.docker.com")


class MirrorError(Exception):
    """One sentence that says what is wrong with a mirror; it has no password."""


def check(mirrors: list[dict[str, Any]], gateway: str) -> None:
    """Refuse mirrors that can't work.

    :param gateway: the address of this machine on the node's network.
    :raises MirrorError: for the first one.
    """
    seen = set()
    for mirror in mirrors:
        registry, endpoint = mirror["registry"], mirror["endpoint"]
        if registry in HUB:
            raise MirrorError(f"A mirror is for the registry {registry}, and images name it docker.io: write docker.io.")
        if not HOST.fullmatch(registry):
            raise MirrorError(
                f"A mirror is for the registry '{registry}', which is no host: write the first part of an image's full name,"
                " such as docker.io, or _default for all registries."
            )
        try:
            address = urlsplit(endpoint)
            host = address.hostname if address.port != 0 else None
        except ValueError:
            host = None
        if "@" in endpoint:
            raise MirrorError(f"The mirror of {registry} has an endpoint with a login: use its username and password.")
        if not host or address.scheme not in ("https", "http") or re.search(r"[^\x21-\x7e]|[?#\"\\]", endpoint):
            raise MirrorError(
                f"The mirror of {registry} has the endpoint '{endpoint}': write https://host:port, or http:// without TLS."
            )
        if loopback(host):
            raise MirrorError(
                f"The mirror {endpoint} of {registry} is on the loopback address, which in a node is the node itself:"
                f" have the registry listen on {gateway}, this machine's address on the node's network, and name that."
            )
        if (registry, address_of(endpoint)) in seen:
            raise MirrorError(f"The mirror {endpoint} of {registry} is there twice: remove one of them.")
        seen.add((registry, address_of(endpoint)))
        if bool(mirror.get("username")) != bool(mirror.get("password")):
            raise MirrorError(f"The mirror {endpoint} of {registry} has one of username and password: give both, or neither.")
        if address.scheme == "http" and (mirror.get("username") or mirror.get("ca_file")):
            raise MirrorError(
                f"The mirror {endpoint} of {registry} has no TLS, so it takes no ca_file, and a password would be sent as plain"
                " text: write https://, or remove them."
            )
        if mirror.get("ca_file"):
            try:
                ssl.create_default_context(cadata=Path(mirror["ca_file"]).read_text())
            except (OSError, ValueError) as error:  # which ssl's own error is one of
                raise MirrorError(
                    f"The mirror {endpoint} of {registry} has the ca_file {mirror['ca_file']}, which holds no certificate"
                    f" that can be read ({error}): name a PEM file."
                ) from error


def address_of(endpoint: str) -> tuple[str, str]:
    """A mirror's address as containerd takes it, and the path in it."""
    address = urlsplit(endpoint.rstrip("/"))
    # A path is that of a project of the registry, which its API has behind its own.
    path = address.path if not address.path or re.match("/v2(/|$)", address.path) else f"/v2{address.path}"
    return f"{address.scheme}://{address.netloc.lower()}{path}", path


def files(mirrors: list[dict[str, Any]]) -> dict[str, bytes]:
    """The files below containerd's folder, by their path.

    The mirrors of one registry are asked in their order, then the registry itself.
    """
    found: dict[str, bytes] = {}
    texts: dict[str, list[str]] = {}
    for mirror in mirrors:
        registry = mirror["registry"]
        lines = texts.setdefault(registry, [])
        address, path = address_of(mirror["endpoint"])
        host = json.dumps(address)
        lines += [f"[host.{host}]", 'capabilities = ["pull", "resolve"]']
        if path:
            lines.append("override_path = true")
        if mirror.get("ca_file"):
            name = f"mirror-{len(found)}.crt"
            found[f"{registry}/{name}"] = Path(mirror["ca_file"]).read_bytes()
            lines.append(f'ca = "{name}"')
        if mirror.get("username"):
            login = basic(mirror["username"], mirror["password"])
            lines += [f"[host.{host}.header]", f"Authorization = {json.dumps(login)}"]
    return found | {f"{registry}/hosts.toml": ("\n".join(lines) + "\n").encode() for registry, lines in texts.items()}


def mirrored(engine: Engine, node: str, registry: str) -> bool:
    """Whether a node that runs asks a mirror for the images of a registry.

    :raises EngineError: when the node can't be asked.
    """
    names = engine.run(["exec", node, "sh", "-c", f"ls {FOLDER} 2>/dev/null || true"], timeout=ASK_TIMEOUT).stdout.decode()
    return not {registry, "_default"}.isdisjoint(names.split())


def differ(engine: Engine, node: str, wanted: dict[str, bytes]) -> bool:
    """Whether a node that runs has other files of mirrors than those that are wanted.

    :raises EngineError: when the node can't be asked.
    """
    look = f"cd {FOLDER} 2>/dev/null || exit 0; find . -type f -exec sha256sum {{}} +"
    listed = engine.run(["exec", node, "sh", "-c", look], timeout=ASK_TIMEOUT).stdout.decode()
    there = {path.removeprefix("./"): digest for digest, path in (line.split(maxsplit=1) for line in listed.splitlines())}
    return there != {path: hashlib.sha256(content).hexdigest() for path, content in wanted.items()}


def write(engine: Engine, node: str, wanted: dict[str, bytes]) -> None:
    """Give a node that runs the files of its mirrors, which containerd reads with each pull; others of the folder go.

    They may hold passwords, so they go by standard input, and root alone reads them.

    :raises EngineError: when the node can't be written.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in wanted.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))
    new = f"{FOLDER}.new"
    swap = f"umask 077; rm -rf {new} && mkdir -p {new} && tar -x -C {new} && rm -rf {FOLDER} && mv {new} {FOLDER}"
    engine.run(["exec", "--interactive", node, "sh", "-c", swap], input=packed.getvalue(), timeout=ASK_TIMEOUT)
