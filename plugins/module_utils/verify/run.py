# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One verification: which app, where it is, and what the links share of what was read."""

from __future__ import annotations

import http.client
import ipaddress
import re
import shlex
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..kube.kubectl import kubectl
from ..kube.transport import REQUEST_SECONDS, ApiError, Cluster, read_object, reason
from . import facts, log_stores
from .given_backends import secrets_of
from .result import FAILED, Look, Result, failed, skipped
from .shut import Shut
from .stack import Stack

ADDRESS_SECONDS = 5.0
REFUSED = range(400, 429)  # HTTP statuses of what does not change by waiting
SERVER_ERROR = 500
SETTLE = 15.0  # seconds that what is installed may need for what it has seen before
MARKED_PODS = 10  # that get a request of their own, or one on each node where these are more
LOOK_AGAIN = 0.2  # seconds between two looks at what the cluster is about to bring


class VerifyError(Exception):
    """Verify cannot even begin; the message is one sentence for the user."""


@dataclass
class Target:
    """Which app is verified, and how."""

    name: str = "flask-app"
    namespace: str = "flask-app"
    image: str = ""
    port: int = 5000
    path: str = "/"
    metrics_port: int = 9200
    metrics_path: str = "/metrics"
    metrics_prefix: str = "flask"
    log_check: bool = True
    hosts: list[dict[str, Any]] = field(default_factory=list)
    alert_check: bool = True
    notify: bool = False
    receivers: list[str] = field(default_factory=list)
    notified_severities: list[str] = field(default_factory=lambda: ["critical", "warning"])
    log_backends: list[dict[str, Any]] = field(default_factory=list)
    external_checks: list[dict[str, Any]] = field(default_factory=list)
    check_names: list[str] = field(default_factory=list)
    dead_mans_switch: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    app_only: bool = False
    schedule: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    kubeconfig: str = ""
    context: str = ""

    def kubectl(self, *words: str, namespaced: bool = True) -> str:
        place = ["-n", self.namespace] if namespaced else []
        return shlex.join([*kubectl(self.kubeconfig, self.context), *place, *words])

    def opening(self, url: str) -> str:
        """The command that opens the app to a browser where *url* is the API server's, which wants a login; else empty."""
        port = re.search(rf"/services/(?:https:)?{re.escape(self.name)}:(\d+)/proxy$", url)
        return self.kubectl("port-forward", f"service/{self.name}", f"8080:{port[1]}") if port else ""


@dataclass(frozen=True)
class Marked:
    """A request of verify's own, with an id that the app logs, the moment when it was sent, and the status of the answer.

    :param pod: whom it was sent to; empty where the Service chose. :param node: where that is.
    :param problem: why there is no answer.
    """

    id: str
    began: float
    status: int
    pod: str = ""
    node: str = ""
    problem: str = ""

    @property
    def place(self) -> str:
        return f"{self.pod} on {self.node or 'no node'}"


