# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log agent runs on each node with a pod of the app, is scraped, has no lines waiting, and has given up no line."""

from __future__ import annotations

import datetime
import re
from functools import partial
from itertools import product
from typing import Any
from urllib.parse import urlencode

from ...credentials.guard import hide
from ...kube.transport import ApiError, message_of
from .. import log_stores, queries
from ..facts import ended_by, is_live, is_ready, pod_trouble, samples
from ..log_agents import OUTPUTS, SELECTORS, agents, outputs, outputs_of, services
from ..result import Result, Unanswered, failed, ok, skipped
from ..run import Run, reached

WAITING = 10.0  # seconds that lines may wait in the log agent while the back end is ready
# What an agent writes into its log when it can't send, and what that is where its login is wrong.
COMPLAINT = re.compile(r"\[ ?(error|warn)|HTTP status|did not take|does not say|refused")
REFUSED = re.compile(r"(?:status(?: code)?[=: ]+|reason(?: is)?: |sent again until it does: )40[13]\b")
# On an agent's own page, of which Prometheus reads a part or nothing.
SPOOL_BYTES, SPOOL_OLDEST = "log_collector_spool_bytes", "log_collector_spool_oldest_seconds"
TRIED, DELIVERED = "fluentbit_output_retries_total", "fluentbit_output_proc_records_total"
PAUSED = "fluentbit_input_ingestion_paused"
LOST = ("log_collector_rejected_records_total", "fluentbit_output_dropped_records_total", "fluentbit_output_retries_failed_total")
# Restarts are told for an hour. kubelet forgets them after a run of 10 minutes; a leak needs longer to reach the memory's limit.
NOTED, LATELY, OFTEN = 3600.0, 600.0, 3
SHUT = 2  # pages without an answer after which no other one is asked, since each takes its time
OF_AN_AGENT = re.compile(r"^(?:log_collector|fluentbit)_", re.MULTILINE)
METRICS_PATHS = {"fluent-bit": "/api/v2/metrics/prometheus", "log-collector": "/metrics"}


def look(run: Run) -> list[Result]:
    # A backend that has just come up has yet to take what waited for it.
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    link = "log agent"
    found = agents(run.get)
    if not found:
        return [skipped(link, "no collector and no Fluent Bit is installed on this cluster; the stage logging installs one")]
    query = f"GET /apis/apps/v1/daemonsets?labelSelector={SELECTORS[0]}"
    said: list[str] = []
    unknown: list[str] = []
    # Of several of somebody else's each may be for other nodes, such as those with Windows, of which there may be none.
    shared = len(found) > 1 and not outputs_of(found[0])
    running = [item for item in found if item.get("status", {}).get("desiredNumberScheduled")]
    for item in (running or found) if shared else found:
        try:
            evidence, cause, asked = _agent(run, item, shared)
        except Unanswered as why:
            unknown.append(str(why))
            continue
        query = f"{query}; {asked}" if asked else query
        said.append(evidence)
        if cause:
            metadata = item["metadata"]
            words = ("-n", metadata["namespace"], "logs", f"daemonset/{metadata['name']}", "--tail=50")
            if " ready" in cause or "no node" in cause:
                words = ("-n", metadata["namespace"], "describe", "daemonset", metadata["name"])
            command = run.target.kubectl(*words, namespaced=False)
            return [failed(link, "; ".join(said), cause, query, command)]
    return [skipped(link, "; ".join([*unknown, *said])) if unknown else ok(link, "; ".join(said), query)]


