# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links from a log line of the app to the backends in which people search, and to the alerts about lines.

A backend inside the cluster is found and asked through the API server (log_stores.Way). Any other is asked from here, with
the credentials of ``log_backends``.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from ..credentials.guard import basic, hide, is_address, is_header, is_token, login_secrets, opener
from ..kube.transport import REQUEST_SECONDS, ApiError, message_of, read_object, reason
from . import checks, log_stores, queries
from .checks import Result

if TYPE_CHECKING:
    from .links import Run

ARRIVAL = 30.0  # seconds that a line may take
PAUSE = 0.25  # seconds between two looks
SINCE = 300.0  # seconds before now in which a line is looked for
WAITING = 10.0  # seconds that lines may wait in the log agent while the back end is ready
COUNTER = "flaskops_log_lines_total"  # what every log agent counts, by namespace, app and level
CONTRACT = ("namespace", "app", "container", "cluster", "level")
SHIPPERS = ("app.kubernetes.io/name in (log-collector,fluent-bit)", "app.kubernetes.io/component=log-shipper")
# The role fluent_bit names its outputs here: type, host, port, index and the like, and no credentials.
OUTPUTS = "flaskops/outputs"
# What an agent writes into its log when it can't send, and what that is where its login is wrong.
COMPLAINT = re.compile(r"\[ ?(error|warn)|HTTP status|did not take|does not say|refused")
REFUSED = re.compile(r"(?:status(?: code)?[=: ]+|reason(?: is)?: |sent again until it does: )40[13]\b")
METRICS_PATHS = {"fluent-bit": "/api/v2/metrics/prometheus"}
TITLES = {"es": "elasticsearch", "elasticsearch": "elasticsearch", "opensearch": "opensearch", "cloudwatch_logs": "cloudwatch"}


# What is installed.


def shippers(run: Run) -> list[dict[str, Any]]:
    """The DaemonSets that ship logs."""
    found = {}
    for selector in SHIPPERS:
        for item in run.get(f"/apis/apps/v1/daemonsets?{urlencode({'labelSelector': selector})}").get("items", []):
            found[item["metadata"]["namespace"], item["metadata"]["name"]] = item
    return list(found.values())


def outputs(run: Run) -> list[dict[str, Any]]:
    """Where the shippers say that they send lines, but for what is found by its Service."""
    found = []
    for item in shippers(run):
        for output in _outputs_of(item):
            if output["type"] in TITLES:
                found.append({**output, "shipper": item["metadata"]["name"]})
    return found


def _outputs_of(shipper: dict[str, Any]) -> list[dict[str, Any]]:
    """What a shipper says of its outputs."""
    return list(json.loads((shipper["metadata"].get("annotations") or {}).get(OUTPUTS, "[]")))


def links(run: Run, stack: Any) -> list[Callable[[], list[Result]]]:
    """The links of the logs behind the pods; *stack* is the Prometheus (stack.Stack), or None."""
    given = run.target.log_backends
    found: list[Callable[[], list[Result]]] = [partial(log_shipper, run, stack)]
    found.append(partial(stores, run, stack))
    found += [partial(given_backend, run, item) for item in given]
    found.append(partial(other_outputs, run))
    found.append(partial(log_alerts, run, stack))
    found.append(partial(ruler, run, stack))
    return found


# The shipper.


def log_shipper(run: Run, stack: Any) -> list[Result]:
    """A shipper runs on each node with a pod of the app, is scraped, has no lines waiting, and has given up no line."""
    # A backend that has just come up has yet to take what waited for it.
    return run.settled(partial(_log_shipper, run, stack))


