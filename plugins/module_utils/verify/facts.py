# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What objects of the API server and texts of the programs say: functions over plain data, for several links."""

from __future__ import annotations

import contextlib
import datetime
import errno
import ipaddress
import json
import math
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

from ..kube.transport import message_of

HANDLERS = ("httpGet", "tcpSocket", "grpc", "exec")

# The name of a Service inside the cluster, with its namespace.
IN_CLUSTER = re.compile(r"^(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc(\.[a-z0-9.-]+)?$")


SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"

# The errors of a machine that has no way to an address.
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

# What a path may have that is sent as it is.
FIRST, LACKED = "/", "/no-such-page"
PATH = "/%?&=:;,+@~!$'()*[]"


def unreached(status: int, body: str) -> str:
    """What the API server itself says where its proxy got no answer from the app; empty for an answer of the app's."""
    try:
        found = json.loads(body) if status >= 400 else None
    except ValueError:
        return ""
    return message_of(body) or str(status) if isinstance(found, dict) and found.get("kind") == "Status" else ""


def out_of_reach(error: BaseException | None, host: str, restricted: bool = False) -> bool:
    """Whether an error of a connection says that this machine has no way to a host, and not that nobody answers there.

    :param host: a name or an address. Where a public one gives no answer in time, nobody gets one.
    :param restricted: unless it answers some addresses only.
    """
    while error is not None:
        inner = getattr(error, "reason", None)
        cause = inner if isinstance(inner, OSError) else error
        if isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in NO_WAY:
            return True
        if isinstance(cause, TimeoutError):
            return restricted or _is_private(host)
        error = error.__cause__
    return False


