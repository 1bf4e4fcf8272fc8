# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus runs with the configuration that the operator makes, stores what it gets, and the operator works."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .. import queries
from ..facts import samples
from ..log_stores import SAMPLE, STREAM_LABEL
from ..result import Result, failed, ok
from ..run import Run
from ..stack import OPERATOR, Server, Stack, told_apart
from . import metrics_stack

# On its own page: the times of the newest sample that it has, and of the newest that it has sent to each place.
HEAD, SENT = "prometheus_tsdb_head_max_time_seconds", "prometheus_remote_storage_queue_highest_sent_timestamp_seconds"
OLD = 300.0  # seconds: five of the scrapes and evaluations that are usual
RUNTIME, CONFIG = "/api/v1/status/runtimeinfo", "/api/v1/status/config"


def look(run: Run) -> list[Result]:
    return run.settled(partial(_look, run))


def _look(run: Run) -> list[Result]:
    stack = run.stack
    if stack.lost:  # another one is there, which has nothing of the app's
        return [
            failed(
                "prometheus", "another Prometheus is there", metrics_stack.cause(stack.lost), f"GET {OPERATOR}/v1/prometheuses"
            )
        ]
    name = stack.server["metadata"]["name"]
    server = run.get(f"{OPERATOR}/v1/namespaces/{stack.namespace}/prometheuses/{name}")
    query = f"GET {OPERATOR}/v1/namespaces/{stack.namespace}/prometheuses/{name} and its pods; GET {stack.api}{RUNTIME}"
    evidence, cause = stack.server_pods(server, stack.selector, "Prometheus")
    command = stack.command("describe", "pods", "-l", stack.selector)
    if not cause:
        operators = [d for d in stack.deployments() if _is_operator(d)]
        down = [d["metadata"]["name"] for d in operators if not d.get("status", {}).get("availableReplicas")]
        if down:
            cause = f"the operator {down[0]} is not available: changed monitors and rules do not reach Prometheus"
            command = stack.command("describe", "deployment", down[0])
        elif problems := _configuration(stack):
            cause = "; ".join(problems)
            command = stack.command("logs", "-l", stack.selector, "-c", "prometheus", "--tail=50")
        else:
            problems, note = _stored(run)
            cause, evidence = "; ".join(problems), evidence + note
        evidence += ", operator available, configuration loaded" if operators and not cause else ""
    if cause:
        return [failed("prometheus", evidence, cause, query, command)]
    return [ok("prometheus", evidence, query)]


def _stored(run: Run) -> tuple[list[str], str]:
    """Which pods store nothing, or send nothing where it is to be sent, and what is to be noted."""
    stack, found = run.stack, {}
    for server in stack.servers():
        status, page = run.fetch(f"{server.api}/metrics", {"Accept": "text/plain"})
        if status != 200 or not samples(page, (HEAD,)):
            return [], "; its own metrics do not tell how old its newest sample is"
        # By its own clock: that of this machine may differ, which is another link.
        now = stack.query_each([server], queries.filled("now"))[server][1]
        found[server] = behind(page, float(now))
    return told_apart(found), ""


def behind(page: str, now: float) -> list[str]:
    """What a page of Prometheus' own metrics says of samples that are not stored, or not sent; :param now: seconds since 1970."""
    ages = {"stores nothing: its newest sample": now - samples(page, (HEAD,))[HEAD]}
    for name, labels, value in SAMPLE.findall(page):
        if name == SENT:
            host = urlsplit(dict(STREAM_LABEL.findall(labels)).get("url", "")).hostname or "its remote write"
            ages[f"does not send to {host}: the newest sample there"] = now - float(value)
    return [f"Prometheus {what} is {ago(age)}" for what, age in ages.items() if age > OLD]


def ago(age: float) -> str:
    return f"{age:.0f} s old" if age < 10**9 else "none at all"


def _configuration(stack: Stack) -> list[str]:
    """Which pods do not run with the newest configuration."""
    servers = stack.servers()
    answers = stack.ask_each(servers, RUNTIME)
    refused = "Prometheus refused its newest configuration and runs with the one before"
    problems = told_apart({s: [] if found["data"]["reloadConfigSuccess"] else [refused] for s, found in answers.items()})
    if problems or len(servers) == 1:
        return problems
    times = {server: found["data"].get("lastConfigTime", "") for server, found in answers.items()}
    return outdated({s: found["data"]["yaml"] for s, found in stack.ask_each(servers, CONFIG).items()}, times)


def outdated(texts: dict[Server, str], times: dict[Server, str]) -> list[str]:
    """Of the pods of a shard, which should have one configuration, those that run with another one than the newest.

    :param times: when each took its configuration.
    """
    problems = []
    for group in sorted({server.group for server in texts}):
        # The operator tells a replica by the pod's name.
        plain = {s: text.replace(s.pod, "POD") for s, text in texts.items() if s.group == group}
        newest = max(plain, key=lambda server: times[server])
        problems += [
            f"{server.pod} runs with another configuration than {newest.pod}, which took a newer one"
            for server, text in plain.items()
            if text != plain[newest]
        ]
    return problems


def _is_operator(deployment: dict[str, Any]) -> bool:
    images = [c.get("image", "") for c in deployment["spec"]["template"]["spec"]["containers"]]
    return any(image.rsplit("/", 1)[-1].split(":")[0].split("@")[0] == "prometheus-operator" for image in images)