def _log_shipper(run: Run, stack: Any) -> list[Result]:
    link = "log shipper"
    try:
        found = shippers(run)
    except ApiError as error:
        if error.status == 403:
            return [checks.left_out(link, "this kubeconfig may not list DaemonSets")]
        raise
    if not found:
        return [
            checks.left_out(link, "no collector and no Fluent Bit is installed on this cluster; the stage logging installs one")
        ]
    query = f"GET /apis/apps/v1/daemonsets?labelSelector={SHIPPERS[0]}"
    said = []
    for item in found:
        evidence, cause, asked = _shipper(run, stack, item)
        query = f"{query}; {asked}" if asked else query
        said.append(evidence)
        if cause:
            metadata = item["metadata"]
            words = ("-n", metadata["namespace"], "logs", f"daemonset/{metadata['name']}", "--tail=50")
            if " ready" in cause or "no node" in cause:
                words = ("-n", metadata["namespace"], "describe", "daemonset", metadata["name"])
            command = run.target.kubectl(*words, namespaced=False)
            return [checks.failed(link, "; ".join(said), cause, query, command)]
    return [checks.ok(link, "; ".join(said), query)]


def _shipper(run: Run, stack: Any, item: dict[str, Any]) -> tuple[str, str, str]:
    """What is seen of one shipper, what is wrong with it, and what was asked beside its DaemonSet."""
    metadata, status = item["metadata"], item.get("status", {})
    namespace, name = metadata["namespace"], metadata["name"]
    wanted, ready = status.get("desiredNumberScheduled") or 0, status.get("numberReady") or 0
    evidence = f"{name} is ready on {ready} of {wanted} nodes"
    if not wanted:
        return evidence, f"the DaemonSet {name} in namespace {namespace} runs on no node", ""
    selector = ",".join(f"{k}={v}" for k, v in item["spec"]["selector"]["matchLabels"].items())
    pods = run.get(f"/api/v1/namespaces/{namespace}/pods?{urlencode({'labelSelector': selector})}").get("items", [])
    well = [p for p in pods if checks.is_ready(p)]
    if ready < wanted:
        troubles = [checks.pod_trouble(p) for p in pods if not checks.is_ready(p)]
        return evidence, f"{name} is not ready everywhere: {'; '.join(troubles[:3]) or 'its pods are missing'}", ""
    carrying = {p["spec"]["nodeName"] for p in run.pods if p.get("spec", {}).get("nodeName")}
    bare = sorted(carrying - {p["spec"].get("nodeName") for p in well})
    if bare:
        return evidence, f"no ready pod of {name} on {', '.join(bare)}, where the app runs", ""
    containers = item["spec"]["template"]["spec"]["containers"]
    ports = [p["containerPort"] for c in containers for p in c.get("ports") or [] if "metrics" in p.get("name", "")]
    path = METRICS_PATHS.get((metadata.get("labels") or {}).get("app.kubernetes.io/name", ""), "/metrics")
    if (metadata.get("annotations") or {}).get(OUTPUTS):
        path = METRICS_PATHS["fluent-bit"]
    if not ports:
        return f"{evidence}, which has no port for metrics", "", ""
    asked = f"GET /api/v1/namespaces/{namespace}/pods/{name}-*:{'|'.join(map(str, ports))}/proxy{path}"
    names = ("log_collector_spool_oldest_seconds", "log_collector_spool_bytes")
    oldest, behind = 0.0, well[0]
    for pod, port in product(well, ports):
        page = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}:{port}/proxy{path}"
        status_code, text = run.cluster.fetch(page, {"Accept": "text/plain"}, run.request_seconds())
        if status_code != 200:
            return evidence, f"the metrics page of {_place(pod)} answers {status_code} {message_of(text)}", asked
        seen = checks.samples(text, names)
        if seen.get(names[1]) and seen.get(names[0], 0.0) > oldest:
            oldest, behind = seen[names[0]], pod
    if oldest > WAITING and (ready := _ready(run)):
        return evidence, f"lines wait for {oldest:.0f} s in {_place(behind)}, though {ready} is ready: {_why(run, behind)}", asked
    if stack:
        up = queries.filled(queries.AGENTS_SCRAPED, namespace=namespace, name=name)
        lost, idle = (queries.filled(query, namespace=namespace) for query in (queries.GIVEN_UP, queries.IDLE))
        asked = f"{asked}; PromQL {up}; PromQL {lost}; PromQL {idle}"
        monitors = f"/apis/monitoring.coreos.com/v1/namespaces/{namespace}/servicemonitors"
        watched = bool(run.get(monitors).get("items"))
        try:
            scraped = [s for s in stack.query(up) if s["value"][1] == "1"] if watched else []
            given_up = stack.query(lost)
            # Fluent Bit has a process for each output; the collector has one, and says no name.
            idlers = {series["metric"].get("pod"): series["metric"].get("name", "") for series in stack.query(idle)}
        except ApiError as error:
            # A Prometheus that is down is no fault of the shipper: its own link says so.
            return f"{evidence}, Prometheus not asked ({error})", "", asked
        pages = len(well) * len(ports)
        if watched and len(scraped) < pages:
            what = f"{pages} pods" if len(ports) == 1 else f"the {pages} metrics pages of the pods"
            return evidence, f"Prometheus reads the metrics of {len(scraped)} of {what} of {name}", asked
        if given_up:
            return evidence, f"{name} gave up {float(given_up[0]['value'][1]):.0f} lines or chunks in the last 10 minutes", asked
        if stuck := _stuck(run, item, [pod for pod in well if pod["metadata"]["name"] in idlers], idlers):
            return evidence, stuck, asked
        evidence += f", {len(scraped)} scraped, nothing given up in 10 minutes" if watched else ""
    return evidence, "", asked


