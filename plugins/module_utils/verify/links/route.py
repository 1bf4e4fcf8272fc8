# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names by which users reach the app lead through an Ingress or HTTPRoute to its pods."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ...kube import front
from ...kube.front import Doorway, Json, Read
from ...kube.transport import ApiError
from .. import by_name, certificates, doors, facts, stack
from ..doors import Broken, Door
from ..result import FAILED, OK, SKIPPED, Result, failed, ok, skipped
from ..run import Run
from . import logs

LINK = "route"
PLAIN = re.compile(r"[-/\w.%~]*")  # a path that is no expression of a controller's
LONG_ID = re.compile(r"^[-\w.]{16,}$")  # one that is found in no log by chance
REDIRECTS = (301, 302, 303, 307, 308)
REFUSALS = (401, 403, 407)
LOGGED = 10.0  # seconds that a pod may take to log a request


@dataclass(frozen=True)
class Named:
    """A host and a path below which the app is to answer, and whether with TLS at any rate."""

    host: str
    path: str
    encrypted: bool = False

    @property
    def asked(self) -> str:
        """A name that the host stands for."""
        return self.host.replace("*", "verify", 1)


def look(run: Run) -> list[Result]:
    ways, places = _read(run)
    if not places:
        return [skipped(LINK, "no Ingress and no HTTPRoute with a host leads to the app; its option hosts makes one")]
    if run.url_problem:
        return [failed(LINK, "no way to the app", run.url_problem, _query(run))]
    found: list[Door] = []

    def judge() -> list[Result]:
        found.clear()
        try:
            found.extend(_open(run, _read(run)[0], place) for place in places)
        except Broken as error:
            return [failed(LINK, f"{len(found)} of {len(places)} hosts have a way", str(error), _query(run))]
        return [ok(LINK, "")]

    (first,) = run.settled(judge, _patience(run, ways))
    if first.status == FAILED:
        return [first]
    asked = [_ask(run, door, place) for door, place in zip(found, places, strict=True)]
    worst = next(one for status in (FAILED, SKIPPED, OK) for one in asked if one.status == status)
    if worst.status == OK:
        run.front = front.url(found[0].scheme, places[0].asked, found[0].port, places[0].path)
        worst.evidence = "; ".join(one.evidence for one in asked)
    return [worst]


def _patience(run: Run, ways: list[Doorway]) -> float:
    """For how long a controller may be at work: a cloud makes a load balancer of its own for a new Ingress."""
    own = [way.item["metadata"] for way in ways if way.leads_to(run.target.namespace, run.target.name)]
    young = facts.age([meta["creationTimestamp"] for meta in own if "creationTimestamp" in meta]) < stack.FRESH
    return max(run.settle, stack.SETTLE_FRESH if young else 0)


def _query(run: Run) -> str:
    return f"GET {front.INGRESSES.format(run.target.namespace)} and {front.GATEWAY_API}/httproutes"


def next_command(run: Run) -> str:
    return run.target.kubectl("get", "ingress,httproutes", "-o", "yaml")


def _read(run: Run) -> tuple[list[Doorway], list[Named]]:
    """All ways that may lead to the app, and where it is to answer: at its hosts, or at all names that lead to it."""
    target = run.target
    items = run.get(front.INGRESSES.format(target.namespace)).get("items") or []
    routes = front.httproutes(_reader(run), target.namespace)
    ways = [way for item in items for way in front.ways_of_ingress(item)]
    ways += [way for item in routes for way in front.ways_of_route(item)]
    places = [Named(host["name"], host.get("path") or "/", bool(host.get("tls_secret"))) for host in target.hosts]
    if not places:
        own = [way for way in ways if way.host and way.leads_to(target.namespace, target.name)]
        places = [Named(way.host, way.path) for way in own if PLAIN.fullmatch(way.path) and way.how != "RegularExpression"]
    return ways, list(dict.fromkeys(places))


def _reader(run: Run) -> Read:
    """Reads what may be refused or not be there; whatever else goes wrong is an error of the row."""

    def read(path: str) -> tuple[int, Json]:
        try:
            return 200, run.get(path)
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            return error.status, {}

    return read


def _open(run: Run, ways: list[Doorway], place: Named) -> Door:
    target = run.target
    container = facts.app_container(run.deployment, target.name)
    app = doors.Behind(target.namespace, target.name, target.port, run.service, container)
    door = doors.opened(doors.find(ways, app, place.host, place.path), place.asked, _reader(run))
    if place.encrypted and door.scheme == "http":
        raise Broken(f"{door.way.name} has no TLS for {place.host}")
    if door.unserved:
        _check_served(run, door, place)
        door.notes.append(door.unserved)
    return door


