# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log back ends that run inside a cluster: how each is found, is asked for lines, and answers.

All have one shape, so that another one is another class here and its name in STORES.
"""

from __future__ import annotations

import datetime
import http.client
import json
import re
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from ..credentials.guard import basic, hide, login_secrets
from ..credentials.served import SecretError, login, texts
from ..kube.transport import ApiError, Cluster, message_of, read_object, reason

# Annotations of a Service, with the names of the Secrets that tell how it is asked.
LOGIN, TLS = "flaskops/login-secret", "flaskops/tls-secret"
# A sample with labels on a page of metrics.
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.MULTILINE)
STREAM_LABEL = re.compile(r'([A-Za-z_][\w.]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Line:
    """A line's time in seconds since 1970, the labels of its stream, and what the application wrote."""

    time: float
    labels: dict[str, str]
    text: str = ""


class Store:
    """One kind of back end.

    :cvar name: of its link, and as the option logging_backend has it.
    :cvar services: labels of the Service through which it is asked.
    :cvar pods: labels of the workload that drill may stop.
    :cvar ready: the path that is answered with 200 when it works.
    :cvar alive: the path that a data source of Grafana is asked for.
    :cvar lost: the counter of what it dropped; empty where it refuses instead.
    :cvar reasons: what the label `reason` of these means.
    :cvar down: the alert that fires when it is gone.
    """

    reasons: dict[str, str] = {}
    name = title = services = pods = ready = alive = lost = down = ""

    def expression(self, namespace: str, app: str, text: str = "", levels: str = "") -> str:
        """What asks for an app's lines with a text in them and of these levels, such as ``error|critical``."""
        raise NotImplementedError

    def path(self, expression: str, seconds: float, limit: int = 10) -> str:
        """The path below the back end's address that asks for the newest lines of the last so many seconds."""
        raise NotImplementedError

    def lines(self, body: str) -> list[Line]:
        """What it answered; :raises ValueError: (or KeyError) for anything else."""
        raise NotImplementedError

    def trouble(self, page: str) -> str:
        """What its metrics say is wrong with it; empty for nothing."""
        return ""

    def refusals(self, page: str) -> dict[str, float]:
        """What it refused of all that was sent to it, as its metrics count it: how much, by the reason."""
        return {}


