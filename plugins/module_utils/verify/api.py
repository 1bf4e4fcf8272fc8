# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an API server, and through its proxies to what runs on the cluster."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from ..credentials.guard import is_token

REQUEST_SECONDS = 10.0
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # where Kubernetes puts a pod's credentials


class ApiError(Exception):
    """The API server answered with an error, or not at all (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cluster(Protocol):
    """The little of an API server that verify needs; tests put a fake here."""

    host: str

    def fetch(self, path: str, headers: dict[str, str] | None = None, seconds: float = REQUEST_SECONDS) -> tuple[int, str]: ...

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]: ...

    def lines(self, path: str, seconds: float) -> Iterator[str]: ...

    def dial(self, service: dict[str, Any], seconds: float) -> socket.socket: ...


def reason(error: BaseException) -> str:
    """The innermost words of a connection error."""
    inner = getattr(error, "reason", None) or error
    return " ".join(str(inner).split()) or type(error).__name__


class KubeCluster:
    """Requests on an API server with the credentials of a kubernetes client."""

    def __init__(self, api_client: Any) -> None:
        self._client = api_client
        self._config = api_client.configuration
        self._pool = api_client.rest_client.pool_manager
        self.host = str(self._config.host).rstrip("/")

    def _open(
        self, path: str, headers: dict[str, str] | None, seconds: float, method: str = "GET", body: str | None = None
    ) -> Any:
        import urllib3

        sent = dict(headers or {})
        for setting in self._config.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                sent[setting["key"]] = setting["value"]
        timeout = urllib3.Timeout(connect=min(seconds, REQUEST_SECONDS), read=seconds)
        try:
            return self._pool.request(
                method,
                self.host + path,
                body=body,
                headers=sent,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"no answer from {self.host}: {reason(error)}") from error

    def fetch(self, path: str, headers: dict[str, str] | None = None, seconds: float = REQUEST_SECONDS) -> tuple[int, str]:

        return self._whole(self._open(path, headers, seconds))

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """A request that changes something; *body* is sent as JSON, of which *headers* may name another type."""
        text = None if body is None else json.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self._whole(self._open(path, sent, REQUEST_SECONDS, method, text))

    def _whole(self, response: Any) -> tuple[int, str]:
        import urllib3

        try:
            return int(response.status), response.read(decode_content=True).decode("utf-8", "replace")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"the answer from {self.host} broke off: {reason(error)}") from error
        finally:
            response.release_conn()

    def lines(self, path: str, seconds: float) -> Iterator[str]:
        import urllib3

        response = self._open(path, None, seconds)
        try:
            if response.status != 200:
                raise ApiError(response.status, message_of(response.read().decode("utf-8", "replace")))
            rest = b""
            # A followed log comes in chunks; each is handed on as soon as it is there.
            for chunk in response.stream(amt=None):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "replace")
            if rest:
                yield rest.decode("utf-8", "replace")
        except (urllib3.exceptions.HTTPError, OSError):
            return
        finally:
            response.close()

    def dial(self, service: dict[str, Any], seconds: float) -> socket.socket:
        """A connection to the first port of a Service, by a port-forward to one of its pods.

        :raises ApiError: where there is no ready pod, or the account may not forward ports.
        """
        from kubernetes import client

        # Not at the top: in a pod there is neither.
        from .._kube import first_line, port_forward

        metadata, entry = service["metadata"], service["spec"]["ports"][0]
        selector = urlencode({"labelSelector": ",".join(f"{k}={v}" for k, v in service["spec"]["selector"].items())})
        pods = read_object(*self.fetch(f"/api/v1/namespaces/{metadata['namespace']}/pods?{selector}", None, seconds))["items"]
        for pod in pods:
            conditions = pod.get("status", {}).get("conditions") or []
            if any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
                break
        else:
            raise ApiError(503, f"no pod of the Service {metadata['name']} in namespace {metadata['namespace']} is ready")
        ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or []]
        named = {port.get("name"): port["containerPort"] for port in ports}
        target = entry.get("targetPort") or entry["port"]
        port = int(named.get(target, target if isinstance(target, int) else entry["port"]))
        try:
            forward = port_forward(client.CoreV1Api(self._client), pod["metadata"]["name"], metadata["namespace"], port)
            connection: socket.socket = forward.socket(port)
        except client.ApiException as error:
            why = first_line(error.reason)
            raise ApiError(error.status or 0, f"no way to pod {pod['metadata']['name']} by a port-forward: {why}") from error
        connection.settimeout(seconds)
        return connection


class PodCluster:
    """Requests on the API server from inside a pod, with its ServiceAccount; needs nothing but Python.

    :param account: the folder with the token, which is renewed every hour, and the certificate authority.
    """

    def __init__(self, account: str = ACCOUNT, address: str = "") -> None:
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        inside = f"[{host}]" if ":" in host else host
        self.host = address or f"https://{inside}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        self._token = Path(account) / "token"
        self._context = (
            ssl.create_default_context(cafile=str(Path(account) / "ca.crt")) if self.host.startswith("https") else None
        )

    def _open(
        self, path: str, headers: dict[str, str] | None, seconds: float, method: str = "GET", body: str | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        where = self.host.split("://", 1)[1]
        try:
            token = self._token.read_text(errors="replace").strip()
        except OSError as error:
            raise ApiError(0, f"the token of the pod's ServiceAccount can't be read: {reason(error)}") from error
        if not is_token(token):
            raise ApiError(0, f"the file {self._token} holds no token")
        connection = (
            http.client.HTTPSConnection(where, timeout=seconds, context=self._context)
            if self._context
            else http.client.HTTPConnection(where, timeout=seconds)
        )
        try:
            sent = {"Authorization": f"Bearer {token}", **(headers or {})}
            connection.request(method, path, body, sent)
            return connection, connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise ApiError(0, f"no answer from {self.host}: {reason(error)}") from error

    def fetch(self, path: str, headers: dict[str, str] | None = None, seconds: float = REQUEST_SECONDS) -> tuple[int, str]:
        return self._whole(*self._open(path, headers, seconds))

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """A request that changes something; *body* is sent as JSON, of which *headers* may name another type."""
        text = None if body is None else json.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self._whole(*self._open(path, sent, REQUEST_SECONDS, method, text))

    def _whole(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> tuple[int, str]:
        try:
            return response.status, response.read().decode("utf-8", "replace")
        except (http.client.HTTPException, OSError) as error:
            raise ApiError(0, f"the answer from {self.host} broke off: {reason(error)}") from error
        finally:
            connection.close()

    def lines(self, path: str, seconds: float) -> Iterator[str]:
        connection, response = self._open(path, None, seconds)
        try:
            if response.status != 200:
                raise ApiError(response.status, message_of(response.read().decode("utf-8", "replace")))
            while line := response.readline():
                yield line.rstrip(b"\n").decode("utf-8", "replace")
        except (http.client.HTTPException, OSError):
            return
        finally:
            connection.close()

    def dial(self, service: dict[str, Any], seconds: float) -> socket.socket:
        """A connection to the first port of a Service.

        :raises ApiError: where nobody is there.
        """
        host, port = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc", service["spec"]["ports"][0]["port"]
        try:
            return socket.create_connection((host, port), timeout=seconds)
        except OSError as error:
            raise ApiError(0, f"no answer from {host}: {reason(error)}") from error


def message_of(body: str) -> str:
    """The message of a Status object, or the text itself."""
    try:
        found = json.loads(body)
    except ValueError:
        return " ".join(body.split())[:200]
    return str(found.get("message", "")) if isinstance(found, dict) else " ".join(body.split())[:200]


def read_object(status: int, body: str) -> Any:
    """What an answer with the status 2xx holds.

    :raises ApiError: for any other, with the message in it.
    """
    if not 200 <= status < 300:
        raise ApiError(status, message_of(body) or f"the API server answered {status}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise ApiError(status, f"the answer is no JSON: {' '.join(body.split())[:100]}") from error
