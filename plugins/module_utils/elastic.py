# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Elasticsearch and Kibana of the ECK operator hold for logs. Private to this collection; it can change at any time."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import uuid
from typing import Any
from urllib.parse import quote

from .kube.client import api_client
from .kube.objects import Objects, holds
from .kube.pods import pod_troubles
from .kube.transport import KubeError, first_line, port_forward

POLL = 1.0  # seconds
TIMEOUT = 60  # seconds of one request
ELASTICSEARCH = {"apiVersion": "elasticsearch.k8s.elastic.co/v1", "kind": "Elasticsearch"}
KIBANA = {"apiVersion": "kibana.k8s.elastic.co/v1", "kind": "Kibana"}


def unready(live: dict[str, Any] | None) -> str:
    """Why an Elasticsearch or a Kibana can't be used yet, or an empty text."""
    if live is None:
        return "does not exist"
    status = live.get("status") or {}
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0):
        return "was not looked at by the operator yet"
    if live["kind"] == "Elasticsearch" and (status.get("phase") != "Ready" or status.get("health") not in ("green", "yellow")):
        return f"is in phase {status.get('phase') or 'unknown'} with health {status.get('health') or 'unknown'}"
    if live["kind"] == "Kibana" and status.get("health") != "green":
        return f"has health {status.get('health') or 'unknown'}"
    return ""


