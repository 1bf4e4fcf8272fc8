# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the checks need from the API server and the app, and runs them side by side."""

from __future__ import annotations

import http.client
import queue
import re
import shlex
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any
from urllib.parse import quote, urlencode

from ..credentials.guard import hide
from ..kube import autoscalers
from ..kube.transport import REQUEST_SECONDS, ApiError, Cluster, message_of, read_object, reason
from . import backends, checks, log_stores
from .checks import Result
from .health import App, check_health
from .stack import Stack

ADDRESS_SECONDS = 5.0
REFUSED = range(400, 429)  # HTTP statuses of what does not change by waiting
SETTLE = 15.0  # seconds that what is installed may need for what it has seen before
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
    metrics_port: int = 9200
    metrics_path: str = "/metrics"
    log_check: bool = True
    alert_check: bool = True
    notify: bool = False
    log_backends: list[dict[str, Any]] = field(default_factory=list)
    external_checks: list[dict[str, Any]] = field(default_factory=list)
    environment: str = ""
    app_only: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    kubeconfig: str = ""
    context: str = ""

    def kubectl(self, *words: str, namespaced: bool = True) -> str:
        command = ["kubectl"]
        if self.kubeconfig:
            command += ["--kubeconfig", self.kubeconfig]
        if self.context:
            command += ["--context", self.context]
        if namespaced:
            command += ["-n", self.namespace]
        return shlex.join([*command, *words])

    def opening(self, url: str) -> str:
        """The command that opens the app to a browser where *url* is the API server's, which wants a login; else empty."""
        port = re.search(rf"/services/{re.escape(self.name)}:(\d+)/proxy$", url)
        return self.kubectl("port-forward", f"service/{self.name}", f"8080:{port[1]}") if port else ""

    def next_command(self, link: str) -> str:
        """Where to look for a broken link of the app itself; empty for one of the stack."""
        selector = f"app={self.name}"
        if link == "node":
            return self.kubectl("describe", "nodes", namespaced=False)
        if link in ("image", "rollout"):
            return self.kubectl("describe", "pods", "-l", selector)
        if link == "probes":
            return self.kubectl("get", "deployment", self.name, "-o", "yaml")
        if link in ("endpoint", "health"):
            return self.kubectl("get", "service,endpointslices,pods", "-o", "wide")
        if link == "logs":
            return self.kubectl("logs", "-l", selector, "--tail=50")
        if link.startswith("metric "):
            return self.kubectl("port-forward", f"deployment/{self.name}", str(self.metrics_port))
        return ""


