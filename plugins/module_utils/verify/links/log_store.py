# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line of a request that was just sent is found in each log back end, with the labels of the contract."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ...kube.transport import ApiError, message_of, read_object
from .. import given_backends, log_stores, queries
from ..facts import IN_CLUSTER, is_ready, samples
from ..log_agents import TITLES, Index, agents, index_inside, outputs, outputs_of, pods_of, services
from ..result import FAILED, OK, SKIPPED, Look, Result, Unanswered, failed, ok, skipped
from ..run import Marked, Run

ARRIVAL = 30.0  # seconds that a line may take
PAUSE = 0.25  # seconds between two looks
SINCE = 300.0  # seconds before now in which a line is looked for
UNKNOWN = "log back end"  # the row where it is not known which there are, or where none is
CONTRACT = ("namespace", "app", "container", "cluster", "level")


def look(run: Run) -> list[Result]:
    given = [Look((_title(item),), partial(_given, run, item)) for item in run.target.log_backends]
    found = run.side_by_side([Look((UNKNOWN,), partial(_stores, run)), *given, Look((UNKNOWN,), partial(_other_outputs, run))])
    # What keeps both from being looked for is told once.
    first = next((result for result in found if result.link == UNKNOWN), None)
    return one_row_each([result for result in found if result.link != UNKNOWN or result is first])


def one_row_each(results: list[Result]) -> list[Result]:
    """Of several back ends of a kind the row of the worst, with what the others say; nothing is ok where one was not asked."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.link, []).append(result)
    found = []
    for same in rows.values():
        worst = next(result for status in (FAILED, SKIPPED, OK) for result in same if result.status == status)
        said = [result for result in same if result.status != SKIPPED or worst.status == SKIPPED]
        worst.evidence = "; ".join(dict.fromkeys(result.evidence for result in said))
        worst.cause = "; ".join(result.cause for result in same if result.cause)
        found.append(worst)
    return found


def _title(given: dict[str, Any]) -> str:
    return TITLES.get(given["type"], str(given["type"]))


def _stores(run: Run) -> list[Result]:
    """The line of the marked request is found in each back end that runs on the cluster, with the labels of the contract."""
    outgoing = _sent(run)
    given, sent = Counter(item["type"] for item in run.target.log_backends), Counter(output["type"] for _name, output in outgoing)
    # What is given may be the one of the cluster by another way, unless lines go to more than that.
    wanted = [name for name in log_stores.STORES if not given[name] or sent[name] > given[name]]
    found = {name: services(run.get, log_stores.STORES[name]) for name in wanted}
    there = [(name, service) for name, each in found.items() for service in each]
    gone = _gone(run, outgoing, [name for name, each in found.items() if not each])
    if not there and not gone:
        elsewhere = given or outputs(run)
        why = "no Loki and no VictoriaLogs is installed on this cluster; the stage logging installs one"
        return [] if elsewhere else [skipped(UNKNOWN, why)]
    looks = [Look((name,), partial(_store, run, log_stores.STORES[name], service)) for name, service in there]
    results = run.side_by_side(looks)
    for result, (name, service) in zip(results, there, strict=True):
        if len(found[name]) > 1:
            where = f"{service['metadata']['namespace']}/{service['metadata']['name']}: "
            result.evidence, result.cause = where + result.evidence, where + result.cause if result.cause else ""
    return gone + results


def _sent(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The outputs of all log agents, each with the agent's name."""
    try:
        return [(item["metadata"]["name"], output) for item in agents(run.get) for output in outputs_of(item)]
    except ApiError:  # the link of the log agent says so
        return []


def _gone(run: Run, sent: list[tuple[str, dict[str, Any]]], names: Collection[str]) -> list[Result]:
    """The rows of those back ends to which an agent sends lines by a Service that is not there; :param sent: see _sent."""
    results: dict[str, Result] = {}
    for agent, output in sent:
        place = IN_CLUSTER.match(output.get("host") or "")
        if output["type"] not in names or not place:
            continue
        path = f"/api/v1/namespaces/{place['namespace']}/services/{place['name']}"
        try:
            run.get(path)
        except ApiError as error:
            if error.status != 404:
                continue
            cause = f"{agent} sends lines to {output['host']}, and there is no such Service"
            command = run.target.kubectl("-n", place["namespace"], "get", "services,pods", namespaced=False)
            results[output["type"]] = failed(output["type"], "not asked", cause, f"GET {path}", command)
    return list(results.values())