def _agent(run: Run, item: dict[str, Any], shared: bool = False) -> tuple[str, str, str]:
    """What is seen of one agent, what is wrong with it, and what was asked beside its DaemonSet.

    :param shared: whether another one may be on a node in its place.
    """
    metadata, status = item["metadata"], item.get("status", {})
    namespace, name = metadata["namespace"], metadata["name"]
    wanted, ready = status.get("desiredNumberScheduled") or 0, status.get("numberReady") or 0
    evidence = f"{name} is ready on {ready} of {wanted} nodes"
    if not wanted:
        return evidence, f"the DaemonSet {name} in namespace {namespace} runs on no node", ""
    selector = ",".join(f"{k}={v}" for k, v in item["spec"]["selector"]["matchLabels"].items())
    pods = run.get(f"/api/v1/namespaces/{namespace}/pods?{urlencode({'labelSelector': selector})}").get("items", [])
    well = [p for p in pods if is_ready(p)]
    if ready < wanted:
        troubles = [pod_trouble(p) for p in pods if not is_ready(p)]
        return evidence, f"{name} is not ready everywhere: {'; '.join(troubles[:3]) or 'its pods are missing'}", ""
    carrying = {p["spec"]["nodeName"] for p in run.pods if p.get("spec", {}).get("nodeName") and is_live(p)}
    bare = sorted(carrying - {p["spec"].get("nodeName") for p in well})
    if bare and not shared:
        return evidence, f"no ready pod of {name} on {', '.join(bare)}, where the app runs", ""
    noted, cause = restarts(pods, datetime.datetime.now(datetime.UTC))
    evidence += noted
    if cause:
        return evidence, cause, ""
    ports, path = _pages_of(item)
    if not ports:
        return f"{evidence}, which has no port for metrics", "", ""
    asked = f"GET /api/v1/namespaces/{namespace}/pods/{name}-*:{'|'.join(map(str, ports))}/proxy{path}"
    oldest, behind, gone = 0.0, well[0], dict.fromkeys(map(_place, well), 0.0)
    idle: set[tuple[str, str]] = set()
    shut: dict[str, str] = {}
    for pod, port in product(well, ports):
        page = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}:{port}/proxy{path}"
        status_code, text, unread = reached(run, page)
        if unread and "refused" not in unread and not 400 <= status_code < 500:
            shut[_place(pod)] = unread
            if len(shut) == SHUT:
                break
            continue
        if unwell := _wrong_with(item, path, unread or ("" if status_code == 200 else f"{status_code} {message_of(text)}"), text):
            return evidence, f"the metrics page of {_place(pod)} {unwell}", asked
        seen = samples(text, (SPOOL_BYTES, SPOOL_OLDEST, PAUSED, *LOST))
        if seen.get(PAUSED):
            return evidence, f"{_place(pod)} is paused: it reads no line until its buffer has room", asked
        if seen.get(SPOOL_BYTES) and seen.get(SPOOL_OLDEST, 0.0) > oldest:
            oldest, behind = seen[SPOOL_OLDEST], pod
        gone[_place(pod)] += sum(seen.get(name, 0.0) for name in LOST)
        idle |= {(pod["metadata"]["name"], output) for output in only_tried(text)}
    if oldest > WAITING and (ready := _ready(run)):
        return evidence, f"lines wait for {oldest:.0f} s in {_place(behind)}, though {ready} is ready: {_why(run, behind)}", asked
    said, cause, more = _delivery(run, item, well, len(well) * len(ports), gone, idle)
    if shut and not cause:
        why = f"the API server can't reach the metrics of {min(shut)}, which a NetworkPolicy may block: {shut[min(shut)]}"
        if not said:
            raise Unanswered(f"{evidence}; {why}")
        said += f", by Prometheus alone, because {why}"
    return evidence + said, cause, asked + more


def _pages_of(item: dict[str, Any]) -> tuple[list[int], str]:
    """The ports of an agent's metrics, and their path."""
    metadata, containers = item["metadata"], item["spec"]["template"]["spec"]["containers"]
    given = [p for c in containers for p in c.get("ports") or []]
    ports = [p["containerPort"] for p in given if "metrics" in p.get("name", "")]
    if not ports and _is_foreign(item):
        ports = [p["containerPort"] for p in given if p.get("name") == "http"]  # as Fluent Bit's own chart calls it
    # One of another name that names its outputs is the role's Fluent Bit.
    other = METRICS_PATHS["fluent-bit"] if (metadata.get("annotations") or {}).get(OUTPUTS) else "/metrics"
    return ports, METRICS_PATHS.get((metadata.get("labels") or {}).get("app.kubernetes.io/name", ""), other)


