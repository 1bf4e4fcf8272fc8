# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus runs with the configuration that the operator makes, and the operator works."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..result import Result, failed, ok
from ..run import Run
from ..stack import OPERATOR, Server, Stack, told_apart
from . import metrics_stack

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
        evidence += ", operator available, configuration loaded" if operators and not cause else ""
    if cause:
        return [failed("prometheus", evidence, cause, query, command)]
    return [ok("prometheus", evidence, query)]


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