class Loki(Store):
    name, title = "loki", "Loki"
    services = "app.kubernetes.io/name=loki,app.kubernetes.io/component in (single-binary,gateway),variant!=headless"
    pods = "app.kubernetes.io/name=loki,app.kubernetes.io/component=single-binary"
    ready, alive = "/ready", "/loki/api/v1/status/buildinfo"
    down = "LokiDown"

    def expression(self, namespace: str, app: str, text: str = "", levels: str = "") -> str:
        level = f', level=~"{levels}"' if levels else ""
        return f'{{namespace="{namespace}", app="{app}"{level}}}' + (f' |= "{text}"' if text else "")

    def path(self, expression: str, seconds: float, limit: int = 10) -> str:
        now = time.time()
        query = {"query": expression, "start": int((now - seconds) * 1e9), "end": int((now + 60) * 1e9), "limit": limit}
        return f"/loki/api/v1/query_range?{urlencode(query)}"

    def lines(self, body: str) -> list[Line]:
        streams: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return [Line(int(value[0]) / 1e9, stream["stream"], value[1]) for stream in streams for value in stream["values"]]

    def refusals(self, page: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for name, labels, value in SAMPLE.findall(page):
            seen = dict(STREAM_LABEL.findall(labels))
            if name == "loki_discarded_samples_total":
                found[f"lines because of {seen.get('reason', '?')}"] += float(value)
            elif name == "loki_request_duration_seconds_count" and seen.get("route", "").endswith("_push"):
                # Which tenant is missing, or how much is too much, it says to the log agent only.
                status = seen.get("status_code", "")
                found[f"requests with {status}"] += 0 if status.startswith("2") else float(value)
        return found


class VictoriaLogs(Store):
    name, title = "victoria_logs", "VictoriaLogs"
    services = "app.kubernetes.io/name=victoria-logs-single"
    pods = "app.kubernetes.io/name=victoria-logs-single,app.kubernetes.io/component=server"
    ready = alive = "/health"
    lost = "vl_rows_dropped_total"
    reasons = {
        "too_small_timestamp": "older than its retention: see the clock of the node that sends them",
        "too_big_timestamp": "too far ahead of its time: see the clock of the node that sends them",
        "too_many_fields": "with too many fields",
    }
    down = "VictoriaLogsDown"

    def expression(self, namespace: str, app: str, text: str = "", levels: str = "") -> str:
        level = f',level=~"{levels}"' if levels else ""
        return f'{{namespace="{namespace}",app="{app}"{level}}}' + (f' "{text}"' if text else "")

    def path(self, expression: str, seconds: float, limit: int = 10) -> str:
        return f"/select/logsql/query?{urlencode({'query': f'_time:{seconds:.0f}s {expression}', 'limit': limit})}"

    def lines(self, body: str) -> list[Line]:
        found = []
        for row in map(json.loads, body.splitlines()):
            # Python knows microseconds.
            moment = datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", row["_time"]))
            labels = {key: value.replace('\\"', '"') for key, value in STREAM_LABEL.findall(row["_stream"])}
            found.append(Line(moment.timestamp(), labels, row.get("_msg", "")))
        return found

    def trouble(self, page: str) -> str:
        if re.search(r"^vl_storage_is_read_only(?:\{.*\})? 1$", page, re.MULTILINE):
            return "it is read-only, because less than the space that it keeps free is left on its disk"
        return ""


def refused(store: Store, before: str, after: str) -> str:
    """What a back end refused between two looks at its metrics; empty for nothing, and where another process answers."""
    if STARTED.findall(before) != STARTED.findall(after):
        return ""
    known = store.refusals(before)
    fresh = {reason: number - known.get(reason, 0) for reason, number in store.refusals(after).items()}
    said = [f"{number:.0f} {reason}" for reason, number in sorted(fresh.items(), reverse=True) if number > 0]
    return f"{store.title} refuses what is sent to it: {', '.join(said)}" if said else ""


STORES: dict[str, Store] = {store.name: store for store in (Loki(), VictoriaLogs())}


def services(get: Callable[[str], Any], store: Store) -> list[dict[str, Any]]:
    """The Services of a kind of back end on the cluster.

    :param get: reads an object or list of the API server.
    """
    found: list[dict[str, Any]] = get(f"/api/v1/services?{urlencode({'labelSelector': store.services})}").get("items", [])
    return found


def search_path(index: str, text: str, size: int = 1) -> str:
    """The path below an Elasticsearch's or OpenSearch's address that asks for lines with a text in them."""
    return f"/{quote(index)}/_search?" + urlencode({"q": f'"{text}"', "size": size, "ignore_unavailable": "true"})


def proxy(service: dict[str, Any]) -> str:
    """The path that leads through the API server to a Service's first port."""
    metadata, port = service["metadata"], service["spec"]["ports"][0]["port"]
    scheme = "https:" if TLS in (metadata.get("annotations") or {}) else ""
    return f"/api/v1/namespaces/{metadata['namespace']}/services/{scheme}{metadata['name']}:{port}/proxy"


class Way:
    """The way to a back end of the cluster.

    It leads through the API server's proxy, which needs one permission only. That proxy takes the header Authorization away.
    So a back end that asks for a login is asked over a connection of its own, with the login and the authority in its Secrets.
    """

    def __init__(self, cluster: Cluster, service: dict[str, Any]) -> None:
        self.cluster, self.service, self.base = cluster, service, proxy(service)
        annotations = service["metadata"].get("annotations") or {}
        self.namespace, self.secret, self.tls = service["metadata"]["namespace"], annotations.get(LOGIN), annotations.get(TLS)
        self.secrets: list[str] = []  # what no text may show of the login, once it was read
        self._login = ""
        self._connection: http.client.HTTPConnection | None = None
        self._one = threading.Lock()

    def fetch(self, path: str, seconds: float) -> tuple[int, str]:
        """What the back end answers to a GET.

        :raises ApiError: where it gives no answer, or takes no login of ours.
        """
        if not self.secret:
            status, text = self.cluster.fetch(self.base + path, {"Accept": "*/*"}, seconds)
            why = f"its annotation {LOGIN} names no Secret: name it, with the login or the tenant, in verify_log_backends"
        else:
            with self._one:
                status, text = self._ask(path, seconds)
            why = f"it does not take the one in Secret {self.secret} of namespace {self.namespace}"
        if status != 200:
            text = hide(text, self.secrets)  # before anybody cuts it
        if status == 401:
            answer = f"Service {self.service['metadata']['name']} answers 401 {message_of(text)}".strip()
            raise ApiError(status, f"{answer}, and {why}")
        return status, text

    def _ask(self, path: str, seconds: float) -> tuple[int, str]:
        kept = self._connection is not None
        try:
            connection = self._connection = self._connection or self._connect(seconds)
            if connection.sock:
                connection.sock.settimeout(seconds)
            connection.request("GET", path, headers={"Authorization": self._login})
            reply = connection.getresponse()
            return reply.status, reply.read().decode("utf-8", "replace")
        except (http.client.HTTPException, OSError) as error:
            self.close()
            if kept:  # it may have been closed meanwhile, or lead to a pod that is gone
                return self._ask(path, seconds)
            why = hide(reason(error), self.secrets)
            raise ApiError(0, f"no answer from {self.service['metadata']['name']}: {why}") from error

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        username, password = self._read(self.secret, login, seconds)
        self.secrets = login_secrets(username, password)
        self._login = basic(username, password)
        host = f"{self.service['metadata']['name']}.{self.namespace}.svc"
        connection = http.client.HTTPConnection(host)
        # Else it would go to whoever has that name here once this connection has ended.
        connection.auto_open = 0
        context = None
        if self.tls:
            (authority,) = self._read(self.tls, lambda secret: texts(secret, ("ca.crt",)).values(), seconds)
            context = ssl.create_default_context(cadata=authority)
        dialled = self.cluster.dial(self.service, seconds)
        connection.sock = context.wrap_socket(dialled, server_hostname=host) if context else dialled
        return connection

    def _read(self, name: str | None, take: Callable[[Any], Any], seconds: float) -> Any:
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{name}"
        try:
            return take(read_object(*self.cluster.fetch(path, None, seconds)))
        except (ApiError, SecretError) as error:
            raise ApiError(403, f"its login in Secret {name} of namespace {self.namespace} can't be read: {error}") from error

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection:
            self._connection.close()
        self._connection = None
