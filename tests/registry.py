# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real registry of this machine, Debian's docker-registry, filled through its API, which tells what was pulled from it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import ssl
import subprocess
import tarfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import basic

from tests.fakes.certificates import certificate
from tests.fakes.registry import CONFIG, CONTENT, MANIFEST, archive

IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
IMAGE_CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"


# Who may ask a registry that wants a login, and the line with it that htpasswd writes.
LOGIN = ("puller", "pa55")
HTPASSWD = "puller:$2y$04$.qsX.2K/iOcu7qhJOfdcve69nFv7af7.fmQvJ8QKVS3I3fR9Aa0SO\n"


class Registry:
    """Serves an address of this machine by TLS of its own authority, as a mirror does: names are without the registry's host."""

    def __init__(self, folder: Path, address: str, port: int, login: bool = False) -> None:
        """:param login: whether it asks for one."""
        self.folder, self.host = folder, f"{address}:{port}"
        self.headers = {"Authorization": basic(*LOGIN)} if login else {}
        self.authority, self.log = folder / "registry.crt", folder / "registry.log"
        for path, text in zip((self.authority, folder / "registry.key"), certificate(address), strict=True):
            path.write_text(text)
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}, "level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "content")}},
            "http": {
                "addr": self.host,
                "tls": {"certificate": str(self.authority), "key": str(folder / "registry.key")},
            },
        }
        if login:
            (folder / "htpasswd").write_text(HTPASSWD)
            settings["auth"] = {"htpasswd": {"realm": "registry", "path": str(folder / "htpasswd")}}
        (folder / "registry.yml").write_text(yaml.safe_dump(settings))
        self.context = ssl.create_default_context(cafile=str(self.authority))

    def __enter__(self) -> Registry:
        program = shutil.which("docker-registry") or shutil.which("registry")
        assert program
        with self.log.open("ab") as log:
            command = [program, "serve", str(self.folder / "registry.yml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait()

    def answers(self) -> bool:
        """Whether it has begun to serve."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return self._ask("GET", "/v2/").status == 200

    def pulled(self) -> set[str]:
        """The repositories and tags that somebody has asked for by name, and got; pushes ask for none."""
        lines = re.findall(r'"(?:GET|HEAD) /v2/(\S+)/manifests/([^?\s]+)\S* HTTP/[\d.]+" 200', self.log.read_text())
        return {f"{name}:{tag}" for name, tag in lines if not tag.startswith("sha256:")}

    def add_image(self, path: Path, name: str) -> None:
        """Push the one image of an archive as `docker save` writes it, under a repository and tag."""
        with tarfile.open(path) as saved:
            (manifest,) = json.load(self._member(saved, "manifest.json"))
            config = self._blob(name, self._member(saved, manifest["Config"]).read(), IMAGE_CONFIG)
            layers = [self._blob(name, self._member(saved, layer).read(), LAYER) for layer in manifest["Layers"]]
        self._manifest(name, IMAGE, config, layers)

    def add_chart(self, chart: Path, name: str) -> None:
        """Push a chart, a folder or what `helm package` made of one, as Helm does, under a repository and tag."""
        if chart.is_dir():
            packed, metadata = archive(chart), (chart / "Chart.yaml").read_text()
        else:
            packed = chart.read_bytes()
            with tarfile.open(chart) as content:
                top = next(each.name for each in content if each.name.count("/") == 1 and each.name.endswith("/Chart.yaml"))
                metadata = self._member(content, top).read().decode()
        config = self._blob(name, json.dumps(yaml.safe_load(metadata)).encode(), CONFIG)
        self._manifest(name, MANIFEST, config, [self._blob(name, packed, CONTENT)])

    @staticmethod
    def _member(content: tarfile.TarFile, name: str) -> IO[bytes]:
        found = content.extractfile(name)
        assert found
        return found

    def _ask(self, method: str, path: str, data: bytes | None = None, kind: str = "application/octet-stream") -> Any:
        url = path if path.startswith("https:") else f"https://{self.host}{path}"
        request = urllib.request.Request(url, data, {**self.headers, "Content-Type": kind}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context))
        return opener.open(request, timeout=60)

    def _blob(self, name: str, content: bytes, kind: str) -> dict[str, Any]:
        repository, digest = name.rpartition(":")[0], f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
        self._ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", content)
        return {"mediaType": kind, "size": len(content), "digest": digest}

    def _manifest(self, name: str, kind: str, config: dict[str, Any], layers: list[dict[str, Any]]) -> None:
        repository, _, tag = name.rpartition(":")
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), kind)