def _wrong_with(item: dict[str, Any], path: str, refusal: str, page: str) -> str:
    """What is wrong with a page of an agent's metrics; empty where nothing is."""
    # What another program calls its metrics, nobody knows.
    known = path == METRICS_PATHS["fluent-bit"] or bool(outputs_of(item))
    if refusal:
        return f"answers {refusal}"
    return "has no metric of a log agent" if known and not OF_AN_AGENT.search(page) else ""


def _is_foreign(item: dict[str, Any]) -> bool:
    """Whether an agent is a Fluent Bit that was not installed by the role."""
    labels, notes = (item["metadata"].get(key) or {} for key in ("labels", "annotations"))
    return labels.get("app.kubernetes.io/name") == "fluent-bit" and OUTPUTS not in notes


def only_tried(page: str) -> list[str]:
    """The outputs that a page of Fluent Bit has, and that delivered nothing yet, but tried again."""
    counts: dict[tuple[str, str], float] = {}
    for name, labels, value in log_stores.SAMPLE.findall(page):
        if name in (TRIED, DELIVERED):
            output = dict(log_stores.STREAM_LABEL.findall(labels)).get("name", "")
            counts[output, name] = counts.get((output, name), 0.0) + float(value)
    tried = sorted(output for (output, name), count in counts.items() if name == TRIED and count)
    return [output for output in tried if not counts.get((output, DELIVERED))]


def restarts(pods: list[dict[str, Any]], now: datetime.datetime) -> tuple[str, str]:
    """Which containers were started again within the last hour and why: what is noted, and what is wrong where that goes on."""
    noted: list[str] = []
    wrong: list[str] = []
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses") or []:
            last = (container.get("lastState") or {}).get("terminated") or {}
            if not last.get("finishedAt"):
                continue
            ago, count = (
                (now - datetime.datetime.fromisoformat(last["finishedAt"])).total_seconds(),
                container.get("restartCount", 1),
            )
            if ago > NOTED:
                continue
            text = f"{container['name']} of {_place(pod)} was started again {count} times, last {max(ago, 0) / 60:.0f} min ago"
            text += f" after {ended_by(last)}"
            # Of those before the last one only the number is known, such as of a node that was started again, which says Unknown.
            bound = {"Unknown": 0.0, "OOMKilled": NOTED}.get(last.get("reason", ""), LATELY)
            goes_on = count >= OFTEN and ago < LATELY and _ran(last) < bound
            (wrong if goes_on else noted).append(text)
    return "".join(f"; {text}" for text in noted[:3]), "; ".join(wrong[:3])


def _ran(terminated: dict[str, Any]) -> float:
    """For how many seconds a container ran that has ended; 0 where nobody says."""
    began, ended = (
        datetime.datetime.fromisoformat(terminated.get(key) or terminated["finishedAt"]) for key in ("startedAt", "finishedAt")
    )
    return (ended - began).total_seconds()


