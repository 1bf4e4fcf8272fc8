# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of Elasticsearch's and Kibana's APIs that `elastic_content` and Fluent Bit use, with state.

    python elastic.py --certificate tls.crt --key tls.key --user elastic:SECRET --port 9200 --port 5601

Standard library alone, for it runs in pods too. Written after the reference of Elasticsearch 9 (index templates, data stream
lifecycle, bulk) and Kibana 9 (saved objects, import and export). It can't show that the real programs take what they are sent:
no package registry carries them.
"""

from __future__ import annotations

import argparse
import base64
import fnmatch
import gzip
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

RETENTION = re.compile(r"^[1-9][0-9]*(d|h|m|s)$")
TYPES = {"date_nanos", "match_only_text", "keyword", "flattened"}


class Refused(Exception):
    """An error answer: status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class State:
    """What both programs have stored."""

    def __init__(self) -> None:
        self.templates: dict[str, Any] = {}
        self.streams: dict[str, dict[str, Any]] = {}
        self.saved: dict[tuple[str, str], dict[str, Any]] = {}
        self.documents: list[dict[str, Any]] = []
        self.writes: list[str] = []
        self.lock = threading.Lock()

    def put_template(self, name: str, body: dict[str, Any]) -> None:
        """Check a template the way Elasticsearch does, and store it with the defaults that it adds."""
        unknown = set(body) - {"index_patterns", "priority", "data_stream", "_meta", "template", "composed_of", "version"}
        unknown |= set(body.get("template", {})) - {"settings", "mappings", "aliases", "lifecycle"}
        if unknown:
            raise Refused(400, f"[index_template] unknown field [{sorted(unknown)[0]}]")
        template = json.loads(json.dumps(body.get("template", {})))
        retention = template.get("lifecycle", {}).get("data_retention", "1d")
        if not RETENTION.match(retention):
            raise Refused(400, f"failed to parse setting [data_retention] with value [{retention}] as a time value")
        for field, mapping in template.get("mappings", {}).get("properties", {}).items():
            if mapping.get("type") not in TYPES:
                raise Refused(400, f"No handler for type [{mapping.get('type')}] declared on field [{field}]")
        if "lifecycle" in template:
            template["lifecycle"].setdefault("enabled", True)
        added = {"composed_of": [], "data_stream": {"hidden": False, "allow_custom_routing": False}}
        self.templates[name] = {**body, **added, "template": template}

    def stream(self, name: str) -> dict[str, Any]:
        """The data stream of that name, made by the template that matches best."""
        if name not in self.streams:
            matching = [
                item
                for item in self.templates.values()
                if any(fnmatch.fnmatch(name, pattern) for pattern in item["index_patterns"])
            ]
            if not matching:
                raise Refused(404, f"no such index [{name}] and no index template matches")
            best = max(matching, key=lambda item: item.get("priority", 0))
            self.streams[name] = {"name": name, "lifecycle": dict(best["template"].get("lifecycle", {}))}
        return self.streams[name]

    def bulk(self, body: str) -> dict[str, Any]:
        """Store the documents of a bulk request."""
        lines, items = [json.loads(line) for line in body.splitlines() if line], []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            ((kind, target),) = action.items()
            if kind != "create":
                raise Refused(400, "only write ops with an op_type of create are allowed in data streams")
            self.stream(target["_index"])
            self.documents.append({"_index": target["_index"], "_source": document})
            items.append({"create": {"_index": target["_index"], "status": 201, "result": "created"}})
        return {"took": 1, "errors": False, "items": items}

    def import_objects(self, body: str) -> dict[str, Any]:
        """Store the saved objects of an upload."""
        items = [json.loads(line) for line in body.splitlines() if line.startswith("{")]
        there = set(self.saved) | {(item["type"], item["id"]) for item in items}
        errors = []
        for item in items:
            missing = [r for r in item["references"] if (r["type"], r["id"]) not in there]
            if item["type"] not in ("index-pattern", "search"):
                errors.append({"id": item["id"], "type": item["type"], "error": {"type": "unsupported_type"}})
            elif missing:
                errors.append({"id": item["id"], "type": item["type"], "error": {"type": "missing_references"}})
            else:
                self.saved[item["type"], item["id"]] = {**item, "managed": False, "coreMigrationVersion": "8.8.0"}
        return {"success": not errors, "successCount": len(items) - len(errors), **({"errors": errors} if errors else {})}

    def answer(self, method: str, path: str, body: str) -> Any:
        """The answer to one request.

        :raises Refused: for an error answer.
        """
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match [method, *parts]:
            case ["GET", "_index_template", name]:
                if name not in self.templates:
                    raise Refused(404, f"index template matching [{name}] not found")
                return {"index_templates": [{"name": name, "index_template": self.templates[name]}]}
            case ["PUT", "_index_template", name]:
                self.put_template(name, json.loads(body))
                return {"acknowledged": True}
            case ["GET", "_data_stream", pattern, "_lifecycle"]:
                return {"data_streams": [item for name, item in self.streams.items() if fnmatch.fnmatch(name, pattern)]}
            case ["PUT", "_data_stream", name, "_lifecycle"]:
                self.stream(name)["lifecycle"] = {"enabled": True, **json.loads(body)}
                return {"acknowledged": True}
            case ["POST", "_bulk"]:
                return self.bulk(body)
            case ["GET", "_search"]:
                return {"hits": {"total": {"value": len(self.documents), "relation": "eq"}, "hits": self.documents}}
            case ["POST", "api", "saved_objects", "_export"]:
                wanted = [(item["type"], item["id"]) for item in json.loads(body)["objects"]]
                if missing := [item for item in wanted if item not in self.saved]:
                    raise Refused(400, f"Error fetching objects to export: {missing}")
                return [self.saved[item] for item in wanted]
            case ["POST", "api", "saved_objects", "_import"]:
                return self.import_objects(body)
            case ["GET", "state"]:  # for tests
                return {
                    "templates": self.templates,
                    "streams": self.streams,
                    "saved": list(self.saved.values()),
                    "writes": self.writes,
                }
        raise Refused(404, f"no handler found for uri [{path}] and method [{method}]")