def _stuck(run: Run, item: dict[str, Any], pods: list[dict[str, Any]], idlers: dict[str, str]) -> str:
    """The first pod that delivers nothing to an output, and why; empty where only a back end that is away keeps it from that.

    :param idlers: the output by the pod's name, empty for the collector, which has one.
    """
    kinds = {given.get("name"): given["type"] for given in _outputs_of(item)}
    for pod in pods:
        output = idlers[pod["metadata"]["name"]]
        kind = kinds.get(output, "")
        if output and kind not in log_stores.STORES:
            though = ""  # nobody here knows whether it is ready
        elif ready := _ready(run, kind):
            though = f", though {ready} is ready"
        else:
            continue  # its own link says so
        where = f"{_place(pod)} has delivered none of its lines{f' to {output}' if output else ''} for 2 minutes"
        return f"{where}{though}: {_why(run, pod, output)}"
    return ""


def _place(pod: dict[str, Any]) -> str:
    return f"{pod['metadata']['name']} on node {pod['spec'].get('nodeName', '?')}"


def _why(run: Run, pod: dict[str, Any], output: str = "") -> str:
    """Why an agent does not deliver, with the last complaint of its log.

    :param output: the one whose container is asked; all containers without one.
    """
    complaints = []
    for container in pod["spec"].get("containers") or []:
        if output and container["name"] != output.replace("_", "-"):  # as role fluent_bit names it
            continue
        query = urlencode({"container": container["name"], "tailLines": 200})
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/log?{query}"
        try:
            status, text = run.cluster.fetch(path, {"Accept": "*/*"}, run.request_seconds())
        except ApiError:
            continue
        complaints += [line for line in text.splitlines() if COMPLAINT.search(line)][-1:] if status == 200 else []
    if not complaints:
        return "it does not reach it"
    last = hide(" ".join(complaints[0].split()), run.secrets())[:300]
    return f"{'it has a wrong login' if REFUSED.search(last) else 'it does not reach it'}, and its log says: {last}"


def _ready(run: Run, kind: str = "") -> str:
    """The back ends of the cluster, of one kind or of all, where all of them work."""
    titles = []
    for store in [log_stores.STORES[kind]] if kind else log_stores.STORES.values():
        try:
            service = log_stores.service(run.get, store)
            if service:
                way, seconds = run.way(service), run.request_seconds()
                status, _ = way.fetch(store.ready, seconds)
                if status != 200 or store.trouble(way.fetch("/metrics", seconds)[1]):
                    return ""
                titles.append(store.title)
        except ApiError:
            return ""
    return " and ".join(titles)