def _is_private(host: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    return all(ipaddress.ip_address(address.partition("%")[0]).is_private for address in found)


def is_ready(thing: dict[str, Any]) -> bool:
    """Whether a pod or a node reports Ready and is not being deleted."""
    if thing.get("metadata", {}).get("deletionTimestamp"):
        return False
    conditions = thing.get("status", {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def is_live(pod: dict[str, Any]) -> bool:
    """Whether a pod is or may become one that serves: it is not being deleted, and has not ended, as one that was evicted has."""
    gone = pod.get("metadata", {}).get("deletionTimestamp") or pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not gone


def ended_by(terminated: dict[str, Any]) -> str:
    """What ended a container: the kernel for want of memory, a signal, or itself with an exit code."""
    code, cause = terminated.get("exitCode") or 0, terminated.get("reason") or "Error"
    number = terminated.get("signal") or (code - 128 if code > 128 else 0)
    if cause not in ("Error", "Completed"):
        return str(cause)
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"exit code {code}"


def pod_trouble(pod: dict[str, Any]) -> str:
    """Why a pod is not ready, in the words of the cluster."""
    status = pod.get("status", {})
    name = pod.get("metadata", {}).get("name", "?")
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        state = container.get("state") or {}
        for key in ("waiting", "terminated"):
            detail = state.get(key)
            if detail and detail.get("reason") not in (None, "Completed"):
                message = f" ({detail['message']})" if detail.get("message") else ""
                before = (container.get("lastState") or {}).get("terminated") if key == "waiting" else None
                return f"{name}: {detail['reason']}{message}" + (f", ended before by {ended_by(before)}" if before else "")
    for condition in status.get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            return f"{name}: {condition['message']}"
    return f"{name}: {status.get('reason') or status.get('phase') or 'not ready'}"


def spread(pods: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """So many pods at most, but one at least of each node; always the same ones."""
    by_node: dict[str, list[dict[str, Any]]] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        by_node.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    first = [own[0] for own in by_node.values()]
    rest = [pod for own in by_node.values() for pod in own[1:]]
    return first + rest[: max(0, most - len(first))]


def app_container(deployment: dict[str, Any], name: str) -> dict[str, Any]:
    """The container named like the app, or else the first one."""
    containers = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or [{}]
    return next((c for c in containers if c.get("name") == name), containers[0])


def ready_endpoints(slices: list[dict[str, Any]]) -> list[str]:
    """The names of the pods, or else the addresses, to which the EndpointSlices of a Service lead."""
    return [
        (endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0]
        for item in slices
        for endpoint in item.get("endpoints") or []
        # Without the condition an endpoint counts as ready, as the API's documentation says.
        if (endpoint.get("conditions") or {}).get("ready") is not False
    ]


def port_entry(service: dict[str, Any], port: int, container: dict[str, Any]) -> dict[str, Any] | None:
    """The Service's port that leads to the app's port."""
    ports = service.get("spec", {}).get("ports") or []
    targets = {port} | {p.get("name") for p in container.get("ports") or [] if p.get("containerPort") == port}
    for entry in ports:
        if entry.get("targetPort", entry.get("port")) in targets:
            return entry
    return None


def load_balancer_address(service: dict[str, Any]) -> str:
    """The address a load balancer gave to the Service; empty when there is none."""
    for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
        address = entry.get("ip") or entry.get("hostname")
        if address:
            return f"[{address}]" if ":" in address else address
    return ""


def is_restricted(service: dict[str, Any]) -> bool:
    """Whether the load balancer of a Service answers some addresses only."""
    ranges = set(service.get("spec", {}).get("loadBalancerSourceRanges") or [])
    noted = (service.get("metadata", {}).get("annotations") or {}).get(SOURCE_RANGES, "")
    return bool((ranges | set(filter(None, noted.split(",")))) - {"0.0.0.0/0", "::/0"})


def tls_prefix(entry: dict[str, Any]) -> str:
    """What stands before a name in a path of the API server's proxy: ``https:`` where a Service's port says TLS, else nothing."""
    return "https:" if entry.get("appProtocol") == "https" else ""


def load_balancer_url(service: dict[str, Any], entry: dict[str, Any]) -> str:
    """The URL of a Service's port at its load balancer; empty where it has to be asked through the API server.

    That is so without an address, and where TLS is spoken, for a name that is not known here: by the application, or at port
    443, where something else ends it and the pods are reached without it.

    :param entry: the port, as port_entry() gives it.
    """
    address, port = load_balancer_address(service), entry["port"]
    if not address or port == 443 or tls_prefix(entry):
        return ""
    return f"http://{address}" + ("" if port == 80 else f":{port}")


def handler(probe: dict[str, Any]) -> str:
    """How a probe asks; empty where it does not say."""
    return next((name for name in HANDLERS if probe.get(name) is not None), "")


def port_number(port: Any, container: dict[str, Any]) -> int:
    """The number of a probe's port; 0 for a name that the container does not have. kubelet looks at no other container."""
    if str(port).isdigit():
        return int(port)
    named = [p["containerPort"] for p in container.get("ports") or [] if p.get("name") == port]
    return int(named[0]) if named else 0


def shown_path(path: str) -> str:
    """A path without its query, which may hold a token."""
    bare, query, _ = path.partition("?")
    return bare + ("?..." if query else "")


def page(path: str, ask: Callable[[str], int]) -> str:
    """The path to ask an app for; where the user gave none, its first page, or one that it lacks where the first fails by design.

    An app answers for a page that it lacks by itself, through all that is around its views.

    :param ask: the status that a path is answered with.
    """
    return path or (FIRST if ask(FIRST) < 500 or ask(LACKED) >= 500 else LACKED)


def samples(text: str, names: tuple[str, ...]) -> dict[str, float]:
    """Sums of the samples with these names in a Prometheus text exposition."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        match = re.match(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{.*\})?\s+(\S+)", line)
        if match and match[1] in names:
            try:
                sums[match[1]] = sums.get(match[1], 0.0) + float(match[2])
            except ValueError:
                continue
    return sums


def late(group: dict[str, Any]) -> str:
    """Why a rule group, as the rules API of Prometheus and Loki has it, counts as not evaluated; empty when it does not."""
    times = [rule["lastEvaluation"] for rule in group["rules"] or [] if rule.get("lastEvaluation")]
    newest = max((datetime.datetime.fromisoformat(text) for text in times), default=None)
    if newest is None or newest.year < 2000:  # Go's zero time: a group that has just been loaded
        return ""
    age = overdue(newest, float(group.get("interval") or 60))
    return f"the group {group['name']} was last evaluated {age:.0f} s ago" if age else ""


def age(times: list[str]) -> float:
    """Seconds since the newest of some times; without end where there is none."""
    newest = max((datetime.datetime.fromisoformat(text) for text in times), default=None)
    return (datetime.datetime.now(datetime.UTC) - newest).total_seconds() if newest else math.inf


def overdue(last: datetime.datetime, interval: float) -> float:
    """How many seconds ago something was done that is done again and again, where that is too long ago; else 0."""
    age = (datetime.datetime.now(datetime.UTC) - last).total_seconds()
    return age if age > 3 * interval + 30 else 0.0


def scalar(entry: str, key: str) -> str:
    """The text of a key in YAML that stands on a line of its own; empty where it has none."""
    found = re.search(rf"^[ \t]*{key}:[ \t]*['\"]?([^\s'\"]+)", entry, re.MULTILINE)
    return found[1] if found else ""