class Run:
    """One verification: what was read once is shared by the checks."""

    def __init__(self, cluster: Cluster, target: Target, plain_get: Callable[..., tuple[int, str]] | None = None) -> None:
        self.cluster = cluster
        self.target = target
        self.plain_get = plain_get or http_get
        self.deadline = time.monotonic() + target.timeout
        self.base = f"/api/v1/namespaces/{target.namespace}"
        self.pods_path = f"{self.base}/pods?{urlencode({'labelSelector': f'app={target.name}'})}"
        self.deployment_path = f"/apis/apps/v1/namespaces/{target.namespace}/deployments/{target.name}"
        self.url = ""
        self._through_proxy = ""
        self._url_problem = ""
        self.pods: list[dict[str, Any]] = []
        self.deployment: dict[str, Any] = {}
        self.service: dict[str, Any] = {}
        self._deployment_problem = ""
        self.settle = SETTLE
        self._never = threading.Event()
        self._marking = threading.Lock()
        self.ways: dict[tuple[str, str], log_stores.Way] = {}
        self._marked: tuple[str, float, int] | ApiError | None = None

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
                if not any(result.status == checks.FAILED for result in found):
                    return found
            except ApiError as error:
                # Near the end there is no time left for an answer; what was seen before says more.
                if found is None and (error.status in REFUSED or time.monotonic() > until):
                    raise
            if found is not None and time.monotonic() > until:
                return found
            self._never.wait(LOOK_AGAIN)

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
            self._deployment_problem = f"cannot read the Deployment {target.name} in namespace {target.namespace}: {error}"
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
            self._url_problem = f"cannot read the Service {target.name} in namespace {target.namespace}: {error}"
            return
        entry = checks.service_port(service, target.port, checks.app_container(self.deployment, target.name))
        if entry is None:
            self._url_problem = f"no port of the Service {target.name} leads to the app's port {target.port}"
            return
        self.url = checks.load_balancer_url(service, entry["port"])
        if not self.url:
            self._through_proxy = f"{self.base}/services/{target.name}:{entry['port']}/proxy"
            self.url = self.cluster.host + self._through_proxy

    def ask(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """A request to the app through its Service."""
        if self._url_problem:
            raise ApiError(0, self._url_problem)
        if self._through_proxy:
            return self.cluster.fetch(self._through_proxy + path, headers, self.request_seconds())
        # A node serves a Service's address a moment after the Deployment is available.
        until = min(self.deadline, time.monotonic() + ADDRESS_SECONDS)
        while True:
            try:
                return self.plain_get(self.url + path, headers or {}, self.request_seconds())
            except ApiError:
                if time.monotonic() > until:
                    raise
            self._never.wait(0.2)

    def get(self, path: str) -> Any:
        """An object or list of the API server as a dict."""
        return read_object(*self.cluster.fetch(path, None, self.request_seconds()))

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
        found = [secret for given in self.target.log_backends for secret in backends.secrets_of(given)]
        found += [secret for way in list(self.ways.values()) for secret in way.secrets]
        return found + [given.get("api_token") or "" for given in self.target.external_checks]

    def marked_request(self) -> tuple[str, float, int]:
        """The id of the one request whose line is looked for in every log, when it was sent, and its status.

        :raises ApiError: when the app gave no answer.
        """
        with self._marking:
            if not self._marked:
                request_id, began = f"verify-{uuid.uuid4().hex}", time.monotonic()
                try:
                    status, _ = self.ask("/", {"X-Request-ID": request_id})
                except ApiError as error:
                    self._marked = error
                else:
                    self._marked = (request_id, began, status)
            if isinstance(self._marked, ApiError):
                raise self._marked
            return self._marked

    # The links.

    def node(self) -> list[Result]:
        query = "GET /api/v1/nodes"
        try:
            nodes = self.get("/api/v1/nodes").get("items", [])
        except ApiError as error:
            if error.status == 403:
                return [checks.left_out("node", "this kubeconfig may not list nodes")]
            return [checks.failed("node", "nodes not read", str(error), query)]
        return [self.asked(query, checks.check_nodes(nodes, self.pods))]

    @staticmethod
    def asked(query: str, result: Result) -> Result:
        """The result, with what was asked for it."""
        result.query = query
        return result

    def _of_deployment(self, link: str, check: Callable[[], Result]) -> list[Result]:
        query = f"GET {self.deployment_path} and {self.pods_path}"
        if self._deployment_problem:
            return [checks.failed(link, "no Deployment read", self._deployment_problem, query)]
        return [self.asked(query, check())]

    def image(self) -> list[Result]:
        target = self.target
        return self._of_deployment("image", lambda: checks.check_image(self.deployment, self.pods, target.name, target.image))

    def probes(self) -> list[Result]:
        """The probes are there and lead to the app; whether they are the reference's is only noted."""
        target = self.target
        found = self._of_deployment("probes", lambda: checks.check_probes(self.deployment, target.name, target.port))
        if self._deployment_problem:
            return [*found, checks.left_out(checks.REFERENCE, "no Deployment read")]
        return [*found, self.asked(found[0].query, checks.note_reference(self.deployment, target.name, target.port))]

    def rollout(self) -> list[Result]:
        return self._of_deployment("rollout", lambda: checks.check_rollout(self.deployment, self.pods, self._autoscaler()))

    def _autoscaler(self) -> str:
        """What may have scaled the Deployment to 0, as its kind and name; empty where nothing has, or none can be read."""
        if self.deployment["spec"].get("replicas", 1):
            return ""

        def read(path: str) -> tuple[int, dict[str, Any]]:
            try:
                return 200, self.get(path)
            except ApiError as error:
                return error.status, {}

        return autoscalers.find(read, self.target.namespace, self.target.name) or ""

    def endpoint(self) -> list[Result]:
        """The Service leads to the app's ready pods."""
        target = self.target
        if self._url_problem:
            return [checks.failed("endpoint", "no way to the app", self._url_problem, f"GET {self.base}/services/{target.name}")]
        # A pod that has just become ready, or goes, is a moment away from its place among the endpoints.
        return self.settled(self._endpoint, ADDRESS_SECONDS)

    def _endpoint(self) -> list[Result]:
        target = self.target
        try:
            slices = self.slices(target.namespace, target.name)
        except ApiError as error:
            if error.status == 403:
                return [checks.left_out("endpoint", "this kubeconfig may not list EndpointSlices")]
            raise
        labelled = self.get(self.pods_path).get("items", [])
        found = checks.check_endpoint(self.service, slices, self.own(labelled), labelled)
        return [self.asked(f"GET {slices_path(target.namespace, target.name)}", found)]

    def health(self) -> list[Result]:
        target, container = self.target, checks.app_container(self.deployment, self.target.name)

        def fetch(path: str, headers: dict[str, str] | None) -> tuple[int, str]:
            return self.cluster.fetch(path, headers, self.request_seconds())

        known = (self.base, target.name, target.port, self.service, container, self.pods)
        return [check_health(App(*known, url=self._through_proxy or self.url, ask=self.ask, fetch=fetch))]

    def metrics(self) -> list[Result]:
        pages: dict[str, str] = {}
        problems: dict[str, str] = {}
        names = [p["metadata"]["name"] for p in self.pods if checks.is_ready(p)]
        if names:
            with ThreadPoolExecutor(max_workers=min(8, len(names))) as pool:
                for name, (status, text) in zip(names, pool.map(self._metrics_page, names), strict=True):
                    if status == 200:
                        pages[name] = text
                    else:
                        problems[name] = text if status == 0 else f"metrics page answered {status} {message_of(text)}".strip()
        query = f"GET {self.base}/pods/POD:{self.target.metrics_port}/proxy{self.target.metrics_path}"
        return [self.asked(query, result) for result in checks.check_metrics(pages, problems)]

    def _metrics_page(self, pod: str) -> tuple[int, str]:
        target = self.target
        try:
            # A request of our own first: the exporter shows its series only after one.
            self.cluster.fetch(f"{self.base}/pods/{pod}:{target.port}/proxy/", None, self.request_seconds())
            path = quote("/" + target.metrics_path.lstrip("/"))
            return self.cluster.fetch(
                f"{self.base}/pods/{pod}:{target.metrics_port}/proxy{path}", {"Accept": "text/plain"}, self.request_seconds()
            )
        except ApiError as error:
            return 0, str(error)

    def logs(self) -> list[Result]:
        if not self.target.log_check:
            return [checks.left_out("logs", "switched off: the app is said to log no request id")]
        # Containers that run are read even if not ready: their lines are there all the same.
        names = [p["metadata"]["name"] for p in self.pods if p.get("status", {}).get("phase") == "Running"]
        if not names:
            cause = f"no running pod with the label app={self.target.name}"
            return [checks.failed("logs", "no log to read", cause, f"GET {self.pods_path}")]
        try:
            request_id, began, status = self.marked_request()
        except ApiError as error:
            return [checks.failed("logs", "no request could be sent", str(error), f"GET {self.url}/")]
        query = f"GET {self.url}/ with X-Request-ID: {request_id}, then the log of each pod"
        found: queue.Queue[tuple[str, str]] = queue.Queue()
        stop = threading.Event()
        for name in names:
            threading.Thread(target=self._follow, args=(name, request_id, began, found, stop), daemon=True).start()
        problems = []
        try:
            for _ in names:
                pod, problem = found.get(timeout=self.seconds_left())
                if not problem:
                    return [checks.ok("logs", f"request {request_id} found in the log of {pod}", query)]
                problems.append(f"{pod}: {problem}")
        except queue.Empty:
            pass
        finally:
            stop.set()
        cause = "; ".join(problems) or (
            f"the request was answered {status}, but no line with its X-Request-ID came within {self.target.timeout:g} s"
        )
        return [checks.failed("logs", f"{request_id} not found in the logs of {len(names)} pods", cause, query)]

    def _follow(
        self, pod: str, request_id: str, began: float, found: queue.Queue[tuple[str, str]], stop: threading.Event
    ) -> None:
        since = int(time.monotonic() - began) + 5
        query = {"follow": "true", "sinceSeconds": since, "container": self._container(pod)}
        try:
            for line in self.cluster.lines(f"{self.base}/pods/{pod}/log?{urlencode(query)}", self.seconds_left()):
                if request_id in line:
                    found.put((pod, ""))
                    return
                if stop.is_set() or time.monotonic() > self.deadline:
                    break
            found.put((pod, "its log ended without the request's X-Request-ID"))
        except ApiError as error:
            found.put((pod, str(error)))

    def _container(self, pod: str) -> str:
        for found in self.pods:
            if found["metadata"]["name"] == pod:
                names = [c["name"] for c in found.get("spec", {}).get("containers", [])]
                return self.target.name if self.target.name in names or not names else names[0]
        return self.target.name


def slices_path(namespace: str, service: str) -> str:
    """Where the EndpointSlices of a Service are."""
    selector = urlencode({"labelSelector": f"kubernetes.io/service-name={service}"})
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{selector}"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer of the app's; what it points at may be somebody else's."""

    def redirect_request(self, *_given: Any) -> None:
        return None


@cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(NoRedirect)


def http_get(url: str, headers: dict[str, str], seconds: float) -> tuple[int, str]:
    """A plain request from this machine to the app's own address."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with _opener().open(request, timeout=seconds) as response:
            return int(response.status), response.read(65536).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(65536).decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ApiError(0, f"no answer from {checks.shown_path(url)}: {reason(error)}") from error


def name_of(link: Callable[[], list[Result]]) -> str:
    """The name of a link whose check broke off."""
    function = link.func if isinstance(link, partial) else link
    return str(getattr(function, "__name__", "metrics stack")).replace("_", " ").strip()


def check_outside(environment: str, given: dict[str, Any]) -> list[Result]:
    # Only here: a scheduled verification, which has no tokens, also has no Ansible, whose HTTP settings the clients use.
    from . import outside

    return [outside.provider_link(environment, given)]


def left_out_part(part: str, why: str) -> list[Result]:
    """A part that an installation did without, because what it is made of can't be had."""
    return [checks.left_out(f"part {part.replace('_', ' ')}", why)]


def verify(
    cluster: Cluster, target: Target, plain_get: Callable[..., tuple[int, str]] | None = None
) -> tuple[list[dict[str, Any]], str]:
    """Follow every link; give the results in the chain's order and the app's URL."""
    run = Run(cluster, target, plain_get)
    run.prepare()

    def timed(link: Callable[[], list[Result]]) -> list[Result]:
        began = time.monotonic()
        try:
            results = link()
        except ApiError as error:
            # What a person's account may not see is no fault of the app's. The scheduled pod's may see all, or is broken.
            refused = error.status == 403 and (target.kubeconfig or target.context)
            broken = checks.failed(name_of(link), "not read", str(error))
            results = [checks.left_out(name_of(link), f"refused: {error}") if refused else broken]
        except Exception as error:
            # A link whose answer nobody foresaw is a broken link, not the end of the others.
            results = [checks.failed(name_of(link), "not checked to the end", f"{type(error).__name__}: {error}")]
        for result in results:
            result.seconds = round(time.monotonic() - began, 3)
            if result.status == checks.FAILED and not result.next_command:
                result.next_command = target.next_command(result.link) or where(result.link)
        return results

    stack = Stack(run)
    absent = "only the application is verified" if target.app_only else stack.find()

    def where(link: str) -> str:
        """The pods behind a link that is not the app's own."""
        if absent or link.startswith("log ") or link in (*log_stores.STORES, *backends.TITLES.values()):
            return backends.pods_of(run, "loki,victoria-logs-single,log-collector,fluent-bit")
        return stack.command("get", "pods", "-o", "wide")

    links: list[Callable[[], list[Result]]] = [run.node, run.image, run.probes, run.rollout, run.endpoint, run.health]
    links += [run.metrics, run.logs]
    if not target.app_only:
        links += backends.links(run, None if absent else stack)
        if absent:
            links.append(lambda: [checks.left_out("metrics stack", absent)])
        else:
            links += [stack.prometheus, stack.exporters, stack.target, stack.health_probe, stack.rules, stack.dashboards]
            links += [stack.data_sources, stack.grafana, stack.clocks, stack.alertmanager, stack.alert_path, stack.receivers]
        links += [partial(check_outside, target.environment, given) for given in target.external_checks]
    skipped = target.skipped if absent else {**target.skipped, **stack.skipped}
    links += [partial(left_out_part, part, why) for part, why in skipped.items()]
    with ThreadPoolExecutor(max_workers=len(links)) as pool:
        found = [result for results in pool.map(timed, links) for result in results]
    checks.explain(found)
    # Whatever a backend or a provider says, and wherever it goes from here: a report, a table, an alert.
    secrets = run.secrets()
    for way in run.ways.values():
        way.close()
    for result in found:
        for name in ("evidence", "cause", "query", "next_command"):
            setattr(result, name, hide(getattr(result, name), secrets))
    return [result.as_dict() for result in found], run.url