# The line in a backend.


def _line(
    run: Run,
    link: str,
    ask: Callable[[str], dict[str, Any] | None],
    query: str,
    commands: tuple[str, str],
    why: Callable[[], str] = str,
) -> list[Result]:
    """Look for the line of the marked request until it is there, and at its labels.

    :param ask: gives the labels or fields of the line with an id, None while there is none.
    :param query: what is asked, with REQUEST_ID for it.
    :param commands: where to look when no line comes, and when labels are missing.
    :param why: says why none came, or nothing.
    """
    try:
        request_id, began, _status = run.marked_request()
    except ApiError as error:
        return [checks.failed(link, "no request could be sent", str(error), query)]
    query = query.replace("REQUEST_ID", request_id)
    until, never = min(run.deadline, began + ARRIVAL), threading.Event()
    while True:
        try:
            labels = ask(request_id)
        except ApiError as error:
            return [checks.failed(link, "not asked", str(error), query, commands[0])]
        elapsed = time.monotonic() - began
        if labels is not None:
            break
        if time.monotonic() > until:
            cause = f"no line with {request_id} came within {elapsed:.0f} s: {why() or 'it is not sent, or not taken'}"
            return [checks.failed(link, "nothing found", cause, query, commands[0])]
        never.wait(PAUSE)
    missing = [label for label in CONTRACT if not labels.get(label)]
    if missing:
        cause = f"the line has no label {', '.join(missing)}"
        return [checks.failed(link, f"found after {elapsed:.1f} s", cause, query, commands[1])]
    seen = ", ".join(f"{key}={labels[key]}" for key in CONTRACT)
    return [checks.ok(link, f"{request_id} found after {elapsed:.1f} s with {seen}", query)]


def pods_of(run: Run, names: str) -> str:
    return str(run.target.kubectl("get", "pods", "-A", "-l", f"app.kubernetes.io/name in ({names})", namespaced=False))


def stores(run: Run, stack: Any) -> list[Result]:
    """The line of the marked request is found in each back end that runs on the cluster, with the labels of the contract."""
    given = {item["type"] for item in run.target.log_backends}
    found = {name: log_stores.service(run.get, store) for name, store in log_stores.STORES.items() if name not in given}
    there = {name: service for name, service in found.items() if service}
    if not there:
        elsewhere = given or outputs(run)
        why = "no Loki and no VictoriaLogs is installed on this cluster; the stage logging installs one"
        return [] if elsewhere else [checks.left_out("log back end", why)]
    with ThreadPoolExecutor(max_workers=len(there)) as pool:
        results = pool.map(lambda name: _store(run, stack, log_stores.STORES[name], there[name]), there)
        return [result for found_results in results for result in found_results]


def _store(run: Run, stack: Any, store: log_stores.Store, service: dict[str, Any]) -> list[Result]:
    target, way, namespace = run.target, run.way(service), service["metadata"]["namespace"]
    if not target.log_check:
        return [checks.left_out(store.name, "switched off: the app is said to log no request id")]
    query = f"{store.title}: {store.expression(target.namespace, target.name, 'REQUEST_ID')}"
    pods = run.target.kubectl("-n", namespace, "get", "pods", "-o", "wide", namespaced=False)
    page = ""
    try:
        page = _page(run, way)
        trouble = _trouble(run, stack, store, way, page)
    except ApiError as error:
        trouble = str(error)
    if trouble:
        return [checks.failed(store.name, "not asked", f"{store.title}: {trouble}", query, pods)]

    def ask(request_id: str) -> dict[str, Any] | None:
        expression = store.expression(target.namespace, target.name, request_id)
        return _stored(store, *way.fetch(store.path(expression, SINCE), run.request_seconds()))

    def why() -> str:
        try:
            return log_stores.refused(store, page, _page(run, way))
        except ApiError:
            return ""

    settings = target.kubectl("-n", namespace, "get", "configmaps,secrets", namespaced=False)
    commands = (pods_of(run, f"{store.name.replace('_', '-')},victoria-logs-single,log-collector,fluent-bit"), settings)
    return _line(run, store.name, ask, query, commands, why)