def _delivery(
    run: Run, item: dict[str, Any], well: list[dict[str, Any]], pages: int, gone: dict[str, float], untold: set[tuple[str, str]]
) -> tuple[str, str, str]:
    """What is known of what the ready pods of an agent delivered: evidence, what is wrong, and what was asked.

    :param pages: how many pages of metrics they have.
    :param gone: the lines or chunks that these say were given up since the pods' start, by the pods' places.
    :param untold: the pods and outputs of which these say that nothing was delivered since then, but tried.
    :raises Unanswered: where Prometheus, which would know more, gives no answer.
    """
    stack, namespace, name = run.stack, item["metadata"]["namespace"], item["metadata"]["name"]
    losers = [f"{place} has given up {number:.0f} lines or chunks since its start" for place, number in gone.items() if number]
    given = "; ".join(losers[:3])
    fresh = _stuck(run, item, well, untold, "since its start")
    by_themselves = given or fresh
    if stack.absent:
        return "", by_themselves, ""
    wanted = ("agents_scraped", "given_up", "idle")
    up, lost, idle = (queries.filled(query, namespace=namespace, name=name) for query in wanted)
    asked = f"; PromQL {up}; PromQL {lost}; PromQL {idle}"
    monitors = f"/apis/monitoring.coreos.com/v1/namespaces/{namespace}/servicemonitors"
    watched = bool(run.get(monitors).get("items"))
    try:
        # A page that two monitors lead to is one page.
        scraped = {(s["metric"].get("pod"), s["metric"].get("instance")) for s in stack.query(up)} if watched else set()
        # A monitor beside a Fluent Bit of somebody else's may be for something else, such as the back end.
        watched = watched and (bool(scraped) or not _is_foreign(item))
        given_up = stack.query(lost)
        # Fluent Bit has a process for each output; the collector has one, and says no name.
        idlers = {(series["metric"].get("pod", ""), series["metric"].get("name", "")) for series in stack.query(idle)}
    except ApiError as error:
        # A Prometheus that is down is no fault of the agent: its own link says so.
        raise Unanswered(f"what {name} has given up is not known: {error}") from error
    if not watched and by_themselves:
        return "", by_themselves, asked
    if watched and len(scraped) < pages:
        what = f"{pages} pods" if pages == len(well) else f"the {pages} metrics pages of the pods"
        read = {pod for pod, _instance in scraped}
        unread = [_place(pod) for pod in well if pod["metadata"]["name"] not in read][:3] if read else []
        none = f", and none of {' and '.join(unread)}" if unread else ""
        return "", f"Prometheus reads the metrics of {len(scraped)} of {what} of {name}{none}", asked
    if given_up:
        return "", f"{name} gave up {float(given_up[0]['value'][1]):.0f} lines or chunks in the last 10 minutes", asked
    if stuck := _stuck(run, item, well, idlers, "for 2 minutes") or fresh:
        return "", stuck, asked
    before = f", {sum(gone.values()):.0f} since the start" if losers else ""
    return f", {len(scraped)} scraped, nothing given up in 10 minutes{before}" if watched else "", "", asked


def _stuck(run: Run, item: dict[str, Any], pods: list[dict[str, Any]], idle: set[tuple[str, str]], long: str) -> str:
    """The first output to which a pod delivers nothing, and why; empty where only a back end that is away keeps it from that.

    :param idle: the pods' names and the outputs, empty for the collector, which has one. :param long: how long that goes on.
    """
    kinds = {given.get("name"): given["type"] for given in outputs_of(item)}
    elsewhere = {given.get("name") for given in outputs(run)} if idle else set()
    by_name = {pod["metadata"]["name"]: pod for pod in pods}
    for name, output in sorted(each for each in idle if each[0] in by_name):
        pod, kind = by_name[name], kinds.get(output, "")
        if output and (kind not in log_stores.STORES or output in elsewhere):
            though = ""  # nobody here knows whether it is ready
        elif ready := _ready(run, kind):
            though = f", though {ready} is ready"
        else:
            continue  # its own link says so
        where = f"{_place(pod)} has delivered none of its lines{f' to {output}' if output else ''} {long}"
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
            for service in services(run.get, store):
                way, seconds = run.way(service), run.request_seconds()
                status, _ = way.fetch(store.ready, seconds)
                if status != 200 or store.trouble(way.fetch("/metrics", seconds)[1]):
                    return ""
                titles.append(store.title)
        except ApiError:
            return ""
    return " and ".join(titles)
