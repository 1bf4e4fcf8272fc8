# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the app is well: what its live readiness probe asks is asked once more, as kubelet asks and judges it.

verify and drill have the same judgement from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ...kube.transport import ApiError, message_of
from .. import facts
from ..result import FAILED, OK, Result, failed, ok, skipped
from ..run import Marked, Run
from . import endpoint

DEFAULT_PATH = "/health"
# Headers of a probe that the API server would take for its own.
KEPT = ("authorization", "host", "connection", "upgrade")
Ask = Callable[[str, dict[str, str] | None], tuple[int, str]]


@dataclass(frozen=True)
class Question:
    """What is asked to know whether the app is well."""

    path: str = DEFAULT_PATH
    port: int = 0  # 0 for the app's own
    tls: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()  # names of the probe's headers that can't be sent
    instead_of: str = ""  # how the readiness probe asks where that is not HTTP

    @property
    def own(self) -> bool:
        """Whether it is asked where users ask. What may hold a secret goes only through the API server, which has TLS."""
        return not (self.port or self.tls or self.headers or self.withheld or "?" in self.path)

    @property
    def shown(self) -> str:
        return facts.shown_path(self.path)


def question(container: dict[str, Any], port: int) -> Question:
    """What the readiness probe of the app's container asks; /health where it asks nothing over HTTP.

    :param port: the app's.
    """
    probe = container.get("readinessProbe") or {}
    get = probe.get("httpGet")
    if get is None:
        return Question(instead_of=facts.handler(probe))
    headers = {h["name"]: h.get("value", "") for h in get.get("httpHeaders") or []}
    kept = tuple(sorted(name for name in headers if name.lower() in KEPT or name.lower().startswith("impersonate-")))
    number = facts.port_number(get.get("port"), container)
    path = quote(get.get("path") or "", safe=facts.PATH)
    return Question(
        path if path.startswith("/") else f"/{path}",
        0 if number == port else number,
        get.get("scheme") == "HTTPS",
        {name: value for name, value in headers.items() if name not in kept},
        kept,
    )


@dataclass(frozen=True)
class Subject:
    """An app as those who ask it know it.

    :param base: the path of its namespace at the API server. :param port: its own. :param ask: asks it where users do, which is
        *url*. :param fetch: asks the API server.
    """

    base: str
    name: str
    port: int
    service: dict[str, Any]
    container: dict[str, Any]
    pods: list[dict[str, Any]]
    url: str
    ask: Ask
    fetch: Ask

    def way(self, asked: Question) -> str:
        """Through which Service or pod the API server reaches what is asked; empty where there is none."""
        scheme, port = "https:" if asked.tls else "", asked.port or self.port
        entry = facts.port_entry(self.service, port, self.container)
        if entry:
            return f"services/{scheme}{self.name}:{entry['port']}"
        # At its own port the app is only well if its Service leads there.
        ready = sorted(pod["metadata"]["name"] for pod in self.pods if asked.port and facts.is_ready(pod))
        return f"pods/{scheme}{ready[0]}:{port}" if ready else ""


def judge(status: int, body: str, where: str, path: str = "/health") -> Result:
    """An HTTP answer of the health check, judged as kubelet does it: 200 to 399 is well."""
    evidence = f"{where} answered {status}"
    if 200 <= status < 400:
        return ok("health", evidence)
    said = " ".join(body.split())[:200]
    return failed("health", evidence, f"{path} answered {status}, which is not 200 to 399" + (f": {said}" if said else ""))


def check_health(app: Subject) -> Result:
    """Ask what the live readiness probe asks, and judge the answer."""
    asked = question(app.container, app.port)
    try:
        result = _asked_by_users(app, asked) if asked.own else _asked_by_proxy(app, asked)
    except ApiError as error:
        result = failed("health", "no answer through the Service", str(error))
    result.query = result.query or f"GET {app.url or app.name}{asked.shown}"
    return result


def _asked_by_users(app: Subject, asked: Question) -> Result:
    status, body = app.ask(asked.path, None)
    direct = app.url.startswith("http://")
    where = app.url + asked.shown if direct else f"{asked.shown} through the API server's service proxy"
    found = judge(status, message_of(body), where, asked.shown)
    if found.status == FAILED and asked.instead_of and not facts.unreached(status, body):
        why = f"the readiness probe is {asked.instead_of}, which asks no path"
        return skipped("health", f"{why}, and {asked.shown} answered {status}")
    return found


def _asked_by_proxy(app: Subject, asked: Question) -> Result:
    if asked.port or not asked.tls:
        # The Service has to lead to the app all the same; what is answered there, and with which status, does not matter.
        said = facts.unreached(*app.ask(asked.path.partition("?")[0], None))
        if said:
            return failed("health", "no answer through the Service", said)
    way = app.way(asked)
    if not way:
        port = asked.port or app.port
        return failed("health", "nobody to ask", f"no port of the Service {app.name} and no ready pod leads to port {port}")
    where = f"{asked.shown} through the API server's proxy of {way}"
    query = f"GET {app.base}/{way}/proxy{asked.shown}"
    try:
        status, body = app.fetch(f"{app.base}/{way}/proxy{asked.path}", asked.headers)
        said = facts.unreached(status, body)
    except ApiError as error:
        status, body, said = 0, "", str(error)
    if said and asked.port:
        # A NetworkPolicy may let kubelet in and nobody else; what kubelet itself found is what the link rollout tells.
        return skipped("health", f"{where} can't be asked: {said}")
    if said:
        return failed("health", f"no answer from {where}", said, query)
    if asked.withheld and 400 <= status < 500:
        names = ", ".join(asked.withheld)
        return skipped("health", f"{where} answered {status}; it was asked without the probe's header {names}")
    found = judge(status, message_of(body), where, asked.shown)
    found.query = query
    return found


def look(run: Run) -> list[Result]:
    target, container = run.target, facts.app_container(run.deployment, run.target.name)

    def fetch(path: str, headers: dict[str, str] | None) -> tuple[int, str]:
        return run.cluster.fetch(path, headers, run.request_seconds())

    def ask() -> Result:
        known = (run.base, target.name, target.port, run.service, container, run.pods)
        return check_health(Subject(*known, url=run.through_proxy or run.url, ask=run.ask, fetch=fetch))

    way, found = run.through_proxy, ask()
    if run.through_proxy != way:
        found = ask()  # by the way that was found meanwhile
    if run.out_of_reach:
        found.evidence += f"; this machine can't reach the load balancer, so whether it answers is not known ({run.out_of_reach})"
    if found.status != OK:
        return [found]
    try:
        marked = run.marked_request()
    except ApiError as error:
        return [failed("health", found.evidence, f"GET {run.shown} got no answer: {error}", found.query)]
    if not target.path and run.path != facts.FIRST:
        found.evidence += f"; GET {facts.FIRST} fails, so GET {run.path} was asked instead: give the app's option path a page"
    return [judge_users(found, run.shown, [marked, *run.marked_pods()])]


def judge_users(found: Result, path: str, answers: list[Marked]) -> Result:
    """What is well by its own word is broken where users get an error: the app may answer anything below 500, such as 404."""
    said = [
        f"{answer.status} from {answer.pod}" if answer.pod else str(answer.status)
        for answer in answers
        if answer.status >= 500 and not answer.problem
    ]
    if not said:
        return found
    got = " and ".join(said[:4])
    cause = f"its health check passes, but GET {path} got {got}; if that is by design, give the app's option path another one"
    return failed("health", found.evidence, cause, f"{found.query}; GET {path}")


def next_command(run: Run) -> str:
    return endpoint.next_command(run)