def _page(run: Run, way: log_stores.Way) -> str:
    """A back end's own metrics; empty where they can't be read."""
    status, page = way.fetch("/metrics", run.request_seconds())
    return page if status == 200 else ""


def _stored(store: log_stores.Store, status: int, text: str) -> dict[str, Any] | None:
    """The labels of the first line that a back end answers, None for no line."""
    if status != 200:
        raise ApiError(status, f"{store.title} answers {status} {message_of(text)}")
    try:
        found = store.lines(text)
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(status, f"the answer of {store.title} can't be read: {' '.join(text.split())[:100]}") from error
    return found[0].labels if found else None


def _trouble(run: Run, stack: Any, store: log_stores.Store, way: log_stores.Way, page: str) -> str:
    """That it is not ready, what its own metrics say against it, and what it dropped after it had taken it."""
    status, text = way.fetch(store.ready, run.request_seconds())
    # A gateway in front of it may not know the path.
    if status >= 500:
        return f"it is not ready ({status} {message_of(text)})"
    trouble = store.trouble(page)
    if trouble or not store.lost or not stack:
        return trouble
    try:
        dropped = stack.query(queries.filled(queries.DROPPED, counter=store.lost, namespace=way.namespace))
    except ApiError:  # the link of Prometheus says so
        return ""
    said = []
    for item in dropped:
        label = item["metric"].get("reason", "?")
        said.append(f"{float(item['value'][1]):.0f} {store.reasons.get(label, f'because of {label}')}")
    return f"it took lines in the last 10 minutes and dropped them: {', '.join(said)}" if said else ""


def other_outputs(run: Run) -> list[Result]:
    """The backends that the shipper names and nobody gave credentials for."""
    named = {TITLES.get(item["type"], item["type"]) for item in run.target.log_backends}
    try:
        found = outputs(run)
    except ApiError:  # the link of the shipper says so
        return []
    results = []
    for output in found:
        title = TITLES[output["type"]]
        if title in named:
            continue
        named.add(title)
        inside = open_inside(output)
        if inside and run.target.log_check:
            results += _search_inside(run, title, *inside)
        else:
            where = output.get("host") or output.get("log_group") or "somewhere"
            why = f"{output['shipper']} sends lines to {where}: name it, with an account that may search, in verify_log_backends"
            results.append(checks.left_out(title, why))
    return results


def _hit(answer: dict[str, Any]) -> dict[str, Any] | None:
    hits = answer["hits"]["hits"]
    return hits[0]["_source"] if hits else None


def search_path(index: str, text: str, size: int = 1) -> str:
    """The path below an Elasticsearch's or OpenSearch's address that asks for lines with a text in them."""
    return f"/{quote(index)}/_search?" + urlencode({"q": f'"{text}"', "size": size, "ignore_unavailable": "true"})


def open_inside(output: dict[str, Any]) -> tuple[str, str] | None:
    """The path of the API server's proxy and the index of an output of the cluster that asks for no password; None for others."""
    inside = checks.IN_CLUSTER.match(output.get("host") or "")
    if not inside or output.get("tls") or output.get("login"):
        return None
    index = (output.get("index") or "_all") + ("-*" if output.get("daily_index") else "")
    return f"/api/v1/namespaces/{inside['namespace']}/services/{inside['name']}:{output['port']}/proxy", index


def _search_inside(run: Run, title: str, base: str, index: str) -> list[Result]:
    """The line in an Elasticsearch or OpenSearch of the cluster that asks for no password."""
    command = run.target.kubectl("-n", base.split("/")[4], "get", "pods", "-o", "wide", namespaced=False)
    query = f"GET {base}{search_path(index, 'REQUEST_ID')}"
    return _line(run, title, lambda wanted: _hit(run.get(base + search_path(index, wanted))), query, (command, command))