def same_object(live: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Whether a saved object has the texts that are wanted."""
    texts = {key: value for key, value in wanted["attributes"].items() if isinstance(value, str)}
    return live is not None and holds(live.get("attributes"), texts)


def reason(reply: Any) -> str:
    """What an error's body says."""
    if isinstance(reply, dict):
        error = reply.get("error")
        if isinstance(error, dict):
            return first_line(error.get("reason") or error.get("type") or error)
        return first_line(reply.get("message") or error or reply)
    return first_line(reply)


class ElasticServer:
    """Elasticsearch or Kibana behind its Service, reached through the Kubernetes API."""

    def __init__(self, api: Any, namespace: str, service: str, authority: str, password: str) -> None:
        from kubernetes import client

        self.core: Any = client.CoreV1Api(api)
        self.namespace, self.service = namespace, service
        self.authority = authority
        token = base64.b64encode(f"elastic:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}", "kbn-xsrf": "flaskops"}
        self.connection: http.client.HTTPConnection | None = None

    def _connect(self) -> http.client.HTTPConnection:
        from kubernetes import client

        try:
            spec = self.core.read_namespaced_service(self.service, self.namespace).spec
            selector = ",".join(f"{key}={value}" for key, value in spec.selector.items())
            pods = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
            ready = [p for p in pods if any(c.type == "Ready" and c.status == "True" for c in p.status.conditions or [])]
            if not ready:
                raise KubeError(f"No pod of the Service {self.namespace}/{self.service} is ready: see its pods' events.")
            port = spec.ports[0].target_port
            port = port if isinstance(port, int) else spec.ports[0].port
            forward = port_forward(self.core, ready[0].metadata.name, self.namespace, port)
        except client.ApiException as error:
            raise KubeError(
                f"The Service {self.namespace}/{self.service} can't be reached ({first_line(error.reason)}):"
                " the account needs to read Services and pods and to create pods/portforward."
            ) from error
        raw = forward.socket(port)
        raw.settimeout(TIMEOUT)
        host = f"{self.service}.{self.namespace}.svc"
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        connection.sock = ssl.create_default_context(cadata=self.authority).wrap_socket(raw, server_hostname=host)
        return connection

    def request(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", allowed: tuple[int, ...] = ()
    ) -> Any:
        """Send one request; the JSON of the answer, or its status where that is one of `allowed`.

        :raises KubeError: when there is no answer, or the answer is an error that is not `allowed`.
        """
        content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        headers = self.headers | ({"Content-Type": kind} if content is not None else {})
        try:
            if self.connection is None or self.connection.sock is None:
                self.connection = self._connect()
            self.connection.request(method, path, content, headers)
            answer = self.connection.getresponse()
            text = answer.read().decode(errors="replace")
            if answer.will_close:
                self.connection = None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise KubeError(
                f"The Service {self.namespace}/{self.service} gave no answer to {method} {path} ({first_line(error)}):"
                " check its pods, and that its certificate is for that name."
            ) from error
        if answer.status in allowed:
            return answer.status
        try:
            reply = json.loads(text)
        except ValueError:
            lines = text.splitlines()
            try:
                reply = [json.loads(line) for line in lines]
            except ValueError:
                reply = text or answer.reason
        if answer.status == 401:
            raise KubeError(
                f"The Service {self.namespace}/{self.service} refuses the user elastic:"
                " the password in the operator's Secret is not the one that Elasticsearch knows, so delete that Secret."
            )
        if answer.status >= 400:
            raise KubeError(
                f"The Service {self.namespace}/{self.service} answers {method} {path} with {answer.status} ({reason(reply)})."
            )
        return reply


class ElasticStack:
    """One Elasticsearch and its Kibana."""

    def __init__(self, api: Any, namespace: str, name: str) -> None:
        self.api, self.objects = api, Objects(api)
        self.namespace, self.name = namespace, name

    def _live(self, kind: dict[str, str]) -> dict[str, Any] | None:
        return self.objects.get({**kind, "metadata": {"name": self.name, "namespace": self.namespace}})

    def wait(self, seconds: int) -> None:
        """Wait until both are ready.

        :raises KubeError: with what keeps them from it.
        """
        deadline = time.monotonic() + seconds
        while True:
            reasons = [(kind["kind"], unready(self._live(kind))) for kind in (ELASTICSEARCH, KIBANA)]
            waiting = [f"{kind} {self.namespace}/{self.name} {why}" for kind, why in reasons if why]
            if not waiting:
                return
            if time.monotonic() > deadline:
                pods = self._troubles()
                raise KubeError(f"{' and '.join(waiting)} after {seconds} s{': ' + '; '.join(pods) if pods else ''}.")
            time.sleep(POLL)

    def _troubles(self) -> list[str]:
        selector = {"labelSelector": "common.k8s.elastic.co/type in (elasticsearch,kibana)"}
        pods = self.objects.request("GET", f"/api/v1/namespaces/{self.namespace}/pods", selector)["items"]
        return [f"pod {trouble.pod}: {trouble.text}" for pod in pods for trouble in pod_troubles(pod)]

    def secret(self, name: str, *keys: str) -> str:
        """The first of the keys that a Secret of the operator has.

        :raises KubeError: when there is none.
        """
        found = self.objects.get(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{self.name}-{name}", "namespace": self.namespace}}
        )
        data = (found or {}).get("data") or {}
        for key in keys:
            if data.get(key):
                return base64.b64decode(data[key]).decode()
        raise KubeError(
            f"There is no Secret {self.namespace}/{self.name}-{name} with {' or '.join(keys)}, which the ECK operator makes:"
            " see the operator's log."
        )

    def elasticsearch(self) -> ElasticServer:
        """The API of Elasticsearch."""
        return self._server("es")

    def kibana(self) -> ElasticServer:
        """The API of Kibana, which knows the same users."""
        return self._server("kb")

    def _server(self, part: str) -> ElasticServer:
        authority = self.secret(f"{part}-http-certs-public", "ca.crt", "tls.crt")
        return ElasticServer(
            self.api, self.namespace, f"{self.name}-{part}-http", authority, self.secret("es-elastic-user", "elastic")
        )


def keep_templates(server: ElasticServer, wanted: dict[str, Any], check: bool) -> list[str]:
    """Write the index templates that are missing or differ; what they are."""
    changes = []
    for name, body in wanted.items():
        path = f"/_index_template/{quote(name)}"
        found = server.request("GET", path, allowed=(404,))
        live = {} if found == 404 else found["index_templates"][0]["index_template"]
        if not holds(live, body):
            changes.append(f"index template {name}")
            if not check:
                server.request("PUT", path, body)
    return changes


def keep_retention(server: ElasticServer, wanted: dict[str, str], check: bool) -> list[str]:
    """Change the lifecycle of data streams that have another; what they are."""
    changes = []
    for pattern, retention in wanted.items():
        found = server.request("GET", f"/_data_stream/{quote(pattern, safe='*')}/_lifecycle", allowed=(404,))
        for item in [] if found == 404 else found["data_streams"]:
            if (item.get("lifecycle") or {}).get("data_retention") != retention:
                changes.append(f"lifecycle of {item['name']}")
                if not check:
                    server.request("PUT", f"/_data_stream/{quote(item['name'])}/_lifecycle", {"data_retention": retention})
    return changes


def keep_saved_objects(server: ElasticServer, wanted: list[dict[str, Any]], check: bool) -> list[str]:
    """Import the saved objects that are missing or differ; what they are.

    :raises KubeError: when Kibana does not take one.
    """
    differing = []
    for item in wanted:
        asked = {"objects": [{"type": item["type"], "id": item["id"]}], "excludeExportDetails": True}
        found = server.request("POST", "/api/saved_objects/_export", asked, allowed=(400, 404))
        live = found[0] if isinstance(found, list) and found else found if isinstance(found, dict) else None
        if not same_object(live, item):
            differing.append(item)
    if differing and not check:
        lines = "\n".join(json.dumps({"references": [], **item}) for item in differing)
        border = uuid.uuid4().hex
        body = (
            f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="flaskops.ndjson"\r\n'
            f"Content-Type: application/ndjson\r\n\r\n{lines}\n\r\n--{border}--\r\n"
        )
        done = server.request(
            "POST", "/api/saved_objects/_import?overwrite=true", body.encode(), f"multipart/form-data; boundary={border}"
        )
        if not done.get("success"):
            raise KubeError(f"Kibana does not take the saved objects: {reason((done.get('errors') or [done])[0])}.")
    return [f"{item['type']} {item['id']}" for item in differing]


def keep(params: dict[str, Any], check: bool) -> tuple[list[str], str]:
    """Bring both to what the module's options say; what was, or in check mode would be, changed, and the authority.

    :raises KubeError: with one sentence for the user.
    """
    stack = ElasticStack(api_client(params["kubeconfig"] or "", params["context"] or ""), params["namespace"], params["name"])
    stack.wait(0 if check else params["timeout"])
    elasticsearch = stack.elasticsearch()
    changes = keep_templates(elasticsearch, params["index_templates"], check)
    changes += keep_retention(elasticsearch, params["retention"], check)
    changes += keep_saved_objects(stack.kibana(), params["saved_objects"], check)
    return changes, elasticsearch.authority