class Run:
    """One verification: what was read once is shared by the links."""

    def __init__(self, cluster: Cluster, target: Target, plain_get: Callable[..., tuple[int, str]] | None = None) -> None:
        self.cluster = cluster
        self.target = target
        self.plain_get = plain_get or http_get
        self.deadline = time.monotonic() + target.timeout
        self.base = f"/api/v1/namespaces/{target.namespace}"
        self.pods_path = f"{self.base}/pods?{urlencode({'labelSelector': f'app={target.name}'})}"
        self.deployment_path = f"/apis/apps/v1/namespaces/{target.namespace}/deployments/{target.name}"
        self.url = self.front = ""  # the Service's, and that of the users by the name of a host
        self.through_proxy = ""
        self.url_problem = ""
        self._tls = ""
        self.out_of_reach = ""
        self.pods: list[dict[str, Any]] = []
        self.deployment: dict[str, Any] = {}
        self.service: dict[str, Any] = {}
        self.deployment_problem = ""
        self.settle, self.address_seconds = SETTLE, ADDRESS_SECONDS
        self.stack = Stack(self)
        self._marking = threading.Lock()
        self.ways: dict[tuple[str, str], log_stores.Way] = {}
        self._marked: Marked | ApiError | None = None
        self._marked_pods: list[Marked] | None = None

    @cached_property
    def path(self) -> str:
        """What verify itself asks for, quoted; it is not known before the app has an address."""
        return quote(facts.page(self.target.path, self._status), safe=facts.PATH)

    def _status(self, path: str) -> int:
        try:
            return self.ask(path)[0]
        except ApiError as error:
            return error.status

    @property
    def shown(self) -> str:
        """The path that verify itself asks for."""
        return facts.shown_path(self.path)

    def seconds_left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.1)

    def request_seconds(self) -> float:
        return min(REQUEST_SECONDS, self.seconds_left())

    def settled(self, look: Callable[[], list[Result]], seconds: float | None = None) -> list[Result]:
        """Look again until nothing is broken any more: what was just installed or started takes a while.

        :param seconds: how long at most; without it, ``settle``, which is longer where the app is new.
        :raises ApiError: what is not read as long as that, or at all: somebody refuses it or does not know it.
        """
        until = min(self.deadline, time.monotonic() + (self.settle if seconds is None else seconds))
        found: list[Result] | None = None
        while True:
            try:
                found = look()
                if not any(result.status == FAILED for result in found):
                    return found
            except ApiError as error:
                # Near the end there is no time left for an answer; what was seen before says more.
                if found is None and (error.status in REFUSED or time.monotonic() > until):
                    raise
            if found is not None and time.monotonic() > until:
                return found
            time.sleep(LOOK_AGAIN)

    def prepare(self) -> None:
        """Read the app's objects; only an API server that does not serve us at all ends the run here."""
        target = self.target
        try:
            labelled = self.get(self.pods_path).get("items", [])
        except ApiError as error:
            if error.status == 0:
                raise VerifyError(f"Cannot reach the API server: {error}; check the kubeconfig and the context.") from error
            if error.status == 401:
                raise VerifyError(
                    f"The API server {self.cluster.host} refuses the credentials ({error}): renew the token or certificate."
                ) from error
            raise VerifyError(
                f"Cannot list the pods of namespace {target.namespace} on {self.cluster.host}: {error}; "
                "use a kubeconfig that may read them."
            ) from error
        try:
            self.deployment = self.get(self.deployment_path)
        except ApiError as error:
            self.deployment_problem = f"cannot read the Deployment {target.name} in namespace {target.namespace}: {error}"
        self.pods = self.own(labelled)
        self._find_url()

    def own(self, pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those pods that the Deployment selects: others may carry the label app too, such as its workers'."""
        wanted = (self.deployment.get("spec", {}).get("selector") or {}).get("matchLabels") or {}
        return [pod for pod in pods if wanted.items() <= (pod["metadata"].get("labels") or {}).items()]

    def _find_url(self) -> None:
        target = self.target
        try:
            service = self.service = self.get(f"{self.base}/services/{target.name}")
        except ApiError as error:
            self.url_problem = f"cannot read the Service {target.name} in namespace {target.namespace}: {error}"
            return
        entry = facts.port_entry(service, target.port, facts.app_container(self.deployment, target.name))
        if entry is None:
            self.url_problem = f"no port of the Service {target.name} leads to the app's port {target.port}"
            return
        self.url, self._tls = facts.load_balancer_url(service, entry), facts.tls_prefix(entry)
        self._proxy = f"{self.base}/services/{self._tls}{target.name}:{entry['port']}/proxy"
        if not self.url:
            self.through_proxy = self._proxy
            self.url = self.cluster.host + self.through_proxy

    def pod_path(self, pod: str, port: int) -> str:
        """Where the API server's proxy leads to a port of a pod."""
        return f"{self.base}/pods/{self._tls if port == self.target.port else ''}{pod}:{port}/proxy"

    def ask(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """A request to the app through its Service, past a load balancer to which this machine has no way."""
        if self.url_problem:
            raise ApiError(0, self.url_problem)
        if self.through_proxy:
            return self.cluster.fetch(self.through_proxy + path, headers, self.request_seconds())
        # A node serves a Service's address a moment after the Deployment is available.
        until = min(self.deadline, time.monotonic() + self.address_seconds)
        while True:
            try:
                return self.plain_get(self.url + path, headers or {}, self.request_seconds())
            except ApiError as error:
                if time.monotonic() > until:
                    if not facts.out_of_reach(error, urlsplit(self.url).hostname or "", facts.is_restricted(self.service)):
                        raise
                    self.out_of_reach, self.through_proxy = str(error), self._proxy
                    return self.ask(path, headers)
            time.sleep(0.2)

    def get(self, path: str) -> Any:
        """An object or list of the API server as a dict."""
        return read_object(*self.fetch(path))

    def fetch(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """The status and the text of an answer through the API server.

        :raises Shut: where the cluster's objects say why it has no way to Prometheus or Alertmanager.
        """
        try:
            status, text = self.cluster.fetch(path, headers, self.request_seconds())
        except ApiError as error:
            self.stack.check_open(path, str(error))
            raise
        self.stack.check_open(path, facts.unreached(status, text) if status >= SERVER_ERROR else "")
        return status, text

    def slices(self, namespace: str, service: str) -> list[dict[str, Any]]:
        """The EndpointSlices of a Service."""
        found: list[dict[str, Any]] = self.get(slices_path(namespace, service)).get("items", [])
        return found

    def way(self, service: dict[str, Any]) -> log_stores.Way:
        """The way to a log back end of the cluster, one for all who ask it; it is closed in the end."""
        metadata = service["metadata"]
        return self.ways.setdefault((metadata["namespace"], metadata["name"]), log_stores.Way(self.cluster, service))

    def secrets(self) -> list[str]:
        """What no text from here may show."""
        found = [secret for given in self.target.log_backends for secret in secrets_of(given)]
        found += [secret for way in list(self.ways.values()) for secret in way.secrets]
        return found + [given.get("api_token") or "" for given in (*self.target.external_checks, self.target.dead_mans_switch)]

    def marked_request(self) -> Marked:
        """The one request through the Service whose line is looked for in every log.

        :raises ApiError: when the app gave no answer.
        """
        with self._marking:
            if not self._marked:
                request_id, began = f"verify-{uuid.uuid4().hex}", time.monotonic()
                try:
                    status, body = self.ask(self.path, {"X-Request-ID": request_id})
                    if said := facts.unreached(status, body):
                        raise ApiError(status, said)
                except ApiError as error:
                    self._marked = error
                else:
                    self._marked = Marked(request_id, began, status)
            if isinstance(self._marked, ApiError):
                raise self._marked
            return self._marked

    def marked_pods(self) -> list[Marked]:
        """A request to each ready pod, past the Service, where there are several; of many to some, on each of their nodes."""
        with self._marking:
            if self._marked_pods is None:
                ready = [pod for pod in self.pods if facts.is_ready(pod)]
                chosen = facts.spread(ready, MARKED_PODS) if len(ready) > 1 else []
                with ThreadPoolExecutor(max_workers=8) as pool:
                    self._marked_pods = list(pool.map(self._mark, chosen))
            return self._marked_pods

    def _mark(self, pod: dict[str, Any]) -> Marked:
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
        request_id, began = f"verify-{uuid.uuid4().hex}", time.monotonic()
        way = self.pod_path(name, self.target.port) + self.path
        try:
            status, body = self.cluster.fetch(way, {"X-Request-ID": request_id}, self.request_seconds())
        except ApiError as error:
            return Marked(request_id, began, error.status, name, node, str(error))
        return Marked(request_id, began, status, name, node, facts.unreached(status, body))

    def of_deployment(self, link: str, judge: Callable[[], Result]) -> Result:
        """What a *judge* says of the Deployment and its pods; failed where the Deployment can't be read."""
        query = f"GET {self.deployment_path} and {self.pods_path}"
        if self.deployment_problem:
            return failed(link, "no Deployment read", self.deployment_problem, query)
        return judge().asked(query)

    def followed(self, look: Look) -> list[Result]:
        """What a look finds, with the seconds that it took; where it breaks off, every one of its rows says so."""
        began = time.monotonic()
        try:
            results = look.follow()
        except ApiError as error:
            if isinstance(error, Shut):
                results = [skipped(row, str(error)) for row in look.rows]
            # What a person's account may not see is no fault of the app's. The scheduled pod's may see all, or is broken.
            elif error.status == 403 and (self.target.kubeconfig or self.target.context):
                results = [skipped(row, f"refused: {error}") for row in look.rows]
            else:
                results = [failed(row, "not read", str(error)) for row in look.rows]
        except Exception as error:
            # A link whose answer nobody foresaw is a broken link, not the end of the others.
            cause = f"{type(error).__name__}: {error}"
            results = [failed(row, "not checked to the end", cause) for row in look.rows]
        for result in results:
            result.seconds = result.seconds or round(time.monotonic() - began, 3)
        return results

    def side_by_side(self, looks: Sequence[Look]) -> list[Result]:
        """What all the looks find, in their order."""
        if not looks:
            return []
        with ThreadPoolExecutor(max_workers=len(looks)) as pool:
            return [result for results in pool.map(self.followed, looks) for result in results]


def reached(run: Run, page: str) -> tuple[int, str, str]:
    """The status and the text of a page of metrics, and why the API server's proxy has no way to it, or an empty text.

    It dials for longer than anybody waits here, where a NetworkPolicy lets what it sends vanish.
    """
    try:
        status, text = run.cluster.fetch(page, {"Accept": "text/plain"}, run.request_seconds())
    except ApiError as error:
        if error.status:
            raise
        return 0, "", str(error)
    return status, text, facts.unreached(status, text)


def slices_path(namespace: str, service: str) -> str:
    """Where the EndpointSlices of a Service are."""
    selector = urlencode({"labelSelector": f"kubernetes.io/service-name={service}"})
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{selector}"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer of the app's; what it points at may be somebody else's."""

    def redirect_request(self, *_given: Any) -> None:
        return None


@cache
def _opener(direct: bool) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(NoRedirect, *([urllib.request.ProxyHandler({})] if direct else []))


def _is_inside(host: str) -> bool:
    """Whether a host is an address, and no name, which the internet does not have."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def http_get(url: str, headers: dict[str, str], seconds: float) -> tuple[int, str]:
    """A plain request from this machine to the app's own address.

    No proxy is asked for one that the internet does not have: it has no way there, and what it answers instead is not the app's.
    """
    request = urllib.request.Request(url, headers=headers)
    try:
        with _opener(_is_inside(urlsplit(url).hostname or "")).open(request, timeout=seconds) as response:
            return int(response.status), response.read(65536).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(65536).decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ApiError(0, f"no answer from {facts.shown_path(url)}: {reason(error)}") from error