def given_backend(run: Run, given: dict[str, Any]) -> list[Result]:
    """The line in a backend for which the user gave an address and credentials."""
    link = TITLES.get(given["type"], given["type"])
    if not run.target.log_check:
        return [checks.left_out(link, "switched off: the app is said to log no request id")]
    if link == "cloudwatch":
        return _cloudwatch(run, given)
    base, target = str(given["url"]).rstrip("/"), run.target
    command = pods_of(run, "log-collector,fluent-bit")
    if link in log_stores.STORES:
        store = log_stores.STORES[link]

        def ask(request_id: str) -> dict[str, Any] | None:
            expression = store.expression(target.namespace, target.name, request_id)
            return _stored(store, 200, from_here(given, base + store.path(expression, SINCE), run))

        def page() -> str:
            try:
                return from_here(given, f"{base}/metrics", run)
            except ApiError:
                return ""

        before = page()

        def why() -> str:
            return "; ".join(filter(None, (_tenants(run, given), log_stores.refused(store, before, page()))))

        query = f"{store.title} at {base}: {store.expression(target.namespace, target.name, 'REQUEST_ID')}"
        return _line(run, link, ask, query, (command, command), why)
    index = given.get("index") or "logs-*"
    query = f"GET {base}{search_path(index, 'REQUEST_ID')}"

    def search(request_id: str) -> dict[str, Any] | None:
        return _hit(read_object(200, from_here(given, base + search_path(index, request_id), run)))

    return _line(run, link, search, query, (command, command))


def _tenants(run: Run, given: dict[str, Any]) -> str:
    """That the log agents send to other tenants than the one that is asked; empty where one does not, or none says so."""

    def tenant_of(options: dict[str, Any]) -> str:
        tenant = options.get("tenant") or ""
        # VictoriaLogs' account 1 is its project 1:0.
        return tenant.removesuffix(":0") if given["type"] == "victoria_logs" else tenant

    asked = tenant_of(given)
    try:
        named = {
            item["metadata"]["name"]: tenant_of(output)
            for item in shippers(run)
            for output in _outputs_of(item)
            if output["type"] == given["type"]
        }
    except ApiError:  # the link of the shipper says so
        return ""
    if asked in named.values():
        return ""
    others = " and ".join(f"{name} sends to {tenant or 'none'}" for name, tenant in named.items())
    return f"the tenant that is asked is {asked or 'none'}, and {others}" if others else ""


def problem(given: dict[str, Any]) -> str:
    """What is wrong with a backend's address or credentials, without a value; empty when nothing is."""
    if given.get("url") and not is_address(given["url"]):
        return "its url is no web address, or holds a user name: write it like https://logs.example.com, and set username apart"
    if given.get("api_key") and not is_token(given["api_key"]):
        return "its api_key holds spaces or line breaks: give the key as one line"
    wrong = [key for key in ("username", "password") if any(ord(letter) < 32 for letter in given.get(key) or "")]
    wrong += [] if is_header(given.get("tenant") or "-") else ["tenant"]
    if wrong:
        return f"its {' and '.join(wrong)} can't be sent, with a line break or another control character: write it again"
    return ""


def secrets_of(given: dict[str, Any]) -> list[str]:
    """What no result may show of a backend's credentials."""
    return [given.get("api_key") or "", *login_secrets(given.get("username") or "", given.get("password") or "")]