def serve(state: State, port: int, certificate: str, key: str, users: dict[str, str], address: str = "") -> ThreadingHTTPServer:
    """Serve over TLS on a port, 0 for any."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, status: int, body: Any) -> None:
            # Kibana exports one object a line.
            text = "\n".join(map(json.dumps, body)) if isinstance(body, list) else json.dumps(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            scheme, _space, token = (self.headers.get("Authorization") or "").partition(" ")
            user, _colon, password = base64.b64decode(token).decode().partition(":") if scheme == "Basic" else ("", "", "")
            path = urlsplit(self.path).path
            if users.get(user) != password:
                return self.reply(
                    401, {"error": {"type": "security_exception", "reason": "unable to authenticate user"}, "status": 401}
                )
            if path.startswith("/api/") and not self.headers.get("kbn-xsrf"):
                return self.reply(400, {"statusCode": 400, "message": "Request must contain a kbn-xsrf header."})
            try:
                with state.lock:
                    answer = state.answer(self.command, path, content.decode())
                    if self.command == "PUT" or path.endswith("_import"):
                        state.writes.append(f"{self.command} {path}")
                self.reply(200, answer)
            except Refused as refused:
                body = {"message": str(refused)} if path.startswith("/api/") else {"error": {"reason": str(refused)}}
                self.reply(refused.status, body)

        do_GET = do_PUT = do_POST = handle_any

        def log_message(self, *args: Any) -> None:
            """Requests are not logged."""

    server = ThreadingHTTPServer((address, port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--user", action="append", required=True, help="name:password")
    parser.add_argument("--port", action="append", type=int, required=True)
    options = parser.parse_args()
    state, users = State(), dict(user.split(":", 1) for user in options.user)
    for port in options.port:
        serve(state, port, options.certificate, options.key, users)
    threading.Event().wait()


if __name__ == "__main__":
    main()
