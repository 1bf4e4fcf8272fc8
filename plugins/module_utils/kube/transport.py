# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an API server, and through its proxies to what runs on the cluster.

This is the one place that sends any. It needs neither Ansible nor the package kubernetes, since it also runs in a pod.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from ..credentials.guard import is_token

REQUEST_SECONDS = 10.0
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # where Kubernetes puts a pod's credentials


class KubeError(Exception):
    """What is wrong, where, and what to do, in one sentence."""


class ApiError(KubeError):
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


def first_line(error: object) -> str:
    """Return the first line of an error, without a closing full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def reason(error: BaseException) -> str:
    """The innermost words of a connection error."""
    inner = getattr(error, "reason", None) or error
    return " ".join(str(inner).split()) or type(error).__name__


class Guarded:
    """The pool of an API client: it sends each request as whom the kubeconfig says, and its errors quote no header."""

    def __init__(self, pool: Any, headers: list[tuple[str, str]]) -> None:
        self._pool, self.impersonation = pool, headers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def request(self, method: str, url: str, headers: Any = None, **options: Any) -> Any:
        """As urllib3.PoolManager.request; what is malformed raises urllib3's HTTPError."""
        import urllib3

        sent = urllib3.HTTPHeaderDict(headers or {})
        for name, value in self.impersonation:
            sent.add(name, value)
        wrong = sorted({name for name, value in sent.items() if not (str(value).isascii() and str(value).isprintable())})
        if wrong:
            raise urllib3.exceptions.HTTPError(f"the header {' and '.join(wrong)} holds characters that can't be sent")
        return self._pool.request(method, url, headers=sent, **options)


class KubeCluster:
    """Requests on an API server with the credentials of a kubernetes client.

    :param retries: how often a request is sent again that found no connection.
    """

    def __init__(self, api_client: Any, retries: int = 0) -> None:
        self._client, self._retries = api_client, retries or False
        self._config = api_client.configuration
        self._pool = api_client.rest_client.pool_manager
        self.host = str(self._config.host).rstrip("/")

    def _open(
        self, path: str, headers: dict[str, str] | None, seconds: float, method: str = "GET", body: str | None = None
    ) -> Any:
        """The answer to one request, of which nothing is read yet.

        :raises ApiError: with the status 0, where there is none.
        """
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
                retries=self._retries,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"no answer from {self.host}: {reason(error)}") from error

    def fetch(self, path: str, headers: dict[str, str] | None = None, seconds: float = REQUEST_SECONDS) -> tuple[int, str]:
        """The status and the text of the answer to a GET."""
        return self._whole(self._open(path, headers, seconds))

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> tuple[int, str]:
        """A request that changes something; *body* is sent as JSON, of which *headers* may name another type."""
        text = None if body is None else json.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self._whole(self._open(path, sent, seconds, method, text))

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
            raise ApiError(error.status or 0, f"pod {pod['metadata']['name']} can't be reached by port-forward: {why}") from error
        connection.settimeout(seconds)
        return connection


# The client's own functions are replaced while it opens a connection, by us and by itself.
_FORWARDING = threading.Lock()


def port_forward(core: Any, pod: str, namespace: str, port: int) -> Any:
    """A connection to a port of a pod, as kubernetes.stream.portforward makes it, as whom the kubeconfig says.

    That function sends no header of its own but the token.
    """
    from kubernetes import stream

    ws_client: Any = stream.ws_client
    headers = [f"{name}: {value}" for name, value in getattr(core.api_client.rest_client.pool_manager, "impersonation", [])]
    configuration = core.api_client.configuration
    host = urlsplit(configuration.host).hostname or ""
    # It asks the environment's proxies by itself, also where the client has none, and hears of exceptions beside a proxy alone.
    direct = {"http_proxy_host": host, "http_no_proxy": [host]} if not configuration.proxy and loopback(host) else {}
    with _FORWARDING:
        plain = ws_client.WebSocket

        class Impersonating(plain):  # type: ignore[misc,valid-type]
            def connect(self, url: str, **options: Any) -> None:
                super().connect(url, **{**options, **direct, "header": [*options.get("header", []), *headers]})

        ws_client.WebSocket = Impersonating
        try:
            return stream.portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        finally:
            ws_client.WebSocket = plain


def loopback(host: str) -> bool:
    """Whether an address is a machine's own, or stands for all that it has."""
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class PlainCluster:
    """Requests that need nothing but Python, and never go by a proxy.

    :param host: the server's address.
    :param context: trusts the server, and may have a certificate for it; needed where the address is https.
    """

    def __init__(self, host: str, context: ssl.SSLContext | None = None) -> None:
        self.host, self._context = host.rstrip("/"), context

    def _login(self) -> dict[str, str]:
        """The headers that say who asks."""
        return {}

    def _open(
        self, path: str, headers: dict[str, str] | None, seconds: float, method: str = "GET", body: str | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        where, login = self.host.split("://", 1)[1], self._login()
        connection = (
            http.client.HTTPSConnection(where, timeout=seconds, context=self._context)
            if self._context
            else http.client.HTTPConnection(where, timeout=seconds)
        )
        try:
            connection.request(method, path, body, {**login, **(headers or {})})
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


class PodCluster(PlainCluster):
    """Requests on the API server from inside a pod, with its ServiceAccount.

    :param account: the folder with the token, which is renewed every hour, and the certificate authority.
    """

    def __init__(self, account: str = ACCOUNT, address: str = "") -> None:
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        inside = f"[{host}]" if ":" in host else host
        found = address or f"https://{inside}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        authority = str(Path(account) / "ca.crt")
        super().__init__(found, ssl.create_default_context(cafile=authority) if found.startswith("https") else None)
        self._token = Path(account) / "token"

    def _login(self) -> dict[str, str]:
        try:
            token = self._token.read_text(errors="replace").strip()
        except OSError as error:
            raise ApiError(0, f"the token of the pod's ServiceAccount can't be read: {reason(error)}") from error
        if not is_token(token):
            raise ApiError(0, f"the file {self._token} holds no token")
        return {"Authorization": f"Bearer {token}"}

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
