# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image in its registry. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from ansible.module_utils.urls import open_url

from .._files import write_whole
from ..credentials.guard import basic
from ..node.engine import ASK_TIMEOUT, Engine, EngineError, docker_config
from ..node.images import ImageError, one_line

PUSH_TIMEOUT = 600
# An engine that has containerd keep its images pushes an index, which a registry gives to nobody who does not ask for one.
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        *("oci.image.manifest.v1", "oci.image.index.v1"),
        *("docker.distribution.manifest.v2", "docker.distribution.manifest.list.v2"),
    )
)
# Where the engines have the certificate authority of a registry, in a folder of its name.
AUTHORITIES = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")


def on_loopback(host: str) -> bool:
    """Whether a registry is this machine's own, which engines speak to without TLS too."""
    return re.match(r"(localhost|127(\.[0-9]{1,3}){3})(:[0-9]+)?$", host) is not None


def in_registry(repository: str, tag: str, username: str | None, password: str | None) -> bool:
    """Whether the registry has this tag; False when that can't be told (the push then says why)."""
    host, name = repository.split("/", 1)
    host = "registry-1.docker.io" if host == "docker.io" else host
    path = f"{host}/v2/{name}/manifests/{tag}"
    schemes = ("https", "http") if on_loopback(host) else ("https",)
    return any(_has_manifest(f"{scheme}://{path}", username, password) for scheme in schemes)


def _has_manifest(url: str, username: str | None, password: str | None) -> bool:
    login = {}
    if username and password:
        login["Authorization"] = basic(username, password)
    headers = {"Accept": MANIFESTS, **login}
    try:
        for _attempt in range(2):
            try:
                _open(url, method="HEAD", headers=headers)
                return True
            except HTTPError as error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or not challenge.lower().startswith("bearer "):
                    return False
            fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
            realm = urlsplit(fields.get("realm", ""))
            if realm.scheme != "https" and not (on_loopback(realm.netloc) and on_loopback(urlsplit(url).netloc)):
                return False
            query = urlencode({k: fields[k] for k in ("service", "scope") if k in fields})
            answer = dict(json.load(_open(f"{realm.geturl()}?{query}", headers=login)))
            headers["Authorization"] = f"Bearer {answer.get('token') or answer.get('access_token', '')}"
    except (OSError, HTTPException, ValueError, TypeError):  # URLError is the first, and what is no JSON one of the last two
        return False
    return False


def _open(url: str, **options: Any) -> Any:
    """Ask as the engines do: a proxy has no way to this machine, and would read the password of a request without TLS."""
    host = urlsplit(url).netloc
    return open_url(url, timeout=10, use_proxy=not on_loopback(host), ca_path=authority(host), **options)


def authority(host: str) -> str | None:
    """The file with the certificate authority that the engines have for a registry; None where that is one of all."""
    folders = (Path(folder).expanduser() / host for folder in AUTHORITIES)
    return next((str(file) for folder in folders for file in sorted(folder.glob("*.crt"))), None)


def engine_finds(engine: Engine, ref: str) -> bool:
    """Whether the engine finds an image in its registry, with the login that it has, such as of a cloud's program."""
    try:
        engine.run(["manifest", "inspect", ref], timeout=ASK_TIMEOUT)
    except EngineError as error:
        return "single image" in str(error)  # so podman 4 and buildah say of one that is there
    return True


def push(engine: Engine, ref: str, username: str | None, password: str | None) -> None:
    """Push; credentials go through a file that only we can read, never through the command line."""
    host = ref.split("/", 1)[0]
    work = tempfile.mkdtemp(prefix="container_image.")  # mode 0700
    try:
        args = ["push", ref]
        if username and password:
            key = "https://index.docker.io/v1/" if host == "docker.io" and engine.name == "docker" else host
            token = base64.b64encode(f"{username}:{password}".encode()).decode()
            path = os.path.join(work, "config.json")
            contexts = docker_contexts(work) if engine.name == "docker" else {}
            write_whole(path, json.dumps({"auths": {key: {"auth": token}}, **contexts}), 0o600)
            args = ["--config", work, *args] if engine.name == "docker" else ["push", "--authfile", path, ref]
        if on_loopback(host) and engine.name != "docker":
            args.insert(1, "--tls-verify=false")
        engine.run(args, timeout=PUSH_TIMEOUT)
    except EngineError as error:
        raise ImageError(
            f"The push of {ref} failed ({one_line(error)}); check the repository and the variables "
            "FLASK_IMAGE_REGISTRY_USERNAME and FLASK_IMAGE_REGISTRY_PASSWORD."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def docker_contexts(work: str) -> dict[str, str]:
    """Give docker's settings in the folder *work* the contexts of this user, of which one leads to the daemon; what names it."""
    own, settings = docker_config()
    if (own / "contexts").is_dir():
        os.symlink(own / "contexts", os.path.join(work, "contexts"))
    return {"currentContext": settings["currentContext"]} if "currentContext" in settings else {}  # the one of all