def _store(run: Run, store: log_stores.Store, service: dict[str, Any]) -> list[Result]:
    target, way, namespace = run.target, run.way(service), service["metadata"]["namespace"]
    if not target.log_check:
        return [skipped(store.name, "skipped by log_check: the app logs no request id")]
    query = f"{store.title}: {store.expression(target.namespace, target.name, 'REQUEST_ID')}"
    pods = run.target.kubectl("-n", namespace, "get", "pods", "-o", "wide", namespaced=False)
    page = trouble = note = unknown = ""
    try:
        page = _page(run, way)
        trouble = _trouble(run, store, way, page)
        if not trouble:
            trouble, note = _dropped(run, store, way, page)
    except Unanswered as error:
        unknown = str(error)
    except ApiError as error:
        trouble = str(error)
    if trouble:
        return [failed(store.name, "not asked", f"{store.title}: {trouble}", query, pods)]

    def ask(request_id: str) -> dict[str, Any] | None:
        expression = store.expression(target.namespace, target.name, request_id)
        return _stored(store, *way.fetch(store.path(expression, SINCE), run.request_seconds()))

    def why() -> str:
        try:
            return log_stores.refused(store, page, _page(run, way))
        except ApiError:
            return ""

    settings = target.kubectl("-n", namespace, "get", "configmaps,secrets", namespaced=False)
    commands = (pods_of(run.target, f"{store.name.replace('_', '-')},victoria-logs-single,log-collector,fluent-bit"), settings)
    found = _line(run, store.name, ask, query, commands, why)
    for result in found:
        if result.status == OK and unknown:
            return [skipped(store.name, f"{result.evidence}; {unknown}")]
        result.evidence += f"; {note}" if note and result.status == OK else ""
    return found


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
        marked = run.marked_request()
    except ApiError as error:
        return [failed(link, "no request could be sent", str(error), query)]
    query = query.replace("REQUEST_ID", marked.id)
    until = min(run.deadline, marked.began + ARRIVAL)
    marks = [mark for mark in run.marked_pods() if not mark.problem]
    try:
        first = _await(ask, marked.id, until)
        elapsed = time.monotonic() - marked.began
        # The Service may have chosen the one pod whose line does not come.
        found = {mark: _await(ask, mark.id, until) for mark in marks}
    except ApiError as error:
        return [failed(link, "not asked", str(error), query, commands[0])]
    labels = next((each for each in (first, *found.values()) if each is not None), None)
    if labels is None:
        cause = f"no line with {marked.id} came within {elapsed:.0f} s: {why() or 'it is not sent, or not taken'}"
        return [failed(link, "nothing found", cause, query, commands[0])]
    absent = [label for label in CONTRACT if not labels.get(label)]
    if absent:
        cause = f"the line has no label {', '.join(absent)}"
        return [failed(link, f"found after {elapsed:.1f} s", cause, query, commands[1])]
    seen = ", ".join(f"{key}={labels[key]}" for key in CONTRACT)
    evidence = f"{marked.id} found after {elapsed:.1f} s with {seen}{_of_pods(run, found)}"
    missing = [mark.place for mark, labels in found.items() if labels is None]
    if missing or first is None:
        where = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        cause = f"no line of {where or 'the pod that the Service chose'} came within {time.monotonic() - marked.began:.0f} s"
        cause += f", though it answered: {why() or 'the log agent there does not send it'}"
        return [failed(link, evidence, cause, query, commands[0])]
    return [ok(link, evidence, query)]


def _await(ask: Callable[[str], dict[str, Any] | None], request_id: str, until: float) -> dict[str, Any] | None:
    """The labels of a line as soon as it is there; None where it does not come."""
    while (labels := ask(request_id)) is None and time.monotonic() < until:
        time.sleep(PAUSE)
    return labels


def _of_pods(run: Run, found: dict[Marked, dict[str, Any] | None]) -> str:
    """How many pods' own lines came, of how many, and whose was not asked for."""
    marks = run.marked_pods()
    if not marks:
        return ""
    nodes = {pod["spec"].get("nodeName") for pod in run.pods if is_ready(pod)}
    came = [mark for mark, labels in found.items() if labels is not None]
    ready = sum(map(is_ready, run.pods))
    text = f"; lines of {len(came)} of {ready} pods on {len({mark.node for mark in came})} of {len(nodes)} nodes"
    unasked = [mark for mark in marks if mark.problem]
    return text + (f"; {unasked[0].place} can't be asked past the Service: {unasked[0].problem}" if unasked else "")


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


def _trouble(run: Run, store: log_stores.Store, way: log_stores.Way, page: str) -> str:
    """That it is not ready, or what its own metrics say against it."""
    status, text = way.fetch(store.ready, run.request_seconds())
    # A gateway in front of it may not know the path.
    if status >= 500:
        return f"it is not ready ({status} {message_of(text)})"
    return store.trouble(page)


def _dropped(run: Run, store: log_stores.Store, way: log_stores.Way, page: str) -> tuple[str, str]:
    """What it dropped after it had taken it, and else what is to be noted of that.

    :raises Unanswered: where Prometheus, which would know, gives no answer.
    """
    if not store.lost or run.stack.absent:
        return "", ""
    try:
        series = run.stack.query(queries.filled("dropped", counter=store.lost, namespace=way.namespace))
    except ApiError as error:
        raise Unanswered(f"what {store.title} dropped lately is not known: {error}") from error
    if not series:
        since = samples(page, (store.lost,)).get(store.lost, 0.0)
        return "", f"Prometheus does not read its metrics; it dropped {since:.0f} lines since its start"
    said = []
    for item in series:
        if (number := float(item["value"][1])) > 0:
            label = item["metric"].get("reason", "?")
            said.append(f"{number:.0f} {store.reasons.get(label, f'because of {label}')}")
    return f"it took lines in the last 10 minutes and dropped them: {', '.join(said)}" if said else "", ""


