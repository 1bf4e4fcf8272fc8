# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chart registry on loopback, as `helm pull oci://` reads one: over TLS, with the charts that it was given and no others."""

from __future__ import annotations

import hashlib
import io
import json
import ssl
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from .certificates import certificate

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.cncf.helm.config.v1+json"
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def archive(chart: Path) -> bytes:
    """A chart's folder as `helm package` packs it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path in sorted(path for path in chart.rglob("*") if path.is_file()):
            tar.add(path, f"{chart.name}/{path.relative_to(chart)}")
    return packed.getvalue()


class ChartRegistry:
    """Serves charts, given as folders; `environment` lets Helm trust it."""

    def __init__(self, folder: Path, *charts: Path) -> None:
        self.blobs: dict[str, tuple[str, bytes]] = {}  # by digest: the type, and the content
        self.tags: dict[tuple[str, str], str] = {}  # by repository and tag: the digest
        self.asked: list[str] = []
        for chart in charts:
            self._add(chart)
        texts = certificate("127.0.0.1")
        for name, text in zip(("registry.crt", "registry.key"), texts, strict=True):
            (folder / name).write_text(text)
        self.environment = {"SSL_CERT_FILE": str(folder / "registry.crt")}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "registry.crt", folder / "registry.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> ChartRegistry:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reference(self, chart: str) -> str:
        return f"oci://127.0.0.1:{self._server.server_port}/charts/{chart}"

    def _blob(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = (kind, content)
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    def _add(self, chart: Path) -> None:
        metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
        config, content = self._blob(CONFIG, json.dumps(metadata).encode()), self._blob(CONTENT, archive(chart))
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [content]}
        entry = self._blob(MANIFEST, json.dumps(manifest).encode())
        self.tags[f"charts/{metadata['name']}", str(metadata["version"])] = entry["digest"]

    def _find(self, path: str) -> tuple[int, str, bytes, str]:
        """The status, the type, the content and the digest of what is at a path."""
        parts = path.split("?")[0].strip("/").split("/")
        if parts == ["v2"]:
            return 200, "application/json", b"{}", ""
        if len(parts) > 3:
            repository, kind, name = "/".join(parts[1:-2]), parts[-2], parts[-1]
            if (kind, name) == ("tags", "list"):
                tags = [tag for owner, tag in self.tags if owner == repository]
                return 200, "application/json", json.dumps({"name": repository, "tags": tags}).encode(), ""
            digest = self.tags.get((repository, name), name)
            if digest in self.blobs:
                return 200, *self.blobs[digest], digest
        return 404, "application/json", b'{"errors": [{"code": "NAME_UNKNOWN", "message": "repository not known"}]}', ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self) -> None:
                registry.asked.append(self.path)
                status, kind, content, digest = registry._find(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if digest:
                    self.send_header("Docker-Content-Digest", digest)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_GET = do_HEAD = reply

            def log_message(self, *args: Any) -> None:
                pass

        return Handler
