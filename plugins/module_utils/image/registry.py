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
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from ansible.module_utils.urls import open_url

from .._files import write_whole
from ..credentials.guard import basic
from ..node.engine import ASK_TIMEOUT, Engine, EngineError
from ..node.images import ImageError, one_line

PUSH_TIMEOUT = 600


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
    kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    login = {}
    if username and password:
        login["Authorization"] = basic(username, password)
    headers = {"Accept": kinds, **login}
    # As the engines have it: a proxy has no way to this machine, and would read the password of a request without TLS.
    proxied = not on_loopback(urlsplit(url).netloc)
    for _attempt in range(2):
        try:
            open_url(url, method="HEAD", headers=headers, timeout=10, use_proxy=proxied)
            return True
        except HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if error.code != 401 or not challenge.lower().startswith("bearer "):
                return False
            fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
            query = urlencode({k: fields[k] for k in ("service", "scope") if k in fields})
            if not fields.get("realm", "").startswith("https://"):
                return False
            try:
                answer = json.load(open_url(f"{fields['realm']}?{query}", headers=login, timeout=10))
            except (URLError, OSError, ValueError):
                return False
            headers["Authorization"] = f"Bearer {answer.get('token') or answer.get('access_token', '')}"
        except (URLError, OSError):
            return False
    return False


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
            write_whole(path, json.dumps({"auths": {key: {"auth": token}}}), 0o600)
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