def _other_outputs(run: Run) -> list[Result]:
    """The backends that the log agent names and nobody gave credentials for."""
    given = [(_title(item), urlsplit(item.get("url") or "").hostname) for item in run.target.log_backends]
    try:
        found = {json.dumps(output, sort_keys=True): output for output in outputs(run)}
    except ApiError:  # the link of the log agent says so
        return []
    results = []
    for output in found.values():
        title = TITLES[output["type"]]
        same = [each for each in found.values() if TITLES[each["type"]] == title]
        named = [host for kind, host in given if kind == title]
        # Somebody may call the host of one otherwise than the agent does, so that as many as were given are known.
        if named and (len(named) >= len(same) or output.get("host") in named):
            continue
        where = output.get("host") or output.get("log_group") or "somewhere"
        inside = index_inside(run, output) if run.target.log_check else None
        if inside:
            results += run.followed(Look((title,), partial(_search_inside, run, title, inside)))
            results[-1].evidence = f"{where}: {results[-1].evidence}" if len(same) > 1 else results[-1].evidence
        else:
            why = f"{output['agent']} sends lines to {where}: name it, with an account that may search, in verify_log_backends"
            if output["type"] == "es" and IN_CLUSTER.match(str(where)):
                why += "; one of role elastic_stack is known by itself where elastic_stack_reader_password is set"
            results.append(skipped(title, why))
    return results


def _hit(answer: dict[str, Any]) -> dict[str, Any] | None:
    hits = answer["hits"]["hits"]
    return hits[0]["_source"] if hits else None


def _search_inside(run: Run, title: str, inside: Index) -> list[Result]:
    """The line in an Elasticsearch or OpenSearch of the cluster that asks for no login, or for one that its Service names."""
    command = run.target.kubectl("-n", inside.namespace, "get", "pods", "-o", "wide", namespaced=False)
    query = f"GET {inside.base}{log_stores.search_path(inside.name, 'REQUEST_ID')}"

    def ask(wanted: str) -> dict[str, Any] | None:
        return _hit(read_object(*inside.fetch(log_stores.search_path(inside.name, wanted), run.request_seconds())))

    try:
        inside.fetch("/", run.request_seconds())
    except ApiError as error:
        if error.status != 403:
            return [failed(title, "not asked", str(error), query, command)]
        return [skipped(title, str(error))]  # a Secret with a login is not for everybody
    return _line(run, title, ask, query, (command, command))


def _given(run: Run, given: dict[str, Any]) -> list[Result]:
    """The line in a backend for which the user gave an address and credentials."""
    link = _title(given)
    if not run.target.log_check:
        return [skipped(link, "skipped by log_check: the app logs no request id")]
    if link == "cloudwatch":
        return _cloudwatch(run, given)
    base, target = str(given["url"]).rstrip("/"), run.target
    command = pods_of(run.target, "log-collector,fluent-bit")
    if link in log_stores.STORES:
        store = log_stores.STORES[link]

        def ask(request_id: str) -> dict[str, Any] | None:
            expression = store.expression(target.namespace, target.name, request_id)
            return _stored(store, 200, given_backends.from_here(given, base + store.path(expression, SINCE), run))

        def page() -> str:
            try:
                return given_backends.from_here(given, f"{base}/metrics", run)
            except ApiError:
                return ""

        before = page()

        def why() -> str:
            return "; ".join(filter(None, (_tenants(run, given), log_stores.refused(store, before, page()))))

        query = f"{store.title} at {base}: {store.expression(target.namespace, target.name, 'REQUEST_ID')}"
        return _line(run, link, ask, query, (command, command), why)
    index = given.get("index") or "logs-*"
    query = f"GET {base}{log_stores.search_path(index, 'REQUEST_ID')}"

    def search(request_id: str) -> dict[str, Any] | None:
        return _hit(read_object(200, given_backends.from_here(given, base + log_stores.search_path(index, request_id), run)))

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
            for item in agents(run.get)
            for output in outputs_of(item)
            if output["type"] == given["type"]
        }
    except ApiError:  # the link of the log agent says so
        return ""
    if asked in named.values():
        return ""
    others = " and ".join(f"{name} sends to {tenant or 'none'}" for name, tenant in named.items())
    return f"the tenant that is asked is {asked or 'none'}, and {others}" if others else ""


def _cloudwatch(run: Run, given: dict[str, Any]) -> list[Result]:
    """The line in CloudWatch Logs."""
    link, group = "cloudwatch", given.get("log_group") or ""
    try:
        search = given_backends.cloudwatch(given)
    except ImportError:
        why = "the Python package boto3 is not installed for the interpreter that runs Ansible: install it to search CloudWatch"
        return [skipped(link, why)]
    except ApiError as error:
        return [failed(link, "not asked", str(error))]

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