def from_here(given: dict[str, Any], url: str, run: Run) -> str:
    """What a backend answers to a request from this machine, with the user's credentials."""
    headers = {"Accept": "application/json"}
    if given.get("api_key"):
        headers["Authorization"] = f"ApiKey {given['api_key']}"
    elif given.get("username"):
        headers["Authorization"] = basic(given["username"], given.get("password") or "")
    if given.get("tenant"):
        headers["X-Scope-OrgID"] = given["tenant"]
        if given["type"] == "victoria_logs":
            headers["AccountID"], _, project = given["tenant"].partition(":")
            headers["ProjectID"] = project or "0"
    context = ssl.create_default_context(cafile=given.get("ca_path")) if url.startswith("https:") else None
    where = urlsplit(url).netloc
    try:
        request = urllib.request.Request(url, headers=headers)
        with opener(context).open(request, timeout=run.request_seconds()) as response:
            return str(response.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            raise ApiError(error.code, f"{where} answered {error.code}, a redirect, which is not followed") from error
        raise ApiError(error.code, f"{where} answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ApiError(0, f"no answer from {where}: {reason(error)}") from error


def cloudwatch(given: dict[str, Any]) -> Callable[[str, float], Iterator[str]]:
    """What gives the events of a log group with a text in them, of the last so many seconds.

    It has the credentials that boto3 finds (environment, profile, role).

    :raises ApiError: where it can't be asked. :raises ImportError: where boto3 is not installed.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    group = given.get("log_group") or ""
    settings = Config(connect_timeout=REQUEST_SECONDS, read_timeout=REQUEST_SECONDS, retries={"total_max_attempts": 2})
    try:
        client = boto3.client("logs", region_name=given.get("region"), endpoint_url=given.get("url"), config=settings)
    except (BotoCoreError, ValueError) as error:
        raise ApiError(0, f"CloudWatch can't be asked: {error}") from error

    def search(text: str, seconds: float) -> Iterator[str]:
        since = int((time.time() - seconds) * 1000)
        pages = client.get_paginator("filter_log_events")
        try:
            # A page may be empty and not be the last.
            for page in pages.paginate(logGroupName=group, startTime=since, filterPattern=f'"{text}"'):
                yield from (event["message"] for event in page["events"])
        except (BotoCoreError, ClientError) as error:
            raise ApiError(0, f"CloudWatch refuses the search of {group}: {error}") from error

    return search


def _cloudwatch(run: Run, given: dict[str, Any]) -> list[Result]:
    """The line in CloudWatch Logs."""
    link, group = "cloudwatch", given.get("log_group") or ""
    try:
        search = cloudwatch(given)
    except ImportError:
        why = "the Python package boto3 is not installed for the interpreter that runs Ansible: install it to search CloudWatch"
        return [checks.left_out(link, why)]
    except ApiError as error:
        return [checks.failed(link, "not asked", str(error))]

    def ask(request_id: str) -> dict[str, Any] | None:
        found = next(search(request_id, SINCE), None)
        if found is None:
            return None
        try:
            fields = json.loads(found)
        except ValueError:
            fields = {}
        return fields if isinstance(fields, dict) else {}

    command = f"aws logs describe-log-streams --log-group-name {group} --order-by LastEventTime --descending --max-items 5"
    return _line(run, link, ask, f'FilterLogEvents "REQUEST_ID" in {group}', (command, command))


# Alerts about lines.


def log_alerts(run: Run, stack: Any) -> list[Result]:
    """The alerts about lines are installed, and Prometheus has the counters that they read."""
    return run.settled(partial(_log_alerts, run, stack))


def _log_alerts(run: Run, stack: Any) -> list[Result]:
    link, target = "log alerts", run.target
    if not stack:
        return [checks.left_out(link, "no Prometheus of an operator runs on this cluster")]
    agents = shippers(run)
    if not agents:
        return [checks.left_out(link, "no log agent is installed on this cluster, so that nothing counts lines")]
    wanted = sorted(name for name in stack.alerts() if name.startswith("Log"))
    if not wanted:
        return [checks.left_out(link, "no alert about log lines is installed; the role app_monitoring installs them")]
    expr = queries.filled(queries.LINES, namespace=target.namespace, name=target.name)
    series, query = stack.query(expr), f"PromQL {expr}"
    if not series:
        name, namespace = agents[0]["metadata"]["name"], agents[0]["metadata"]["namespace"]
        cause = (
            f"Prometheus has no {COUNTER} of the app: {name} is not scraped, or counts none, and {', '.join(wanted)} can't fire"
        )
        command = target.kubectl("-n", namespace, "get", "servicemonitors,services,pods", "-o", "wide", namespaced=False)
        return [checks.failed(link, "no counter", cause, query, command)]
    counted = sum(float(item["value"][1]) for item in series)
    return [checks.ok(link, f"{', '.join(wanted)} read {counted:.0f} counted lines of {len(series)} levels", query)]


# Rules of Loki's own ruler, which the user wrote.


def ruler(run: Run, stack: Any) -> list[Result]:
    """Loki's ruler has the rules that are installed, evaluates them without an error, and reaches an Alertmanager."""
    return run.settled(partial(_ruler, run, stack))


def _ruler(run: Run, stack: Any) -> list[Result]:
    link, service = "ruler", log_stores.service(run.get, log_stores.STORES["loki"])
    if not service:
        return []
    namespace, base = service["metadata"]["namespace"], log_stores.proxy(service)
    wanted = _wanted_alerts(run, namespace)
    if not wanted:
        return []
    command = run.target.kubectl("-n", namespace, "logs", "-l", "app.kubernetes.io/name=loki", "--tail=50", namespaced=False)
    query = f"GET {base}/prometheus/api/v1/rules and {base}/config"
    try:
        groups = run.get(f"{base}/prometheus/api/v1/rules")["data"]["groups"]
    except ApiError as error:
        cause = "this Loki runs no ruler" if error.status == 404 else str(error)
        return [checks.failed(link, "not read", cause, query, command)]
    rules = [rule for group in groups for rule in group["rules"] or []]
    loaded = {rule["name"] for rule in rules}
    evidence = f"{len(rules)} rules loaded"
    problems = [f"the alert {name} is not loaded" for name in sorted(wanted - loaded)]
    problems += [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule.get("lastError")]
    problems += [late for group in groups if (late := checks.late(group))]
    if not problems:
        target, problem = _alertmanager_of(run, base)
        evidence += f", evaluated, sent to {target}"
        problems = [problem] if problem else []
        if stack and not problems:
            failing = queries.filled(queries.RULER_REFUSED, namespace=namespace)
            query = f"{query}; PromQL {failing}"
            try:
                refused = stack.query(failing)
            except ApiError as error:
                evidence += f", Prometheus not asked ({error})"
            else:
                problems = [f"Loki's notifications to {s['metric'].get('alertmanager', target)} fail" for s in refused]
    if problems:
        return [checks.failed(link, evidence, "; ".join(problems[:4]), query, command)]
    return [checks.ok(link, evidence, query)]


def _wanted_alerts(run: Run, namespace: str) -> set[str]:
    """The alerts that the role loki wrote down beside its rules."""
    selector = urlencode({"labelSelector": "app.kubernetes.io/part-of=loki,app.kubernetes.io/managed-by=flaskops"})
    maps = run.get(f"/api/v1/namespaces/{namespace}/configmaps?{selector}").get("items", [])
    return {name for item in maps for name in (item["metadata"].get("annotations") or {}).get("flaskops/alerts", "").split()}


def _alertmanager_of(run: Run, base: str) -> tuple[str, str]:
    """The address to which Loki sends alerts, and what is wrong with it."""
    status, text = run.cluster.fetch(f"{base}/config", {"Accept": "text/plain"}, run.request_seconds())
    if status != 200:
        return "an unknown Alertmanager", f"Loki's configuration can't be read: {status} {message_of(text)}"
    url = checks.scalar(text, "alertmanager_url")
    if not url:
        return "nobody", "Loki is told of no Alertmanager: set loki_alertmanager_url"
    inside = checks.IN_CLUSTER.match(urlsplit(url).hostname or "")
    if not inside:
        return url, ""
    there = checks.ready_endpoints(run.slices(inside["namespace"], inside["name"]))
    return url, "" if there else f"Loki sends alerts to {url}, where nobody is"