def _check_served(run: Run, door: Door, place: Named) -> None:
    """A controller that gives no address serves a way all the same where the name itself leads to the app.

    :raises Broken: where it does not.
    """
    if not by_name.resolve(place.asked):
        raise Broken(f"{door.unserved}, and this machine knows no {place.asked} either")
    asked = _ask(run, door, place)
    if asked.status == FAILED:
        raise Broken(f"{door.unserved}, and {asked.cause}")


def _ask(run: Run, door: Door, place: Named) -> Result:
    """Send a request to the name as users do, and find it again in the log of a pod."""
    host, known = place.asked, by_name.resolve(place.asked)
    path = run.path if front.covers_path(replace(door.way, path=place.path, how="Prefix"), run.path) else place.path
    url = front.url(door.scheme, host, door.port, facts.shown_path(path))
    where = known or door.addresses
    evidence = f"{url} of {door.way.name} at {', '.join(door.addresses or known)}"
    if door.notes:
        evidence += f", {', '.join(door.notes)}"
    if not known:
        evidence += f"; this machine knows no {host}, so the address was asked"
    if not where:
        return skipped(LINK, f"{evidence}; nobody was asked, because none is known")
    request_id, began = f"verify-{uuid.uuid4().hex}", time.monotonic()
    query = f"GET {url} with X-Request-ID: {request_id}, then the log of each pod"
    try:
        answer = _answer(where, door, host, path, request_id, run.request_seconds())
    except ApiError as error:
        if facts.out_of_reach(error, where[-1]):
            return skipped(LINK, f"{evidence}; this machine has no way there, where somebody may answer or not ({error})")
        return failed(LINK, evidence, f"{url} gives no answer: {error}", query)
    if answer.certificate and (wrong := certificates.trouble(certificates.read(answer.certificate), host)):
        return failed(LINK, evidence, f"the certificate that {host} shows {wrong}", query)
    if answer.distrust:
        evidence += f"; this machine does not trust the certificate ({answer.distrust})"
    ids = {request_id, *LONG_ID.findall(answer.request_id)}
    pod = logs.find(run, ids, began, LOGGED) if run.target.log_check else ""
    if pod:
        return ok(LINK, f"{evidence}; answered {answer.status} by {pod}", query)
    return _unlogged(run, door, host, known, answer.status, f"{evidence}; answered {answer.status}").asked(query)


def _unlogged(run: Run, door: Door, host: str, known: list[str], status: int, evidence: str) -> Result:
    """What an answer means that no pod has logged."""
    own = {*door.addresses, *(address for name in door.addresses for address in by_name.resolve(name))}
    ours = not known or bool(own & set(known))
    if not run.target.log_check:
        if door.unserved and status >= 400 and status not in REFUSALS:
            return failed(LINK, evidence, f"{host} answered {status}, and nobody else tells where it leads")
        if ours and status < 500:
            return ok(LINK, f"{evidence}; the app logs no request ids, so this is as far as it can be seen")
        return skipped(LINK, f"{evidence}; whether by a pod of the app is not known, because it logs no request ids")
    if status in (*REDIRECTS, *REFUSALS):
        return skipped(LINK, f"{evidence}, which no pod of the app has logged: somebody before it asks for a login, or redirects")
    elsewhere = f"{host} is {', '.join(known)}"
    if door.addresses:
        elsewhere += f", and not {', '.join(door.addresses)} of {door.way.name}"
    why = "what is at its address leads elsewhere" if ours else elsewhere
    return failed(LINK, evidence, f"{host} answered {status}, and no pod of the app has logged the request: {why}")


def _answer(addresses: list[str], door: Door, host: str, path: str, request_id: str, seconds: float) -> by_name.Answer:
    """The answer at the first address that gives one, behind a redirect from http to https of the same host too.

    :raises ApiError: where there is none.
    """
    headers = {"X-Request-ID": request_id, "User-Agent": "flaskops-verify"}
    error = ApiError(0, "no address")
    for address in addresses:
        try:
            answer = by_name.ask(address, door.port, door.scheme == "https", host, path, headers, seconds)
            to = urlsplit(answer.location)
            if door.scheme == "http" and answer.status in REDIRECTS and (to.scheme, to.hostname) == ("https", host):
                return by_name.ask(address, to.port or front.PORTS["https"], True, host, path, headers, seconds)
            return answer
        except ApiError as why:
            error = why
    raise error
