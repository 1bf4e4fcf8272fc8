# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager runs with its newest configuration, and Prometheus knows it."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ...kube.transport import ApiError, message_of
from .. import queries
from ..facts import samples
from ..result import Result, failed, ok, skipped
from ..run import Run
from ..stack import OPERATOR, Server, told_apart

RELOADED = "alertmanager_config_last_reload_successful"


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    link, stack = "alertmanager", run.stack
    items = stack.alertmanagers()
    known = "/api/v1/alertmanagers"
    if not items:
        return [_none(run, known)]
    servers = stack.alertmanager_servers(items)
    query = f"GET {OPERATOR}/v1/namespaces/{stack.alerting}/alertmanagers and their pods; GET {stack.api}{known}"
    query += f"; GET {servers[0].api}/metrics"
    said = []
    for item in items:
        selector = f"alertmanager={item['metadata']['name']}"
        evidence, cause = stack.server_pods(item, selector, "Alertmanager")
        said.append(evidence)
        if cause:
            command = stack.alerting_command("describe", "pods", "-l", selector)
            return [failed(link, "; ".join(said), cause, query, command)]
    active = {s: found["data"]["activeAlertmanagers"] for s, found in stack.ask_each(stack.servers(), known).items()}
    if problems := told_apart({server: unknown(found, servers) for server, found in active.items()}):
        command = stack.command("get", "prometheuses", "-o", "yaml")
        return [failed(link, "; ".join(said), "; ".join(problems[:4]), query, command)]
    problems = told_apart({server: _refused(run, server) for server in servers})
    if len(servers) > 1 and not problems:
        problems = apart(stack.ask_each(servers, "/api/v2/status"))
    if problems:
        command = stack.alertmanager_log()
        return [failed(link, "; ".join(said), "; ".join(problems[:4]), query, command)]
    pods = f"prometheus-{stack.server['metadata']['name']}(-shard-[0-9]+)?-[0-9]+"
    undelivered = queries.filled("undelivered", namespace=stack.namespace, pods=pods)
    if lost := stack.query(undelivered):
        names = " and ".join(sorted(series["metric"].get("pod", "Prometheus") for series in lost))
        cause = f"no Alertmanager has taken an alert of {names} for 2 minutes, though Prometheus knows where it is"
        command = stack.command("logs", "-l", stack.selector, "-c", "prometheus", "--tail=50")
        return [failed(link, "; ".join(said), cause, f"{query}; PromQL {undelivered}", command)]
    told = max(len(found) for found in active.values())
    return [ok(link, f"{'; '.join(said)}; Prometheus sends to {told}", query)]


def _none(run: Run, known: str) -> Result:
    """The row where the namespace has no Alertmanager: Prometheus may send its alerts to another one, or to none by design."""
    stack = run.stack
    evidence = f"namespace {stack.alerting} has no Alertmanager"
    places = (stack.server["spec"].get("alerting") or {}).get("alertmanagers") or []
    names = [f"{place.get('namespace') or stack.namespace}/{place['name']}" for place in places]
    if not names or any(answer["data"]["activeAlertmanagers"] for answer in stack.ask_each(stack.servers(), known).values()):
        return skipped("alertmanager", evidence)
    cause = f"Prometheus is to send alerts to the Service {' and '.join(names)}, and no Alertmanager is there"
    return failed(
        "alertmanager", evidence, cause, f"GET {stack.api}{known}", stack.alerting_command("get", "alertmanagers,services")
    )


def unknown(active: list[dict[str, Any]], servers: list[Server]) -> list[str]:
    """Which Alertmanagers a Prometheus does not know, of the *active* ones that it sends to."""
    if not active:
        return ["Prometheus knows no Alertmanager: its object names another one under alerting"]
    hosts = {urlsplit(item["url"]).hostname for item in active}
    # Where it has no pod's address it has another way to them, such as a name that leads to all.
    if hosts.isdisjoint(server.ip for server in servers):
        return []
    return [f"Prometheus does not send to {server.pod}" for server in servers if server.ip and server.ip not in hosts]


def _refused(run: Run, server: Server) -> list[str]:
    """Whether a pod refused its newest configuration, as its own page of metrics has it."""
    status, text = run.fetch(f"{server.api}/metrics", {"Accept": "text/plain"})
    if status != 200:
        raise ApiError(status, f"the metrics page of {server.pod or 'Alertmanager'} answers {status} {message_of(text)}")
    found = samples(text, (RELOADED,))
    if not found:
        raise ApiError(status, f"the metrics page of {server.pod or 'Alertmanager'} has no {RELOADED}")
    if not found[RELOADED]:
        return ["Alertmanager refused its newest configuration and runs with the one before"]
    return []


def apart(found: dict[Server, dict[str, Any]]) -> list[str]:
    """What keeps several pods from being one Alertmanager: another configuration, or others that a pod does not reach.

    :param found: what each says of its status.
    """
    problems = []
    for server, status in found.items():
        mates = sorted((other for other in found if other.group == server.group), key=lambda other: other.pod)
        if status["config"]["original"] != found[mates[0]]["config"]["original"]:
            problems.append(f"{server.pod} runs with another configuration than {mates[0].pod}")
        peers = len((status.get("cluster") or {}).get("peers") or [])
        if 1 < len(mates) > peers:  # one alone has no cluster
            problems.append(f"{server.pod} reaches {peers} of {len(mates)} pods of its Alertmanager, so each notifies for itself")
    return problems
